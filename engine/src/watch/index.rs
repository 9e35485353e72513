//! Which watches a change concerns: exact keys by hash, prefixes by hash for each length that any of them has.

use std::collections::{BTreeMap, HashMap};

use super::WatchKeys;
use crate::ids::Keyspace;

type Ids = Vec<u64>;

#[derive(Default)]
struct Keys {
    one: HashMap<Box<[u8]>, Ids>,
    prefixes: BTreeMap<usize, HashMap<Box<[u8]>, Ids>>,
}

#[derive(Default)]
pub struct Index {
    keyspaces: BTreeMap<Keyspace, Keys>,
}

impl Index {
    pub fn add(&mut self, keyspace: Keyspace, keys: &WatchKeys, id: u64) {
        let of = self.keyspaces.entry(keyspace).or_default();
        let ids = match keys {
            WatchKeys::One(key) => of.one.entry(key.as_slice().into()).or_default(),
            WatchKeys::Prefix(prefix) => {
                of.prefixes.entry(prefix.len()).or_default().entry(prefix.as_slice().into()).or_default()
            }
        };
        ids.push(id);
    }

    pub fn remove(&mut self, keyspace: Keyspace, keys: &WatchKeys, id: u64) {
        let Some(of) = self.keyspaces.get_mut(&keyspace) else { return };
        match keys {
            WatchKeys::One(key) => forget(&mut of.one, key, id),
            WatchKeys::Prefix(prefix) => {
                if let Some(same_length) = of.prefixes.get_mut(&prefix.len()) {
                    forget(same_length, prefix, id);
                    if same_length.is_empty() {
                        of.prefixes.remove(&prefix.len());
                    }
                }
            }
        }
        if of.one.is_empty() && of.prefixes.is_empty() {
            self.keyspaces.remove(&keyspace);
        }
    }

    /// Call `each` with every watch of this key.
    pub fn each(&self, keyspace: Keyspace, key: &[u8], mut each: impl FnMut(u64)) {
        let Some(of) = self.keyspaces.get(&keyspace) else { return };
        of.one.get(key).into_iter().flatten().for_each(|id| each(*id));
        for (len, prefixes) in of.prefixes.range(..=key.len()) {
            prefixes.get(&key[..*len]).into_iter().flatten().for_each(|id| each(*id));
        }
    }
}

fn forget(ids: &mut HashMap<Box<[u8]>, Ids>, key: &[u8], id: u64) {
    if let Some(of_key) = ids.get_mut(key) {
        of_key.retain(|other| *other != id);
        if of_key.is_empty() {
            ids.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_watch_of_a_key_is_found_once_until_it_leaves() {
        let watches: [(u16, WatchKeys); 7] = [
            (0, WatchKeys::One(b"ab".to_vec())),
            (0, WatchKeys::One(b"".to_vec())),
            (0, WatchKeys::Prefix(b"".to_vec())),
            (0, WatchKeys::Prefix(b"a".to_vec())),
            (0, WatchKeys::Prefix(b"ab".to_vec())),
            (0, WatchKeys::Prefix(b"ab".to_vec())),
            (1, WatchKeys::Prefix(b"".to_vec())),
        ];
        let mut index = Index::default();
        let found = |index: &Index, keyspace: u16, key: &[u8]| {
            let mut ids = Vec::new();
            index.each(Keyspace(keyspace), key, |id| ids.push(id));
            ids.sort_unstable();
            ids
        };
        for (id, (keyspace, keys)) in watches.iter().enumerate() {
            index.add(Keyspace(*keyspace), keys, id as u64);
        }
        assert_eq!(found(&index, 0, b"ab"), [0, 2, 3, 4, 5]);
        assert_eq!(found(&index, 0, b""), [1, 2]);
        assert_eq!(found(&index, 0, b"abc"), [2, 3, 4, 5]);
        assert_eq!(found(&index, 1, b"x"), [6]);
        for (id, (keyspace, keys)) in watches.iter().enumerate() {
            index.remove(Keyspace(*keyspace), keys, id as u64);
            assert!(!found(&index, *keyspace, b"ab").contains(&(id as u64)));
        }
        assert!(index.keyspaces.is_empty());
    }
}
