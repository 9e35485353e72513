//! What the transactions of a recorded history do, whatever carries them out: threads, tasks of a simulation, clients over sockets.
//!
//! Guards: every value that is written is written once, so that a read says which write it saw; what a transaction did is told to the
//! checkers as it happened, and what it wanted to write as well, where nobody knows whether it did.
//!
//! Four workloads: lists that are appended to, registers, a bank (registers that also hold balances, which add up to nothing at every
//! moment) and a set (keys that are made once, and scanned: a phantom would be seen).

use std::sync::atomic::{AtomicI64, Ordering};

use super::history::{Action, Outcome, Txn};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    Lists,
    Registers,
    Bank,
    Set,
}

/// A part of a history with keys of its own, which is judged by itself.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub workload: Workload,
    pub number: u64,
}

/// How a transaction goes to the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Step by step.
    Interactive,
    /// All its steps at once.
    AtOnce,
    /// Step by step, and it only reads.
    ReadOnly,
    /// One call that reads one key.
    Single,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Look {
        key: u64,
        keep: bool,
    },
    /// Read, and write this value if that makes sense; a bank adds to the balance.
    Change {
        key: u64,
        keep: bool,
        value: i64,
        by: i64,
    },
    LookAtAll,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub way: Way,
    pub steps: Vec<Step>,
}

impl Course {
    /// The workloads in turn.
    pub fn of(number: u64) -> Course {
        let workload = match number % 4 {
            0 => Workload::Lists,
            1 => Workload::Registers,
            2 => Workload::Bank,
            _ => Workload::Set,
        };
        Course { workload, number }
    }

    pub fn keys(&self) -> u64 {
        match self.workload {
            Workload::Lists | Workload::Registers => 5,
            Workload::Bank => 6,
            Workload::Set => 40,
        }
    }

    pub fn prefix(&self) -> Vec<u8> {
        format!("course{}:", self.number).into_bytes()
    }

    pub fn key(&self, key: u64) -> Vec<u8> {
        [self.prefix(), format!("{key:02}").into_bytes()].concat()
    }

    /// What one transaction shall do. `below` draws numbers below the one given.
    pub fn plan(&self, mut below: impl FnMut(u64) -> u64, values: &AtomicI64) -> Plan {
        let way = match below(10) {
            0..5 => Way::Interactive,
            5..8 => Way::AtOnce,
            8 => Way::ReadOnly,
            _ => Way::Single,
        };
        let mut steps = Vec::new();
        let keys = self.keys();
        let value = || values.fetch_add(1, Ordering::Relaxed);
        match way {
            Way::Single => steps.push(Step::Look { key: below(keys), keep: false }),
            Way::ReadOnly => steps.push(Step::LookAtAll),
            Way::AtOnce | Way::Interactive if self.workload == Workload::Bank => {
                let (from, amount) = (below(keys), 1 + below(9) as i64);
                let to = (from + 1 + below(keys - 1)) % keys;
                let keep = below(3) == 0;
                steps.push(Step::Change { key: from, keep, value: value(), by: -amount });
                steps.push(Step::Change { key: to, keep, value: value(), by: amount });
            }
            Way::AtOnce | Way::Interactive => {
                // Of two writes that depend on what is there, one may happen without the other: nobody would know of which, if the
                // answer were lost.
                let changes_max = if way == Way::AtOnce && self.workload == Workload::Set { 1 } else { u64::MAX };
                let mut changes = 0;
                for _ in 0..1 + below(4) {
                    let (key, keep) = (below(keys), below(4) == 0);
                    steps.push(if below(2) == 0 || changes == changes_max {
                        Step::Look { key, keep }
                    } else {
                        changes += 1;
                        Step::Change { key, keep, value: value(), by: 0 }
                    });
                }
            }
        }
        if way == Way::Interactive && below(8) == 0 {
            steps.push(Step::LookAtAll);
        }
        Plan { way, steps }
    }
}

/// What a transaction has done so far.
#[derive(Clone, Debug)]
pub struct Doing {
    course: Course,
    pub actions: Vec<Action>,
}

impl Doing {
    pub fn new(course: Course) -> Doing {
        Doing { course, actions: Vec::new() }
    }

    fn numbers(bytes: &[u8]) -> Vec<i64> {
        let chunks = bytes.chunks(8);
        chunks.map(|chunk| i64::from_le_bytes(chunk.try_into().expect("whole numbers were written"))).collect()
    }

    fn read(&self, key: u64, found: Option<&[u8]>) -> Action {
        let numbers = found.map(Doing::numbers);
        match self.course.workload {
            Workload::Lists => Action::ReadList { key, values: numbers.unwrap_or_default() },
            _ => Action::Read { key, value: numbers.and_then(|numbers| numbers.first().copied()) },
        }
    }

