//! Writes one sorted table, through the shard's executor, without blocking its core.
//!
//! Guards: `finish` returns only after a sync that covers every byte. The directory is the caller's to sync, and the
//! manifest's to name the table; until then a crash leaves a file that nobody refers to.
//! Does not: choose entries (`compaction.rs`); they come in order, all versions of a key in one table.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::file::{TableIdentity, file_name};
use crate::error::{Error, Result};
use crate::format::block::{BlockBuilder, BlockId, EntryRef, HEADER_LEN, Op, large_block_head};
use crate::format::bloom::{self, BloomBuilder};
use crate::format::footer::{FOOTER_LEN, Footer};
use crate::format::manifest::{KeyBound, TableMeta};
use crate::format::table_index::{BlockPlace, IndexBuilder};
use crate::ids::{CommitTs, Keyspace};
use crate::runtime::{AlignedBuf, BLOCK, Executor, File, Fs, IoBuf, IoOp, OpenMode, UNSYNCED_MAX};

/// Bytes of one write: large enough for the disk's full rate, small enough not to hold up others' syncs.
const WRITE_LEN: usize = 256 << 10;
/// A block ends with the entry before it would outgrow this…
const BLOCK_LEN: usize = 8 << 10;
/// …unless much of its last page would be left empty; then it may grow to this.
const BLOCK_LEN_MAX: usize = 16 << 10;
/// Values from here on get a block of their own, and are written without being gathered first.
const LARGE_VALUE: usize = 256 << 10;

/// Keys put into the filter between two yields.
const HASHES_A_STEP: usize = 4096;

const _: () = assert!(WRITE_LEN.is_multiple_of(BLOCK));
const _: () = assert!(FOOTER_LEN == BLOCK);

/// Gathers bytes and writes them in large pieces, one behind the other.
struct Output {
    executor: Rc<dyn Executor>,
    file: Arc<dyn File>,
    buf: AlignedBuf,
    filled: usize,
    /// Where `buf` will be written.
    offset: u64,
    /// Everything before is durable.
    synced: u64,
}

impl Output {
    fn position(&self) -> u64 {
        self.offset + self.filled as u64
    }

    async fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let len = bytes.len().min(self.buf.len() - self.filled);
            let (now, later) = bytes.split_at(len);
            self.buf[self.filled..self.filled + len].copy_from_slice(now);
            self.filled += len;
            bytes = later;
            if self.filled == self.buf.len() {
                self.write().await?;
            }
        }
        Ok(())
    }

    /// Zeroes up to a multiple of `BLOCK`.
    async fn pad(&mut self) -> Result<()> {
        let end = self.filled.next_multiple_of(BLOCK);
        self.buf[self.filled..end].fill(0);
        self.filled = end;
        if self.filled == self.buf.len() {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes what is gathered, which is a multiple of `BLOCK`.
    async fn write(&mut self) -> Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        assert!(self.filled.is_multiple_of(BLOCK));
        let buf = std::mem::replace(&mut self.buf, AlignedBuf::zeroed(0));
        let op = IoOp::Write { offset: self.offset, buf: IoBuf::heap(buf, self.filled) };
        let written = self.executor.io(&self.file, op).await.written();
        let buf = written.map_err(|error| Error::io_at("write", self.file.path(), self.offset, error))?;
        self.buf = buf.into_heap();
        self.offset += self.filled as u64;
        self.filled = 0;
        if self.offset - self.synced >= UNSYNCED_MAX { self.sync().await } else { Ok(()) }
    }

    async fn sync(&mut self) -> Result<()> {
        if self.synced == self.offset {
            return Ok(());
        }
        let done = self.executor.io(&self.file, IoOp::SyncData).await;
        done.result.map_err(|error| Error::io("sync", self.file.path(), error))?;
        self.synced = self.offset;
        Ok(())
    }
}

/// Numbers of the entries written so far.
struct Totals {
    entries: u64,
    keys: u64,
    deletes: u64,
    min_ts: CommitTs,
    max_ts: CommitTs,
    lower: Option<KeyBound>,
}

/// See the module.
pub struct TableWriter {
    out: Output,
    identity: TableIdentity,
    ring_version: u64,
    block: BlockBuilder,
    /// Keyspace, key and version of the entry before.
    last: Option<(Keyspace, Vec<u8>, CommitTs)>,
    index: IndexBuilder,
    hashes: Vec<u64>,
    totals: Totals,
}

impl TableWriter {
    /// Creates the file, which must not exist.
    pub fn create(
        executor: Rc<dyn Executor>,
        fs: &dyn Fs,
        dir: &Path,
        identity: TableIdentity,
        ring_version: u64,
    ) -> Result<TableWriter> {
        let path: PathBuf = dir.join(file_name(identity.id));
        let file = fs.open(&path, OpenMode::CreateNewDirect).map_err(|error| Error::io("create", &path, error))?;
        Ok(TableWriter {
            out: Output { executor, file, buf: AlignedBuf::zeroed(WRITE_LEN), filled: 0, offset: 0, synced: 0 },
            identity,
            ring_version,
            block: BlockBuilder::new(),
            last: None,
            index: IndexBuilder::default(),
            hashes: Vec::new(),
            totals: Totals {
                entries: 0,
                keys: 0,
                deletes: 0,
                min_ts: CommitTs::MAX,
                max_ts: CommitTs::ZERO,
                lower: None,
            },
        })
    }

