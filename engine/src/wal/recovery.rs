//! Makes a shard's log fit to go on with, after whatever happened, by the table in docs/recovery.md.
//!
//! Guards: what was durable is replayed or the log is refused with the file and the byte; what was not is replayed as a
//! prefix or cut; bytes behind a cut can never be read again (law 2).
//! Crash leaves (during recovery itself): the same state, or one that leads to the same end; every step may be repeated.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::segments::{Segment, SegmentDir, SegmentSet, Spare};
use super::stage::{StagedBatch, find_slots};
use super::walk::{Apply, Known, LogReport, Piece, Walked, Walker, replay};
use crate::canary::{Canary, planted};
use crate::error::{Error, Result};
use crate::format::batch::{BATCH_HEADER_LEN, BatchHeader, Frames};
use crate::format::frame::{self, FRAME_HEADER_LEN, frame_len};
use crate::format::segment::SEGMENT_HEADER_LEN;
use crate::ids::{CommitTs, Life, Lsn};
use crate::runtime::{AlignedBuf, BLOCK, Executor, File, IoBuf, IoOp};

/// A log that can be appended to.
pub struct Recovered {
    pub segments: SegmentSet,
    pub end: Lsn,
    pub report: LogReport,
}

/// Replay the log from `known.from`, calling `apply` with the records of each batch in order; then remove what must
/// not be read again, and write what only the stage holds.
pub async fn recover(
    executor: &Rc<dyn Executor>,
    dir: &SegmentDir,
    known: Known,
    stage: &[u8],
    apply: &mut Apply<'_>,
) -> Result<Recovered> {
    let mut held_back: Option<(Lsn, Vec<u8>, CommitTs)> = None;
    let apply: &mut Apply<'_> = &mut |frames: Frames<'_>| {
        if !planted(Canary::CutOneRecordEarly) {
            return apply(frames);
        }
        let (lsn, bytes) = frames.whole();
        let before = held_back.replace((lsn, bytes.to_vec(), frames.settled()));
        before.map_or(Ok(()), |(lsn, bytes, settled)| apply(Frames::of_right_bytes(lsn, &bytes, settled)))
    };
    let mut repair = Repair { executor, dir, known, report: LogReport::default() };
    let walker = Walker { executor, dir, known, is_opening: true };
    let walked = walker.walk(apply).await?;
    let Walked { trimmed, sealed, active, spares, stumps, end, exact_end, unsure, to_clear, report } = walked;
    repair.report = report;
    // Names that a killed process made may not be durable yet, nor what it wrote; from here on both count as such.
    dir.fs.sync_dir(&dir.path).map_err(|e| Error::io("sync directory", dir.shown(&dir.path), e))?;
    repair.write_again(&walker, active.as_ref(), &unsure).await?;
    for segment in sealed.iter().chain(&active) {
        let done = executor.io(&segment.file, IoOp::SyncData).await;
        done.result.map_err(|e| Error::io("sync", segment.file.path(), e))?;
    }
    if !planted(Canary::AcceptEarlierLife) {
        repair.clear(&to_clear).await?;
    }
    for path in stumps {
        dir.fs.remove_file(&path).map_err(|e| Error::io("remove", dir.shown(&path), e))?;
    }
    let spare = repair.choose_spare(spares, active.as_ref().map(|segment| segment.sequence))?;
    let (active, spare) = match (active, spare) {
        (Some(active), spare) => (active, spare),
        (None, Some(spare)) => (repair.begin(spare, Lsn::ZERO).await?, None),
        (None, None) => {
            let spare = dir.make_spare(executor, 1, 0).await?;
            (repair.begin(spare, Lsn::ZERO).await?, None)
        }
    };
    let mut segments = SegmentSet { sealed, active, spare };
    for old in segments.keep_history(trimmed, dir.history_bytes) {
        dir.recycle(old, None)?;
    }
    let end = repair.extend_from_stage(&mut segments, end, exact_end, stage, apply).await?;
    Ok(Recovered { segments, end, report: repair.report })
}

impl Recovered {
    /// Add one record to a log that was recovered and is not served yet, durably. `life` is later than all in the log.
    pub async fn append(
        &mut self,
        executor: &Rc<dyn Executor>,
        dir: &SegmentDir,
        life: Life,
        settled: CommitTs,
        record: &[u8],
    ) -> Result<()> {
        let len = frame_len(record.len());
        let header = BatchHeader {
            db_id: dir.id.db_id,
            shard: dir.id.shard,
            life,
            lsn: self.end,
            durable: self.end,
            payload_len: len as u32,
            frames: 1,
            settled,
        };
        let mut bytes = AlignedBuf::zeroed(header.len());
        header.encode(&mut bytes);
        let frame = &mut bytes[BATCH_HEADER_LEN..BATCH_HEADER_LEN + len];
        frame[FRAME_HEADER_LEN..FRAME_HEADER_LEN + record.len()].copy_from_slice(record);
        frame::finish(frame, record.len(), self.end.advance(BATCH_HEADER_LEN as u64), life);
        let known = Known { from: self.end, durable_floor: self.end, life };
        let repair = Repair { executor, dir, known, report: LogReport::default() };
        repair.make_room(&mut self.segments, &header).await?;
        repair.write_batch(&self.segments, &header, bytes).await?;
        self.end = header.end();
        Ok(())
    }
}

struct Repair<'a> {
    executor: &'a Rc<dyn Executor>,
    dir: &'a SegmentDir,
    known: Known,
    report: LogReport,
}

