//! Disks that fail, fill up, crawl or rot: what was answered is there at the next opening, what was not is refused in
//! the words that docs/recovery.md promises, and nothing is read that was never written.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::harness::{run_seeds, seeds_asked};
use corering_engine::runtime::sim::{
    CrashKind, Disk, Fault, FaultRow, FaultRule, Faults, Rng, Sim, SimConfig, When, faults,
};
use corering_engine::runtime::{DurableWay, Host};
use corering_engine::{
    Acquire, Durability, Engine, Error, Keyspace, LockHandle, Mode, NewSession, Options, ScanRange, Wait, WriteOptions,
};

const KS: Keyspace = Keyspace::DEFAULT;
const KEYS: u64 = 12;

/// What the world outside knows of one key: the value answered last, and those tried since.
#[derive(Clone, Default, Debug)]
struct Known {
    answered: Option<u64>,
    tried: Vec<Option<u64>>,
}

type Model = Rc<RefCell<BTreeMap<u64, Known>>>;

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn options() -> Options {
    Options { shards: Some(2), segment_bytes: 64 << 10, memtable_bytes: 1 << 20, ..Options::default() }
}

/// Segments that hold many of the values written here.
fn roomy() -> Options {
    Options { segment_bytes: 1 << 20, memtable_bytes: 8 << 20, ..options() }
}

async fn open(host: &Arc<dyn Host>) -> corering_engine::Result<Engine> {
    Engine::open_on(Arc::clone(host), options()).await
}

fn name(key: u64) -> Vec<u8> {
    format!("key:{key:04}").into_bytes()
}

fn value(number: u64, len: usize) -> Vec<u8> {
    let mut value = vec![number as u8; len.max(8)];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

fn number_of(value: &[u8]) -> Result<u64, String> {
    let head = value.get(..8).ok_or("a short value")?;
    let number = u64::from_le_bytes(head.try_into().map_err(text)?);
    if value[8..].iter().all(|b| *b == number as u8) { Ok(number) } else { Err(format!("a mixed value {number}")) }
}

/// Put a number, or delete, and note how it went.
async fn write(engine: &Engine, model: &Model, key: u64, number: Option<u64>, len: usize) -> Result<(), Error> {
    let options = WriteOptions { durability: Some(Durability::Sync), ..WriteOptions::default() };
    model.borrow_mut().entry(key).or_default().tried.push(number);
    let outcome = match number {
        Some(number) => engine.client().put(KS, &name(key), &value(number, len), options).await.map(drop),
        None => engine.client().delete(KS, &name(key), options).await.map(drop),
    };
    let mut model = model.borrow_mut();
    let known = model.entry(key).or_default();
    match &outcome {
        Ok(()) => *known = Known { answered: number, tried: Vec::new() },
        // Nothing was done.
        Err(error) if !error.may_have_committed() => drop(known.tried.pop()),
        Err(_) => {}
    }
    outcome
}

fn read(engine: &Engine, key: u64) -> Result<Option<u64>, String> {
    let value = engine.client().get(KS, &name(key)).map_err(text)?;
    value.map(|value| number_of(&value.bytes)).transpose()
}

/// Each key shows what was answered, or what was tried since and may have committed.
fn verify(engine: &Engine, model: &Model) -> Result<(), String> {
    for (key, known) in &*model.borrow() {
        let found = read(engine, *key)?;
        if found != known.answered && !known.tried.contains(&found) {
            return Err(format!("key {key} has {found:?}; {known:?}"));
        }
    }
    Ok(())
}

/// While the engine runs, a strong read shows exactly what was answered.
fn verify_strictly(engine: &Engine, model: &Model) -> Result<(), String> {
    for (key, known) in &*model.borrow() {
        let found = read(engine, *key)?;
        if found != known.answered {
            return Err(format!("key {key} reads {found:?} while it runs; {known:?}"));
        }
    }
    Ok(())
}

/// Open without faults, compare, close, check every byte.
async fn verify_reopened(host: &Arc<dyn Host>, model: &Model) -> Result<(), String> {
    let engine = open(host).await.map_err(|e| format!("reopening: {e}"))?;
    let outcome = verify(&engine, model);
    let closed = engine.close_async().await.map_err(text);
    outcome.and(closed)?;
    crate::support::check_closed(host).await
}

fn machine(seed: u64, disk: Disk) -> Sim {
    Sim::with(seed, SimConfig { step_budget: 1_000_000, ..SimConfig::of_seed(seed) }, disk)
}

/// Run the scenario of each seed; what it returns is counted.
fn for_seeds(usual: std::ops::Range<u64>, run: fn(u64) -> Result<u64, String>) -> u64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (counts, failures) = run_seeds(seeds_asked(usual), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("seed {}: {}; run it again with SIM_SEEDS={}", failure.seed, failure.message, failure.seed);
    }
    counts.values().sum()
}

