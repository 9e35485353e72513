//! Locks raced for by real threads: leases that run out while their holders write, and histories of takes and releases judged as
//! those of a register. `CORERING_TEST_WAITERS` is how many stand in one line (default 100,000).
//!
//! `CORERING_TEST_FENCE_RACES` sets how many leases run out (default 4000); a million take some minutes:
//! `CORERING_TEST_FENCE_RACES=1000000 cargo test --release -p corering-engine --test real lock_races -- --nocapture`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corering_engine::{
    Acquire, AskId, Client, Durability, Engine, Error, Expiry, FencingToken, Grant, Guard, Keyspace, Kind, LockError,
    LockHandle, Mode, NewSession, Options, Pending, SessionKey, Wait, WriteOptions,
};
use corering_proof::register::Condition;
use corering_proof::{Client as Recorder, End, History, Monotonic, Op, Ret, Told, linear};

const KS: Keyspace = Keyspace::DEFAULT;
const DAY: Duration = Duration::from_secs(86_400);
const THREADS: u64 = 3;
/// Names whose leases run out together.
const NAMES: u64 = 500;

fn asked(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn session(client: &Client, ttl: Duration) -> SessionKey {
    client.create_session(NewSession { ttl, label: Vec::new() }).wait().unwrap()
}

fn open(dir: &tempfile::TempDir) -> Engine {
    Engine::open(dir.path(), Options { shards: Some(2), ..Options::default() }).unwrap()
}

/// One name, its holder whose lease runs out, and the rival behind it.
struct Race {
    name: Vec<u8>,
    key: Vec<u8>,
    token: u64,
    rival: Option<Pending<Grant>>,
}

/// Lehmer's generator, to spread the moments of writes.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[derive(Default)]
struct Counts {
    races: AtomicU64,
    in_time: AtomicU64,
    fenced: AtomicU64,
}

/// Write `token` under its guard; what was there before, or nothing if it was fenced.
fn write(client: &Client, race: &Race, token: u64) -> Pending<u64> {
    let guards = vec![Guard { name: race.name.clone(), token: FencingToken(token) }];
    let own = race.key.clone();
    let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
    client.run_guarded(&race.key, guards, options, move |tx| {
        let before = tx.get(KS, &own)?.map_or(0, |value| value.bytes.try_into().map_or(u64::MAX, u64::from_le_bytes));
        tx.put(KS, &own, &token.to_le_bytes(), Kind::BYTES, Expiry::NEVER)?;
        Ok(before)
    })
}

fn judge(counts: &Counts, token: u64, written: Result<u64, Error>, may_be_in: bool) {
    match written {
        Ok(before) => {
            assert!(before <= token, "a write of {token} came behind that of {before}");
            assert!(may_be_in, "a write of {token} got in behind the next grant");
            counts.in_time.fetch_add(1, Ordering::Relaxed);
        }
        Err(Error::Lock(LockError::Fenced { .. })) => {
            counts.fenced.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => panic!("{error}"),
    }
}

/// Leases of a millisecond or a few on many names, run out together, while writes are aimed at their ends and at the grants behind.
fn rounds(client: &Client, thread: u64, rounds: u64, counts: &Counts) {
    let (holder, rival) = (session(client, DAY), session(client, DAY));
    let mut random = thread + 1;
    for round in 0..rounds {
        let level = if round.is_multiple_of(8) { Durability::Sync } else { Durability::None };
        let ask =
            |session, lease, wait| Acquire { session, mode: Mode::Exclusive, wait, lease, durability: Some(level) };
        let lease = Duration::from_millis(1 + draw(&mut random) % 4);
        let names: Vec<Vec<u8>> = (0..NAMES).map(|n| format!("lock {thread} {n}").into_bytes()).collect();
        let grants: Vec<_> =
            names.iter().map(|name| client.acquire(name, ask(holder, Some(lease), Wait::No))).collect();
        let mut races: Vec<Race> = names
            .into_iter()
            .zip(grants)
            .map(|(name, grant)| {
                let token = grant.wait().unwrap().token.0;
                let rival = Some(client.acquire(&name, ask(rival, None, Wait::AsLongAsTheSession)));
                Race { key: [b"data of ", name.as_slice()].concat(), name, token, rival }
            })
            .collect();
        counts.races.fetch_add(NAMES, Ordering::Relaxed);
        // Around the ends of the leases, then around the next grants, until all of those have come.
        let began = Instant::now();
        while races.iter().any(|race| race.rival.is_some()) {
            let near = began.elapsed() < Duration::from_millis(8) || began.elapsed() > Duration::from_millis(48);
            if !near {
                std::thread::sleep(Duration::from_micros(draw(&mut random) % 1000));
            }
            for race in &mut races {
                if draw(&mut random).is_multiple_of(2) {
                    // Whether the next grant had been heard of before this write was asked for.
                    let heard = race.rival.as_ref().is_none_or(Pending::is_ready);
                    judge(counts, race.token, write(client, race, race.token).wait(), !heard);
                }
                if race.rival.as_ref().is_some_and(Pending::is_ready) {
                    let next = race.rival.take().unwrap().wait().unwrap().token.0;
                    assert!(next > race.token, "token {next} came after {}", race.token);
                    let stale = write(client, race, race.token);
                    judge(counts, next, write(client, race, next).wait(), true);
                    judge(counts, race.token, stale.wait(), false);
                    judge(counts, race.token, write(client, race, race.token).wait(), false);
                    let lock = LockHandle { name: &race.name, session: rival, token: Some(FencingToken(next)) };
                    client.release(lock, Some(level)).wait().unwrap();
                }
            }
        }
    }
}

#[test]
fn no_write_of_a_stale_holder_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let counts = Counts::default();
    let races = asked("CORERING_TEST_FENCE_RACES", 4_000);
    let each = races.div_ceil(THREADS * NAMES);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (client, counts) = (engine.client(), &counts);
            scope.spawn(move || rounds(&client, thread, each, counts));
        }
    });
    let [done, in_time, fenced] = [&counts.races, &counts.in_time, &counts.fenced].map(|n| n.load(Ordering::Relaxed));
    println!("{done} leases ran out; {in_time} writes in time, {fenced} fenced, no stale one in");
    assert!(done >= races && in_time > 0 && fenced > done);
    engine.close().unwrap();
}

