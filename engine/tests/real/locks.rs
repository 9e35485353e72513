//! Locks on a real engine, as threads use them.

use std::time::{Duration, Instant};

use corering_engine::format::mirror::{self, CopyAt};
use corering_engine::format::superblock::Superblock;
use corering_engine::root::SUPERBLOCK_FILE;
use corering_engine::shard::lock_counts::LockCounts;
use corering_engine::{
    Acquire, AskId, Durability, Engine, Error, Expiry, FencingToken, Guard, Keys, Keyspace, Kind, LockError,
    LockHandle, LockLost, Mode, NewSession, Options, SessionKey, Wait, WriteOptions,
};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86400);

struct Db {
    dir: TempDir,
    engine: Option<Engine>,
}

impl Db {
    fn new() -> Db {
        let mut db = Db { dir: TempDir::new().unwrap(), engine: None };
        db.open();
        db
    }

    fn open(&mut self) {
        self.engine = None;
        let options = Options { shards: Some(2), ..Options::default() };
        self.engine = Some(Engine::open(self.dir.path(), options).unwrap());
    }

    fn client(&self) -> corering_engine::Client {
        self.engine.as_ref().unwrap().client()
    }

    fn session(&self, ttl: Duration) -> SessionKey {
        let new = NewSession { ttl, label: b"test".to_vec() };
        self.client().create_session(new).wait().unwrap()
    }
}

fn ask(session: SessionKey) -> Acquire {
    Acquire { session, mode: Mode::Exclusive, wait: Wait::No, lease: None, durability: None }
}

fn held(name: &[u8], session: SessionKey) -> LockHandle<'_> {
    LockHandle { name, session, token: None }
}

fn lock_error<T: std::fmt::Debug>(result: Result<T, Error>) -> LockError {
    match result {
        Err(Error::Lock(error)) => error,
        other => panic!("{other:?} is no refusal of a lock"),
    }
}

#[test]
fn one_holder_at_a_time_with_ever_larger_tokens() {
    let db = Db::new();
    let client = db.client();
    let (a, b) = (db.session(DAY), db.session(DAY));
    let mut last = 0;
    for name in [b"one".as_slice(), b"two", b"{tag}three", b"one"] {
        let first = client.acquire(name, ask(a)).wait().unwrap();
        assert!(first.token.0 > last && first.count == 1);
        assert_eq!(lock_error(client.acquire(name, ask(b)).wait()), LockError::Held);
        let again = client.acquire(name, ask(a)).wait().unwrap();
        assert_eq!((again.token, again.count), (first.token, 2));
        assert_eq!(client.release(held(name, a), None).wait().unwrap().count, 1);
        assert_eq!(lock_error(client.acquire(name, ask(b)).wait()), LockError::Held);
        assert_eq!(client.release(held(name, a), None).wait().unwrap().count, 0);
        assert_eq!(lock_error(client.release(held(name, a), None).wait()), LockError::NotHeld);
        let second = client.acquire(name, ask(b)).wait().unwrap();
        assert!(second.token > first.token);
        client.release(LockHandle { token: Some(second.token), ..held(name, b) }, None).wait().unwrap();
        last = second.token.0;
        assert!(client.lock_info(name).wait().unwrap().is_none(), "nothing is left of it");
    }
}

#[test]
fn waiters_are_served_in_the_order_in_which_they_came() {
    let db = Db::new();
    let client = db.client();
    let holder = db.session(DAY);
    client.acquire(b"line", ask(holder)).wait().unwrap();
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let session = db.session(DAY);
            (session, client.acquire(b"line", Acquire { wait: Wait::AsLongAsTheSession, ..ask(session) }))
        })
        .collect();
    assert_eq!(client.lock_info(b"line").wait().unwrap().unwrap().waiting.len(), 20);
    client.release(held(b"line", holder), None).wait().unwrap();
    let mut token = 0;
    for (session, waiting) in waiters {
        let grant = waiting.wait().unwrap();
        assert!(grant.token.0 > token);
        token = grant.token.0;
        client.release(held(b"line", session), None).wait().unwrap();
    }
}

