//! MULTI, EXEC and WATCH between several connections, on keys of several shards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::client::encode;
use crate::common::{Server, corering};
use corering_daemon::resp::Value;
use serde_json::Value as Json;

const ACCOUNTS: usize = 12;

fn number(value: &Value) -> i64 {
    match value {
        Value::Bulk(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
        Value::Integer(n) => *n,
        other => panic!("{other:?} is no number"),
    }
}

fn balances(value: Value) -> Vec<i64> {
    let Value::Array(items) = value else { panic!("{value:?} is no array") };
    items.iter().map(number).collect()
}

fn all_accounts() -> String {
    (0..ACCOUNTS).map(|i| format!(" account:{i}")).collect()
}

/// Money moves by WATCH, MULTI and EXEC, by MULTI alone, and by RENAME; whoever looks sees all of it.
#[test]
fn money_is_neither_made_nor_lost() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    for i in 0..ACCOUNTS {
        client.ok(&format!("SET account:{i} 100"));
    }
    let over = AtomicBool::new(false);
    let retries = std::thread::scope(|scope| {
        let watchers: Vec<_> = (0..4)
            .map(|seed| {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.client();
                    let mut random = fastrand::Rng::with_seed(seed);
                    let (mut done, mut retries) = (0, 0);
                    while done < 60 {
                        let (from, to) = (random.usize(..ACCOUNTS), random.usize(..ACCOUNTS));
                        if from == to {
                            continue;
                        }
                        if random.bool() {
                            client.ok("MULTI");
                            client.words(&format!("DECRBY account:{from} 3"));
                            client.words(&format!("INCRBY account:{to} 3"));
                            assert!(matches!(client.words("EXEC"), Value::Array(parts) if parts.len() == 2));
                            done += 1;
                            continue;
                        }
                        client.ok(&format!("WATCH account:{from} account:{to}"));
                        let (a, b) = (
                            number(&client.words(&format!("GET account:{from}"))),
                            number(&client.words(&format!("GET account:{to}"))),
                        );
                        client.ok("MULTI");
                        client.words(&format!("MSET account:{from} {} account:{to} {}", a - 7, b + 7));
                        match client.words("EXEC") {
                            Value::Null => retries += 1,
                            Value::Array(parts) => {
                                assert_eq!(parts, [Value::Simple(b"OK".to_vec())]);
                                done += 1;
                            }
                            other => panic!("EXEC answered {other:?}"),
                        }
                    }
                    retries
                })
            })
            .collect();
        let looker = scope.spawn(|| {
            let mut client = server.client();
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(
                    balances(client.words(&format!("MGET{}", all_accounts()))).iter().sum::<i64>(),
                    1200,
                    "MGET"
                );
                client.ok("MULTI");
                client.words(&format!("MGET{}", all_accounts()));
                let Value::Array(parts) = client.words("EXEC") else { panic!("no array") };
                assert_eq!(balances(parts[0].clone()).iter().sum::<i64>(), 1200, "in MULTI");
                looks += 1;
            }
            looks
        });
        let mover = scope.spawn(|| {
            let mut client = server.client();
            client.ok("SET place:0 here");
            let mut moves = 0;
            while !over.load(Ordering::Relaxed) {
                client.ok(&format!("RENAME place:{} place:{}", moves % 7, (moves + 1) % 7));
                moves += 1;
            }
            moves
        });
        let seeker = scope.spawn(|| {
            let mut client = server.client();
            let places: String = (0..7).map(|i| format!(" place:{i}")).collect();
            while client.words(&format!("EXISTS{places}")) == Value::Integer(0) {}
            while !over.load(Ordering::Relaxed) {
                assert_eq!(client.words(&format!("EXISTS{places}")), Value::Integer(1), "a key is at one place");
            }
        });
        let retries: u64 = watchers.into_iter().map(|watcher| watcher.join().unwrap()).sum();
        over.store(true, Ordering::Relaxed);
        assert!(looker.join().unwrap() > 0 && mover.join().unwrap() > 0);
        seeker.join().unwrap();
        retries
    });
    assert_eq!(balances(client.words(&format!("MGET{}", all_accounts()))).iter().sum::<i64>(), 1200);
    let text = client.text("INFO transactions");
    assert!(text.contains(&format!("exec_refused_watched:{retries}\r\n")), "{retries} {text}");
}

