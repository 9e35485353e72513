//! Leases that run out while their holder writes: races of an expiry, or of the grant behind it, against writes under its token.
//!
//! Guards: a write under a token takes effect only while its lease runs, and never behind one of a later token; once somebody has heard
//! of the next grant, none of an earlier holder does; tokens grow; whoever waits is served. All this while the wall clock is set
//! forward and back by days.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::{Disk, Rng, Sim, SimConfig};
use corering_engine::runtime::{Clock, Executor};
use corering_engine::{
    Acquire, Client, Durability, Engine, Error, Expiry, FencingToken, Guard, Keyspace, Kind, LockError, LockHandle,
    Mode, NewSession, Options, SessionKey, TransactionOptions, Wait, WriteOptions,
};

use crate::account::Account;
use crate::support::text;

const KS: Keyspace = Keyspace::DEFAULT;
/// Names raced for at once, and races for each, in one seed.
const NAMES: u64 = 10;
const ROUNDS: u64 = 40;
pub const RACES_EACH: u64 = NAMES * ROUNDS;
const DAY: Duration = Duration::from_secs(86_400);

/// One name and those who race for it.
struct Course {
    client: Client,
    executor: Rc<dyn Executor>,
    clock: Arc<dyn Clock>,
    account: Rc<RefCell<Account>>,
    name: Vec<u8>,
    key: Vec<u8>,
    rng: Rng,
}

pub fn run(seed: u64, _replay: Option<&str>) -> Result<Account, String> {
    let config = SimConfig { step_budget: 40_000_000, ..SimConfig::of_seed(seed) };
    let sim = Sim::with(seed, config, Disk::new());
    let account = Rc::new(RefCell::new(Account::default()));
    let ran = sim.block_on(races(sim.clone(), seed, Rc::clone(&account)));
    ran.map_err(text)??;
    let mut account = Rc::try_unwrap(account).map_err(|_| "a race goes on behind its end")?.into_inner();
    account.trace_hash = sim.trace_hash();
    Ok(account)
}

async fn races(sim: Sim, seed: u64, account: Rc<RefCell<Account>>) -> Result<(), String> {
    let host = sim.host();
    let options =
        Options { shards: Some(2), segment_bytes: 256 << 10, memtable_bytes: 256 << 10, ..Options::default() };
    let engine = Engine::open_on(Arc::clone(&host), options).await.map_err(text)?;
    let tasks: Vec<_> = (0..NAMES)
        .map(|n| {
            let course = Course {
                client: engine.client(),
                executor: sim.executor("racer"),
                clock: host.clock(),
                account: Rc::clone(&account),
                // Some lie with their data, some on the other shard.
                name: format!("lock {n}").into_bytes(),
                key: if n.is_multiple_of(2) { format!("{{lock {n}}}data") } else { format!("data {n}") }.into_bytes(),
                rng: Rng::stream(seed * NAMES + n, "fence"),
            };
            sim.spawn(&format!("course {n}"), course.run())
        })
        .collect();
    let mut rng = Rng::stream(seed, "wall");
    let executor = sim.executor("wall");
    let mut outcome = Ok(());
    for task in tasks {
        sim.jump_wall_ms(*rng.pick(&[-90, -1, 1, 90]) * 86_400_000);
        executor.sleep(Duration::from_millis(rng.below(500))).await;
        outcome = outcome.and(task.await);
    }
    let closed = engine.close_async().await.map_err(text);
    outcome.and(closed)
}

impl Course {
    async fn run(mut self) -> Result<(), String> {
        let (mut holder, rival) = (self.session(DAY).await?, self.session(DAY).await?);
        let mut last = 0;
        for _ in 0..ROUNDS {
            if self.rng.one_in(8) {
                // The session runs out, not the lease.
                let ttl = Duration::from_millis(5 + self.rng.below(55));
                let short = self.session(ttl).await?;
                last = self.race(short, rival, None, ttl, last).await?;
                self.client.end_session(holder).await.map_err(text)?;
                holder = self.session(DAY).await?;
            } else {
                let lease = Duration::from_millis(1 + self.rng.below(60));
                last = self.race(holder, rival, Some(lease), lease, last).await?;
            }
        }
        Ok(())
    }

    async fn session(&self, ttl: Duration) -> Result<SessionKey, String> {
        self.client.create_session(NewSession { ttl, label: Vec::new() }).await.map_err(text)
    }

