//! Histories recorded by clients over sockets, through kills, restarts and pauses of the daemon: what they were answered is what
//! one register per key could have answered, at every level of durability.
//!
//! Calls under way at a kill stay unknown: they may be found done later, but only once, and never before they were asked
//! for. `CORERING_TEST_HISTORY_ROUNDS` sets how many lives the daemon has (default 5 for each level).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{Client, Server};
use corering_daemon::resp::Value;
use corering_proof::load::Load;
use corering_proof::{Client as Recorder, Condition, History, Monotonic, Op, Ret, Told, linear};

const CLIENTS: u32 = 5;
const KEYS: u64 = 6;

fn rounds() -> u32 {
    std::env::var("CORERING_TEST_HISTORY_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// The command of a call, and what its reply means.
fn command(key: u64, op: Op) -> Vec<String> {
    let key = format!("register:{key}");
    let words: Vec<String> = match op {
        Op::Get => vec!["GET".into(), key],
        Op::Put(value) => vec!["SET".into(), key, value.to_string()],
        Op::Delete => vec!["DEL".into(), key],
        Op::PutIf(Condition::Absent, value) => vec!["SET".into(), key, value.to_string(), "NX".into()],
        Op::PutIf(Condition::Present, value) => vec!["SET".into(), key, value.to_string(), "XX".into()],
        Op::PutIf(Condition::Equal(_), _) => unreachable!("the load was told not to"),
        Op::Incr(by) => vec!["INCRBY".into(), key, by.to_string()],
    };
    words
}

fn told(op: Op, reply: std::io::Result<Value>) -> Told<Ret> {
    let Ok(reply) = reply else { return Told::Nothing };
    Told::Answer(match (op, &reply) {
        (Op::Get, Value::Null) => Ret::Value(None),
        (Op::Get, Value::Bulk(bytes)) => {
            Ret::Value(Some(std::str::from_utf8(bytes).unwrap().parse().expect("only integers are written")))
        }
        (Op::Put(_), Value::Simple(_)) => Ret::Done,
        (Op::PutIf(..), Value::Simple(_)) => Ret::Taken(true),
        (Op::PutIf(..), Value::Null) => Ret::Taken(false),
        (Op::Delete, Value::Integer(n)) => Ret::Existed(*n == 1),
        (Op::Incr(_), Value::Integer(n)) => Ret::Sum(*n),
        (_, Value::Error(text)) if text.starts_with(b"TRYAGAIN") => return Told::Refused,
        _ => panic!("{op} was answered with {reply:?}"),
    })
}

/// Call until the server is gone.
fn run_client(port: u16, clock: Monotonic, number: u32, answered: &AtomicU32, over: &AtomicBool) -> History<Op, Ret> {
    let mut recorder = Recorder::new(clock, number);
    let mut load = Load::new(u64::from(port), number, KEYS).without_comparisons();
    let Ok(mut client) = Client::try_connect(port) else { return Vec::new() };
    while !over.load(Ordering::Relaxed) {
        let (key, op) = load.draw();
        recorder.ask(key, op);
        let told = told(op, client.try_call(&command(key, op)));
        let gone = told == Told::Nothing;
        recorder.told(told);
        if gone {
            break;
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    recorder.into_calls()
}

/// Stops the world of the daemon for a while, and lets it go on.
fn pause(server: &Server, random: &mut fastrand::Rng) {
    server.signal("STOP");
    std::thread::sleep(Duration::from_millis(random.u64(5..60)));
    server.signal("CONT");
}

fn run(flags: &[&str], seed: u64) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let clock = Monotonic::start();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut history = Vec::new();
    for round in 0..rounds() {
        let mut server = Server::start_in(&dir, flags);
        let (answered, over) = (AtomicU32::new(0), AtomicBool::new(false));
        let port = server.port;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|n| {
                    let (answered, over, number) = (&answered, &over, round * CLIENTS + n);
                    scope.spawn(move || run_client(port, clock, number, answered, over))
                })
                .collect();
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(random.u64(10..120)));
                pause(&server, &mut random);
            }
            // Killed while it runs, while it stands still, or asked to end.
            match random.u32(..4) {
                0 => assert!(server.stop().success()),
                1 => {
                    server.signal("STOP");
                    server.kill();
                }
                _ => server.kill(),
            }
            over.store(true, Ordering::Relaxed);
            clients.into_iter().for_each(|client| history.extend(client.join().unwrap()));
        });
        assert!(answered.into_inner() > 0, "{flags:?}, seed {seed}, round {round}: nothing was answered");
    }
    // What is there at the end belongs to the history too.
    let server = Server::start_in(&dir, flags);
    let mut client = server.client();
    let mut recorder = Recorder::new(clock, rounds() * CLIENTS);
    for key in 0..KEYS {
        recorder.ask(key, Op::Get);
        recorder.told(told(Op::Get, client.try_call(&command(key, Op::Get))));
    }
    history.extend(recorder.into_calls());
    let accepted = linear::check(history).unwrap_or_else(|refusal| panic!("{flags:?}, seed {seed}: {refusal}"));
    println!("{flags:?}: {accepted:?}");
}

#[test]
fn what_clients_of_the_daemon_see_is_linearizable_at_sync() {
    run(&["--durability", "sync", "--shards", "2"], 1);
}

#[test]
fn what_clients_of_the_daemon_see_is_linearizable_at_interval() {
    run(&["--durability", "interval:20", "--shards", "2"], 2);
}

#[test]
fn what_clients_of_the_daemon_see_is_linearizable_at_none() {
    run(&["--durability", "none", "--shards", "2", "--memtable-bytes", "256kb", "--segment-bytes", "256kb"], 3);
}
