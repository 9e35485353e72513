//! Linearizability: is there one order of all calls of a key, each between its asking and its answer, that explains all answers?
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the memory of Lowe ("Testing for
//! linearizability", 2017): depth first over the sets of calls that were put in order, each set with its state seen once.
//! Keys are independent, so each is searched alone (Herlihy and Wing's locality; P-compositionality of Horn and Kroening, 2015).
//!
//! A call that was not answered may be put anywhere after its asking, or left out. Calls are tried in the order of their
//! answers, unanswered ones last, so that a good history is mostly walked straight through.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::history::{Call, End, History};
use crate::register::{Op, Ret, State};

type Register = Call<Op, Ret>;

/// Sets of calls that one key's search may look at; beyond, it gives up. Good histories need about as many as they have calls.
const SETS_MAX: usize = 4_000_000;

/// Why a history was not accepted.
#[derive(Debug)]
pub struct Refusal {
    pub key: u64,
    /// The search gave up: neither yes nor no.
    pub undecided: bool,
    /// Calls of the key, and how many of them could be put in order at best.
    pub calls: usize,
    pub explained: usize,
    /// After those, with this value, none of these could be next.
    pub state: State,
    pub stuck: Vec<Register>,
    /// The last calls that were put in order.
    pub before: Vec<Register>,
}

/// What was accepted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Accepted {
    pub keys: usize,
    pub calls: usize,
    pub unanswered: usize,
    /// Sets of calls that the searches looked at.
    pub sets: usize,
}

/// Check every key of a history that begins with no key present.
pub fn check(history: History<Op, Ret>) -> Result<Accepted, Box<Refusal>> {
    check_within(history, SETS_MAX)
}

/// As [`check`], giving up after `sets_max` sets for one key.
pub fn check_within(history: History<Op, Ret>, sets_max: usize) -> Result<Accepted, Box<Refusal>> {
    let mut by_key: BTreeMap<u64, Vec<Register>> = BTreeMap::new();
    for call in history {
        by_key.entry(call.key).or_default().push(call);
    }
    let mut accepted = Accepted { keys: by_key.len(), ..Accepted::default() };
    for (key, calls) in by_key {
        accepted.calls += calls.len();
        accepted.unanswered += calls.iter().filter(|call| call.end == End::Unknown).count();
        accepted.sets += Search::new(calls, sets_max).run(key)?;
    }
    Ok(accepted)
}

/// The calls that were put in order: all answered ones before `first`, and these besides.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Chosen {
    first: u32,
    /// Ascending. Answered calls behind `first`, then unanswered ones (numbered after all answered).
    others: Vec<u32>,
}

/// One level of the search: a state, and what may come next.
struct Level {
    chosen: Chosen,
    state: State,
    /// To be tried from the end.
    candidates: Vec<u32>,
    /// The call that led here.
    by: Option<u32>,
}

struct Search {
    /// Answered ones by asking, then those without an answer.
    calls: Vec<Register>,
    answered: u32,
    sets_max: usize,
}

impl Search {
    fn new(mut calls: Vec<Register>, sets_max: usize) -> Search {
        // A read without an answer tells nothing.
        calls.retain(|call| call.end != End::Unknown || !call.op.changes_nothing());
        calls.sort_by_key(|call| (call.end == End::Unknown, call.asked));
        let answered = calls.iter().take_while(|call| call.end != End::Unknown).count() as u32;
        Search { calls, answered, sets_max }
    }

    /// How many sets it took.
    fn run(&self, key: u64) -> Result<usize, Box<Refusal>> {
        let mut seen: HashSet<(Chosen, State)> = HashSet::new();
        let begin = Chosen { first: 0, others: Vec::new() };
        let mut levels = vec![self.level(begin, None, None)];
        let mut best: Option<Refusal> = None;
        while let Some(level) = levels.last_mut() {
            if level.chosen.first == self.answered {
                return Ok(seen.len());
            }
            let Some(next) = level.candidates.pop() else {
                let depth = levels.len() - 1;
                if best.as_ref().is_none_or(|best| best.explained < depth) {
                    best = Some(self.refusal(key, &levels));
                }
                levels.pop();
                continue;
            };
            let call = &self.calls[next as usize];
            let (state, ret) = call.op.apply(level.state);
            if matches!(&call.end, End::Answered { ret: told, .. } if *told != ret) {
                continue;
            }
            // An unanswered call that changes nothing here can as well be left out.
            if call.end == End::Unknown && state == level.state {
                continue;
            }
            let chosen = self.with(&level.chosen, next);
            if !seen.insert((chosen.clone(), state)) {
                continue;
            }
            if seen.len() > self.sets_max {
                let refusal = best.unwrap_or_else(|| self.refusal(key, &levels));
                return Err(Box::new(Refusal { undecided: true, ..refusal }));
            }
            let level = self.level(chosen, state, Some(next));
            levels.push(level);
        }
        Err(Box::new(best.expect("the first level was left with nothing to try")))
    }

