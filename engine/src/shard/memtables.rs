//! A shard's memtables: the active one, those that wait for their checkpoint, and what writers do when there are too many.
//!
//! Guards: a memtable is gone from memory, and its records from the log, only once a manifest names its tables.
//! Does not: write tables; [`super::background`] does, and says so here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::{ShardCore, Unwritten};
use super::request::Reply;
use crate::error::Error;
use crate::ids::{CommitTs, Lsn};
use crate::runtime::BACKGROUND_WEIGHT;
use crate::table::read_state::ReadState;
use crate::table::table_set::TableSet;
use crate::table::{ChunkPool, Memtable, Order, Progress};
use crate::wal::{Room, Segment};

/// Sealed memtables that may wait for their checkpoint before writers do.
pub(super) const SEALED_MAX: usize = 4;
/// What the background weighs, the foreground being 1000, with so many memtables waiting: the more, the slower are those that fill them, so
/// that nobody has to stop until there is room.
const WEIGHTS: [u32; SEALED_MAX + 1] = [BACKGROUND_WEIGHT, BACKGROUND_WEIGHT, 500, 1500, 4000];
/// So far ahead of a checkpoint memory may be filled, in its [`Progress::WHOLE`] parts.
const ROOM_AHEAD: u32 = Progress::WHOLE / 8;
/// A memtable is written once its records lie in so many segments of the log, however few bytes they have: a durable write of a hundred
/// bytes alone takes a block. So the log stays short, and its files go round rather than be made anew.
pub(super) const LOG_SEGMENTS: u64 = 4;

/// A memtable that waits for its checkpoint.
#[derive(Clone)]
pub struct SealedMemtable {
    pub memtable: Arc<Memtable>,
    /// All its records lie before this position of the log, and all later ones behind it.
    pub end: Lsn,
}

/// How many bytes the active memtable may have, of a whole one's, of which the first key takes some for others to come. When the most that
/// may wait already do, it is filled at the pace of the checkpoint under way: writers wait often and briefly, not once for all of it.
fn room(memtable_bytes: u64, first_bytes: u64, sealed: usize, checkpoint_parts: u32) -> u64 {
    if sealed < SEALED_MAX {
        return memtable_bytes;
    }
    let parts = checkpoint_parts.min(Progress::WHOLE) + ROOM_AHEAD;
    let to_fill = memtable_bytes.saturating_sub(first_bytes);
    (memtable_bytes - to_fill).saturating_add((to_fill / u64::from(Progress::WHOLE)).saturating_mul(u64::from(parts)))
}

impl ShardCore {
    pub(super) fn memory_is_full(&mut self) -> bool {
        let room = room(self.memtable_bytes, self.memory.first_bytes(), self.sealed.len(), self.checkpoint_parts);
        let full = self.memory.bytes() >= room;
        if !full && (self.memory.table().is_empty() || !self.log_is_long()) {
            return false;
        }
        if self.sealed.len() < SEALED_MAX {
            self.seal_memtable();
            return false;
        }
        if full {
            self.counters.stalls += 1;
            self.outbox.kick_background = true;
        }
        full
    }

    /// The checkpoint under way has done so many of its parts.
    pub fn checkpoint_came_to(&mut self, parts: u32) {
        // One that is tried again does not take room back.
        self.checkpoint_parts = self.checkpoint_parts.max(parts);
        self.outbox.kick_pump |= self.sealed.len() >= SEALED_MAX;
    }

    fn log_is_long(&self) -> bool {
        let log = &self.log;
        log.marks().appended().bytes_since(self.memory_from) >= log.dir().segment_bytes * LOG_SEGMENTS
    }

    /// Whether memory takes a write while tables cannot be written. Deletes may use twice what is set, because they make room.
    pub(super) fn check_memory(&self, room: Room) -> std::result::Result<(), Unwritten> {
        let Some(why) = &self.no_tables else { return Ok(()) };
        let bytes_max = match room {
            Room::Ordinary => self.memtable_bytes,
            Room::Reserve => self.memtable_bytes.saturating_mul(2),
        };
        if self.sealed.len() < SEALED_MAX || self.memory.bytes() < bytes_max {
            return Ok(());
        }
        Err(Unwritten::Never(self.shown_to_writers(why)))
    }

    /// A failure of the background as the answer to a write: nothing was done.
    pub(super) fn shown_to_writers(&self, why: &Error) -> Error {
        if why.is_no_space() {
            Error::NoSpace { path: self.log.dir().shown(&self.log.dir().path) }
        } else {
            why.clone()
        }
    }

    pub(super) fn read_state(&self) -> Arc<ReadState> {
        Arc::new(ReadState {
            active: Arc::clone(self.memory.table()),
            sealed: self.sealed.iter().rev().map(|sealed| Arc::clone(&sealed.memtable)).collect(),
            tables: Arc::clone(&self.tables),
        })
    }

