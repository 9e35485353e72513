//! Verifies a closed database byte by byte, and says what is cheap to know of one.
//!
//! Guards: nothing is written, cut or repaired; what recovery would refuse is named as damage with the file and the byte,
//! and what it would put right by itself (a torn tail, an interrupted merge) is a note. It goes on after damage, to say as
//! much as can be said.
//! Leaves to the reader of the report: what to restore.

mod log;
mod reader;
mod report;
mod root;
mod shard;
mod stat;
mod tables;

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use report::{CheckProgress, CheckReport, Damage, Note, ShardCheck};
pub use stat::{OfflineShard, OfflineStat, stat, stat_on};

use crate::engine::LOCK_FILE;
use crate::error::{Error, Result};
use crate::format::superblock::Superblock;
use crate::ids::ShardId;
use crate::ring::Ring;
use crate::root::{CREATING_FILE, SUPERBLOCK_FILE};
use crate::runtime::host::Machine;
use crate::runtime::{Fs, Host, LockError};
use crate::shard::recover::{ShardPaths, parse_shard_dir};
use crate::txn::fate;

/// Verify the closed database in `dir`. `progress` hears of each file and of bytes as they have been read. Fails if the
/// directory holds no database or is open ([`Error::Locked`]); damage is in the report.
pub fn check(dir: &Path, progress: &mut dyn FnMut(CheckProgress)) -> Result<CheckReport> {
    let host: Arc<dyn Host> = Arc::new(Machine::new(dir, false)?);
    futures_lite::future::block_on(check_on(host, progress))
}

/// As [`check`], for the database of a host, be it a machine or a simulated one. All of its reads block.
pub async fn check_on(host: Arc<dyn Host>, progress: &mut dyn FnMut(CheckProgress)) -> Result<CheckReport> {
    let fs = host.fs();
    let _lock = lock(&fs)?;
    let mut out = Findings { report: CheckReport::default(), bytes_read: 0, progress };
    let Some(superblock) = root::check(&fs, &mut out) else { return Ok(out.report) };
    check_names(&fs, &superblock, &mut out);
    let ring = Ring::new(superblock.shards, superblock.vnodes);
    for shard in (0..superblock.shards).map(ShardId) {
        let found = shard::check(&fs, &superblock, &ring, shard, &mut out).await;
        out.report.shards.push(found);
    }
    let known: Vec<_> = out.report.shards.iter().map(|shard| (shard.reached, &shard.owed)).collect();
    let unsettled: Option<Vec<_>> = out.report.shards.iter().map(|shard| shard.unsettled.clone()).collect();
    if let Err(contradiction) = fate::agree(&known, unsettled.as_deref()) {
        out.damage(fs.root().join(ShardPaths::of(contradiction.shard()).wal), 0, contradiction.to_string());
    }
    Ok(out.report)
}

/// Take the database for this check alone.
fn lock(fs: &Arc<dyn Fs>) -> Result<Box<dyn Any + Send + Sync>> {
    let root = fs.root();
    let io = |op, e| Error::io(op, &root, e);
    let names = fs.list(Path::new("")).map_err(|e| io("list", e))?;
    // Before the lock, which would leave its file in a directory that is none of ours.
    if !names.iter().any(|name| name == SUPERBLOCK_FILE || parse_shard_dir(name).is_some()) {
        return Err(Error::invalid(format!("{} holds no database", root.display())));
    }
    fs.lock(Path::new(LOCK_FILE)).map_err(|e| match e {
        LockError::Held { pid } => Error::Locked { path: root.clone(), holder_pid: pid },
        LockError::Io(e) => Error::io("lock", root.join(LOCK_FILE), e),
    })
}

/// Files beside the shards.
fn check_names(fs: &Arc<dyn Fs>, superblock: &Superblock, out: &mut Findings<'_>) {
    for name in list(fs, Path::new(""), out) {
        let path = fs.root().join(&name);
        match parse_shard_dir(&name) {
            Some(shard) if shard.0 >= superblock.shards => {
                let shards = superblock.shards;
                out.note(path, format!("left by a change of the shard count to {shards}; the next opening removes it"));
            }
            Some(_) => {}
            None if [LOCK_FILE, SUPERBLOCK_FILE].contains(&name.as_str()) => {}
            None if name == CREATING_FILE => {
                out.note(
                    path,
                    "the mark of a creation that was interrupted at its very end; it means nothing any more",
                );
            }
            None => out.note(path, "no file of a database"),
        }
    }
}

/// Names in a directory; none, and damage, if it cannot be listed.
fn list(fs: &Arc<dyn Fs>, dir: &Path, out: &mut Findings<'_>) -> Vec<String> {
    fs.list(dir).unwrap_or_else(|e| {
        out.damaged(Error::io("list", fs.root().join(dir), e));
        Vec::new()
    })
}

/// What a check has found so far.
struct Findings<'a> {
    report: CheckReport,
    bytes_read: u64,
    progress: &'a mut dyn FnMut(CheckProgress),
}

impl Findings<'_> {
    fn damage(&mut self, path: impl Into<PathBuf>, offset: u64, what: impl Into<String>) {
        self.report.damages.push(Damage { path: path.into(), offset, what: what.into() });
    }

    fn note(&mut self, path: impl Into<PathBuf>, what: impl Into<String>) {
        self.report.notes.push(Note { path: path.into(), what: what.into() });
    }

    /// What a reader of the engine refused.
    fn damaged(&mut self, error: Error) {
        match error {
            Error::Corrupt { path, offset, what } => self.damage(path, offset, what),
            Error::Io { op, path, offset, source } => {
                self.damage(path, offset.unwrap_or(0), format!("cannot {op} it: {source}"));
            }
            Error::Incompatible { path, what } => self.damage(path, 0, what),
            other => self.damage(PathBuf::new(), 0, other.to_string()),
        }
    }

    fn read(&mut self, path: &Path, bytes: u64) {
        self.bytes_read += bytes;
        (self.progress)(CheckProgress { path: path.to_path_buf(), bytes_read: self.bytes_read });
    }
}
