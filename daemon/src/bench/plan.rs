//! What to measure.

use std::path::PathBuf;
use std::time::Duration;

use corering_engine::Durability;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    Put,
    Get,
    Incr,
    /// Several puts as one: an atomic batch in process, MSET over a socket.
    Batch,
    /// `batch_len` keys in order, from a key chosen by the distribution (in process) or from where the last one ended.
    Scan,
}

impl Workload {
    pub const ALL: [Workload; 5] = [Workload::Put, Workload::Get, Workload::Incr, Workload::Batch, Workload::Scan];

    pub fn name(self) -> &'static str {
        match self {
            Workload::Put => "put",
            Workload::Get => "get",
            Workload::Incr => "incr",
            Workload::Batch => "batch",
            Workload::Scan => "scan",
        }
    }

    /// Whether the keys must be there before.
    pub fn needs_keys(self) -> bool {
        matches!(self, Workload::Get | Workload::Scan)
    }
}

/// Which keys are chosen how often.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Distribution {
    Uniform,
    /// The n-th key in proportion to `1 / n^exponent`.
    Zipf {
        exponent: f64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    Time(Duration),
    Operations(u64),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// Open an engine here: in `dir`, or in a directory that is removed afterwards.
    InProcess { dir: Option<PathBuf>, shards: Option<u16>, durability: Durability },
    /// `HOST:PORT`, or a path of a Unix socket.
    Socket { address: String },
}

#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    pub workloads: Vec<Workload>,
    pub target: Target,
    /// Threads; over a socket, each has a connection of its own.
    pub threads: u32,
    /// Operations of one thread under way at once.
    pub pipeline: u32,
    pub keys: u64,
    pub value_len: usize,
    pub batch_len: u32,
    pub distribution: Distribution,
    pub limit: Limit,
    /// Operations a second of all threads together, begun when they are due whatever became of those before; `None`: each begins
    /// when one before it has ended.
    pub rate: Option<f64>,
    pub seed: u64,
    pub json: bool,
}
