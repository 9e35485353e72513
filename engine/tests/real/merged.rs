//! What becomes of tables that were merged while somebody reads them.

use std::path::Path;
use std::time::{Duration, Instant};

use corering_engine::check::stat;
use corering_engine::{Durability, Engine, Keyspace, Options, ScanRange, WriteOptions};

const KS: Keyspace = Keyspace::DEFAULT;
const KEYS: u32 = 4000;
const VALUE_LEN: usize = 500;

fn options() -> Options {
    Options { shards: Some(1), ..Options::default() }
}

fn put_all(engine: &Engine, fill: u8) {
    let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
    for key in 0..KEYS {
        engine.client().put(KS, &key.to_be_bytes(), &[fill; VALUE_LEN], options).wait().unwrap();
    }
    engine.checkpoint().unwrap();
}

fn files(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join("shard-0000/tables")).unwrap();
    names.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "table")).count()
}

fn tables(engine: &Engine) -> usize {
    engine.stats().sum(|shard| shard.tables) as usize
}

fn wait_until(engine: &Engine, dir: &Path, is_so: impl Fn(usize, usize) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so(files(dir), tables(engine)) {
        assert!(Instant::now() < end, "{} files, {} tables", files(dir), tables(engine));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A merge is done, and what it merged is still there.
fn wait_for_a_merge(engine: &Engine, dir: &Path) {
    // So few runs are left alone.
    wait_until(engine, dir, |files, tables| tables <= 6 && files > tables);
}

#[test]
fn a_scan_reads_on_in_tables_that_were_merged_and_their_files_go_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), options()).unwrap();
    for fill in 0..4 {
        put_all(&engine, fill);
    }
    let snapshot = engine.client().snapshot().unwrap();
    let mut scan = engine.client().scan(&snapshot, ScanRange::all(KS)).unwrap();
    let first = scan.next().unwrap().unwrap();
    assert_eq!(first.value.bytes, [3; VALUE_LEN]);
    let before = engine.stats().sum(|shard| shard.counters.merges);
    for fill in 4..12 {
        put_all(&engine, fill);
    }
    wait_for_a_merge(&engine, dir.path());
    assert!(engine.stats().sum(|shard| shard.counters.merges) > before);
    // Long enough for those who look whether they may be removed.
    std::thread::sleep(Duration::from_millis(1500));
    let rest: Vec<_> = scan.by_ref().map(Result::unwrap).collect();
    assert_eq!(rest.len(), KEYS as usize - 1);
    assert!(rest.iter().all(|entry| entry.value.bytes == [3; VALUE_LEN]));
    assert!(files(dir.path()) > tables(&engine));
    drop(scan);
    wait_until(&engine, dir.path(), |files, tables| files == tables);
    // Of those that somebody still reads at the end, the files go with the engine.
    let scan = engine.client().scan(&snapshot, ScanRange::all(KS)).unwrap();
    for fill in 12..20 {
        put_all(&engine, fill);
    }
    wait_for_a_merge(&engine, dir.path());
    drop(snapshot);
    engine.close().unwrap();
    assert_eq!(files(dir.path()) as u64, stat(dir.path()).unwrap().shards[0].tables);
    drop(scan);
}
