//! One shard's state: log, memtable, and those who wait. Whoever holds it runs the shard: its own core's tasks, or a
//! calling thread while it is idle. It is `Send` and leans on no thread-local.
//!
//! Guards: records are appended, applied and answered in one order; what is answered is visible, and what is visible is
//! durable at the level its writer asked for, as is everything before it.
//! Does not: perform I/O, or call replies (they are handed out, to be called without the lock).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::cover::Cover;
use super::ephemeral::{Ephemerals, names_owners};
use super::gate::{Gate, GateNews};
use super::line::{Need, Waiter};
use super::lock_request::LockRequest;
use super::locking::Locks;
use super::memtables::SealedMemtable;
use super::request::{Program, Reply, Request};
use super::stages::{self, SAMPLED, Stages};
use super::tx::{Tx, TxPart, TxWorld, TxWrite, ops};
use super::view::ShardView;
use crate::error::{Error, Poisoned, Result, Stage};
use crate::format::block::Op;
use crate::format::ephemeral::EPHEMERALS;
use crate::format::fate::FATES;
use crate::format::record::{self, Joined, OpRef};
use crate::ids::{CommitTs, Keyspace, Lsn, ShardId};
use crate::options::Durability;
use crate::ring::Ring;
use crate::runtime::Clock;
use crate::table::read_state::ReadState;
use crate::table::table_set::TableSet;
use crate::table::{MemWriter, NewVersion, Order, insert_all};
use crate::txn::TxError;
use crate::txn::key_locks::{Grant, KeyLocks, TxNumber};
use crate::txn::timestamps::Timestamps;
use crate::wal::flush::FlushError;
use crate::wal::{Appended, FlushPlan, Log, Next, Refused, Room};
use crate::watch::feed::Feed;
use crate::watch::hub::Hub;
use crate::write_batch::WriteBatch;

/// A record written without durability is handed to the kernel at the latest after this time.
const IDLE_WRITE_NS: u64 = 1_000_000_000;
/// A part that another shard's record carries is made durable here at the latest after this time: so much of other logs' ends an opening may
/// have to look at.
const RIDE_NS: u64 = 10_000_000;

/// How a shard's part of a commit becomes durable.
pub(super) enum PartWay<'a> {
    Own(Durability),
    /// By the record of another shard, which carries it.
    Rides(&'a Arc<Gate>),
}

/// Writes that were decided upon.
pub(super) struct Step {
    writes: Writes,
    level: Durability,
    reply: Reply,
}

/// Each key once.
enum Writes {
    Program(BTreeMap<(Keyspace, Vec<u8>), TxWrite>),
    Batch(WriteBatch),
}

/// Why a write was not done.
pub(super) enum Unwritten {
    /// It has to wait for a flush, a segment or a checkpoint of this shard.
    Later(ShardId),
    Never(Error),
}

/// What waits for room in the log; nothing else is executed before it.
pub(super) enum Stalled {
    Commit(Step),
    Lock(LockRequest),
    /// Nobody: the room is for a step over several shards, which comes back for it.
    Room {
        len: usize,
        room: Room,
    },
}

/// What one step of the shard wants done once its lock is free.
#[derive(Default)]
pub struct Outbox {
    pub replies: Vec<(Reply, Result<CommitTs>)>,
    /// The flusher must look again: a deadline was set.
    pub kick_flusher: bool,
    /// The shard stopped: what waits in its inbox is refused.
    pub kick_pump: bool,
    /// Background work appeared: a memtable to write, a segment to make.
    pub kick_background: bool,
    /// Something of the locks is due earlier than before.
    pub kick_locks: bool,
    pub gates: GateNews,
}

impl Outbox {
    /// Call everyone who was answered.
    pub fn deliver(self) {
        for (reply, result) in self.replies {
            reply(result);
        }
    }
}

