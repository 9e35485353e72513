//! Gets in random order, in the calling thread: of what is in memory, of what is in tables, of what is not there.

use corering_benches::data::{Database, KS, Numbers, VALUE, key};
use corering_benches::trial;
use corering_engine::Client;
use criterion::{Bencher, Criterion, Throughput};

pub fn benches(c: &mut Criterion) {
    let count = if trial() { 10_000 } else { 1_000_000 };
    let mut group = c.benchmark_group("get");
    group.throughput(Throughput::Elements(1));
    let mut database = None;
    let loaded = || Database::loaded("get", count);
    group.bench_function("memory", |b| {
        let client = database.get_or_insert_with(loaded).engine.client();
        found(b, &client, count);
    });
    group.bench_function("absent", |b| {
        let client = database.get_or_insert_with(loaded).engine.client();
        let mut numbers = Numbers::new(3, count);
        b.iter(|| assert!(client.get_with(KS, &key(count + numbers.draw()), |value| value.is_none()).expect("a get")));
    });
    let mut in_tables = false;
    group.bench_function("table", |b| {
        let engine = &database.get_or_insert_with(loaded).engine;
        if !in_tables {
            engine.checkpoint().expect("a checkpoint");
            in_tables = true;
        }
        assert!(engine.stats().sum(|shard| shard.tables) > 0);
        found(b, &engine.client(), count);
    });
    group.finish();
}

fn found(b: &mut Bencher<'_>, client: &Client, count: u64) {
    let mut numbers = Numbers::new(1, count);
    b.iter(|| {
        let value = client.get(KS, &key(numbers.draw())).expect("a get").expect("a key that was put");
        assert_eq!(value.bytes.len(), VALUE.len());
    });
}
