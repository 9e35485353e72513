//! A place in the versions of a run of tables.
//!
//! Guards: a cursor owns its tables, so that it is `Send` and outlives the call that made it; an entry is decoded, and
//! every length in it checked, when the cursor moves there.

#![allow(unsafe_code)]

use super::file::{CheckCrc, Table};
use super::place::{Kept, Place};
use super::table_set::Run;
use crate::error::{Error, Result};
use crate::format::block::BlockRef;
use crate::format::table_index::BlockPlace;
use crate::ids::{CommitTs, Keyspace};

/// A block of one of the run's tables, its frame and checksum checked.
#[derive(Clone, Copy)]
struct InBlock {
    table: usize,
    block: usize,
    at: BlockPlace,
    /// Exactly the block.
    bytes: Kept,
    count: usize,
}

/// An entry of it.
struct At {
    block: InBlock,
    entry: usize,
    place: Place,
}

impl InBlock {
    /// None for a broken entry, or past the end.
    #[inline]
    fn entry(&self, entry: usize) -> Option<Place> {
        let found = BlockRef::reopen(self.bytes.get(), self.count)?.entry(entry)?;
        // SAFETY: as the block's bytes (see `enter`).
        Some(unsafe { Place::new(&found) })
    }
}

/// See the module.
pub struct RunCursor {
    run: Run,
    at: Option<At>,
    /// The version right before the newest of the key the cursor is at, where it came from behind and had to look there.
    before: Option<At>,
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
        RunCursor { run, at: None, before: None }
    }

    #[inline]
    pub fn place(&self) -> Option<&Place> {
        self.at.as_ref().map(|at| &at.place)
    }

    fn enter(&self, number: usize, table: &Table, block: usize) -> Result<InBlock> {
        let at = table.place(block)?;
        let opened = table.block_at(at, block, CheckCrc::Once)?;
        if opened.count() == 0 {
            return Err(table.damaged(at.at, opened.broken_entry(0)));
        }
        // SAFETY: bytes of a table's mapping, which is never moved or written; the cursor keeps the table by its run.
        let bytes = unsafe { Kept::new(opened.bytes()) };
        Ok(InBlock { table: number, block, at, bytes, count: opened.count() })
    }

    fn read(&self, block: InBlock, entry: usize) -> Result<At> {
        match block.entry(entry) {
            Some(place) => Ok(At { block, entry, place }),
            None => Err(self.broken(block, entry)),
        }
    }

    #[cold]
    fn broken(&self, block: InBlock, entry: usize) -> Error {
        let table = &self.run.tables()[block.table];
        match table.block_at(block.at, block.block, CheckCrc::Always) {
            Ok(opened) => table.damaged(block.at.at, opened.broken_entry(entry)),
            Err(error) => error,
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
            End::First => self.read(block, 0).map(Some),
            End::Last => self.read(block, block.count - 1).map(Some),
        }
    }

    /// The version behind this one.
    #[inline]
    fn after(&self, at: &At) -> Result<Option<At>> {
        if at.entry + 1 < at.block.count {
            return self.read(at.block, at.entry + 1).map(Some);
        }
        self.after_block(at)
    }

    fn after_block(&self, at: &At) -> Result<Option<At>> {
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
            return self.read(at.block, at.entry - 1).map(Some);
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
                return self.read(self.enter(number, table, block)?, entry).map(Some);
            }
        }
        Ok(None)
    }

    /// To the newest version of the first key not before this one.
    pub fn seek(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<()> {
        (self.at, self.before) = (None, None);
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
        self.set_newest_of(last)
    }

    /// To the newest of the versions of this one's key, which is the last of them or none.
    fn set_newest_of(&mut self, last: Option<At>) -> Result<()> {
        (self.at, self.before) = (None, None);
        let Some(mut at) = last else { return Ok(()) };
        let mut before = self.before(&at)?;
        while let Some(same) = before.take_if(|before| before.place.is_same_key(&at.place)) {
            at = same;
            before = self.before(&at)?;
        }
        (self.at, self.before) = (Some(at), before);
        Ok(())
    }

    /// To the newest version of the next key.
    #[inline]
    pub fn next_key(&mut self) -> Result<()> {
        let Some(at) = &mut self.at else { return Ok(()) };
        // Most often it is the next entry of the same block.
        if let Some(place) = at.block.entry(at.entry + 1)
            && !place.is_same_key(&at.place)
        {
            at.entry += 1;
            at.place = place;
            self.before = None;
            return Ok(());
        }
        self.next_key_further_on()
    }

    fn next_key_further_on(&mut self) -> Result<()> {
        self.before = None;
        let Some(from) = self.at.take() else { return Ok(()) };
        let mut next = self.after(&from)?;
        while let Some(at) = &next {
            if !at.place.is_same_key(&from.place) {
                break;
            }
            next = self.after(at)?;
        }
        self.at = next;
        Ok(())
    }

    /// To the newest version of the previous key.
    pub fn prev_key(&mut self) -> Result<()> {
        let Some(from) = self.at.take() else { return Ok(()) };
        let mut before = self.before.take();
        if before.is_none() {
            before = self.before(&from)?;
            while let Some(same) = before.take_if(|before| before.place.is_same_key(&from.place)) {
                before = self.before(&same)?;
            }
        }
        self.set_newest_of(before)
    }

    /// To the next older version of the same key; false, and nowhere else, if there is none.
    pub fn older(&mut self) -> Result<bool> {
        let Some(at) = &self.at else { return Ok(false) };
        match self.after(at)? {
            Some(after) if after.place.is_same_key(&at.place) => {
                self.at = Some(after);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