impl Repair<'_> {
    /// Make a spare the active segment.
    async fn begin(&self, spare: Spare, base: Lsn) -> Result<Segment> {
        let header = self.dir.header(spare.sequence, base, self.known.life);
        let path = spare.file.path().to_path_buf();
        let done = self.executor.io(&spare.file, IoOp::WriteDurable { offset: 0, buf: header }).await;
        done.written().map_err(|e| Error::io_at("write", path, 0, e))?;
        Ok(spare.begin_at(base))
    }

    /// Keep the spare with the highest number that is as large as it should be; remove the others.
    fn choose_spare(&self, mut spares: Vec<Spare>, active: Option<u64>) -> Result<Option<Spare>> {
        spares.sort_by_key(|s| s.sequence);
        let keep = spares
            .last()
            .filter(|s| active.is_none_or(|active| s.sequence > active))
            .filter(|s| s.capacity + SEGMENT_HEADER_LEN as u64 >= self.dir.bytes_of(s.sequence))
            .map(|s| s.sequence);
        let mut kept = None;
        for spare in spares {
            if Some(spare.sequence) == keep {
                kept = Some(spare);
            } else {
                let path = self.dir.file_path(spare.sequence);
                self.dir.fs.remove_file(&path).map_err(|e| Error::io("remove", self.dir.shown(&path), e))?;
            }
        }
        Ok(kept)
    }

    /// Write once more what may have been written by somebody whose sync failed: a sync now would not cover it (law 3), and yet
    /// whatever was replayed counts as durable from here on. The caller syncs.
    async fn write_again(&self, walker: &Walker<'_>, active: Option<&Segment>, unsure: &VecDeque<Piece>) -> Result<()> {
        let header = active.map(|segment| (&segment.file, 0, SEGMENT_HEADER_LEN as u64));
        let pieces = unsure.iter().map(|piece| (&piece.file, piece.offset, piece.len));
        for (file, offset, len) in header.into_iter().chain(pieces) {
            let bytes = walker.read(file, offset, usize::try_from(len).expect("a batch fits into memory")).await?;
            let mut buf = AlignedBuf::zeroed(bytes.len());
            buf.copy_from_slice(&bytes);
            let whole = buf.len();
            let done = self.executor.io(file, IoOp::Write { offset, buf: IoBuf::heap(buf, whole) }).await;
            done.written().map_err(|e| Error::io_at("write again", file.path(), offset, e))?;
        }
        Ok(())
    }

    /// Overwrite blocks with zeros, durably.
    async fn clear(&self, places: &[(Arc<dyn File>, u64)]) -> Result<()> {
        for (file, offset) in places {
            let buf = IoBuf::heap(AlignedBuf::zeroed(BLOCK), BLOCK);
            let done = self.executor.io(file, IoOp::Write { offset: *offset, buf }).await;
            done.written().map_err(|e| Error::io_at("clear", file.path(), *offset, e))?;
        }
        if let Some((file, _)) = places.first() {
            self.executor.io(file, IoOp::SyncData).await.result.map_err(|e| Error::io("sync", file.path(), e))?;
        }
        Ok(())
    }

    /// Write to the log what only the stage holds, as the batches they would have become.
    async fn extend_from_stage(
        &mut self,
        segments: &mut SegmentSet,
        mut end: Lsn,
        mut exact_end: Option<Lsn>,
        stage: &[u8],
        apply: &mut Apply<'_>,
    ) -> Result<Lsn> {
        for staged in find_slots(stage, self.dir.id, self.known.life) {
            if !staged.follows(end, exact_end) {
                continue;
            }
            exact_end = Some(staged.exact_end());
            let (header, bytes) = self.rebuild(&staged, end);
            self.make_room(segments, &header).await?;
            replay(self.dir, &segments.active, &header, &bytes, &mut self.report, apply)?;
            self.write_batch(segments, &header, bytes).await?;
            self.report.records_from_stage += u64::from(header.frames);
            end = header.end();
        }
        Ok(end)
    }

    /// Have the active segment be one that has room for a batch at the log's end.
    async fn make_room(&self, segments: &mut SegmentSet, header: &BatchHeader) -> Result<()> {
        let (end, len) = (header.lsn, header.len() as u64);
        if header.end() <= segments.active.end() {
            return Ok(());
        }
        let next = match segments.spare.take() {
            Some(spare) if spare.capacity >= len => spare,
            Some(small) => self.dir.make_spare(self.executor, small.sequence + 1, len).await?,
            None => self.dir.make_spare(self.executor, segments.active.sequence + 1, len).await?,
        };
        let next = self.begin(next, end).await?;
        let mut old = std::mem::replace(&mut segments.active, next);
        old.capacity = end.bytes_since(old.base);
        segments.sealed.push_back(old);
        Ok(())
    }

    async fn write_batch(&self, segments: &SegmentSet, header: &BatchHeader, bytes: AlignedBuf) -> Result<()> {
        let (file, offset) = (Arc::clone(&segments.active.file), segments.active.file_offset(header.lsn));
        let buf = IoBuf::heap(bytes, header.len());
        let done = self.executor.io(&file, IoOp::WriteDurable { offset, buf }).await;
        done.written().map(drop).map_err(|e| Error::io_at("write", file.path(), offset, e))
    }

    fn rebuild(&self, staged: &StagedBatch, durable: Lsn) -> (BatchHeader, AlignedBuf) {
        let header = BatchHeader {
            db_id: self.dir.id.db_id,
            shard: self.dir.id.shard,
            life: staged.life,
            lsn: staged.lsn,
            durable,
            payload_len: staged.payload.len() as u32,
            frames: staged.frames,
            settled: CommitTs::ZERO,
        };
        let mut bytes = AlignedBuf::zeroed(header.len());
        header.encode(&mut bytes);
        bytes[BATCH_HEADER_LEN..BATCH_HEADER_LEN + staged.payload.len()].copy_from_slice(&staged.payload);
        (header, bytes)
    }
}
