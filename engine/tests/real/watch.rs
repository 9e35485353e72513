//! Watches on a real engine: the table of docs/watch.md, row by row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corering_engine::{
    Client, CommitTs, Durability, Engine, Error, Keyspace, NewSession, Options, ScanRange, Watch, WatchEvent,
    WatchKeys, WatchOptions, What, WriteBatch, WriteOptions,
};
use tempfile::TempDir;

const KS: Keyspace = Keyspace(0);
const SOON: Option<Duration> = Some(Duration::from_secs(20));
const BRIEF: Option<Duration> = Some(Duration::from_millis(50));

struct Db {
    dir: TempDir,
    engine: Option<Engine>,
    options: Options,
}

impl Db {
    fn new(options: Options) -> Db {
        let dir = TempDir::new().unwrap();
        let engine = Some(Engine::open(dir.path(), options.clone()).unwrap());
        Db { dir, engine, options }
    }

    fn reopen(&mut self, options: Options) {
        self.engine.take().unwrap().close().unwrap();
        self.options = options;
        self.engine = Some(Engine::open(self.dir.path(), self.options.clone()).unwrap());
    }

    fn client(&self) -> Client {
        self.engine.as_ref().unwrap().client()
    }

    fn put(&self, key: &[u8], value: &[u8]) -> CommitTs {
        self.client().put(KS, key, value, fast()).wait().unwrap()
    }

    fn watch(&self, keys: WatchKeys, from: Option<CommitTs>) -> Watch {
        self.client().watch(KS, keys, WatchOptions { from, ..WatchOptions::default() }).unwrap()
    }
}

fn shards(n: u16) -> Options {
    Options { shards: Some(n), ..Options::default() }
}

fn fast() -> WriteOptions {
    WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() }
}

fn all() -> WatchKeys {
    WatchKeys::Prefix(Vec::new())
}

fn next(watch: &Watch) -> WatchEvent {
    watch.wait(SOON).unwrap().expect("nothing came")
}

/// Key, and value or `None` for a delete, of each change.
fn shown(event: &WatchEvent) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let value = |what: &What| match what {
        What::Put { value, .. } => Some(value.clone()),
        What::Deleted => None,
    };
    event.changes.iter().map(|change| (change.key.clone(), value(&change.what))).collect()
}

fn put(key: &[u8], value: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    (key.to_vec(), Some(value.to_vec()))
}

#[test]
fn changes_come_once_in_order_and_only_those_that_were_asked_for() {
    let db = Db::new(shards(3));
    let client = db.client();
    db.put(b"a", b"before");
    let (one, prefix, everything) = (
        db.watch(WatchKeys::One(b"a".to_vec()), None),
        db.watch(WatchKeys::Prefix(b"a".to_vec()), None),
        db.watch(all(), None),
    );
    let mut expected = Vec::new();
    for n in 0..60u32 {
        let key = [b"a".to_vec(), format!("a{n}").into_bytes(), format!("b{n}").into_bytes()][n as usize % 3].clone();
        expected.push((db.put(&key, &n.to_le_bytes()), put(&key, &n.to_le_bytes())));
    }
    let mut batch = WriteBatch::new();
    batch.put(KS, b"{a", b"1").delete(KS, b"{a").put(KS, b"{a", b"2");
    let at = client.write_batch(batch, fast()).wait().unwrap();
    expected.push((at, put(b"{a", b"2")));
    assert!(client.delete(KS, b"a", fast()).wait().unwrap());
    client.put(Keyspace(1), b"a", b"elsewhere", fast()).wait().unwrap();
    for (at, change) in &expected {
        let event = next(&everything);
        assert_eq!((event.at, shown(&event)), (*at, vec![change.clone()]));
    }
    assert_eq!(shown(&next(&everything)), [(b"a".to_vec(), None)]);
    for (watch, matches) in [(&one, b"a".as_slice()), (&prefix, b"a")] {
        let exact = std::ptr::eq(watch, &one);
        let of_watch = |key: &Vec<u8>| if exact { key == matches } else { key.starts_with(matches) };
        for (at, change) in expected.iter().filter(|(_, (key, _))| of_watch(key)) {
            let event = next(watch);
            assert_eq!((event.at, shown(&event)), (*at, vec![change.clone()]));
        }
        assert_eq!(shown(&next(watch)), [(b"a".to_vec(), None)]);
        assert!(watch.wait(BRIEF).unwrap().is_none(), "nothing else");
    }
}

