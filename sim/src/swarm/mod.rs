//! Swarms: each seed runs the whole engine through several lives with a mix of its own, and a shadow model checks every answer.
//!
//! A life opens the database (with a shard count of its own), compares everything with the model, lets the clients work while
//! faults strike, and ends: closed in order, closed at work, killed, or dead at an operation that the seed chose. Before each
//! opening `check` looks at what was left; at every step of every task the cheap invariants are asked.

mod changes;
mod client;
mod counters;
mod damage;
mod locks;
mod marks;
mod mix;
pub mod model;
mod owned;
mod world;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::check::check_on;
use corering_engine::runtime::Host;
use corering_engine::runtime::sim::{CrashKind, Disk, FaultRule, Phase, Rng, Sim, Stop};
use corering_engine::{Engine, Error, Keyspace, Options, ScanRange};

use self::changes::Changes;
use self::client::Hands;
use self::counters::{Counter, Register};
use self::locks::Locks;
use self::marks::Marks;
use self::mix::{End, LOG, Mix, faults_of_life, lie_of_life};
use self::model::Model;
use self::owned::Owned;
use self::world::{COUNTER_NAMES, COUNTERS, World};
use crate::account::Account;
use crate::support::{check_but_for, check_closed, text};

/// Runs one seed; a replay prints every event.
pub fn run(seed: u64, replay: Option<&str>) -> Result<Account, String> {
    let mut mix = Mix::of_seed(seed);
    mix.machine.log = replay.is_some();
    let sim = Sim::with(seed, mix.machine.clone(), Disk::new());
    let outcome = live_all(&sim, mix, seed);
    sim.power_off();
    outcome
}

/// The open engine and what was seen of it; out of the reach of tasks, so that the last handle does not go while they run.
type Slot = Rc<RefCell<Option<(Engine, Marks)>>>;

fn live_all(sim: &Sim, mix: Mix, seed: u64) -> Result<Account, String> {
    let mut rng = Rng::stream(seed, "lives");
    let world = Rc::new(World {
        sim: sim.clone(),
        model: RefCell::new(Model::new(names(&mix, &mut rng))),
        counters: RefCell::new(vec![Counter::default(); COUNTER_NAMES.len()]),
        locks: RefCell::new(Locks::default()),
        registers: RefCell::new(vec![Register::default(); locks::NAMES.len()]),
        owned: RefCell::new(Owned::default()),
        changes: RefCell::new(Changes::default()),
        lost: Arc::default(),
        account: RefCell::new(Account::default()),
        next_number: Cell::new(1),
        faulty: Cell::new(false),
        full: Cell::new(false),
        closing: Cell::new(false),
        jumped_ms: Cell::new(0),
        behind_ms: 0,
        lies_noticed: Cell::new(0),
        lied_of: RefCell::default(),
        mix,
    });
    let slot: Slot = Rc::default();
    let watched = Rc::clone(&slot);
    sim.watch_steps(move || match &mut *watched.borrow_mut() {
        Some((engine, marks)) => marks.look(engine),
        None => Ok(()),
    });
    for number in 0..world.mix.lives {
        if let After::Refused = one_life(&world, &slot, &mut rng, seed, number)? {
            return Ok(what_was_done(&world));
        }
    }
    // Of one damage at a time it is known what is owed.
    if world.lied_of.borrow().is_empty() {
        damage::strike(&world, seed)?;
    }
    sim.block_on(last_life(Rc::clone(&world), Rc::clone(&slot), rng)).map_err(text)??;
    Ok(what_was_done(&world))
}

/// What a life leaves.
enum After {
    GoesOn,
    /// It was not opened, because the disk had lost a write and the opening says of what.
    Refused,
}

fn what_was_done(world: &World) -> Account {
    let sim = &world.sim;
    let mut account = world.account.borrow().clone();
    account.machine = sim.counters();
    account.trace_hash = sim.trace_hash();
    account
}

/// Keys of all clients: in two keyspaces, some of them tied to one shard by a tag, some sharing prefixes.
fn names(mix: &Mix, rng: &mut Rng) -> Vec<(Keyspace, Vec<u8>)> {
    let name = |client: usize, key: usize, style: u64| match style {
        0 => format!("{{{client}}}:{key}"),
        1 => format!("key:{key:02}:{client}"),
        _ => format!("{}{key}:{client}", "long/".repeat(key % 7)),
    };
    let each = (0..mix.clients).flat_map(|client| (0..mix.keys_per_client).map(move |key| (client, key)));
    each.map(|(client, key)| (Keyspace(rng.below(2) as u16), name(client, key, rng.below(3)).into_bytes())).collect()
}

