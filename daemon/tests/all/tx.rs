//! TX.*: interactive transactions over sockets.

use crate::common::{Client, Server, until};
use corering_daemon::resp::Value;

fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

fn begin(client: &mut Client, options: &str) -> String {
    let id = client.text(&format!("TX.BEGIN {options}"));
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    id
}

#[track_caller]
fn refused(client: &mut Client, line: &str, code: &str) {
    let reply = client.words(line);
    let text = String::from_utf8_lossy(reply.as_bytes().unwrap_or_default()).into_owned();
    assert!(reply.is_error() && text.starts_with(&format!("{code} ")), "{line}: {reply:?}, not {code}");
}

/// The field of INFO transactions.
fn counted(client: &mut Client, field: &str) -> u64 {
    let text = client.text("INFO transactions");
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    value.unwrap_or_else(|| panic!("{field} is not in {text}")).trim().parse().unwrap()
}

#[test]
fn a_transaction_is_seen_whole_once_it_commits() {
    let server = Server::start(&["--shards", "2"]);
    let (mut own, mut other) = (server.client(), server.client());
    own.ok("MSET a 1 b 2 c 3");
    let id = begin(&mut own, "");
    assert_eq!(own.words(&format!("TX.GET {id} a")), bulk("1"));
    own.ok(&format!("TX.SET {id} a 10"));
    own.ok(&format!("TX.SET {id} d 40 PX 100000"));
    assert_eq!(own.integer(&format!("TX.DEL {id} b b none")), 1);
    assert_eq!(own.words(&format!("TX.GET {id} a")), bulk("10"));
    assert_eq!(own.words(&format!("TX.GET {id} b")), Value::Null);
    let all = [bulk("a"), bulk("10"), bulk("c"), bulk("3"), bulk("d"), bulk("40")];
    assert_eq!(own.words(&format!("TX.SCAN {id}")), Value::Array(all.to_vec()));
    let missing = Value::Null;
    assert_eq!(other.words("MGET a b c d"), Value::Array(vec![bulk("1"), bulk("2"), bulk("3"), missing.clone()]));
    let commit = own.integer(&format!("TX.COMMIT {id}"));
    assert!(commit > 0);
    assert_eq!(other.words("MGET a b c d"), Value::Array(vec![bulk("10"), missing, bulk("3"), bulk("40")]));
    assert!((90_000..=100_000).contains(&other.integer("PTTL d")));
    assert_eq!(own.integer(&format!("TX.FATE {id}")), commit);
    assert_eq!(other.integer(&format!("TX.FATE {id}")), commit);
}

#[test]
fn the_options_of_set_hold_within() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    client.ok("SET k old PX 100000");
    let id = begin(&mut client, "");
    for (options, reply) in [
        ("k 1 NX", Value::Null),
        ("k 1 XX", Value::Simple(b"OK".to_vec())),
        ("k 2 IFEQ other", Value::Null),
        ("k 2 IFEQ 1 GET", bulk("1")),
        ("none 1 XX GET", Value::Null),
        ("k 3 KEEPTTL", Value::Simple(b"OK".to_vec())),
    ] {
        assert_eq!(client.words(&format!("TX.SET {id} {options}")), reply, "{options}");
    }
    refused(&mut client, &format!("TX.SET {id} k 1 NX XX"), "ERR");
    refused(&mut client, &format!("TX.SET {id} k 1 EX 0"), "ERR");
    client.integer(&format!("TX.COMMIT {id}"));
    // SET without KEEPTTL took the expiry away before.
    assert_eq!((client.words("GET k"), client.integer("PTTL k")), (bulk("3"), -1));
    assert_eq!(client.words("GET none"), Value::Null);
}

