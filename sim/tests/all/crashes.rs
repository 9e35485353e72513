//! Each script dies at a part of its points; `make sim` at all of them.

use corering_engine::runtime::sim::harness::run_seeds;
use corering_sim::account::Account;
use corering_sim::crashes::{SCRIPTS, run};

#[test]
fn every_script_survives_every_death() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let one = |at: u64| run(&SCRIPTS[at as usize], at, Some(10), None);
    let (accounts, failures) = run_seeds(0..SCRIPTS.len() as u64, threads, 1, one, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    let mut total = Account::default();
    accounts.values().for_each(|account| total.absorb(account));
    println!("{total}");
    assert!(total.lives > 300, "{total}");
}
