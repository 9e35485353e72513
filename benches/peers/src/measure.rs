//! Runs steps in threads for a time and counts them.
//!
//! Guards: nothing is counted before everybody is warm or after the time is over; a rate is what all threads did between the begin of
//! counting and the end of the last step that counts, so that threads which starve are no faster for it; latencies are those of every
//! single step.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::data::Key;
use crate::store::{AsyncRun, Outcome, Store};

const WARM: u8 = 0;
const COUNT: u8 = 1;
const OVER: u8 = 2;

#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub warm: Duration,
    pub count: Duration,
}

/// What one run of one workload took.
pub struct Measured {
    pub per_second: f64,
    pub operations: u64,
    /// Of each step, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// Processor time of this process for each operation; `None` where it does not do the work.
    pub cpu_us: Option<f64>,
}

impl Measured {
    pub fn to_json(&self) -> Value {
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        let mut json = json!({
            "per_second": self.per_second,
            "operations": self.operations,
            "p50_ns": at(0.5),
            "p99_ns": at(0.99),
            "p999_ns": at(0.999),
            "max_ns": self.latencies.max(),
        });
        if let Some(cpu) = self.cpu_us {
            json["cpu_us"] = json!(cpu);
        }
        json
    }
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are in order")
}

/// One thread's work: each step does some operations, and says how many.
pub trait Worker {
    fn step(&mut self) -> Outcome<u64>;
}

impl<F: FnMut() -> Outcome<u64>> Worker for F {
    fn step(&mut self) -> Outcome<u64> {
        self()
    }
}

/// What one thread counted.
struct Counted {
    operations: u64,
    /// The end of the last step that counts.
    ended: Instant,
    latencies: Histogram<u64>,
}

/// Let `threads` workers step for as long as `times` says. `start` is called in each thread.
pub fn run<W: Worker>(threads: u64, times: Times, start: impl Fn(u64) -> Outcome<W> + Sync) -> Outcome<Measured> {
    let phase = AtomicU8::new(WARM);
    let ready = Barrier::new(threads as usize + 1);
    std::thread::scope(|scope| {
        let spawn = |thread| {
            let (phase, ready, start) = (&phase, &ready, &start);
            scope.spawn(move || {
                let worker = start(thread);
                ready.wait();
                steps(worker?, phase)
            })
        };
        let running: Vec<_> = (0..threads).map(spawn).collect();
        ready.wait();
        let (began, cpu) = watch(&phase, times);
        let counted: Outcome<Vec<Counted>> = running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
            .collect();
        sum(counted?, began, cpu)
    })
}

/// Pass through the phases; the begin of the one that counts, and its processor time.
fn watch(phase: &AtomicU8, times: Times) -> (Instant, Duration) {
    std::thread::sleep(times.warm);
    let (began, before) = (Instant::now(), cpu_time());
    phase.store(COUNT, Ordering::Relaxed);
    std::thread::sleep(times.count);
    phase.store(OVER, Ordering::Relaxed);
    (began, cpu_time() - before)
}

fn steps(mut worker: impl Worker, phase: &AtomicU8) -> Outcome<Counted> {
    let mut began = Instant::now();
    let mut counted = Counted { operations: 0, ended: began, latencies: histogram() };
    loop {
        let seen = phase.load(Ordering::Relaxed);
        // A single step may be longer than the time: it counts all the same.
        if seen == OVER && counted.operations > 0 {
            return Ok(counted);
        }
        let operations = worker.step()?;
        let ended = Instant::now();
        if seen != WARM {
            counted.operations += operations;
            counted.ended = ended;
            counted.latencies.saturating_record((ended - began).as_nanos() as u64);
        }
        began = ended;
    }
}

fn sum(counted: Vec<Counted>, began: Instant, cpu: Duration) -> Outcome<Measured> {
    let mut last = began;
    let mut measured = Measured { per_second: 0.0, operations: 0, latencies: histogram(), cpu_us: None };
    for one in counted {
        measured.operations += one.operations;
        last = last.max(one.ended);
        measured.latencies.add(one.latencies).map_err(|error| error.to_string())?;
    }
    if measured.operations == 0 {
        return Err("nothing was done in the time given".to_owned());
    }
    measured.per_second = measured.operations as f64 / (last - began).as_secs_f64().max(1e-9);
    measured.cpu_us = Some(cpu.as_secs_f64() * 1e6 / measured.operations as f64);
    Ok(measured)
}

