//! Reads a shard's log without changing it, by the table in docs/recovery.md: what is to be replayed, where the log ends, and
//! whether what stands there is an end, a torn tail, or damage.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::segments::{Segment, SegmentDir, Spare};
use crate::canary::{Canary, planted};
use crate::error::{Error, Result};
use crate::format::batch::{BatchHeader, Frames, HeaderAt, body_is_right, decode_header};
use crate::format::record::BadRecord;
use crate::format::segment::{self, SEGMENT_HEADER_LEN, SegmentAt};
use crate::ids::{Life, Lsn};
use crate::runtime::{AlignedBuf, BLOCK, Executor, File, IoBuf, IoDone, IoOp, LocalFuture, OpenMode, read_only};

/// Bytes of one read while a log is replayed.
const READ_STEP: usize = 256 << 10;
/// Reads under way at once, also while what came before them is replayed. Together they fit into a core's own cache.
const READ_DEPTH: usize = 4;

/// What recovery did with one shard's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    pub batches_replayed: u64,
    pub records_replayed: u64,
    pub bytes_replayed: u64,
    /// Records that were on the stage only: the process was killed before they were written.
    pub records_from_stage: u64,
    /// Where a torn tail was cut: file, byte in it, and blocks made unreadable behind it.
    pub cut: Option<(PathBuf, u64, u64)>,
}

/// What is known of the log from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Replay starts here; it is the start of a batch.
    pub from: Lsn,
    /// The log was durable at least up to here.
    pub durable_floor: Lsn,
    /// The last life that may have written.
    pub life: Life,
}

/// What stands at the position where the next batch would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// A whole batch that belongs here.
    Batch(BatchHeader),
    /// The segment has no room for another block.
    SegmentFull,
    /// Zeros.
    NeverWritten,
    /// Something else: a torn batch, a damaged one, or one of an earlier life of the file.
    NotABatch,
    /// A batch of this place, by a life of which the superblock knows nothing: it is raised before anything is written.
    OfALaterLife(Life),
}

/// What stands behind such a place, in this segment and those after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Behind {
    /// The next segment begins exactly here.
    NextSegment,
    /// A segment begins further on, or a later batch knew this place to be durable.
    DurableMark(Lsn),
    /// A batch of this segment's stretch of the log lies at another place than its own: a write went astray.
    Stray(Lsn),
    /// Nothing that says so.
    Nothing,
}

/// What to do: the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Replay(BatchHeader),
    Roll,
    End,
    Cut,
    Refuse(Lsn),
    RefuseStray(Lsn),
    RefuseLife(Life),
}

fn judge(at: At, behind: Behind) -> Verdict {
    match (at, behind) {
        (At::Batch(header), _) => Verdict::Replay(header),
        (At::SegmentFull | At::NeverWritten | At::NotABatch, Behind::NextSegment) => Verdict::Roll,
        (At::SegmentFull | At::NeverWritten | At::NotABatch, Behind::DurableMark(_))
            if planted(Canary::StopAtDamage) =>
        {
            Verdict::End
        }
        (At::SegmentFull | At::NeverWritten | At::NotABatch, Behind::DurableMark(mark)) => Verdict::Refuse(mark),
        (At::SegmentFull | At::NeverWritten | At::NotABatch, Behind::Stray(lsn)) => Verdict::RefuseStray(lsn),
        (At::OfALaterLife(life), _) => Verdict::RefuseLife(life),
        (At::SegmentFull | At::NeverWritten, Behind::Nothing) => Verdict::End,
        (At::NotABatch, Behind::Nothing) => Verdict::Cut,
    }
}

/// The files of a log.
pub struct Listed {
    /// Begun segments, by sequence.
    pub live: Vec<Segment>,
    pub spares: Vec<Spare>,
    /// Files that were being made, or never got their length.
    pub stumps: Vec<PathBuf>,
}

