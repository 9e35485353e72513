//! Keeps a shard's tables: which are in force, what the manifest says of them, and the files.
//!
//! Guards: a table is read only once its bytes, its name and the manifest that names it are durable, and removed only once no
//! manifest does; what it was made of is let go only once the disk has given back every block of it.
//! Crash leaves: files that no manifest names; the next opening removes them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::recover::{Home, ShardPaths, sync_dir};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::format::ephemeral::placed_by;
use crate::format::manifest::{Manifest, TableMeta};
use crate::ids::{CommitTs, Keyspace, Lsn, ShardId};
use crate::mirror::MirrorFile;
use crate::ring::Ring;
use crate::runtime::{AlignedBuf, Clock, Executor, File, Fs, IoBuf, IoOp, OpenMode, off_core};
use crate::table::compaction::{self, Job, Limits, Retention, RunTarget, TABLE_BYTES};
use crate::table::file::{Table, TableIdentity, file_name, parse_file_name};
use crate::table::source::Source;
use crate::table::table_set::{Run, TableSet};
use crate::table::{Memtable, Progress};
use crate::txn::snapshots::Snapshots;

/// Bytes of a file that is removed which are freed at a time, and the pause behind each.
const SHORTEN: u64 = 1 << 20;
const SHORTEN_PAUSE: Duration = Duration::from_millis(1);
/// Bytes of a written table that are read back at a time.
const READ_BACK: usize = 256 << 10;

/// The tables of one shard. Used on its own thread; nothing is borrowed across an await.
pub struct Keeper {
    state: RefCell<State>,
    home: Home,
    shard: ShardId,
    paths: ShardPaths,
    mirror_is_back: Event,
    failed_sync: FailedSync,
}

struct State {
    /// Not there while a change is being saved.
    mirror: Option<MirrorFile>,
    manifest: Manifest,
    tables: Arc<TableSet>,
    serving: Option<Serving>,
    /// Runs that no manifest names any more, which readers may still use; their files are there.
    retired: Vec<Run>,
}

/// The first failed sync. A checkpoint and a merge share a directory: what one of them was told is lost may be the other's
/// name too, and no later sync would say so. It is noted where it fails, before anything else can be synced.
#[derive(Clone, Default)]
struct FailedSync(Arc<OnceLock<Error>>);

