//! What clients rely on: order, their own writes, and the commands about themselves.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::common::client::encode;
use crate::common::{Client, Server, until};
use corering_daemon::resp::Value;

fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

#[test]
fn a_pipeline_is_answered_in_order_and_sees_its_own_writes() {
    for durability in ["sync", "none"] {
        let server = Server::start(&["--shards", "2", "--durability", durability]);
        let mut client = server.client();
        let mut bytes = Vec::new();
        let rounds = 300;
        for i in 0..rounds {
            let (key, value) = (format!("key{}", i % 7), format!("value{i}"));
            bytes.extend(encode(&["SET", &key, &value]));
            bytes.extend(encode(&["GET", &key]));
            bytes.extend(encode(&["APPEND", &key, "+"]));
            bytes.extend(encode(&["STRLEN", &key]));
            bytes.extend(encode(&["INCR", "counter"]));
            bytes.extend(encode(&["MGET", &key, "counter", "none"]));
            bytes.extend(encode(&["NOSUCH"]));
            bytes.extend(encode(&["DEL", &key]));
            bytes.extend(encode(&["EXISTS", &key]));
        }
        client.send_raw(&bytes).unwrap();
        for i in 0..rounds {
            let value = format!("value{i}");
            assert_eq!(client.reply().unwrap(), Value::Simple(b"OK".to_vec()));
            assert_eq!(client.reply().unwrap(), bulk(&value), "round {i}");
            assert_eq!(client.reply().unwrap(), Value::Integer(value.len() as i64 + 1));
            assert_eq!(client.reply().unwrap(), Value::Integer(value.len() as i64 + 1));
            assert_eq!(client.reply().unwrap(), Value::Integer(i + 1));
            let all = Value::Array(vec![bulk(&format!("{value}+")), bulk(&(i + 1).to_string()), Value::Null]);
            assert_eq!(client.reply().unwrap(), all);
            assert!(client.reply().unwrap().is_error());
            assert_eq!(client.reply().unwrap(), Value::Integer(1));
            assert_eq!(client.reply().unwrap(), Value::Integer(0));
        }
    }
}

#[test]
fn many_clients_count_together() {
    let server = Server::start(&["--shards", "2"]);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = server.client();
                for _ in 0..20 {
                    for _ in 0..10 {
                        client.send(&["INCR", "counter"]).unwrap();
                    }
                    let mut last = 0;
                    for _ in 0..10 {
                        let n = client.reply().unwrap().as_integer().unwrap();
                        assert!(n > last, "one client's increments rise");
                        last = n;
                    }
                }
            });
        }
    });
    assert_eq!(server.client().text("GET counter"), "3200");
}

#[test]
fn no_client_is_told_to_try_again_for_want_of_room() {
    for durability in ["sync", "none"] {
        let server = Server::start(&["--shards", "2", "--inbox-len", "16", "--durability", durability]);
        std::thread::scope(|scope| {
            for writer in 0..24 {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.client();
                    let mut bytes = Vec::new();
                    for i in 0..60 {
                        bytes.extend(encode(&["SET", &format!("{writer}:{i}"), "v"]));
                        bytes.extend(encode(&["SET", "k", "v", "ODD"]));
                        bytes.extend(encode(&["INCR", "counter"]));
                        bytes.extend(encode(&["GET", "counter"]));
                        bytes.extend(encode(&["MSET", "a", "1", "b", "2", "c", "3", "d", "4"]));
                    }
                    client.send_raw(&bytes).unwrap();
                    for i in 0..60 {
                        assert_eq!(client.reply().unwrap(), Value::Simple(b"OK".to_vec()), "{i}");
                        assert_eq!(client.reply().unwrap(), Value::Error(b"ERR syntax error".to_vec()));
                        assert!(matches!(client.reply().unwrap(), Value::Integer(_)));
                        assert!(matches!(client.reply().unwrap(), Value::Bulk(_)));
                        assert_eq!(client.reply().unwrap(), Value::Simple(b"OK".to_vec()), "{i}");
                    }
                });
            }
        });
        assert_eq!(server.client().text("GET counter"), "1440");
    }
}

