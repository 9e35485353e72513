//! KEY.*: watches by both protocols, ephemeral and sequential keys, from Redis clients; and what is left of those that were killed.

use crate::common::{Client, Server, until};
use corering_daemon::resp::Value;

/// The next message or reply, as text.
fn next(client: &mut Client) -> String {
    String::from_utf8_lossy(&client.raw_reply().unwrap()).replace("\r\n", " ")
}

/// Id and secret of a new session, which the connection uses.
fn open_session(client: &mut Client, options: &str) -> (String, String) {
    let Value::Array(parts) = client.words(&format!("SESSION.OPEN {options}")) else { panic!("no session") };
    let text = |at: usize| String::from_utf8(parts[at].as_bytes().unwrap().to_vec()).unwrap();
    (text(0), text(1))
}

fn numbers(reply: Value) -> (i64, i64) {
    let Value::Array(parts) = reply else { panic!("{reply:?}") };
    (parts[0].as_integer().unwrap(), parts[1].as_integer().unwrap())
}

#[test]
fn changes_are_pushed_in_order_by_both_protocols() {
    let server = Server::start(&["--shards", "2"]);
    for protocol in [2, 3] {
        let (mut watcher, mut writer) = (Client::connect(server.port), Client::connect(server.port));
        watcher.words(&format!("HELLO {protocol}"));
        let sign = if protocol == 3 { '>' } else { '*' };
        let (one, from) = numbers(watcher.words("KEY.WATCH k: PREFIX"));
        assert!(one == 1 && from >= 0);
        writer.ok("SET k:1 a");
        writer.ok("SET other x");
        writer.words("MSET {t}k: 1 k:2 b");
        writer.words("DEL k:1");
        let put = next(&mut watcher);
        assert!(put.starts_with(&format!("{sign}4 $10 key-change :1 :")), "{put}");
        assert!(put.contains("*1 *4 $3 put $3 k:1 $1 a :-1 "), "{put}");
        assert!(next(&mut watcher).contains("$3 put $3 k:2 $1 b "));
        assert!(next(&mut watcher).contains("*2 $3 del $3 k:1 "));
        let version = number(&put, 1);
        // Progress comes behind what it covers, and goes on without changes.
        let seen = watcher.integer("KEY.PROGRESS 1");
        assert!(seen > version);
        writer.ok("SET other y");
        until("progress", || watcher.integer("KEY.PROGRESS 1") > seen);
        // From before, again.
        let (two, again) = numbers(watcher.words(&format!("KEY.WATCH k:2 FROM {version}")));
        assert_eq!((two, again), (2, version));
        assert!(next(&mut watcher).contains(":2 :"));
        if protocol == 2 {
            assert!(watcher.text("GET k:1").contains("Can't execute 'get'"));
            assert_eq!(next_of(&mut watcher, "PING"), "*2 $4 pong $0  ");
        } else {
            assert_eq!(watcher.words("GET k:2"), Value::Bulk(b"b".to_vec()));
        }
        assert_eq!(watcher.integer("KEY.UNWATCH 2"), 1);
        assert_eq!(watcher.integer("KEY.UNWATCH"), 1);
        assert_eq!(watcher.integer("KEY.UNWATCH 1"), 0);
        assert!(watcher.text("KEY.PROGRESS 1").contains("no such watch"));
        writer.ok("SET k:3 c");
        assert_eq!(watcher.text("GET k:2"), "b");
        writer.words("FLUSHALL");
    }
}

/// One of the integers of a message.
fn number(shown: &str, at: usize) -> i64 {
    shown.split(' ').filter_map(|part| part.strip_prefix(':')).nth(at).unwrap().parse().unwrap()
}

fn next_of(client: &mut Client, line: &str) -> String {
    client.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
    next(client)
}

