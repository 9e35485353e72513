//! Transactions as their users call them, on the real machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corering_engine::runtime::sim::Rng;
use corering_engine::{
    Client, CommitTs, Condition, Durability, Engine, Error, Fate, FencingToken, Guard, Isolation, Keys, Keyspace,
    Options, Savepoint, ScanRange, Transaction, TransactionOptions, TxError, TxNumber, WriteOptions,
};

const KS: Keyspace = Keyspace::DEFAULT;

fn open(dir: &tempfile::TempDir) -> Engine {
    let options = Options { shards: Some(4), segment_bytes: 1 << 20, memtable_bytes: 1 << 20, ..Options::default() };
    Engine::open(dir.path(), options).unwrap()
}

fn begin(client: &Client) -> Transaction {
    client.begin(TransactionOptions::default()).unwrap()
}

fn with(client: &Client, change: impl FnOnce(&mut TransactionOptions)) -> Transaction {
    let mut options = TransactionOptions::default();
    change(&mut options);
    client.begin(options).unwrap()
}

fn put(client: &Client, key: &[u8], value: &[u8]) -> CommitTs {
    client.put(KS, key, value, WriteOptions::default()).wait().unwrap()
}

fn bytes(client: &Client, key: &[u8]) -> Option<Vec<u8>> {
    client.get(KS, key).unwrap().map(|value| value.bytes)
}

fn read(tx: &mut Transaction, key: &[u8]) -> Option<Vec<u8>> {
    tx.get(KS, key).unwrap().map(|value| value.bytes)
}

fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

fn scanned(tx: &mut Transaction, range: ScanRange, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    tx.scan(range, limit).unwrap().into_iter().map(|entry| (entry.key, entry.value.bytes)).collect()
}

/// One key on each shard.
fn spread(client: &Client) -> Vec<Vec<u8>> {
    (0..client.shard_count())
        .map(|shard| {
            let mut names = (0..).map(|i: u32| format!("k{i}").into_bytes());
            names.find(|name| client.shard_of(name).0 == shard).unwrap()
        })
        .collect()
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, is: impl FnOnce(&TxError) -> bool) {
    match result.err() {
        Some(Error::Tx(refusal)) if is(&refusal) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_over_all_shards_is_there_as_a_whole_and_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, id, commit) = {
        let engine = open(&dir);
        let client = engine.client();
        let keys = spread(&client);
        let mut tx = begin(&client);
        for key in &keys {
            assert_eq!(read(&mut tx, key), None);
            tx.put(KS, key, b"new").unwrap();
            assert_eq!(read(&mut tx, key), Some(b"new".to_vec()));
            assert_eq!(bytes(&client, key), None, "nobody else sees it before the commit");
        }
        let commit = tx.commit().wait().unwrap();
        for key in &keys {
            let found = client.get(KS, key).unwrap().unwrap();
            assert_eq!((&found.bytes[..], found.version), (&b"new"[..], commit));
        }
        refused(tx.commit().wait(), |r| matches!(r, TxError::Ended { how: "it was committed" }));
        refused(tx.put(KS, b"k", b"v"), |r| matches!(r, TxError::Ended { .. }));
        refused(tx.rollback(), |r| matches!(r, TxError::Ended { .. }));
        assert_eq!(client.fate(tx.id()).wait().unwrap(), Fate::Committed(commit));
        let id = tx.id();
        engine.close().unwrap();
        (keys, id, commit)
    };
    let engine = open(&dir);
    let client = engine.client();
    for key in &keys {
        assert_eq!(bytes(&client, key), Some(b"new".to_vec()));
    }
    assert_eq!(client.fate(id).wait().unwrap(), Fate::Committed(commit));
    let mut other = begin(&client);
    assert_eq!(client.fate(other.id()).wait().unwrap(), Fate::NotCommitted);
    other.rollback().unwrap();
}

