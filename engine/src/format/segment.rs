//! The first block of a log segment.
//!
//! ```text
//!  0       8      12     14    16      24         32         40     48            ... 4096
//!  | magic | crc  | ver  | shd | db_id | sequence | base_lsn | life | zeros
//! ```
//!
//! `crc` covers bytes 12..4096. A header whose `sequence` is not the one in the file's name belongs to an earlier use
//! of the file: the segment is a spare that was not begun yet.

use std::ops::Range;

use super::le::{fixed_u16, fixed_u32, fixed_u64, is_zero};
use crate::ids::{Life, Lsn, ShardId};
use crate::runtime::BLOCK;

const MAGIC: Range<usize> = 0..8;
const CRC: Range<usize> = MAGIC.end..MAGIC.end + 4;
const VERSION: Range<usize> = CRC.end..CRC.end + 2;
const SHARD: Range<usize> = VERSION.end..VERSION.end + 2;
const DB_ID: Range<usize> = SHARD.end..SHARD.end + 8;
const SEQUENCE: Range<usize> = DB_ID.end..DB_ID.end + 8;
const BASE_LSN: Range<usize> = SEQUENCE.end..SEQUENCE.end + 8;
const LIFE: Range<usize> = BASE_LSN.end..BASE_LSN.end + 8;
const _: () = assert!(LIFE.end == 48);

/// Batches begin behind the header.
pub const SEGMENT_HEADER_LEN: usize = BLOCK;
const MAGIC_BYTES: [u8; 8] = *b"CRsegmnt";
const VERSION_NOW: u16 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    pub db_id: u64,
    pub shard: ShardId,
    pub sequence: u64,
    /// The log position of the first batch.
    pub base_lsn: Lsn,
    pub life: Life,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentAt {
    NeverWritten,
    Valid(SegmentHeader),
    Unreadable,
}

impl SegmentHeader {
    /// Write the header over the whole first block.
    pub fn encode(&self, out: &mut [u8]) {
        let out = &mut out[..SEGMENT_HEADER_LEN];
        out.fill(0);
        out[MAGIC].copy_from_slice(&MAGIC_BYTES);
        out[VERSION].copy_from_slice(&VERSION_NOW.to_le_bytes());
        out[SHARD].copy_from_slice(&self.shard.0.to_le_bytes());
        out[DB_ID].copy_from_slice(&self.db_id.to_le_bytes());
        out[SEQUENCE].copy_from_slice(&self.sequence.to_le_bytes());
        out[BASE_LSN].copy_from_slice(&self.base_lsn.0.to_le_bytes());
        out[LIFE].copy_from_slice(&self.life.0.to_le_bytes());
        let crc = crc32fast::hash(&out[CRC.end..]);
        out[CRC].copy_from_slice(&crc.to_le_bytes());
    }
}

pub fn decode(bytes: &[u8]) -> SegmentAt {
    let Some(bytes) = bytes.get(..SEGMENT_HEADER_LEN) else { return SegmentAt::Unreadable };
    if is_zero(bytes) {
        return SegmentAt::NeverWritten;
    }
    if bytes[MAGIC] != MAGIC_BYTES
        || fixed_u16(bytes, VERSION) != VERSION_NOW
        || crc32fast::hash(&bytes[CRC.end..]) != fixed_u32(bytes, CRC)
        || !is_zero(&bytes[LIFE.end..])
        || Lsn(fixed_u64(bytes, BASE_LSN)) > Lsn::LIMIT
    {
        return SegmentAt::Unreadable;
    }
    SegmentAt::Valid(SegmentHeader {
        db_id: fixed_u64(bytes, DB_ID),
        shard: ShardId(fixed_u16(bytes, SHARD)),
        sequence: fixed_u64(bytes, SEQUENCE),
        base_lsn: Lsn(fixed_u64(bytes, BASE_LSN)),
        life: Life(fixed_u64(bytes, LIFE)),
    })
}

/// The name of the segment with this sequence number.
pub fn file_name(sequence: u64) -> String {
    format!("{sequence:016}.seg")
}

/// The name of a file that is being made, to become the segment with this number.
pub fn unfinished_name(sequence: u64) -> String {
    format!("{sequence:016}.new")
}

/// Whether a name is one of [`unfinished_name`].
pub fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(".new").is_some_and(|digits| parse_name(&format!("{digits}.seg")).is_some())
}

/// The sequence number in a segment's name.
pub fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader { db_id: 0xabcd, shard: ShardId(1), sequence: 3, base_lsn: Lsn(1 << 20), life: Life(2) }
    }

    #[test]
    fn golden_bytes_of_a_header() {
        let mut out = [0xffu8; SEGMENT_HEADER_LEN];
        header().encode(&mut out);
        assert_eq!(out[..8], *b"CRsegmnt");
        assert_eq!(out[12..24], [1, 0, 1, 0, 0xcd, 0xab, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[24..48], [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert!(is_zero(&out[48..]));
        assert_eq!(decode(&out), SegmentAt::Valid(header()));
    }

    #[test]
    fn every_bit_flip_is_noticed() {
        let mut good = [0u8; SEGMENT_HEADER_LEN];
        assert_eq!(decode(&good), SegmentAt::NeverWritten);
        header().encode(&mut good);
        for bit in 0..good.len() * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes), SegmentAt::Unreadable, "bit {bit}");
        }
    }

    #[test]
    fn names_carry_the_sequence() {
        assert_eq!(file_name(42), "0000000000000042.seg");
        assert_eq!(parse_name("0000000000000042.seg"), Some(42));
        for bad in ["42.seg", "000000000000004x.seg", "0000000000000042.tbl", "+000000000000042.seg"] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
