//! A place in a memtable's key order, at one version of one key.
//!
//! Guards: a cursor owns its memtable, so that it is `Send` and outlives the call that made it.

#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use super::memtable::Memtable;
use super::node::{Node, Version};
use super::place::Place;
use super::sorted::KeptKeys;
use crate::error::{Error, Result};
use crate::format::block::EntryRef;
use crate::ids::Keyspace;

/// How many keys ahead a sorted order is prefetched.
const AHEAD: usize = 12;

/// See the module.
pub struct MemCursor {
    table: Arc<Memtable>,
    /// The sorted keys, for `Order::Deferred`, once they were asked for, and the cursor's place among them.
    sorted: Option<KeptKeys>,
    index: usize,
    at: Option<At>,
}

/// A version, and what it says. The pointers are its node and itself.
struct At {
    node: NonNull<u8>,
    version: NonNull<u8>,
    place: Place,
}

// SAFETY: the pointers are a node and a version of `table`, which the cursor keeps alive; both are shared freely.
unsafe impl Send for MemCursor {}
// SAFETY: as above.
unsafe impl Sync for MemCursor {}

impl MemCursor {
    /// A cursor at no key. Refused for a memtable that keeps no order and is still written.
    pub fn new(table: Arc<Memtable>) -> Result<MemCursor> {
        if !table.is_ordered() {
            return Err(Error::invalid("an ordered read of a memtable that keeps no order: it must be sealed first"));
        }
        Ok(MemCursor { table, sorted: None, index: 0, at: None })
    }

    #[inline]
    pub fn place(&self) -> Option<&Place> {
        self.at.as_ref().map(|at| &at.place)
    }

    /// The version the cursor is at.
    pub fn entry(&self) -> Option<EntryRef<'_>> {
        self.place().map(Place::entry)
    }

    pub fn key(&self) -> Option<(Keyspace, &[u8])> {
        self.place().map(|place| (place.keyspace, place.key()))
    }

    /// To the newest version of the first key not before this one.
    pub fn seek(&mut self, keyspace: Keyspace, key: &[u8]) {
        if let Some(list) = self.table.skiplist() {
            self.at = list.seek(keyspace, key).and_then(newest);
            return;
        }
        let sorted = self.table.sorted_keys();
        let index = sorted.seek(keyspace, key);
        (index..index + AHEAD).map_while(|ahead| sorted.get(ahead)).for_each(Node::prefetch);
        self.set_index(index);
    }

    /// To the newest version of the last key before this one.
    pub fn seek_before(&mut self, keyspace: Keyspace, key: &[u8]) {
        if let Some(list) = self.table.skiplist() {
            self.at = list.seek_before(keyspace, key).and_then(newest);
            return;
        }
        let sorted = self.table.sorted_keys();
        let behind = sorted.seek(keyspace, key);
        (behind.saturating_sub(AHEAD)..behind).filter_map(|ahead| sorted.get(ahead)).for_each(Node::prefetch);
        // Below the first index is none.
        self.set_index(behind.wrapping_sub(1));
    }

    /// To the newest version of the next key.
    #[inline]
    pub fn next_key(&mut self) {
        let Some(at) = &self.at else { return };
        match &self.sorted {
            Some(sorted) => {
                let sorted = sorted.get();
                if let Some(ahead) = sorted.get(self.index + AHEAD) {
                    ahead.prefetch();
                }
                self.index += 1;
                self.at = sorted.get(self.index).and_then(newest);
            }
            None => {
                // SAFETY: a node of `table`, kept by the cursor.
                let node: Node<'_> = unsafe { Node::from_ptr(at.node) };
                let next = node.next(0);
                if let Some(next) = next {
                    // The links are all that is known of what comes: the next one, and on a higher level one further away.
                    (0..next.height().min(2)).filter_map(|level| next.next(level)).for_each(Node::prefetch);
                }
                self.at = next.and_then(newest);
            }
        }
    }

    /// To the newest version of the previous key.
    pub fn prev_key(&mut self) {
        let Some(at) = &self.at else { return };
        match &self.sorted {
            Some(sorted) => {
                let sorted = sorted.get();
                if let Some(ahead) = self.index.checked_sub(AHEAD).and_then(|ahead| sorted.get(ahead)) {
                    ahead.prefetch();
                }
                self.index = self.index.wrapping_sub(1);
                self.at = sorted.get(self.index).and_then(newest);
            }
            None => {
                // SAFETY: a node of `table`, kept by the cursor.
                let node: Node<'_> = unsafe { Node::from_ptr(at.node) };
                let list = self.table.skiplist();
                self.at = list.and_then(|list| list.seek_before(node.keyspace(), node.key())).and_then(newest);
            }
        }
    }

    /// To the next older version of the same key; false, and nowhere else, if there is none.
    pub fn older(&mut self) -> bool {
        let Some(at) = &mut self.at else { return false };
        // SAFETY: a node of `table` and a version of it, kept by the cursor.
        let (node, version): (Node<'_>, Version<'_>) =
            unsafe { (Node::from_ptr(at.node), Version::from_ptr(at.version)) };
        let Some(older) = version.older() else { return false };
        *at = found(node, older);
        true
    }

    fn set_index(&mut self, index: usize) {
        let sorted = self.table.sorted_keys();
        self.at = sorted.get(index).and_then(newest);
        self.index = index;
        // SAFETY: the keys of `table`, which the cursor keeps; once sorted they never change.
        self.sorted = Some(unsafe { KeptKeys::new(sorted) });
    }
}

#[inline]
fn newest(node: Node<'_>) -> Option<At> {
    Some(found(node, node.newest()?))
}

#[inline]
fn found(node: Node<'_>, version: Version<'_>) -> At {
    let entry = EntryRef { keyspace: node.keyspace(), key: node.key(), ts: version.ts(), op: version.op() };
    // SAFETY: both lie in the arena of the cursor's memtable, which it keeps, and never change.
    let place = unsafe { Place::new(&entry) };
    At { node: node.as_ptr(), version: version.as_ptr(), place }
}