#[test]
fn what_was_read_must_still_hold_at_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let keys = spread(&client);
    put(&client, &keys[0], b"1");
    let mut tx = begin(&client);
    assert_eq!(read(&mut tx, &keys[0]), Some(b"1".to_vec()));
    tx.put(KS, &keys[1], b"from 1").unwrap();
    put(&client, &keys[0], b"2");
    let error = tx.commit().wait().unwrap_err();
    assert!(error.is_retryable() && !error.may_have_committed(), "{error}");
    assert_eq!(bytes(&client, &keys[1]), None);
    // One that only reads keeps its view and never aborts.
    let mut reader = begin(&client);
    assert_eq!(read(&mut reader, &keys[0]), Some(b"2".to_vec()));
    put(&client, &keys[0], b"3");
    assert_eq!(read(&mut reader, &keys[0]), Some(b"2".to_vec()));
    assert_eq!(reader.commit().wait().unwrap(), CommitTs::ZERO);
}

#[test]
fn a_scan_that_would_answer_otherwise_aborts_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    for i in 0..20 {
        put(&client, format!("row{i:02}").as_bytes(), b"x");
    }
    let range = || ScanRange::prefix(KS, b"row");
    // Nothing changed in it, though beside it.
    let mut tx = begin(&client);
    assert_eq!(scanned(&mut tx, range(), 100).len(), 20);
    tx.put(KS, b"sum", b"20").unwrap();
    put(&client, b"rox", b"beside");
    tx.commit().wait().unwrap();
    for change in [0, 1, 2] {
        let mut tx = begin(&client);
        assert!(scanned(&mut tx, range(), 100).len() >= 20);
        tx.put(KS, b"sum", b"?").unwrap();
        match change {
            0 => drop(put(&client, b"row55", b"a phantom")),
            1 => drop(put(&client, b"row05", b"changed")),
            _ => assert!(client.delete(KS, b"row06", WriteOptions::default()).wait().unwrap()),
        }
        refused(tx.commit().wait(), |r| *r == TxError::RangeChanged);
    }
    // Only what was looked at counts.
    let mut tx = begin(&client);
    assert_eq!(scanned(&mut tx, range(), 3).last().unwrap().0, b"row02");
    tx.put(KS, b"sum", b"3").unwrap();
    put(&client, b"row03", b"behind");
    tx.commit().wait().unwrap();
    assert_eq!(bytes(&client, b"sum"), Some(b"3".to_vec()));
    // A checkpoint in between makes tables of what was changed.
    let mut tx = begin(&client);
    scanned(&mut tx, range(), 100);
    tx.put(KS, b"sum", b"?").unwrap();
    put(&client, b"row04", b"changed");
    engine.checkpoint().unwrap();
    refused(tx.commit().wait(), |r| *r == TxError::RangeChanged);
}

#[test]
fn a_scan_has_own_writes_in_their_places_in_both_directions() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    for key in ["b", "d", "f"] {
        put(&client, key.as_bytes(), b"stored");
    }
    let mut tx = begin(&client);
    for key in ["a", "d", "e", "g"] {
        tx.put(KS, key.as_bytes(), b"own").unwrap();
    }
    tx.delete(KS, b"f").unwrap();
    tx.delete(KS, b"nothing").unwrap();
    let own = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let mut expected = vec![own("a", "own"), own("b", "stored"), own("d", "own"), own("e", "own"), own("g", "own")];
    assert_eq!(scanned(&mut tx, ScanRange::all(KS), 100), expected);
    assert_eq!(scanned(&mut tx, ScanRange::all(KS), 3), expected[..3]);
    expected.reverse();
    assert_eq!(scanned(&mut tx, ScanRange { reverse: true, ..ScanRange::all(KS) }, 100), expected);
    let middle = ScanRange {
        lower: std::ops::Bound::Excluded(b"a".to_vec()),
        upper: std::ops::Bound::Excluded(b"e".to_vec()),
        ..ScanRange::all(KS)
    };
    assert_eq!(scanned(&mut tx, middle, 100), [own("b", "stored"), own("d", "own")]);
    tx.commit().wait().unwrap();
}

