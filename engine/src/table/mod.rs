//! What a shard's data is read from: a memtable that is written, sealed ones, and sorted tables on disk.
//!
//! Guards: a reader holds one immutable [`ReadState`] and never waits for a writer.
//! Does not: know the log, or when to seal, write or merge; `shard/` decides that.

mod arena;
pub mod compaction;
mod fence;
pub mod file;
mod hash_index;
pub mod inserts;
#[cfg(test)]
mod measure;
pub mod mem_cursor;
pub mod memtable;
pub mod merge;
pub mod merged_scan;
mod node;
mod place;
pub mod range_cursor;
pub mod read_state;
mod skiplist;
mod sorted;
pub mod source;
mod table_cursor;
pub mod table_set;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod writer;

use crate::ids::CommitTs;
use crate::value::ValueRef;

pub use arena::ChunkPool;
pub use compaction::Progress;
pub use inserts::{Inserts, insert_all};
pub use mem_cursor::MemCursor;
pub use memtable::{MemWriter, Memtable, Order};
pub use node::NewVersion;

/// What is known of a key at some version. Whether the value has expired is the reader's to judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup<'a> {
    /// No version is known here.
    Missing,
    Deleted {
        version: CommitTs,
    },
    Found(ValueRef<'a>),
}

impl<'a> Lookup<'a> {
    pub(crate) fn of(ts: CommitTs, op: crate::format::block::Op<'a>) -> Lookup<'a> {
        match op {
            crate::format::block::Op::Delete => Lookup::Deleted { version: ts },
            crate::format::block::Op::Put { kind, expiry, value } => {
                Lookup::Found(ValueRef { bytes: value, kind, expiry, version: ts })
            }
        }
    }

    /// The commit that it comes from.
    pub fn version(&self) -> Option<CommitTs> {
        match self {
            Lookup::Missing => None,
            Lookup::Deleted { version } => Some(*version),
            Lookup::Found(value) => Some(value.version),
        }
    }
}