async fn fill(engine: &Engine, model: &Model) -> Result<(), String> {
    for key in 0..KEYS {
        write(engine, model, key, Some(key + 1), 200).await.map_err(text)?;
    }
    engine.checkpoint_async().await.map_err(text)?;
    for key in 0..KEYS / 2 {
        write(engine, model, key, Some(key + 100), 200).await.map_err(text)?;
    }
    Ok(())
}

/// A log that fails stops its shard for good.
fn a_broken_log(seed: u64) -> Result<u64, String> {
    let sim = machine(seed, Disk::new());
    let (host, model) = (sim.host(), Model::default());
    let (fault, kind) = [
        (Fault::SyncError, CrashKind::Machine),
        (Fault::SyncError, CrashKind::Process),
        (Fault::WriteError, CrashKind::Machine),
        (Fault::ShortWrite, CrashKind::Process),
    ][(seed % 4) as usize];
    let ran = sim.block_on({
        let (sim, host, model) = (sim.clone(), Arc::clone(&host), Rc::clone(&model));
        async move {
            let engine = open(&host).await.map_err(text)?;
            let outcome = async {
                fill(&engine, &model).await?;
                // One failure only: the disk works again behind it, and must not be believed.
                sim.set_faults(Faults::new([FaultRule::new("*.seg", fault, When::Nth(seed % 3))]));
                let mut stopped = BTreeMap::new();
                for n in 0..40 {
                    let key = n % KEYS;
                    let shard = engine.client().shard_of(&name(key)).0;
                    match write(&engine, &model, key, Some(1_000 + n), 500).await {
                        Ok(()) if stopped.contains_key(&shard) => {
                            return Err(format!("shard {shard} acknowledged write {n} after it had stopped"));
                        }
                        Ok(()) => {}
                        Err(error @ Error::Poisoned(_)) if error.may_have_committed() => {
                            let first = stopped.entry(shard).or_insert_with(|| error.to_string());
                            if *first != error.to_string() {
                                return Err(format!("the first cause was {first}, now it is {error}"));
                            }
                        }
                        Err(error) => return Err(format!("write {n}: {error}")),
                    }
                    verify_strictly(&engine, &model)?;
                }
                Ok(stopped.len() as u64)
            };
            let outcome = outcome.await;
            let closed = engine.close_async().await;
            let stopped = outcome?;
            match closed {
                Err(Error::Poisoned(_)) if stopped > 0 => Ok(stopped),
                Ok(()) if stopped == 0 => Ok(stopped),
                other => Err(format!("{stopped} shards stopped, and the close said {other:?}")),
            }
        }
    });
    let stopped = ran.map_err(text)??;
    sim.set_faults(Faults::default());
    sim.crash(kind);
    sim.block_on(verify_reopened(&sim.host(), &model)).map_err(text)??;
    sim.power_off();
    Ok(stopped)
}

