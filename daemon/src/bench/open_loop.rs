//! A generator that does not wait: operations begin at a constant rate, and their latency counts from when they were due.
//!
//! Guards: a slow answer delays no later operation and hides none (no "coordinated omission"): what was begun late because the
//! generator itself had no processor is told beside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corering_engine::{Error, Pending};
use hdrhistogram::Histogram;
use parking_lot::{Condvar, Mutex};

use super::measure::{Paced, Worked, histogram, record};
use super::plan::Plan;

/// When each operation of one thread is due.
#[derive(Clone, Copy)]
pub struct Schedule {
    start: Instant,
    interval_ns: f64,
}

impl Schedule {
    pub fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos((number as f64 * self.interval_ns) as u64)
    }
}

/// Leads one thread through its schedule.
pub struct Pace {
    schedule: Schedule,
    next: u64,
    late: Histogram<u64>,
}

impl Pace {
    /// The thread's part of the plan's rate, if it has one.
    pub fn of(plan: &Plan, thread: u32) -> Option<Pace> {
        let interval_ns = 1e9 * f64::from(plan.threads) / plan.rate?;
        // The threads take turns rather than begin all at the same time.
        let turn = Duration::from_nanos((interval_ns * f64::from(thread) / f64::from(plan.threads)) as u64);
        Some(Pace { schedule: Schedule { start: Instant::now() + turn, interval_ns }, next: 0, late: histogram() })
    }

    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    pub fn next_is_due(&self) -> bool {
        self.schedule.due(self.next) <= Instant::now()
    }

    /// Wait until the next operation is due; gives when that was.
    pub fn wait_for_next(&mut self) -> Instant {
        let due = self.schedule.due(self.next);
        self.next += 1;
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            // The kernel wakes some 50 us late; the processor is left to whom is measured all the same.
            std::thread::sleep(left);
        }
        record(&mut self.late, due);
        due
    }

    pub fn into_late(self) -> Histogram<u64> {
        self.late
    }
}

/// Answers that come in other threads.
#[derive(Clone, Default)]
pub struct Outcomes {
    shared: Arc<Shared>,
}

struct Shared {
    under_way: AtomicU64,
    refused: AtomicU64,
    failed: AtomicBool,
    state: Mutex<State>,
    all_done: Condvar,
}

struct State {
    latencies: Histogram<u64>,
    error: Option<Error>,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared {
            under_way: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            state: Mutex::new(State { latencies: histogram(), error: None }),
            all_done: Condvar::new(),
        }
    }
}

impl Outcomes {
    /// The answer counts from when its operation was due.
    pub fn expect<T: Send + 'static>(&self, pending: Pending<T>, due: Instant) {
        self.shared.under_way.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        pending.on_ready(move |result| shared.take(result.map(drop), due));
    }

    pub fn done(&self, due: Instant) {
        record(&mut self.shared.state.lock().latencies, due);
    }

    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Wait for the answers that are missing.
    pub fn finish(self, pace: Pace) -> Result<Worked, Error> {
        let mut state = self.shared.state.lock();
        while self.shared.under_way.load(Ordering::Acquire) > 0 {
            self.shared.all_done.wait(&mut state);
        }
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let refused = self.shared.refused.load(Ordering::Relaxed);
        let latencies = std::mem::replace(&mut state.latencies, histogram());
        Ok(Worked { latencies, paced: Some(Paced { refused, late: pace.into_late() }) })
    }
}

impl Shared {
    fn take(&self, result: Result<(), Error>, due: Instant) {
        let mut state = self.state.lock();
        match result {
            Ok(()) => record(&mut state.latencies, due),
            Err(Error::Busy { .. }) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                state.error.get_or_insert(error);
                self.failed.store(true, Ordering::Relaxed);
            }
        }
        if self.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_done.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_the_generator_is_seen_by_all_that_were_due_meanwhile() {
        let schedule = Schedule { start: Instant::now(), interval_ns: 1e6 };
        let mut pace = Pace { schedule, next: 0, late: histogram() };
        let outcomes = Outcomes::default();
        for operation in 0..30 {
            let due = pace.wait_for_next();
            if operation == 5 {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcomes.done(due);
        }
        let worked = outcomes.finish(pace).expect("nothing failed");
        // The one that paused took 20 ms, the next 19, and so on: about ten took longer than ten.
        let long = worked.latencies.count_between(10_000_000, u64::MAX);
        assert!((8..=25).contains(&long), "{long}");
        assert!(worked.paced.is_some_and(|paced| paced.late.max() >= 15_000_000));
    }

    #[test]
    fn what_is_refused_is_counted_and_what_fails_ends_it() {
        let schedule = Schedule { start: Instant::now(), interval_ns: 1.0 };
        let pace = || Pace { schedule, next: 0, late: histogram() };
        let outcomes = Outcomes::default();
        outcomes.expect(Pending::<()>::ready(Err(Error::Busy { queue: "a queue", limit: 1 })), Instant::now());
        outcomes.expect(Pending::ready(Ok(())), Instant::now());
        assert!(!outcomes.has_failed());
        let worked = outcomes.finish(pace()).expect("a full queue is no failure");
        assert_eq!((worked.latencies.len(), worked.paced.map(|paced| paced.refused)), (1, Some(1)));
        let outcomes = Outcomes::default();
        outcomes.expect(Pending::<()>::ready(Err(Error::Closed)), Instant::now());
        assert!(outcomes.has_failed() && outcomes.finish(pace()).is_err());
    }
}
