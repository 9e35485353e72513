//! Locks and sessions as Redis clients use them: over sockets, with clients and servers that die.

use std::path::Path;
use std::time::{Duration, Instant};

use corering_engine::format::mirror::{self, CopyAt};
use corering_engine::format::superblock::Superblock;
use corering_engine::root::SUPERBLOCK_FILE;

use crate::common::client::encode;
use crate::common::{Client, Server, until};
use corering_daemon::resp::Value;

/// A session's id and secret.
fn open(client: &mut Client, options: &str) -> (String, String) {
    let reply = client.words(&format!("SESSION.OPEN {options}"));
    let text = |i: usize| {
        let part = reply.as_array().unwrap_or_else(|| panic!("{reply:?}"))[i].as_bytes().unwrap();
        String::from_utf8(part.to_vec()).unwrap()
    };
    (text(0), text(1))
}

/// Token and count.
fn grant(reply: &Value) -> (i64, i64) {
    match reply.as_array() {
        Some([token, count]) => (token.as_integer().unwrap(), count.as_integer().unwrap()),
        _ => panic!("{reply:?} is no grant"),
    }
}

fn acquire(client: &mut Client, line: &str) -> (i64, i64) {
    let reply = client.words(&format!("LOCK.ACQUIRE {line}"));
    grant(&reply)
}

/// The first word of an error.
fn code(client: &mut Client, line: &str) -> String {
    let reply = client.words(line);
    assert!(reply.is_error(), "{line}: {reply:?}");
    String::from_utf8_lossy(reply.as_bytes().unwrap()).split(' ').next().unwrap().to_owned()
}

/// The value of a field, in either protocol.
fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    let is = |key: &Value| key.as_bytes() == Some(name.as_bytes());
    let found = match value {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| is(key)).map(|(_, value)| value),
        Value::Array(items) => items.chunks_exact(2).find(|pair| is(&pair[0])).map(|pair| &pair[1]),
        _ => None,
    };
    found.unwrap_or_else(|| panic!("{name} in {value:?}"))
}

fn len(client: &mut Client, name: &str, what: &str) -> usize {
    match client.words(&format!("LOCK.INFO {name}")) {
        Value::Null => 0,
        info => field(&info, what).as_array().unwrap().len(),
    }
}

#[test]
fn two_clients_share_a_lock_by_turns() {
    let server = Server::start(&["--shards", "2"]);
    let (mut a, mut b) = (server.client(), server.client());
    assert_eq!(code(&mut a, "LOCK.ACQUIRE l"), "NOSESSION");
    open(&mut a, "LABEL a");
    open(&mut b, "LABEL b");
    let (first, count) = acquire(&mut a, "l");
    assert!(first > 0 && count == 1);
    assert_eq!(acquire(&mut a, "l"), (first, 2));
    assert_eq!(code(&mut b, "LOCK.ACQUIRE l"), "LOCKED");
    assert_eq!(code(&mut b, "LOCK.ACQUIRE l WAIT 50"), "LOCKTIMEOUT");
    assert_eq!(code(&mut b, "LOCK.RELEASE l"), "NOTHELD");
    assert_eq!(code(&mut a, "LOCK.RELEASE l TOKEN 1"), "WRONGTOKEN");
    assert_eq!(a.integer("LOCK.RELEASE l"), 1);
    assert_eq!(a.integer(&format!("LOCK.RELEASE l TOKEN {first}")), 0);
    assert_eq!(code(&mut a, "LOCK.RELEASE l"), "NOTHELD");
    let (second, _) = acquire(&mut b, "l BLOCK");
    assert!(second > first);
    assert_eq!(b.integer("LOCK.RENEW l"), second);
    let down = b.words("LOCK.DOWNGRADE l");
    assert_eq!(grant(&down), (second, 1));
    acquire(&mut a, "l SHARED");
    assert_eq!(code(&mut a, "LOCK.ACQUIRE l"), "LOCKED");
    // Who ends a session ends its holds.
    assert_eq!(len(&mut a, "l", "holders"), 2);
}

#[test]
fn waiters_are_served_in_the_order_in_which_they_came_and_hold_up_nobody() {
    let server = Server::start(&["--shards", "1"]);
    let mut holder = server.client();
    open(&mut holder, "");
    acquire(&mut holder, "l");
    let mut waiters: Vec<Client> = Vec::new();
    for i in 0..12 {
        let mut client = server.client();
        open(&mut client, "");
        client.send(&["LOCK.ACQUIRE", "l", "BLOCK"]).unwrap();
        // What is sent behind a wait is run behind it.
        client.send(&["ECHO", "later"]).unwrap();
        waiters.push(client);
        // On the same shard everybody else is served meanwhile.
        until("the waiter stands in line", || len(&mut holder, "l", "waiting") == i + 1);
        holder.ok("SET k v");
    }
    assert!(holder.text("INFO clients").contains("blocked_clients:12"));
    assert_eq!(holder.integer("LOCK.RELEASE l"), 0);
    let mut last = 0;
    for client in &mut waiters {
        let (token, _) = grant(&client.reply().unwrap());
        assert!(token > last);
        last = token;
        assert_eq!(client.reply().unwrap(), Value::Bulk(b"later".to_vec()));
        assert_eq!(client.integer("LOCK.RELEASE l"), 0);
    }
    assert!(holder.text("INFO clients").contains("blocked_clients:0"));
}

