//! The life of a shard's thread: read back, take orders while the engine opens, serve, end.
//!
//! Guards: a shard ends only after everything it answered is durable (unless it was poisoned), and says how it ended.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::background::{Reserve, ShardTasks, checkpointer, flusher, lock_keeper, merger, pump, remover, spare_keeper};
use super::core::{CoreParts, ShardCore};
use super::cover::Cover;
use super::handle::ShardHandle;
use super::memtables::SealedMemtable;
use super::recover::{Home, Offline, ShardReport, recover_shard};
use super::replay::Replay;
use super::view::ShardView;
use crate::error::{Error, Result, Stage};
use crate::format::hold::StoredSession;
use crate::ids::{CommitTs, Life, SessionId, ShardId};
use crate::lock::sessions::Sessions;
use crate::mailbox::Mailbox;
use crate::pending::{Completer, pending};
use crate::reshard::{MoveOrder, Moved, Settled};
use crate::ring::Ring;
use crate::root::Root;
use crate::runtime::{Clock, Executor, LocalFuture, ShardMain, TaskClass};
use crate::table::read_state::ReadState;
use crate::txn::fate::{Unsettled, Verdict};
use crate::txn::owed::Owed;
use crate::txn::snapshots::Snapshots;
use crate::txn::timestamps::Timestamps;
use crate::wal::Log;
use crate::wal::stage::{SLOTS, stage_bytes};

/// What a shard is told while the engine opens.
pub enum Order {
    /// What the end of the log is worth. Comes first of all.
    Decide {
        verdict: Verdict,
        life: Life,
        reply: Completer<()>,
    },
    /// Write everything as tables that hold only keys of the ring in force.
    Settle(Completer<Settled>),
    /// Copy keys that another ring gives to other shards into files of those shards.
    MoveOut(MoveOrder, Completer<Moved>),
    /// Name files that others wrote for this shard, and cover every commit up to the one given.
    TakeIn(Vec<Vec<crate::format::manifest::TableMeta>>, CommitTs, Completer<()>),
    /// Tell the sessions that are this shard's by the ring given.
    Sessions(Arc<Ring>, Completer<Vec<(SessionId, CommitTs, StoredSession)>>),
    Serve(ServeOrder, Completer<Arc<ShardHandle>>),
    /// End without serving.
    Leave,
}

/// What a shard needs to serve.
pub struct ServeOrder {
    pub life: Life,
    pub ring: Arc<Ring>,
    pub ring_version: u64,
    pub timestamps: Arc<Timestamps>,
    pub snapshots: Arc<Snapshots>,
    pub sessions: Arc<Sessions>,
    pub root: Arc<Root>,
    pub visible: CommitTs,
}

/// What a shard says when it was read back.
pub struct Opened {
    pub report: ShardReport,
    pub max_commit: CommitTs,
    pub unsettled: Unsettled,
    pub owed: Owed,
    /// The first file number that nobody uses.
    pub next_file: u64,
}

/// A task for a shard's thread.
pub type SpawnTask = Box<dyn FnOnce(Rc<dyn Executor>) -> LocalFuture<'static, ()> + Send>;

/// The ends of a shard's thread that others hold.
pub struct ServiceEnds {
    pub orders: Arc<Mailbox<Order>>,
    pub spawns: Arc<Mailbox<SpawnTask>>,
}

/// The body of a shard's thread. `opened` is answered when it was read back, `ended` when the thread is about to end.
pub fn main(
    home: Home,
    shard: ShardId,
    clock: Arc<dyn Clock>,
    ends: ServiceEnds,
    opened: Completer<Opened>,
    ended: Completer<()>,
) -> ShardMain {
    Box::new(move |executor| {
        Box::pin(async move {
            let result = live(home, shard, clock, ends, opened, executor).await;
            ended.complete(result);
        })
    })
}