#[test]
fn values_of_all_lengths_come_back() {
    let server = Server::start(&["--durability", "none"]);
    let mut client = server.client();
    for len in [0, 1, 4095, 4096, 65_535, 65_536, 1 << 20, (16 << 20) + 7] {
        let value: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        assert_eq!(client.call(&[b"SET".as_slice(), b"k", &value]), Value::Simple(b"OK".to_vec()));
        assert_eq!(client.call(&["GET", "k"]), Value::Bulk(value), "{len} bytes");
    }
    // The longest that there is, and the first that there is not.
    let longest = vec![b'x'; 64 << 20];
    assert_eq!(client.call(&[b"SET".as_slice(), b"k", &longest]), Value::Simple(b"OK".to_vec()));
    assert_eq!(client.integer("STRLEN k"), 64 << 20);
    let reply = client.call(&["APPEND", "k", "y"]);
    assert_eq!(reply, Value::Error(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)".to_vec()));
    let too_long = vec![b'x'; (64 << 20) + 1];
    let Value::Error(text) = client.call(&[b"SET".as_slice(), b"k2", &too_long]) else { panic!("it was taken") };
    assert_eq!(text, b"ERR the value has 67108865 bytes; at most 67108864 are allowed");
    assert_eq!(client.words("PING"), Value::Simple(b"PONG".to_vec()), "the connection goes on");
    let long_key = "k".repeat((64 << 10) + 1);
    let Value::Error(text) = client.call(&["SET", &long_key, "v"]) else { panic!("it was taken") };
    assert_eq!(text, b"ERR the key has 65537 bytes; at most 65536 are allowed");
    assert_eq!(client.integer("DBSIZE"), 1);
}

#[test]
fn a_scan_gives_every_key_that_stays() {
    let server = Server::start(&["--shards", "2", "--durability", "none"]);
    let mut client = server.client();
    let mut bytes = Vec::new();
    for i in 0..5000 {
        bytes.extend(encode(&["SET", &format!("stay:{i}"), "v"]));
    }
    client.send_raw(&bytes).unwrap();
    for _ in 0..5000 {
        client.reply().unwrap();
    }
    for (count, restart) in [(7, false), (100, false), (1000, true)] {
        let mut seen = BTreeSet::new();
        let mut cursor = "0".to_owned();
        let mut calls = 0;
        loop {
            let reply = client.call(&["SCAN", &cursor, "COUNT", &count.to_string()]);
            let parts = reply.as_array().unwrap();
            cursor = String::from_utf8(parts[0].as_bytes().unwrap().to_vec()).unwrap();
            let keys = parts[1].as_array().unwrap();
            assert!(keys.len() <= count, "{} keys", keys.len());
            seen.extend(keys.iter().map(|key| key.as_bytes().unwrap().to_vec()));
            // Others come and go meanwhile.
            client.call(&["SET", &format!("go:{calls}"), "v"]);
            client.call(&["DEL", &format!("go:{}", calls - 3)]);
            calls += 1;
            assert!(calls < 10_000, "it does not end");
            if cursor == "0" {
                break;
            }
            // The same cursor again gives the same place again.
            if restart {
                let again = client.call(&["SCAN", &cursor, "COUNT", "10"]);
                let twice = client.call(&["SCAN", &cursor, "COUNT", "10"]);
                assert_eq!(again.as_array().unwrap()[1], twice.as_array().unwrap()[1]);
            }
        }
        for i in 0..5000 {
            assert!(seen.contains(format!("stay:{i}").as_bytes()), "stay:{i} is missing with COUNT {count}");
        }
    }
    let mut seen = 0;
    let mut cursor = "0".to_owned();
    loop {
        let reply = client.call(&["SCAN", &cursor, "MATCH", "stay:12*", "COUNT", "50"]);
        let parts = reply.as_array().unwrap();
        seen += parts[1].as_array().unwrap().len();
        cursor = String::from_utf8(parts[0].as_bytes().unwrap().to_vec()).unwrap();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen, 111, "12, 120 to 129, 1200 to 1299");
}

#[test]
fn a_cursor_of_an_earlier_run_misses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut server = Server::start_in(&dir, &[]);
    let mut client = server.client();
    for i in 0..200 {
        client.ok(&format!("SET {:02}:{i} v", i / 10));
    }
    let reply = client.words("SCAN 0 COUNT 100");
    let mut seen: BTreeSet<Vec<u8>> =
        reply.as_array().unwrap()[1].as_array().unwrap().iter().map(|key| key.as_bytes().unwrap().to_vec()).collect();
    let cursor = String::from_utf8(reply.as_array().unwrap()[0].as_bytes().unwrap().to_vec()).unwrap();
    server.stop();
    let server = Server::start_in(&dir, &[]);
    let rest = server.client().words(&format!("SCAN {cursor} COUNT 1000"));
    assert_eq!(rest.as_array().unwrap()[0].as_bytes().unwrap(), b"0");
    let rest = rest.as_array().unwrap()[1].as_array().unwrap().to_vec();
    assert!(rest.len() < 200, "it does not begin again");
    seen.extend(rest.iter().map(|key| key.as_bytes().unwrap().to_vec()));
    assert_eq!(seen.len(), 200);
}