impl FailedSync {
    fn note<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error @ Error::Io { op: "sync", .. }) = &outcome {
            let _ = self.0.set(error.clone());
        }
        outcome
    }

    fn check(&self) -> Result<()> {
        self.0.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// What merges need to know once the shard serves.
#[derive(Clone)]
struct Serving {
    snapshots: Arc<Snapshots>,
    clock: Arc<dyn Clock>,
    ring: Arc<Ring>,
    ring_version: u64,
}

impl Keeper {
    /// Make the manifest of an empty shard.
    pub fn create(home: &Home, shard: ShardId) -> Result<()> {
        let paths = ShardPaths::of(shard);
        let manifest = Manifest {
            db_id: home.db_id,
            shard,
            ring_version: home.ring_version,
            next_file: 1,
            replay_from: Lsn::ZERO,
            max_ts: CommitTs::ZERO,
            runs: Vec::new(),
        };
        MirrorFile::create(&home.fs, &paths.manifest)?.save(&manifest.encode()?)
    }

    /// Read the manifest, forget what an interrupted change of the shard count named in it, remove files that it does not name,
    /// and open the tables that it does.
    pub fn load(home: &Home, shard: ShardId) -> Result<Keeper> {
        let paths = ShardPaths::of(shard);
        let shown = home.fs.root().join(&paths.manifest);
        let (mirror, record) = MirrorFile::load(&home.fs, &paths.manifest)?;
        let Some(bytes) = record else {
            return Err(Error::corrupt(
                shown,
                0,
                "the manifest was never written, though the superblock names the shard",
            ));
        };
        let mut manifest = decode_manifest(home, shard, &bytes)?;
        let mut keeper_mirror = mirror;
        if forget_future_tables(&mut manifest, home.ring_version) {
            keeper_mirror.save(&manifest.encode()?)?;
        }
        remove_unnamed_files(&home.fs, &paths, &manifest)?;
        let tables = Arc::new(open_tables(home, shard, &manifest)?);
        let state = State { mirror: Some(keeper_mirror), manifest, tables, serving: None, retired: Vec::new() };
        Ok(Keeper {
            state: RefCell::new(state),
            home: home.clone(),
            shard,
            paths,
            mirror_is_back: Event::default(),
            failed_sync: FailedSync::default(),
        })
    }

    pub fn replay_from(&self) -> Lsn {
        self.state.borrow().manifest.replay_from
    }

    pub fn max_commit(&self) -> CommitTs {
        self.state.borrow().manifest.max_ts
    }

    pub fn next_file(&self) -> u64 {
        self.state.borrow().manifest.next_file
    }

    pub fn tables(&self) -> Arc<TableSet> {
        Arc::clone(&self.state.borrow().tables)
    }

    /// Tables and their bytes.
    pub fn size(&self) -> (u64, u64) {
        let state = self.state.borrow();
        (state.tables.table_count(), state.tables.bytes())
    }

    /// Keys in tables, counting a key once for each run that has it.
    pub fn keys(&self) -> u64 {
        self.state.borrow().manifest.runs.iter().flatten().map(|table| table.keys).sum()
    }

    pub fn serve(&self, snapshots: Arc<Snapshots>, clock: Arc<dyn Clock>, ring: Arc<Ring>, ring_version: u64) {
        self.state.borrow_mut().serving = Some(Serving { snapshots, clock, ring, ring_version });
    }

    fn serving(&self) -> Serving {
        self.state.borrow().serving.clone().expect("merges and checkpoints run while the shard serves")
    }

    /// Write sealed memtables (newest first) as the newest run, and have replay start at `end`.
    pub async fn write_checkpoint(
        &self,
        executor: &Rc<dyn Executor>,
        memtables: &[Arc<Memtable>],
        end: Lsn,
        progress: &Progress<'_>,
    ) -> Result<Arc<TableSet>> {
        let serving = self.serving();
        let snapshots = serving.snapshots.list(self.shard);
        let retention = Retention {
            snapshots: &snapshots,
            now_ms: serving.clock.wall_ms(),
            // With no table below, nothing is hidden by a delete.
            bottom: self.state.borrow().tables.is_empty(),
            keep: None,
        };
        self.checkpoint_as(executor, memtables, end, retention, serving.ring_version, Some(progress)).await
    }

    async fn checkpoint_as(
        &self,
        executor: &Rc<dyn Executor>,
        memtables: &[Arc<Memtable>],
        end: Lsn,
        retention: Retention<'_>,
        ring_version: u64,
        progress: Option<&Progress<'_>>,
    ) -> Result<Arc<TableSet>> {
        let sources: Vec<Source> = memtables.iter().cloned().map(Source::Memtable).collect();
        let max_ts = memtables.iter().map(|m| m.max_ts()).max().unwrap_or(CommitTs::ZERO);
        let order = RunOrder { progress, ..self.own_run(&sources, &retention, ring_version) };
        let (run, metas) = self.write_run(executor, order).await?;
        self.change(executor, |manifest, tables| {
            if !metas.is_empty() {
                manifest.runs.insert(0, metas);
            }
            manifest.replay_from = manifest.replay_from.max(end);
            manifest.max_ts = manifest.max_ts.max(max_ts);
            tables.with_newest(run)
        })
        .await
    }

    /// Merge some tables if there are too many, or if some hold keys that moved to another shard.
    pub async fn merge_once(&self, executor: &Rc<dyn Executor>) -> Result<Option<Arc<TableSet>>> {
        let serving = self.serving();
        let tables = self.tables();
        let picked = compaction::pick(&tables, Limits::default()).or_else(|| impure(&tables, serving.ring_version));
        let Some(job) = picked else { return Ok(None) };
        let snapshots = serving.snapshots.list(self.shard);
        let now_ms = serving.clock.wall_ms();
        self.merge(executor, job, &snapshots, now_ms, &serving.ring, serving.ring_version).await.map(Some)
    }

    async fn merge(
        &self,
        executor: &Rc<dyn Executor>,
        job: Job,
        snapshots: &[CommitTs],
        now_ms: u64,
        ring: &Ring,
        ring_version: u64,
    ) -> Result<Arc<TableSet>> {
        let old = job.runs;
        let sources: Vec<Source> = old.iter().cloned().map(Source::Run).collect();
        let own = |keyspace: Keyspace, key: &[u8]| ring.owner_of_key(placed_by(keyspace, key)) == self.shard;
        let retention = Retention { snapshots, bottom: job.bottom, now_ms, keep: Some(&own) };
        let (run, _) = self.write_run(executor, self.own_run(&sources, &retention, ring_version)).await?;
        let change = |manifest: &mut Manifest, tables: &TableSet| {
            let merged = tables.with_merged(&old, run);
            manifest.runs = merged.metas();
            merged
        };
        let tables = self.change(executor, change).await?;
        self.state.borrow_mut().retired.extend(old);
        Ok(tables)
    }

    fn own_run<'a>(&self, sources: &'a [Source], retention: &'a Retention<'a>, ring_version: u64) -> RunOrder<'a> {
        RunOrder { into: self.shard, sources, retention, first_file: None, ring_version, progress: None }
    }

    /// Write a run into a shard's directory, make its names durable, and read it back: a manifest may name it.
    async fn write_run(&self, executor: &Rc<dyn Executor>, order: RunOrder<'_>) -> Result<(Run, Vec<TableMeta>)> {
        let RunOrder { into, sources, retention, first_file, ring_version, progress } = order;
        let dir = ShardPaths::of(into).tables;
        let mut given = 0;
        let mut next_id = || match first_file {
            Some(first) => {
                given += 1;
                first + given - 1
            }
            None => {
                let mut state = self.state.borrow_mut();
                state.manifest.next_file += 1;
                state.manifest.next_file - 1
            }
        };
        let target = RunTarget {
            executor: Rc::clone(executor),
            fs: &*self.home.fs,
            dir: &dir,
            db_id: self.home.db_id,
            shard: into,
            ring_version,
            next_file: &mut next_id,
            table_bytes: TABLE_BYTES,
            progress,
        };
        let metas = compaction::write_run(sources, target, retention).await?;
        if !metas.is_empty() {
            let (fs, failed) = (Arc::clone(&self.home.fs), self.failed_sync.clone());
            off_core(&**executor, move || failed.note(sync_dir(&fs, &dir))).await?;
        }
        Ok((self.read_back(executor, into, &metas, progress).await?, metas))
    }

    /// Tables are written past the kernel's memory: what it has of them comes from the disk. If that lost a write, or put it elsewhere, it
    /// is found here, while the run can be made again. And readers, who find these keys in memory or in tables that were read before,
    /// will not wait for the disk in the middle of a get.
    async fn read_back(
        &self,
        executor: &Rc<dyn Executor>,
        of: ShardId,
        metas: &[TableMeta],
        progress: Option<&Progress<'_>>,
    ) -> Result<Run> {
        let bytes = metas.iter().map(|meta| meta.bytes).sum();
        let mut buf = IoBuf::heap(AlignedBuf::zeroed(READ_BACK), READ_BACK);
        let mut tables = Vec::with_capacity(metas.len());
        for meta in metas {
            let (home, named) = (self.home.clone(), meta.clone());
            let (file, table) = off_core(&**executor, move || open_table(&home, of, &named)).await?;
            let mut checked = 0;
            for at in (0..meta.bytes).step_by(READ_BACK) {
                let done = executor.io(&file, IoOp::Read { offset: at, buf }).await;
                done.result.map_err(|e| Error::io_at("read back", file.path(), at, e))?;
                buf = done.buf.expect("a read gives its buffer back");
                checked = table.check_blocks(checked, at + READ_BACK as u64)?;
                if let Some(progress) = progress {
                    progress.read_back(READ_BACK as u64, bytes);
                }
                executor.yield_now().await;
            }
            tables.push(table);
        }
        Ok(Run::new(tables))
    }

    /// Change manifest and tables together, one change at a time: on disk first, then in memory. Not after a failed sync.
    async fn change(
        &self,
        executor: &Rc<dyn Executor>,
        change: impl FnOnce(&mut Manifest, &TableSet) -> TableSet,
    ) -> Result<Arc<TableSet>> {
        let mut mirror = self.take_mirror().await?;
        let lost = LostMirror(self);
        let outcome = match self.changed_by(change) {
            Ok((manifest, bytes, tables)) => {
                let failed = self.failed_sync.clone();
                let save = move || {
                    let saved = failed.check().and_then(|()| failed.note(mirror.save(&bytes)));
                    (mirror, saved)
                };
                let saved;
                (mirror, saved) = off_core(&**executor, save).await;
                saved.map(|()| (manifest, tables))
            }
            Err(error) => Err(error),
        };
        std::mem::forget(lost);
        let mut state = self.state.borrow_mut();
        state.mirror = Some(mirror);
        self.mirror_is_back.set();
        let (manifest, tables) = outcome?;
        // Numbers of files went on being given out.
        let next_file = manifest.next_file.max(state.manifest.next_file);
        state.manifest = Manifest { next_file, ..manifest };
        state.tables = Arc::clone(&tables);
        Ok(tables)
    }

    /// The manifest's file, once nobody else changes it. There are two who do, checkpoints and merges.
    async fn take_mirror(&self) -> Result<MirrorFile> {
        loop {
            self.failed_sync.check()?;
            let mirror = self.state.borrow_mut().mirror.take();
            match mirror {
                Some(mirror) => return Ok(mirror),
                None => self.mirror_is_back.wait().await,
            }
        }
    }

    /// What a change makes of manifest and tables.
    fn changed_by(
        &self,
        change: impl FnOnce(&mut Manifest, &TableSet) -> TableSet,
    ) -> Result<(Manifest, Vec<u8>, Arc<TableSet>)> {
        let state = self.state.borrow();
        let mut manifest = state.manifest.clone();
        let tables = Arc::new(change(&mut manifest, &state.tables));
        let bytes = manifest.encode()?;
        Ok((manifest, bytes, tables))
    }

    /// Remove the files of merged runs that nobody reads any more. Says whether there are others.
    pub async fn remove_unread(&self, executor: &Rc<dyn Executor>) -> bool {
        loop {
            // It stays in the list until it is gone, for a close in the meantime.
            let unread = {
                let retired = &mut self.state.borrow_mut().retired;
                retired.iter_mut().find_map(|run| run.is_unshared().then(|| run.metas()))
            };
            let Some(metas) = unread else { return !self.state.borrow().retired.is_empty() };
            for meta in &metas {
                self.shorten(executor, meta).await;
            }
            let gone: Vec<Run> = {
                let retired = &mut self.state.borrow_mut().retired;
                retired.extract_if(.., |run| run.metas() == metas).collect()
            };
            self.remove_runs(&gone);
        }
    }

    /// Free a file's memory and blocks in steps, each made durable and with time for others behind it: a file system that tells the disk what
    /// is free (mount option `discard`) lets everybody's syncs wait while it tells, 50 to 80 ms for 64 MiB. Nobody may look at its mapping
    /// any more.
    async fn shorten(&self, executor: &Rc<dyn Executor>, meta: &TableMeta) {
        let path = self.paths.tables.join(file_name(meta.id));
        // Whatever fails here, the removal will say it.
        let Ok(file) = self.home.fs.open(&path, OpenMode::ReadWrite) else { return };
        let mut left = meta.bytes;
        while left > 0 {
            left = left.saturating_sub(SHORTEN);
            let cut = Arc::clone(&file);
            let is_cut = off_core(&**executor, move || cut.set_len(left).is_ok()).await;
            if !is_cut || executor.io(&file, IoOp::SyncData).await.result.is_err() {
                return;
            }
            executor.sleep(SHORTEN_PAUSE).await;
        }
    }

    /// At the end: also the files of those that somebody still reads, who keeps their content.
    pub fn remove_retired(&self) {
        let retired = std::mem::take(&mut self.state.borrow_mut().retired);
        self.remove_runs(&retired);
    }

    fn remove_runs(&self, runs: &[Run]) {
        for table in runs.iter().flat_map(Run::tables) {
            let path = self.paths.tables.join(file_name(table.meta().id));
            if let Err(error) = self.home.fs.remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a merged table; the next opening will");
            }
        }
    }
}

