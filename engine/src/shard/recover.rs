//! One shard from its files: manifest, tables, log, stage.
//!
//! Guards: a shard serves only after everything it should have was found whole; what a crash left half done (tables that
//! no manifest names, an interrupted move of keys) is removed first.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::keeper::Keeper;
use super::replay::Replay;
use crate::error::{Error, Result};
use crate::format::record::{VOID_LEN, encode_void};
use crate::ids::Life;
use crate::ids::ShardId;
use crate::options::Options;
use crate::ring::Ring;
use crate::runtime::{Clock, Executor, Fs, OpenMode};
use crate::txn::fate::Verdict;
use crate::wal::{Known, LogIdentity, LogReport, Recovered, SegmentDir, recover};

/// The directory of one shard.
pub fn shard_dir(shard: ShardId) -> PathBuf {
    PathBuf::from(format!("shard-{:04}", shard.0))
}

/// The shard in a directory's name.
pub fn parse_shard_dir(name: &str) -> Option<ShardId> {
    let digits = name.strip_prefix("shard-")?;
    (digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok().map(ShardId))?
}

/// Paths inside a shard's directory.
#[derive(Clone)]
pub struct ShardPaths {
    pub dir: PathBuf,
    pub wal: PathBuf,
    pub tables: PathBuf,
    pub manifest: PathBuf,
    pub stage: PathBuf,
}

impl ShardPaths {
    pub fn of(shard: ShardId) -> ShardPaths {
        let dir = shard_dir(shard);
        ShardPaths {
            wal: dir.join("wal"),
            tables: dir.join("tables"),
            manifest: dir.join("manifest"),
            stage: dir.join("stage"),
            dir,
        }
    }
}

/// What opening one shard found and did.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    pub log: LogReport,
    pub tables: u64,
    pub table_bytes: u64,
}

/// A shard that was read back and does not serve yet.
pub struct Offline {
    pub shard: ShardId,
    pub paths: ShardPaths,
    pub executor: Rc<dyn Executor>,
    pub clock: Arc<dyn Clock>,
    pub ring: Arc<Ring>,
    pub hash_seed: u64,
    pub fs: Arc<dyn Fs>,
    pub keeper: Keeper,
    pub log_dir: SegmentDir,
    pub recovered: Recovered,
    /// What the log held. Its memory takes what comes next.
    pub replay: Replay,
    pub report: ShardReport,
}

impl Offline {
    /// What is not known of commits over several shards is known now. It is durable before this returns: commits to come would make the
    /// other shards look as if they had settled what is void here, and the shards that carry what this one lost may trim it.
    pub async fn decide(&mut self, verdict: Verdict, life: Life) -> Result<()> {
        let Verdict { void_from, adopt } = verdict;
        let settled = self.replay.undecided.settled_up_to();
        self.replay.decide(void_from, &adopt);
        let mut void = [0; VOID_LEN];
        let void = void_from.map(|first| {
            tracing::info!(shard = self.shard.0, %first, "dropping the end of the log, which rests on a commit that other shards do not have");
            encode_void(&mut void, first);
            &void[..]
        });
        for record in void.into_iter().chain(adopt.iter().map(Vec::as_slice)) {
            self.recovered.append(&self.executor, &self.log_dir, life, settled, record).await?;
        }
        Ok(())
    }
}

/// What all shards of a database share when they are read back.
#[derive(Clone)]
pub struct Home {
    pub fs: Arc<dyn Fs>,
    pub db_id: u64,
    pub life: Life,
    pub ring_version: u64,
    pub shards: u16,
    pub vnodes: u16,
    /// Drawn at each opening, so that nobody can choose keys that collide in memory.
    pub hash_seed: u64,
    pub options: Options,
}

impl Home {
    pub fn log_dir(&self, shard: ShardId) -> SegmentDir {
        SegmentDir {
            fs: Arc::clone(&self.fs),
            path: ShardPaths::of(shard).wal,
            id: LogIdentity { db_id: self.db_id, shard },
            segment_bytes: self.options.segment_bytes,
            history_bytes: self.options.history_bytes,
        }
    }
}

