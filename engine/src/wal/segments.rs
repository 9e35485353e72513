//! The files of one shard's log: the active segment, a spare ready to follow it, and the sealed ones behind it.
//!
//! Guards: a segment's header is durable before the first batch in it is written, and the segment before it is synced
//! whole by then; so what a header calls its base was durable when the header was.
//! Crash leaves: a file that was being made, under a name of its own; a spare under the next number without a valid header of that
//! number (never begun), or begun and empty.
//! A file is made with space only. A write into space that was never written costs the file system twice, so the log writes zeros ahead
//! of itself as it goes ([`Segment::written`]), and files are recycled.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::stage::LogIdentity;
use crate::canary::{Canary, planted};
use crate::error::{Error, Result};
use crate::format::segment::{SEGMENT_HEADER_LEN, SegmentHeader, file_name, unfinished_name};
use crate::ids::{Life, Lsn};
use crate::runtime::{AlignedBuf, BLOCK, Executor, File, Fs, IoBuf, OpenMode, off_core};

/// The first segment of a shard is small, so that small databases are; each of the next is twice as large.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;

/// A file of the log with its place in it.
#[derive(Clone)]
pub struct Segment {
    pub file: Arc<dyn File>,
    pub sequence: u64,
    pub base: Lsn,
    /// Bytes of batches it can hold.
    pub capacity: u64,
    /// How many of these were written before, by this use of the file or an earlier one, and are cheap to write again. All of them where
    /// the file system cannot reserve space: its files are filled when they are made, and the next opening could not wait for zeros.
    pub written: u64,
}

impl Segment {
    pub fn end(&self) -> Lsn {
        self.base.advance(self.capacity)
    }

    /// Length of its file; zero if that cannot be told.
    pub fn file_bytes(&self) -> u64 {
        self.file.size().unwrap_or(0)
    }

    /// Where `lsn` lies in the file.
    pub fn file_offset(&self, lsn: Lsn) -> u64 {
        SEGMENT_HEADER_LEN as u64 + lsn.bytes_since(self.base)
    }
}

/// A file that is ready to become a segment.
#[derive(Clone)]
pub struct Spare {
    pub file: Arc<dyn File>,
    pub sequence: u64,
    pub capacity: u64,
    /// As [`Segment::written`].
    pub written: u64,
}

impl Spare {
    pub fn begin_at(self, base: Lsn) -> Segment {
        let Spare { file, sequence, capacity, written } = self;
        Segment { file, sequence, base, capacity, written }
    }
}

/// Segments that are in use, oldest first; the last one is active.
pub struct SegmentSet {
    pub sealed: VecDeque<Segment>,
    pub active: Segment,
    pub spare: Option<Spare>,
}

impl SegmentSet {
    /// Sealed segments that hold nothing at or behind `needed_from`, taken out of the set; the newest of them, up to
    /// `history_bytes`, stay.
    pub fn take_trimmed(&mut self, needed_from: Lsn, history_bytes: u64) -> Vec<Segment> {
        let unneeded = self.sealed.partition_point(|segment| segment.end_of_log() <= needed_from);
        let kept = kept_as_history(self.sealed.range(..unneeded), history_bytes);
        self.sealed.drain(..unneeded - kept).collect()
    }

    /// Segments from before where the log was read from, oldest first, whose `capacity` is what files hold: those that are kept
    /// as history join the set, the others are given back.
    pub fn keep_history(&mut self, mut older: Vec<Segment>, history_bytes: u64) -> Vec<Segment> {
        let mut end = self.first_lsn();
        for segment in older.iter_mut().rev() {
            segment.capacity = segment.capacity.min(end.bytes_since(segment.base));
            end = segment.base;
        }
        let kept = kept_as_history(older.iter(), history_bytes);
        for segment in older.split_off(older.len() - kept).into_iter().rev() {
            self.sealed.push_front(segment);
        }
        older
    }

    pub fn first_lsn(&self) -> Lsn {
        self.sealed.front().unwrap_or(&self.active).base
    }

    pub fn bytes(&self) -> u64 {
        self.sealed.iter().chain([&self.active]).map(|s| s.capacity + SEGMENT_HEADER_LEN as u64).sum()
    }
}

/// How many of the last ones fit into `history_bytes`.
fn kept_as_history<'a>(segments: impl DoubleEndedIterator<Item = &'a Segment>, history_bytes: u64) -> usize {
    let mut bytes = 0;
    let fits = |segment: &&Segment| {
        bytes += segment.capacity + SEGMENT_HEADER_LEN as u64;
        bytes <= history_bytes
    };
    segments.rev().take_while(fits).count()
}

impl Segment {
    /// For a sealed segment, `capacity` was set to what is used: its end is the next one's base.
    fn end_of_log(&self) -> Lsn {
        self.end()
    }
}

/// A file that is to become a spare. If it does not, after an error or when its making is given up at a close, it is removed.
struct Unfinished {
    fs: Arc<dyn Fs>,
    /// Its name so far.
    path: PathBuf,
    is_finished: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            // What stays the next opening finds or removes.
            let _ = self.fs.remove_file(&self.path);
        }
    }
}

/// Where one shard keeps its segments, and how large they become.
#[derive(Clone)]
pub struct SegmentDir {
    pub fs: Arc<dyn Fs>,
    pub path: PathBuf,
    pub id: LogIdentity,
    pub segment_bytes: u64,
    /// What is kept of the log beyond what recovery needs.
    pub history_bytes: u64,
}

impl SegmentDir {
    pub fn file_path(&self, sequence: u64) -> PathBuf {
        self.path.join(file_name(sequence))
    }

    pub fn shown(&self, path: &Path) -> PathBuf {
        self.fs.root().join(path)
    }