#[test]
fn savepoints_take_writes_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut tx = begin(&client);
    tx.put(KS, b"a", b"1").unwrap();
    let first = tx.savepoint().unwrap();
    tx.put(KS, b"a", b"2").unwrap();
    tx.put(KS, b"b", b"2").unwrap();
    let second = tx.savepoint().unwrap();
    tx.delete(KS, b"a").unwrap();
    tx.rollback_to(second).unwrap();
    assert_eq!(read(&mut tx, b"a"), Some(b"2".to_vec()));
    // Two of "a" and two of "b"; and what was before the first savepoint: "a" with its key, and "b", which was not there.
    assert_eq!(tx.usage().write_bytes, 2 + 2 + 3 + 1);
    tx.rollback_to(first).unwrap();
    refused(tx.rollback_to(second), |r| *r == TxError::NoSavepoint { number: second.0 });
    assert_eq!((read(&mut tx, b"a"), read(&mut tx, b"b")), (Some(b"1".to_vec()), None));
    assert_eq!(tx.usage().write_bytes, 2);
    tx.put(KS, b"c", b"3").unwrap();
    tx.release(first).unwrap();
    refused(tx.rollback_to(first), |r| matches!(r, TxError::NoSavepoint { .. }));
    tx.commit().wait().unwrap();
    assert_eq!((bytes(&client, b"a"), bytes(&client, b"b")), (Some(b"1".to_vec()), None));
    assert_eq!(bytes(&client, b"c"), Some(b"3".to_vec()));
}

#[test]
fn a_condition_is_part_of_what_must_hold() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut tx = begin(&client);
    assert!(tx.put_if(KS, b"k", b"1", &Condition::Absent).unwrap());
    assert!(!tx.put_if(KS, b"k", b"2", &Condition::Absent).unwrap());
    assert!(tx.put_if(KS, b"k", b"2", &Condition::Equal(b"1".to_vec())).unwrap());
    put(&client, b"k", b"another's");
    refused(tx.commit().wait(), |r| matches!(r, TxError::Changed { .. }));
}

#[test]
fn write_skew_is_refused_but_under_snapshot_isolation() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let keys = spread(&client);
    for (isolation, both) in [(Isolation::StrictSerializable, false), (Isolation::Snapshot, true)] {
        let mut one = with(&client, |options| options.isolation = isolation);
        let mut other = with(&client, |options| options.isolation = isolation);
        for tx in [&mut one, &mut other] {
            read(tx, &keys[0]);
            read(tx, &keys[1]);
        }
        one.put(KS, &keys[0], b"one").unwrap();
        other.put(KS, &keys[1], b"other").unwrap();
        one.commit().wait().unwrap();
        assert_eq!(other.commit().wait().is_ok(), both, "{isolation:?}");
    }
    // Also there the first to write a key wins.
    let mut one = with(&client, |options| options.isolation = Isolation::Snapshot);
    let mut other = with(&client, |options| options.isolation = Isolation::Snapshot);
    for tx in [&mut one, &mut other] {
        read(tx, &keys[0]);
        tx.put(KS, &keys[0], b"x").unwrap();
    }
    one.commit().wait().unwrap();
    refused(other.commit().wait(), |r| matches!(r, TxError::Changed { .. }));
}

#[test]
fn a_kept_key_is_changed_by_no_other_transaction_and_the_younger_waits() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    put(&client, b"k", b"0");
    let mut old = begin(&client);
    assert_eq!(old.get_for_update(KS, b"k").unwrap().unwrap().bytes, b"0");
    let mut blind = begin(&client);
    blind.put(KS, b"k", b"blind").unwrap();
    refused(blind.commit().wait(), |r| matches!(r, TxError::Kept { .. }));
    let (client2, began) = (client.clone(), Instant::now());
    let young = std::thread::spawn(move || {
        let mut young = begin(&client2);
        let seen = young.get_for_update(KS, b"k").unwrap().unwrap().bytes;
        young.put(KS, b"k", b"young").unwrap();
        young.commit().wait().unwrap();
        (seen, began.elapsed())
    });
    std::thread::sleep(Duration::from_millis(100));
    old.put(KS, b"k", b"old").unwrap();
    old.commit().wait().unwrap();
    let (seen, waited) = young.join().unwrap();
    assert_eq!(seen, b"old");
    assert!(waited >= Duration::from_millis(90), "{waited:?}");
    assert_eq!(bytes(&client, b"k"), Some(b"young".to_vec()));
    assert_eq!(engine.stats().transactions.waits, 1);
}

