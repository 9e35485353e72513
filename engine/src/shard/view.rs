//! What every thread may read of a shard, without a hop and without a lock.
//!
//! Guards: a reader sees only what is visible, which is what was (or may now be) acknowledged: durable at its level, and
//! everything before it in the shard's order.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};

use super::gate::Gate;
use super::mark::Mark;
use crate::canary::{Canary, planted};
use crate::error::{Error, Poisoned};
use crate::ids::{CommitTs, ShardId};
use crate::runtime::BACKGROUND_WEIGHT;
use crate::table::Order;
use crate::table::read_state::ReadState;
use crate::txn::timestamps::InFlight;

pub struct ShardView {
    pub id: ShardId,
    state: ArcSwap<ReadState>,
    visible: Mark<Gate>,
    pub in_flight: InFlight,
    poisoned: OnceLock<Arc<Poisoned>>,
    /// What the shard's background weighs on its core; see [`Executor::weigh_background`](crate::runtime::Executor::weigh_background).
    pub background_weight: Arc<AtomicU32>,
}

impl ShardView {
    pub fn new(id: ShardId, state: Arc<ReadState>, visible: CommitTs) -> ShardView {
        ShardView {
            id,
            state: ArcSwap::new(state),
            visible: Mark::new(visible),
            in_flight: InFlight::default(),
            poisoned: OnceLock::new(),
            background_weight: Arc::new(AtomicU32::new(BACKGROUND_WEIGHT)),
        }
    }

    /// The sources to read and the newest commit to see in them. The sources are taken first: versions that a checkpoint
    /// drops later are then still there.
    #[inline]
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

    #[inline]
    pub fn visible(&self) -> CommitTs {
        self.visible.get()
    }

    /// Called by the shard alone: its next commit is visible once `gate` is open.
    pub fn stand_at(&self, gate: &Arc<Gate>) {
        self.visible.stand_at(gate);
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
        self.visible.set(at);
    }

    /// Keep the first cause; later ones are its consequences.
    pub fn poison(&self, cause: Arc<Poisoned>) {
        let _ = self.poisoned.set(cause);
    }

    pub fn poisoned(&self) -> Option<Error> {
        self.poisoned.get().map(|p| Error::Poisoned(Arc::clone(p)))
    }
}
