//! One shard's log in memory: appends frames to the batch that is being built, and says what to write next.
//!
//! Guards: positions are given out in order and without holes; nothing counts as durable before [`Log::finish`] hears that
//! its sync returned; after the first failure nothing is ever written again (law 3).
//! Does not: perform I/O (`flush.rs` does, on a shard's core or in a calling thread), nor know what a record means.
//!
//! A batch leaves when the one before it is durable, with whatever has come (greedy group commit): a lone writer waits
//! for nobody, and many writers share the write that follows the one in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use super::marks::Watermarks;
use super::reread::Stretch;
use super::segments::{Segment, SegmentDir, SegmentSet, Spare};
use super::stage::{LogIdentity, SLOT_BATCH_AT, begin_slot};
use crate::error::Error;
use crate::format::batch::{BATCH_HEADER_LEN, BatchHeader, batch_len};
use crate::format::frame::{self, FRAME_HEADER_LEN, frame_len};
use crate::ids::{CommitTs, Life, Lsn};
use crate::runtime::buffer::Backing;
use crate::runtime::{AlignedBuf, File, IoBuf, SlotBuf, UNSYNCED_MAX};

/// Half of the last segment is kept for writes that make room, at most so much: a thousand deletes, each synced alone.
const KEPT_BYTES_MAX: u64 = 4 << 20;
/// A short batch that is the first to reach space which was never written is written with zeros behind it, so many bytes together: the
/// next ones find space that was. More at once takes longer each time, and no less in all.
const AHEAD_BYTES: usize = 128 << 10;
/// What a short batch has at most. Longer ones gain less by space that was written than the zeros for it cost.
const SHORT_BATCH: usize = 16 << 10;
/// Large batches built outside the stage that may wait to be written.
const HEAP_BATCHES_MAX: usize = 2;

/// The batch that takes appends.
struct Building {
    slot: SlotBuf,
    lsn: Lsn,
    /// Bytes used, batch header included.
    used: usize,
    frames: u32,
}

/// A batch that takes no more appends and waits to be written.
struct Sealed {
    buf: IoBuf,
    header: BatchHeader,
}

/// Why [`Log::append`] did not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Batches wait to be written; try after the next flush.
    Full,
    /// No segment has room, and another cannot be made: [`Log::no_spare`] says why.
    NoSegment,
}

/// What an append asks of the space that is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// Leave what is kept back for deletes.
    Ordinary,
    /// May use it: a write that makes room in the end.
    Reserve,
}

/// Where an appended record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub end: Lsn,
    /// It is on the stage, which outlives the process; else only a completed write makes it do so.
    pub staged: bool,
}

/// The next step of the log.
pub enum Next {
    Flush(FlushPlan),
    /// Nothing to do before this time (monotonic ns), or before the log is touched again.
    Idle {
        until_ns: Option<u64>,
    },
    /// A batch waits for a segment that does not exist yet.
    NeedsSpare,
}

/// One flush: perform the steps in the order of the fields, then give the plan back to [`Log::finish`].
pub struct FlushPlan {
    pub roll: Option<Roll>,
    pub write: Option<BatchWrite>,
    /// After the write, sync this file.
    pub sync: Option<Arc<dyn File>>,
}

/// Begin the next segment: sync the old one, then make the new header durable.
pub struct Roll {
    pub sync_old: Option<Arc<dyn File>>,
    pub next: Segment,
    pub header: IoBuf,
}

pub struct BatchWrite {
    pub file: Arc<dyn File>,
    pub offset: u64,
    /// The batch, or a copy of it with zeros behind it.
    pub buf: IoBuf,
    /// Bytes of the batch.
    pub batch_len: usize,
    pub end: Lsn,
    /// This write alone must be durable when it returns (everything before it is already).
    pub durable: bool,
}

/// What of the last segment, if it has room for so many bytes, is kept for writes that make room.
fn kept_of(capacity: u64) -> u64 {
    (capacity / 2).min(KEPT_BYTES_MAX)
}

