//! The index of a sorted table: for each data block its place, its length and its last version.
//!
//! Guards: a search ends at the one block that can hold the version looked for. The whole index is checked when the
//! table is opened; reading an entry still checks every length.
//!
//! Index, all numbers little-endian:
//!
//! ```text
//!  0     4       8     16      24         32      36    40
//!  | crc | flags | len | db id | table id | count | 0   | entries … | count × u32: where each entry begins
//! ```
//!
//! `crc` covers the bytes from 4 to `len`. Entry positions count from 40. Entry:
//!
//! ```text
//!  0          8           12        16   24         26
//!  | block at | block len | key len | ts | keyspace | key
//! ```

use std::cmp::Ordering;
use std::ops::Range;

use super::block::cmp_versions;
use super::damage::Damage;
use super::le::{u16_at, u32_at, u64_at};
use crate::ids::{CommitTs, Keyspace};

const CRC: Range<usize> = 0..4;
const FLAGS: Range<usize> = CRC.end..CRC.end + 4;
const LEN: Range<usize> = FLAGS.end..FLAGS.end + 8;
const DB: Range<usize> = LEN.end..LEN.end + 8;
const TABLE: Range<usize> = DB.end..DB.end + 8;
const COUNT: Range<usize> = TABLE.end..TABLE.end + 4;
const ZERO: Range<usize> = COUNT.end..COUNT.end + 4;
const HEADER_LEN: usize = ZERO.end;
const OFFSET_LEN: usize = 4;

const E_BLOCK: Range<usize> = 0..8;
const E_BLOCK_LEN: Range<usize> = E_BLOCK.end..E_BLOCK.end + 4;
const E_KEY_LEN: Range<usize> = E_BLOCK_LEN.end..E_BLOCK_LEN.end + 4;
const E_TS: Range<usize> = E_KEY_LEN.end..E_KEY_LEN.end + 8;
const E_KEYSPACE: Range<usize> = E_TS.end..E_TS.end + 2;
const E_LEN: usize = E_KEYSPACE.end;

const _: () = assert!(HEADER_LEN == 40);
const _: () = assert!(E_LEN == 26);

/// Where a block lies in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockPlace {
    pub at: u64,
    pub len: u32,
}

/// A block's place, and its last version.
pub type IndexEntry<'a> = (BlockPlace, (Keyspace, &'a [u8], CommitTs));

/// Gathers index entries, in the order of the blocks.
#[derive(Default)]
pub struct IndexBuilder {
    entries: Vec<u8>,
    offsets: Vec<u32>,
}

