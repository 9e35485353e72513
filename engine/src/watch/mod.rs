//! Watches: every change of a key or of the keys with a prefix, in the order of commits over all shards (docs/watch.md).
//!
//! Guards: nothing is delivered before a reader could see it, nothing twice, nothing out of order; whoever is behind is told from
//! where to go on, and holds up nobody; while nobody watches, a write pays one branch.
//! Crash leaves: nothing of its own; what was delivered is in the log.
//!
//! `feed.rs` is a shard's end, `hub.rs` merges what the shards show, `queue.rs` is a watcher's end, `backlog.rs` reads what lies
//! further back than memory, `expiry.rs` has deleted what is over, `dispatch.rs` is the task that moves it all.

mod backlog;
pub(crate) mod dispatch;
mod expiry;
pub(crate) mod feed;
pub(crate) mod hub;
mod index;
pub(crate) mod queue;

use std::sync::Arc;

pub use queue::Watch;

use crate::ids::{CommitTs, Expiry, Keyspace, Kind};

/// Bytes of changes that may wait for a watcher, unless its options say otherwise.
pub const WATCH_LIMIT_BYTES: u64 = 32 << 20;

/// What happened to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub keyspace: Keyspace,
    pub key: Vec<u8>,
    pub what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// It has this value now; when its expiry has passed, that it is deleted.
    Put {
        value: Vec<u8>,
        kind: Kind,
        expiry: Expiry,
    },
    Deleted,
}

impl Change {
    /// Memory that it takes, about.
    fn bytes(&self) -> u64 {
        let value = match &self.what {
            What::Put { value, .. } => value.len(),
            What::Deleted => 0,
        };
        (size_of::<Change>() + self.key.len() + value) as u64
    }
}

/// What one commit did to the keys of a watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchEvent {
    pub at: CommitTs,
    /// In the order of the record; never empty.
    pub changes: Vec<Arc<Change>>,
}

impl WatchEvent {
    fn bytes(&self) -> u64 {
        size_of::<WatchEvent>() as u64 + self.changes.iter().map(|change| change.bytes()).sum::<u64>()
    }
}

/// Which keys of a keyspace are watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchKeys {
    One(Vec<u8>),
    /// All that begin so; with nothing, all there are.
    Prefix(Vec<u8>),
}

impl WatchKeys {
    pub fn bytes(&self) -> &[u8] {
        match self {
            WatchKeys::One(key) | WatchKeys::Prefix(key) => key,
        }
    }

    fn holds(&self, key: &[u8]) -> bool {
        match self {
            WatchKeys::One(one) => key == one,
            WatchKeys::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

/// How a watch is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchOptions {
    /// Everything after this commit; `None`: after those given out so far.
    pub from: Option<CommitTs>,
    /// Bytes of changes that may wait before the watch is cut off.
    pub limit_bytes: u64,
}

impl Default for WatchOptions {
    fn default() -> WatchOptions {
        WatchOptions { from: None, limit_bytes: WATCH_LIMIT_BYTES }
    }
}
