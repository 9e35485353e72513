//! The tasks of a shard's core: the pump executes what came through the inbox, the flusher writes the log, the spare keeper
//! has the next segment ready, the checkpointer turns sealed memtables into tables, the merger keeps tables few.
//!
//! Guards: each of them can stop at any await and the database is whole (what it had given away off the core by then is done all the same, before
//! the shard's end is told); what they do is begun by events and repeated after failures that may pass (a full disk), so that no event is
//! needed twice.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

use super::core::ShardCore;
use super::handle::ShardHandle;
use super::keeper::Keeper;
use super::memtables::LOG_SEGMENTS;
use crate::error::{Error, Result, Stage};
use crate::ids::CommitTs;
use crate::pending::pending;
use crate::root::Root;
use crate::runtime::{Clock, Executor, off_core};
use crate::table::Progress;
use crate::txn::timestamps::Timestamps;
use crate::wal::{Next, Segment, Spare, flush};

/// Requests executed before other tasks of the core get their turn.
const PUMP_BURST: usize = 256;
/// Trimmed segments kept for later use beside the spare: as many as a checkpoint of a long log gives back.
const RETIRED_MAX: usize = LOG_SEGMENTS as usize;
/// After a failure that may pass, such as a full disk.
const RETRY: Duration = Duration::from_millis(500);

/// Everything a shard's tasks share.
pub struct ShardTasks {
    pub handle: Arc<ShardHandle>,
    pub executor: Rc<dyn Executor>,
    pub clock: Arc<dyn Clock>,
    pub keeper: Keeper,
    pub reserve: Reserve,
    /// Trimmed segments whose files may be used again.
    pub retired: RefCell<VecDeque<Segment>>,
}

/// The reservation of commit numbers, which checkpoints keep ahead of those given out.
pub struct Reserve {
    pub root: Arc<Root>,
    pub timestamps: Arc<Timestamps>,
}

impl ShardTasks {
    /// At the end: files kept for later use are of none any more.
    pub fn remove_retired(&self) {
        self.keeper.remove_retired();
        let dir = self.handle.with_core(|core| core.log().dir().clone());
        for old in self.retired.borrow_mut().drain(..) {
            if let Err(error) = dir.recycle(old, None) {
                tracing::warn!(shard = self.handle.view.id.0, %error, "cannot remove a trimmed segment; the next opening will");
            }
        }
    }
}

pub async fn pump(tasks: Rc<ShardTasks>) {
    loop {
        tasks.handle.pump().wait().await;
        loop {
            let executed = tasks.handle.drain_inbox(PUMP_BURST);
            // What was executed from the inbox has nobody who helps.
            crate::pending::Helper::kick(&*tasks.handle);
            if executed == 0 || tasks.handle.inbox_is_empty() {
                break;
            }
            tasks.executor.yield_now().await;
        }
    }
}

/// Ends leases and waits whose time is over.
pub async fn lock_keeper(tasks: Rc<ShardTasks>) {
    let handle = &tasks.handle;
    loop {
        let next_ms = handle.with_core(ShardCore::tick_locks);
        // What was removed or granted is written by whoever has time.
        crate::pending::Helper::kick(&**handle);
        match next_ms {
            None => handle.locks.wait().await,
            Some(at_ms) => {
                let left_ns = (at_ms * 1_000_000).saturating_sub(tasks.clock.monotonic_ns());
                or(handle.locks.wait(), tasks.executor.sleep(Duration::from_nanos(left_ns))).await;
            }
        }
    }
}

pub async fn flusher(tasks: Rc<ShardTasks>) {
    let handle = &tasks.handle;
    loop {
        let (next, waiting) = handle.with_core(|core| (core.begin_flush(), core.waiting()));
        match next {
            Next::Flush(plan) => {
                let outcome = flush::perform(&tasks.executor, &*tasks.clock, plan, waiting).await;
                handle.finish_flush(outcome);
                // Let those who were answered write again before the next batch leaves.
                tasks.executor.yield_now().await;
            }
            Next::Idle { until_ns: None } => handle.flush.wait().await,
            Next::Idle { until_ns: Some(until) } => {
                let left = Duration::from_nanos(until.saturating_sub(tasks.clock.monotonic_ns()));
                or(handle.flush.wait(), tasks.executor.sleep(left)).await;
            }
            Next::NeedsSpare => {
                handle.spare.set();
                or(handle.flush.wait(), tasks.executor.sleep(RETRY)).await;
            }
        }
    }
}

