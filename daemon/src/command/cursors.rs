//! Cursors of SCAN: numbers that stand for a place in the order of keys.
//!
//! Guards: an iteration gives every key that is there from its beginning to its end, whatever becomes of its cursor.
//! A cursor's low 48 bits are random and name an entry of a bounded table that holds the last key given; its high 16
//! bits are that key's first two bytes. Where the entry is gone (evicted, or the server was restarted), the iteration
//! goes on at the first key with those two bytes: some keys come again, as SCAN allows, and none is missed.
//! An iteration in progress holds one entry; the cursors that it used before wait for retries in a smaller table of
//! their own, so that one busy iteration does not push out many slow ones.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

const LIVE_MAX: usize = 1 << 16;
const USED_MAX: usize = 1 << 12;
/// Bytes of keys in each of the two tables.
const BYTES_MAX: usize = 16 << 20;
const ID_BITS: u32 = 48;
const ID_MASK: u64 = (1 << ID_BITS) - 1;

/// Where an iteration goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    Start,
    After(Vec<u8>),
    /// At the first key that is not less.
    From(Vec<u8>),
}

#[derive(Default)]
struct Table {
    keys: HashMap<u64, Box<[u8]>>,
    order: VecDeque<u64>,
    bytes: usize,
}

impl Table {
    fn insert(&mut self, id: u64, key: Box<[u8]>, len_max: usize) {
        self.bytes += key.len();
        self.keys.insert(id, key);
        self.order.push_back(id);
        while self.keys.len() > len_max || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
        // Ids that were taken out leave their place in `order`; it is swept before it is mostly these.
        if self.order.len() > 2 * len_max {
            let keys = &self.keys;
            self.order.retain(|id| keys.contains_key(id));
        }
    }

    fn remove(&mut self, id: u64) -> Option<Box<[u8]>> {
        let key = self.keys.remove(&id)?;
        self.bytes -= key.len();
        Some(key)
    }
}

#[derive(Default)]
struct Tables {
    live: Table,
    used: Table,
}

/// The cursors of all connections.
#[derive(Default)]
pub struct Cursors {
    tables: Mutex<Tables>,
}

impl Cursors {
    /// The place that `cursor` stands for. It is good for this place again, should the client retry.
    pub fn place(&self, cursor: u64) -> Place {
        if cursor == 0 {
            return Place::Start;
        }
        let id = cursor & ID_MASK;
        let mut tables = self.tables.lock();
        if let Some(key) = tables.live.remove(id) {
            tables.used.insert(id, key.clone(), USED_MAX);
            return Place::After(key.into_vec());
        }
        match tables.used.keys.get(&id) {
            Some(key) => Place::After(key.to_vec()),
            None => {
                // A zero may stand for no byte at all.
                let prefix = ((cursor >> ID_BITS) as u16).to_be_bytes();
                let len = prefix.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                Place::From(prefix.get(..len).unwrap_or_default().to_vec())
            }
        }
    }

    /// A cursor for the place after `key`.
    pub fn after(&self, key: &[u8], random: impl Fn() -> u64) -> u64 {
        let byte = |i: usize| u64::from(key.get(i).copied().unwrap_or(0));
        let prefix = byte(0) << 8 | byte(1);
        let mut tables = self.tables.lock();
        loop {
            let id = random() & ID_MASK;
            if id == 0 || tables.live.keys.contains_key(&id) || tables.used.keys.contains_key(&id) {
                continue;
            }
            tables.live.insert(id, key.into(), LIVE_MAX);
            return prefix << ID_BITS | id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn counter(from: u64) -> impl Fn() -> u64 {
        let next = Cell::new(from);
        move || next.replace(next.get() + 1)
    }

    #[test]
    fn a_cursor_stands_for_its_key_again_and_again() {
        let cursors = Cursors::default();
        let random = counter(0);
        let cursor = cursors.after(b"key:17", &random);
        assert_ne!(cursor, 0);
        for _ in 0..3 {
            assert_eq!(cursors.place(cursor), Place::After(b"key:17".to_vec()));
        }
        assert_eq!(cursors.place(0), Place::Start);
    }

    #[test]
    fn a_forgotten_cursor_goes_back_never_forward() {
        let cursors = Cursors::default();
        for key in [&b"key:17"[..], b"k", b"", b"\0", b"\0\0", b"k\0x", b"\xff\xff\xff"] {
            let cursor = cursors.after(key, counter(5));
            let Place::From(from) = Cursors::default().place(cursor) else { panic!("it was known") };
            assert!(from.as_slice() <= key, "{from:?} {key:?}");
        }
    }

    #[test]
    fn one_busy_iteration_does_not_push_out_a_slow_one() {
        let cursors = Cursors::default();
        let random = counter(1);
        let slow = cursors.after(b"slow", &random);
        let mut busy = cursors.after(b"busy", &random);
        for i in 0..200_000u32 {
            assert!(matches!(cursors.place(busy), Place::After(_)));
            busy = cursors.after(&i.to_be_bytes(), &random);
        }
        assert_eq!(cursors.place(slow), Place::After(b"slow".to_vec()));
        let tables = cursors.tables.lock();
        assert!(tables.used.keys.len() <= USED_MAX && tables.used.order.len() <= 2 * USED_MAX + 1);
    }

    #[test]
    fn memory_is_bounded() {
        let cursors = Cursors::default();
        let random = counter(1);
        let long = vec![b'k'; 60_000];
        for _ in 0..1000 {
            cursors.after(&long, &random);
        }
        assert!(cursors.tables.lock().live.bytes <= BYTES_MAX);
        for i in 0..2 * LIVE_MAX {
            cursors.after(&i.to_be_bytes(), &random);
        }
        assert!(cursors.tables.lock().live.keys.len() <= LIVE_MAX);
    }
}
