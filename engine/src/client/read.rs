//! Reads, in the caller's thread.

use super::{Client, Snapshot};
use crate::error::Result;
use crate::ids::Keyspace;
use crate::table::Lookup;
use crate::value::{Value, ValueRef};

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
    pub fn get_with<T>(&self, keyspace: Keyspace, key: &[u8], f: impl FnOnce(Option<ValueRef<'_>>) -> T) -> Result<T> {
        self.check_open()?;
        let (state, at) = self.handle_of(key).view.latest();
        let found = state.get(keyspace, key, at)?;
        Ok(f(live(found, || self.shared.clock.wall_ms())))
    }

    /// Several values, each as [`Client::get`] gives it; not one view of all (a [`Snapshot`] is).
    pub fn multi_get(&self, keyspace: Keyspace, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        keys.iter().map(|key| self.get(keyspace, key)).collect()
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
