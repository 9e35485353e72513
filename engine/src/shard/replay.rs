//! Puts the records of a log back into memory, as far as their fate is known.
//!
//! Guards: records go in in the order of the log, each once. A part of a commit over several shards goes in once it is known that
//! every shard has its own; until then it and all that stands behind it wait, because what is behind it may rest on it.

use std::sync::Arc;

use super::internal::SetAside;
use super::memtables::SEALED_MAX;
use crate::canary::{Canary, planted};
use crate::format::batch::Frames;
use crate::format::block::Op;
use crate::format::record::{BadRecord, RecordRef};
use crate::ids::{CommitTs, Expiry, Lsn, ShardId};
use crate::table::{Inserts, MemWriter, Memtable, NewVersion, Order};
use crate::txn::undecided::{Next, Undecided, Waiting};

/// A long replay tells how far it is each time it has taken so many records.
const PROGRESS_RECORDS: u64 = 1 << 20;

/// The memory of so many memtables is kept for those that follow: what a checkpoint gives back at a time.
const MEMTABLES_KEPT: u64 = SEALED_MAX as u64 / 2;

/// See the module.
pub struct Replay {
    pub memory: MemWriter,
    /// Memtables that were filled on the way, oldest first.
    pub full: Vec<Arc<Memtable>>,
    /// Changes of the engine's own keys.
    pub set_aside: SetAside,
    pub undecided: Undecided,
    memtable_bytes: u64,
    shard: ShardId,
    records: u64,
}

impl Replay {
    /// `settled`: every commit up to it is in tables.
    pub fn new(shard: ShardId, settled: CommitTs, memtable_bytes: u64, hash_seed: u64) -> Replay {
        Replay {
            memory: MemWriter::first(Order::Deferred, hash_seed, memtable_bytes.saturating_mul(MEMTABLES_KEPT)),
            full: Vec::new(),
            set_aside: SetAside::default(),
            undecided: Undecided::new(shard, settled),
            memtable_bytes,
            shard,
            records: 0,
        }
    }

    /// The records of one batch.
    pub fn apply(&mut self, frames: Frames<'_>) -> Result<(), (Lsn, BadRecord)> {
        let before = self.records;
        let ready = self.undecided.settle(frames.settled());
        self.insert_all(&ready);
        let mut inserts = Inserts::new(&mut self.memory);
        let mut noted = CommitTs::ZERO;
        for (lsn, payload) in frames {
            let bad = |what| (lsn, what);
            let record = RecordRef::decode(payload).map_err(bad)?;
            match self.undecided.note(&record, payload) {
                Next::Nothing => continue,
                Next::Waits => record.check().map_err(bad)?,
                Next::Happened => {
                    insert(&record, &mut inserts, &mut self.set_aside).map_err(bad)?;
                    noted = record.commit_ts;
                }
            }
            self.records += 1;
        }
        inserts.finish();
        self.memory.note(noted);
        if before / PROGRESS_RECORDS < self.records / PROGRESS_RECORDS {
            tracing::info!(shard = self.shard.0, records = self.records, "replaying the log");
        }
        if self.memory.bytes() >= self.memtable_bytes {
            self.seal_full();
        }
        Ok(())
    }

    /// Records that were read before, in order.
    fn insert_all(&mut self, ready: &[Waiting]) {
        let Some(newest) = ready.last() else { return };
        let mut inserts = Inserts::new(&mut self.memory);
        for next in ready {
            let inserted =
                RecordRef::decode(&next.payload).and_then(|record| insert(&record, &mut inserts, &mut self.set_aside));
            inserted.expect("it was read before");
        }
        inserts.finish();
        self.memory.note(newest.commit);
    }

    fn seal_full(&mut self) {
        let next = self.memory.next(Order::Deferred);
        let full = std::mem::replace(&mut self.memory, next);
        self.full.push(full.seal());
    }

    /// What waits happened, up to the first that did not, from which on nothing did. `adopt`, in order, was lost here and happened.
    pub fn decide(&mut self, void_from: Option<CommitTs>, adopt: &[Vec<u8>]) {
        let ready = self.undecided.decide(void_from, adopt);
        self.insert_all(&ready);
        if !self.full.is_empty() {
            // One memtable was not enough: all of them end where the log does, so that a checkpoint of them may trim it there.
            self.seal_full();
        }
    }
}

fn insert<'a>(
    record: &RecordRef<'a>,
    inserts: &mut Inserts<'_, 'a>,
    set_aside: &mut SetAside,
) -> Result<(), BadRecord> {
    record.for_each(|op| {
        let change = if planted(Canary::ForgetExpiry) { without_expiry(op.change) } else { op.change };
        set_aside.note(op, record.commit_ts);
        inserts.push(op.keyspace, op.key, NewVersion { ts: record.commit_ts, op: change });
    })
}

/// What [`Canary::ForgetExpiry`] makes of a change.
fn without_expiry(change: Op<'_>) -> Op<'_> {
    match change {
        Op::Put { value, kind, .. } => Op::Put { value, kind, expiry: Expiry::NEVER },
        Op::Delete => Op::Delete,
    }
}
