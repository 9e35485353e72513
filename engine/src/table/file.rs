//! A sorted table on disk, read through a mapping.
//!
//! Guards: no byte is used before its checksum was checked: footer, index and filter when the table is opened, each
//! data block at its first use. What is wrong is said with the file and the byte.
//! Does not: notice what rots under the mapping after that first use; `verify` reads everything again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Lookup;
use super::fence::Fences;
use crate::error::{Error, Result};
use crate::format::block::{BlockId, BlockRef};
use crate::format::bloom::{self, BloomRef};
use crate::format::damage::Damage;
use crate::format::footer::{FOOTER_LEN, Footer, FooterFault, TABLE_VERSION};
use crate::format::manifest::TableMeta;
use crate::format::table_index::{BlockPlace, IndexEntry, IndexRef};
use crate::ids::{CommitTs, Keyspace, ShardId};
use crate::runtime::{File, Mapping};

/// The name of table `id` in its shard's directory.
pub fn file_name(id: u64) -> String {
    format!("{id:010}.table")
}

/// The table whose name this is.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let id = name.strip_suffix(".table")?.parse().ok()?;
    (file_name(id) == name).then_some(id)
}

/// What whoever opens a table knows of it already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableIdentity {
    pub db_id: u64,
    pub shard: ShardId,
    pub id: u64,
}

/// An open table. Shared by all readers; its file may be removed while they read.
pub struct Table {
    path: PathBuf,
    map: Mapping,
    footer: Footer,
    fences: Fences,
    /// One bit for each block whose checksum was found right.
    checked: Box<[AtomicU64]>,
}

