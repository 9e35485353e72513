//! The list of what seeds are run through, and how a range of them is.

use std::ops::Range;

use corering_engine::runtime::sim::harness::{SeedFailure, run_seeds};

use crate::account::Account;
use crate::{crashes, fence, rot, swarm};

/// Something that runs a seed. With a replay (the seed, and for an enumeration the deaths) only that, printing every event.
pub struct Scenario {
    pub name: &'static str,
    /// What a seed that passes has shown.
    pub claim: &'static str,
    /// Of a range, one seed in so many is run through it.
    pub one_in: u64,
    pub run: fn(seed: u64, replay: Option<&str>) -> Result<Account, String>,
}

pub const ALL: [Scenario; 6] = [
    Scenario {
        name: "swarm",
        claim: "whatever is mixed, every answer agrees with the model, in every life",
        one_in: 1,
        run: swarm::run,
    },
    Scenario { name: "twice", claim: "a seed does the same whenever it is run", one_in: 20, run: twice },
    Scenario {
        name: "crashes",
        claim: "a script survives dying at each of its points, and twice more in its recoveries",
        one_in: 50,
        run: crashes::of_seed,
    },
    Scenario {
        name: "fence",
        claim: "no write under a token gets in after its lease, or behind the next holder's; 50000 seeds in a row are a million races",
        one_in: 20,
        run: fence::run,
    },
    Scenario {
        name: "bits",
        claim: "every flipped bit of a closed database is harmless or refused by its place; 1000 seeds in a row flip all",
        one_in: 1,
        run: rot::flips,
    },
    Scenario {
        name: "blocks",
        claim: "so is every exchange of two blocks; 1000 seeds in a row try all",
        one_in: 1,
        run: rot::exchanges,
    },
];

/// Run a seed of the swarm once more than the range does, and compare all that they did.
fn twice(seed: u64, replay: Option<&str>) -> Result<Account, String> {
    let (first, second) = (swarm::run(seed, replay)?, swarm::run(seed, replay)?);
    if first == second { Ok(second) } else { Err(format!("it does something else each time:\n{first}\n{second}")) }
}

/// The scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// All of them.
pub fn all() -> Vec<&'static Scenario> {
    ALL.iter().collect()
}

/// Run one seed through those of the scenarios whose turn it is.
pub fn run_seed(scenarios: &[&Scenario], seed: u64) -> Result<Account, String> {
    let mut account = Account { seeds: 1, ..Account::default() };
    for scenario in scenarios.iter().filter(|scenario| seed.is_multiple_of(scenario.one_in)) {
        account.absorb(&(scenario.run)(seed, None).map_err(|e| told(scenario, seed, &e))?);
    }
    Ok(account)
}

/// Run a range of seeds, on so many threads. `progress` hears of the seeds that have ended and failed.
pub fn run_range(
    scenarios: &[&Scenario],
    seeds: Range<u64>,
    threads: usize,
    failures_max: usize,
    progress: impl Fn(u64, usize) + Sync,
) -> (Account, Vec<SeedFailure>) {
    let run = |seed: u64| run_seed(scenarios, seed);
    let (accounts, failures) = run_seeds(seeds, threads, failures_max, run, progress);
    let mut total = Account::default();
    accounts.values().for_each(|account| total.absorb(account));
    (total, failures)
}

/// A failure with the one command that runs it again. An enumeration names its deaths itself, at the end of its message.
fn told(scenario: &Scenario, seed: u64, message: &str) -> String {
    let (message, replay) = match message.rsplit_once(REPLAY) {
        Some((message, replay)) => (message, replay.to_owned()),
        None => (message, seed.to_string()),
    };
    format!(
        "{}, seed {seed}: {message}\nreplay: cargo run --release -p corering-sim -- replay {} {replay}",
        scenario.name, scenario.name
    )
}

/// What stands between an enumeration's message and its replay.
pub const REPLAY: &str = "\u{0}replay ";

/// Seeds of the swarm and the hashes of all that they do. Any build must come to the same: tests run them in debug, the program in
/// release. A change of what the engine does changes them; a change of how it is built must not.
pub const PINNED: [(u64, u64); 3] =
    [(0, 0xd05f_15ee_95d9_77b0), (7, 0xc72f_5933_4f8e_68b7), (11, 0xd99b_7a6e_31fc_66e3)];

/// Whether the pinned seeds do what they did when they were pinned.
pub fn pins_hold() -> Result<(), String> {
    let now = PINNED.map(|(seed, _)| swarm::run(seed, None).map(|account| (seed, account.trace_hash)));
    let now = now.into_iter().collect::<Result<Vec<_>, _>>()?;
    if now == PINNED {
        return Ok(());
    }
    Err(format!(
        "the pinned seeds do something else: {now:#018x?}. If the engine changed, these are the numbers to pin; if not, \
         something in it depends on the build"
    ))
}
