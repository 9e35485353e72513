//! What a shard is asked to do.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::{CommitTs, Keyspace};
use crate::options::Durability;
use crate::pending::Completer;
use crate::shard::lock_request::LockRequest;
use crate::shard::tx::Tx;
use crate::txn::TxLife;
use crate::write_batch::WriteBatch;

/// Called once, when what the request did is durable at its level, with the commit that did it (zero if nothing was written).
pub type Reply = Box<dyn FnOnce(Result<CommitTs>) + Send>;

/// Runs on the shard in one step.
pub trait Program: Send {
    /// Gives back what to call when its writes are durable at their level.
    fn run(self: Box<Self>, tx: &mut Tx<'_>) -> Reply;
    /// It will not run.
    fn refuse(self: Box<Self>, error: Error);
}

pub enum Request {
    /// Unconditional writes, atomically; each key once.
    Write { batch: WriteBatch, level: Durability, reply: Completer<CommitTs> },
    /// Reads and writes in one step.
    Run { program: Box<dyn Program>, level: Durability },
    /// Answered when everything before it is visible.
    Fence { reply: Completer<()> },
    /// Answered when everything before it is durable.
    Sync { reply: Completer<()> },
    /// From now on keep the memtable in key order, for scans.
    KeepOrder { reply: Completer<()> },
    /// Write what is in memory as tables and trim the log; answered when that is done.
    Checkpoint { reply: Completer<()> },
    /// Something about locks.
    Lock(LockRequest),
    /// Keep a key for a transaction; answered when it is its own, and everything before is visible.
    KeepKey { keyspace: Keyspace, key: Box<[u8]>, life: Arc<TxLife>, reply: Completer<()> },
}

impl Request {
    /// Answer a request that will not be executed.
    pub fn refuse(self, error: Error) {
        match self {
            Request::Write { reply, .. } => reply.complete(Err(error)),
            Request::Run { program, .. } => program.refuse(error),
            Request::Lock(request) => request.refuse(error),
            Request::KeepKey { reply, .. } => reply.complete(Err(error)),
            Request::Fence { reply }
            | Request::Sync { reply }
            | Request::KeepOrder { reply }
            | Request::Checkpoint { reply } => reply.complete(Err(error)),
        }
    }
}
