//! Peers that mean no good, or do not know better: bounded memory, and nobody else notices.
//!
//! Each test watches the server's memory and asks, as an ordinary client, whether it still answers.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::client::encode;
use crate::common::{Client, Server, until};
use corering_daemon::resp::Value;

const MIB: u64 = 1 << 20;

/// An ordinary client's round trip must not take this long, whatever others do. The machine is shared: this is far
/// above what it takes, and far below what a client would take for a hang.
const PATIENCE: Duration = Duration::from_secs(2);

fn still_answers(server: &mut Server, what: &str) {
    assert!(server.is_running(), "{what}: it ended:\n{}", server.log_text());
    let began = Instant::now();
    let mut client = server.client();
    assert_eq!(client.words("PING"), Value::Simple(b"PONG".to_vec()), "{what}");
    client.ok("SET alive yes");
    assert_eq!(client.text("GET alive"), "yes", "{what}");
    assert!(began.elapsed() < PATIENCE, "{what}: an ordinary client waited {:?}", began.elapsed());
}

/// Send until the server closes or stops reading; whatever it says is read away.
fn pour(server: &Server, piece: &[u8], total: usize) -> Vec<u8> {
    let mut client = server.client();
    client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while sent < total {
        match client.send_raw(piece) {
            Ok(()) => sent += piece.len(),
            Err(_) => break,
        }
    }
    client.finish();
    client.stream().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.read_to_end().unwrap_or_default()
}

#[test]
fn malformed_streams_end_with_an_error_and_hold_nothing() {
    let mut server = Server::start(&["--durability", "none"]);
    still_answers(&mut server, "before");
    let before = server.rss();
    let endless_line = vec![b'x'; 64 << 10];
    let deep = b"*1\r\n".repeat(16 << 10);
    let wide = b"*1048576\r\n".repeat(4);
    let huge = b"*2\r\n$3\r\nGET\r\n$536870913\r\n".to_vec();
    let cases: [(&str, &[u8], usize, &str); 6] = [
        ("a line without end", &endless_line, 64 << 20, "too big inline request"),
        ("an array a million deep", &deep, 4 << 20, "expected '$', got '*'"),
        ("an array of too many arrays", &wide, 1 << 20, "expected '$', got '*'"),
        ("a string over the limit", &huge, huge.len(), "invalid bulk length"),
        ("a length below zero", b"*1\r\n$-5\r\n", 10, "invalid bulk length"),
        ("binary", &[0xff, 0x00, 0x01, b'\r', b'\n'], 5, "unknown command"),
    ];
    for (what, piece, total, expected) in cases {
        for _ in 0..5 {
            let said = String::from_utf8_lossy(&pour(&server, piece, total)).into_owned();
            // A reset may take the error with it, once we sent what was never read.
            assert!(said.is_empty() || said.contains(expected), "{what}: {said}");
        }
        still_answers(&mut server, what);
    }
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 32 * MIB, "it grew by {} KiB", grown / 1024);
}

#[test]
fn announced_lengths_reserve_no_memory() {
    let mut server = Server::start(&["--durability", "none"]);
    let before = server.rss();
    let mut peers = Vec::new();
    for _ in 0..500 {
        let mut peer = server.client();
        // A value of 60 MiB, and a request of a million arguments, of which nothing comes.
        peer.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$62914560\r\nabc").unwrap();
        peers.push(peer);
        let mut peer = server.client();
        peer.send_raw(b"*1000000\r\n$3\r\nDEL\r\n").unwrap();
        peers.push(peer);
    }
    still_answers(&mut server, "with 1000 half requests");
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 40 * MIB, "1000 connections took {} KiB", grown / 1024);
}

#[test]
fn a_value_over_the_limit_is_not_gathered() {
    let mut server = Server::start(&["--durability", "none"]);
    still_answers(&mut server, "before");
    let before = server.rss();
    let mut client = server.client();
    client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$402653184\r\n").unwrap();
    let piece = vec![b'v'; 1 << 20];
    for _ in 0..384 {
        client.send_raw(&piece).unwrap();
    }
    let grown = server.rss().saturating_sub(before);
    client.send_raw(b"\r\n").unwrap();
    let Value::Error(text) = client.reply().unwrap() else { panic!("it was taken") };
    assert!(text.starts_with(b"ERR the value has 402653184 bytes"), "{}", text.escape_ascii());
    assert_eq!(client.words("PING"), Value::Simple(b"PONG".to_vec()));
    assert!(grown < 16 * MIB, "it held {} KiB of it", grown / 1024);
}

#[test]
fn strangers_hold_little_before_their_password() {
    let mut server = Server::start(&["--durability", "none", "--requirepass", "secret"]);
    let before = server.rss();
    let mut peers = Vec::new();
    for i in 0..1000 {
        let mut peer = server.client();
        // As much of a request as each kind may have.
        let bytes = match i % 3 {
            0 => [b"*10\r\n".as_slice(), &[b"$16384\r\n".as_slice(), &[b'x'; 16384], b"\r\n"].concat().repeat(9)]
                .concat(),
            1 => vec![b'x'; 16 << 10],
            _ => [b"*1".as_slice(), &[b'1'; 10 << 10]].concat(),
        };
        // It may be refused and closed while we send.
        let _ = peer.send_raw(&bytes);
        peers.push(peer);
    }
    let mut client = server.client();
    client.ok("AUTH secret");
    client.ok("SET k v");
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 120 * MIB, "1000 strangers took {} KiB", grown / 1024);
    assert!(server.is_running());
}

