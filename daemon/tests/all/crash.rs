//! SIGKILL at random moments, again and again: what was answered is there after the next start.
//!
//! At every level of durability, for a killed process loses nothing that was answered; only a crash of the machine may.
//! `CORERING_TEST_CRASH_ROUNDS` sets how often (default 6 for each level).

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::client::encode;
use crate::common::{Client, Guarded, Server};
use corering_daemon::resp::Value;

const WRITERS: usize = 6;
/// Requests that a writer sends before it reads their answers.
const PIPELINE: u64 = 8;
/// A key is deleted so many after it was written.
const KEPT: u64 = 40;

/// What one writer knows: each step up to `answered` was acknowledged, none above `sent` was ever asked for.
#[derive(Clone, Copy, Default, Debug)]
struct Known {
    answered: u64,
    sent: u64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// A value whose every byte says what it belongs to; lengths of all sorts.
fn value(writer: usize, step: u64) -> String {
    let len = [5, 100, 1000, 20, 5000][(step % 5) as usize];
    format!("{writer}:{step};").repeat(1 + len / 8)
}

/// The requests of one step, each answered by one reply.
fn step_requests(writer: usize, step: u64) -> Vec<u8> {
    let mut bytes = encode(&["SET", &format!("w{writer}:{step}"), &value(writer, step)]);
    bytes.extend(encode(&["SET", &format!("latest{writer}"), &step.to_string()]));
    bytes.extend(encode(&["INCR", &format!("count{writer}")]));
    // Two keys of one shard, in one step.
    let (a, b) = (format!("{{pair{writer}}}a"), format!("{{pair{writer}}}b"));
    bytes.extend(encode(&["MSET", &a, &step.to_string(), &b, &step.to_string()]));
    let old = step.saturating_sub(KEPT);
    bytes.extend(encode(&["DEL", &format!("w{writer}:{old}")]));
    // Keys of any shards: as one command, and as a transaction.
    let [wide, exec] = [WIDE, EXEC].map(|way| (0..3).map(move |n| far_key(way, writer, n)).collect::<Vec<_>>());
    let now = step.to_string();
    bytes.extend(encode(&["MSET", &wide[0], &now, &wide[1], &now, &wide[2], &now]));
    bytes.extend(encode(&["MULTI"]));
    exec.iter().for_each(|key| bytes.extend(encode(&["SET", key, &now])));
    bytes.extend(encode(&["EXEC"]));
    bytes
}

const REPLIES_PER_STEP: u64 = 11;

/// What is set together, of several shards: by MSET, by EXEC.
const WIDE: &str = "wide";
const EXEC: &str = "exec";

fn far_key(way: &str, writer: usize, n: usize) -> String {
    format!("{way}{writer}:{n}")
}

/// Write until the server is gone.
fn write(port: u16, writer: usize, mut known: Known, over: &AtomicBool) -> Known {
    let Ok(mut client) = Client::try_connect(port) else { return known };
    while !over.load(Ordering::Relaxed) {
        let mut bytes = Vec::new();
        for step in known.answered + 1..=known.answered + PIPELINE {
            bytes.extend(step_requests(writer, step));
        }
        known.sent = known.answered + PIPELINE;
        if client.send_raw(&bytes).is_err() {
            return known;
        }
        for _ in 0..PIPELINE {
            for _ in 0..REPLIES_PER_STEP {
                match client.reply() {
                    Ok(Value::Error(text)) => panic!("writer {writer}: {}", text.escape_ascii()),
                    Ok(_) => {}
                    Err(_) => return known,
                }
            }
            known.answered += 1;
        }
    }
    known
}

/// Compare what is there with what is known, and go on from what is there.
fn verify(client: &mut Client, writer: usize, known: Known, place: &str) -> Known {
    let number = |client: &mut Client, key: String| match client.call(&["GET", &key]) {
        Value::Bulk(bytes) => String::from_utf8(bytes).unwrap().parse::<u64>().unwrap(),
        Value::Null => 0,
        other => panic!("{place}: {key} is {other:?}"),
    };
    let Known { answered, sent } = known;
    let latest = number(client, format!("latest{writer}"));
    assert!((answered..=sent).contains(&latest), "{place}: writer {writer} has {known:?}, stored is {latest}");
    let count = number(client, format!("count{writer}"));
    assert!((answered..=sent).contains(&count), "{place}: writer {writer} counted {known:?}, stored is {count}");
    let (a, b) = (number(client, format!("{{pair{writer}}}a")), number(client, format!("{{pair{writer}}}b")));
    assert_eq!(a, b, "{place}: a batch of writer {writer} is there by halves");
    assert!((answered..=sent).contains(&a), "{place}: writer {writer} has {known:?}, the pair is at {a}");
    for way in [WIDE, EXEC] {
        let far = [0, 1, 2].map(|n| number(client, far_key(way, writer, n)));
        assert!(far.iter().all(|n| *n == far[0]), "{place}: {way} of writer {writer} is there in part: {far:?}");
        assert!((answered..=sent).contains(&far[0]), "{place}: writer {writer} has {known:?}, {way} is at {far:?}");
    }
    for step in answered.saturating_sub(2 * KEPT).max(1)..=sent {
        let stored = client.call(&["GET", &format!("w{writer}:{step}")]);
        let expected = Value::Bulk(value(writer, step).into_bytes());
        // Its own write, then the delete that comes with a later step: each may be answered, asked for, or neither.
        let written = step <= answered;
        let deleted = step + KEPT <= answered;
        let may_be_deleted = step + KEPT <= sent;
        match stored {
            Value::Null => assert!(!written || may_be_deleted, "{place}: w{writer}:{step} is lost; known {known:?}"),
            found => {
                assert_eq!(found, expected, "{place}: w{writer}:{step}");
                assert!(!deleted, "{place}: w{writer}:{step} is back after its deletion; known {known:?}");
            }
        }
    }
    // Steps that were asked for and not answered are done again, from the first; whatever became of them.
    client.call(&["SET", &format!("latest{writer}"), &answered.to_string()]);
    client.call(&["SET", &format!("count{writer}"), &answered.to_string()]);
    let (a, b) = (format!("{{pair{writer}}}a"), format!("{{pair{writer}}}b"));
    client.call(&["MSET", &a, &answered.to_string(), &b, &answered.to_string()]);
    for way in [WIDE, EXEC] {
        let (now, keys) = (answered.to_string(), [0, 1, 2].map(|n| far_key(way, writer, n)));
        client.call(&["MSET", &keys[0], &now, &keys[1], &now, &keys[2], &now]);
    }
    for step in answered + 1..=sent {
        client.call(&["DEL", &format!("w{writer}:{step}")]);
        // A delete that was under way may have taken what it should not yet.
        if let Some(old @ 1..) = step.checked_sub(KEPT) {
            client.call(&["SET", &format!("w{writer}:{old}"), &value(writer, old)]);
        }
    }
    Known { answered, sent: answered }
}

/// Kill a server that is still starting.
fn die_while_starting(dir: &Path, flags: &[&str], after: Duration) {
    let child = Command::new(env!("CARGO_BIN_EXE_corering"))
        .args(["serve", "--port", "0", "--dir", dir.to_str().unwrap()])
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Guarded(child);
    std::thread::sleep(after);
    child.0.kill().unwrap();
    child.0.wait().unwrap();
}

fn run(flags: &[&str], seed: u64) {
    let rounds = std::env::var("CORERING_TEST_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let mut random = Random(seed);
    let mut known = [Known::default(); WRITERS];
    let mut total = 0;
    for round in 0..rounds {
        let place = format!("{flags:?}, seed {seed}, round {round}");
        let mut server = Server::start_in(&dir, flags);
        let mut client = server.client();
        for (writer, known) in known.iter_mut().enumerate() {
            *known = verify(&mut client, writer, *known, &place);
        }
        let over = AtomicBool::new(false);
        let port = server.port;
        let life = Duration::from_millis(20 + random.below(300));
        std::thread::scope(|scope| {
            let writers: Vec<_> = known
                .iter()
                .enumerate()
                .map(|(writer, known)| {
                    let (known, over) = (*known, &over);
                    scope.spawn(move || write(port, writer, known, over))
                })
                .collect();
            std::thread::sleep(life);
            server.kill();
            over.store(true, Ordering::Relaxed);
            for (known, writer) in known.iter_mut().zip(writers) {
                *known = writer.join().unwrap();
            }
        });
        total = known.iter().map(|known| known.answered).sum();
        if random.below(3) == 0 {
            die_while_starting(&dir, flags, Duration::from_millis(random.below(60)));
        }
    }
    let server = Server::start_in(&dir, flags);
    let mut client = server.client();
    for (writer, known) in known.into_iter().enumerate() {
        verify(&mut client, writer, known, &format!("{flags:?}, seed {seed}, at the end"));
    }
    println!("{flags:?}: {total} steps of {REPLIES_PER_STEP} writes were answered in {rounds} lives; all are there");
    assert!(total > 0, "nothing was written");
}

#[test]
fn nothing_answered_is_lost_at_sync() {
    run(&["--durability", "sync", "--shards", "2"], 1);
}

#[test]
fn nothing_answered_is_lost_at_interval() {
    run(&["--durability", "interval:50", "--shards", "2"], 2);
}

#[test]
fn nothing_answered_is_lost_at_none() {
    run(&["--durability", "none", "--shards", "2"], 3);
}

#[test]
fn nothing_answered_is_lost_while_checkpoints_run() {
    // Small memtables and segments, so that a life has many of each.
    run(&["--durability", "none", "--shards", "2", "--memtable-bytes", "256kb", "--segment-bytes", "256kb"], 4);
}

#[test]
fn the_comparison_sees_a_loss_a_half_batch_and_a_resurrection() {
    let server = Server::start(&["--durability", "none"]);
    let mut client = server.client();
    let steps = 3 * KEPT;
    for step in 1..=steps {
        client.send_raw(&step_requests(0, step)).unwrap();
        for _ in 0..REPLIES_PER_STEP {
            client.reply().unwrap();
        }
    }
    let known = Known { answered: steps, sent: steps };
    let latest = steps.to_string();
    let before_latest = (steps - 1).to_string();
    let lost = format!("w0:{}", steps - 3);
    let back = format!("w0:{}", steps - KEPT - 3);
    let (wide, exec) = (far_key(WIDE, 0, 1), far_key(EXEC, 0, 2));
    let spoils: [(&[&str], &[&str]); 6] = [
        (&["SET", &wide, &before_latest], &["SET", &wide, &latest]),
        (&["SET", &exec, &before_latest], &["SET", &exec, &latest]),
        (&["DEL", &lost], &["SET", &lost, &value(0, steps - 3)]),
        (&["SET", "{pair0}a", &before_latest], &["SET", "{pair0}a", &latest]),
        (&["SET", &back, &value(0, steps - KEPT - 3)], &["DEL", &back]),
        (&["SET", "latest0", &before_latest], &["SET", "latest0", &latest]),
    ];
    verify(&mut client, 0, known, "whole");
    for (spoil, mend) in spoils {
        client.call(spoil);
        let port = server.port;
        let seen = std::thread::spawn(move || verify(&mut Client::connect(port), 0, known, "spoiled")).join();
        assert!(seen.is_err(), "{spoil:?} was not seen");
        client.call(mend);
    }
    verify(&mut client, 0, known, "mended");
}
