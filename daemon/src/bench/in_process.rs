//! The engine in this process: what C, C++ and Python get, without their bindings.

use std::collections::VecDeque;
use std::ops::Bound;
use std::time::Instant;

use corering_engine::{Client, Engine, Error, Keyspace, Options, Pending, ScanRange, WriteBatch, WriteOptions};
use hdrhistogram::Histogram;

use super::keys::{self, Keys, Values};
use super::measure::{Measured, Run, Worked, histogram, record, run_threads};
use super::open_loop::{Outcomes, Pace};
use super::plan::{Plan, Target, Workload};
use crate::exit::{self, Failure};

const KEYSPACE: Keyspace = Keyspace::DEFAULT;
/// Keys written by one batch while the database is filled.
const FILL_LEN: u64 = 256;

pub fn run(plan: &Plan) -> Result<Vec<Measured>, Failure> {
    let Target::InProcess { dir, shards, durability } = &plan.target else { return Ok(Vec::new()) };
    let temporary;
    let dir = match dir {
        Some(dir) => dir.as_path(),
        None => {
            temporary = tempfile::Builder::new()
                .prefix("corering-bench-")
                .tempdir_in(".")
                .map_err(|error| Failure::new(exit::DISK, format!("no directory to measure in: {error}")))?;
            temporary.path()
        }
    };
    let engine = Engine::open(dir, Options { shards: *shards, durability: *durability, ..Options::default() })?;
    let mut results = Vec::new();
    for &workload in &plan.workloads {
        if workload.needs_keys() {
            fill(plan, &engine.client())?;
        }
        let client = engine.client();
        results.push(run_threads(plan, workload, |thread, run| {
            let worker = Worker::new(plan, &client, thread);
            match Pace::of(plan, thread) {
                Some(pace) => worker.work_paced(workload, run, pace).map_err(Failure::from),
                None => worker.work(workload, run).map(Worked::from).map_err(Failure::from),
            }
        })?);
    }
    engine.close()?;
    Ok(results)
}

/// Write every key that is not there yet.
fn fill(plan: &Plan, client: &Client) -> Result<(), Failure> {
    let mut values = Values::new(plan.value_len, plan.seed);
    let mut name = Vec::new();
    let mut under_way = VecDeque::new();
    for first in (0..plan.keys).step_by(FILL_LEN as usize) {
        let mut batches: Vec<WriteBatch> = Vec::new();
        for number in first..(first + FILL_LEN).min(plan.keys) {
            keys::name(number, &mut name);
            if client.get_with(KEYSPACE, &name, |found| found.is_some())? {
                continue;
            }
            let shard = client.shard_of(&name).index();
            batches.resize_with(batches.len().max(shard + 1), WriteBatch::new);
            if let Some(batch) = batches.get_mut(shard) {
                batch.put(KEYSPACE, &name, values.next());
            }
        }
        for batch in batches.into_iter().filter(|batch| !batch.is_empty()) {
            under_way.push_back(client.write_batch(batch, options()));
        }
        while under_way.len() > 64 {
            under_way.pop_front().map(Pending::wait).transpose()?;
        }
    }
    for pending in under_way {
        pending.wait()?;
    }
    Ok(())
}

fn options() -> WriteOptions {
    WriteOptions::default()
}

/// A write under way, with its latency to be known.
enum Under {
    Put(Pending<corering_engine::CommitTs>),
    Incr(Pending<i64>),
}

impl Under {
    fn wait(self) -> Result<(), Error> {
        match self {
            Under::Put(pending) => pending.wait().map(drop),
            Under::Incr(pending) => pending.wait().map(drop),
        }
    }
}

struct Worker<'a> {
    plan: &'a Plan,
    client: &'a Client,
    keys: Keys,
    values: Values,
    under_way: VecDeque<(Under, Instant)>,
    latencies: Histogram<u64>,
}

