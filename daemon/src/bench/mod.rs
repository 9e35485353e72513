//! `corering bench`: loads for an engine in this process, or for a server behind a socket.
//!
//! Guards: every operation is counted and its latency recorded, errors end the run, and both modes measure the same
//! workloads in the same way.

pub mod cli;
mod disk;
mod disk_report;
mod in_process;
mod keys;
mod measure;
mod open_loop;
mod plan;
mod report;
mod socket;

use crate::exit::Failure;

pub use plan::{Distribution, Limit, Plan, Target, Workload};

/// Run the plan's workloads one after the other and print what they took.
pub fn run(plan: &Plan) -> Result<(), Failure> {
    let results = match &plan.target {
        Target::InProcess { .. } => in_process::run(plan)?,
        Target::Socket { address } => socket::run(plan, address)?,
    };
    report::print(plan, &results);
    Ok(())
}
