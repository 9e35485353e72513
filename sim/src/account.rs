//! How much was tried: what a range of seeds adds up to.

use std::collections::BTreeMap;
use std::fmt;

use corering_engine::runtime::sim::harness::Summary;
use corering_engine::runtime::sim::{Counters, CrashKind, Fault};

/// Counts of one run, or of many.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Account {
    pub seeds: u64,
    /// Openings that served.
    pub lives: u64,
    /// Operations at which a life might have died.
    pub crash_points: u64,
    pub process_crashes: u64,
    pub machine_crashes: u64,
    pub closes: u64,
    pub resharded: u64,
    /// Openings that a fault kept from serving.
    pub refused_openings: u64,
    /// What clients did, and how often they were refused with a reason that a fault or a limit explains.
    pub acts: BTreeMap<&'static str, u64>,
    pub refusals: BTreeMap<&'static str, u64>,
    /// Background work that went on meanwhile.
    pub checkpoints: u64,
    pub merges: u64,
    pub stalls: u64,
    pub machine: Counters,
    /// Mixes what every run did.
    pub trace_hash: u64,
}

impl Account {
    pub fn act(&mut self, what: &'static str) {
        *self.acts.entry(what).or_default() += 1;
    }

    pub fn refusal(&mut self, why: &'static str) {
        *self.refusals.entry(why).or_default() += 1;
    }

    pub fn crash(&mut self, kind: CrashKind) {
        match kind {
            CrashKind::Process => self.process_crashes += 1,
            CrashKind::Machine => self.machine_crashes += 1,
        }
    }

    /// What an enumeration did.
    pub fn of_enumeration(summary: &Summary) -> Account {
        let recoveries: u64 = summary.recoveries.iter().sum();
        Account {
            lives: 1 + recoveries,
            crash_points: summary.points,
            machine: summary.counters.clone(),
            acts: BTreeMap::from([("recoveries from an enumerated death", recoveries)]),
            ..Account::default()
        }
    }

    pub fn absorb(&mut self, other: &Account) {
        let Account { seeds, lives, crash_points, process_crashes, machine_crashes, closes, resharded, .. } = other;
        self.seeds += seeds;
        self.lives += lives;
        self.crash_points += crash_points;
        self.process_crashes += process_crashes;
        self.machine_crashes += machine_crashes;
        self.closes += closes;
        self.resharded += resharded;
        self.refused_openings += other.refused_openings;
        self.checkpoints += other.checkpoints;
        self.merges += other.merges;
        self.stalls += other.stalls;
        for (mine, theirs) in [(&mut self.acts, &other.acts), (&mut self.refusals, &other.refusals)] {
            for (name, n) in theirs {
                *mine.entry(name).or_default() += n;
            }
        }
        self.machine.absorb(&other.machine);
        self.trace_hash = self.trace_hash.rotate_left(7) ^ other.trace_hash;
    }
}

fn list<'a>(counts: impl IntoIterator<Item = (String, &'a u64)>) -> String {
    let parts: Vec<String> = counts.into_iter().map(|(name, n)| format!("{n} {name}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |counts: &BTreeMap<&'static str, u64>| list(counts.iter().map(|(name, n)| (name.to_string(), n)));
        let faults: BTreeMap<Fault, u64> = self.machine.faults.clone();
        let operations: u64 = self.machine.ops.values().sum();
        writeln!(f, "seeds         {}", self.seeds)?;
        writeln!(
            f,
            "lives         {}, ended by {} closes, {} ends of the process, {} of the machine; {} openings refused; {} changes of the shard count",
            self.lives, self.closes, self.process_crashes, self.machine_crashes, self.refused_openings, self.resharded
        )?;
        writeln!(f, "crash points  {}", self.crash_points)?;
        writeln!(f, "clients       {}", named(&self.acts))?;
        writeln!(f, "refusals      {}", named(&self.refusals))?;
        writeln!(f, "background    {} checkpoints, {} merges, {} stalls", self.checkpoints, self.merges, self.stalls)?;
        writeln!(f, "disk          {operations} operations, {} steps of tasks", self.machine.polls)?;
        write!(f, "faults        {}", list(faults.iter().map(|(fault, n)| (format!("{fault:?}"), n))))
    }
}
