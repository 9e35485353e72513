//! The end of a log, as far as it does not say by itself what became of it.
//!
//! Guards: a record is known to have happened once every commit that it may rest on is; what a log declared void never waits.

use std::collections::VecDeque;

use super::fate::{Carried, Part, Unsettled};
use super::owed::Owed;
use crate::format::record::{RecordKind, RecordRef};
use crate::ids::{CommitTs, ShardId};

/// Fed with the records of one log in their order.
pub struct Undecided {
    shard: ShardId,
    /// The highest number found, of whatever became of it.
    pub max_commit: CommitTs,
    /// What the log says of the other shards.
    pub owed: Owed,
    /// The last commit that is in tables or is known to have happened.
    last: CommitTs,
    /// Every commit up to here happened.
    settled: CommitTs,
    /// From the first part on whose fate is not known.
    waiting: VecDeque<Waiting>,
}

/// A record whose fate is not known.
pub struct Waiting {
    pub commit: CommitTs,
    /// None: of this shard alone.
    shards: Vec<ShardId>,
    pub payload: Vec<u8>,
}

/// What is to be done with a record now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It happened, and so did all before it.
    Happened,
    /// It waits.
    Waits,
    /// It says something of others, and changes nothing.
    Nothing,
}

impl Waiting {
    fn part(&self) -> Part {
        let record = RecordRef::decode(&self.payload).expect("it was read before");
        let carried = record.carried().into_iter();
        let carried = carried.map(|part| Carried { shard: part.shard, before: part.before, record: part.to_part() });
        Part { commit: self.commit, shards: self.shards.clone(), carried: carried.collect() }
    }
}

impl Undecided {
    /// `settled`: every commit up to it is in tables.
    pub fn new(shard: ShardId, settled: CommitTs) -> Undecided {
        let owed = Owed::default();
        Undecided { shard, max_commit: settled, owed, last: settled, settled, waiting: VecDeque::new() }
    }

    /// Every commit up to `commit` happened: what need not wait any more, in order.
    #[must_use]
    pub fn settle(&mut self, commit: CommitTs) -> Vec<Waiting> {
        self.settled = self.settled.max(commit);
        self.owed.settle(commit);
        let settled = self.settled;
        self.take_while(|next| next.shards.is_empty() || next.commit <= settled)
    }

    /// The next record of the log.
    pub fn note(&mut self, record: &RecordRef<'_>, payload: &[u8]) -> Next {
        let commit = record.commit_ts;
        let shards: Vec<ShardId> = match record.kind {
            RecordKind::Void => {
                self.owed.void(commit);
                while self.waiting.back().is_some_and(|last| last.commit >= commit) {
                    self.waiting.pop_back();
                }
                return Next::Nothing;
            }
            RecordKind::Part(shards) => {
                self.owed.part(commit, shards.iter());
                if commit > self.settled { shards.iter().collect() } else { Vec::new() }
            }
            RecordKind::Write => Vec::new(),
        };
        self.max_commit = self.max_commit.max(commit);
        if shards.is_empty() && self.waiting.is_empty() {
            self.last = self.last.max(commit);
            return Next::Happened;
        }
        self.waiting.push_back(Waiting { commit, shards, payload: payload.to_vec() });
        Next::Waits
    }

    /// What waits happened, up to the first that did not, from which on nothing did; `adopt`, in order, was lost here and happened.
    /// All that happened, in order.
    #[must_use]
    pub fn decide(&mut self, void_from: Option<CommitTs>, adopt: &[Vec<u8>]) -> Vec<Waiting> {
        let mut happened = self.take_while(|next| void_from.is_none_or(|first| next.commit < first));
        self.waiting.clear();
        for payload in adopt {
            let commit = RecordRef::decode(payload).expect("made of a record that was read").commit_ts;
            self.last = self.last.max(commit);
            happened.push(Waiting { commit, shards: Vec::new(), payload: payload.clone() });
        }
        happened
    }

    fn take_while(&mut self, known: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let count = self.waiting.iter().take_while(|next| known(next)).count();
        let taken: Vec<Waiting> = self.waiting.drain(..count).collect();
        self.last = taken.last().map_or(self.last, |newest| newest.commit.max(self.last));
        taken
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

    pub fn settled_up_to(&self) -> CommitTs {
        self.settled
    }
}
