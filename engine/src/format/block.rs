//! A data block of a sorted table: entries in the order (keyspace, key, newest version first).
//!
//! Guards: bytes of another block, table or database are noticed, and so is any changed bit. A decoder of entries
//! checks every length against the block, whatever the checksum said.
//! Does not: know where blocks lie in the file (`table_index.rs`) or pad them to whole pages (`table/writer.rs`).
//!
//! Block, all numbers little-endian:
//!
//! ```text
//!  0     4     8       16         24       28      32      36    40
//!  | crc | len | db id | table id | number | count | flags | 0   | count × u8: tags | count × u32: places | entries …
//! ```
//!
//! `crc` covers the bytes from 4 to `len`; `len` counts from 0. An entry's place counts from the end of the places, its
//! tag is the lowest byte of the filter's hash of its key: a point read looks through the tags, which lie together at
//! the front, and touches only entries that are likely the right one. `flags` is zero: the place where a compressed
//! block will say so.
//!
//! Entry:
//!
//! ```text
//!  0    8           12        16         18     19      20
//!  | ts | value len | key len | keyspace | kind | flags | expiry (8, only with EXPIRES) | key | value
//! ```

use std::cmp::Ordering;
use std::ops::Range;

use super::bloom;
use super::damage::Damage;
use super::le::{u16_at, u32_at, u64_at};
use crate::ids::{CommitTs, Expiry, Keyspace, Kind};
use crate::options::{KEY_LEN_MAX, VALUE_LEN_MAX};

const CRC: Range<usize> = 0..4;
const LEN: Range<usize> = CRC.end..CRC.end + 4;
const DB: Range<usize> = LEN.end..LEN.end + 8;
const TABLE: Range<usize> = DB.end..DB.end + 8;
const NUMBER: Range<usize> = TABLE.end..TABLE.end + 4;
const COUNT: Range<usize> = NUMBER.end..NUMBER.end + 4;
const FLAGS: Range<usize> = COUNT.end..COUNT.end + 4;
const ZERO: Range<usize> = FLAGS.end..FLAGS.end + 4;
pub const HEADER_LEN: usize = ZERO.end;
const TAG_LEN: usize = 1;
const OFFSET_LEN: usize = 4;

const E_TS: Range<usize> = 0..8;
const E_VALUE_LEN: Range<usize> = E_TS.end..E_TS.end + 4;
const E_KEY_LEN: Range<usize> = E_VALUE_LEN.end..E_VALUE_LEN.end + 4;
const E_KEYSPACE: Range<usize> = E_KEY_LEN.end..E_KEY_LEN.end + 2;
const E_KIND: usize = E_KEYSPACE.end;
const E_FLAGS: usize = E_KIND + 1;
const E_LEN: usize = E_FLAGS + 1;
const EXPIRY_LEN: usize = 8;

/// The entry is a delete; it has no value, kind or expiry.
const DELETE: u8 = 1;
/// Eight bytes of expiry follow the fixed part.
const EXPIRES: u8 = 2;

/// The largest block: one entry of the largest key and value.
pub const BLOCK_LEN_MAX: usize = HEADER_LEN + TAG_LEN + OFFSET_LEN + E_LEN + EXPIRY_LEN + KEY_LEN_MAX + VALUE_LEN_MAX;

const _: () = assert!(HEADER_LEN == 40);
const _: () = assert!(E_LEN == 20);
const _: () = assert!(BLOCK_LEN_MAX < u32::MAX as usize);

/// What one version of a key says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    Put { kind: Kind, expiry: Expiry, value: &'a [u8] },
    Delete,
}

/// One version of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRef<'a> {
    pub keyspace: Keyspace,
    pub key: &'a [u8],
    pub ts: CommitTs,
    pub op: Op<'a>,
}

