//! Histories recorded in the simulation: concurrent clients on slow, stalling and dying machines, life after life, see what one
//! register per key could have answered.
//!
//! A call that was under way when its life ended may have been done or not; the search of `corering-proof` tries both. A killed
//! process keeps what was answered at every level of durability; a stopped machine is asked only about `Sync`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::harness::{run_seeds, seeds_asked};
use corering_engine::runtime::sim::{CrashKind, Disk, Fault, FaultRule, Faults, Rng, Sim, SimConfig, When};
use corering_engine::runtime::{Executor, Host};
use corering_engine::{Durability, Engine, Keyspace, Options, WriteOptions};
use corering_proof::load::Load;
use corering_proof::{Client, History, Op, Ret, Ticks, Told, linear};

const CLIENTS: u32 = 5;
const KEYS: u64 = 4;
const LIVES: u64 = 4;

type Recorder = Rc<RefCell<Client<Rc<Ticks>, Op, Ret>>>;

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// What a seed decides about its world.
#[derive(Clone, Copy)]
struct World {
    seed: u64,
    kind: CrashKind,
}

impl World {
    fn of(seed: u64) -> World {
        World { seed, kind: if seed.is_multiple_of(2) { CrashKind::Process } else { CrashKind::Machine } }
    }

    fn level(self, rng: &mut Rng) -> Durability {
        match self.kind {
            CrashKind::Machine => Durability::Sync,
            CrashKind::Process => {
                *rng.pick(&[Durability::Sync, Durability::Interval(Duration::from_millis(2)), Durability::None])
            }
        }
    }
}

async fn open(host: &Arc<dyn Host>, shards: u16) -> Result<Engine, String> {
    let options = Options {
        shards: Some(shards),
        segment_bytes: 64 << 10,
        memtable_bytes: 64 << 10,
        inbox_len: 3,
        ..Options::default()
    };
    Engine::open_on(Arc::clone(host), options).await.map_err(text)
}

/// One client until its life ends.
async fn run_client(engine: Engine, pause: Rc<dyn Executor>, recorder: Recorder, world: World, number: u32) {
    let mut rng = Rng::stream(world.seed, &format!("levels of client {number}"));
    let mut load = Load::new(world.seed, number, KEYS);
    let client = engine.client();
    loop {
        let (key, op) = load.draw();
        let options = WriteOptions { durability: Some(world.level(&mut rng)), ..WriteOptions::default() };
        recorder.borrow_mut().ask(key, op);
        let told = crate::register::submit(&client, key, op, options).finish().await;
        if let Told::Answer(Ret::Value(value)) = told {
            load.saw(value);
        }
        let over = told == Told::Nothing;
        recorder.borrow_mut().told(told);
        if over {
            // The engine was closed.
            return;
        }
        // A read may take no time at all: without this a client would never let time pass.
        pause.sleep(Duration::from_nanos(rng.between(1_000, 300_000))).await;
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

/// One life; the recorders are kept by the caller, because the tasks end in the middle of what they do. So is the engine, which must
/// not be closed by its last handle before the crash.
async fn live(sim: Sim, world: World, life: u64, recorders: Vec<Recorder>) -> Result<Engine, String> {
    let mut rng = Rng::stream(world.seed, &format!("life {life}"));
    let engine = open(&sim.host(), *rng.pick(&[1, 2, 3])).await?;
    for (n, recorder) in recorders.into_iter().enumerate() {
        let number = life as u32 * CLIENTS + n as u32;
        let name = format!("client {number}");
        drop(sim.spawn(&name, run_client(engine.clone(), sim.executor(&name), recorder, world, number)));
    }
    drop(sim.spawn("ballast", run_ballast(engine.clone(), sim.executor("ballast"), world.seed + life)));
    let executor = sim.executor("life");
    executor.sleep(Duration::from_micros(rng.between(200, 40_000))).await;
    // Killed, or closed while calls are under way.
    if life + 1 == LIVES || rng.one_in(3) {
        engine.close_async().await.map_err(text)?;
    }
    Ok(engine)
}

fn record(seed: u64) -> Result<History<Op, Ret>, String> {
    let world = World::of(seed);
    let sim = Sim::with(seed, SimConfig { step_budget: 5_000_000, ..SimConfig::of_seed(seed) }, Disk::new());
    if seed.is_multiple_of(3) {
        sim.set_faults(Faults::new([FaultRule::new("*", Fault::Slow, When::Chance(20_000))]));
    }
    let ticks = Rc::new(Ticks::default());
    let mut history = Vec::new();
    for life in 0..LIVES {
        let recorders: Vec<Recorder> =
            (0..CLIENTS).map(|n| Rc::new(RefCell::new(Client::new(Rc::clone(&ticks), n)))).collect();
        let engine = sim.block_on(live(sim.clone(), world, life, recorders.clone())).map_err(text)??;
        sim.crash(world.kind);
        drop(engine);
        for recorder in recorders {
            history.extend(recorder.borrow().calls().iter().cloned());
        }
    }
    sim.power_off();
    Ok(history)
}

fn run(seed: u64) -> Result<linear::Accepted, String> {
    linear::check(record(seed)?).map_err(|refusal| refusal.to_string())
}

#[test]
fn what_clients_see_in_the_simulation_is_linearizable() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (accepted, failures) = run_seeds(seeds_asked(0..48), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("seed {0}: {1}; run it again with SIM_SEEDS={0}", failure.seed, failure.message);
    }
    let (calls, unanswered, sets) =
        accepted.values().fold((0, 0, 0), |sum, one| (sum.0 + one.calls, sum.1 + one.unanswered, sum.2 + one.sets));
    println!("{} seeds: {calls} calls, {unanswered} of them without an answer, {sets} sets looked at", accepted.len());
    assert!(unanswered > 0, "no life ended while a call was under way");
}

/// The check must be able to fail on what is recorded here: one answer set back, and it does.
#[test]
fn a_recorded_history_with_one_stale_read_is_refused() {
    let mut history = record(1).unwrap();
    history.sort_by_key(|call| call.asked);
    // A value that was read long after another, set back to that one.
    let reads: Vec<usize> = (0..history.len())
        .filter(|n| matches!(&history[*n].end, corering_proof::End::Answered { ret: Ret::Value(Some(_)), .. }))
        .filter(|n| history[*n].key == 0)
        .collect();
    let (first, last) = (reads[0], *reads.last().unwrap());
    let old = history[first].end.clone();
    let (corering_proof::End::Answered { ret: stale, .. }, corering_proof::End::Answered { ret, .. }) =
        (old, &mut history[last].end)
    else {
        unreachable!("both were answered")
    };
    assert_ne!(*ret, stale, "the key never changed");
    *ret = stale;
    let refusal = linear::check(history).unwrap_err();
    assert!(!refusal.undecided, "{refusal}");
}
