//! The crate `adya` on the same history: another's reading of the same papers.

use std::collections::BTreeSet;

use adya::{Opts, Valid, Workload};
use serde_json::{Value, json};

use super::history::{Action, Outcome, Txn};

/// What the other checker says of strict serializability.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opinion {
    Good,
    /// The names of the anomalies, in its words.
    Bad(Vec<String>),
    Undecided,
}

/// Ask about a history of lists, or of registers, which the other checker does not take together.
pub fn strictly_serializable(history: &[Txn]) -> Opinion {
    let lists = |action: &Action| matches!(action, Action::Append { .. } | Action::ReadList { .. });
    let kinds: BTreeSet<bool> = history.iter().flat_map(|txn| &txn.actions).map(lists).collect();
    assert!(kinds.len() <= 1, "lists and registers in one history");
    let workload = if kinds.contains(&true) { Workload::ListAppend } else { Workload::RwRegister };
    let parsed = adya::History::from_json(&json(history)).expect("it is written in its own format");
    let options = Opts { linearizable_keys: true, wfr_keys: true, ..Opts::default() };
    let report = adya::check(&parsed, workload, &options);
    match report.valid {
        Valid::True => Opinion::Good,
        Valid::False => Opinion::Bad(report.anomaly_types),
        Valid::Unknown => Opinion::Undecided,
    }
}

/// The history in the format of Jepsen: askings and ends, each transaction a process of its own.
fn json(history: &[Txn]) -> String {
    let last = history.iter().map(end_or_asked).max().unwrap_or(0) + 1;
    let mut events: Vec<(u64, bool, usize, &str)> = Vec::new();
    for (n, txn) in history.iter().enumerate() {
        events.push((txn.asked, false, n, "invoke"));
        events.push(match txn.outcome {
            Outcome::Committed { at } => (at, true, n, "ok"),
            Outcome::Aborted => (txn.asked, true, n, "fail"),
            Outcome::Unknown => (last, true, n, "info"),
        });
    }
    events.sort_unstable();
    let line = |(index, (time, _, n, kind)): (usize, &(u64, bool, usize, &str))| {
        let told = *kind == "ok";
        let steps: Vec<Value> = history[*n].actions.iter().map(|action| step(action, told)).collect();
        json!({"index": index, "type": kind, "f": "txn", "process": n, "time": time, "value": steps}).to_string()
    };
    events.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn end_or_asked(txn: &Txn) -> u64 {
    match txn.outcome {
        Outcome::Committed { at } => at,
        Outcome::Aborted | Outcome::Unknown => txn.asked,
    }
}

fn step(action: &Action, told: bool) -> Value {
    match action {
        Action::Append { key, value } => json!(["append", key, value]),
        Action::Write { key, value } => json!(["w", key, value]),
        Action::ReadList { key, values } if told => json!(["r", key, values]),
        Action::Read { key, value } if told => json!(["r", key, value]),
        Action::ReadList { key, .. } | Action::Read { key, .. } => json!(["r", key, null]),
    }
}
