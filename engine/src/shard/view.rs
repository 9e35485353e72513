//! What every thread may read of a shard, without a hop and without a lock.
//!
//! Guards: a reader sees only what is visible, which is what was (or may now be) acknowledged: durable at its level, and
//! everything before it in the shard's order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use super::gate::Gate;
use crate::canary::{Canary, planted};
use crate::error::{Error, Poisoned};
use crate::ids::{CommitTs, ShardId};
use crate::table::Order;
use crate::table::read_state::ReadState;
use crate::txn::timestamps::InFlight;

/// Set beside the mark while the next commit of the shard waits at its gate: whether it is visible, the gate says.
const AT_GATE: u64 = 1 << 63;

pub struct ShardView {
    pub id: ShardId,
    state: ArcSwap<ReadState>,
    visible: AtomicU64,
    gate: ArcSwapOption<Gate>,
    pub in_flight: InFlight,
    poisoned: OnceLock<Arc<Poisoned>>,
}

impl ShardView {
    pub fn new(id: ShardId, state: Arc<ReadState>, visible: CommitTs) -> ShardView {
        ShardView {
            id,
            state: ArcSwap::new(state),
            visible: AtomicU64::new(visible.0),
            gate: ArcSwapOption::empty(),
            in_flight: InFlight::default(),
            poisoned: OnceLock::new(),
        }
    }

    /// The sources to read and the newest commit to see in them. The sources are taken first: versions that a checkpoint
    /// drops later are then still there.
    pub fn latest(&self) -> (Guard<Arc<ReadState>>, CommitTs) {
        let state = self.state.load();
        let at = if planted(Canary::ServeNotDurable) { CommitTs::MAX } else { self.visible() };
        (state, at)
    }

    /// The sources for a view at `at`, which the caller has registered and found settled.
    pub fn at(&self, at: CommitTs) -> (Arc<ReadState>, CommitTs) {
        let state = self.state.load_full();
        // A shard that stopped keeps commits that never became visible; they must not be seen.
        let at = if self.poisoned.get().is_some() { at.min(self.visible()) } else { at };
        (state, at)
    }

    /// Whether what is in memory can be read in key order.
    pub fn is_ordered(&self) -> bool {
        self.state.load().active.order() == Order::Kept
    }

    pub fn visible(&self) -> CommitTs {
        let mark = self.visible.load(Ordering::SeqCst);
        if mark & AT_GATE == 0 { CommitTs(mark) } else { self.visible_at_gate(mark) }
    }

    #[cold]
    fn visible_at_gate(&self, mut mark: u64) -> CommitTs {
        while mark & AT_GATE != 0 {
            let gate = self.gate.load();
            let now = self.visible.load(Ordering::SeqCst);
            if now == mark {
                // The mark never comes back to a value it had, so that this is the gate it speaks of.
                let open = gate.as_ref().filter(|gate| gate.is_open());
                return open.map_or(CommitTs(mark & !AT_GATE), |gate| gate.commit());
            }
            mark = now;
        }
        CommitTs(mark)
    }

    /// Called by the shard alone: its next commit is visible once `gate` is open.
    pub fn stand_at(&self, gate: &Arc<Gate>) {
        self.gate.store(Some(Arc::clone(gate)));
        self.visible.fetch_or(AT_GATE, Ordering::SeqCst);
    }

    /// Whether a view at `at` may be read now.
    pub fn is_settled(&self, at: CommitTs) -> bool {
        self.poisoned.get().is_some() || self.in_flight.is_settled(at)
    }

    /// Called by the shard alone.
    pub fn publish(&self, state: Arc<ReadState>) {
        self.state.store(state);
    }

    /// Called by the shard alone, with ever larger numbers.
    pub fn set_visible(&self, at: CommitTs) {
        let before = self.visible.swap(at.0, Ordering::SeqCst);
        if before & AT_GATE != 0 {
            self.gate.store(None);
        }
    }

    /// Keep the first cause; later ones are its consequences.
    pub fn poison(&self, cause: Arc<Poisoned>) {
        let _ = self.poisoned.set(cause);
    }

    pub fn poisoned(&self) -> Option<Error> {
        self.poisoned.get().map(|p| Error::Poisoned(Arc::clone(p)))
    }
}
