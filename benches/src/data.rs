//! Keys, values and databases full of them.

use corering_engine::{Client, Durability, Engine, Keyspace, Options, WriteOptions};

pub const KS: Keyspace = Keyspace::DEFAULT;
pub const VALUE: [u8; 100] = [0x5a; 100];
/// Odd, so that multiplying by it visits every number once (Knuth's multiplicative hashing, TAOCP 3, 6.4).
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `i`-th key, 16 bytes; neighbours in number are far apart in key order.
pub fn key(i: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&i.wrapping_mul(SCATTER).to_be_bytes());
    key[8..].copy_from_slice(&i.to_be_bytes());
    key
}

/// Numbers below `bound` in an order that no processor foresees (Lehmer's generator, constants of PCG).
pub struct Numbers {
    state: u64,
    bound: u64,
}

impl Numbers {
    pub fn new(seed: u64, bound: u64) -> Numbers {
        Numbers { state: seed, bound }
    }

    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 32) * self.bound) >> 32
    }
}

/// Large enough that a memtable is written as a table only when a benchmark asks for it.
pub fn options() -> Options {
    Options { memtable_bytes: 4 << 30, ..Options::default() }
}

pub fn at(level: Durability) -> WriteOptions {
    WriteOptions { durability: Some(level), ..WriteOptions::default() }
}

/// Put keys `0..count`, several in flight at a time, and make them durable.
pub fn load(client: &Client, count: u64) {
    let mut in_flight = std::collections::VecDeque::new();
    for i in 0..count {
        in_flight.push_back(client.put(KS, &key(i), &VALUE, at(Durability::None)));
        if in_flight.len() == 64 {
            in_flight.pop_front().expect("64 are there").wait().expect("a put while loading");
        }
    }
    for put in in_flight {
        put.wait().expect("a put while loading");
    }
    client.sync().wait().expect("a sync after loading");
}

/// A database in its own directory, both gone when this is.
pub struct Database {
    // In this order: the engine is closed before its directory is removed.
    pub engine: Engine,
    pub dir: tempfile::TempDir,
}

impl Database {
    pub fn create(what: &str, options: Options) -> Database {
        let dir = crate::place::new_dir(what);
        let engine = Engine::open(dir.path(), options).unwrap_or_else(|e| panic!("cannot open a database: {e}"));
        Database { engine, dir }
    }

    pub fn loaded(what: &str, count: u64) -> Database {
        let database = Database::create(what, options());
        load(&database.engine.client(), count);
        database
    }
}
