//! Turns memtables and tables into one new run of tables: for a checkpoint, a merge, or keys that change their shard.
//!
//! Guards: every reader at one of the given snapshots, or at present, finds in the new run what it found in its sources.
//! What no one can see any more is left out: versions between snapshots, and, when nothing older lies below, deletes
//! and expired values.
//! On an error it removes what it wrote; after a crash, files that no manifest names are the shard's to remove.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::file::{TableIdentity, file_name};
use super::memtable::Memtable;
use super::merge::{Direction, Picker};
use super::source::{Cursor, Source};
use super::table_set::{Run, TableSet};
use super::writer::TableWriter;
use crate::error::Result;
use crate::format::block::{EntryRef, Op};
use crate::format::manifest::TableMeta;
use crate::ids::{CommitTs, Keyspace, ShardId};
use crate::runtime::{Executor, Fs};

/// A table ends with the first key at which it has this length.
pub const TABLE_BYTES: u64 = 64 << 20;
/// Versions looked at between two yields.
const YIELD_VERSIONS: u32 = 128;
/// Bytes of values written between two yields.
const YIELD_BYTES: usize = 64 << 10;

/// Where a run is written, and as whose.
pub struct RunTarget<'a> {
    pub executor: Rc<dyn Executor>,
    pub fs: &'a dyn Fs,
    /// The shard's directory. The caller syncs it afterwards.
    pub dir: &'a Path,
    pub db_id: u64,
    pub shard: ShardId,
    pub ring_version: u64,
    /// Gives a file number never given before.
    pub next_file: &'a mut dyn FnMut() -> u64,
    /// See [`TABLE_BYTES`].
    pub table_bytes: u64,
    /// Is told how far the run has come, if somebody wants to know.
    pub progress: Option<&'a Progress<'a>>,
}

/// How far a run made of memtables has come, by what each step of it takes.
pub struct Progress<'a> {
    whole: u64,
    done: Cell<u64>,
    told: Cell<u32>,
    tell: &'a dyn Fn(u32),
}

impl<'a> Progress<'a> {
    /// What `tell` is told at the end; then nothing is left to do but to name the run.
    pub const WHOLE: u32 = 256;
    /// Sorting a key, which is done in two rounds, and writing a version.
    const SORT: u64 = 1;
    const WRITE: u64 = 2;
    /// One part in so many is reading back.
    const READ_BACK: u64 = 8;

    pub fn new(memtables: &[Arc<Memtable>], tell: &'a dyn Fn(u32)) -> Progress<'a> {
        let work = |table: &Arc<Memtable>| {
            let to_sort = if table.sorter().is_some() { 2 * Self::SORT * table.keys() } else { 0 };
            to_sort + Self::WRITE * table.len()
        };
        let work: u64 = memtables.iter().map(work).sum();
        let whole = (work + work / (Self::READ_BACK - 1)).max(1);
        Progress { whole, done: Cell::new(0), told: Cell::new(0), tell }
    }

    /// So many keys more went through a round of sorting.
    fn sorted(&self, keys: u64) {
        self.advance(keys * Self::SORT);
    }

    fn wrote(&self, versions: u64) {
        self.advance(versions * Self::WRITE);
    }

    /// So many more of all bytes were read back.
    pub fn read_back(&self, bytes: u64, of: u64) {
        self.advance(self.whole / Self::READ_BACK * bytes.min(of) / of.max(1));
    }

    fn advance(&self, work: u64) {
        let done = (self.done.get() + work).min(self.whole);
        self.done.set(done);
        let parts = u32::try_from(done * u64::from(Self::WHOLE) / self.whole).unwrap_or(Self::WHOLE);
        if parts > self.told.replace(parts) {
            (self.tell)(parts);
        }
    }
}

/// Says which keys take part.
pub type Keep<'a> = dyn Fn(Keyspace, &[u8]) -> bool + 'a;

/// Which versions are kept.
pub struct Retention<'a> {
    /// Moments that somebody still reads, ascending.
    pub snapshots: &'a [CommitTs],
    /// No run older than the sources has any of their keys: deletes and expired values need not be kept.
    pub bottom: bool,
    pub now_ms: u64,
    /// Leaves out the keys for which it says false.
    pub keep: Option<&'a Keep<'a>>,
}