/// How often a checkpoint looks whether the other shards of its commits have made their parts durable.
const SETTLE: Duration = Duration::from_millis(1);

/// Attempts at a spare or a checkpoint that fail with anything but a full disk before writes are refused: they need not see a
/// failure that passes.
const ATTEMPTS: u32 = 3;

/// The only one by whose order segment files are made, renamed or removed while the shard serves.
pub async fn spare_keeper(tasks: Rc<ShardTasks>) {
    let handle = &tasks.handle;
    let mut failures = 0;
    loop {
        let wanted = handle.with_core(|core| core.log().spare_wanted());
        let too_many = tasks.retired.borrow().len() > RETIRED_MAX;
        let retired = if wanted.is_some() || too_many { tasks.retired.borrow_mut().pop_front() } else { None };
        let dir = handle.with_core(|core| core.log().dir().clone());
        let made = match (wanted, retired) {
            (None, None) => {
                handle.spare.wait().await;
                continue;
            }
            (wanted, Some(old)) => {
                let sequence = wanted.filter(|(_, bytes)| old.file_bytes() > *bytes).map(|(sequence, _)| sequence);
                off_core(&*tasks.executor, move || dir.recycle(old, sequence)).await
            }
            (Some((sequence, bytes)), None) => dir.make_spare(&tasks.executor, sequence, bytes).await.map(Some),
        };
        match made {
            Ok(Some(spare)) => {
                failures = 0;
                install_spare(&tasks, spare);
            }
            // A file that was no longer wanted is gone.
            Ok(None) => {}
            Err(error) => {
                failures += 1;
                tracing::warn!(shard = handle.view.id.0, %error, "cannot prepare a log segment; will try again");
                if error.is_no_space() || failures >= ATTEMPTS {
                    handle.with_core(|core| core.log_mut().cannot_make_spare(error));
                    handle.pump().set();
                }
                tasks.executor.sleep(RETRY).await;
            }
        }
    }
}

fn install_spare(tasks: &ShardTasks, spare: Spare) {
    let too_small = tasks.handle.with_core(|core| core.log_mut().set_spare(spare));
    if let Some(small) = too_small {
        let path = small.file.path().to_path_buf();
        if let Err(error) = tasks.handle.with_core(|core| core.log().dir().discard(small)) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a segment that was never used");
        }
    }
    tasks.handle.flush.set();
    tasks.handle.pump().set();
}

pub async fn checkpointer(tasks: Rc<ShardTasks>) {
    let handle = &tasks.handle;
    let mut failures = 0;
    loop {
        match checkpoint_once(&tasks).await {
            Ok(true) => {
                failures = 0;
                handle.merge.set();
            }
            Ok(false) => rest(&tasks).await,
            Err(Error::Poisoned(_)) => handle.checkpoint.wait().await,
            Err(error) => {
                tracing::warn!(shard = handle.view.id.0, %error, "a checkpoint failed; will try again");
                handle.with_core(|core| core.checkpoint_failed(&error));
                failures += 1;
                if error.is_no_space() || failures >= ATTEMPTS {
                    handle.with_core(|core| core.cannot_write_tables(error));
                    handle.pump().set();
                }
                tasks.executor.sleep(RETRY).await;
            }
        }
    }
}

/// Memory of memtables that are gone is kept so long for others to come.
const MEMORY_KEPT: Duration = Duration::from_secs(10);

/// Until there may be something to write. When that takes long, memory kept for it is given back.
async fn rest(tasks: &ShardTasks) {
    let handle = &tasks.handle;
    let memory = handle.with_core(|core| core.memory_kept());
    if memory.is_busy() {
        let woken = async {
            handle.checkpoint.wait().await;
            true
        };
        let rested = async {
            tasks.executor.sleep(MEMORY_KEPT).await;
            false
        };
        if or(woken, rested).await {
            return;
        }
        while memory.rest() {
            tasks.executor.yield_now().await;
        }
    }
    handle.checkpoint.wait().await;
}