#[test]
fn a_key_that_was_read_before_it_is_kept_must_be_the_same_still() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    put(&client, b"k", b"1");
    let mut tx = begin(&client);
    assert_eq!(read(&mut tx, b"k"), Some(b"1".to_vec()));
    put(&client, b"k", b"2");
    refused(tx.get_for_update(KS, b"k"), |r| matches!(r, TxError::Changed { .. }));
    refused(tx.commit().wait(), |r| matches!(r, TxError::Ended { .. }));
}

#[test]
fn of_two_that_want_each_others_keys_the_younger_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let keys = spread(&client);
    let mut old = begin(&client);
    let mut young = begin(&client);
    old.get_for_update(KS, &keys[0]).unwrap();
    young.get_for_update(KS, &keys[1]).unwrap();
    // The older one takes it, without waiting for the client of the younger.
    old.get_for_update(KS, &keys[1]).unwrap();
    refused(young.get(KS, b"anything"), |r| *r == TxError::Wounded);
    refused(young.commit().wait(), |r| matches!(r, TxError::Ended { .. }));
    old.put(KS, &keys[1], b"old").unwrap();
    old.commit().wait().unwrap();
    assert_eq!(engine.stats().transactions.aborted_wounded, 1);
}

#[test]
fn a_transaction_left_open_is_ended_by_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut left = with(&client, |options| options.timeout = Duration::from_millis(200));
    left.get_for_update(KS, b"k").unwrap();
    left.put(KS, b"k", b"left").unwrap();
    let mut next = begin(&client);
    next.get_for_update(KS, b"k").unwrap();
    next.put(KS, b"k", b"next").unwrap();
    next.commit().wait().unwrap();
    refused(left.commit().wait(), |r| matches!(r, TxError::Wounded | TxError::TooOld { .. }));
    assert_eq!(bytes(&client, b"k"), Some(b"next".to_vec()));
}

#[test]
fn a_commit_that_is_refused_lets_go_of_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut fenced = begin(&client);
    fenced.get_for_update(KS, b"k").unwrap();
    fenced.put(KS, b"k", b"fenced").unwrap();
    fenced.guard(Guard { name: b"nobody holds it".to_vec(), token: FencingToken(7) }).unwrap();
    assert!(matches!(fenced.commit().wait(), Err(Error::Lock(_))));
    // Its handle is still there, and it is the older one.
    let began = Instant::now();
    let mut next = begin(&client);
    next.get_for_update(KS, b"k").unwrap();
    next.put(KS, b"k", b"next").unwrap();
    next.commit().wait().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "it waited for the time of the one before");
}

#[test]
fn limits_and_wrong_calls_have_clear_errors() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut reader = with(&client, |options| options.read_only = true);
    refused(reader.put(KS, b"k", b"v"), |r| *r == TxError::ReadOnly);
    refused(reader.get_for_update(KS, b"k"), |r| *r == TxError::ReadOnly);
    assert_eq!(reader.commit().wait().unwrap(), CommitTs::ZERO);
    let mut large = begin(&client);
    let value = vec![0; 60 << 20];
    large.put(KS, b"a", &value).unwrap();
    large.put(KS, b"b", &value).unwrap();
    refused(large.put(KS, b"c", &value), |r| matches!(r, TxError::TooLarge { .. }));
    assert!(large.is_open());
    // The same key again counts once.
    large.put(KS, b"b", &value).unwrap();
    large.rollback().unwrap();
    assert!(client.begin(TransactionOptions { timeout: Duration::ZERO, ..Default::default() }).is_err());
    let mut open = begin(&client);
    open.put(KS, b"k", b"v").unwrap();
    engine.close().unwrap();
    assert!(matches!(open.commit().wait(), Err(Error::Closed)));
}

