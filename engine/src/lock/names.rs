//! The names that are held or wanted, each with its lock, in places that keep their numbers.
//!
//! Guards: a name is hashed once for each step; a place that is used again needs no allocation for a short name; whoever goes
//! over all places in their order sees each name that stood all the while exactly once.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A lock's place in the table, for as long as its name is held or wanted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LockId(pub u32);

impl LockId {
    fn at(self) -> usize {
        self.0 as usize
    }
}

/// What an empty place keeps of its name's memory.
const KEPT_MAX: usize = 64;
/// Empty places that are kept even if no name is left.
const EMPTY_KEPT: usize = 1024;

struct Slot<L> {
    hash: u64,
    name: Vec<u8>,
    lock: L,
}

pub struct Names<L> {
    slots: Vec<Slot<L>>,
    empty: Vec<LockId>,
    index: HashTable<LockId>,
    seed: u64,
}

impl<L: Default> Names<L> {
    pub fn new(seed: u64) -> Names<L> {
        Names { slots: Vec::new(), empty: Vec::new(), index: HashTable::new(), seed }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    fn hash(&self, name: &[u8]) -> u64 {
        xxh3_64_with_seed(name, self.seed)
    }

    pub fn find(&self, name: &[u8]) -> Option<LockId> {
        self.index.find(self.hash(name), |id| self.slots[id.at()].name == name).copied()
    }

    /// The place of a name, made if there is none.
    pub fn find_or_add(&mut self, name: &[u8]) -> LockId {
        let hash = self.hash(name);
        let (slots, index) = (&mut self.slots, &mut self.index);
        if let Some(id) = index.find(hash, |id| slots[id.at()].name == name) {
            return *id;
        }
        let id = match self.empty.pop() {
            Some(id) => {
                let slot = &mut slots[id.at()];
                slot.hash = hash;
                slot.name.extend_from_slice(name);
                id
            }
            None => {
                let id = LockId(u32::try_from(slots.len()).expect("fewer names than memory has bytes for"));
                slots.push(Slot { hash, name: name.to_vec(), lock: L::default() });
                id
            }
        };
        index.insert_unique(hash, id, |id| slots[id.at()].hash);
        id
    }

    /// Empty a place.
    pub fn remove(&mut self, id: LockId) {
        let slot = &mut self.slots[id.at()];
        if let Ok(entry) = self.index.find_entry(slot.hash, |own| *own == id) {
            entry.remove();
        }
        slot.lock = L::default();
        if slot.name.capacity() > KEPT_MAX {
            slot.name = Vec::new();
        } else {
            slot.name.clear();
        }
        self.empty.push(id);
        if self.index.is_empty() && self.slots.len() > EMPTY_KEPT {
            *self = Names::new(self.seed);
        }
    }

    pub fn lock(&self, id: LockId) -> &L {
        &self.slots[id.at()].lock
    }

    pub fn lock_mut(&mut self, id: LockId) -> &mut L {
        &mut self.slots[id.at()].lock
    }

    /// `None` if nothing is there any more.
    pub fn get(&self, id: LockId) -> Option<&L> {
        self.slots.get(id.at()).map(|slot| &slot.lock)
    }

    pub fn name(&self, id: LockId) -> &[u8] {
        &self.slots[id.at()].name
    }

    /// The places from `from` on, `at_most` of them, that have a name; and where to go on.
    pub fn page(&self, from: u32, at_most: usize) -> (impl Iterator<Item = LockId>, Option<u32>) {
        let start = (from as usize).min(self.slots.len());
        let end = start.saturating_add(at_most).min(self.slots.len());
        let named = (start..end).filter(|at| !self.slots[*at].name.is_empty());
        let next = (end < self.slots.len()).then_some(end as u32);
        (named.map(|at| LockId(at as u32)), next)
    }
}
