//! The commit over several shards, with every order of steps and crashes of small instances, decided by the engine's own
//! `txn/fate.rs`; and each planted mistake found.
//!
//! A shard is a log, of which a crash keeps what is durable and any prefix of what is not. Flushes, trims, crashes and the steps of a
//! recovery come at any time. What was visible once must be there for good, and each commit on all of its shards or on none.

use std::collections::BTreeSet;

use corering_engine::txn::fate::{Part, Unsettled, decide};
use corering_engine::{CommitTs, ShardId};
use stateright::{Checker, Model, Property};

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
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Record {
    /// A commit and the shards it has a part on, as bits.
    Commit {
        number: u8,
        shards: u8,
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
    /// Records of `log` that readers see.
    visible: usize,
    /// The highest number that a durable batch, or the manifest, calls settled.
    settled: u8,
    /// The void record it has to write before anything is served.
    to_void: Option<u8>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    shards: Vec<Shard>,
    next: u8,
    commits: u8,
    crashes: u8,
    recovering: bool,
    /// Commits that somebody saw, with their shards.
    seen: BTreeSet<(u8, u8)>,
    /// Commits that are on some shard and not on others, or gone though they were seen.
    broken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Commit(u8),
    Flush(usize),
    Trim(usize),
    Crash(Vec<usize>),
    WriteVoid(usize),
    Serve,
}

struct Protocol {
    shards: usize,
    commits: u8,
    crashes: u8,
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
            Record::Commit { number, shards } => commits.push((*number, *shards)),
            Record::Void { from } => commits.retain(|(number, _)| number < from),
        }
    }
    commits
}

impl Protocol {
    /// Move every mark as far as it goes.
    fn advance(&self, state: &mut State) {
        loop {
            let mut moved = false;
            for at in 0..self.shards {
                let shard = &state.shards[at];
                let Some(record) = shard.log.get(shard.visible) else { continue };
                if shard.visible >= shard.durable {
                    continue;
                }
                let Record::Commit { number, shards } = record.clone() else {
                    state.shards[at].visible += 1;
                    moved = true;
                    continue;
                };
                let came = |other: usize| {
                    let shard = &state.shards[other];
                    !has(shards, other)
                        || (shard.visible < shard.durable
                            && shard.log[shard.visible] == (Record::Commit { number, shards }))
                };
                let open = self.mistake == Mistake::NoGate || (0..self.shards).all(came);
                if open {
                    for other in 0..self.shards {
                        let opens = has(shards, other) && (self.mistake != Mistake::NoGate || other == at);
                        if opens {
                            state.shards[other].visible += 1;
                        }
                    }
                    state.seen.insert((number, shards));
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn settled_of(&self, shard: &Shard) -> u8 {
        let upto = if self.mistake == Mistake::SettledIsDurable { shard.durable } else { shard.visible };
        let known = shard.log[..upto].iter().map(|record| match record {
            Record::Commit { number, .. } => *number,
            Record::Void { .. } => 0,
        });
        known.max().unwrap_or(0).max(shard.settled)
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
                });
                Unsettled { shard: ShardId(at as u16), settled: CommitTs(shard.settled.into()), parts: parts.collect() }
            })
            .collect();
        let void = decide(&unsettled).expect("the logs agree");
        for (shard, from) in state.shards.iter_mut().zip(void) {
            shard.to_void = from.map(|commit| commit.0 as u8);
        }
        state.recovering = true;
        if self.mistake == Mistake::NoVoid || self.mistake == Mistake::NoCascade {
            for shard in &mut state.shards {
                let Some(from) = shard.to_void.take() else { continue };
                let falls = |number: u8| if self.mistake == Mistake::NoVoid { number >= from } else { number == from };
                if self.mistake == Mistake::NoVoid {
                    // In memory only: the log keeps it.
                    shard.to_void = None;
                } else {
                    shard.log.retain(|record| !matches!(record, Record::Commit { number, .. } if falls(*number)));
                    shard.durable = shard.log.len();
                }
            }
        }
    }