/// It is still open then, without the read that was one too many; a transaction that only reads has no such limit.
#[test]
fn reads_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let key = |n: u64| format!("none{n}").into_bytes();
    let mut many = begin(&client);
    let max = many.usage().reads_max;
    for n in 0..max {
        assert!(many.get(KS, &key(n)).unwrap().is_none());
    }
    let full =
        |r: &TxError| matches!(r, TxError::TooLarge { what: "reads", used, max: of } if *used == max + 1 && *of == max);
    refused(many.get(KS, &key(max)), full);
    refused(many.scan(ScanRange::prefix(KS, b"none"), 1), full);
    assert!(many.get(KS, &key(0)).unwrap().is_none(), "it was read before");
    assert!(many.is_open());
    assert_eq!(many.usage().reads, max);
    many.put(KS, b"k", b"v").unwrap();
    many.commit().wait().unwrap();
    assert_eq!(bytes(&client, b"k"), Some(b"v".to_vec()));
    let mut reader = with(&client, |options| options.read_only = true);
    for n in 0..=max {
        assert!(reader.get(KS, &key(n)).unwrap().is_none());
    }
    assert_eq!(reader.usage().reads, 0);
}

#[test]
fn money_is_neither_made_nor_lost_among_many_threads() {
    const ACCOUNTS: u64 = 8;
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let account = |i: u64| format!("account{i}").into_bytes();
    for i in 0..ACCOUNTS {
        put(&client, &account(i), b"100");
    }
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..4u64)
        .map(|n| {
            let client = client.clone();
            std::thread::spawn(move || {
                for i in 0..150u64 {
                    let (from, to) = (account((n * 31 + i * 7) % ACCOUNTS), account((n * 17 + i * 5 + 1) % ACCOUNTS));
                    if from == to {
                        continue;
                    }
                    let move_one = |tx: &mut Transaction| {
                        let balance = |tx: &mut Transaction, key: &[u8]| {
                            let found = if n == 0 { tx.get_for_update(KS, key)? } else { tx.get(KS, key)? };
                            Ok::<i64, Error>(number(&found.unwrap().bytes))
                        };
                        let (a, b) = (balance(tx, &from)?, balance(tx, &to)?);
                        tx.put(KS, &from, (a - 1).to_string().as_bytes())?;
                        tx.put(KS, &to, (b + 1).to_string().as_bytes())
                    };
                    client.transact(TransactionOptions::default(), move_one).unwrap();
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..2)
        .map(|n| {
            let (client, over, seen) = (client.clone(), Arc::clone(&over), Arc::clone(&seen));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut tx = with(&client, |options| options.read_only = true);
                    let sum: i64 = if n == 0 {
                        (0..ACCOUNTS).map(|i| number(&read(&mut tx, &account(i)).unwrap())).sum()
                    } else {
                        scanned(&mut tx, ScanRange::prefix(KS, b"account"), 100).iter().map(|row| number(&row.1)).sum()
                    };
                    assert_eq!(sum, 100 * ACCOUNTS as i64);
                    tx.commit().wait().unwrap();
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    over.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let stats = engine.stats().transactions;
    assert!(stats.committed >= 500 && seen.load(Ordering::Relaxed) > 0, "{stats:?}");
    assert_eq!(stats.open, 0);
}

#[test]
fn who_saw_a_commit_on_one_shard_sees_it_on_every_other() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let keys = spread(&client);
    let over = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (client, keys, over) = (client.clone(), keys.clone(), Arc::clone(&over));
        std::thread::spawn(move || {
            let number = |key: &[u8]| bytes(&client, key).map_or(0, |v| u64::from_le_bytes(v.try_into().unwrap()));
            let (mut last, mut reads) = (0, 0u64);
            while !over.load(Ordering::Relaxed) {
                for key in keys.iter().chain(keys.iter().rev()) {
                    let now = number(key);
                    assert!(now >= last, "{now} on {key:?} after {last}");
                    last = now;
                    reads += 1;
                }
            }
            reads
        })
    };
    for number in 1..=400u64 {
        let names: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let own = keys.clone();
        let written = client.run_over(Keys::Of(&names), Vec::new(), WriteOptions::default(), move |tx| {
            for key in &own {
                tx.put(KS, key, &number.to_le_bytes(), corering_engine::Kind::BYTES, corering_engine::Expiry::NEVER)?;
            }
            Ok(())
        });
        written.wait().unwrap();
    }
    over.store(true, Ordering::Relaxed);
    assert!(watcher.join().unwrap() > 400);
}

#[test]
fn a_batch_over_idle_shards_is_durable_at_every_level_and_flushes_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let flushes = || engine.stats().shards.iter().map(|shard| shard.counters.flushes).collect::<Vec<_>>();
    let sum = |flushes: &[u64]| flushes.iter().sum::<u64>();
    let began = flushes();
    let mut one_by_one = 0;
    for n in 0..50u64 {
        let before = flushes();
        let mut batch = corering_engine::WriteBatch::new();
        for key in &spread(&client) {
            batch.put(KS, key, &n.to_le_bytes());
        }
        let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
        client.write_batch(batch, options).wait().unwrap();
        let made = sum(&flushes()) - sum(&before);
        assert!(made >= 1, "it was answered before anything was durable");
        one_by_one += u64::from(made == 1);
    }
    // Now and then the flush comes between that makes the carried parts durable in their own logs.
    assert!(one_by_one >= 3, "{one_by_one} of 50 were durable with one flush");
    let all_have = || flushes().iter().zip(&began).all(|(now, before)| now > before);
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while !all_have() {
        assert!(std::time::Instant::now() < until, "parts that were carried stay without a flush of their own");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_wait_for_a_key_ends_with_its_transaction_and_with_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let (mut old, mut young, mut youngest) = (begin(&client), begin(&client), begin(&client));
    old.get_for_update(KS, b"k").unwrap();
    let (rolled_back, closed) = (youngest.keep(KS, b"k").unwrap(), young.keep(KS, b"k").unwrap());
    youngest.rollback().unwrap();
    assert!(matches!(rolled_back.wait(), Err(Error::Closed)));
    assert!(!closed.is_ready());
    engine.close().unwrap();
    assert!(matches!(closed.wait(), Err(Error::Closed)));
}

#[test]
fn an_age_is_taken_over_only_from_a_transaction_that_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let again = |number| client.begin(TransactionOptions { again: Some(number), ..TransactionOptions::default() });
    let mut first = begin(&client);
    let number = first.number();
    assert!(matches!(again(number).err(), Some(Error::InvalidArgument { .. })));
    assert!(matches!(again(TxNumber(u64::MAX)).err(), Some(Error::InvalidArgument { .. })));
    first.rollback().unwrap();
    assert_eq!(again(number).unwrap().number(), number);
    assert_eq!(engine.stats().transactions.open, 0);
    engine.close().unwrap();
}

#[test]
fn one_that_lost_has_its_turn_when_it_is_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let again =
        |number| client.begin(TransactionOptions { again: Some(number), ..TransactionOptions::default() }).unwrap();
    put(&client, b"k", b"0");
    let loses = || {
        let mut tx = begin(&client);
        read(&mut tx, b"k");
        tx.put(KS, b"k", b"lost").unwrap();
        put(&client, b"k", b"between");
        refused(tx.commit().wait(), |why| matches!(why, TxError::Changed { .. }));
        tx.number()
    };
    let (older, younger) = (loses(), loses());
    assert_eq!(client.pause(Some(older), 40), Duration::ZERO);
    let mut second = again(younger);
    second.wait_turn().unwrap();
    // The older one comes first, whoever asks first.
    let mut first = again(older);
    first.wait_turn().unwrap();
    refused(second.commit().wait(), |why| *why == TxError::Wounded);
    drop(second);
    let mut second = again(younger);
    let turn = second.turn().unwrap();
    assert!(turn.iter().any(|kept| !kept.is_ready()));
    // Nobody comes between any more.
    let mut third = begin(&client);
    third.put(KS, b"k", b"third").unwrap();
    refused(third.commit().wait(), |why| matches!(why, TxError::Kept { .. }));
    assert_eq!(read(&mut first, b"k").unwrap(), b"between");
    first.put(KS, b"k", b"first").unwrap();
    first.commit().wait().unwrap();
    turn.into_iter().for_each(|kept| kept.wait().unwrap());
    assert_eq!(read(&mut second, b"k").unwrap(), b"first");
    second.put(KS, b"k", b"second").unwrap();
    second.commit().wait().unwrap();
    // What committed lost nowhere, and one that only reads waits for nobody.
    assert!(again(older).turn().unwrap().is_empty());
    let reads = TransactionOptions { again: Some(third.number()), read_only: true, ..TransactionOptions::default() };
    assert!(client.begin(reads).unwrap().turn().unwrap().is_empty());
    assert_eq!(bytes(&client, b"k").unwrap(), b"second");
    engine.close().unwrap();
}

#[test]
fn the_weaker_isolation_refuses_whose_key_was_changed_whatever_it_read_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let keys = spread(&client);
    let snapshot = || with(&client, |options| options.isolation = Isolation::Snapshot);
    // What it read lies on a shard that its commit does not take.
    let mut tx = snapshot();
    read(&mut tx, &keys[0]);
    tx.put(KS, &keys[1], b"lost").unwrap();
    put(&client, &keys[1], b"between");
    refused(tx.commit().wait(), |why| matches!(why, TxError::Changed { .. }));
    // A key that is kept after it was written, and changed before.
    let mut tx = snapshot();
    read(&mut tx, &keys[0]);
    tx.put(KS, &keys[1], b"lost").unwrap();
    put(&client, &keys[1], b"between again");
    assert_eq!(tx.get_for_update(KS, &keys[1]).unwrap().unwrap().bytes, b"lost");
    refused(tx.commit().wait(), |why| matches!(why, TxError::Changed { .. }));
    assert_eq!(bytes(&client, &keys[1]).unwrap(), b"between again");
    engine.close().unwrap();
}

