//! What a check found, and how it is told.

use std::fmt;
use std::path::PathBuf;

use crate::ids::{CommitTs, Lsn, ShardId};
use crate::txn::fate::Unsettled;
use crate::txn::owed::Owed;

/// How far a check has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckProgress {
    /// The file that is being read.
    pub path: PathBuf,
    /// Bytes read so far, in all files.
    pub bytes_read: u64,
}

/// Bytes that are not what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// The byte, or where the smallest checked piece around it begins.
    pub offset: u64,
    pub what: String,
}

/// Something that a crash may leave and the next opening puts right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub path: PathBuf,
    pub what: String,
}

/// What was read of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardCheck {
    pub shard: ShardId,
    pub tables: u64,
    /// Versions in tables.
    pub entries: u64,
    /// Batches and records of the log that an opening would replay.
    pub log_batches: u64,
    pub log_records: u64,
    /// Records on the stage that an opening would add to the log.
    pub stage_records: u64,
    /// Where the log ends; zero if it could not be read.
    pub log_end: Lsn,
    /// The last commit that it has, if its log could be read, and what that says of the other shards.
    pub(super) reached: Option<CommitTs>,
    pub(super) owed: Owed,
    /// What it does not know by itself, if it could be read.
    pub(super) unsettled: Option<Unsettled>,
    pub bytes_read: u64,
}

/// The account of one check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub damages: Vec<Damage>,
    pub notes: Vec<Note>,
    pub shards: Vec<ShardCheck>,
}

impl CheckReport {
    pub fn is_clean(&self) -> bool {
        self.damages.is_empty()
    }

    pub fn bytes_read(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes_read).sum()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.path.display(), self.offset, self.what)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl fmt::Display for ShardCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shard {}: {} tables with {} entries, {} log batches with {} records, {} bytes read",
            self.shard, self.tables, self.entries, self.log_batches, self.log_records, self.bytes_read
        )?;
        if self.stage_records > 0 {
            write!(f, ", {} records on the stage", self.stage_records)?;
        }
        Ok(())
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shard in &self.shards {
            writeln!(f, "{shard}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for damage in &self.damages {
            writeln!(f, "DAMAGE: {damage}")?;
        }
        match self.damages.len() {
            0 => write!(f, "no damage found"),
            1 => write!(f, "1 damaged place found"),
            n => write!(f, "{n} damaged places found"),
        }
    }
}
