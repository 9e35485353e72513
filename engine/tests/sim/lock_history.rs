//! Takes and releases of locks recorded in the simulation, life after life, on slow, stalling and dying machines: linearizable, as those
//! of a register that is free or somebody's, and granted in the order in which they were asked for.
//!
//! Sessions outlive the lives: their clients go on with them, and with what they held. A take or a release that was under way when its
//! life ended may have been done or not; what the lock then is, is read, and has to fit.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::harness::{run_seeds, seeds_asked};
use corering_engine::runtime::sim::{CrashKind, Disk, Fault, FaultRule, Faults, Rng, Sim, SimConfig, When};
use corering_engine::runtime::{Executor, Host};
use corering_engine::{
    Acquire, Client, Durability, Engine, Error, FencingToken, Grant, Hold, LockError, LockHandle, Mode, NewSession,
    Options, SessionId, SessionKey, Wait,
};
use corering_proof::register::Condition;
use corering_proof::{Client as Recording, History, Op, Ret, Ticks, Told, linear};
use futures_lite::FutureExt;

const CLIENTS: u32 = 4;
const NAMES: [&[u8]; 3] = [b"one", b"two", b"three"];
const LIVES: u64 = 4;
/// Takes and releases of one client in one life, at most.
const EACH: u32 = 25;
/// The value of a lock that nobody holds; a holder's is the number of its session.
const FREE: i64 = -1;
/// No session ends by itself here.
const DAY: Duration = Duration::from_secs(86_400);

type Recorder = Rc<RefCell<Recording<Rc<Ticks>, Op, Ret>>>;

/// A grant as its holder knows it: when it was asked for, and its token.
type Granted = (u64, FencingToken);

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// What clients know, whatever becomes of the machine.
struct World {
    seed: u64,
    kind: CrashKind,
    ticks: Rc<Ticks>,
    /// The session of each client, and its number.
    sessions: RefCell<BTreeMap<u32, SessionKey>>,
    numbers: RefCell<BTreeMap<SessionId, i64>>,
    /// One that is to be killed, its number, and the lock that it is at.
    doomed: Cell<Option<(SessionKey, i64, usize)>>,
    /// Whose each lock was when this life began.
    whose: RefCell<BTreeMap<usize, Hold>>,
    /// Of this life, of each name.
    granted: RefCell<BTreeMap<usize, Vec<Granted>>>,
    recorders: RefCell<Vec<Recorder>>,
    /// Waits that ended with their session.
    dead: Cell<u64>,
    over: Cell<bool>,
}

impl World {
    fn of(seed: u64) -> World {
        let kind = if seed.is_multiple_of(2) { CrashKind::Process } else { CrashKind::Machine };
        World {
            seed,
            kind,
            ticks: Rc::default(),
            sessions: RefCell::default(),
            numbers: RefCell::default(),
            doomed: Cell::default(),
            whose: RefCell::default(),
            granted: RefCell::default(),
            recorders: RefCell::default(),
            dead: Cell::default(),
            over: Cell::default(),
        }
    }

    /// What a killed process leaves is whole at every level.
    fn level(&self, rng: &mut Rng) -> Durability {
        match self.kind {
            CrashKind::Machine => Durability::Sync,
            CrashKind::Process => *rng.pick(&[Durability::Sync, Durability::None]),
        }
    }

    fn recorder(&self) -> Recorder {
        let number = self.recorders.borrow().len() as u32;
        let recorder: Recorder = Rc::new(RefCell::new(Recording::new(Rc::clone(&self.ticks), number)));
        self.recorders.borrow_mut().push(Rc::clone(&recorder));
        recorder
    }

    /// A session with a number that no other has had.
    async fn new_session(&self, client: &Client) -> Option<(SessionKey, i64)> {
        let session = client.create_session(NewSession { ttl: DAY, label: Vec::new() }).await.ok()?;
        let number = corering_proof::Clock::now(&self.ticks) as i64;
        self.numbers.borrow_mut().insert(session.id, number);
        Some((session, number))
    }