#[test]
fn a_scan_goes_both_ways_and_on_from_where_it_stopped() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    let id = begin(&mut client, "");
    let name = |i: usize| format!("k{i:04}");
    for i in 0..600 {
        if i % 2 == 0 {
            client.ok(&format!("SET {} {i}", name(i)));
        } else {
            client.ok(&format!("TX.SET {id} {} {i}", name(i)));
        }
    }
    let mut keys = |args: &str| -> Vec<String> {
        let reply = client.words(&format!("TX.SCAN {id} {args}"));
        let items = reply.as_array().unwrap_or_else(|| panic!("{args}: {reply:?}")).to_vec();
        let text = |value: &Value| String::from_utf8_lossy(value.as_bytes().unwrap()).into_owned();
        items.iter().step_by(2).map(text).collect()
    };
    let all: Vec<String> = (0..600).map(name).collect();
    assert_eq!(keys("LIMIT 1000"), all);
    assert_eq!(keys("PREFIX k00 LIMIT 1000"), all[..100]);
    assert_eq!(keys("").len(), 100);
    assert_eq!(keys("FROM k0300 LIMIT 300"), all[300..]);
    assert_eq!(keys("AFTER k0300 BEFORE k0400 LIMIT 1000"), all[301..400]);
    assert_eq!(keys("FROM k0300 TO k0400 LIMIT 1000"), all[300..=400]);
    let mut back: Vec<String> = all.clone();
    back.reverse();
    assert_eq!(keys("REVERSE LIMIT 1000"), back);
    assert_eq!(keys("REVERSE BEFORE k0500 LIMIT 200"), back[100..300]);
    // A bound outside the prefix changes nothing.
    assert_eq!(keys("PREFIX k00 FROM a TO z LIMIT 1000"), all[..100]);
    for wrong in ["LIMIT 0", "LIMIT x", "FROM a AFTER b", "SIDEWAYS", "PREFIX"] {
        refused(&mut client, &format!("TX.SCAN {id} {wrong}"), "ERR");
    }
}

#[test]
fn what_was_read_and_changed_since_aborts_the_commit() {
    let server = Server::start(&["--shards", "2"]);
    let (mut own, mut other) = (server.client(), server.client());
    own.ok("SET k 1");
    for (look, change) in
        [("TX.GET {} k", "SET k 2"), ("TX.SCAN {} PREFIX k", "SET k2 x"), ("TX.GET {} k3", "SET k3 x")]
    {
        let id = begin(&mut own, "");
        own.words(&look.replace("{}", &id));
        own.ok(&format!("TX.SET {id} mine 1"));
        other.ok(change);
        refused(&mut own, &format!("TX.COMMIT {id}"), "CONFLICT");
        assert_eq!(own.words("GET mine"), Value::Null, "{look}");
        assert_eq!(own.words(&format!("TX.FATE {id}")), Value::Null);
        let again = begin(&mut own, &format!("AGAIN {id}"));
        own.ok(&format!("TX.ROLLBACK {again}"));
    }
    assert_eq!(counted(&mut own, "transactions_aborted_changed"), 3);
    assert_eq!(counted(&mut own, "transactions_retried"), 3);
    assert_eq!(counted(&mut own, "transactions_open"), 0);
}

#[test]
fn one_that_lost_is_begun_again_when_it_is_its_turn() {
    let server = Server::start(&["--shards", "2"]);
    let (mut old, mut young, mut third) = (server.client(), server.client(), server.client());
    old.ok("SET k 1");
    let mut lost = Vec::new();
    for client in [&mut old, &mut young] {
        let id = begin(client, "");
        client.words(&format!("TX.GET {id} k"));
        client.ok(&format!("TX.SET {id} k lost"));
        third.ok("SET k 2");
        refused(client, &format!("TX.COMMIT {id}"), "CONFLICT");
        lost.push(id);
    }
    let first = begin(&mut old, &format!("AGAIN {}", lost[0]));
    // It keeps the key now: nobody comes between, and who lost after it waits.
    let id = begin(&mut third, "");
    third.ok(&format!("TX.SET {id} k 3"));
    refused(&mut third, &format!("TX.COMMIT {id}"), "CONFLICT");
    young.send(&["TX.BEGIN", "AGAIN", &lost[1]]).unwrap();
    until("the younger waits", || third.text("INFO clients").contains("blocked_clients:1\r\n"));
    assert_eq!(old.words(&format!("TX.GET {first} k")), bulk("2"));
    old.ok(&format!("TX.SET {first} k 4"));
    assert!(old.integer(&format!("TX.COMMIT {first}")) > 0);
    let second = young.reply().unwrap();
    let Value::Bulk(second) = second else { panic!("{second:?}") };
    let second = String::from_utf8(second).unwrap();
    assert_eq!(young.words(&format!("TX.GET {second} k")), bulk("4"));
    // It does not wait beside another of its own connection, which could never end.
    let beside = begin(&mut third, "");
    let other = begin(&mut third, &format!("AGAIN {id}"));
    for id in [beside, other] {
        third.ok(&format!("TX.ROLLBACK {id}"));
    }
    young.ok(&format!("TX.SET {second} k 5"));
    assert!(young.integer(&format!("TX.COMMIT {second}")) > 0);
    assert_eq!(counted(&mut third, "transactions_open"), 0);
}