#[test]
fn a_connection_that_ends_while_it_waits_leaves_the_line() {
    let server = Server::start(&["--shards", "2"]);
    let mut holder = server.client();
    open(&mut holder, "");
    acquire(&mut holder, "l");
    let (id, secret) = open(&mut server.client(), "TTL 600000");
    let begin_wait = |holder: &mut Client| {
        let before = len(holder, "l", "waiting");
        let mut client = server.client();
        client.ok(&format!("SESSION.USE {id} {secret}"));
        client.send(&["LOCK.ACQUIRE", "l", "BLOCK"]).unwrap();
        until("it waits", || len(holder, "l", "waiting") == before + 1);
        client
    };
    let (gone, mut stays) = (begin_wait(&mut holder), begin_wait(&mut holder));
    drop(gone);
    until("the dead one has left", || len(&mut holder, "l", "waiting") == 1);
    let killed = begin_wait(&mut holder);
    let addr = killed.stream().local_addr().unwrap();
    holder.ok(&format!("CLIENT KILL {addr}"));
    until("the killed one has left", || len(&mut holder, "l", "waiting") == 1);
    holder.integer("LOCK.RELEASE l");
    let (_, count) = grant(&stays.reply().unwrap());
    assert_eq!(count, 1, "the others' waits left nothing");
    assert_eq!(stays.integer("LOCK.RELEASE l"), 0);
    assert_eq!(len(&mut holder, "l", "holders"), 0);
}

#[test]
fn a_bound_session_ends_with_its_connection_unless_it_is_taken_over() {
    let server = Server::start(&["--shards", "2"]);
    let mut other = server.client();
    open(&mut other, "");
    // At once.
    let mut client = server.client();
    open(&mut client, "TTL 600000 BIND 0");
    acquire(&mut client, "l");
    other.send(&["LOCK.ACQUIRE", "l", "BLOCK"]).unwrap();
    drop(client);
    grant(&other.reply().unwrap());
    // Taken over in its grace, by USE and by KEEPALIVE.
    for takes in ["SESSION.USE", "SESSION.KEEPALIVE"] {
        let mut client = server.client();
        let (id, secret) = open(&mut client, "TTL 600000 BIND 300");
        acquire(&mut client, takes);
        drop(client);
        std::thread::sleep(Duration::from_millis(50));
        other.ok(&format!("{takes} {id} {secret}"));
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(len(&mut other, takes, "holders"), 1, "{takes}");
        other.ok(&format!("SESSION.CLOSE {id} {secret}"));
        assert_eq!(len(&mut other, takes, "holders"), 0);
    }
    // Who bound it last is whom it lives by, on whichever shard's thread.
    for _ in 0..4 {
        let (mut first, mut second) = (server.client(), server.client());
        let (id, secret) = open(&mut first, "TTL 600000 BIND 0");
        acquire(&mut first, "moved");
        second.ok(&format!("SESSION.USE {id} {secret} BIND 0"));
        drop(first);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(second.integer("LOCK.RELEASE moved"), 0);
        acquire(&mut second, "moved");
        drop(second);
        until("its lock is free", || len(&mut other, "moved", "holders") == 0);
    }
    // It is kept alive as long as the connection lives, and no longer.
    let mut client = server.client();
    let (id, _) = open(&mut client, "TTL 2000 BIND 100");
    std::thread::sleep(Duration::from_millis(2600));
    acquire(&mut client, "kept");
    drop(client);
    until("it has ended", || code_or_ok(&mut other, &format!("SESSION.INFO {id}")) == "NOSESSION");
    until("its lock is free", || len(&mut other, "kept", "holders") == 0);
}

fn code_or_ok(client: &mut Client, line: &str) -> String {
    let reply = client.words(line);
    if !reply.is_error() {
        return String::new();
    }
    String::from_utf8_lossy(reply.as_bytes().unwrap()).split(' ').next().unwrap().to_owned()
}