    fn with(&self, chosen: &Chosen, next: u32) -> Chosen {
        let mut chosen = chosen.clone();
        let at = chosen.others.partition_point(|other| *other < next);
        chosen.others.insert(at, next);
        let contiguous =
            chosen.others.iter().zip(chosen.first..self.answered).take_while(|(other, at)| *other == at).count();
        chosen.others.drain(..contiguous);
        chosen.first += contiguous as u32;
        chosen
    }

    /// What may come next: calls that were asked for before the first answer among all that are left.
    fn level(&self, chosen: Chosen, state: State, by: Option<u32>) -> Level {
        let left = |n: &u32| chosen.others.binary_search(n).is_err();
        let mut first_answer = u64::MAX;
        let mut candidates = Vec::new();
        for n in (chosen.first..self.answered).filter(left) {
            let call = &self.calls[n as usize];
            if call.asked > first_answer {
                break;
            }
            let End::Answered { at, .. } = call.end else { unreachable!("these were answered") };
            first_answer = first_answer.min(at);
            candidates.push((at, n));
        }
        // A later one in the list may have ended before an earlier one was asked for.
        candidates.retain(|(_, n)| self.calls[*n as usize].asked <= first_answer);
        for n in (self.answered..self.calls.len() as u32).filter(left) {
            if self.calls[n as usize].asked <= first_answer {
                candidates.push((u64::MAX, n));
            }
        }
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        let mut candidates: Vec<u32> = candidates.into_iter().map(|(_, n)| n).collect();
        // One that may be next and whose answer fits and says that it changed nothing: wherever else an order has it, it can have
        // it here, so no other need be tried.
        if let Some(free) = candidates.iter().copied().find(|n| self.is_free(*n, state)) {
            candidates = vec![free];
        }
        Level { candidates, chosen, state, by }
    }

    fn is_free(&self, n: u32, state: State) -> bool {
        let call = &self.calls[n as usize];
        let (_, ret) = call.op.apply(state);
        matches!(ret, Ret::Value(_) | Ret::Existed(false) | Ret::Taken(false))
            && matches!(&call.end, End::Answered { ret: told, .. } if *told == ret)
    }

    fn refusal(&self, key: u64, levels: &[Level]) -> Refusal {
        let last = levels.last().expect("the search begins with one");
        let fresh = self.level(last.chosen.clone(), last.state, None);
        let shown = levels.len().saturating_sub(12);
        Refusal {
            key,
            undecided: false,
            calls: self.calls.len(),
            explained: levels.len() - 1,
            state: last.state,
            stuck: fresh.candidates.iter().rev().map(|n| self.calls[*n as usize].clone()).collect(),
            before: levels[shown..].iter().filter_map(|l| l.by).map(|n| self.calls[n as usize].clone()).collect(),
        }
    }
}

impl fmt::Display for Call<Op, Ret> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { client, key, op, asked, end } = self;
        write!(f, "client {client:>3}, key {key}: {op:<24} [{asked}, ")?;
        match end {
            End::Answered { at, ret } => write!(f, "{at}] {ret}"),
            End::Unknown => f.write_str("...) no answer"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { key, undecided, calls, explained, state, .. } = self;
        let verdict = if *undecided { "could not be decided" } else { "is not linearizable" };
        writeln!(f, "key {key} {verdict}: at best {explained} of {calls} calls are explained; the last of them:")?;
        for call in &self.before {
            writeln!(f, "    {call}")?;
        }
        writeln!(f, "  then its value is {}, and none of these can be next:", Ret::Value(*state))?;
        for call in &self.stuck {
            writeln!(f, "    {call}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
