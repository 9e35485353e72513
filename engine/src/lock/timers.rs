//! Deadlines in milliseconds, the earliest first. What a deadline was for may be gone by then: whoever takes it looks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub struct Timers<T> {
    heap: BinaryHeap<Reverse<(u64, T)>>,
}

impl<T: Ord> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers { heap: BinaryHeap::new() }
    }
}

impl<T: Ord> Timers<T> {
    pub fn add(&mut self, at_ms: u64, what: T) {
        self.heap.push(Reverse((at_ms, what)));
    }

    pub fn next_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// One whose time has come.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<T> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse((_, what))| what)
    }
}
