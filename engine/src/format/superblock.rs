//! The root record of a database: who it is, how often it was opened, how its keys lie on the ring. Saving it with another
//! shard count and the next ring version is the one commit point of resharding (docs/resharding.md).
//!
//! ```text
//!  0         2        4        8       16     24            32        34
//!  | version | vnodes | 0      | db_id | life | ring_version | shards | zeros to 64
//! ```
//!
//! Kept by `format/mirror.rs`, which checks it.

use std::ops::Range;

use super::le::{fixed_u16, fixed_u64, is_zero};
use crate::ids::Life;

const VERSION: Range<usize> = 0..2;
const VNODES: Range<usize> = VERSION.end..VERSION.end + 2;
const DB_ID: Range<usize> = VNODES.end + 4..VNODES.end + 12;
const LIFE: Range<usize> = DB_ID.end..DB_ID.end + 8;
const RING_VERSION: Range<usize> = LIFE.end..LIFE.end + 8;
const SHARDS: Range<usize> = RING_VERSION.end..RING_VERSION.end + 2;
const SUPERBLOCK_LEN: usize = 64;
const _: () = assert!(SHARDS.end == 34 && SHARDS.end <= SUPERBLOCK_LEN);
const FORMAT_VERSION: u16 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    pub db_id: u64,
    pub life: Life,
    pub ring_version: u64,
    pub vnodes: u16,
    pub shards: u16,
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
        };
        if found.shards == 0 || found.vnodes == 0 {
            return Err(BadSuperblock::Fields("a ring without shards or virtual nodes"));
        }
        if !is_zero(&bytes[SHARDS.end..]) || !is_zero(&bytes[VNODES.end..DB_ID.start]) {
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
        let superblock =
            Superblock { db_id: 0x0807_0605_0403_0201, life: Life(3), ring_version: 2, vnodes: 512, shards: 4 };
        let mut expected = vec![1, 0, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([2, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
        expected.resize(64, 0);
        assert_eq!(superblock.encode(), expected);
        assert_eq!(Superblock::decode(&expected), Ok(superblock));
        for cut in 0..64 {
            assert_eq!(Superblock::decode(&expected[..cut]), Err(BadSuperblock::Length(cut)));
        }
        expected[0] = 9;
        assert_eq!(Superblock::decode(&expected), Err(BadSuperblock::Version(9)));
    }
}
