//! Counters, of one shard or of all.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::sync::Arc;

use crate::db::{Db, corering_db};
use crate::engine::shard::lock_counts::LockCounts;
use crate::engine::shard::stages::Stage;
use crate::engine::shard::waits::Waits;
use crate::engine::{ShardStats, StageTimes, Stages, Stats, TxStats};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::object::using;
use crate::raw::c_struct;
use crate::status::corering_status::{self, *};

/// For `corering_get_stats`: the sum over all shards.
pub const CORERING_ALL_SHARDS: u32 = 0xffffffff;

/// What shards have done since the database was opened, and what they hold now.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_stats {
    /// The bytes of this struct that the program knows: sizeof(corering_stats). Set it before the call.
    pub struct_size: usize,
    /// Shards that were counted.
    pub shards: u64,
    /// Records written, and the bytes of their keys and values.
    pub writes: u64,
    pub write_bytes: u64,
    /// Batches of the log written, and their bytes.
    pub flushes: u64,
    pub flushed_bytes: u64,
    /// Memtables written as tables, and tables merged.
    pub checkpoints: u64,
    pub merges: u64,
    /// Writes that had to wait for memory.
    pub stalls: u64,
    /// Bytes of log that are not durable yet.
    pub undurable_bytes: u64,
    /// Bytes of log that the next opening would replay.
    pub replay_bytes: u64,
    /// Bytes of the log's files.
    pub log_file_bytes: u64,
    /// Bytes of memtables, and how many of them are on their way to a table.
    pub memory_bytes: u64,
    pub sealed_memtables: u64,
    /// Sorted tables, and their bytes.
    pub tables: u64,
    pub table_bytes: u64,
    /// Writes that wait for the disk now.
    pub waiting: u64,
    /// Snapshots in use, in the whole database.
    pub snapshots: u64,
    /// How long writes waited in an inbox for their shard's core; only those that their caller could not execute.
    pub hopped: corering_latency,
    /// How long they took to execute, into the log's batch and into memory; a sample of them.
    pub appended: corering_latency,
    /// How long those that wait for the disk waited for their flush to begin; a sample of them.
    pub queued: corering_latency,
    /// How long flushes took.
    pub durable: corering_latency,
    /// How long those that wait for the disk took from their execution to their answer; a sample of them.
    pub applied: corering_latency,
    /// Transactions of the whole database: begun, committed, and rolled back by the program.
    pub tx_begun: u64,
    pub tx_committed: u64,
    pub tx_rolled_back: u64,
    /// Aborted: what they read was changed; another one kept a key; an older one took a key; open for too long.
    pub tx_aborted_changed: u64,
    pub tx_aborted_kept: u64,
    pub tx_aborted_wounded: u64,
    pub tx_aborted_too_old: u64,
    /// Ended with any other error.
    pub tx_failed: u64,
    /// Waits for a key that another transaction kept.
    pub tx_waits: u64,
    /// Open now, and the milliseconds that the oldest of them is old.
    pub tx_open: u64,
    pub tx_oldest_ms: u64,
    /// Of the transactions begun, those that ran again what was aborted before.
    pub tx_retried: u64,
    /// Milliseconds for which those were open that ended: of all together, and the longest.
    pub tx_age_ms_total: u64,
    pub tx_age_ms_max: u64,
    /// Sessions of the whole database.
    pub lock_sessions: u64,
    /// Names of locks that are held or wanted, and how many hold them and wait for them now.
    pub lock_names: u64,
    pub lock_holds: u64,
    pub lock_waiters: u64,
    /// Grants, those included by which a session took once more what it held.
    pub lock_grants: u64,
    /// Tries that were refused because others held the lock, or none is granted yet.
    pub lock_refused: u64,
    /// Waits that are over, and their milliseconds: of all together, and the longest.
    pub lock_waits: u64,
    pub lock_wait_ms_total: u64,
    pub lock_wait_ms_max: u64,
    /// Of these, those that ended with their time, and those that were taken back.
    pub lock_timeouts: u64,
    pub lock_cancelled: u64,
    /// Requests that gave way because sessions waited for each other.
    pub lock_deadlocks: u64,
    /// Holds whose lease ran out, and those that ended with their session.
    pub lock_expired: u64,
    pub lock_orphaned: u64,
    /// Writes that were refused because a guard had lost its lock.
    pub lock_fenced: u64,
}

/// How long something took, in nanoseconds.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_latency {
    /// How often it was measured; if never, the others are zero.
    pub count: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
}