pub struct Log {
    dir: SegmentDir,
    life: Life,
    marks: Watermarks,
    segments: SegmentSet,
    building: Option<Building>,
    free: Vec<SlotBuf>,
    sealed: VecDeque<Sealed>,
    heap_batches: usize,
    /// For batches with zeros behind them; zeros from [`SHORT_BATCH`] on. `None` before the first, and while it is written.
    ahead: Option<AlignedBuf>,
    /// The batch of which such a copy is being written.
    copied: Option<IoBuf>,
    in_flight: bool,
    /// Nothing is written any more.
    ended: bool,
    /// Where the last frame of the last batch ended; `None` before the first of this life.
    exact_end: Option<Lsn>,
    /// The segment that the flush under way begins.
    rolling: Option<Segment>,
    /// Somebody waits until this is durable.
    want_durable: Lsn,
    /// Everything appended must be durable at this time.
    sync_due_ns: Option<u64>,
    /// Everything appended must be written at this time.
    write_due_ns: Option<u64>,
    /// Why there is no further spare, after the last attempts to make one failed.
    no_spare: Option<Error>,
    /// A spare must hold at least this many bytes of batches.
    spare_bytes_wanted: u64,
    /// What the owner said last to be settled for good.
    settled: CommitTs,
}

impl Log {
    /// A log that continues at the end of what recovery found. `slots` come from the stage.
    pub fn new(dir: SegmentDir, life: Life, slots: Vec<SlotBuf>, segments: SegmentSet, end: Lsn, applied: Lsn) -> Log {
        let trimmed = segments.first_lsn().min(applied);
        Log {
            dir,
            life,
            marks: Watermarks::recovered(end, applied, trimmed),
            segments,
            building: None,
            free: slots,
            sealed: VecDeque::new(),
            heap_batches: 0,
            ahead: None,
            copied: None,
            in_flight: false,
            ended: false,
            exact_end: None,
            rolling: None,
            want_durable: Lsn::ZERO,
            sync_due_ns: None,
            write_due_ns: None,
            no_spare: None,
            spare_bytes_wanted: 0,
            settled: CommitTs::ZERO,
        }
    }

    /// The fate of all commits of this log up to `commit` is known: they happened. Batches that leave from now on say so.
    pub fn settle(&mut self, commit: CommitTs) {
        self.settled = commit;
    }

    pub fn identity(&self) -> LogIdentity {
        self.dir.id
    }

    pub fn marks(&self) -> &Watermarks {
        &self.marks
    }

    pub fn segment_bytes_in_use(&self) -> u64 {
        self.segments.bytes()
    }