    fn note(&self, name: usize, asked: u64, grant: &Grant) {
        self.granted.borrow_mut().entry(name).or_default().push((asked, grant.token));
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

fn ask_take(world: &World, recorder: &Recorder, name: usize, mine: i64) -> u64 {
    recorder.borrow_mut().ask(name as u64, Op::PutIf(Condition::Equal(FREE), mine));
    corering_proof::Clock::now(&world.ticks)
}

fn ask_release(recorder: &Recorder, name: usize, mine: i64) {
    recorder.borrow_mut().ask(name as u64, Op::PutIf(Condition::Equal(mine), FREE));
}

/// Whether an error says that the lock was not taken, and that the client goes on.
fn goes_on(error: &Error) -> bool {
    matches!(
        error,
        Error::Lock(LockError::Held | LockError::TimedOut | LockError::Deadlock { .. }) | Error::Busy { .. }
    )
}

/// Whose each lock is when a life begins. Later that is no answer of a register: it shows grants that are not durable yet.
async fn look(client: &Client, world: &World) -> Result<(), String> {
    let recorder = world.recorder();
    world.whose.borrow_mut().clear();
    for (name, bytes) in NAMES.iter().enumerate() {
        recorder.borrow_mut().ask(name as u64, Op::Get);
        let hold = client.lock_info(bytes).await.map_err(text)?.and_then(|info| info.holds.first().copied());
        let number = hold.map_or(Ok(FREE), |hold| {
            let numbers = world.numbers.borrow();
            numbers.get(&hold.session).copied().ok_or_else(|| format!("nobody knows session {}", hold.session))
        })?;
        recorder.borrow_mut().told(Told::Answer(Ret::Value(Some(number))));
        hold.and_then(|hold| world.whose.borrow_mut().insert(name, hold));
    }
    Ok(())
}

/// One client until its life ends, with the session that it had before.
async fn run_client(engine: Engine, pause: Rc<dyn Executor>, world: Rc<World>, number: u32, life: u64) {
    let mut rng = Rng::stream(world.seed, &format!("client {number} of life {life}"));
    let client = engine.client();
    let recorder = world.recorder();
    let earlier = world.sessions.borrow().get(&number).copied();
    let (session, mine) = match earlier {
        Some(session) => (session, world.numbers.borrow()[&session.id]),
        None => {
            let Some(new) = world.new_session(&client).await else { return };
            world.sessions.borrow_mut().insert(number, new.0);
            new
        }
    };
    let mut held: [Option<FencingToken>; NAMES.len()] = [None; NAMES.len()];
    let whose = world.whose.borrow().clone();
    for (name, hold) in whose {
        held[name] = (hold.session == session.id).then_some(hold.token);
    }
    for _ in 0..EACH {
        let name = rng.below(NAMES.len() as u64) as usize;
        let level = Some(world.level(&mut rng));
        match held[name].take() {
            None => {
                let wait = *rng.pick(&[Wait::No, Wait::Ms(1), Wait::Ms(20), Wait::AsLongAsTheSession]);
                let ask = Acquire { session, mode: Mode::Exclusive, wait, lease: None, durability: level };
                let asked = ask_take(&world, &recorder, name, mine);
                match client.acquire(NAMES[name], ask).await {
                    Ok(grant) => {
                        held[name] = Some(grant.token);
                        world.note(name, asked, &grant);
                        recorder.borrow_mut().told(Told::Answer(Ret::Taken(true)));
                    }
                    Err(error) if goes_on(&error) => recorder.borrow_mut().told(Told::Refused),
                    Err(_) => return recorder.borrow_mut().told(Told::Nothing),
                }
            }
            Some(token) => {
                ask_release(&recorder, name, mine);
                let lock = LockHandle { name: NAMES[name], session, token: Some(token) };
                match client.release(lock, level).await {
                    Ok(_) => recorder.borrow_mut().told(Told::Answer(Ret::Taken(true))),
                    Err(Error::Busy { .. }) => {
                        recorder.borrow_mut().told(Told::Refused);
                        held[name] = Some(token);
                    }
                    Err(_) => return recorder.borrow_mut().told(Told::Nothing),
                }
            }
        }
        pause.sleep(Duration::from_nanos(rng.between(1_000, 300_000))).await;
    }
    for (name, token) in held.iter().enumerate().filter_map(|(name, token)| token.map(|token| (name, token))) {
        let lock = LockHandle { name: NAMES[name], session, token: Some(token) };
        loop {
            ask_release(&recorder, name, mine);
            let told = match client.release(lock, None).await {
                Ok(_) => Told::Answer(Ret::Taken(true)),
                Err(Error::Busy { .. }) => Told::Refused,
                Err(_) => Told::Nothing,
            };
            let again = told == Told::Refused;
            recorder.borrow_mut().told(told);
            if !again {
                break;
            }
            pause.sleep(Duration::from_micros(100)).await;
        }
    }
}

/// Kill a session, again and again if a shard has no room for the question.
async fn kill(client: &Client, pause: &Rc<dyn Executor>, session: SessionId) -> Result<(), Error> {
    loop {
        match client.kill_session(session).await {
            Err(Error::Busy { .. }) => pause.sleep(Duration::from_micros(100)).await,
            other => return other,
        }
    }
}

/// Sessions that are killed while they wait, or as soon as they have the lock.
async fn run_doomed(engine: Engine, pause: Rc<dyn Executor>, world: Rc<World>, life: u64) {
    let mut rng = Rng::stream(world.seed, &format!("the doomed of life {life}"));
    let client = engine.client();
    // Of an earlier life: it may hold the lock.
    if let Some((session, mine, name)) = world.doomed.get() {
        let ending = world.recorder();
        ask_release(&ending, name, mine);
        if kill(&client, &pause, session.id).await.is_err_and(|error| !matches!(error, Error::Lock(_))) {
            return;
        }
    }
    while !world.over.get() {
        let (taking, ending) = (world.recorder(), world.recorder());
        let Some((session, mine)) = world.new_session(&client).await else { return };
        let name = rng.below(NAMES.len() as u64) as usize;
        world.doomed.set(Some((session, mine, name)));
        let wait = Wait::AsLongAsTheSession;
        let level = Some(world.level(&mut rng));
        let asked = ask_take(&world, &taking, name, mine);
        let mut answer = client
            .acquire(NAMES[name], Acquire { session, mode: Mode::Exclusive, wait, lease: None, durability: level });
        let time = Duration::from_nanos(rng.between(1_000, 2_000_000));
        let early = async { Some((&mut answer).await) };
        let early = early.or(async {
            pause.sleep(time).await;
            None
        });
        let early = early.await;
        if let Some(Ok(grant)) = &early {
            world.note(name, asked, grant);
            taking.borrow_mut().told(Told::Answer(Ret::Taken(true)));
        }
        ask_release(&ending, name, mine);
        let killed = kill(&client, &pause, session.id).await;
        let (answer, taken_before) = match early {
            Some(answer) => (answer, true),
            None => (answer.await, false),
        };
        match answer {
            Ok(grant) if !taken_before => {
                world.note(name, asked, &grant);
                taking.borrow_mut().told(Told::Answer(Ret::Taken(true)));
            }
            Ok(_) => {}
            Err(Error::Lock(LockError::NoSession { .. })) => {
                taking.borrow_mut().told(Told::Refused);
                ending.borrow_mut().told(Told::Refused);
                world.dead.set(world.dead.get() + 1);
                continue;
            }
            Err(error) => {
                taking.borrow_mut().told(if goes_on(&error) { Told::Refused } else { Told::Nothing });
                ending.borrow_mut().told(if goes_on(&error) { Told::Refused } else { Told::Nothing });
                if goes_on(&error) {
                    continue;
                }
                return;
            }
        }
        ending.borrow_mut().told(if killed.is_ok() { Told::Answer(Ret::Taken(true)) } else { Told::Nothing });
        if killed.is_err() {
            return;
        }
    }
}

/// One life. The engine is kept by the caller: it must not be closed by its last handle before the crash.
async fn live(sim: Sim, world: Rc<World>, life: u64) -> Result<Engine, String> {
    let mut rng = Rng::stream(world.seed, &format!("life {life}"));
    let engine = open(&sim.host(), *rng.pick(&[1, 2, 3])).await?;
    world.granted.borrow_mut().clear();
    look(&engine.client(), &world).await?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let name = format!("client {n}");
            sim.spawn(&name, run_client(engine.clone(), sim.executor(&name), Rc::clone(&world), n, life))
        })
        .collect();
    let doomed = sim.spawn("doomed", run_doomed(engine.clone(), sim.executor("doomed"), Rc::clone(&world), life));
    let executor = sim.executor("life");
    if life + 1 < LIVES {
        executor.sleep(Duration::from_micros(rng.between(200, 40_000))).await;
        // Killed, or closed while calls are under way.
        if rng.one_in(3) {
            engine.close_async().await.map_err(text)?;
        }
        return Ok(engine);
    }
    for client in clients {
        client.await;
    }
    world.over.set(true);
    doomed.await;
    let numbers = world.numbers.borrow().clone();
    for session in numbers.keys() {
        let _ = engine.client().kill_session(*session).await;
    }
    for name in NAMES {
        if let Some(info) = engine.client().lock_info(name).await.map_err(text)? {
            return Err(format!("all sessions are gone, and at the lock {} there is {info:?}", name.escape_ascii()));
        }
    }
    engine.close_async().await.map_err(text)?;
    Ok(engine)
}

