//! What can be told of a closed database without reading its data.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock;
use super::reader::ReadOnly;
use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::format::superblock::Superblock;
use crate::ids::{CommitTs, Life, Lsn, ShardId};
use crate::mirror::MirrorFile;
use crate::root::SUPERBLOCK_FILE;
use crate::runtime::host::Machine;
use crate::runtime::{BLOCK, Executor, Fs, Host};
use crate::shard::recover::ShardPaths;
use crate::wal::walk::Walker;
use crate::wal::{Known, LogIdentity, SegmentDir};

/// A closed database, as its root records tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineStat {
    pub path: PathBuf,
    pub db_id: u64,
    /// Openings for writing so far.
    pub life: Life,
    pub ring_version: u64,
    pub vnodes: u16,
    pub shards: Vec<OfflineShard>,
}

/// One shard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineShard {
    pub shard: ShardId,
    pub runs: u64,
    pub tables: u64,
    pub table_bytes: u64,
    /// Versions in tables.
    pub entries: u64,
    /// Keys, once for each run that has them.
    pub keys: u64,
    /// Tables that still hold keys of an earlier ring.
    pub impure_tables: u64,
    /// The last commit that the tables cover.
    pub max_commit: CommitTs,
    /// The position from which the log is replayed.
    pub replay_from: Lsn,
    /// Begun segments, where the first and the last of them begin, and bytes of all segment files.
    pub segments: u64,
    pub first_lsn: Lsn,
    pub last_segment_lsn: Lsn,
    pub log_file_bytes: u64,
}

/// The cheap facts of the closed database in `dir`. Fails if it holds none, is open ([`Error::Locked`]), or if a root
/// record cannot be read.
pub fn stat(dir: &Path) -> Result<OfflineStat> {
    let host: Arc<dyn Host> = Arc::new(Machine::new(dir, false)?);
    futures_lite::future::block_on(stat_on(host))
}

/// As [`stat`], for the database of a host.
pub async fn stat_on(host: Arc<dyn Host>) -> Result<OfflineStat> {
    let fs = host.fs();
    let _lock = lock(&fs)?;
    let path = fs.root().join(SUPERBLOCK_FILE);
    let bytes = peek(&fs, Path::new(SUPERBLOCK_FILE))?;
    let superblock = Superblock::decode(&bytes).map_err(|e| Error::Incompatible { path, what: e.to_string() })?;
    let mut shards = Vec::new();
    for shard in (0..superblock.shards).map(ShardId) {
        shards.push(stat_shard(&fs, &superblock, shard).await?);
    }
    let Superblock { db_id, life, ring_version, vnodes, .. } = superblock;
    Ok(OfflineStat { path: fs.root(), db_id, life, ring_version, vnodes, shards })
}

fn peek(fs: &Arc<dyn Fs>, path: &Path) -> Result<Vec<u8>> {
    MirrorFile::peek(fs, path)?.ok_or_else(|| Error::corrupt(fs.root().join(path), 0, "the record was never written"))
}

async fn stat_shard(fs: &Arc<dyn Fs>, superblock: &Superblock, shard: ShardId) -> Result<OfflineShard> {
    let paths = ShardPaths::of(shard);
    let shown = fs.root().join(&paths.manifest);
    let manifest = Manifest::decode(&peek(fs, &paths.manifest)?).map_err(|damage| damage.in_file(&shown, 0))?;
    let executor: std::rc::Rc<dyn Executor> = ReadOnly::executor();
    let id = LogIdentity { db_id: superblock.db_id, shard };
    let dir = SegmentDir { fs: Arc::clone(fs), path: paths.wal, id, segment_bytes: BLOCK as u64, history_bytes: 0 };
    let from = manifest.replay_from;
    let known = Known { from, durable_floor: from, life: superblock.life };
    let listed = Walker { executor: &executor, dir: &dir, known, is_opening: false }.list().await?;
    let mut log_file_bytes = 0;
    for file in listed.live.iter().map(|s| &s.file).chain(listed.spares.iter().map(|s| &s.file)) {
        log_file_bytes += file.size().map_err(|e| Error::io("size of", file.path(), e))?;
    }
    let tables = || manifest.runs.iter().flatten();
    Ok(OfflineShard {
        shard,
        runs: manifest.runs.len() as u64,
        tables: tables().count() as u64,
        table_bytes: tables().map(|table| table.bytes).sum(),
        entries: tables().map(|table| table.entries).sum(),
        keys: tables().map(|table| table.keys).sum(),
        impure_tables: tables().filter(|table| table.ring_version < superblock.ring_version).count() as u64,
        max_commit: manifest.max_ts,
        replay_from: from,
        segments: listed.live.len() as u64,
        first_lsn: listed.live.first().map_or(Lsn::ZERO, |segment| segment.base),
        last_segment_lsn: listed.live.last().map_or(Lsn::ZERO, |segment| segment.base),
        log_file_bytes,
    })
}

impl fmt::Display for OfflineStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: database {:016x}, life {}", self.path.display(), self.db_id, self.life.0)?;
        write!(f, "{} shards, {} virtual nodes each, ring {}", self.shards.len(), self.vnodes, self.ring_version)?;
        self.shards.iter().try_for_each(|shard| write!(f, "\n{shard}"))
    }
}

impl fmt::Display for OfflineShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shard {}: {} tables in {} runs, {} bytes, {} entries of {} keys up to commit {}; ",
            self.shard, self.tables, self.runs, self.table_bytes, self.entries, self.keys, self.max_commit
        )?;
        write!(
            f,
            "log replayed from {}, {} segments in use, the last from {}, {} bytes of files",
            self.replay_from, self.segments, self.last_segment_lsn, self.log_file_bytes
        )?;
        if self.impure_tables > 0 {
            write!(f, "; {} tables with keys of an earlier ring", self.impure_tables)?;
        }
        Ok(())
    }
}