    /// Append a record of `payload_len` bytes, which `fill` writes.
    pub fn append(
        &mut self,
        payload_len: usize,
        room: Room,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Appended, Refused> {
        let len = frame_len(payload_len);
        self.check_room(len, room)?;
        if let Some(building) = &self.building
            && building.used + len > building.slot.len() - SLOT_BATCH_AT
        {
            self.seal_building();
        }
        if self.building.is_none() {
            let fits = self.free.last().map(|slot| BATCH_HEADER_LEN + len <= slot.len() - SLOT_BATCH_AT);
            match fits {
                Some(true) => self.begin_building(),
                Some(false) => return self.append_on_heap(payload_len, fill),
                None => return Err(Refused::Full),
            }
        }
        let building = self.building.as_mut().expect("begun above");
        let at = SLOT_BATCH_AT + building.used;
        let frame = &mut building.slot[at..at + len];
        fill(&mut frame[FRAME_HEADER_LEN..]);
        frame::finish(frame, payload_len, building.lsn.advance(building.used as u64), self.life);
        building.used += len;
        building.frames += 1;
        let end = building.lsn.advance(building.used as u64);
        self.marks.set_appended(end);
        Ok(Appended { end, staged: true })
    }

    /// Whether a record of `payload_len` bytes would be taken now.
    pub fn can_append(&mut self, payload_len: usize, room: Room) -> Result<(), Refused> {
        let len = frame_len(payload_len);
        self.check_room(len, room)?;
        if self.building.as_ref().is_some_and(|b| b.used + len <= b.slot.len() - SLOT_BATCH_AT) {
            return Ok(());
        }
        let taken = self.free.last().is_some_and(|slot| {
            BATCH_HEADER_LEN + len <= slot.len() - SLOT_BATCH_AT || self.heap_batches < HEAP_BATCHES_MAX
        });
        if taken { Ok(()) } else { Err(Refused::Full) }
    }

    fn begin_building(&mut self) {
        let mut slot = self.free.pop().expect("a free slot was seen");
        let lsn = self.next_batch_lsn();
        begin_slot(&mut slot, self.dir.id, self.life, lsn, self.exact_end.unwrap_or(lsn));
        self.building = Some(Building { slot, lsn, used: BATCH_HEADER_LEN, frames: 0 });
    }

    fn append_on_heap(&mut self, payload_len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Appended, Refused> {
        if self.heap_batches >= HEAP_BATCHES_MAX {
            return Err(Refused::Full);
        }
        let lsn = self.next_batch_lsn();
        let len = frame_len(payload_len);
        let mut buf = AlignedBuf::zeroed(batch_len(len));
        let frame = &mut buf[BATCH_HEADER_LEN..BATCH_HEADER_LEN + len];
        fill(&mut frame[FRAME_HEADER_LEN..]);
        frame::finish(frame, payload_len, lsn.advance(BATCH_HEADER_LEN as u64), self.life);
        let header = self.batch_header(lsn, len, 1);
        self.exact_end = Some(lsn.advance((BATCH_HEADER_LEN + len) as u64));
        self.marks.set_appended(header.end());
        let whole = buf.len();
        self.sealed.push_back(Sealed { buf: IoBuf::heap(buf, whole), header });
        self.heap_batches += 1;
        Ok(Appended { end: header.end(), staged: false })
    }

    fn batch_header(&self, lsn: Lsn, payload_len: usize, frames: u32) -> BatchHeader {
        BatchHeader {
            db_id: self.dir.id.db_id,
            shard: self.dir.id.shard,
            life: self.life,
            lsn,
            durable: self.marks.durable(),
            payload_len: u32::try_from(payload_len).expect("a record is far smaller than 4 GiB"),
            frames,
            settled: self.settled,
        }
    }

    /// Where the next batch begins; only asked while none is being built.
    fn next_batch_lsn(&self) -> Lsn {
        self.marks.appended()
    }

    /// End the batch being built, so that the log continues at a batch's start. Returns that position.
    pub fn seal_building(&mut self) -> Lsn {
        if let Some(Building { mut slot, lsn, used, frames }) = self.building.take() {
            let payload_len = used - BATCH_HEADER_LEN;
            self.exact_end = Some(lsn.advance(used as u64));
            let whole = batch_len(payload_len);
            // The header is written when the batch leaves; only the padding is cleared here.
            slot[SLOT_BATCH_AT + used..SLOT_BATCH_AT + whole].fill(0);
            let header = self.batch_header(lsn, payload_len, frames);
            self.marks.set_appended(header.end());
            self.sealed.push_back(Sealed { buf: IoBuf::slot(slot, SLOT_BATCH_AT, whole), header });
        }
        self.marks.appended()
    }

    /// Whether segments have room for everything that waits and `len` more bytes, at their worst padding. The end of the last
    /// segment there is is left to those that make room: others wait until it is known whether there will be one.
    fn check_room(&mut self, len: usize, room: Room) -> Result<(), Refused> {
        let slot_bytes = self.slot_bytes();
        // The batch being built may grow to a whole slot; a large record is a batch of its own.
        let reach = batch_len(len).max(slot_bytes) as u64 + slot_bytes as u64;
        let worst_end = self.marks.appended().advance(reach);
        let kept = |capacity: u64| match room {
            Room::Ordinary => kept_of(capacity),
            Room::Reserve => 0,
        };
        let last = self.last_segment();
        let last_end = last.end();
        let kept_here = if self.segments.spare.is_none() { kept(last.capacity) } else { 0 };
        if worst_end.advance(kept_here) <= last_end {
            return Ok(());
        }
        // All that waits may have to go into the spare.
        let waiting = worst_end.bytes_since(self.marks.written());
        if self.segments.spare.as_ref().is_some_and(|spare| waiting + kept(spare.capacity) <= spare.capacity) {
            return Ok(());
        }
        self.spare_bytes_wanted = self.spare_bytes_wanted.max(waiting + waiting.min(KEPT_BYTES_MAX));
        let tight_end = self.marks.appended().advance(batch_len(len) as u64 + batch_len(0) as u64);
        match (&self.no_spare, room) {
            (None, _) => Err(Refused::Full),
            (Some(_), Room::Reserve) if tight_end <= last_end => Ok(()),
            (Some(_), Room::Reserve | Room::Ordinary) => Err(Refused::NoSegment),
        }
    }

    fn slot_bytes(&self) -> usize {
        let slot = self.free.last().map(|slot| slot.len()).or(self.building.as_ref().map(|b| b.slot.len()));
        slot.map_or(0, |len| len - SLOT_BATCH_AT)
    }

    /// Somebody waits until `end` is durable.
    pub fn want_durable(&mut self, end: Lsn) {
        self.want_durable = self.want_durable.max(end);
    }

    /// What was appended must be durable at `at_ns`. Says whether that is earlier than what was set before.
    pub fn sync_by(&mut self, at_ns: u64) -> bool {
        let earlier = self.sync_due_ns.is_none_or(|due| at_ns < due);
        if earlier {
            self.sync_due_ns = Some(at_ns);
        }
        earlier
    }

    pub fn write_is_due(&self) -> bool {
        self.write_due_ns.is_some()
    }

    pub fn sync_is_due(&self) -> bool {
        self.sync_due_ns.is_some()
    }

    pub fn has_deadline(&self) -> bool {
        self.sync_due_ns.is_some() || self.write_due_ns.is_some()
    }

    /// What was appended must be handed to the kernel at `at_ns`.
    pub fn write_by(&mut self, at_ns: u64) {
        self.write_due_ns = Some(self.write_due_ns.map_or(at_ns, |due| due.min(at_ns)));
    }

    /// Whether a flush has something to do and nobody does it.
    pub fn wants_flush(&self) -> bool {
        let has_work = !self.sealed.is_empty() || self.want_durable > self.marks.durable();
        has_work && !self.in_flight && !self.ended
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// No flush begins from now on. Says whether none is under way.
    pub fn end(&mut self) -> bool {
        self.ended = true;
        !self.in_flight
    }

    /// The next step. While a flush is out there is none.
    pub fn begin(&mut self, now_ns: u64) -> Next {
        if self.in_flight || self.ended {
            return Next::Idle { until_ns: None };
        }
        if self.sync_due_ns.is_some_and(|due| due <= now_ns) {
            self.sync_due_ns = None;
            self.want_durable(self.marks.appended());
        }
        let write_due = self.write_due_ns.is_some_and(|due| due <= now_ns);
        if write_due {
            self.write_due_ns = None;
        }
        let wanted = self.want_durable > self.marks.durable();
        if self.sealed.is_empty() && (write_due || (wanted && self.want_durable > self.marks.written())) {
            self.seal_building();
        }
        if self.sealed.is_empty() {
            if wanted && self.marks.written() > self.marks.durable() {
                self.in_flight = true;
                let file = Arc::clone(&self.segments.active.file);
                return Next::Flush(FlushPlan { roll: None, write: None, sync: Some(file) });
            }
            let until_ns = [self.sync_due_ns, self.write_due_ns].into_iter().flatten().min();
            return Next::Idle { until_ns };
        }
        self.plan_write()
    }

    fn plan_write(&mut self) -> Next {
        let front = self.sealed.front().expect("the caller saw one");
        let len = front.header.len() as u64;
        let fits = front.header.end() <= self.segments.active.end();
        let roll = if fits {
            None
        } else {
            match self.segments.spare.take() {
                Some(spare) if spare.capacity >= len => {
                    let next = spare.begin_at(front.header.lsn);
                    let header = self.dir.header(next.sequence, next.base, self.life);
                    let unsynced = self.marks.written() > self.marks.durable();
                    let sync_old = unsynced.then(|| Arc::clone(&self.segments.active.file));
                    self.rolling = Some(next.clone());
                    Some(Roll { sync_old, next, header })
                }
                other => {
                    self.segments.spare = other;
                    self.spare_bytes_wanted = self.spare_bytes_wanted.max(len);
                    return Next::NeedsSpare;
                }
            }
        };
        let Sealed { mut buf, mut header } = self.sealed.pop_front().expect("the caller saw one");
        header.durable = self.marks.durable();
        header.settled = self.settled;
        header.encode(&mut buf);
        let segment = roll.as_ref().map_or(&self.segments.active, |roll| &roll.next);
        let (file, offset) = (Arc::clone(&segment.file), segment.file_offset(header.lsn));
        let room = segment.end().bytes_since(header.lsn);
        let is_first = header.end().bytes_since(segment.base) > segment.written;
        let all_before_durable = roll.is_some() || self.marks.written() == self.marks.durable();
        let unsynced = header.end().bytes_since(self.marks.durable());
        let wanted = self.want_durable > self.marks.durable() && self.want_durable <= header.end()
            || unsynced >= UNSYNCED_MAX.min(self.dir.segment_bytes / 2);
        let sync = (wanted && !all_before_durable).then(|| Arc::clone(&file));
        let batch_len = buf.len();
        if wanted && is_first && batch_len <= SHORT_BATCH {
            let with_zeros = self.with_zeros(&buf, room);
            self.copied = Some(std::mem::replace(&mut buf, with_zeros));
        }
        let write =
            BatchWrite { file, offset, buf, batch_len, end: header.end(), durable: wanted && all_before_durable };
        self.in_flight = true;
        Next::Flush(FlushPlan { roll, write: Some(write), sync })
    }

    /// A copy of a short batch, with zeros behind it as far as there is room.
    fn with_zeros(&mut self, batch: &[u8], room: u64) -> IoBuf {
        let mut ahead = self.ahead.take().unwrap_or_else(|| AlignedBuf::zeroed(AHEAD_BYTES));
        let (copy, rest) = ahead[..SHORT_BATCH].split_at_mut(batch.len());
        copy.copy_from_slice(batch);
        rest.fill(0);
        IoBuf::heap(ahead, usize::try_from(room).map_or(AHEAD_BYTES, |room| room.min(AHEAD_BYTES)))
    }

    /// All steps of `plan` succeeded.
    pub fn finish(&mut self, plan: FlushPlan) {
        assert!(self.in_flight, "a flush that was begun ends once");
        self.in_flight = false;
        self.rolling = None;
        if let Some(roll) = plan.roll {
            // Its sync covered all that was written before.
            self.marks.set_durable(self.marks.written());
            let mut old = std::mem::replace(&mut self.segments.active, roll.next);
            old.capacity = self.segments.active.base.bytes_since(old.base);
            self.segments.sealed.push_back(old);
        }
        let synced = plan.sync.is_some();
        if let Some(write) = plan.write {
            self.marks.set_written(write.end);
            if write.durable {
                self.marks.set_durable(write.end);
            }
            let active = &mut self.segments.active;
            let zeros = (write.buf.len() - write.batch_len) as u64;
            active.written = active.written.max(write.end.bytes_since(active.base) + zeros);
            let batch = match self.copied.take() {
                Some(batch) => {
                    self.ahead = Some(write.buf.into_heap());
                    batch
                }
                None => write.buf,
            };
            match batch.into_backing() {
                Backing::Slot(slot) => self.free.push(slot),
                Backing::Heap(_) => self.heap_batches -= 1,
            }
        }
        if synced {
            self.marks.set_durable(self.marks.written());
        }
    }

    /// The flush under way failed: nothing is written any more.
    pub fn failed(&mut self) {
        (self.in_flight, self.ended) = (false, true);
    }

    /// The number and size that the next spare should have, if one is missing or too small.
    pub fn spare_wanted(&self) -> Option<(u64, u64)> {
        let wanted = self.spare_bytes_wanted;
        match &self.segments.spare {
            Some(spare) if spare.capacity >= wanted => None,
            Some(spare) => Some((spare.sequence + 1, wanted)),
            None => Some((self.last_sequence() + 1, wanted)),
        }
    }

    fn last_sequence(&self) -> u64 {
        let spare = self.segments.spare.as_ref().map(|spare| spare.sequence);
        spare.unwrap_or(self.last_segment().sequence)
    }

    /// Where what is appended goes, as long as it has room.
    fn last_segment(&self) -> &Segment {
        self.rolling.as_ref().unwrap_or(&self.segments.active)
    }

    /// The last attempts to make a spare failed; until one succeeds, writes are refused where they would need it.
    pub fn cannot_make_spare(&mut self, why: Error) {
        self.no_spare = Some(why);
    }

    /// Why writes are refused with [`Refused::NoSegment`].
    pub fn no_spare(&self) -> Option<&Error> {
        self.no_spare.as_ref()
    }

    /// Put a spare in place; gives back the one that was too small, to be removed.
    pub fn set_spare(&mut self, spare: Spare) -> Option<Spare> {
        self.no_spare = None;
        if spare.capacity >= self.spare_bytes_wanted {
            self.spare_bytes_wanted = 0;
        }
        self.segments.spare.replace(spare)
    }

    /// Tables hold everything before `applied`, durably: segments that are no longer needed are handed out.
    pub fn trim(&mut self, applied: Lsn) -> Vec<Segment> {
        self.marks.set_applied(applied);
        let trimmed = self.segments.take_trimmed(applied, self.dir.history_bytes);
        self.marks.set_trimmed(self.segments.first_lsn().min(applied));
        trimmed
    }

    pub fn dir(&self) -> &SegmentDir {
        &self.dir
    }

    /// What can be read of the log now, oldest first: whole batches that are durable.
    pub fn stretches(&self) -> Vec<Stretch> {
        let sealed =
            self.segments.sealed.iter().map(|segment| Stretch { segment: segment.clone(), end: segment.end() });
        let active = Stretch { segment: self.segments.active.clone(), end: self.marks.durable() };
        sealed.chain([active]).collect()
    }

    pub fn life(&self) -> Life {
        self.life
    }
}