/// How often each of two makes all keys by MSETNX.
const ROUNDS: i64 = 150;

/// MSETNX, RENAMENX, DEL and UNLINK over shards against each other, and against readers that see all keys at one moment.
#[test]
fn commands_on_many_keys_are_one_step_over_shards() {
    let server = Server::start(&["--shards", "3"]);
    let keys = |name: &str| (0..8).map(|i| format!(" {name}:{i}")).collect::<String>();
    let pairs = |name: &str, value: i64| (0..8).map(|i| format!(" {name}:{i} {value}")).collect::<String>();
    let over = AtomicBool::new(false);
    // Each wants to be the one that has made all of them; each makes them away again, in one step too.
    let set_and_delete = |who: i64, delete: &str| {
        let mut client = server.client();
        let (mut made, mut refused) = (0, 0_i64);
        while made < ROUNDS {
            match client.integer(&format!("MSETNX{}", pairs("many", who))) {
                1 => {
                    made += 1;
                    // Nobody else deletes them while they are ours.
                    assert_eq!(balances(client.words(&format!("MGET{}", keys("many")))), [who; 8]);
                    assert_eq!(client.integer(&format!("{delete}{}", keys("many"))), 8, "{delete}");
                }
                0 => refused += 1,
                other => panic!("MSETNX answered {other}"),
            }
        }
        refused
    };
    // Both delete whatever is there, and what is there is all.
    let delete_whatever_is_there = |delete: &str| {
        let mut client = server.client();
        let mut deleted = 0;
        while !over.load(Ordering::Relaxed) {
            client.integer(&format!("MSETNX{}", pairs("open", 1)));
            match client.integer(&format!("{delete}{}", keys("open"))) {
                8 => deleted += 1,
                0 => {}
                other => panic!("{delete} found {other} of 8 keys that come and go together"),
            }
        }
        deleted
    };
    // A few tokens on more places: who moves one to a place that is taken is refused, and none is lost.
    let rename = |seed: u64| {
        let mut client = server.client();
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut moved, mut refused) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            let (from, to) = (random.usize(..8), random.usize(..8));
            match client.words(&format!("RENAMENX token:{from} token:{to}")) {
                Value::Integer(1) => moved += 1,
                Value::Integer(0) => refused += 1,
                other => assert_eq!(other.as_bytes().unwrap(), b"ERR no such key", "token:{from} to token:{to}"),
            }
        }
        (moved, refused)
    };
    let look = || {
        let mut client = server.client();
        while !over.load(Ordering::Relaxed) {
            for name in ["many", "open"] {
                let seen = client.words(&format!("MGET{}", keys(name)));
                let seen = seen.as_array().unwrap();
                assert!(seen.iter().all(|value| *value == seen[0]), "{name}: {seen:?}");
            }
            let tokens = client.words(&format!("MGET{}", keys("token")));
            let mut tokens: Vec<i64> =
                tokens.as_array().unwrap().iter().filter(|value| **value != Value::Null).map(number).collect();
            tokens.sort_unstable();
            assert_eq!(tokens, [0, 1, 2], "a token is at one place");
        }
    };
    server.client().ok("MSET token:0 0 token:1 1 token:2 2");
    std::thread::scope(|scope| {
        let makers = [(1, "DEL"), (2, "UNLINK")].map(|(who, delete)| scope.spawn(move || set_and_delete(who, delete)));
        let deleters = ["DEL", "UNLINK"].map(|delete| scope.spawn(move || delete_whatever_is_there(delete)));
        let movers = [3, 4].map(|seed| scope.spawn(move || rename(seed)));
        let looker = scope.spawn(look);
        // They end by themselves, also by a check that fails, and end the others.
        let made = makers.map(|maker| maker.join());
        over.store(true, Ordering::Relaxed);
        let refused: i64 = made.into_iter().map(|refused| refused.unwrap()).sum();
        let deleted = deleters.map(|deleter| deleter.join().unwrap());
        let moved = movers.map(|mover| mover.join().unwrap());
        looker.join().unwrap();
        // All of it happened.
        assert!(refused > 0 && deleted.iter().all(|deleted| *deleted > 0), "{refused} {deleted:?}");
        assert!(moved.iter().all(|(moved, refused)| *moved > 0 && *refused > 0), "{moved:?}");
    });
}

