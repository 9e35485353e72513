//! Ephemeral and sequential keys on a real engine: the table of docs/watch.md, row by row.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use corering_engine::{
    Client, CommitTs, Condition, Durability, Engine, Error, Expiry, Guard, Keyspace, Kind, LockError, NewSession,
    Options, PutIf, ScanRange, SessionKey, WriteBatch, WriteOptions,
};
use tempfile::TempDir;

const KS: Keyspace = Keyspace(0);
const DAY: Duration = Duration::from_secs(86400);
/// Keys that are hard to place beside something: none, braces of every sort, and long ones.
const KEYS: [&[u8]; 9] = [b"", b"plain", b"{tag}k", b"a}b", b"{}x", b"}", b"{open", &[0xff; 3], &[b'k'; 65534]];

struct Db {
    dir: TempDir,
    engine: Option<Engine>,
}

impl Db {
    fn new(shards: u16) -> Db {
        let mut db = Db { dir: TempDir::new().unwrap(), engine: None };
        db.open(shards);
        db
    }

    fn open(&mut self, shards: u16) {
        if let Some(engine) = self.engine.take() {
            engine.close().unwrap();
        }
        let options = Options { shards: Some(shards), ..Options::default() };
        self.engine = Some(Engine::open(self.dir.path(), options).unwrap());
    }

    fn client(&self) -> Client {
        self.engine.as_ref().unwrap().client()
    }

    fn session(&self, ttl: Duration) -> SessionKey {
        self.client().create_session(NewSession { ttl, label: b"test".to_vec() }).wait().unwrap()
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.client().get(KS, key).unwrap().map(|value| value.bytes)
    }

    fn put(&self, key: &[u8], value: &[u8], session: Option<SessionKey>) {
        self.client().put(KS, key, value, of(session)).wait().unwrap();
    }

    fn owner(&self, key: &[u8]) -> Option<SessionKey> {
        let id = self.client().ephemeral_owner(KS, key).wait().unwrap();
        id.map(|id| SessionKey { id, secret: 0 })
    }
}

fn of(session: Option<SessionKey>) -> WriteOptions {
    WriteOptions { durability: Some(Durability::None), session, ..WriteOptions::default() }
}

fn is_owned_by(db: &Db, key: &[u8], session: SessionKey) -> bool {
    db.owner(key).is_some_and(|owner| owner.id == session.id)
}

#[test]
fn a_key_goes_with_its_session_and_no_other_does() {
    let db = Db::new(3);
    let (a, b) = (db.session(DAY), db.session(DAY));
    for key in KEYS {
        db.put(key, b"a", Some(a));
        assert!(is_owned_by(&db, key, a));
    }
    db.put(b"ordinary", b"o", None);
    db.put(b"of b", b"b", Some(b));
    db.client().end_session(a).wait().unwrap();
    for key in KEYS {
        assert_eq!(db.get(key), None, "{key:?}");
        assert!(db.owner(key).is_none());
    }
    assert_eq!(db.get(b"ordinary").unwrap(), b"o");
    assert_eq!(db.get(b"of b").unwrap(), b"b");
}

#[test]
fn the_last_writer_decides_whose_a_key_is() {
    let db = Db::new(2);
    let (a, b) = (db.session(DAY), db.session(DAY));
    let client = db.client();
    for key in [b"to ordinary".as_slice(), b"to b", b"deleted", b"again", b"batch", b"if", b"counted", b"9"] {
        db.put(key, b"1", Some(a));
    }
    db.put(b"to ordinary", b"2", None);
    db.put(b"to b", b"2", Some(b));
    assert!(client.delete(KS, b"deleted", of(None)).wait().unwrap());
    db.put(b"deleted", b"2", None);
    db.put(b"again", b"2", Some(a));
    let mut batch = WriteBatch::new();
    batch.put(KS, b"batch", b"2");
    client.write_batch(batch, of(None)).wait().unwrap();
    let done = client.put_if(KS, b"if", b"2", Condition::Present, of(None)).wait().unwrap();
    assert!(matches!(done, PutIf::Done(_)));
    assert_eq!(client.incr(KS, b"counted", 1, of(None)).wait().unwrap(), 2);
    assert_eq!(client.incr(KS, b"9", 1, of(Some(b))).wait().unwrap(), 2);
    for (key, owner) in [(b"to ordinary".as_slice(), None), (b"to b", Some(b)), (b"deleted", None), (b"again", Some(a))]
    {
        assert_eq!(db.owner(key).map(|owner| owner.id), owner.map(|owner| owner.id), "{key:?}");
    }
    client.end_session(a).wait().unwrap();
    let left: Vec<&[u8]> = vec![b"to ordinary", b"to b", b"deleted", b"batch", b"if", b"9"];
    for key in left {
        assert_eq!(db.get(key).as_deref(), Some(b"2".as_slice()), "{}", String::from_utf8_lossy(key));
    }
    for key in [b"again".as_slice(), b"counted"] {
        assert_eq!(db.get(key), None);
    }
    client.end_session(b).wait().unwrap();
    assert_eq!((db.get(b"to b"), db.get(b"9")), (None, None));
}

