//! How long writes spend in each stage, always counted.
//!
//! Guards: it costs next to nothing: the clock is read for every flush and every hop, which take microseconds, and for one in
//! [`SAMPLED`] of the writes that are executed, whose distribution is that of all.

use hdrhistogram::Histogram;

/// One write in so many has its own times taken.
pub const SAMPLED: u64 = 32;
/// Longer is counted as this long.
const MAX_NS: u64 = 100_000_000_000;

/// Where a write's time goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// From the inbox to the shard's core; only writes that could not be executed by their caller.
    Hopped,
    /// Execution: into the log's batch and the memtable.
    Appended,
    /// From there to the start of the flush that makes it durable; only writes that wait for that.
    Queued,
    /// One flush: written and synced.
    Durable,
    /// From the end of the execution to being visible and answered; only writes that wait for the disk.
    Applied,
}

impl Stage {
    pub const ALL: [Stage; 5] = [Stage::Hopped, Stage::Appended, Stage::Queued, Stage::Durable, Stage::Applied];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Hopped => "hopped",
            Stage::Appended => "appended",
            Stage::Queued => "queued",
            Stage::Durable => "durable",
            Stage::Applied => "applied",
        }
    }
}

/// Nanoseconds by stage.
#[derive(Clone, Debug)]
pub struct Stages {
    each: [Histogram<u64>; 5],
    /// When the flush under way began.
    flush_began_ns: u64,
}

impl Default for Stages {
    fn default() -> Stages {
        let new = || Histogram::new_with_bounds(1, MAX_NS, 2).expect("the bounds are in order");
        Stages { each: std::array::from_fn(|_| new()), flush_began_ns: 0 }
    }
}

/// What is told of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    pub count: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
}

impl Stages {
    pub fn record(&mut self, stage: Stage, ns: u64) {
        self.each[stage as usize].saturating_record(ns.max(1));
    }

    pub fn flush_begins(&mut self, now_ns: u64) {
        self.flush_began_ns = now_ns;
    }

    pub fn flush_ends(&mut self, now_ns: u64) {
        self.record(Stage::Durable, now_ns.saturating_sub(self.flush_began_ns));
    }

    /// A write that stood in line since `since_ns` is answered.
    pub fn answered(&mut self, since_ns: u64, now_ns: u64) {
        self.record(Stage::Queued, self.flush_began_ns.saturating_sub(since_ns));
        self.record(Stage::Applied, now_ns.saturating_sub(since_ns));
    }

    pub fn add(&mut self, other: &Stages) {
        for (each, other) in self.each.iter_mut().zip(&other.each) {
            each.add(other).expect("histograms of one shape");
        }
    }

    pub fn times(&self, stage: Stage) -> StageTimes {
        let each = &self.each[stage as usize];
        let at = |quantile| each.value_at_quantile(quantile);
        StageTimes { count: each.len(), p50_ns: at(0.5), p99_ns: at(0.99), p999_ns: at(0.999), max_ns: each.max() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_and_those_who_waited_for_it() {
        let mut stages = Stages::default();
        stages.flush_begins(1_000_000);
        stages.flush_ends(1_030_000);
        // One came before the flush began, one while it was under way: that one waits for the next.
        stages.answered(990_000, 1_030_000);
        stages.answered(1_010_000, 1_060_000);
        let near = |stage, ns: u64| {
            let times = stages.times(stage);
            assert!(times.max_ns.abs_diff(ns) <= ns / 100, "{stage:?}: {times:?}");
            times.count
        };
        assert_eq!(near(Stage::Durable, 30_000), 1);
        assert_eq!(near(Stage::Queued, 10_000), 2);
        assert_eq!(near(Stage::Applied, 50_000), 2);
        let mut both = Stages::default();
        both.add(&stages);
        both.add(&stages);
        assert_eq!(both.times(Stage::Applied).count, 4);
        assert_eq!(both.times(Stage::Hopped), StageTimes::default());
    }
}
