//! Reads, in the caller's thread.

use std::sync::Arc;

use arc_swap::Guard;

use super::{Client, Snapshot};
use crate::error::Result;
use crate::ids::{CommitTs, Keyspace, ShardId};
use crate::table::Lookup;
use crate::table::read_state::ReadState;
use crate::value::{Value, ValueRef};

/// Keys of one call whose misses overlap: about as many as a processor keeps under way.
const TOGETHER: usize = 16;

/// What a reader may see of what was looked up.
fn live(found: Lookup<'_>, now_ms: impl FnOnce() -> u64) -> Option<ValueRef<'_>> {
    match found {
        // The clock is read only for values that can expire.
        Lookup::Found(value) if value.expiry.is_never() || !value.expiry.is_past(now_ms()) => Some(value),
        Lookup::Found(_) | Lookup::Deleted { .. } | Lookup::Missing => None,
    }
}

impl Client {
    /// The value of `key`: every write acknowledged before is seen, and nothing that a crash could take back at its level.
    pub fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.get_with(keyspace, key, |value| value.map(ValueRef::to_value))
    }

    /// As [`Client::get`], with the value lent to `f` where it lies.
    #[inline]
    pub fn get_with<T>(&self, keyspace: Keyspace, key: &[u8], f: impl FnOnce(Option<ValueRef<'_>>) -> T) -> Result<T> {
        self.check_open()?;
        let (state, at) = self.handle_of(key).view.latest();
        let found = state.get(keyspace, key, at)?;
        Ok(f(live(found, || self.shared.clock.wall_ms())))
    }

    /// Several values, each as [`Client::get`] gives it; not one view of all (a [`Snapshot`] is).
    pub fn multi_get(&self, keyspace: Keyspace, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        let mut values = Vec::with_capacity(keys.len());
        self.multi_get_with(keyspace, keys, |value| values.push(value.map(ValueRef::to_value)))?;
        Ok(values)
    }

    /// As [`Client::multi_get`], with each value lent to `f` where it lies, in the order of the keys. What memory has to bring for some of
    /// them it brings at the same time.
    pub fn multi_get_with(
        &self,
        keyspace: Keyspace,
        keys: &[&[u8]],
        mut f: impl FnMut(Option<ValueRef<'_>>),
    ) -> Result<()> {
        self.check_open()?;
        let mut views: Vec<(ShardId, Guard<Arc<ReadState>>, CommitTs)> = Vec::new();
        for keys in keys.chunks(TOGETHER) {
            views.clear();
            let mut view_of = [0; TOGETHER];
            for (key, place) in keys.iter().zip(&mut view_of) {
                let shard = self.shard_of(key);
                *place = views.iter().position(|(taken, ..)| *taken == shard).unwrap_or(views.len());
                if *place == views.len() {
                    let (state, at) = self.shared.shards[shard.index()].view.latest();
                    views.push((shard, state, at));
                }
            }
            if keys.len() > 1 {
                for (place, (_, state, _)) in views.iter().enumerate() {
                    let here = keys.iter().zip(&view_of).filter(move |(_, at)| **at == place);
                    state.prefetch(here.map(|(key, _)| (keyspace, *key)));
                }
            }
            for (key, place) in keys.iter().zip(view_of) {
                let (_, state, at) = &views[place];
                f(live(state.get(keyspace, key, *at)?, || self.shared.clock.wall_ms()));
            }
        }
        Ok(())
    }

    /// The value of `key` in a view.
    pub fn get_at(&self, snapshot: &Snapshot, keyspace: Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.check_open()?;
        let shard = &self.handle_of(key).view;
        let (state, at) = shard.at(snapshot.mark(shard.id));
        let found = state.get(keyspace, key, at)?;
        Ok(live(found, || self.shared.clock.wall_ms()).map(ValueRef::to_value))
    }
}
