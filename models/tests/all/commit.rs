//! The commit over several shards, with every order of steps and crashes of small instances, decided by the engine's own
//! `txn/fate.rs`; and each planted mistake found.
//!
//! A shard is a log, of which a crash keeps what is durable and any prefix of what is not. A commit's record on one shard may carry the
//! parts of others, which then need not be durable on their own. Flushes, trims, crashes and the steps of a recovery come at any time.
//! What was visible once must be there for good, and each commit on all of its shards or on none.

use std::collections::BTreeSet;

use corering_engine::txn::fate::{Carried, Part, Unsettled, decide};
use corering_engine::{CommitTs, ShardId};
use stateright::{Checker, Model, Property};

const SHARDS_MAX: usize = 3;
const SOUND: &str = "whole or absent, in each shard's order, and what was seen stays";

/// A mistake planted in the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mistake {
    None,
    /// A batch calls settled what is durable on its own shard.
    SettledIsDurable,
    /// A shard shows a commit when its own part is durable.
    NoGate,
    /// The void record is left out.
    NoVoid,
    /// A shard serves once its own void record is durable.
    ServeEarly,
    /// What stands behind a part that fell is kept.
    NoCascade,
    /// A part is carried though something before it on its shard may be lost.
    RideOnAnything,
    /// A batch calls settled what is visible, though a part of it is only carried.
    SettledWhileCarried,
    /// Nothing says what came before a part that is carried.
    NoBefore,
    /// A part that is taken over is not written before anything is served.
    AdoptInMemory,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Record {
    /// A commit and the shards it has a part on, as bits.
    Commit {
        number: u8,
        shards: u8,
        /// The shard whose record carries the parts of `riders`, and what came before those on their shards.
        carrier: u8,
        riders: u8,
        before: [u8; SHARDS_MAX],
        /// Of one shard, visible without being durable.
        weak: bool,
    },
    Void {
        from: u8,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Shard {
    /// What is not trimmed.
    log: Vec<Record>,
    durable: usize,
    /// Records of `log` up to the last weak one.
    weak: usize,
    /// Records of `log` that readers see.
    visible: usize,
    /// The highest number that was trimmed.
    trimmed: u8,
    /// The highest number that a durable batch, or the manifest, calls settled.
    settled: u8,
    /// What it has to write before anything is served.
    to_write: Vec<Record>,
}

impl Shard {
    /// The last commit that it has.
    fn last(&self) -> u8 {
        standing(&self.log).last().map_or(0, |(number, _)| *number).max(self.trimmed)
    }

    /// Whether its own part of a commit cannot be lost.
    fn has_durable(&self, number: u8) -> bool {
        number <= self.trimmed || standing(&self.log[..self.durable]).iter().any(|(found, _)| *found == number)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    shards: Vec<Shard>,
    next: u8,
    /// Commits below were found by the last opening, which counts them as settled.
    found: u8,
    commits: u8,
    crashes: u8,
    recovering: bool,
    /// What each log held before the crash, and which of it was there for good.
    was: Option<Vec<Vec<u8>>>,
    /// Commits that somebody saw, with their shards.
    seen: BTreeSet<(u8, u8)>,
    /// Commits that are on some shard and not on others, gone though they were seen, or kept without what came before.
    broken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// The shards, and the one whose record carries what may be carried.
    Commit(u8, Option<u8>),
    /// A write of one shard that need not be durable.
    Weak(usize),
    Flush(usize),
    Trim(usize),
    Crash(Vec<usize>),
    Write(usize),
    Serve,
}

struct Protocol {
    shards: usize,
    commits: u8,
    crashes: u8,
    /// With parts that ride, and with weak writes, which keep parts from it.
    rides: bool,
    mistake: Mistake,
}

fn has(bits: u8, shard: usize) -> bool {
    bits >> shard & 1 == 1
}

/// The records of a log that happened, void ones taken away.
fn standing(log: &[Record]) -> Vec<(u8, u8)> {
    let mut commits: Vec<(u8, u8)> = Vec::new();
    for record in log {
        match record {
            Record::Commit { number, shards, .. } => commits.push((*number, *shards)),
            Record::Void { from } => commits.retain(|(number, _)| number < from),
        }
    }
    commits
}

fn numbers(log: &[Record]) -> BTreeSet<u8> {
    standing(log).into_iter().map(|(number, _)| number).collect()
}

impl Protocol {
    /// Move every mark as far as it goes.
    fn advance(&self, state: &mut State) {
        loop {
            let mut moved = false;
            for at in 0..self.shards {
                let shard = &state.shards[at];
                let Some(record) = shard.log.get(shard.visible).cloned() else { continue };
                let Record::Commit { number, shards, riders, weak, .. } = record else {
                    state.shards[at].visible += 1;
                    moved = true;
                    continue;
                };
                let came = |other: usize| {
                    let shard = &state.shards[other];
                    let is_safe = weak || shard.visible < shard.durable || has(riders, other);
                    !has(shards, other) || (is_safe && shard.log.get(shard.visible) == Some(&record))
                };
                let open = if self.mistake == Mistake::NoGate { came(at) } else { (0..self.shards).all(came) };
                if open {
                    for other in 0..self.shards {
                        let opens = has(shards, other) && (self.mistake != Mistake::NoGate || other == at);
                        if opens {
                            state.shards[other].visible += 1;
                        }
                    }
                    if !weak {
                        state.seen.insert((number, shards));
                    }
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Records at the front of a log that readers see and that no log lacks its own part of.
    fn settled_records(&self, state: &State, at: usize) -> usize {
        let shard = &state.shards[at];
        let settled = |record: &&Record| match record {
            Record::Void { .. } => true,
            Record::Commit { number, shards, .. } => {
                *number < state.found
                    || self.mistake == Mistake::SettledWhileCarried
                    || (0..self.shards).all(|other| !has(*shards, other) || state.shards[other].has_durable(*number))
            }
        };
        match self.mistake {
            Mistake::SettledIsDurable => shard.durable,
            _ => shard.log[..shard.visible].iter().take_while(settled).count(),
        }
    }

    fn settled_of(&self, state: &State, at: usize) -> u8 {
        let shard = &state.shards[at];
        let known = shard.log[..self.settled_records(state, at)].iter().map(|record| match record {
            Record::Commit { number, .. } => *number,
            Record::Void { .. } => 0,
        });
        known.max().unwrap_or(0).max(shard.settled)
    }

    /// Parts that ride on the record of `on`.
    fn riders(&self, state: &State, shards: u8, on: Option<u8>) -> u8 {
        let Some(on) = on else { return 0 };
        let rides = |at: usize| {
            let shard = &state.shards[at];
            let may = shard.weak <= shard.durable || self.mistake == Mistake::RideOnAnything;
            at != usize::from(on) && has(shards, at) && may
        };
        (0..self.shards).filter(|at| rides(*at)).map(|at| 1u8 << at).sum()
    }

    /// What an opening finds and decides.
    fn recover(&self, state: &mut State) {
        let unsettled: Vec<Unsettled> = state
            .shards
            .iter()
            .enumerate()
            .map(|(at, shard)| {
                let waiting = standing(&shard.log).into_iter().filter(|(number, _)| *number > shard.settled);
                let parts = waiting.filter(|(_, shards)| shards.count_ones() > 1).map(|(number, shards)| Part {
                    commit: CommitTs(number.into()),
                    shards: (0..self.shards).filter(|i| has(shards, *i)).map(|i| ShardId(i as u16)).collect(),
                    carried: self.carried(&shard.log, at, number),
                });
                Unsettled {
                    shard: ShardId(at as u16),
                    settled: CommitTs(shard.settled.into()),
                    last: CommitTs(shard.last().into()),
                    parts: parts.collect(),
                }
            })
            .collect();
        let verdicts = decide(&unsettled).expect("the logs agree");
        for (shard, verdict) in state.shards.iter_mut().zip(verdicts) {
            let void = verdict.void_from.map(|commit| Record::Void { from: commit.0 as u8 });
            let adopt = verdict.adopt.iter().map(|record| Record::Commit {
                number: record[0],
                shards: record[1],
                carrier: 0,
                riders: 0,
                before: [0; SHARDS_MAX],
                weak: false,
            });
            shard.to_write = void.into_iter().chain(adopt).collect();
        }
        state.recovering = true;
        for shard in &mut state.shards {
            match self.mistake {
                // In memory only: the log keeps it.
                Mistake::NoVoid => shard.to_write.retain(|record| !matches!(record, Record::Void { .. })),
                Mistake::NoCascade => {
                    let Some(Record::Void { from }) = shard.to_write.first().cloned() else { continue };
                    shard.to_write.clear();
                    shard.log.retain(|record| !matches!(record, Record::Commit { number, .. } if *number == from));
                    shard.durable = shard.log.len();
                }
                _ => {}
            }
        }
    }

    /// The parts that the record of a commit carries.
    fn carried(&self, log: &[Record], at: usize, of: u8) -> Vec<Carried> {
        let carried = log.iter().find_map(|record| match record {
            Record::Commit { number, shards, carrier, riders, before, .. } if *number == of => {
                let rides = (0..self.shards).filter(|rider| usize::from(*carrier) == at && has(*riders, *rider));
                Some(
                    rides
                        .map(|rider| Carried {
                            shard: ShardId(rider as u16),
                            before: CommitTs(before[rider].into()),
                            record: vec![*number, *shards],
                        })
                        .collect(),
                )
            }
            _ => None,
        });
        carried.unwrap_or_default()
    }

    /// The opening is done: all that stands is visible.
    fn serve(&self, state: &mut State) {
        state.recovering = false;
        let taken_over: Vec<BTreeSet<u8>> = state.shards.iter().map(|shard| numbers(&shard.to_write)).collect();
        for shard in &mut state.shards {
            shard.durable = shard.log.len();
            shard.visible = shard.log.len();
            shard.weak = 0;
            shard.to_write.clear();
        }
        let on: Vec<BTreeSet<u8>> = state.shards.iter().map(|shard| numbers(&shard.log)).collect();
        let is_on = |number: u8, at: usize| {
            on[at].contains(&number) || taken_over[at].contains(&number) || number <= state.shards[at].settled
        };
        if let Some(was) = state.was.take() {
            let kept = |at: usize| numbers(&state.shards[at].log).union(&taken_over[at]).copied().collect::<Vec<u8>>();
            state.broken |= was.iter().enumerate().any(|(at, was)| !was.starts_with(&kept(at)));
        }
        let all: BTreeSet<(u8, u8)> = state.shards.iter().flat_map(|shard| standing(&shard.log)).collect();
        let whole = |(number, shards): (u8, u8)| (0..self.shards).all(|at| !has(shards, at) || is_on(number, at));
        state.broken |= !all.iter().chain(&state.seen).all(|commit| whole(*commit));
        state.seen.extend(all);
        // What is served from now on has higher numbers than anything found.
        state.next += 1;
        state.found = state.next;
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            shards: vec![Shard::default(); self.shards],
            next: 1,
            found: 0,
            commits: 0,
            crashes: 0,
            recovering: false,
            was: None,
            seen: BTreeSet::new(),
            broken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken {
            return;
        }
        if state.recovering {
            let adopts = |record: &Record| matches!(record, Record::Commit { .. });
            let left: Vec<usize> = (0..self.shards).filter(|at| !state.shards[*at].to_write.is_empty()).collect();
            actions.extend(left.iter().map(|at| Action::Write(*at)));
            let in_memory = self.mistake == Mistake::AdoptInMemory
                && left.iter().all(|at| state.shards[*at].to_write.iter().all(adopts));
            if left.is_empty() || self.mistake == Mistake::ServeEarly || in_memory {
                actions.push(Action::Serve);
            }
            if state.crashes < self.crashes {
                actions.push(Action::Crash(state.shards.iter().map(|shard| shard.durable).collect()));
            }
            return;
        }
        if state.commits < self.commits {
            for shards in 1..1u8 << self.shards {
                actions.push(Action::Commit(shards, None));
                let carriers = (0..self.shards as u8).filter(|on| has(shards, usize::from(*on)));
                let useful = carriers.filter(|on| self.riders(state, shards, Some(*on)) != 0);
                actions.extend(useful.filter(|_| self.rides).map(|on| Action::Commit(shards, Some(on))));
            }
            actions.extend((0..self.shards).filter(|_| self.rides).map(Action::Weak));
        }
        for (at, shard) in state.shards.iter().enumerate() {
            if shard.durable < shard.log.len() {
                actions.push(Action::Flush(at));
            }
            if shard.durable.min(self.settled_records(state, at)) > 0 {
                actions.push(Action::Trim(at));
            }
        }
        if state.crashes < self.crashes {
            let mut kept: Vec<Vec<usize>> = vec![Vec::new()];
            for shard in &state.shards {
                kept = kept
                    .into_iter()
                    .flat_map(|so_far| {
                        (shard.durable..=shard.log.len()).map(move |n| {
                            let mut more = so_far.clone();
                            more.push(n);
                            more
                        })
                    })
                    .collect();
            }
            actions.extend(kept.into_iter().map(Action::Crash));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Commit(shards, on) => {
                let riders = self.riders(last, shards, on);
                let mut before = [0; SHARDS_MAX];
                if self.mistake != Mistake::NoBefore {
                    for at in (0..self.shards).filter(|at| has(riders, *at)) {
                        before[at] = last.shards[at].last();
                    }
                }
                for at in (0..self.shards).filter(|at| has(shards, *at)) {
                    let carrier = on.unwrap_or(0);
                    let shard = &mut state.shards[at];
                    shard.log.push(Record::Commit { number: state.next, shards, carrier, riders, before, weak: false });
                }
                state.next += 1;
                state.commits += 1;
            }
            Action::Weak(at) => {
                let shard = &mut state.shards[at];
                let (carrier, riders, before) = (0, 0, [0; SHARDS_MAX]);
                shard.log.push(Record::Commit {
                    number: state.next,
                    shards: 1 << at,
                    carrier,
                    riders,
                    before,
                    weak: true,
                });
                shard.weak = shard.log.len();
                state.next += 1;
                state.commits += 1;
            }
            Action::Flush(at) => {
                let settled = self.settled_of(&state, at);
                let shard = &mut state.shards[at];
                shard.settled = settled;
                shard.durable = shard.log.len();
                if self.mistake == Mistake::SettledIsDurable {
                    state.shards[at].settled = self.settled_of(&state, at);
                }
            }
            Action::Trim(at) => {
                // A checkpoint: what it holds is settled, and so is its number.
                let settled = self.settled_of(&state, at);
                let gone = state.shards[at].durable.min(self.settled_records(&state, at));
                let shard = &mut state.shards[at];
                let trimmed: Vec<Record> = shard.log.drain(..gone).collect();
                shard.trimmed = numbers(&trimmed).last().copied().unwrap_or(0).max(shard.trimmed);
                shard.settled = settled;
                shard.durable -= gone;
                shard.weak = shard.weak.saturating_sub(gone);
                shard.visible = shard.visible.saturating_sub(gone);
            }
            Action::Crash(kept) => {
                state.crashes += 1;
                let was = || state.shards.iter().map(|shard| numbers(&shard.log).into_iter().collect()).collect();
                state.was = Some(state.was.clone().unwrap_or_else(was));
                for (shard, kept) in state.shards.iter_mut().zip(kept) {
                    shard.log.truncate(kept);
                    (shard.durable, shard.weak, shard.visible) = (kept, 0, 0);
                    shard.to_write.clear();
                }
                self.recover(&mut state);
                return Some(state);
            }
            Action::Write(at) => {
                let shard = &mut state.shards[at];
                shard.log.push(shard.to_write.remove(0));
                shard.durable = shard.log.len();
                return Some(state);
            }
            Action::Serve => {
                if self.mistake == Mistake::ServeEarly {
                    // Those that have not written theirs drop it in memory.
                    for shard in &mut state.shards {
                        shard.to_write.clear();
                    }
                }
                self.serve(&mut state);
                return Some(state);
            }
        }
        self.advance(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SOUND, |_, state: &State| !state.broken),
            Property::sometimes("a commit falls", |_, state: &State| {
                state.shards.iter().any(|shard| shard.log.iter().any(|record| matches!(record, Record::Void { .. })))
            }),
            Property::sometimes("a part is taken over", |_, state: &State| {
                state.shards.iter().any(|shard| matches!(shard.to_write.first(), Some(Record::Commit { .. })))
            }),
            Property::sometimes(
                "a commit over all shards is seen after a crash",
                |protocol: &Protocol, state: &State| {
                    let all = (1u8 << protocol.shards) - 1;
                    state.crashes > 0 && !state.recovering && state.seen.iter().any(|(_, shards)| *shards == all)
                },
            ),
        ]
    }
}

fn explore(shards: usize, commits: u8, crashes: u8, mistake: Mistake) -> (usize, bool) {
    // Those that have nothing to do with what rides are found sooner without.
    let of_riders = [Mistake::RideOnAnything, Mistake::SettledWhileCarried, Mistake::NoBefore, Mistake::AdoptInMemory];
    let rides = mistake == Mistake::None || of_riders.contains(&mistake);
    let checker = Protocol { shards, commits, crashes, rides, mistake }.checker().threads(2).spawn_bfs().join();
    let found = checker.discovery(SOUND).is_some();
    if mistake == Mistake::None {
        checker.assert_properties();
    }
    (checker.unique_state_count(), found)
}

#[test]
fn every_order_of_steps_and_crashes_leaves_commits_whole_or_absent() {
    // The largest take minutes.
    let all = std::env::var_os("CORERING_TEST_MODELS").is_some_and(|size| size == "full");
    let large: &[_] = if all { &[(3, 3, 1), (2, 4, 2)] } else { &[] };
    for (shards, commits, crashes) in [(2, 3, 2), (2, 4, 1), (3, 2, 2)].iter().chain(large).copied() {
        let (states, found) = explore(shards, commits, crashes, Mistake::None);
        println!("{shards} shards, {commits} commits, {crashes} crashes: {states} states");
        assert!(!found && states > 1_000, "{states}");
    }
}

#[test]
fn planted_mistakes_are_found() {
    for mistake in [
        Mistake::SettledIsDurable,
        Mistake::NoGate,
        Mistake::NoVoid,
        Mistake::ServeEarly,
        Mistake::NoCascade,
        Mistake::RideOnAnything,
        Mistake::SettledWhileCarried,
        Mistake::NoBefore,
        Mistake::AdoptInMemory,
    ] {
        let (states, found) = explore(2, 4, 2, mistake);
        assert!(found, "{mistake:?} in {states} states");
    }
}
