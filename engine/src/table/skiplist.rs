//! Keeps a memtable's nodes in key order as they are inserted: a skip list (Pugh, 1990) in the arena.
//!
//! Guards: readers on any thread see a list in order at every moment; a node is linked from the lowest level up, each
//! time by one release store, after all of its own links are set. One writer; nothing is ever removed.

use super::arena::{Arena, Bump};
use super::node::Node;
use crate::ids::Keyspace;

/// One node in four rises a level, so that twelve levels serve sixteen million.
const HEIGHT_MAX: usize = 12;

/// The height of a node with this hash.
pub fn height_of(hash: u64) -> usize {
    // Bits that neither choose the slot of a small table nor make the tag.
    let bits = (hash >> 24) as u32;
    (bits.trailing_ones() as usize / 2 + 1).min(HEIGHT_MAX)
}

/// The writer's part: the last insertion's neighbours, so that keys in rising order need no search.
pub struct Finger<'a> {
    before: [Node<'a>; HEIGHT_MAX],
    last: Option<Node<'a>>,
}

/// An ordered list that begins at `head`.
#[derive(Clone, Copy)]
pub struct Skiplist<'a> {
    head: Node<'a>,
}

impl<'a> Skiplist<'a> {
    pub fn create_head(bump: &mut Bump, arena: &'a Arena) -> Node<'a> {
        Node::create(bump, arena, Keyspace(0), &[], HEIGHT_MAX, None)
    }

    pub fn new(head: Node<'a>) -> Skiplist<'a> {
        Skiplist { head }
    }

    pub fn finger(self) -> Finger<'a> {
        Finger { before: [self.head; HEIGHT_MAX], last: None }
    }

    /// Links a node whose key is not in the list.
    pub fn insert(self, finger: &mut Finger<'a>, node: Node<'a>) {
        let key = node.full_key();
        let is_before = |next: Option<Node<'a>>| next.is_some_and(|next| next.full_key() < key);
        let levels = if finger.last.is_some_and(|last| last.full_key() < key) {
            // The neighbours of the last insertion lie before this key too. From the lowest level on which this key
            // comes right behind such a neighbour, the levels above need no search.
            (0..HEIGHT_MAX).find(|level| !is_before(finger.before[*level].next(*level))).unwrap_or(HEIGHT_MAX)
        } else {
            finger.before[HEIGHT_MAX - 1] = self.head;
            HEIGHT_MAX
        };
        if levels > 0 {
            let mut at = finger.before[levels - 1];
            let mut behind = None;
            for level in (0..levels).rev() {
                at = last_on_level(at, level, &mut behind, |next| next.full_key() < key);
                finger.before[level] = at;
            }
        }
        for level in 0..node.height() {
            node.set_next(level, finger.before[level].next(level));
        }
        for level in 0..node.height() {
            finger.before[level].set_next(level, Some(node));
            finger.before[level] = node;
        }
        finger.last = Some(node);
    }

    /// The nodes on both sides of the key's place: the last before it, and the first not before it, which were
    /// neighbours at one moment. The second is not read again from the first: meanwhile others may lie between them.
    fn around(self, keyspace: Keyspace, key: &[u8]) -> (Option<Node<'a>>, Option<Node<'a>>) {
        let mut at = self.head;
        let mut behind = None;
        for level in (0..HEIGHT_MAX).rev() {
            at = last_on_level(at, level, &mut behind, |node| node.full_key() < (keyspace, key));
        }
        ((at != self.head).then_some(at), behind)
    }

    /// The first node not before the key.
    pub fn seek(self, keyspace: Keyspace, key: &[u8]) -> Option<Node<'a>> {
        self.around(keyspace, key).1
    }

    /// The last node before the key.
    pub fn seek_before(self, keyspace: Keyspace, key: &[u8]) -> Option<Node<'a>> {
        self.around(keyspace, key).0
    }
}

/// From `at`, the last node on a level for which `is_before` holds. `behind` is the one after it, if any, for which it does
/// not; found again on the next level, it need not be compared again.
fn last_on_level<'a>(
    mut at: Node<'a>,
    level: usize,
    behind: &mut Option<Node<'a>>,
    is_before: impl Fn(Node<'a>) -> bool,
) -> Node<'a> {
    loop {
        match at.next(level) {
            Some(next) if Some(next) != *behind && is_before(next) => at = next,
            next => {
                *behind = next;
                return at;
            }
        }
    }
}
