//! Disks that fill up and fail, for real: what was acknowledged is there after room was made and the daemon started again; out of
//! room, reads and deletes go on; a disk that fails ends the daemon with its own status.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::common::{Client, Server};
use corering_daemon::resp::Value;
use corering_proof::disk::{Shape, SmallDisk, say_skipped};

/// As `corering_daemon::exit::DISK`: pinned here, because scripts read it.
const DISK: i32 = 4;

const FLAGS: [&str; 8] = ["--shards", "2", "--segment-bytes", "1mb", "--memtable-bytes", "1mb", "--durability", "sync"];

/// What the world outside knows: answered values, and for keys whose last write was not answered, what it may be instead.
#[derive(Default)]
struct Known {
    answered: BTreeMap<String, Option<String>>,
    open: BTreeMap<String, Option<String>>,
}

fn value(n: u64) -> String {
    format!("{n};").repeat(600)
}

/// What became of a write.
#[derive(PartialEq, Eq, Debug)]
enum Wrote {
    Done,
    Refused(String),
    /// The connection ended without an answer.
    Gone,
}

impl Known {
    fn write(&mut self, client: &mut Client, key: String, value: Option<String>) -> Wrote {
        let reply = match &value {
            Some(value) => client.try_call(&["SET", &key, value]),
            None => client.try_call(&["DEL", &key]),
        };
        match reply {
            Ok(Value::Error(text)) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                // A shard that stopped does not know whether it was done.
                if text.contains("may or may not be durable") {
                    self.open.insert(key, value);
                }
                Wrote::Refused(text)
            }
            Ok(_) => {
                self.open.remove(&key);
                self.answered.insert(key, value);
                Wrote::Done
            }
            Err(_) => {
                self.open.insert(key, value);
                Wrote::Gone
            }
        }
    }

    fn verify(&self, client: &mut Client, place: &str) {
        for (key, expected) in &self.answered {
            let found = match client.call(&["GET", key]) {
                Value::Bulk(bytes) => Some(String::from_utf8(bytes).unwrap()),
                Value::Null => None,
                other => panic!("{place}: {key} is {other:?}"),
            };
            let may_be = self.open.get(key).is_some_and(|open| *open == found);
            assert!(found == *expected || may_be, "{place}: {key} has {:?} bytes", found.map(|value| value.len()));
        }
    }
}

/// Put until something else than an answer comes; what did come.
fn put_until_it_fails(known: &mut Known, client: &mut Client, from: u64) -> Wrote {
    let began = Instant::now();
    for n in from.. {
        let wrote = known.write(client, format!("key:{}", n % 3_000), Some(value(n)));
        if wrote != Wrote::Done {
            return wrote;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the disk was never full");
    }
    unreachable!("there are numbers enough")
}

#[test]
fn a_full_disk_refuses_puts_and_loses_nothing() {
    let shape = Shape { tmpfs_mib: 80, ext4_mib: 48, mkfs: &[] };
    let Some(disk) = SmallDisk::make("a_full_disk_refuses_puts_and_loses_nothing", &shape) else { return };
    let dir = disk.path().join("data");
    let mut server = Server::start_logging(&dir, disk.beside(), &FLAGS).unwrap();
    let mut client = server.client();
    let mut known = Known::default();
    for n in 0..400 {
        assert_eq!(known.write(&mut client, format!("key:{n}"), Some(value(n))), Wrote::Done);
    }
    let session = client.words("SESSION.OPEN TTL 3600000");
    let part = |i: usize| String::from_utf8(session.as_array().unwrap()[i].as_bytes().unwrap().to_vec()).unwrap();
    let session = format!("{} {}", part(0), part(1));
    for n in 0..8 {
        let granted = client.words(&format!("LOCK.ACQUIRE lock:{n}"));
        assert!(!granted.is_error(), "{granted:?}");
    }
    disk.fill();
    let refused = put_until_it_fails(&mut known, &mut client, 400);
    assert!(matches!(&refused, Wrote::Refused(text) if text.starts_with("MISCONF no space left")), "{refused:?}");
    // Reads and deletes go on, all the time.
    known.verify(&mut client, "full");
    for n in 0..60 {
        assert_eq!(known.write(&mut client, format!("key:{n}"), None), Wrote::Done, "delete {n} on a full disk");
    }
    known.verify(&mut client, "full, after deletes");
    // And so does letting go of locks.
    for n in 0..4 {
        assert_eq!(client.integer(&format!("LOCK.RELEASE lock:{n}")), 0, "lock {n} on a full disk");
    }
    let ended = client.words(&format!("SESSION.CLOSE {session}"));
    assert!(!ended.is_error(), "a session's end on a full disk: {ended:?}");
    // A kill while it is full, and a start while it still is.
    server.kill();
    let mut server = Server::start_logging(&dir, disk.beside(), &FLAGS)
        .unwrap_or_else(|(status, log)| panic!("no start on a full disk ({status}):\n{log}"));
    let mut client = server.client();
    known.verify(&mut client, "started while full");
    disk.empty();
    let began = Instant::now();
    while known.write(&mut client, "afterwards".into(), Some(value(1))) != Wrote::Done {
        assert!(began.elapsed() < Duration::from_secs(20), "no puts although there is room");
        std::thread::sleep(Duration::from_millis(50));
    }
    for n in 0..500 {
        assert_eq!(known.write(&mut client, format!("new:{n}"), Some(value(n))), Wrote::Done, "with room again");
    }
    assert!(server.stop().success(), "{}", server.log_text());
    let server = Server::start_logging(&dir, disk.beside(), &FLAGS).unwrap();
    known.verify(&mut server.client(), "at the end");
}

#[test]
fn a_failing_disk_ends_the_daemon_with_its_own_status_and_loses_nothing() {
    let shape = Shape { tmpfs_mib: 80, ext4_mib: 64, mkfs: &["-e", "remount-ro"] };
    let name = "a_failing_disk_ends_the_daemon_with_its_own_status_and_loses_nothing";
    let Some(mut disk) = SmallDisk::make(name, &shape) else { return };
    let dir = disk.path().join("data");
    // One shard, so that its first failure is the first of all.
    let flags = [&["--shards", "1"], &FLAGS[2..]].concat();
    let mut server = Server::start_logging(&dir, disk.beside(), &flags).unwrap();
    let mut client = server.client();
    let mut known = Known::default();
    for n in 0..400 {
        assert_eq!(known.write(&mut client, format!("key:{n}"), Some(value(n))), Wrote::Done);
    }
    if let Err(why) = disk.end() {
        return say_skipped(name, &why);
    }
    let mut failed = None;
    for n in 0..1_000 {
        match known.write(&mut client, format!("key:{}", n * 3), Some(value(n))) {
            // A write in place that needs nothing of the file system may still be durable.
            Wrote::Done => assert!(failed.is_none(), "write {n} was acknowledged after {failed:?}"),
            Wrote::Refused(text) => {
                assert!(text.contains("stopped at") && text.contains("shard-0000/wal/"), "no clear error: {text}");
                failed = Some(text);
            }
            Wrote::Gone => break,
        }
    }
    let status = server.wait();
    let log = server.log_text();
    assert_eq!(status.code(), Some(DISK), "{failed:?}\n{log}");
    assert!(log.contains("the shard stops"), "{log}");
    disk.repair();
    let server = Server::start_logging(&dir, disk.beside(), &flags)
        .unwrap_or_else(|(status, log)| panic!("no start after the repair ({status}):\n{log}"));
    known.verify(&mut server.client(), "after the repair");
}
