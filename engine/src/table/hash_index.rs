//! Finds a key's node without an order, a lock or a hop: open addressing over slots of one word each.
//!
//! Guards: a reader finds every node whose insertion happened before its search began, also while the index grows.
//! One writer; nothing is ever removed. A slot is empty or holds a node's pointer with sixteen bits of its hash above.
//!
//! Growing is spread over the insertions that follow, so that no single one waits for it: a table of double length is
//! published that still refers to its predecessor; each insertion moves a few slots; a reader that misses in the new
//! one looks in the old one. Old tables stay in the arena until it is dropped, together no larger than the last.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::arena::{ADDRESS_BITS, Arena, Bump};
use super::node::Node;

/// Slots of the first table, at least.
const SLOTS_MIN: usize = 64;
/// A new table is begun when more than 5/8 of the slots are taken.
const FULL_NUM: usize = 5;
const FULL_DEN: usize = 8;
/// Slots moved by one insertion. The old table has half the length, and is moved long before the new one is full.
const MOVE_STEP: usize = 8;

type Slot = AtomicPtr<u8>;

#[repr(C)]
struct Slots {
    mask: usize,
    /// The predecessor while not all of its nodes are here, else null.
    older: AtomicPtr<Slots>,
    /// How many of the predecessor's slots have been moved. Changed by the writer, read again when it is gone.
    moved: AtomicUsize,
    first: *const Slot,
}

const TAG_MASK: usize = !((1 << ADDRESS_BITS) - 1);

/// Starts a read of the cache line at `ptr`, wherever that is.
pub fn prefetch(ptr: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing that the program could see, and cannot fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(ptr.cast());
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = ptr;
}

impl Slots {
    fn create<'a>(bump: &mut Bump, arena: &'a Arena, len: usize, older: *mut Slots) -> &'a Slots {
        assert!(len.is_power_of_two());
        let first = bump.alloc_zeroed_chunk(arena, len * size_of::<Slot>()).cast::<Slot>();
        let ptr = bump.alloc(arena, size_of::<Slots>()).cast::<Slots>();
        let slots =
            Slots { mask: len - 1, older: AtomicPtr::new(older), moved: AtomicUsize::new(0), first: first.as_ptr() };
        // SAFETY: room for one, aligned, just handed out; it lives as long as the arena. Zeroed slots are null pointers.
        unsafe {
            ptr.write(slots);
            ptr.as_ref()
        }
    }

    fn slot(&self, at: usize) -> &Slot {
        // SAFETY: `mask + 1` slots lie there, zeroed at birth and only used as atomics.
        unsafe { &*self.first.add(at & self.mask) }
    }

    fn insert(&self, hash: u64, node: NonNull<u8>) {
        let tagged = node.as_ptr().map_addr(|addr| addr | (hash as usize & TAG_MASK));
        let mut at = hash as usize;
        while !self.slot(at).load(Ordering::Relaxed).is_null() {
            at += 1;
        }
        self.slot(at).store(tagged, Ordering::Release);
    }

    fn find<'a>(&self, hash: u64, is: impl Fn(Node<'a>) -> bool) -> Option<Node<'a>> {
        let mut at = hash as usize;
        loop {
            let found = self.slot(at).load(Ordering::Acquire);
            if found.is_null() {
                return None;
            }
            if (found.addr() ^ hash as usize) & TAG_MASK == 0 {
                let node = node_of(found)?;
                if is(node) {
                    return Some(node);
                }
            }
            at += 1;
        }
    }
}

fn node_of<'a>(slot: *mut u8) -> Option<Node<'a>> {
    let ptr = NonNull::new(slot.map_addr(|addr| addr & !TAG_MASK))?;
    // SAFETY: slots hold nodes of the arena that holds the slots; each was loaded with acquire (or by the writer itself).
    Some(unsafe { Node::from_ptr(ptr) })
}

/// The index of a memtable, which keeps the arena beside it.
#[derive(Default)]
pub struct HashIndex {
    current: AtomicPtr<Slots>,
}

/// What only the writer knows of the index.
#[derive(Default)]
pub struct IndexWriter {
    len: usize,
    /// How many nodes the first table is made for.
    expected: usize,
}

impl IndexWriter {
    /// So many nodes are likely to come. They find room without growth; if others come instead, the index grows as ever.
    pub fn expecting(nodes: usize) -> IndexWriter {
        IndexWriter { len: 0, expected: nodes }
    }

    /// Bytes that the first table takes, for nodes to come.
    pub fn first_bytes(&self) -> usize {
        self.first_slots() * size_of::<Slot>()
    }

    fn first_slots(&self) -> usize {
        (self.expected * FULL_DEN / FULL_NUM + 1).next_power_of_two().max(SLOTS_MIN)
    }
}

