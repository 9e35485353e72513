//! The newest versions of a shard's keys, in memory: one writer, and readers on any thread that never wait.
//!
//! Guards: what `insert` has returned from is found by every read that begins afterwards; a version, once found, stays
//! valid and unchanged as long as the memtable lives.
//! Does not: judge expiry, or which versions a reader may see; that is the reader's `at`.

#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Lookup;
use super::arena::{Arena, Bump, ChunkPool};
use super::hash_index::{HashIndex, IndexWriter};
use super::node::{NewVersion, Node};
use super::skiplist::{Finger, Skiplist, height_of};
use super::sorted::SortedKeys;
use crate::format::block::{EntryRef, Op};
use crate::ids::{CommitTs, Keyspace};

/// Whether a memtable can be read in key order while it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Each insertion of a new key keeps the order.
    Kept,
    /// Insertions are cheaper; the first ordered reader after sealing sorts the keys.
    Deferred,
}

/// Versions of keys, newest first for each.
pub struct Memtable {
    arena: Arena,
    index: HashIndex,
    hash_seed: u64,
    order: Order,
    /// The ordered list's head, for `Order::Kept`.
    list: Option<NonNull<u8>>,
    pub(super) sorted: SortedKeys,
    keys: AtomicU64,
    versions: AtomicU64,
    min_ts: AtomicU64,
    max_ts: AtomicU64,
    /// A version in it has an expiry.
    has_expiring: AtomicBool,
    /// There is no writer any more.
    sealed: AtomicBool,
}

// SAFETY: `list` points into `arena`, which lives and moves with it (chunks stay in place); all else is Send.
unsafe impl Send for Memtable {}
// SAFETY: what `list` points at is only used through atomics or after publication (`node.rs`); all else is Sync.
unsafe impl Sync for Memtable {}

impl Memtable {
    fn hash(&self, keyspace: Keyspace, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.hash_seed.wrapping_add(u64::from(keyspace.0) << 32))
    }

    fn find(&self, keyspace: Keyspace, key: &[u8]) -> Option<Node<'_>> {
        self.index.find(&self.arena, self.hash(keyspace, key), |node| node.is(keyspace, key))
    }

    /// The newest version not after `at`.
    pub fn get(&self, keyspace: Keyspace, key: &[u8], at: CommitTs) -> Lookup<'_> {
        match self.find(keyspace, key).and_then(|node| node.version_at(at)) {
            Some(version) => Lookup::of(version.ts(), version.op()),
            None => Lookup::Missing,
        }
    }

    /// Asks memory for what a `get` of this key will touch first; several such before their `prefetch_key`s and gets
    /// overlap the misses.
    pub fn prefetch_slot(&self, keyspace: Keyspace, key: &[u8]) {
        self.index.prefetch_slot(&self.arena, self.hash(keyspace, key));
    }

    /// The second step of [`Memtable::prefetch_slot`].
    pub fn prefetch_key(&self, keyspace: Keyspace, key: &[u8]) {
        self.index.prefetch_node(&self.arena, self.hash(keyspace, key));
    }

    pub fn order(&self) -> Order {
        self.order
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// The last commit it stands for; zero when empty.
    pub fn max_ts(&self) -> CommitTs {
        CommitTs(self.max_ts.load(Ordering::Acquire))
    }

    /// The first version's commit; `CommitTs::MAX` when empty.
    pub fn min_ts(&self) -> CommitTs {
        CommitTs(self.min_ts.load(Ordering::Acquire))
    }

    /// Versions in it.
    pub fn len(&self) -> u64 {
        self.versions.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Different keys in it.
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Acquire)
    }

    /// Whether a version in it has an expiry.
    pub fn has_expiring(&self) -> bool {
        self.has_expiring.load(Ordering::Acquire)
    }

    /// Bytes of memory in use.
    pub fn bytes(&self) -> u64 {
        self.arena.used()
    }

    /// It can be read in key order: it keeps the order, or is sealed.
    pub fn is_ordered(&self) -> bool {
        self.order == Order::Kept || self.is_sealed()
    }

    pub(super) fn skiplist(&self) -> Option<Skiplist<'_>> {
        // SAFETY: created in `MemWriter::new` in this arena.
        self.list.map(|head| Skiplist::new(unsafe { Node::from_ptr(head) }))
    }

    /// Every key, in no order. Only of a sealed memtable.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        assert!(self.is_sealed(), "a memtable is sealed before its keys are sorted");
        self.index.nodes(&self.arena)
    }

    /// The newest version of every key that is there when this is called, in no order, beside the writer. A key may come twice.
    pub fn entries_so_far(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.index.nodes_so_far(&self.arena).filter_map(|node| {
            let newest = node.newest()?;
            Some(EntryRef { keyspace: node.keyspace(), key: node.key(), ts: newest.ts(), op: newest.op() })
        })
    }
}

/// The one way to change a memtable. Dropping it seals the memtable.
pub struct MemWriter {
    table: Arc<Memtable>,
    bump: Bump,
    index: IndexWriter,
    /// Nodes of `table`, which lives as long as the writer; see `nodes_of`.
    finger: Option<Finger<'static>>,
}

impl MemWriter {
    /// An empty memtable. The seed keeps others from choosing keys that collide.
    pub fn new(order: Order, hash_seed: u64) -> MemWriter {
        MemWriter::on(Arena::default(), order, hash_seed)
    }

