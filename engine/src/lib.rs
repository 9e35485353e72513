//! The thread-per-core storage engine behind Corering.
//!
//! Each core owns a [`ShardId`] of the hash ring with its own log, index and tables; `ARCHITECTURE.md` is the map.

#![deny(unsafe_code)]

pub mod canary;
pub mod check;
pub mod client;
pub mod engine;
pub mod error;
mod event;
pub mod format;
pub mod ids;
pub mod lock;
mod mailbox;
pub mod mirror;
pub mod options;
pub mod pending;
pub mod report;
pub mod reshard;
pub mod ring;
pub mod root;
pub mod runtime;
pub mod shard;
mod sync;
pub mod table;
pub mod txn;
pub mod value;
pub mod wal;
mod warden;
pub mod watch;
mod write_batch;

pub use client::{
    Acquire, Client, Fate, Isolation, Keys, LockCursor, LockFilter, LockHandle, Made, NewSession, PutIf, Savepoint,
    Scan, ScanRange, Snapshot, Transaction, TransactionId, TransactionOptions, Usage, WriteOptions,
};
pub use engine::{Engine, Local};
pub use error::{Error, Poisoned, Result, Stage};
pub use ids::{CommitTs, Expiry, FencingToken, Keyspace, Kind, Life, Lsn, SessionId, ShardId, Token};
pub use lock::look::{LockInfo, WaitInfo};
pub use lock::sessions::{LockLost, SessionInfo};
pub use lock::table::Hold;
pub use lock::{AskId, Grant, Guard, LockError, Mode, SessionKey};
pub use options::{
    BATCH_BYTES_MAX, Durability, KEY_LEN_MAX, MEMTABLE_BYTES_MIN, Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
    VALUE_LEN_MAX,
};
pub use pending::Pending;
pub use report::{OpenReport, ShardStats, Stats};
pub use shard::{Counters, Draft, NameFilter, Released, StageTimes, Stages, Tx, Wait};
pub use txn::stats::TxStats;
pub use txn::{TxError, TxNumber};
pub use value::{Condition, Entry, Value, ValueRef};
pub use watch::{Change, Watch, WatchEvent, WatchKeys, WatchOptions, What};
pub use write_batch::WriteBatch;
