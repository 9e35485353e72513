//! A shard's end of the watches: what it commits, kept until it is visible, then shown to the hub.
//!
//! Guards: what is shown is whole up to what the shard has announced as under way (`txn/timestamps.rs`): it is shown before the
//! announcement is taken back. A feed that nobody empties loses what it holds and says so, rather than grow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::hub::Hub;
use super::{Change, What};
use crate::canary::{Canary, planted};
use crate::format::block::Op;
use crate::format::record::OpRef;
use crate::ids::{CommitTs, Keyspace, ShardId};
use crate::sync::Mutex;

/// Bytes that may wait for the dispatcher.
const SHOWN_MAX: u64 = 64 << 20;

/// One shard's part of a commit.
#[derive(Debug)]
pub struct Part {
    pub at: CommitTs,
    pub changes: Vec<Arc<Change>>,
}

impl Part {
    /// The part that users see; `None` if all of it is the engine's own.
    pub fn of<'a>(at: CommitTs, ops: impl Iterator<Item = OpRef<'a>>) -> Option<Part> {
        let changes: Vec<Arc<Change>> =
            ops.filter(|op| op.keyspace < Keyspace::FIRST_INTERNAL).map(|op| Arc::new(change(op))).collect();
        (!changes.is_empty()).then_some(Part { at, changes })
    }

    fn bytes(&self) -> u64 {
        size_of::<Part>() as u64 + self.changes.iter().map(|change| change.bytes()).sum::<u64>()
    }
}

pub fn change(op: OpRef<'_>) -> Change {
    let what = match op.change {
        Op::Put { value, kind, expiry } => What::Put { value: value.to_vec(), kind, expiry },
        Op::Delete => What::Deleted,
    };
    Change { keyspace: op.keyspace, key: op.key.to_vec(), what }
}

/// What a shard shows to the hub.
#[derive(Default)]
pub struct Shown {
    parts: Mutex<(VecDeque<Part>, u64)>,
    lost: AtomicBool,
}

impl Shown {
    fn add(&self, parts: impl Iterator<Item = Part>) {
        let (shown, bytes) = &mut *self.parts.lock();
        for part in parts {
            *bytes += part.bytes();
            shown.push_back(part);
        }
        if *bytes > SHOWN_MAX {
            shown.clear();
            *bytes = 0;
            self.lost.store(true, Ordering::SeqCst);
        }
    }

    /// Append to `out` what was shown up to `at`.
    pub fn take_up_to(&self, at: CommitTs, out: &mut Vec<Part>) {
        let (shown, bytes) = &mut *self.parts.lock();
        while shown.front().is_some_and(|part| part.at <= at) {
            let part = shown.pop_front().expect("seen above");
            *bytes -= part.bytes();
            out.push(part);
        }
    }

    /// Whether something was lost since this was asked last.
    pub fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::SeqCst)
    }
}

/// Held by the shard's core while anybody watches.
pub struct Feed {
    hub: Arc<Hub>,
    shard: ShardId,
    /// By whose wish it stands: who ends an older one leaves it alone.
    pub round: u64,
    unseen: VecDeque<Part>,
}

impl Feed {
    pub fn new(hub: Arc<Hub>, shard: ShardId, round: u64) -> Feed {
        Feed { hub, shard, round, unseen: VecDeque::new() }
    }

    /// A commit that is not visible yet.
    pub fn note<'a>(&mut self, at: CommitTs, ops: impl Iterator<Item = OpRef<'a>>) {
        let told = |op: &OpRef<'_>| !(planted(Canary::LeaveOutDeletes) && matches!(op.change, Op::Delete));
        self.unseen.extend(Part::of(at, ops.filter(told)));
    }

    /// Everything up to `at` becomes visible now.
    pub fn show(&mut self, at: CommitTs) {
        let count = self.unseen.partition_point(|part| part.at <= at);
        self.hub.shown(self.shard).add(self.unseen.drain(..count));
    }

    /// The shard's announcement has moved, or the shard has stopped.
    pub fn stir(&self) {
        self.hub.stir.set();
    }
}