pub struct ShardCore {
    pub(super) view: Arc<ShardView>,
    pub(super) log: Log,
    pub(super) memory: MemWriter,
    /// Where the log had come to when it was begun.
    pub(super) memory_from: Lsn,
    pub(super) sealed: VecDeque<SealedMemtable>,
    pub(super) tables: Arc<TableSet>,
    pub(super) waiters: VecDeque<Waiter>,
    /// How far the checkpoint under way has come; see [`Progress`].
    pub(super) checkpoint_parts: u32,
    pub(super) stalled: Option<Stalled>,
    pub(super) checkpoint_waiters: Vec<(Lsn, Reply)>,
    /// Why the last checkpoints failed; none once one succeeds.
    pub(super) no_tables: Option<Error>,
    pub(super) outbox: Outbox,
    pub(super) locks: Locks,
    key_locks: KeyLocks,
    pub(super) ephemerals: Ephemerals,
    pub(super) cover: Cover,
    /// While anybody watches.
    pub(super) feed: Option<Box<Feed>>,
    pub(super) order: Order,
    closing: bool,
    pub(super) memtable_bytes: u64,
    timestamps: Arc<Timestamps>,
    ring: Arc<Ring>,
    pub(super) clock: Arc<dyn Clock>,
    pub counters: Counters,
    pub stages: Stages,
}

/// What a shard did, for `stat` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub writes: u64,
    pub write_bytes: u64,
    pub flushes: u64,
    pub flushed_bytes: u64,
    pub checkpoints: u64,
    pub merges: u64,
    pub stalls: u64,
}

/// What a core is made of.
pub struct CoreParts {
    pub view: Arc<ShardView>,
    pub log: Log,
    pub memory: MemWriter,
    pub sealed: VecDeque<SealedMemtable>,
    pub tables: Arc<TableSet>,
    pub memtable_bytes: u64,
    pub timestamps: Arc<Timestamps>,
    pub ring: Arc<Ring>,
    pub clock: Arc<dyn Clock>,
    pub locks: Locks,
    pub ephemerals: Ephemerals,
    pub cover: Cover,
}

impl ShardCore {
    pub fn new(parts: CoreParts) -> ShardCore {
        let CoreParts { view, log, memory, sealed, tables, memtable_bytes, .. } = parts;
        let CoreParts { timestamps, ring, clock, locks, ephemerals, cover, .. } = parts;
        let memory_from = sealed.back().map_or(log.marks().applied(), |last| last.end);
        let mut core = ShardCore {
            view,
            log,
            memory,
            memory_from,
            sealed,
            tables,
            waiters: VecDeque::new(),
            checkpoint_parts: 0,
            stalled: None,
            checkpoint_waiters: Vec::new(),
            no_tables: None,
            outbox: Outbox::default(),
            locks,
            key_locks: KeyLocks::default(),
            ephemerals,
            cover,
            feed: None,
            order: Order::Deferred,
            closing: false,
            memtable_bytes,
            timestamps,
            ring,
            clock,
            counters: Counters::default(),
            stages: Stages::default(),
        };
        core.publish();
        // What the opening found is settled.
        core.log.settle(core.view.visible());
        core
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn timestamps(&self) -> &Timestamps {
        &self.timestamps
    }

    /// What a step sees of this shard.
    pub(super) fn tx_part<'a>(&'a self, state: &'a ReadState) -> TxPart<'a> {
        TxPart { shard: self.view.id, state, locks: &self.key_locks, ephemerals: &self.ephemerals }
    }

    /// What a step sees beside its shards.
    pub(super) fn tx_world(&self) -> TxWorld<'_> {
        TxWorld { ring: &self.ring, clock: &*self.clock, sessions: self.locks.sessions(), timestamps: &self.timestamps }
    }

    /// A transaction ended: whoever waits for its keys is told.
    pub(crate) fn end_key_locks(&mut self, number: TxNumber) {
        let granted = self.key_locks.end(number);
        self.grant_keys(granted);
    }

    /// Holders of keys whose time is over give way; says when the next is due.
    pub(super) fn tick_key_locks(&mut self, now_ms: u64) -> Option<u64> {
        let granted = self.key_locks.expire(now_ms);
        self.grant_keys(granted);
        self.key_locks.next_due_ms()
    }