#[test]
fn those_who_lose_do_not_lose_again_and_again() {
    const EACH: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    put(&client, b"k", b"0");
    let adders: Vec<_> = (0..12)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || {
                for _ in 0..EACH {
                    let add = |tx: &mut Transaction| {
                        let sum = number(&tx.get(KS, b"k")?.unwrap().bytes);
                        tx.put(KS, b"k", (sum + 1).to_string().as_bytes())
                    };
                    client.transact(TransactionOptions::default(), add).unwrap();
                }
            })
        })
        .collect();
    adders.into_iter().for_each(|adder| adder.join().unwrap());
    assert_eq!(number(&bytes(&client, b"k").unwrap()), 12 * EACH as i64);
    let stats = engine.stats().transactions;
    println!("{stats:?}");
    assert!(stats.retried <= 2 * 12 * EACH, "{stats:?}");
    engine.close().unwrap();
}

type Writes = BTreeMap<u64, Option<Vec<u8>>>;

/// Beside a model that copies all writes at each savepoint.
#[test]
fn savepoints_of_any_order_are_those_of_a_copy_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    for seed in 0..60u64 {
        let mut rng = Rng::stream(seed, "savepoints");
        let mut tx = begin(&client);
        let mut model = Writes::new();
        let mut points: Vec<(Savepoint, Writes)> = Vec::new();
        for step in 0..200u64 {
            let key = rng.below(8);
            match rng.below(10) {
                0..=4 => {
                    let value = vec![step as u8; rng.below(400) as usize];
                    tx.put(KS, &key.to_be_bytes(), &value).unwrap();
                    model.insert(key, Some(value));
                }
                5 => {
                    tx.delete(KS, &key.to_be_bytes()).unwrap();
                    model.insert(key, None);
                }
                6 | 7 => points.push((tx.savepoint().unwrap(), model.clone())),
                other if !points.is_empty() => {
                    let at = rng.below(points.len() as u64) as usize;
                    let (point, before) = points[at].clone();
                    if other == 8 {
                        tx.rollback_to(point).unwrap();
                        points.truncate(at + 1);
                        model = before;
                    } else {
                        tx.release(point).unwrap();
                        points.truncate(at);
                    }
                }
                _ => {}
            }
            if let Some((key, expected)) = model.iter().nth(rng.below(8) as usize) {
                assert_eq!(read(&mut tx, &key.to_be_bytes()), *expected, "seed {seed}, step {step}, key {key}");
            }
        }
        if let Some((first, _)) = points.first() {
            tx.release(*first).unwrap();
        }
        let bytes: usize = model.values().map(|value| 8 + value.as_ref().map_or(0, Vec::len)).sum();
        assert_eq!(tx.usage().write_bytes, bytes as u64, "seed {seed}: something is counted that is not there");
        tx.rollback().unwrap();
    }
}

