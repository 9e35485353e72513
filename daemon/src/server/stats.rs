//! Counters for INFO. Each shard's thread writes its own; whoever asks sums them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corering_engine::ShardId;
use corering_engine::shard::lock_counts::LockCounts;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

/// Error codes counted apart; a client can make up no more.
const CODES_MAX: usize = 128;

/// Written by one thread only, so that adding needs no locked instruction.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($name:ident,)*) => {
        /// One shard's counters.
        #[derive(Default)]
        pub struct ShardStats { $(pub $name: Counter,)* }

        /// The counters of all shards together.
        #[derive(Clone, Copy, Default, Debug)]
        pub struct Sum { $(pub $name: u64,)* }

        impl Sum {
            fn add(&mut self, shard: &ShardStats) {
                $(self.$name += shard.$name.get();)*
            }

            fn since(self, base: Sum) -> Sum {
                Sum { $($name: self.$name.saturating_sub(base.$name),)* }
            }
        }
    };
}

counters! { commands, connections, rejected, input_bytes, output_bytes, hits, misses, receives, sends, errors,
exec_committed, exec_watched, }

/// Events in the last second or so.
#[derive(Clone, Copy, Default, Debug)]
pub struct Rates {
    pub commands: u64,
    pub input_bytes: u64,
    pub output_bytes: u64,
}

struct Sample {
    at: Instant,
    sum: Sum,
    rates: Rates,
}

pub struct Stats {
    shards: Vec<CachePadded<ShardStats>>,
    /// What CONFIG RESETSTAT took for zero.
    base: Mutex<Sum>,
    base_locks: Mutex<LockCounts>,
    codes: Mutex<BTreeMap<String, u64>>,
    sample: Mutex<Sample>,
}

impl Stats {
    pub fn new(shards: u16) -> Stats {
        Stats {
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
            base: Mutex::default(),
            base_locks: Mutex::default(),
            codes: Mutex::default(),
            sample: Mutex::new(Sample { at: Instant::now(), sum: Sum::default(), rates: Rates::default() }),
        }
    }

    /// For the thread of `shard` alone.
    pub fn shard(&self, shard: ShardId) -> Option<&ShardStats> {
        self.shards.get(shard.index()).map(|stats| &**stats)
    }

    fn total(&self) -> Sum {
        let mut sum = Sum::default();
        for shard in &self.shards {
            sum.add(shard);
        }
        sum
    }

    pub fn sum(&self) -> Sum {
        self.total().since(*self.base.lock())
    }

    /// What the engine has counted of locks since the last reset.
    pub fn lock_counts(&self, all: &LockCounts) -> LockCounts {
        all.since(&self.base_locks.lock())
    }

    pub fn reset(&self, locks: LockCounts) {
        *self.base.lock() = self.total();
        *self.base_locks.lock() = locks;
        self.codes.lock().clear();
    }

    /// Count an error reply by the first word of its text.
    pub fn count_error(&self, code: &[u8]) {
        let code = String::from_utf8_lossy(code).into_owned();
        let mut codes = self.codes.lock();
        if codes.len() < CODES_MAX || codes.contains_key(&code) {
            *codes.entry(code).or_default() += 1;
        }
    }

    pub fn errors(&self) -> Vec<(String, u64)> {
        self.codes.lock().iter().map(|(code, count)| (code.clone(), *count)).collect()
    }

    /// Called about once a second.
    pub fn sample(&self, now: Instant) {
        let sum = self.total();
        let mut sample = self.sample.lock();
        let time = now.saturating_duration_since(sample.at).max(Duration::from_millis(1));
        let per_second = |after: u64, before: u64| (after.saturating_sub(before) as f64 / time.as_secs_f64()) as u64;
        sample.rates = Rates {
            commands: per_second(sum.commands, sample.sum.commands),
            input_bytes: per_second(sum.input_bytes, sample.sum.input_bytes),
            output_bytes: per_second(sum.output_bytes, sample.sum.output_bytes),
        };
        sample.at = now;
        sample.sum = sum;
    }

    pub fn rates(&self) -> Rates {
        self.sample.lock().rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_and_reset_takes_them_for_zero() {
        let stats = Stats::new(2);
        stats.shard(ShardId(0)).unwrap().commands.add(3);
        stats.shard(ShardId(1)).unwrap().commands.add(4);
        assert_eq!(stats.sum().commands, 7);
        stats.count_error(b"ERR");
        stats.reset(LockCounts { grants: 2, ..LockCounts::default() });
        stats.shard(ShardId(1)).unwrap().commands.add(1);
        assert_eq!(stats.sum().commands, 1);
        assert!(stats.errors().is_empty());
        assert_eq!(stats.lock_counts(&LockCounts { grants: 5, ..LockCounts::default() }).grants, 3);
        assert!(stats.shard(ShardId(2)).is_none());
    }

    #[test]
    fn rates_are_per_second() {
        let stats = Stats::new(1);
        let start = Instant::now();
        stats.sample(start);
        stats.shard(ShardId(0)).unwrap().commands.add(100);
        stats.sample(start + Duration::from_millis(500));
        assert!((199..=201).contains(&stats.rates().commands), "{:?}", stats.rates());
    }

    #[test]
    fn made_up_error_codes_are_bounded() {
        let stats = Stats::new(1);
        for i in 0..1000 {
            stats.count_error(format!("CODE{i}").as_bytes());
        }
        assert_eq!(stats.errors().len(), CODES_MAX);
    }
}
