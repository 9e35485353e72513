//! One process for one group of one system: measures, and prints a line of JSON for each result.
//!
//! Guards: a failure of one workload is told and the next one goes on; what was measured before a hang is not lost, because lines are
//! written as they come.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::measure::Measured;
use crate::spin::Spinners;
use crate::store::{Outcome, System};
use crate::work::{Group, Size, limits, recovery, store, transactions};
use crate::{python, server};

/// Whether other programs want the processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    Free,
    Busy,
}

impl Condition {
    pub const ALL: [Condition; 2] = [Condition::Free, Condition::Busy];

    pub fn name(self) -> &'static str {
        match self {
            Condition::Free => "free",
            Condition::Busy => "busy",
        }
    }
}

/// What is to be measured.
pub struct Order {
    pub group: Group,
    pub system: String,
    pub size: Size,
    pub dir: PathBuf,
    /// Names of workloads; all of the group if there are none.
    pub only: Vec<String>,
}

/// Prints results.
pub struct Reporter {
    only: Vec<String>,
}

impl Reporter {
    pub fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == workload)
    }

    /// Measure a workload under each condition, if it is wanted. `None`: the system cannot do it.
    pub fn measure(&mut self, workload: &str, mut measure: impl FnMut() -> Outcome<Option<Measured>>) {
        if !self.wants(workload) {
            return;
        }
        for condition in Condition::ALL {
            let spinners = (condition == Condition::Busy).then(Spinners::start).transpose();
            let result = spinners.and_then(|_spinning| measure());
            let mut line = match result {
                Ok(Some(measured)) => measured.to_json(),
                Ok(None) => return,
                Err(why) => json!({ "failed": why }),
            };
            line["workload"] = json!(workload);
            line["condition"] = json!(condition.name());
            print(&line);
        }
    }

    pub fn settings(&mut self, settings: String) {
        print(&json!({ "settings": settings }));
    }
}

fn print(line: &Value) {
    let mut out = std::io::stdout().lock();
    // The parent may have given up; then nobody needs it.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

pub fn run(order: Order) -> Outcome<()> {
    let Order { group, system, size, dir, only } = order;
    let mut reporter = Reporter { only };
    match (group, system.as_str()) {
        (Group::Server, _) => server::measure(&system, size, &dir, &mut reporter),
        (Group::Python, _) => python::measure(&system, size, &dir, &mut reporter),
        (Group::Transactions, name) => transactions::measure(name, size, &dir, &mut reporter),
        (_, "disk") => limits::disk(group, size, &dir, &mut reporter),
        (_, "memory") => limits::memory(group, size, &mut reporter),
        (Group::Recovery, name) => recovery::measure(System::parse(name)?, size, &dir, &mut reporter),
        (_, name) => store::measure(System::parse(name)?, group, size, &dir, &mut reporter),
    }
}
