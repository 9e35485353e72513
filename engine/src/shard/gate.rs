//! Where a commit over several shards becomes visible on all of them in one moment (docs/transactions.md).
//!
//! Guards: a reader that has seen the commit on one shard sees it on each; nothing that stands behind it on any of its shards is
//! visible before it is.
//!
//! The commit stands in the line of every shard it concerns. Each shard comes to the gate when the commit is the first in its line
//! and its part is durable, tells its readers to look at the gate, and waits. The last to come opens it: one store, which all readers see
//! at once. Then each shard moves its own mark past the commit.

use std::sync::Arc;

use parking_lot::Mutex;

use super::handle::ShardHandle;
use super::mark::{HasThreshold, Threshold};
use super::request::Reply;
use crate::error::{Error, Result};
use crate::ids::CommitTs;

pub struct Gate {
    threshold: Threshold,
    /// Taken by whoever tells them: a shard that stopped keeps the gate for its readers, and must not keep itself by it.
    shards: Mutex<Vec<Arc<ShardHandle>>>,
    /// Taken by whoever opens it, or by the first shard that will never come.
    reply: Mutex<Option<Reply>>,
}

impl Gate {
    pub fn new(commit: CommitTs, shards: Vec<Arc<ShardHandle>>, reply: Reply) -> Gate {
        Gate {
            threshold: Threshold::new(commit, shards.len()),
            shards: Mutex::new(shards),
            reply: Mutex::new(Some(reply)),
        }
    }

    pub fn is_open(&self) -> bool {
        self.threshold.is_open()
    }

    /// A shard came. True for the last one, which has opened it.
    pub fn arrive(&self) -> bool {
        self.threshold.arrive()
    }

    fn take_shards(&self) -> Vec<Arc<ShardHandle>> {
        std::mem::take(&mut *self.shards.lock())
    }

    fn answer(&self, result: Result<CommitTs>) {
        let reply = self.reply.lock().take();
        if let Some(reply) = reply {
            reply(result);
        }
    }
}

impl HasThreshold for Gate {
    fn threshold(&self) -> &Threshold {
        &self.threshold
    }
}

/// What became of gates in one step of a shard, to be told to their other shards once this one is free.
#[derive(Default)]
pub struct GateNews {
    pub opened: Vec<Arc<Gate>>,
    /// This shard stopped before it came to them.
    pub failed: Vec<(Arc<Gate>, Error)>,
}

impl GateNews {
    fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.failed.is_empty()
    }

    fn append(&mut self, mut more: GateNews) {
        self.opened.append(&mut more.opened);
        self.failed.append(&mut more.failed);
    }

    /// Answer those who waited, and let the other shards go on, or stop; and whatever follows from that.
    pub fn tell(mut self) {
        while !self.is_empty() {
            if let Some(gate) = self.opened.pop() {
                gate.answer(Ok(gate.threshold.commit()));
                for shard in gate.take_shards() {
                    self.append(shard.step(|core| core.pass_gates()));
                }
            }
            if let Some((gate, error)) = self.failed.pop() {
                gate.answer(Err(error));
                for shard in gate.take_shards() {
                    self.append(shard.step(|core| core.gate_failed(&gate)));
                }
            }
        }
    }
}
