//! Back-pressure in the simulation: a lone writer that fills slots, segments and memtables faster than they are written is made
//! to wait, and never for ever.

use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::sim::Sim;
use corering_engine::{Durability, Engine, Keyspace, Options, WriteOptions};

const KS: Keyspace = Keyspace::DEFAULT;

fn write_alone(seed: u64, level: Durability) {
    let sim = Sim::new(seed);
    let host = sim.host();
    let outcome = sim.block_on(async move {
        let options = Options {
            shards: Some(1),
            segment_bytes: 64 << 10,
            memtable_bytes: 64 << 10,
            inbox_len: 2,
            ..Options::default()
        };
        let engine = Engine::open_on(Arc::clone(&host), options).await.map_err(|e| e.to_string())?;
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
