//! Proof that the simulation of watches can fail: a watch that does not wait for what other shards have under way.
//!
//! A program of its own, so that the engine that can be told to be wrong is linked with no more than this.

use corering_engine::canary::{Canary, plant};
use corering_engine::runtime::sim::harness::run_seeds;

mod support;
#[path = "sim/watch.rs"]
mod watch;

#[test]
fn a_planted_mistake_is_found() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let planted = |seed| {
        plant(Some(Canary::HandOutEarly));
        let ran = watch::run(seed);
        plant(None);
        ran
    };
    let (_, failures) = run_seeds(0..20, threads, 1, planted, |_, _| ());
    let failure = failures.first().expect("no seed finds it");
    println!("found by seed {}: {}", failure.seed, failure.message);
}