async fn live(
    home: Home,
    shard: ShardId,
    clock: Arc<dyn Clock>,
    ends: ServiceEnds,
    opened: Completer<Opened>,
    executor: Rc<dyn Executor>,
) -> Result<()> {
    let mut offline = match recover_shard(&home, shard, Arc::clone(&clock), executor).await {
        Ok(mut offline) => {
            let report = offline.report.clone();
            opened.complete(Ok(Opened {
                report,
                max_commit: offline.replay.undecided.max_commit,
                unsettled: offline.replay.undecided.unsettled(),
                owed: std::mem::take(&mut offline.replay.undecided.owed),
                next_file: offline.keeper.next_file(),
            }));
            offline
        }
        Err(error) => {
            opened.complete(Err(error));
            return Ok(());
        }
    };
    loop {
        match ends.orders.receive().await {
            Order::Decide { verdict, life, reply } => reply.complete(offline.decide(verdict, life).await),
            Order::Settle(reply) => reply.complete(offline.settle().await),
            Order::MoveOut(order, reply) => reply.complete(offline.move_out(&order).await),
            Order::TakeIn(tables, newest, reply) => reply.complete(offline.take_in(tables, newest).await),
            Order::Sessions(ring, reply) => reply.complete(offline.sessions(&ring)),
            Order::Leave => return Ok(()),
            Order::Serve(order, reply) => {
                let (handle, tasks) = match offline.into_tasks(&home, order, clock) {
                    Ok(made) => made,
                    Err(error) => {
                        reply.complete(Err(error));
                        return Ok(());
                    }
                };
                reply.complete(Ok(Arc::clone(&handle)));
                return serve(handle, tasks, ends.spawns).await;
            }
        }
    }
}

async fn serve(handle: Arc<ShardHandle>, tasks: Rc<ShardTasks>, spawns: Arc<Mailbox<SpawnTask>>) -> Result<()> {
    let executor = Rc::clone(&tasks.executor);
    executor.weigh_background(Arc::clone(&handle.view.background_weight));
    executor.spawn(TaskClass::Foreground, Box::pin(pump(Rc::clone(&tasks))));
    executor.spawn(TaskClass::Foreground, Box::pin(flusher(Rc::clone(&tasks))));
    executor.spawn(TaskClass::Foreground, Box::pin(lock_keeper(Rc::clone(&tasks))));
    executor.spawn(TaskClass::Foreground, Box::pin(spare_keeper(Rc::clone(&tasks))));
    executor.spawn(TaskClass::Background, Box::pin(checkpointer(Rc::clone(&tasks))));
    executor.spawn(TaskClass::Background, Box::pin(merger(Rc::clone(&tasks))));
    executor.spawn(TaskClass::Background, Box::pin(remover(Rc::clone(&tasks))));
    let spawner = Rc::clone(&executor);
    executor.spawn(
        TaskClass::Foreground,
        Box::pin(async move {
            loop {
                let task = spawns.receive().await;
                spawner.spawn(TaskClass::Foreground, task(Rc::clone(&spawner)));
            }
        }),
    );
    handle.close.wait().await;
    let ended = end(&handle).await;
    still(&handle, &executor).await;
    executor.finish_off_core().await;
    tasks.remove_retired();
    ended
}

/// How often is looked whether a log is still.
const LOOK: Duration = Duration::from_millis(1);

/// Until no write of this opening can reach the log any more, so that another may begin in this process (what was given away off the core is
/// waited for besides): of a shard that stopped, nobody waits for the write that was under way then.
async fn still(handle: &Arc<ShardHandle>, executor: &Rc<dyn Executor>) {
    while !handle.with_core(|core| core.log_mut().end()) {
        executor.sleep(LOOK).await;
    }
}