#[test]
fn a_killed_process_holds_nothing_and_waits_for_nothing() {
    let server = Server::start(&["--shards", "2"]);
    let mut other = server.client();
    open(&mut other, "");
    acquire(&mut other, "wanted");
    // A process of its own that holds one lock and waits for another, and then cannot say goodbye.
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; printf 'SESSION.OPEN BIND 0\\r\\nLOCK.ACQUIRE held\\r\\nLOCK.ACQUIRE wanted BLOCK\\r\\n' >&3; \
         exec sleep 600",
        server.port
    );
    let child = std::process::Command::new("bash").args(["-c", &script]).spawn().unwrap();
    let mut child = crate::common::Guarded(child);
    until("it holds and waits", || {
        len(&mut other, "held", "holders") == 1 && len(&mut other, "wanted", "waiting") == 1
    });
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    acquire(&mut other, "held WAIT 10000");
    until("nobody waits", || len(&mut other, "wanted", "waiting") == 0);
    assert_eq!(other.integer("LOCK.RELEASE wanted"), 0);
    assert_eq!(len(&mut other, "wanted", "holders"), 0);
}

#[test]
fn locks_and_tokens_outlive_a_killed_server() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut last = 0;
    let mut held: Option<(String, String, i64)> = None;
    for round in 0..4 {
        // The number of shards is the database's.
        let mut server = Server::start_in(&dir, &["--shards", "2"]);
        let mut client = server.client();
        if let Some((id, secret, token)) = &held {
            open(&mut client, "");
            assert_eq!(code(&mut client, "LOCK.ACQUIRE l"), "LOCKED", "round {round}");
            assert_eq!(client.words(&format!("GUARD l {token} SET k {round}")), Value::Simple(b"OK".to_vec()));
            client.ok(&format!("SESSION.USE {id} {secret}"));
            assert_eq!(acquire(&mut client, "l"), (*token, 2));
            client.ok(&format!("SESSION.CLOSE {id} {secret}"));
            assert_eq!(code(&mut client, &format!("GUARD l {token} SET k stale")), "FENCED");
        }
        let (id, secret) = open(&mut client, "TTL 600000");
        for i in 0..20 {
            let (token, _) = acquire(&mut client, &format!("l{}", i % 5));
            assert!(token > last, "round {round}: {token} after {last}");
            last = token;
            client.integer(&format!("LOCK.RELEASE l{}", i % 5));
        }
        let (token, _) = acquire(&mut client, "l");
        assert!(token > last);
        last = token;
        held = Some((id, secret, token));
        server.kill();
    }
}

#[test]
fn a_guard_refuses_a_stale_holder_whatever_it_writes() {
    let server = Server::start(&["--shards", "2"]);
    let (mut old, mut new) = (server.client(), server.client());
    let (id, _) = open(&mut old, "TTL 600000");
    let (live, secret) = open(&mut new, "");
    let put = format!("KEY.PUT k v SESSION {live} {secret}");
    let (stale, _) = acquire(&mut old, "l");
    old.ok(&format!("GUARD l {stale} SET k mine"));
    new.ok(&format!("SESSION.KILL {id}"));
    let (fresh, _) = acquire(&mut new, "l");
    let writes = [
        "SET k v",
        "SET k v NX",
        "SET k v XX",
        "SET k v GET",
        "SET k v IFEQ mine",
        "SETNX n v",
        "SETEX k 9 v",
        "PSETEX k 9 v",
        "GETSET k v",
        "GETDEL k",
        "GETEX k",
        "GETEX k EX 5",
        "APPEND k v",
        "SETRANGE k 0 v",
        "INCR n",
        "DECR n",
        "INCRBY n 2",
        "DECRBY n 2",
        "INCRBYFLOAT n 1.5",
        "DEL k",
        "UNLINK k",
        "EXPIRE k 9",
        "PEXPIRE k 9",
        "EXPIREAT k 9",
        "PEXPIREAT k 9",
        "PERSIST k",
        "DELEX k",
        "DELEX k IFEQ mine",
        "DELIFEQ k mine",
        "DEL k n",
        "MSET k 1 n 2",
        "MSETNX n 1",
        "RENAME k n",
        "RENAMENX k n",
        "COPY k n",
        &put,
    ];
    for write in writes {
        assert_eq!(code(&mut old, &format!("GUARD l {stale} {write}")), "FENCED", "{write}");
        assert_eq!(code(&mut old, &format!("GUARD nobody {fresh} {write}")), "FENCED", "{write}");
        assert_eq!(code(&mut old, &format!("GUARD l {fresh} GUARD l {stale} {write}")), "FENCED", "{write}");
    }
    assert_eq!(old.text("GET k"), "mine");
    assert_eq!(old.integer("EXISTS n"), 0);
    assert_eq!(old.integer("PTTL k"), -1);
    // Every command that writes keys by name is among them: nothing goes past the guard.
    let names = old.words("COMMAND LIST FILTERBY ACLCAT write");
    for name in names.as_array().unwrap() {
        let name = String::from_utf8(name.as_bytes().unwrap().to_vec()).unwrap().to_ascii_uppercase();
        let tried = writes.iter().any(|write| write.split(' ').next() == Some(&*name));
        // A transaction step by step has guards of its own.
        let of_transactions = name.starts_with("TX.");
        let refused = of_transactions || ["FLUSHDB", "FLUSHALL", "GUARD", "KEY.SEQ"].contains(&&*name);
        assert!(tried != refused, "{name}");
    }
    for line in ["GET k", "FLUSHALL", "NOSUCH", "PING", "LOCK.RELEASE l", "TX.SET 1 k v"] {
        assert_eq!(code(&mut new, &format!("GUARD l {fresh} {line}")), "ERR", "{line}");
    }
    // The present holder's go through, in a pipeline as well.
    let mut bytes = Vec::new();
    for i in 0..50 {
        let token = if i % 2 == 0 { fresh } else { stale }.to_string();
        bytes.extend(encode(&["SET", "plain", &i.to_string()]));
        bytes.extend(encode(&["GUARD", "l", &token, "INCR", "counter"]));
        bytes.extend(encode(&["GET", "counter"]));
    }
    new.send_raw(&bytes).unwrap();
    for i in 0..50 {
        new.reply().unwrap();
        let answer = new.reply().unwrap();
        let expected = i / 2 + 1;
        if i % 2 == 0 {
            assert_eq!(answer, Value::Integer(expected));
        } else {
            assert!(answer.is_error());
        }
        assert_eq!(new.reply().unwrap().as_bytes().unwrap(), expected.to_string().as_bytes());
    }
}

