//! The last 4 KiB of a sorted table: whose it is, where its parts are, and what it holds.
//!
//! Guards: a file that was cut, swapped with another or written by another version is told apart from a good one before
//! any other byte of it is used.
//! Does not: check the parts themselves; they carry their own checksums.
//!
//! Footer, all numbers little-endian:
//!
//! ```text
//!    0       8         12      16      24         32             40      42    44       48
//!    | magic | version | flags | db id | table id | ring version | shard | 0   | blocks | file len
//!   56         64         72          80         88          96        104    112       120      128      136
//!    | data len | index at | index len | bloom at | bloom len | entries | keys | deletes | min ts | max ts
//!  136           138         140         142         144
//!    | lower len | lower ks  | upper len | upper ks  | lower bound (256) | upper bound (256) | 0 … | crc (last 4 bytes)
//! ```
//!
//! `crc` covers all the bytes before it. A file is: data blocks, each beginning at a multiple of 4096 with zeroes
//! between; the index; the filter; zeroes; the footer, at the last multiple of 4096.

use std::ops::Range;

use super::damage::Damage;
use super::le::{u16_at, u32_at, u64_at};
use super::manifest::{BOUND_LEN_MAX, KeyBound, TableMeta};
use crate::ids::{CommitTs, Keyspace, ShardId};

const MAGIC: Range<usize> = 0..8;
const VERSION: Range<usize> = MAGIC.end..MAGIC.end + 4;
const FLAGS: Range<usize> = VERSION.end..VERSION.end + 4;
const DB: Range<usize> = FLAGS.end..FLAGS.end + 8;
const TABLE: Range<usize> = DB.end..DB.end + 8;
const RING: Range<usize> = TABLE.end..TABLE.end + 8;
const SHARD: Range<usize> = RING.end..RING.end + 2;
const ZERO: Range<usize> = SHARD.end..SHARD.end + 2;
const BLOCKS: Range<usize> = ZERO.end..ZERO.end + 4;
const FILE_LEN: Range<usize> = BLOCKS.end..BLOCKS.end + 8;
const DATA_LEN: Range<usize> = FILE_LEN.end..FILE_LEN.end + 8;
const INDEX_AT: Range<usize> = DATA_LEN.end..DATA_LEN.end + 8;
const INDEX_LEN: Range<usize> = INDEX_AT.end..INDEX_AT.end + 8;
const BLOOM_AT: Range<usize> = INDEX_LEN.end..INDEX_LEN.end + 8;
const BLOOM_LEN: Range<usize> = BLOOM_AT.end..BLOOM_AT.end + 8;
const ENTRIES: Range<usize> = BLOOM_LEN.end..BLOOM_LEN.end + 8;
const KEYS: Range<usize> = ENTRIES.end..ENTRIES.end + 8;
const DELETES: Range<usize> = KEYS.end..KEYS.end + 8;
const MIN_TS: Range<usize> = DELETES.end..DELETES.end + 8;
const MAX_TS: Range<usize> = MIN_TS.end..MIN_TS.end + 8;
const LOWER_LEN: Range<usize> = MAX_TS.end..MAX_TS.end + 2;
const LOWER_KS: Range<usize> = LOWER_LEN.end..LOWER_LEN.end + 2;
const UPPER_LEN: Range<usize> = LOWER_KS.end..LOWER_KS.end + 2;
const UPPER_KS: Range<usize> = UPPER_LEN.end..UPPER_LEN.end + 2;
const LOWER: Range<usize> = UPPER_KS.end..UPPER_KS.end + BOUND_LEN_MAX;
const UPPER: Range<usize> = LOWER.end..LOWER.end + BOUND_LEN_MAX;
const CRC: Range<usize> = FOOTER_LEN - 4..FOOTER_LEN;

pub const FOOTER_LEN: usize = 4096;
pub const MAGIC_BYTES: [u8; 8] = *b"CRTABLE\n";
/// The layout's version, raised when an older program could not read the table.
pub const TABLE_VERSION: u32 = 1;

const _: () = assert!(LOWER.start == 144);
const _: () = assert!(UPPER.end <= CRC.start);

/// What the footer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Footer {
    pub db_id: u64,
    pub shard: ShardId,
    pub blocks: u32,
    /// Data blocks and the zeroes behind each are the first bytes of the file.
    pub data_len: u64,
    pub index: Range<u64>,
    pub bloom: Range<u64>,
    pub meta: TableMeta,
}

/// Why the last 4 KiB are no footer that this program can use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FooterFault {
    Damaged(Damage),
    /// Intact, but of a version this program does not know.
    Version(u32),
}

