//! Where a commit over several shards becomes visible on all of them in one moment (docs/transactions.md).
//!
//! Guards: a reader that has seen the commit on one shard sees it on each; nothing that stands behind it on any of its shards is
//! visible before it is.
//!
//! The commit stands in the line of every shard it concerns. Each shard comes to the gate when the commit is the first in its line
//! and its part is durable, or carried by another shard's, tells its readers to look at the gate, and waits. The last to come opens it: one store, which all readers see
//! at once. Then each shard moves its own mark past the commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::handle::ShardHandle;
use super::request::Reply;
use crate::error::{Error, Result};
use crate::ids::CommitTs;

pub struct Gate {
    commit: CommitTs,
    open: AtomicBool,
    /// Shards that have not come yet.
    missing: AtomicUsize,
    /// Parts that are carried by another shard's record and not durable in their own log.
    riders: AtomicUsize,
    shards: Vec<Arc<ShardHandle>>,
    /// Taken by whoever opens it, or by the first shard that will never come.
    reply: Mutex<Option<Reply>>,
}

impl Gate {
    pub fn new(commit: CommitTs, shards: Vec<Arc<ShardHandle>>, riders: usize, reply: Reply) -> Gate {
        Gate {
            commit,
            open: AtomicBool::new(false),
            missing: AtomicUsize::new(shards.len()),
            riders: AtomicUsize::new(riders),
            shards,
            reply: Mutex::new(Some(reply)),
        }
    }

    /// For a step that wrote nothing, but read what is not visible yet: it holds back what comes behind it, and shows nothing itself.
    pub fn of_reads(shards: Vec<Arc<ShardHandle>>, reply: Reply) -> Gate {
        Gate::new(CommitTs::ZERO, shards, 0, reply)
    }

    /// A shard will never come. Nobody is told what was read, so that nothing rests on it, and what stands behind may go on.
    pub fn give_up_reads(&self) -> bool {
        let gives_up = self.commit == CommitTs::ZERO;
        self.open.fetch_or(gives_up, Ordering::SeqCst);
        gives_up
    }

    pub fn commit(&self) -> CommitTs {
        self.commit
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// A shard came. True for the last one, which has opened it.
    pub fn arrive(&self) -> bool {
        let last = self.missing.fetch_sub(1, Ordering::SeqCst) == 1;
        if last {
            self.open.store(true, Ordering::SeqCst);
        }
        last
    }

    /// Whether every part is durable in the log of its own shard.
    pub fn is_settled(&self) -> bool {
        self.riders.load(Ordering::SeqCst) == 0
    }

    pub fn rider_is_durable(&self) {
        self.riders.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn shards(&self) -> &[Arc<ShardHandle>] {
        &self.shards
    }

    fn answer(&self, result: Result<CommitTs>) {
        let reply = self.reply.lock().take();
        if let Some(reply) = reply {
            reply(result);
        }
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
                gate.answer(Ok(gate.commit));
                for shard in gate.shards() {
                    self.append(shard.step(|core| core.pass_gates()));
                }
            }
            if let Some((gate, error)) = self.failed.pop() {
                gate.answer(Err(error));
                for shard in gate.shards() {
                    self.append(shard.step(|core| core.gate_failed(&gate)));
                }
            }
        }
    }
}
