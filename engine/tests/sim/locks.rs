//! Locks in the simulation, died at everywhere: at no moment do two holders believe in the same lock, tokens grow for ever, and no
//! write of a stale holder gets in.
//!
//! Clients take two locks, exclusively or shared, at both levels, hold them for a while, sometimes beyond their lease, write to a
//! register under the guard of their token, and let go, or not. The world outside keeps who was told what. A holder believes in
//! its lock from the answer until its lease, counted from before it asked; over a death, for as long as was left of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::harness::{Life, Plan, Summary, enumerate, run_seeds, seeds_asked};
use corering_engine::runtime::sim::{JoinHandle, Rng, SimConfig};
use corering_engine::runtime::{Clock, Host, LocalFuture};
use corering_engine::{
    Acquire, Durability, Engine, Error, Expiry, Guard, Keyspace, Kind, LockError, LockHandle, Mode, NewSession,
    Options, SessionKey, Wait, WriteOptions,
};

const NAMES: [&[u8]; 2] = [b"one", b"other"];
const REGISTER: &[u8] = b"register";

/// Somebody who was told that it holds a lock.
#[derive(Clone, Copy, Debug)]
struct Belief {
    token: u64,
    shared: bool,
    lease_ns: u64,
    /// By the clock of this life.
    until_ns: u64,
}

#[derive(Clone, Default, Debug)]
struct Model {
    /// When the model was last changed, by the clock of the life before.
    noted_ns: u64,
    beliefs: BTreeMap<usize, Vec<Belief>>,
    /// The largest token told for each name.
    tokens: BTreeMap<usize, u64>,
    /// For each name: the largest token under whose guard a write was answered, and tried.
    written: BTreeMap<usize, (u64, u64)>,
    refused: u64,
    grants: u64,
}

struct World {
    model: Rc<RefCell<Model>>,
    clock: Arc<dyn Clock>,
    over: Cell<bool>,
}

/// How late the moment of a death may be known; less than the margin that the server adds to a lease.
const TICK: Duration = Duration::from_millis(10);

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

impl World {
    fn now(&self) -> u64 {
        self.clock.monotonic_ns()
    }

    /// A new life: what was left of each belief when it was last looked at begins now.
    fn begin(life: &Life<Model>) -> World {
        let world = World { model: Rc::clone(&life.model), clock: life.host.clock(), over: Cell::new(false) };
        let now = world.now();
        let mut model = life.model.borrow_mut();
        let noted = std::mem::replace(&mut model.noted_ns, now);
        for belief in model.beliefs.values_mut().flatten() {
            let left = belief.until_ns.saturating_sub(noted).min(belief.lease_ns);
            belief.until_ns = now + left;
        }
        drop(model);
        world
    }

    fn note(&self) {
        self.model.borrow_mut().noted_ns = self.now();
    }

    fn last_token(&self, name: usize) -> u64 {
        self.model.borrow().tokens.get(&name).copied().unwrap_or_default()
    }

    /// `before` is the last token that anybody had been told of when this grant was asked for.
    fn granted(&self, name: usize, belief: Belief, before: u64) -> Result<(), String> {
        self.note();
        let now = self.now();
        let model = &mut *self.model.borrow_mut();
        model.grants += 1;
        let last = model.tokens.entry(name).or_default();
        if belief.token <= before {
            return Err(format!("lock {name}: token {} was given after {before}", belief.token));
        }
        *last = belief.token.max(*last);
        let beliefs = model.beliefs.entry(name).or_default();
        beliefs.retain(|other| other.until_ns > now && other.token != belief.token);
        if belief.until_ns <= now {
            return Ok(());
        }
        if let Some(other) = beliefs.iter().find(|other| !(other.shared && belief.shared)) {
            return Err(format!("lock {name} at {now}: {belief:?} was granted while another believes in {other:?}"));
        }
        beliefs.push(belief);
        Ok(())
    }