#[test]
fn a_wait_ends_with_its_time_and_leaves_nothing() {
    let db = Db::new();
    let client = db.client();
    let (a, b) = (db.session(DAY), db.session(DAY));
    client.acquire(b"l", ask(a)).wait().unwrap();
    let began = Instant::now();
    let waited = client.acquire(b"l", Acquire { wait: Wait::Ms(100), ..ask(b) }).wait();
    assert_eq!(lock_error(waited), LockError::TimedOut);
    assert!(began.elapsed() >= Duration::from_millis(99), "{:?}", began.elapsed());
    assert_eq!(client.lock_info(b"l").wait().unwrap().unwrap().waiting, []);
}

#[test]
fn a_cancelled_wait_leaves_the_line_and_no_other_wait_does() {
    let db = Db::new();
    let client = db.client();
    let (a, b, c) = (db.session(DAY), db.session(DAY), db.session(DAY));
    client.acquire(b"l", ask(a)).wait().unwrap();
    let long = |session| Acquire { wait: Wait::AsLongAsTheSession, ..ask(session) };
    let first = client.acquire_as(AskId(1), b"l", long(b));
    let second = client.acquire_as(AskId(2), b"l", long(b));
    let behind = client.acquire_as(AskId(1), b"l", Acquire { mode: Mode::Shared, ..long(c) });
    assert!(!client.cancel(AskId(3), b"l", b.id).wait().unwrap());
    assert!(client.cancel(AskId(1), b"l", b.id).wait().unwrap());
    assert!(!client.cancel(AskId(1), b"l", b.id).wait().unwrap(), "once");
    assert_eq!(lock_error(first.wait()), LockError::TimedOut);
    assert_eq!(client.lock_info(b"l").wait().unwrap().unwrap().waiting.len(), 2);
    // Who stands behind a cancelled wait is served as if it had never been there.
    client.downgrade(held(b"l", a), None).wait().unwrap();
    assert!(client.cancel(AskId(2), b"l", b.id).wait().unwrap());
    assert_eq!(lock_error(second.wait()), LockError::TimedOut);
    behind.wait().unwrap();
    assert!(!client.cancel(AskId(1), b"l", c.id).wait().unwrap(), "granted");
}

#[test]
fn all_that_happens_is_counted() {
    let db = Db::new();
    let client = db.client();
    let (a, b) = (db.session(DAY), db.session(DAY));
    let counts = || db.engine.as_ref().unwrap().stats().lock_counts();
    let holds = || db.engine.as_ref().unwrap().stats().sum(|shard| shard.lock_holds);
    let long = |session| Acquire { wait: Wait::AsLongAsTheSession, ..ask(session) };
    assert_eq!((counts(), holds()), (LockCounts::default(), 0));

    client.acquire(b"a", ask(a)).wait().unwrap();
    client.acquire(b"a", Acquire { durability: Some(Durability::None), ..ask(a) }).wait().unwrap();
    client.acquire(b"b", ask(b)).wait().unwrap();
    lock_error(client.acquire(b"a", ask(b)).wait());
    lock_error(client.acquire(b"a", Acquire { wait: Wait::Ms(5), ..ask(b) }).wait());
    let cancelled = client.acquire_as(AskId(1), b"a", long(b));
    assert!(client.cancel(AskId(1), b"a", b.id).wait().unwrap());
    lock_error(cancelled.wait());
    let mut wanted = LockCounts { grants: 3, refused: 1, timeouts: 1, cancelled: 1, ..LockCounts::default() };
    assert_eq!((counts(), holds()), (wanted, 2));

    let first = client.acquire(b"b", long(a));
    // The younger one gives way, by the millisecond.
    std::thread::sleep(Duration::from_millis(5));
    let second = client.acquire(b"a", long(b));
    assert!(matches!(lock_error(second.wait()), LockError::Deadlock { .. }));
    client.release(held(b"b", b), None).wait().unwrap();
    first.wait().unwrap();
    wanted = LockCounts { deadlocks: 1, grants: 4, ..wanted };
    assert_eq!((counts(), holds()), (wanted, 2));

    let guard = Guard { name: b"a".to_vec(), token: FencingToken(1) };
    let write = |guard| client.run_over(Keys::Of(&[b"k"]), vec![guard], WriteOptions::default(), |_| Ok(()));
    lock_error(write(guard).wait());
    // Renewed by nobody: once it is found by the shard, once by its own release.
    let leased = Acquire { lease: Some(Duration::from_millis(1)), ..ask(b) };
    client.acquire(b"c", leased).wait().unwrap();
    std::thread::sleep(Duration::from_millis(5));
    assert!(client.release(held(b"c", b), None).wait().unwrap().expired);
    client.acquire(b"c", leased).wait().unwrap();
    while client.lock_info(b"c").wait().unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(5));
    }
    client.end_session(a).wait().unwrap();
    wanted = LockCounts { fenced: 1, grants: 6, expired: 2, orphaned: 2, ..wanted };
    assert_eq!((counts(), holds()), (wanted, 0));
}