#[test]
fn a_failed_write_or_sync_of_the_log_stops_its_shard_and_loses_nothing_answered() {
    let stopped = for_seeds(0..16, a_broken_log);
    assert!(stopped > 0, "no fault struck the log");
}

/// A write through the ring that moves too few bytes says so only in its count.
fn a_short_write(seed: u64) -> Result<u64, String> {
    let config = SimConfig { durable_way: Some(DurableWay::Ring), ..SimConfig::of_seed(seed) };
    let sim = Sim::with(seed, config, Disk::new());
    let model = Model::default();
    let ran = sim.block_on({
        let (sim, host, model) = (sim.clone(), sim.host(), Rc::clone(&model));
        async move {
            let engine = open(&host).await.map_err(text)?;
            fill(&engine, &model).await?;
            sim.set_faults(Faults::new([FaultRule::new("*.seg", Fault::ShortWrite, When::Nth(0))]));
            let outcome = write(&engine, &model, 0, Some(7), 3_000).await;
            std::mem::forget(engine);
            match outcome {
                Err(Error::Poisoned(_)) => Ok(1),
                other => Err(format!("a short write was answered with {other:?}")),
            }
        }
    });
    let noticed = ran.map_err(text)??;
    sim.crash(CrashKind::Machine);
    sim.set_faults(Faults::default());
    sim.block_on(verify_reopened(&sim.host(), &model)).map_err(text)??;
    sim.power_off();
    Ok(noticed)
}

#[test]
fn a_short_write_through_the_ring_stops_the_shard() {
    for_seeds(0..8, a_short_write);
}

/// An opening that a failed sync refused leaves what reads well and may never become durable; the next one must not believe it.
fn an_opening_tried_again(seed: u64) -> Result<u64, String> {
    let sim = machine(seed, Disk::new());
    let model = Model::default();
    let files = ["*.seg", "superblock", "*/manifest", "*"][(seed % 4) as usize];
    // Half of them while the database is created, the others after a kill.
    if seed.is_multiple_of(2) {
        let (host, model) = (sim.host(), Rc::clone(&model));
        let filled = sim.block_on(async move {
            let engine = open(&host).await.map_err(text)?;
            let filled = fill(&engine, &model).await;
            std::mem::forget(engine);
            filled
        });
        filled.map_err(text)??;
        sim.crash(CrashKind::Process);
    }
    sim.set_faults(Faults::new([FaultRule::new(files, Fault::SyncError, When::Nth(seed / 8 % 7))]));
    let ran = sim.block_on({
        let (sim, host, model) = (sim.clone(), sim.host(), Rc::clone(&model));
        async move {
            let first = open(&host).await;
            sim.set_faults(Faults::default());
            let (engine, refused) = match first {
                Ok(engine) => (engine, 0),
                Err(Error::Io { op: "sync" | "write" | "clear", .. }) => (open(&host).await.map_err(text)?, 1),
                Err(error) => return Err(format!("the opening was refused with {error}")),
            };
            let mut written = Ok(());
            for key in 0..KEYS {
                match write(&engine, &model, key, Some(key + 500), 2_000).await {
                    Ok(()) | Err(Error::Poisoned(_)) => {}
                    Err(error) => written = Err(error.to_string()),
                }
            }
            std::mem::forget(engine);
            written.map(|()| refused)
        }
    });
    let refused = ran.map_err(text)??;
    sim.crash(CrashKind::Machine);
    sim.block_on(verify_reopened(&sim.host(), &model)).map_err(text)??;
    sim.power_off();
    Ok(refused)
}

#[test]
fn an_opening_does_not_believe_what_a_failed_sync_left() {
    assert!(for_seeds(0..112, an_opening_tried_again) > 10, "hardly any opening was refused");
}