#[test]
fn watch_hears_of_other_connections() {
    let server = Server::start(&["--shards", "2"]);
    let (mut own, mut other) = (server.client(), server.client());
    for (change, refused) in [
        ("SET k 2", true),
        ("DEL k", true),
        ("SET l 2", true),
        ("PEXPIRE k 1", true),
        ("RENAME k m", true),
        ("FLUSHALL", true),
        ("GET k", false),
        ("SET m 2", false),
        ("DEL none", false),
        ("INCR none", false),
    ] {
        own.ok("FLUSHALL");
        own.ok("MSET k 1 l 1");
        own.ok("WATCH k l");
        other.words(change);
        if change.starts_with("PEXPIRE") {
            std::thread::sleep(Duration::from_millis(20));
        }
        own.ok("MULTI");
        own.words("SET done yes");
        let answer = own.words("EXEC");
        assert_eq!(answer == Value::Null, refused, "{change}: {answer:?}");
        let done = if refused { Value::Null } else { Value::Bulk(b"yes".to_vec()) };
        assert_eq!(own.words("GET done"), done, "{change}");
    }
}

/// One guard holds for the whole transaction.
#[test]
fn guards_are_those_of_the_transaction() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    for (token, passes) in [("1", false), ("held", true)] {
        client.ok("FLUSHALL");
        let token = match passes {
            false => token.to_owned(),
            true => {
                assert!(!client.words("SESSION.OPEN").is_error());
                let grant = client.words("LOCK.ACQUIRE name");
                grant.as_array().unwrap()[0].as_integer().unwrap().to_string()
            }
        };
        client.ok("MULTI");
        client.words("SET first 1");
        client.words(&format!("GUARD name {token} SET second 2"));
        client.words("SET third 3");
        let answer = client.words("EXEC");
        assert_eq!(answer.is_error(), !passes, "{answer:?}");
        let there = if passes { 3 } else { 0 };
        assert_eq!(client.words("EXISTS first second third"), Value::Integer(there));
    }
}

/// A guard of its own holds for all that is between MULTI and EXEC, and for an EXEC that does nothing else.
#[test]
fn a_guard_alone_is_for_the_whole_transaction() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    assert!(!client.words("SESSION.OPEN").is_error());
    let token = client.words("LOCK.ACQUIRE name").as_array().unwrap()[0].as_integer().unwrap();
    let queued = Value::Simple(b"QUEUED".to_vec());
    let ok = Value::Simple(b"OK".to_vec());
    assert!(client.words(&format!("GUARD name {token}")).is_error(), "outside it guards nothing");
    for (token, passes) in [(token, true), (token + 1, false)] {
        client.ok("FLUSHALL");
        client.ok("MULTI");
        assert_eq!(client.words("SET first 1"), queued);
        assert_eq!(client.words(&format!("GUARD name {token} GUARD name {token}")), queued);
        assert_eq!(client.words("SET second 2"), queued);
        let answer = client.words("EXEC");
        match passes {
            true => assert_eq!(answer, Value::Array(vec![ok.clone(), ok.clone(), ok.clone()])),
            false => assert!(answer.as_bytes().unwrap().starts_with(b"FENCED "), "{answer:?}"),
        }
        assert_eq!(client.integer("EXISTS first second"), if passes { 2 } else { 0 });
        client.ok("MULTI");
        assert_eq!(client.words(&format!("GUARD name {token}")), queued);
        assert_eq!(client.words("EXEC").is_error(), !passes);
    }
}

