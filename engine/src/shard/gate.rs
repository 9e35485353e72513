//! Where a commit over several shards becomes visible on all of them in one moment (docs/transactions.md).
//!
//! Guards: a reader that has seen the commit on one shard sees it on each; nothing that stands behind it on any of its shards is
//! visible before it is.
//!
//! The commit stands in the line of every shard it concerns. Each shard comes to the gate when the commit is the first in its line
//! and its part is durable, or carried by another shard's, tells its readers to look at the gate, and waits. The last to come opens it: one store, which all readers see
//! at once. Then each shard moves its own mark past the commit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::handle::ShardHandle;
use super::mark::{HasThreshold, Threshold};
use super::request::Reply;
use crate::error::{Error, Result};
use crate::ids::CommitTs;

pub struct Gate {
    threshold: Threshold,
    /// Parts that are carried by another shard's record and not durable in their own log.
    riders: AtomicUsize,
    /// The shards of parts that rode.
    carried: Vec<Weak<ShardHandle>>,
    /// Taken by whoever tells them: a shard that stopped keeps the gate for its readers, and must not keep itself by it.
    shards: Mutex<Vec<Arc<ShardHandle>>>,
    /// Taken by whoever opens it, or by the first shard that will never come.
    reply: Mutex<Option<Reply>>,
}

impl Gate {
    /// `carried`: the shards whose parts another's record carries.
    pub fn new(commit: CommitTs, shards: Vec<Arc<ShardHandle>>, carried: Vec<Weak<ShardHandle>>, reply: Reply) -> Gate {
        Gate {
            threshold: Threshold::new(commit, shards.len()),
            riders: AtomicUsize::new(carried.len()),
            carried,
            shards: Mutex::new(shards),
            reply: Mutex::new(Some(reply)),
        }
    }

    /// For a step that wrote nothing, but read what is not visible yet: it holds back what comes behind it, and shows nothing itself.
    pub fn of_reads(shards: Vec<Arc<ShardHandle>>, reply: Reply) -> Gate {
        Gate::new(CommitTs::ZERO, shards, Vec::new(), reply)
    }

    /// A shard will never come. Nobody is told what was read, so that nothing rests on it, and what stands behind may go on.
    pub fn give_up_reads(&self) -> bool {
        let gives_up = self.commit() == CommitTs::ZERO;
        if gives_up {
            self.threshold.give_up();
        }
        gives_up
    }

    pub fn commit(&self) -> CommitTs {
        self.threshold.commit()
    }

    pub fn is_open(&self) -> bool {
        self.threshold.is_open()
    }

    /// A shard came. True for the last one, which has opened it.
    pub fn arrive(&self) -> bool {
        self.threshold.arrive()
    }

    /// Whether every part is durable in the log of its own shard.
    pub fn is_settled(&self) -> bool {
        self.riders.load(Ordering::SeqCst) == 0
    }

    pub fn rider_is_durable(&self) {
        self.riders.fetch_sub(1, Ordering::SeqCst);
    }

    /// The shards whose parts are carried by another's record, as far as they still serve.
    pub fn carried(&self) -> impl Iterator<Item = Arc<ShardHandle>> + '_ {
        self.carried.iter().filter_map(Weak::upgrade)
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
                gate.answer(Ok(gate.commit()));
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
