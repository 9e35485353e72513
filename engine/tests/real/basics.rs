//! The engine as its users call it, on the real machine.

use std::ops::Bound;
use std::time::Duration;

use corering_engine::{
    Client, CommitTs, Condition, Durability, Engine, Error, Expiry, Keyspace, Options, PutIf, ScanRange, WriteBatch,
    WriteOptions,
};

const KS: Keyspace = Keyspace::DEFAULT;

fn options() -> Options {
    Options { shards: Some(2), segment_bytes: 1 << 20, memtable_bytes: 1 << 20, ..Options::default() }
}

fn open(dir: &tempfile::TempDir) -> Engine {
    Engine::open(dir.path(), options()).unwrap()
}

fn at_level(level: Durability) -> WriteOptions {
    WriteOptions { durability: Some(level), ..WriteOptions::default() }
}

fn put(client: &Client, key: &[u8], value: &[u8]) -> CommitTs {
    client.put(KS, key, value, WriteOptions::default()).wait().unwrap()
}

fn bytes(client: &Client, key: &[u8]) -> Option<Vec<u8>> {
    client.get(KS, key).unwrap().map(|value| value.bytes)
}

#[test]
fn what_was_put_is_read_deleted_and_found_again_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    {
        let engine = open(&dir);
        let client = engine.client();
        for i in 0..500u32 {
            put(&client, format!("key{i}").as_bytes(), format!("value{i}").as_bytes());
        }
        assert_eq!(bytes(&client, b"key7"), Some(b"value7".to_vec()));
        assert!(client.delete(KS, b"key7", WriteOptions::default()).wait().unwrap());
        assert!(!client.delete(KS, b"key7", WriteOptions::default()).wait().unwrap());
        assert_eq!(bytes(&client, b"key7"), None);
        engine.close().unwrap();
        assert!(matches!(client.get(KS, b"key1"), Err(Error::Closed)));
    }
    let engine = open(&dir);
    let client = engine.client();
    assert_eq!(bytes(&client, b"key7"), None);
    for i in (0..500u32).filter(|i| *i != 7) {
        assert_eq!(bytes(&client, format!("key{i}").as_bytes()), Some(format!("value{i}").into_bytes()), "key{i}");
    }
}

#[test]
fn conditional_writes_see_the_latest_value() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let put_if =
        |value: &[u8], condition| client.put_if(KS, b"k", value, condition, WriteOptions::default()).wait().unwrap();
    assert_eq!(put_if(b"1", Condition::Present), PutIf::Refused { current: None });
    let PutIf::Done(first) = put_if(b"1", Condition::Absent) else { panic!("absent") };
    assert_eq!(put_if(b"2", Condition::Absent), PutIf::Refused { current: Some(first) });
    assert_eq!(put_if(b"2", Condition::Equal(b"x".to_vec())), PutIf::Refused { current: Some(first) });
    let PutIf::Done(second) = put_if(b"2", Condition::Equal(b"1".to_vec())) else { panic!("equal") };
    assert_eq!(put_if(b"3", Condition::Version(first)), PutIf::Refused { current: Some(second) });
    assert!(matches!(put_if(b"3", Condition::Version(second)), PutIf::Done(_)));
    assert_eq!(bytes(&client, b"k"), Some(b"3".to_vec()));
}

#[test]
fn incr_counts_exactly_under_contention_and_names_its_errors() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = engine.client();
            std::thread::spawn(move || {
                for _ in 0..250 {
                    client.incr(KS, b"n", 2, WriteOptions::default()).wait().unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let client = engine.client();
    assert_eq!(bytes(&client, b"n"), Some(b"2000".to_vec()));
    put(&client, b"text", b"12a");
    assert!(matches!(client.incr(KS, b"text", 1, WriteOptions::default()).wait(), Err(Error::NotAnInteger)));
    put(&client, b"max", i64::MAX.to_string().as_bytes());
    assert!(matches!(client.incr(KS, b"max", 1, WriteOptions::default()).wait(), Err(Error::Overflow)));
}

#[test]
fn a_batch_is_atomic_on_one_shard_and_over_two() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut batch = WriteBatch::new();
    batch.put(KS, b"{t}a", b"1").put(KS, b"{t}b", b"2").delete(KS, b"{t}a").put(KS, b"{t}b", b"3");
    client.write_batch(batch, WriteOptions::default()).wait().unwrap();
    assert_eq!(bytes(&client, b"{t}a"), None);
    assert_eq!(bytes(&client, b"{t}b"), Some(b"3".to_vec()));
    let elsewhere = |k: &String| client.shard_of(k.as_bytes()) != client.shard_of(b"t");
    let other = (0..).map(|i: u32| format!("k{i}")).find(elsewhere).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(KS, b"t", b"1").put(KS, other.as_bytes(), b"2");
    let commit = client.write_batch(batch, WriteOptions::default()).wait().unwrap();
    for (key, value) in [(&b"t"[..], b"1"), (other.as_bytes(), b"2")] {
        let found = client.get(KS, key).unwrap().unwrap();
        assert_eq!((&found.bytes[..], found.version), (&value[..], commit));
    }
}

#[test]
fn scans_give_one_consistent_view_in_key_order_over_all_shards() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    for i in 0..2000u32 {
        client.put(KS, format!("k{i:05}").as_bytes(), b"old", at_level(Durability::None)).wait().unwrap();
    }
    let snapshot = client.snapshot().unwrap();
    for i in 0..2000u32 {
        put(&client, format!("k{i:05}").as_bytes(), b"new");
        if i == 1000 {
            engine.checkpoint().unwrap();
        }
    }
    put(&client, b"l", b"behind");
    let seen: Vec<_> = client.scan(&snapshot, ScanRange::prefix(KS, b"k")).unwrap().map(Result::unwrap).collect();
    assert_eq!(seen.len(), 2000);
    assert!(seen.windows(2).all(|pair| pair[0].key < pair[1].key));
    assert!(seen.iter().all(|entry| entry.value.bytes == b"old"));
    let now = client.snapshot().unwrap();
    let range = ScanRange {
        keyspace: KS,
        lower: Bound::Excluded(b"k00010".to_vec()),
        upper: Bound::Included(b"k00013".to_vec()),
        reverse: true,
    };
    let keys: Vec<_> = client.scan(&now, range).unwrap().map(|e| String::from_utf8(e.unwrap().key).unwrap()).collect();
    assert_eq!(keys, ["k00013", "k00012", "k00011"]);
    assert_eq!(client.get_at(&snapshot, KS, b"k00000").unwrap().unwrap().bytes, b"old");
    assert_eq!(client.scan(&now, ScanRange::all(KS)).unwrap().count(), 2001);
}