#[test]
fn what_savepoints_remember_counts_and_is_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut tx = begin(&client);
    let value = vec![7; 1 << 20];
    tx.put(KS, b"k", &value).unwrap();
    tx.savepoint().unwrap();
    (0..300).for_each(|_| tx.put(KS, b"k", &value).unwrap());
    let used = tx.usage().write_bytes;
    assert!((2 << 20..3 << 20).contains(&used), "{used}");
    // Each savepoint remembers one more.
    let refusal = (0..1000).find_map(|_| {
        tx.savepoint().unwrap();
        tx.put(KS, b"k", &value).err()
    });
    let refusal = refusal.expect("it grows without end");
    assert!(matches!(refusal, Error::Tx(TxError::TooLarge { what: "bytes of writes", .. })), "{refusal}");
    assert!(tx.is_open());
    let more = (0..20_000).find_map(|_| tx.savepoint().err()).expect("savepoints without end");
    assert!(matches!(more, Error::Tx(TxError::TooLarge { what: "savepoints", .. })), "{more}");
    tx.rollback().unwrap();
}

#[test]
fn a_transaction_filled_to_its_limit_commits() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut tx = with(&client, |options| options.timeout = Duration::from_secs(600));
    let value = vec![7; 8 << 20];
    let mut last = 0u64;
    while tx.put(KS, &last.to_be_bytes(), &value).is_ok() {
        last += 1;
    }
    let usage = tx.usage();
    let left = (usage.write_bytes_max - usage.write_bytes) as usize;
    tx.put(KS, &last.to_be_bytes(), &value[..left - 8]).unwrap();
    let usage = tx.usage();
    assert_eq!(usage.write_bytes, usage.write_bytes_max);
    refused(tx.put(KS, b"one more", b""), |refusal| matches!(refusal, TxError::TooLarge { .. }));
    let commit = tx.commit().wait().unwrap();
    assert_eq!(client.fate(tx.id()).wait().unwrap(), Fate::Committed(commit));
    assert_eq!(bytes(&client, &last.to_be_bytes()).unwrap().len(), left - 8);
}

