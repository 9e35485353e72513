//! A place in a memtable's key order, at one version of one key.
//!
//! Guards: a cursor owns its memtable, so that it is `Send` and outlives the call that made it.

#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use super::memtable::Memtable;
use super::node::{Node, Version};
use crate::error::{Error, Result};
use crate::format::block::EntryRef;
use crate::ids::{CommitTs, Keyspace};

/// How many keys ahead a sorted order is prefetched.
const AHEAD: usize = 8;

/// See the module.
pub struct MemCursor {
    table: Arc<Memtable>,
    /// Place in the sorted keys, for `Order::Deferred`.
    place: usize,
    at: Option<(NonNull<u8>, NonNull<u8>)>,
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
        Ok(MemCursor { table, place: 0, at: None })
    }

    fn node(&self) -> Option<Node<'_>> {
        // SAFETY: a node of `table` (see `set`), which outlives the borrow of `self`.
        self.at.map(|(node, _)| unsafe { Node::from_ptr(node) })
    }

    fn version(&self) -> Option<Version<'_>> {
        // SAFETY: as in `node`.
        self.at.map(|(_, version)| unsafe { Version::from_ptr(version) })
    }

    /// The version the cursor is at.
    pub fn entry(&self) -> Option<EntryRef<'_>> {
        let (node, version) = (self.node()?, self.version()?);
        Some(EntryRef { keyspace: node.keyspace(), key: node.key(), ts: version.ts(), op: version.op() })
    }

    /// The version's commit, and whether it is a delete.
    pub fn commit(&self) -> Option<(CommitTs, bool)> {
        self.version().map(|version| (version.ts(), version.is_delete()))
    }

    pub fn key(&self) -> Option<(Keyspace, &[u8])> {
        self.node().map(Node::full_key)
    }

    /// To the newest version of the first key not before this one.
    pub fn seek(&mut self, keyspace: Keyspace, key: &[u8]) {
        let table = Arc::clone(&self.table);
        match table.skiplist() {
            Some(list) => self.set(list.seek(keyspace, key)),
            None => self.set_place(&table, table.sorted_keys().seek(keyspace, key)),
        }
    }

    /// To the newest version of the last key before this one.
    pub fn seek_before(&mut self, keyspace: Keyspace, key: &[u8]) {
        let table = Arc::clone(&self.table);
        match table.skiplist() {
            Some(list) => self.set(list.seek_before(keyspace, key)),
            // Below the first place is none.
            None => self.set_place(&table, table.sorted_keys().seek(keyspace, key).wrapping_sub(1)),
        }
    }

    /// To the newest version of the next key.
    pub fn next_key(&mut self) {
        let Some(node) = self.node() else { return };
        let table = &*self.table;
        if table.skiplist().is_some() {
            let next = node.next(0).map(pointers);
            self.at = next.flatten();
            return;
        }
        let sorted = table.sorted_keys();
        if let Some(ahead) = sorted.get(self.place + AHEAD) {
            ahead.prefetch();
        }
        let next = sorted.get(self.place + 1).and_then(pointers);
        self.at = next;
        self.place += 1;
    }

    /// To the newest version of the previous key.
    pub fn prev_key(&mut self) {
        let Some((node, _)) = self.at else { return };
        let table = Arc::clone(&self.table);
        match table.skiplist() {
            Some(list) => {
                // SAFETY: a node of `table`, kept by the clone.
                let node: Node<'_> = unsafe { Node::from_ptr(node) };
                self.set(list.seek_before(node.keyspace(), node.key()));
            }
            None => {
                if let Some(ahead) = self.place.checked_sub(AHEAD).and_then(|at| table.sorted_keys().get(at)) {
                    ahead.prefetch();
                }
                self.set_place(&table, self.place.wrapping_sub(1));
            }
        }
    }

    /// To the next older version of the same key; false, and nowhere else, if there is none.
    pub fn older(&mut self) -> bool {
        let older = self.version().and_then(Version::older).map(Version::as_ptr);
        match (older, &mut self.at) {
            (Some(older), Some((_, version))) => {
                *version = older;
                true
            }
            _ => false,
        }
    }

    fn set(&mut self, node: Option<Node<'_>>) {
        self.at = node.and_then(pointers);
    }

    fn set_place(&mut self, table: &Memtable, place: usize) {
        self.place = place;
        self.set(table.sorted_keys().get(place));
    }
}

fn pointers(node: Node<'_>) -> Option<(NonNull<u8>, NonNull<u8>)> {
    Some((node.as_ptr(), node.newest()?.as_ptr()))
}
