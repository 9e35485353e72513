//! Why a run stopped before what it was asked for.

use std::fmt;

use super::points::{CrashPoint, Phase};

/// What a run was doing when it stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stuck {
    pub seed: u64,
    pub now_ns: u64,
    pub steps: u64,
    /// Tasks that wait for something.
    pub waiting: Vec<String>,
    pub runnable: Vec<String>,
    /// The last tasks that ran, the latest at the end.
    pub recent: Vec<String>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, virtual time {} ns, {} polls", self.seed, self.now_ns, self.steps)?;
        writeln!(f, "  waiting:  {}", self.waiting.join(", "))?;
        writeln!(f, "  runnable: {}", self.runnable.join(", "))?;
        write!(f, "  ran last: {}", self.recent.join(", "))
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It reached the point where it was to die; call `Sim::crash` to go on with what survives.
    Crashed { point: CrashPoint, phase: Phase },
    /// Nobody can run and nothing is due.
    Deadlock(Box<Stuck>),
    /// The budget of polls or of virtual time was used up.
    Livelock(Box<Stuck>),
    /// A task panicked, or the driver's future did.
    Panicked { task: String, message: String, stuck: Box<Stuck> },
    /// What a harness watches at every step is no longer so.
    Broken { message: String, stuck: Box<Stuck> },
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Crashed { point, phase } => write!(f, "died at {point}, {phase:?}"),
            Stop::Deadlock(stuck) => write!(f, "deadlock: nothing can run and nothing is due; {stuck}"),
            Stop::Livelock(stuck) => write!(f, "no progress within the budget; {stuck}"),
            Stop::Panicked { task, message, stuck } => write!(f, "{task} panicked: {message}; {stuck}"),
            Stop::Broken { message, stuck } => write!(f, "{message}; {stuck}"),
        }
    }
}

impl std::error::Error for Stop {}
