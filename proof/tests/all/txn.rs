//! The transaction check: each anomaly of the catalogue is found under its name, good histories show none, and another checker
//! (the crate `adya`) agrees, on these and on random ones.

use corering_proof::txn::second_opinion::{Opinion, strictly_serializable};
use corering_proof::txn::{Action, Kind, Outcome, Txn, check, check_serializable};
use proptest::prelude::*;

fn txn(asked: u64, at: u64, actions: Vec<Action>) -> Txn {
    Txn { client: 0, actions, asked, outcome: Outcome::Committed { at } }
}

/// All at once.
fn at_once(actions: Vec<Action>) -> Txn {
    txn(1, 100, actions)
}

fn append(key: u64, value: i64) -> Action {
    Action::Append { key, value }
}

fn list(key: u64, values: &[i64]) -> Action {
    Action::ReadList { key, values: values.to_vec() }
}

fn write(key: u64, value: i64) -> Action {
    Action::Write { key, value }
}

fn read(key: u64, value: i64) -> Action {
    Action::Read { key, value: Some(value) }
}

fn empty(key: u64) -> Action {
    Action::Read { key, value: None }
}

struct Bad {
    name: &'static str,
    kind: Kind,
    /// Only because of real time.
    real_time: bool,
    history: Vec<Txn>,
}

fn bad(name: &'static str, kind: Kind, history: Vec<Txn>) -> Bad {
    Bad { name, kind, real_time: false, history }
}

fn late(name: &'static str, kind: Kind, history: Vec<Txn>) -> Bad {
    Bad { name, kind, real_time: true, history }
}

fn aborted(actions: Vec<Action>) -> Txn {
    Txn { client: 0, actions, asked: 1, outcome: Outcome::Aborted }
}

fn unknown(asked: u64, actions: Vec<Action>) -> Txn {
    Txn { client: 0, actions, asked, outcome: Outcome::Unknown }
}

