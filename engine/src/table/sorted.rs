//! The key order of a sealed memtable that kept none while it was written.
//!
//! Guards: it is sorted once, whoever comes first, and then never changes. The shard's own thread sorts in small steps
//! between which it serves others; any other thread sorts at one go.

#![allow(unsafe_code)]

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock};

use super::fence::{alike, fence};
use super::hash_index::prefetch;
use super::memtable::Memtable;
use super::node::Node;
use crate::ids::Keyspace;

/// Keys sorted, or merged, in one step: a few hundred microseconds.
pub const STEP: usize = 4096;
/// One in so many keys is sampled: the others between two are touched at once, and cost one miss together.
const SAMPLED: usize = 16;
/// How many keys ahead memory is asked for while their beginnings are read.
const AHEAD: usize = 16;

/// Sorted once, on demand.
#[derive(Default)]
pub struct SortedKeys {
    keys: OnceLock<Keys>,
    /// Held by a thread that sorts at one go, so that others wait for it rather than do the same.
    sorting: Mutex<()>,
}

struct Keys {
    nodes: Vec<NonNull<u8>>,
    /// The beginning of every [`SAMPLED`]th key, the first among them: a search touches these, which lie together, and few
    /// nodes.
    samples: Vec<u128>,
}

// SAFETY: nodes of the memtable that owns this; they are shared freely (`node.rs`).
unsafe impl Send for Keys {}
// SAFETY: as above.
unsafe impl Sync for Keys {}

/// A view of a memtable's keys in order.
#[derive(Clone, Copy)]
pub struct Sorted<'a> {
    keys: &'a Keys,
}

/// The view of one who keeps the memtable by other means than a borrow.
pub struct KeptKeys(NonNull<Keys>);

impl KeptKeys {
    /// # Safety
    /// Whoever has it keeps the memtable for as long as it is used.
    pub unsafe fn new(sorted: Sorted<'_>) -> KeptKeys {
        KeptKeys(NonNull::from(sorted.keys))
    }

    #[inline]
    pub fn get(&self) -> Sorted<'_> {
        // SAFETY: the promise given to `new`; once published, keys stay in their place and never change.
        Sorted { keys: unsafe { self.0.as_ref() } }
    }
}

impl Memtable {
    /// The keys in order; sorts them now if nobody has. Only of a sealed memtable without an order of its own.
    pub(super) fn sorted_keys(&self) -> Sorted<'_> {
        let keys = match self.sorted.keys.get() {
            Some(keys) => keys,
            None => {
                let _one = self.sorted.sorting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if self.sorted.keys.get().is_none() {
                    Sorter::new(self).at_one_go().publish();
                }
                self.sorted.keys.get().expect("published")
            }
        };
        Sorted { keys }
    }

    /// A sorter, where an ordered read would have to sort first.
    pub fn sorter(&self) -> Option<Sorter<'_>> {
        (self.skiplist().is_none() && self.sorted.keys.get().is_none()).then(|| Sorter::new(self))
    }
}

impl<'a> Sorted<'a> {
    #[inline]
    pub fn get(self, at: usize) -> Option<Node<'a>> {
        // SAFETY: a node of the memtable that `self` borrows; publication through the `OnceLock` ordered the loads.
        self.keys.nodes.get(at).map(|node| unsafe { Node::from_ptr(*node) })
    }

    /// The place of the first key not before this one.
    pub fn seek(self, keyspace: Keyspace, key: &[u8]) -> usize {
        let Keys { nodes, samples } = self.keys;
        let same = alike(samples, fence(keyspace, key, 0));
        // All before the last sample that is lower come before the key, all from the first that is higher on behind it.
        let start = same.start.saturating_sub(1) * SAMPLED;
        let end = (same.end * SAMPLED).min(nodes.len());
        let among = &nodes[start..end];
        // SAFETY: as in `get`.
        let node_of = |node: &NonNull<u8>| -> Node<'a> { unsafe { Node::from_ptr(*node) } };
        if among.len() <= SAMPLED {
            among.iter().for_each(|node| prefetch(node.as_ptr()));
        }
        start + among.partition_point(|node| node_of(node).full_key() < (keyspace, key))
    }
}

