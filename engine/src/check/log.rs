//! A shard's log and stage: what an opening would replay, read by the same walker and applied nowhere.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::reader::ReadOnly;
use super::shard::Place;
use super::{Findings, ShardCheck};
use crate::error::{Error, Result};
use crate::format::batch::{BATCH_HEADER_LEN, Frames, HeaderAt, decode_header};
use crate::format::record::RecordRef;
use crate::format::segment::{self, SEGMENT_HEADER_LEN, SegmentAt};
use crate::ids::Lsn;
use crate::runtime::{AlignedBuf, BLOCK, Executor, File, OpenMode};
use crate::txn::undecided::{Next, Undecided};
use crate::wal::stage::find_slots;
use crate::wal::walk::{Listed, Walked, Walker};
use crate::wal::{Known, LogIdentity, SegmentDir};

/// Wrong records named of one log; more are only counted.
const NAMED_MAX: usize = 16;

pub async fn check(place: &Place<'_>, found: &mut ShardCheck, out: &mut Findings<'_>) {
    let id = LogIdentity { db_id: place.superblock.db_id, shard: place.shard };
    // New segments would have this size; none is made.
    let segment_bytes = BLOCK as u64;
    let dir =
        SegmentDir { fs: Arc::clone(place.fs), path: place.paths.wal.clone(), id, segment_bytes, history_bytes: 0 };
    let executor: Rc<dyn Executor> = ReadOnly::executor();
    let from = place.manifest.replay_from;
    let known = Known { from, durable_floor: from, life: place.superblock.life };
    let walker = Walker { executor: &executor, dir: &dir, known, is_opening: false };
    let listed = match walker.list().await {
        Ok(listed) => listed,
        Err(error) => return out.damaged(error),
    };
    check_names(place, &dir, &listed, out);
    let headers_are_whole = check_headers(place, &dir, &listed, out);
    let undecided = Undecided::new(place.shard, place.manifest.max_ts);
    let mut records = Records { place, undecided, wrong: Vec::new(), more: 0 };
    let walked = walker
        .walk(&mut |frames| {
            let _ = records.undecided.settle(frames.settled());
            for (lsn, payload) in frames {
                records.look(lsn, payload);
            }
            Ok(())
        })
        .await;
    let is_read = walked.is_ok();
    match walked {
        Ok(walked) => {
            found.log_batches = walked.report.batches_replayed;
            found.log_records = walked.report.records_replayed;
            found.log_end = walked.end;
            out.read(&dir.shown(&dir.path), walked.report.bytes_replayed);
            tell_ends(&dir, &walked, out);
            check_stage(&dir, &walked, &mut records, found, out);
        }
        // What the walker misses then is a consequence.
        Err(_) if !headers_are_whole => {}
        Err(error) => out.damaged(error),
    }
    let Records { wrong, more, undecided, .. } = records;
    found.reached = is_read.then_some(undecided.max_commit);
    found.unsettled = (is_read && wrong.is_empty()).then(|| undecided.unsettled());
    found.owed = undecided.owed;
    for (lsn, what) in wrong {
        let (path, offset) = locate(&dir, &listed, lsn);
        out.damage(path, offset, what);
    }
    if more > 0 {
        out.damage(dir.shown(&dir.path), 0, format!("{more} more wrong records"));
    }
}

fn check_names(place: &Place<'_>, dir: &SegmentDir, listed: &Listed, out: &mut Findings<'_>) {
    for name in super::list(place.fs, &dir.path, out) {
        if segment::parse_name(&name).is_none() && !segment::is_unfinished(&name) {
            out.note(dir.shown(&dir.path.join(name)), "no segment of a log");
        }
    }
    for stump in &listed.stumps {
        out.note(dir.shown(stump), "a segment whose making was interrupted; the next opening removes it");
    }
}

/// A segment whose header cannot be read is taken for a spare; says whether none of them was more.
fn check_headers(place: &Place<'_>, dir: &SegmentDir, listed: &Listed, out: &mut Findings<'_>) -> bool {
    let from = place.manifest.replay_from;
    let reached = from == Lsn::ZERO || listed.live.iter().any(|segment| segment.base <= from);
    let last = listed.live.last().map_or(0, |segment| segment.sequence);
    let mut whole = true;
    for spare in &listed.spares {
        let shown = dir.shown(&dir.file_path(spare.sequence));
        let bytes = match read(&spare.file, 0, SEGMENT_HEADER_LEN + BLOCK) {
            Ok(bytes) => bytes,
            Err(error) => {
                out.damaged(error);
                continue;
            }
        };
        let (header, first) = bytes.split_at(SEGMENT_HEADER_LEN.min(bytes.len()));
        match segment::decode(header) {
            SegmentAt::Unreadable => {}
            SegmentAt::NeverWritten | SegmentAt::Valid(_) => continue,
        }
        let batch = match decode_header(first) {
            HeaderAt::Valid(batch) if batch.db_id == dir.id.db_id && batch.shard == dir.id.shard => Some(batch.lsn),
            HeaderAt::Valid(_) | HeaderAt::NeverWritten | HeaderAt::Unreadable => None,
        };
        // It was begun if a later one was, if it holds what is to be replayed, or if replay has nowhere to start.
        if spare.sequence < last || batch.is_some_and(|lsn| !reached || lsn >= from) {
            let holds = batch.map_or(String::new(), |lsn| format!(", which holds a batch of position {lsn}"));
            out.damage(shown, 0, format!("the header of a segment that was begun is damaged{holds}"));
            whole = false;
        } else {
            out.note(
                shown,
                "the header of a segment that was not begun yet cannot be read; the next opening writes it",
            );
        }
    }
    whole
}