/// Make the files of an empty shard, durably. What stood there before is removed.
pub fn create_shard(home: &Home, shard: ShardId) -> Result<()> {
    let fs = &home.fs;
    let paths = ShardPaths::of(shard);
    remove_shard(fs, shard)?;
    for dir in [&paths.dir, &paths.wal, &paths.tables] {
        fs.create_dir(dir).map_err(|e| Error::io("create", fs.root().join(dir), e))?;
    }
    Keeper::create(home, shard)?;
    sync_dir(fs, &paths.dir)?;
    sync_dir(fs, Path::new(""))
}

pub fn sync_dir(fs: &Arc<dyn Fs>, dir: &Path) -> Result<()> {
    fs.sync_dir(dir).map_err(|e| Error::io("sync", fs.root().join(dir), e))
}

/// Remove a shard's directory and all in it, if it is there.
pub fn remove_shard(fs: &Arc<dyn Fs>, shard: ShardId) -> Result<()> {
    let paths = ShardPaths::of(shard);
    let shown = |path: &Path| fs.root().join(path);
    let present = |path: &Path| fs.exists(path).map_err(|e| Error::io("look for", shown(path), e));
    if !present(&paths.dir)? {
        return Ok(());
    }
    // The manifest goes first: without it the rest is nothing.
    for file in [&paths.manifest, &paths.stage] {
        if present(file)? {
            fs.remove_file(file).map_err(|e| Error::io("remove", shown(file), e))?;
        }
    }
    for dir in [&paths.wal, &paths.tables] {
        if present(dir)? {
            for name in fs.list(dir).map_err(|e| Error::io("list", shown(dir), e))? {
                let path = dir.join(name);
                fs.remove_file(&path).map_err(|e| Error::io("remove", shown(&path), e))?;
            }
            fs.remove_dir(dir).map_err(|e| Error::io("remove", shown(dir), e))?;
        }
    }
    fs.remove_dir(&paths.dir).map_err(|e| Error::io("remove", shown(&paths.dir), e))?;
    sync_dir(fs, Path::new(""))
}

/// Read a shard back.
pub async fn recover_shard(
    home: &Home,
    shard: ShardId,
    clock: Arc<dyn Clock>,
    executor: Rc<dyn Executor>,
) -> Result<Offline> {
    let ring = Arc::new(Ring::new(home.shards, home.vnodes));
    let paths = ShardPaths::of(shard);
    let keeper = Keeper::load(home, shard)?;
    let log_dir = home.log_dir(shard);
    let stage = read_stage(&home.fs, &paths.stage)?;
    let mut replay = Replay::new(shard, keeper.max_commit(), home.options.memtable_bytes, home.hash_seed);
    let from = keeper.replay_from();
    let known = Known { from, durable_floor: from, life: home.life };
    let recovered = recover(&executor, &log_dir, known, &stage, &mut |frames| replay.apply(frames)).await?;
    let (tables, table_bytes) = keeper.size();
    let report = ShardReport { log: recovered.report.clone(), tables, table_bytes };
    Ok(Offline {
        shard,
        paths,
        executor,
        clock,
        ring,
        hash_seed: home.hash_seed,
        fs: Arc::clone(&home.fs),
        keeper,
        log_dir,
        recovered,
        replay,
        report,
    })
}

fn read_stage(fs: &Arc<dyn Fs>, path: &Path) -> Result<Vec<u8>> {
    let shown = fs.root().join(path);
    if !fs.exists(path).map_err(|e| Error::io("look for", &shown, e))? {
        return Ok(Vec::new());
    }
    let file = fs.open(path, OpenMode::Read).map_err(|e| Error::io("open", &shown, e))?;
    let len = file.size().map_err(|e| Error::io("size of", &shown, e))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_all_blocking(0, &mut bytes).map_err(|e| Error::io_at("read", &shown, 0, e))?;
    Ok(bytes)
}
