//! An open database: opens all shards in parallel, hands out clients, and closes what it opened.
//!
//! Guards: a directory is open once; nothing is served before every shard was read back whole and the life of this opening
//! is on disk; a close returns when everything answered is durable.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::canary::{Canary, planted};
use crate::client::{Client, Shared};
use crate::error::{Error, Result};
use crate::format::hold::StoredSession;
use crate::ids::{CommitTs, ShardId};
use crate::lock::SessionKey;
use crate::lock::sessions::Sessions;
use crate::mailbox::Mailbox;
use crate::options::Options;
use crate::pending::{Helper, Pending, pending};
use crate::report::{Found, OpenReport, ShardStats, Stats};
use crate::reshard;
use crate::ring::Ring;
use crate::root::Root;
use crate::runtime::host::Machine;
use crate::runtime::{Executor, Fs, Host, LocalFuture, LockError, ShardThread};
use crate::shard::recover::{Home, ShardPaths, parse_shard_dir, remove_shard};
use crate::shard::service::{self, Opened, Order, ServeOrder, ServiceEnds, SpawnTask};
use crate::shard::{LockRequest, Request, ShardHandle};
use crate::txn::fate::{self, Decided, Unsettled, Verdict};
use crate::txn::snapshots::Snapshots;
use crate::txn::stats::Transactions;
use crate::txn::timestamps::Timestamps;
use crate::warden;
use crate::watch::dispatch::dispatch;
use crate::watch::hub::Hub;

pub const LOCK_FILE: &str = "LOCK";

/// Handed to a task on a shard's own thread.
#[derive(Clone)]
pub struct Local {
    pub client: Client,
    pub executor: Rc<dyn Executor>,
    pub shard: ShardId,
}

/// An open database; clones are handles to the same one. The last handle that goes closes it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    shared: Arc<Shared>,
    spawns: Vec<Arc<Mailbox<SpawnTask>>>,
    /// Taken by whoever closes.
    running: Mutex<Option<Running>>,
    report: OpenReport,
    path: PathBuf,
}

struct Running {
    ended: Vec<Pending<()>>,
    threads: Vec<Box<dyn ShardThread>>,
    root: Arc<Root>,
    timestamps: Arc<Timestamps>,
    _lock: Box<dyn Any + Send + Sync>,
}

/// A shard's thread that was started.
pub(crate) struct Started {
    pub shard: ShardId,
    pub orders: Arc<Mailbox<Order>>,
    spawns: Arc<Mailbox<SpawnTask>>,
    thread: Box<dyn ShardThread>,
    ended: Pending<()>,
    pub opened: Opened,
}

