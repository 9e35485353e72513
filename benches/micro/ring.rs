//! Which shard owns a key: every call begins with it.

use std::hint::black_box;

use corering_benches::data::{Numbers, key};
use corering_engine::ring::{Ring, VNODES};
use criterion::{BenchmarkId, Criterion};

pub fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    for shards in [2, 64] {
        let ring = Ring::new(shards, VNODES);
        group.bench_function(BenchmarkId::new("owner_of_key", shards), |b| {
            let mut numbers = Numbers::new(1, 1 << 20);
            b.iter(|| ring.owner_of_key(black_box(&key(numbers.draw()))));
        });
    }
    let ring = Ring::new(2, VNODES);
    group.bench_function("owner_of_tagged_key", |b| {
        b.iter(|| ring.owner_of_key(black_box(b"{user:000000042}:session")));
    });
    group.finish();
}