/// A log that was read to its end.
pub struct Walked {
    /// Trimmed history whose removal a crash interrupted.
    pub trimmed: Vec<Segment>,
    pub sealed: VecDeque<Segment>,
    /// `None`: no segment was ever begun.
    pub active: Option<Segment>,
    pub spares: Vec<Spare>,
    pub stumps: Vec<PathBuf>,
    pub end: Lsn,
    /// Where the last frame of the last replayed batch ends.
    pub exact_end: Option<Lsn>,
    /// Replayed batches of which nothing says that they were durable.
    pub unsure: VecDeque<Piece>,
    /// Blocks behind the end that could be read as batches of their place.
    pub to_clear: Vec<(Arc<dyn File>, u64)>,
    pub report: LogReport,
}

/// A stretch of a segment file.
pub struct Piece {
    pub file: Arc<dyn File>,
    pub offset: u64,
    pub len: u64,
    /// Where it ends in the log.
    end: Lsn,
}

/// Takes the records of one whole batch, in order. The first that is no record stops the replay, with its position.
pub type Apply<'a> = dyn FnMut(Frames<'_>) -> std::result::Result<(), (Lsn, BadRecord)> + 'a;

/// One segment file while it is read: reading goes on ahead of what is replayed.
struct Reading {
    segment: Segment,
    /// What was read and is still needed.
    bytes: Vec<u8>,
    /// Where `bytes` begins, from the start of the file's batches.
    skipped: usize,
    /// Reads under way behind `bytes`, in order, with their places in the file.
    under_way: VecDeque<(u64, LocalFuture<'static, IoDone>)>,
    /// Up to where reads were asked for.
    asked: usize,
    /// Buffers of reads that are done, for the next ones.
    free: Vec<IoBuf>,
}

pub struct Walker<'a> {
    pub executor: &'a Rc<dyn Executor>,
    pub dir: &'a SegmentDir,
    pub known: Known,
    /// The log is to be gone on with: the last writes of a killed process must have come down, since they may end in zeros that would
    /// fall on what follows.
    pub is_opening: bool,
}

impl Reading {
    fn new(segment: Segment, from: Lsn) -> Reading {
        let skipped = from.bytes_since(segment.base) as usize;
        Reading { segment, bytes: Vec::new(), skipped, under_way: VecDeque::new(), asked: skipped, free: Vec::new() }
    }

    /// The part of what was read that begins at `position`.
    fn from(&self, position: Lsn) -> &[u8] {
        let at = position.bytes_since(self.segment.base) as usize - self.skipped;
        self.bytes.get(at..).unwrap_or(&[])
    }

    fn batch(&self, position: Lsn, len: usize) -> &[u8] {
        &self.from(position)[..len]
    }

    fn left(&self, position: Lsn) -> u64 {
        self.segment.capacity.saturating_sub(position.bytes_since(self.segment.base))
    }
}

/// Hand the records of a batch, whose body is right, to `apply`.
pub fn replay(
    dir: &SegmentDir,
    segment: &Segment,
    header: &BatchHeader,
    bytes: &[u8],
    report: &mut LogReport,
    apply: &mut Apply<'_>,
) -> Result<()> {
    apply(Frames::of_right_batch(header, bytes)).map_err(|(lsn, bad)| {
        let path = dir.shown(&dir.file_path(segment.sequence));
        Error::corrupt(path, segment.file_offset(lsn), bad.to_string())
    })?;
    report.records_replayed += u64::from(header.frames);
    report.batches_replayed += 1;
    report.bytes_replayed += header.len() as u64;
    Ok(())
}

