//! Inserts many versions into a memtable: the memory that each will touch is asked for while those before it go in.
//!
//! Guards: versions go in in the order in which they were given, all of them by [`Inserts::finish`].

use super::memtable::MemWriter;
use super::node::NewVersion;
use crate::ids::Keyspace;

/// How many versions wait. A miss takes as long as about ten insertions that hit.
const WAITING: usize = 16;
/// The slot of the index was asked for at the start; the node it points at is asked for half-way.
const HALF_WAY: usize = WAITING / 2;

#[derive(Clone, Copy)]
struct Waiting<'a> {
    hash: u64,
    keyspace: Keyspace,
    key: &'a [u8],
    version: NewVersion<'a>,
}

/// Versions on their way into a memtable.
pub struct Inserts<'w, 'a> {
    writer: &'w mut MemWriter,
    waiting: [Option<Waiting<'a>>; WAITING],
    /// Given so far; the next one takes this place, modulo the length.
    given: usize,
}

impl<'w, 'a> Inserts<'w, 'a> {
    pub fn new(writer: &'w mut MemWriter) -> Inserts<'w, 'a> {
        Inserts { writer, waiting: [None; WAITING], given: 0 }
    }

    pub fn push(&mut self, keyspace: Keyspace, key: &'a [u8], version: NewVersion<'a>) {
        let hash = self.writer.prefetch_slot(keyspace, key);
        let next = Waiting { hash, keyspace, key, version };
        if let Some(first) = self.waiting[self.given % WAITING].replace(next) {
            self.insert(first);
        }
        if let Some(half_way) = &self.waiting[(self.given + HALF_WAY) % WAITING] {
            self.writer.prefetch_node(half_way.hash);
        }
        self.given += 1;
    }

    fn insert(&mut self, waiting: Waiting<'a>) {
        self.writer.insert_hashed(waiting.hash, waiting.keyspace, waiting.key, waiting.version);
    }

    /// Insert what still waits.
    pub fn finish(mut self) {
        for at in 0..WAITING {
            if let Some(waiting) = self.waiting[(self.given + at) % WAITING].take() {
                self.insert(waiting);
            }
        }
    }
}

/// Insert them all, in order. A single one goes straight in.
pub fn insert_all<'a>(writer: &mut MemWriter, mut all: impl Iterator<Item = (Keyspace, &'a [u8], NewVersion<'a>)>) {
    let Some((keyspace, key, version)) = all.next() else { return };
    let Some(second) = all.next() else { return writer.insert(keyspace, key, version) };
    let mut inserts = Inserts::new(writer);
    inserts.push(keyspace, key, version);
    for (keyspace, key, version) in std::iter::once(second).chain(all) {
        inserts.push(keyspace, key, version);
    }
    inserts.finish();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::block::Op;
    use crate::ids::{CommitTs, Expiry, Kind};
    use crate::table::Order;
    use proptest::prelude::*;

    proptest! {
        /// Few keys, so that several versions of one key wait at once.
        #[test]
        fn many_together_leave_what_one_by_one_leaves(
            keys in prop::collection::vec(0u8..20, 0..100),
            cut in 0usize..100,
        ) {
            let values: Vec<[u8; 2]> = (0u16..100).map(u16::to_le_bytes).collect();
            let versions: Vec<_> = keys
                .iter()
                .enumerate()
                .map(|(at, key)| {
                    let op = match key % 5 {
                        0 => Op::Delete,
                        _ => Op::Put { kind: Kind::BYTES, expiry: Expiry::NEVER, value: &values[at] },
                    };
                    let keyspace = Keyspace(u16::from(key % 2));
                    (keyspace, std::slice::from_ref(key), NewVersion { ts: CommitTs(1 + at as u64 / 3), op })
                })
                .collect();
            let mut together = MemWriter::new(Order::Deferred, 7);
            let (first, second) = versions.split_at(cut.min(versions.len()));
            insert_all(&mut together, first.iter().copied());
            insert_all(&mut together, second.iter().copied());
            let mut single = MemWriter::new(Order::Deferred, 7);
            for (keyspace, key, version) in &versions {
                single.insert(*keyspace, key, *version);
            }
            let (together, single) = (together.seal(), single.seal());
            prop_assert_eq!(together.len(), single.len());
            prop_assert_eq!(together.keys(), single.keys());
            for (keyspace, key, _) in &versions {
                for ts in 0..40 {
                    let found = |table: &crate::table::Memtable| format!("{:?}", table.get(*keyspace, key, CommitTs(ts)));
                    prop_assert_eq!(found(&together), found(&single));
                }
            }
        }
    }
}
