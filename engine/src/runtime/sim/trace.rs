//! What a run did, as one number: two runs with the same hash took the same choices, moved the same bytes at the same
//! virtual times; and as counters and a short memory of the last tasks for the report of a run that got stuck.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::faults::Fault;
use super::points::OpKind;
use super::rng::splitmix;

/// How many of the last polled tasks a report names.
const RECENT: usize = 24;

/// What was done so far, for tests and for summaries of many seeds.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    pub polls: u64,
    pub timers_fired: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Operations by kind, counted when they take effect.
    pub ops: BTreeMap<OpKind, u64>,
    /// Faults that struck.
    pub faults: BTreeMap<Fault, u64>,
}

impl Counters {
    pub fn op(&self, kind: OpKind) -> u64 {
        self.ops.get(&kind).copied().unwrap_or(0)
    }

    pub fn fault(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    /// Add another run's counts to these.
    pub fn absorb(&mut self, other: &Counters) {
        self.polls += other.polls;
        self.timers_fired += other.timers_fired;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        for (kind, n) in &other.ops {
            *self.ops.entry(*kind).or_default() += n;
        }
        for (fault, n) in &other.faults {
            *self.faults.entry(*fault).or_default() += n;
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} polls, {} timers", self.polls, self.timers_fired)?;
        for (kind, n) in &self.ops {
            write!(f, ", {n} {kind:?}")?;
        }
        for (fault, n) in &self.faults {
            write!(f, ", {n} x {fault:?}")?;
        }
        Ok(())
    }
}

pub(super) struct Trace {
    hash: u64,
    recent: VecDeque<Arc<str>>,
    log: bool,
    pub counters: Counters,
}

impl Trace {
    pub fn new(seed: u64, log: bool) -> Trace {
        Trace { hash: splitmix(seed), recent: VecDeque::new(), log, counters: Counters::default() }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Mix words into the hash; `text` is only built when the run is being logged.
    pub fn mix(&mut self, words: &[u64], text: impl FnOnce() -> String) {
        for word in words {
            self.hash = splitmix(self.hash ^ *word).rotate_left(5);
        }
        if self.log {
            eprintln!("sim {:016x} {}", self.hash, text());
        }
    }

    pub fn polled(&mut self, name: &Arc<str>) {
        self.counters.polls += 1;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(name));
    }

    pub fn recent(&self) -> Vec<String> {
        self.recent.iter().map(|name| name.to_string()).collect()
    }
}
