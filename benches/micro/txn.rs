//! Transactions beside a single put of the same run: on one shard, over two, by the road of batches, and read-only; and a small
//! mix of new orders and payments with many threads (after TPC-C), in which every commit is over several shards.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use corering_benches::data::{Database, KS, Numbers, VALUE, at, key, options};
use corering_engine::{Client, Durability, Transaction, TransactionOptions, WriteBatch};
use criterion::{Criterion, Throughput};

const KEYS: u64 = 100_000;
const DISTRICTS: u64 = 20;
const STOCK: u64 = 5_000;

pub fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("txn");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one_put", |b| {
        let database = Database::create("txn", options());
        let (client, mut numbers) = (database.engine.client(), Numbers::new(1, KEYS));
        b.iter(|| client.put(KS, &key(numbers.draw()), &VALUE, at(Durability::Sync)).wait().expect("a put"));
    });
    group.bench_function("one_shard", |b| {
        let database = Database::create("txn", options());
        let (client, mut numbers) = (database.engine.client(), Numbers::new(1, KEYS));
        b.iter(|| commit(&client, &[numbers.draw()]));
    });
    group.bench_function("two_shards", |b| {
        let database = Database::create("txn", options());
        let (client, mut numbers) = (database.engine.client(), Numbers::new(1, KEYS));
        b.iter(|| commit(&client, &apart(&client, &mut numbers)));
    });
    group.bench_function("two_shards_batch", |b| {
        let database = Database::create("txn", options());
        let (client, mut numbers) = (database.engine.client(), Numbers::new(1, KEYS));
        b.iter(|| {
            let mut batch = WriteBatch::new();
            for n in apart(&client, &mut numbers) {
                batch.put(KS, &key(n), &VALUE);
            }
            client.write_batch(batch, at(Durability::Sync)).wait().expect("a batch")
        });
    });
    group.bench_function("read_only_of_ten", |b| {
        let database = Database::create("txn", options());
        let (client, mut numbers) = (database.engine.client(), Numbers::new(1, KEYS));
        for n in 0..KEYS {
            client.put(KS, &key(n), &VALUE, at(Durability::None)).wait().expect("a put");
        }
        b.iter(|| {
            let options = TransactionOptions { read_only: true, ..TransactionOptions::default() };
            let mut tx = client.begin(options).expect("a transaction");
            for _ in 0..10 {
                tx.get(KS, &key(numbers.draw())).expect("a read");
            }
        });
    });
    for threads in [1, 8, 32] {
        group.bench_function(format!("orders_{threads}_threads"), |b| {
            let database = Database::create("txn", options());
            b.iter_custom(|orders| orders_from(&database.engine.client(), threads, orders));
        });
    }
    group.finish();
}

fn commit(client: &Client, keys: &[u64]) {
    let mut tx = client.begin(TransactionOptions::default()).expect("a transaction");
    keys.iter().for_each(|n| tx.put(KS, &key(*n), &VALUE).expect("a put"));
    tx.commit().wait().expect("a commit");
}

/// Two keys of different shards.
fn apart(client: &Client, numbers: &mut Numbers) -> [u64; 2] {
    let one = numbers.draw();
    loop {
        let two = numbers.draw();
        if client.shard_of(&key(one)) != client.shard_of(&key(two)) {
            return [one, two];
        }
    }
}

/// Ten lines of an order take stock and a number of their district; every second time a payment instead.
fn orders_from(client: &Client, threads: u64, orders: u64) -> Duration {
    let (start, end) = (Barrier::new(threads as usize + 1), Barrier::new(threads as usize + 1));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let share = orders / threads + u64::from(thread < orders % threads);
            let (start, end) = (&start, &end);
            scope.spawn(move || {
                let (mut district, mut stock) = (Numbers::new(thread, DISTRICTS), Numbers::new(thread, STOCK));
                start.wait();
                for n in 0..share {
                    let (place, lines) = (district.draw(), if n % 2 == 0 { 10 } else { 1 });
                    let items: Vec<u64> = (0..lines).map(|_| stock.draw()).collect();
                    let order = |tx: &mut Transaction| {
                        let number = next(tx, format!("district:{place}").as_bytes(), true)?;
                        for item in &items {
                            next(tx, format!("stock:{item}").as_bytes(), false)?;
                        }
                        tx.put(KS, format!("order:{place}:{number}").as_bytes(), &VALUE)
                    };
                    client.transact(TransactionOptions::default(), order).expect("an order");
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

/// Count a key up; one that everybody counts is kept while it is.
fn next(tx: &mut Transaction, key: &[u8], keep: bool) -> corering_engine::Result<u64> {
    let found = if keep { tx.get_for_update(KS, key)? } else { tx.get(KS, key)? };
    let number = found.map_or(0, |value| u64::from_le_bytes(value.bytes[..].try_into().expect("eight bytes"))) + 1;
    tx.put(KS, key, &number.to_le_bytes())?;
    Ok(number)
}
