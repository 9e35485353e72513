//! A range of seeds on all cores. Each runs alone in a thread: threads share nothing but the next number.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::runtime::sim::core::message_of;

/// The environment variable that chooses the seeds of a test: `100..2000`, or one.
pub const SEEDS_VARIABLE: &str = "SIM_SEEDS";

/// The seeds asked for by [`SEEDS_VARIABLE`], else `usual`; only the one of a replay if there is one.
pub fn seeds_asked(usual: Range<u64>) -> Range<u64> {
    if let Ok(replay) = std::env::var(super::REPLAY_VARIABLE)
        && let Some((seed, _)) = super::deaths::parse(&replay)
    {
        return seed..seed + 1;
    }
    let Ok(text) = std::env::var(SEEDS_VARIABLE) else { return usual };
    parse_seeds(&text).unwrap_or_else(|| panic!("{SEEDS_VARIABLE}={text} is neither a seed nor a range like 0..100"))
}

/// `100..2000`, or one.
pub fn parse_seeds(text: &str) -> Option<Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Some(from.trim().parse().ok()?..to.trim().parse().ok()?),
        None => text.trim().parse().ok().map(|seed: u64| seed..seed + 1),
    }
}

/// A seed that did not end as it must.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedFailure {
    pub seed: u64,
    pub message: String,
}

/// Run every seed on `threads` threads. `progress` hears how many are done and how many of them failed. After
/// `failures_max` failures no more seeds are begun. Returns the results and failures in the order of their seeds, so
/// that they do not depend on the threads.
pub fn run_seeds<T: Send>(
    seeds: Range<u64>,
    threads: usize,
    failures_max: usize,
    run: impl Fn(u64) -> Result<T, String> + Sync + std::panic::RefUnwindSafe,
    progress: impl Fn(u64, usize) + Sync,
) -> (BTreeMap<u64, T>, Vec<SeedFailure>) {
    let next = AtomicU64::new(seeds.start);
    let done: Mutex<(BTreeMap<u64, T>, Vec<SeedFailure>)> = Mutex::new((BTreeMap::new(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || done.lock().1.len() >= failures_max {
                return;
            }
            let result = catch_unwind(|| run(seed)).unwrap_or_else(|panic| Err(message_of(&*panic)));
            let mut done = done.lock();
            match result {
                Ok(value) => drop(done.0.insert(seed, value)),
                Err(message) => done.1.push(SeedFailure { seed, message }),
            }
            let (ended, failed) = ((done.0.len() + done.1.len()) as u64, done.1.len());
            drop(done);
            progress(ended, failed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let (results, mut failures) = done.into_inner();
    failures.sort_by_key(|failure| failure.seed);
    (results, failures)
}

#[cfg(test)]
mod tests {
    use super::parse_seeds;

    #[test]
    fn seeds_are_a_range_or_one() {
        assert_eq!(parse_seeds("3..10"), Some(3..10));
        assert_eq!(parse_seeds("7"), Some(7..8));
        assert_eq!(parse_seeds("7.."), None);
        assert_eq!(parse_seeds("x"), None);
    }
}
