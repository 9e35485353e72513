//! Commits over two shards on a disk that fills up or fails, and with the disk of one of the two shards failing alone, for real: each
//! is there as a whole or not at all, at every moment and after what follows. Needs root and loop devices, or says that it was
//! skipped; the same in the simulation: `tests/sim/txn_history.rs`, `sim/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use corering_engine::{
    Client, CommitTs, Engine, Error, Isolation, Keyspace, Pending, TransactionOptions, WriteBatch, WriteOptions,
};
use corering_proof::disk::{Shape, SmallDisk, say_skipped};

const KS: Keyspace = Keyspace::DEFAULT;
const PAIRS: usize = 64;
/// Commits under way at once.
const WAVE: usize = 8;

fn open(dir: &Path) -> Engine {
    super::disk::open(dir, 2).unwrap()
}

/// Keys on different shards that every commit writes together.
struct Pairs {
    keys: Vec<[Vec<u8>; 2]>,
    /// What each pair has; `None` where it was deleted.
    answered: BTreeMap<usize, Option<u64>>,
    /// What it may have instead, since the answer did not say.
    unknown: BTreeMap<usize, BTreeSet<Option<u64>>>,
    number: u64,
}

impl Pairs {
    fn of(client: &Client) -> Pairs {
        let on = |shard: u16, pair: usize| {
            let mut names = (0..).map(|i: u32| format!("pair {pair}, {i}").into_bytes());
            names.find(|name| client.shard_of(name).0 == shard).unwrap()
        };
        let keys = (0..PAIRS).map(|pair| [on(0, pair), on(1, pair)]).collect();
        Pairs { keys, answered: BTreeMap::new(), unknown: BTreeMap::new(), number: 0 }
    }

    /// By a transaction or a batch; a small value or one of several blocks; `None` deletes.
    fn start(&self, client: &Client, pair: usize, number: Option<u64>) -> Pending<CommitTs> {
        let n = number.unwrap_or(pair as u64);
        let value = n.to_le_bytes().repeat(if n.is_multiple_of(2) { 2_500 } else { 4 });
        if n.is_multiple_of(3) {
            let mut batch = WriteBatch::new();
            for key in &self.keys[pair] {
                match number {
                    Some(_) => batch.put(KS, key, &value),
                    None => batch.delete(KS, key),
                };
            }
            return client.write_batch(batch, WriteOptions::default());
        }
        let mut tx = client.begin(TransactionOptions::default()).unwrap();
        for key in &self.keys[pair] {
            match number {
                Some(_) => tx.put(KS, key, &value).unwrap(),
                None => tx.delete(KS, key).unwrap(),
            }
        }
        tx.commit()
    }

    fn note(&mut self, pair: usize, number: Option<u64>, outcome: Result<CommitTs, Error>) -> Result<(), Error> {
        match outcome {
            Ok(_) => {
                self.answered.insert(pair, number);
                self.unknown.remove(&pair);
                Ok(())
            }
            Err(error) => {
                if error.may_have_committed() {
                    self.unknown.entry(pair).or_default().insert(number);
                }
                Err(error)
            }
        }
    }

    /// A wave of commits; the errors among their outcomes.
    fn put_wave(&mut self, client: &Client) -> Vec<Error> {
        let first = self.number as usize;
        self.number += WAVE as u64;
        let wave: Vec<_> = (first..first + WAVE)
            .map(|n| (n % PAIRS, Some(n as u64)))
            .map(|(pair, number)| (pair, number, self.start(client, pair, number)))
            .collect();
        wave.into_iter().filter_map(|(pair, number, pending)| self.note(pair, number, pending.wait()).err()).collect()
    }

    fn delete(&mut self, client: &Client, pair: usize) -> Result<(), Error> {
        let outcome = self.start(client, pair, None).wait();
        self.note(pair, None, outcome)
    }

