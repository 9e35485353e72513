//! Up to which commit readers see a shard, and the threshold at which the marks of several shards move in one moment.
//!
//! Guards: a mark never goes back; a reader that finds a commit over several shards below one shard's mark finds it below each;
//! nothing behind a commit that waits at its threshold is below a mark.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::sync::{ArcSwapOption, AtomicBool, AtomicU64, AtomicUsize};
use crate::canary::{Canary, planted};
use crate::ids::CommitTs;

/// Set beside the mark while the next commit of the shard waits at its threshold: whether it is visible, that says.
const AT_THRESHOLD: u64 = 1 << 63;

/// Opens when the last of a commit's shards has come.
pub struct Threshold {
    commit: CommitTs,
    open: AtomicBool,
    /// Shards that have not come yet.
    missing: AtomicUsize,
}

impl Threshold {
    pub fn new(commit: CommitTs, shards: usize) -> Threshold {
        Threshold { commit, open: AtomicBool::new(false), missing: AtomicUsize::new(shards) }
    }

    pub fn commit(&self) -> CommitTs {
        self.commit
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// A shard came, and its readers look here. True for the last one, which has opened it.
    pub fn arrive(&self) -> bool {
        let last = self.missing.fetch_sub(1, Ordering::SeqCst) == 1 || planted(Canary::ShowCommitInPart);
        if last {
            self.open.store(true, Ordering::SeqCst);
        }
        last
    }
}

/// What a commit's shards have in common.
pub trait HasThreshold {
    fn threshold(&self) -> &Threshold;
}

/// See the module. Moved by its shard alone, read by all.
pub struct Mark<G> {
    visible: AtomicU64,
    gate: ArcSwapOption<G>,
}

impl<G: HasThreshold> Mark<G> {
    pub fn new(visible: CommitTs) -> Mark<G> {
        Mark { visible: AtomicU64::new(visible.0), gate: ArcSwapOption::empty() }
    }

    #[inline]
    pub fn get(&self) -> CommitTs {
        let mark = self.visible.load(Ordering::SeqCst);
        if mark & AT_THRESHOLD == 0 { CommitTs(mark) } else { self.get_at_threshold(mark) }
    }

    #[cold]
    fn get_at_threshold(&self, mut mark: u64) -> CommitTs {
        while mark & AT_THRESHOLD != 0 {
            let gate = self.gate.load();
            let now = self.visible.load(Ordering::SeqCst);
            if now == mark {
                // The mark never comes back to a value it had, so that this is the gate it speaks of.
                let open = gate.as_ref().map(|gate| gate.threshold()).filter(|threshold| threshold.is_open());
                return open.map_or(CommitTs(mark & !AT_THRESHOLD), Threshold::commit);
            }
            mark = now;
        }
        CommitTs(mark)
    }

    /// Called by the shard alone: its next commit is visible once the threshold of `gate` is open.
    pub fn stand_at(&self, gate: &Arc<G>) {
        self.gate.store(Some(Arc::clone(gate)));
        self.visible.fetch_or(AT_THRESHOLD, Ordering::SeqCst);
    }

    /// Called by the shard alone, with ever larger numbers.
    pub fn set(&self, at: CommitTs) {
        let before = self.visible.swap(at.0, Ordering::SeqCst);
        if before & AT_THRESHOLD != 0 {
            self.gate.store(None);
        }
    }
}
