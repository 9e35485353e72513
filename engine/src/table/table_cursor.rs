//! A place in the versions of a run of tables.
//!
//! Guards: a cursor owns its tables, so that it is `Send` and outlives the call that made it; an entry is decoded, and
//! every length in it checked, when the cursor moves there.

use super::file::{CheckCrc, Table};
use super::table_set::Run;
use crate::error::Result;
use crate::format::block::{BlockRef, EntryRef, EntrySpan};
use crate::format::table_index::BlockPlace;
use crate::ids::{CommitTs, Keyspace};

/// A block of one of the run's tables, its frame and checksum checked.
#[derive(Clone, Copy)]
struct InBlock {
    table: usize,
    block: usize,
    place: BlockPlace,
    count: usize,
}

/// An entry of it.
struct At {
    block: InBlock,
    entry: usize,
    span: EntrySpan,
}

/// See the module.
pub struct RunCursor {
    run: Run,
    at: Option<At>,
}

/// Which end of a block is entered.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

impl RunCursor {
    /// A cursor at no version.
    pub fn new(run: Run) -> RunCursor {
        RunCursor { run, at: None }
    }

    fn bytes(&self, at: &At) -> Option<&[u8]> {
        let start = at.block.place.at as usize;
        self.run.tables().get(at.block.table)?.map().get(start..start.checked_add(at.block.place.len as usize)?)
    }

    fn entry_of(&self, at: &At) -> Option<EntryRef<'_>> {
        at.span.entry(self.bytes(at)?)
    }

    fn key_of(&self, at: &At) -> Option<(Keyspace, &[u8])> {
        Some((at.span.keyspace, self.bytes(at)?.get(at.span.key.clone())?))
    }

    /// The version the cursor is at.
    pub fn entry(&self) -> Option<EntryRef<'_>> {
        self.entry_of(self.at.as_ref()?)
    }

    /// The version's commit, and whether it is a delete.
    pub fn commit(&self) -> Option<(CommitTs, bool)> {
        self.at.as_ref().map(|at| (at.span.ts, at.span.deleted))
    }

    pub fn key(&self) -> Option<(Keyspace, &[u8])> {
        self.key_of(self.at.as_ref()?)
    }

    fn same_key(&self, a: &At, b: &At) -> bool {
        a.span.key.len() == b.span.key.len() && self.key_of(a) == self.key_of(b)
    }

    fn enter(&self, number: usize, table: &Table, block: usize) -> Result<InBlock> {
        let place = table.place(block)?;
        let opened = table.block_at(place, block, CheckCrc::Once)?;
        if opened.count() == 0 {
            return Err(table.damaged(place.at, opened.broken_entry(0)));
        }
        Ok(InBlock { table: number, block, place, count: opened.count() })
    }

    fn read(&self, block: InBlock, entry: usize) -> Result<Option<At>> {
        let Some(table) = self.run.tables().get(block.table) else { return Ok(None) };
        let start = block.place.at as usize;
        let bytes = table.map().get(start..start + block.place.len as usize).unwrap_or_default();
        match BlockRef::reopen(bytes, block.count).and_then(|opened| opened.span(entry)) {
            Some(span) => Ok(Some(At { block, entry, span })),
            None => {
                let opened = table.block_at(block.place, block.block, CheckCrc::Always)?;
                Err(table.damaged(block.place.at, opened.broken_entry(entry)))
            }
        }
    }

    /// An end of a table; none if there is no such table.
    fn end_of_table(&self, number: usize, end: End) -> Result<Option<At>> {
        let Some(table) = self.run.tables().get(number) else { return Ok(None) };
        let block = match end {
            End::First => self.enter(number, table, 0)?,
            End::Last => self.enter(number, table, table.block_count() - 1)?,
        };
        self.end_of_block(block, end)
    }

    fn end_of_block(&self, block: InBlock, end: End) -> Result<Option<At>> {
        match end {
            End::First => self.read(block, 0),
            End::Last => self.read(block, block.count - 1),
        }
    }

    /// The version behind this one.
    fn after(&self, at: &At) -> Result<Option<At>> {
        if at.entry + 1 < at.block.count {
            return self.read(at.block, at.entry + 1);
        }
        let number = at.block.table;
        match self.run.tables().get(number) {
            Some(table) if at.block.block + 1 < table.block_count() => {
                self.end_of_block(self.enter(number, table, at.block.block + 1)?, End::First)
            }
            _ => self.end_of_table(number + 1, End::First),
        }
    }

    /// The version before this one.
    fn before(&self, at: &At) -> Result<Option<At>> {
        if at.entry > 0 {
            return self.read(at.block, at.entry - 1);
        }
        let number = at.block.table;
        match (self.run.tables().get(number), at.block.block.checked_sub(1), number.checked_sub(1)) {
            (Some(table), Some(block), _) => self.end_of_block(self.enter(number, table, block)?, End::Last),
            (_, None, Some(number)) => self.end_of_table(number, End::Last),
            (None, Some(_), _) | (_, None, None) => Ok(None),
        }
    }

    fn find(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<At>> {
        for (number, table) in self.run.tables().iter().enumerate().skip(self.run.table_for(keyspace, key)) {
            if let Some((block, entry)) = table.seek(keyspace, key, CommitTs::MAX)? {
                return self.read(self.enter(number, table, block)?, entry);
            }
        }
        Ok(None)
    }

    /// To the newest version of the first key not before this one.
    pub fn seek(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<()> {
        self.at = self.find(keyspace, key)?;
        Ok(())
    }

    /// To the newest version of the last key before this one.
    pub fn seek_before(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<()> {
        let last = match self.find(keyspace, key)? {
            Some(at) => self.before(&at)?,
            None => match self.run.tables().len().checked_sub(1) {
                Some(number) => self.end_of_table(number, End::Last)?,
                None => None,
            },
        };
        self.at = self.newest_of(last)?;
        Ok(())
    }

    /// From any version of a key back to its newest.
    fn newest_of(&self, at: Option<At>) -> Result<Option<At>> {
        let Some(mut at) = at else { return Ok(None) };
        while let Some(before) = self.before(&at)? {
            if !self.same_key(&before, &at) {
                break;
            }
            at = before;
        }
        Ok(Some(at))
    }

    /// To the newest version of the next key.
    pub fn next_key(&mut self) -> Result<()> {
        let Some(from) = self.at.take() else { return Ok(()) };
        let mut next = self.after(&from)?;
        while let Some(at) = &next {
            if !self.same_key(at, &from) {
                break;
            }
            next = self.after(at)?;
        }
        self.at = next;
        Ok(())
    }

    /// To the newest version of the previous key.
    pub fn prev_key(&mut self) -> Result<()> {
        let newest = self.at.take();
        let Some(newest) = self.newest_of(newest)? else { return Ok(()) };
        let before = self.before(&newest)?;
        self.at = self.newest_of(before)?;
        Ok(())
    }

    /// To the next older version of the same key; false, and nowhere else, if there is none.
    pub fn older(&mut self) -> Result<bool> {
        let Some(at) = &self.at else { return Ok(false) };
        match self.after(at)? {
            Some(after) if self.same_key(&after, at) => {
                self.at = Some(after);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
