//! Counts, latencies, and the end of a run.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use super::plan::{Limit, Plan, Workload};
use crate::exit::Failure;

/// Latencies are recorded up to here, with three significant digits.
const LATENCY_MAX_NS: u64 = 100_000_000_000;
/// Operations that a thread takes from the common limit at once.
const CLAIM: u64 = 64;

/// What one workload took.
pub struct Measured {
    pub workload: Workload,
    pub operations: u64,
    pub took: Duration,
    /// Nanoseconds.
    pub latencies: Histogram<u64>,
    /// Of a run with a rate: what was refused because a queue was full, and how late operations were begun.
    pub paced: Option<Paced>,
}

/// What a generator with a rate of its own tells beside latencies.
pub struct Paced {
    pub refused: u64,
    /// Nanoseconds between when an operation was due and when it was begun: the generator's own lateness, part of the latency.
    pub late: Histogram<u64>,
}

impl Paced {
    pub fn new() -> Paced {
        Paced { refused: 0, late: histogram() }
    }
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("the bounds are in order")
}

pub fn record(latencies: &mut Histogram<u64>, began: Instant) {
    latencies.saturating_record(began.elapsed().as_nanos().max(1) as u64);
}

/// What one thread found.
pub struct Worked {
    pub latencies: Histogram<u64>,
    pub paced: Option<Paced>,
}

impl From<Histogram<u64>> for Worked {
    fn from(latencies: Histogram<u64>) -> Worked {
        Worked { latencies, paced: None }
    }
}

/// Shared by the threads of one run: says when to end, and how far they are.
pub struct Run {
    limit: Limit,
    /// Operations given out to threads.
    claimed: AtomicU64,
    done: AtomicU64,
    over: AtomicBool,
}

impl Run {
    fn new(limit: Limit) -> Run {
        Run { limit, claimed: AtomicU64::new(0), done: AtomicU64::new(0), over: AtomicBool::new(false) }
    }

    /// Operations that the calling thread may do next; none at the end.
    pub fn claim(&self) -> u64 {
        self.claim_at_most(CLAIM)
    }

    pub fn claim_at_most(&self, wanted: u64) -> u64 {
        if self.over.load(Ordering::Relaxed) {
            return 0;
        }
        match self.limit {
            Limit::Time(_) => wanted,
            Limit::Operations(all) => all.saturating_sub(self.claimed.fetch_add(wanted, Ordering::Relaxed)).min(wanted),
        }
    }

    pub fn count(&self, operations: u64) {
        self.done.fetch_add(operations, Ordering::Relaxed);
    }
}

/// Run `work` in each of the plan's threads until the limit; it returns what the thread found.
pub fn run_threads(
    plan: &Plan,
    workload: Workload,
    work: impl Fn(u32, &Run) -> Result<Worked, Failure> + Sync,
) -> Result<Measured, Failure> {
    let run = Run::new(plan.limit);
    let bar = progress(workload.name(), plan.limit);
    let began = Instant::now();
    let results: Vec<Result<Worked, Failure>> = std::thread::scope(|scope| {
        let spawn = |thread| {
            let (run, work) = (&run, &work);
            scope.spawn(move || {
                let result = work(thread, run);
                if result.is_err() {
                    run.over.store(true, Ordering::Relaxed);
                }
                result
            })
        };
        let threads: Vec<_> = (0..plan.threads).map(spawn).collect();
        watch(&run, &bar, began, || threads.iter().all(std::thread::ScopedJoinHandle::is_finished));
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(Failure::new(crate::exit::DISK, "a thread of the benchmark panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let took = began.elapsed();
    bar.finish_and_clear();
    let mut measured =
        Measured { workload, operations: run.done.load(Ordering::Relaxed), took, latencies: histogram(), paced: None };
    for result in results {
        let worked = result?;
        measured.latencies.add(worked.latencies).expect("histograms of one shape");
        if let Some(paced) = worked.paced {
            let all = measured.paced.get_or_insert_with(Paced::new);
            all.refused += paced.refused;
            all.late.add(paced.late).expect("histograms of one shape");
        }
    }
    Ok(measured)
}

/// Show how far the threads are, and tell them when the time is up.
fn watch(run: &Run, bar: &ProgressBar, began: Instant, finished: impl Fn() -> bool) {
    while !finished() {
        let elapsed = began.elapsed();
        let mut pause = Duration::from_millis(50);
        let done = run.done.load(Ordering::Relaxed);
        match run.limit {
            Limit::Time(time) => {
                bar.set_position(elapsed.min(time).as_millis() as u64);
                if elapsed >= time {
                    run.over.store(true, Ordering::Relaxed);
                }
                pause = pause.min(time.saturating_sub(elapsed)).max(Duration::from_millis(1));
            }
            Limit::Operations(_) => bar.set_position(done),
        }
        bar.set_message(format!("{:.0}/s", done as f64 / elapsed.as_secs_f64().max(1e-3)));
        std::thread::sleep(pause);
    }
}

fn progress(name: &'static str, limit: Limit) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let len = match limit {
        Limit::Time(time) => time.as_millis() as u64,
        Limit::Operations(all) => all,
    };
    let style = ProgressStyle::with_template("{prefix:>6} {wide_bar} {percent:>3}% {msg:>14}");
    let bar = ProgressBar::new(len).with_prefix(name);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_given_out_exactly() {
        let run = Run::new(Limit::Operations(150));
        let claims: Vec<u64> = std::iter::repeat_with(|| run.claim()).take(5).collect();
        assert_eq!(claims, [64, 64, 22, 0, 0]);
    }

    #[test]
    fn an_error_ends_the_other_threads() {
        let run = Run::new(Limit::Time(Duration::from_secs(60)));
        assert!(run.claim() > 0);
        run.over.store(true, Ordering::Relaxed);
        assert_eq!(run.claim(), 0);
    }
}