/// What looks at all keys has its place in the step as every other command.
#[test]
fn commands_on_all_keys_are_part_of_the_step() {
    let server = Server::start(&["--shards", "2"]);
    let (mut client, mut other) = (server.client(), server.client());
    client.ok("MSET a 1 b 2 c 3");
    client.ok("SELECT 1");
    client.ok("SET elsewhere 1");
    client.ok("SELECT 0");
    client.ok("MULTI");
    for line in [
        "DEL b",
        "SET d 4",
        "KEYS *",
        "DBSIZE",
        "SCAN 0 COUNT 2",
        "RANDOMKEY",
        "FLUSHDB",
        "DBSIZE",
        "RANDOMKEY",
        "SET e 5",
        "SELECT 1",
        "DBSIZE",
        "FLUSHALL",
        "SELECT 0",
        "KEYS *",
    ] {
        assert_eq!(client.words(line), Value::Simple(b"QUEUED".to_vec()), "{line}");
    }
    let Value::Array(parts) = client.words("EXEC") else { panic!("no array") };
    let names = |names: &[&str]| Value::Array(names.iter().map(|name| Value::Bulk(name.as_bytes().to_vec())).collect());
    assert_eq!(parts[2], names(&["a", "c", "d"]));
    assert_eq!(parts[3], Value::Integer(3));
    let scanned = parts[4].as_array().unwrap();
    assert!(scanned[0] != Value::Bulk(b"0".to_vec()) && scanned[1] == names(&["a", "c"]), "{scanned:?}");
    assert!([&b"a"[..], b"c", b"d"].contains(&parts[5].as_bytes().unwrap()));
    assert_eq!(parts[7..9], [Value::Integer(0), Value::Null]);
    assert_eq!((&parts[11], &parts[14]), (&Value::Integer(1), &names(&[])));
    // The cursor goes on outside.
    assert_eq!(client.integer("DBSIZE"), 0);
    assert_eq!(other.integer("DBSIZE"), 0);
    // One that moves keys and one that counts them see each other's steps whole.
    for i in 0..50 {
        client.ok(&format!("SET k{i} x"));
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let mut mover = server.client();
            for i in 0..100 {
                mover.ok("MULTI");
                for n in 0..5 {
                    mover.words(&format!(
                        "RENAME k{} k{}",
                        (i * 5 + n) % 50 + i / 10 * 50,
                        (i * 5 + n) % 50 + (i / 10 + 1) * 50
                    ));
                }
                assert!(!mover.words("EXEC").is_error());
            }
            over.store(true, Ordering::Relaxed);
        });
        let mut looks = 0;
        while !over.load(Ordering::Relaxed) || looks == 0 {
            client.ok("MULTI");
            client.words("DBSIZE");
            client.words("KEYS k*");
            let Value::Array(parts) = client.words("EXEC") else { panic!("no array") };
            assert_eq!(parts[0], Value::Integer(50));
            assert_eq!(parts[1].as_array().unwrap().len(), 50);
            looks += 1;
        }
        mover.join().unwrap();
    });
}

/// What a line of CLIENT LIST says of a transaction that is being queued.
#[test]
fn client_list_counts_what_is_queued() {
    let server = Server::start(&["--shards", "1"]);
    let (mut own, mut other) = (server.client(), server.client());
    own.ok("CLIENT SETNAME queueing");
    let mut line = || {
        let text = other.text("CLIENT LIST");
        text.lines().find(|line| line.contains("name=queueing")).expect("it is listed").to_owned()
    };
    assert!(line().contains(" multi=-1 ") && line().contains(" multi-mem=0 "));
    own.ok("MULTI");
    assert!(line().contains(" multi=0 ") && line().contains(" flags=x "), "{}", line());
    own.words("SET k v");
    own.words("GET k");
    assert!(line().contains(" multi=2 ") && !line().contains(" multi-mem=0 "), "{}", line());
    own.words("EXEC");
    assert!(line().contains(" multi=-1 ") && line().contains(" flags=N "), "{}", line());
}

