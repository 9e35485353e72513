//! Puts the records of a log back into memory, as far as their fate is known.
//!
//! Guards: records go in in the order of the log, each once. A part of a commit over several shards goes in once it is known that
//! every shard has its own; until then it and all that stands behind it wait, because what is behind it may rest on it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::internal::SetAside;
use crate::canary::{Canary, planted};
use crate::format::batch::Frames;
use crate::format::block::Op;
use crate::format::record::{BadRecord, RecordKind, RecordRef};
use crate::ids::{CommitTs, Expiry, Lsn, ShardId};
use crate::table::{Inserts, MemWriter, Memtable, NewVersion, Order};
use crate::txn::fate::{Carried, Part, Unsettled};
use crate::txn::owed::Owed;

/// A long replay tells how far it is each time it has taken so many records.
const PROGRESS_RECORDS: u64 = 1 << 20;

/// See the module.
pub struct Replay {
    pub memory: MemWriter,
    /// Memtables that were filled on the way, oldest first.
    pub full: Vec<Arc<Memtable>>,
    /// The highest number found, of whatever became of it.
    pub max_commit: CommitTs,
    /// Changes of the engine's own keys.
    pub set_aside: SetAside,
    /// What the log says of the other shards.
    pub owed: Owed,
    memtable_bytes: u64,
    shard: ShardId,
    records: u64,
    /// The last commit that is in tables or was put into memory.
    last: CommitTs,
    /// Every commit up to here happened.
    settled: CommitTs,
    /// From the first part on whose fate is not known.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    commit: CommitTs,
    /// None: of this shard alone.
    shards: Vec<ShardId>,
    payload: Vec<u8>,
}

impl Waiting {
    fn part(&self) -> Part {
        let record = RecordRef::decode(&self.payload).expect("it was read before");
        let carried = record.carried().into_iter();
        let carried = carried.map(|part| Carried { shard: part.shard, before: part.before, record: part.to_part() });
        Part { commit: self.commit, shards: self.shards.clone(), carried: carried.collect() }
    }
}

impl Replay {
    /// `settled`: every commit up to it is in tables.
    pub fn new(shard: ShardId, settled: CommitTs, memtable_bytes: u64, hash_seed: u64) -> Replay {
        Replay {
            memory: MemWriter::first(Order::Deferred, hash_seed, memtable_bytes),
            full: Vec::new(),
            max_commit: settled,
            set_aside: SetAside::default(),
            owed: Owed::default(),
            memtable_bytes,
            shard,
            records: 0,
            last: settled,
            settled,
            waiting: VecDeque::new(),
        }
    }

    /// The records of one batch.
    pub fn apply(&mut self, frames: Frames<'_>) -> Result<(), (Lsn, BadRecord)> {
        let before = self.records;
        self.settle(frames.settled());
        self.owed.settle(frames.settled());
        let mut inserts = Inserts::new(&mut self.memory);
        let mut noted = CommitTs::ZERO;
        for (lsn, payload) in frames {
            let bad = |what| (lsn, what);
            let record = RecordRef::decode(payload).map_err(bad)?;
            let shards = match record.kind {
                RecordKind::Void => {
                    self.owed.void(record.commit_ts);
                    while self.waiting.back().is_some_and(|last| last.commit >= record.commit_ts) {
                        self.waiting.pop_back();
                    }
                    continue;
                }
                RecordKind::Part(shards) if record.commit_ts > self.settled => shards.iter().collect(),
                RecordKind::Part(_) | RecordKind::Write => Vec::new(),
            };
            if let RecordKind::Part(shards) = record.kind {
                self.owed.part(record.commit_ts, shards.iter());
            }
            self.max_commit = self.max_commit.max(record.commit_ts);
            self.records += 1;
            if shards.is_empty() && self.waiting.is_empty() {
                insert(&record, &mut inserts, &mut self.set_aside).map_err(bad)?;
                noted = record.commit_ts;
            } else {
                record.check().map_err(bad)?;
                self.waiting.push_back(Waiting { commit: record.commit_ts, shards, payload: payload.to_vec() });
            }
        }
        inserts.finish();
        self.memory.note(noted);
        self.last = self.last.max(noted);
        if before / PROGRESS_RECORDS < self.records / PROGRESS_RECORDS {
            tracing::info!(shard = self.shard.0, records = self.records, "replaying the log");
        }
        if self.memory.bytes() >= self.memtable_bytes {
            self.seal_full();
        }
        Ok(())
    }

    /// Every commit up to `commit` happened.
    fn settle(&mut self, commit: CommitTs) {
        self.settled = self.settled.max(commit);
        let settled = self.settled;
        self.insert_while(|next| next.shards.is_empty() || next.commit <= settled);
    }

    fn insert_while(&mut self, known: impl Fn(&Waiting) -> bool) {
        let count = self.waiting.iter().take_while(|next| known(next)).count();
        if count == 0 {
            return;
        }
        let ready: Vec<Waiting> = self.waiting.drain(..count).collect();
        let mut inserts = Inserts::new(&mut self.memory);
        for next in &ready {
            let inserted =
                RecordRef::decode(&next.payload).and_then(|record| insert(&record, &mut inserts, &mut self.set_aside));
            inserted.expect("it was read before");
        }
        inserts.finish();
        let newest = ready[count - 1].commit;
        self.memory.note(newest);
        self.last = self.last.max(newest);
    }

    fn seal_full(&mut self) {
        let next = self.memory.next(Order::Deferred);
        let full = std::mem::replace(&mut self.memory, next);
        self.full.push(full.seal());
    }

    /// What the other shards must be asked about.
    pub fn unsettled(&self) -> Unsettled {
        let parts = self.waiting.iter().filter(|next| !next.shards.is_empty()).map(Waiting::part).collect();
        Unsettled { shard: self.shard, settled: self.settled, last: self.last(), parts }
    }

    /// The last commit that the log or the tables hold.
    pub fn last(&self) -> CommitTs {
        self.waiting.back().map_or(self.last, |newest| newest.commit.max(self.last))
    }

    /// What waits happened, up to the first that did not, from which on nothing did. `adopt`, in order, was lost here and happened.
    pub fn decide(&mut self, void_from: Option<CommitTs>, adopt: &[Vec<u8>]) {
        self.insert_while(|next| void_from.is_none_or(|first| next.commit < first));
        self.waiting.clear();
        for payload in adopt {
            let commit = RecordRef::decode(payload).expect("made of a record that was read").commit_ts;
            self.waiting.push_back(Waiting { commit, shards: Vec::new(), payload: payload.clone() });
        }
        self.insert_while(|_| true);
        if !self.full.is_empty() {
            // One memtable was not enough: all of them end where the log does, so that a checkpoint of them may trim it there.
            self.seal_full();
        }
    }

    pub fn settled_up_to(&self) -> CommitTs {
        self.settled
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
