//! Scenarios died at everywhere, and seeds run by the hundred: what tests plug an engine into.

mod deaths;
mod enumerate;
mod seeds;

pub use deaths::{Death, Failure, REPLAY_VARIABLE};
pub use enumerate::{Life, Plan, Summary, enumerate, replay};
pub use seeds::{SEEDS_VARIABLE, SeedFailure, parse_seeds, run_seeds, seeds_asked};