/// What stands behind the last whole batch.
fn tell_ends(dir: &SegmentDir, walked: &Walked, out: &mut Findings<'_>) {
    if let Some((path, offset, blocks)) = &walked.report.cut {
        let what = format!("a torn tail at byte {offset} ({blocks} blocks); the next opening clears it");
        out.note(path, what);
    }
    for old in &walked.trimmed {
        out.note(dir.shown(&dir.file_path(old.sequence)), "trimmed history; the next opening removes it");
    }
}

/// Slots of the last life that an opening would add to the log.
fn check_stage(
    dir: &SegmentDir,
    walked: &Walked,
    records: &mut Records<'_>,
    found: &mut ShardCheck,
    out: &mut Findings<'_>,
) {
    let place = records.place;
    let path = &place.paths.stage;
    let shown = place.fs.root().join(path);
    match place.fs.exists(path) {
        Ok(true) => {}
        // Made when the shard serves for the first time.
        Ok(false) => return,
        Err(e) => return out.damaged(Error::io("look for", shown, e)),
    }
    let opened = place.fs.open(path, OpenMode::Read).map_err(|e| Error::io("open", &shown, e));
    let bytes = opened.and_then(|file| {
        let len = file.size().map_err(|e| Error::io("size of", &shown, e))?;
        read(&file, 0, usize::try_from(len).unwrap_or(0))
    });
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return out.damaged(error),
    };
    out.read(&shown, bytes.len() as u64);
    let (mut end, mut exact) = (walked.end, walked.exact_end);
    for staged in find_slots(&bytes, dir.id, place.superblock.life) {
        if !staged.follows(end, exact) {
            continue;
        }
        for (lsn, payload) in Frames::new(&staged.payload, staged.lsn.advance(BATCH_HEADER_LEN as u64), staged.life) {
            if let Some(what) = records.judge(payload) {
                out.damage(&shown, 0, format!("the record of position {lsn}: {what}"));
            }
        }
        found.stage_records += u64::from(staged.frames);
        exact = Some(staged.exact_end());
        end = end.advance(crate::format::batch::batch_len(staged.payload.len()) as u64);
    }
    if found.stage_records > 0 {
        out.note(shown, format!("{} records of a killed process; the next opening logs them", found.stage_records));
    }
}

/// Looks at each record in the order of the log.
struct Records<'a> {
    place: &'a Place<'a>,
    undecided: Undecided,
    wrong: Vec<(Lsn, String)>,
    more: u64,
}

impl Records<'_> {
    fn look(&mut self, lsn: Lsn, payload: &[u8]) {
        let Some(what) = self.judge(payload) else { return };
        if self.wrong.len() < NAMED_MAX {
            self.wrong.push((lsn, what));
        } else {
            self.more += 1;
        }
    }

    /// What is wrong with a record.
    fn judge(&mut self, payload: &[u8]) -> Option<String> {
        let record = match RecordRef::decode(payload) {
            Ok(record) => record,
            Err(bad) => return Some(bad.to_string()),
        };
        let before = self.undecided.max_commit;
        if self.undecided.note(&record, payload) == Next::Nothing {
            return None;
        }
        let mut wrong =
            (record.commit_ts <= before).then(|| format!("commit {} comes behind commit {before}", record.commit_ts));
        let walked = record.for_each(|op| {
            if wrong.is_none() {
                wrong = self.place.misplaced(op.keyspace, op.key);
            }
        });
        wrong.or_else(|| walked.and_then(|()| record.check()).err().map(|bad| bad.to_string()))
    }
}

/// Where a position of the log lies on disk.
fn locate(dir: &SegmentDir, listed: &Listed, lsn: Lsn) -> (PathBuf, u64) {
    match listed.live.iter().rfind(|segment| segment.base <= lsn) {
        Some(segment) => (dir.shown(&dir.file_path(segment.sequence)), segment.file_offset(lsn)),
        None => (dir.shown(&dir.path), 0),
    }
}

/// Up to `len` bytes, fewer at the end of the file.
fn read(file: &Arc<dyn File>, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut buf = AlignedBuf::zeroed(len);
    let n = file.read_blocking(offset, &mut buf).map_err(|e| Error::io_at("read", file.path(), offset, e))?;
    Ok(buf[..n.min(len)].to_vec())
}
