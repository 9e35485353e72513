//! A scan of every key of a database, over all shards in key order, out of memory and out of tables.

use corering_benches::data::{Database, KS};
use corering_benches::trial;
use corering_engine::{Client, ScanRange};
use criterion::{Criterion, Throughput};

pub fn benches(c: &mut Criterion) {
    let count = if trial() { 1_000 } else { 100_000 };
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Elements(count));
    let mut database = None;
    group.bench_function("memory", |b| {
        let client = database.get_or_insert_with(|| Database::loaded("scan", count)).engine.client();
        b.iter(|| assert_eq!(rows(&client), count));
    });
    group.bench_function("table", |b| {
        let engine = &database.get_or_insert_with(|| Database::loaded("scan", count)).engine;
        engine.checkpoint().expect("a checkpoint");
        let client = engine.client();
        b.iter(|| assert_eq!(rows(&client), count));
    });
    group.finish();
}

fn rows(client: &Client) -> u64 {
    let snapshot = client.snapshot().expect("a snapshot");
    let mut scan = client.scan(&snapshot, ScanRange::all(KS)).expect("a scan");
    let mut rows = 0;
    while scan.next_ref().expect("a row").is_some() {
        rows += 1;
    }
    rows
}
