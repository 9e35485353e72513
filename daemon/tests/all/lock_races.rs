//! Locks raced for over sockets: leases that run out while their holders write, holders and servers that are stopped beyond a lease
//! and woken, and histories of takes and releases through kills and pauses of the server.
//!
//! `CORERING_TEST_FENCE_RACES` sets how many leases run out (default 2000), `CORERING_TEST_HISTORY_ROUNDS` how many lives the server of the
//! history has (default 5).

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::server::Guarded;
use crate::common::{Client, Server};
use corering_daemon::resp::Value;
use corering_proof::{Client as Recorder, Condition, History, Monotonic, Op, Ret, Told, linear};

fn asked(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn open(client: &mut Client, options: &str) -> (String, String) {
    let reply = client.words(&format!("SESSION.OPEN {options}"));
    let text = |i: usize| String::from_utf8(reply.as_array().unwrap()[i].as_bytes().unwrap().to_vec()).unwrap();
    (text(0), text(1))
}

/// The token of a grant, or the first word of a refusal.
fn token(reply: &Value) -> Result<i64, String> {
    match reply.as_array() {
        Some([token, _]) => Ok(token.as_integer().unwrap()),
        _ => Err(code(reply)),
    }
}

fn code(reply: &Value) -> String {
    assert!(reply.is_error(), "{reply:?}");
    String::from_utf8_lossy(reply.as_bytes().unwrap()).split(' ').next().unwrap().to_owned()
}

/// Appends a token to a list of its name's, kept as text: what a guarded write does to data.
fn guarded(name: &str, token: i64) -> Vec<String> {
    ["GUARD", name, &token.to_string(), "APPEND", &format!("{{{name}}}data"), &format!("{token} ")]
        .map(str::to_owned)
        .to_vec()
}

const NAMES: u64 = 100;

/// Leases of a few milliseconds on many names over one connection, and writes under them while they end; behind each a rival.
fn rounds(port: u16, thread: u64, rounds: u64, fenced: &AtomicU64) {
    let (mut holder, mut rival) = (Client::connect(port), Client::connect(port));
    open(&mut holder, "TTL 600000 BIND 0");
    open(&mut rival, "TTL 600000 BIND 0");
    let mut random = fastrand::Rng::with_seed(thread);
    for round in 0..rounds {
        let level = if round.is_multiple_of(4) { "SYNC" } else { "NONE" };
        let names: Vec<String> = (0..NAMES).map(|n| format!("t{thread}:{n}")).collect();
        let lease = random.u32(1..20);
        for name in &names {
            holder.send(&["LOCK.ACQUIRE", name, "LEASE", &lease.to_string(), level]).unwrap();
        }
        let tokens: Vec<i64> = names.iter().map(|_| token(&holder.reply().unwrap()).unwrap()).collect();
        // The rival waits for one after the other; the leases end while it does, and behind each grant the old holder writes.
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(u64::from(lease) + 3) {
            let n = random.usize(..names.len());
            match holder.call(&guarded(&names[n], tokens[n])) {
                Value::Integer(_) => {}
                refusal => assert_eq!(code(&refusal), "FENCED"),
            }
        }
        for (name, stale) in names.iter().zip(&tokens) {
            rival.send(&["LOCK.ACQUIRE", name, "BLOCK", level]).unwrap();
            // Asked for while the next grant is under way.
            holder.send(&guarded(name, *stale)).unwrap();
            let next = token(&rival.reply().unwrap()).unwrap();
            assert!(next > *stale);
            let during = holder.reply().unwrap();
            assert!(matches!(during, Value::Integer(_)) || code(&during) == "FENCED", "{during:?}");
            // Asked for after it was heard of.
            assert_eq!(code(&holder.call(&guarded(name, *stale))), "FENCED");
            fenced.fetch_add(1, Ordering::Relaxed);
            assert!(matches!(rival.call(&guarded(name, next)), Value::Integer(_)));
            assert_eq!(rival.call(&["LOCK.RELEASE", name, level]), Value::Integer(0));
        }
    }
    // No write of an earlier token behind one of a later.
    for n in 0..NAMES {
        let data = holder.text(&format!("GET {{t{thread}:{n}}}data"));
        let written: Vec<i64> = data.split_whitespace().map(|token| token.parse().unwrap()).collect();
        assert!(written.len() as u64 >= rounds && written.is_sorted(), "{data}");
    }
}

#[test]
fn no_write_of_a_stale_holder_gets_in_over_sockets() {
    let server = Server::start(&["--shards", "2"]);
    let (threads, races) = (2, asked("CORERING_TEST_FENCE_RACES", 2_000));
    let (each, fenced) = (races.div_ceil(threads * NAMES), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (port, fenced) = (server.port, &fenced);
            scope.spawn(move || rounds(port, thread, each, fenced));
        }
    });
    println!("{} leases ran out, no stale write in", fenced.load(Ordering::Relaxed));
    assert!(fenced.into_inner() >= races);
}