impl Walker<'_> {
    /// Read the log from `known.from`, calling `apply` with the records of each batch in order.
    pub async fn walk(&self, apply: &mut Apply<'_>) -> Result<Walked> {
        let Listed { mut live, spares, stumps } = self.list().await?;
        let mut report = LogReport::default();
        let mut position = self.known.from;
        let mut sealed = VecDeque::new();
        let Some(start) = live.iter().rposition(|s| s.base <= position) else {
            self.check_nothing_is_missing(&live, &spares).await?;
            return Ok(Walked {
                trimmed: Vec::new(),
                sealed,
                active: None,
                spares,
                stumps,
                end: Lsn::ZERO,
                exact_end: None,
                unsure: VecDeque::new(),
                to_clear: Vec::new(),
                report,
            });
        };
        let mut rest: VecDeque<Segment> = live.split_off(start).into();
        let mut current = Reading::new(rest.pop_front().expect("found above"), position);
        let mut life = Life(0);
        let mut exact_end = None;
        let mut unsure: VecDeque<Piece> = VecDeque::new();
        let mut to_clear: Vec<(Arc<dyn File>, u64)> = Vec::new();
        loop {
            let at = self.look(&mut current, position, life).await?;
            let behind = match at {
                At::Batch(_) | At::OfALaterLife(_) => Behind::Nothing,
                At::SegmentFull | At::NeverWritten | At::NotABatch => {
                    self.look_behind(&mut current, position, rest.front(), &spares, &mut to_clear).await?
                }
            };
            match judge(at, behind) {
                Verdict::Replay(header) => {
                    let bytes = current.batch(position, header.len());
                    replay(self.dir, &current.segment, &header, bytes, &mut report, apply)?;
                    life = header.life;
                    position = header.end();
                    exact_end = Some(header.exact_end());
                    let offset = current.segment.file_offset(header.lsn);
                    let (file, len) = (Arc::clone(&current.segment.file), header.len() as u64);
                    unsure.push_back(Piece { file, offset, len, end: position });
                    let durable = header.durable.max(self.known.durable_floor);
                    while unsure.front().is_some_and(|piece| piece.end <= durable) {
                        unsure.pop_front();
                    }
                }
                Verdict::Roll => {
                    let next = rest.pop_front().expect("the next segment was seen");
                    let mut old = std::mem::replace(&mut current, Reading::new(next, position)).segment;
                    old.capacity = position.bytes_since(old.base);
                    sealed.push_back(old);
                    // The next segment was begun behind a sync of all before it.
                    unsure.clear();
                }
                Verdict::End => break,
                Verdict::Cut => {
                    let offset = current.segment.file_offset(position);
                    report.cut = Some((current.segment.file.path().to_path_buf(), offset, to_clear.len() as u64));
                    break;
                }
                Verdict::Refuse(mark) => return Err(self.refuse(&current.segment, position, mark)),
                Verdict::RefuseStray(lsn) => {
                    let what = format!("a batch of log position {lsn} lies at another place behind this one");
                    return Err(self.refuse_with(&current.segment, position, what));
                }
                Verdict::RefuseLife(life) => {
                    let known = self.known.life;
                    let what =
                        format!("a batch of life {}, and the superblock knows of none after {}", life.0, known.0);
                    return Err(self.refuse_with(&current.segment, position, what));
                }
            }
        }
        if position < self.known.durable_floor {
            return Err(self.refuse(&current.segment, position, self.known.durable_floor));
        }
        assert!(
            rest.is_empty() || planted(Canary::StopAtDamage),
            "a log that ends before a begun segment was refused above"
        );
        Ok(Walked {
            trimmed: live,
            sealed,
            active: Some(current.segment),
            spares,
            stumps,
            end: position,
            exact_end,
            unsure,
            to_clear,
            report,
        })
    }

    /// No begun segment reaches back to where replay starts: right only if nothing was ever written.
    async fn check_nothing_is_missing(&self, live: &[Segment], spares: &[Spare]) -> Result<()> {
        let needed = self.known.from.max(self.known.durable_floor);
        if needed > Lsn::ZERO || !live.is_empty() {
            let found = live
                .first()
                .map_or("no segment was ever begun".to_owned(), |s| format!("the oldest segment begins at {}", s.base));
            return Err(Error::corrupt(
                self.dir.shown(&self.dir.path),
                0,
                format!("the log from position {} on is missing: {found}", self.known.from),
            ));
        }
        for spare in spares {
            if let Some(lsn) = self.any_batch(&spare.file, spare.capacity, Lsn::ZERO).await? {
                return Err(Error::corrupt(
                    spare.file.path(),
                    0,
                    format!("the segment's header is damaged, but it holds a batch of position {lsn}"),
                ));
            }
        }
        Ok(())
    }

    /// Open every segment file and tell those that were begun from those that were not.
    pub async fn list(&self) -> Result<Listed> {
        let names =
            self.dir.fs.list(&self.dir.path).map_err(|e| Error::io("list", self.dir.shown(&self.dir.path), e))?;
        let mut live: Vec<Segment> = Vec::new();
        let mut spares = Vec::new();
        let mut stumps = Vec::new();
        for name in names {
            if segment::is_unfinished(&name) {
                stumps.push(self.dir.path.join(&name));
            }
            let Some(sequence) = segment::parse_name(&name) else { continue };
            let path = self.dir.file_path(sequence);
            let shown = self.dir.shown(&path);
            let file = self.dir.fs.open(&path, OpenMode::Direct).map_err(|e| Error::io("open", &shown, e))?;
            let may_go_ahead = self.is_opening && file.await_late_writes();
            let bytes = file.size().map_err(|e| Error::io("size of", &shown, e))?;
            if bytes < 2 * BLOCK as u64 {
                // Its preparation was interrupted before it had its length.
                stumps.push(path);
                continue;
            }
            let capacity = bytes / BLOCK as u64 * BLOCK as u64 - SEGMENT_HEADER_LEN as u64;
            let written = if may_go_ahead { 0 } else { capacity };
            let block = self.read(&file, 0, SEGMENT_HEADER_LEN).await?;
            match segment::decode(&block) {
                SegmentAt::Valid(h) if h.db_id != self.dir.id.db_id || h.shard != self.dir.id.shard => {
                    return Err(Error::corrupt(
                        shown,
                        0,
                        format!(
                            "the segment belongs to shard {} of database {:016x}, not to shard {} of {:016x}",
                            h.shard, h.db_id, self.dir.id.shard, self.dir.id.db_id
                        ),
                    ));
                }
                SegmentAt::Valid(h) if h.sequence == sequence => {
                    live.push(Segment { file, sequence, base: h.base_lsn, capacity, written });
                }
                SegmentAt::Valid(_) | SegmentAt::NeverWritten | SegmentAt::Unreadable => {
                    spares.push(Spare { file, sequence, capacity, written });
                }
            }
        }
        live.sort_by_key(|s| s.sequence);
        if let Some(pair) = live.windows(2).find(|pair| pair[0].base > pair[1].base) {
            let path = self.dir.shown(&self.dir.file_path(pair[1].sequence));
            return Err(Error::corrupt(
                path,
                24,
                format!("the segment begins at {}, before its predecessor at {}", pair[1].base, pair[0].base),
            ));
        }
        Ok(Listed { live, spares, stumps })
    }

    /// Read `len` bytes (whole blocks) at `offset`, several reads at a time. Short at the end of the file.
    pub async fn read(&self, file: &Arc<dyn File>, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(len);
        let mut under_way = std::collections::VecDeque::new();
        let mut asked = 0;
        loop {
            while asked < len && under_way.len() < READ_DEPTH {
                let step = READ_STEP.min(len - asked);
                let at = offset + asked as u64;
                let buf = IoBuf::heap(AlignedBuf::zeroed(step), step);
                under_way.push_back((at, self.executor.io(file, IoOp::Read { offset: at, buf })));
                asked += step;
            }
            let Some((at, reading)) = under_way.pop_front() else { return Ok(out) };
            let done = reading.await;
            let problem = |e| Error::io_at("read", file.path(), at, e);
            let n = done.result.map_err(problem)?;
            let buf = done.buf.expect("a read gives its buffer back");
            if n < buf.len() && at + (n as u64) < file.size().map_err(problem)? {
                return Err(problem(read_only(n, buf.len())));
            }
            out.extend_from_slice(&buf[..n]);
        }
    }

    /// Have at least `len` bytes behind `position` in memory, if the segment has them.
    async fn ensure(&self, reading: &mut Reading, position: Lsn, len: usize) -> Result<()> {
        let want = len.min(usize::try_from(reading.left(position)).unwrap_or(usize::MAX));
        if reading.from(position).len() >= want {
            return Ok(());
        }
        // What lies before `position` was replayed; let go of it so that memory holds a stretch, not a segment.
        let done = position.bytes_since(reading.segment.base) as usize - reading.skipped;
        reading.bytes.drain(..done.min(reading.bytes.len()));
        reading.skipped += done;
        let file = &reading.segment.file;
        let capacity = usize::try_from(reading.segment.capacity).unwrap_or(usize::MAX);
        while reading.bytes.len() < want {
            while reading.under_way.len() < READ_DEPTH && reading.asked < capacity {
                let step = READ_STEP.min(capacity - reading.asked);
                let offset = SEGMENT_HEADER_LEN as u64 + reading.asked as u64;
                let fits = |buf: &IoBuf| buf.len() == step;
                let buf = reading.free.pop().filter(fits);
                let buf = buf.unwrap_or_else(|| IoBuf::heap(AlignedBuf::zeroed(step), step));
                reading.under_way.push_back((offset, self.executor.io(file, IoOp::Read { offset, buf })));
                reading.asked += step;
            }
            let Some((offset, read)) = reading.under_way.pop_front() else { break };
            let done = read.await;
            let n = done.result.map_err(|e| Error::io_at("read", file.path(), offset, e))?;
            let buf = done.buf.expect("a read gives its buffer back");
            reading.bytes.extend_from_slice(&buf[..n]);
            if n < buf.len() {
                return Err(Error::io_at("read", file.path(), offset + n as u64, read_only(n, buf.len())));
            }
            reading.free.push(buf);
        }
        Ok(())
    }

    async fn look(&self, reading: &mut Reading, position: Lsn, life: Life) -> Result<At> {
        if reading.left(position) < BLOCK as u64 {
            return Ok(At::SegmentFull);
        }
        self.ensure(reading, position, BLOCK).await?;
        let header = match decode_header(reading.from(position)) {
            HeaderAt::NeverWritten => return Ok(At::NeverWritten),
            HeaderAt::Unreadable => return Ok(At::NotABatch),
            HeaderAt::Valid(header) => header,
        };
        if self.is_ours(&header) && header.lsn == position && header.life > self.known.life {
            return Ok(At::OfALaterLife(header.life));
        }
        let belongs = self.is_ours(&header)
            && header.lsn == position
            && ((life..=self.known.life).contains(&header.life) || planted(Canary::AcceptEarlierLife))
            && header.len() as u64 <= reading.left(position);
        if !belongs {
            return Ok(At::NotABatch);
        }
        self.ensure(reading, position, header.len()).await?;
        let whole = reading.from(position).get(..header.len());
        Ok(match whole {
            Some(bytes) if body_is_right(&header, bytes) => At::Batch(header),
            Some(_) | None => At::NotABatch,
        })
    }

    fn is_ours(&self, header: &BatchHeader) -> bool {
        header.db_id == self.dir.id.db_id && header.shard == self.dir.id.shard
    }

    /// Search everything behind `position` for a sign that it was durable; collect the places of batches that a cut there
    /// must make unreadable.
    async fn look_behind(
        &self,
        reading: &mut Reading,
        position: Lsn,
        next: Option<&Segment>,
        spares: &[Spare],
        to_clear: &mut Vec<(Arc<dyn File>, u64)>,
    ) -> Result<Behind> {
        if let Some(next) = next {
            return Ok(if next.base == position { Behind::NextSegment } else { Behind::DurableMark(next.base) });
        }
        to_clear.clear();
        let mut mark = Lsn::ZERO;
        let mut stray = None;
        let base = reading.segment.base;
        let mut at = position;
        while reading.left(at) >= BLOCK as u64 {
            self.ensure(reading, at, READ_STEP).await?;
            let have = reading.from(at).len() / BLOCK * BLOCK;
            if have == 0 {
                break;
            }
            for block in reading.from(at)[..have].chunks_exact(BLOCK) {
                if let HeaderAt::Valid(header) = decode_header(block)
                    && self.is_ours(&header)
                {
                    // It was true when it was written, wherever it lies.
                    mark = mark.max(header.durable);
                    if header.lsn == at {
                        to_clear.push((Arc::clone(&reading.segment.file), reading.segment.file_offset(at)));
                    } else if header.lsn >= base {
                        // What an earlier use of the file left is of before its base.
                        stray = stray.or(Some(header.lsn));
                    }
                }
                at = at.advance(BLOCK as u64);
            }
        }
        // A segment whose header is damaged counts as a spare; what it holds betrays it.
        for spare in spares {
            if spare.sequence > reading.segment.sequence
                && let Some(lsn) = self.any_batch(&spare.file, spare.capacity, position).await?
            {
                mark = mark.max(lsn);
            }
        }
        Ok(match stray {
            _ if mark > position => Behind::DurableMark(mark),
            Some(lsn) => Behind::Stray(lsn),
            None => Behind::Nothing,
        })
    }

    /// The position of some batch in the file that lies at or behind `from`.
    async fn any_batch(&self, file: &Arc<dyn File>, capacity: u64, from: Lsn) -> Result<Option<Lsn>> {
        // A segment is written from its start, so its first block tells.
        let first = self.read(file, SEGMENT_HEADER_LEN as u64, BLOCK.min(capacity as usize)).await?;
        Ok(match decode_header(&first) {
            HeaderAt::Valid(header) if self.is_ours(&header) && header.lsn >= from => {
                Some(header.lsn.max(header.durable).max(from.advance(1)))
            }
            HeaderAt::Valid(_) | HeaderAt::NeverWritten | HeaderAt::Unreadable => None,
        })
    }

    fn refuse(&self, segment: &Segment, position: Lsn, mark: Lsn) -> Error {
        let what = format!("no whole batch at log position {position}, though the log was durable up to {mark}");
        self.refuse_with(segment, position, what)
    }

    fn refuse_with(&self, segment: &Segment, position: Lsn, what: String) -> Error {
        Error::corrupt(self.dir.shown(&self.dir.file_path(segment.sequence)), segment.file_offset(position), what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{CommitTs, ShardId};

    #[test]
    fn the_table_refuses_below_a_durable_mark_and_cuts_above_it() {
        let header = BatchHeader {
            db_id: 1,
            shard: ShardId(0),
            life: Life(1),
            lsn: Lsn(0),
            durable: Lsn(0),
            payload_len: 9,
            frames: 1,
            settled: CommitTs::ZERO,
        };
        let mark = Behind::DurableMark(Lsn(8192));
        for at in [At::SegmentFull, At::NeverWritten, At::NotABatch] {
            assert_eq!(judge(at, Behind::NextSegment), Verdict::Roll);
            assert_eq!(judge(at, mark), Verdict::Refuse(Lsn(8192)));
            assert_eq!(judge(at, Behind::Stray(Lsn(4096))), Verdict::RefuseStray(Lsn(4096)));
        }
        assert_eq!(judge(At::NotABatch, Behind::Nothing), Verdict::Cut);
        assert_eq!(judge(At::NeverWritten, Behind::Nothing), Verdict::End);
        assert_eq!(judge(At::Batch(header), mark), Verdict::Replay(header));
        assert_eq!(judge(At::OfALaterLife(Life(2)), Behind::Nothing), Verdict::RefuseLife(Life(2)));
    }
}