/// Writes everything the sources (newest first) have, as far as it is kept. Empty if nothing is.
pub async fn write_run(
    sources: &[Source],
    mut target: RunTarget<'_>,
    retention: &Retention<'_>,
) -> Result<Vec<TableMeta>> {
    let mut ids = Vec::new();
    let written = write_tables(sources, &mut target, retention, &mut ids).await;
    if written.is_err() {
        for id in ids {
            // Best effort: the first error is what counts, and what stays is removed at the next opening.
            let _ = target.fs.remove_file(&target.dir.join(file_name(id)));
        }
    }
    written
}

async fn write_tables(
    sources: &[Source],
    target: &mut RunTarget<'_>,
    retention: &Retention<'_>,
    ids: &mut Vec<u64>,
) -> Result<Vec<TableMeta>> {
    let progress = target.progress;
    let mut pause = Pause { executor: Rc::clone(&target.executor), progress, versions: 0, bytes: 0 };
    let mut cursors = sources.iter().map(Source::cursor).collect::<Result<Vec<Cursor>>>()?;
    for source in sources {
        if let Source::Memtable(table) = source {
            sort_in_steps(table, &*pause.executor, progress).await;
        }
    }
    for cursor in &mut cursors {
        cursor.seek(Keyspace(0), &[])?;
    }
    let mut picker = Picker::new(Direction::Forward);
    let mut versions = Versions::default();
    let mut done = Vec::new();
    let mut writer: Option<TableWriter> = None;
    while let Some(place) = picker.choose(&cursors) {
        let (keyspace, key) = (place.keyspace, place.key());
        if retention.keep.is_none_or(|keep| keep(keyspace, key)) {
            versions.begin(keyspace, key);
            versions.survey(&mut cursors, picker.tied(), retention.now_ms, &mut pause).await?;
            versions.choose(retention);
            versions.rewind(&mut cursors, picker.tied())?;
            for version in &versions.found {
                cursors[version.cursor].settle(version.ts)?;
                let Some(entry) = cursors[version.cursor].entry() else { continue };
                let out = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(create(target, ids)?),
                };
                out.add(&entry).await?;
                pause.after(&entry).await;
            }
        } else {
            pause.after_version().await;
        }
        for &i in picker.tied() {
            cursors[i].next_key()?;
        }
        if writer.as_ref().is_some_and(|writer| writer.bytes() >= target.table_bytes)
            && let Some(full) = writer.take()
        {
            done.push(full.finish().await?);
        }
    }
    if let Some(last) = writer {
        done.push(last.finish().await?);
    }
    Ok(done)
}

fn create(target: &mut RunTarget<'_>, ids: &mut Vec<u64>) -> Result<TableWriter> {
    let id = (target.next_file)();
    let identity = TableIdentity { db_id: target.db_id, shard: target.shard, id };
    let executor = Rc::clone(&target.executor);
    let writer = TableWriter::create(executor, target.fs, target.dir, identity, target.ring_version)?;
    ids.push(id);
    Ok(writer)
}

/// Brings a sealed memtable's keys into order in small steps, where the first ordered read would do it in one.
async fn sort_in_steps(table: &Memtable, executor: &dyn Executor, progress: Option<&Progress<'_>>) {
    let Some(mut sorter) = table.sorter() else { return };
    while let Some(keys) = sorter.step() {
        if let Some(progress) = progress {
            progress.sorted(keys as u64);
        }
        executor.yield_now().await;
    }
    sorter.publish();
}

/// Lets others run after a certain amount of work.
struct Pause<'a> {
    executor: Rc<dyn Executor>,
    progress: Option<&'a Progress<'a>>,
    versions: u32,
    bytes: usize,
}

impl Pause<'_> {
    async fn after(&mut self, entry: &EntryRef<'_>) {
        self.bytes += entry.encoded_len();
        self.after_version().await;
    }

    async fn after_version(&mut self) {
        self.versions += 1;
        if self.versions >= YIELD_VERSIONS || self.bytes >= YIELD_BYTES {
            if let Some(progress) = self.progress {
                progress.wrote(self.versions.into());
            }
            self.versions = 0;
            self.bytes = 0;
            self.executor.yield_now().await;
        }
    }
}

/// A version of the key at hand.
struct FoundVersion {
    ts: CommitTs,
    cursor: usize,
    /// A delete, or expired: not there, for a reader who finds nothing older either.
    is_nothing: bool,
}

