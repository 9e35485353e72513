//! Transactions, one face for every system that has them.
//!
//! Guards: every system promises the same: what a transaction that writes has read still holds when it commits (serializable), what a
//! read-only one reads is one state, and a commit is durable when it is told.

pub mod corering;
pub mod etcd;
pub mod rocksdb;

use std::path::Path;
use std::time::Duration;

use crate::data::random;
use crate::store::Outcome;

/// Why a transaction did not get to its end.
pub enum Stopped {
    /// Others were in its way; the same again may succeed.
    Again,
    Failed(String),
}

pub type Step<T> = Result<T, Stopped>;

/// What a transaction is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Reads,
    Writes,
}

pub trait Store: Send + Sync {
    fn session(&self) -> Outcome<Box<dyn Session + '_>>;
    fn settings(&self) -> String;
    /// Whether the work is done in this process.
    fn is_here(&self) -> bool {
        true
    }
}

/// One thread's way to it.
pub trait Session {
    /// Run `f` in one transaction and commit it.
    fn attempt(&mut self, access: Access, f: &mut dyn FnMut(&mut dyn Tx) -> Step<()>) -> Step<()>;
    /// Before it is attempted again; it failed so often.
    fn pause(&mut self, failed: u32) {
        let most_us = (50_u64 << failed.min(10)).min(PAUSE_MAX_US);
        std::thread::sleep(Duration::from_nanos(random() % (most_us * 1000)));
    }
}

/// A pause is drawn below a bound that doubles up to this, as in our own `transact`.
const PAUSE_MAX_US: u64 = 5000;

pub trait Tx {
    fn get(&mut self, key: &[u8]) -> Step<Option<Vec<u8>>>;
    /// What is read will be written by this transaction.
    fn get_for_update(&mut self, key: &[u8]) -> Step<Option<Vec<u8>>>;
    fn put(&mut self, key: &[u8], value: &[u8]) -> Step<()>;
}

/// Until it commits. How often it had to be begun again.
pub fn run(session: &mut dyn Session, access: Access, f: &mut dyn FnMut(&mut dyn Tx) -> Step<()>) -> Outcome<u32> {
    let mut again = 0;
    loop {
        match session.attempt(access, f) {
            Ok(()) => return Ok(again),
            Err(Stopped::Failed(why)) => return Err(why),
            Err(Stopped::Again) => {
                session.pause(again);
                again += 1;
            }
        }
    }
}

pub fn open(system: &str, dir: &Path) -> Outcome<Box<dyn Store>> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    match system {
        "corering" => corering::Corering::open(dir, corering::Manner::Optimistic),
        "corering-kept" => corering::Corering::open(dir, corering::Manner::Kept),
        "rocksdb" => rocksdb::RocksDb::open(dir, rocksdb::Manner::Pessimistic),
        "rocksdb-optimistic" => rocksdb::RocksDb::open(dir, rocksdb::Manner::Optimistic),
        "etcd" => etcd::Etcd::open(dir),
        _ => Err(format!("there is no system {system} with transactions")),
    }
}
