//! Which parts of commits may ride on another shard's record, which have, and which commits are visible while some log lacks its own part
//! of them (docs/transactions.md).
//!
//! Guards: a part rides only if an opening can put it back at its place: once it is visible, nothing before it can be missing; nothing
//! counts as settled before every shard has its own part durable.

use std::collections::VecDeque;
use std::sync::Arc;

use super::gate::Gate;
use crate::ids::{CommitTs, Lsn};
use crate::wal::Watermarks;

pub struct Cover {
    /// Where the last record ends that becomes visible without being durable.
    weak: Lsn,
    /// The last commit that was appended.
    last: CommitTs,
    /// Parts that ride and are not durable here yet, with where they end.
    riding: VecDeque<(Lsn, Arc<Gate>)>,
    /// Visible commits of which some part was not durable in its own log when this was last looked at.
    unsettled: VecDeque<Arc<Gate>>,
}

impl Cover {
    /// A log that ends durably with the commit `last`.
    pub fn new(last: CommitTs) -> Cover {
        Cover { weak: Lsn::ZERO, last, riding: VecDeque::new(), unsettled: VecDeque::new() }
    }

    pub fn last(&self) -> CommitTs {
        self.last
    }

    /// Whether a part appended now could ride. Whatever stands before it in line and has to be durable, or rides itself, is when its turn
    /// comes; so only what has not to be is in the way.
    pub fn may_ride(&self, marks: &Watermarks) -> bool {
        self.weak <= marks.durable()
    }

    pub fn appended(&mut self, commit: CommitTs) {
        self.last = commit;
    }

    /// What was appended up to `end` becomes visible without being durable.
    pub fn is_weak_to(&mut self, end: Lsn) {
        self.weak = end;
    }

    /// A part was appended that rides, up to `end`.
    pub fn rides(&mut self, commit: CommitTs, end: Lsn, gate: &Arc<Gate>) {
        self.last = commit;
        self.riding.push_back((end, Arc::clone(gate)));
    }

    /// A commit over several shards became visible.
    pub fn passed(&mut self, gate: &Arc<Gate>) {
        if !gate.is_settled() {
            self.unsettled.push_back(Arc::clone(gate));
        }
    }

    /// The log is durable up to here.
    pub fn durable(&mut self, to: Lsn) {
        while self.riding.front().is_some_and(|(end, _)| *end <= to) {
            let (_, gate) = self.riding.pop_front().expect("seen above");
            gate.rider_is_durable();
        }
    }

    /// Of all commits that are visible, up to which it is known that every log has its own part.
    pub fn settled(&mut self, visible: CommitTs) -> CommitTs {
        while self.unsettled.front().is_some_and(|gate| gate.is_settled()) {
            self.unsettled.pop_front();
        }
        self.unsettled.front().map_or(visible, |first| CommitTs(first.commit().0 - 1))
    }

    pub fn has_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// The first commit up to `upto` that is not settled.
    pub fn first_unsettled(&mut self, upto: CommitTs) -> Option<Arc<Gate>> {
        self.settled(upto);
        self.unsettled.front().filter(|gate| gate.commit() <= upto).cloned()
    }
}