/// A shard that stops while its memory is full refuses at once what waits for room there, and all that comes.
fn stopped_when_full(seed: u64) -> Result<u64, String> {
    let sim = machine(seed, Disk::new());
    sim.set_faults(Faults::new([FaultRule::new("*/manifest", Fault::SyncError, When::Nth(5))]));
    let host = sim.host();
    let ran = sim.block_on(async move {
        let options = Options { shards: Some(1), memtable_bytes: 64 << 10, inbox_len: 4, ..options() };
        let engine = Engine::open_on(host, options).await.map_err(text)?;
        let client = engine.client();
        let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
        let mut refused = 0;
        for n in 0..400u64 {
            match client.put(KS, &name(n), &value(n, 3_000), options).await {
                Ok(_) | Err(Error::Busy { .. }) => {}
                Err(Error::Poisoned(_)) => refused += 1,
                Err(error) => return Err(format!("write {n}: {error}")),
            }
        }
        std::mem::forget(engine);
        Ok(refused)
    });
    let refused = ran.map_err(text)??;
    sim.power_off();
    Ok(refused)
}

#[test]
fn a_shard_that_stopped_keeps_nobody_waiting_for_room() {
    assert!(for_seeds(0..16, stopped_when_full) > 100, "no shard stopped");
}

fn bytes_used(sim: &Sim) -> u64 {
    sim.disk(|disk| disk.files().iter().map(|(_, len)| len).sum())
}

/// A full disk refuses puts and nothing else; with room, work goes on.
fn a_full_disk(seed: u64) -> Result<u64, String> {
    let sim = machine(seed, Disk::new());
    let (host, model) = (sim.host(), Model::default());
    let executor = sim.executor("timer");
    let stay_full = seed.is_multiple_of(2);
    let ran = sim.block_on({
        let (sim, model) = (sim.clone(), Rc::clone(&model));
        async move {
            // Half of the smallest segment holds seven deletes that are synced one by one.
            let (options, deletes) = if seed.is_multiple_of(3) { (options(), KEYS / 2) } else { (roomy(), KEYS) };
            let engine = Engine::open_on(host, options).await.map_err(text)?;
            let outcome = async {
                fill(&engine, &model).await?;
                sim.set_capacity(Some(bytes_used(&sim)));
                let mut refused = 0;
                for n in 0..200 {
                    match write(&engine, &model, n % KEYS, Some(1_000 + n), 30_000).await {
                        Ok(()) => {}
                        Err(error @ Error::NoSpace { .. }) if error.is_retryable() => refused += 1,
                        Err(error) => return Err(format!("write {n}: {error}")),
                    }
                }
                if refused == 0 {
                    return Err("the disk never became full".into());
                }
                verify_strictly(&engine, &model)?;
                for key in 0..deletes {
                    write(&engine, &model, key, None, 0).await.map_err(|e| format!("deleting: {e}"))?;
                }
                verify_strictly(&engine, &model)?;
                if !stay_full {
                    sim.set_capacity(None);
                    executor.sleep(Duration::from_secs(5)).await;
                    for key in 0..KEYS {
                        write(&engine, &model, key, Some(5_000 + key), 3_000)
                            .await
                            .map_err(|e| format!("after room was made: {e}"))?;
                    }
                    engine.checkpoint_async().await.map_err(text)?;
                }
                verify_strictly(&engine, &model)?;
                Ok(refused)
            };
            let outcome = outcome.await;
            let closed = engine.close_async().await.map_err(|e| format!("closing: {e}"));
            outcome.and_then(|refused| closed.map(|()| refused))
        }
    });
    let refused = ran.map_err(text)??;
    sim.set_capacity(None);
    sim.crash(CrashKind::Machine);
    sim.block_on(verify_reopened(&sim.host(), &model)).map_err(text)??;
    sim.power_off();
    Ok(refused)
}

#[test]
fn a_full_disk_refuses_puts_lets_deletes_pass_and_goes_on_when_there_is_room() {
    assert!(for_seeds(0..12, a_full_disk) > 0);
}