impl Footer {
    pub fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut out = [0; FOOTER_LEN];
        let meta = &self.meta;
        let mut put =
            |range: Range<usize>, bytes: &[u8]| out[range.start..range.start + bytes.len()].copy_from_slice(bytes);
        put(MAGIC, &MAGIC_BYTES);
        put(VERSION, &TABLE_VERSION.to_le_bytes());
        put(SHARD, &self.shard.0.to_le_bytes());
        put(BLOCKS, &self.blocks.to_le_bytes());
        for (range, number) in [
            (DB, self.db_id),
            (TABLE, meta.id),
            (RING, meta.ring_version),
            (FILE_LEN, meta.bytes),
            (DATA_LEN, self.data_len),
            (INDEX_AT, self.index.start),
            (INDEX_LEN, self.index.end - self.index.start),
            (BLOOM_AT, self.bloom.start),
            (BLOOM_LEN, self.bloom.end - self.bloom.start),
            (ENTRIES, meta.entries),
            (KEYS, meta.keys),
            (DELETES, meta.deletes),
            (MIN_TS, meta.min_ts.0),
            (MAX_TS, meta.max_ts.0),
        ] {
            put(range, &number.to_le_bytes());
        }
        for (bound, len, keyspace, at) in
            [(&meta.lower, LOWER_LEN, LOWER_KS, LOWER), (&meta.upper, UPPER_LEN, UPPER_KS, UPPER)]
        {
            put(len, &(bound.prefix().len() as u16).to_le_bytes());
            put(keyspace, &bound.keyspace.0.to_le_bytes());
            put(at, bound.prefix());
        }
        let crc = crc32fast::hash(&out[..CRC.start]);
        out[CRC].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The footer of a file of `file_len` bytes; its parts lie inside the file and do not overlap.
    pub fn decode(bytes: &[u8], file_len: u64) -> Result<Footer, FooterFault> {
        let damaged = |at: usize, what: String| FooterFault::Damaged(Damage::new(at, what));
        let Ok(bytes) = <&[u8; FOOTER_LEN]>::try_from(bytes) else {
            return Err(damaged(0, format!("a footer of {} bytes", bytes.len())));
        };
        let number = |range: Range<usize>| u64_at(bytes, range).expect("inside the footer");
        let small = |range: Range<usize>| u16_at(bytes, range).expect("inside the footer");
        let middle = |range: Range<usize>| u32_at(bytes, range).expect("inside the footer");
        if bytes[MAGIC] != MAGIC_BYTES {
            return Err(damaged(0, "no footer of a table".into()));
        }
        let found = crc32fast::hash(&bytes[..CRC.start]);
        if found != middle(CRC) {
            return Err(damaged(CRC.start, format!("footer's checksum {found:08x}, {:08x} is stored", middle(CRC))));
        }
        if middle(VERSION) != TABLE_VERSION {
            return Err(FooterFault::Version(middle(VERSION)));
        }
        if middle(FLAGS) != 0 || small(ZERO) != 0 {
            return Err(damaged(FLAGS.start, format!("unknown flags {:#x}, {:#x}", middle(FLAGS), small(ZERO))));
        }
        if number(FILE_LEN) != file_len {
            return Err(damaged(
                FILE_LEN.start,
                format!("the file has {file_len} bytes, {} were written", number(FILE_LEN)),
            ));
        }
        let part = |at: Range<usize>, len: Range<usize>, name: &str| {
            let start = number(at.clone());
            match start.checked_add(number(len.clone())) {
                Some(end) if end <= file_len => Ok(start..end),
                _ => Err(damaged(at.start, format!("{name}: {} bytes from {start} end behind the file", number(len)))),
            }
        };
        let index = part(INDEX_AT, INDEX_LEN, "index")?;
        let bloom = part(BLOOM_AT, BLOOM_LEN, "filter")?;
        let data_len = number(DATA_LEN);
        if data_len > index.start
            || index.end > bloom.start
            || file_len.checked_sub(FOOTER_LEN as u64).is_none_or(|room| bloom.end > room)
        {
            return Err(damaged(DATA_LEN.start, format!("parts overlap: data {data_len}, {index:?}, {bloom:?}")));
        }
        let bound = |len: Range<usize>, keyspace: Range<usize>, at: Range<usize>| {
            let prefix = bytes[at].get(..usize::from(small(len.clone())));
            let prefix = prefix.ok_or_else(|| damaged(len.start, "a bound that is too long".into()))?;
            Ok(KeyBound::of(Keyspace(small(keyspace)), prefix))
        };
        let meta = TableMeta {
            id: number(TABLE),
            bytes: file_len,
            entries: number(ENTRIES),
            keys: number(KEYS),
            deletes: number(DELETES),
            min_ts: CommitTs(number(MIN_TS)),
            max_ts: CommitTs(number(MAX_TS)),
            ring_version: number(RING),
            lower: bound(LOWER_LEN, LOWER_KS, LOWER)?,
            upper: bound(UPPER_LEN, UPPER_KS, UPPER)?,
        };
        let footer = Footer {
            db_id: number(DB),
            shard: ShardId(small(SHARD)),
            blocks: middle(BLOCKS),
            data_len,
            index,
            bloom,
            meta,
        };
        // All fields were read, so what differs stands where zeroes belong.
        match footer.encode().iter().zip(bytes).position(|(expected, found)| expected != found) {
            Some(at) => Err(damaged(at, "a byte that should be zero is not".into())),
            None => Ok(footer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Footer {
        Footer {
            db_id: 0x0807_0605_0403_0201,
            shard: ShardId(0x0a0b),
            blocks: 2,
            data_len: 0x2000,
            index: 0x2000..0x2050,
            bloom: 0x2050..0x20a0,
            meta: TableMeta {
                id: 5,
                bytes: 0x4000,
                entries: 10,
                keys: 9,
                deletes: 1,
                min_ts: CommitTs(3),
                max_ts: CommitTs(4),
                ring_version: 6,
                lower: KeyBound::of(Keyspace(1), b"a"),
                upper: KeyBound::of(Keyspace(2), b"bc"),
            },
        }
    }

    #[test]
    fn golden_bytes() {
        #[rustfmt::skip]
        let golden = [
            b'C', b'R', b'T', b'A', b'B', b'L', b'E', b'\n',
            1, 0, 0, 0,                    // version
            0, 0, 0, 0,                    // flags
            1, 2, 3, 4, 5, 6, 7, 8,        // database
            5, 0, 0, 0, 0, 0, 0, 0,        // table
            6, 0, 0, 0, 0, 0, 0, 0,        // ring version
            0x0b, 0x0a,                    // shard
            0, 0,
            2, 0, 0, 0,                    // blocks
            0, 0x40, 0, 0, 0, 0, 0, 0,     // file length
            0, 0x20, 0, 0, 0, 0, 0, 0,     // data length
            0, 0x20, 0, 0, 0, 0, 0, 0,     // index
            0x50, 0, 0, 0, 0, 0, 0, 0,
            0x50, 0x20, 0, 0, 0, 0, 0, 0,  // filter
            0x50, 0, 0, 0, 0, 0, 0, 0,
            10, 0, 0, 0, 0, 0, 0, 0,       // entries
            9, 0, 0, 0, 0, 0, 0, 0,        // keys
            1, 0, 0, 0, 0, 0, 0, 0,        // deletes
            3, 0, 0, 0, 0, 0, 0, 0,        // min ts
            4, 0, 0, 0, 0, 0, 0, 0,        // max ts
            1, 0, 1, 0,                    // lower: length, keyspace
            2, 0, 2, 0,                    // upper
            b'a',
        ];
        let bytes = sample().encode();
        assert_eq!(bytes[..golden.len()], golden);
        assert!(bytes[golden.len()..400].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[400..402], *b"bc");
        assert!(bytes[402..4092].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[4092..], crc32fast::hash(&bytes[..4092]).to_le_bytes());
        assert_eq!(Footer::decode(&bytes, 0x4000), Ok(sample()));
    }

    #[test]
    fn another_length_or_version_is_told_apart() {
        let bytes = sample().encode();
        assert!(matches!(Footer::decode(&bytes, 0x5000), Err(FooterFault::Damaged(_))));
        assert!(matches!(Footer::decode(&bytes[1..], 0x4000), Err(FooterFault::Damaged(_))));
        let mut newer = bytes;
        newer[VERSION.start] = 2;
        let crc = crc32fast::hash(&newer[..CRC.start]);
        newer[CRC].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Footer::decode(&newer, 0x4000), Err(FooterFault::Version(2)));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&broken, 0x4000).is_err(), "bit {bit}");
        }
    }

    proptest! {
        /// Even with the right magic and checksum, no number is trusted.
        #[test]
        fn random_footers_never_panic(start in prop::collection::vec(any::<u8>(), 8..1000), file_len: u64, fit: bool) {
            let mut bytes = [0; FOOTER_LEN];
            bytes[..start.len()].copy_from_slice(&start);
            bytes[MAGIC].copy_from_slice(&MAGIC_BYTES);
            bytes[VERSION].copy_from_slice(&TABLE_VERSION.to_le_bytes());
            bytes[FLAGS].fill(0);
            bytes[ZERO].fill(0);
            if fit {
                bytes[FILE_LEN].copy_from_slice(&file_len.to_le_bytes());
            }
            let crc = crc32fast::hash(&bytes[..CRC.start]);
            bytes[CRC].copy_from_slice(&crc.to_le_bytes());
            let _ = Footer::decode(&bytes, file_len);
        }
    }
}
