//! Locks in the simulation, died at everywhere: at no moment do two holders believe in the same lock, tokens grow for ever, and no
//! write of a stale holder gets in.
//!
//! Clients take two locks, exclusively or shared, at both levels, hold them for a while, sometimes beyond their lease, write to a
//! register under the guard of their token, and let go, or not. The world outside keeps who was told what. A holder believes in
//! its lock from the answer until its lease, counted from before it asked, and as long as its session was kept alive; over a death, for
//! as long as was left of both. Some go on with their sessions after a death, if they are told that these still live.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::harness::{Life, Plan, Summary, enumerate, run_seeds, seeds_asked};
use corering_engine::runtime::sim::{JoinHandle, Rng, SimConfig};
use corering_engine::runtime::{Clock, Host, LocalFuture};
use corering_engine::{
    Acquire, Durability, Engine, Error, Expiry, Guard, Keyspace, Kind, LockError, LockHandle, Mode, NewSession,
    Options, SessionId, SessionKey, Wait, WriteOptions,
};

const NAMES: [&[u8]; 2] = [b"one", b"other"];
const REGISTER: &[u8] = b"register";

/// Somebody who was told that it holds a lock.
#[derive(Clone, Copy, Debug)]
struct Belief {
    token: u64,
    shared: bool,
    session: SessionId,
    /// When its lease ends, by the clock of this life; `u64::MAX` if only with its session.
    lease_until_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    key: SessionKey,
    ttl: Duration,
    /// Until when it was kept alive, for all that its client knows.
    until_ns: u64,
}

/// Times that are over stay so, and those without an end too.
fn moved(at_ns: u64, noted_ns: u64, now_ns: u64) -> u64 {
    if at_ns == u64::MAX { at_ns } else { now_ns + at_ns.saturating_sub(noted_ns) }
}

#[derive(Clone, Default, Debug)]
struct Model {
    /// When the model was last changed, by the clock of the life before.
    noted_ns: u64,
    beliefs: BTreeMap<usize, Vec<Belief>>,
    /// The sessions whose clients go on with them after a death: their time to live, and until when each was kept alive.
    sessions: BTreeMap<SessionId, Known>,
    /// The largest token told for each name.
    tokens: BTreeMap<usize, u64>,
    /// For each name: the largest token under whose guard a write was answered, and tried.
    written: BTreeMap<usize, (u64, u64)>,
    refused: u64,
    grants: u64,
    /// Sessions that somebody went on with after a death, and that were not there any more.
    taken_up: u64,
    gone: u64,
}

impl Model {
    fn until_ns(&self, belief: &Belief) -> u64 {
        belief.lease_until_ns.min(self.sessions.get(&belief.session).map_or(0, |session| session.until_ns))
    }
}

