//! Another shard count: moves the keys whose owner changed, and no others (docs/resharding.md).
//!
//! Guards: until the superblock names the new ring, the old one is whole and in force; from then on the new one is. What was
//! copied for a ring that did not come into force is dropped at the next opening, by its ring version.
//! Crash leaves: copied tables that no manifest names, or that manifests name under a ring version above the superblock's;
//! directories of shards that the ring does not have. Each is recognised without a note that a move was under way.

use std::sync::Arc;

use crate::engine::{Started, leave, start_shards};
use crate::error::{Error, Result};
use crate::format::manifest::TableMeta;
use crate::ids::{CommitTs, ShardId};
use crate::pending::pending;
use crate::ring::Ring;
use crate::root::Root;
use crate::runtime::Host;
use crate::shard::recover::{Home, create_shard, remove_shard};
use crate::shard::service::Order;

/// File numbers that one source may use in each destination.
const FILES_PER_SOURCE: u64 = 1 << 20;

/// Copy to other shards what `to` gives them.
#[derive(Clone)]
pub struct MoveOrder {
    pub to: Arc<Ring>,
    pub ring_version: u64,
    /// For each shard of `to`, the first file number this source may use there.
    pub first_file: Vec<u64>,
}

/// What one source copied.
#[derive(Default)]
pub struct Moved {
    /// For each destination that got something: its tables.
    pub tables: Vec<(ShardId, Vec<TableMeta>)>,
    pub keys: u64,
    pub bytes: u64,
}

/// What a change of the shard count did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resharded {
    pub from: u16,
    pub to: u16,
    pub keys_moved: u64,
    pub keys_total: u64,
    pub bytes_moved: u64,
}

/// Change the shard count of a database whose shards were read back and do not serve.
pub(crate) async fn run(
    host: &Arc<dyn Host>,
    home: &Home,
    root: &Root,
    started: &mut Vec<Started>,
    to: u16,
) -> Result<Resharded> {
    let superblock = root.record();
    let from = superblock.shards;
    let ring_version = superblock.ring_version + 1;
    let ring = Arc::new(Ring::new(to, superblock.vnodes));
    tracing::info!(from, to, "changing the number of shards: writing everything as tables");
    let mut settled = settle(started).await?;
    for shard in from..to {
        create_shard(home, ShardId(shard))?;
    }
    started.extend(start_shards(host, home, from..to).await?);
    settled.extend(started[usize::from(from)..].iter().map(|s| Settled { next_file: s.opened.next_file, keys: 0 }));
    tracing::info!(from, to, "changing the number of shards: copying keys to their new owners");
    let moved = move_out(started, from, to, &ring, ring_version, &settled).await?;
    let mut done =
        Resharded { from, to, keys_moved: 0, keys_total: settled.iter().map(|s| s.keys).sum(), bytes_moved: 0 };
    let mut incoming: Vec<Vec<Vec<TableMeta>>> = vec![Vec::new(); usize::from(to)];
    for source in moved {
        done.keys_moved += source.keys;
        done.bytes_moved += source.bytes;
        for (shard, tables) in source.tables {
            incoming[shard.index()].push(tables);
        }
    }
    // Shards that go take their commits' numbers with them; those that stay must not give them out again, nor hide what has them.
    let newest = started.iter().map(|shard| shard.opened.max_commit).max().unwrap_or_default();
    take_in(&started[..usize::from(to)], incoming, newest).await?;
    started.iter_mut().for_each(|shard| shard.opened.max_commit = newest);
    // The commit: from here on the new ring is in force.
    root.change(|record| {
        record.shards = to;
        record.ring_version = ring_version;
        record.history_after = newest;
    })?;
    if to < from {
        leave(started.split_off(usize::from(to))).await;
        for shard in to..from {
            remove_shard(&home.fs, ShardId(shard))?;
        }
    }
    tracing::info!(
        from,
        to,
        keys_moved = done.keys_moved,
        keys_total = done.keys_total,
        "changed the number of shards"
    );
    Ok(done)
}

/// A shard whose every record is in tables that hold only its own keys.
pub struct Settled {
    pub next_file: u64,
    pub keys: u64,
}

async fn settle(started: &[Started]) -> Result<Vec<Settled>> {
    let answers: Vec<_> = started
        .iter()
        .map(|shard| {
            let (reply, answer) = pending(None);
            shard.orders.send(Order::Settle(reply));
            answer
        })
        .collect();
    all(answers).await
}

async fn move_out(
    started: &[Started],
    from: u16,
    to: u16,
    ring: &Arc<Ring>,
    ring_version: u64,
    settled: &[Settled],
) -> Result<Vec<Moved>> {
    let answers = started[..usize::from(from)]
        .iter()
        .map(|shard| {
            let first_file = (0..usize::from(to))
                .map(|destination| settled[destination].next_file + u64::from(shard.shard.0) * FILES_PER_SOURCE)
                .collect();
            let (reply, answer) = pending(None);
            let order = MoveOrder { to: Arc::clone(ring), ring_version, first_file };
            shard.orders.send(Order::MoveOut(order, reply));
            answer
        })
        .collect();
    all(answers).await
}

async fn take_in(started: &[Started], incoming: Vec<Vec<Vec<TableMeta>>>, newest: CommitTs) -> Result<()> {
    let answers = started
        .iter()
        .zip(incoming)
        .map(|(shard, tables)| {
            let (reply, answer) = pending(None);
            shard.orders.send(Order::TakeIn(tables, newest, reply));
            answer
        })
        .collect();
    all(answers).await.map(drop)
}

/// Every answer, or the first error once all have come.
async fn all<T>(answers: Vec<crate::pending::Pending<T>>) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let mut failure: Option<Error> = None;
    for answer in answers {
        match answer.await {
            Ok(value) => values.push(value),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(values), Err)
}