/// The value of a lock that nobody holds; a holder's is its number.
const FREE: i64 = -1;

/// Takes and releases of a few locks, as conditional puts: from free to the own number, and back.
fn takes(engine: &Engine, clock: Monotonic, number: u32, calls: u32) -> History<Op, Ret> {
    let client = engine.client();
    let mut recorder = Recorder::new(clock, number);
    let mut random = u64::from(number) * 7 + 1;
    let mut own = session(&client, DAY);
    let mine = i64::from(number);
    let mut held: Vec<Option<FencingToken>> = vec![None; 3];
    for _ in 0..calls {
        let key = draw(&mut random) as usize % held.len();
        let name = format!("register {key}").into_bytes();
        let level = if draw(&mut random).is_multiple_of(3) { Durability::Sync } else { Durability::None };
        let lock = |token| LockHandle { name: &name, session: own, token: Some(token) };
        match held[key] {
            None => {
                // A wait that ends with its time has not taken it; neither has a try.
                let wait = if draw(&mut random).is_multiple_of(2) { Wait::No } else { Wait::Ms(1) };
                let ask = Acquire { session: own, mode: Mode::Exclusive, wait, lease: None, durability: Some(level) };
                recorder.ask(key as u64, Op::PutIf(Condition::Equal(FREE), mine));
                match client.acquire(&name, ask).wait() {
                    Ok(grant) => {
                        held[key] = Some(grant.token);
                        recorder.told(Told::Answer(Ret::Taken(true)));
                    }
                    // Somebody stood in line though the lock was free for a moment: such a refusal says nothing of the register.
                    Err(Error::Lock(LockError::Held | LockError::TimedOut | LockError::Deadlock { .. })) => {
                        recorder.told(Told::Refused)
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Some(token) => {
                held[key] = None;
                recorder.ask(key as u64, Op::PutIf(Condition::Equal(mine), FREE));
                if draw(&mut random).is_multiple_of(16) && held.iter().all(Option::is_none) {
                    // Its session ends, and with it the hold.
                    client.kill_session(own.id).wait().unwrap();
                    own = session(&client, DAY);
                } else {
                    client.release(lock(token), Some(level)).wait().unwrap();
                }
                recorder.told(Told::Answer(Ret::Taken(true)));
            }
        }
    }
    // Whatever is held still is let go, so that the next life begins with free locks.
    for (key, token) in held.iter().enumerate().filter_map(|(key, token)| token.map(|token| (key, token))) {
        recorder.ask(key as u64, Op::PutIf(Condition::Equal(mine), FREE));
        let name = format!("register {key}").into_bytes();
        client.release(LockHandle { name: &name, session: own, token: Some(token) }, None).wait().unwrap();
        recorder.told(Told::Answer(Ret::Taken(true)));
    }
    recorder.into_calls()
}

#[test]
fn takes_and_releases_are_linearizable() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Monotonic::start();
    let calls = asked("CORERING_TEST_HISTORY_CALLS", 600) as u32;
    let mut history = Vec::new();
    let mut first = Recorder::new(clock, 99);
    for key in 0..3 {
        first.ask(key, Op::Put(FREE));
        first.told(Told::Answer(Ret::Done));
    }
    history.extend(first.into_calls());
    for life in 0..3u32 {
        let engine = open(&dir);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..5)
                .map(|n| {
                    let engine = &engine;
                    scope.spawn(move || takes(engine, clock, life * 5 + n, calls))
                })
                .collect();
            clients.into_iter().for_each(|client| history.extend(client.join().unwrap()));
        });
        engine.close().unwrap();
    }
    let taken = history.iter().filter(|call| matches!(call.end, End::Answered { ret: Ret::Taken(true), .. })).count();
    let accepted = linear::check(history).unwrap_or_else(|refusal| panic!("{refusal}"));
    println!("{accepted:?}, {taken} takes and releases");
    assert!(taken > calls as usize, "{taken}");
}

