//! The root record of a database: who it is, how often it was opened, how its keys lie on the ring. Saving it with another
//! shard count and the next ring version is the one commit point of resharding (docs/resharding.md).
//!
//! ```text
//!  0         2        4   8       16     24            32       34  40                 48               56     64              72              80                   88
//!  | version | vnodes | 0 | db_id | life | ring_version | shards | 0 | reserved_commits | unsynced_lease | boot | history_after | sessions_lost | sessions_lost_boot | zeros to 96
//! ```
//!
//! Kept by `format/mirror.rs`, which checks it.

use std::ops::Range;

use super::le::{fixed_u16, fixed_u64, is_zero};
use crate::ids::{CommitTs, Life};

const VERSION: Range<usize> = 0..2;
const VNODES: Range<usize> = VERSION.end..VERSION.end + 2;
const DB_ID: Range<usize> = VNODES.end + 4..VNODES.end + 12;
const LIFE: Range<usize> = DB_ID.end..DB_ID.end + 8;
const RING_VERSION: Range<usize> = LIFE.end..LIFE.end + 8;
const SHARDS: Range<usize> = RING_VERSION.end..RING_VERSION.end + 2;
const RESERVED_COMMITS: Range<usize> = SHARDS.end + 6..SHARDS.end + 14;
const UNSYNCED_LEASE: Range<usize> = RESERVED_COMMITS.end..RESERVED_COMMITS.end + 8;
const BOOT: Range<usize> = UNSYNCED_LEASE.end..UNSYNCED_LEASE.end + 8;
const HISTORY_AFTER: Range<usize> = BOOT.end..BOOT.end + 8;
const SESSIONS_LOST: Range<usize> = HISTORY_AFTER.end..HISTORY_AFTER.end + 8;
const SESSIONS_LOST_BOOT: Range<usize> = SESSIONS_LOST.end..SESSIONS_LOST.end + 8;
const SUPERBLOCK_LEN: usize = 96;
const _: () = assert!(SHARDS.end == 34 && HISTORY_AFTER.end == 72 && SESSIONS_LOST_BOOT.end <= SUPERBLOCK_LEN);
const FORMAT_VERSION: u16 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    pub db_id: u64,
    pub life: Life,
    pub ring_version: u64,
    pub vnodes: u16,
    pub shards: u16,
    /// Commits up to this one may have been given out without being on disk.
    pub reserved_commits: CommitTs,
    /// The longest lease, in milliseconds, of a lock that may be held without being on disk; zero if there can be none.
    pub unsynced_lease_ms: u64,
    /// The boot of the machine in which that was so.
    pub boot: u64,
    /// The logs tell nothing of commits up to here that a watch could use: they were of another ring.
    pub history_after: CommitTs,
    /// Sessions made up to this commit may have been told of locks that a crash of the machine took; zero if there are none.
    pub sessions_lost: CommitTs,
    /// The boot of the machine that found that.
    pub sessions_lost_boot: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadSuperblock {
    Length(usize),
    Version(u16),
    Fields(&'static str),
}

impl std::fmt::Display for BadSuperblock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadSuperblock::Length(len) => write!(f, "a superblock of {len} bytes; {SUPERBLOCK_LEN} expected"),
            BadSuperblock::Version(v) => {
                write!(f, "format version {v}; this program reads version {FORMAT_VERSION}")
            }
            BadSuperblock::Fields(what) => f.write_str(what),
        }
    }
}

impl Superblock {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SUPERBLOCK_LEN];
        out[VERSION].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[VNODES].copy_from_slice(&self.vnodes.to_le_bytes());
        out[DB_ID].copy_from_slice(&self.db_id.to_le_bytes());
        out[LIFE].copy_from_slice(&self.life.0.to_le_bytes());
        out[RING_VERSION].copy_from_slice(&self.ring_version.to_le_bytes());
        out[SHARDS].copy_from_slice(&self.shards.to_le_bytes());
        out[RESERVED_COMMITS].copy_from_slice(&self.reserved_commits.0.to_le_bytes());
        out[UNSYNCED_LEASE].copy_from_slice(&self.unsynced_lease_ms.to_le_bytes());
        out[BOOT].copy_from_slice(&self.boot.to_le_bytes());
        out[HISTORY_AFTER].copy_from_slice(&self.history_after.0.to_le_bytes());
        out[SESSIONS_LOST].copy_from_slice(&self.sessions_lost.0.to_le_bytes());
        out[SESSIONS_LOST_BOOT].copy_from_slice(&self.sessions_lost_boot.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Superblock, BadSuperblock> {
        if bytes.len() != SUPERBLOCK_LEN {
            return Err(BadSuperblock::Length(bytes.len()));
        }
        let version = fixed_u16(bytes, VERSION);
        if version != FORMAT_VERSION {
            return Err(BadSuperblock::Version(version));
        }
        let found = Superblock {
            db_id: fixed_u64(bytes, DB_ID),
            life: Life(fixed_u64(bytes, LIFE)),
            ring_version: fixed_u64(bytes, RING_VERSION),
            vnodes: fixed_u16(bytes, VNODES),
            shards: fixed_u16(bytes, SHARDS),
            reserved_commits: CommitTs(fixed_u64(bytes, RESERVED_COMMITS)),
            unsynced_lease_ms: fixed_u64(bytes, UNSYNCED_LEASE),
            boot: fixed_u64(bytes, BOOT),
            history_after: CommitTs(fixed_u64(bytes, HISTORY_AFTER)),
            sessions_lost: CommitTs(fixed_u64(bytes, SESSIONS_LOST)),
            sessions_lost_boot: fixed_u64(bytes, SESSIONS_LOST_BOOT),
        };
        if found.shards == 0 || found.vnodes == 0 {
            return Err(BadSuperblock::Fields("a ring without shards or virtual nodes"));
        }
        let unknown =
            [VNODES.end..DB_ID.start, SHARDS.end..RESERVED_COMMITS.start, SESSIONS_LOST_BOOT.end..SUPERBLOCK_LEN];
        if unknown.into_iter().any(|range| !is_zero(&bytes[range])) {
            return Err(BadSuperblock::Fields("bytes that this version does not know are not zero"));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let superblock = Superblock {
            db_id: 0x0807_0605_0403_0201,
            life: Life(3),
            ring_version: 2,
            vnodes: 512,
            shards: 4,
            reserved_commits: CommitTs(0x0a0b),
            unsynced_lease_ms: 5,
            boot: 6,
            history_after: CommitTs(7),
            sessions_lost: CommitTs(8),
            sessions_lost_boot: 9,
        };
        let mut expected = vec![1, 0, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([2, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
        expected.resize(40, 0);
        expected.extend([0x0b, 0x0a, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
        expected.resize(96, 0);
        assert_eq!(superblock.encode(), expected);
        assert_eq!(Superblock::decode(&expected), Ok(superblock));
        for cut in 0..96 {
            assert_eq!(Superblock::decode(&expected[..cut]), Err(BadSuperblock::Length(cut)));
        }
        expected[0] = 9;
        assert_eq!(Superblock::decode(&expected), Err(BadSuperblock::Version(9)));
    }
}
