//! What threads and tasks use: finds the shard of a key, reads it in place, and hands writes to it.
//!
//! Guards: a read costs no hop; a write costs at most one, and none while its shard is idle.

mod commit;
mod joint;
mod lock;
mod read;
mod scan;
mod transaction;
mod watch;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use commit::Fate;
pub use joint::Keys;
pub use lock::{Acquire, LockCursor, LockFilter, LockHandle, NewSession};
pub use scan::{Scan, ScanRange, Snapshot};
pub use transaction::{Isolation, Savepoint, Transaction, TransactionId, TransactionOptions, Usage};
pub use write::{Made, PutIf, WriteOptions};

use crate::error::{Error, Result};
use crate::ids::ShardId;
use crate::lock::sessions::Sessions;
use crate::options::Durability;
use crate::ring::Ring;
use crate::root::Root;
use crate::runtime::Clock;
use crate::shard::ShardHandle;
use crate::txn::snapshots::Snapshots;
use crate::txn::stats::Transactions;
use crate::watch::hub::Hub;

/// What an engine's clients share.
pub struct Shared {
    pub ring: Arc<Ring>,
    pub ring_version: u64,
    pub shards: Vec<Arc<ShardHandle>>,
    pub snapshots: Arc<Snapshots>,
    pub clock: Arc<dyn Clock>,
    pub durability: Durability,
    pub root: Arc<Root>,
    pub sessions: Arc<Sessions>,
    pub transactions: Arc<Transactions>,
    pub hub: Arc<Hub>,
    /// Numbers that nobody can guess.
    pub random: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Of the hash by which a batch finds its keys again.
    pub batch_seed: u64,
    pub closed: AtomicBool,
}

/// A handle to an open engine; cheap to clone, usable from any thread. It does not keep the engine open.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>) -> Client {
        Client { shared }
    }

    /// The shard that owns `key`.
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        self.shared.ring.owner_of_key(key)
    }

    pub fn shard_count(&self) -> u16 {
        self.shared.ring.shards()
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The level of writes that do not name one.
    pub fn default_durability(&self) -> Durability {
        self.shared.durability
    }

    fn handle_of(&self, key: &[u8]) -> &Arc<ShardHandle> {
        &self.shared.shards[self.shard_of(key).index()]
    }

    fn check_open(&self) -> Result<()> {
        if self.shared.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}
