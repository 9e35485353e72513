//! The root record of an open database: made, read, and changed while the engine runs.
//!
//! Guards: what it promises ahead is durable before anybody relies on it: commit numbers that a crash of the machine may take are
//! not given out again, and a lease that is not on disk is waited for. A copy in memory never runs ahead of the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::engine::remove_strange_shards;
use crate::error::{Error, Result};
use crate::format::superblock::Superblock;
use crate::ids::{CommitTs, Life, ShardId};
use crate::mirror::MirrorFile;
use crate::options::Options;
use crate::ring::VNODES;
use crate::runtime::{Clock, Fs, Host};
use crate::shard::recover::{Home, create_shard, parse_shard_dir, sync_dir};

pub const SUPERBLOCK_FILE: &str = "superblock";
/// Commits reserved ahead: at two million a second, enough for half an hour without a checkpoint.
const RESERVE: u64 = 1 << 32;
/// A life begins at the milliseconds of the wall clock times this, see [`Root::begin_life`]: a million numbers a second.
const COMMITS_OF_A_MS: u64 = 1 << 10;
/// A clock beyond the year 2109 is wrong; and clients whose numbers are doubles know those up to 2^53.
const CLOCK_MS_MAX: u64 = 1 << 42;

pub struct Root {
    kept: Mutex<(MirrorFile, Superblock)>,
    boot: u64,
    /// The longest unsynced lease promised durably in this boot; read without the lock.
    promised_ms: AtomicU64,
    clock: Arc<dyn Clock>,
    /// Until then a lock may be held of which nothing is on disk: the machine was stopped since it was granted.
    closed_until_ms: u64,
}

impl Root {
    /// The root record, made if there is none.
    pub fn open(host: &Arc<dyn Host>, options: &Options) -> Result<Root> {
        let (mirror, record) = open_record(host, options)?;
        let (boot, clock) = (host.boot(), host.clock());
        let closed_until_ms = clock.monotonic_ms() + lost_ms(&record, boot);
        Ok(Root { kept: Mutex::new((mirror, record)), boot, promised_ms: AtomicU64::new(0), clock, closed_until_ms })
    }

    pub fn record(&self) -> Superblock {
        self.kept.lock().1
    }

    /// Change the record, durably. After a failure the old one is in force.
    pub fn change(&self, change: impl FnOnce(&mut Superblock)) -> Result<Superblock> {
        let (mirror, record) = &mut *self.kept.lock();
        let mut changed = *record;
        change(&mut changed);
        if changed != *record {
            mirror.save(&changed.encode())?;
            *record = changed;
        }
        Ok(changed)
    }

    /// The next life, and the commit behind which it begins: behind all that was found, all that may have been lost, and, unless the
    /// wall clock was set back, all that was given out before by a database of which this one is an older copy.
    pub fn begin_life(&self, found: CommitTs) -> Result<(Superblock, CommitTs)> {
        let by_clock = CommitTs(self.clock.wall_ms().min(CLOCK_MS_MAX) * COMMITS_OF_A_MS);
        let start = found.max(self.record().reserved_commits).max(by_clock);
        let record = self.change(|record| {
            record.life = record.life.next();
            record.reserved_commits = CommitTs(start.0 + RESERVE);
            // Once in this boot: who opens a session after that knows what it has.
            if lost_ms(record, self.boot) > 0 && record.sessions_lost_boot != self.boot {
                (record.sessions_lost, record.sessions_lost_boot) = (start, self.boot);
            }
        })?;
        Ok((record, start))
    }

    /// Keep the reservation ahead of the last commit given out. Called at every checkpoint, between two of which there are far
    /// fewer commits than half of what is reserved.
    pub fn reserve_ahead_of(&self, last: CommitTs) -> Result<()> {
        if last.0 + RESERVE / 2 < self.record().reserved_commits.0 {
            return Ok(());
        }
        self.change(|record| record.reserved_commits = CommitTs(last.0 + RESERVE)).map(drop)
    }

    /// A lock will be held for up to `lease_ms` without being on disk.
    pub fn promise_unsynced(&self, lease_ms: u64) -> Result<()> {
        if lease_ms <= self.promised_ms.load(Ordering::Acquire) {
            return Ok(());
        }
        let record = self.record();
        // While a boot before this one is waited for, it stays on record.
        let boot = if self.is_waiting() { record.boot } else { self.boot };
        let record = if lease_ms <= record.unsynced_lease_ms && boot == record.boot {
            record
        } else {
            self.change(|record| {
                record.boot = boot;
                record.unsynced_lease_ms = record.unsynced_lease_ms.max(lease_ms.next_power_of_two());
            })?
        };
        if record.boot == self.boot {
            self.promised_ms.fetch_max(record.unsynced_lease_ms, Ordering::AcqRel);
        }
        Ok(())
    }

