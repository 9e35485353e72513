//! Another shard count in the simulation, died at everywhere: whatever ring is in force then, every key is there once.
//!
//! A database is filled, overwritten, thinned out and checkpointed, opened with another count, written to, and opened
//! with the first count again, so that keys come back to where older copies of them were. After each death it is opened
//! with one of the two counts, and after the next death with the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use corering_engine::ring::{Ring, VNODES};
use corering_engine::runtime::sim::SimConfig;
use corering_engine::runtime::sim::harness::{Life, Plan, SEEDS_VARIABLE, Summary, enumerate, run_seeds, seeds_asked};
use corering_engine::runtime::{Host, LocalFuture};
use corering_engine::{Durability, Engine, Keyspace, Options, ScanRange, WriteOptions};

const KEYS: u64 = 36;
const KS: Keyspace = Keyspace::DEFAULT;

/// What the world outside knows: each key's number, none once deleted.
#[derive(Clone, Default, Debug)]
struct Model {
    keys: BTreeMap<u64, u64>,
    /// A write that was tried and not answered.
    pending: Option<(u64, Option<u64>)>,
    next: u64,
    openings: u64,
}

/// The counts of a seed: what it begins with, what it changes to, and what the first opening after a death asks for.
#[derive(Clone, Copy)]
struct Counts {
    from: u16,
    to: u16,
    turn: u64,
}

impl Counts {
    fn of(seed: u64) -> Counts {
        let (from, to) = [(2, 3), (3, 2), (1, 4)][(seed % 3) as usize];
        Counts { from, to, turn: seed / 3 }
    }

