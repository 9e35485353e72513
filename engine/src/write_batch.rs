//! Writes collected to take effect together.
//!
//! Guards: the order in which they were given. Keys and values lie one behind the other in one piece of memory, so that a batch of many
//! small writes costs few allocations.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::format::block::Op;
use crate::format::record::OpRef;
use crate::ids::{Expiry, Keyspace, Kind};

/// Where one write lies, and what it says beside its bytes.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of the key; the value comes right behind it.
    start: usize,
    key_len: usize,
    /// None for a delete.
    put: Option<Put>,
    keyspace: Keyspace,
}

#[derive(Clone, Copy, Debug)]
struct Put {
    value_len: usize,
    kind: Kind,
    expiry: Expiry,
}

/// Writes that take effect together or not at all. Later writes of one key win.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl WriteBatch {
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    pub fn put(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8]) -> &mut WriteBatch {
        self.put_full(keyspace, key, value, Kind::BYTES, Expiry::NEVER)
    }

    pub fn put_full(
        &mut self,
        keyspace: Keyspace,
        key: &[u8],
        value: &[u8],
        kind: Kind,
        expiry: Expiry,
    ) -> &mut WriteBatch {
        self.push(OpRef { keyspace, key, change: Op::Put { kind, expiry, value } })
    }

    pub fn delete(&mut self, keyspace: Keyspace, key: &[u8]) -> &mut WriteBatch {
        self.push(OpRef { keyspace, key, change: Op::Delete })
    }

    pub(crate) fn push(&mut self, op: OpRef<'_>) -> &mut WriteBatch {
        let OpRef { keyspace, key, change } = op;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let put = match change {
            Op::Put { kind, expiry, value } => {
                self.bytes.extend_from_slice(value);
                Some(Put { value_len: value.len(), kind, expiry })
            }
            Op::Delete => None,
        };
        self.places.push(Place { start, key_len: key.len(), put, keyspace });
        self
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Forgets the writes and keeps the memory, for use again.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// Bytes of all keys and values given.
    pub(crate) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn ops(&self) -> impl Iterator<Item = OpRef<'_>> + Clone {
        self.places.iter().map(|place| self.op(place))
    }

    fn key(&self, place: &Place) -> &[u8] {
        &self.bytes[place.start..place.start + place.key_len]
    }

    fn op(&self, place: &Place) -> OpRef<'_> {
        let change = match place.put {
            Some(Put { value_len, kind, expiry }) => {
                let start = place.start + place.key_len;
                Op::Put { kind, expiry, value: &self.bytes[start..start + value_len] }
            }
            None => Op::Delete,
        };
        OpRef { keyspace: place.keyspace, key: self.key(place), change }
    }

    /// Of several writes of one key only the last stays; the order of those that stay is kept. The seed, best one that nobody knows, keeps
    /// others from choosing keys that collide.
    pub(crate) fn keep_last_of_each_key(&mut self, seed: u64) {
        if self.places.len() < 2 {
            return;
        }
        let full_key = |at: usize| (self.places[at].keyspace, self.key(&self.places[at]));
        let hash = |at: usize| {
            let (keyspace, key) = full_key(at);
            xxh3_64_with_seed(key, seed.wrapping_add(u64::from(keyspace.0) << 32))
        };
        let mut last: HashTable<usize> = HashTable::with_capacity(self.places.len());
        let mut gone = Vec::new();
        for at in 0..self.places.len() {
            match last.entry(hash(at), |known| full_key(*known) == full_key(at), |known| hash(*known)) {
                Entry::Occupied(mut known) => gone.push(std::mem::replace(known.get_mut(), at)),
                Entry::Vacant(free) => {
                    free.insert(at);
                }
            }
        }
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        let (mut at, mut gone) = (0, gone.into_iter().peekable());
        self.places.retain(|_| {
            at += 1;
            gone.next_if_eq(&(at - 1)).is_none()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_come_back_as_they_were_given() {
        let mut batch = WriteBatch::new();
        batch.put(Keyspace(3), b"", b"").delete(Keyspace(0), b"gone");
        batch.put_full(Keyspace(0), b"key", b"value", Kind(7), Expiry::at_ms(5));
        let op = |keyspace, key, change| OpRef { keyspace: Keyspace(keyspace), key, change };
        let expected = [
            op(3, b"", Op::Put { kind: Kind::BYTES, expiry: Expiry::NEVER, value: b"" }),
            op(0, b"gone", Op::Delete),
            op(0, b"key", Op::Put { kind: Kind(7), expiry: Expiry::at_ms(5), value: b"value" }),
        ];
        assert!(batch.ops().eq(expected));
        assert_eq!((batch.len(), batch.byte_len()), (3, 12));
        batch.clear();
        assert!(batch.is_empty() && batch.ops().next().is_none());
    }

    proptest! {
        #[test]
        fn the_last_write_of_each_key_stays(writes in prop::collection::vec((0u8..6, 0u16..2, any::<bool>()), 0..40)) {
            let values: Vec<[u8; 1]> = (0..writes.len() as u8).map(|at| [at]).collect();
            let mut batch = WriteBatch::new();
            let mut last = HashMap::new();
            for (at, (key, keyspace, delete)) in writes.iter().enumerate() {
                let (key, keyspace) = (std::slice::from_ref(key), Keyspace(*keyspace));
                match delete {
                    true => batch.delete(keyspace, key),
                    false => batch.put(keyspace, key, &values[at]),
                };
                last.insert((keyspace, key), at);
            }
            let whole = batch.clone();
            batch.keep_last_of_each_key(7);
            let expected = whole.ops().enumerate().filter(|(at, op)| last[&(op.keyspace, op.key)] == *at);
            prop_assert!(batch.ops().eq(expected.map(|(_, op)| op)));
        }
    }
}