#[test]
fn who_never_reads_is_let_go_and_holds_little() {
    let mut server = Server::start(&["--durability", "none", "--client-output-buffer-limit", "normal 64mb 1 2"]);
    let mut client = server.client();
    client.call(&["SET", "big", &"x".repeat(1 << 20)]);
    let before = server.rss();
    let mut peers: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for peer in &mut peers {
        peer.stream().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // 400 MiB of replies asked for by each, and none read.
        let _ = peer.send_raw(&encode(&["GET", "big"]).repeat(400));
    }
    let mut most = 0;
    let began = Instant::now();
    loop {
        still_answers(&mut server, "beside those who never read");
        most = most.max(server.rss().saturating_sub(before));
        let connected = client.text("CLIENT LIST").lines().count();
        if connected == 1 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{connected} are still there");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(began.elapsed() > Duration::from_millis(1500), "they had two seconds");
    assert!(most < 20 * 4 * MIB, "20 of them took {} KiB", most / 1024);
    for peer in &mut peers {
        // What was under way comes, and then the end.
        let mut taken = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match peer.stream().read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => taken += n,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(taken < 400 << 20);
    }
}

#[test]
fn a_slow_reader_gets_everything() {
    let server = Server::start(&["--durability", "none", "--client-output-buffer-limit", "normal 64mb 1 3"]);
    let mut client = server.client();
    let value = "y".repeat(300 << 10);
    client.call(&["SET", "k", &value]);
    client.send_raw(&encode(&["GET", "k"]).repeat(100)).unwrap();
    for _ in 0..100 {
        // Slower than the server by far, and over the time that one who takes nothing would have.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(client.reply().unwrap().as_bytes().unwrap().len(), value.len());
    }
}

#[test]
fn replies_without_bound_are_refused() {
    let mut server = Server::start(&["--durability", "none", "--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut client = server.client();
    let mut bytes = Vec::new();
    for i in 0..2000 {
        bytes.extend(encode(&["SET", &format!("{i}:{}", "k".repeat(1000)), "v"]));
    }
    client.send_raw(&bytes).unwrap();
    for _ in 0..2000 {
        client.reply().unwrap();
    }
    let text = client.text("KEYS *");
    assert!(text.starts_with("ERR the reply would be longer than 1048576 bytes"), "{text}");
    assert_eq!(client.words("KEYS 1*9:*").as_array().unwrap().len(), 111);
    still_answers(&mut server, "after KEYS");
}

#[test]
fn bytes_one_by_one_from_many() {
    let mut server = Server::start(&["--durability", "none"]);
    let mut peers: Vec<Client> = (0..200).map(|_| server.client()).collect();
    let request = encode(&["SET", "key", "value"]);
    for byte in &request {
        for peer in &mut peers {
            peer.send_raw(&[*byte]).unwrap();
        }
    }
    for peer in &mut peers {
        assert_eq!(peer.reply().unwrap(), Value::Simple(b"OK".to_vec()));
    }
    still_answers(&mut server, "after single bytes");
}

#[test]
fn half_requests_and_sudden_ends() {
    let mut server = Server::start(&["--durability", "sync"]);
    let whole = [encode(&["SET", "k", "v"]), encode(&["INCR", "n"]), encode(&["MGET", "k", "n"]), b"PING\r\n".to_vec()]
        .concat();
    for cut in 0..whole.len() {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.write_all(&whole[..cut]).unwrap();
        // Closed with replies unread: the server is told by a reset.
    }
    still_answers(&mut server, "after sudden ends");
    connected_becomes(&server, 1);
}

#[test]
fn thousands_of_idle_connections() {
    let mut server = Server::start(&["--durability", "none"]);
    // Twice as many descriptors as connections are in use here: ours and the server's.
    let limit = rlimit::increase_nofile_limit(20_000).unwrap();
    let count = 5000.min(limit as usize - 200);
    still_answers(&mut server, "before");
    let before = server.rss();
    let mut peers = Vec::new();
    for i in 0..count {
        let mut peer = server.client();
        if i % 2 == 0 {
            peer.words("PING");
        }
        peers.push(peer);
    }
    still_answers(&mut server, "with thousands connected");
    let each = server.rss().saturating_sub(before) / count as u64;
    println!("{count} connections, {each} bytes each");
    assert!(each < 12 << 10, "{each} bytes for each idle connection");
    connected_becomes(&server, count + 1);
    drop(peers);
    connected_becomes(&server, 1);
}

/// Until the server counts so many, of which one is who asks: an end of a connection reaches it a while after the client's.
fn connected_becomes(server: &Server, count: usize) {
    let mut client = server.client();
    let line = format!("connected_clients:{count}\r\n");
    until(&line, || client.text("INFO clients").contains(&line));
}

#[test]
fn long_scans_let_others_run() {
    let mut server = Server::start(&["--durability", "none", "--shards", "1"]);
    let mut client = server.client();
    for chunk in 0..20 {
        let mut bytes = Vec::new();
        for i in 0..5000 {
            bytes.extend(encode(&["SET", &format!("key:{chunk}:{i}"), "v"]));
        }
        client.send_raw(&bytes).unwrap();
        for _ in 0..5000 {
            client.reply().unwrap();
        }
    }
    client.send_raw(&encode(&["KEYS", "*7*3*"]).repeat(20)).unwrap();
    client.send_raw(&encode(&["DBSIZE"]).repeat(20)).unwrap();
    let mut worst = Duration::ZERO;
    let mut other = server.client();
    for _ in 0..200 {
        let began = Instant::now();
        assert_eq!(other.words("PING"), Value::Simple(b"PONG".to_vec()));
        worst = worst.max(began.elapsed());
    }
    for _ in 0..40 {
        assert!(!client.reply().unwrap().is_error());
    }
    println!("the longest wait beside scans: {worst:?}");
    assert!(worst < Duration::from_millis(500), "another client waited {worst:?}");
    still_answers(&mut server, "after the scans");
}