/// Whoever asked first has the smaller token.
fn check_order(world: &World) -> Result<u64, String> {
    let mut count = 0;
    for (name, granted) in &mut *world.granted.borrow_mut() {
        granted.sort_unstable();
        count += granted.len() as u64;
        if let Some(pair) = granted.windows(2).find(|pair| pair[0].1 >= pair[1].1) {
            return Err(format!(
                "lock {name}: asked at {} and {}, and {:?} and {:?}",
                pair[0].0, pair[1].0, pair[0].1, pair[1].1
            ));
        }
    }
    Ok(count)
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    grants: u64,
    dead: u64,
    calls: usize,
    unanswered: usize,
}

fn record(seed: u64) -> Result<(History<Op, Ret>, Counts), String> {
    let world = Rc::new(World::of(seed));
    let sim = Sim::with(seed, SimConfig { step_budget: 5_000_000, ..SimConfig::of_seed(seed) }, Disk::new());
    if seed.is_multiple_of(3) {
        sim.set_faults(Faults::new([FaultRule::new("*", Fault::Slow, When::Chance(20_000))]));
    }
    let first = world.recorder();
    for name in 0..NAMES.len() {
        first.borrow_mut().ask(name as u64, Op::Put(FREE));
        first.borrow_mut().told(Told::Answer(Ret::Done));
    }
    let mut counts = Counts::default();
    for life in 0..LIVES {
        let engine = sim.block_on(live(sim.clone(), Rc::clone(&world), life)).map_err(text)??;
        sim.crash(world.kind);
        drop(engine);
        counts.grants += check_order(&world)?;
    }
    sim.power_off();
    counts.dead = world.dead.get();
    let history = world.recorders.borrow().iter().flat_map(|recorder| recorder.borrow().calls().to_vec()).collect();
    Ok((history, counts))
}