/// Whoever changed the manifest ended by a panic, or was dropped, and nobody knows what the disk has of it: that is told to whoever waits.
struct LostMirror<'a>(&'a Keeper);

impl Drop for LostMirror<'_> {
    fn drop(&mut self) {
        let keeper = self.0;
        let path = keeper.home.fs.root().join(&keeper.paths.manifest);
        let cause = std::io::Error::other("a change of the manifest ended half-way");
        let _ = keeper.failed_sync.note::<()>(Err(Error::io("sync", path, cause)));
        keeper.mirror_is_back.set();
    }
}

/// A run to be written.
struct RunOrder<'a> {
    into: ShardId,
    sources: &'a [Source],
    retention: &'a Retention<'a>,
    /// Its tables' numbers begin here; without it, the manifest gives them.
    first_file: Option<u64>,
    ring_version: u64,
    progress: Option<&'a Progress<'a>>,
}

/// What a change of the shard count asks of a shard that does not serve.
impl Keeper {
    /// Write memtables as tables before anything serves: nothing but the newest versions is needed.
    pub async fn settle_memory(
        &self,
        executor: &Rc<dyn Executor>,
        memtables: &[Arc<Memtable>],
        end: Lsn,
        now_ms: u64,
    ) -> Result<()> {
        let bottom = self.state.borrow().tables.is_empty();
        let retention = Retention { snapshots: &[], bottom, now_ms, keep: None };
        self.checkpoint_as(executor, memtables, end, retention, self.home.ring_version, None).await.map(drop)
    }