impl EntryRef<'_> {
    /// Bytes the entry takes in a block, with its tag and place.
    pub fn encoded_len(&self) -> usize {
        TAG_LEN + OFFSET_LEN + self.own_len()
    }

    fn own_len(&self) -> usize {
        self.head_len() + self.key.len() + self.value().len()
    }

    fn value(&self) -> &[u8] {
        match self.op {
            Op::Put { value, .. } => value,
            Op::Delete => &[],
        }
    }

    fn head_len(&self) -> usize {
        match self.op {
            Op::Put { expiry, .. } if !expiry.is_never() => E_LEN + EXPIRY_LEN,
            Op::Put { .. } | Op::Delete => E_LEN,
        }
    }

    fn encode_head(&self, out: &mut Vec<u8>) {
        let (kind, flags, expiry) = match self.op {
            Op::Put { kind, expiry, .. } if expiry.is_never() => (kind, 0, None),
            Op::Put { kind, expiry, .. } => (kind, EXPIRES, Some(expiry)),
            Op::Delete => (Kind(0), DELETE, None),
        };
        out.extend_from_slice(&self.ts.0.to_le_bytes());
        out.extend_from_slice(&(self.value().len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.keyspace.0.to_le_bytes());
        out.push(kind.0);
        out.push(flags);
        if let Some(expiry) = expiry {
            out.extend_from_slice(&expiry.0.to_le_bytes());
        }
    }
}

/// The order of versions in a table: by keyspace, key, and then the newest first.
pub fn cmp_versions(a: (Keyspace, &[u8], CommitTs), b: (Keyspace, &[u8], CommitTs)) -> Ordering {
    a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)).then_with(|| b.2.cmp(&a.2))
}

/// Whose block it is; part of every block, so that misplaced bytes are noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockId {
    pub db_id: u64,
    pub table_id: u64,
    pub number: u32,
}

fn header(id: BlockId, len: usize, count: usize) -> [u8; HEADER_LEN] {
    let mut head = [0; HEADER_LEN];
    head[LEN].copy_from_slice(&(len as u32).to_le_bytes());
    head[DB].copy_from_slice(&id.db_id.to_le_bytes());
    head[TABLE].copy_from_slice(&id.table_id.to_le_bytes());
    head[NUMBER].copy_from_slice(&id.number.to_le_bytes());
    head[COUNT].copy_from_slice(&(count as u32).to_le_bytes());
    head
}

/// The tag of a key with this filter's hash ([`super::bloom::hash`]).
pub fn tag_of(hash: u64) -> u8 {
    hash as u8
}

/// Gathers entries, given in order, into the bytes of a block. Reusable.
#[derive(Default)]
pub struct BlockBuilder {
    tags: Vec<u8>,
    offsets: Vec<u32>,
    entries: Vec<u8>,
    bytes: Vec<u8>,
}

impl BlockBuilder {
    pub fn new() -> BlockBuilder {
        BlockBuilder::default()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub fn count(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of the block if it ended here.
    pub fn len(&self) -> usize {
        HEADER_LEN + self.offsets.len() * (TAG_LEN + OFFSET_LEN) + self.entries.len()
    }

    /// `hash` is the filter's hash of the entry's key.
    pub fn push(&mut self, entry: &EntryRef<'_>, hash: u64) {
        self.tags.push(tag_of(hash));
        self.offsets.push(self.entries.len() as u32);
        entry.encode_head(&mut self.entries);
        self.entries.extend_from_slice(entry.key);
        self.entries.extend_from_slice(entry.value());
    }

    /// The finished block; `clear` begins the next.
    pub fn finish(&mut self, id: BlockId) -> &[u8] {
        let head = header(id, self.len(), self.offsets.len());
        self.bytes.clear();
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(&self.tags);
        for offset in &self.offsets {
            self.bytes.extend_from_slice(&offset.to_le_bytes());
        }
        self.bytes.extend_from_slice(&self.entries);
        let crc = crc32fast::hash(&self.bytes[LEN.start..]);
        self.bytes[CRC].copy_from_slice(&crc.to_le_bytes());
        &self.bytes
    }

    pub fn clear(&mut self) {
        self.tags.clear();
        self.offsets.clear();
        self.entries.clear();
    }
}

/// What stands before the value in a block of this one entry, so that a large value need not be copied to be written:
/// the value follows and ends the block. `crc_of_value` adds the value's bytes to the checksum it is given.
pub fn large_block_head(
    id: BlockId,
    entry: &EntryRef<'_>,
    hash: u64,
    crc_of_value: impl FnOnce(&mut crc32fast::Hasher),
) -> Vec<u8> {
    let len = HEADER_LEN + entry.encoded_len();
    let mut head = header(id, len, 1).to_vec();
    head.push(tag_of(hash));
    head.extend_from_slice(&[0; OFFSET_LEN]);
    entry.encode_head(&mut head);
    head.extend_from_slice(entry.key);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[LEN.start..]);
    crc_of_value(&mut crc);
    head[CRC].copy_from_slice(&crc.finalize().to_le_bytes());
    head
}

/// A block whose frame (length, owner, count) has been checked; its checksum is `verify_crc`'s.
#[derive(Clone, Copy)]
pub struct BlockRef<'a> {
    /// Exactly the block, header included.
    bytes: &'a [u8],
    tags: &'a [u8],
    offsets: &'a [u8],
    entries_at: usize,
}

