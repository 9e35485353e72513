//! Back-pressure in the simulation: a lone writer that fills slots, segments and memtables faster than they are written is made
//! to wait, and never for ever.

use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::Sim;
use corering_engine::{Durability, Engine, Error, Keyspace, Options, WriteOptions};

const KS: Keyspace = Keyspace::DEFAULT;

fn tight() -> Options {
    Options { shards: Some(1), segment_bytes: 64 << 10, memtable_bytes: 64 << 10, inbox_len: 2, ..Options::default() }
}

fn write_alone(seed: u64, level: Durability) {
    let sim = Sim::new(seed);
    let host = sim.host();
    let outcome = sim.block_on(async move {
        let engine = Engine::open_on(Arc::clone(&host), tight()).await.map_err(|e| e.to_string())?;
        let client = engine.client();
        let options = WriteOptions { durability: Some(level), ..WriteOptions::default() };
        for i in 0..300u32 {
            let value = vec![i as u8; 700 + (i as usize * 37) % 5000];
            client.put(KS, &i.to_be_bytes(), &value, options).await.map_err(|e| e.to_string())?;
        }
        for i in 0..300u32 {
            let value = client.get(KS, &i.to_be_bytes()).map_err(|e| e.to_string())?;
            assert_eq!(value.map(|v| v.bytes.len()), Some(700 + (i as usize * 37) % 5000), "key {i}");
        }
        let stalls = engine.stats().sum(|shard| shard.counters.stalls);
        engine.close_async().await.map_err(|e| e.to_string())?;
        Ok::<u64, String>(stalls)
    });
    match outcome {
        Ok(Ok(stalls)) => assert!(level == Durability::Sync || stalls > 0, "seed {seed}: nothing was ever full"),
        other => panic!("seed {seed} at {level}: {other:?}"),
    }
}

#[test]
fn a_lone_writer_is_never_left_waiting_for_room() {
    for seed in 0..24 {
        write_alone(seed, Durability::None);
        write_alone(seed, Durability::Interval(Duration::from_millis(3)));
        write_alone(seed, Durability::Sync);
    }
}

#[test]
fn a_write_that_waits_for_room_is_answered_when_the_engine_closes() {
    for seed in 0..16 {
        let sim = Sim::new(seed);
        let host = sim.host();
        let outcome = sim.block_on(async move {
            let engine = Engine::open_on(host, tight()).await.unwrap();
            let client = engine.client();
            let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
            // Nobody waits in between, so the log has no time to take them.
            let put = |i: u32| client.put(KS, &i.to_be_bytes(), &[7; 3_000], options);
            let answers: Vec<_> = (0..60).map(put).collect();
            let stalls = engine.stats().sum(|shard| shard.counters.stalls);
            engine.close_async().await.unwrap();
            for answer in answers {
                match answer.await {
                    Ok(_) | Err(Error::Closed | Error::Busy { .. }) => {}
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
            stalls
        });
        match outcome {
            Ok(stalls) => assert!(stalls > 0, "seed {seed}: nothing waited for room"),
            Err(stop) => panic!("seed {seed}: {stop}"),
        }
    }
}

#[test]
fn a_record_larger_than_a_segment_gets_one_that_holds_it() {
    for seed in 0..8 {
        let sim = Sim::new(seed);
        let host = sim.host();
        let outcome = sim.block_on(async move {
            let engine = Engine::open_on(host, tight()).await.unwrap();
            let client = engine.client();
            let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
            // The segment that is then made must hold a batch that is half built besides.
            for (i, len) in [100, 200_000, 777, 300_001].into_iter().enumerate() {
                client.put(KS, &[i as u8], &vec![i as u8; len], options).await.unwrap();
            }
            engine.checkpoint_async().await.unwrap();
            for (i, len) in [100, 200_000, 777, 300_001].into_iter().enumerate() {
                assert_eq!(client.get(KS, &[i as u8]).unwrap().unwrap().bytes, vec![i as u8; len]);
            }
            engine.close_async().await.unwrap();
        });
        outcome.unwrap_or_else(|stop| panic!("seed {seed}: {stop}"));
    }
}
