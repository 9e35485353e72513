//! A version as a cursor has found it: decoded once, when the cursor moves there, and read many times.
//!
//! Guards: keys are compared by their first bytes, as one number, before anything else of them is touched. The bytes belong to
//! memory that the cursor keeps; they are lent for no longer than the place is borrowed.

#![allow(unsafe_code)]

use std::cmp::Ordering;
use std::ptr::NonNull;

use crate::format::block::{EntryRef, Op};
use crate::ids::{CommitTs, Expiry, Keyspace, Kind};
use crate::value::ValueRef;

/// Bytes that stay where they are, unchanged, as long as their keeper does.
#[derive(Clone, Copy)]
pub struct Kept(NonNull<[u8]>);

// SAFETY: the bytes are only read, and whoever made it keeps them.
unsafe impl Send for Kept {}
// SAFETY: as above.
unsafe impl Sync for Kept {}

impl Kept {
    /// # Safety
    /// Whoever has it, or a copy, keeps the bytes in their place and unchanged for as long as it is used.
    pub unsafe fn new(bytes: &[u8]) -> Kept {
        Kept(NonNull::from(bytes))
    }

    #[inline]
    pub fn get(&self) -> &[u8] {
        // SAFETY: the promise given to `new`.
        unsafe { self.0.as_ref() }
    }
}

/// See the module. It cannot be copied, so that it stays with the cursor that made it.
pub struct Place {
    /// The key's first sixteen bytes, zeros behind its end: of two that differ the lower one's key comes first.
    prefix: u128,
    key: Kept,
    value: Kept,
    pub ts: CommitTs,
    pub expiry: Expiry,
    pub keyspace: Keyspace,
    pub kind: Kind,
    pub deleted: bool,
}

impl Place {
    /// # Safety
    /// As for [`Kept::new`], with the entry's key and value.
    #[inline]
    pub unsafe fn new(entry: &EntryRef<'_>) -> Place {
        let (kind, expiry, value, deleted) = match entry.op {
            Op::Put { kind, expiry, value } => (kind, expiry, value, false),
            Op::Delete => (Kind(0), Expiry::NEVER, &[][..], true),
        };
        // SAFETY: the caller's promise.
        let (key, value) = unsafe { (Kept::new(entry.key), Kept::new(value)) };
        let prefix = prefix_of(entry.key);
        Place { prefix, key, value, ts: entry.ts, expiry, keyspace: entry.keyspace, kind, deleted }
    }

    #[inline]
    pub fn key(&self) -> &[u8] {
        self.key.get()
    }

    /// Empty for a delete.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.value.get()
    }

    pub fn entry(&self) -> EntryRef<'_> {
        let op = match self.deleted {
            true => Op::Delete,
            false => Op::Put { kind: self.kind, expiry: self.expiry, value: self.value() },
        };
        EntryRef { keyspace: self.keyspace, key: self.key(), ts: self.ts, op }
    }

    /// Key and value of what is no delete.
    #[inline]
    pub fn row(&self) -> (&[u8], ValueRef<'_>) {
        debug_assert!(!self.deleted);
        (self.key(), ValueRef { bytes: self.value(), kind: self.kind, expiry: self.expiry, version: self.ts })
    }

    /// The order of their keys.
    #[inline]
    pub fn cmp_key(&self, other: &Place) -> Ordering {
        if self.keyspace == other.keyspace && self.prefix != other.prefix {
            return if self.prefix < other.prefix { Ordering::Less } else { Ordering::Greater };
        }
        (self.keyspace, self.key()).cmp(&(other.keyspace, other.key()))
    }

    #[inline]
    pub fn is_same_key(&self, other: &Place) -> bool {
        self.prefix == other.prefix && self.keyspace == other.keyspace && self.key() == other.key()
    }
}

/// The first sixteen bytes as a number.
#[inline]
fn prefix_of(key: &[u8]) -> u128 {
    match key.first_chunk::<16>() {
        Some(first) => u128::from_be_bytes(*first),
        None => prefix_of_short(key),
    }
}

fn prefix_of_short(key: &[u8]) -> u128 {
    let mut first = [0; 16];
    first[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let few = prop::collection::vec(0..2_u8, 0..20);
        let long = (14..18_usize, prop::collection::vec(0..2_u8, 0..3))
            .prop_map(|(len, end)| [&vec![0; len], &end[..]].concat());
        prop_oneof![few, long, prop::collection::vec(any::<u8>(), 0..24)]
    }

    proptest! {
        #[test]
        fn places_are_in_the_order_of_their_keys(a in key(), b in key(), keyspaces in (0..2_u16, 0..2_u16)) {
            let entry = |keyspace, key| EntryRef { keyspace: Keyspace(keyspace), key, ts: CommitTs(1), op: Op::Delete };
            let (left, right) = (entry(keyspaces.0, &a), entry(keyspaces.1, &b));
            // SAFETY: both keys outlive their places.
            let (x, y) = unsafe { (Place::new(&left), Place::new(&right)) };
            prop_assert_eq!(x.cmp_key(&y), (keyspaces.0, &a).cmp(&(keyspaces.1, &b)));
            prop_assert_eq!(x.is_same_key(&y), (keyspaces.0, &a) == (keyspaces.1, &b));
            prop_assert_eq!((x.entry(), y.entry()), (left, right));
        }
    }
}