fn of_lists() -> Vec<Bad> {
    vec![
        bad(
            "dirty write",
            Kind::G0,
            vec![
                at_once(vec![append(1, 1), append(2, 1)]),
                at_once(vec![append(1, 2), append(2, 2)]),
                at_once(vec![list(1, &[1, 2]), list(2, &[2, 1])]),
            ],
        ),
        bad("read of aborted", Kind::G1a, vec![aborted(vec![append(1, 1)]), at_once(vec![list(1, &[1])])]),
        bad(
            "dirty read",
            Kind::G1b,
            vec![
                at_once(vec![append(1, 1), append(1, 2)]),
                at_once(vec![list(1, &[1])]),
                at_once(vec![list(1, &[1, 2])]),
            ],
        ),
        bad(
            "cyclic information flow",
            Kind::G1c,
            vec![at_once(vec![append(1, 1), list(2, &[2])]), at_once(vec![append(2, 2), list(1, &[1])])],
        ),
        bad(
            "read skew",
            Kind::GSingle,
            vec![
                at_once(vec![append(1, 1), append(2, 1)]),
                at_once(vec![list(1, &[]), list(2, &[1])]),
                at_once(vec![list(1, &[1])]),
            ],
        ),
        bad(
            "lost update",
            Kind::LostUpdate,
            vec![
                at_once(vec![list(1, &[]), append(1, 1)]),
                at_once(vec![list(1, &[]), append(1, 2)]),
                at_once(vec![list(1, &[1, 2])]),
            ],
        ),
        bad(
            "write skew",
            Kind::G2,
            vec![
                at_once(vec![list(1, &[]), list(2, &[]), append(1, 1)]),
                at_once(vec![list(1, &[]), list(2, &[]), append(2, 1)]),
                at_once(vec![list(1, &[1]), list(2, &[1])]),
            ],
        ),
        bad(
            "write skew that nobody read",
            Kind::G2,
            vec![
                at_once(vec![list(1, &[]), list(2, &[]), append(1, 1)]),
                at_once(vec![list(1, &[]), list(2, &[]), append(2, 1)]),
            ],
        ),
        bad(
            "long fork",
            Kind::G2,
            vec![
                at_once(vec![append(1, 1)]),
                at_once(vec![append(2, 1)]),
                at_once(vec![list(1, &[1]), list(2, &[])]),
                at_once(vec![list(1, &[]), list(2, &[1])]),
            ],
        ),
        bad(
            "non-repeatable read",
            Kind::Internal,
            vec![at_once(vec![append(1, 1)]), at_once(vec![list(1, &[]), list(1, &[1])])],
        ),
        bad("own write not read", Kind::Internal, vec![at_once(vec![append(1, 1), list(1, &[])])]),
        bad("applied twice", Kind::Duplicate, vec![at_once(vec![append(1, 1)]), at_once(vec![list(1, &[1, 1])])]),
        bad("out of thin air", Kind::ThinAir, vec![at_once(vec![append(1, 1)]), at_once(vec![list(1, &[9])])]),
        bad(
            "two orders of one list",
            Kind::Incompatible,
            vec![
                at_once(vec![append(1, 1)]),
                at_once(vec![append(1, 2)]),
                at_once(vec![list(1, &[1, 2])]),
                at_once(vec![list(1, &[2])]),
            ],
        ),
        bad(
            "half of a transaction whose outcome is unknown",
            Kind::GSingle,
            vec![unknown(1, vec![append(1, 1), append(2, 1)]), at_once(vec![list(1, &[1]), list(2, &[])])],
        ),
        late(
            "stale read",
            Kind::GSingle,
            vec![txn(1, 2, vec![append(1, 1)]), txn(3, 4, vec![list(1, &[])]), txn(5, 6, vec![list(1, &[1])])],
        ),
        late("lost write", Kind::GSingle, vec![txn(1, 2, vec![append(1, 1)]), txn(3, 4, vec![list(1, &[])])]),
        late(
            "a write of unknown outcome that was seen and is gone",
            Kind::GSingle,
            vec![unknown(1, vec![append(1, 1)]), txn(3, 4, vec![list(1, &[1])]), txn(5, 6, vec![list(1, &[])])],
        ),
        late(
            "writes in an order against time",
            Kind::G0,
            vec![txn(1, 2, vec![append(1, 1)]), txn(3, 4, vec![append(1, 2)]), txn(5, 6, vec![list(1, &[2, 1])])],
        ),
        late(
            "a read of what is yet to be written",
            Kind::G1c,
            vec![txn(1, 2, vec![list(1, &[1])]), txn(3, 4, vec![append(1, 1)])],
        ),
    ]
}