const ROLE: &str = "CORERING_TEST_HOLDER_PORT";

/// Not a test by itself: the process that [`a_holder_that_was_stopped_beyond_its_lease_is_fenced`] starts, stops and wakes. It takes
/// the lock when told to on its standard input, and says what becomes of each write that it is told to make.
#[test]
fn holder_in_a_process_of_its_own() {
    let Some(port) = std::env::var(ROLE).ok().and_then(|port| port.parse().ok()) else { return };
    let mut client = Client::connect(port);
    // Bound: the server keeps the session alive as long as the connection stands, which it does while this process is stopped.
    open(&mut client, "TTL 600000 BIND 0");
    let held = token(&client.words("LOCK.ACQUIRE stopped LEASE 300")).unwrap();
    eprintln!("holds {held}");
    for line in std::io::stdin().lines() {
        let reply = match line.unwrap().as_str() {
            "write" => client.call(&guarded("stopped", held)),
            "release" => client.words(&format!("LOCK.RELEASE stopped TOKEN {held}")),
            "renew" => client.words("LOCK.RENEW stopped"),
            other => panic!("{other}"),
        };
        let text = if reply.is_error() { code(&reply) } else { "done".to_owned() };
        eprintln!("{text}");
    }
}

#[test]
fn a_holder_that_was_stopped_beyond_its_lease_is_fenced() {
    let server = Server::start(&["--shards", "2"]);
    let mut next = server.client();
    open(&mut next, "TTL 600000");
    for round in 0..3 {
        let mut holder = Guarded(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "lock_races::holder_in_a_process_of_its_own", "--nocapture"])
                .env(ROLE, server.port.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut orders = holder.0.stdin.take().unwrap();
        let mut lines = BufReader::new(holder.0.stderr.take().unwrap()).lines();
        let stale: i64 = loop {
            let line = lines.next().unwrap().unwrap();
            if let Some(held) = line.strip_prefix("holds ") {
                break held.parse().unwrap();
            }
        };
        let mut tell = |order: &str| {
            writeln!(orders, "{order}").unwrap();
            lines.next().unwrap().unwrap()
        };
        // On a busy machine even this may come too late; then it is refused.
        let first = tell("write");
        assert!(first == "done" || first == "FENCED", "{first}");
        let signal = |name: &str| {
            let done = Command::new("kill").args([&format!("-{name}"), &holder.0.id().to_string()]).status().unwrap();
            assert!(done.success());
        };
        signal("STOP");
        // Served when lease and margin are over, though nobody renewed, released or hung up.
        let fresh = token(&next.words("LOCK.ACQUIRE stopped BLOCK")).unwrap();
        assert!(fresh > stale);
        assert!(matches!(next.call(&guarded("stopped", fresh)), Value::Integer(_)));
        signal("CONT");
        // It wakes and goes on as if nothing had happened.
        assert_eq!(tell("write"), "FENCED", "round {round}");
        assert_eq!(tell("renew"), "NOTHELD");
        assert_eq!(tell("release"), "NOTHELD");
        assert_eq!(next.integer("LOCK.RELEASE stopped"), 0);
        assert_eq!(tell("write"), "FENCED", "nobody holds it, and yet");
    }
}

#[test]
fn a_server_that_was_stopped_beyond_a_lease_wakes_to_its_end() {
    let server = Server::start(&["--shards", "2"]);
    let (mut old, mut next) = (server.client(), server.client());
    open(&mut old, "TTL 600000");
    open(&mut next, "TTL 600000");
    for _ in 0..5 {
        let stale = token(&old.words("LOCK.ACQUIRE l LEASE 100")).unwrap();
        next.send(&["LOCK.ACQUIRE", "l", "BLOCK"]).unwrap();
        server.signal("STOP");
        // They lie in its socket when it wakes: one that came too late, and nothing that revives.
        old.send(&guarded("l", stale)).unwrap();
        old.send(&["LOCK.RENEW", "l"]).unwrap();
        std::thread::sleep(Duration::from_millis(250));
        server.signal("CONT");
        assert_eq!(code(&old.reply().unwrap()), "FENCED");
        let renewed = code(&old.reply().unwrap());
        assert!(renewed == "LEASEEXPIRED" || renewed == "NOTHELD", "{renewed}");
        let fresh = token(&next.reply().unwrap()).unwrap();
        assert!(fresh > stale);
        assert_eq!(next.integer("LOCK.RELEASE l"), 0);
    }
}

/// The value of a lock that nobody holds.
const FREE: i64 = -1;
const LOCKS: u64 = 3;