#[test]
fn semaphores_and_deadlocks() {
    let server = Server::start(&["--shards", "2"]);
    let (mut a, mut b, mut c) = (server.client(), server.client(), server.client());
    for client in [&mut a, &mut b, &mut c] {
        open(client, "");
    }
    acquire(&mut a, "s PERMITS 3 UNITS 2");
    acquire(&mut b, "s PERMITS 3");
    assert_eq!(code(&mut c, "LOCK.ACQUIRE s PERMITS 3"), "LOCKED");
    assert_eq!(code(&mut c, "LOCK.ACQUIRE s PERMITS 4"), "OTHERPERMITS");
    acquire(&mut a, "x");
    acquire(&mut b, "y");
    a.send(&["LOCK.ACQUIRE", "y", "BLOCK"]).unwrap();
    until("it waits", || len(&mut c, "y", "waiting") == 1);
    // Who came last gives way, and milliseconds tell who did.
    std::thread::sleep(Duration::from_millis(20));
    let began = Instant::now();
    assert_eq!(code(&mut b, "LOCK.ACQUIRE x BLOCK"), "DEADLOCK");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(b.integer("LOCK.RELEASE y"), 0);
    grant(&a.reply().unwrap());
}

#[test]
fn what_is_told_of_locks_and_sessions() {
    let server = Server::start(&["--shards", "2"]);
    for protocol in ["HELLO 2", "HELLO 3"] {
        let (mut a, mut b) = (server.client(), server.client());
        a.words(protocol);
        let (id, secret) = open(&mut a, "LABEL worker-1 TTL 60000");
        open(&mut b, "LABEL worker-2");
        let (token, _) = acquire(&mut a, "jobs:1 LEASE 50000");
        acquire(&mut a, "jobs:2");
        b.send(&["LOCK.ACQUIRE", "jobs:1", "SHARED", "BLOCK"]).unwrap();
        until("it waits", || len(&mut a, "jobs:1", "waiting") == 1);
        let info = a.words("LOCK.INFO jobs:1");
        let holder = &field(&info, "holders").as_array().unwrap()[0];
        assert_eq!(field(holder, "session").as_bytes().unwrap(), id.as_bytes());
        assert_eq!(field(holder, "label").as_bytes().unwrap(), b"worker-1");
        assert_eq!(field(holder, "mode").as_bytes().unwrap(), b"exclusive");
        assert_eq!(field(holder, "token").as_integer().unwrap(), token);
        assert!((1..=50_000).contains(&field(holder, "lease-left-ms").as_integer().unwrap()));
        let waiter = &field(&info, "waiting").as_array().unwrap()[0];
        assert_eq!(field(waiter, "mode").as_bytes().unwrap(), b"shared");
        assert!(field(waiter, "waited-ms").as_integer().unwrap() < 20_000);
        let list = a.words("LOCK.LIST MATCH jobs:*");
        assert_eq!(list.as_array().unwrap().len(), 2);
        assert_eq!(field(&list.as_array().unwrap()[1], "name").as_bytes().unwrap(), b"jobs:2");
        assert_eq!(a.words("LOCK.LIST COUNT 1").as_array().unwrap().len(), 1);
        assert_eq!(a.words("LOCK.LIST MATCH none").as_array().unwrap().len(), 0);
        let session = a.words(&format!("SESSION.INFO {id}"));
        assert_eq!(field(&session, "ttl-ms").as_integer().unwrap(), 60_000);
        assert_eq!(a.words("SESSION.LIST").as_array().unwrap().len(), 2);
        a.ok(&format!("SESSION.CLOSE {id} {secret}"));
        grant(&b.reply().unwrap());
        let all = b.words("SESSION.LIST");
        let id = field(&all.as_array().unwrap()[0], "id").as_bytes().unwrap().to_vec();
        b.ok(&format!("SESSION.KILL {}", String::from_utf8(id).unwrap()));
        assert_eq!(b.words("LOCK.INFO jobs:1"), Value::Null);
    }
}