fn of_registers() -> Vec<Bad> {
    vec![
        bad("read of aborted", Kind::G1a, vec![aborted(vec![write(1, 1)]), at_once(vec![read(1, 1)])]),
        bad("dirty read", Kind::G1b, vec![at_once(vec![write(1, 1), write(1, 2)]), at_once(vec![read(1, 1)])]),
        bad(
            "cyclic information flow",
            Kind::G1c,
            vec![at_once(vec![write(1, 1), read(2, 2)]), at_once(vec![write(2, 2), read(1, 1)])],
        ),
        bad(
            "lost update",
            Kind::LostUpdate,
            vec![at_once(vec![empty(1), write(1, 1)]), at_once(vec![empty(1), write(1, 2)])],
        ),
        bad(
            "read skew",
            Kind::GSingle,
            vec![at_once(vec![write(1, 1), write(2, 1)]), at_once(vec![empty(1), read(2, 1)])],
        ),
        bad(
            "write skew",
            Kind::G2,
            vec![at_once(vec![empty(1), empty(2), write(1, 1)]), at_once(vec![empty(1), empty(2), write(2, 1)])],
        ),
        bad(
            "long fork",
            Kind::G2,
            vec![
                at_once(vec![write(1, 1)]),
                at_once(vec![write(2, 1)]),
                at_once(vec![read(1, 1), empty(2)]),
                at_once(vec![empty(1), read(2, 1)]),
            ],
        ),
        bad(
            "non-repeatable read",
            Kind::Internal,
            vec![at_once(vec![write(1, 1)]), at_once(vec![empty(1), read(1, 1)])],
        ),
        bad("out of thin air", Kind::ThinAir, vec![at_once(vec![read(1, 9)])]),
        late(
            "stale read",
            Kind::GSingle,
            vec![txn(1, 2, vec![write(1, 1)]), txn(3, 4, vec![write(1, 2)]), txn(5, 6, vec![read(1, 1)])],
        ),
        late("lost write", Kind::GSingle, vec![txn(1, 2, vec![write(1, 1)]), txn(3, 4, vec![empty(1)])]),
        late(
            "a read that goes back",
            Kind::GSingle,
            vec![
                txn(1, 20, vec![write(1, 1)]),
                txn(1, 20, vec![write(1, 2)]),
                txn(2, 3, vec![read(1, 1)]),
                txn(4, 5, vec![read(1, 2)]),
                txn(6, 7, vec![read(1, 1)]),
            ],
        ),
        late(
            "a write of unknown outcome that was seen and is gone",
            Kind::GSingle,
            vec![unknown(1, vec![write(1, 1)]), txn(3, 4, vec![read(1, 1)]), txn(5, 6, vec![empty(1)])],
        ),
    ]
}

#[test]
fn every_anomaly_is_found_under_its_name() {
    for Bad { name, kind, real_time, history } in of_lists().into_iter().chain(of_registers()) {
        let found = check(&history);
        let named = |a: &&corering_proof::txn::Anomaly| a.kind == kind && a.real_time == real_time;
        assert!(found.iter().any(|a| named(&a)), "{name}: {found:?}");
        // Without real time the late ones are nothing, and the others the same.
        assert_eq!(check_serializable(&history).is_empty(), real_time, "{name}");
    }
}

/// What the other checker passes over: it takes a value that nobody wrote for one written before the history began.
const BEYOND_THE_OTHER: [&str; 2] = ["out of thin air", "out of thin air"];

#[test]
fn another_checker_refuses_them_too() {
    let all = of_lists().into_iter().chain(of_registers());
    let passed: Vec<_> =
        all.filter(|bad| !matches!(strictly_serializable(&bad.history), Opinion::Bad(_))).map(|bad| bad.name).collect();
    assert_eq!(passed, BEYOND_THE_OTHER);
}

#[test]
fn good_histories_show_none() {
    let good = [
        vec![],
        vec![at_once(vec![append(1, 1), list(1, &[1])]), at_once(vec![list(1, &[1]), append(1, 2), list(1, &[1, 2])])],
        // An unknown one that was not done, and one that was.
        vec![unknown(1, vec![append(1, 1)]), txn(3, 4, vec![list(1, &[])])],
        vec![unknown(1, vec![append(1, 1)]), txn(3, 4, vec![list(1, &[])]), txn(5, 6, vec![list(1, &[1])])],
        // What an aborted one read is its own affair.
        vec![aborted(vec![list(1, &[7]), append(1, 1)]), txn(3, 4, vec![list(1, &[])])],
        vec![txn(1, 9, vec![append(1, 1)]), txn(2, 3, vec![list(1, &[])]), txn(4, 5, vec![list(1, &[1])])],
        vec![txn(1, 2, vec![write(1, 1)]), txn(3, 4, vec![read(1, 1), write(1, 2)]), txn(5, 6, vec![read(1, 2)])],
        vec![txn(1, 9, vec![write(1, 1)]), txn(1, 9, vec![write(1, 2)]), txn(10, 11, vec![read(1, 1)])],
        vec![unknown(1, vec![write(1, 1)]), txn(3, 4, vec![empty(1)]), txn(5, 6, vec![read(1, 1)])],
    ];
    for history in good {
        let found = check(&history);
        assert!(found.is_empty(), "{history:?}: {found:?}");
    }
}