/// Make everything durable, then write it as tables, so that the next opening has little to replay.
async fn end(handle: &Arc<ShardHandle>) -> Result<()> {
    let (completer, settled) = pending(None);
    let end = handle.with_core(|core| {
        core.begin_closing();
        core.seal_memtable();
        let end = core.log().marks().appended();
        core.when_durable(end, Box::new(move |result| completer.complete(result)));
        end
    });
    handle.close_inbox();
    handle.flush.set();
    settled.await?;
    let (completer, written) = pending(None);
    handle.with_core(|core| core.when_checkpointed(end, Box::new(move |result| completer.complete(result))));
    handle.checkpoint.set();
    match written.await {
        Ok(_) => Ok(()),
        Err(error @ Error::Poisoned(_)) => Err(error),
        Err(error) => {
            // A full disk, for one. Everything answered is durable in the log, and the next opening replays it.
            tracing::warn!(shard = handle.view.id.0, %error, "closed without writing the log as tables");
            Ok(())
        }
    }
}

impl Offline {
    /// Turn into the tasks of a serving shard.
    fn into_tasks(
        self,
        home: &Home,
        order: ServeOrder,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<ShardHandle>, Rc<ShardTasks>)> {
        let ServeOrder { life, ring, ring_version, timestamps, snapshots, sessions, root, visible } = order;
        let mut locks = self.locks(&ring, &sessions, root.closed_until_ms())?;
        let ephemerals = self.ephemerals(&ring)?;
        ephemerals.sessions().for_each(|session| locks.end_first(session));
        let reserve = Reserve { root, timestamps: Arc::clone(&timestamps) };
        let len = stage_bytes(home.options.segment_bytes);
        let shown = home.fs.root().join(&self.paths.stage);
        self.renew_stage(len as u64)?;
        let region =
            home.fs.shared_region(&self.paths.stage, len).map_err(|e| Error::io("map the stage", &shown, e))?;
        let slots = region.take_slots(SLOTS);
        let applied = self.keeper.replay_from();
        let end = self.recovered.end;
        let log = Log::new(self.log_dir, life, slots, self.recovered.segments, end, applied);
        let tables = self.keeper.tables();
        let cover = Cover::new(self.replay.undecided.last());
        let Replay { memory, full, .. } = self.replay;
        let state = Arc::new(ReadState {
            active: Arc::clone(memory.table()),
            sealed: full.iter().rev().map(Arc::clone).collect(),
            tables: Arc::clone(&tables),
        });
        let sealed = full.into_iter().map(|memtable| SealedMemtable { memtable, end }).collect();
        let view = Arc::new(ShardView::new(self.shard, state, visible));
        self.keeper.serve(snapshots, Arc::clone(&clock), Arc::clone(&ring), ring_version);
        let core = ShardCore::new(CoreParts {
            view: Arc::clone(&view),
            log,
            memory,
            sealed,
            tables,
            memtable_bytes: home.options.memtable_bytes,
            timestamps,
            ring,
            clock: Arc::clone(&clock),
            locks,
            ephemerals,
            cover,
        });
        let handle = Arc::new(ShardHandle::new(view, core, home.options.inbox_len));
        let tasks = Rc::new(ShardTasks {
            handle: Arc::clone(&handle),
            executor: self.executor,
            clock,
            keeper: self.keeper,
            reserve,
            retired: Default::default(),
        });
        Ok((handle, tasks))
    }

    /// A stage of another size than this opening uses is replaced; what it held is in the log by now.
    fn renew_stage(&self, len: u64) -> Result<()> {
        let shown = self.fs.root().join(&self.paths.stage);
        let problem = |e| Error::io("renew the stage", &shown, e);
        if !self.fs.exists(&self.paths.stage).map_err(problem)? {
            return Ok(());
        }
        let size =
            self.fs.open(&self.paths.stage, crate::runtime::OpenMode::Read).and_then(|f| f.size()).map_err(problem)?;
        if size != len {
            self.fs.remove_file(&self.paths.stage).map_err(problem)?;
        }
        Ok(())
    }
}

/// For messages about a shard's thread that is gone.
pub fn thread_is_gone(shard: ShardId) -> Error {
    Error::Poisoned(Arc::new(crate::error::Poisoned {
        shard,
        stage: Stage::Assertion,
        cause: "the shard's thread ended unexpectedly".to_owned(),
    }))
}