#[test]
fn a_lost_lock_is_told_to_who_uses_its_session() {
    let server = Server::start(&["--shards", "2"]);
    let (mut a, mut b) = (server.client(), server.client());
    a.words("HELLO 3");
    let (id, _) = open(&mut a, "TTL 600000");
    let (token, _) = acquire(&mut a, "leased LEASE 100");
    let lost = |name: &str, token: i64| {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        Value::Push(vec![bulk("lock-lost"), bulk(name), Value::Integer(token)])
    };
    assert_eq!(a.reply().unwrap(), lost("leased", token));
    assert_eq!(code(&mut a, "LOCK.RELEASE leased"), "NOTHELD");
    let (token, _) = acquire(&mut a, "held");
    assert_eq!(a.integer("LOCK.RELEASE held"), 0);
    assert!(acquire(&mut a, "held").0 > token);
    let (token, _) = acquire(&mut a, "held");
    b.ok(&format!("SESSION.KILL {id}"));
    assert_eq!(a.reply().unwrap(), lost("held", token));
    assert_eq!(code(&mut a, "LOCK.ACQUIRE held"), "NOSESSION");
}

#[test]
fn hostile_inputs() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    let (id, secret) = open(&mut client, "");
    let wrong = "0".repeat(32);
    for line in ["SESSION.USE", "SESSION.KEEPALIVE", "SESSION.CLOSE"] {
        assert_eq!(code(&mut client, &format!("{line} {id} {wrong}")), "WRONGSECRET", "{line}");
        assert_eq!(code(&mut client, &format!("{line} {} {secret}", "0".repeat(16))), "NOSESSION", "{line}");
        assert_eq!(code(&mut client, &format!("{line} x {secret}")), "ERR", "{line}");
        assert_eq!(code(&mut client, &format!("{line} {id} x")), "ERR", "{line}");
    }
    assert_eq!(code(&mut client, &format!("LOCK.ACQUIRE l SESSION {id} {wrong}")), "WRONGSECRET");
    for line in [
        "SESSION.OPEN TTL",
        "SESSION.OPEN TTL 0",
        "SESSION.OPEN TTL -1",
        "SESSION.OPEN TTL x",
        "SESSION.OPEN ODD 1",
        "SESSION.OPEN TTL 9223372036854775807",
        "SESSION.OPEN TTL 1000 BIND 5",
        "SESSION.OPEN BIND -5",
        "SESSION.KILL",
        "SESSION.INFO zz",
        "LOCK.ACQUIRE",
        "LOCK.ACQUIRE l ODD",
        "LOCK.ACQUIRE l WAIT",
        "LOCK.ACQUIRE l WAIT -1",
        "LOCK.ACQUIRE l WAIT 5 BLOCK",
        "LOCK.ACQUIRE l SHARED SHARED",
        "LOCK.ACQUIRE l SHARED PERMITS 3",
        "LOCK.ACQUIRE l UNITS 3",
        "LOCK.ACQUIRE l PERMITS 2 UNITS 3",
        "LOCK.ACQUIRE l PERMITS 0",
        "LOCK.ACQUIRE l PERMITS -1",
        "LOCK.ACQUIRE l PERMITS 5000000000",
        "LOCK.ACQUIRE l LEASE 0",
        "LOCK.ACQUIRE l TOKEN 5",
        "LOCK.RELEASE l TOKEN -5",
        "LOCK.RELEASE l WAIT 5",
        "LOCK.RENEW l SYNC",
        "LOCK.LIST COUNT 0",
        "LOCK.LIST COUNT",
        "GUARD l 5",
        "GUARD l x SET k v",
        "GUARD l 5 GUARD l",
        "GUARD l 99999999999999999999 SET k v",
    ] {
        assert_eq!(code(&mut client, line), "ERR", "{line}");
    }
    let deep = "GUARD l 5 ".repeat(17);
    assert_eq!(code(&mut client, &format!("{deep} SET k v")), "ERR");
    let label = "x".repeat(257);
    assert!(client.call(&["SESSION.OPEN", "LABEL", &label]).is_error());
    assert!(client.call(&["LOCK.ACQUIRE", ""]).is_error());
    let long = vec![b'n'; 1025];
    assert!(client.call(&[b"LOCK.ACQUIRE".as_slice(), &long]).is_error());
    grant(&client.call(&[b"LOCK.ACQUIRE".as_slice(), &long[1..]]));
    grant(&client.call(&[b"LOCK.ACQUIRE".as_slice(), b"\0\r\n\xff{}"]));
    assert_eq!(client.call(&[b"LOCK.RELEASE".as_slice(), b"\0\r\n\xff{}"]), Value::Integer(0));
    // A client that sends without end while it waits is not read without end.
    let mut other = server.client();
    open(&mut other, "");
    acquire(&mut client, "l");
    other.send(&["LOCK.ACQUIRE", "l", "WAIT", "1500"]).unwrap();
    let flood = encode(&["PING"]).repeat(200_000);
    other.send_raw(&flood).unwrap();
    assert!(other.reply().unwrap().is_error());
    for _ in 0..200_000 {
        assert_eq!(other.reply().unwrap(), Value::Simple(b"PONG".to_vec()));
    }
}