#[test]
fn random_keys_are_of_the_database_and_differ() {
    let server = Server::start(&["--durability", "none"]);
    let mut client = server.client();
    for i in 0..500 {
        client.ok(&format!("SET key:{i:05} v"));
    }
    client.ok("SET k v");
    let mut seen = BTreeSet::new();
    for _ in 0..2000 {
        let key = client.text("RANDOMKEY");
        assert_eq!(client.integer(&format!("EXISTS {key}")), 1);
        seen.insert(key);
    }
    assert!(seen.len() > 300, "{} different keys of 501", seen.len());
}

#[test]
fn connections_are_listed_named_and_killed() {
    let server = Server::start(&["--shards", "2"]);
    let mut admin = server.client();
    let mut others: Vec<Client> = (0..10).map(|_| server.client()).collect();
    for (i, other) in others.iter_mut().enumerate() {
        other.ok(&format!("CLIENT SETNAME worker-{i}"));
        other.ok(&format!("SELECT {i}"));
    }
    others[3].words("HELLO 3");
    let list = admin.text("CLIENT LIST");
    assert_eq!(list.lines().count(), 11, "{list}");
    let line = list.lines().find(|line| line.contains("name=worker-3 ")).unwrap();
    assert!(line.contains(" db=3 ") && line.contains(" resp=3 ") && line.contains(" cmd=hello "), "{line}");
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|part| part.strip_prefix(&format!("{name}="))).unwrap().to_owned()
    };
    let id = field(line, "id");
    assert_eq!(others[3].integer("CLIENT ID").to_string(), id);
    assert!(others[3].text("CLIENT INFO").starts_with(&format!("id={id} addr=127.0.0.1:")));
    assert!(admin.text(&format!("CLIENT LIST ID {id} 999999")).contains("name=worker-3"));

    assert_eq!(admin.integer(&format!("CLIENT KILL ID {id}")), 1);
    assert_eq!(admin.integer(&format!("CLIENT KILL ID {id}")), 0);
    assert!(!admin.text("CLIENT LIST").contains("worker-3"));
    assert!(others[3].try_call(&["PING"]).is_err());
    let addr = field(list.lines().find(|line| line.contains("name=worker-4 ")).unwrap(), "addr");
    admin.ok(&format!("CLIENT KILL {addr}"));
    assert!(others[4].try_call(&["PING"]).is_err());
    // All the others, from any shard, but not oneself.
    assert_eq!(admin.integer("CLIENT KILL TYPE normal"), 8);
    for i in [0, 1, 2, 5, 6, 7, 8, 9] {
        assert!(others[i].try_call(&["PING"]).is_err(), "worker-{i}");
    }
    assert_eq!(admin.text("CLIENT LIST").lines().count(), 1);
    // A connection that ends itself still gets its answer.
    assert_eq!(admin.integer("CLIENT KILL TYPE normal SKIPME no"), 1);
    assert!(admin.try_call(&["PING"]).is_err());
}