struct World {
    model: Rc<RefCell<Model>>,
    clock: Arc<dyn Clock>,
    over: Cell<bool>,
    /// Sessions of clients of this life.
    in_use: RefCell<BTreeSet<SessionId>>,
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
        let (clock, in_use) = (life.host.clock(), RefCell::default());
        let world = World { model: Rc::clone(&life.model), clock, over: Cell::new(false), in_use };
        let now = world.now();
        let mut model = life.model.borrow_mut();
        let noted = std::mem::replace(&mut model.noted_ns, now);
        for belief in model.beliefs.values_mut().flatten() {
            belief.lease_until_ns = moved(belief.lease_until_ns, noted, now);
        }
        for session in model.sessions.values_mut() {
            session.until_ns = moved(session.until_ns, noted, now);
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

    /// `before` is the last token that anybody had been told of when this grant was asked for; none if the session had the lock already.
    fn granted(&self, name: usize, mut belief: Belief, before: Option<u64>) -> Result<(), String> {
        self.note();
        let now = self.now();
        let model = &mut *self.model.borrow_mut();
        model.grants += 1;
        let last = model.tokens.entry(name).or_default();
        if let Some(before) = before.filter(|before| belief.token <= *before) {
            return Err(format!("lock {name}: token {} was given after {before}", belief.token));
        }
        *last = belief.token.max(*last);
        let mut beliefs = model.beliefs.remove(&name).unwrap_or_default();
        beliefs.retain(|other| model.until_ns(other) > now);
        if let Some(own) = beliefs.iter().position(|other| other.session == belief.session) {
            // Taken again: the longer lease, the stronger mode.
            let own = beliefs.swap_remove(own);
            belief.lease_until_ns = belief.lease_until_ns.max(own.lease_until_ns);
            belief.shared &= own.shared;
        }
        let believes = model.until_ns(&belief) > now;
        let beliefs = model.beliefs.entry(name).or_insert(beliefs);
        if !believes {
            return Ok(());
        }
        if let Some(other) = beliefs.iter().find(|other| !(other.shared && belief.shared)) {
            return Err(format!("lock {name} at {now}: {belief:?} was granted while another believes in {other:?}"));
        }
        beliefs.push(belief);
        Ok(())
    }

    /// A session was kept alive, asked for at `asked_ns`.
    fn lives(&self, session: SessionKey, ttl: Duration, asked_ns: u64) {
        self.note();
        let until_ns = asked_ns + ttl.as_nanos() as u64;
        self.model.borrow_mut().sessions.insert(session.id, Known { key: session, ttl, until_ns });
    }

    /// Its client does not count on a session any more.
    fn forget(&self, session: SessionId) {
        self.note();
        let model = &mut *self.model.borrow_mut();
        model.sessions.remove(&session);
        model.beliefs.values_mut().for_each(|beliefs| beliefs.retain(|belief| belief.session != session));
    }

    /// Somebody else's session of an earlier life, to go on with.
    fn take_up(&self, engine: &Engine, rng: &mut Rng) -> Option<(SessionKey, Duration)> {
        let known: Vec<Known> = self.model.borrow().sessions.values().copied().collect();
        // Of one whose time is over the number may have been given to another: the randomness of a life begins anew.
        let now = self.now();
        let in_use = self.in_use.borrow();
        let free: Vec<Known> =
            known.into_iter().filter(|one| one.until_ns > now && !in_use.contains(&one.key.id)).collect();
        drop(in_use);
        if free.is_empty() || rng.coin() {
            return None;
        }
        let Known { key: session, ttl, .. } = *rng.pick(&free);
        let asked_ns = self.now();
        if engine.client().keep_alive(session).is_err() {
            self.forget(session.id);
            self.model.borrow_mut().gone += 1;
            return None;
        }
        self.in_use.borrow_mut().insert(session.id);
        self.model.borrow_mut().taken_up += 1;
        self.lives(session, ttl, asked_ns);
        Some((session, ttl))
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
    let (session, ttl) = match world.take_up(&engine, &mut rng) {
        Some(earlier) => {
            still_holds(&engine, &world, earlier.0.id).await?;
            earlier
        }
        None => {
            let ttl = Duration::from_millis(*rng.pick(&[300, 1000, 5000]));
            let new = NewSession { ttl, label: Vec::new() };
            let asked_ns = world.now();
            let session = client.create_session(new).await.map_err(text)?;
            // The randomness of a life begins anew: it may have been given before, to a session that has ended.
            world.forget(session.id);
            world.in_use.borrow_mut().insert(session.id);
            world.lives(session, ttl, asked_ns);
            (session, ttl)
        }
    };
    for _ in 0..rounds {
        let asked_ns = world.now();
        if client.keep_alive(session).is_err() {
            return Ok(());
        }
        world.lives(session, ttl, asked_ns);
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
                Error::Lock(
                    LockError::Held
                    | LockError::NotYet { .. }
                    | LockError::TimedOut
                    | LockError::Expired
                    | LockError::Deadlock { .. },
                )
                | Error::Busy { .. },
            ) => {
                world.model.borrow_mut().refused += 1;
                continue;
            }
            Err(error) => return Err(text(error)),
        };
        let lease_until_ns = lease.map_or(u64::MAX, |lease| asked_ns + lease.as_nanos() as u64);
        let belief = Belief { token: grant.token.0, shared, session: session.id, lease_until_ns };
        world.granted(name, belief, (grant.count == 1).then_some(before))?;
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
        world.forget(session.id);
        return end(&engine, session).await;
    }
    Ok(())
}

