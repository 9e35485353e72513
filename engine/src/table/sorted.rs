//! The key order of a sealed memtable that kept none while it was written.
//!
//! Guards: it is sorted once, whoever comes first, and then never changes. The shard's own thread sorts in small steps
//! between which it serves others; any other thread sorts at one go.

#![allow(unsafe_code)]

use std::cmp::Ordering;
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock};

use super::fence::{KEPT as FENCED, alike, behind, fence};
use super::hash_index::prefetch;
use super::memtable::Memtable;
use super::node::Node;
use crate::ids::Keyspace;

/// Keys divided, or sorted, in one step: a few hundred microseconds.
const STEP: usize = 4096;
/// One in so many keys is sampled: the others between two are touched at once, and cost one miss together.
const SAMPLED: usize = 16;
/// Into so many buckets keys are divided at a time: what is searched and written to for it stays in the processor's cache.
const FANOUT: usize = if cfg!(test) { 4 } else { 256 };
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
    /// What stands behind the prefix.
    more: u64,
    node: Node<'a>,
}

const _: () = assert!(size_of::<Item<'_>>() == 32);

impl<'a> Item<'a> {
    fn of(node: Node<'a>) -> Item<'a> {
        let key = node.key();
        Item { prefix: fence(node.keyspace(), key, 0), more: u64::from_be_bytes(behind(key, FENCED)), node }
    }
}

impl Ord for Item<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let begin = self.prefix.cmp(&other.prefix).then(self.more.cmp(&other.more));
        begin.then_with(|| self.node.key().cmp(other.node.key()))
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

/// Keys being divided into buckets, each of which lies before the next. They come in no order (a memtable's index has none, nor have the buckets
/// that were filled from it), so that the first of them tell how all are spread.
struct Division<'a> {
    from: Undivided<'a>,
    /// The least key of each bucket but the first, and their prefixes.
    bounds: Vec<Item<'a>>,
    prefixes: Vec<u128>,
    /// Empty before the first step.
    buckets: Vec<Vec<Item<'a>>>,
    len: usize,
}

enum Undivided<'a> {
    Table(Box<dyn Iterator<Item = Node<'a>> + 'a>),
    Bucket(std::vec::IntoIter<Item<'a>>),
}

impl<'a> Division<'a> {
    fn of_table(table: &'a Memtable) -> Division<'a> {
        Division::new(Undivided::Table(Box::new(table.nodes())), table.keys() as usize)
    }

    fn of_bucket(bucket: Vec<Item<'a>>) -> Division<'a> {
        let len = bucket.len();
        Division::new(Undivided::Bucket(bucket.into_iter()), len)
    }

    fn new(from: Undivided<'a>, len: usize) -> Division<'a> {
        Division { from, bounds: Vec::new(), prefixes: Vec::new(), buckets: Vec::new(), len }
    }

    fn take(&mut self, count: usize) -> Vec<Item<'a>> {
        match &mut self.from {
            Undivided::Table(nodes) => items(nodes.take(count).collect()),
            Undivided::Bucket(bucket) => bucket.take(count).collect(),
        }
    }

    /// Bounds between as many buckets as will have half a step's keys each, or as many as are filled well at a time. Of the sample some lie
    /// before each bound and some behind, so that each bucket is smaller than what is divided.
    fn choose_bounds(&mut self, sample: &[Item<'a>]) {
        let buckets = (self.len / (STEP / 2)).clamp(1, FANOUT);
        let mut sample = sample.to_vec();
        sample.sort_unstable();
        self.bounds = (1..buckets).map(|bucket| sample[bucket * sample.len() / buckets]).collect();
        self.prefixes = self.bounds.iter().map(|bound| bound.prefix).collect();
        let room = self.len / buckets * 5 / 4;
        self.buckets = (0..buckets).map(|_| Vec::with_capacity(room)).collect();
    }

    fn bucket_of(&self, item: &Item<'a>) -> usize {
        let same = alike(&self.prefixes, item.prefix);
        same.start + self.bounds[same].partition_point(|bound| bound <= item)
    }

    /// Divides some keys; how many, zero when there are none left.
    fn step(&mut self) -> usize {
        let some = self.take(STEP);
        if self.buckets.is_empty() {
            self.choose_bounds(&some);
        }
        for item in &some {
            let bucket = self.bucket_of(item);
            self.buckets[bucket].push(*item);
        }
        some.len()
    }
}

/// Sorts a sealed memtable's keys in steps: divides them until no part has more than [`STEP`] of them, and sorts each part.
pub struct Sorter<'a> {
    table: &'a Memtable,
    division: Option<Division<'a>>,
    /// Parts that are neither divided nor sorted, the lowest last.
    parts: Vec<Vec<Item<'a>>>,
    out: Vec<NonNull<u8>>,
    samples: Vec<u128>,
}

impl<'a> Sorter<'a> {
    fn new(table: &'a Memtable) -> Sorter<'a> {
        let division = Some(Division::of_table(table));
        Sorter { table, division, parts: Vec::new(), out: Vec::new(), samples: Vec::new() }
    }

    /// All steps.
    fn at_one_go(mut self) -> Sorter<'a> {
        while self.step().is_some() {}
        self
    }

    /// Does one step: so many keys were divided for the first time, or sorted, so that each is counted twice. `None` when all is sorted.
    pub fn step(&mut self) -> Option<usize> {
        if let Some(division) = &mut self.division {
            let is_first = matches!(division.from, Undivided::Table(_));
            let divided = division.step();
            if divided == 0 {
                self.parts.extend(std::mem::take(&mut division.buckets).into_iter().rev());
                self.division = None;
                self.out.reserve(self.table.keys() as usize - self.out.len());
            }
            return Some(if is_first { divided } else { 0 });
        }
        let mut part = self.parts.pop()?;
        let len = part.len();
        if len > STEP {
            self.division = Some(Division::of_bucket(part));
            return Some(0);
        }
        part.sort_unstable();
        for item in part {
            if self.out.len().is_multiple_of(SAMPLED) {
                self.samples.push(item.prefix);
            }
            self.out.push(item.node.as_ptr());
        }
        Some(len)
    }

    /// Gives the order to all readers, once every step is done.
    pub fn publish(self) {
        assert_eq!(self.out.len() as u64, self.table.keys(), "every key is sorted");
        // Another thread may have been faster; its order is the same.
        let _ = self.table.sorted.keys.set(Keys { nodes: self.out, samples: self.samples });
    }
}
