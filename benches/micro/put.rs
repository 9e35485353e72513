//! Puts: durable ones alone and of many threads, those that do not wait for the disk, and batches.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use corering_benches::data::{Database, KS, Numbers, VALUE, at, key, options};
use corering_engine::{Client, Durability, WriteBatch};
use criterion::{Criterion, Throughput};

/// Keys that are put again and again.
const KEYS: u64 = 100_000;
const BATCH: u64 = 100;

pub fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("put");
    group.throughput(Throughput::Elements(1));
    group.bench_function("sync_1_thread", |b| {
        let database = Database::create("put", options());
        b.iter_custom(|puts| put_from(&database.engine.client(), 1, puts, Durability::Sync));
    });
    group.bench_function("sync_16_threads", |b| {
        let database = Database::create("put", options());
        b.iter_custom(|puts| put_from(&database.engine.client(), 16, puts, Durability::Sync));
    });
    group.bench_function("none_1_thread", |b| {
        let database = Database::create("put", options());
        b.iter_custom(|puts| put_from(&database.engine.client(), 1, puts, Durability::None));
    });
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("sync_batch_of_100", |b| {
        let database = Database::create("batch", options());
        let client = database.engine.client();
        let mut next = 0;
        b.iter(|| {
            next = (next + BATCH) % KEYS;
            client.write_batch(batch_from(next), at(Durability::Sync)).wait().expect("a batch")
        });
    });
    group.finish();
}

/// The time that `threads` take for `puts` between them, each waiting for its own before the next.
fn put_from(client: &Client, threads: u64, puts: u64, level: Durability) -> Duration {
    let (start, end) = (Barrier::new(threads as usize + 1), Barrier::new(threads as usize + 1));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let share = puts / threads + u64::from(thread < puts % threads);
            let (start, end) = (&start, &end);
            scope.spawn(move || {
                let mut numbers = Numbers::new(thread, KEYS);
                start.wait();
                for _ in 0..share {
                    client.put(KS, &key(numbers.draw()), &VALUE, at(level)).wait().expect("a put");
                }
                end.wait();
            });
        }
        start.wait();
        let began = Instant::now();
        end.wait();
        began.elapsed()
    })
}

/// Keys that share a tag, and so a shard.
fn batch_from(first: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for i in first..first + BATCH {
        let mut tagged = *b"{batch}\0\0\0\0\0\0\0\0\0";
        tagged[8..].copy_from_slice(&i.to_be_bytes());
        batch.put(KS, &tagged, &VALUE);
    }
    batch
}