#[test]
fn wrong_requests_are_refused() {
    let server = Server::start(&["--shards", "1"]);
    let mut client = Client::connect(server.port);
    for line in [
        "KEY.WATCH k FROM",
        "KEY.WATCH k FROM -1",
        "KEY.WATCH k FROM 9000000000000000000",
        "KEY.WATCH k NONSENSE",
        "KEY.WATCH k LIMIT x",
        "KEY.UNWATCH x",
        "KEY.PROGRESS 7",
        "KEY.PUT k v EPHEMERAL",
        "KEY.PUT k v PX",
        "KEY.SEQ k v NONSENSE",
        "KEY.PUT k v SESSION 00000000000000ff 000000000000000000000000000000ab",
    ] {
        let reply = client.words(line);
        assert!(matches!(reply, Value::Error(_)), "{line}: {reply:?}");
    }
    assert!(client.text("KEY.PUT k v").starts_with("NOSESSION"));
    assert!(client.text("KEY.SEQ k v EPHEMERAL").starts_with("NOSESSION"));
    assert!(client.text("GUARD lock 1 KEY.SEQ k v").contains("GUARD goes before"));
    assert_eq!(client.integer("DBSIZE"), 0);
}

#[test]
fn keys_go_with_their_session_and_numbers_grow() {
    let server = Server::start(&["--shards", "2"]);
    let (mut client, mut other) = (Client::connect(server.port), Client::connect(server.port));
    let (id, secret) = open_session(&mut client, "");
    client.ok("KEY.PUT e 1");
    client.ok("KEY.PUT changed 1");
    client.ok("KEY.PUT ordinary 1");
    other.ok(&format!("KEY.PUT theirs 1 PX 100000 SESSION {id} {secret}"));
    assert_eq!(client.text("KEY.SESSION e"), id);
    assert_eq!(client.words("KEY.SESSION missing"), Value::Null);
    // What changes a value leaves it whose it is; SET does not.
    assert_eq!(client.integer("APPEND changed 2"), 2);
    assert_eq!(client.integer("INCR changed"), 13);
    assert_eq!(client.integer("PEXPIRE changed 100000"), 1);
    assert_eq!(client.text("KEY.SESSION changed"), id);
    other.ok("SET ordinary 2");
    let mut keys = Vec::new();
    for _ in 0..5 {
        let Value::Array(made) = client.words("KEY.SEQ job- v EPHEMERAL") else { panic!("no key") };
        keys.push(String::from_utf8(made[0].as_bytes().unwrap().to_vec()).unwrap());
    }
    assert!(keys.is_sorted() && keys[0].len() == 24);
    let Value::Array(stays) = other.words("KEY.SEQ job- v") else { panic!("no key") };
    assert!(stays[0].as_bytes().unwrap() > keys[4].as_bytes());
    let mut watcher = Client::connect(server.port);
    watcher.words("KEY.WATCH e");
    client.ok(&format!("SESSION.CLOSE {id} {secret}"));
    for key in keys.iter().map(String::as_str).chain(["e", "changed", "theirs"]) {
        assert_eq!(other.words(&format!("GET {key}")), Value::Null, "{key}");
    }
    assert_eq!(other.text("GET ordinary"), "2");
    assert_eq!(other.integer("DBSIZE"), 2);
    assert!(next(&mut watcher).contains("*2 $3 del $1 e "));
}

/// A client that goes without a word leaves nothing, and who watches is told.
#[test]
fn a_bound_session_takes_its_keys_with_the_connection() {
    let server = Server::start(&["--shards", "2"]);
    let (mut client, mut watcher) = (Client::connect(server.port), Client::connect(server.port));
    open_session(&mut client, "BIND 0");
    watcher.words("HELLO 3");
    watcher.words("KEY.WATCH member- PREFIX");
    client.words("KEY.SEQ member- me EPHEMERAL");
    assert!(next(&mut watcher).contains("$3 put $27 member-"));
    drop(client);
    assert!(next(&mut watcher).contains("$3 del $27 member-"));
}

