//! Disks that lose a write of a table, or put it elsewhere, and say that it was done: the table is read back before anything rests on
//! it, and made again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use corering_engine::runtime::Host;
use corering_engine::runtime::sim::{CrashKind, Disk, Fault, FaultRule, Faults, Sim, SimConfig, When};
use corering_engine::{Durability, Engine, Error, Keyspace, Options, WriteOptions};

const KS: Keyspace = Keyspace::DEFAULT;
const VALUE_LEN: usize = 40_000;
/// So that a shard's table takes several writes.
const KEYS: u64 = 90;

type Model = Rc<RefCell<BTreeMap<u64, u8>>>;

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn options(shards: u16) -> Options {
    Options { shards: Some(shards), segment_bytes: 8 << 20, memtable_bytes: 16 << 20, ..Options::default() }
}

async fn put_all(engine: &Engine, model: &Model, fill: u8) -> Result<(), String> {
    // The checkpoint, or the close, makes them durable.
    let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
    for key in 0..KEYS {
        let value = vec![fill; VALUE_LEN];
        engine.client().put(KS, &key.to_be_bytes(), &value, options).await.map_err(text)?;
        model.borrow_mut().insert(key, fill);
    }
    Ok(())
}

fn verify(engine: &Engine, model: &Model) -> Result<(), String> {
    for (key, fill) in &*model.borrow() {
        let found = engine.client().get(KS, &key.to_be_bytes()).map_err(text)?;
        let is_right = found.is_some_and(|v| v.bytes.len() == VALUE_LEN && v.bytes.iter().all(|byte| byte == fill));
        if !is_right {
            return Err(format!("key {key} is not {fill}"));
        }
    }
    Ok(())
}

async fn verify_reopened(host: Arc<dyn Host>, shards: u16, model: Model) -> Result<(), String> {
    let engine = Engine::open_on(Arc::clone(&host), options(shards)).await.map_err(text)?;
    let outcome = verify(&engine, &model);
    engine.close_async().await.map_err(text)?;
    outcome?;
    crate::support::check_closed(&host).await
}

fn is_of_a_table(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. }) && error.to_string().contains(".table")
}

/// Whether the machine has told a lie.
fn has_lied(sim: &Sim) -> bool {
    !sim.lies(0).is_empty()
}

/// The `nth` write of a table is lost or goes astray while a checkpoint writes, or a merge.
fn in_the_background(nth: u64, fault: Fault) -> Result<bool, String> {
    let sim = Sim::with(nth, SimConfig { step_budget: 4_000_000, ..SimConfig::of_seed(nth) }, Disk::new());
    let (host, model) = (sim.host(), Model::default());
    let ran = sim.block_on({
        let (sim, model) = (sim.clone(), Rc::clone(&model));
        async move {
            let engine = Engine::open_on(host, options(2)).await.map_err(text)?;
            sim.set_faults(Faults::new([FaultRule::new("*.table", fault, When::Nth(nth))]));
            for fill in 1..=5 {
                put_all(&engine, &model, fill).await?;
                // It is told of what was found, and made again.
                match engine.checkpoint_async().await {
                    Ok(()) => {}
                    Err(error) if is_of_a_table(&error) => {
                        engine.checkpoint_async().await.map_err(|e| format!("made again: {e}"))?;
                    }
                    Err(error) => return Err(error.to_string()),
                }
            }
            verify(&engine, &model)?;
            Ok(engine)
        }
    });
    // It is killed: the log was trimmed behind what the tables hold.
    drop(ran.map_err(text)??);
    let lied = has_lied(&sim);
    sim.crash(CrashKind::Machine);
    sim.set_faults(Faults::default());
    sim.block_on(verify_reopened(sim.host(), 2, model)).map_err(text)??;
    sim.power_off();
    Ok(lied)
}

/// The same while an opening copies what moves to another shard: it is refused, and can be tried again.
fn in_an_opening(nth: u64, fault: Fault) -> Result<bool, String> {
    let sim = Sim::with(nth, SimConfig { step_budget: 4_000_000, ..SimConfig::of_seed(nth) }, Disk::new());
    let (host, model) = (sim.host(), Model::default());
    let ran = sim.block_on({
        let (sim, model) = (sim.clone(), Rc::clone(&model));
        async move {
            let engine = Engine::open_on(Arc::clone(&host), options(1)).await.map_err(text)?;
            put_all(&engine, &model, 1).await?;
            engine.close_async().await.map_err(text)?;
            drop(engine);
            sim.set_faults(Faults::new([FaultRule::new("*.table", fault, When::Nth(nth))]));
            match Engine::open_on(Arc::clone(&host), options(2)).await {
                Ok(engine) => engine.close_async().await.map_err(text),
                Err(error) if is_of_a_table(&error) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        }
    });
    ran.map_err(text)??;
    let lied = has_lied(&sim);
    sim.crash(CrashKind::Machine);
    sim.set_faults(Faults::default());
    sim.block_on(verify_reopened(sim.host(), 2, model)).map_err(text)??;
    sim.power_off();
    Ok(lied)
}

fn each_write(of: &str, run: fn(u64, Fault) -> Result<bool, String>) {
    for fault in [Fault::LostWrite, Fault::MisdirectedWrite] {
        let mut strikes = 0;
        for nth in 0.. {
            let struck = run(nth, fault).unwrap_or_else(|why| panic!("{of}, write {nth}, {fault:?}: {why}"));
            if !struck {
                break;
            }
            strikes += 1;
        }
        println!("{of}: {strikes} writes, each {fault:?}");
        assert!(strikes >= 2, "{of}: {strikes} writes");
    }
}

#[test]
fn a_table_of_which_any_write_is_lost_or_goes_astray_is_made_again() {
    each_write("checkpoints and merges", in_the_background);
}

#[test]
fn an_opening_that_moves_keys_into_such_a_table_is_refused_and_can_be_tried_again() {
    each_write("moves", in_an_opening);
}
