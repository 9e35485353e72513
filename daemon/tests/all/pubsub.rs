//! Channels and keyspace events: the same to redis-server's listeners and to ours, and what a slow listener costs.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::common::client::encode;
use crate::common::redis::Redis;
use crate::common::{Client, Server, until};
use corering_daemon::resp::Value;

/// Replies and messages, as bytes.
fn next(client: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| client.raw_reply().unwrap().escape_ascii().to_string()).collect()
}

/// What listeners hear of `commands`, up to a last message that says it is the end.
fn heard(port: u16, protocol: u8, subscribe: &[&str], commands: &[&str]) -> Vec<String> {
    let (mut listener, mut speaker) = (Client::connect(port), Client::connect(port));
    listener.words(&format!("HELLO {protocol}"));
    let mut all = Vec::new();
    for line in subscribe {
        listener.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
        all.extend(next(&mut listener, line.split(' ').count() - 1));
    }
    listener.send(&["SUBSCRIBE", "the end"]).unwrap();
    all.extend(next(&mut listener, 1));
    for line in commands {
        match line.strip_prefix("pause ") {
            Some(ms) => std::thread::sleep(Duration::from_millis(ms.parse().unwrap())),
            None => drop(speaker.words(line)),
        }
    }
    assert_eq!(speaker.call(&["PUBLISH", "the end", ""]), Value::Integer(1), "one listener to the end");
    loop {
        let [message] = &next(&mut listener, 1)[..] else { unreachable!() };
        if message.contains("the end") {
            return all;
        }
        all.push(message.clone());
    }
}

fn compare(redis: &Redis, server: &Server, protocols: &[u8], subscribe: &[&str], commands: &[&str]) {
    for &protocol in protocols {
        let theirs = heard(redis.port, protocol, subscribe, commands);
        let ours = heard(server.port, protocol, subscribe, commands);
        assert!(theirs.len() > subscribe.len());
        let shared = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
        let from =
            |all: &[String]| all[shared.saturating_sub(2)..].iter().take(5).cloned().collect::<Vec<_>>().join("\n");
        assert!(ours == theirs, "RESP{protocol}: ours:\n{}\nRedis's:\n{}", from(&ours), from(&theirs));
    }
}

#[test]
fn messages_reach_listeners_as_redis_sends_them() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&["--shards", "2"]);
    let commands = ["PUBLISH a 1", "PUBLISH b 2", "PUBLISH abc 3", "PUBLISH A 4", "PUBLISH nobody 5", "PUBLISH a 6"];
    compare(&redis, &server, &[2, 3], &["SUBSCRIBE a b", "SUBSCRIBE a", "PSUBSCRIBE a*c"], &commands);
    compare(&redis, &server, &[2, 3], &["PSUBSCRIBE a?c", "PSUBSCRIBE [ab]"], &commands);
}

