//! Races of expiry against guarded writes, as many as `CORERING_TEST_FENCE_RACES` says; a million by
//! `cargo run --release -p corering-sim -- run 0..50000 --only fence`.

use corering_sim::fence::RACES_EACH;
use corering_sim::scenario::{find, run_range};

#[test]
fn no_write_of_a_stale_holder_gets_in() {
    let races: u64 =
        std::env::var("CORERING_TEST_FENCE_RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let fence = find("fence").expect("it has this name");
    let seeds = 0..races.div_ceil(RACES_EACH) * fence.one_in;
    let (account, failures) = run_range(&[fence], seeds, threads, 1, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    println!("{account}");
    let acts = |name: &str| account.acts.get(name).copied().unwrap_or_default();
    assert!(acts("races of an expiry against a guarded write") >= races);
    assert!(acts("writes in time") > races && acts("writes refused as fenced") > races, "{account}");
    assert!(acts("renewed at the last moment") > races / 50, "{account}");
}