    /// Bytes of the segment with this number, whole blocks, header included.
    pub fn bytes_of(&self, sequence: u64) -> u64 {
        let grown = FIRST_SEGMENT_BYTES.checked_shl(u32::try_from(sequence.saturating_sub(1)).unwrap_or(u32::MAX));
        let grown = grown.filter(|bytes| *bytes >= FIRST_SEGMENT_BYTES).unwrap_or(u64::MAX);
        grown.min(self.segment_bytes) / BLOCK as u64 * BLOCK as u64
    }

    pub fn header(&self, sequence: u64, base: Lsn, life: Life) -> IoBuf {
        let mut block = AlignedBuf::zeroed(SEGMENT_HEADER_LEN);
        SegmentHeader { db_id: self.id.db_id, shard: self.id.shard, sequence, base_lsn: base, life }.encode(&mut block);
        IoBuf::heap(block, SEGMENT_HEADER_LEN)
    }

    /// Make a new file under this number, with room for at least `batch_bytes`, its space and its name durable. On an error nothing is
    /// left behind.
    ///
    /// It gets its name when it is whole; what is left of one that was not, after a kill, the next opening removes.
    pub async fn make_spare(&self, executor: &Rc<dyn Executor>, sequence: u64, batch_bytes: u64) -> Result<Spare> {
        let dir = self.clone();
        off_core(&**executor, move || dir.make_spare_blocking(sequence, batch_bytes)).await
    }

    fn make_spare_blocking(&self, sequence: u64, batch_bytes: u64) -> Result<Spare> {
        // What is wanted may end inside a batch that is still being built; files hold whole blocks.
        let batch_bytes = batch_bytes.next_multiple_of(BLOCK as u64);
        let bytes = self.bytes_of(sequence).max(batch_bytes + SEGMENT_HEADER_LEN as u64);
        let (sequence, unfinished, file) = self.create_file(sequence)?;
        let shown = self.shown(&unfinished.path);
        file.allocate(bytes).map_err(|e| Error::io("allocate", &shown, e))?;
        file.sync_data_blocking().map_err(|e| Error::io("sync", &shown, e))?;
        self.name_spare(unfinished, sequence, bytes)
    }

    /// A file that did not exist, for the first free number from `sequence` on; only one that this made may be removed again.
    fn create_file(&self, mut sequence: u64) -> Result<(u64, Unfinished, Arc<dyn File>)> {
        loop {
            let (named, path) = (self.file_path(sequence), self.path.join(unfinished_name(sequence)));
            let taken = self.fs.exists(&named).map_err(|e| Error::io("look for", self.shown(&named), e))?;
            if !taken {
                match self.fs.open(&path, OpenMode::CreateNewDirect) {
                    Ok(file) => {
                        let unfinished = Unfinished { fs: Arc::clone(&self.fs), path, is_finished: false };
                        return Ok((sequence, unfinished, file));
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(Error::io("create", self.shown(&path), e)),
                }
            }
            // Left by an attempt that failed and could not be cleaned up; the next opening removes it.
            sequence += 1;
        }
    }

    /// Give a file that is whole its name.
    fn name_spare(&self, mut unfinished: Unfinished, sequence: u64, bytes: u64) -> Result<Spare> {
        let to = self.file_path(sequence);
        let shown = self.shown(&to);
        self.fs.rename(&unfinished.path, &to).map_err(|e| Error::io("rename", self.shown(&unfinished.path), e))?;
        unfinished.path.clone_from(&to);
        if !planted(Canary::SkipDirectorySync) {
            self.fs.sync_dir(&self.path).map_err(|e| Error::io("sync directory of", &shown, e))?;
        }
        // The handle still shows the old name in messages.
        let file = self.fs.open(&to, OpenMode::Direct).map_err(|e| Error::io("open", &shown, e))?;
        unfinished.is_finished = true;
        let capacity = bytes - SEGMENT_HEADER_LEN as u64;
        let written = if file.await_late_writes() { 0 } else { capacity };
        Ok(Spare { file, sequence, capacity, written })
    }

    /// Remove a spare that will not be used.
    pub fn discard(&self, spare: Spare) -> Result<()> {
        let path = self.file_path(spare.sequence);
        self.fs.remove_file(&path).map_err(|e| Error::io("remove", self.shown(&path), e))
    }

    /// Give a trimmed segment's file the next number, or remove it if it has another size than a new one would.
    pub fn recycle(&self, segment: Segment, next_sequence: Option<u64>) -> Result<Option<Spare>> {
        let from = self.file_path(segment.sequence);
        let shown = self.shown(&from);
        let bytes = segment.file.size().map_err(|e| Error::io("size of", &shown, e))?;
        match next_sequence {
            Some(sequence) if bytes == self.bytes_of(sequence) && bytes == self.segment_bytes => {
                let to = self.file_path(sequence);
                self.fs.rename(&from, &to).map_err(|e| Error::io("rename", &shown, e))?;
                self.fs.sync_dir(&self.path).map_err(|e| Error::io("sync directory of", &shown, e))?;
                // The handle still shows the old name in messages; open it under the new one.
                let file = self.fs.open(&to, OpenMode::Direct).map_err(|e| Error::io("open", self.shown(&to), e))?;
                // One that is sealed holds as much as was used of it.
                let written = segment.written.max(segment.capacity);
                Ok(Some(Spare { file, sequence, capacity: bytes - SEGMENT_HEADER_LEN as u64, written }))
            }
            Some(_) | None => {
                self.fs.remove_file(&from).map_err(|e| Error::io("remove", &shown, e))?;
                Ok(None)
            }
        }
    }
}