#[test]
fn write_skew_is_for_those_who_ask_for_it() {
    let server = Server::start(&["--shards", "2"]);
    for (isolation, both) in [("SNAPSHOT", true), ("SERIALIZABLE", false)] {
        let (mut one, mut two) = (server.client(), server.client());
        one.ok("MSET x 1 y 1");
        let ids =
            [begin(&mut one, &format!("ISOLATION {isolation}")), begin(&mut two, &format!("ISOLATION {isolation}"))];
        for (client, id, key) in [(&mut one, &ids[0], "x"), (&mut two, &ids[1], "y")] {
            client.words(&format!("TX.GET {id} x"));
            client.words(&format!("TX.GET {id} y"));
            client.ok(&format!("TX.SET {id} {key} 0"));
        }
        assert!(one.integer(&format!("TX.COMMIT {}", ids[0])) > 0);
        let second = two.words(&format!("TX.COMMIT {}", ids[1]));
        assert_eq!(!second.is_error(), both, "{isolation}: {second:?}");
    }
}

/// The younger waits, in turn; meanwhile the server serves others, on the same thread too.
#[test]
fn a_wait_for_a_key_holds_up_nobody_else() {
    let server = Server::start(&["--shards", "1"]);
    let (mut old, mut young, mut third) = (server.client(), server.client(), server.client());
    old.ok("SET k 1");
    let (first, second) = (begin(&mut old, ""), begin(&mut young, ""));
    assert_eq!(old.words(&format!("TX.GETFORUPDATE {first} k")), bulk("1"));
    young.send(&["TX.GETFORUPDATE", &second, "k"]).unwrap();
    until("the younger waits", || third.text("INFO clients").contains("blocked_clients:1\r\n"));
    third.ok("SET other x");
    old.ok(&format!("TX.SET {first} k 2"));
    old.integer(&format!("TX.COMMIT {first}"));
    assert_eq!(young.reply().unwrap(), bulk("2"), "it sees what it waited for");
    young.ok(&format!("TX.SET {second} k 3"));
    assert!(young.integer(&format!("TX.COMMIT {second}")) > 0);
    assert_eq!(third.words("GET k"), bulk("3"));
    assert_eq!(counted(&mut third, "transactions_waits"), 1);
}

#[test]
fn the_older_takes_a_key_from_the_younger() {
    let server = Server::start(&["--shards", "2"]);
    let (mut old, mut young) = (server.client(), server.client());
    let (first, second) = (begin(&mut old, ""), begin(&mut young, ""));
    assert_eq!(young.words(&format!("TX.GETFORUPDATE {second} k")), Value::Null);
    assert_eq!(old.words(&format!("TX.GETFORUPDATE {first} k")), Value::Null);
    refused(&mut young, &format!("TX.SET {second} k 1"), "CONFLICT");
    refused(&mut young, &format!("TX.COMMIT {second}"), "NOTX");
    old.ok(&format!("TX.SET {first} k 1"));
    assert!(old.integer(&format!("TX.COMMIT {first}")) > 0);
    assert_eq!(counted(&mut old, "transactions_aborted_wounded"), 1);
}