impl Engine {
    /// Open the database in `path`, creating it if there is none and the options allow it.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Engine> {
        let host: Arc<dyn Host> = Arc::new(Machine::new(path.as_ref(), options.create_if_missing)?);
        futures_lite::future::block_on(Engine::open_on(host, options))
    }

    /// Open the database of a host, be it a machine or a simulated one.
    pub async fn open_on(host: Arc<dyn Host>, options: Options) -> Result<Engine> {
        options.check()?;
        let fs = host.fs();
        let path = fs.root();
        let lock = fs.lock(Path::new(LOCK_FILE)).map_err(|e| match e {
            LockError::Held { pid } => Error::Locked { path: path.clone(), holder_pid: pid },
            LockError::Io(e) => Error::io("lock", path.join(LOCK_FILE), e),
        })?;
        let root = Arc::new(Root::open(&host, &options)?);
        let superblock = root.record();
        remove_strange_shards(&fs, superblock.shards)?;
        let mut home = Home {
            fs: Arc::clone(&fs),
            db_id: superblock.db_id,
            life: superblock.life,
            ring_version: superblock.ring_version,
            shards: superblock.shards,
            vnodes: superblock.vnodes,
            hash_seed: host.random_u64(),
            options: options.clone(),
        };
        let mut started = start_shards(&host, &home, 0..superblock.shards).await?;
        let mut found_here = Found::default();
        match decide_fates(&root, &mut home, &started).await {
            Ok(decided) => found_here.decided = decided,
            Err(error) => {
                leave(started).await;
                return Err(error);
            }
        }
        let wanted = options.shards.unwrap_or(superblock.shards);
        if wanted != superblock.shards {
            match reshard::run(&host, &home, &root, &mut started, wanted).await {
                Ok(done) => found_here.resharded = Some(done),
                Err(error) => {
                    leave(started).await;
                    return Err(error);
                }
            }
            home.ring_version = root.record().ring_version;
        }
        // From here on new bytes are written, under a life that no byte on disk has yet.
        let found = started.iter().map(|s| s.opened.max_commit).max().unwrap_or(CommitTs::ZERO);
        match root.begin_life(found) {
            Ok((superblock, start)) => {
                home.life = superblock.life;
                serve(host, &options, root, start, started, lock, found_here).await
            }
            Err(error) => {
                leave(started).await;
                Err(error)
            }
        }
    }

    /// A client for any number of threads.
    pub fn client(&self) -> Client {
        self.inner.client.clone()
    }

    pub fn shard_count(&self) -> u16 {
        self.inner.shared.ring.shards()
    }

    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What opening found and did.
    pub fn report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// Write what is in memory as tables and trim the logs. Blocks.
    pub fn checkpoint(&self) -> Result<()> {
        self.inner.client.checkpoint().wait()
    }

    /// As [`Engine::checkpoint`], for tasks.
    pub fn checkpoint_async(&self) -> Pending<()> {
        self.inner.client.checkpoint()
    }

    /// Counters of all shards.
    pub fn stats(&self) -> Stats {
        let shards = self.inner.shared.shards.iter().map(|handle| ShardStats::of(handle)).collect();
        let (snapshots, now_ms) = (self.inner.shared.snapshots.count(), self.inner.shared.clock.monotonic_ms());
        Stats { shards, snapshots, transactions: self.inner.shared.transactions.stats(now_ms) }
    }

    /// Run a task on a shard's own thread.
    pub fn spawn_on(
        &self,
        shard: ShardId,
        task: impl FnOnce(Local) -> LocalFuture<'static, ()> + Send + 'static,
    ) -> Result<()> {
        let Some(spawns) = self.inner.spawns.get(shard.index()) else {
            return Err(Error::invalid(format!("there is no shard {shard}")));
        };
        if self.inner.shared.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let client = self.client();
        spawns.send(Box::new(move |executor| task(Local { client, executor, shard })));
        Ok(())
    }

    /// Refuse further calls, make everything answered durable, write it as tables, and end the shards' threads. Blocks; must
    /// not be called on a shard's thread. Later calls return at once.
    pub fn close(&self) -> Result<()> {
        match self.inner.begin_close() {
            Some(running) => futures_lite::future::block_on(running.end(true)),
            None => Ok(()),
        }
    }

    /// As [`Engine::close`], for a task that is not on one of the shards' threads.
    pub async fn close_async(&self) -> Result<()> {
        match self.inner.begin_close() {
            Some(running) => running.end(false).await,
            None => Ok(()),
        }
    }
}

impl Inner {
    fn begin_close(&self) -> Option<Running> {
        self.shared.closed.store(true, Ordering::Release);
        let running = self.running.lock().take()?;
        self.shared.hub.end(&Error::Closed);
        self.shared.sessions.close_losses();
        for handle in &self.shared.shards {
            handle.close.set();
        }
        Some(running)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(running) = self.begin_close() else { return };
        // Threads first: in a simulation, where nothing can be waited for here, this returns at once.
        running.threads.iter().for_each(|thread| thread.join());
        for ended in running.ended {
            if ended.is_ready()
                && let Err(error) = ended.wait()
            {
                tracing::error!(path = %self.path.display(), %error, "the engine was closed by its last handle, not cleanly");
            }
        }
    }
}

impl Running {
    async fn end(self, join: bool) -> Result<()> {
        let mut first = Ok(());
        for ended in self.ended {
            let result = ended.await;
            if first.is_ok() {
                first = result;
            }
        }
        if join {
            self.threads.iter().for_each(|thread| thread.join());
        }
        if first.is_ok()
            && let Err(error) = self.root.end_life(self.timestamps.last())
        {
            // All data is where it should be; the next opening is a little more careful than it need be.
            tracing::warn!(%error, "closed, but the root record still says that commits may have been lost");
        }
        first
    }
}

