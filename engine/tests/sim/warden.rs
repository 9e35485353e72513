//! What looks after sessions goes on while shards have no time for it.

use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::Sim;
use corering_engine::{Acquire, Durability, Engine, Keyspace, Mode, NewSession, Options, Wait, WriteOptions};

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
