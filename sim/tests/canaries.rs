//! Proof that the simulation can fail: mistakes planted in the engine, each of which its ordinary seeds must find.

use corering_engine::canary::{Canary, plant};
use corering_engine::runtime::sim::harness::run_seeds;
use corering_sim::scenario;

/// The seeds that `make test` runs anyway, and through which scenarios: all of them through one, then through the next. Races of leases
/// are few and soon over; a script that dies at each of its points takes as long as hundreds of seeds of the swarm, so that comes last.
/// What flips bits is aimed at other mistakes.
const SEEDS: std::ops::Range<u64> = 0..500;
const SCENARIOS: [&str; 3] = ["fence", "swarm", "crashes"];

/// The first seed that fails with the mistake planted, and what it says.
fn find(canary: Canary) -> Option<(u64, String)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let scenarios: Vec<_> = SCENARIOS.iter().filter_map(|name| scenario::find(name)).collect();
    assert_eq!(scenarios.len(), SCENARIOS.len(), "a scenario has another name");
    scenarios.into_iter().find_map(|scenario| {
        let run = |seed| {
            plant(Some(canary));
            let ran = scenario::run_seed(&[scenario], seed);
            plant(None);
            ran
        };
        let (_, failures) = run_seeds(SEEDS, threads, 1, run, |_, _| ());
        failures.into_iter().next().map(|failure| (failure.seed, failure.message))
    })
}

macro_rules! found {
    ($($test:ident: $canary:ident,)*) => {
        $(#[test]
        fn $test() {
            match find(Canary::$canary) {
                Some((seed, message)) => println!("found by seed {seed}: {message}"),
                None => panic!("no seed of {SEEDS:?} finds it"),
            }
        })*

        #[test]
        fn every_mistake_has_its_test() {
            assert_eq!(vec![$(Canary::$canary),*], Canary::ALL);
        }
    };
}

found! {
    an_acknowledgement_before_the_sync_is_found: AcknowledgeBeforeSync,
    a_directory_sync_that_is_left_out_is_found: SkipDirectorySync,
    a_short_write_that_is_ignored_is_found: IgnoreShortWrite,
    a_failed_sync_that_is_tried_again_is_found: RetryFailedSync,
    an_end_at_damage_in_the_middle_of_the_log_is_found: StopAtDamage,
    a_log_cut_one_record_early_is_found: CutOneRecordEarly,
    a_forgotten_expiry_is_found: ForgetExpiry,
    a_read_of_what_is_not_durable_is_found: ServeNotDurable,
    a_guard_that_outlives_its_lease_is_found: GuardOutlivesLease,
    a_commit_over_shards_that_is_shown_in_part_is_found: ShowCommitInPart,
    a_part_of_a_commit_that_is_kept_without_the_others_is_found: KeepLonelyPart,
    a_lock_that_is_granted_beside_its_holder_is_found: GrantBesideHolder,
    a_hold_that_an_opening_forgot_is_found: ForgetHold,
    ephemeral_keys_that_outlive_their_session_are_found: KeepKeysOfSession,
    a_delete_that_watches_are_not_told_of_is_found: LeaveOutDeletes,
    a_commit_that_does_not_look_at_what_it_read_is_found: SkipReadCheck,
}