/// Locks are held when the disk becomes full: they can be let go of, one by one and with their session, and stay so.
fn unlocks_on_a_full_disk(seed: u64) -> Result<u64, String> {
    const LOCKS: usize = 8;
    let sim = machine(seed, Disk::new());
    let (host, model) = (sim.host(), Model::default());
    let names: Vec<Vec<u8>> = (0..LOCKS).map(|n| format!("lock:{n}").into_bytes()).collect();
    let ran = sim.block_on({
        let (sim, model, names) = (sim.clone(), Rc::clone(&model), names.clone());
        async move {
            let engine = Engine::open_on(host, roomy()).await.map_err(text)?;
            let client = engine.client();
            fill(&engine, &model).await?;
            let new = || NewSession { ttl: Duration::from_secs(3600), label: Vec::new() };
            let [one, other] = [client.create_session(new()).await, client.create_session(new()).await];
            let (one, other) = (one.map_err(text)?, other.map_err(text)?);
            let ask = |session| Acquire {
                session,
                mode: Mode::Exclusive,
                wait: Wait::No,
                lease: None,
                durability: Some(Durability::Sync),
            };
            for (n, name) in names.iter().enumerate() {
                client.acquire(name, ask(if n % 2 == 0 { one } else { other })).await.map_err(text)?;
            }
            sim.set_capacity(Some(bytes_used(&sim)));
            let mut refused = 0;
            for n in 0..200 {
                match write(&engine, &model, n % KEYS, Some(1_000 + n), 30_000).await {
                    Ok(()) => {}
                    Err(Error::NoSpace { .. }) => refused += 1,
                    Err(error) => return Err(format!("write {n}: {error}")),
                }
            }
            for name in names.iter().step_by(2) {
                let lock = LockHandle { name, session: one, token: None };
                let let_go = client.release(lock, Some(Durability::Sync)).await;
                let_go.map_err(|e| format!("a release on a full disk: {e}"))?;
            }
            client.end_session(other).await.map_err(|e| format!("a session's end on a full disk: {e}"))?;
            for name in &names {
                if client.lock_info(name).await.map_err(text)?.is_some_and(|info| !info.holds.is_empty()) {
                    return Err("a lock is still held".into());
                }
            }
            if let Ok(grant) = client.acquire(&names[0], ask(one)).await {
                return Err(format!("a lock was granted without room for it: {grant:?}"));
            }
            std::mem::forget(engine);
            Ok(refused)
        }
    });
    let refused = ran.map_err(text)??;
    sim.crash(CrashKind::Machine);
    let checked = sim.block_on({
        let (sim, host) = (sim.clone(), sim.host());
        async move {
            // Still full.
            let engine = Engine::open_on(Arc::clone(&host), roomy()).await.map_err(|e| format!("opening: {e}"))?;
            for name in &names {
                if engine.client().lock_info(name).await.map_err(text)?.is_some_and(|info| !info.holds.is_empty()) {
                    return Err("a lock that was let go of is held after a crash".to_owned());
                }
            }
            sim.set_capacity(None);
            engine.close_async().await.map_err(text)
        }
    });
    checked.map_err(text)??;
    sim.block_on(verify_reopened(&sim.host(), &model)).map_err(text)??;
    sim.power_off();
    Ok(refused)
}

#[test]
fn a_full_disk_lets_locks_go() {
    assert!(for_seeds(0..8, unlocks_on_a_full_disk) > 0);
}