#[test]
fn values_expire_and_large_ones_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let soon = Expiry::at_ms(client.clock().wall_ms() + 50);
    client.put(KS, b"brief", b"x", WriteOptions { expiry: soon, ..Default::default() }).wait().unwrap();
    assert!(bytes(&client, b"brief").is_some());
    std::thread::sleep(Duration::from_millis(80));
    assert_eq!(bytes(&client, b"brief"), None);
    for level in [Durability::Sync, Durability::None, Durability::Interval(Duration::from_millis(5))] {
        let large: Vec<u8> = (0..5_000_000u32).map(|i| (i * 7) as u8).collect();
        client.put(KS, b"large", &large, at_level(level)).wait().unwrap();
        assert_eq!(bytes(&client, b"large"), Some(large));
    }
    let too_large = vec![0; (64 << 20) + 1];
    let refused = client.put(KS, b"k", &too_large, WriteOptions::default()).wait();
    assert!(matches!(refused, Err(Error::ValueTooLarge { .. })), "{refused:?}");
    let refused = client.put(KS, &vec![0; (64 << 10) + 1], b"", WriteOptions::default()).wait();
    assert!(matches!(refused, Err(Error::KeyTooLarge { .. })), "{refused:?}");
}

#[test]
fn a_directory_is_open_once_and_two_engines_live_side_by_side() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = open(&dir);
    let second = open(&other);
    match Engine::open(dir.path(), options()) {
        Err(Error::Locked { holder_pid, .. }) => assert_eq!(holder_pid, Some(std::process::id())),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened twice"),
    }
    put(&engine.client(), b"k", b"1");
    put(&second.client(), b"k", b"2");
    assert_eq!(bytes(&engine.client(), b"k"), Some(b"1".to_vec()));
    engine.close().unwrap();
    engine.close().unwrap();
    assert_eq!(bytes(&open(&dir).client(), b"k"), Some(b"1".to_vec()));
}

#[test]
fn another_shard_count_moves_only_what_it_must_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let count = 3000u32;
    let key = |i: u32| format!("key:{i:08}").into_bytes();
    {
        let engine = open(&dir);
        let client = engine.client();
        for i in 0..count {
            client.put(KS, &key(i), &i.to_le_bytes(), at_level(Durability::None)).wait().unwrap();
        }
        engine.close().unwrap();
    }
    for (from, to) in [(2u16, 3u16), (3, 8), (8, 5), (5, 1), (1, 2)] {
        let engine = Engine::open(dir.path(), Options { shards: Some(to), ..options() }).unwrap();
        let moved = engine.report().resharded.unwrap();
        let share = moved.keys_moved as f64 / f64::from(count);
        let expected = f64::from(from.abs_diff(to)) / f64::from(from.max(to));
        println!("{from} -> {to} moved {share}");
        assert!((share - expected).abs() < 0.1, "{from} -> {to}: moved {share}, expected {expected}");
        let client = engine.client();
        for i in 0..count {
            assert_eq!(bytes(&client, &key(i)), Some(i.to_le_bytes().to_vec()), "{from} -> {to}: key {i}");
        }
        let snapshot = client.snapshot().unwrap();
        assert_eq!(client.scan(&snapshot, ScanRange::all(KS)).unwrap().count(), count as usize, "{from} -> {to}");
        drop(snapshot);
        engine.close().unwrap();
    }
}

/// A durable write of a few bytes alone takes a block of the log: by bytes of memory alone, it would grow to gigabytes.
#[test]
fn the_log_of_small_durable_writes_stays_short_though_memory_has_room() {
    const SEGMENT: u64 = 256 << 10;
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { shards: Some(1), segment_bytes: SEGMENT, ..Options::default() };
    let engine = Engine::open(dir.path(), options()).unwrap();
    let client = engine.client();
    let key = |i: u64| i.to_be_bytes();
    let mut longest = 0;
    for i in 0..1500 {
        put(&client, &key(i), b"few");
        longest = longest.max(engine.stats().shards[0].log_file_bytes);
    }
    let shard = &engine.stats().shards[0];
    assert!(shard.appended_lsn > 20 * SEGMENT, "{} bytes of log", shard.appended_lsn);
    // Four segments full, one more while they are written as a table, and the active one.
    assert!(longest <= 7 * SEGMENT, "{} segments of log", longest / SEGMENT);
    assert!(shard.counters.checkpoints >= 3, "{:?}", shard.counters);
    engine.close().unwrap();
    let engine = Engine::open(dir.path(), options()).unwrap();
    assert!((0..1500).all(|i| bytes(&engine.client(), &key(i)).as_deref() == Some(b"few")));
}