/// Directories of shards that the ring in force does not have: an interrupted change of the shard count, or its rest.
pub(crate) fn remove_strange_shards(fs: &Arc<dyn Fs>, shards: u16) -> Result<()> {
    let names = fs.list(Path::new("")).map_err(|e| Error::io("list", fs.root(), e))?;
    for shard in names.iter().filter_map(|name| parse_shard_dir(name)).filter(|shard| shard.0 >= shards) {
        remove_shard(fs, shard)?;
    }
    Ok(())
}

/// Start threads for shards and wait until all were read back. On a failure the others leave.
pub(crate) async fn start_shards(
    host: &Arc<dyn Host>,
    home: &Home,
    shards: std::ops::Range<u16>,
) -> Result<Vec<Started>> {
    let processors = host.processors();
    let mut waiting = Vec::new();
    let mut failure = None;
    for shard in shards.map(ShardId) {
        let processor = processors.get(shard.index() % processors.len().max(1)).copied().unwrap_or(0);
        let orders = Arc::new(Mailbox::default());
        let spawns = Arc::new(Mailbox::default());
        let (opened, opened_answer) = pending(None);
        let (ended, ended_answer) = pending(None);
        let ends = ServiceEnds { orders: Arc::clone(&orders), spawns: Arc::clone(&spawns) };
        let main = service::main(home.clone(), shard, host.clock(), ends, opened, ended);
        match host.start_shard(shard, home.options.pin_threads.then_some(processor), main) {
            Ok(thread) => waiting.push((shard, orders, spawns, thread, ended_answer, opened_answer)),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let mut started = Vec::new();
    for (shard, orders, spawns, thread, ended, opened) in waiting {
        match opened.await {
            Ok(opened) => started.push(Started { shard, orders, spawns, thread, ended, opened }),
            Err(error) => {
                failure.get_or_insert(error);
                let _ = ended.await;
            }
        }
    }
    match failure {
        None => Ok(started),
        Some(error) => {
            leave(started).await;
            Err(error)
        }
    }
}

/// Settle what a crash left of commits over several shards, before anything else is written.
async fn decide_fates(root: &Root, home: &mut Home, started: &[Started]) -> Result<Decided> {
    let known: Vec<_> = started.iter().map(|shard| (Some(shard.opened.max_commit), &shard.opened.owed)).collect();
    let unsettled: Vec<Unsettled> = started.iter().map(|shard| shard.opened.unsettled.clone()).collect();
    let mut verdicts = fate::agree(&known, Some(&unsettled)).map_err(|contradiction| {
        let log = home.fs.root().join(ShardPaths::of(contradiction.shard()).wal);
        Error::corrupt(log, 0, contradiction.to_string())
    })?;
    if planted(Canary::KeepLonelyPart) {
        verdicts.fill(Verdict::default());
    }
    let decided = Decided::of(&unsettled, &verdicts);
    if verdicts.iter().any(|verdict| *verdict != Verdict::default()) {
        let found = started.iter().map(|shard| shard.opened.max_commit).max().unwrap_or_default();
        home.life = root.begin_life(found)?.0.life;
    }
    let mut answers = Vec::new();
    for (shard, verdict) in started.iter().zip(verdicts) {
        let (reply, answer) = pending(None);
        shard.orders.send(Order::Decide { verdict, life: home.life, reply });
        answers.push(answer);
    }
    let mut first = Ok(());
    for answer in answers {
        first = first.and(answer.await);
    }
    first.map(|()| decided)
}

/// End shards that do not serve.
pub(crate) async fn leave(started: Vec<Started>) {
    for shard in started {
        shard.orders.send(Order::Leave);
        let _ = shard.ended.await;
    }
}

/// All sessions that are stored, each with its whole time before it; those made up to `lost` are not used any more.
async fn read_sessions(
    host: &Arc<dyn Host>,
    started: &[Started],
    ring: &Arc<Ring>,
    lost: CommitTs,
) -> Result<Sessions> {
    let mut answers = Vec::new();
    for shard in started {
        let (reply, answer) = pending(None);
        shard.orders.send(Order::Sessions(Arc::clone(ring), reply));
        answers.push(answer);
    }
    let sessions = Sessions::default();
    let now_ms = host.clock().monotonic_ms();
    for answer in answers {
        for (id, made, stored) in answer.await? {
            let StoredSession { secret, ttl_ms, label } = stored;
            let key = SessionKey { id, secret };
            if made <= lost {
                sessions.add_lost(key, ttl_ms, label, now_ms);
            } else {
                sessions.add(key, ttl_ms, label, now_ms);
            }
        }
    }
    Ok(sessions)
}

/// Holds and keys of sessions that ended before go before anybody sees them. A shard that has no room for that does it once it has.
async fn end_what_is_left(shards: &[Arc<ShardHandle>]) {
    for handle in shards {
        for session in handle.with_core(|core| core.locks().ending()) {
            let (reply, answer) = pending(Some(Arc::clone(handle) as Arc<dyn Helper>));
            if let Err(request) = handle.submit(Request::Lock(LockRequest::EndSession { session, reply })) {
                request.refuse(Error::Busy { queue: "inbox of the shard", limit: handle.inbox_capacity() });
            }
            if let Err(error) = answer.await {
                tracing::warn!(%session, %error, "what is left of an ended session will be removed later");
            }
        }
    }
}

async fn serve(
    host: Arc<dyn Host>,
    options: &Options,
    root: Arc<Root>,
    start: CommitTs,
    started: Vec<Started>,
    lock: Box<dyn Any + Send + Sync>,
    found: Found,
) -> Result<Engine> {
    let superblock = root.record();
    let timestamps = Arc::new(Timestamps::starting_after(start));
    let snapshots = Arc::new(Snapshots::new(Arc::clone(&timestamps)));
    let ring = Arc::new(Ring::new(superblock.shards, superblock.vnodes));
    let sessions = match read_sessions(&host, &started, &ring, superblock.sessions_lost).await {
        Ok(sessions) => Arc::new(sessions),
        Err(error) => {
            leave(started).await;
            return Err(error);
        }
    };
    let report = OpenReport::new(superblock.db_id, started.iter().map(|s| s.opened.report.clone()).collect(), found);
    let mut answers = Vec::new();
    for shard in &started {
        let order = ServeOrder {
            life: superblock.life,
            ring: Arc::clone(&ring),
            ring_version: superblock.ring_version,
            timestamps: Arc::clone(&timestamps),
            snapshots: Arc::clone(&snapshots),
            sessions: Arc::clone(&sessions),
            root: Arc::clone(&root),
            visible: start,
        };
        let (reply, answer) = pending(None);
        shard.orders.send(Order::Serve(order, reply));
        answers.push(answer);
    }
    let mut shards: Vec<Arc<ShardHandle>> = Vec::new();
    let mut failure = None;
    for answer in answers {
        match answer.await {
            Ok(handle) => shards.push(handle),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    let (mut spawns, mut ended, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    for shard in started {
        spawns.push(shard.spawns);
        ended.push(shard.ended);
        threads.push(shard.thread);
    }
    let hub = Arc::new(Hub::new(Arc::clone(&timestamps), superblock.shards));
    let running = Running { ended, threads, root: Arc::clone(&root), timestamps, _lock: lock };
    if let Some(error) = failure {
        shards.iter().for_each(|handle| handle.close.set());
        let _ = running.end(false).await;
        return Err(error);
    }
    end_what_is_left(&shards).await;
    let shared = Arc::new(Shared {
        ring,
        ring_version: superblock.ring_version,
        shards,
        snapshots,
        clock: host.clock(),
        durability: options.durability,
        root: Arc::clone(&root),
        sessions,
        transactions: Arc::new(Transactions::new(host.clock(), report.decided)),
        hub,
        batch_seed: host.random_u64(),
        random: {
            let host = Arc::clone(&host);
            Box::new(move || host.random_u64())
        },
        closed: AtomicBool::new(false),
    });
    let client = Client::new(Arc::clone(&shared));
    let path = host.fs().root();
    let inner = Inner { client, shared, spawns, running: Mutex::new(Some(running)), report, path };
    let engine = Engine { inner: Arc::new(inner) };
    engine.spawn_on(ShardId(0), |local| Box::pin(warden::watch(local)))?;
    engine.spawn_on(ShardId(0), |local| Box::pin(dispatch(local)))?;
    Ok(engine)
}