    /// Nobody's turn comes any more.
    pub(super) fn refuse_key_waits(&mut self, error: &Error) {
        for reply in self.key_locks.take_waits() {
            self.outbox.replies.push((plain_reply(reply), Err(error.clone())));
        }
    }

    fn grant_keys(&mut self, granted: Vec<Grant>) {
        for Grant { key: (keyspace, key), reply } in granted {
            // What they are about to read must be what came before.
            let changed = self.view.latest().0.changed_in_memory(keyspace, &key);
            self.wait_behind(changed, plain_reply(reply));
        }
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// What is to be done after the lock is released.
    pub fn take_outbox(&mut self) -> Outbox {
        std::mem::take(&mut self.outbox)
    }

    /// Whether the next request may be executed, or refused for good. If not, it stays in the inbox until a flush or a checkpoint
    /// ends; a shard that stopped has none to come.
    pub fn accepts(&mut self) -> bool {
        if self.stalled.is_some() {
            self.retry_stalled();
        }
        // While tables cannot be written, or once the shard has stopped, waiting would have no end: each request is executed, and
        // refused if it needs room.
        let no_wait = self.no_tables.is_some() || self.refusal().is_some();
        self.stalled.is_none() && (!self.memory_is_full() || no_wait)
    }

    /// Execute one request. The only place that tells kinds of requests apart.
    pub fn execute(&mut self, request: Request) {
        if let Some(error) = self.refusal() {
            return request.refuse(error);
        }
        match request {
            Request::Write { batch, level, reply } => {
                let reply = Box::new(move |result| reply.complete(result));
                self.commit(Step { writes: Writes::Batch(batch), level, reply });
            }
            Request::Run { program, level } => self.run(program, level),
            Request::Fence { reply } => self.wait(Need::Nothing, None, plain_reply(reply)),
            Request::Sync { reply } => {
                let end = self.log.marks().appended();
                self.log.want_durable(end);
                self.wait(Need::Durable(end), None, plain_reply(reply));
            }
            Request::KeepOrder { reply } => {
                self.keep_order();
                reply.complete(Ok(()));
            }
            Request::Checkpoint { reply } => self.checkpoint(plain_reply(reply)),
            Request::Lock(request) => self.lock(request),
            Request::KeepKey { life, reply, .. } if life.has_ended() => {
                let ended = Error::Tx(TxError::Ended { how: "it ended while it waited for a key" });
                self.outbox.replies.push((plain_reply(reply), Err(ended)));
            }
            Request::KeepKey { keyspace, key, life, reply } => {
                let granted = self.key_locks.acquire(keyspace, &key, &life, reply);
                // Who waits must be looked after when the holder's time is over.
                self.outbox.kick_locks |= granted.is_empty();
                self.grant_keys(granted);
            }
        }
    }

    pub(super) fn refusal(&self) -> Option<Error> {
        self.view.poisoned().or_else(|| self.closing.then_some(Error::Closed))
    }

    fn run(&mut self, program: Box<dyn Program>, level: Durability) {
        let (state, _) = self.view.latest();
        let parts = [self.tx_part(&state)];
        let mut tx = Tx::new(&parts, self.tx_world());
        let reply = program.run(&mut tx);
        let writes = tx.writes;
        if writes.is_empty() {
            // It may have read what is not durable yet: its answer comes after theirs.
            self.wait(Need::Nothing, None, reply);
        } else {
            self.commit(Step { writes: Writes::Program(writes), level, reply });
        }
    }

    /// Append, apply, and answer when due; or keep for later if the log has no room now.
    fn commit(&mut self, step: Step) {
        let written = match &step.writes {
            Writes::Program(writes) => self.write(ops(writes), step.level),
            Writes::Batch(batch) => self.write(batch.ops(), step.level),
        };
        match written {
            Ok((commit, need)) => self.wait(need, Some(commit), step.reply),
            Err(Unwritten::Later(_)) => self.stall(Stalled::Commit(step)),
            Err(Unwritten::Never(error)) => {
                self.outbox.replies.push((step.reply, Err(error)));
                self.outbox.kick_background = true;
            }
        }
    }

    /// Keep something until the log has room.
    pub(super) fn stall(&mut self, what: Stalled) {
        self.counters.stalls += 1;
        self.stalled = Some(what);
        self.outbox.kick_background = true;
        self.outbox.kick_flusher = true;
    }

    fn retry_stalled(&mut self) {
        match (self.stalled.take(), self.view.poisoned()) {
            (Some(stalled), Some(error)) => self.refuse_stalled(stalled, error),
            (Some(Stalled::Commit(step)), None) => self.commit(step),
            (Some(Stalled::Lock(request)), None) => self.lock(request),
            (Some(Stalled::Room { len, room }), None) => {
                if let Err(Unwritten::Later(_)) = self.check_room(len, room) {
                    self.stall(Stalled::Room { len, room });
                }
            }
            (None, _) => {}
        }
    }

    pub(super) fn refuse_stalled(&mut self, stalled: Stalled, error: Error) {
        let reply = match stalled {
            Stalled::Room { .. } => return,
            Stalled::Commit(step) => step.reply,
            Stalled::Lock(request) => Box::new(move |done: Result<CommitTs>| {
                request.refuse(done.err().unwrap_or(Error::Closed));
            }),
        };
        self.outbox.replies.push((reply, Err(error)));
    }

    /// Write borrowed ops at once, for a caller that holds the shard and found that it [`ShardCore::accepts`]. Gives the commit if
    /// that is all; else the reply is called when it is. `Err` gives nothing back because nothing was taken.
    pub fn write_now<'a>(
        &mut self,
        ops: impl Iterator<Item = OpRef<'a>> + Clone,
        level: Durability,
        reply: impl FnOnce() -> Reply,
    ) -> std::result::Result<Option<CommitTs>, Option<Error>> {
        if let Some(error) = self.refusal() {
            return Err(Some(error));
        }
        match self.write(ops, level) {
            // Nobody stands in line before it, and it waits for nothing.
            Ok((commit, Need::Nothing)) if self.waiters.is_empty() => {
                self.show_now(commit);
                Ok(Some(commit))
            }
            Ok((commit, need)) => {
                self.wait(need, Some(commit), reply());
                Ok(None)
            }
            Err(Unwritten::Later(_)) => {
                self.outbox.kick_background = true;
                self.outbox.kick_flusher = true;
                Err(None)
            }
            Err(Unwritten::Never(error)) => {
                self.outbox.kick_background = true;
                Err(Some(error))
            }
        }
    }