/// Of a client that is gone, and of one that is silent, nothing is left.
#[test]
fn a_transaction_ends_with_its_connection_and_with_its_time() {
    let server = Server::start(&["--shards", "2"]);
    let (mut own, mut other) = (server.client(), server.client());
    let waits_ended = |other: &mut Client| {
        until("none is open", || counted(other, "transactions_open") == 0);
    };
    let id = begin(&mut own, "");
    own.words(&format!("TX.GETFORUPDATE {id} k"));
    own.ok(&format!("TX.SET {id} k 1"));
    drop(own);
    waits_ended(&mut other);
    assert_eq!(other.words("GET k"), Value::Null);
    assert_eq!(other.words(&format!("TX.FATE {id}")), Value::Null);

    let mut silent = server.client();
    let id = begin(&mut silent, "TIMEOUT 50");
    silent.ok(&format!("TX.SET {id} k 1"));
    waits_ended(&mut other);
    refused(&mut silent, &format!("TX.COMMIT {id}"), "NOTX");
    assert_eq!(counted(&mut other, "transactions_aborted_too_old"), 1);
    // A reset ends them too.
    let id = begin(&mut silent, "");
    assert_eq!(silent.text("RESET"), "RESET");
    refused(&mut silent, &format!("TX.COMMIT {id}"), "NOTX");
    assert_eq!(counted(&mut other, "transactions_open"), 0);
}

#[test]
fn a_waiting_client_that_goes_leaves_no_wait() {
    let server = Server::start(&["--shards", "1"]);
    let (mut old, mut third) = (server.client(), server.client());
    let first = begin(&mut old, "");
    old.words(&format!("TX.GETFORUPDATE {first} k"));
    let mut young = server.client();
    let second = begin(&mut young, "");
    young.send(&["TX.GETFORUPDATE", &second, "k"]).unwrap();
    until("the younger waits", || third.text("INFO clients").contains("blocked_clients:1\r\n"));
    drop(young);
    until("the wait goes with its client", || counted(&mut third, "transactions_open") == 1);
    old.ok(&format!("TX.ROLLBACK {first}"));
    let last = begin(&mut third, "");
    assert_eq!(third.words(&format!("TX.GETFORUPDATE {last} k")), Value::Null, "nobody keeps it");
}

#[test]
fn several_at_once_and_savepoints() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    let (a, b) = (begin(&mut client, ""), begin(&mut client, ""));
    client.ok(&format!("TX.SET {a} x 1"));
    client.ok(&format!("TX.SET {b} y 1"));
    let first = client.integer(&format!("TX.SAVEPOINT {a}"));
    client.ok(&format!("TX.SET {a} x 2"));
    let second = client.integer(&format!("TX.SAVEPOINT {a}"));
    client.ok(&format!("TX.SET {a} z 2"));
    client.ok(&format!("TX.ROLLBACKTO {a} {second}"));
    client.ok(&format!("TX.ROLLBACKTO {a} {first}"));
    refused(&mut client, &format!("TX.ROLLBACKTO {a} {second}"), "NOSAVEPOINT");
    refused(&mut client, &format!("TX.RELEASE {a} 99"), "NOSAVEPOINT");
    client.ok(&format!("TX.RELEASE {a} {first}"));
    refused(&mut client, &format!("TX.ROLLBACKTO {a} {first}"), "NOSAVEPOINT");
    client.integer(&format!("TX.COMMIT {b}"));
    client.integer(&format!("TX.COMMIT {a}"));
    assert_eq!(client.words("MGET x y z"), Value::Array(vec![bulk("1"), bulk("1"), Value::Null]));
}

