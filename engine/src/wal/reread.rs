//! Reads a log again while it goes on being written: whole batches of what was durable when it was looked at.
//!
//! Guards: what it gives is what was written there. A file that was trimmed and used again meanwhile is found out by the positions
//! and checksums in it.
//! Does not: judge damage; whoever finds what should be there missing says that it is gone.

use std::collections::VecDeque;
use std::rc::Rc;

use super::segments::Segment;
use super::stage::LogIdentity;
use crate::error::{Error, Result};
use crate::format::batch::{BATCH_HEADER_LEN, BatchHeader, Frames, HeaderAt, body_is_right, decode_header};
use crate::ids::Lsn;
use crate::runtime::{AlignedBuf, BLOCK, Executor, IoBuf, IoOp};

/// Bytes of one read.
const READ_STEP: usize = 256 << 10;

/// A part of the log that holds whole durable batches.
#[derive(Clone)]
pub struct Stretch {
    pub segment: Segment,
    pub end: Lsn,
}

/// What comes next.
pub enum Reread<'a> {
    Batch(Frames<'a>),
    End,
    /// It was trimmed while it was read.
    Gone,
}

pub struct Rereader {
    executor: Rc<dyn Executor>,
    id: LogIdentity,
    stretches: VecDeque<Stretch>,
    at: Lsn,
    /// What was read, from `bytes_at` on.
    bytes: Vec<u8>,
    bytes_at: Lsn,
}

impl Rereader {
    pub fn new(executor: Rc<dyn Executor>, id: LogIdentity, stretches: VecDeque<Stretch>) -> Rereader {
        let at = stretches.front().map_or(Lsn::ZERO, |first| first.segment.base);
        Rereader { executor, id, stretches, at, bytes: Vec::new(), bytes_at: at }
    }

    /// The next batch.
    pub async fn next(&mut self) -> Result<Reread<'_>> {
        while self.stretches.front().is_some_and(|stretch| self.at >= stretch.end) {
            self.stretches.pop_front();
            if let Some(next) = self.stretches.front() {
                self.at = next.segment.base;
                self.forget();
            }
        }
        if self.stretches.is_empty() {
            return Ok(Reread::End);
        }
        if !self.have(BATCH_HEADER_LEN).await? {
            return Ok(Reread::Gone);
        }
        let header = match decode_header(self.here()) {
            HeaderAt::Valid(header) if self.belongs(&header) => header,
            HeaderAt::Valid(_) | HeaderAt::NeverWritten | HeaderAt::Unreadable => return Ok(Reread::Gone),
        };
        if !self.have(header.len()).await? || !body_is_right(&header, &self.here()[..header.len()]) {
            return Ok(Reread::Gone);
        }
        let from = self.at.bytes_since(self.bytes_at) as usize;
        self.at = header.end();
        Ok(Reread::Batch(Frames::of_right_batch(&header, &self.bytes[from..from + header.len()])))
    }

    fn belongs(&self, header: &BatchHeader) -> bool {
        let end = self.stretches.front().map_or(Lsn::ZERO, |stretch| stretch.end);
        header.lsn == self.at
            && header.db_id == self.id.db_id
            && header.shard == self.id.shard
            && header.end() <= end
            && !header.is_empty()
    }

    fn here(&self) -> &[u8] {
        &self.bytes[self.at.bytes_since(self.bytes_at) as usize..]
    }

    fn forget(&mut self) {
        self.bytes.clear();
        self.bytes_at = self.at;
    }

    /// Have `len` bytes from here on in memory; false if the file does not have them.
    async fn have(&mut self, len: usize) -> Result<bool> {
        if self.here().len() >= len {
            return Ok(true);
        }
        let Some(stretch) = self.stretches.front() else { return Ok(false) };
        let (file, offset) = (stretch.segment.file.clone(), stretch.segment.file_offset(self.at));
        let left = usize::try_from(stretch.end.bytes_since(self.at)).unwrap_or(usize::MAX);
        let step = len.max(READ_STEP).min(left).next_multiple_of(BLOCK);
        let buf = IoBuf::heap(AlignedBuf::zeroed(step), step);
        let done = self.executor.io(&file, IoOp::Read { offset, buf }).await;
        let n = done.result.map_err(|e| Error::io_at("read", file.path(), offset, e))?;
        self.forget();
        self.bytes.extend_from_slice(&done.buf.expect("a read gives its buffer back")[..n]);
        Ok(n >= len)
    }
}
