//! Watches, ephemeral and sequential keys in the simulation, died at everywhere: a watcher that goes on from where it was sees the
//! committed history of every key, each change once and in order; no key of a dead session is there; no number comes twice.
//!
//! Clients put growing numbers under a few keys, delete some, make sessions with keys of theirs and end them or do not. A watcher
//! in the world outside notes what it is told, over all deaths, and watches again from its progress, also when it was cut off.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::harness::{Life, Plan, Summary, enumerate, run_seeds, seeds_asked};
use corering_engine::runtime::sim::{Rng, SimConfig};
use corering_engine::runtime::{Host, LocalFuture};
use corering_engine::{
    CommitTs, Durability, Engine, Error, Expiry, Keyspace, LockError, NewSession, Options, ScanRange, WatchEvent,
    WatchKeys, WatchOptions, What, WriteBatch, WriteOptions,
};

const KS: Keyspace = Keyspace::DEFAULT;
const KEYS: u64 = 5;
/// Within this time the end of a key is told.
const GRACE_MS: u64 = 3000;

#[derive(Clone, Default, Debug)]
struct Model {
    /// The last number tried; they grow over all keys, so that each names one write.
    tried: u64,
    /// Writes that were answered: by number, key and commit.
    answered: BTreeMap<u64, (Vec<u8>, CommitTs)>,
    /// What the watcher was told: the last change of each key, and the commits of all numbers.
    last: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// When what it was told of last will be over, key by key.
    until: BTreeMap<Vec<u8>, u64>,
    /// Ends by time that it was told of.
    expired: u64,
    told: BTreeMap<u64, (Vec<u8>, CommitTs)>,
    reached: CommitTs,
    /// Numbers of sequential keys that were answered.
    sequence: BTreeSet<u64>,
    /// Sessions whose end was answered.
    ended: BTreeSet<u64>,
    resumed: u64,
    cut_off: u64,
    events: u64,
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn number_of(value: &[u8]) -> u64 {
    value.get(..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

async fn open(host: &Arc<dyn Host>) -> Result<Engine, String> {
    let options = Options {
        shards: Some(2),
        segment_bytes: 64 << 10,
        memtable_bytes: 64 << 10,
        history_bytes: 16 << 20,
        inbox_len: 64,
        ..Options::default()
    };
    Engine::open_on(Arc::clone(host), options).await.map_err(text)
}

impl Model {
    fn next_number(&mut self) -> u64 {
        self.tried += 1;
        self.tried
    }

    fn told(&mut self, event: &WatchEvent) -> Result<(), String> {
        if event.at <= self.reached {
            return Err(format!("commit {} came after the watcher had reached {}", event.at, self.reached));
        }
        self.reached = event.at;
        self.events += 1;
        for change in &event.changes {
            let until = self.until.remove(&change.key);
            let value = match &change.what {
                What::Put { value, expiry, .. } => {
                    if let Some(at_ms) = expiry.unix_ms() {
                        self.until.insert(change.key.clone(), at_ms);
                    }
                    Some(value.clone())
                }
                What::Deleted => {
                    // Nobody else deletes these. Each life's clock begins anew, so that this one's says nothing of when it was.
                    self.expired += u64::from(change.key.starts_with(b"t") && until.is_some());
                    None
                }
            };
            if let Some(value) = &value {
                let number = number_of(value);
                if number == 0 || number > self.tried {
                    return Err(format!("{:?} was told to have {number}, which nobody tried", change.key));
                }
                if let Some(before) = self.told.insert(number, (change.key.clone(), event.at)) {
                    return Err(format!("number {number} was told twice: {before:?}, and now at {}", event.at));
                }
            }
            self.last.insert(change.key.clone(), value);
        }
        Ok(())
    }
}

/// Takes what comes until the engine closes; sometimes leaves and comes back, sometimes is slow.
async fn watcher(engine: Engine, life: Rc<Life<Model>>, over: Rc<Cell<bool>>, seed: u64) -> Result<(), String> {
    let mut rng = Rng::stream(seed, "watcher");
    let client = engine.client();
    loop {
        let from = Some(life.model.borrow().reached);
        let options = WatchOptions { from, limit_bytes: *rng.pick(&[300, 3000, 1 << 20]) };
        let watch = client.watch(KS, WatchKeys::Prefix(Vec::new()), options).map_err(text)?;
        loop {
            if rng.one_in(8) {
                life.executor.sleep(Duration::from_micros(*rng.pick(&[10, 200, 5000]))).await;
            }
            match watch.try_next() {
                Ok(Some(event)) => life.model.borrow_mut().told(&event)?,
                Ok(None) => {
                    // A mark of progress counts like an event.
                    let progress = watch.progress();
                    let before = std::mem::replace(&mut life.model.borrow_mut().reached, progress);
                    if progress < before {
                        return Err(format!("progress fell from {before} to {progress}"));
                    }
                    if over.get() && progress >= client.last_commit() {
                        let left = overdue(&life.model.borrow(), client.clock().wall_ms());
                        match left {
                            Over::Nothing => return Ok(()),
                            Over::ToCome => life.executor.sleep(Duration::from_millis(5)).await,
                            Over::Untold(key) => return Err(format!("nobody told that {key:?} is over")),
                        }
                    }
                    life.executor.sleep(Duration::from_micros(100)).await;
                }
                Err(Error::Lagged { resume }) => {
                    let mut model = life.model.borrow_mut();
                    model.cut_off += 1;
                    if resume < model.reached {
                        return Err(format!("cut off with {resume} after {} was reached", model.reached));
                    }
                    break;
                }
                Err(error) => return Err(text(error)),
            }
            if rng.one_in(20) {
                life.model.borrow_mut().resumed += 1;
                break;
            }
        }
    }
}

/// What the watcher was told to be there, and is over.
enum Over {
    Nothing,
    /// It will be soon, or was a moment ago.
    ToCome,
    Untold(Vec<u8>),
}

fn overdue(model: &Model, now_ms: u64) -> Over {
    match model.until.iter().min_by_key(|(_, at_ms)| **at_ms) {
        None => Over::Nothing,
        Some((key, at_ms)) if *at_ms + GRACE_MS < now_ms => Over::Untold(key.clone()),
        Some(_) => Over::ToCome,
    }
}

async fn client(engine: Engine, life: Rc<Life<Model>>, rounds: u64, seed: u64) -> Result<(), String> {
    let mut rng = Rng::stream(seed, "client");
    let client = engine.client();
    let sync = WriteOptions { durability: Some(Durability::Sync), ..WriteOptions::default() };
    let model = &life.model;
    let new = NewSession { ttl: Duration::from_millis(*rng.pick(&[20, 400, 100_000])), label: Vec::new() };
    let session = client.create_session(new).await.map_err(text)?;
    // Each life of a seed draws the same numbers.
    model.borrow_mut().ended.remove(&session.id.0);
    let of_session = WriteOptions { session: Some(session), ..sync };
    for _ in 0..rounds {
        let key = rng.below(KEYS).to_le_bytes().to_vec();
        let number = model.borrow_mut().next_number();
        let mut value = number.to_le_bytes().to_vec();
        let size = *rng.pick(&[8, 100, 2000]);
        match rng.below(7) {
            0 => {
                client.delete(KS, &key, sync).await.map_err(text)?;
            }
            1 => {
                let other = model.borrow_mut().next_number();
                let mut batch = WriteBatch::new();
                batch.put(KS, b"{b}1", &value).put(KS, b"{b}2", &other.to_le_bytes());
                let at = client.write_batch(batch, sync).await.map_err(text)?;
                let mut model = model.borrow_mut();
                model.answered.insert(number, (b"{b}1".to_vec(), at));
                model.answered.insert(other, (b"{b}2".to_vec(), at));
            }
            2 => {
                value.extend_from_slice(&session.id.0.to_le_bytes());
                let before = model.borrow().sequence.last().copied();
                match client.put_sequential(KS, b"e-", &value, of_session).await {
                    Ok(made) => {
                        let digits = std::str::from_utf8(&made.key[2..]).map_err(text)?;
                        let in_key: u64 = digits.parse().map_err(text)?;
                        let mut model = model.borrow_mut();
                        if before.is_some_and(|before| in_key <= before) || !model.sequence.insert(in_key) {
                            return Err(format!("the sequential number {in_key} was given after {before:?}"));
                        }
                        model.answered.insert(number, (made.key, made.version));
                    }
                    Err(Error::Lock(LockError::NoSession { .. })) => return Ok(()),
                    Err(error) => return Err(text(error)),
                }
            }
            3 => {
                value.extend_from_slice(&session.id.0.to_le_bytes());
                let key = [b"e".as_slice(), &key].concat();
                match client.put(KS, &key, &value, of_session).await {
                    Ok(at) => drop(model.borrow_mut().answered.insert(number, (key, at))),
                    Err(Error::Lock(LockError::NoSession { .. })) => return Ok(()),
                    Err(error) => return Err(text(error)),
                }
            }
            4 => {
                let key = [b"t".as_slice(), &key].concat();
                let lives_ms = *rng.pick(&[1, 20, 200]);
                let expiry = Expiry::at_ms(client.clock().wall_ms() + lives_ms);
                let at = client.put(KS, &key, &value, WriteOptions { expiry, ..sync }).await.map_err(text)?;
                model.borrow_mut().answered.insert(number, (key, at));
            }
            _ => {
                value.resize(size, 0);
                let at = client.put(KS, &key, &value, sync).await.map_err(text)?;
                model.borrow_mut().answered.insert(number, (key, at));
            }
        }
        if rng.one_in(4) {
            life.executor.sleep(Duration::from_millis(*rng.pick(&[1, 30]))).await;
        }
    }
    if rng.coin() {
        match client.end_session(session).await {
            Ok(()) => drop(model.borrow_mut().ended.insert(session.id.0)),
            Err(Error::Lock(LockError::NoSession { .. })) => {}
            Err(error) => return Err(text(error)),
        }
    }
    Ok(())
}

/// A key of a session that is not there.
async fn orphan(engine: &Engine, model: &Model) -> Result<Option<String>, String> {
    let client = engine.client();
    let view = client.snapshot_async().await.map_err(text)?;
    let entries = client.scan_async(&view, ScanRange::prefix(KS, b"e")).await.map_err(text)?;
    for entry in entries {
        let entry = entry.map_err(text)?;
        let id = number_of(&entry.value.bytes[8..]);
        let session = client.get_at(&view, Keyspace(0xff01), &id.to_be_bytes()).map_err(text)?;
        if model.ended.contains(&id) {
            return Err(format!("{:?} is there, the end of its session {id:016x} was answered", entry.key));
        }
        if session.is_none() {
            return Ok(Some(format!("{:?} is there, its session {id:016x} is not", entry.key)));
        }
    }
    Ok(None)
}

/// No orphan stays for long.
async fn check_ephemerals(engine: &Engine, life: &Life<Model>) -> Result<(), String> {
    for _ in 0..100 {
        let model = life.model.borrow().clone();
        if orphan(engine, &model).await?.is_none() {
            return Ok(());
        }
        life.executor.sleep(Duration::from_millis(20)).await;
    }
    let model = life.model.borrow().clone();
    orphan(engine, &model).await?.map_or(Ok(()), Err)
}

/// What the watcher knows is what is stored, and it was told every answered write, as it was answered.
async fn compare(engine: &Engine, model: &Model) -> Result<(), String> {
    let client = engine.client();
    let view = client.snapshot_async().await.map_err(text)?;
    let entries = client.scan_async(&view, ScanRange::prefix(KS, b"")).await.map_err(text)?;
    let mut stored = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(text)?;
        if entry.value.version <= model.reached {
            stored.insert(entry.key, entry.value.bytes);
        }
    }
    let told: BTreeMap<_, _> =
        model.last.iter().filter_map(|(key, value)| value.clone().map(|value| (key.clone(), value))).collect();
    let keys: BTreeSet<_> = stored.keys().chain(told.keys()).collect();
    for key in keys {
        let (there, said) = (stored.get(key).map(|v| number_of(v)), told.get(key).map(|v| number_of(v)));
        // A session may have ended since, or a time.
        if there != said && !(key.starts_with(b"e") && there.is_none() || key.starts_with(b"t") && there.is_none()) {
            return Err(format!("{key:?} has {there:?}, the watcher was told {said:?}"));
        }
    }
    for (number, answered) in &model.answered {
        if answered.1 <= model.reached && model.told.get(number) != Some(answered) {
            return Err(format!("{number}: answered {answered:?}, told {:?}", model.told.get(number)));
        }
    }
    Ok(())
}

async fn work(life: &Rc<Life<Model>>, engine: &Engine, rounds: u64, seed: u64) -> Result<(), String> {
    let over = Rc::new(Cell::new(false));
    let watching = life.sim.spawn("watcher", watcher(engine.clone(), Rc::clone(life), Rc::clone(&over), seed));
    let clients: Vec<_> = (0..3)
        .map(|n| life.sim.spawn(&format!("client {n}"), client(engine.clone(), Rc::clone(life), rounds, seed * 3 + n)))
        .collect();
    let mut outcome = Ok(());
    for client in clients {
        outcome = outcome.and(client.await);
    }
    over.set(true);
    outcome.and(watching.await)?;
    check_ephemerals(engine, life).await?;
    let model = life.model.borrow().clone();
    compare(engine, &model).await
}

async fn scenario(life: Life<Model>, seed: u64) -> Result<(), String> {
    let life = Rc::new(life);
    let engine = open(&life.host).await?;
    let worked = async {
        work(&life, &engine, 6, seed).await?;
        engine.checkpoint_async().await.map_err(text)?;
        work(&life, &engine, 4, seed + 500_000).await
    };
    let worked = worked.await;
    let closed = engine.close_async().await.map_err(text);
    worked.and(closed)
}

async fn check(life: Life<Model>, seed: u64) -> Result<(), String> {
    let life = Rc::new(life);
    crate::support::check_what_a_crash_left(&life.host).await?;
    let engine = open(&life.host).await?;
    let outcome = async {
        let model = life.model.borrow().clone();
        orphan(&engine, &model).await?.map_or(Ok(()), Err)?;
        work(&life, &engine, 2, seed + 1_000_000).await
    };
    let outcome = outcome.await;
    let closed = engine.close_async().await.map_err(text);
    outcome.and(closed)?;
    crate::support::check_closed(&life.host).await
}

pub fn run(seed: u64) -> Result<(Summary, [u64; 4]), String> {
    let mut plan = Plan::new("a_watcher_sees_the_whole_history_over_any_death", seed);
    plan.config = SimConfig { step_budget: 600_000, ..plan.config };
    plan.points_max = Some(12);
    plan.damages = 2;
    let counts = Rc::new(RefCell::new([0u64; 4]));
    let counted = Rc::clone(&counts);
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(scenario(life, seed)) };
    let check = move |life: Life<Model>| -> LocalFuture<'static, _> {
        let counted = Rc::clone(&counted);
        let model = Rc::clone(&life.model);
        Box::pin(async move {
            check(life, seed).await?;
            let model = model.borrow();
            let mut counted = counted.borrow_mut();
            for (sum, more) in counted.iter_mut().zip([model.events, model.resumed, model.cut_off, model.expired]) {
                *sum += more;
            }
            Ok(())
        })
    };
    let summary = enumerate(&plan, Model::default(), scenario, check).map_err(|failure| failure.to_string())?;
    let counts = *counts.borrow();
    Ok((summary, counts))
}

#[test]
fn a_watcher_sees_the_whole_history_over_any_death() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (summaries, failures) = run_seeds(seeds_asked(0..4), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    let mut total = Summary::default();
    let mut sums = [0; 4];
    for (summary, counts) in summaries.values() {
        total.absorb(summary);
        sums.iter_mut().zip(counts).for_each(|(sum, more)| *sum += more);
    }
    let [events, resumed, cut_off, expired] = sums;
    println!(
        "{} seeds: {total}; {events} events, {resumed} resumed, {cut_off} cut off, {expired} ended by time",
        summaries.len()
    );
    assert!(total.recoveries[0] > 0 && events > 0 && resumed > 0 && cut_off > 0 && expired > 0, "{total}");
}