#[test]
fn lost_holds_are_told_and_released_ones_are_not() {
    let db = Db::new();
    let client = db.client();
    let (told, heard) = std::sync::mpsc::channel();
    client.on_lock_lost(move |lost| told.send(lost.clone()).unwrap());
    let (a, b) = (db.session(DAY), db.session(Duration::from_millis(1500)));
    client.acquire(b"released", ask(a)).wait().unwrap();
    client.release(held(b"released", a), None).wait().unwrap();
    let lease = client.acquire(b"lease", Acquire { lease: Some(Duration::from_millis(500)), ..ask(a) }).wait().unwrap();
    let session = client.acquire(b"session", ask(b)).wait().unwrap();
    let mut lost: Vec<LockLost> =
        (0..2).map(|_| heard.recv_timeout(Duration::from_secs(10)).expect("two are lost")).collect();
    lost.sort_by(|x, y| x.name.cmp(&y.name));
    let expected =
        |name: &[u8], session: SessionKey, token| LockLost { name: name.to_vec(), session: session.id, token };
    assert_eq!(lost, [expected(b"lease", a, lease.token), expected(b"session", b, session.token)]);
}

#[test]
fn a_session_that_asks_is_told_of_its_own_losses_and_of_its_end() {
    let db = Db::new();
    let client = db.client();
    let (a, b) = (db.session(DAY), db.session(Duration::from_millis(700)));
    let leased = |session| Acquire { lease: Some(Duration::from_millis(100)), ..ask(session) };
    let soon = Some(Duration::from_secs(20));
    assert_eq!(client.take_loss(a, Some(Duration::ZERO)).unwrap(), None);
    let ready = client.loss_ready(a);
    let lease = client.acquire(b"lease", leased(a)).wait().unwrap();
    client.acquire(b"given", leased(a)).wait().unwrap();
    client.release(held(b"given", a), None).wait().unwrap();
    ready.wait().unwrap();
    let lost = client.take_loss(a, Some(Duration::ZERO)).unwrap().expect("it is ready");
    assert_eq!((lost.name.as_slice(), lost.session, lost.token), (&b"lease"[..], a.id, lease.token));
    assert_eq!(client.take_loss(a, Some(Duration::from_millis(50))).unwrap(), None, "what was given back is not lost");
    // Dropping a question takes nothing away, and whoever asks later takes its place.
    let (dropped, replaced) = (client.loss_ready(a), client.loss_ready(a));
    drop(dropped);
    let ready = client.loss_ready(a);
    assert!(matches!(replaced.wait(), Err(Error::Closed)));
    let second = client.acquire(b"second", leased(a)).wait().unwrap();
    ready.wait().unwrap();
    assert_eq!(client.take_loss(a, soon).unwrap().map(|lost| lost.token), Some(second.token));
    // A session that runs out: its holds first, if they are asked for in time, then its end.
    client.acquire(b"of b", ask(b)).wait().unwrap();
    let end = loop {
        match client.take_loss(b, soon) {
            Ok(lost) => assert_eq!(lost.expect("it runs out").name, b"of b"),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, Error::Lock(LockError::NoSession { id }) if id == b.id), "{end}");
    let wrong = SessionKey { secret: a.secret ^ 1, ..a };
    assert_eq!(lock_error(client.take_loss(wrong, soon)), LockError::WrongSecret { id: a.id });
    // Closing answers who waits.
    let waiting = {
        let client = client.clone();
        std::thread::spawn(move || client.take_loss(a, None))
    };
    std::thread::sleep(Duration::from_millis(20));
    db.engine.as_ref().unwrap().close().unwrap();
    assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
}

