//! Which views are in use, so that a checkpoint or a merge keeps the versions they need.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::timestamps::Timestamps;
use crate::ids::CommitTs;

/// All views of one engine.
pub struct Snapshots {
    timestamps: Arc<Timestamps>,
    in_use: Mutex<BTreeMap<CommitTs, u64>>,
}

/// A view in use; dropping it lets old versions go.
pub struct Registered {
    at: CommitTs,
    registry: Arc<Snapshots>,
}

impl Snapshots {
    pub fn new(timestamps: Arc<Timestamps>) -> Snapshots {
        Snapshots { timestamps, in_use: Mutex::new(BTreeMap::new()) }
    }

    /// Register a view of everything committed so far.
    pub fn register(self: &Arc<Self>) -> Registered {
        let mut in_use = self.in_use.lock();
        // Drawn under the lock: whoever lists the views later sees this one, whoever listed before kept up to this number.
        let at = self.timestamps.last();
        *in_use.entry(at).or_insert(0) += 1;
        Registered { at, registry: Arc::clone(self) }
    }

    /// Register once more what `held` keeps.
    pub fn register_at(self: &Arc<Self>, held: &Registered) -> Registered {
        *self.in_use.lock().entry(held.at).or_insert(0) += 1;
        Registered { at: held.at, registry: Arc::clone(self) }
    }

    /// The views in use, ascending. A view registered after this call is at or above every commit that is visible now.
    pub fn list(&self) -> Vec<CommitTs> {
        self.in_use.lock().keys().copied().collect()
    }

    pub fn count(&self) -> u64 {
        self.in_use.lock().values().sum()
    }
}

impl Registered {
    pub fn at(&self) -> CommitTs {
        self.at
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut in_use = self.registry.in_use.lock();
        if let Some(count) = in_use.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                in_use.remove(&self.at);
            }
        }
    }
}