#[test]
fn misuse_is_told_by_its_code() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    let id = begin(&mut client, "");
    client.ok(&format!("TX.SET {id} k 1"));
    assert!(client.integer(&format!("TX.COMMIT {id}")) > 0);
    for line in [
        "TX.COMMIT {}",
        "TX.ROLLBACK {}",
        "TX.GET {} k",
        "TX.SET {} k 2",
        "TX.SCAN {}",
        "TX.SAVEPOINT {}",
        "TX.INFO {}",
    ] {
        let line = line.replace("{}", &id);
        let text = client.text(&line);
        assert_eq!(text, "NOTX the transaction has ended: it was committed; begin another", "{line}");
    }
    let unknown = "f123456789abcdef0123456789abcdef";
    refused(&mut client, &format!("TX.COMMIT {unknown}"), "NOTX");
    assert_eq!(client.words(&format!("TX.FATE {unknown}")), Value::Null);
    refused(&mut client, "TX.FATE 00000000000000000000000000000001", "TXTOOOLD");
    for line in [
        "TX.COMMIT",
        "TX.COMMIT 12",
        "TX.GET zz k",
        "TX.BEGIN NOW",
        "TX.BEGIN ISOLATION",
        "TX.BEGIN ISOLATION DIRTY",
        "TX.BEGIN TIMEOUT 0",
        "TX.BEGIN TIMEOUT x",
        "TX.BEGIN TIMEOUT 99999999999",
        "TX.BEGIN REMEMBER 99999999999",
        "TX.SET a b",
    ] {
        refused(&mut client, line, "ERR");
    }
    refused(&mut client, &format!("TX.BEGIN AGAIN {unknown}"), "NOTX");
    let open = begin(&mut client, "");
    refused(&mut client, &format!("TX.BEGIN AGAIN {open}"), "ERR");
    refused(&mut client, &format!("TX.FATE {open}"), "ERR");
    let reads = begin(&mut client, "READONLY");
    refused(&mut client, &format!("TX.SET {reads} k 2"), "READONLYTX");
    refused(&mut client, &format!("TX.GETFORUPDATE {reads} k"), "READONLYTX");
    assert_eq!(client.words(&format!("TX.GET {reads} k")), bulk("1"));
    assert_eq!(client.integer(&format!("TX.COMMIT {reads}")), 0);
    // Another connection has no part in it, nor may GUARD or MULTI carry it.
    let mut other = server.client();
    refused(&mut other, &format!("TX.SET {open} k 2"), "NOTX");
    refused(&mut client, &format!("GUARD name 1 TX.SET {open} k 2"), "ERR");
    client.ok("MULTI");
    assert!(client.words(&format!("TX.SET {open} k 2")).is_error());
    assert!(client.text("EXEC").starts_with("EXECABORT "));
    // So many and no more.
    let mut many = server.client();
    let ids: Vec<String> = (0..100).map(|_| begin(&mut many, "")).collect();
    refused(&mut many, "TX.BEGIN", "TXTOOMANY");
    many.ok(&format!("TX.ROLLBACK {}", ids[7]));
    begin(&mut many, "");
}

#[test]
fn limits_are_told_and_how_much_of_them_is_used() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    let id = begin(&mut client, "ISOLATION SNAPSHOT TIMEOUT 30000");
    client.ok(&format!("TX.SET {id} key value"));
    client.words(&format!("TX.GET {id} other"));
    let info = client.words(&format!("TX.INFO {id}"));
    let fields = info.as_array().unwrap();
    let field = |name: &str| {
        let at = fields.iter().position(|field| *field == bulk(name)).unwrap_or_else(|| panic!("{name}: {fields:?}"));
        fields[at + 1].clone()
    };
    assert_eq!(field("isolation"), bulk("snapshot"));
    assert_eq!((field("write-bytes"), field("reads")), (Value::Integer(8), Value::Integer(1)));
    assert_eq!((field("read-only"), field("age-ms-max")), (Value::Integer(0), Value::Integer(30_000)));
    let max = field("write-bytes-max").as_integer().unwrap() as usize;
    let big = vec![b'x'; 60 << 20];
    let mut refusal = None;
    for i in 0..1 + max / big.len() {
        let reply = client.call(&[&b"TX.SET"[..], id.as_bytes(), format!("big{i}").as_bytes(), &big]);
        if reply.is_error() {
            refusal = Some(reply);
        }
    }
    let refusal = refusal.expect("more than is allowed was taken");
    assert!(refusal.as_bytes().unwrap().starts_with(b"TXTOOLARGE "), "{refusal:?}");
    // It goes on without what was refused.
    client.ok(&format!("TX.ROLLBACK {id}"));
}

#[test]
fn a_guard_fences_the_commit() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    assert!(!client.words("SESSION.OPEN").is_error());
    let grant = client.words("LOCK.ACQUIRE name");
    let token = grant.as_array().unwrap()[0].as_integer().unwrap();
    for passes in [true, false] {
        let id = begin(&mut client, "");
        client.ok(&format!("TX.SET {id} k {passes}"));
        client.ok(&format!("TX.GUARD {id} name {token}"));
        if !passes {
            client.integer("LOCK.RELEASE name");
            refused(&mut client, &format!("TX.COMMIT {id}"), "FENCED");
        } else {
            assert!(client.integer(&format!("TX.COMMIT {id}")) > 0);
        }
        assert_eq!(client.words("GET k"), bulk("true"));
    }
}