/// What the background needs and cannot have: puts are refused with the reason, and nothing else waits.
fn a_blocked_background(seed: u64) -> Result<u64, String> {
    let sim = machine(seed, Disk::new());
    let (host, model) = (sim.host(), Model::default());
    let executor = sim.executor("timer");
    let (files, fault) = [
        ("*.table", Fault::NoSpace),
        ("*.table", Fault::WriteError),
        ("*.table", Fault::NameError),
        ("*.seg", Fault::NameError),
    ][(seed % 4) as usize];
    let ran = sim.block_on({
        let (sim, model) = (sim.clone(), Rc::clone(&model));
        async move {
            let small = Options { memtable_bytes: 64 << 10, segment_bytes: 256 << 10, ..options() };
            let engine = Engine::open_on(host, small).await.map_err(text)?;
            let outcome = async {
                fill(&engine, &model).await?;
                sim.set_faults(Faults::new([FaultRule::new(files, fault, When::From(0))]));
                let mut refused = 0;
                for n in 0..400 {
                    match write(&engine, &model, n % KEYS, Some(1_000 + n), 5_000).await {
                        Ok(()) => {}
                        Err(error @ Error::NoSpace { .. }) if fault == Fault::NoSpace && error.is_retryable() => {
                            refused += 1;
                        }
                        Err(error @ Error::Io { .. }) if fault != Fault::NoSpace && !error.may_have_committed() => {
                            refused += 1;
                        }
                        Err(error) => return Err(format!("write {n}: {error}")),
                    }
                }
                if refused == 0 {
                    return Err("nothing was refused".into());
                }
                verify_strictly(&engine, &model)?;
                for key in 0..KEYS {
                    write(&engine, &model, key, None, 0).await.map_err(|e| format!("deleting: {e}"))?;
                }
                verify_strictly(&engine, &model)?;
                sim.set_faults(Faults::default());
                executor.sleep(Duration::from_secs(5)).await;
                for key in 0..KEYS {
                    let put = write(&engine, &model, key, Some(5_000 + key), 3_000).await;
                    put.map_err(|e| format!("after it was mended: {e}"))?;
                }
                engine.checkpoint_async().await.map_err(text)?;
                verify_strictly(&engine, &model)?;
                Ok(refused)
            };
            let outcome = outcome.await;
            let closed = engine.close_async().await.map_err(|e| format!("closing: {e}"));
            outcome.and_then(|refused| closed.map(|()| refused))
        }
    });
    let refused = ran.map_err(|stop| format!("{files} {fault:?}: {stop}"))??;
    sim.crash(CrashKind::Machine);
    sim.block_on(verify_reopened(&sim.host(), &model)).map_err(text)??;
    sim.power_off();
    Ok(refused)
}

#[test]
fn where_tables_or_segments_cannot_be_made_puts_are_refused_and_deletes_and_reads_pass() {
    assert!(for_seeds(0..16, a_blocked_background) > 0);
}

/// A value larger than the spare segment, on a full disk, is refused and keeps nobody else waiting.
#[test]
fn a_value_that_no_segment_can_hold_is_refused_on_a_full_disk() {
    let sim = machine(5, Disk::new());
    let (host, model) = (sim.host(), Model::default());
    sim.block_on({
        let (sim, model) = (sim.clone(), Rc::clone(&model));
        async move {
            let engine = open(&host).await.unwrap();
            fill(&engine, &model).await.unwrap();
            sim.set_capacity(Some(bytes_used(&sim)));
            let refused = write(&engine, &model, 1, Some(9), 200_000).await;
            assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
            write(&engine, &model, 1, None, 0).await.unwrap();
            write(&engine, &model, 2, Some(10), 100).await.unwrap();
            verify_strictly(&engine, &model).unwrap();
            engine.close_async().await.unwrap();
        }
    })
    .unwrap();
    sim.power_off();
}