#[test]
fn changes_of_one_batch_come_together() {
    let db = Db::new(shards(2));
    let watch = db.watch(WatchKeys::Prefix(b"{t}".to_vec()), None);
    let mut batch = WriteBatch::new();
    batch.put(KS, b"{t}1", b"x").put(KS, b"other{t}", b"x").delete(KS, b"{t}2").put(KS, b"{t}3", b"y");
    let at = db.client().write_batch(batch, fast()).wait().unwrap();
    let event = next(&watch);
    assert_eq!(event.at, at);
    assert_eq!(shown(&event), [put(b"{t}1", b"x"), (b"{t}2".to_vec(), None), put(b"{t}3", b"y")]);
}

#[test]
fn the_end_of_a_session_is_one_event() {
    let db = Db::new(shards(1));
    let client = db.client();
    let session =
        client.create_session(NewSession { ttl: Duration::from_secs(600), label: Vec::new() }).wait().unwrap();
    let of = WriteOptions { session: Some(session), ..fast() };
    for key in [b"m-1", b"m-2"] {
        client.put(KS, key, b"", of).wait().unwrap();
    }
    let watch = db.watch(WatchKeys::Prefix(b"m-".to_vec()), None);
    client.end_session(session).wait().unwrap();
    assert_eq!(shown(&next(&watch)), [(b"m-1".to_vec(), None), (b"m-2".to_vec(), None)]);
}

/// Several writers on several shards at both levels, while watches come and go from every place reached so far.
#[test]
fn every_watch_sees_the_same_history_from_its_place_on() {
    let db = Db::new(shards(4));
    let start = db.client().last_commit();
    let first = db.watch(all(), Some(start));
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            let client = db.client();
            std::thread::spawn(move || {
                for n in 0..500u64 {
                    let level = if n % 16 == 0 { Durability::Sync } else { Durability::None };
                    let options = WriteOptions { durability: Some(level), ..WriteOptions::default() };
                    let key = format!("k{}", (writer * 7 + n) % 50);
                    client.put(KS, key.as_bytes(), &(writer * 1000 + n).to_le_bytes(), options).wait().unwrap();
                }
            })
        })
        .collect();
    let mut events = Vec::new();
    let mut resumed = Vec::new();
    while events.len() < 2000 {
        let event = next(&first);
        assert!(events.last().is_none_or(|last: &WatchEvent| last.at < event.at));
        assert!(first.progress() >= event.at);
        events.push(event);
        if events.len().is_multiple_of(250) {
            resumed.push((events.len(), db.watch(all(), events.last().map(|event| event.at))));
        }
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    for (from, watch) in &resumed {
        for event in &events[*from..] {
            assert_eq!(next(watch), *event);
        }
    }
    // From the log, after a restart that replays, and after one that has nothing to replay.
    let from = db.watch(all(), Some(start));
    events.iter().for_each(|event| assert_eq!(next(&from), *event));
    assert!(from.wait(BRIEF).unwrap().is_none());
    // The last change of each key is what stands there.
    let mut last = BTreeMap::new();
    events.iter().flat_map(shown).for_each(|(key, value)| drop(last.insert(key, value)));
    let view = db.client().snapshot().unwrap();
    let stored: BTreeMap<_, _> = db
        .client()
        .scan(&view, ScanRange::prefix(KS, b"k"))
        .unwrap()
        .map(|entry| entry.map(|entry| (entry.key, Some(entry.value.bytes))).unwrap())
        .collect();
    assert_eq!(last, stored);
}

#[test]
fn a_watch_goes_on_after_restarts_and_from_before_anybody_watched() {
    let mut db = Db::new(shards(2));
    let mut expected: Vec<(CommitTs, Vec<u8>)> = Vec::new();
    let start = db.client().last_commit();
    for round in 0..4u32 {
        for n in 0..50u32 {
            let value = (round * 100 + n).to_le_bytes();
            expected.push((db.put(format!("k{n}").as_bytes(), &value), value.to_vec()));
        }
        if round == 1 {
            db.engine.as_ref().unwrap().checkpoint().unwrap();
        }
        db.reopen(shards(2));
        for from in [0, 1, expected.len() / 2, expected.len() - 1, expected.len()] {
            let at = if from == 0 { start } else { expected[from - 1].0 };
            let watch = db.watch(all(), Some(at));
            for (at, value) in &expected[from..] {
                let event = next(&watch);
                assert_eq!((event.at, shown(&event)[0].1.as_ref()), (*at, Some(value)));
            }
            assert!(watch.wait(Some(Duration::from_millis(5))).unwrap().is_none());
            assert!(watch.progress() >= expected.last().unwrap().0);
        }
    }
    let live = db.watch(all(), Some(start));
    for _ in &expected {
        next(&live);
    }
    let at = db.put(b"live", b"now");
    assert_eq!(next(&live).at, at);
}

