//! The machine that is simulated, and the habits that each seed draws for it.
//!
//! A fixed set of habits would leave most schedules unreachable: with every operation equally slow, a background task
//! never overtakes a sync. So a seed draws how fast its disk is, how its tasks are chosen and how long they run.

use super::points::OpKind;
use super::rng::Rng;
use crate::runtime::DurableWay;

/// How long operations on the disk take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latency {
    /// Shortest and longest time of a transfer.
    pub transfer_ns: (u64, u64),
    pub sync_ns: (u64, u64),
    pub name_ns: (u64, u64),
    /// One operation in so many takes up to 100 times longer.
    pub tail_one_in: u64,
}

impl Latency {
    pub(super) fn draw(&self, rng: &mut Rng, op: OpKind, len: usize) -> u64 {
        let range = match op {
            OpKind::Read | OpKind::Write | OpKind::Map => self.transfer_ns,
            OpKind::WriteDurable | OpKind::Sync | OpKind::SyncDir => self.sync_ns,
            _ => self.name_ns,
        };
        let base = rng.between(range.0, range.1) + len as u64 / 2;
        if rng.one_in(self.tail_one_in) { base * rng.between(2, 100) } else { base }
    }
}

/// How the next task is chosen among those that can run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Each with the same chance.
    Uniform,
    /// The one that has waited longest.
    Oldest,
    /// By priorities drawn for each task and redrawn now and then: one task may be kept waiting for very long
    /// (Burckhardt and others, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", 2010).
    Priorities,
}

/// How long a task's step takes on its core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// No time at all for most: many tasks can run at the same moment.
    Instant,
    /// Up to a microsecond.
    Steady,
    /// As `Steady`, but a core stands still for milliseconds now and then.
    Stalls,
}

impl Pace {
    pub(super) fn draw(self, rng: &mut Rng) -> u64 {
        match self {
            Pace::Instant => {
                if rng.one_in(4) {
                    rng.between(1, 500)
                } else {
                    0
                }
            }
            Pace::Steady => rng.between(50, 1_000),
            Pace::Stalls if rng.one_in(200) => rng.between(100_000, 20_000_000),
            Pace::Stalls => rng.between(50, 1_000),
        }
    }
}

#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Processors that the host reports.
    pub processors: usize,
    pub latency: Latency,
    pub policy: Policy,
    pub pace: Pace,
    /// A background task is chosen once in so many times while a foreground task could run.
    pub background_one_in: u64,
    /// Which way is said to be best for durable writes; each time another one if not fixed.
    pub durable_way: Option<DurableWay>,
    /// Bytes of disk; none for no limit.
    pub capacity: Option<u64>,
    /// Look at shared regions after every poll, so that dying between a store and the next operation is a point too.
    pub region_points: bool,
    /// Polls in one call of the run loop after which it counts as making no progress.
    pub step_budget: u64,
    /// Virtual time in one call of the run loop after which it counts as making no progress.
    pub time_budget_ns: u64,
    /// Print every traced event to stderr.
    pub log: bool,
}

impl SimConfig {
    /// The habits of a seed, on a machine of two processors.
    pub fn of_seed(seed: u64) -> SimConfig {
        let mut rng = Rng::stream(seed, "config");
        let speeds = [(20_000, 60_000), (1_000, 2_000_000), (0, 1_000), (5_000, 5_000)];
        let transfer = *rng.pick(&speeds);
        let sync = *rng.pick(&speeds);
        SimConfig {
            processors: 2,
            latency: Latency {
                transfer_ns: transfer,
                sync_ns: (sync.0 + 10_000, sync.1 + 10_000),
                name_ns: (1_000, 30_000),
                tail_one_in: *rng.pick(&[20, 200, 5_000]),
            },
            policy: *rng.pick(&[Policy::Uniform, Policy::Uniform, Policy::Oldest, Policy::Priorities]),
            pace: *rng.pick(&[Pace::Instant, Pace::Steady, Pace::Stalls]),
            background_one_in: *rng.pick(&[2, 8, 64]),
            durable_way: *rng.pick(&[None, Some(DurableWay::Blocking), Some(DurableWay::Ring)]),
            capacity: None,
            region_points: true,
            step_budget: 2_000_000,
            time_budget_ns: 3_600_000_000_000,
            log: false,
        }
    }
}