/// Who is told that its session lives has what it was told of; a stronger mode, if it had asked for that and died before the answer.
async fn still_holds(engine: &Engine, world: &World, session: SessionId) -> Result<(), String> {
    let believed = || {
        let (model, now) = (world.model.borrow(), world.now());
        let of = |(name, beliefs): (&usize, &Vec<Belief>)| {
            let own = beliefs.iter().find(|belief| belief.session == session && model.until_ns(belief) > now);
            own.map(|own| (*name, own.token))
        };
        model.beliefs.iter().filter_map(of).collect::<BTreeMap<usize, u64>>()
    };
    for (name, token) in believed() {
        let info = engine.client().lock_info(NAMES[name]).await.map_err(text)?;
        let holds =
            info.is_some_and(|info| info.holds.iter().any(|hold| hold.session == session && hold.token.0 >= token));
        if !holds && believed().get(&name) == Some(&token) {
            return Err(format!("session {session} lives on, and lock {name} with token {token} is gone"));
        }
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
        Err(Error::Lock(
            LockError::Held | LockError::NotYet { .. } | LockError::TimedOut | LockError::NoSession { .. },
        )) => return Ok(None),
        Err(error) => return Err(text(error)),
    };
    let lease_until_ns = ask.lease.map_or(u64::MAX, |lease| asked_ns + lease.as_nanos() as u64);
    let belief = Belief { token: grant.token.0, shared: false, session: ask.session.id, lease_until_ns };
    world.granted(name, belief, Some(before))?;
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
    let asked_ns = world.now();
    let (a, b) = (new().await.map_err(text)?, new().await.map_err(text)?);
    [a, b].into_iter().for_each(|session| world.lives(session, SCRIPT_TTL, asked_ns));
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
    world.forget(a.id);
    end(engine, a).await
}

fn run_script(seed: u64) -> Result<Summary, String> {
    let mut plan = Plan::new("every_step_of_grant_release_and_expiry_is_died_at", seed);
    plan.config = SimConfig { step_budget: 300_000, ..plan.config };
    plan.damages = 2;
    plan.recovery_deaths = 0;
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(script(life)) };
    let check = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(check(life, seed)) };
    enumerate(&plan, Model::default(), scenario, check).map_err(|failure| failure.to_string())
}

#[test]
fn every_step_of_grant_release_and_expiry_is_died_at() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (summaries, failures) = run_seeds(seeds_asked(0..1), threads, 1, run_script, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    for (seed, summary) in &summaries {
        println!("seed {seed}: {summary}");
        assert!(summary.points > 40 && summary.recoveries[0] > summary.points, "{summary}");
    }
}

/// Grants, refusals, sessions taken up after a death, and those that were gone then.
type Counts = [u64; 4];

fn run(seed: u64) -> Result<(Summary, Counts), String> {
    let mut plan = Plan::new("no_two_believe_in_a_lock_after_any_death", seed);
    plan.config = SimConfig { step_budget: 300_000, ..plan.config };
    plan.points_max = Some(12);
    plan.damages = 2;
    let counts = Rc::new(RefCell::new(Counts::default()));
    let counted = Rc::clone(&counts);
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(scenario(life, seed)) };
    let check = move |life: Life<Model>| -> LocalFuture<'static, _> {
        let counted = Rc::clone(&counted);
        let model = Rc::clone(&life.model);
        Box::pin(async move {
            check(life, seed).await?;
            let Model { grants, refused, taken_up, gone, .. } = *model.borrow();
            add(&mut counted.borrow_mut(), [grants, refused, taken_up, gone]);
            Ok(())
        })
    };
    let summary = enumerate(&plan, Model::default(), scenario, check).map_err(|failure| failure.to_string())?;
    let counts = *counts.borrow();
    Ok((summary, counts))
}

fn add(counts: &mut Counts, more: Counts) {
    counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
}

#[test]
fn no_two_believe_in_a_lock_after_any_death() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (summaries, failures) = run_seeds(seeds_asked(0..4), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    let mut total = Summary::default();
    let mut counts = Counts::default();
    for (summary, of_seed) in summaries.values() {
        total.absorb(summary);
        add(&mut counts, *of_seed);
    }
    let [grants, refused, taken_up, gone] = counts;
    println!(
        "{} seeds: {total}; {grants} grants, {refused} refusals, {taken_up} sessions taken up, {gone} gone",
        summaries.len()
    );
    assert!(total.recoveries[0] > 0 && counts.iter().all(|count| *count > 0), "{total}; {counts:?}");
}
