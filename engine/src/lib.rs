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
mod mailbox;
pub mod mirror;
pub mod options;
pub mod pending;
pub mod report;
pub mod reshard;
pub mod ring;
pub mod runtime;
pub mod shard;
mod sync;
pub mod table;
pub mod txn;
pub mod value;
pub mod wal;

pub use client::{Client, PutIf, Scan, ScanRange, Snapshot, WriteOptions};
pub use engine::{Engine, Local};
pub use error::{Error, Poisoned, Result, Stage};
pub use ids::{CommitTs, Expiry, Keyspace, Kind, Life, Lsn, ShardId, Token};
pub use options::{BATCH_BYTES_MAX, Durability, KEY_LEN_MAX, Options, VALUE_LEN_MAX};
pub use pending::Pending;
pub use report::{OpenReport, ShardStats, Stats};
pub use shard::{Counters, Tx};
pub use value::{Condition, Entry, Value, ValueRef, WriteBatch, WriteOp};