/// One who stands in line, and why it may leave it without a grant.
struct Place {
    session: SessionKey,
    answer: Pending<Grant>,
    cancelled: bool,
}

/// Lines of shared and exclusive waiters, some cancelled, some of sessions that are killed by another thread meanwhile: those who are left
/// are granted in the order in which they asked, those who are gone never, and nothing remains of them.
#[test]
fn grants_come_in_the_order_of_asking_and_the_dead_get_none() {
    const LINE: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let (mut random, mut granted, mut dead) = (11, 0, 0);
    let first = session(&client, DAY);
    let mut sessions: Vec<SessionKey> = (0..LINE).map(|_| session(&client, DAY)).collect();
    for round in 0..asked("CORERING_TEST_LINES", 40) {
        let name = format!("line {round}").into_bytes();
        let ask =
            |session, mode, wait| Acquire { session, mode, wait, lease: None, durability: Some(Durability::None) };
        let mut last = client.acquire(&name, ask(first, Mode::Exclusive, Wait::No)).wait().unwrap().token;
        // Whoever would be passed over is told so by this time.
        let mut line: Vec<Place> = (0..LINE)
            .map(|at| {
                let mode = if draw(&mut random).is_multiple_of(3) { Mode::Exclusive } else { Mode::Shared };
                let id = AskId(at as u64);
                let answer = client.acquire_as(id, &name, ask(sessions[at], mode, Wait::Ms(60_000)));
                Place { session: sessions[at], answer, cancelled: false }
            })
            .collect();
        for (at, place) in line.iter_mut().enumerate().filter(|(at, _)| at % 7 == 3) {
            let id = AskId(at as u64);
            place.cancelled = client.cancel(id, &name, place.session.id).wait().unwrap();
            assert!(place.cancelled, "it stood in line");
        }
        let killed: Vec<usize> = (0..LINE).filter(|at| at % 7 != 3 && draw(&mut random).is_multiple_of(5)).collect();
        let doomed: Vec<_> = killed.iter().map(|at| sessions[*at].id).collect();
        let killer = {
            let client = client.clone();
            std::thread::spawn(move || doomed.into_iter().for_each(|id| client.kill_session(id).wait().unwrap()))
        };
        client.release(LockHandle { name: &name, session: first, token: None }, None).wait().unwrap();
        for (at, Place { session, answer, cancelled }) in line.into_iter().enumerate() {
            match answer.wait() {
                Ok(grant) => {
                    assert!(!cancelled && grant.token > last, "place {at}: {grant:?} behind {last:?}");
                    last = grant.token;
                    granted += 1;
                    let lock = LockHandle { name: &name, session, token: Some(grant.token) };
                    match client.release(lock, Some(Durability::None)).wait() {
                        Err(Error::Lock(LockError::NoSession { .. } | LockError::NotHeld)) if killed.contains(&at) => {}
                        released => assert!(!released.unwrap().expired),
                    }
                }
                Err(Error::Lock(LockError::TimedOut)) => assert!(cancelled, "place {at} was passed over"),
                Err(Error::Lock(LockError::NoSession { .. })) => {
                    assert!(killed.contains(&at), "place {at} is alive");
                    dead += 1;
                }
                Err(error) => panic!("place {at}: {error}"),
            }
        }
        killer.join().unwrap();
        assert!(client.lock_info(&name).wait().unwrap().is_none(), "nobody is left");
        killed.iter().for_each(|at| sessions[*at] = session(&client, DAY));
    }
    println!("{granted} granted in their order, {dead} died in line");
    assert!(granted > 0 && dead > 0);
    engine.close().unwrap();
}

