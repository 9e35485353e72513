//! One interface to every system that is compared in this process.
//!
//! Guards: each call does the same thing in all of them, with the same bytes, and touches what it reads; what a system was told
//! about durability and memory is said in its settings.

mod c_abi;
mod corering;
mod fjall;
mod lmdb;
mod redb;
pub mod rocksdb;

use std::path::Path;

use crate::data::Key;

/// What went wrong, for the report.
pub type Fault = String;
pub type Outcome<T> = Result<T, Fault>;

/// When a write is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Once it is durable on disk.
    Durable,
    /// At once, so that a kill of the process loses nothing if the system has such a level.
    NoWait,
}

/// How a database is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Of the writes to come; some systems need to know it at the opening.
    pub level: Level,
    /// Bytes of memory it may use for caches.
    pub memory: u64,
    /// Whether what is written is to stay in memory and in the log as far as `memory` reaches; else the system's default decides.
    pub resident: bool,
}

/// An open database. Dropped, it is closed.
pub trait Store: Send + Sync {
    /// A thread's own access.
    fn session(&self) -> Outcome<Box<dyn Session + '_>>;

    /// What it was told, beside its defaults.
    fn settings(&self) -> String;

    /// Put all keys below `count`, as fast as it can, and bring them to rest: nothing is to be merged while it is measured.
    fn load(&self, count: u64, value: &[u8]) -> Outcome<()> {
        load_by_batches(self.session()?.as_mut(), count, value)
    }

    /// Puts with many under way in one thread: `depth` at a time until `go_on` says no; `done` is told when each began.
    /// `None`: the system has no such call.
    fn put_async(&self, _run: &mut dyn AsyncRun) -> Option<Outcome<()>> {
        None
    }
}

/// Drives [`Store::put_async`].
pub trait AsyncRun {
    fn depth(&self) -> usize;
    /// The next key, or the end.
    fn next(&mut self) -> Option<Key>;
    fn done(&mut self, began: std::time::Instant);
}

pub trait Session {
    fn put(&mut self, key: &[u8], value: &[u8], level: Level) -> Outcome<()>;
    /// All or nothing.
    fn batch(&mut self, keys: &[Key], value: &[u8], level: Level) -> Outcome<()>;
    /// Some sum over the value, so that it was really read; `None` if there is no such key.
    fn get(&mut self, key: &[u8]) -> Outcome<Option<u64>>;
    /// How many of the keys were found.
    fn multi_get(&mut self, keys: &[Key]) -> Outcome<usize>;
    /// Read at most `rows` rows in key order from `from` on; how many there were.
    fn scan(&mut self, from: &[u8], rows: u64) -> Outcome<u64>;
}

/// A sum that needs the value's first and last bytes.
pub fn touch(value: &[u8]) -> u64 {
    value.first().map_or(0, |first| u64::from(*first))
        + value.last().map_or(0, |last| u64::from(*last))
        + value.len() as u64
}

/// Keys below `count` in batches of a thousand.
pub fn load_by_batches(session: &mut dyn Session, count: u64, value: &[u8]) -> Outcome<()> {
    let mut keys = Vec::with_capacity(1000);
    for first in (0..count).step_by(1000) {
        keys.clear();
        keys.extend((first..(first + 1000).min(count)).map(crate::data::key));
        session.batch(&keys, value, Level::NoWait)?;
    }
    Ok(())
}

/// The systems of this process, ours first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    /// Our engine by its Rust API, its memory as large as the peers' caches.
    Corering,
    /// The same with all data in tables on disk, as after a restart.
    CoreringTables,
    /// The same through the C ABI of libcorering.so.
    CoreringC,
    RocksDb,
    Lmdb,
    Redb,
    Fjall,
}

impl System {
    pub const ALL: [System; 7] = [
        System::Corering,
        System::CoreringTables,
        System::CoreringC,
        System::RocksDb,
        System::Lmdb,
        System::Redb,
        System::Fjall,
    ];

    pub fn name(self) -> &'static str {
        match self {
            System::Corering => "corering",
            System::CoreringTables => "corering-tables",
            System::CoreringC => "corering-c",
            System::RocksDb => "rocksdb",
            System::Lmdb => "lmdb",
            System::Redb => "redb",
            System::Fjall => "fjall",
        }
    }

    pub fn parse(name: &str) -> Outcome<System> {
        System::ALL.into_iter().find(|system| system.name() == name).ok_or_else(|| format!("there is no system {name}"))
    }

    /// Whether a loaded database can be closed and opened again for further runs as it was.
    pub fn reopens(self) -> bool {
        !matches!(self, System::Corering | System::CoreringC)
    }

    pub fn open(self, dir: &Path, opening: Opening) -> Outcome<Box<dyn Store>> {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        match self {
            System::Corering => corering::Corering::open(dir, opening, corering::Rest::Memory),
            System::CoreringTables => corering::Corering::open(dir, opening, corering::Rest::Tables),
            System::CoreringC => c_abi::CoreringC::open(dir, opening),
            System::RocksDb => rocksdb::RocksDb::open(dir, opening),
            System::Lmdb => lmdb::Lmdb::open(dir, opening),
            System::Redb => redb::Redb::open(dir, opening),
            System::Fjall => fjall::Fjall::open(dir, opening),
        }
    }
}