/// A key with its beginning beside it, so that most comparisons touch no other memory.
#[derive(Clone, Copy)]
struct Item<'a> {
    prefix: u128,
    node: Node<'a>,
}

impl<'a> Item<'a> {
    fn of(node: Node<'a>) -> Item<'a> {
        Item { prefix: fence(node.keyspace(), node.key(), 0), node }
    }
}

impl Ord for Item<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.prefix.cmp(&other.prefix).then_with(|| self.node.key().cmp(other.node.key()))
    }
}

impl PartialOrd for Item<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item<'_> {}

/// The keys' beginnings, while the memory of those further on is asked for: they lie in no order.
fn items(nodes: Vec<Node<'_>>) -> Vec<Item<'_>> {
    let item = |(at, node): (usize, &_)| {
        if let Some(ahead) = nodes.get(at + AHEAD) {
            prefetch(Node::as_ptr(*ahead).as_ptr());
        }
        Item::of(*node)
    };
    nodes.iter().enumerate().map(item).collect()
}

fn push(out: &mut Vec<NonNull<u8>>, samples: &mut Vec<u128>, item: Item<'_>) {
    if out.len().is_multiple_of(SAMPLED) {
        samples.push(item.prefix);
    }
    out.push(item.node.as_ptr());
}

/// Sorts a sealed memtable's keys in steps: pieces of [`STEP`] keys each, then all pieces into one.
pub struct Sorter<'a> {
    table: &'a Memtable,
    unsorted: Box<dyn Iterator<Item = Node<'a>> + 'a>,
    pieces: Vec<Vec<Item<'a>>>,
    merging: Option<BinaryHeap<Reverse<(Item<'a>, usize)>>>,
    /// How many of each piece have been merged or wait in the heap.
    taken: Vec<usize>,
    out: Vec<NonNull<u8>>,
    samples: Vec<u128>,
}

impl<'a> Sorter<'a> {
    fn new(table: &'a Memtable) -> Sorter<'a> {
        Sorter {
            table,
            unsorted: Box::new(table.nodes()),
            pieces: Vec::new(),
            merging: None,
            taken: Vec::new(),
            out: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// All that has not been sorted yet is sorted now, which takes less time in all than steps do. For one that has done no step.
    fn at_one_go(mut self) -> Sorter<'a> {
        let mut all = items(self.unsorted.by_ref().collect());
        all.sort_unstable();
        self.out.reserve_exact(all.len());
        all.iter().for_each(|item| push(&mut self.out, &mut self.samples, *item));
        self
    }

    /// Does one step; true when all is sorted.
    pub fn step(&mut self) -> bool {
        let Some(heap) = &mut self.merging else {
            let mut piece = items(self.unsorted.by_ref().take(STEP).collect());
            if piece.is_empty() {
                self.taken = vec![1; self.pieces.len()];
                self.merging = Some(self.pieces.iter().enumerate().map(|(i, piece)| Reverse((piece[0], i))).collect());
                self.out.reserve_exact(self.table.keys() as usize);
            } else {
                piece.sort_unstable();
                self.pieces.push(piece);
            }
            return false;
        };
        for _ in 0..STEP {
            let Some(mut top) = heap.peek_mut() else { return true };
            let Reverse((item, piece)) = *top;
            push(&mut self.out, &mut self.samples, item);
            match self.pieces[piece].get(self.taken[piece]) {
                Some(next) => {
                    self.taken[piece] += 1;
                    *top = Reverse((*next, piece));
                }
                None => drop(std::collections::binary_heap::PeekMut::pop(top)),
            }
        }
        false
    }

    /// Gives the order to all readers, once every step is done.
    pub fn publish(self) {
        assert_eq!(self.out.len() as u64, self.table.keys(), "every key is sorted");
        // Another thread may have been faster; its order is the same.
        let _ = self.table.sorted.keys.set(Keys { nodes: self.out, samples: self.samples });
    }
}