impl<'a> Worker<'a> {
    fn new(plan: &'a Plan, client: &'a Client, thread: u32) -> Worker<'a> {
        Worker {
            plan,
            client,
            keys: Keys::new(plan, thread),
            values: Values::new(plan.value_len, plan.seed ^ u64::from(thread)),
            under_way: VecDeque::new(),
            latencies: histogram(),
        }
    }

    fn work(mut self, workload: Workload, run: &Run) -> Result<Histogram<u64>, Error> {
        loop {
            let claimed = run.claim();
            if claimed == 0 {
                break;
            }
            for _ in 0..claimed {
                self.one(workload)?;
            }
            run.count(claimed);
        }
        while let Some((under, began)) = self.under_way.pop_front() {
            under.wait()?;
            record(&mut self.latencies, began);
        }
        Ok(self.latencies)
    }

    /// Begin operations when they are due, and let the answers come when they come.
    fn work_paced(mut self, workload: Workload, run: &Run, mut pace: Pace) -> Result<Worked, Error> {
        let outcomes = Outcomes::default();
        while run.claim_at_most(1) == 1 {
            let due = pace.wait_for_next();
            if outcomes.has_failed() {
                break;
            }
            match workload {
                Workload::Put => {
                    let pending = self.client.put(KEYSPACE, self.keys.next(), self.values.next(), options());
                    outcomes.expect(pending, due);
                }
                Workload::Incr => {
                    let key = [b"n:", self.keys.next()].concat();
                    outcomes.expect(self.client.incr(KEYSPACE, &key, 1, options()), due);
                }
                Workload::Batch => {
                    let batch = self.batch();
                    outcomes.expect(self.client.write_batch(batch, options()), due);
                }
                Workload::Get => {
                    self.get()?;
                    outcomes.done(due);
                }
                Workload::Scan => {
                    self.scan()?;
                    outcomes.done(due);
                }
            }
            run.count(1);
        }
        outcomes.finish(pace)
    }

    fn one(&mut self, workload: Workload) -> Result<(), Error> {
        let began = Instant::now();
        match workload {
            Workload::Put => {
                let pending = self.client.put(KEYSPACE, self.keys.next(), self.values.next(), options());
                self.under(Under::Put(pending), began)
            }
            Workload::Incr => {
                // Numbers beside the strings of the other workloads.
                let key = [b"n:", self.keys.next()].concat();
                let pending = self.client.incr(KEYSPACE, &key, 1, options());
                self.under(Under::Incr(pending), began)
            }
            Workload::Batch => {
                let batch = self.batch();
                let pending = self.client.write_batch(batch, options());
                self.under(Under::Put(pending), began)
            }
            Workload::Get => {
                self.get()?;
                record(&mut self.latencies, began);
                Ok(())
            }
            Workload::Scan => {
                self.scan()?;
                record(&mut self.latencies, began);
                Ok(())
            }
        }
    }

    fn get(&mut self) -> Result<(), Error> {
        let len = self.client.get_with(KEYSPACE, self.keys.next(), |found| found.map(|value| value.bytes.len()))?;
        std::hint::black_box(len);
        Ok(())
    }

    /// Keys of one shard, for a batch is atomic on one.
    fn batch(&mut self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        let shard = self.client.shard_of(self.keys.next());
        while batch.len() < self.plan.batch_len as usize {
            let key = self.keys.next();
            if self.client.shard_of(key) == shard {
                batch.put(KEYSPACE, key, self.values.next());
            }
        }
        batch
    }

    fn scan(&mut self) -> Result<(), Error> {
        let snapshot = self.client.snapshot()?;
        let lower = Bound::Included(self.keys.next().to_vec());
        let mut scan = self.client.scan(&snapshot, ScanRange { lower, ..ScanRange::all(KEYSPACE) })?;
        for _ in 0..self.plan.batch_len {
            let Some((key, value)) = scan.next_ref()? else { break };
            std::hint::black_box((key.len(), value.bytes.len()));
        }
        Ok(())
    }

    /// Keep as many under way as the plan says, and wait for the oldest of more.
    fn under(&mut self, under: Under, began: Instant) -> Result<(), Error> {
        self.under_way.push_back((under, began));
        while self.under_way.len() >= self.plan.pipeline as usize {
            let Some((oldest, began)) = self.under_way.pop_front() else { break };
            oldest.wait()?;
            record(&mut self.latencies, began);
        }
        Ok(())
    }
}