impl Table {
    /// Maps the table and checks everything but its data blocks. Reads index and filter, so some 2 % of the file.
    pub fn open(file: &dyn File, expected: TableIdentity) -> Result<Table> {
        let path = file.path().to_path_buf();
        let map = file.map().map_err(|error| Error::io("map", &path, error))?;
        let footer = read_footer(&map, &path, expected)?;
        let blocks = footer.blocks as usize;
        let checked = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let mut table = Table { path, map, footer, fences: Fences::default(), checked };
        let TableIdentity { db_id, id, .. } = expected;
        let at = &table.footer;
        let index = IndexRef::open(table.part(&at.index), db_id, id).map_err(|e| table.damaged(at.index.start, e))?;
        BloomRef::open(table.part(&at.bloom), db_id, id).map_err(|e| table.damaged(at.bloom.start, e))?;
        if index.count() != blocks || blocks == 0 {
            let what = format!("the index has {} blocks, the footer {blocks}", index.count());
            return Err(Error::corrupt(&table.path, at.index.start, what));
        }
        let mut fenced = Vec::with_capacity(blocks);
        for i in 0..blocks {
            let (place, (keyspace, key, _)) = table.index_entry(&index, i)?;
            fenced.push((place, (keyspace, key)));
            if place.at.checked_add(u64::from(place.len)).is_none_or(|end| end > at.data_len) {
                let what = format!("block {i} ends behind the data: {place:?}");
                return Err(Error::corrupt(&table.path, at.index.start, what));
            }
        }
        let lower = (at.meta.lower.keyspace, at.meta.lower.prefix());
        let fences = Fences::new(lower, &fenced);
        table.fences = fences;
        Ok(table)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn meta(&self) -> &TableMeta {
        &self.footer.meta
    }

    pub fn identity(&self) -> TableIdentity {
        TableIdentity { db_id: self.footer.db_id, shard: self.footer.shard, id: self.footer.meta.id }
    }

    pub fn block_count(&self) -> usize {
        self.footer.blocks as usize
    }

    pub(super) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(super) fn map(&self) -> &[u8] {
        &self.map
    }

    /// A part that the footer names; empty if the mapping is shorter than it was.
    fn part(&self, range: &std::ops::Range<u64>) -> &[u8] {
        self.map.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    pub(super) fn damaged(&self, base: u64, damage: Damage) -> Error {
        damage.in_file(&self.path, base)
    }

    pub(super) fn index(&self) -> Result<IndexRef<'_>> {
        let part = self.part(&self.footer.index);
        IndexRef::reopen(part).ok_or_else(|| self.damaged(self.footer.index.start, Damage::new(0, "no index")))
    }

    pub(super) fn index_entry<'a>(&self, index: &IndexRef<'a>, i: usize) -> Result<IndexEntry<'a>> {
        index.entry(i).ok_or_else(|| self.damaged(self.footer.index.start, index.broken_entry(i)))
    }

    /// Where block `number` lies.
    pub(super) fn place(&self, number: usize) -> Result<BlockPlace> {
        let outside = || Damage::new(0, format!("block {number} of {}", self.footer.blocks));
        self.fences.place(number).ok_or_else(|| self.damaged(self.footer.index.start, outside()))
    }

    fn block_id(&self, number: usize) -> BlockId {
        BlockId { db_id: self.footer.db_id, table_id: self.footer.meta.id, number: number as u32 }
    }

    /// The block at a place, its frame checked and its checksum as asked.
    pub(super) fn block_at(&self, place: BlockPlace, number: usize, check: CheckCrc) -> Result<BlockRef<'_>> {
        let bytes = self.map.get(place.at as usize..).unwrap_or_default();
        let block = BlockRef::open(bytes, place.len, self.block_id(number)).map_err(|e| self.damaged(place.at, e))?;
        let bit = 1 << (number % 64);
        let word = self.checked.get(number / 64);
        if check == CheckCrc::Always || word.is_none_or(|word| word.load(Ordering::Relaxed) & bit == 0) {
            block.verify_crc().map_err(|e| self.damaged(place.at, e))?;
            if let Some(word) = word {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(block)
    }

    /// Check the checksums of the blocks from `first` on that end before the byte `upto`. Gives the first that does not.
    pub fn check_blocks(&self, first: usize, upto: u64) -> Result<usize> {
        let mut number = first;
        while let Some(place) = self.fences.place(number).filter(|place| place.at + u64::from(place.len) <= upto) {
            self.block_at(place, number, CheckCrc::Always)?;
            number += 1;
        }
        Ok(number)
    }

    /// The block that holds the first version not before this one, which lies within the table's bounds; none if all
    /// are before it.
    fn search(&self, keyspace: Keyspace, key: &[u8], ts: CommitTs) -> Result<Option<(usize, BlockPlace)>> {
        let among = self.fences.narrow(keyspace, key);
        let number = if among.is_empty() {
            among.start
        } else {
            let found = self.index()?.lower_bound(among, keyspace, key, ts);
            found.map_err(|e| self.damaged(self.footer.index.start, e))?
        };
        Ok(self.fences.place(number).map(|place| (number, place)))
    }

    /// Block and entry of the first version not before this one; none behind the last.
    pub(super) fn seek(&self, keyspace: Keyspace, key: &[u8], ts: CommitTs) -> Result<Option<(usize, usize)>> {
        if self.footer.meta.upper.cmp_key(keyspace, key).is_lt() {
            return Ok(None);
        }
        if self.footer.meta.lower.cmp_key(keyspace, key).is_gt() {
            return Ok(Some((0, 0)));
        }
        let Some((number, place)) = self.search(keyspace, key, ts)? else { return Ok(None) };
        let block = self.block_at(place, number, CheckCrc::Once)?;
        let entry = block.lower_bound(keyspace, key, ts).map_err(|e| self.damaged(place.at, e))?;
        if entry == block.count() {
            // The index says that the block's last version is not before this one.
            let what = format!("block {number} ends before what the index says is its last version");
            return Err(Error::corrupt(&self.path, place.at, what));
        }
        Ok(Some((number, entry)))
    }

    /// The newest version of the key not after `at`. `hash` is [`bloom::hash`] of the key.
    pub fn get(&self, keyspace: Keyspace, key: &[u8], hash: u64, at: CommitTs) -> Result<Lookup<'_>> {
        let meta = &self.footer.meta;
        if at < meta.min_ts || !meta.may_hold(keyspace, key) {
            return Ok(Lookup::Missing);
        }
        if !BloomRef::reopen(self.part(&self.footer.bloom)).may_hold(hash) {
            return Ok(Lookup::Missing);
        }
        let Some((number, place)) = self.search(keyspace, key, at)? else { return Ok(Lookup::Missing) };
        let block = self.block_at(place, number, CheckCrc::Once)?;
        let found = block.find(keyspace, key, hash, at).map_err(|e| self.damaged(place.at, e))?;
        Ok(found.map_or(Lookup::Missing, |entry| Lookup::of(entry.ts, entry.op)))
    }

    /// [`bloom::hash`], for `get`.
    pub fn hash(keyspace: Keyspace, key: &[u8]) -> u64 {
        bloom::hash(keyspace, key)
    }
}

/// When a block's checksum is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckCrc {
    /// At its first use.
    Once,
    Always,
}

fn read_footer(map: &[u8], path: &Path, expected: TableIdentity) -> Result<Footer> {
    let Some(at) = map.len().checked_sub(FOOTER_LEN) else {
        return Err(Error::corrupt(path, 0, format!("a table of {} bytes", map.len())));
    };
    let footer = match Footer::decode(&map[at..], map.len() as u64) {
        Ok(footer) => footer,
        Err(FooterFault::Damaged(damage)) => return Err(damage.in_file(path, at as u64)),
        Err(FooterFault::Version(version)) => {
            let what = format!("a table of version {version}; this program reads {TABLE_VERSION}");
            return Err(Error::Incompatible { path: path.to_path_buf(), what });
        }
    };
    let found = TableIdentity { db_id: footer.db_id, shard: footer.shard, id: footer.meta.id };
    if found != expected {
        let what = format!(
            "table {} of shard {} of database {:016x} where table {} of shard {} of {:016x} belongs",
            found.id, found.shard, found.db_id, expected.id, expected.shard, expected.db_id
        );
        return Err(Error::corrupt(path, at as u64, what));
    }
    Ok(footer)
}