/// A watch goes on from its version on a server that was killed and started again.
#[test]
fn a_watch_goes_on_after_the_server_was_killed() {
    let mut server = Server::start(&["--shards", "2"]);
    let mut client = Client::connect(server.port);
    let (_, from) = numbers(client.words("KEY.WATCH k"));
    client.integer("KEY.UNWATCH");
    let (id, _) = open_session(&mut client, "TTL 200");
    client.ok("KEY.PUT e 1");
    for n in 0..50 {
        client.ok(&format!("SET k {n}"));
    }
    server.kill();
    let again = Server::start_in(server.dir(), &["--shards", "2"]);
    let mut client = Client::connect(again.port);
    client.words("HELLO 3");
    let (_, begun) = numbers(client.words(&format!("KEY.WATCH k FROM {from}")));
    assert_eq!(begun, from);
    for n in 0..50 {
        let shown = next(&mut client);
        assert!(shown.contains(&format!("put $1 k ${} {n} ", n.to_string().len())), "{shown}");
    }
    let mut other = Client::connect(again.port);
    until("the session's key goes", || other.words("GET e") == Value::Null);
    assert!(other.text(&format!("SESSION.INFO {id}")).starts_with("NOSESSION"));
}

/// Who does not read is cut off, told from where to go on, and loses nothing.
#[test]
fn a_watcher_that_does_not_read_is_told_from_where_to_go_on() {
    let server = Server::start(&["--shards", "1"]);
    let (mut slow, mut writer) = (Client::connect(server.port), Client::connect(server.port));
    slow.words("HELLO 3");
    slow.words("KEY.WATCH k LIMIT 100000");
    let value = "x".repeat(100_000);
    for _ in 0..400 {
        assert_eq!(writer.call(&["SET", "k", &value]), Value::Simple(b"OK".to_vec()));
    }
    let (mut seen, mut last) = (0, 0);
    let resume = loop {
        let shown = next(&mut slow);
        if shown.contains("key-watch-end") {
            assert!(shown.contains("$6 LAGGED"));
            break number(&shown, 1);
        }
        assert!(number(&shown, 1) > last);
        last = number(&shown, 1);
        seen += 1;
    };
    assert!(seen < 400 && resume >= last);
    slow.integer("KEY.UNWATCH");
    slow.words(&format!("KEY.WATCH k FROM {resume} LIMIT 1000000000"));
    for _ in seen..400 {
        assert!(next(&mut slow).contains("key-change"));
    }
}

#[test]
fn a_key_that_ends_by_its_time_is_told_as_deleted() {
    let server = Server::start(&["--shards", "2"]);
    let (mut watcher, mut writer) = (Client::connect(server.port), Client::connect(server.port));
    watcher.words("HELLO 3");
    writer.ok("SET k:before x PX 300");
    watcher.words("KEY.WATCH k: PREFIX");
    writer.ok("SET k:after x PX 600");
    let put = next(&mut watcher);
    assert!(put.contains("$3 put $7 k:after "), "{put}");
    assert!(next(&mut watcher).contains("*2 $3 del $8 k:before "));
    assert!(next(&mut watcher).contains("*2 $3 del $7 k:after "));
    assert_eq!(writer.integer("DBSIZE"), 0);
}

/// With a log kept for it, a watch can begin behind what tables and a small log would have forgotten.
#[test]
fn history_is_kept_as_long_as_it_was_asked_for() {
    let write = |extra: &[&str]| -> String {
        let server =
            Server::start(&[&["--shards", "1", "--segment-bytes", "64kb", "--memtable-bytes", "64kb"], extra].concat());
        let (mut watcher, mut writer) = (Client::connect(server.port), Client::connect(server.port));
        writer.ok("SET first x");
        let value = "v".repeat(4000);
        for n in 0..300 {
            writer.ok(&format!("SET k{n} {value}"));
        }
        writer.ok("SAVE");
        watcher.words("HELLO 3");
        watcher.words("KEY.WATCH first FROM 0");
        next(&mut watcher)
    };
    assert!(write(&["--history-bytes", "16mb"]).contains("$3 put $5 first "));
    assert!(write(&[]).contains("COMPACTED"));
}

#[test]
fn the_commands_are_told_about() {
    let server = Server::start(&["--shards", "1"]);
    let mut client = Client::connect(server.port);
    for name in ["key.put", "key.seq", "key.session", "key.watch", "key.unwatch", "key.progress"] {
        assert!(next_of(&mut client, &format!("COMMAND DOCS {name}")).contains("summary"), "{name}");
    }
}
