//! Histories recorded from threads of one process, across reopenings with other shard counts: some wait for their answers and
//! flush the log themselves, some are tasks; checkpoints, scans and snapshots go on beside them.
//!
//! `CORERING_TEST_HISTORY_CALLS` sets how many calls each client makes in each life (default 600).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corering_engine::{Durability, Engine, Keyspace, Options, ScanRange, WriteOptions};
use corering_proof::load::Load;
use corering_proof::{Client, History, Monotonic, Op, Ret, Told, linear};

const CLIENTS: u32 = 6;
const KEYS: u64 = 5;
const LEVELS: [Durability; 3] = [Durability::Sync, Durability::Interval(Duration::from_millis(3)), Durability::None];

fn calls_each() -> u32 {
    std::env::var("CORERING_TEST_HISTORY_CALLS").ok().and_then(|text| text.parse().ok()).unwrap_or(600)
}

fn run_client(engine: &Engine, clock: Monotonic, number: u32, calls: u32) -> History<Op, Ret> {
    let mut load = Load::new(1, number, KEYS);
    let mut recorder = Client::new(clock, number);
    let client = engine.client();
    let mut refused = 0;
    for n in 0..calls {
        let (key, op) = load.draw();
        let level = LEVELS[(n / 7 % 3) as usize];
        let options = WriteOptions { durability: Some(level), ..WriteOptions::default() };
        recorder.ask(key, op);
        let call = crate::register::submit(&client, key, op, options);
        let told = if number.is_multiple_of(2) { call.wait() } else { futures_lite::future::block_on(call.finish()) };
        match told {
            Told::Answer(Ret::Value(value)) => load.saw(value),
            Told::Answer(_) => {}
            Told::Refused => refused += 1,
            Told::Nothing => panic!("a call was left open by a healthy engine"),
        }
        recorder.told(told);
    }
    assert!(refused < calls / 2, "{refused} of {calls} calls were refused");
    recorder.into_calls()
}

/// Makes memtables and segments change while the others work.
fn disturb(engine: &Engine, over: &AtomicBool) {
    let client = engine.client();
    let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
    for n in 0u64.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        // A small inbox is sometimes full.
        let put = client.put(Keyspace(1), &(n % 64).to_be_bytes(), &[7; 3_000], options).wait();
        assert!(put.as_ref().err().is_none_or(|error| error.is_retryable()), "{put:?}");
        if n % 100 == 50 {
            let checkpoint = engine.checkpoint();
            assert!(checkpoint.as_ref().err().is_none_or(|error| error.is_retryable()), "{checkpoint:?}");
            if let Ok(snapshot) = client.snapshot()
                && let Ok(entries) = client.scan(&snapshot, ScanRange::all(Keyspace::DEFAULT))
            {
                assert!(entries.count() <= KEYS as usize);
            }
        }
    }
}

#[test]
fn what_threads_see_is_linearizable() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Monotonic::start();
    let mut history = Vec::new();
    for (life, shards) in [2, 3, 1].into_iter().enumerate() {
        let options = Options {
            shards: Some(shards),
            segment_bytes: 256 << 10,
            memtable_bytes: 64 << 10,
            inbox_len: 16,
            ..Options::default()
        };
        let engine = Engine::open(dir.path(), options).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| disturb(&engine, &over));
            let clients: Vec<_> = (0..CLIENTS)
                .map(|n| {
                    let (engine, number) = (&engine, life as u32 * CLIENTS + n);
                    scope.spawn(move || run_client(engine, clock, number, calls_each()))
                })
                .collect();
            // All of them before any failure is shown, so that the scope ends.
            let ended: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
            over.store(true, Ordering::Relaxed);
            ended.into_iter().for_each(|calls| history.extend(calls.unwrap()));
        });
        engine.close().unwrap();
    }
    let accepted = linear::check(history).unwrap_or_else(|refusal| panic!("{refusal}"));
    println!("{accepted:?}");
    assert!(accepted.calls > 3 * (CLIENTS * calls_each()) as usize / 2);
}
