//! A shard's part in a change of the shard count (docs/resharding.md), before anything is served.

use std::sync::Arc;

use super::recover::Offline;
use crate::error::Result;
use crate::format::manifest::TableMeta;
use crate::ids::{CommitTs, ShardId};
use crate::reshard::{MoveOrder, Moved, Settled};
use crate::table::Order;

impl Offline {
    /// Write everything as tables that hold only this shard's own keys.
    pub async fn settle(&mut self) -> Result<Settled> {
        let empty = self.replay.memory.next(Order::Deferred);
        let last = std::mem::replace(&mut self.replay.memory, empty);
        let now_ms = self.clock.wall_ms();
        let mut memtables = std::mem::take(&mut self.replay.full);
        if !last.table().is_empty() {
            memtables.push(last.seal());
        }
        memtables.reverse();
        if memtables.is_empty() {
            self.keeper.pass_over_log(&self.executor, self.recovered.end).await?;
        } else {
            self.keeper.settle_memory(&self.executor, &memtables, self.recovered.end, now_ms).await?;
        }
        self.keeper.purify(&self.executor, &self.ring, now_ms).await?;
        Ok(Settled { next_file: self.keeper.next_file(), keys: self.keeper.keys() })
    }

    /// Copy what another ring gives to others into their directories.
    pub async fn move_out(&mut self, order: &MoveOrder) -> Result<Moved> {
        let mut moved = Moved::default();
        let now_ms = self.clock.wall_ms();
        for (destination, first_file) in order.first_file.iter().enumerate() {
            let destination = ShardId(destination as u16);
            if destination == self.shard {
                continue;
            }
            let tables = self
                .keeper
                .copy_to(&self.executor, destination, &order.to, order.ring_version, *first_file, now_ms)
                .await?;
            if tables.is_empty() {
                continue;
            }
            moved.keys += tables.iter().map(|table| table.keys).sum::<u64>();
            moved.bytes += tables.iter().map(|table| table.bytes).sum::<u64>();
            tracing::info!(
                from = self.shard.0,
                to = destination.0,
                keys = moved.keys,
                "copied keys to their new owner"
            );
            moved.tables.push((destination, tables));
        }
        Ok(moved)
    }

    /// Name the tables that others copied here. `newest` is the last commit of all shards.
    pub async fn take_in(&mut self, runs: Vec<Vec<TableMeta>>, newest: CommitTs) -> Result<()> {
        self.keeper.take_in(&self.executor, runs, newest).await?;
        let max_commit = &mut self.replay.undecided.max_commit;
        *max_commit = newest.max(*max_commit);
        Ok(())
    }

    /// The ring that this shard was read back under.
    pub fn ring(&self) -> &Arc<crate::ring::Ring> {
        &self.ring
    }
}
