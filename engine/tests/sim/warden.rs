//! What looks after sessions goes on while shards have no time for it.

use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::{Fault, FaultRule, Sim, When};
use corering_engine::{
    Acquire, Durability, Engine, Error, Keyspace, LockError, Mode, NewSession, Options, Wait, WriteOptions,
};

const LIVES: Duration = Duration::from_millis(300);
/// Around the first look at the waits.
const CROWDED_MS: std::ops::Range<u64> = 195..215;

/// One session holds a lock and is not kept alive; another waits for it, while a writer fills the inboxes around the first look at the waits.
async fn wait_for_the_dead(sim: Sim) -> Result<bool, corering_engine::Error> {
    let (segment_bytes, memtable_bytes) = (64 << 10, 64 << 10);
    let options = Options { shards: Some(2), inbox_len: 2, segment_bytes, memtable_bytes, ..Options::default() };
    let engine = Engine::open_on(Arc::clone(&sim.host()), options).await?;
    let client = engine.client();
    let dead = client.create_session(NewSession { ttl: LIVES, label: Vec::new() }).await?;
    let session = client.create_session(NewSession { ttl: 20 * LIVES, label: Vec::new() }).await?;
    let ask = |session, wait| Acquire { session, mode: Mode::Exclusive, wait, lease: None, durability: None };
    client.acquire(b"lock", ask(dead, Wait::No)).await?;
    let (executor, clock, writer) = (sim.executor("writer"), sim.host().clock(), engine.client());
    let crowd = sim.spawn("writer", async move {
        executor.sleep(Duration::from_millis(CROWDED_MS.start)).await;
        let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
        let mut refused = 0;
        while clock.monotonic_ms() < CROWDED_MS.end {
            let put = |n: u32| writer.put(Keyspace::DEFAULT, &n.to_be_bytes(), &[7; 3_000], options);
            // Nobody waits in between, so that the logs have no time to take them.
            let puts: Vec<_> = (0..60).map(put).collect();
            executor.sleep(Duration::from_micros(500)).await;
            for put in puts {
                refused += u64::from(put.await.is_err());
            }
        }
        refused
    });
    let granted = client.acquire(b"lock", ask(session, Wait::Ms(2 * LIVES.as_millis() as u64))).await;
    let refused = crowd.await;
    engine.close_async().await?;
    granted.map(|_| refused > 0)
}

#[test]
fn a_session_runs_out_though_a_look_at_the_waits_was_refused() {
    let mut crowded = 0;
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let outcome = sim.block_on(wait_for_the_dead(sim.clone()));
        sim.power_off();
        match outcome {
            Ok(Ok(refused)) => crowded += u64::from(refused),
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(crowded > 0, "no inbox was ever full");
}

/// A shard stops, maybe that of the session, which then cannot be erased: its waits at the other shard end with it all the same. Says how many
/// of them did.
async fn wait_beside_a_stopped_shard(sim: Sim, stopped: u16) -> Result<usize, Error> {
    let options = Options { shards: Some(2), ..Options::default() };
    let engine = Engine::open_on(Arc::clone(&sim.host()), options).await?;
    let client = engine.client();
    let session = |ttl| client.create_session(NewSession { ttl, label: Vec::new() });
    let (holder, waiter) = (session(1000 * LIVES).await?, session(LIVES).await?);
    let ask = |session, wait| Acquire { session, mode: Mode::Exclusive, wait, lease: None, durability: None };
    let names: Vec<Vec<u8>> = (0..16).map(|n| format!("lock {n}").into_bytes()).collect();
    for name in &names {
        client.acquire(name, ask(holder, Wait::No)).await?;
    }
    let waits: Vec<_> = names.iter().map(|name| client.acquire(name, ask(waiter, Wait::AsLongAsTheSession))).collect();
    sim.add_fault(FaultRule::new(format!("*shard-000{stopped}/*.seg"), Fault::WriteError, When::From(1)));
    for n in 0..16u32 {
        let _ = client.put(Keyspace::DEFAULT, &n.to_be_bytes(), b"v", WriteOptions::default()).await;
    }
    let mut ended = 0;
    for wait in waits {
        match wait.await {
            Err(Error::Poisoned(_)) => {}
            Err(Error::Lock(LockError::NoSession { id })) if id == waiter.id => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    let _ = engine.close_async().await;
    Ok(ended)
}

#[test]
fn waits_end_with_their_session_beside_a_shard_that_stopped() {
    for seed in 0..6 {
        for stopped in 0..2 {
            let sim = Sim::new(seed);
            let ended = sim.block_on(wait_beside_a_stopped_shard(sim.clone(), stopped));
            sim.power_off();
            assert!(matches!(ended, Ok(Ok(1..=15))), "seed {seed}: {ended:?}");
        }
    }
}
