//! Histories of transactions recorded in the simulation, through crashes of the process and of the machine, pauses, slow and full disks and
//! logs that fail: strictly serializable by two checkers, life after life.
//!
//! What was under way when a life ended is asked about by its fate in the next one; only what has no name (a program of one step) stays
//! unknown. `SIM_SEEDS` says how many; a seed has some 150 transactions.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::course::{Player, Record};
use corering_engine::runtime::sim::harness::{run_seeds, seeds_asked};
use corering_engine::runtime::sim::{CrashKind, Disk, Fault, FaultRule, Faults, Rng, Sim, SimConfig, When};
use corering_engine::runtime::{Executor, Host};
use corering_engine::{Durability, Engine, Keyspace, Options, ScanRange, TransactionOptions, WriteOptions};
use corering_proof::txn::load::{Course, Doing, Judged, judge};
use corering_proof::txn::{Outcome, Txn};

const CLIENTS: u32 = 6;
/// Transactions of one client in one life, at most.
const EACH: u32 = 9;
const LIVES: u64 = 4;

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// What a seed decides about its world.
#[derive(Clone)]
struct World {
    seed: u64,
    kind: CrashKind,
    course: Course,
    values: Rc<AtomicI64>,
    ticks: Rc<AtomicU64>,
}

impl World {
    fn of(seed: u64) -> World {
        // Every workload meets each kind of crash and each fault.
        let kind = if (seed / 4).is_multiple_of(2) { CrashKind::Process } else { CrashKind::Machine };
        let (values, ticks) = (Rc::new(AtomicI64::new(1)), Rc::default());
        World { seed, kind, course: Course::of(seed), values, ticks }
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What a killed process leaves is whole at every level.
    fn write(&self, rng: &mut Rng) -> WriteOptions {
        let durability = match self.kind {
            CrashKind::Machine => Durability::Sync,
            CrashKind::Process => *rng.pick(&[Durability::Sync, Durability::None]),
        };
        WriteOptions { durability: Some(durability), ..WriteOptions::default() }
    }

    /// What is wrong with the disk in one life.
    fn faults(&self, life: u64) -> Faults {
        let mut rng = Rng::stream(self.seed, &format!("faults of life {life}"));
        let one_log = format!("*shard-000{}/*.seg", rng.below(3));
        let rule = match rng.below(6) {
            0 => FaultRule::new("*", Fault::Slow, When::Chance(20_000)),
            // The log of one shard fails, the others go on until they hear of it. What was written at a weak level may be lost then.
            1 | 2 if self.kind == CrashKind::Process => return Faults::default(),
            1 => FaultRule::new(one_log, Fault::SyncError, When::Nth(rng.between(2, 40))),
            2 => FaultRule::new(one_log, Fault::WriteError, When::Nth(rng.between(2, 40))),
            3 => FaultRule::new("*", Fault::NoSpace, When::From(rng.between(4, 60))),
            _ => return Faults::default(),
        };
        Faults::new([rule])
    }
}

async fn open(host: &Arc<dyn Host>, shards: u16) -> Result<Engine, String> {
    let options = Options {
        shards: Some(shards),
        segment_bytes: 64 << 10,
        memtable_bytes: 64 << 10,
        inbox_len: 16,
        ..Options::default()
    };
    Engine::open_on(Arc::clone(host), options).await.map_err(text)
}

async fn run_client(engine: Engine, pause: Rc<dyn Executor>, record: Rc<RefCell<Record>>, world: World, number: u32) {
    let mut rng = Rng::stream(world.seed, &format!("client {number}"));
    for _ in 0..EACH {
        let tick = || world.tick();
        let write = world.write(&mut rng);
        let player = Player {
            client: engine.client(),
            number,
            course: world.course,
            values: &world.values,
            tick: &tick,
            blocks: false,
            write,
        };
        if !player.one(&mut |n| rng.below(n), &record).await {
            return;
        }
        pause.sleep(Duration::from_nanos(rng.between(1_000, 200_000))).await;
    }
}

/// Fills memtables and segments, so that checkpoints, merges and new segments happen while the others work.
async fn run_ballast(engine: Engine, pause: Rc<dyn Executor>, seed: u64) {
    let mut rng = Rng::stream(seed, "ballast");
    let client = engine.client();
    loop {
        let value = vec![7; *rng.pick(&[100, 3_000, 12_000])];
        let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
        let key = rng.below(50).to_be_bytes();
        if client.put(Keyspace(1), &key, &value, options).await.is_err_and(|error| !error.is_retryable()) {
            return;
        }
        pause.sleep(Duration::from_nanos(rng.between(1_000, 200_000))).await;
        if rng.one_in(40) {
            let _ = engine.checkpoint_async().await;
        }
    }
}

/// One life; the records are kept by the caller, because the tasks end in the middle of what they do. So is the engine, which must
/// not be closed by its last handle before the crash.
async fn live(
    sim: Sim,
    world: World,
    life: u64,
    before: Vec<Rc<RefCell<Record>>>,
    records: Vec<Rc<RefCell<Record>>>,
) -> Result<Engine, String> {
    let mut rng = Rng::stream(world.seed, &format!("life {life}"));
    let engine = open(&sim.host(), *rng.pick(&[2, 3, 3, 3])).await?;
    let client = engine.client();
    for record in before {
        Record::settle(&record, &client, &|| world.tick()).await.map_err(text)?;
    }
    sim.set_faults(if life + 1 == LIVES { Faults::default() } else { world.faults(life) });
    for (n, record) in records.iter().enumerate() {
        let number = life as u32 * CLIENTS + n as u32;
        let name = format!("client {number}");
        let playing = run_client(engine.clone(), sim.executor(&name), Rc::clone(record), world.clone(), number);
        drop(sim.spawn(&name, playing));
    }
    drop(sim.spawn("ballast", run_ballast(engine.clone(), sim.executor("ballast"), world.seed + life)));
    let executor = sim.executor("life");
    executor.sleep(Duration::from_micros(rng.between(300, 6_000))).await;
    if life + 1 == LIVES {
        executor.sleep(Duration::from_millis(20)).await;
        let options = TransactionOptions { read_only: true, ..TransactionOptions::default() };
        let asked = world.tick();
        let mut tx = client.begin(options).map_err(text)?;
        let rows =
            tx.scan_async(ScanRange::prefix(Keyspace::DEFAULT, &world.course.prefix()), 1000).await.map_err(text)?;
        let mut doing = Doing::new(world.course);
        doing.looked_at_all(rows.iter().map(|row| (&row.key[..], &row.value.bytes[..])))?;
        let outcome = Outcome::Committed { at: world.tick() };
        let txn = Txn { client: u32::MAX, actions: doing.actions, asked, outcome };
        records[0].borrow_mut().done.push(txn);
    }
    // Killed, or closed while transactions are under way.
    if life + 1 == LIVES || rng.one_in(4) {
        let closed = engine.close_async().await.map_err(text);
        if life + 1 == LIVES {
            closed?;
        }
    }
    Ok(engine)
}

fn record(seed: u64) -> Result<Vec<Txn>, String> {
    let world = World::of(seed);
    let sim = Sim::with(seed, SimConfig { step_budget: 8_000_000, ..SimConfig::of_seed(seed) }, Disk::new());
    let mut history = Vec::new();
    let mut before: Vec<Rc<RefCell<Record>>> = Vec::new();
    for life in 0..LIVES {
        let records: Vec<Rc<RefCell<Record>>> = (0..CLIENTS).map(|_| Rc::default()).collect();
        let engine =
            sim.block_on(live(sim.clone(), world.clone(), life, before.clone(), records.clone())).map_err(text)??;
        for record in before {
            history.append(&mut record.borrow_mut().done);
        }
        sim.set_faults(Faults::default());
        sim.crash(world.kind);
        drop(engine);
        sim.block_on({
            let host = sim.host();
            async move { crate::support::check_what_a_crash_left(&host).await }
        })
        .map_err(text)??;
        if let Some(wrong) = records.iter().find_map(|record| record.borrow_mut().wrong.take()) {
            return Err(wrong);
        }
        before = records;
    }
    for record in before {
        let mut record = record.borrow_mut();
        history.append(&mut record.done);
        history.extend(record.under_way.take().map(|under_way| under_way.txn));
    }
    sim.power_off();
    Ok(history)
}

fn run(seed: u64) -> Result<Judged, String> {
    judge(&record(seed)?)
}

#[test]
fn transactions_in_the_simulation_are_strictly_serializable() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (judged, failures) = run_seeds(seeds_asked(0..40), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("seed {0}: {1}; run it again with SIM_SEEDS={0}", failure.seed, failure.message);
    }
    let mut total = Judged::default();
    judged.values().for_each(|one| total.add(one));
    println!("{} seeds: {total}", judged.len());
    assert!(total.committed * 2 > total.transactions, "{total}");
    assert!(total.unknown > 0 || judged.len() < 20, "no life ended while a program was under way: {total}");
}

/// A commit that fell at an opening which also changed the shard count must not come to life on one of its shards at the next: the number
/// that the change writes down is above it.
#[test]
fn what_fell_stays_so_when_the_shard_count_changes() {
    for seed in [126, 254, 382] {
        run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// One answer set back, and both checkers say so.
#[test]
fn a_recorded_history_with_one_stale_read_is_refused() {
    use corering_proof::txn::{Action, check, second_opinion};
    let mut history = record(0).unwrap();
    let lists = history
        .iter_mut()
        .filter(|txn| matches!(txn.outcome, Outcome::Committed { .. }))
        .flat_map(|txn| &mut txn.actions)
        .filter_map(|action| match action {
            Action::ReadList { values, .. } => Some(values),
            _ => None,
        });
    let list = lists.max_by_key(|values| values.len()).expect("a list was read");
    assert!(list.len() > 3, "{list:?}");
    list.truncate(1);
    assert!(!check(&history).is_empty());
    assert!(matches!(second_opinion::strictly_serializable(&history), second_opinion::Opinion::Bad(_)));
}