/// A line as long as one likes: whoever stands in front is served in its turn, one in the middle may leave, other locks are served
/// meanwhile, and once the sessions end nothing is left.
#[test]
fn a_line_of_many_waiters_moves_and_leaves_nothing() {
    const SESSIONS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let client = engine.client();
    let waiters = asked("CORERING_TEST_WAITERS", 100_000) as usize;
    let sessions: Vec<SessionKey> = (0..SESSIONS).map(|_| session(&client, DAY)).collect();
    let first = session(&client, DAY);
    let ask = |session, wait| Acquire {
        session,
        mode: Mode::Exclusive,
        wait,
        lease: None,
        durability: Some(Durability::None),
    };
    let mut last = client.acquire(b"line", ask(first, Wait::No)).wait().unwrap().token;
    let mut line: std::collections::VecDeque<_> = (0..waiters)
        .map(|at| {
            let session = sessions[at % SESSIONS];
            // The shard is asked for more than it takes at once: whoever finds it full comes again.
            loop {
                let answer = client.acquire_as(AskId(at as u64), b"line", ask(session, Wait::AsLongAsTheSession));
                if !answer.is_ready() {
                    break (session, answer);
                }
                let refused = answer.wait();
                assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        })
        .collect();
    let info = client.lock_info(b"line").wait().unwrap().unwrap();
    assert_eq!((info.holders, info.waiters), (1, waiters));
    let middle = waiters / 2;
    assert!(client.cancel(AskId(middle as u64), b"line", line[middle].0.id).wait().unwrap());
    let cancelled = line.remove(middle).unwrap().1.wait();
    assert!(matches!(cancelled, Err(Error::Lock(LockError::TimedOut))), "{cancelled:?}");
    let mut holder = first;
    for turn in 0..1000 {
        let release = LockHandle { name: b"line", session: holder, token: Some(last) };
        client.release(release, Some(Durability::None)).wait().unwrap();
        let (session, answer) = line.pop_front().unwrap();
        let token = answer.wait().unwrap().token;
        assert!(token > last, "turn {turn}");
        (holder, last) = (session, token);
        let other = client.acquire(b"other", ask(first, Wait::No)).wait().unwrap().token;
        let other = LockHandle { name: b"other", session: first, token: Some(other) };
        client.release(other, Some(Durability::None)).wait().unwrap();
    }
    let ends: Vec<_> = sessions.iter().map(|session| client.end_session(*session)).collect();
    ends.into_iter().for_each(|end| end.wait().unwrap());
    for (_, answer) in line {
        let ended = answer.wait();
        assert!(matches!(ended, Err(Error::Lock(LockError::NoSession { .. }))), "{ended:?}");
    }
    assert!(client.lock_info(b"line").wait().unwrap().is_none(), "nobody is left");
    engine.close().unwrap();
}
