//! Chooses between the ways of making a write durable by how long they take on this device under this load.
//!
//! Guards: a way that has become much slower than the other is left within some hundred writes, and tried again now and then, more
//! rarely each time that it loses.
//!
//! The shard's thread itself writes short batches: nobody else has to be woken, which saves 13 to 18 us of about 80. That is the same for
//! all lengths, while the time for which its core is held up grows (64 KiB: 80 us, 1 MiB: 300 us): so it counts for more the longer the
//! batch is, and long ones go through the ring. What is measured may say otherwise: a device that waits for a timer tick when it is asked
//! in one of the ways, or a thread that is not run for a while after it slept.
//!
//! While the ring writes, the thread serves others, and the next batch grows. So the ring is taken to cost only the time in which there was
//! nobody to serve, and once several wait for the write, the time for which a thread blocks counts three times. Clients of one server that
//! each wait for their own put, by two processors: 1: 3.6k puts a second with a thread that blocks, 3.0k through the ring; 4: 8.0k and 7.8k;
//! 8: 11.0k and 14.0k; 16: 17k and 26k; 50: 41k and 57k.

use std::cell::Cell;
use std::rc::Rc;

use crate::runtime::DurableWay;

/// Lengths that differ by less than a factor of two are one class, from a block on.
const CLASSES: usize = 10;
const SHORTEST: usize = 4096;
/// Of so many bytes a blocking write counts twice.
const DOUBLED_AT: f64 = (256 << 10) as f64;
/// From so many on that wait for a write, they are a crowd, for whom the thread has other things to do meanwhile; then the time for which it
/// blocks counts so often.
const CROWD: usize = 3;
const CROWD_WEIGHT: f64 = 3.0;
/// What a wake-up is taken to cost before anything was measured, in parts of the write.
const FIRST_GUESS: f64 = 1.25;
/// How much the newest time weighs, and that of a trial, of which there are few.
const WEIGHT: f64 = 1.0 / 16.0;
const TRIAL_WEIGHT: f64 = 0.5;
/// Writes between two trials of the other way, at first and at most.
const TRIAL_MIN: u32 = 64;
const TRIAL_MAX: u32 = 4096;

/// How long, in all, a shard's thread had nobody to serve: asleep, or in the background.
#[derive(Default)]
pub struct SpareTime(Cell<u64>);

impl SpareTime {
    pub fn add(&self, ns: u64) {
        self.0.set(self.0.get() + ns);
    }
}

/// One shard's; see the module. It has one durable write under way at a time.
pub struct Ways {
    /// For those for whom few wait, and for the others.
    classes: [[Class; CLASSES]; 2],
    spare: Rc<SpareTime>,
    /// What there was of it when the write under way began.
    spare_before: Cell<u64>,
    /// Whether several wait for that one.
    crowded: Cell<bool>,
}

struct Class {
    /// Smoothed, in ns; zero: never taken.
    blocking: Cell<f64>,
    ring: Cell<f64>,
    /// Writes until the other way is tried.
    left: Cell<u32>,
    interval: Cell<u32>,
}

impl Default for Class {
    fn default() -> Class {
        Class {
            blocking: Cell::new(0.0),
            ring: Cell::new(0.0),
            left: Cell::new(TRIAL_MIN),
            interval: Cell::new(TRIAL_MIN),
        }
    }
}

fn class_of(len: usize) -> usize {
    let blocks = len.div_ceil(SHORTEST).max(1);
    (blocks.next_power_of_two().trailing_zeros() as usize).min(CLASSES - 1)
}

impl Class {
    fn of(&self, way: DurableWay) -> &Cell<f64> {
        match way {
            DurableWay::Blocking => &self.blocking,
            DurableWay::Ring => &self.ring,
        }
    }

    /// What blocks the thread counts `held` times.
    fn best(&self, held: f64) -> DurableWay {
        let (blocking, ring) = match (self.blocking.get(), self.ring.get()) {
            (0.0, 0.0) => (1.0, FIRST_GUESS),
            (0.0, ring) => (ring / FIRST_GUESS, ring),
            (blocking, 0.0) => (blocking, blocking * FIRST_GUESS),
            both => both,
        };
        if blocking * held <= ring { DurableWay::Blocking } else { DurableWay::Ring }
    }
}

fn other(way: DurableWay) -> DurableWay {
    match way {
        DurableWay::Blocking => DurableWay::Ring,
        DurableWay::Ring => DurableWay::Blocking,
    }
}

impl Ways {
    pub fn new(spare: Rc<SpareTime>) -> Ways {
        Ways { classes: Default::default(), spare, spare_before: Cell::new(0), crowded: Cell::new(false) }
    }

    fn class(&self, len: usize) -> &Class {
        &self.classes[usize::from(self.crowded.get())][class_of(len)]
    }

    fn best(&self, len: usize) -> DurableWay {
        let crowd = if self.crowded.get() { CROWD_WEIGHT } else { 1.0 };
        self.class(len).best(crowd * (1.0 + len as f64 / DOUBLED_AT))
    }

    /// How the next write of `len` bytes, which begins now, is made durable; `waiting` wait for it.
    pub fn choose(&self, len: usize, waiting: usize) -> DurableWay {
        self.spare_before.set(self.spare.0.get());
        self.crowded.set(waiting >= CROWD);
        let (class, best) = (self.class(len), self.best(len));
        let left = class.left.get() - 1;
        if left > 0 {
            class.left.set(left);
            return best;
        }
        class.left.set(class.interval.get());
        other(best)
    }

