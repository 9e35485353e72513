//! Where a table's blocks lie and how their last keys begin, close together in memory.
//!
//! Guards: nothing; it narrows a search of the index to the few entries that begin alike, so that most searches need
//! not touch the index itself. 32 bytes for each block.

use std::ops::Range;

use crate::format::table_index::BlockPlace;
use crate::ids::Keyspace;

/// Bytes of a key in a fence, behind those that all keys of the table have in common.
pub(super) const KEPT: usize = 14;

/// See the module.
#[derive(Default)]
pub struct Fences {
    /// Bytes at the beginning that all keys of the table share.
    skip: usize,
    fences: Box<[u128]>,
    places: Box<[BlockPlace]>,
}

impl Fences {
    /// The fences of blocks at these places that end with these keys, of which the first is not before `first`.
    pub fn new(first: (Keyspace, &[u8]), blocks: &[(BlockPlace, (Keyspace, &[u8]))]) -> Fences {
        let last = blocks.last().map_or(first, |(_, last)| *last);
        let shared = first.1.iter().zip(last.1).take_while(|(a, b)| a == b).count();
        let skip = if first.0 == last.0 { shared } else { 0 };
        let fences = blocks.iter().map(|(_, (keyspace, key))| fence(*keyspace, key, skip)).collect();
        Fences { skip, fences, places: blocks.iter().map(|(place, _)| *place).collect() }
    }

    pub fn place(&self, block: usize) -> Option<BlockPlace> {
        self.places.get(block).copied()
    }

    /// Among which blocks (the end may be their number) the first lies that does not end before the key. The key is
    /// not before the table's first, nor behind its last.
    pub fn narrow(&self, keyspace: Keyspace, key: &[u8]) -> Range<usize> {
        let fence = fence(keyspace, key, self.skip);
        alike(&self.fences, fence)
    }
}

/// Where in a rising order the numbers equal to this one lie, or would lie. Most often there are none.
pub(super) fn alike(fences: &[u128], fence: u128) -> Range<usize> {
    let start = fences.partition_point(|at| *at < fence);
    let behind = &fences[start..];
    let count = match behind.first() {
        Some(first) if *first == fence => behind.partition_point(|at| *at == fence),
        _ => 0,
    };
    start..start + count
}

/// The keyspace and the beginning of what stands behind the key's first `skip` bytes, as a number, zeros behind its end: of two that
/// differ, both with the same bytes skipped, the lower one's key comes first.
pub(super) fn fence(keyspace: Keyspace, key: &[u8], skip: usize) -> u128 {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&keyspace.0.to_be_bytes());
    bytes[2..].copy_from_slice(&behind::<KEPT>(key, skip));
    u128::from_be_bytes(bytes)
}

/// What stands behind the key's first `skip` bytes, zeros behind its end.
#[inline]
pub(super) fn behind<const LEN: usize>(key: &[u8], skip: usize) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let rest = key.get(skip..).unwrap_or_default();
    let len = rest.len().min(LEN);
    bytes[..len].copy_from_slice(&rest[..len]);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_block_looked_for_is_never_outside(
            mut keys in prop::collection::btree_set((0..2_u16, prop::collection::vec(0..3_u8, 0..20)), 2..40),
            shared in prop::collection::vec(any::<u8>(), 0..20),
            probe in (0..2_u16, prop::collection::vec(0..3_u8, 0..20)),
        ) {
            keys.insert(probe.clone());
            let join = |(keyspace, key): &(u16, Vec<u8>)| (Keyspace(*keyspace), [&shared[..], key].concat());
            let keys: Vec<(Keyspace, Vec<u8>)> = keys.iter().map(join).collect();
            let probe = join(&probe);
            // Every key but the first ends a block.
            let place = |(keyspace, key)| (BlockPlace { at: 0, len: 1 }, (keyspace, key));
            let blocks: Vec<_> = keys[1..].iter().map(|(keyspace, key)| place((*keyspace, &key[..]))).collect();
            let fences = Fences::new((keys[0].0, &keys[0].1), &blocks);
            let right = keys[1..].partition_point(|key| *key < probe);
            let narrowed = fences.narrow(probe.0, &probe.1);
            prop_assert!(narrowed.start <= right && right <= narrowed.end, "{:?} {}", narrowed, right);
        }
    }
}