    /// The first of several, of whose memory so much is kept for those that follow.
    pub fn first(order: Order, hash_seed: u64, kept_bytes_max: u64) -> MemWriter {
        MemWriter::on(Arena::new(Arc::new(ChunkPool::new(kept_bytes_max))), order, hash_seed)
    }

    /// Memory of those that are gone, for the next ones.
    pub fn pool(&self) -> &Arc<ChunkPool> {
        self.table.arena.pool()
    }

    /// An empty memtable that comes after this one, in memory of those that are gone. It will likely have as many keys.
    pub fn next(&self, order: Order) -> MemWriter {
        let mut next = MemWriter::on(Arena::new(Arc::clone(self.pool())), order, self.table.hash_seed);
        next.index = IndexWriter::expecting(self.table.keys() as usize);
        next
    }

    fn on(arena: Arena, order: Order, hash_seed: u64) -> MemWriter {
        let mut bump = Bump::default();
        let list = match order {
            Order::Kept => Some(Skiplist::create_head(&mut bump, &arena).as_ptr()),
            Order::Deferred => None,
        };
        let table = Memtable {
            arena,
            index: HashIndex::default(),
            hash_seed,
            order,
            list,
            sorted: SortedKeys::default(),
            keys: AtomicU64::new(0),
            versions: AtomicU64::new(0),
            min_ts: AtomicU64::new(u64::MAX),
            max_ts: AtomicU64::new(0),
            has_expiring: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
        };
        let finger = list.map(|head| Skiplist::new(outlived(head)).finger());
        MemWriter { table: Arc::new(table), bump, index: IndexWriter::default(), finger }
    }

    pub fn table(&self) -> &Arc<Memtable> {
        &self.table
    }

    /// Bytes of memory in use.
    pub fn bytes(&self) -> u64 {
        self.table.bytes()
    }

    /// Those of them that the first key takes, for others to come.
    pub fn first_bytes(&self) -> u64 {
        self.index.first_bytes() as u64
    }

    /// Adds a version, not older than the newest of its key. Of two with one commit, the later one counts.
    pub fn insert(&mut self, keyspace: Keyspace, key: &[u8], version: NewVersion<'_>) {
        self.insert_hashed(self.table.hash(keyspace, key), keyspace, key, version);
    }

    /// It stands for every commit up to this one, be it that some left no version.
    pub fn note(&mut self, commit: CommitTs) {
        if commit > self.table.max_ts() {
            self.table.max_ts.store(commit.0, Ordering::Release);
        }
    }

    /// The key's hash, having asked for the place of the index where its insertion will begin.
    pub(super) fn prefetch_slot(&self, keyspace: Keyspace, key: &[u8]) -> u64 {
        let hash = self.table.hash(keyspace, key);
        self.table.index.prefetch_slot(&self.table.arena, hash);
        hash
    }

    /// The second step: ask for the key itself, if it is there.
    pub(super) fn prefetch_node(&self, hash: u64) {
        self.table.index.prefetch_node(&self.table.arena, hash);
    }

    /// As `insert`, with the hash that [`MemWriter::prefetch_slot`] gave for this key.
    pub(super) fn insert_hashed(&mut self, hash: u64, keyspace: Keyspace, key: &[u8], version: NewVersion<'_>) {
        let table = &*self.table;
        // Before the version can be seen, so that a reader who sees it also knows that the memtable has it.
        if version.ts < table.min_ts() {
            table.min_ts.store(version.ts.0, Ordering::Release);
        }
        if version.ts > table.max_ts() {
            table.max_ts.store(version.ts.0, Ordering::Release);
        }
        if matches!(version.op, Op::Put { expiry, .. } if !expiry.is_never()) {
            table.has_expiring.store(true, Ordering::Release);
        }
        add(&table.versions);
        let found = table.index.find(&table.arena, hash, |node| node.is(keyspace, key));
        if let Some(node) = found {
            let newest = node.newest().map_or(CommitTs::ZERO, |newest| newest.ts());
            assert!(newest <= version.ts, "versions of a key ascend: {} after {newest}", version.ts);
            node.push(&mut self.bump, &table.arena, version);
            return;
        }
        let height = if self.finger.is_some() { height_of(hash) } else { 0 };
        let node = Node::create(&mut self.bump, &table.arena, keyspace, key, height, Some(version));
        let hash_of = |node: Node<'_>| table.hash(node.keyspace(), node.key());
        table.index.insert(&mut self.index, &mut self.bump, &table.arena, hash, node, hash_of);
        add(&table.keys);
        if let (Some(finger), Some(head)) = (&mut self.finger, table.list) {
            Skiplist::new(outlived(head)).insert(finger, outlived(node.as_ptr()));
        }
    }

    /// Ends writing; the memtable is what it is from now on.
    pub fn seal(self) -> Arc<Memtable> {
        Arc::clone(&self.table)
    }
}

impl Drop for MemWriter {
    fn drop(&mut self) {
        self.table.sealed.store(true, Ordering::Release);
    }
}

/// One writer, so that load and store need not be one step.
fn add(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
}

/// A node as the writer's own finger keeps it, with no lifetime to speak of.
fn outlived(node: NonNull<u8>) -> Node<'static> {
    // SAFETY: only called with nodes of the writer's own memtable; the finger that keeps them is a private field of the
    // writer, beside the `Arc` that keeps the arena, and is used only in its methods.
    unsafe { Node::from_ptr(node) }
}

#[cfg(test)]
#[path = "memtable_tests.rs"]
mod tests;