    /// Nothing that the log still holds before `end` happened. It must not look as if it had, once [`Keeper::take_in`] has noted the last
    /// commit of all shards, below which everything did.
    pub async fn pass_over_log(&self, executor: &Rc<dyn Executor>, end: Lsn) -> Result<()> {
        if self.replay_from() >= end {
            return Ok(());
        }
        let change = |manifest: &mut Manifest, tables: &TableSet| {
            manifest.replay_from = end;
            tables.clone()
        };
        self.change(executor, change).await.map(drop)
    }

    /// Rewrite all tables as one run if some hold keys that moved away in an earlier change.
    pub async fn purify(&self, executor: &Rc<dyn Executor>, ring: &Ring, now_ms: u64) -> Result<()> {
        let tables = self.tables();
        let version = self.home.ring_version;
        if tables.metas().iter().flatten().all(|table| table.ring_version == version) {
            return Ok(());
        }
        let job = Job { runs: tables.runs().to_vec(), bottom: true, bytes: tables.bytes() };
        self.merge(executor, job, &[], now_ms, ring, version).await.map(drop)
    }

    /// Copy the newest versions of the keys that `to` gives to `destination` into that shard's directory.
    pub async fn copy_to(
        &self,
        executor: &Rc<dyn Executor>,
        destination: ShardId,
        to: &Ring,
        ring_version: u64,
        first_file: u64,
        now_ms: u64,
    ) -> Result<Vec<TableMeta>> {
        let tables = self.tables();
        let sources: Vec<Source> = tables.runs().iter().cloned().map(Source::Run).collect();
        let theirs = |keyspace: Keyspace, key: &[u8]| to.owner_of_key(placed_by(keyspace, key)) == destination;
        let retention = Retention { snapshots: &[], bottom: true, now_ms, keep: Some(&theirs) };
        let order = RunOrder {
            into: destination,
            first_file: Some(first_file),
            ..self.own_run(&sources, &retention, ring_version)
        };
        let written = self.write_run(executor, order).await?;
        Ok(written.1)
    }

