//! The filter of a sorted table: which keys are certainly not in it.
//!
//! Guards: never a false "no". A changed bit would be one, so the whole filter is checked when the table is opened.
//! A "split block" filter (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007): a key
//! touches one group of 32 bytes and sets one bit in each of its eight words. Ten bits a key give about 1.5 % false
//! "maybe".
//!
//! Filter, all numbers little-endian:
//!
//! ```text
//!  0     4       8     16      24         32
//!  | crc | flags | len | db id | table id | groups of 8 × u32 …
//! ```
//!
//! `crc` covers the bytes from 4 to `len`. The hash is XXH3-64 of the key with the keyspace as its seed; its upper
//! half chooses the group (multiply and shift), its lower half the bits. Hash, salts and choice are frozen.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::damage::Damage;
use super::le::{u32_at, u64_at};
use crate::ids::Keyspace;

const CRC: Range<usize> = 0..4;
const FLAGS: Range<usize> = CRC.end..CRC.end + 4;
const LEN: Range<usize> = FLAGS.end..FLAGS.end + 8;
const DB: Range<usize> = LEN.end..LEN.end + 8;
const TABLE: Range<usize> = DB.end..DB.end + 8;
const HEADER_LEN: usize = TABLE.end;
const GROUP_LEN: usize = 32;
const BITS_PER_KEY: u64 = 10;

const _: () = assert!(HEADER_LEN == 32);
const _: () = assert!(GROUP_LEN == SALTS.len() * 4);

/// Odd numbers; each turns the hash into the place of one bit.
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// The hash by which a filter knows a key.
pub fn hash(keyspace: Keyspace, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, u64::from(keyspace.0))
}

fn group_of(hash: u64, groups: usize) -> usize {
    (((hash >> 32) * groups as u64) >> 32) as usize
}

fn bit_of(hash: u64, word: usize) -> u32 {
    1 << ((hash as u32).wrapping_mul(SALTS[word]) >> 27)
}

/// Builds the filter of a known number of keys; many of them take a while, so that they are given in portions.
pub struct BloomBuilder {
    bytes: Vec<u8>,
}

impl BloomBuilder {
    pub fn new(keys: usize, db_id: u64, table_id: u64) -> BloomBuilder {
        let groups = (keys as u64 * BITS_PER_KEY).div_ceil(GROUP_LEN as u64 * 8).max(1) as usize;
        let mut bytes = vec![0; HEADER_LEN + groups * GROUP_LEN];
        let len = bytes.len() as u64;
        bytes[LEN].copy_from_slice(&len.to_le_bytes());
        bytes[DB].copy_from_slice(&db_id.to_le_bytes());
        bytes[TABLE].copy_from_slice(&table_id.to_le_bytes());
        BloomBuilder { bytes }
    }

    /// Adds keys by their hashes.
    pub fn add(&mut self, hashes: &[u64]) {
        let groups = &mut self.bytes[HEADER_LEN..];
        let count = groups.len() / GROUP_LEN;
        for &hash in hashes {
            let at = group_of(hash, count) * GROUP_LEN;
            for (word, bytes) in groups[at..at + GROUP_LEN].chunks_exact_mut(4).enumerate() {
                let old = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                bytes.copy_from_slice(&(old | bit_of(hash, word)).to_le_bytes());
            }
        }
    }

    pub fn finish(mut self) -> Vec<u8> {
        let crc = crc32fast::hash(&self.bytes[FLAGS.start..]);
        self.bytes[CRC].copy_from_slice(&crc.to_le_bytes());
        self.bytes
    }
}

/// A filter whose bytes have been checked.
#[derive(Clone, Copy)]
pub struct BloomRef<'a> {
    groups: &'a [u8],
}