    /// The write of `len` bytes took so long.
    pub fn took(&self, way: DurableWay, len: usize, ns: u64) {
        let ns = match way {
            DurableWay::Blocking => ns,
            DurableWay::Ring => ns.min(self.spare.0.get() - self.spare_before.get()),
        };
        let (class, before) = (self.class(len), self.best(len));
        let smoothed = class.of(way);
        let ns = ns.max(1) as f64;
        // The first is taken as it is.
        let old = if smoothed.get() == 0.0 { ns } else { smoothed.get() };
        let weight = if way == before { WEIGHT } else { TRIAL_WEIGHT };
        smoothed.set(old + (ns - old) * weight);
        let after = self.best(len);
        if after != before {
            class.interval.set(TRIAL_MIN);
            tracing::debug!(
                len,
                crowded = self.crowded.get(),
                ?after,
                blocking_ns = class.blocking.get(),
                ring_ns = class.ring.get(),
                "another way of making writes durable"
            );
        } else if way != after {
            // It was tried, and lost.
            class.interval.set((class.interval.get() * 2).min(TRIAL_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKING: u64 = 60_000;

    /// The way most of the last hundred of `count` writes took, and how many took the other.
    fn run(ways: &Ways, len: usize, count: u32, ns: impl Fn(DurableWay) -> u64) -> (DurableWay, u32) {
        run_among(ways, len, count, (1, 0), ns)
    }

    /// The same while so many wait, and have so many hundredths of the time.
    fn run_among(
        ways: &Ways,
        len: usize,
        count: u32,
        (waiting, busy): (usize, u64),
        ns: impl Fn(DurableWay) -> u64,
    ) -> (DurableWay, u32) {
        let mut last = [0; 2];
        for at in 0..count {
            let way = ways.choose(len, waiting);
            ways.spare.add(ns(way) / 100 * (100 - busy));
            ways.took(way, len, ns(way));
            if at + 100 >= count {
                last[usize::from(way == DurableWay::Ring)] += 1;
            }
        }
        let [blocking, ring] = last;
        if blocking >= ring { (DurableWay::Blocking, ring) } else { (DurableWay::Ring, blocking) }
    }

    #[test]
    fn before_anything_was_measured_short_ones_block_and_long_ones_do_not() {
        let ways = Ways::new(Rc::default());
        for len in [4096, 16 << 10, 64 << 10] {
            assert_eq!(ways.choose(len, 1), DurableWay::Blocking, "{len}");
        }
        for len in [128 << 10, 1 << 20, 64 << 20] {
            assert_eq!(ways.choose(len, 1), DurableWay::Ring, "{len}");
        }
    }

    #[test]
    fn what_is_slower_is_tried_ever_more_rarely() {
        let ways = Ways::new(Rc::default());
        let usual = |way| if way == DurableWay::Blocking { BLOCKING } else { BLOCKING + 15_000 };
        let (way, others) = run(&ways, 4096, 20_000, usual);
        assert_eq!((way, others <= 1), (DurableWay::Blocking, true));
        let tried = (0..10_000).filter(|_| ways.choose(4096, 1) == DurableWay::Ring).count();
        assert!((1..=3).contains(&tried), "{tried} of 10000");
    }

    #[test]
    fn a_way_that_becomes_slow_is_left_and_found_again_when_it_is_fast() {
        let ways = Ways::new(Rc::default());
        let usual = |way| if way == DurableWay::Blocking { BLOCKING } else { BLOCKING + 15_000 };
        // The thread is not run for 4 ms after it slept in a system call.
        let slow = |way| if way == DurableWay::Blocking { 4_000_000 } else { BLOCKING + 15_000 };
        assert_eq!(run(&ways, 4096, 5000, usual).0, DurableWay::Blocking);
        assert_eq!(run(&ways, 4096, 200, slow).0, DurableWay::Ring);
        assert_eq!(run(&ways, 4096, 50_000, usual).0, DurableWay::Blocking);
    }

    #[test]
    fn a_thread_with_others_to_serve_does_not_block() {
        let ways = Ways::new(Rc::default());
        let closely = |way| if way == DurableWay::Blocking { BLOCKING } else { 2 * BLOCKING };
        assert_eq!(run_among(&ways, 4096, 1000, (CROWD, 0), closely).0, DurableWay::Ring);
        // They do not change what is best for one.
        assert_eq!(run(&ways, 4096, 1000, closely).0, DurableWay::Blocking);
    }

    #[test]
    fn that_a_busy_thread_notices_late_what_the_ring_did_does_not_count() {
        let ways = Ways::new(Rc::default());
        let late = |way| if way == DurableWay::Blocking { BLOCKING } else { 20 * BLOCKING };
        assert_eq!(run_among(&ways, 4096, 1000, (50, 90), late).0, DurableWay::Ring);
        assert_eq!(run_among(&ways, 4096, 5000, (50, 0), late).0, DurableWay::Blocking);
    }

    #[test]
    fn a_ring_that_waits_for_a_timer_tick_is_not_used_for_long_batches_either() {
        let ways = Ways::new(Rc::default());
        let len = 256 << 10;
        let cliff = |way| if way == DurableWay::Blocking { 150_000 } else { 4_000_000 };
        assert_eq!(run(&ways, len, 300, cliff).0, DurableWay::Blocking);
    }
}
