//! What opening a database found and did, and what its shards have done since.

use std::fmt;

use crate::ids::{CommitTs, ShardId};
use crate::reshard::Resharded;
use crate::shard::lock_counts::LockCounts;
use crate::shard::recover::ShardReport;
use crate::shard::waits::Waits;
use crate::shard::{Counters, ShardHandle, Stages};
use crate::txn::fate::Decided;
use crate::txn::stats::TxStats;

/// What an opening did before its shards served.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub resharded: Option<Resharded>,
    pub decided: Decided,
}

/// The account of one opening.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    pub db_id: u64,
    pub shards: Vec<ShardReport>,
    pub resharded: Option<Resharded>,
    pub decided: Decided,
}

impl OpenReport {
    pub fn new(db_id: u64, shards: Vec<ShardReport>, found: Found) -> OpenReport {
        let Found { resharded, decided } = found;
        OpenReport { db_id, shards, resharded, decided }
    }

    pub fn records_replayed(&self) -> u64 {
        self.shards.iter().map(|s| s.log.records_replayed).sum()
    }

    pub fn bytes_replayed(&self) -> u64 {
        self.shards.iter().map(|s| s.log.bytes_replayed).sum()
    }
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} shards, {} tables, {} records replayed from {} bytes of log",
            self.shards.len(),
            self.shards.iter().map(|s| s.tables).sum::<u64>(),
            self.records_replayed(),
            self.bytes_replayed(),
        )?;
        let staged: u64 = self.shards.iter().map(|s| s.log.records_from_stage).sum();
        if staged > 0 {
            write!(f, ", {staged} of them saved from a killed process")?;
        }
        for (shard, report) in self.shards.iter().enumerate() {
            if let Some((path, offset, blocks)) = &report.log.cut {
                write!(
                    f,
                    "; shard {shard}: cut a torn tail at byte {offset} of {} ({blocks} blocks cleared)",
                    path.display()
                )?;
            }
        }
        let Decided { stood, fell } = self.decided;
        if stood + fell > 0 {
            write!(f, "; of the last commits over several shards {stood} had happened, {fell} had not")?;
        }
        if let Some(moved) = &self.resharded {
            write!(
                f,
                "; {} -> {} shards: moved {} of {} keys, {} bytes",
                moved.from, moved.to, moved.keys_moved, moved.keys_total, moved.bytes_moved
            )?;
        }
        Ok(())
    }
}

/// Counters of an open engine.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub shards: Vec<ShardStats>,
    /// Views in use.
    pub snapshots: u64,
    pub transactions: TxStats,
}

/// One shard's counters and levels.
#[derive(Clone, Debug, Default)]
pub struct ShardStats {
    pub shard: u16,
    pub counters: Counters,
    pub appended_lsn: u64,
    pub written_lsn: u64,
    pub durable_lsn: u64,
    pub applied_lsn: u64,
    pub trimmed_lsn: u64,
    pub visible: CommitTs,
    pub memory_bytes: u64,
    pub sealed_memtables: u64,
    pub waiting: u64,
    pub log_file_bytes: u64,
    pub tables: u64,
    pub table_bytes: u64,
    pub runs: u64,
    /// Names of locks that are held or wanted.
    pub locks: u64,
    /// Who waits in line for them.
    pub lock_waiters: u64,
    pub lock_holds: u64,
    /// What became of locks since the opening.
    pub lock_counts: LockCounts,
    /// How long those waited who wait no more.
    pub lock_waits: Waits,
    /// Times of writes, by stage.
    pub stages: Stages,
}

impl ShardStats {
    pub fn of(handle: &ShardHandle) -> ShardStats {
        let ShardId(shard) = handle.view.id;
        let visible = handle.view.visible();
        handle.with_core(|core| {
            let marks = *core.log().marks();
            let tables = core.tables();
            ShardStats {
                shard,
                counters: core.counters,
                appended_lsn: marks.appended().0,
                written_lsn: marks.written().0,
                durable_lsn: marks.durable().0,
                applied_lsn: marks.applied().0,
                trimmed_lsn: marks.trimmed().0,
                visible,
                memory_bytes: core.memory_bytes(),
                sealed_memtables: core.sealed_count() as u64,
                waiting: core.waiting() as u64,
                log_file_bytes: core.log().segment_bytes_in_use(),
                tables: tables.table_count(),
                table_bytes: tables.bytes(),
                runs: tables.runs().len() as u64,
                locks: core.locks().names() as u64,
                lock_waiters: core.locks().waiting() as u64,
                lock_holds: core.locks().held() as u64,
                lock_counts: *core.locks().counts(),
                lock_waits: *core.locks().waits(),
                stages: core.stages.clone(),
            }
        })
    }
}

impl Stats {
    /// What became of locks since the opening.
    pub fn lock_counts(&self) -> LockCounts {
        let mut all = LockCounts::default();
        self.shards.iter().for_each(|shard| all.add(&shard.lock_counts));
        all
    }

    /// How long those waited for locks who wait no more.
    pub fn lock_waits(&self) -> Waits {
        let mut all = Waits::default();
        self.shards.iter().for_each(|shard| all.add(&shard.lock_waits));
        all
    }

    /// Times of writes of all shards, by stage.
    pub fn stages(&self) -> Stages {
        let mut all = Stages::default();
        self.shards.iter().for_each(|shard| all.add(&shard.stages));
        all
    }

    pub fn sum(&self, of: impl Fn(&ShardStats) -> u64) -> u64 {
        self.shards.iter().map(of).sum()
    }
}
