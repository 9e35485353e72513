//! One of the places that versions come from, and a cursor over either kind.

use std::sync::Arc;

use super::mem_cursor::MemCursor;
use super::memtable::Memtable;
use super::merge::Placed;
use super::place::Place;
use super::table_cursor::RunCursor;
use super::table_set::Run;
use crate::error::Result;
use crate::format::block::EntryRef;
use crate::ids::{CommitTs, Keyspace};

/// Where versions come from.
#[derive(Clone)]
pub enum Source {
    Memtable(Arc<Memtable>),
    Run(Run),
}

impl Source {
    /// No version in it is later.
    pub fn max_ts(&self) -> CommitTs {
        match self {
            Source::Memtable(table) => table.max_ts(),
            Source::Run(run) => run.max_ts(),
        }
    }

    pub fn cursor(&self) -> Result<Cursor> {
        Ok(match self {
            Source::Memtable(table) => Cursor::Mem(MemCursor::new(Arc::clone(table))?),
            Source::Run(run) => Cursor::Run(RunCursor::new(run.clone())),
        })
    }
}

/// A place in a source: at one version of one key, or at none. Moves from key to key arrive at the newest version.
pub enum Cursor {
    Mem(MemCursor),
    Run(RunCursor),
}

impl Placed for Cursor {
    #[inline]
    fn place(&self) -> Option<&Place> {
        match self {
            Cursor::Mem(cursor) => cursor.place(),
            Cursor::Run(cursor) => cursor.place(),
        }
    }
}

impl Cursor {
    pub fn entry(&self) -> Option<EntryRef<'_>> {
        self.place().map(Place::entry)
    }

    pub fn key(&self) -> Option<(Keyspace, &[u8])> {
        self.place().map(|place| (place.keyspace, place.key()))
    }

    /// To the first key not before this one.
    pub fn seek(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<()> {
        match self {
            Cursor::Mem(cursor) => {
                cursor.seek(keyspace, key);
                Ok(())
            }
            Cursor::Run(cursor) => cursor.seek(keyspace, key),
        }
    }

    /// To the last key before this one.
    pub fn seek_before(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<()> {
        match self {
            Cursor::Mem(cursor) => {
                cursor.seek_before(keyspace, key);
                Ok(())
            }
            Cursor::Run(cursor) => cursor.seek_before(keyspace, key),
        }
    }

    #[inline]
    pub fn next_key(&mut self) -> Result<()> {
        match self {
            Cursor::Mem(cursor) => {
                cursor.next_key();
                Ok(())
            }
            Cursor::Run(cursor) => cursor.next_key(),
        }
    }

    pub fn prev_key(&mut self) -> Result<()> {
        match self {
            Cursor::Mem(cursor) => {
                cursor.prev_key();
                Ok(())
            }
            Cursor::Run(cursor) => cursor.prev_key(),
        }
    }

    /// To the next older version of the same key; false, and nowhere else, if there is none.
    pub fn older(&mut self) -> Result<bool> {
        match self {
            Cursor::Mem(cursor) => Ok(cursor.older()),
            Cursor::Run(cursor) => cursor.older(),
        }
    }

    /// The version's commit, and whether it is a delete.
    #[inline]
    pub fn commit(&self) -> Option<(CommitTs, bool)> {
        self.place().map(|place| (place.ts, place.deleted))
    }

    /// From the newest version of a key to the newest not after `at`, its commit, and whether it is a delete; none if
    /// all are later.
    #[inline]
    pub fn settle(&mut self, at: CommitTs) -> Result<Option<(CommitTs, bool)>> {
        match self.commit() {
            Some(commit) if commit.0 <= at => Ok(Some(commit)),
            _ => self.settle_older(at),
        }
    }

    fn settle_older(&mut self, at: CommitTs) -> Result<Option<(CommitTs, bool)>> {
        while let Some(commit) = self.commit() {
            if commit.0 <= at {
                return Ok(Some(commit));
            }
            if !self.older()? {
                break;
            }
        }
        Ok(None)
    }
}