impl<'a> BloomRef<'a> {
    /// Checks all of `bytes`, which hold exactly the filter.
    pub fn open(bytes: &'a [u8], db_id: u64, table_id: u64) -> Result<BloomRef<'a>, Damage> {
        let short = || Damage::new(0, format!("{} bytes are no filter", bytes.len()));
        let stored = u32_at(bytes, CRC).ok_or_else(short)?;
        let flags = u32_at(bytes, FLAGS).ok_or_else(short)?;
        let len = u64_at(bytes, LEN).ok_or_else(short)?;
        let db = u64_at(bytes, DB).ok_or_else(short)?;
        let table = u64_at(bytes, TABLE).ok_or_else(short)?;
        let groups = bytes.get(HEADER_LEN..).ok_or_else(short)?;
        if len != bytes.len() as u64 || groups.is_empty() || !groups.len().is_multiple_of(GROUP_LEN) {
            return Err(Damage::new(LEN.start, format!("a filter of {len} bytes in {}", bytes.len())));
        }
        let found = crc32fast::hash(&bytes[FLAGS.start..]);
        if stored != found {
            return Err(Damage::new(0, format!("filter's checksum {found:08x}, {stored:08x} is stored")));
        }
        if flags != 0 || (db, table) != (db_id, table_id) {
            return Err(Damage::new(
                FLAGS.start,
                format!(
                    "a filter of table {table} of database {db:016x}, flags {flags:#x}, where that of table {table_id} of {db_id:016x} belongs"
                ),
            ));
        }
        Ok(BloomRef { groups })
    }

    /// The filter in bytes that [`BloomRef::open`] has checked before.
    pub fn reopen(bytes: &'a [u8]) -> BloomRef<'a> {
        BloomRef { groups: bytes.get(HEADER_LEN..).unwrap_or_default() }
    }

    /// The bytes that decide about a key.
    pub fn group(&self, hash: u64) -> Option<&'a [u8]> {
        let at = group_of(hash, self.groups.len() / GROUP_LEN) * GROUP_LEN;
        self.groups.get(at..at + GROUP_LEN)
    }

    /// False: the key is not in the table.
    pub fn may_hold(&self, hash: u64) -> bool {
        let Some(group) = self.group(hash) else { return true };
        group.chunks_exact(4).enumerate().all(|(word, bytes)| {
            let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            bits & bit_of(hash, word) != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(hashes: &[u64], db_id: u64, table_id: u64) -> Vec<u8> {
        let mut builder = BloomBuilder::new(hashes.len(), db_id, table_id);
        hashes.chunks(777).for_each(|some| builder.add(some));
        builder.finish()
    }

    #[test]
    fn the_hash_is_frozen() {
        assert_eq!(hash(Keyspace(0), b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash(Keyspace(0), b"key"), xxh3_64_with_seed(b"key", 0));
        assert_ne!(hash(Keyspace(0), b"key"), hash(Keyspace(1), b"key"));
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode(&[0x0000_0001_0000_0001], 0x1122_3344_5566_7788, 7);
        #[rustfmt::skip]
        let golden = [
            0, 0, 0, 0,             // checksum, below
            0, 0, 0, 0,             // flags
            64, 0, 0, 0, 0, 0, 0, 0,
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
            7, 0, 0, 0, 0, 0, 0, 0,
            // bit number = the salt's five highest bits
            0x00, 0x01, 0x00, 0x00, // 0x47b6137b >> 27 = 8
            0x00, 0x01, 0x00, 0x00, // 0x44974d91 >> 27 = 8
            0x00, 0x00, 0x02, 0x00, // 0x8824ad5b >> 27 = 17
            0x00, 0x00, 0x10, 0x00, // 0xa2b7289d >> 27 = 20
            0x00, 0x40, 0x00, 0x00, // 0x705495c7 >> 27 = 14
            0x20, 0x00, 0x00, 0x00, // 0x2df1424b >> 27 = 5
            0x00, 0x00, 0x08, 0x00, // 0x9efc4947 >> 27 = 19
            0x00, 0x08, 0x00, 0x00, // 0x5c6bfb31 >> 27 = 11
        ];
        assert_eq!(bytes[4..], golden[4..]);
        assert_eq!(bytes[..4], crc32fast::hash(&golden[4..]).to_le_bytes());
    }

    #[test]
    fn few_false_answers_and_none_that_hide_a_key() {
        let of = |i: u32| hash(Keyspace(3), &i.to_be_bytes());
        let hashes: Vec<u64> = (0..20_000).map(of).collect();
        let bytes = encode(&hashes, 1, 2);
        let filter = BloomRef::open(&bytes, 1, 2).unwrap();
        assert!(hashes.iter().all(|hash| filter.may_hold(*hash)));
        let wrong = (20_000..120_000).filter(|i| filter.may_hold(of(*i))).count();
        assert!(wrong < 2_500, "{wrong} of 100000 absent keys pass");
        assert!(wrong > 0, "a filter of this size cannot be perfect");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode(&[1, 2, 3], 1, 2);
        assert!(BloomRef::open(&bytes, 1, 2).is_ok());
        assert!(BloomRef::open(&bytes, 1, 3).is_err());
        assert!(BloomRef::open(&bytes, 2, 2).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(BloomRef::open(&broken, 1, 2).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(BloomRef::open(&bytes[..len], 1, 2).is_err(), "cut to {len}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), hash in any::<u64>()) {
            let _ = BloomRef::open(&bytes, 1, 2);
            BloomRef::reopen(&bytes).may_hold(hash);
        }
    }
}
