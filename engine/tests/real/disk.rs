//! The engine within a program on a disk that fills up or fails, for real: errors say what happened, nothing is acknowledged that is
//! not there afterwards, reads and deletes go on as far as they can. Needs root and loop devices, or says that it was skipped; the
//! same scenarios are in `tests/sim/faults.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use corering_engine::{Durability, Engine, Error, Keyspace, Options, WriteOptions};
use corering_proof::disk::{Shape, SmallDisk};

const KS: Keyspace = Keyspace::DEFAULT;

/// With segments and memtables that a small disk has room for.
pub(super) fn open(dir: &Path, shards: u16) -> Result<Engine, Error> {
    let options =
        Options { shards: Some(shards), segment_bytes: 1 << 20, memtable_bytes: 1 << 20, ..Options::default() };
    Engine::open(dir, options)
}

/// What was answered; and what may be there instead, where a write was left open.
#[derive(Default)]
struct Known {
    answered: BTreeMap<u64, Option<u64>>,
    open: BTreeMap<u64, Option<u64>>,
}

impl Known {
    fn write(&mut self, engine: &Engine, key: u64, number: Option<u64>) -> Result<(), Error> {
        let options = WriteOptions { durability: Some(Durability::Sync), ..WriteOptions::default() };
        let outcome = match number {
            Some(number) => {
                let value = number.to_le_bytes().repeat(400);
                engine.client().put(KS, &key.to_be_bytes(), &value, options).wait().map(drop)
            }
            None => engine.client().delete(KS, &key.to_be_bytes(), options).wait().map(drop),
        };
        match &outcome {
            Ok(()) => {
                self.open.remove(&key);
                self.answered.insert(key, number);
            }
            Err(error) if error.may_have_committed() => drop(self.open.insert(key, number)),
            Err(_) => {}
        }
        outcome
    }

    fn verify(&self, engine: &Engine, place: &str) {
        for (key, expected) in &self.answered {
            let found = engine.client().get(KS, &key.to_be_bytes()).unwrap();
            let found = found.map(|value| u64::from_le_bytes(value.bytes[..8].try_into().unwrap()));
            let may_be = self.open.get(key) == Some(&found);
            assert!(found == *expected || may_be, "{place}: key {key} has {found:?}, answered was {expected:?}");
        }
    }

    /// The error that ends it.
    fn put_until_it_fails(&mut self, engine: &Engine) -> Error {
        let began = Instant::now();
        for n in 1_000.. {
            if let Err(error) = self.write(engine, n % 2_000, Some(n)) {
                return error;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the disk was never full");
        }
        unreachable!("there are numbers enough")
    }

    fn put_until_it_works(&mut self, engine: &Engine) {
        let began = Instant::now();
        while let Err(error) = self.write(engine, 5_000, Some(1)) {
            assert!(began.elapsed() < Duration::from_secs(20), "no puts although there is room: {error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_full_file_system_refuses_puts_and_goes_on_when_there_is_room() {
    let shape = Shape { tmpfs_mib: 60, ext4_mib: 32, mkfs: &[] };
    let name = "a_full_file_system_refuses_puts_and_goes_on_when_there_is_room";
    let Some(disk) = SmallDisk::make(name, &shape) else { return };
    let mut known = Known::default();
    let engine = open(&disk.path().join("data"), 1).unwrap();
    (0..300).for_each(|n| known.write(&engine, n, Some(n)).unwrap());
    disk.fill();
    let error = known.put_until_it_fails(&engine);
    assert!(matches!(error, Error::NoSpace { .. }) && error.is_retryable(), "{error}");
    known.verify(&engine, "full");
    (0..50).for_each(|n| known.write(&engine, n, None).unwrap_or_else(|e| panic!("delete {n} on a full disk: {e}")));
    disk.empty();
    known.put_until_it_works(&engine);
    engine.close().unwrap();
    let engine = open(&disk.path().join("data"), 1).unwrap();
    known.verify(&engine, "reopened");
    engine.close().unwrap();
}

/// Blocks that were written before can be written again, new ones fail: the log goes on in the segments that there are, and no
/// segment or table can be made.
#[test]
fn a_disk_that_fails_at_new_blocks_refuses_puts_by_name_and_loses_nothing() {
    let shape = Shape { tmpfs_mib: 40, ext4_mib: 120, mkfs: &["-E", "lazy_journal_init=0,lazy_itable_init=0"] };
    let name = "a_disk_that_fails_at_new_blocks_refuses_puts_by_name_and_loses_nothing";
    let Some(mut disk) = SmallDisk::make(name, &shape) else { return };
    let mut known = Known::default();
    let engine = open(&disk.path().join("data"), 1).unwrap();
    (0..300).for_each(|n| known.write(&engine, n, Some(n)).unwrap());
    disk.starve();
    let error = known.put_until_it_fails(&engine);
    assert!(matches!(error, Error::NoSpace { .. } | Error::Io { .. } | Error::Poisoned(_)), "{error}");
    assert!(error.to_string().contains(&disk.path().display().to_string()), "the error names no file: {error}");
    known.verify(&engine, "failing");
    // The file system itself may give up at any time; then so does the log, for good.
    let mut poisoned = error.may_have_committed();
    for n in 0..200 {
        match known.write(&engine, n, if n < 20 { None } else { Some(n) }) {
            Ok(()) => assert!(!poisoned, "write {n} was acknowledged after the log had stopped"),
            Err(error) if error.may_have_committed() => poisoned = true,
            Err(error) => assert!(!poisoned && n >= 20, "write {n}: {error}"),
        }
    }
    known.verify(&engine, "failing, after deletes");
    // What was answered is in the log, whatever the close says.
    let closed = engine.close();
    assert!(!poisoned || closed.is_err(), "a log that stopped was closed in order");
    drop(engine);
    disk.repair();
    let engine = open(&disk.path().join("data"), 1).unwrap();
    known.verify(&engine, "after the repair");
    engine.close().unwrap();
}
