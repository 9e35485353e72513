//! Everything a shard's data is read from, at one moment.
//!
//! Guards: it never changes; a reader takes the current one, and what it borrows from it stays valid as long as it
//! keeps it, whatever is sealed, checkpointed or merged meanwhile.

use std::sync::Arc;

use super::Lookup;
use super::mem_cursor::MemCursor;
use super::memtable::Memtable;
use super::merge::Direction;
use super::range_cursor::Range;
use super::source::{Cursor, Source};
use super::table_cursor::RunCursor;
use super::table_set::TableSet;
use crate::error::Result;
use crate::ids::{CommitTs, Keyspace};

/// The sources of a shard, newest first: the memtable being written, those sealed before, the tables.
#[derive(Clone)]
pub struct ReadState {
    pub active: Arc<Memtable>,
    /// Newest first.
    pub sealed: Vec<Arc<Memtable>>,
    pub tables: Arc<TableSet>,
}

impl ReadState {
    /// The newest version of the key not after `at`, whichever source has it.
    pub fn get(&self, keyspace: Keyspace, key: &[u8], at: CommitTs) -> Result<Lookup<'_>> {
        for table in std::iter::once(&self.active).chain(&self.sealed) {
            let found = table.get(keyspace, key, at);
            if found != Lookup::Missing {
                return Ok(found);
            }
        }
        self.tables.get(keyspace, key, at)
    }

    /// The last change of the key, if that is still in memory, where all is that is not visible yet.
    pub fn changed_in_memory(&self, keyspace: Keyspace, key: &[u8]) -> CommitTs {
        let mut tables = std::iter::once(&self.active).chain(&self.sealed);
        let last = tables.find_map(|table| table.get(keyspace, key, CommitTs::MAX).version());
        last.unwrap_or(CommitTs::ZERO)
    }

    /// Asks memory for what `get`s of these keys touch first, so that their misses overlap. For some 16 keys at a time.
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = (Keyspace, &'k [u8])> + Clone) {
        let tables = std::iter::once(&self.active).chain(&self.sealed).take(2);
        for table in tables.clone() {
            keys.clone().for_each(|(keyspace, key)| table.prefetch_slot(keyspace, key));
        }
        for table in tables {
            keys.clone().for_each(|(keyspace, key)| table.prefetch_key(keyspace, key));
        }
    }

    /// Whether a key of `range` has a version, or was deleted, after `since`.
    pub fn changed_since(&self, range: &Range, since: CommitTs) -> Result<bool> {
        for source in self.sources().iter().filter(|source| source.max_ts() > since) {
            let mut cursor = source.cursor()?;
            range.start(&mut cursor)?;
            while let Some((keyspace, key)) = cursor.key()
                && range.is_before_end(keyspace, key)
            {
                // Moves arrive at the newest version.
                if cursor.commit().is_some_and(|(ts, _)| ts > since) {
                    return Ok(true);
                }
                match range.direction {
                    Direction::Forward => cursor.next_key()?,
                    Direction::Reverse => cursor.prev_key()?,
                }
            }
        }
        Ok(false)
    }

    /// The sources, newest first.
    fn sources(&self) -> Vec<Source> {
        let runs = self.tables.runs().iter().cloned().map(Source::Run);
        self.memtables(CommitTs::MAX).cloned().map(Source::Memtable).chain(runs).collect()
    }

    /// Cursors over the sources that may have a version not after `at`, newest first. A memtable that is written and keeps no
    /// order is left out when all of it is later; otherwise a cursor over it is refused.
    pub fn cursors(&self, at: CommitTs) -> Result<Vec<Cursor>> {
        let runs = self.tables.runs();
        let mut cursors = Vec::with_capacity(1 + self.sealed.len() + runs.len());
        for table in self.memtables(at) {
            cursors.push(Cursor::Mem(MemCursor::new(Arc::clone(table))?));
        }
        cursors.extend(runs.iter().map(|run| Cursor::Run(RunCursor::new(run.clone()))));
        Ok(cursors)
    }

    /// Those that may have a version not after `at`, newest first.
    fn memtables(&self, at: CommitTs) -> impl Iterator<Item = &Arc<Memtable>> {
        let all = std::iter::once(&self.active).chain(&self.sealed);
        all.filter(move |table| table.min_ts() <= at && !table.is_empty())
    }
}