    /// Before the release is asked for: from then on its holder does not believe in it.
    fn let_go(&self, name: usize, token: u64) {
        self.note();
        self.model.borrow_mut().beliefs.entry(name).or_default().retain(|belief| belief.token != token);
    }
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

/// One client's life: a session, a few locks.
async fn client(engine: Engine, life: Rc<Life<Model>>, world: Rc<World>, rounds: u64, seed: u64) -> Result<(), String> {
    let mut rng = Rng::stream(seed, "locker");
    let client = engine.client();
    let ttl = Duration::from_millis(*rng.pick(&[300, 1000, 5000]));
    let new = NewSession { ttl, label: Vec::new() };
    let session = client.create_session(new).await.map_err(text)?;
    let mut held = Vec::new();
    for _ in 0..rounds {
        let asked_ns = world.now();
        if client.keep_alive(session).is_err() {
            return Ok(());
        }
        let name = *rng.pick(&[0, 1]);
        let before = world.last_token(name);
        let shared = rng.one_in(3);
        let lease = rng.coin().then(|| Duration::from_millis(*rng.pick(&[50, 200, 2000])));
        let ask = Acquire {
            session,
            mode: if shared { Mode::Shared } else { Mode::Exclusive },
            wait: *rng.pick(&[Wait::No, Wait::Ms(100), Wait::Ms(3000)]),
            lease,
            durability: Some(if rng.coin() { Durability::Sync } else { Durability::None }),
        };
        let grant = match client.acquire(NAMES[name], ask).await {
            Ok(grant) => grant,
            Err(Error::Lock(LockError::NoSession { .. })) => return Ok(()),
            Err(
                Error::Lock(LockError::Held | LockError::TimedOut | LockError::Expired | LockError::Deadlock { .. })
                | Error::Busy { .. },
            ) => {
                world.model.borrow_mut().refused += 1;
                continue;
            }
            Err(error) => return Err(text(error)),
        };
        let long = lease.unwrap_or(ttl).min(ttl);
        // The wait may have been long; the session's time was counted from before it.
        let lease_ns = long.as_nanos() as u64;
        let belief = Belief { token: grant.token.0, shared, lease_ns, until_ns: asked_ns + lease_ns };
        held.push(grant.token.0);
        if grant.count == 1 {
            world.granted(name, belief, before)?;
        }
        let pause = *rng.pick(&[0, 0, 30, 60, 400]);
        if pause > 0 {
            life.executor.sleep(Duration::from_millis(pause)).await;
        }
        // Who shares a lock does not change what it protects.
        if !shared {
            guarded_write(&engine, &world, name, grant.token.0).await?;
        }
        if !rng.one_in(5) {
            world.let_go(name, grant.token.0);
            let lock = LockHandle { name: NAMES[name], session, token: Some(grant.token) };
            match client.release(lock, None).await {
                Ok(_) | Err(Error::Lock(LockError::NotHeld | LockError::NoSession { .. }) | Error::Busy { .. }) => {}
                Err(error) => return Err(text(error)),
            }
        }
    }
    if rng.coin() {
        // Whoever ends its session believes in nothing any more.
        (0..NAMES.len()).for_each(|name| held.iter().for_each(|token| world.let_go(name, *token)));
        return end(&engine, session).await;
    }
    Ok(())
}

async fn end(engine: &Engine, session: SessionKey) -> Result<(), String> {
    match engine.client().end_session(session).await {
        Ok(()) | Err(Error::Lock(LockError::NoSession { .. }) | Error::Busy { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

/// Writes the token to the register of the lock; what stands there never falls.
async fn guarded_write(engine: &Engine, world: &World, name: usize, token: u64) -> Result<(), String> {
    world.note();
    {
        let mut model = world.model.borrow_mut();
        let (_, tried) = model.written.entry(name).or_default();
        *tried = token.max(*tried);
    }
    let key = [REGISTER, NAMES[name]].concat();
    let guards = vec![Guard { name: NAMES[name].to_vec(), token: corering_engine::FencingToken(token) }];
    let own = key.clone();
    let write = engine.client().run_guarded(&key, guards, WriteOptions::default(), move |tx| {
        let before = tx.get(Keyspace(0), &own)?.map_or(0, |value| number(value.bytes));
        tx.put(Keyspace(0), &own, &token.to_le_bytes(), Kind::BYTES, Expiry::NEVER)?;
        Ok(before)
    });
    match write.await {
        Ok(before) if before > token => {
            Err(format!("lock {name}: the write of token {token} came behind that of {before}"))
        }
        Ok(_) => {
            let mut model = world.model.borrow_mut();
            let (answered, _) = model.written.entry(name).or_default();
            *answered = token.max(*answered);
            Ok(())
        }
        Err(Error::Lock(LockError::Fenced { .. }) | Error::Busy { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(u64::MAX, u64::from_le_bytes)
}

/// Notes the time as long as the world goes on.
fn ticker(life: &Rc<Life<Model>>, world: &Rc<World>) -> JoinHandle<Result<(), String>> {
    let (ticking, executor) = (Rc::clone(world), Rc::clone(&life.executor));
    life.sim.spawn("ticker", async move {
        while !ticking.over.get() {
            ticking.note();
            executor.sleep(TICK).await;
        }
        Ok::<(), String>(())
    })
}

async fn work(
    life: &Rc<Life<Model>>,
    world: &Rc<World>,
    engine: &Engine,
    rounds: u64,
    seed: u64,
) -> Result<(), String> {
    let ticker = ticker(life, world);
    let clients: Vec<_> = (0..3)
        .map(|n| {
            let task = client(engine.clone(), Rc::clone(life), Rc::clone(world), rounds, seed * 3 + n);
            life.sim.spawn(&format!("client {n}"), task)
        })
        .collect();
    let mut outcome = Ok(());
    for client in clients {
        outcome = outcome.and(client.await);
    }
    world.over.set(true);
    outcome.and(ticker.await)
}

async fn scenario(life: Life<Model>, seed: u64) -> Result<(), String> {
    let life = Rc::new(life);
    let world = Rc::new(World::begin(&life));
    let engine = open(&life.host).await?;
    let worked = work(&life, &world, &engine, 5, seed).await;
    let closed = engine.close_async().await.map_err(text);
    worked.and(closed)
}

async fn check(life: Life<Model>, seed: u64) -> Result<(), String> {
    let life = Rc::new(life);
    let world = Rc::new(World::begin(&life));
    crate::support::check_what_a_crash_left(&life.host).await?;
    let engine = open(&life.host).await?;
    let outcome = async {
        for (name, (answered, tried)) in life.model.borrow().written.clone() {
            let key = [REGISTER, NAMES[name]].concat();
            let found = engine.client().get(Keyspace(0), &key).map_err(text)?.map_or(0, |value| number(&value.bytes));
            if !(answered..=tried).contains(&found) {
                return Err(format!("the register of lock {name} has {found}; {answered} was answered, {tried} tried"));
            }
        }
        work(&life, &world, &engine, 2, seed + 1_000_000).await
    };
    let outcome = outcome.await;
    let closed = engine.close_async().await.map_err(text);
    outcome.and(closed)?;
    crate::support::check_closed(&life.host).await
}

/// Take a lock and write under it, as one step of [`script`].
async fn take(
    engine: &Engine,
    world: &World,
    ask: Acquire,
    name: usize,
) -> Result<Option<corering_engine::FencingToken>, String> {
    let (asked_ns, before) = (world.now(), world.last_token(name));
    let grant = match engine.client().acquire(NAMES[name], ask).await {
        Ok(grant) => grant,
        Err(Error::Lock(LockError::Held | LockError::TimedOut | LockError::NoSession { .. })) => return Ok(None),
        Err(error) => return Err(text(error)),
    };
    let lease_ns = ask.lease.unwrap_or(SCRIPT_TTL).as_nanos() as u64;
    let belief = Belief { token: grant.token.0, shared: false, lease_ns, until_ns: asked_ns + lease_ns };
    world.granted(name, belief, before)?;
    guarded_write(engine, world, name, grant.token.0).await?;
    Ok(Some(grant.token))
}

const SCRIPT_TTL: Duration = Duration::from_secs(5);

/// A grant and its release, a grant that runs out while another waits, the end of a session that holds: each at both levels, alone,
/// so that all their steps can be died at.
async fn script(life: Life<Model>) -> Result<(), String> {
    let life = Rc::new(life);
    let world = Rc::new(World::begin(&life));
    let engine = open(&life.host).await?;
    let ticker = ticker(&life, &world);
    let outcome = steps(&engine, &world).await;
    world.over.set(true);
    let closed = engine.close_async().await.map_err(text);
    outcome.and(ticker.await).and(closed)
}

async fn steps(engine: &Engine, world: &World) -> Result<(), String> {
    let client = engine.client();
    let new = || client.create_session(NewSession { ttl: SCRIPT_TTL, label: Vec::new() });
    let (a, b) = (new().await.map_err(text)?, new().await.map_err(text)?);
    for level in [Durability::Sync, Durability::None] {
        let ask =
            |session, lease, wait| Acquire { session, mode: Mode::Exclusive, wait, lease, durability: Some(level) };
        if let Some(token) = take(engine, world, ask(a, None, Wait::No), 0).await? {
            world.let_go(0, token.0);
            client
                .release(LockHandle { name: NAMES[0], session: a, token: Some(token) }, Some(level))
                .await
                .map_err(text)?;
        }
        let stale = take(engine, world, ask(a, Some(Duration::from_millis(50)), Wait::No), 1).await?;
        let next = take(engine, world, ask(b, None, Wait::Ms(3000)), 1).await?;
        if let (Some(stale), Some(next)) = (stale, next) {
            guarded_write(engine, world, 1, stale.0).await?;
            world.let_go(1, next.0);
            client
                .release(LockHandle { name: NAMES[1], session: b, token: Some(next) }, Some(level))
                .await
                .map_err(text)?;
        }
    }
    let held = take(
        engine,
        world,
        Acquire { session: a, mode: Mode::Exclusive, wait: Wait::No, lease: None, durability: None },
        0,
    );
    if let Some(token) = held.await? {
        world.let_go(0, token.0);
    }
    end(engine, a).await
}

fn run_script(seed: u64) -> Result<(Summary, u64, u64), String> {
    let mut plan = Plan::new("every_step_of_grant_release_and_expiry_is_died_at", seed);
    plan.config = SimConfig { step_budget: 300_000, ..plan.config };
    plan.damages = 2;
    plan.recovery_deaths = 0;
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(script(life)) };
    let check = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(check(life, seed)) };
    let summary = enumerate(&plan, Model::default(), scenario, check).map_err(|failure| failure.to_string())?;
    Ok((summary, 0, 0))
}

#[test]
fn every_step_of_grant_release_and_expiry_is_died_at() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (summaries, failures) = run_seeds(seeds_asked(0..1), threads, 1, run_script, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    for (seed, (summary, ..)) in &summaries {
        println!("seed {seed}: {summary}");
        assert!(summary.points > 40 && summary.recoveries[0] > summary.points, "{summary}");
    }
}

fn run(seed: u64) -> Result<(Summary, u64, u64), String> {
    let mut plan = Plan::new("no_two_believe_in_a_lock_after_any_death", seed);
    plan.config = SimConfig { step_budget: 300_000, ..plan.config };
    plan.points_max = Some(12);
    plan.damages = 2;
    let counts = Rc::new(RefCell::new((0, 0)));
    let counted = Rc::clone(&counts);
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(scenario(life, seed)) };
    let check = move |life: Life<Model>| -> LocalFuture<'static, _> {
        let counted = Rc::clone(&counted);
        let model = Rc::clone(&life.model);
        Box::pin(async move {
            check(life, seed).await?;
            let (grants, refused) = &mut *counted.borrow_mut();
            (*grants, *refused) = (*grants + model.borrow().grants, *refused + model.borrow().refused);
            Ok(())
        })
    };
    let summary = enumerate(&plan, Model::default(), scenario, check).map_err(|failure| failure.to_string())?;
    let (grants, refused) = *counts.borrow();
    Ok((summary, grants, refused))
}

#[test]
fn no_two_believe_in_a_lock_after_any_death() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (summaries, failures) = run_seeds(seeds_asked(0..4), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    let mut total = Summary::default();
    let (mut grants, mut refused) = (0, 0);
    for (summary, granted, not) in summaries.values() {
        total.absorb(summary);
        (grants, refused) = (grants + granted, refused + not);
    }
    println!("{} seeds: {total}; {grants} grants, {refused} refusals", summaries.len());
    assert!(total.recoveries[0] > 0 && grants > 0 && refused > 0, "{total}");
}