#[test]
fn a_fate_that_is_forgotten_is_not_told_as_that_of_one_that_never_happened() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut short = with(&client, |options| options.remember = Duration::from_millis(30));
    let mut never = with(&client, |options| options.remember = Duration::ZERO);
    let mut open = with(&client, |_| ());
    for tx in [&mut short, &mut never, &mut open] {
        tx.put(KS, b"k", b"v").unwrap();
    }
    let commit = short.commit().wait().unwrap();
    assert_eq!(client.fate(short.id()).wait().unwrap(), Fate::Committed(commit));
    std::thread::sleep(Duration::from_millis(60));
    let forgotten = |refusal: &TxError| matches!(refusal, TxError::Forgotten { .. });
    refused(client.fate(short.id()).wait(), forgotten);
    open.rollback().unwrap();
    assert_eq!(client.fate(open.id()).wait().unwrap(), Fate::NotCommitted);
    never.commit().wait().unwrap();
    refused(client.fate(never.id()).wait(), forgotten);
}

#[test]
fn what_committed_by_itself_is_not_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let mut runs = 0;
    let done = client.transact(TransactionOptions::default(), |tx| {
        runs += 1;
        tx.put(KS, b"k", &[runs])?;
        tx.commit().wait()?;
        Err::<(), _>(Error::Tx(TxError::RangeChanged))
    });
    assert!(matches!(done, Err(Error::Tx(TxError::RangeChanged))), "{done:?}");
    assert_eq!((runs, bytes(&client, b"k")), (1, Some(vec![1])));
}