#[test]
fn a_killed_connection_runs_nothing_more() {
    let server = Server::start(&["--durability", "none"]);
    let mut admin = server.client();
    for round in 0..20 {
        let mut victim = server.client();
        let id = victim.integer("CLIENT ID");
        assert_eq!(admin.integer(&format!("CLIENT KILL ID {id}")), 1);
        // Sent after the answer to the kill: it must not take effect.
        let _ = victim.send(&["SET", &format!("late:{round}"), "v"]);
        let _ = victim.read_to_end();
        assert_eq!(admin.integer(&format!("EXISTS late:{round}")), 0);
    }
}

#[test]
fn replies_can_be_left_out() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let lines = [
        "CLIENT REPLY OFF",
        "SET a 1",
        "GET a",
        "INCR a",
        "NOSUCH",
        "MGET a b",
        "KEYS *",
        "CLIENT REPLY SKIP",
        "PING",
        "CLIENT REPLY ON",
        "GET a",
        "CLIENT REPLY SKIP",
        "SET a 5",
        "GET a",
        "CLIENT REPLY SKIP",
        "KEYS *",
        "GET a",
    ];
    for line in lines {
        client.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
    }
    for expected in [Value::Simple(b"OK".to_vec()), bulk("2"), bulk("5"), bulk("5")] {
        assert_eq!(client.reply().unwrap(), expected);
    }
}

#[test]
fn no_more_clients_than_allowed() {
    let server = Server::start(&["--maxclients", "5"]);
    let clients: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = server.client();
            client.words("PING");
            client
        })
        .collect();
    let mut refused = server.client();
    assert_eq!(refused.read_to_end().unwrap(), b"-ERR max number of clients reached\r\n");
    drop(clients);
    until("places are given back", || server.client().try_call(&["PING"]).is_ok_and(|reply| !reply.is_error()));
    assert!(server.client().text("INFO stats").contains("rejected_connections:"));
}

#[test]
fn silent_clients_are_let_go() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    let mut silent = server.client();
    silent.words("PING");
    admin.ok("CONFIG SET timeout 1");
    let began = Instant::now();
    let mut buffer = Vec::new();
    std::io::Read::read_to_end(&mut silent.stream(), &mut buffer).unwrap();
    let waited = began.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(8)).contains(&waited), "{waited:?}");
}

#[test]
fn durability_changes_while_it_runs() {
    let server = Server::start(&["--durability", "none"]);
    let mut client = server.client();
    for (set, get) in [("sync", "always"), ("interval:20", "everysec"), ("none", "no")] {
        client.ok(&format!("CONFIG SET durability {set}"));
        assert_eq!(client.words("CONFIG GET appendfsync").as_array().unwrap()[1], bulk(get));
        client.ok("SET k v");
        assert!(client.text("INFO persistence").contains(&format!("durability:{set}\r\n")));
    }
    client.ok("SAVE");
    assert_eq!(client.words("BGSAVE"), Value::Simple(b"Background saving started".to_vec()));
}