    fn of_opening(self, opening: u64) -> u16 {
        if (self.turn + opening).is_multiple_of(2) { self.to } else { self.from }
    }
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn name(key: u64) -> Vec<u8> {
    format!("key:{key:04}").into_bytes()
}

async fn open(host: &Arc<dyn Host>, shards: u16) -> Result<Engine, String> {
    let options =
        Options { shards: Some(shards), segment_bytes: 64 << 10, memtable_bytes: 64 << 10, ..Options::default() };
    let engine = Engine::open_on(Arc::clone(host), options).await.map_err(text)?;
    if engine.shard_count() == shards { Ok(engine) } else { Err(format!("{} shards", engine.shard_count())) }
}

/// Put a new number under the key, or delete it.
async fn write(engine: &Engine, model: &Rc<RefCell<Model>>, key: u64, put: bool) -> Result<(), String> {
    let options = WriteOptions { durability: Some(Durability::Sync), ..WriteOptions::default() };
    let number = {
        let mut model = model.borrow_mut();
        model.next += 1;
        let number = put.then_some(model.next);
        model.pending = Some((key, number));
        number
    };
    match number {
        Some(number) => {
            let mut value = vec![number as u8; 120];
            value[..8].copy_from_slice(&number.to_le_bytes());
            engine.client().put(KS, &name(key), &value, options).await.map(drop).map_err(text)?;
        }
        None => engine.client().delete(KS, &name(key), options).await.map(drop).map_err(text)?,
    }
    settle(model, key, number);
    Ok(())
}

/// From now on this is what the key must show.
fn settle(model: &Rc<RefCell<Model>>, key: u64, number: Option<u64>) {
    let mut model = model.borrow_mut();
    match number {
        Some(number) => drop(model.keys.insert(key, number)),
        None => drop(model.keys.remove(&key)),
    }
    model.pending = None;
}

fn number_of(value: &[u8]) -> Result<u64, String> {
    let head = value.get(..8).ok_or("a short value")?;
    let number = u64::from_le_bytes(head.try_into().map_err(text)?);
    if value[8..].iter().all(|b| *b == number as u8) { Ok(number) } else { Err("a mixed value".into()) }
}

/// Every key is there once, by its name and in a scan in both directions, and nothing else is.
async fn verify(engine: &Engine, model: &Rc<RefCell<Model>>) -> Result<(), String> {
    let client = engine.client();
    let get = |key: u64| -> Result<Option<u64>, String> {
        let value = client.get(KS, &name(key)).map_err(text)?;
        value.map(|value| number_of(&value.bytes)).transpose()
    };
    let pending = model.borrow().pending;
    if let Some((key, tried)) = pending {
        let found = get(key)?;
        let before = model.borrow().keys.get(&key).copied();
        if found != tried && found != before {
            return Err(format!("key {key} has {found:?}, neither {before:?} nor {tried:?}"));
        }
        settle(model, key, found);
    }
    let expected = model.borrow().keys.clone();
    for key in 0..KEYS {
        let found = get(key)?;
        if found != expected.get(&key).copied() {
            return Err(format!("key {key} has {found:?}, {:?} is right", expected.get(&key)));
        }
    }
    for reverse in [false, true] {
        let snapshot = client.snapshot_async().await.map_err(text)?;
        let range = ScanRange { reverse, ..ScanRange::all(KS) };
        let mut found = Vec::new();
        for entry in client.scan_async(&snapshot, range).await.map_err(text)? {
            let entry = entry.map_err(text)?;
            found.push((entry.key, number_of(&entry.value.bytes)?));
        }
        let mut right: Vec<_> = expected.iter().map(|(key, number)| (name(*key), *number)).collect();
        if reverse {
            right.reverse();
        }
        if found != right {
            return Err(format!("a scan (reverse: {reverse}) found {found:?}, {right:?} is right"));
        }
    }
    Ok(())
}

/// The move copied the keys whose owner changed, and no others.
fn moved_only_what_it_must(engine: &Engine, model: &Rc<RefCell<Model>>) -> Result<(), String> {
    let Some(moved) = engine.report().resharded else { return Ok(()) };
    let (before, after) = (Ring::new(moved.from, VNODES), Ring::new(moved.to, VNODES));
    let model = model.borrow();
    let changed = model.keys.keys().filter(|key| before.owner_of_key(&name(**key)) != after.owner_of_key(&name(**key)));
    let changed = changed.count() as u64;
    if moved.keys_moved == changed { Ok(()) } else { Err(format!("{moved:?}, but {changed} keys have another owner")) }
}

/// Open with a count, look at everything, do some writes, close.
async fn visit<F>(life: &Life<Model>, shards: u16, writes: impl FnOnce(Engine) -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    let engine = open(&life.host, shards).await?;
    let outcome = async {
        verify(&engine, &life.model).await.map_err(|e| format!("after opening: {e}"))?;
        moved_only_what_it_must(&engine, &life.model)?;
        writes(engine.clone()).await?;
        verify(&engine, &life.model).await.map_err(|e| format!("after writing: {e}"))
    };
    let outcome = outcome.await.map_err(|e| format!("{e}; {}", engine.report()));
    // Also after a failure: the last handle must not be dropped inside a task while the shards run.
    let closed = engine.close_async().await.map_err(text);
    outcome.and(closed)?;
    crate::support::check_closed(&life.host).await
}

async fn fill(engine: Engine, model: Rc<RefCell<Model>>) -> Result<(), String> {
    for key in 0..KEYS {
        write(&engine, &model, key, true).await?;
    }
    engine.checkpoint_async().await.map_err(text)?;
    for key in (0..KEYS).step_by(3) {
        write(&engine, &model, key, key % 2 == 0).await?;
    }
    Ok(())
}

async fn change(engine: Engine, model: Rc<RefCell<Model>>, from: u64) -> Result<(), String> {
    for key in (from..KEYS).step_by(5) {
        write(&engine, &model, key, key % 3 != 0).await?;
    }
    Ok(())
}

async fn scenario(life: Life<Model>, counts: Counts) -> Result<(), String> {
    let model = || Rc::clone(&life.model);
    visit(&life, counts.from, |engine| fill(engine, model())).await?;
    visit(&life, counts.to, |engine| change(engine, model(), 0)).await?;
    visit(&life, counts.from, |engine| change(engine, model(), 1)).await?;
    visit(&life, counts.to, |engine| change(engine, model(), 2)).await
}

async fn check(life: Life<Model>, counts: Counts) -> Result<(), String> {
    let opening = {
        let mut model = life.model.borrow_mut();
        model.openings += 1;
        model.openings
    };
    crate::support::check_what_a_crash_left(&life.host).await?;
    let model = Rc::clone(&life.model);
    visit(&life, counts.of_opening(opening), |engine| change(engine, model, opening % 7)).await
}

fn run(seed: u64, points_max: Option<usize>) -> Result<Summary, String> {
    let counts = Counts::of(seed);
    let mut plan = Plan::new("every_key_is_there_once_after_every_death", seed);
    plan.config = SimConfig { step_budget: 300_000, ..plan.config };
    plan.points_max = points_max;
    plan.damages = 1;
    plan.recovery_deaths = 1;
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(scenario(life, counts)) };
    let check = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(check(life, counts)) };
    enumerate(&plan, Model::default(), scenario, check).map_err(|failure| failure.to_string())
}

#[test]
fn every_key_is_there_once_after_every_death() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // All of them when seeds were asked for.
    let points_max = std::env::var(SEEDS_VARIABLE).is_err().then_some(10);
    let run = |seed| run(seed, points_max);
    let (summaries, failures) = run_seeds(seeds_asked(0..6), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    let mut total = Summary::default();
    summaries.values().for_each(|summary| total.absorb(summary));
    println!("{} seeds: {total}", summaries.len());
    assert!(total.recoveries[0] > 0, "{total}");
}