#[test]
fn a_server_that_stops_does_not_wait_for_waiters() {
    let mut server = Server::start(&["--shards", "2"]);
    let (mut a, mut b) = (server.client(), server.client());
    open(&mut a, "");
    open(&mut b, "");
    acquire(&mut a, "l");
    b.send(&["LOCK.ACQUIRE", "l", "BLOCK"]).unwrap();
    until("it waits", || len(&mut a, "l", "waiting") == 1);
    let began = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn the_program_tells_who_holds_and_who_waits() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("socket");
    let server = Server::start(&["--shards", "2", "--requirepass", "secret", "--unixsocket", socket.to_str().unwrap()]);
    let (mut a, mut b) = (server.client(), server.client());
    a.ok("AUTH secret");
    b.ok("AUTH secret");
    let (id, _) = open(&mut a, "LABEL printer");
    open(&mut b, "LABEL second");
    let (token, _) = acquire(&mut a, "jobs LEASE 100000");
    acquire(&mut a, "other");
    b.send(&["LOCK.ACQUIRE", "jobs", "SHARED", "BLOCK"]).unwrap();
    until("it waits", || len(&mut a, "jobs", "waiting") == 1);
    let run = |args: &[&str], password: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corering"));
        command.arg("locks").args(args).env("CORERING_REQUIREPASS", password).output().unwrap()
    };
    let port = server.port.to_string();
    for place in [&["--port", port.as_str()][..], &["--socket", socket.to_str().unwrap()]] {
        let output = run(place, "secret");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(&format!("held exclusive by session {id} (printer)")), "{text}");
        assert!(text.contains(&format!("token {token}, 1 times, lease ends in")), "{text}");
        assert!(
            text.contains("1. waits") && text.contains("for shared: session") && text.contains("(second)"),
            "{text}"
        );
        assert!(text.ends_with("2 locks, 1 waiting\n"), "{text}");
    }
    let url = format!("redis://:secret@127.0.0.1:{port}");
    let output = run(&["--url", &url, "--json", "--match", "oth*"], "unused");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["name"], "other");
    assert_eq!(json[0]["holders"][0]["label"], "printer");
    assert_eq!(json.as_array().unwrap().len(), 1);
    let refused = run(&["--port", &port], "wrong");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("WRONGPASS") && refused.status.code() == Some(1));
    assert_eq!(run(&["--port", "1"], "x").status.code(), Some(1));
}

/// The lock of many a program, as it is written for Redis 8.4 and Valkey 9: a random value set if there is none, with an expiry,
/// and deleted by whoever set it.
#[test]
fn the_lock_that_everybody_writes_excludes() {
    let server = Server::start(&["--shards", "2"]);
    server.client().ok("SET counter 0");
    std::thread::scope(|scope| {
        for (worker, release) in ["DELIFEQ lock", "DELEX lock IFEQ"].into_iter().cycle().take(6).enumerate() {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for round in 0..15 {
                    let value = format!("{worker}-{round}");
                    while client.words(&format!("SET lock {value} NX PX 30000")) == Value::Null {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    // Not atomic without the lock.
                    let n: i64 = client.text("GET counter").parse().unwrap();
                    client.ok(&format!("SET counter {}", n + 1));
                    assert_eq!(client.integer(&format!("{release} {value}")), 1);
                }
            });
        }
    });
    assert_eq!(server.client().text("GET counter"), "90");
}