#[test]
fn info_counts() {
    let server = Server::start(&["--durability", "none"]);
    let mut client = server.client();
    client.ok("SET a 1");
    client.ok("SET b 1 EX 1000");
    client.words("GET a");
    client.words("GET none");
    client.words("NOSUCH");
    client.words("SELECT 3");
    client.ok("SET c 1");
    let info = client.text("INFO");
    for line in [
        "redis_version:7.2.4",
        "corering_name:corering",
        "connected_clients:1",
        "keyspace_hits:1",
        "keyspace_misses:1",
        "total_commands_processed:8",
        "total_error_replies:1",
        "errorstat_ERR:count=1",
        "role:master",
        "cluster_enabled:0",
        "db3:keys=1,expires=0,avg_ttl=0",
    ] {
        assert!(info.lines().any(|other| other == line), "{line} is not in {info}");
    }
    // Less than a second of the thousand has gone by, or not even a millisecond.
    let ttl = info.lines().find_map(|line| line.strip_prefix("db0:keys=2,expires=1,avg_ttl="));
    let ttl: u64 = ttl.unwrap_or_else(|| panic!("{info}")).parse().unwrap();
    assert!((999_000..=1_000_000).contains(&ttl), "{info}");
    client.ok("CONFIG RESETSTAT");
    assert!(client.text("INFO stats").contains("total_commands_processed:1\r\n"));
    let one = client.text("INFO clients");
    assert!(one.starts_with("# Clients\r\n") && !one.contains("# Server"));
}

/// The fields of what COMMAND DOCS says of one command.
fn docs(client: &mut Client, name: &str) -> Vec<(String, Value)> {
    let reply = client.words(&format!("COMMAND DOCS {name}"));
    let [_, Value::Array(fields)] = reply.as_array().unwrap() else { panic!("{name}: {reply:?}") };
    let text = |value: &Value| String::from_utf8(value.as_bytes().unwrap().to_vec()).unwrap();
    fields.chunks_exact(2).map(|field| (text(&field[0]), field[1].clone())).collect()
}

/// No other place but the manual has them.
#[test]
fn our_own_commands_are_told_about_with_their_options() {
    let server = Server::start(&["--shards", "1"]);
    let mut client = server.client();
    let names = client.words("COMMAND LIST");
    let names = names.as_array().unwrap().iter().map(|name| String::from_utf8_lossy(name.as_bytes().unwrap()));
    let families =
        [("lock.", 7), ("session.", 7), ("key.", 6), ("tx.", 14), ("guard", 1), ("delifeq", 1), ("delex", 1)];
    let mut found = [0; 7];
    for name in names {
        let Some(family) = families.iter().position(|(family, _)| name.starts_with(family)) else { continue };
        found[family] += 1;
        let fields = docs(&mut client, &name);
        let field = |wanted: &str| match fields.iter().find(|(field, _)| field == wanted) {
            Some((_, Value::Bulk(text))) => String::from_utf8_lossy(text).into_owned(),
            other => panic!("{name}: {wanted} is {other:?}"),
        };
        assert!(field("summary").len() > 10, "{name}");
        let syntax = field("syntax");
        let (first, options) = syntax.split_once(' ').unwrap_or((&syntax, ""));
        assert_eq!(first, name.to_ascii_uppercase());
        assert_eq!(options.is_empty(), name == "session.list", "{syntax}");
    }
    assert!(families.iter().zip(found).all(|((_, least), found)| found >= *least), "{found:?} of {families:?}");
    let syntax = |client: &mut Client, name: &str| docs(client, name).into_iter().find(|(field, _)| field == "syntax");
    let acquire = "LOCK.ACQUIRE <name> [SHARED | PERMITS n [UNITS k]] [WAIT ms | BLOCK] [LEASE ms] [SESSION id secret] [SYNC | NONE]";
    assert_eq!(syntax(&mut client, "lock.acquire").unwrap().1, bulk(acquire));
    assert_eq!(syntax(&mut client, "client|kill").unwrap().1.as_bytes().unwrap()[..12], *b"CLIENT KILL ");
    assert_eq!(syntax(&mut client, "client|id").unwrap().1, bulk("CLIENT ID"));
    assert_eq!(syntax(&mut client, "getrange"), None, "where the table says nothing");
}