    /// Bytes of data and index so far.
    pub fn bytes(&self) -> u64 {
        self.out.position() + (self.block.len() + self.index.len()) as u64
    }

    /// Adds a version behind the one before.
    pub async fn add(&mut self, entry: &EntryRef<'_>) -> Result<()> {
        if self.block_is_full(entry) {
            self.end_block().await?;
        }
        match entry.op {
            Op::Put { value, .. } if value.len() >= LARGE_VALUE => {
                self.end_block().await?;
                self.count(entry);
                self.add_large(entry, value).await
            }
            Op::Put { .. } | Op::Delete => {
                self.count(entry);
                self.block.push(entry, self.last_hash());
                Ok(())
            }
        }
    }

    fn block_is_full(&self, entry: &EntryRef<'_>) -> bool {
        if self.block.is_empty() {
            return false;
        }
        let (now, then) = (self.block.len(), self.block.len() + entry.encoded_len());
        let empty = now.next_multiple_of(BLOCK) - now;
        then > BLOCK_LEN && (then > BLOCK_LEN_MAX || empty <= now / 8)
    }

    fn count(&mut self, entry: &EntryRef<'_>) {
        let totals = &mut self.totals;
        totals.entries += 1;
        totals.deletes += u64::from(entry.op == Op::Delete);
        totals.min_ts = totals.min_ts.min(entry.ts);
        totals.max_ts = totals.max_ts.max(entry.ts);
        totals.lower.get_or_insert_with(|| KeyBound::of(entry.keyspace, entry.key));
        let same =
            matches!(&self.last, Some((keyspace, key, _)) if (*keyspace, &key[..]) == (entry.keyspace, entry.key));
        if !same {
            totals.keys += 1;
            self.hashes.push(bloom::hash(entry.keyspace, entry.key));
        }
        let (keyspace, key, ts) = self.last.get_or_insert_default();
        *keyspace = entry.keyspace;
        key.clear();
        key.extend_from_slice(entry.key);
        *ts = entry.ts;
    }

    fn last_hash(&self) -> u64 {
        *self.hashes.last().expect("an entry was counted")
    }

    fn next_block(&self) -> BlockId {
        let number = self.index.count() as u32;
        BlockId { db_id: self.identity.db_id, table_id: self.identity.id, number }
    }

    fn index_block(&mut self, at: u64, len: usize) {
        let (keyspace, key, ts) = self.last.as_ref().expect("a block has an entry");
        let place = BlockPlace { at, len: u32::try_from(len).expect("a block is smaller than 4 GiB") };
        self.index.push(place, (*keyspace, key, *ts));
    }

    async fn end_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let id = self.next_block();
        let at = self.out.position();
        let bytes = self.block.finish(id);
        let len = bytes.len();
        self.out.append(bytes).await?;
        self.out.pad().await?;
        self.block.clear();
        self.index_block(at, len);
        Ok(())
    }

    async fn add_large(&mut self, entry: &EntryRef<'_>, value: &[u8]) -> Result<()> {
        // The checksum stands before the value, so that it is computed first, in steps between which others run.
        let mut crc = crc32fast::Hasher::new();
        for piece in value.chunks(WRITE_LEN) {
            crc.update(piece);
            self.out.executor.yield_now().await;
        }
        let head = large_block_head(self.next_block(), entry, self.last_hash(), |whole| whole.combine(&crc));
        let at = self.out.position();
        self.out.append(&head).await?;
        self.out.append(value).await?;
        self.out.pad().await?;
        self.index_block(at, HEADER_LEN + entry.encoded_len());
        Ok(())
    }

    /// Writes index, filter and footer, and makes all of it durable. There was at least one entry.
    pub async fn finish(mut self) -> Result<TableMeta> {
        self.end_block().await?;
        let TableIdentity { db_id, id, shard } = self.identity;
        let data_len = self.out.position();
        let blocks = self.index.count() as u32;
        let index = std::mem::take(&mut self.index).finish(db_id, id);
        let mut bloom = BloomBuilder::new(self.hashes.len(), db_id, id);
        for hashes in self.hashes.chunks(HASHES_A_STEP) {
            bloom.add(hashes);
            self.out.executor.yield_now().await;
        }
        let bloom = bloom.finish();
        self.out.append(&index).await?;
        let bloom_at = self.out.position();
        self.out.append(&bloom).await?;
        let bloom_end = self.out.position();
        self.out.pad().await?;
        let (keyspace, key, _) = self.last.as_ref().expect("a table has an entry");
        let totals = self.totals;
        let meta = TableMeta {
            id,
            bytes: self.out.position() + FOOTER_LEN as u64,
            entries: totals.entries,
            keys: totals.keys,
            deletes: totals.deletes,
            min_ts: totals.min_ts,
            max_ts: totals.max_ts,
            ring_version: self.ring_version,
            lower: totals.lower.expect("a table has an entry"),
            upper: KeyBound::of(*keyspace, key),
        };
        let footer =
            Footer { db_id, shard, blocks, data_len, index: data_len..bloom_at, bloom: bloom_at..bloom_end, meta };
        self.out.append(&footer.encode()).await?;
        self.out.write().await?;
        self.out.sync().await?;
        Ok(footer.meta)
    }
}