#[test]
fn a_holder_that_pauses_beyond_its_lease_writes_nothing_when_it_wakes() {
    let server = Server::start(&["--shards", "2"]);
    let (mut paused, mut next) = (server.client(), server.client());
    open(&mut paused, "TTL 600000");
    open(&mut next, "");
    for round in 0..5 {
        let (stale, _) = acquire(&mut paused, "l LEASE 60 WAIT 10000");
        let (fresh, _) = acquire(&mut next, "l WAIT 10000");
        assert!(fresh > stale);
        next.ok(&format!("GUARD l {fresh} SET k next{round}"));
        // It wakes, and believes that it holds the lock.
        assert_eq!(code(&mut paused, &format!("GUARD l {stale} SET k stale")), "FENCED");
        assert_eq!(code(&mut paused, &format!("LOCK.RENEW l TOKEN {stale}")), "NOTHELD");
        assert_eq!(code(&mut paused, &format!("LOCK.RELEASE l TOKEN {stale}")), "NOTHELD");
        assert_eq!(next.text("GET k"), format!("next{round}"));
        assert_eq!(next.integer(&format!("LOCK.RELEASE l TOKEN {fresh}")), 0);
    }
}

/// As if the machine had been stopped while a lock was held of which nothing was on disk.
fn stop_the_machine(dir: &Path, lease_ms: u64) {
    let path = dir.join(SUPERBLOCK_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let CopyAt::Valid { sequence, payload } = mirror::decode(&bytes) else { panic!("{}", path.display()) };
    let mut record = Superblock::decode(&payload).unwrap();
    (record.boot, record.unsynced_lease_ms) = (record.boot ^ 1, lease_ms);
    let copy = mirror::encode(sequence + 1, &record.encode());
    for at in [0, mirror::COPY_LEN] {
        bytes[at..at + copy.len()].copy_from_slice(&copy);
    }
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn after_the_machine_was_stopped_a_try_says_how_long_no_lock_is_granted() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    Server::start_in(&dir, &["--shards", "2"]).stop();
    stop_the_machine(&dir, 1500);
    let server = Server::start_in(&dir, &["--shards", "2"]);
    let mut client = server.client();
    open(&mut client, "");
    let refused = client.words("LOCK.ACQUIRE l");
    let text = String::from_utf8_lossy(refused.as_bytes().unwrap()).into_owned();
    assert!(refused.is_error() && text.starts_with("LOCKNOTYET no lock is granted for "), "{text}");
    assert_eq!(client.words("LOCK.INFO l"), Value::Null);
    acquire(&mut client, "l WAIT 20000");
    acquire(&mut client, "m");
}

#[test]
fn info_counts() {
    let server = Server::start(&["--shards", "2"]);
    let (mut a, mut b) = (server.client(), server.client());
    let (id, _) = open(&mut a, "");
    open(&mut b, "");
    acquire(&mut a, "one");
    acquire(&mut a, "two");
    assert_eq!(code(&mut b, "LOCK.ACQUIRE one WAIT 20"), "LOCKTIMEOUT");
    assert_eq!(code(&mut b, "GUARD one 1 SET k v"), "FENCED");
    assert_eq!(code(&mut b, "LOCK.ACQUIRE one"), "LOCKED");
    b.send(&["LOCK.ACQUIRE", "one", "BLOCK"]).unwrap();
    until("it waits", || len(&mut a, "one", "waiting") == 1);
    let info = a.text("INFO locks");
    for line in [
        "# Locks",
        "lock_sessions:2",
        "lock_names:2",
        "lock_holds:2",
        "lock_waiters:1",
        "lock_grants:2",
        "lock_refused:1",
        "lock_timeouts:1",
        "lock_cancelled:0",
        "lock_deadlocks:0",
        "lock_expiries:0",
        "lock_lost_with_session:0",
        "lock_fenced_writes:1",
    ] {
        assert!(info.lines().any(|own| own == line), "{line} in {info}");
    }
    // What ends with its session is not what ends with its lease.
    a.ok(&format!("SESSION.KILL {id}"));
    grant(&b.reply().unwrap());
    let info = a.text("INFO locks");
    assert!(
        info.contains("lock_expiries:0\r\nlock_lost_with_session:2\r\n") && info.contains("lock_holds:1\r\n"),
        "{info}"
    );
    acquire(&mut b, "leased LEASE 20");
    until("the lease runs out", || a.text("INFO locks").contains("lock_expiries:1\r\nlock_lost_with_session:2\r\n"));
    // A wait whose connection goes is cancelled.
    let mut gone = server.client();
    open(&mut gone, "");
    gone.send(&["LOCK.ACQUIRE", "one", "BLOCK"]).unwrap();
    until("it waits", || len(&mut a, "one", "waiting") == 1);
    drop(gone);
    until("it left", || a.text("INFO locks").contains("lock_cancelled:1\r\n"));
    assert!(a.text("INFO locks").contains("lock_waiters:0\r\n"));
    a.ok("CONFIG RESETSTAT");
    let info = a.text("INFO locks");
    assert!(info.contains("lock_grants:0\r\n") && info.contains("lock_holds:1\r\n"), "{info}");
}

#[test]
fn conditional_sets_and_deletes() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    assert_eq!(client.words("SET k v IFEQ v"), Value::Null, "it is not there");
    client.ok("SET k v IFNE v");
    assert_eq!(client.words("SET k w IFNE v"), Value::Null);
    assert_eq!(client.words("SET k w IFEQ x"), Value::Null);
    client.ok("SET k w IFEQ v PX 100000");
    assert!(client.integer("PTTL k") > 0);
    assert_eq!(client.text("SET k x IFEQ w GET KEEPTTL"), "w");
    assert!(client.integer("PTTL k") > 0);
    assert_eq!(client.text("SET k y IFEQ w GET"), "x", "the value before, set or not");
    assert_eq!(client.text("GET k"), "x");
    for line in ["SET k v IFEQ", "SET k v NX IFEQ a", "SET k v IFEQ a XX", "SET k v IFEQ a IFNE b", "GETEX k IFEQ x"] {
        assert_eq!(client.text(line), "ERR syntax error", "{line}");
    }
    assert_eq!(client.integer("DELIFEQ k w"), 0);
    assert_eq!(client.integer("DELIFEQ k x"), 1);
    assert_eq!(client.integer("DELIFEQ k x"), 0);
    client.ok("SET k v");
    assert_eq!(client.integer("DELEX k IFEQ w"), 0);
    assert_eq!(client.integer("DELEX k IFNE v"), 0);
    assert_eq!(client.integer("DELEX k ifne w"), 1);
    assert_eq!(client.integer("DELEX k IFNE w"), 0, "it is not there");
    client.ok("SET k v");
    assert_eq!(client.integer("DELEX k"), 1);
    assert_eq!(client.text("DELEX k IFEQ"), "ERR wrong number of arguments for 'delex' command");
    assert_eq!(code(&mut client, "DELEX k ODD v"), "ERR");
    // The lock that everybody writes.
    client.ok("SET lock me NX PX 200");
    assert_eq!(client.words("SET lock you NX PX 200"), Value::Null);
    assert_eq!(client.integer("DELIFEQ lock you"), 0);
    until("it has expired", || client.words("SET lock you NX PX 60000") != Value::Null);
    assert_eq!(client.integer("DELEX lock IFEQ me"), 0);
    assert_eq!(client.integer("DELEX lock IFEQ you"), 1);
}

