//! Scripts in Lua over sockets: atomic on any shards, durable, guarded, bounded. That their answers are Redis's, `compat.rs` shows.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Client, Server};
use corering_daemon::resp::Value;

const COUNT_BOTH: &str = "local n = (tonumber(redis.call('GET', KEYS[1]) or 0)) + 1 \
    redis.call('SET', KEYS[1], n) redis.call('SET', KEYS[2], n) return n";

fn error(reply: &Value) -> String {
    assert!(reply.is_error(), "{reply:?}");
    String::from_utf8_lossy(reply.as_bytes().unwrap()).into_owned()
}

#[test]
fn no_update_of_scripts_is_lost_and_each_is_seen_whole() {
    for durability in ["sync", "none"] {
        let server = Server::start(&["--shards", "2", "--durability", durability]);
        // Keys of both shards, many of them: some pairs are apart.
        let keys: Vec<(String, String)> = (0..4).map(|n| (format!("a{n}"), format!("b{n}"))).collect();
        let over = AtomicBool::new(false);
        let (clients, each) = (6, 100);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..clients)
                .map(|_| {
                    scope.spawn(|| {
                        let mut client = server.client();
                        let mut seen = Vec::new();
                        for at in 0..each {
                            let (a, b) = &keys[at % keys.len()];
                            let reply = client.call(&["EVAL", COUNT_BOTH, "2", a, b]);
                            seen.push((at % keys.len(), reply.as_integer().unwrap_or_else(|| panic!("{reply:?}"))));
                        }
                        seen
                    })
                })
                .collect();
            scope.spawn(|| {
                let mut reader = server.client();
                while !over.load(Ordering::Relaxed) {
                    for (a, b) in &keys {
                        let both = reader.call(&["MGET", a, b]);
                        assert_eq!(both.as_array().unwrap()[0], both.as_array().unwrap()[1], "half of a script");
                    }
                }
            });
            let mut seen = BTreeSet::new();
            for writer in writers {
                for answer in writer.join().unwrap() {
                    assert!(seen.insert(answer), "{answer:?} was answered twice");
                }
            }
            over.store(true, Ordering::Relaxed);
            assert_eq!(seen.len(), clients * each);
        });
        let mut client = server.client();
        for (a, b) in &keys {
            let total = (clients * each / keys.len()).to_string();
            assert_eq!((client.text(&format!("GET {a}")), client.text(&format!("GET {b}"))), (total.clone(), total));
        }
    }
}

#[test]
fn what_a_script_did_outlives_a_kill_and_its_failure() {
    let mut server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    assert_eq!(client.call(&["EVAL", COUNT_BOTH, "2", "x", "y"]), Value::Integer(1));
    let failed = client.call(&["EVAL", "redis.call('SET', 'x', 'before') error('boom')", "0"]);
    assert!(error(&failed).contains("boom"));
    server.kill();
    let again = Server::start_in(server.dir(), &["--shards", "2"]);
    let mut client = again.client();
    assert_eq!((client.text("GET x"), client.text("GET y")), ("before".to_owned(), "1".to_owned()));
    // Its cache is gone with the server, as clients expect.
    assert!(error(&client.words("EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0")).starts_with("NOSCRIPT"));
}

#[test]
fn a_script_that_does_not_end_is_ended_and_harms_nobody() {
    let server = Server::start(&["--shards", "1"]);
    let (mut bad, mut good) = (server.client(), server.client());
    for source in [
        "while true do end",
        "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end",
        "while true do redis.pcall('GET', 'k') end",
        "local function f() return f() + 1 end return f()",
    ] {
        bad.send(&["EVAL", source, "0"]).unwrap();
        assert_eq!(good.text("SET k v"), "OK");
        assert!(bad.reply().unwrap().is_error(), "{source}");
    }
    assert_eq!(bad.words("GET k"), Value::Bulk(b"v".to_vec()));
    // Nothing that one script does to its world is there for the next.
    assert!(bad.call(&["EVAL", "rawset(_G, 'left', 1) string.upper = nil return left", "0"]) == Value::Integer(1));
    assert!(bad.call(&["EVAL", "return left", "0"]).is_error());
    assert_eq!(bad.call(&["EVAL", "return string.upper('a')", "0"]), Value::Bulk(b"A".to_vec()));
}

#[test]
fn a_script_writes_under_a_guard_or_not_at_all() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    client.words("SESSION.OPEN");
    let grant = client.words("LOCK.ACQUIRE l");
    let token = grant.as_array().unwrap()[0].as_integer().unwrap().to_string();
    let source = "redis.call('SET', KEYS[2], 'x') return redis.call('GUARD', 'l', ARGV[1], 'SET', KEYS[1], 'held')";
    assert_eq!(client.call(&["EVAL", source, "2", "k", "other", &token]), Value::Simple(b"OK".to_vec()));
    client.words("LOCK.RELEASE l");
    client.words("DEL k other");
    assert!(error(&client.call(&["EVAL", source, "2", "k", "other", &token])).starts_with("FENCED"));
    assert_eq!(client.integer("EXISTS k other"), 0, "all of it, or nothing");
    for (words, why) in [
        ("LOCK.ACQUIRE", "not allowed"),
        ("SUBSCRIBE", "not allowed"),
        ("KEYS", "not allowed"),
        ("EVAL", "not allowed"),
        ("MULTI", "not allowed"),
        ("FLUSHALL", "not allowed"),
    ] {
        let source = format!("return redis.pcall('{words}', 'a', '1', 'b').err or ''");
        let said = client.call(&["EVAL", &source, "0"]);
        let said = String::from_utf8_lossy(said.as_bytes().unwrap()).into_owned();
        assert!(said.contains(why) || said.contains("Wrong number of args"), "{words}: {said}");
    }
    client.ok("MULTI");
    assert!(client.call(&["EVAL", "return 1", "0"]).is_error());
    assert!(error(&client.words("EXEC")).starts_with("EXECABORT"));
}

#[test]
fn those_who_listen_are_told_what_a_script_did() {
    let server = Server::start(&["--shards", "2", "--notify-keyspace-events", "KEA"]);
    let (mut listener, mut client) = (server.client(), server.client());
    listener.words("PSUBSCRIBE __keyevent@0__:*");
    client.call(&["EVAL", "redis.call('SET', 'k', 1) redis.call('DEL', 'k') return redis.call('GET', 'k')", "0"]);
    let told = |listener: &mut Client| {
        let message = listener.reply().unwrap();
        let parts = message.as_array().unwrap();
        String::from_utf8_lossy(parts[2].as_bytes().unwrap()).into_owned()
    };
    assert_eq!(told(&mut listener), "__keyevent@0__:set");
    assert_eq!(told(&mut listener), "__keyevent@0__:del");
}