impl<'a> BlockRef<'a> {
    /// `bytes` begin with the block and may go on behind it; `len` is what the index says.
    pub fn open(bytes: &'a [u8], len: u32, id: BlockId) -> Result<BlockRef<'a>, Damage> {
        let short = || Damage::new(0, format!("block {}: {} bytes are no header", id.number, bytes.len()));
        let own_len = u32_at(bytes, LEN).ok_or_else(short)?;
        let db_id = u64_at(bytes, DB).ok_or_else(short)?;
        let table_id = u64_at(bytes, TABLE).ok_or_else(short)?;
        let number = u32_at(bytes, NUMBER).ok_or_else(short)?;
        let count = u32_at(bytes, COUNT).ok_or_else(short)? as usize;
        let flags = u32_at(bytes, FLAGS).ok_or_else(short)?;
        let zero = u32_at(bytes, ZERO).ok_or_else(short)?;
        if own_len != len {
            return Err(Damage::new(LEN.start, format!("block {}: length {own_len}, the index says {len}", id.number)));
        }
        if (db_id, table_id, number) != (id.db_id, id.table_id, id.number) {
            return Err(Damage::new(
                DB.start,
                format!(
                    "block {number} of table {table_id} of database {db_id:016x} where block {} of table {} of database {:016x} belongs",
                    id.number, id.table_id, id.db_id
                ),
            ));
        }
        if flags != 0 || zero != 0 {
            return Err(Damage::new(FLAGS.start, format!("block {number}: unknown flags {flags:#x}, {zero:#x}")));
        }
        let opened = bytes.get(..len as usize).and_then(|bytes| BlockRef::reopen(bytes, count));
        opened.ok_or_else(|| {
            Damage::new(
                LEN.start,
                format!("block {number}: {len} bytes cannot hold {count} entries, or {} bytes are left", bytes.len()),
            )
        })
    }

    /// The block in exactly its bytes, which [`BlockRef::open`] has checked before.
    #[inline]
    pub fn reopen(bytes: &'a [u8], count: usize) -> Option<BlockRef<'a>> {
        let offsets_at = HEADER_LEN.checked_add(count)?;
        let entries_at = offsets_at.checked_add(count.checked_mul(OFFSET_LEN)?)?;
        let tags = bytes.get(HEADER_LEN..offsets_at)?;
        let offsets = bytes.get(offsets_at..entries_at)?;
        Some(BlockRef { bytes, tags, offsets, entries_at })
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn verify_crc(&self) -> Result<(), Damage> {
        let stored = u32_at(self.bytes, CRC).unwrap_or_default();
        let found = crc32fast::hash(self.bytes.get(LEN.start..).unwrap_or_default());
        if stored != found {
            return Err(Damage::new(CRC.start, format!("checksum {found:08x}, {stored:08x} is stored")));
        }
        Ok(())
    }

    pub fn count(&self) -> usize {
        self.tags.len()
    }

    /// Where entry `i` begins in the block, and all of its fixed part.
    fn head(&self, i: usize) -> Option<(usize, &'a [u8])> {
        let offset = u32_at(self.offsets, i.checked_mul(OFFSET_LEN)?..(i + 1).checked_mul(OFFSET_LEN)?)?;
        let start = self.entries_at.checked_add(offset as usize)?;
        Some((start, self.bytes.get(start..start.checked_add(E_LEN)?)?))
    }

    /// Keyspace, key and version of entry `i`; `None` for a broken one, or past the end.
    pub fn key(&self, i: usize) -> Option<(Keyspace, &'a [u8], CommitTs)> {
        let (start, head) = self.head(i)?;
        let extra = if head[E_FLAGS] & EXPIRES != 0 { EXPIRY_LEN } else { 0 };
        let key_at = start + E_LEN + extra;
        let key_end = key_at.checked_add(u32_at(head, E_KEY_LEN)? as usize)?;
        let key = self.bytes.get(key_at..key_end)?;
        Some((Keyspace(u16_at(head, E_KEYSPACE)?), key, CommitTs(u64_at(head, E_TS)?)))
    }

    /// Entry `i`; `None` for a broken one, or past the end.
    #[inline]
    pub fn entry(&self, i: usize) -> Option<EntryRef<'a>> {
        let offset = self.offsets.get(i * OFFSET_LEN..)?.first_chunk().map(|offset| u32::from_le_bytes(*offset))?;
        let rest = self.bytes.get(self.entries_at..)?.get(offset as usize..)?;
        let (head, rest) = rest.split_first_chunk::<E_LEN>()?;
        let field = |range: Range<usize>| &head[range];
        let value_len = u32::from_le_bytes(field(E_VALUE_LEN).try_into().ok()?) as usize;
        let key_len = u32::from_le_bytes(field(E_KEY_LEN).try_into().ok()?) as usize;
        let (expiry, rest) = match head[E_FLAGS] {
            0 => (Expiry::NEVER, rest),
            DELETE if value_len == 0 => (Expiry::NEVER, rest),
            EXPIRES => {
                let (expiry, rest) = rest.split_first_chunk::<EXPIRY_LEN>()?;
                (Expiry(u64::from_le_bytes(*expiry)), rest)
            }
            _ => return None,
        };
        let (key, rest) = rest.split_at_checked(key_len)?;
        let value = rest.get(..value_len)?;
        let op = match head[E_FLAGS] {
            DELETE => Op::Delete,
            _ => Op::Put { kind: Kind(head[E_KIND]), expiry, value },
        };
        let ts = CommitTs(u64::from_le_bytes(field(E_TS).try_into().ok()?));
        let keyspace = Keyspace(u16::from_le_bytes(field(E_KEYSPACE).try_into().ok()?));
        Some(EntryRef { keyspace, key, ts, op })
    }

    /// The first entry not before `(keyspace, key, ts)`; `count` if there is none.
    pub fn lower_bound(&self, keyspace: Keyspace, key: &[u8], ts: CommitTs) -> Result<usize, Damage> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.key(middle).ok_or_else(|| self.broken_entry(middle))?;
            match cmp_versions(found, (keyspace, key, ts)) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal | Ordering::Greater => high = middle,
            }
        }
        Ok(low)
    }

    /// The newest version of the key not after `at`, by its hash; none if this block has none.
    pub fn find(
        &self,
        keyspace: Keyspace,
        key: &[u8],
        hash: u64,
        at: CommitTs,
    ) -> Result<Option<EntryRef<'a>>, Damage> {
        for i in memchr::memchr_iter(tag_of(hash), self.tags) {
            let (found_keyspace, found_key, ts) = self.key(i).ok_or_else(|| self.broken_entry(i))?;
            if (found_keyspace, found_key) == (keyspace, key) && ts <= at {
                return Ok(Some(self.entry(i).ok_or_else(|| self.broken_entry(i))?));
            }
        }
        Ok(None)
    }

    pub fn broken_entry(&self, i: usize) -> Damage {
        Damage::new(HEADER_LEN, format!("entry {i} of {} does not fit its block", self.count()))
    }

    /// Checks what reads take on trust: entries are in order and have their tags, lie one behind the other, leave no gap,
    /// and are written as the builder writes them.
    pub fn verify_entries(&self) -> Result<(), Damage> {
        let mut end = self.entries_at;
        let mut previous: Option<(Keyspace, &[u8], CommitTs)> = None;
        let mut head = Vec::with_capacity(E_LEN + EXPIRY_LEN);
        for i in 0..self.count() {
            let broken = || self.broken_entry(i);
            let (start, _) = self.head(i).ok_or_else(broken)?;
            let entry = self.entry(i).ok_or_else(broken)?;
            head.clear();
            entry.encode_head(&mut head);
            if self.bytes.get(start..start + head.len()) != Some(&head[..]) {
                return Err(Damage::new(start, format!("entry {i} sets bytes that should be zero")));
            }
            if start != end {
                return Err(Damage::new(start, format!("entry {i} begins here, the one before ended at {end}")));
            }
            end = start + entry.own_len();
            let key = (entry.keyspace, entry.key, entry.ts);
            if previous.is_some_and(|previous| cmp_versions(previous, key) != Ordering::Less) {
                return Err(Damage::new(start, format!("entry {i} is not in order")));
            }
            if self.tags.get(i) != Some(&tag_of(bloom::hash(entry.keyspace, entry.key))) {
                return Err(Damage::new(HEADER_LEN + i, format!("the tag of entry {i} is not its key's")));
            }
            previous = Some(key);
        }
        if end != self.bytes.len() {
            return Err(Damage::new(end, "bytes behind the last entry"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