#[test]
fn a_batch_and_a_step_make_ephemeral_keys() {
    let db = Db::new(2);
    let a = db.session(DAY);
    let client = db.client();
    let mut batch = WriteBatch::new();
    batch.put(KS, b"{t}1", b"x").put(KS, b"{t}2", b"x").delete(KS, b"{t}3");
    client.write_batch(batch, of(Some(a))).wait().unwrap();
    let step = move |tx: &mut corering_engine::Tx<'_>| {
        tx.put_as(KS, b"{t}4", b"x", Kind::BYTES, Expiry::NEVER, Some(a.id))?;
        assert_eq!(tx.owner(KS, b"{t}4")?, Some(a.id));
        tx.put_as(KS, b"{t}5", b"x", Kind::BYTES, Expiry::NEVER, Some(a.id))?;
        tx.put(KS, b"{t}5", b"y", Kind::BYTES, Expiry::NEVER)?;
        assert_eq!(tx.owner(KS, b"{t}5")?, None);
        tx.update(KS, b"{t}2", b"y", Kind::BYTES, Expiry::NEVER)?;
        tx.delete(KS, b"{t}1")
    };
    client.run(b"{t}", of(None), step).wait().unwrap();
    assert!(is_owned_by(&db, b"{t}2", a) && is_owned_by(&db, b"{t}4", a));
    assert_eq!(db.get(b"{t}2").unwrap(), b"y");
    client.kill_session(a.id).wait().unwrap();
    let left: Vec<bool> = (1..=5).map(|n| db.get(format!("{{t}}{n}").as_bytes()).is_some()).collect();
    assert_eq!(left, [false, false, false, false, true]);
}