/// The versions of one key.
#[derive(Default)]
struct Versions {
    keyspace: Keyspace,
    key: Vec<u8>,
    /// Newest first.
    found: Vec<FoundVersion>,
    /// The cursors are no longer at the key's newest versions.
    moved: bool,
}

impl Versions {
    fn begin(&mut self, keyspace: Keyspace, key: &[u8]) {
        self.keyspace = keyspace;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.found.clear();
        self.moved = false;
    }

    /// Finds all versions of the key, at which the `tied` cursors are.
    async fn survey(
        &mut self,
        cursors: &mut [Cursor],
        tied: &[usize],
        now_ms: u64,
        pause: &mut Pause<'_>,
    ) -> Result<()> {
        for &i in tied {
            while let Some(entry) = cursors[i].entry() {
                let is_nothing = match entry.op {
                    Op::Delete => true,
                    Op::Put { expiry, .. } => expiry.is_past(now_ms),
                };
                self.found.push(FoundVersion { ts: entry.ts, cursor: i, is_nothing });
                if !cursors[i].older()? {
                    break;
                }
                self.moved = true;
                pause.after_version().await;
            }
        }
        // Stable: of two with one commit, the one from the newer source, or found first in its source, counts.
        self.found.sort_by_key(|version| std::cmp::Reverse(version.ts));
        self.found.dedup_by_key(|version| version.ts);
        Ok(())
    }

    /// Leaves those that are kept.
    fn choose(&mut self, retention: &Retention<'_>) {
        let mut newer: Option<CommitTs> = None;
        self.found.retain(|version| {
            // A snapshot sees this one if it is not before it, and before the next newer one.
            let first = retention.snapshots.partition_point(|at| *at < version.ts);
            let seen = retention.snapshots.get(first).is_some_and(|at| newer.is_some_and(|newer| *at < newer));
            let keep = newer.is_none() || seen;
            newer = Some(version.ts);
            keep
        });
        while retention.bottom && self.found.last().is_some_and(|version| version.is_nothing) {
            self.found.pop();
        }
    }

    fn rewind(&self, cursors: &mut [Cursor], tied: &[usize]) -> Result<()> {
        if self.moved && !self.found.is_empty() {
            for &i in tied {
                cursors[i].seek(self.keyspace, &self.key)?;
            }
        }
        Ok(())
    }
}

/// When runs are merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Up to so many runs are left alone: each one costs every read of an absent key a look at a filter.
    pub runs_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { runs_max: 6 }
    }
}

/// Neighbouring runs to be merged into one.
#[derive(Clone)]
pub struct Job {
    /// Newest first; see [`TableSet::with_merged`].
    pub runs: Vec<Run>,
    /// The oldest run of all is among them; see [`Retention::bottom`].
    pub bottom: bool,
    pub bytes: u64,
}

impl Job {
    pub fn sources(&self) -> Vec<Source> {
        self.runs.iter().cloned().map(Source::Run).collect()
    }
}

/// What to merge, if there are too many runs: the newest ones, up to the first run that is at least twice as large as
/// all of them together. So small, new runs are merged often and large, old ones seldom.
pub fn pick(tables: &TableSet, limits: Limits) -> Option<Job> {
    let runs = tables.runs();
    let sizes: Vec<u64> = runs.iter().map(Run::bytes).collect();
    let chosen = pick_sizes(&sizes, limits)?;
    Some(Job {
        runs: runs[chosen.clone()].to_vec(),
        bottom: chosen.end == runs.len(),
        bytes: sizes[chosen].iter().sum(),
    })
}

/// Found by trying: with six runs and ratios of 1, 2 and 4, each byte is written 13, 7 and 9 times in 2000 checkpoints.
const OLDER_RATIO: u128 = 2;

/// The rule of `pick`, on the bytes of runs.
fn pick_sizes(sizes: &[u64], limits: Limits) -> Option<Range<usize>> {
    if sizes.len() <= limits.runs_max.max(1) {
        return None;
    }
    let mut bytes = u128::from(sizes[0]);
    for (i, run) in sizes.iter().enumerate().skip(1) {
        if i >= 2 && u128::from(*run) >= bytes * OLDER_RATIO {
            return Some(0..i);
        }
        bytes += u128::from(*run);
    }
    Some(0..sizes.len())
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;