/// Nothing of an EXEC is seen in part, whatever is left of a server that was killed in the middle of many.
#[test]
fn a_kill_during_exec_leaves_all_of_it_or_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut random = fastrand::Rng::with_seed(7);
    let mut answered = [0_i64; 4];
    for life in 0..6 {
        let mut server = Server::start_in(&dir, &["--shards", "2"]);
        let mut client = server.client();
        for (n, answered) in answered.iter_mut().enumerate() {
            let Value::Array(found) = client.words(&format!("MGET {n}a {n}b {n}c {n}d")) else { panic!("no array") };
            let found: Vec<i64> =
                found.iter().map(|value| if *value == Value::Null { 0 } else { number(value) }).collect();
            assert!(found.iter().all(|number| *number == found[0]), "life {life}, client {n}: {found:?}");
            assert!(
                (*answered..=*answered + 1).contains(&found[0]),
                "life {life}, client {n}: {found:?} after {answered}"
            );
            *answered = found[0];
        }
        let time = Duration::from_millis(random.u64(30..200));
        std::thread::scope(|scope| {
            for (n, answered) in answered.iter_mut().enumerate() {
                let port = server.port;
                scope.spawn(move || {
                    let mut client = crate::common::Client::connect(port);
                    loop {
                        let lines = ["MULTI".to_owned()]
                            .into_iter()
                            .chain(["a", "b", "c", "d"].map(|key| format!("INCR {n}{key}")))
                            .chain(["EXEC".to_owned()]);
                        let words =
                            lines.map(|line| crate::common::client::encode(&line.split(' ').collect::<Vec<_>>()));
                        if client.send_raw(&words.collect::<Vec<_>>().concat()).is_err() {
                            return;
                        }
                        let replies: Vec<_> = (0..6).map_while(|_| client.reply().ok()).collect();
                        match replies.get(5) {
                            Some(Value::Array(parts)) => *answered = number(&parts[0]),
                            Some(other) => panic!("EXEC answered {other:?}"),
                            None => return,
                        }
                    }
                });
            }
            std::thread::sleep(time);
            server.kill();
        });
    }
    assert!(answered.iter().sum::<i64>() > 20, "{answered:?}");
}

#[test]
fn what_cannot_be_inside_is_refused_when_it_is_queued() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    for line in ["LOCK.ACQUIRE name", "SESSION.OPEN", "TX.BEGIN", "SAVE"] {
        client.ok("MULTI");
        assert!(client.words(line).is_error(), "{line}");
        assert_eq!(client.words("SET k v"), Value::Simple(b"QUEUED".to_vec()));
        let answer = client.words("EXEC");
        assert!(answer.is_error() && answer.as_bytes().unwrap().starts_with(b"EXECABORT "), "{line}: {answer:?}");
        assert_eq!(client.words("GET k"), Value::Null, "{line}");
    }
}

/// A pipeline with `transaction=True`, as redis-py and others send it: all at once, before the first reply is read.
#[test]
fn a_transaction_in_one_piece() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    let lines = [
        "SET before 1",
        "MULTI",
        "INCR before",
        "SET other x",
        "INCR other",
        "MGET before other",
        "EXEC",
        "GET before",
    ];
    let bytes: Vec<u8> =
        lines.iter().flat_map(|line| crate::common::client::encode(&line.split(' ').collect::<Vec<_>>())).collect();
    for round in 0..50 {
        client.send_raw(&bytes).unwrap();
        let (ok, queued) = (Value::Simple(b"OK".to_vec()), Value::Simple(b"QUEUED".to_vec()));
        let mut next = || client.reply().unwrap();
        assert_eq!([next(), next()], [ok.clone(), ok.clone()], "round {round}");
        (0..4).for_each(|_| assert_eq!(next(), queued));
        let Value::Array(parts) = next() else { panic!("no array") };
        assert_eq!(parts[..2], [Value::Integer(2), ok]);
        assert!(parts[2].is_error(), "{parts:?}");
        assert_eq!(parts[3], Value::Array(vec![Value::Bulk(b"2".to_vec()), Value::Bulk(b"x".to_vec())]));
        assert_eq!(next(), Value::Bulk(b"2".to_vec()));
    }
}