#[test]
fn a_session_that_is_not_live_makes_nothing() {
    let db = Db::new(2);
    let client = db.client();
    let a = db.session(DAY);
    let stranger = SessionKey { secret: a.secret ^ 1, ..a };
    let refused = |session: SessionKey| match client.put(KS, b"k", b"v", of(Some(session))).wait() {
        Err(Error::Lock(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(stranger), LockError::WrongSecret { id: a.id });
    client.end_session(a).wait().unwrap();
    assert_eq!(refused(a), LockError::NoSession { id: a.id });
    // Judged again in the step: whoever passed the first look cannot slip in behind the end.
    let late = client.run(b"k", of(None), move |tx| {
        tx.put(KS, b"other", b"v", Kind::BYTES, Expiry::NEVER).ok();
        tx.put_as(KS, b"k", b"v", Kind::BYTES, Expiry::NEVER, Some(a.id))
    });
    assert!(matches!(late.wait(), Err(Error::Lock(LockError::NoSession { .. }))));
    let batch = {
        let mut batch = WriteBatch::new();
        batch.put(KS, b"k", b"v");
        client.write_batch(batch, of(Some(a))).wait()
    };
    assert!(batch.is_err());
    let guarded = client.run_guarded(b"k", Vec::<Guard>::new(), of(Some(a)), |_| Ok(())).wait();
    assert!(guarded.is_err());
    assert_eq!(db.get(b"k"), None);
    let long = vec![b'x'; 65535];
    let b = db.session(DAY);
    assert!(matches!(client.put(KS, &long, b"", of(Some(b))).wait(), Err(Error::KeyTooLarge { max: 65534, .. })));
}

#[test]
fn keys_of_a_session_that_runs_out_go_by_themselves() {
    let db = Db::new(2);
    let a = db.session(Duration::from_millis(80));
    (0..300u32).for_each(|n| db.put(&n.to_le_bytes(), b"v", Some(a)));
    let begun = Instant::now();
    while (0..300u32).any(|n| db.get(&n.to_le_bytes()).is_some()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn sessions_and_their_keys_outlive_restarts_and_another_shard_count() {
    let mut db = Db::new(2);
    let (a, b) = (db.session(DAY), db.session(DAY));
    let key = |n: u32| if n < KEYS.len() as u32 { KEYS[n as usize].to_vec() } else { format!("key {n}").into_bytes() };
    for n in 0..100 {
        db.put(&key(n), b"v", Some(if n % 3 == 0 { b } else { a }));
    }
    db.put(&key(50), b"ordinary", None);
    for shards in [2, 5, 1, 3] {
        db.open(shards);
        for n in (0..100).filter(|n| *n != 50) {
            assert!(is_owned_by(&db, &key(n), if n % 3 == 0 { b } else { a }), "key {n} with {shards} shards");
        }
        assert!(db.owner(&key(50)).is_none());
        let report = {
            db.engine.take().unwrap().close().unwrap();
            corering_engine::check::check(db.dir.path(), &mut |_| ()).unwrap()
        };
        assert!(report.is_clean(), "{report}");
        db.open(shards);
    }
    db.client().end_session(a).wait().unwrap();
    db.open(4);
    for n in (0..100).filter(|n| *n != 50) {
        assert_eq!(db.get(&key(n)).is_some(), n % 3 == 0, "key {n}");
    }
    db.client().end_session(b).wait().unwrap();
    assert_eq!(db.get(&key(50)).unwrap(), b"ordinary");
    assert!((0..100).filter(|n| *n != 50).all(|n| db.get(&key(n)).is_none()));
}

/// The end was logged and the process died before the removals: the session's key is gone, the entries stand.
#[test]
fn what_a_dead_session_left_is_gone_before_the_first_read() {
    let mut db = Db::new(2);
    let a = db.session(DAY);
    (0..200u32).for_each(|n| db.put(&n.to_be_bytes(), b"v", Some(a)));
    let sessions = Keyspace(0xff01);
    assert!(db.client().delete(sessions, &a.id.0.to_be_bytes(), of(None)).wait().unwrap());
    assert!(db.get(&0u32.to_be_bytes()).is_some());
    db.open(2);
    assert!((0..200u32).all(|n| db.get(&n.to_be_bytes()).is_none()));
    assert!(db.client().sessions().is_empty());
}

#[test]
fn an_expired_key_is_nobodys() {
    let db = Db::new(1);
    let a = db.session(DAY);
    let now = db.client().clock().wall_ms();
    let options = WriteOptions { expiry: Expiry::at_ms(now + 30), ..of(Some(a)) };
    db.client().put(KS, b"k", b"v", options).wait().unwrap();
    assert!(is_owned_by(&db, b"k", a));
    std::thread::sleep(Duration::from_millis(40));
    assert!(db.owner(b"k").is_none());
    assert_eq!(db.client().incr(KS, b"k", 1, of(None)).wait().unwrap(), 1);
    db.client().end_session(a).wait().unwrap();
    assert_eq!(db.get(b"k").unwrap(), b"1");
}

#[test]
fn sequential_keys_grow_and_none_comes_twice() {
    let mut db = Db::new(3);
    let mut seen = BTreeSet::new();
    let mut last: Vec<Vec<u8>> = vec![Vec::new(); 5];
    let prefixes: [&[u8]; 5] = [b"", b"job-", b"{tag}-", b"a}b{", &[0xff, 0]];
    for round in 0..4 {
        let client = db.client();
        for _ in 0..30 {
            for (prefix, last) in prefixes.iter().zip(&mut last) {
                let made = client.put_sequential(KS, prefix, b"v", of(None)).wait().unwrap();
                assert!(made.key.starts_with(prefix) && made.key.len() == prefix.len() + 20);
                let digits = std::str::from_utf8(&made.key[prefix.len()..]).unwrap();
                let number: u64 = digits.parse().unwrap();
                assert!(CommitTs(number) < made.version);
                assert!(seen.insert(number), "{number} came twice");
                assert!(made.key > *last);
                let found = client.get(KS, &made.key).unwrap().unwrap();
                assert_eq!((found.bytes.as_slice(), found.version), (b"v".as_slice(), made.version));
                if number.is_multiple_of(2) {
                    client.delete(KS, &made.key, of(None)).wait().unwrap();
                }
                *last = made.key;
            }
        }
        // Another shard count moves prefixes; the numbers go on.
        db.open([3, 2, 5, 1][round]);
    }
    let long = vec![b'x'; 65517];
    assert!(matches!(db.client().put_sequential(KS, &long, b"", of(None)).wait(), Err(Error::KeyTooLarge { .. })));
}

#[test]
fn the_lowest_of_a_prefix_seen_by_its_maker_stays_the_lowest() {
    let db = Db::new(4);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = db.client();
            std::thread::spawn(move || {
                let mut firsts = Vec::new();
                for _ in 0..40 {
                    let made = client.put_sequential(KS, b"candidate-", b"", of(None)).wait().unwrap();
                    let view = client.snapshot().unwrap();
                    let range = ScanRange::prefix(KS, b"candidate-");
                    let keys: Vec<Vec<u8>> =
                        client.scan(&view, range).unwrap().map(|entry| entry.unwrap().key).collect();
                    assert!(keys.contains(&made.key));
                    firsts.push((made.key, keys[0].clone()));
                }
                firsts
            })
        })
        .collect();
    let seen: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let lowest = seen.iter().map(|(made, _)| made).min().unwrap();
    assert!(seen.iter().all(|(_, first)| first == lowest));
}

#[test]
fn ephemeral_sequential_keys_go_with_their_session() {
    let db = Db::new(3);
    let (a, b) = (db.session(DAY), db.session(DAY));
    let client = db.client();
    let made = |session| client.put_sequential(KS, b"m-", b"v", of(Some(session))).wait().unwrap().key;
    let (of_a, of_b) = (made(a), made(b));
    assert!(of_a < of_b && is_owned_by(&db, &of_a, a));
    client.end_session(a).wait().unwrap();
    assert_eq!((db.get(&of_a), db.get(&of_b).as_deref()), (None, Some(b"v".as_slice())));
    assert!(client.put_sequential(KS, b"m-", b"v", of(Some(a))).wait().is_err());
}
