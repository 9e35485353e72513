//! Keys that end by their time, as watches tell of them: docs/watch.md, promise 14.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corering_engine::{
    Client, CommitTs, Engine, Expiry, Keyspace, Options, Watch, WatchEvent, WatchKeys, WatchOptions, What, WriteOptions,
};
use tempfile::TempDir;

const KS: Keyspace = Keyspace(0);
const SOON: Option<Duration> = Some(Duration::from_secs(20));
const BRIEF: Option<Duration> = Some(Duration::from_millis(60));

struct Db {
    dir: TempDir,
    engine: Option<Engine>,
}

impl Db {
    fn new() -> Db {
        let mut db = Db { dir: TempDir::new().unwrap(), engine: None };
        db.reopen();
        db
    }

    fn reopen(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close().unwrap();
        }
        let options = Options { shards: Some(2), ..Options::default() };
        self.engine = Some(Engine::open(self.dir.path(), options).unwrap());
    }

    fn client(&self) -> Client {
        self.engine.as_ref().unwrap().client()
    }

    fn put(&self, key: &[u8], lives: Option<Duration>) -> CommitTs {
        let expiry = lives.map_or(Expiry::NEVER, |lives| Expiry::at_ms(now_ms() + lives.as_millis() as u64));
        self.client().put(KS, key, b"v", WriteOptions { expiry, ..WriteOptions::default() }).wait().unwrap()
    }

    fn watch(&self, keys: WatchKeys, from: Option<CommitTs>) -> Watch {
        self.client().watch(KS, keys, WatchOptions { from, ..WatchOptions::default() }).unwrap()
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn ms(ms: u64) -> Option<Duration> {
    Some(Duration::from_millis(ms))
}

fn one(key: &[u8]) -> WatchKeys {
    WatchKeys::One(key.to_vec())
}

fn below(prefix: &[u8]) -> WatchKeys {
    WatchKeys::Prefix(prefix.to_vec())
}

fn next(watch: &Watch) -> WatchEvent {
    watch.wait(SOON).unwrap().expect("nothing came")
}

/// The event is the end of this key alone.
fn assert_ends(event: &WatchEvent, key: &[u8]) {
    assert_eq!(event.changes.len(), 1, "{event:?}");
    assert_eq!((event.changes[0].key.as_slice(), &event.changes[0].what), (key, &What::Deleted));
}

#[test]
fn the_end_of_a_key_is_told_in_its_place_and_once() {
    let db = Db::new();
    let (of_key, of_all) = (db.watch(one(b"k"), None), db.watch(below(b""), None));
    let until = now_ms() + 150;
    let put = db.put(b"k", ms(150));
    for watch in [&of_key, &of_all] {
        assert_eq!(next(watch).at, put);
        let end = next(watch);
        assert!(now_ms() >= until, "told before its time");
        assert_ends(&end, b"k");
        assert!(end.at > put);
        assert!(watch.wait(BRIEF).unwrap().is_none(), "once");
    }
    assert!(db.client().get(KS, b"k").unwrap().is_none());
    // Whoever resumes behind it is not told again, whoever resumes before it is.
    let (before, behind) = (db.watch(one(b"k"), Some(put)), db.watch(one(b"k"), Some(of_key.progress())));
    assert_ends(&next(&before), b"k");
    assert!(before.wait(BRIEF).unwrap().is_none() && behind.wait(BRIEF).unwrap().is_none());
}

#[test]
fn a_key_that_stood_there_when_the_watch_began_is_told_wherever_it_lies() {
    let db = Db::new();
    db.put(b"a-table", ms(700));
    db.put(b"a-for-ever", None);
    db.put(b"a-longer", ms(100_000));
    db.engine.as_ref().unwrap().checkpoint().unwrap();
    db.put(b"a-memory", ms(700));
    db.put(b"b-elsewhere", ms(1));
    let (prefix, key) = (db.watch(below(b"a-"), None), db.watch(one(b"a-table"), None));
    let mut ended = [next(&prefix), next(&prefix)];
    ended.sort_by_key(|event| event.changes[0].key.clone());
    assert_ends(&ended[0], b"a-memory");
    assert_ends(&ended[1], b"a-table");
    assert_ends(&next(&key), b"a-table");
    assert!(prefix.wait(BRIEF).unwrap().is_none() && key.wait(BRIEF).unwrap().is_none());
}

#[test]
fn a_key_that_was_written_again_ends_by_its_last_time() {
    let db = Db::new();
    let watch = db.watch(below(b""), None);
    db.put(b"stays", ms(50));
    db.put(b"stays", None);
    db.put(b"later", ms(50));
    let until = now_ms() + 400;
    db.put(b"later", ms(400));
    db.put(b"sooner", ms(100_000));
    db.put(b"sooner", ms(100));
    db.put(b"gone", ms(50));
    db.client().delete(KS, b"gone", WriteOptions::default()).wait().unwrap();
    (0..8).for_each(|_| drop(next(&watch)));
    assert_ends(&next(&watch), b"sooner");
    assert_ends(&next(&watch), b"later");
    assert!(now_ms() >= until);
    assert!(watch.wait(BRIEF).unwrap().is_none());
    assert!(db.client().get(KS, b"stays").unwrap().is_some());
}

/// Nobody watched when it ended, and the engine was closed meanwhile: whoever goes on from before is told.
#[test]
fn what_ended_while_nobody_watched_is_told_to_whoever_goes_on_and_to_nobody_else() {
    let mut db = Db::new();
    let start = db.client().last_commit();
    let in_table = db.put(b"k1", ms(50));
    db.engine.as_ref().unwrap().checkpoint().unwrap();
    let in_log = db.put(b"k2", ms(50));
    db.reopen();
    std::thread::sleep(Duration::from_millis(100));
    let fresh = db.watch(below(b"k"), None);
    assert!(fresh.wait(BRIEF).unwrap().is_none(), "it was over before");
    let resumed = db.watch(below(b"k"), Some(in_log.max(in_table).max(start)));
    let mut ended = [next(&resumed), next(&resumed)];
    ended.sort_by_key(|event| event.changes[0].key.clone());
    assert_ends(&ended[0], b"k1");
    assert_ends(&ended[1], b"k2");
    assert!(resumed.wait(BRIEF).unwrap().is_none());
    // The deletes are commits like others: they are read back by whoever goes on from before them.
    db.reopen();
    let again = db.watch(below(b"k"), Some(in_log.max(in_table)));
    assert_eq!([next(&again).at, next(&again).at].iter().max(), ended.iter().map(|event| &event.at).max());
    assert!(again.wait(BRIEF).unwrap().is_none());
}

#[test]
fn thousands_of_keys_that_end_at_once_are_all_told() {
    let db = Db::new();
    let watch = db.watch(below(b"n"), None);
    let fast = WriteOptions {
        durability: Some(corering_engine::Durability::None),
        expiry: Expiry::at_ms(now_ms() + 1000),
        ..WriteOptions::default()
    };
    for n in 0..3000u32 {
        let key = [b"n".as_slice(), &n.to_be_bytes()].concat();
        db.client().put(KS, &key, b"v", fast).wait().unwrap();
    }
    let mut alive = std::collections::BTreeSet::new();
    let (mut told, mut last) = (0, CommitTs::ZERO);
    while told < 3000 {
        let event = next(&watch);
        assert!(event.at > last);
        last = event.at;
        for change in &event.changes {
            match change.what {
                What::Put { .. } => assert!(alive.insert(change.key.clone())),
                What::Deleted => {
                    told += 1;
                    assert!(alive.remove(&change.key), "{:?} ended twice, or before it was put", change.key);
                }
            }
        }
    }
    assert!(alive.is_empty() && watch.wait(BRIEF).unwrap().is_none());
}