#[test]
fn all_locks_are_found_page_by_page_and_waits_are_measured() {
    let server = Server::start(&["--shards", "2"]);
    let (mut a, mut b) = (server.client(), server.client());
    open(&mut a, "");
    open(&mut b, "");
    for i in 0..60 {
        acquire(&mut a, &format!("page:{i}"));
    }
    acquire(&mut a, "waited");
    b.send(&["LOCK.ACQUIRE", "waited", "BLOCK"]).unwrap();
    until("it waits", || len(&mut a, "waited", "waiting") == 1);
    std::thread::sleep(Duration::from_millis(30));
    let (mut cursor, mut names) = ("0".to_owned(), Vec::new());
    loop {
        let page = a.words(&format!("LOCK.SCAN {cursor} MATCH page:* COUNT 7"));
        let [next, found] = page.as_array().unwrap() else { panic!("{page:?}") };
        let found = found.as_array().unwrap();
        assert!(found.len() <= 7);
        names.extend(found.iter().map(|lock| field(lock, "name").as_bytes().unwrap().to_vec()));
        cursor = String::from_utf8(next.as_bytes().unwrap().to_vec()).unwrap();
        if cursor == "0" {
            break;
        }
    }
    let all: std::collections::BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!((names.len(), all.len()), (60, 60));
    // The list has the first of all by name.
    let list = a.words("LOCK.LIST COUNT 2 MATCH page:1*");
    let first: Vec<_> = list.as_array().unwrap().iter().map(|lock| field(lock, "name").as_bytes().unwrap()).collect();
    assert_eq!(first, [b"page:1".as_slice(), b"page:10"]);
    assert_eq!(field(&a.words("LOCK.INFO waited"), "waiting-count"), &Value::Integer(1));
    assert_eq!(a.integer("LOCK.RELEASE waited"), 0);
    grant(&b.reply().unwrap());
    let info = a.text("INFO locks");
    let number = |name: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {info}"));
        line.trim_start_matches(':').trim().parse().unwrap()
    };
    assert_eq!((number("lock_waits"), number("lock_waiters")), (1, 0));
    assert!((29..20_000).contains(&number("lock_wait_ms_max")), "{info}");
    for bad in ["LOCK.SCAN x", "LOCK.SCAN 0 COUNT 0", "LOCK.SCAN 0 MATCH"] {
        assert_eq!(code(&mut a, bad), "ERR", "{bad}");
    }
    // A cursor from elsewhere ends the scan and hurts nobody.
    assert_eq!(a.words("LOCK.SCAN 18446744073709551615").as_array().unwrap()[0].as_bytes(), Some(b"0".as_slice()));
}