pub fn run(seed: u64) -> Result<Counts, String> {
    let (history, mut counts) = record(seed)?;
    let accepted = linear::check(history).map_err(text)?;
    (counts.calls, counts.unanswered) = (accepted.calls, accepted.unanswered);
    Ok(counts)
}

#[test]
fn takes_and_releases_are_linearizable_and_in_the_order_of_asking() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (counted, failures) = run_seeds(seeds_asked(0..48), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("seed {0}: {1}; run it again with SIM_SEEDS={0}", failure.seed, failure.message);
    }
    let sum = |of: fn(&Counts) -> u64| counted.values().map(of).sum::<u64>();
    let (grants, dead) = (sum(|one| one.grants), sum(|one| one.dead));
    let (calls, unanswered) = (sum(|one| one.calls as u64), sum(|one| one.unanswered as u64));
    println!(
        "{} seeds: {grants} grants, {dead} died in line; {calls} calls, {unanswered} without an answer",
        counted.len()
    );
    assert!(grants > 0 && dead > 0 && unanswered > 0);
}

/// The check must be able to fail on what is recorded here: a take that was refused is said to have been granted, and it does.
#[test]
fn a_recorded_history_with_a_lock_given_twice_is_refused() {
    let (mut history, _) = record(1).unwrap();
    let taken = |op: &Op| matches!(op, Op::PutIf(Condition::Equal(FREE), _));
    let mut takes: Vec<usize> = (0..history.len()).filter(|n| taken(&history[*n].op) && history[*n].key == 0).collect();
    takes.sort_unstable_by_key(|n| history[*n].asked);
    let mut twice = history[takes[takes.len() / 2]].clone();
    twice.client += 1000;
    twice.op = Op::PutIf(Condition::Equal(FREE), i64::MAX - 1);
    history.push(twice);
    assert!(linear::check(history).is_err());
}