    pub(super) fn publish(&self) {
        let weight = WEIGHTS[self.sealed.len().min(SEALED_MAX)];
        self.view.background_weight.store(weight, Ordering::Relaxed);
        self.view.publish(self.read_state());
    }

    /// End the active memtable and begin another. The log's batch ends with it, so that replay can start behind it.
    pub fn seal_memtable(&mut self) {
        let next = self.memory.next(self.order);
        let full = std::mem::replace(&mut self.memory, next);
        if full.table().is_empty() {
            self.publish();
            return;
        }
        let end = self.log.seal_building();
        self.memory_from = end;
        self.sealed.push_back(SealedMemtable { memtable: full.seal(), end });
        self.publish();
        self.outbox.kick_background = true;
    }

    pub(super) fn keep_order(&mut self) {
        if self.order == Order::Deferred {
            self.order = Order::Kept;
            self.seal_memtable();
        }
    }

    pub(super) fn checkpoint(&mut self, reply: Reply) {
        self.seal_memtable();
        match self.sealed.back() {
            Some(last) => self.checkpoint_waiters.push((last.end, reply)),
            None => self.outbox.replies.push((reply, Ok(CommitTs::ZERO))),
        }
    }

    /// The next memtables to be written together, oldest first: half of those that wait, so that there is room again before all are
    /// written. Their records are made durable first.
    pub fn checkpoint_candidates(&mut self) -> Vec<SealedMemtable> {
        if let Some(last) = self.sealed.back() {
            self.log.want_durable(last.end);
            self.outbox.kick_flusher = true;
        }
        // Those that an opening filled end together, where the log did: it may only be trimmed there when all of them are written.
        let half = self.sealed.len().div_ceil(2);
        let end = half.checked_sub(1).map(|last| self.sealed[last].end);
        self.sealed.iter().take_while(|sealed| Some(sealed.end) <= end).cloned().collect()
    }

    /// Call `reply` once no sealed memtable up to `end` waits for its checkpoint.
    pub fn when_checkpointed(&mut self, end: Lsn, reply: Reply) {
        match self.view.poisoned() {
            Some(error) => self.outbox.replies.push((reply, Err(error))),
            None if self.sealed.is_empty() => self.outbox.replies.push((reply, Ok(CommitTs::ZERO))),
            None => {
                self.checkpoint_waiters.push((end, reply));
                self.outbox.kick_background = true;
            }
        }
    }

    /// A checkpoint's tables are named by the manifest: drop its memtables and trim the log. Gives the segments to recycle.
    pub fn checkpointed(&mut self, count: usize, end: Lsn, tables: Arc<TableSet>) -> Vec<Segment> {
        self.sealed.drain(..count);
        self.tables = tables;
        self.no_tables = None;
        self.checkpoint_parts = 0;
        self.publish();
        self.counters.checkpoints += 1;
        let sealed = &self.sealed;
        let done = |at: Lsn| at <= end || sealed.is_empty();
        for (_, reply) in self.checkpoint_waiters.extract_if(.., |(at, _)| done(*at)) {
            self.outbox.replies.push((reply, Ok(CommitTs::ZERO)));
        }
        self.log.trim(end)
    }

    /// A checkpoint failed and will be tried again; who waits for one is told now.
    pub fn checkpoint_failed(&mut self, error: &Error) {
        for (_, reply) in self.checkpoint_waiters.drain(..) {
            self.outbox.replies.push((reply, Err(error.clone())));
        }
    }

    /// Checkpoints do not succeed any more: until one does, who needs room in memory is refused instead of waiting for it.
    pub fn cannot_write_tables(&mut self, why: Error) {
        self.no_tables = Some(why);
    }

    /// A merge replaced some tables.
    pub fn merged(&mut self, tables: Arc<TableSet>) {
        self.tables = tables;
        self.counters.merges += 1;
        self.publish();
    }

    /// Memory of memtables that are gone.
    pub fn memory_kept(&self) -> Arc<ChunkPool> {
        Arc::clone(self.memory.pool())
    }

    pub fn tables(&self) -> &Arc<TableSet> {
        &self.tables
    }

    pub fn sealed_count(&self) -> usize {
        self.sealed.len()
    }

    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes() + self.sealed.iter().map(|sealed| sealed.memtable.bytes()).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_filled_at_the_pace_of_the_checkpoint_once_the_most_memtables_wait() {
        let whole = 64 << 20;
        assert_eq!(room(whole, 0, SEALED_MAX - 1, 0), whole);
        let rooms: Vec<u64> = (0..=Progress::WHOLE).map(|parts| room(whole, 0, SEALED_MAX, parts)).collect();
        assert_eq!((rooms[0], *rooms.last().unwrap()), (whole / 8, whole + whole / 8));
        // What the first key takes is there from the beginning.
        assert_eq!(room(whole, whole / 2, SEALED_MAX, 0), whole / 2 + whole / 16);
        let step = whole / u64::from(Progress::WHOLE);
        assert!(rooms.windows(2).all(|two| two[0] <= two[1] && two[1] - two[0] <= step));
    }
}