#[test]
fn events_of_keys_are_those_of_redis() {
    let Some(redis) = Redis::start(&[]) else { return };
    let server = Server::start(&["--shards", "2"]);
    let commands = [
        "SET a 1",
        "SET a 2 PX 100000",
        "SET a 3 NX",
        "SETEX a 10 1",
        "PSETEX a 10000 1",
        "APPEND a x",
        "APPEND n1 x",
        "SET n 1",
        "INCR n",
        "DECR n",
        "INCRBY n 5",
        "INCRBYFLOAT n 1.5",
        "GETSET a 1",
        "GETDEL a",
        "GETDEL a",
        "SET a 1",
        "GETEX a EX 10",
        "GETEX a PERSIST",
        "GETEX a PERSIST",
        "GETEX a",
        "EXPIRE a 10",
        "EXPIRE a -1",
        "PERSIST a",
        "SET a 1 EX 10",
        "PERSIST a",
        "PEXPIRE a 50000",
        "EXPIRE a 5 NX",
        "RENAME a b",
        "RENAMENX b c",
        "RENAMENX none c",
        "SETRANGE c 0 zz",
        "MSET {m}x 1 {m}y 2",
        "MSETNX {m}p 1 {m}q 2",
        "MSETNX {m}p 1 {m}r 2",
        "DEL {m}x",
        "DEL {m}x {m}y {m}z",
        "UNLINK {m}p {m}q",
        "SET e 1",
        "SET e 1 KEEPTTL",
        "SET e 1 XX GET",
        "SETNX e 1",
        "SETNX f 1",
        "SELECT 3",
        "SET other 1",
        "SELECT 0",
        "INCR c",
        "SET g 1 PX 60",
        "pause 400",
        "GET g",
        "SET h 1 PX 150",
        "SET h 2",
        "SET i 1 PX 150",
        "PERSIST i",
        "SET j 1 PX 150",
        "RENAME j k",
        "SET l 1 PX 150",
        "DEL l",
        "pause 600",
        "GET k",
        "FLUSHALL",
    ];
    for (classes, protocols) in [("KEA", [2, 3].as_slice()), ("K$", &[2]), ("Egx", &[3])] {
        for port in [redis.port, server.port] {
            Client::connect(port).ok(&format!("CONFIG SET notify-keyspace-events {classes}"));
        }
        // One listener to all: the order of events is compared too. Keys of one command are on one shard.
        compare(&redis, &server, protocols, &["PSUBSCRIBE __key*"], &commands);
    }
    // Off again, nothing is told.
    let mut client = server.client();
    assert_eq!(client.call(&["CONFIG", "SET", "notify-keyspace-events", ""]), Value::Simple(b"OK".to_vec()));
    let told = heard(server.port, 2, &["PSUBSCRIBE __key*"], &["SET a 1 PX 10", "DEL a", "pause 200"]);
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn guarded_writes_and_conditional_deletes_are_events_too() {
    let server = Server::start(&["--shards", "2", "--notify-keyspace-events", "Kg$"]);
    let mut client = server.client();
    client.words("SESSION.OPEN");
    let token = client.words("LOCK.ACQUIRE l").as_array().unwrap()[0].as_integer().unwrap();
    let guarded = format!("GUARD l {token} SET k v");
    let stale = "GUARD l 1 SET k v";
    let told = heard(
        server.port,
        2,
        &["PSUBSCRIBE __key*"],
        &[&guarded, stale, "DELIFEQ k w", "DELIFEQ k v", "DELEX k IFEQ v"],
    );
    let events: Vec<&str> = told[2..].iter().map(|message| message.rsplit("\\r\\n").nth(1).unwrap()).collect();
    assert_eq!(events, ["set", "del"]);
}

#[test]
fn a_message_is_in_order_with_replies() {
    let server = Server::start(&["--shards", "2"]);
    for protocol in [2, 3] {
        let (mut a, mut b) = (server.client(), server.client());
        a.words(&format!("HELLO {protocol}"));
        for round in 0..50 {
            a.send(&["SUBSCRIBE", "c"]).unwrap();
            let reply = a.reply().unwrap();
            assert_eq!(reply.as_array().unwrap()[0].as_bytes().unwrap(), b"subscribe");
            assert_eq!(b.integer("PUBLISH c m"), 1, "round {round}");
            a.send(&["UNSUBSCRIBE", "c"]).unwrap();
            let words: Vec<Vec<u8>> =
                (0..2).map(|_| a.reply().unwrap().as_array().unwrap()[0].as_bytes().unwrap().to_vec()).collect();
            assert_eq!(words, [b"message".to_vec(), b"unsubscribe".to_vec()]);
            assert_eq!(b.integer("PUBLISH c m"), 0);
        }
    }
}

#[test]
fn many_listen_and_many_speak() {
    let server = Server::start(&["--shards", "2"]);
    let mut listeners: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for listener in &mut listeners {
        listener.words("SUBSCRIBE c");
    }
    std::thread::scope(|scope| {
        for speaker in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                let bytes: Vec<u8> =
                    (0..500).flat_map(|i| encode(&["PUBLISH", "c", &format!("{speaker} {i}")])).collect();
                client.send_raw(&bytes).unwrap();
                for _ in 0..500 {
                    assert_eq!(client.reply().unwrap(), Value::Integer(20));
                }
            });
        }
    });
    for listener in &mut listeners {
        let mut last = [-1i32; 4];
        for _ in 0..2000 {
            let message = listener.reply().unwrap();
            let text = String::from_utf8(message.as_array().unwrap()[2].as_bytes().unwrap().to_vec()).unwrap();
            let (speaker, i) = text.split_once(' ').unwrap();
            let (speaker, i): (usize, i32) = (speaker.parse().unwrap(), i.parse().unwrap());
            assert_eq!(i, last[speaker] + 1, "each speaker's messages come whole and in order");
            last[speaker] = i;
        }
    }
}

#[test]
fn a_listener_that_does_not_read_is_given_up() {
    let server = Server::start(&["--shards", "2", "--client-output-buffer-limit", "pubsub 4mb 1mb 1"]);
    let mut client = server.client();
    let message = "m".repeat(100 << 10);
    // The hard limit: at once. The kernel's buffers hold some of it.
    let (mut slow, mut quick) = (server.client(), server.client());
    slow.words("SUBSCRIBE c");
    quick.words("SUBSCRIBE c");
    let began = Instant::now();
    let mut published = 0;
    while client.call(&["PUBLISH", "c", &message]) == Value::Integer(2) {
        quick.reply().unwrap();
        published += 1;
        assert!(published < 2000, "200 MB wait for a listener");
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    quick.reply().unwrap();
    let mut sink = Vec::new();
    let _ = slow.stream().read_to_end(&mut sink);
    assert!(sink.len() < published * (100 << 10));
    // The soft limit: after its time.
    let mut slow = server.client();
    slow.words("SUBSCRIBE s");
    let line = |client: &mut Client| client.text("CLIENT LIST TYPE pubsub").lines().count();
    assert_eq!(line(&mut client), 2);
    assert_eq!(
        client.call(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 256mb 1mb 1"]),
        Value::Simple(b"OK".to_vec())
    );
    // Far more than the kernel takes.
    for _ in 0..400 {
        assert_eq!(client.call(&["PUBLISH", "s", &message]), Value::Integer(1));
    }
    until("the listener who takes nothing is gone", || line(&mut client) < 2);
    assert!(server.rss() < 400 << 20);
}

#[test]
fn a_listener_that_ends_is_forgotten() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = server.client();
    let mut listener = server.client();
    listener.words("SUBSCRIBE c");
    listener.words("PSUBSCRIBE p*");
    assert!(client.text("INFO stats").contains("pubsub_channels:1"));
    assert_eq!(client.integer("PUBSUB NUMPAT"), 1);
    let line = client.text("CLIENT LIST TYPE pubsub");
    assert!(line.contains("flags=P") && line.contains("sub=1 psub=1"), "{line}");
    drop(listener);
    until("its patterns are forgotten", || client.integer("PUBSUB NUMPAT") == 0);
    assert_eq!(client.integer("PUBLISH c m"), 0);
    assert_eq!(client.words("PUBSUB CHANNELS"), Value::Array(Vec::new()));
}
