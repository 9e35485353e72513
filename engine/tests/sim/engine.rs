//! The whole engine in the simulation, died at everywhere: every answered write is there, and nothing that was not tried.
//!
//! Two clients write numbers that only grow, each to its own keys, some answered once durable and some at once; a
//! checkpoint runs in between. A killed process may lose no answered write, a stopped machine none answered as durable.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use corering_engine::runtime::sim::harness::{Life, Plan, Summary, enumerate, run_seeds, seeds_asked};
use corering_engine::runtime::sim::{CrashKind, Rng, SimConfig};
use corering_engine::runtime::{Host, LocalFuture};
use corering_engine::{Durability, Engine, Keyspace, Options, WriteOptions};

/// What the world outside knows of one key.
#[derive(Clone, Copy, Default, Debug)]
struct Known {
    tried: u64,
    answered: u64,
    durable: u64,
}

#[derive(Clone, Default, Debug)]
struct Model(BTreeMap<u64, Known>);

const KEYS: u64 = 8;

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

async fn open(host: &Arc<dyn Host>) -> Result<Engine, String> {
    let options = Options {
        shards: Some(2),
        segment_bytes: 64 << 10,
        memtable_bytes: 64 << 10,
        inbox_len: 4,
        ..Options::default()
    };
    Engine::open_on(Arc::clone(host), options).await.map_err(text)
}

/// Puts the next number under a key of its own, `rounds` times.
async fn client(
    engine: Engine,
    model: Rc<RefCell<Model>>,
    keys: Vec<u64>,
    rounds: u64,
    seed: u64,
) -> Result<(), String> {
    let mut rng = Rng::stream(seed, "client");
    let client = engine.client();
    for _ in 0..rounds {
        let key = *rng.pick(&keys);
        let durable = rng.coin();
        let number = {
            let mut model = model.borrow_mut();
            let known = model.0.entry(key).or_default();
            known.tried += 1;
            known.tried
        };
        let mut value = vec![number as u8; *rng.pick(&[8, 200, 3_000, 9_000])];
        value[..8].copy_from_slice(&number.to_le_bytes());
        let durability = if durable { Durability::Sync } else { Durability::None };
        let options = WriteOptions { durability: Some(durability), ..WriteOptions::default() };
        client.put(Keyspace::DEFAULT, &key.to_le_bytes(), &value, options).await.map_err(text)?;
        let mut model = model.borrow_mut();
        let known = model.0.entry(key).or_default();
        known.answered = number;
        if durable {
            known.durable = number;
        }
    }
    Ok(())
}

async fn work(life: &Life<Model>, engine: &Engine, rounds: u64, seed: u64) -> Result<(), String> {
    let clients: Vec<_> = (0..2)
        .map(|n| {
            let keys = (0..KEYS).filter(|key| key % 2 == n).collect();
            let task = client(engine.clone(), Rc::clone(&life.model), keys, rounds, seed * 2 + n);
            life.sim.spawn(&format!("client {n}"), task)
        })
        .collect();
    for client in clients {
        client.await?;
    }
    Ok(())
}

async fn scenario(life: Life<Model>, seed: u64) -> Result<(), String> {
    let engine = open(&life.host).await?;
    work(&life, &engine, 6, seed).await?;
    engine.checkpoint_async().await.map_err(text)?;
    work(&life, &engine, 4, seed + 1_000_000).await?;
    engine.close_async().await.map_err(text)
}

async fn check(life: Life<Model>, seed: u64) -> Result<(), String> {
    if life.died_of == Some(CrashKind::Machine) {
        // Noted at once: the next death may come before this recovery ends, and be of the milder kind.
        life.model.borrow_mut().0.values_mut().for_each(|known| known.answered = known.durable);
    }
    crate::support::check_what_a_crash_left(&life.host).await?;
    let engine = open(&life.host).await?;
    let outcome = async {
        let client = engine.client();
        for key in 0..KEYS {
            let value = client.get(Keyspace::DEFAULT, &key.to_le_bytes()).map_err(text)?;
            let known = life.model.borrow().0.get(&key).copied().unwrap_or_default();
            let found = match &value {
                None => 0,
                Some(value) => u64::from_le_bytes(value.bytes[..8].try_into().map_err(text)?),
            };
            if !(known.answered..=known.tried).contains(&found) {
                return Err(format!("key {key} has {found}; {known:?}"));
            }
            // What was read once is there for good.
            life.model.borrow_mut().0.insert(key, Known { tried: found, answered: found, durable: found });
        }
        work(&life, &engine, 1, seed + 2_000_000).await
    };
    let outcome = outcome.await;
    // Also after a failure: the last handle must not be dropped inside a task while the shards run.
    let closed = engine.close_async().await.map_err(text);
    outcome.and(closed)?;
    crate::support::check_closed(&life.host).await
}

fn run(seed: u64) -> Result<Summary, String> {
    let mut plan = Plan::new("the_engine_survives_every_death", seed);
    plan.config = SimConfig { step_budget: 300_000, ..plan.config };
    plan.points_max = Some(40);
    plan.damages = 2;
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(scenario(life, seed)) };
    let check = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(check(life, seed)) };
    enumerate(&plan, Model::default(), scenario, check).map_err(|failure| failure.to_string())
}

#[test]
fn the_engine_survives_every_death() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (summaries, failures) = run_seeds(seeds_asked(0..4), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    let mut total = Summary::default();
    summaries.values().for_each(|summary| total.absorb(summary));
    println!("{} seeds: {total}", summaries.len());
    assert!(total.recoveries[0] > 0, "{total}");
}
