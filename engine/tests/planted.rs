//! Proof that the simulations of the log, of watches and of lines at locks can fail: a log that takes frames of an earlier life, a watch
//! that does not wait for what other shards have under way, and a line that is served from its end. Each within the seeds of `make test`.
//!
//! A program of its own, so that the engine that can be told to be wrong is linked with no more than this.

use corering_engine::canary::{Canary, plant};
use corering_engine::runtime::sim::harness::run_seeds;

#[path = "sim/lock_history.rs"]
mod lock_history;
mod support;
#[path = "sim/wal.rs"]
mod wal;
#[path = "sim/watch.rs"]
mod watch;

/// One of the seeds fails with the mistake planted.
fn find<T: Send>(canary: Canary, seeds: std::ops::Range<u64>, run: fn(u64) -> Result<T, String>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let planted = |seed| {
        plant(Some(canary));
        let ran = run(seed);
        plant(None);
        ran
    };
    let (_, failures) = run_seeds(seeds.clone(), threads, 1, planted, |_, _| ());
    match failures.first() {
        Some(failure) => println!("found by seed {}: {}", failure.seed, failure.message),
        None => panic!("no seed of {seeds:?} finds it"),
    }
}

#[test]
fn watches_that_are_told_early_are_found() {
    find(Canary::HandOutEarly, 0..4, watch::run);
}

#[test]
fn a_line_that_is_served_from_its_end_is_found() {
    find(Canary::ServeOutOfTurn, 0..48, lock_history::run);
}

#[test]
fn a_frame_of_an_earlier_life_is_found() {
    find(Canary::AcceptEarlierLife, 20..28, wal::run);
}