    /// Name tables that others copied here; each source's are one run. `newest` is the last commit of all shards: the shard that
    /// made it may be gone afterwards, and its number must not be given out again.
    pub async fn take_in(
        &self,
        executor: &Rc<dyn Executor>,
        runs: Vec<Vec<TableMeta>>,
        newest: CommitTs,
    ) -> Result<()> {
        let opened: Vec<Run> = runs.iter().map(|run| open_run(&self.home, self.shard, run)).collect::<Result<_>>()?;
        let change = |manifest: &mut Manifest, tables: &TableSet| {
            for run in &runs {
                let last = run.iter().map(|table| table.id).max().unwrap_or(0);
                manifest.next_file = manifest.next_file.max(last + 1);
            }
            manifest.max_ts = manifest.max_ts.max(newest);
            manifest.runs.splice(0..0, runs);
            opened.into_iter().fold(tables.clone(), |tables, run| tables.with_newest(run))
        };
        self.change(executor, change).await?;
        // The order of runs in memory follows the manifest's.
        let mut state = self.state.borrow_mut();
        let tables = Arc::new(open_tables(&self.home, self.shard, &state.manifest)?);
        state.tables = tables;
        Ok(())
    }
}

/// A run that may hold keys which moved to another shard, to be rewritten without them.
fn impure(tables: &TableSet, ring_version: u64) -> Option<Job> {
    let runs = tables.runs();
    let is_impure = |run: &Run| run.tables().iter().any(|table| table.meta().ring_version != ring_version);
    let at = runs.iter().rposition(is_impure)?;
    Some(Job { runs: vec![runs[at].clone()], bottom: at + 1 == runs.len(), bytes: runs[at].bytes() })
}