    /// The holder lets its time pass and writes around its end; the rival stands behind it. Gives the rival's token.
    async fn race(
        &mut self,
        holder: SessionKey,
        rival: SessionKey,
        lease: Option<Duration>,
        time: Duration,
        last: u64,
    ) -> Result<u64, String> {
        self.account.borrow_mut().act("races of an expiry against a guarded write");
        let level = if self.rng.coin() { Durability::Sync } else { Durability::None };
        let ask =
            |session, lease, wait| Acquire { session, mode: Mode::Exclusive, wait, lease, durability: Some(level) };
        let token = match self.client.acquire(&self.name, ask(holder, lease, Wait::No)).await {
            Ok(grant) => grant.token.0,
            // A short session may be over before it was told of anything.
            Err(Error::Lock(LockError::NoSession { .. })) if lease.is_none() => return Ok(last),
            Err(error) => return Err(text(error)),
        };
        if token <= last {
            return Err(format!("{}: token {token} came after {last}", self.shown()));
        }
        // It began before we heard of it.
        let mut ends_ns = self.clock.monotonic_ns() + time.as_nanos() as u64;
        let mut waiting = self.client.acquire(&self.name, ask(rival, None, Wait::AsLongAsTheSession));
        if lease.is_some() && self.rng.one_in(4) {
            let before_ns = self.rng.below(3_000_000);
            self.sleep_until(ends_ns.saturating_sub(before_ns)).await;
            let lock = LockHandle { name: &self.name, session: holder, token: Some(FencingToken(token)) };
            if self.client.renew(lock).await.is_ok() {
                self.account.borrow_mut().act("renewed at the last moment");
                ends_ns = self.clock.monotonic_ns() + time.as_nanos() as u64;
            }
        }
        let gone_ns = ends_ns + 50_000_000;
        let around = |rng: &mut Rng, at: u64| at.saturating_sub(2_000_000) + rng.below(4_000_000);
        let mut tries = vec![
            around(&mut self.rng, ends_ns),
            around(&mut self.rng, ends_ns),
            around(&mut self.rng, gone_ns),
            ends_ns.saturating_sub(self.rng.below(time.as_nanos() as u64)),
            ends_ns + self.rng.below(60_000_000),
        ];
        tries.sort_unstable();
        for at in tries {
            self.sleep_until(at).await;
            let heard = waiting.is_ready();
            let written = self.write(token, Some(ends_ns)).await?;
            if heard && written {
                return Err(format!("{}: a write of {token} got in behind the next grant", self.shown()));
            }
            self.account.borrow_mut().act(if written { "writes in time" } else { "writes refused as fenced" });
        }
        let next = (&mut waiting).await.map_err(text)?.token.0;
        if next <= token {
            return Err(format!("{}: token {next} came after {token}", self.shown()));
        }
        if !self.write(next, None).await? {
            return Err(format!("{}: the holder of {next} was fenced", self.shown()));
        }
        if self.write(token, None).await? {
            return Err(format!("{}: a write of {token} got in behind that of {next}", self.shown()));
        }
        let lock = LockHandle { name: &self.name, session: rival, token: Some(FencingToken(next)) };
        self.client.release(lock, Some(level)).await.map_err(text)?;
        Ok(next)
    }

    /// Write `token` under its own guard, in a transaction or by a program. Whether it got in.
    async fn write(&mut self, token: u64, ends_ns: Option<u64>) -> Result<bool, String> {
        let guard = Guard { name: self.name.clone(), token: FencingToken(token) };
        if self.rng.one_in(4) { self.commit(token, guard).await } else { self.run_program(token, guard, ends_ns).await }
    }

    /// That nothing comes behind a later token is checked by what was read and is validated at the commit.
    async fn commit(&self, token: u64, guard: Guard) -> Result<bool, String> {
        loop {
            let mut tx = self.client.begin(TransactionOptions::default()).map_err(text)?;
            let read = tx.get_for_update_async(KS, &self.key).await.map_err(text)?;
            let before = read.map_or(0, |value| number(&value.bytes));
            tx.guard(guard.clone()).map_err(text)?;
            tx.put(KS, &self.key, &token.to_le_bytes()).map_err(text)?;
            // Its neighbour may lie on the other shard.
            tx.put(KS, &[&self.key[..], b"+"].concat(), &token.to_le_bytes()).map_err(text)?;
            match tx.commit().await {
                Ok(_) if before > token => return Err(self.came_behind(token, before)),
                Ok(_) => return Ok(true),
                Err(Error::Lock(LockError::Fenced { .. })) => return Ok(false),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(text(error)),
            }
        }
    }

    fn came_behind(&self, token: u64, before: u64) -> String {
        format!("{}: a write of {token} came behind that of {before}", self.shown())
    }

    /// That it may get in is checked where it takes effect.
    async fn run_program(&self, token: u64, guard: Guard, ends_ns: Option<u64>) -> Result<bool, String> {
        let guards = vec![guard];
        let (key, clock) = (self.key.clone(), Arc::clone(&self.clock));
        let write = self.client.run_guarded(&self.key, guards, WriteOptions::default(), move |tx| {
            let before = tx.get(KS, &key)?.map_or(0, |value| number(value.bytes));
            tx.put(KS, &key, &token.to_le_bytes(), Kind::BYTES, Expiry::NEVER)?;
            Ok((before, clock.monotonic_ns()))
        });
        match write.await {
            Ok((before, _)) if before > token => Err(self.came_behind(token, before)),
            Ok((_, at)) if ends_ns.is_some_and(|ends| at >= ends) => {
                let late = at - ends_ns.unwrap_or(at);
                Err(format!("{}: a write of {token} took effect {late} ns after its lease", self.shown()))
            }
            Ok(_) => Ok(true),
            Err(Error::Lock(LockError::Fenced { .. })) => Ok(false),
            Err(error) => Err(text(error)),
        }
    }

    async fn sleep_until(&self, at_ns: u64) {
        let left = at_ns.saturating_sub(self.clock.monotonic_ns());
        self.executor.sleep(Duration::from_nanos(left)).await;
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(u64::MAX, u64::from_le_bytes)
}