/// Take and release until the server is gone. Each session is a number of its own; one whose request was not answered is ended in
/// the next life.
fn takes(
    port: u16,
    clock: Monotonic,
    client_number: u32,
    sessions: &AtomicU64,
    over: &AtomicBool,
    left: &mut Vec<(String, i64)>,
) -> History<Op, Ret> {
    let mut recorder = Recorder::new(clock, client_number);
    let mut random = fastrand::Rng::with_seed(u64::from(client_number));
    let Ok(mut client) = Client::try_connect(port) else { return Vec::new() };
    let number = sessions.fetch_add(1, Ordering::Relaxed) as i64;
    let Ok(reply) = client.try_call(&["SESSION.OPEN", "TTL", "600000"]) else { return Vec::new() };
    let id = String::from_utf8(reply.as_array().unwrap()[0].as_bytes().unwrap().to_vec()).unwrap();
    left.push((id, number));
    let mut held = [false; LOCKS as usize];
    while !over.load(Ordering::Relaxed) {
        let key = random.u64(..LOCKS);
        let (op, words) = if std::mem::take(&mut held[key as usize]) {
            (Op::PutIf(Condition::Equal(number), FREE), format!("LOCK.RELEASE lock:{key}"))
        } else {
            let wait = ["", " WAIT 5", " WAIT 100"][random.usize(..3)];
            (Op::PutIf(Condition::Equal(FREE), number), format!("LOCK.ACQUIRE lock:{key}{wait}"))
        };
        recorder.ask(key, op);
        let told = match client.try_call(&words.split(' ').collect::<Vec<_>>()) {
            Err(_) => Told::Nothing,
            Ok(Value::Integer(0)) => Told::Answer(Ret::Taken(true)),
            Ok(reply) => match token(&reply) {
                Ok(_) => {
                    held[key as usize] = true;
                    Told::Answer(Ret::Taken(true))
                }
                // Others stand in line for it: that says nothing of who holds it.
                Err(code) if ["LOCKED", "LOCKTIMEOUT", "DEADLOCK", "TRYAGAIN"].contains(&code.as_str()) => {
                    Told::Refused
                }
                Err(_) => panic!("{words}: {reply:?}"),
            },
        };
        let gone = told == Told::Nothing;
        recorder.told(told);
        if gone {
            break;
        }
    }
    recorder.into_calls()
}

#[test]
fn takes_and_releases_are_linearizable_through_kills_and_pauses() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let clock = Monotonic::start();
    let mut random = fastrand::Rng::with_seed(5);
    let mut recorder = Recorder::new(clock, 999);
    for key in 0..LOCKS {
        recorder.ask(key, Op::Put(FREE));
        recorder.told(Told::Answer(Ret::Done));
    }
    let sessions = AtomicU64::new(1);
    let mut history = Vec::new();
    let mut left: Vec<(String, i64)> = Vec::new();
    let lives = asked("CORERING_TEST_HISTORY_ROUNDS", 5) as u32;
    for life in 0..=lives {
        let mut server = Server::start_in(&dir, &["--shards", "2"]);
        // What the sessions of the life before held still, is let go now, once for each lock.
        let mut killer = server.client();
        for (id, number) in left.drain(..) {
            let mut open: Vec<_> = (0..LOCKS).map(|_| Recorder::new(clock, 1000)).collect();
            for (key, recorder) in (0..).zip(&mut open) {
                recorder.ask(key, Op::PutIf(Condition::Equal(number), FREE));
            }
            killer.ok(&format!("SESSION.KILL {id}"));
            // Whether it held them is not known; what follows shows it.
            open.into_iter().for_each(|recorder| history.extend(recorder.into_calls()));
        }
        if life == lives {
            // All are free now: each can be had at once.
            open(&mut killer, "");
            for key in 0..LOCKS {
                recorder.ask(key, Op::PutIf(Condition::Equal(FREE), 0));
                token(&killer.words(&format!("LOCK.ACQUIRE lock:{key}"))).unwrap();
                recorder.told(Told::Answer(Ret::Taken(true)));
            }
            break;
        }
        let over = AtomicBool::new(false);
        let port = server.port;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..5)
                .map(|n| {
                    let (sessions, over) = (&sessions, &over);
                    scope.spawn(move || {
                        let mut left = Vec::new();
                        (takes(port, clock, life * 5 + n, sessions, over, &mut left), left)
                    })
                })
                .collect();
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(random.u64(10..120)));
                server.signal("STOP");
                std::thread::sleep(Duration::from_millis(random.u64(5..60)));
                server.signal("CONT");
            }
            match random.u32(..4) {
                0 => assert!(server.stop().success()),
                1 => {
                    server.signal("STOP");
                    server.kill();
                }
                _ => server.kill(),
            }
            over.store(true, Ordering::Relaxed);
            for client in clients {
                let (calls, own) = client.join().unwrap();
                history.extend(calls);
                left.extend(own);
            }
        });
    }
    history.extend(recorder.into_calls());
    let accepted = linear::check(history).unwrap_or_else(|refusal| panic!("{refusal}"));
    println!("{accepted:?}");
    assert!(accepted.calls > 20 * lives as usize, "{accepted:?}");
}
