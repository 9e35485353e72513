//! From what transactions read: who wrote what, in which order versions followed each other, and so which transaction comes
//! before which.
//!
//! Guards: an edge is drawn only if every order that explains the reads (and, when asked for, keeps real time) has it; so a
//! cycle is never a false alarm. What has no name as a cycle is reported here.

mod lists;
mod registers;
mod time;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::cycles::{Anomaly, Kind};
use super::graph::Graph;
use super::history::{Action, Outcome, Txn};

/// Which orders an explanation must keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Logical,
    /// Real time too.
    Strict,
}

pub struct Inferred {
    pub graph: Graph,
    pub anomalies: Vec<Anomaly>,
}

/// What each part of the inference adds to.
struct Work<'a> {
    history: &'a [Txn],
    /// Who committed, or was seen to have.
    committed: Vec<bool>,
    /// Who wrote a value.
    writers: HashMap<(u64, i64), usize>,
    graph: Graph,
    anomalies: Vec<Anomaly>,
}

pub fn infer(history: &[Txn], order: Order) -> Inferred {
    let writers = writers(history);
    let committed = committed(history, &writers);
    let graph = Graph::new(history.len());
    let mut work = Work { history, committed, writers, graph, anomalies: Vec::new() };
    lists::infer(&mut work);
    registers::infer(&mut work, order);
    if order == Order::Strict {
        time::infer(&mut work);
    }
    Inferred { graph: work.graph, anomalies: work.anomalies }
}

fn writers(history: &[Txn]) -> HashMap<(u64, i64), usize> {
    let mut writers = HashMap::new();
    for (n, txn) in history.iter().enumerate() {
        for action in &txn.actions {
            if let Action::Append { key, value } | Action::Write { key, value } = *action {
                let before = writers.insert((key, value), n);
                assert!(before.is_none(), "the load wrote {value} to key {key} twice");
            }
        }
    }
    writers
}

/// Those that were answered as committed, and those of unknown outcome whose writes were read.
fn committed(history: &[Txn], writers: &HashMap<(u64, i64), usize>) -> Vec<bool> {
    let answered = |txn: &Txn| matches!(txn.outcome, Outcome::Committed { .. });
    let mut committed: Vec<bool> = history.iter().map(answered).collect();
    for txn in history.iter().filter(|txn| answered(txn)) {
        for action in &txn.actions {
            let read: &[i64] = match action {
                Action::ReadList { values, .. } => values,
                Action::Read { value, .. } => value.as_slice(),
                Action::Append { .. } | Action::Write { .. } => &[],
            };
            for value in read {
                if let Some(writer) = writers.get(&(action.key(), *value))
                    && history[*writer].outcome == Outcome::Unknown
                {
                    committed[*writer] = true;
                }
            }
        }
    }
    committed
}

impl Work<'_> {
    fn report(&mut self, kind: Kind, txns: Vec<usize>, why: String) {
        self.anomalies.push(Anomaly::direct(kind, txns, why));
    }

    /// The committed writer of a value that `reader` read; what must not be read is reported. `last` says whether it is the
    /// last that its writer wrote there.
    fn writer_read(&mut self, reader: usize, key: u64, value: i64, must_be_last: bool) -> Option<usize> {
        let Some(writer) = self.writers.get(&(key, value)).copied() else {
            self.report(Kind::ThinAir, vec![reader], format!("T{reader} read {value} of key {key}; nobody wrote it"));
            return None;
        };
        if self.history[writer].outcome == Outcome::Aborted {
            let why = format!("T{reader} read {value} of key {key}, which T{writer} wrote and took back");
            self.report(Kind::G1a, vec![reader, writer], why);
            return None;
        }
        if must_be_last && writer != reader && last_write(&self.history[writer], key) != Some(value) {
            let why = format!("T{reader} read {value} of key {key}, which T{writer} wrote over itself");
            self.report(Kind::G1b, vec![reader, writer], why);
        }
        Some(writer)
    }

    /// Transactions that read the same version and each wrote to the key.
    fn report_lost_updates<V: Ord>(&mut self, key: u64, readers: &BTreeMap<V, BTreeSet<usize>>) {
        for same in readers.values() {
            let wrote = |n: &usize| last_write(&self.history[*n], key).is_some();
            let updates: Vec<usize> = same.iter().copied().filter(wrote).collect();
            if updates.len() > 1 {
                let why = format!("{updates:?} read the same version of key {key} and each wrote the next");
                self.report(Kind::LostUpdate, updates, why);
            }
        }
    }

    /// Transactions that count, with their places.
    fn answered(&self) -> Vec<(usize, &Txn)> {
        let is_answered = |txn: &&Txn| matches!(txn.outcome, Outcome::Committed { .. });
        self.history.iter().enumerate().filter(|(_, txn)| is_answered(txn)).collect()
    }
}

/// What a transaction leaves in a key, as far as it wrote there.
fn last_write(txn: &Txn, key: u64) -> Option<i64> {
    txn.actions.iter().rev().find_map(|action| match *action {
        Action::Append { key: at, value } | Action::Write { key: at, value } if at == key => Some(value),
        _ => None,
    })
}
