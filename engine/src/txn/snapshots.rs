//! Which views are in use, so that a checkpoint or a merge keeps the versions they need.
//!
//! Guards: a version that a registered view may read is there as long as the view is registered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::timestamps::Timestamps;
use crate::ids::{CommitTs, ShardId};

/// Up to which commit a view sees each shard.
#[derive(Clone, Debug)]
enum Marks {
    /// The same on all.
    One(CommitTs),
    /// What was visible on each of them at one moment.
    Each(Arc<[CommitTs]>),
}

#[derive(Default)]
struct InUse {
    /// How many views see every shard up to this number.
    one: BTreeMap<CommitTs, u64>,
    each: HashMap<u64, Arc<[CommitTs]>>,
    next: u64,
}

/// All views of one engine.
pub struct Snapshots {
    timestamps: Arc<Timestamps>,
    in_use: Mutex<InUse>,
}

/// A view in use; dropping it lets old versions go.
pub struct Registered {
    marks: Marks,
    /// Its place among the views with marks of their own.
    place: u64,
    registry: Arc<Snapshots>,
}

impl Snapshots {
    pub fn new(timestamps: Arc<Timestamps>) -> Snapshots {
        Snapshots { timestamps, in_use: Mutex::new(InUse::default()) }
    }

    /// Register a view of everything committed so far.
    pub fn register(self: &Arc<Self>) -> Registered {
        let mut in_use = self.in_use.lock();
        // Drawn under the lock: whoever lists the views later sees this one, whoever listed before kept up to this number.
        let at = self.timestamps.last();
        *in_use.one.entry(at).or_insert(0) += 1;
        Registered { marks: Marks::One(at), place: 0, registry: Arc::clone(self) }
    }

    /// Register a view of what is visible now. `marks` reads it off, of all shards at one moment, if it can.
    pub fn register_visible(self: &Arc<Self>, marks: impl FnOnce() -> Option<Arc<[CommitTs]>>) -> Option<Registered> {
        let mut in_use = self.in_use.lock();
        // Under the lock, for the same reason.
        let marks = marks()?;
        Some(self.register_each(&mut in_use, marks))
    }

    fn register_each(self: &Arc<Self>, in_use: &mut InUse, marks: Arc<[CommitTs]>) -> Registered {
        let place = in_use.next;
        in_use.next += 1;
        in_use.each.insert(place, Arc::clone(&marks));
        Registered { marks: Marks::Each(marks), place, registry: Arc::clone(self) }
    }

    /// Register once more what `held` keeps.
    pub fn register_at(self: &Arc<Self>, held: &Registered) -> Registered {
        match &held.marks {
            Marks::One(at) => {
                *self.in_use.lock().one.entry(*at).or_insert(0) += 1;
                Registered { marks: Marks::One(*at), place: 0, registry: Arc::clone(self) }
            }
            Marks::Each(marks) => self.register_each(&mut self.in_use.lock(), Arc::clone(marks)),
        }
    }

    /// The views in use of a shard, ascending. A view registered after this call is at or above every commit that is visible there
    /// now.
    pub fn list(&self, shard: ShardId) -> Vec<CommitTs> {
        let in_use = self.in_use.lock();
        let mut all: Vec<CommitTs> = in_use.one.keys().copied().collect();
        all.extend(in_use.each.values().map(|marks| marks[shard.index()]));
        all.sort_unstable();
        all.dedup();
        all
    }

    pub fn count(&self) -> u64 {
        let in_use = self.in_use.lock();
        in_use.one.values().sum::<u64>() + in_use.each.len() as u64
    }
}

impl Registered {
    /// Up to which commit the view sees `shard`.
    pub fn at(&self, shard: ShardId) -> CommitTs {
        match &self.marks {
            Marks::One(at) => *at,
            Marks::Each(marks) => marks[shard.index()],
        }
    }

    /// The highest commit that it may see.
    pub fn newest(&self) -> CommitTs {
        match &self.marks {
            Marks::One(at) => *at,
            Marks::Each(marks) => marks.iter().copied().max().unwrap_or_default(),
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut in_use = self.registry.in_use.lock();
        match &self.marks {
            Marks::One(at) => {
                if let Some(count) = in_use.one.get_mut(at) {
                    *count -= 1;
                    if *count == 0 {
                        in_use.one.remove(at);
                    }
                }
            }
            Marks::Each(_) => {
                in_use.each.remove(&self.place);
            }
        }
    }
}