pub(crate) fn decode_manifest(home: &Home, shard: ShardId, bytes: &[u8]) -> Result<Manifest> {
    let shown = home.fs.root().join(ShardPaths::of(shard).manifest);
    let manifest = Manifest::decode(bytes).map_err(|damage| damage.in_file(&shown, 0))?;
    if manifest.db_id != home.db_id || manifest.shard != shard {
        let what = format!(
            "the manifest belongs to shard {} of database {:016x}, not to shard {shard} of {:016x}",
            manifest.shard, manifest.db_id, home.db_id
        );
        return Err(Error::corrupt(shown, 0, what));
    }
    Ok(manifest)
}

/// Drop tables that were copied for a ring that did not come into force. Says whether there were any.
pub(crate) fn forget_future_tables(manifest: &mut Manifest, ring_version: u64) -> bool {
    let before = manifest.runs.len();
    manifest.runs.retain(|run| run.iter().all(|table| table.ring_version <= ring_version));
    manifest.runs.len() != before
}

fn remove_unnamed_files(fs: &Arc<dyn Fs>, paths: &ShardPaths, manifest: &Manifest) -> Result<()> {
    let named: HashSet<u64> = manifest.runs.iter().flatten().map(|table| table.id).collect();
    let shown = fs.root().join(&paths.tables);
    for name in fs.list(&paths.tables).map_err(|e| Error::io("list", &shown, e))? {
        if parse_file_name(&name).is_some_and(|id| !named.contains(&id)) {
            let path = paths.tables.join(name);
            fs.remove_file(&path).map_err(|e| Error::io("remove", fs.root().join(&path), e))?;
        }
    }
    Ok(())
}

pub(crate) fn open_tables(home: &Home, shard: ShardId, manifest: &Manifest) -> Result<TableSet> {
    let runs = manifest.runs.iter().map(|metas| open_run(home, shard, metas));
    Ok(TableSet::new(runs.collect::<Result<_>>()?))
}

fn open_run(home: &Home, shard: ShardId, metas: &[TableMeta]) -> Result<Run> {
    let tables = metas.iter().map(|meta| open_table(home, shard, meta).map(|(_, table)| table));
    Ok(Run::new(tables.collect::<Result<_>>()?))
}

fn open_table(home: &Home, shard: ShardId, meta: &TableMeta) -> Result<(Arc<dyn File>, Arc<Table>)> {
    let path = ShardPaths::of(shard).tables.join(file_name(meta.id));
    let shown = home.fs.root().join(&path);
    let file = home.fs.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &shown, e))?;
    let table = Table::open(&*file, TableIdentity { db_id: home.db_id, shard, id: meta.id })?;
    if table.meta() != meta {
        return Err(Error::corrupt(shown, 0, "the table is not the one that the manifest describes"));
    }
    Ok((file, Arc::new(table)))
}
