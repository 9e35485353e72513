//! What becomes of tables that were merged while somebody reads them.

use std::path::Path;
use std::time::{Duration, Instant};

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

/// Until as many files are there as tables, or more if `more`.
fn wait_for_files(engine: &Engine, dir: &Path, more: bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while (files(dir) > tables(engine)) != more {
        assert!(Instant::now() < end, "{} files, {} tables", files(dir), tables(engine));
        std::thread::sleep(Duration::from_millis(20));
    }
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
    wait_for_files(&engine, dir.path(), true);
    assert!(engine.stats().sum(|shard| shard.counters.merges) > before);
    // Long enough for those who look whether they may be removed.
    std::thread::sleep(Duration::from_millis(1500));
    let rest: Vec<_> = scan.by_ref().map(Result::unwrap).collect();
    assert_eq!(rest.len(), KEYS as usize - 1);
    assert!(rest.iter().all(|entry| entry.value.bytes == [3; VALUE_LEN]));
    assert!(files(dir.path()) > tables(&engine));
    drop(scan);
    wait_for_files(&engine, dir.path(), false);
    // Of those that somebody still reads at the end, the files go with the engine.
    let scan = engine.client().scan(&snapshot, ScanRange::all(KS)).unwrap();
    for fill in 12..20 {
        put_all(&engine, fill);
    }
    wait_for_files(&engine, dir.path(), true);
    drop(snapshot);
    engine.close().unwrap();
    drop(scan);
    let engine = Engine::open(dir.path(), options()).unwrap();
    assert_eq!(files(dir.path()), tables(&engine));
    engine.close().unwrap();
}