/// Steps over both shards, and commands on one, that find no room among those of others: none overtakes another of its connection.
#[test]
fn what_follows_a_step_over_shards_sees_it_also_without_room() {
    for durability in ["sync", "none"] {
        let server = Server::start(&["--shards", "2", "--inbox-len", "16", "--durability", durability]);
        std::thread::scope(|scope| {
            for writer in 0..24 {
                let server = &server;
                scope.spawn(move || {
                    let keys: Vec<String> = (0..6).map(|i| format!("{writer}:{i}")).collect();
                    let mut bytes = Vec::new();
                    let rounds = 60;
                    for i in 0..rounds {
                        let now = i.to_string();
                        let mut all = vec!["MSET"];
                        all.extend(keys.iter().flat_map(|key| [key.as_str(), &now]));
                        bytes.extend(encode(&all));
                        bytes.extend(encode(&["APPEND", &keys[i % 6], "+"]));
                        bytes.extend(encode(&["SET", &keys[(i + 1) % 6], "set"]));
                        bytes.extend(encode(&["GET", &keys[(i + 2) % 6]]));
                        bytes.extend(encode(&["GET", &keys[i % 6]]));
                        bytes.extend(encode(&["RENAME", &keys[i % 6], &keys[(i + 3) % 6]]));
                        bytes.extend(encode(&["MGET", &keys[(i + 1) % 6], &keys[(i + 3) % 6], &keys[i % 6]]));
                    }
                    let mut client = server.client();
                    client.send_raw(&bytes).unwrap();
                    let (ok, bulk) = (Value::Simple(b"OK".to_vec()), |text: &str| Value::Bulk(text.into()));
                    for i in 0..rounds {
                        let (now, longer) = (i.to_string(), format!("{i}+"));
                        assert_eq!(client.reply().unwrap(), ok, "MSET in round {i}");
                        assert_eq!(client.reply().unwrap(), Value::Integer(longer.len() as i64), "APPEND in round {i}");
                        assert_eq!(client.reply().unwrap(), ok, "SET in round {i}");
                        assert_eq!(client.reply().unwrap(), bulk(&now), "round {i}");
                        assert_eq!(client.reply().unwrap(), bulk(&longer), "round {i}");
                        assert_eq!(client.reply().unwrap(), ok, "RENAME in round {i}");
                        let seen = Value::Array(vec![bulk("set"), bulk(&longer), Value::Null]);
                        assert_eq!(client.reply().unwrap(), seen, "round {i}");
                    }
                });
            }
        });
    }
}

/// A connection does not wait for each step over several shards before it asks for the next: they become durable together.
#[test]
fn steps_over_shards_in_a_pipeline_share_flushes() {
    let steps = 400;
    let mut server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    let mut bytes = Vec::new();
    for i in 0..steps {
        bytes.extend(encode(&["MSET", "a", &i.to_string(), "b", "1", "c", "2", "d", "3"]));
    }
    client.send_raw(&bytes).unwrap();
    for _ in 0..steps {
        assert_eq!(client.reply().unwrap(), Value::Simple(b"OK".to_vec()));
    }
    server.kill();
    let report = corering(&["check", "--json", &server.dir().display().to_string()]);
    let report: Json = serde_json::from_slice(&report.stdout).unwrap();
    let shards = report["shards"].as_array().unwrap();
    let sum = |what: &str| shards.iter().map(|shard| shard[what].as_u64().unwrap()).sum::<u64>();
    // Each alone would be a batch on each of both shards.
    assert!(sum("log_batches") < steps / 2, "{report}");
    assert_eq!(sum("log_records") + sum("stage_records"), 2 * steps, "{report}");
}