    fn put_until_it_fails(&mut self, client: &Client) -> Error {
        let began = Instant::now();
        loop {
            if let Some(error) = self.put_wave(client).pop() {
                return error;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the disk never failed");
        }
    }

    fn put_until_it_works(&mut self, client: &Client) {
        let began = Instant::now();
        while let Some(error) = self.put_wave(client).pop() {
            assert!(began.elapsed() < Duration::from_secs(20), "no commits although there is room: {error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Each pair in one view: both of its keys say the same, and that is what was answered, or was left open.
    fn verify(&self, client: &Client, place: &str) {
        let options = TransactionOptions { isolation: Isolation::Snapshot, ..TransactionOptions::default() };
        for (pair, keys) in self.keys.iter().enumerate() {
            let mut tx = client.begin(options.clone()).unwrap();
            let [one, other] = keys.each_ref().map(|key| {
                let found = tx.get(KS, key).unwrap_or_else(|e| panic!("{place}: pair {pair}: {e}"));
                found.map(|value| (value.bytes.len(), u64::from_le_bytes(value.bytes[..8].try_into().unwrap())))
            });
            tx.rollback().unwrap();
            assert_eq!(one, other, "{place}: pair {pair} is torn");
            let found = one.map(|(_, number)| number);
            let expected = self.answered.get(&pair).copied().flatten();
            let may_be = self.unknown.get(&pair).is_some_and(|open| open.contains(&found));
            assert!(found == expected || may_be, "{place}: pair {pair} has {found:?}, answered was {expected:?}");
        }
    }
}

#[test]
fn commits_over_shards_on_a_full_file_system_are_whole_or_absent() {
    let shape = Shape { tmpfs_mib: 80, ext4_mib: 48, mkfs: &[] };
    let name = "commits_over_shards_on_a_full_file_system_are_whole_or_absent";
    let Some(disk) = SmallDisk::make(name, &shape) else { return };
    let dir = disk.path().join("data");
    let engine = open(&dir);
    let mut client = engine.client();
    let mut pairs = Pairs::of(&client);
    (0..20).for_each(|_| assert!(pairs.put_wave(&client).is_empty()));
    disk.fill();
    let error = pairs.put_until_it_fails(&client);
    assert!(matches!(error, Error::NoSpace { .. }) && error.is_retryable(), "{error}");
    pairs.verify(&client, "full");
    (0..20)
        .for_each(|pair| pairs.delete(&client, pair).unwrap_or_else(|e| panic!("delete {pair} on a full disk: {e}")));
    pairs.verify(&client, "full, after deletes");
    disk.empty();
    pairs.put_until_it_works(&client);
    pairs.verify(&client, "with room again");
    engine.close().unwrap();
    let engine = open(&dir);
    client = engine.client();
    pairs.verify(&client, "reopened");
    engine.close().unwrap();
}

/// What happens from the failure of one shard's log on, or of both: nothing is acknowledged that needs it, and after the repair
/// each commit is whole or absent.
fn fails(name: &str, disk: &mut SmallDisk, dir: &Path) {
    let engine = open(dir);
    let client = engine.client();
    let mut pairs = Pairs::of(&client);
    (0..20).for_each(|_| assert!(pairs.put_wave(&client).is_empty()));
    if let Err(why) = disk.end() {
        return say_skipped(name, &why);
    }
    let error = pairs.put_until_it_fails(&client);
    assert!(matches!(error, Error::Io { .. } | Error::Poisoned(_) | Error::NoSpace { .. }), "{error}");
    // Nothing that is acknowledged later may rest on the log that failed.
    for _ in 0..20 {
        pairs.put_wave(&client);
    }
    assert!(engine.close().is_err(), "a log that stopped was closed in order");
    // They have its files open.
    drop((client, engine));
    disk.repair();
    let engine = open(dir);
    let client = engine.client();
    pairs.verify(&client, "after the repair");
    assert!(pairs.put_wave(&client).is_empty());
    pairs.verify(&client, "going on");
    engine.close().unwrap();
}

const ENDS_AT_AN_ERROR: Shape = Shape { tmpfs_mib: 80, ext4_mib: 64, mkfs: &["-e", "remount-ro"] };

#[test]
fn commits_over_shards_on_a_file_system_that_stops_are_whole_or_absent() {
    let name = "commits_over_shards_on_a_file_system_that_stops_are_whole_or_absent";
    let Some(mut disk) = SmallDisk::make(name, &ENDS_AT_AN_ERROR) else { return };
    let dir = disk.path().join("data");
    fails(name, &mut disk, &dir);
}

/// The other shard's log works on, and has parts of both.
#[test]
fn commits_over_shards_of_which_one_loses_its_disk_are_whole_or_absent() {
    let name = "commits_over_shards_of_which_one_loses_its_disk_are_whole_or_absent";
    for shard in ["shard-0000", "shard-0001"] {
        let Some(mut disk) = SmallDisk::make(name, &ENDS_AT_AN_ERROR) else { return };
        let dir = disk.beside().join("data");
        open(&dir).close().unwrap();
        let copied = std::process::Command::new("mv").arg(dir.join(shard)).arg(disk.path()).status().unwrap();
        assert!(copied.success());
        std::os::unix::fs::symlink(disk.path().join(shard), dir.join(shard)).unwrap();
        fails(name, &mut disk, &dir);
    }
}
