//! What this room's work costs, a million keys of 16 bytes, values of 100.
//!
//! Run: `cargo test --release -p corering-engine table::measure -- --ignored --nocapture --test-threads=1`

use std::sync::Arc;
use std::time::Instant;

use super::memtable::{MemWriter, Memtable, Order};
use super::merge::Direction;
use super::node::NewVersion;
use super::range_cursor::{Range, RangeCursor};
use super::read_state::ReadState;
use super::source::Source;
use super::table_set::TableSet;
use super::testing::{Bench, keep_all};
use super::{Lookup, mem_cursor::MemCursor};
use crate::format::block::Op;
use crate::ids::{CommitTs, Expiry, Keyspace, Kind};

const KEYS: u64 = 1_000_000;
const KS: Keyspace = Keyspace(0);

fn key(n: u64) -> [u8; 16] {
    // A bijection, so that keys differ and come in no order.
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = [b'k'; 16];
    key[..8].copy_from_slice(&mixed.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes());
    key
}

fn shuffled(n: u64) -> u64 {
    n.wrapping_mul(7_368_787) % KEYS
}

fn report(what: &str, count: u64, begin: Instant) {
    let ns = begin.elapsed().as_nanos() as f64 / count as f64;
    eprintln!("{what:<44} {ns:>8.1} ns, {:>6.2} M/s", 1000.0 / ns);
}

fn fill(order: Order, what: &str) -> Arc<Memtable> {
    let value = [7; 100];
    let mut writer = MemWriter::new(order, 42);
    let begin = Instant::now();
    let mut longest = 0;
    let mut slow = 0;
    for n in 0..KEYS {
        let one = Instant::now();
        let op = Op::Put { kind: Kind::BYTES, expiry: Expiry::NEVER, value: &value };
        writer.insert(KS, &key(n), NewVersion { ts: CommitTs(n + 1), op });
        let micros = one.elapsed().as_micros();
        longest = longest.max(micros);
        slow += u32::from(micros >= 500);
    }
    report(what, KEYS, begin);
    let bytes = writer.bytes() / KEYS;
    eprintln!("    longest insertion {longest} us, {slow} above 500 us, {bytes} bytes per key");
    writer.seal()
}

fn gets(table: &Memtable) {
    let begin = Instant::now();
    let mut sum = 0_usize;
    for n in 0..KEYS {
        match table.get(KS, &key(shuffled(n)), CommitTs::MAX) {
            Lookup::Found(value) => sum += usize::from(value.bytes[50]),
            other => panic!("{other:?}"),
        }
    }
    report("get, random order", KEYS, begin);
    assert_eq!(sum as u64, KEYS * 7);
    let begin = Instant::now();
    let absent = (0..KEYS).filter(|n| table.get(KS, &key(n + KEYS), CommitTs::MAX) == Lookup::Missing).count();
    report("get of an absent key", KEYS, begin);
    assert_eq!(absent as u64, KEYS);
}

fn scan(state: &ReadState, what: &str, direction: Direction) {
    let begin = Instant::now();
    let mut cursor = RangeCursor::new(state, Range::all(KS, direction), CommitTs::MAX).unwrap();
    let mut rows = 0;
    let mut bytes = 0;
    while cursor.advance().unwrap() {
        let (key, value) = cursor.current().unwrap();
        bytes += key.len() + value.bytes.len();
        rows += 1;
    }
    assert_eq!((rows, bytes as u64), (KEYS, KEYS * 116));
    report(what, rows, begin);
}

#[test]
#[ignore = "a measurement"]
fn memtable_and_tables() {
    let kept = fill(Order::Kept, "insert, order kept");
    gets(&kept);
    let empty = || Arc::clone(MemWriter::new(Order::Deferred, 1).table());
    let of =
        |sealed: Vec<Arc<Memtable>>, tables: TableSet| ReadState { active: empty(), sealed, tables: Arc::new(tables) };
    scan(&of(vec![Arc::clone(&kept)], TableSet::default()), "scan, order kept", Direction::Forward);
    drop(kept);

    let table = fill(Order::Deferred, "insert, order deferred");
    gets(&table);
    eprintln!("    two threads at once:");
    std::thread::scope(|scope| {
        scope.spawn(|| gets(&table));
        scope.spawn(|| gets(&table));
    });
    let state = of(vec![Arc::clone(&table)], TableSet::default());
    let begin = Instant::now();
    let mut sum = 0_usize;
    for first in (0..KEYS).step_by(16) {
        let keys: [[u8; 16]; 16] = std::array::from_fn(|i| key(shuffled(first + i as u64)));
        state.prefetch(keys.iter().map(|key| (KS, &key[..])));
        for key in &keys {
            match state.get(KS, key, CommitTs::MAX).unwrap() {
                Lookup::Found(value) => sum += usize::from(value.bytes[0]),
                other => panic!("{other:?}"),
            }
        }
    }
    report("get, 16 at a time", KEYS, begin);
    assert_eq!(sum as u64, KEYS * 7);
    let begin = Instant::now();
    MemCursor::new(Arc::clone(&table)).unwrap().seek(KS, b"");
    report("sort when sealed", KEYS, begin);
    scan(&state, "scan, sorted when sealed", Direction::Forward);
    scan(&state, "scan, sorted when sealed, reverse", Direction::Reverse);

    let mut bench = Bench::new(64 << 20);
    let begin = Instant::now();
    let run = bench.write(&[Source::Memtable(table)], &keep_all(&[])).unwrap();
    report("write tables (in memory), open and verify", KEYS, begin);
    eprintln!("    {} tables, {} bytes per key", run.tables().len(), run.bytes() / KEYS);
    let tables = TableSet::new(vec![run.clone()]);
    let begin = Instant::now();
    for n in 0..KEYS {
        let found = tables.get(KS, &key(shuffled(n)), CommitTs::MAX).unwrap();
        assert!(matches!(found, Lookup::Found(_)));
    }
    report("get from tables, mapped and hot", KEYS, begin);
    let begin = Instant::now();
    let absent = (0..KEYS).filter(|n| tables.get(KS, &key(n + KEYS), CommitTs::MAX).unwrap() == Lookup::Missing);
    let absent = absent.count();
    report("get of an absent key from tables", KEYS, begin);
    assert_eq!(absent as u64, KEYS);
    let state = of(Vec::new(), tables);
    scan(&state, "scan of tables", Direction::Forward);
    scan(&state, "scan of tables, reverse", Direction::Reverse);
    let begin = Instant::now();
    let merged = bench.write(&[Source::Run(run)], &keep_all(&[])).unwrap();
    report("merge tables, open and verify", KEYS, begin);
    assert_eq!(merged.metas().iter().map(|meta| meta.entries).sum::<u64>(), KEYS);
}