fn one_life(world: &Rc<World>, slot: &Slot, rng: &mut Rng, seed: u64, number: u64) -> Result<After, String> {
    let sim = &world.sim;
    world.closing.set(false);
    world.full.set(false);
    let faults = faults_of_life(&world.mix, rng);
    world.faulty.set(faults.is_some());
    sim.set_faults(faults.unwrap_or_default());
    let lie = lie_of_life(&world.mix, rng);
    let (late, early): (Vec<_>, Vec<_>) = lie.into_iter().partition(|rule| rule.files == LOG);
    early.into_iter().for_each(|rule| sim.add_fault(rule));
    if !rng.one_in(3) {
        let phase = if rng.coin() { Phase::Before } else { Phase::After };
        sim.crash_at(sim.crash_points() + rng.below(world.mix.death_within), phase);
    }
    let end = *rng.pick(&world.mix.ends);
    let hands = Rng::stream(seed ^ (number << 48), "life");
    let ran = sim.block_on(life(Rc::clone(world), Rc::clone(slot), hands, end, late));
    let died = match ran {
        Ok(done) => {
            if let After::Refused = done.map_err(|e| format!("life {number}: {e}"))? {
                return Ok(After::Refused);
            }
            end == End::Kill || rng.one_in(3)
        }
        Err(Stop::Crashed { .. }) => true,
        Err(stop) => return Err(format!("life {number}: {stop}")),
    };
    sim.crash_nowhere();
    world.notice_lies();
    let death = died.then(|| if rng.coin() { CrashKind::Machine } else { CrashKind::Process });
    if let Some(kind) = death {
        let mut account = world.account.borrow_mut();
        account.crash_points += sim.crash_points();
        account.crash(kind);
        sim.crash(kind);
    }
    world.life_ended(death);
    sim.set_faults(Default::default());
    sim.set_capacity(None);
    // Its tasks are gone by now, or it was closed.
    drop(slot.borrow_mut().take());
    Ok(After::GoesOn)
}

/// `late` are faults that strike once it is open.
async fn life(world: Rc<World>, slot: Slot, mut rng: Rng, end: End, late: Vec<FaultRule>) -> Result<After, String> {
    let host = world.sim.host();
    world.sim.faults_enabled(false);
    check_what_was_left(&world, &host).await?;
    world.sim.faults_enabled(true);
    let Some(engine) = open(&world, &host, &mut rng).await? else { return Ok(After::Refused) };
    world.listen(&engine);
    *slot.borrow_mut() = Some((engine.clone(), Marks::default()));
    verify(&world, &engine).await?;
    late.into_iter().for_each(|rule| world.sim.add_fault(rule));
    if rng.one_in(world.mix.full_one_in) {
        fill_up(&world, &mut rng);
    }
    let clients: Vec<_> = (0..world.mix.clients)
        .map(|number| {
            let hands = Hands::new(&world, &engine, number, Rng::new(rng.next_u64()));
            world.sim.spawn(&format!("client {number}"), hands.work())
        })
        .collect();
    if end == End::CloseAtWork {
        let us = *rng.pick(&[1, 100, 2_000, 50_000]);
        world.sim.executor("closer").sleep(Duration::from_micros(us)).await;
        world.closing.set(true);
        close(&world, &slot, &engine).await?;
    }
    for client in clients {
        client.await?;
    }
    note_work(&world, &engine);
    match end {
        End::Kill | End::CloseAtWork => {}
        End::Close => {
            world.closing.set(true);
            close(&world, &slot, &engine).await?;
            if !world.faulty.get() && !world.full.get() && world.lied_of.borrow().is_empty() {
                check_closed(&host).await?;
            }
        }
    }
    Ok(After::GoesOn)
}

async fn check_what_was_left(world: &World, host: &Arc<dyn Host>) -> Result<(), String> {
    let lied_of = world.lied_of.borrow().clone();
    check_but_for(host, &|said| lied_of.iter().any(|place| said.contains(&place.named))).await
}

/// No faults any more: everything is there, and the database is whole once it is closed.
async fn last_life(world: Rc<World>, slot: Slot, mut rng: Rng) -> Result<(), String> {
    world.faulty.set(false);
    world.full.set(false);
    world.closing.set(false);
    let host = world.sim.host();
    check_what_was_left(&world, &host).await?;
    let Some(engine) = open(&world, &host, &mut rng).await? else { return Ok(()) };
    *slot.borrow_mut() = Some((engine.clone(), Marks::default()));
    verify(&world, &engine).await.map_err(|e| format!("at last: {e}"))?;
    world.closing.set(true);
    close(&world, &slot, &engine).await?;
    if world.lied_of.borrow().is_empty() { check_closed(&host).await } else { check_what_was_left(&world, &host).await }
}