#[test]
fn what_is_no_longer_kept_is_said_and_the_oldest_place_works() {
    let mut db = Db::new(Options { segment_bytes: 64 << 10, memtable_bytes: 64 << 10, ..shards(2) });
    let value = vec![7; 3000];
    let mut last = CommitTs::ZERO;
    for n in 0..600u32 {
        last = db.put(&n.to_le_bytes(), &value);
    }
    db.engine.as_ref().unwrap().checkpoint().unwrap();
    let watch = db.watch(all(), Some(CommitTs::ZERO));
    let oldest = match watch.wait(SOON) {
        Err(Error::Compacted { oldest }) => oldest,
        other => panic!("{other:?}"),
    };
    assert!(oldest > CommitTs::ZERO && oldest < last);
    let watch = db.watch(all(), Some(oldest));
    let mut seen = 0;
    while watch.progress() < last {
        if let Some(event) = watch.wait(BRIEF).unwrap() {
            assert!(event.at > oldest);
            seen += 1;
        }
    }
    assert!(seen > 0 && seen < 600);
    // Another ring: what came before it is gone for watches.
    db.reopen(Options { segment_bytes: 64 << 10, memtable_bytes: 64 << 10, ..shards(3) });
    let watch = db.watch(all(), Some(oldest));
    assert!(matches!(watch.wait(SOON), Err(Error::Compacted { oldest }) if oldest >= last));
    let after = db.watch(all(), Some(db.client().last_commit()));
    let at = db.put(b"k", b"v");
    assert_eq!(next(&after).at, at);
    let future = WatchOptions { from: Some(CommitTs(u64::MAX / 2)), ..WatchOptions::default() };
    assert!(matches!(db.client().watch(KS, all(), future), Err(Error::InvalidArgument { .. })));
}

#[test]
fn whoever_does_not_take_is_cut_off_and_loses_nothing() {
    let db = Db::new(shards(2));
    let options = WatchOptions { limit_bytes: 20_000, ..WatchOptions::default() };
    let slow = db.client().watch(KS, all(), options).unwrap();
    let quick = db.watch(all(), None);
    let mut events = Vec::new();
    for n in 0..200u32 {
        db.put(&n.to_le_bytes(), &[0; 500]);
        events.push(next(&quick));
    }
    let resume = match slow.wait(SOON) {
        Err(Error::Lagged { resume }) => resume,
        other => panic!("{other:?}"),
    };
    assert_eq!(slow.progress(), resume);
    let again = db.watch(all(), Some(resume));
    events.iter().for_each(|event| assert_eq!(next(&again), *event));
}

#[test]
fn progress_goes_on_without_changes_and_never_ahead_of_them() {
    let db = Db::new(shards(2));
    let watch = db.watch(WatchKeys::One(b"rare".to_vec()), None);
    let mut last = CommitTs::ZERO;
    for n in 0..20u32 {
        last = db.put(&n.to_le_bytes(), b"");
    }
    while watch.progress() < last {
        std::thread::sleep(Duration::from_millis(1));
    }
    let rare = db.put(b"rare", b"");
    let after = db.put(b"other", b"");
    std::thread::sleep(Duration::from_millis(20));
    assert!(watch.progress() < rare, "it was not taken");
    assert_eq!(next(&watch).at, rare);
    while watch.progress() < after {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_end_comes_behind_what_waits_and_wakes_whoever_waits() {
    let mut db = Db::new(shards(2));
    let (waits, reads) = (db.watch(all(), None), db.watch(all(), None));
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    reads.on_ready(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let at = db.put(b"k", b"v");
    let waiter = std::thread::spawn(move || {
        assert_eq!(next(&waits).at, at);
        waits.wait(None)
    });
    while told.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    db.reopen(shards(2));
    assert!(matches!(waiter.join().unwrap(), Err(Error::Closed)));
    assert_eq!(reads.try_next().unwrap().unwrap().at, at);
    assert!(matches!(reads.try_next(), Err(Error::Closed)));
    assert!(matches!(futures_lite::future::block_on(reads.next()), Err(Error::Closed)));
}
