//! The linearizability check: every known-bad history of one key is refused, every good one accepted, and random ones that come
//! from a correct register are accepted until something in them is changed that no order explains.

use corering_proof::history::{Call, End, History};
use corering_proof::linear::{check, check_within};
use corering_proof::register::{Condition, Op, Ret};
use proptest::prelude::*;

/// A call that took from `asked` to `at`.
fn call(client: u32, op: Op, asked: u64, at: u64, ret: Ret) -> Call<Op, Ret> {
    Call { client, key: 1, op, asked, end: End::Answered { at, ret } }
}

fn lost(client: u32, op: Op, asked: u64) -> Call<Op, Ret> {
    Call { client, key: 1, op, asked, end: End::Unknown }
}

const NOTHING: Ret = Ret::Value(None);

fn value(value: i64) -> Ret {
    Ret::Value(Some(value))
}

type Named = (&'static str, History<Op, Ret>);

fn bad() -> Vec<Named> {
    use Op::*;
    vec![
        (
            "a stale read",
            vec![call(0, Put(1), 1, 2, Ret::Done), call(0, Put(2), 3, 4, Ret::Done), call(1, Get, 5, 6, value(1))],
        ),
        ("a lost write", vec![call(0, Put(1), 1, 2, Ret::Done), call(1, Get, 3, 4, NOTHING)]),
        ("a value that nobody wrote", vec![call(0, Put(1), 1, 2, Ret::Done), call(1, Get, 1, 4, value(7))]),
        ("a read of a write that is yet to come", vec![call(1, Get, 1, 2, value(1)), call(0, Put(1), 3, 4, Ret::Done)]),
        (
            "two reads that see two writes in opposite orders",
            vec![
                call(0, Put(1), 1, 20, Ret::Done),
                call(1, Put(2), 1, 20, Ret::Done),
                call(2, Get, 2, 3, value(1)),
                call(2, Get, 4, 5, value(2)),
                call(3, Get, 6, 7, value(1)),
            ],
        ),
        (
            "a read that goes back",
            vec![
                call(0, Put(1), 1, 2, Ret::Done),
                call(0, Put(2), 3, 20, Ret::Done),
                call(1, Get, 4, 5, value(2)),
                call(2, Get, 6, 7, value(1)),
            ],
        ),
        (
            "a lost addition",
            vec![
                call(0, Incr(1), 1, 5, Ret::Sum(1)),
                call(1, Incr(1), 2, 6, Ret::Sum(1)),
                call(2, Get, 7, 8, value(1)),
            ],
        ),
        ("an addition applied twice", vec![call(0, Incr(1), 1, 2, Ret::Sum(1)), call(1, Get, 3, 4, value(2))]),
        (
            "an unanswered addition applied twice",
            vec![lost(0, Incr(1), 1), call(1, Get, 3, 4, value(1)), call(1, Get, 5, 6, value(2))],
        ),
        (
            "an unanswered write that was seen and is gone",
            vec![lost(0, Put(1), 1), call(1, Get, 3, 4, value(1)), call(1, Get, 5, 6, NOTHING)],
        ),
        (
            "an answered write lost behind an unanswered one",
            vec![call(0, Put(1), 1, 2, Ret::Done), lost(1, Put(2), 3), call(0, Get, 4, 5, NOTHING)],
        ),
        (
            "an unanswered write that comes back after a later one was seen over it",
            vec![
                lost(0, Put(1), 1),
                call(1, Get, 2, 3, value(1)),
                call(1, Put(2), 4, 5, Ret::Done),
                call(1, Get, 6, 7, value(1)),
            ],
        ),
        (
            "an unanswered write that took effect before it was asked for",
            vec![call(1, Get, 1, 2, value(1)), lost(0, Put(1), 3)],
        ),
        (
            "a deleted value that is back",
            vec![
                call(0, Put(1), 1, 2, Ret::Done),
                call(0, Delete, 3, 4, Ret::Existed(true)),
                call(1, Get, 5, 6, value(1)),
            ],
        ),
        (
            "a delete that found nothing where there was something",
            vec![call(0, Put(1), 1, 2, Ret::Done), call(1, Delete, 3, 4, Ret::Existed(false))],
        ),
        (
            "two that were both first",
            vec![
                call(0, PutIf(Condition::Absent, 1), 1, 5, Ret::Taken(true)),
                call(1, PutIf(Condition::Absent, 2), 2, 6, Ret::Taken(true)),
            ],
        ),
        (
            "a comparison that held for two",
            vec![
                call(0, Put(1), 1, 2, Ret::Done),
                call(0, PutIf(Condition::Equal(1), 2), 3, 6, Ret::Taken(true)),
                call(1, PutIf(Condition::Equal(1), 3), 4, 7, Ret::Taken(true)),
            ],
        ),
        (
            "a refused write that was done",
            vec![
                call(0, Put(1), 1, 2, Ret::Done),
                call(0, PutIf(Condition::Absent, 2), 3, 4, Ret::Taken(false)),
                call(1, Get, 5, 6, value(2)),
            ],
        ),
        (
            "a write if present that was done with nothing there",
            vec![call(0, PutIf(Condition::Present, 2), 3, 4, Ret::Taken(true))],
        ),
        ("an answer of another kind", vec![call(0, Put(1), 1, 2, NOTHING)]),
    ]
}

fn good() -> Vec<Named> {
    use Op::*;
    vec![
        ("nothing at all", vec![]),
        (
            "a read at once with a write sees either",
            vec![
                call(0, Put(1), 1, 2, Ret::Done),
                call(0, Put(2), 3, 10, Ret::Done),
                call(1, Get, 4, 5, value(1)),
                call(1, Get, 6, 7, value(2)),
            ],
        ),
        (
            "an unanswered write is seen long afterwards",
            vec![
                lost(0, Put(1), 1),
                call(1, Put(2), 2, 3, Ret::Done),
                call(1, Get, 4, 5, value(2)),
                call(1, Get, 6, 7, value(1)),
            ],
        ),
        ("an unanswered write is never seen", vec![lost(0, Put(1), 1), call(1, Get, 4, 5, NOTHING)]),
        (
            "an unanswered delete explains what is gone",
            vec![call(0, Put(1), 1, 2, Ret::Done), lost(1, Delete, 1), call(0, Get, 4, 5, NOTHING)],
        ),
        (
            "an unanswered read says nothing",
            vec![lost(1, Get, 0), call(0, Put(1), 1, 2, Ret::Done), call(0, Get, 4, 5, value(1))],
        ),
        (
            "the answers of the same moment are at once",
            vec![call(0, Put(1), 1, 3, Ret::Done), call(1, Get, 3, 4, NOTHING)],
        ),
        (
            "additions in any order",
            vec![
                call(0, Incr(1), 1, 9, Ret::Sum(6)),
                call(1, Incr(5), 1, 9, Ret::Sum(5)),
                lost(2, Incr(100), 1),
                call(3, Get, 10, 11, value(6)),
                call(3, Get, 12, 13, value(106)),
            ],
        ),
        (
            "a comparison fails because of an unanswered write",
            vec![
                call(0, Put(1), 1, 2, Ret::Done),
                lost(1, Put(2), 1),
                call(0, PutIf(Condition::Equal(1), 3), 5, 6, Ret::Taken(false)),
                call(0, Get, 7, 8, value(2)),
            ],
        ),
    ]
}

#[test]
fn every_bad_history_is_refused() {
    for (name, history) in bad() {
        let refusal = check(history).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(!refusal.undecided, "{name}");
    }
}

#[test]
fn every_good_history_is_accepted() {
    for (name, history) in good() {
        let calls = history.len();
        let accepted = check(history).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(accepted.calls, calls, "{name}");
    }
}

#[test]
fn keys_do_not_explain_each_other() {
    let mut history = vec![call(0, Op::Put(1), 1, 2, Ret::Done), call(0, Op::Get, 3, 4, value(1))];
    history.push(Call { key: 2, ..call(0, Op::Get, 5, 6, value(1)) });
    assert_eq!(check(history).unwrap_err().key, 2);
}

#[test]
fn a_search_that_gives_up_says_so() {
    let mut history: History<Op, Ret> = (0..12).map(|n| lost(n, Op::Put(i64::from(n)), 1)).collect();
    history.push(call(20, Op::Get, 2, 3, value(99)));
    let refusal = check_within(history.clone(), 50).unwrap_err();
    assert!(refusal.undecided && refusal.to_string().contains("could not be decided"), "{refusal}");
}

/// What a correct register answers, each call at a moment of its own between its asking and its answer.
#[derive(Clone, Debug)]
struct Made {
    client: u32,
    op: Op,
    before: u64,
    after: u64,
    answered: bool,
    /// Of those without an answer.
    done: bool,
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let op = prop_oneof![
        4 => Just(Op::Get),
        3 => (1..6i64).prop_map(Op::Put),
        2 => Just(Op::Delete),
        1 => (1..6i64).prop_map(|v| Op::PutIf(Condition::Absent, v)),
        1 => (1..6i64).prop_map(|v| Op::PutIf(Condition::Present, v)),
        1 => (1..6i64, 1..6i64).prop_map(|(w, v)| Op::PutIf(Condition::Equal(w), v)),
        2 => (1..3i64).prop_map(Op::Incr),
    ];
    let one = (op, 0..60u64, 0..60u64, prop::bool::weighted(0.9), any::<bool>())
        .prop_map(|(op, before, after, answered, done)| Made { client: 0, op, before, after, answered, done });
    prop::collection::vec(one, 1..60)
}

/// In the order of the list, ten units apart.
fn play(made: &[Made]) -> History<Op, Ret> {
    let mut state = None;
    let mut history = Vec::new();
    for (n, made) in made.iter().enumerate() {
        let at = 1_000 + 10 * n as u64;
        let asked = at - made.before;
        let end = if made.answered || made.done {
            let (after, ret) = made.op.apply(state);
            state = after;
            if made.answered { End::Answered { at: at + made.after, ret } } else { End::Unknown }
        } else {
            End::Unknown
        };
        history.push(Call { client: made.client + n as u32, key: 1, op: made.op, asked, end });
    }
    history
}

/// All orders, tried one by one: for histories small enough.
fn brute_force(history: &[Call<Op, Ret>], left: u32, state: Option<i64>) -> bool {
    let is_left = |n: &usize| left & 1 << n != 0;
    let answer = |n: usize| match history[n].end {
        End::Answered { at, .. } => at,
        End::Unknown => u64::MAX,
    };
    let here: Vec<usize> = (0..history.len()).filter(is_left).collect();
    if here.iter().all(|n| history[*n].end == End::Unknown) {
        return true;
    }
    let first = here.iter().map(|n| answer(*n)).min().unwrap_or(u64::MAX);
    here.iter().filter(|n| history[**n].asked <= first).any(|n| {
        let (after, ret) = history[*n].op.apply(state);
        let fits = match &history[*n].end {
            End::Answered { ret: told, .. } => *told == ret,
            End::Unknown => true,
        };
        fits && brute_force(history, left & !(1 << n), after)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_register_answers_is_accepted(made in made()) {
        let history = play(&made);
        if let Err(refusal) = check(history) {
            panic!("{refusal}");
        }
    }

    /// A sum or a value that no sequence of these calls can have.
    #[test]
    fn an_impossible_answer_is_refused(made in made(), at in any::<prop::sample::Index>()) {
        let mut history = play(&made);
        let n = at.index(history.len());
        let End::Answered { at, ret } = &mut history[n].end else { return Ok(()) };
        let at = *at;
        *ret = match *ret {
            Ret::Value(_) => Ret::Value(Some(-1)),
            Ret::Sum(_) => Ret::Sum(-1),
            Ret::Done | Ret::Existed(_) | Ret::Taken(_) => return Ok(()),
        };
        prop_assert!(matches!(check(history), Err(refusal) if !refusal.undecided), "changed at {}", at);
    }

    /// Any answer changed: the verdict is the one of trying every order.
    #[test]
    fn the_verdict_is_that_of_trying_every_order(
        made in prop::collection::vec(made(), 1..2).prop_map(|mut all| { let mut one = all.remove(0); one.truncate(7); one }),
        at in any::<prop::sample::Index>(),
        other in 0..6i64,
    ) {
        let mut history = play(&made);
        let n = at.index(history.len());
        if let End::Answered { ret, .. } = &mut history[n].end {
            *ret = match *ret {
                Ret::Value(_) => Ret::Value((other > 0).then_some(other)),
                Ret::Sum(sum) => Ret::Sum(sum + other - 2),
                Ret::Existed(existed) => Ret::Existed(!existed),
                Ret::Taken(taken) => Ret::Taken(!taken),
                Ret::Done => Ret::Done,
            };
        }
        let expected = brute_force(&history, (1 << history.len()) - 1, None);
        prop_assert_eq!(check(history).is_ok(), expected);
    }
}