/// One transaction of a random history: `(writes instead of reads, key)` for each action.
#[derive(Clone, Debug)]
struct Made {
    actions: Vec<(bool, u64)>,
    before: u64,
    after: u64,
    /// 0: aborted; 1: unknown and done; 2: unknown and not done; else committed.
    fate: u8,
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let actions = prop::collection::vec((any::<bool>(), 0..3u64), 1..4);
    let one = (actions, 0..80u64, 0..80u64, 0..20u8).prop_map(|(actions, before, after, fate)| Made {
        actions,
        before,
        after,
        fate,
    });
    prop::collection::vec(one, 1..40)
}

/// One after the other, ten units apart; so the history is strictly serializable.
fn play(made: &[Made], lists: bool) -> Vec<Txn> {
    let mut state: std::collections::BTreeMap<u64, Vec<i64>> = Default::default();
    let mut value = 0;
    made.iter()
        .enumerate()
        .map(|(n, made)| {
            let at = 1_000 + 10 * n as u64;
            let mut after = state.clone();
            let mut actions = Vec::new();
            for (writes, key) in &made.actions {
                let values = after.entry(*key).or_default();
                value += i64::from(*writes);
                actions.push(match (writes, lists) {
                    (true, true) => append(*key, value),
                    (true, false) => write(*key, value),
                    (false, true) => list(*key, values),
                    (false, false) => Action::Read { key: *key, value: values.last().copied() },
                });
                if *writes {
                    values.push(value);
                }
            }
            let outcome = match made.fate {
                0 => Outcome::Aborted,
                1 | 2 => Outcome::Unknown,
                _ => Outcome::Committed { at: at + made.after },
            };
            if made.fate != 0 && made.fate != 2 {
                state = after;
            }
            Txn { client: n as u32, actions, asked: at - made.before, outcome }
        })
        .collect()
}

/// Make one read show less than it did: the list or the register as it was one write earlier.
fn set_back(history: &mut [Txn], at: prop::sample::Index) -> bool {
    let mut reads: Vec<&mut Action> = history
        .iter_mut()
        .filter(|txn| matches!(txn.outcome, Outcome::Committed { .. }))
        .flat_map(|txn| &mut txn.actions)
        .filter(|action| matches!(action, Action::ReadList { values, .. } if !values.is_empty()))
        .collect();
    if reads.is_empty() {
        return false;
    }
    let n = at.index(reads.len());
    if let Action::ReadList { values, .. } = &mut *reads[n] {
        values.pop();
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_serial_history_shows_none(made in made(), lists in any::<bool>()) {
        let history = play(&made, lists);
        let found = check(&history);
        prop_assert!(found.is_empty(), "{:?}", found);
        prop_assert!(!matches!(strictly_serializable(&history), Opinion::Bad(_)));
    }

    /// A read set back may still be explained, where transactions were at once. Then both checkers say so.
    #[test]
    fn both_checkers_say_the_same_of_a_read_that_was_set_back(made in made(), at in any::<prop::sample::Index>()) {
        let mut history = play(&made, true);
        if set_back(&mut history, at) {
            let ours = !check(&history).is_empty();
            let other = strictly_serializable(&history);
            prop_assert_eq!(ours, matches!(other, Opinion::Bad(_)), "ours {:?}, the other {:?}", check(&history), other);
        }
    }

    /// One after the other without overlap, a read set back has no explanation.
    #[test]
    fn a_read_that_was_set_back_is_found_where_time_leaves_no_choice(
        made in made(),
        at in any::<prop::sample::Index>(),
    ) {
        let made: Vec<Made> =
            made.into_iter().map(|made| Made { before: 1, after: 1, fate: 3, ..made }).collect();
        let mut history = play(&made, true);
        if set_back(&mut history, at) {
            prop_assert!(!check(&history).is_empty());
        }
    }
}