/// What cannot be read keeps the database closed, with the file's name, and nothing is lost by that.
fn an_unreadable_file(seed: u64) -> Result<u64, String> {
    let sim = machine(seed, Disk::new());
    let model = Model::default();
    let files = ["*.table", "*.seg", "superblock", "*/manifest", "*/stage"][(seed % 5) as usize];
    sim.block_on({
        let (host, model) = (sim.host(), Rc::clone(&model));
        async move {
            let engine = open(&host).await.map_err(text)?;
            let filled = fill(&engine, &model).await;
            // Killed, so that the log is needed too.
            std::mem::forget(engine);
            filled
        }
    })
    .map_err(text)??;
    sim.crash(CrashKind::Process);
    sim.set_faults(Faults::new([FaultRule::new(files, Fault::ReadError, When::From(0))]));
    let opened = sim.block_on(async { open(&sim.host()).await.map(std::mem::forget) }).map_err(text)?;
    let part = files.trim_start_matches('*');
    match opened {
        Err(error @ Error::Io { .. }) if error.to_string().contains(part) => {}
        other => return Err(format!("{files} cannot be read, and the opening said {other:?}")),
    }
    sim.set_faults(Faults::default());
    sim.block_on(verify_reopened(&sim.host(), &model)).map_err(text)??;
    sim.power_off();
    Ok(1)
}

#[test]
fn a_file_that_cannot_be_read_keeps_the_database_closed_by_its_name() {
    for_seeds(0..10, an_unreadable_file);
}

const fn row(kind: &'static str, files: &'static str, fault: Fault, why_we_survive: &'static str) -> FaultRow {
    FaultRow { kind, files, fault, chance: 30_000, why_we_survive }
}

const ROWS: [FaultRow; 12] = [
    row("log segment", "*.seg", Fault::WriteError, "the shard stops; nobody who waits is answered"),
    row("log segment", "*.seg", Fault::SyncError, "the same; the sync is not tried again"),
    row("log segment", "*.seg", Fault::Slow, "nobody is answered earlier"),
    row("log directory", "*/wal", Fault::SyncDirError, "the new segment is removed and made again"),
    row(
        "log segment",
        "*.seg",
        Fault::NameError,
        "a spare is made later, a trimmed segment removed at the next opening",
    ),
    row("table", "*.table", Fault::WriteError, "the checkpoint is tried again; the log still has all"),
    row("table", "*.table", Fault::SyncError, "the same, in another file"),
    row("table", "*.table", Fault::NameError, "the same"),
    row("table", "*.table", Fault::ReadError, "the same: it was not named yet"),
    row("table directory", "*/tables", Fault::SyncDirError, "the same: no manifest names them"),
    row("manifest", "*/manifest", Fault::WriteError, "the other copy stands; the checkpoint is tried again"),
    row("manifest", "*/manifest", Fault::SyncError, "the shard stops"),
];

/// A mix of faults of the seed's choice while it works; then a crash, and no faults any more.
fn a_mix(seed: u64) -> Result<u64, String> {
    let sim = machine(seed, Disk::new());
    let model = Model::default();
    let ran = sim.block_on({
        let (sim, host, model) = (sim.clone(), sim.host(), Rc::clone(&model));
        async move {
            let mut rng = Rng::stream(seed, "mix");
            let engine = open(&host).await.map_err(text)?;
            let outcome = async {
                fill(&engine, &model).await?;
                sim.set_faults(faults::draw(&ROWS, &mut rng));
                let mut failed = 0;
                for n in 0..60 {
                    let number = (!rng.one_in(5)).then_some(1_000 + n);
                    let outcome = write(&engine, &model, rng.below(KEYS), number, *rng.pick(&[20, 900, 5_000])).await;
                    match outcome {
                        Ok(()) => {}
                        Err(Error::Poisoned(_) | Error::Busy { .. }) => failed += 1,
                        // Segments or tables could not be made for long; nothing was done.
                        Err(error @ Error::Io { .. }) if !error.may_have_committed() => failed += 1,
                        Err(error) => return Err(format!("write {n}: {error}")),
                    }
                    verify_strictly(&engine, &model)?;
                    if n % 20 == 10 {
                        // It may fail; the next one is tried all the same.
                        failed += u64::from(engine.checkpoint_async().await.is_err());
                    }
                }
                Ok(failed)
            };
            let outcome = outcome.await;
            if rng.coin() {
                let _ = engine.close_async().await;
            } else {
                std::mem::forget(engine);
            }
            outcome
        }
    });
    let failed = ran.map_err(text)??;
    sim.set_faults(Faults::default());
    sim.crash(if seed.is_multiple_of(2) { CrashKind::Machine } else { CrashKind::Process });
    sim.block_on(verify_reopened(&sim.host(), &model)).map_err(text)??;
    sim.power_off();
    Ok(failed)
}