#[test]
fn shared_holds_go_together_and_a_writer_is_not_starved() {
    let db = Db::new();
    let client = db.client();
    let (a, b, writer, late) = (db.session(DAY), db.session(DAY), db.session(DAY), db.session(DAY));
    let shared = |session| Acquire { mode: Mode::Shared, ..ask(session) };
    client.acquire(b"l", shared(a)).wait().unwrap();
    client.acquire(b"l", shared(b)).wait().unwrap();
    let waiting = client.acquire(b"l", Acquire { wait: Wait::AsLongAsTheSession, ..ask(writer) });
    assert_eq!(lock_error(client.acquire(b"l", shared(late)).wait()), LockError::Held, "the writer came first");
    client.release(held(b"l", a), None).wait().unwrap();
    client.release(held(b"l", b), None).wait().unwrap();
    let grant = waiting.wait().unwrap();
    let down = client.downgrade(held(b"l", writer), None).wait().unwrap();
    assert_eq!(down.token, grant.token);
    client.acquire(b"l", shared(late)).wait().unwrap();
}

#[test]
fn an_upgrade_waits_for_the_other_readers_and_a_second_one_is_a_deadlock() {
    let db = Db::new();
    let client = db.client();
    let (a, b) = (db.session(DAY), db.session(DAY));
    for session in [a, b] {
        client.acquire(b"l", Acquire { mode: Mode::Shared, ..ask(session) }).wait().unwrap();
    }
    let first = client.acquire(b"l", Acquire { wait: Wait::AsLongAsTheSession, ..ask(a) });
    let second = client.acquire(b"l", Acquire { wait: Wait::AsLongAsTheSession, ..ask(b) }).wait();
    assert!(matches!(lock_error(second), LockError::Deadlock { .. }));
    client.release(held(b"l", b), None).wait().unwrap();
    assert_eq!(first.wait().unwrap().count, 2);
}

#[test]
fn a_semaphore_gives_out_its_permits_and_no_more() {
    let db = Db::new();
    let client = db.client();
    let sessions: Vec<_> = (0..4).map(|_| db.session(DAY)).collect();
    let take = |session, units| Acquire { mode: Mode::Semaphore { permits: 5, units }, ..ask(session) };
    client.acquire(b"s", take(sessions[0], 2)).wait().unwrap();
    client.acquire(b"s", take(sessions[1], 2)).wait().unwrap();
    assert_eq!(lock_error(client.acquire(b"s", take(sessions[2], 2)).wait()), LockError::Held);
    client.acquire(b"s", take(sessions[2], 1)).wait().unwrap();
    let other = Acquire { mode: Mode::Semaphore { permits: 6, units: 1 }, ..ask(sessions[3]) };
    assert_eq!(lock_error(client.acquire(b"s", other).wait()), LockError::OtherPermits { permits: 5 });
    let waiting = client.acquire(b"s", Acquire { wait: Wait::AsLongAsTheSession, ..take(sessions[3], 3) });
    client.release(held(b"s", sessions[0]), None).wait().unwrap();
    client.release(held(b"s", sessions[2]), None).wait().unwrap();
    waiting.wait().unwrap();
}

#[test]
fn a_session_that_is_not_kept_alive_loses_all_it_holds_and_a_guard_refuses_it() {
    let db = Db::new();
    let client = db.client();
    let (short, other) = (db.session(Duration::from_millis(1500)), db.session(DAY));
    let names: Vec<Vec<u8>> = (0..10).map(|i| format!("lock {i}").into_bytes()).collect();
    let tokens: Vec<_> = names.iter().map(|name| client.acquire(name, ask(short)).wait().unwrap().token).collect();
    let put = |name: &[u8], token| {
        let guards = vec![Guard { name: name.to_vec(), token }];
        let write = client.run_guarded(b"data", guards, WriteOptions::default(), |tx| {
            tx.put(Keyspace(0), b"data", b"x", Kind::BYTES, Expiry::NEVER)
        });
        write.wait()
    };
    for (name, token) in names.iter().zip(&tokens) {
        put(name, *token).unwrap();
    }
    for name in &names {
        let waiting = client.acquire(name, Acquire { wait: Wait::Ms(20_000), ..ask(other) });
        let grant = waiting.wait().unwrap();
        let at = names.iter().position(|own| own == name).unwrap();
        assert!(grant.token > tokens[at]);
        let fenced = LockError::Fenced { token: tokens[at], current: Some(grant.token) };
        assert_eq!(lock_error(put(name, tokens[at])), fenced);
        put(name, grant.token).unwrap();
    }
    assert_eq!(lock_error(client.keep_alive(short).map(|()| 0)), LockError::NoSession { id: short.id });
    assert_eq!(client.sessions().len(), 1);
}