    /// A key was read.
    pub fn looked(&mut self, key: u64, found: Option<&[u8]>) {
        let action = self.read(key, found);
        self.actions.push(action);
    }

    /// A key was read in order to be changed; what to write, if it shall be.
    pub fn change(&mut self, key: u64, found: Option<&[u8]>, value: i64, by: i64) -> Option<Vec<u8>> {
        let write = match self.course.workload {
            Workload::Lists => {
                self.actions.push(Action::Append { key, value });
                [found.unwrap_or_default(), &value.to_le_bytes()].concat()
            }
            Workload::Registers => value.to_le_bytes().to_vec(),
            Workload::Bank => {
                let balance = found.map_or(0, |found| Doing::numbers(found)[1]) + by;
                [value.to_le_bytes(), balance.to_le_bytes()].concat()
            }
            Workload::Set => value.to_le_bytes().to_vec(),
        };
        if self.course.workload != Workload::Lists {
            self.looked(key, found);
            if self.course.workload == Workload::Set && found.is_some() {
                return None;
            }
            self.actions.push(Action::Write { key, value });
        }
        Some(write)
    }

    /// All keys of the course were read at one moment; those not among the rows are not there. An error: money was made or lost.
    pub fn looked_at_all<'r>(&mut self, rows: impl Iterator<Item = (&'r [u8], &'r [u8])>) -> Result<(), String> {
        let rows: Vec<_> = rows.collect();
        for key in 0..self.course.keys() {
            let name = self.course.key(key);
            let row = rows.iter().find(|(key, _)| *key == name);
            self.looked(key, row.map(|(_, value)| *value));
        }
        if self.course.workload == Workload::Bank {
            let balances: Vec<i64> = rows.iter().map(|(_, value)| Doing::numbers(value)[1]).collect();
            if balances.iter().sum::<i64>() != 0 {
                return Err(format!("the balances are {balances:?}"));
            }
        }
        Ok(())
    }

    /// Nobody knows whether it happened, nor what it read.
    pub fn unknown(course: Course, plan: &Plan) -> Vec<Action> {
        let wanted = plan.steps.iter().filter_map(|step| match *step {
            Step::Change { key, value, .. } if course.workload == Workload::Lists => {
                Some(Action::Append { key, value })
            }
            Step::Change { key, value, .. } => Some(Action::Write { key, value }),
            Step::Look { .. } | Step::LookAtAll => None,
        });
        wanted.collect()
    }
}

/// What became of many courses.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Judged {
    pub courses: u64,
    pub transactions: u64,
    pub committed: u64,
    pub aborted: u64,
    pub unknown: u64,
    /// Courses of which the second checker did not say.
    pub undecided: u64,
}

impl Judged {
    pub fn add(&mut self, other: &Judged) {
        let Judged { courses, transactions, committed, aborted, unknown, undecided } = other;
        self.courses += courses;
        self.transactions += transactions;
        self.committed += committed;
        self.aborted += aborted;
        self.unknown += unknown;
        self.undecided += undecided;
    }
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Judged { courses, transactions, committed, aborted, unknown, undecided } = self;
        write!(
            f,
            "{transactions} transactions in {courses} courses: {committed} committed, {aborted} aborted, {unknown} of unknown outcome; \
             the second checker did not decide {undecided} courses"
        )
    }
}

/// Ask both checkers about one course.
pub fn judge(history: &[Txn]) -> Result<Judged, String> {
    use super::second_opinion::{Opinion, strictly_serializable};
    let anomalies = super::check(history);
    if !anomalies.is_empty() {
        let named: std::collections::BTreeSet<usize> = anomalies.iter().flat_map(|one| one.txns.clone()).collect();
        let told: Vec<String> = named.into_iter().map(|n| format!("T{n}: {:?}", history[n])).collect();
        return Err(format!("{anomalies:#?}\n{}", told.join("\n")));
    }
    let count = |of: fn(&Outcome) -> bool| history.iter().filter(|txn| of(&txn.outcome)).count() as u64;
    let mut judged = Judged {
        courses: 1,
        transactions: history.len() as u64,
        committed: count(|outcome| matches!(outcome, Outcome::Committed { .. })),
        aborted: count(|outcome| *outcome == Outcome::Aborted),
        unknown: count(|outcome| *outcome == Outcome::Unknown),
        undecided: 0,
    };
    match strictly_serializable(history) {
        Opinion::Good => {}
        Opinion::Undecided => judged.undecided = 1,
        Opinion::Bad(names) => return Err(format!("the second checker found {names:?}")),
    }
    Ok(judged)
}
