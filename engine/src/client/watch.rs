//! Watches, as threads and tasks make them (docs/watch.md).

use std::sync::Arc;

use super::Client;
use crate::error::Result;
use crate::ids::{CommitTs, Keyspace};
use crate::shard::ShardHandle;
use crate::shard::tx::check_sizes;
use crate::watch::hub::Hub;
use crate::watch::queue::Queue;
use crate::watch::{Watch, WatchKeys, WatchOptions};

impl Client {
    /// Every change of these keys after `options.from`, or from now on.
    pub fn watch(&self, keyspace: Keyspace, keys: WatchKeys, options: WatchOptions) -> Result<Watch> {
        self.check_open()?;
        check_sizes(keys.bytes(), 0)?;
        let hub = &self.shared.hub;
        let began_ms = options.from.map_or_else(|| self.shared.clock.wall_ms(), |_| 0);
        loop {
            let round = hub.round();
            for handle in &self.shared.shards {
                handle.with_core(|core| core.begin_feed(hub, round));
            }
            let make = |from| Queue::new(keyspace, keys.clone(), options.limit_bytes, from, began_ms);
            if let Some(entered) = hub.enter(round, options.from, make) {
                let (id, queue) = entered?;
                return Ok(Watch::new(queue, Arc::clone(hub), id));
            }
        }
    }

    /// The last commit given out: a watch from here begins now.
    pub fn last_commit(&self) -> CommitTs {
        self.shared.hub.last()
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }

    pub(crate) fn shards(&self) -> &[Arc<ShardHandle>] {
        &self.shared.shards
    }

    /// Before this, the log tells of another ring.
    pub(crate) fn history_after(&self) -> CommitTs {
        self.shared.root.record().history_after
    }
}