#[test]
fn a_lease_that_ran_out_is_not_revived() {
    let db = Db::new();
    let client = db.client();
    let (a, b) = (db.session(DAY), db.session(DAY));
    let lease = Some(Duration::from_millis(1000));
    let grant = client.acquire(b"l", Acquire { lease, ..ask(a) }).wait().unwrap();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(client.renew(held(b"l", a)).wait().unwrap(), grant.token);
    }
    assert_eq!(lock_error(client.acquire(b"l", ask(b)).wait()), LockError::Held);
    std::thread::sleep(Duration::from_millis(1010));
    let late = lock_error(client.renew(held(b"l", a)).wait());
    assert!(matches!(late, LockError::Expired | LockError::NotHeld), "{late:?}");
    client.acquire(b"l", Acquire { wait: Wait::Ms(20_000), ..ask(b) }).wait().unwrap();
}

#[test]
fn a_circle_of_waits_over_shards_is_broken() {
    let db = Db::new();
    let client = db.client();
    let names: Vec<Vec<u8>> = (0..3).map(|i| format!("circle {i}").into_bytes()).collect();
    let sessions: Vec<_> = names.iter().map(|_| db.session(DAY)).collect();
    for (name, session) in names.iter().zip(&sessions) {
        client.acquire(name, ask(*session)).wait().unwrap();
    }
    let began = Instant::now();
    let waits: Vec<_> = (0..3)
        .map(|i| {
            std::thread::sleep(Duration::from_millis(5));
            client.acquire(&names[(i + 1) % 3], Acquire { wait: Wait::AsLongAsTheSession, ..ask(sessions[i]) })
        })
        .collect();
    let mut waits = waits.into_iter();
    let (first, second, last) = (waits.next().unwrap(), waits.next().unwrap(), waits.next().unwrap());
    match lock_error(last.wait()) {
        LockError::Deadlock { cycle } => assert_eq!(cycle.len(), 3),
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // The one that gave way lets go, and the others get what they wanted.
    client.release(held(&names[2], sessions[2]), None).wait().unwrap();
    second.wait().unwrap();
    client.release(held(&names[1], sessions[1]), None).wait().unwrap();
    first.wait().unwrap();
}

#[test]
fn locks_and_sessions_outlive_a_restart_with_another_shard_count() {
    let mut db = Db::new();
    let (a, b) = (db.session(DAY), db.session(DAY));
    let names: Vec<Vec<u8>> = (0..50).map(|i| format!("lock {i}").into_bytes()).collect();
    let client = db.client();
    let tokens: Vec<_> = names.iter().map(|name| client.acquire(name, ask(a)).wait().unwrap().token).collect();
    for name in &names[40..] {
        client.release(held(name, a), None).wait().unwrap();
    }
    for shards in [2, 3, 1] {
        db.engine = None;
        let options = Options { shards: Some(shards), ..Options::default() };
        db.engine = Some(Engine::open(db.dir.path(), options).unwrap());
        let client = db.client();
        for (name, token) in names.iter().zip(&tokens).take(40) {
            assert_eq!(lock_error(client.acquire(name, ask(b)).wait()), LockError::Held);
            let again = client.acquire(name, ask(a)).wait().unwrap();
            assert_eq!((again.token, again.count), (*token, 2));
            client.release(held(name, a), Some(Durability::None)).wait().unwrap();
        }
        for name in &names[40..] {
            let grant = client.acquire(name, ask(b)).wait().unwrap();
            assert!(grant.token > *tokens.last().unwrap());
            client.release(held(name, b), None).wait().unwrap();
        }
    }
    db.client().end_session(a).wait().unwrap();
    db.open();
    for name in &names {
        db.client().acquire(name, ask(b)).wait().unwrap();
    }
}

/// As if the machine had been stopped while a lock was held for up to `lease_ms` of which nothing was on disk.
fn stop_the_machine(db: &mut Db, lease_ms: u64) {
    db.engine = None;
    let path = db.dir.path().join(SUPERBLOCK_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let CopyAt::Valid { sequence, payload } = mirror::decode(&bytes) else { panic!("{}", path.display()) };
    let mut record = Superblock::decode(&payload).unwrap();
    (record.boot, record.unsynced_lease_ms) = (record.boot ^ 1, lease_ms);
    let copy = mirror::encode(sequence + 1, &record.encode());
    for at in [0, mirror::COPY_LEN] {
        bytes[at..at + copy.len()].copy_from_slice(&copy);
    }
    std::fs::write(&path, bytes).unwrap();
    db.open();
}

#[test]
fn until_lost_leases_are_over_a_try_is_told_how_long_it_takes_and_a_wait_goes_on() {
    let mut db = Db::new();
    let kept = db.session(DAY);
    db.client().acquire(b"kept", ask(kept)).wait().unwrap();
    stop_the_machine(&mut db, 1500);
    let opened = Instant::now();
    let client = db.client();
    let session = db.session(DAY);
    for durability in [None, Some(Durability::None)] {
        match lock_error(client.acquire(b"l", Acquire { durability, ..ask(session) }).wait()) {
            LockError::NotYet { left_ms } => assert!((1..=1500).contains(&left_ms), "{left_ms}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(client.lock_info(b"l").wait().unwrap().is_none());
    assert_eq!(lock_error(client.acquire(b"kept", ask(session)).wait()), LockError::Held, "that one has a holder");
    client.acquire(b"l", Acquire { wait: Wait::Ms(20_000), ..ask(session) }).wait().unwrap();
    assert!(opened.elapsed() >= Duration::from_millis(1300), "{:?}", opened.elapsed());
    client.acquire(b"m", ask(session)).wait().unwrap();
}

#[test]
fn tokens_grow_over_a_copy_that_is_put_back() {
    let mut db = Db::new();
    let take = |db: &Db| {
        let client = db.client();
        let session = db.session(DAY);
        let grants = (0..100).map(|n| client.acquire(format!("lock {n}").as_bytes(), ask(session)).wait().unwrap());
        let last = grants.map(|grant| grant.token).max().unwrap();
        client.end_session(session).wait().unwrap();
        last
    };
    let copy = TempDir::new().unwrap();
    let first = take(&db);
    db.engine.take().unwrap().close().unwrap();
    copy_all(db.dir.path(), copy.path());
    db.open();
    let lost = take(&db);
    assert!(lost > first);
    db.engine = None;
    db.dir = copy;
    db.open();
    let client = db.client();
    let session = db.session(DAY);
    let next = client.acquire(b"lock 1", ask(session)).wait().unwrap().token;
    assert!(next > lost, "{next:?} after {lost:?}");
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn bad_requests_are_refused_with_what_to_do() {
    let db = Db::new();
    let client = db.client();
    let (a, b) = (db.session(DAY), db.session(DAY));
    let wrong = SessionKey { secret: b.secret, ..a };
    assert_eq!(lock_error(client.acquire(b"l", ask(wrong)).wait()), LockError::WrongSecret { id: a.id });
    assert_eq!(lock_error(client.end_session(wrong).wait()), LockError::WrongSecret { id: a.id });
    assert_eq!(lock_error(client.release(held(b"l", a), None).wait()), LockError::NotHeld);
    let grant = client.acquire(b"l", ask(a)).wait().unwrap();
    assert_eq!(lock_error(client.release(held(b"l", b), None).wait()), LockError::NotHeld);
    let stale = LockHandle { token: Some(corering_engine::FencingToken(grant.token.0 - 1)), ..held(b"l", a) };
    assert_eq!(lock_error(client.release(stale, None).wait()), LockError::WrongToken { current: grant.token });
    for name in [b"".to_vec(), vec![b'x'; 1025]] {
        assert!(matches!(client.acquire(&name, ask(a)).wait(), Err(Error::InvalidArgument { .. })));
    }
    let none = Acquire { mode: Mode::Semaphore { permits: 1, units: 2 }, ..ask(a) };
    assert!(matches!(client.acquire(b"s", none).wait(), Err(Error::InvalidArgument { .. })));
    let zero = Acquire { lease: Some(Duration::ZERO), ..ask(a) };
    assert!(matches!(client.acquire(b"s", zero).wait(), Err(Error::InvalidArgument { .. })));
    client.end_session(a).wait().unwrap();
    assert_eq!(lock_error(client.end_session(a).wait()), LockError::NoSession { id: a.id });
    client.acquire(b"l", ask(b)).wait().unwrap();
}