impl From<StageTimes> for corering_latency {
    fn from(times: StageTimes) -> corering_latency {
        let StageTimes { count, p50_ns, p99_ns, p999_ns, max_ns } = times;
        corering_latency { count, p50_ns, p99_ns, p999_ns, max_ns }
    }
}

c_struct!(growing corering_stats, first_len 144);

impl corering_stats {
    fn of(shards: &[ShardStats], snapshots: u64, tx: TxStats, sessions: usize) -> corering_stats {
        let sum = |of: fn(&ShardStats) -> u64| shards.iter().map(of).sum();
        let mut stages = Stages::default();
        shards.iter().for_each(|shard| stages.add(&shard.stages));
        let (mut counts, mut waits) = (LockCounts::default(), Waits::default());
        shards.iter().for_each(|shard| counts.add(&shard.lock_counts));
        shards.iter().for_each(|shard| waits.add(&shard.lock_waits));
        let latency = |stage| corering_latency::from(stages.times(stage));
        corering_stats {
            struct_size: size_of::<corering_stats>(),
            shards: shards.len() as u64,
            writes: sum(|s| s.counters.writes),
            write_bytes: sum(|s| s.counters.write_bytes),
            flushes: sum(|s| s.counters.flushes),
            flushed_bytes: sum(|s| s.counters.flushed_bytes),
            checkpoints: sum(|s| s.counters.checkpoints),
            merges: sum(|s| s.counters.merges),
            stalls: sum(|s| s.counters.stalls),
            undurable_bytes: sum(|s| s.appended_lsn.saturating_sub(s.durable_lsn)),
            replay_bytes: sum(|s| s.appended_lsn.saturating_sub(s.trimmed_lsn)),
            log_file_bytes: sum(|s| s.log_file_bytes),
            memory_bytes: sum(|s| s.memory_bytes),
            sealed_memtables: sum(|s| s.sealed_memtables),
            tables: sum(|s| s.tables),
            table_bytes: sum(|s| s.table_bytes),
            waiting: sum(|s| s.waiting),
            snapshots,
            hopped: latency(Stage::Hopped),
            appended: latency(Stage::Appended),
            queued: latency(Stage::Queued),
            durable: latency(Stage::Durable),
            applied: latency(Stage::Applied),
            tx_begun: tx.begun,
            tx_committed: tx.committed,
            tx_rolled_back: tx.rolled_back,
            tx_aborted_changed: tx.aborted_changed,
            tx_aborted_kept: tx.aborted_kept,
            tx_aborted_wounded: tx.aborted_wounded,
            tx_aborted_too_old: tx.aborted_too_old,
            tx_failed: tx.failed,
            tx_waits: tx.waits,
            tx_open: tx.open,
            tx_oldest_ms: tx.oldest_ms,
            tx_retried: tx.retried,
            tx_age_ms_total: tx.ages_ms,
            tx_age_ms_max: tx.age_ms_max,
            lock_sessions: sessions as u64,
            lock_names: sum(|s| s.locks),
            lock_holds: sum(|s| s.lock_holds),
            lock_waiters: sum(|s| s.lock_waiters),
            lock_grants: counts.grants,
            lock_refused: counts.refused,
            lock_waits: waits.count,
            lock_wait_ms_total: waits.sum_ms,
            lock_wait_ms_max: waits.max_ms,
            lock_timeouts: counts.timeouts,
            lock_cancelled: counts.cancelled,
            lock_deadlocks: counts.deadlocks,
            lock_expired: counts.expired,
            lock_orphaned: counts.orphaned,
            lock_fenced: counts.fenced,
        }
    }
}

/// The counters of one shard (0, 1, …), or of all together with CORERING_ALL_SHARDS.
///
/// Owns: the caller keeps the struct.
/// Writes: as many bytes of `stats` as its `struct_size` says; nothing on failure.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT for null, a struct_size that no version has, or a shard that is not there;
///   INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `stats` is null or begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_get_stats(
    db: *mut corering_db,
    shard: u32,
    stats: *mut corering_stats,
) -> corering_status {
    guarded!(|c| {
        let db = using::<Arc<Db>, _>(db)?;
        db.check_open()?;
        let Stats { shards, snapshots, transactions } = db.engine.stats();
        let counted = match shard {
            CORERING_ALL_SHARDS => shards.as_slice(),
            one => shards
                .iter()
                .find(|counted| u32::from(counted.shard) == one)
                .map(std::slice::from_ref)
                .ok_or_else(|| Failure::argument(format!("shard {one} of {}", shards.len())))?,
        };
        c.fill(stats, &corering_stats::of(counted, snapshots, transactions, db.client.session_count()))?;
        Ok(CORERING_OK)
    })
}