    pub fn closed_until_ms(&self) -> u64 {
        self.closed_until_ms
    }

    /// Whether leases of a boot before this one are still waited for.
    fn is_waiting(&self) -> bool {
        self.clock.monotonic_ms() < self.closed_until_ms
    }

    /// Everything of this life is on disk.
    pub fn end_life(&self, last: CommitTs) -> Result<()> {
        let waiting = self.is_waiting();
        self.change(|record| {
            record.reserved_commits = last;
            if !waiting {
                record.unsynced_lease_ms = 0;
            }
        })
        .map(drop)
    }
}

/// The longest lease of a lock that the end of another boot may have taken; zero if there was none.
fn lost_ms(record: &Superblock, boot: u64) -> u64 {
    if record.boot == boot { 0 } else { record.unsynced_lease_ms }
}

/// The record, made if there is none.
fn open_record(host: &Arc<dyn Host>, options: &Options) -> Result<(MirrorFile, Superblock)> {
    let fs = host.fs();
    let path = Path::new(SUPERBLOCK_FILE);
    let shown = fs.root().join(path);
    if fs.exists(path).map_err(|e| Error::io("look for", &shown, e))? {
        let (mirror, record) = MirrorFile::load(&fs, path)?;
        if let Some(bytes) = record {
            if options.error_if_exists {
                return Err(Error::invalid(format!("{} already holds a database", fs.root().display())));
            }
            let superblock = Superblock::decode(&bytes)
                .map_err(|e| Error::Incompatible { path: shown.clone(), what: e.to_string() })?;
            return Ok((mirror, superblock));
        }
        // Its creation was interrupted before anything was acknowledged.
        drop(mirror);
        fs.remove_file(path).map_err(|e| Error::io("remove", &shown, e))?;
    } else if let Some(strange) = first_shard_dir(&fs)?
        && !creation_was_interrupted(&fs)?
    {
        return Err(Error::corrupt(shown, 0, format!("the superblock is missing, but {strange} is there")));
    }
    if !options.create_if_missing {
        return Err(Error::invalid(format!("{} holds no database, and create_if_missing is off", fs.root().display())));
    }
    create_root(host, options)
}

/// The mark that a database is being created; removed once its superblock stands.
pub const CREATING_FILE: &str = "creating";

fn creation_was_interrupted(fs: &Arc<dyn Fs>) -> Result<bool> {
    let path = Path::new(CREATING_FILE);
    fs.exists(path).map_err(|e| Error::io("look for", fs.root().join(path), e))
}

fn first_shard_dir(fs: &Arc<dyn Fs>) -> Result<Option<String>> {
    let names = fs.list(Path::new("")).map_err(|e| Error::io("list", fs.root(), e))?;
    Ok(names.into_iter().find(|name| parse_shard_dir(name).is_some()))
}

/// Create a database: the mark, the shards, and last the superblock, which makes it one.
fn create_root(host: &Arc<dyn Host>, options: &Options) -> Result<(MirrorFile, Superblock)> {
    let fs = host.fs();
    let shards = match options.shards {
        Some(n) => n,
        None => u16::try_from(host.processors().len().max(1)).unwrap_or(crate::options::SHARDS_MAX),
    };
    let superblock = Superblock {
        db_id: host.random_u64(),
        life: Life(1),
        ring_version: 1,
        vnodes: VNODES,
        shards,
        reserved_commits: CommitTs::ZERO,
        unsynced_lease_ms: 0,
        boot: host.boot(),
        history_after: CommitTs::ZERO,
        sessions_lost: CommitTs::ZERO,
        sessions_lost_boot: 0,
    };
    let mark = Path::new(CREATING_FILE);
    let io = |op, path: &Path, e| Error::io(op, fs.root().join(path), e);
    if !creation_was_interrupted(&fs)? {
        fs.open(mark, crate::runtime::OpenMode::CreateNew).map_err(|e| io("create", mark, e))?;
    }
    // Also one that was found: whoever made it may have been killed before its name was durable.
    sync_dir(&fs, Path::new(""))?;
    remove_strange_shards(&fs, 0)?;
    let home = Home {
        fs: Arc::clone(&fs),
        db_id: superblock.db_id,
        life: superblock.life,
        ring_version: superblock.ring_version,
        shards: superblock.shards,
        vnodes: superblock.vnodes,
        hash_seed: host.random_u64(),
        options: options.clone(),
    };
    for shard in 0..shards {
        create_shard(&home, ShardId(shard))?;
    }
    let mut mirror = MirrorFile::create(&fs, Path::new(SUPERBLOCK_FILE))?;
    mirror.save(&superblock.encode())?;
    fs.remove_file(mark).map_err(|e| io("remove", mark, e))?;
    sync_dir(&fs, Path::new(""))?;
    Ok((mirror, superblock))
}