/// Whoever was told that it did not happen was told the truth, though its client goes on.
#[test]
fn the_fate_of_an_open_one_is_settled_by_asking() {
    let server = Server::start(&["--shards", "2"]);
    let (mut own, mut other) = (server.client(), server.client());
    let id = begin(&mut own, "");
    own.ok(&format!("TX.SET {id} k 1"));
    assert_eq!(other.words(&format!("TX.FATE {id}")), Value::Null);
    refused(&mut own, &format!("TX.COMMIT {id}"), "NOTX");
    assert_eq!(other.words("GET k"), Value::Null);
    assert_eq!(other.words(&format!("TX.FATE {id}")), Value::Null);
}

/// The fate outlives the server; what was not committed never happened.
#[test]
fn a_kill_leaves_what_was_committed_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut known: Vec<(String, i64)> = Vec::new();
    let mut lost = Vec::new();
    for life in 0..4 {
        let mut server = Server::start_in(&dir, &["--shards", "2"]);
        let mut client = server.client();
        for (id, commit) in &known {
            assert_eq!(client.integer(&format!("TX.FATE {id}")), *commit, "life {life}");
        }
        for id in &lost {
            assert_eq!(client.words(&format!("TX.FATE {id}")), Value::Null, "life {life}");
        }
        for i in 0..10 {
            let id = begin(&mut client, "");
            client.ok(&format!("TX.SET {id} a{i} {life}"));
            client.ok(&format!("TX.SET {id} b{i} {life}"));
            if i % 3 == 0 {
                lost.push(id);
            } else {
                let commit = client.integer(&format!("TX.COMMIT {id}"));
                known.push((id, commit));
            }
        }
        server.kill();
    }
    let server = Server::start_in(&dir, &["--shards", "2"]);
    let mut client = server.client();
    for i in 0..10 {
        let expected = if i % 3 == 0 { Value::Null } else { bulk("3") };
        assert_eq!(client.words(&format!("MGET a{i} b{i}")), Value::Array(vec![expected.clone(), expected]));
    }
}

#[test]
fn those_who_listen_hear_of_what_was_committed() {
    let server = Server::start(&["--shards", "2", "--notify-keyspace-events", "AE"]);
    let (mut own, mut listener) = (server.client(), server.client());
    own.ok("SET gone 1");
    listener.words("PSUBSCRIBE __keyevent@0__:*");
    let id = begin(&mut own, "");
    own.ok(&format!("TX.SET {id} kept 1"));
    let savepoint = own.integer(&format!("TX.SAVEPOINT {id}"));
    own.ok(&format!("TX.SET {id} forgotten 1"));
    own.ok(&format!("TX.ROLLBACKTO {id} {savepoint}"));
    own.integer(&format!("TX.DEL {id} gone"));
    let aborted = begin(&mut own, "");
    own.ok(&format!("TX.SET {aborted} never 1"));
    own.ok(&format!("TX.ROLLBACK {aborted}"));
    own.integer(&format!("TX.COMMIT {id}"));
    for (event, key) in [("set", "kept"), ("del", "gone")] {
        let channel = format!("__keyevent@0__:{event}");
        let message = [bulk("pmessage"), bulk("__keyevent@0__:*"), bulk(&channel), bulk(key)];
        assert_eq!(listener.reply().unwrap(), Value::Array(message.to_vec()));
    }
    own.ok("SET last 1");
    let last = listener.reply().unwrap();
    assert_eq!(last.as_array().unwrap()[3], bulk("last"));
}

#[test]
fn documented_like_the_rest() {
    let server = Server::start(&["--shards", "1"]);
    let mut client = server.client();
    let docs = client.words("COMMAND DOCS tx.begin tx.getforupdate tx.fate");
    assert_eq!(docs.as_array().unwrap().len(), 6);
    let keys = client.words("COMMAND GETKEYS TX.DEL 0123 a b");
    assert_eq!(keys, Value::Array(vec![bulk("a"), bulk("b")]));
}