    /// One record into the log and the memtable, with what it means for ephemeral keys.
    pub(super) fn write<'a>(
        &mut self,
        ops: impl Iterator<Item = OpRef<'a>> + Clone,
        level: Durability,
    ) -> std::result::Result<(CommitTs, Need), Unwritten> {
        if self.ephemerals.is_empty() && !names_owners(ops.clone()) {
            return self.write_record(ops, level);
        }
        let released = self.ephemerals.released_by(ops.clone());
        let entries = released.iter().map(|entry| OpRef { keyspace: EPHEMERALS, key: entry, change: Op::Delete });
        let ops = ops.map(lent).chain(entries);
        let written = self.write_record(ops.clone(), level)?;
        self.ephemerals.follow(ops);
        Ok(written)
    }

    fn write_record<'a>(
        &mut self,
        ops: impl Iterator<Item = OpRef<'a>> + Clone,
        level: Durability,
    ) -> std::result::Result<(CommitTs, Need), Unwritten> {
        let room = room_of(ops.clone());
        self.check_memory(room)?;
        let began_ns = self.counters.writes.is_multiple_of(SAMPLED).then(|| self.clock.monotonic_ns());
        let len = record::encoded_len(Joined::ALONE, ops.clone());
        let (timestamps, in_flight) = (&self.timestamps, &self.view.in_flight);
        let mut commit = CommitTs::ZERO;
        let appended = self.log.append(len, room, |out| {
            commit = timestamps.draw(in_flight);
            record::encode(out, commit, Joined::ALONE, ops.clone());
        });
        let appended = appended.map_err(|refused| self.unwritten(refused))?;
        self.cover.appended(commit);
        let need = self.enter(commit, appended, len, ops, level);
        if let Some(began_ns) = began_ns {
            self.stages.record(stages::Stage::Appended, self.clock.monotonic_ns().saturating_sub(began_ns));
        }
        Ok((commit, need))
    }

    /// This shard's part of a commit, for which there is room.
    pub(super) fn write_part<'a>(
        &mut self,
        commit: CommitTs,
        joined: Joined<'_>,
        ops: impl Iterator<Item = OpRef<'a>> + Clone,
        way: PartWay<'_>,
        room: Room,
        len: usize,
    ) -> Need {
        let appended = self.log.append(len, room, |out| record::encode(out, commit, joined, ops.clone()));
        let appended = appended.expect("room was found, and nobody came between");
        // It may leave no version, and yet the log is trimmed behind it.
        self.memory.note(commit);
        self.ephemerals.follow(ops.clone());
        self.apply(commit, len, ops);
        match way {
            PartWay::Own(level) => {
                self.cover.appended(commit);
                self.need(appended, level)
            }
            PartWay::Rides(gate) => {
                self.cover.rides(commit, appended.end, gate);
                if !self.log.sync_is_due() {
                    self.outbox.kick_flusher |= self.log.sync_by(self.clock.monotonic_ns() + RIDE_NS);
                }
                // What comes behind it on the stage is found after a killed process only if this is.
                if appended.staged { Need::Nothing } else { Need::Written(appended.end) }
            }
        }
    }

    /// What was appended goes into memory. Says what it waits for.
    fn enter<'a>(
        &mut self,
        commit: CommitTs,
        appended: Appended,
        len: usize,
        ops: impl Iterator<Item = OpRef<'a>> + Clone,
        level: Durability,
    ) -> Need {
        self.apply(commit, len, ops);
        self.need(appended, level)
    }

    fn apply<'a>(&mut self, commit: CommitTs, len: usize, ops: impl Iterator<Item = OpRef<'a>> + Clone) {
        if let Some(feed) = &mut self.feed {
            feed.note(commit, ops.clone());
        }
        insert_all(&mut self.memory, ops.map(|op| (op.keyspace, op.key, NewVersion { ts: commit, op: op.change })));
        self.counters.writes += 1;
        self.counters.write_bytes += len as u64;
    }

    fn need(&mut self, appended: Appended, level: Durability) -> Need {
        let need = match level {
            Durability::Sync => {
                self.log.want_durable(appended.end);
                return Need::Durable(appended.end);
            }
            Durability::Interval(time) => {
                let due = self.clock.monotonic_ns() + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
                self.outbox.kick_flusher |= self.log.sync_by(due);
                Need::Nothing
            }
            Durability::None => {
                // The clock is read only when no write is due yet.
                if !self.log.write_is_due() {
                    self.log.write_by(self.clock.monotonic_ns() + IDLE_WRITE_NS);
                    self.outbox.kick_flusher = true;
                }
                Need::Nothing
            }
        };
        self.cover.is_weak_to(appended.end);
        // Off the stage only a completed write outlives the process.
        if appended.staged { need } else { Need::Written(appended.end) }
    }

    fn unwritten(&self, refused: Refused) -> Unwritten {
        match (refused, self.log.no_spare()) {
            (Refused::NoSegment, Some(why)) => Unwritten::Never(self.shown_to_writers(why)),
            (Refused::NoSegment, None) | (Refused::Full, _) => Unwritten::Later(self.view.id),
        }
    }

    /// Whether a record of `len` bytes would be written now.
    pub(super) fn check_room(&mut self, len: usize, room: Room) -> std::result::Result<(), Unwritten> {
        self.check_memory(room)?;
        self.log.can_append(len, room).map_err(|refused| self.unwritten(refused))
    }

    /// Whether a part of a commit may ride on another shard's record.
    pub(super) fn may_ride(&self) -> bool {
        self.cover.may_ride(self.log.marks())
    }

    pub(super) fn last_commit(&self) -> CommitTs {
        self.cover.last()
    }

    /// The first commit up to `upto` that some log lacks its own part of.
    pub fn first_unsettled(&mut self, upto: CommitTs) -> Option<Arc<Gate>> {
        self.cover.first_unsettled(upto)
    }

    /// Make everything durable, though nobody waits for it.
    pub fn sync_soon(&mut self) {
        self.log.want_durable(self.log.marks().appended());
        self.outbox.kick_flusher = true;
    }

    /// The next flush, if there is something to write or sync.
    pub fn begin_flush(&mut self) -> Next {
        if self.view.poisoned().is_some() {
            self.refuse_waiters();
            return Next::Idle { until_ns: None };
        }
        // Without a deadline the time does not matter, and reading it costs.
        let now = if self.log.has_deadline() { self.clock.monotonic_ns() } else { 0 };
        if self.cover.has_unsettled() {
            self.settle();
        }
        let next = self.log.begin(now);
        if matches!(next, Next::Flush(_)) {
            self.stages.flush_begins(self.clock.monotonic_ns());
        }
        next
    }

    /// A flush ended; answers those it served. Ends the shard for good if it failed.
    pub fn finish_flush(&mut self, outcome: std::result::Result<FlushPlan, FlushError>) {
        match outcome {
            Ok(plan) => {
                self.counters.flushes += 1;
                self.stages.flush_ends(self.clock.monotonic_ns());
                self.counters.flushed_bytes += plan.write.as_ref().map_or(0, |write| write.batch_len as u64);
                let rolled = plan.roll.is_some();
                self.log.finish(plan);
                self.cover.durable(self.log.marks().durable());
                self.outbox.kick_background |= rolled;
                self.release();
                // A slot or room in a segment may be what it waited for; nobody else would look.
                self.retry_stalled();
                self.serve_unserved();
                self.tick_missed();
            }
            Err(error) => {
                self.log.failed();
                self.poison(error.stage, error.to_string());
            }
        }
    }

    /// Stop for good: nobody who waits is acknowledged, nothing is written any more.
    pub fn poison(&mut self, stage: Stage, cause: String) {
        tracing::error!(shard = self.view.id.0, %stage, cause, "the shard stops");
        self.view.poison(Arc::new(Poisoned { shard: self.view.id, stage, cause }));
        self.outbox.kick_pump = true;
        self.refuse_waiters();
    }

    /// From now on what is committed is shown to the hub.
    pub fn begin_feed(&mut self, hub: &Arc<Hub>, round: u64) {
        match &mut self.feed {
            Some(feed) => feed.round = feed.round.max(round),
            None => self.feed = Some(Box::new(Feed::new(Arc::clone(hub), self.view.id, round))),
        }
    }

    /// Nobody watches who entered in this round or before.
    pub fn end_feed(&mut self, round: u64) {
        self.feed.take_if(|feed| feed.round <= round);
    }

    /// Refuse all further requests, those who wait for a lock, and the one that still waits for room: nobody will look whether
    /// there is some.
    pub fn begin_closing(&mut self) {
        self.closing = true;
        self.refuse_line(&Error::Closed);
        self.refuse_key_waits(&Error::Closed);
        if let Some(stalled) = self.stalled.take() {
            self.refuse_stalled(stalled, Error::Closed);
        }
    }

    /// Whether a waiting thread would find a flush to perform.
    pub fn wants_flush(&self) -> bool {
        self.log.wants_flush() && self.view.poisoned().is_none()
    }
}

/// What a write may use: deletes, with the trace of their transaction, make room, and are taken when nothing else is.
pub(super) fn room_of<'a>(mut ops: impl Iterator<Item = OpRef<'a>>) -> Room {
    let frees = ops.all(|op| matches!(op.change, Op::Delete) || op.keyspace == FATES);
    if frees { Room::Reserve } else { Room::Ordinary }
}

/// An op lent for a shorter time, beside others that live no longer.
fn lent<'b, 'a: 'b>(op: OpRef<'a>) -> OpRef<'b> {
    op
}

fn plain_reply(reply: crate::pending::Completer<()>) -> Reply {
    Box::new(move |result| reply.complete(result.map(|_| ())))
}