impl HashIndex {
    fn current<'a>(&self, _arena: &'a Arena) -> Option<&'a Slots> {
        let ptr = self.current.load(Ordering::Acquire);
        // SAFETY: null or a table in the arena, written before it was published.
        unsafe { ptr.as_ref() }
    }

    fn older<'a>(slots: &Slots, _arena: &'a Arena) -> Option<&'a Slots> {
        let ptr = slots.older.load(Ordering::Acquire);
        // SAFETY: as for `current`.
        unsafe { ptr.as_ref() }
    }

    /// The node with this hash that `is` the one looked for.
    pub fn find<'a>(&self, arena: &'a Arena, hash: u64, is: impl Fn(Node<'a>) -> bool) -> Option<Node<'a>> {
        let current = self.current(arena)?;
        // Before the search: when it is null here, then all of its nodes are in `current` already.
        let older = HashIndex::older(current, arena);
        current.find(hash, &is).or_else(|| older.and_then(|older| older.find(hash, &is)))
    }

    /// Asks for the slot where a search for `hash` begins.
    pub fn prefetch_slot(&self, arena: &Arena, hash: u64) {
        if let Some(current) = self.current(arena) {
            prefetch(std::ptr::from_ref(current.slot(hash as usize)).cast());
        }
    }

    /// Asks for the first node that a search for `hash` will look at.
    pub fn prefetch_node(&self, arena: &Arena, hash: u64) {
        let Some(current) = self.current(arena) else { return };
        let mut at = hash as usize;
        loop {
            let found = current.slot(at).load(Ordering::Acquire);
            if found.is_null() {
                return;
            }
            if (found.addr() ^ hash as usize) & TAG_MASK == 0 {
                prefetch(found.map_addr(|addr| addr & !TAG_MASK));
                return;
            }
            at += 1;
        }
    }

    /// Adds a node that is not there yet, and moves a step of an unfinished growth. `hash_of` gives other nodes' hashes.
    pub fn insert<'a>(
        &self,
        writer: &mut IndexWriter,
        bump: &mut Bump,
        arena: &'a Arena,
        hash: u64,
        node: Node<'a>,
        hash_of: impl Fn(Node<'a>) -> u64,
    ) {
        let mut current = match self.current(arena) {
            Some(current) => current,
            None => self.publish(Slots::create(bump, arena, writer.first_slots(), std::ptr::null_mut())),
        };
        if let Some(older) = HashIndex::older(current, arena) {
            move_step(current, older, hash_of);
        }
        if (writer.len + 1) * FULL_DEN > (current.mask + 1) * FULL_NUM {
            assert!(current.older.load(Ordering::Relaxed).is_null(), "moved long before");
            let older = std::ptr::from_ref(current).cast_mut();
            current = self.publish(Slots::create(bump, arena, (current.mask + 1) * 2, older));
        }
        current.insert(hash, node.as_ptr());
        writer.len += 1;
    }

    fn publish<'a>(&self, slots: &'a Slots) -> &'a Slots {
        self.current.store(std::ptr::from_ref(slots).cast_mut(), Ordering::Release);
        slots
    }

    /// Every node whose insertion happened before this, in no order; one that is moved while the index grows may come twice. For
    /// any thread, beside the writer.
    pub fn nodes_so_far<'a>(&self, arena: &'a Arena) -> Nodes<'a> {
        let current = self.current(arena);
        // As in `find`: taken before `current` is looked through. What is moved stays in the old table, too.
        let older = current.and_then(|current| HashIndex::older(current, arena));
        Nodes { tables: [current, older].map(|table| table.map(|slots| (slots, 0))), arena: PhantomData }
    }

    /// Every node once, in no order. Only when there is no writer any more.
    pub fn nodes<'a>(&self, arena: &'a Arena) -> Nodes<'a> {
        let current = self.current(arena);
        let older = current.and_then(|current| HashIndex::older(current, arena));
        let moved = current.map_or(0, |current| current.moved.load(Ordering::Relaxed));
        Nodes { tables: [current.map(|current| (current, 0)), older.map(|older| (older, moved))], arena: PhantomData }
    }
}

fn move_step<'a>(current: &Slots, older: &Slots, hash_of: impl Fn(Node<'a>) -> u64) {
    let start = current.moved.load(Ordering::Relaxed);
    let end = (start + MOVE_STEP).min(older.mask + 1);
    for at in end..(end + MOVE_STEP).min(older.mask + 1) {
        prefetch(older.slot(at).load(Ordering::Relaxed).map_addr(|addr| addr & !TAG_MASK));
    }
    for at in start..end {
        if let Some(node) = node_of(older.slot(at).load(Ordering::Relaxed)) {
            current.insert(hash_of(node), node.as_ptr());
        }
    }
    current.moved.store(end, Ordering::Relaxed);
    if end == older.mask + 1 {
        current.older.store(std::ptr::null_mut(), Ordering::Release);
    }
}

/// See [`HashIndex::nodes`].
pub struct Nodes<'a> {
    tables: [Option<(&'a Slots, usize)>; 2],
    arena: PhantomData<&'a Arena>,
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        for table in &mut self.tables {
            let Some((slots, at)) = table else { continue };
            while *at <= slots.mask {
                let found = slots.slot(*at).load(Ordering::Acquire);
                *at += 1;
                if let Some(node) = node_of(found) {
                    return Some(node);
                }
            }
            *table = None;
        }
        None
    }
}