/// Open with a shard count of the seed's choice.
async fn open_once(world: &World, host: &Arc<dyn Host>, rng: &mut Rng) -> Result<Engine, Error> {
    let options = Options { shards: Some(*rng.pick(&world.mix.shard_counts)), ..world.mix.options.clone() };
    Engine::open_on(Arc::clone(host), options).await
}

/// As [`open_once`], and once more without faults if they kept it closed. None: it is refused for good, by the name of something
/// of which the disk lost a write.
async fn open(world: &World, host: &Arc<dyn Host>, rng: &mut Rng) -> Result<Option<Engine>, String> {
    match open_once(world, host, rng).await {
        Ok(engine) => return Ok(Some(engine)),
        Err(Error::Io { .. } | Error::NoSpace { .. }) if world.faulty.get() => {}
        // It found out that a table which it wrote is not right; or it is refused for good, as will be seen.
        Err(error) if world.tells_of_a_lie(&error, false) => {}
        Err(error) => return Err(format!("opening: {error}")),
    }
    world.account.borrow_mut().refused_openings += 1;
    world.sim.set_faults(Default::default());
    match open_once(world, host, rng).await {
        Ok(engine) => Ok(Some(engine)),
        Err(error) if world.tells_of_a_lie(&error, true) => {
            let report = check_on(Arc::clone(host), &mut |_| ()).await;
            if report.is_ok_and(|report| report.is_clean()) {
                return Err(format!("refused with '{error}', and the check finds nothing"));
            }
            world.account.borrow_mut().act("lie that was refused");
            Ok(None)
        }
        Err(error) => Err(format!("opening again, with no faults: {error}")),
    }
}

/// Everything, by key and by scans in both directions, is as the model has it.
async fn verify(world: &Rc<World>, engine: &Engine) -> Result<(), String> {
    let client = engine.client();
    let names = world.model.borrow().names().to_vec();
    let found = names.iter().map(|(keyspace, name)| client.get(*keyspace, name));
    let found = found.collect::<Result<Vec<_>, _>>().map_err(text)?;
    let now_ms = client.clock().wall_ms();
    world.model.borrow_mut().recovered(found, now_ms).map_err(|e| format!("{e}\n{}", engine.report()))?;
    for (counter, name) in world.counters.borrow_mut().iter_mut().zip(COUNTER_NAMES) {
        let found = client.get(COUNTERS, name).map_err(text)?;
        counter.recovered(found.as_ref())?;
    }
    let mut hands = Hands::new(world, engine, 0, Rng::new(0));
    hands.verify_locks().await?;
    hands.verify_owned()?;
    world.account.borrow_mut().lives += 1;
    world.account.borrow_mut().resharded += u64::from(engine.report().resharded.is_some());
    for (keyspace, reverse) in [(0, false), (0, true), (1, false), (1, true)] {
        hands.scan_all(ScanRange { reverse, ..ScanRange::all(Keyspace(keyspace)) }).await?;
    }
    Ok(())
}

/// The disk has little room from now on, and enough again later.
fn fill_up(world: &Rc<World>, rng: &mut Rng) {
    let used = world.sim.disk(|disk| disk.files().iter().map(|(_, len)| len).sum::<u64>());
    world.full.set(true);
    world.sim.set_capacity(Some(used + rng.below(200_000)));
    let (executor, sim, us) = (world.sim.executor("janitor"), world.sim.clone(), rng.between(1_000, 3_000_000));
    drop(world.sim.spawn("janitor", async move {
        executor.sleep(Duration::from_micros(us)).await;
        sim.set_capacity(None);
    }));
}

async fn close(world: &Rc<World>, slot: &Slot, engine: &Engine) -> Result<(), String> {
    note_work(world, engine);
    // The shards' counters go with their threads.
    drop(slot.borrow_mut().take());
    let promise = world.promises();
    let closed = engine.close_async().await;
    world.notice_lies();
    match closed {
        Ok(()) => {
            world.account.borrow_mut().closes += 1;
            world.promised(promise);
            Ok(())
        }
        Err(Error::Poisoned(_)) if world.faulty.get() => Ok(()),
        Err(error) => Err(format!("closing: {error}")),
    }
}

fn note_work(world: &World, engine: &Engine) {
    let stats = engine.stats();
    let mut account = world.account.borrow_mut();
    account.checkpoints += stats.sum(|shard| shard.counters.checkpoints);
    account.merges += stats.sum(|shard| shard.counters.merges);
    account.stalls += stats.sum(|shard| shard.counters.stalls);
}
