//! Commits over several shards in the simulation, died at everywhere: whole or absent, whatever a crash leaves of their parts, and
//! nothing is kept that rests on one that is gone.
//!
//! Writers put the same growing number under one key of each shard; movers carry money between accounts of different shards;
//! shadows copy, in one step on one shard and at a weak level, what they find there, be it durable or not; and readers look
//! at everything one key after the other, and as one view.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::harness::{Life, Plan, Summary, enumerate, run_seeds, seeds_asked};
use corering_engine::runtime::sim::{Rng, SimConfig};
use corering_engine::runtime::{Executor, Host, LocalFuture};
use corering_engine::{
    Client, Durability, Engine, Error, Expiry, Fate, Keys, Keyspace, Kind, Options, ScanRange, TransactionId,
    TransactionOptions, WriteOptions,
};

const KS: Keyspace = Keyspace::DEFAULT;
const SHARDS: u16 = 3;
const ACCOUNTS: u64 = 6;
const EACH: i64 = 100;

#[derive(Clone, Default, Debug)]
struct Model {
    made: bool,
    tried: u64,
    answered: u64,
    /// Transactions of which the outcome was heard, and what it was.
    heard: Vec<(TransactionId, bool)>,
    /// Each life of one seed draws the same numbers: a transaction is asked about only if its name is new.
    names: BTreeSet<TransactionId>,
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

async fn open(host: &Arc<dyn Host>) -> Result<Engine, String> {
    let options = Options {
        shards: Some(SHARDS),
        segment_bytes: 64 << 10,
        memtable_bytes: 64 << 10,
        inbox_len: 64,
        ..Options::default()
    };
    Engine::open_on(Arc::clone(host), options).await.map_err(text)
}

/// Of `stem`, a key on each shard.
fn spread(client: &Client, stem: &str) -> Vec<Vec<u8>> {
    (0..SHARDS)
        .map(|shard| {
            let mut names = (0..).map(|i: u32| format!("{stem}{i}").into_bytes());
            names.find(|name| client.shard_of(name).0 == shard).expect("some name is its own")
        })
        .collect()
}

fn account(i: u64) -> Vec<u8> {
    format!("account{i}").into_bytes()
}

fn number(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

fn at(client: &Client, key: &[u8]) -> Result<i64, String> {
    Ok(client.get(KS, key).map_err(text)?.map_or(0, |value| number(&value.bytes)))
}

/// Puts the next number under a key of each shard that the seed picks, at least two.
async fn writer(engine: Engine, model: Rc<RefCell<Model>>, rounds: u64) -> Result<(), String> {
    let client = engine.client();
    let keys = spread(&client, "pair");
    for _ in 0..rounds {
        let next = {
            let mut model = model.borrow_mut();
            model.tried += 1;
            model.tried
        };
        let names: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let own = keys.clone();
        let put = client.run_over(Keys::Of(&names), Vec::new(), WriteOptions::default(), move |tx| {
            own.iter().try_for_each(|key| tx.put(KS, key, &next.to_le_bytes(), Kind::BYTES, Expiry::NEVER))
        });
        put.await.map_err(text)?;
        model.borrow_mut().answered = next;
    }
    Ok(())
}

/// Copies the numbers of a shard beside them, before they are durable.
async fn shadow(engine: Engine, rounds: u64, seed: u64) -> Result<(), String> {
    let mut rng = Rng::stream(seed, "shadow");
    let client = engine.client();
    let (pairs, shadows) = (spread(&client, "pair"), spread(&client, "shadow"));
    for _ in 0..rounds {
        let shard = rng.below(u64::from(SHARDS)) as usize;
        let level = *rng.pick(&[Durability::None, Durability::Sync]);
        let options = WriteOptions { durability: Some(level), ..WriteOptions::default() };
        if rng.coin() {
            let (from, to) = (pairs[shard].clone(), shadows[shard].clone());
            let copied = client.run(&to.clone(), options, move |tx| {
                let seen = tx.get(KS, &from)?.map_or(0, |value| number(value.bytes));
                tx.put(KS, &to, &seen.to_le_bytes(), Kind::BYTES, Expiry::NEVER)
            });
            copied.await.map_err(text)?;
        } else {
            // What is read on one shard is written to another alone.
            let from = pairs[shard].clone();
            let to = spread(&client, "far")[(shard + 1) % usize::from(SHARDS)].clone();
            let names = [&from[..], &to[..]];
            let (own_from, own_to) = (from.clone(), to.clone());
            let copied = client.run_over(Keys::Of(&names), Vec::new(), options, move |tx| {
                let seen = tx.get(KS, &own_from)?.map_or(0, |value| number(value.bytes));
                tx.put(KS, &own_to, &seen.to_le_bytes(), Kind::BYTES, Expiry::NEVER)
            });
            copied.await.map_err(text)?;
        }
    }
    Ok(())
}

async fn mover(engine: Engine, model: Rc<RefCell<Model>>, rounds: u64, seed: u64) -> Result<(), String> {
    let mut rng = Rng::stream(seed, "mover");
    let client = engine.client();
    for _ in 0..rounds {
        let (from, to) = (account(rng.below(ACCOUNTS)), account(rng.below(ACCOUNTS)));
        if from == to {
            continue;
        }
        let keep = rng.coin();
        let mut tx = client.begin(TransactionOptions::default()).map_err(text)?;
        let is_new = model.borrow_mut().names.insert(tx.id());
        let moved = async {
            let mut balances = [0; 2];
            for (balance, key) in balances.iter_mut().zip([&from, &to]) {
                let found = if keep { tx.get_for_update_async(KS, key).await? } else { tx.get(KS, key)? };
                *balance = found.map_or(0, |value| number(&value.bytes));
            }
            tx.put(KS, &from, &(balances[0] - 1).to_le_bytes())?;
            tx.put(KS, &to, &(balances[1] + 1).to_le_bytes())?;
            tx.commit().await
        };
        let outcome = moved.await;
        let heard = match outcome {
            Ok(_) => true,
            Err(Error::Tx(refusal)) if refusal.is_retryable() => false,
            Err(error) => return Err(text(error)),
        };
        if is_new {
            model.borrow_mut().heard.push((tx.id(), heard));
        }
    }
    Ok(())
}

fn check_now(client: &Client) -> Result<(), String> {
    let pairs = spread(client, "pair");
    let mut last = 0;
    for key in pairs.iter().chain(&pairs) {
        let now = at(client, key)?;
        if now < last {
            return Err(format!("a commit was seen on one shard and not on another: {now} after {last}"));
        }
        last = now;
    }
    for (pair, stem) in pairs.iter().enumerate().flat_map(|(i, _)| [(i, "shadow"), (i, "far")]) {
        let on = if stem == "far" { (pair + 1) % usize::from(SHARDS) } else { pair };
        let (copied, now) = (at(client, &spread(client, stem)[on])?, at(client, &pairs[pair])?);
        if copied > now {
            return Err(format!("{stem} has {copied} of a commit that is not there: {now}"));
        }
    }
    Ok(())
}

async fn check_view(client: &Client) -> Result<(), String> {
    let options = TransactionOptions { read_only: true, ..TransactionOptions::default() };
    let mut tx = client.begin(options).map_err(text)?;
    let pairs: Vec<i64> = spread(client, "pair")
        .iter()
        .map(|key| Ok(tx.get(KS, key).map_err(text)?.map_or(0, |value| number(&value.bytes))))
        .collect::<Result<_, String>>()?;
    if pairs.iter().any(|n| *n != pairs[0]) {
        return Err(format!("a view has a commit in part: {pairs:?}"));
    }
    let rows = tx.scan_async(ScanRange::prefix(KS, b"account"), 100).await.map_err(text)?;
    let sum: i64 = rows.iter().map(|row| number(&row.value.bytes)).sum();
    if sum != EACH * ACCOUNTS as i64 {
        return Err(format!("the accounts hold {sum}"));
    }
    Ok(())
}

async fn reader(engine: Engine, over: Rc<Cell<bool>>, pause: Rc<dyn Executor>) -> Result<(), String> {
    let client = engine.client();
    while !over.get() {
        check_now(&client)?;
        check_view(&client).await?;
        // Reads take no time: without this it would never let any pass.
        pause.sleep(Duration::from_micros(30)).await;
    }
    Ok(())
}

async fn work(life: &Life<Model>, engine: &Engine, rounds: u64, seed: u64) -> Result<(), String> {
    let over = Rc::new(Cell::new(false));
    let model = || Rc::clone(&life.model);
    let pause = life.sim.executor("reader");
    let watching = life.sim.spawn("reader", reader(engine.clone(), Rc::clone(&over), pause));
    let tasks = [
        life.sim.spawn("writer", writer(engine.clone(), model(), rounds)),
        life.sim.spawn("shadow", shadow(engine.clone(), rounds * 2, seed)),
        life.sim.spawn("mover a", mover(engine.clone(), model(), rounds, seed * 3)),
        life.sim.spawn("mover b", mover(engine.clone(), model(), rounds, seed * 3 + 1)),
    ];
    let mut first = Ok(());
    for task in tasks {
        first = first.and(task.await);
    }
    over.set(true);
    first.and(watching.await)
}

async fn make_accounts(life: &Life<Model>, engine: &Engine) -> Result<(), String> {
    let client = engine.client();
    if client.get(KS, &account(0)).map_err(text)?.is_none() {
        if life.model.borrow().made {
            return Err("the accounts are gone".into());
        }
        let mut batch = corering_engine::WriteBatch::new();
        for i in 0..ACCOUNTS {
            batch.put(KS, &account(i), &EACH.to_le_bytes());
        }
        client.write_batch(batch, WriteOptions::default()).await.map_err(text)?;
    }
    life.model.borrow_mut().made = true;
    Ok(())
}

async fn scenario(life: Life<Model>, seed: u64) -> Result<(), String> {
    let engine = open(&life.host).await?;
    make_accounts(&life, &engine).await?;
    work(&life, &engine, 4, seed).await?;
    engine.checkpoint_async().await.map_err(text)?;
    work(&life, &engine, 3, seed + 1_000_000).await?;
    engine.close_async().await.map_err(text)
}

async fn check(life: Life<Model>, seed: u64) -> Result<(), String> {
    crate::support::check_what_a_crash_left(&life.host).await?;
    let engine = open(&life.host).await?;
    let outcome = async {
        let client = engine.client();
        let found: Vec<i64> =
            spread(&client, "pair").iter().map(|key| at(&client, key)).collect::<Result<_, String>>()?;
        let known = life.model.borrow().clone();
        if found.iter().any(|n| *n != found[0]) || !(known.answered as i64..=known.tried as i64).contains(&found[0]) {
            return Err(format!("pairs have {found:?}; {known:?}"));
        }
        {
            let mut model = life.model.borrow_mut();
            // What was read once is there for good.
            (model.tried, model.answered) = (found[0] as u64, found[0] as u64);
        }
        check_now(&client)?;
        for (id, committed) in &known.heard {
            let fate = client.fate(*id).await.map_err(text)?;
            if *committed != matches!(fate, Fate::Committed(_)) {
                return Err(format!("transaction {id} was heard to be {committed}, and is {fate:?}"));
            }
        }
        life.model.borrow_mut().heard.clear();
        make_accounts(&life, &engine).await?;
        check_view(&client).await?;
        work(&life, &engine, 1, seed + 2_000_000).await
    };
    let outcome = outcome.await;
    let closed = engine.close_async().await.map_err(text);
    outcome.and(closed)?;
    crate::support::check_closed(&life.host).await
}

fn run(seed: u64) -> Result<Summary, String> {
    let mut plan = Plan::new("commits_over_shards_are_whole_or_absent", seed);
    plan.config = SimConfig { step_budget: 600_000, ..plan.config };
    plan.points_max = Some(20);
    plan.damages = 2;
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(scenario(life, seed)) };
    let check = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(check(life, seed)) };
    enumerate(&plan, Model::default(), scenario, check).map_err(|failure| failure.to_string())
}

#[test]
fn commits_over_shards_are_whole_or_absent() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (summaries, failures) = run_seeds(seeds_asked(0..3), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    let mut total = Summary::default();
    summaries.values().for_each(|summary| total.absorb(summary));
    println!("{} seeds: {total}", summaries.len());
    assert!(total.recoveries[0] > 0, "{total}");
}
