//! Replies of one connection, in the order of its requests.
//!
//! Guards: a reply that waits for its write to be durable holds back all later ones, and no more than that: writes that
//! were asked for together are submitted together and share a group commit.

use std::collections::VecDeque;

use corering_engine::{CommitTs, Error, Pending, ShardId};

use crate::command::{Answer, CommandError};
use crate::resp::{Protocol, Reply};

/// Above this, replies are sent before more requests are run.
pub const FULL_BYTES: usize = 256 << 10;
/// Replies that may wait at once; more are awaited before more requests are run.
const WAITING_MAX: usize = 1024;
/// Bytes of values on their way to shards.
const SUBMITTED_BYTES_MAX: usize = 4 << 20;
/// Values read behind writes count as long as this, for their length is not known yet.
pub const UNKNOWN_BYTES: usize = 256 << 10;
/// Buffers of an idle connection keep no more than this.
const IDLE_CAPACITY_MAX: usize = 16 << 10;

/// A write on its way; how it is answered depends on how it ends.
pub enum Waiting {
    /// `OK`.
    Stored(Pending<CommitTs>),
    /// 1 if the key was there.
    Deleted(Pending<bool>),
    Answer(Pending<Answer>),
}

impl Waiting {
    fn has_place(&self) -> bool {
        match self {
            Waiting::Stored(pending) => pending.has_place(),
            Waiting::Deleted(pending) => pending.has_place(),
            Waiting::Answer(pending) => pending.has_place(),
        }
    }

    async fn answer(self) -> Result<Answer, Error> {
        match self {
            Waiting::Stored(pending) => pending.await.map(|_| Answer::Ok),
            Waiting::Deleted(pending) => pending.await.map(|existed| Answer::Integer(i64::from(existed))),
            Waiting::Answer(pending) => pending.await,
        }
    }
}

struct Entry {
    waiting: Waiting,
    protocol: Protocol,
    /// The client asked for no answer.
    muted: bool,
    /// Bytes of `staged` that come before it.
    staged: usize,
}

/// A set of shards.
struct ShardSet(Vec<u64>);

impl ShardSet {
    fn insert(&mut self, shard: ShardId) {
        if let Some(word) = self.0.get_mut(shard.index() / 64) {
            *word |= 1 << (shard.index() % 64);
        }
    }

    fn contains(&self, shard: ShardId) -> bool {
        self.0.get(shard.index() / 64).is_some_and(|word| word >> (shard.index() % 64) & 1 == 1)
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }
}

pub struct Output {
    /// To be sent.
    ready: Vec<u8>,
    /// Replies behind the first that waits.
    staged: Vec<u8>,
    /// How much of `staged` was moved to `ready` already.
    moved: usize,
    waiting: VecDeque<Entry>,
    /// Shards that have a write of ours under way.
    shards: ShardSet,
    submitted_bytes: usize,
    /// One of the waiting could be overtaken: nothing more is asked for until it is done.
    comes_again: bool,
}

impl Output {
    pub fn new(shard_count: u16) -> Output {
        Output {
            ready: Vec::new(),
            staged: Vec::new(),
            moved: 0,
            waiting: VecDeque::new(),
            shards: ShardSet(vec![0; usize::from(shard_count).div_ceil(64)]),
            submitted_bytes: 0,
            comes_again: false,
        }
    }

    /// Where the next reply is written.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.waiting.is_empty() { &mut self.ready } else { &mut self.staged }
    }

    pub fn push(
        &mut self,
        shards: impl Iterator<Item = ShardId>,
        waiting: Waiting,
        muted: bool,
        protocol: Protocol,
        bytes: usize,
    ) {
        shards.for_each(|shard| self.shards.insert(shard));
        self.comes_again |= !waiting.has_place();
        self.submitted_bytes += bytes;
        self.waiting.push_back(Entry { waiting, protocol, muted, staged: self.staged.len() });
    }

    /// Whether a write of ours on `shard` has not been answered.
    pub fn waits_on(&self, shard: ShardId) -> bool {
        !self.waiting.is_empty() && self.shards.contains(shard)
    }

    /// Replies that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the waiting must be awaited before more is asked for.
    pub fn must_settle(&self) -> bool {
        self.comes_again
            || self.waiting.len() >= WAITING_MAX
            || self.submitted_bytes >= SUBMITTED_BYTES_MAX
            || self.staged.len() >= FULL_BYTES
    }

    pub fn is_full(&self) -> bool {
        self.ready.len() >= FULL_BYTES
    }

    /// Bytes of replies held.
    pub fn len(&self) -> usize {
        self.ready.len() + self.staged.len() - self.moved
    }

    pub fn capacity(&self) -> usize {
        self.ready.capacity() + self.staged.capacity() + self.waiting.capacity() * size_of::<Entry>()
    }

    /// Await the first reply that waits and write it. `None` when nothing waits any more.
    pub async fn settle_one(&mut self) -> Option<Result<(), CommandError>> {
        let Some(entry) = self.waiting.pop_front() else {
            self.settled();
            return None;
        };
        self.move_staged(entry.staged);
        let answer = entry.waiting.answer().await;
        let mut muted = Vec::new();
        let mut reply = Reply::new(if entry.muted { &mut muted } else { &mut self.ready }, entry.protocol);
        // An error is written here, and handed on to be counted.
        Some(answer.unwrap_or_else(|error| Answer::Failed(error.into())).write(&mut reply))
    }

    fn move_staged(&mut self, until: usize) {
        let part = self.staged.get(self.moved..until).unwrap_or_default();
        self.ready.extend_from_slice(part);
        self.moved = until;
    }

    fn settled(&mut self) {
        self.move_staged(self.staged.len());
        self.staged.clear();
        self.moved = 0;
        self.shards.clear();
        self.submitted_bytes = 0;
        self.comes_again = false;
    }

    /// The bytes to be sent; give the buffer back with [`Output::restore`].
    pub fn take_ready(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    pub fn restore(&mut self, mut buffer: Vec<u8>) {
        if self.ready.is_empty() && buffer.capacity() <= IDLE_CAPACITY_MAX {
            buffer.clear();
            self.ready = buffer;
        }
    }

    /// Give back memory that an idle connection does not need.
    pub fn rest(&mut self) {
        if self.staged.capacity() > IDLE_CAPACITY_MAX {
            self.staged = Vec::new();
        }
        if self.waiting.capacity() > 64 {
            self.waiting = VecDeque::new();
        }
    }
}