impl IndexBuilder {
    pub fn count(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of the index if it ended here.
    pub fn len(&self) -> usize {
        HEADER_LEN + self.entries.len() + self.offsets.len() * OFFSET_LEN
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub fn push(&mut self, place: BlockPlace, last: (Keyspace, &[u8], CommitTs)) {
        self.offsets.push(u32::try_from(self.entries.len()).expect("an index is smaller than 4 GiB"));
        self.entries.extend_from_slice(&place.at.to_le_bytes());
        self.entries.extend_from_slice(&place.len.to_le_bytes());
        self.entries.extend_from_slice(&(last.1.len() as u32).to_le_bytes());
        self.entries.extend_from_slice(&last.2.0.to_le_bytes());
        self.entries.extend_from_slice(&last.0.0.to_le_bytes());
        self.entries.extend_from_slice(last.1);
    }

    pub fn finish(self, db_id: u64, table_id: u64) -> Vec<u8> {
        let len = self.len() as u64;
        let mut bytes = vec![0; HEADER_LEN];
        bytes[LEN].copy_from_slice(&len.to_le_bytes());
        bytes[DB].copy_from_slice(&db_id.to_le_bytes());
        bytes[TABLE].copy_from_slice(&table_id.to_le_bytes());
        bytes[COUNT].copy_from_slice(&(self.offsets.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.entries);
        for offset in &self.offsets {
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[FLAGS.start..]);
        bytes[CRC].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// An index whose bytes have been checked.
#[derive(Clone, Copy)]
pub struct IndexRef<'a> {
    bytes: &'a [u8],
    count: usize,
    entries_end: usize,
}

impl<'a> IndexRef<'a> {
    /// Checks all of `bytes`, which hold exactly the index.
    pub fn open(bytes: &'a [u8], db_id: u64, table_id: u64) -> Result<IndexRef<'a>, Damage> {
        let short = || Damage::new(0, format!("{} bytes are no index", bytes.len()));
        let stored = u32_at(bytes, CRC).ok_or_else(short)?;
        let flags = u32_at(bytes, FLAGS).ok_or_else(short)?;
        let len = u64_at(bytes, LEN).ok_or_else(short)?;
        let db = u64_at(bytes, DB).ok_or_else(short)?;
        let table = u64_at(bytes, TABLE).ok_or_else(short)?;
        let zero = u32_at(bytes, ZERO).ok_or_else(short)?;
        let index = IndexRef::reopen(bytes).ok_or_else(short)?;
        if len != bytes.len() as u64 {
            return Err(Damage::new(LEN.start, format!("an index of {len} bytes in {}", bytes.len())));
        }
        let found = crc32fast::hash(&bytes[FLAGS.start..]);
        if stored != found {
            return Err(Damage::new(0, format!("index's checksum {found:08x}, {stored:08x} is stored")));
        }
        if flags != 0 || zero != 0 || (db, table) != (db_id, table_id) {
            return Err(Damage::new(
                FLAGS.start,
                format!(
                    "an index of table {table} of database {db:016x}, flags {flags:#x}, where that of table {table_id} of {db_id:016x} belongs"
                ),
            ));
        }
        let mut end = HEADER_LEN;
        for i in 0..index.count {
            let (_, (_, key, _)) = index.entry(i).ok_or_else(|| index.broken_entry(i))?;
            // One behind the other, so that no entry can pass for two.
            if index.entry_at(i) != Some(end) {
                return Err(index.broken_entry(i));
            }
            end += E_LEN + key.len();
        }
        if end != index.entries_end {
            return Err(Damage::new(end, "bytes behind the last index entry"));
        }
        Ok(index)
    }

    /// The index in bytes that [`IndexRef::open`] has checked before.
    pub fn reopen(bytes: &'a [u8]) -> Option<IndexRef<'a>> {
        let count = u32_at(bytes, COUNT)? as usize;
        let entries_end = bytes.len().checked_sub(count.checked_mul(OFFSET_LEN)?)?;
        (entries_end >= HEADER_LEN).then_some(IndexRef { bytes, count, entries_end })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Place and last version of block `i`.
    pub fn entry(&self, i: usize) -> Option<IndexEntry<'a>> {
        let start = self.entry_at(i)?;
        let head = self.bytes.get(start..start.checked_add(E_LEN)?)?;
        let key_at = start + E_LEN;
        let key_end = key_at.checked_add(u32_at(head, E_KEY_LEN)? as usize)?;
        let key = self.bytes.get(..self.entries_end)?.get(key_at..key_end)?;
        let place = BlockPlace { at: u64_at(head, E_BLOCK)?, len: u32_at(head, E_BLOCK_LEN)? };
        Some((place, (Keyspace(u16_at(head, E_KEYSPACE)?), key, CommitTs(u64_at(head, E_TS)?))))
    }

    /// Where entry `i` begins.
    fn entry_at(&self, i: usize) -> Option<usize> {
        if i >= self.count {
            return None;
        }
        let at = self.entries_end + i * OFFSET_LEN;
        HEADER_LEN.checked_add(u32_at(self.bytes, at..at + OFFSET_LEN)? as usize)
    }

    /// The first block of `among` whose last version is not before `(keyspace, key, ts)`; its end if there is none.
    pub fn lower_bound(
        &self,
        among: Range<usize>,
        keyspace: Keyspace,
        key: &[u8],
        ts: CommitTs,
    ) -> Result<usize, Damage> {
        let Range { start: mut low, end: mut high } = among;
        while low < high {
            let middle = low + (high - low) / 2;
            let (_, last) = self.entry(middle).ok_or_else(|| self.broken_entry(middle))?;
            match cmp_versions(last, (keyspace, key, ts)) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal | Ordering::Greater => high = middle,
            }
        }
        Ok(low)
    }

    pub fn broken_entry(&self, i: usize) -> Damage {
        Damage::new(self.entries_end + i * OFFSET_LEN, format!("index entry {i} of {} does not fit", self.count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = IndexBuilder::default();
        builder.push(BlockPlace { at: 0, len: 4000 }, (Keyspace(1), b"b", CommitTs(9)));
        builder.push(BlockPlace { at: 4096, len: 300 }, (Keyspace(1), b"b", CommitTs(3)));
        builder.push(BlockPlace { at: 8192, len: 40 }, (Keyspace(2), b"", CommitTs(5)));
        assert_eq!(builder.len(), builder.entries.len() + 40 + 12);
        builder.finish(0x11, 0x22)
    }

    #[test]
    fn golden_bytes() {
        let mut builder = IndexBuilder::default();
        builder.push(BlockPlace { at: 4096, len: 300 }, (Keyspace(0x0201), b"k", CommitTs(5)));
        #[rustfmt::skip]
        let golden = [
            0, 0, 0, 0,                       // checksum, below
            0, 0, 0, 0,                       // flags
            71, 0, 0, 0, 0, 0, 0, 0,          // length: 40 + 27 + 4
            0x11, 0, 0, 0, 0, 0, 0, 0,        // database
            0x22, 0, 0, 0, 0, 0, 0, 0,        // table
            1, 0, 0, 0,                       // count
            0, 0, 0, 0,
            0, 16, 0, 0, 0, 0, 0, 0,          // block at 4096
            44, 1, 0, 0,                      // block length 300
            1, 0, 0, 0,                       // key length
            5, 0, 0, 0, 0, 0, 0, 0,           // ts
            1, 2,                             // keyspace
            b'k',
            0, 0, 0, 0,                       // where entry 0 begins
        ];
        let bytes = builder.finish(0x11, 0x22);
        assert_eq!(bytes[4..], golden[4..]);
        assert_eq!(bytes[..4], crc32fast::hash(&golden[4..]).to_le_bytes());
    }

    #[test]
    fn a_search_ends_at_the_block_that_can_hold_the_version() {
        let bytes = sample();
        let index = IndexRef::open(&bytes, 0x11, 0x22).unwrap();
        let find = |keyspace, key: &[u8], ts| index.lower_bound(0..3, Keyspace(keyspace), key, CommitTs(ts)).unwrap();
        assert_eq!(find(0, b"zz", 1), 0);
        assert_eq!(find(1, b"b", u64::MAX), 0);
        assert_eq!(find(1, b"b", 9), 0);
        assert_eq!(find(1, b"b", 8), 1);
        assert_eq!(find(1, b"b", 2), 2);
        assert_eq!(find(2, b"", 5), 2);
        assert_eq!(find(2, b"", 4), 3);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(IndexRef::open(&broken, 0x11, 0x22).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(IndexRef::open(&bytes[..len], 0x11, 0x22).is_err(), "cut to {len}");
        }
        assert!(IndexRef::open(&bytes, 0x11, 0x23).is_err());
        assert!(IndexRef::open(&bytes, 0x12, 0x22).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), fit: bool, count in 0..4u32) {
            if fit && bytes.len() >= HEADER_LEN {
                // A plausible header, so that the entries are reached.
                let len = bytes.len() as u64;
                bytes[LEN].copy_from_slice(&len.to_le_bytes());
                bytes[COUNT].copy_from_slice(&count.to_le_bytes());
            }
            let _ = IndexRef::open(&bytes, 0, 0);
            if let Some(index) = IndexRef::reopen(&bytes) {
                let _ = index.lower_bound(0..index.count(), Keyspace(1), b"key", CommitTs(1));
                (0..5).for_each(|i| assert!(index.entry(i).is_none() || i < 4));
            }
        }
    }
}
