//! A few hundred seeds of the swarm, and that a seed does the same in every build.

use corering_engine::runtime::sim::harness::seeds_asked;
use corering_sim::scenario::{find, pins_hold, run_range};

#[test]
fn every_answer_agrees_with_the_model_in_every_life() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chosen = ["swarm", "twice"].map(|name| find(name).expect("it is in the list"));
    let (account, failures) = run_range(&chosen, seeds_asked(0..500), threads, 1, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    println!("{account}");
}

#[test]
fn the_trace_of_a_seed_is_the_same_in_every_build() {
    pins_hold().unwrap();
}