/// Puts of one thread with `depth` under way; `None` if the system has no such call.
pub fn run_async(
    store: &dyn Store,
    depth: usize,
    times: Times,
    key: impl FnMut() -> Key + Send,
) -> Option<Outcome<Measured>> {
    let phase = AtomicU8::new(WARM);
    let counted = Counted { operations: 0, ended: Instant::now(), latencies: histogram() };
    let mut run = Async { depth, phase: &phase, key, counted };
    let watched = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&phase, times));
        let done = store.put_async(&mut run);
        // Whoever has no such call is done at once.
        let watched = watching.join().map_err(|_| "a thread panicked".to_owned());
        done.map(|done| done.and(watched))
    })?;
    Some(watched.and_then(|(began, cpu)| sum(vec![run.counted], began, cpu)))
}

struct Async<'a, F> {
    depth: usize,
    phase: &'a AtomicU8,
    key: F,
    counted: Counted,
}

impl<F: FnMut() -> Key> AsyncRun for Async<'_, F> {
    fn depth(&self) -> usize {
        self.depth
    }

    fn next(&mut self) -> Option<Key> {
        (self.phase.load(Ordering::Relaxed) != OVER).then(|| (self.key)())
    }

    fn done(&mut self, began: Instant) {
        if self.phase.load(Ordering::Relaxed) == WARM {
            return;
        }
        let now = Instant::now();
        (self.counted.operations, self.counted.ended) = (self.counted.operations + 1, now);
        self.counted.latencies.saturating_record((now - began).as_nanos() as u64);
    }
}

/// Processor time of this process so far, all threads, user and system.
pub fn cpu_time() -> Duration {
    cpu_time_of("self").unwrap_or_default()
}

/// Processor time of a process so far, as /proc counts it (in hundredths of a second).
pub fn cpu_time_of(pid: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_only_while_it_counts() {
        let times = Times { warm: Duration::from_millis(30), count: Duration::from_millis(60) };
        let measured = run(2, times, |_| {
            Ok(|| {
                std::thread::sleep(Duration::from_millis(1));
                Ok(3)
            })
        })
        .expect("no step fails");
        // At most 60 steps of each thread, of three operations.
        assert!(measured.operations > 0 && measured.operations <= 2 * 3 * 62, "{}", measured.operations);
        assert!(measured.per_second > 100.0 && measured.per_second < 6100.0, "{}", measured.per_second);
        assert!(measured.latencies.value_at_quantile(0.5) >= 1_000_000);
    }

    /// One thread keeps what all need; the others are served when it is over.
    #[test]
    fn threads_that_starve_add_what_they_did_and_no_more() {
        let times = Times { warm: Duration::from_millis(20), count: Duration::from_millis(100) };
        let (turn, lucky) = (std::sync::Mutex::new(()), AtomicU8::new(0));
        let measured = run(20, times, |_| {
            let first = lucky.fetch_add(1, Ordering::Relaxed) == 0;
            let (turn, lucky) = (&turn, &lucky);
            Ok(move || {
                if !first && lucky.load(Ordering::Relaxed) < 100 {
                    std::thread::sleep(Duration::from_millis(150));
                    lucky.store(100, Ordering::Relaxed);
                }
                let _turn = turn.lock();
                std::thread::sleep(Duration::from_millis(1));
                Ok(1)
            })
        });
        let rate = measured.map(|measured| measured.per_second).unwrap_or_default();
        assert!(rate > 0.0 && rate < 1000.0, "{rate} in a second, each of which takes a millisecond alone");
    }

    #[test]
    fn a_step_longer_than_the_time_counts_and_an_error_ends_it() {
        let times = Times { warm: Duration::from_millis(1), count: Duration::from_millis(1) };
        let slow = run(1, times, |_| {
            Ok(|| {
                std::thread::sleep(Duration::from_millis(20));
                Ok(1)
            })
        });
        assert!(slow.is_ok_and(|measured| measured.operations >= 1));
        assert!(run(1, times, |_| Ok(|| Err::<u64, _>("no".to_owned()))).is_err());
    }
}