#[test]
fn whatever_fails_nothing_answered_is_lost() {
    assert!(for_seeds(0..40, a_mix) > 0, "no fault struck");
}

/// Two shards with tables, closed in order.
fn closed_database() -> (Disk, BTreeMap<Vec<u8>, u64>) {
    let sim = machine(3, Disk::new());
    let model = Model::default();
    sim.block_on({
        let (host, model) = (sim.host(), Rc::clone(&model));
        async move {
            let engine = open(&host).await.unwrap();
            fill(&engine, &model).await.unwrap();
            engine.close_async().await.unwrap();
        }
    })
    .unwrap();
    let disk = sim.disk(|disk| disk.clone());
    sim.power_off();
    let right = model.borrow().iter().map(|(key, known)| (name(*key), known.answered.unwrap())).collect();
    (disk, right)
}

/// Everything in it, by scan and by key.
async fn read_all(host: Arc<dyn Host>, keys: Vec<Vec<u8>>) -> Result<BTreeMap<Vec<u8>, u64>, Error> {
    let engine = open(&host).await?;
    let reading = async {
        let client = engine.client();
        let snapshot = client.snapshot_async().await?;
        let mut found = BTreeMap::new();
        for entry in client.scan_async(&snapshot, ScanRange::all(KS)).await? {
            let entry = entry?;
            found.insert(entry.key, number_of(&entry.value.bytes).unwrap());
        }
        for key in keys {
            let value = client.get(KS, &key)?.map(|value| number_of(&value.bytes).unwrap());
            assert_eq!(value, found.get(&key).copied(), "a scan and a read by key differ");
        }
        Ok(found)
    };
    let read = reading.await;
    let closed = engine.close_async().await;
    read.and_then(|found| closed.map(|()| found))
}

#[test]
fn a_flipped_bit_gives_the_right_answer_or_an_error_that_names_the_file() {
    let (disk, right) = closed_database();
    let files = disk.files();
    let mut refused = 0;
    for seed in seeds_asked(0..240) {
        let mut rng = Rng::stream(seed, "rot");
        let (path, _) = rng.pick(&files).clone();
        let bytes = disk.read(&path).unwrap();
        // Where something was written, or close to it: most of a root record's room is zeros.
        let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let near = if written.is_empty() { 0 } else { *rng.pick(&written) as u64 };
        let byte = (near + rng.below(64)).min(bytes.len() as u64 - 1);
        let mut rotten = disk.clone();
        rotten.flip_bit(&path, byte, rng.below(8) as u8).unwrap();
        let sim = machine(seed, rotten);
        let read = sim.block_on(read_all(sim.host(), right.keys().cloned().collect())).unwrap();
        match read {
            Ok(found) => assert_eq!(found, right, "byte {byte} of {path}, seed {seed}"),
            Err(error @ (Error::Corrupt { .. } | Error::Incompatible { .. })) => {
                let said = error.to_string();
                let of_the_log = path.contains("/wal/") && said.contains("/wal");
                assert!(said.contains(&path) || of_the_log, "byte {byte} of {path}, seed {seed}: {said}");
                refused += 1;
            }
            Err(error) => panic!("byte {byte} of {path}, seed {seed}: {error}"),
        }
        sim.power_off();
    }
    println!("{refused} refused");
    assert!(refused > 0 || seeds_asked(0..240).count() < 100, "no flip was noticed");
}
