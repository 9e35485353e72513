//! Deadlines in milliseconds, the earliest first. What a deadline was for may be gone by then: whoever takes it looks.
//!
//! Guards: deadlines of what is gone take no more room than those of what is there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Fewer deadlines than these are not swept.
const SWEEP_MIN: usize = 1024;

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

    /// Drop what is gone, if `live` deadlines at most can be for something that is there, and far more are kept.
    pub fn sweep(&mut self, live: usize, is_there: impl Fn(&T) -> bool) {
        if self.heap.len() > 2 * live + SWEEP_MIN {
            self.heap.retain(|Reverse((_, what))| is_there(what));
            self.heap.shrink_to(2 * live + SWEEP_MIN);
        }
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

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.heap.len()
    }
}