/// Write the sealed memtables as one run of tables and trim the log. `false`: there was none.
async fn checkpoint_once(tasks: &ShardTasks) -> Result<bool> {
    let handle = &tasks.handle;
    let sealed = handle.with_core(|core| core.checkpoint_candidates());
    let Some(end) = sealed.last().map(|last| last.end) else { return Ok(false) };
    // Tables hold only what the log cannot lose any more.
    let (completer, durable) = pending(None);
    handle.with_core(|core| core.when_durable(end, Box::new(move |result| completer.complete(result))));
    durable.await?;
    let newest = sealed.iter().map(|last| last.memtable.max_ts()).max().unwrap_or(CommitTs::ZERO);
    settle(tasks, newest).await?;
    let (root, last) = (Arc::clone(&tasks.reserve.root), tasks.reserve.timestamps.last());
    off_core(&*tasks.executor, move || root.reserve_ahead_of(last)).await?;
    let memtables: Vec<_> = sealed.iter().rev().map(|s| Arc::clone(&s.memtable)).collect();
    let tell = |parts| handle.with_core(|core| core.checkpoint_came_to(parts));
    let progress = Progress::new(&memtables, &tell);
    let written = tasks.keeper.write_checkpoint(&tasks.executor, &memtables, end, &progress).await;
    let tables = written.inspect_err(|error| {
        stop_if_final(handle, error);
    })?;
    let trimmed = handle.with_core(|core| core.checkpointed(sealed.len(), end, tables));
    tasks.retired.borrow_mut().extend(trimmed);
    handle.spare.set();
    handle.pump().set();
    Ok(true)
}

/// Until every shard has its own part of each commit up to `upto` durable: this log, which may carry them, is trimmed behind that. A shard
/// whose commits cannot be settled any more stops.
async fn settle(tasks: &ShardTasks, upto: CommitTs) -> Result<()> {
    let handle = &tasks.handle;
    while let Some(gate) = handle.with_core(|core| core.first_unsettled(upto)) {
        for shard in gate.carried() {
            if shard.view.poisoned().is_some() {
                let cause =
                    format!("shard {} stopped before its part of commit {} was durable", shard.view.id, gate.commit());
                handle.with_core(|core| core.poison(Stage::Checkpoint, cause));
            } else {
                shard.with_core(ShardCore::sync_soon);
            }
        }
        if let Some(error) = handle.view.poisoned() {
            return Err(error);
        }
        tasks.executor.sleep(SETTLE).await;
    }
    Ok(())
}

/// A manifest whose state on disk is not known stops the shard.
fn stop_if_final(handle: &ShardHandle, error: &Error) {
    if let Error::Io { op: "sync", .. } = error {
        handle.with_core(|core| core.poison(Stage::Checkpoint, error.to_string()));
    }
}

pub async fn merger(tasks: Rc<ShardTasks>) {
    let handle = &tasks.handle;
    loop {
        match tasks.keeper.merge_once(&tasks.executor).await {
            Ok(Some(tables)) => {
                handle.with_core(|core| core.merged(tables));
                handle.removal.set();
            }
            Ok(None) => handle.merge.wait().await,
            Err(error) => {
                stop_if_final(handle, &error);
                tracing::warn!(shard = handle.view.id.0, %error, "a merge of tables failed; will try again");
                or(handle.merge.wait(), tasks.executor.sleep(RETRY)).await;
                tasks.executor.sleep(RETRY).await;
            }
        }
    }
}

/// Removes merged tables once nobody reads them. It takes its time, and no merge waits for it.
pub async fn remover(tasks: Rc<ShardTasks>) {
    let handle = &tasks.handle;
    loop {
        let some_are_read = tasks.keeper.remove_unread(&tasks.executor).await;
        if some_are_read {
            or(handle.removal.wait(), tasks.executor.sleep(RETRY)).await;
        } else {
            handle.removal.wait().await;
        }
    }
}