    /// The opening is done: all that stands is visible.
    fn serve(&self, state: &mut State) {
        state.recovering = false;
        for shard in &mut state.shards {
            shard.durable = shard.log.len();
            shard.visible = shard.log.len();
            shard.to_void = None;
        }
        let on: Vec<BTreeSet<u8>> = state
            .shards
            .iter()
            .map(|shard| standing(&shard.log).into_iter().map(|(number, _)| number).collect())
            .collect();
        let is_on = |number: u8, at: usize| on[at].contains(&number) || number <= state.shards[at].settled;
        let all: BTreeSet<(u8, u8)> = state.shards.iter().flat_map(|shard| standing(&shard.log)).collect();
        let whole = |(number, shards): (u8, u8)| (0..self.shards).all(|at| !has(shards, at) || is_on(number, at));
        state.broken |= !all.iter().chain(&state.seen).all(|commit| whole(*commit));
        state.seen.extend(all);
        // What is served from now on has higher numbers than anything found.
        state.next += 1;
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            shards: vec![Shard::default(); self.shards],
            next: 1,
            commits: 0,
            crashes: 0,
            recovering: false,
            seen: BTreeSet::new(),
            broken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken {
            return;
        }
        if state.recovering {
            let left: Vec<usize> = (0..self.shards).filter(|at| state.shards[*at].to_void.is_some()).collect();
            actions.extend(left.iter().map(|at| Action::WriteVoid(*at)));
            if left.is_empty() || self.mistake == Mistake::ServeEarly {
                actions.push(Action::Serve);
            }
            if state.crashes < self.crashes {
                actions.push(Action::Crash(state.shards.iter().map(|shard| shard.durable).collect()));
            }
            return;
        }
        if state.commits < self.commits {
            actions.extend((1..1u8 << self.shards).map(Action::Commit));
        }
        for (at, shard) in state.shards.iter().enumerate() {
            if shard.durable < shard.log.len() {
                actions.push(Action::Flush(at));
            }
            if shard.visible > 0 {
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
            Action::Commit(shards) => {
                for at in (0..self.shards).filter(|at| has(shards, *at)) {
                    state.shards[at].log.push(Record::Commit { number: state.next, shards });
                }
                state.next += 1;
                state.commits += 1;
            }
            Action::Flush(at) => {
                let mut flushed = state.shards[at].clone();
                flushed.settled = self.settled_of(&flushed);
                flushed.durable = flushed.log.len();
                if self.mistake == Mistake::SettledIsDurable {
                    flushed.settled = self.settled_of(&flushed);
                }
                state.shards[at] = flushed;
            }
            Action::Trim(at) => {
                let settled = self.settled_of(&state.shards[at]);
                let shard = &mut state.shards[at];
                shard.log.drain(..shard.visible);
                (shard.durable, shard.visible, shard.settled) = (shard.durable - shard.visible, 0, settled);
            }
            Action::Crash(kept) => {
                state.crashes += 1;
                for (shard, kept) in state.shards.iter_mut().zip(kept) {
                    shard.log.truncate(kept);
                    (shard.durable, shard.visible, shard.to_void) = (kept, 0, None);
                }
                self.recover(&mut state);
                return Some(state);
            }
            Action::WriteVoid(at) => {
                let shard = &mut state.shards[at];
                let from = shard.to_void.take()?;
                shard.log.push(Record::Void { from });
                shard.durable = shard.log.len();
                return Some(state);
            }
            Action::Serve => {
                if self.mistake == Mistake::ServeEarly {
                    // Those that have not written theirs drop it in memory.
                    for shard in &mut state.shards {
                        shard.to_void = None;
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
            Property::always("whole or absent, and what was seen stays", |_, state: &State| !state.broken),
            Property::sometimes("a commit falls", |_, state: &State| {
                state.shards.iter().any(|shard| shard.log.iter().any(|record| matches!(record, Record::Void { .. })))
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
    let checker = Protocol { shards, commits, crashes, mistake }.checker().threads(2).spawn_bfs().join();
    let found = checker.discovery("whole or absent, and what was seen stays").is_some();
    if mistake == Mistake::None {
        checker.assert_properties();
    }
    (checker.unique_state_count(), found)
}

#[test]
fn every_order_of_steps_and_crashes_leaves_commits_whole_or_absent() {
    for (shards, commits, crashes) in [(2, 4, 2), (3, 3, 2)] {
        let (states, found) = explore(shards, commits, crashes, Mistake::None);
        println!("{shards} shards, {commits} commits, {crashes} crashes: {states} states");
        assert!(!found && states > 1_000, "{states}");
    }
}

#[test]
fn planted_mistakes_are_found() {
    for mistake in
        [Mistake::SettledIsDurable, Mistake::NoGate, Mistake::NoVoid, Mistake::ServeEarly, Mistake::NoCascade]
    {
        let (states, found) = explore(2, 4, 2, mistake);
        assert!(found, "{mistake:?} in {states} states");
    }
}
