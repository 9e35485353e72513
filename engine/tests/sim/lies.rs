//! Disks that lose a write of a table, or put it elsewhere, and say that it was done: the table is read back before anything rests on
//! it, and made again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
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

type Course = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// Take a course on a machine that begins to lie as soon as the course says so, lose the power, and look what is left. Says whether
/// there was a lie.
fn on_a_liar(nth: u64, fault: Fault, course: fn(Liar) -> Course) -> Result<bool, String> {
    let sim = Sim::with(nth, SimConfig { step_budget: 4_000_000, ..SimConfig::of_seed(nth) }, Disk::new());
    let model = Model::default();
    let lie = FaultRule::new("*.table", fault, When::Nth(nth));
    sim.block_on(course(Liar { sim: sim.clone(), model: Rc::clone(&model), lie })).map_err(text)??;
    let lied = !sim.lies(0).is_empty();
    // The log was trimmed behind what the tables hold.
    sim.crash(CrashKind::Machine);
    sim.set_faults(Faults::default());
    sim.block_on(verify_reopened(sim.host(), 2, model)).map_err(text)??;
    sim.power_off();
    Ok(lied)
}

struct Liar {
    sim: Sim,
    model: Model,
    lie: FaultRule,
}

impl Liar {
    fn begin(&self) {
        self.sim.set_faults(Faults::new([self.lie.clone()]));
    }
}

/// The write is one of a checkpoint's, or of a merge's, and the engine is killed at the end.
async fn checkpoints_and_merges(liar: Liar) -> Result<(), String> {
    let engine = Engine::open_on(liar.sim.host(), options(2)).await.map_err(text)?;
    liar.begin();
    for fill in 1..=5 {
        put_all(&engine, &liar.model, fill).await?;
        // It is told of what was found, and made again.
        match engine.checkpoint_async().await {
            Ok(()) => {}
            Err(error) if is_of_a_table(&error) => {
                engine.checkpoint_async().await.map_err(|e| format!("made again: {e}"))?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    verify(&engine, &liar.model)
}

/// The write is one of an opening that copies what moves to another shard: it is refused, and can be tried again.
async fn a_move(liar: Liar) -> Result<(), String> {
    let engine = Engine::open_on(liar.sim.host(), options(1)).await.map_err(text)?;
    put_all(&engine, &liar.model, 1).await?;
    engine.close_async().await.map_err(text)?;
    drop(engine);
    liar.begin();
    match Engine::open_on(liar.sim.host(), options(2)).await {
        Ok(engine) => engine.close_async().await.map_err(text),
        Err(error) if is_of_a_table(&error) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Each of at least so many writes of tables, one after another, is lost or goes astray.
fn each_write(at_least: u64, course: fn(Liar) -> Course) {
    for fault in [Fault::LostWrite, Fault::MisdirectedWrite] {
        let struck = |nth| on_a_liar(nth, fault, course).unwrap_or_else(|why| panic!("write {nth}, {fault:?}: {why}"));
        let writes = (0..).find(|nth| !struck(*nth)).expect("a course ends");
        println!("{writes} writes, each {fault:?}");
        assert!(writes >= at_least, "{writes} writes");
    }
}

#[test]
fn a_table_of_which_any_write_is_lost_or_goes_astray_is_made_again() {
    each_write(10, |liar| Box::pin(checkpoints_and_merges(liar)));
}

#[test]
fn an_opening_that_moves_keys_into_such_a_table_is_refused_and_can_be_tried_again() {
    each_write(2, |liar| Box::pin(a_move(liar)));
}
