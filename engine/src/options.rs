//! Settings of an engine and of single calls. Nothing that decides durability has a silent default inside a call.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};

pub const KEY_LEN_MAX: usize = 64 << 10;
pub const VALUE_LEN_MAX: usize = 64 << 20;
/// Bytes of keys and values in one atomic batch.
pub const BATCH_BYTES_MAX: usize = 128 << 20;
pub const SHARDS_MAX: u16 = 1024;
/// A segment's header and one block of records. So small ones are for tests, to have a segment end at every other write.
pub const SEGMENT_BYTES_MIN: u64 = 8 << 10;
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;
/// A few records, for tests as well.
pub const MEMTABLE_BYTES_MIN: u64 = 4 << 10;

/// When a write is answered. At every level a killed process loses nothing that was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Once it is durable on disk.
    Sync,
    /// At once; durable within the time given.
    Interval(Duration),
    /// At once; written to the log when convenient, durable when something else makes it so.
    None,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Durability::Sync => f.write_str("sync"),
            Durability::Interval(time) => write!(f, "interval({} ms)", time.as_millis()),
            Durability::None => f.write_str("none"),
        }
    }
}

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shards, each with its own core and log; `None` takes as many as there are processors to use, or, for an
    /// existing database, keeps what it has.
    pub shards: Option<u16>,
    /// The level of writes that do not name one.
    pub durability: Durability,
    pub create_if_missing: bool,
    /// Refuse a directory that already holds a database.
    pub error_if_exists: bool,
    /// Bytes of memory per shard before the memtable is sealed and written as a sorted table. As much again is kept, once used, for the
    /// memtables that follow.
    pub memtable_bytes: u64,
    /// Bytes of a full-grown log segment; the first ones are smaller.
    pub segment_bytes: u64,
    /// Bytes of each shard's log that are kept beyond what recovery needs, for watches from further back.
    pub history_bytes: u64,
    /// Requests that may wait in one shard's inbox.
    pub inbox_len: u32,
    /// Pin each shard's thread to its processor. Only where no other program may run there: one that has to wait for its processor while
    /// another is free was measured to serve a third less.
    pub pin_threads: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            shards: None,
            durability: Durability::Sync,
            create_if_missing: true,
            error_if_exists: false,
            memtable_bytes: 64 << 20,
            segment_bytes: 64 << 20,
            history_bytes: 0,
            inbox_len: 8192,
            pin_threads: false,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(n) = self.shards
            && !(1..=SHARDS_MAX).contains(&n)
        {
            return Err(Error::invalid(format!("shards = {n}: give 1 to {SHARDS_MAX}")));
        }
        if let Durability::Interval(time) = self.durability
            && (time.is_zero() || time > Duration::from_secs(3600))
        {
            return Err(Error::invalid("a durability interval is 1 ms to 1 hour"));
        }
        if self.memtable_bytes < MEMTABLE_BYTES_MIN {
            let given = self.memtable_bytes;
            return Err(Error::invalid(format!("memtable_bytes = {given}: give at least {MEMTABLE_BYTES_MIN}")));
        }
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            let given = self.segment_bytes;
            return Err(Error::invalid(format!("segment_bytes = {given}: give {SEGMENT_BYTES_MIN} to 4 GiB")));
        }
        if self.inbox_len < 2 {
            return Err(Error::invalid("inbox_len is at least 2"));
        }
        Ok(())
    }
}
