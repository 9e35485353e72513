//! The stage: a few slots of memory that outlives the process, where batches are built.
//!
//! Guards: a record that was appended is found again after a SIGKILL, at every level of durability.
//! Crash leaves: after the end of the process, each slot as it was at that instant; after the end of the machine, any
//! old or new version of each page. A slot's header is written before its first frame and not touched while frames
//! are in it; frames check themselves with their position and life, so whatever checks is what was appended there.
//!
//! `previous` is where the last frame of the batch before ended, exactly; or the slot's own `lsn`, if its batch is the first of
//! its life. A batch rebuilt from a slot that lost its last frames may take as many blocks as the whole one did; without this,
//! the next slot would seem to follow it, and records in between would be gone unnoticed.
//!
//! ```text
//!  a slot's first block (the batch, see format/batch.rs, begins at the next):
//!  0       8     12     14    16      24     32    40         48
//!  | magic | crc | 0    | shd | db_id | life | lsn | previous | zeros
//! ```

use std::ops::Range;

use crate::format::batch::{BATCH_HEADER_LEN, Frames};
use crate::format::le::{fixed_u16, fixed_u32, fixed_u64};
use crate::ids::{Life, Lsn, ShardId};
use crate::runtime::BLOCK;

const MAGIC: Range<usize> = 0..8;
const CRC: Range<usize> = MAGIC.end..MAGIC.end + 4;
const SHARD: Range<usize> = CRC.end + 2..CRC.end + 4;
const DB_ID: Range<usize> = SHARD.end..SHARD.end + 8;
const LIFE: Range<usize> = DB_ID.end..DB_ID.end + 8;
const LSN: Range<usize> = LIFE.end..LIFE.end + 8;
const PREVIOUS: Range<usize> = LSN.end..LSN.end + 8;
const HEADER_LEN: usize = PREVIOUS.end;
const _: () = assert!(HEADER_LEN == 48);
const MAGIC_BYTES: [u8; 8] = *b"CRstage1";

/// The batch's place in a slot.
pub const SLOT_BATCH_AT: usize = BLOCK;
/// Slots of a stage: one in flight, one being filled, and those that take what comes while the disk is slow for once.
pub const SLOTS: usize = 8;
/// The largest batch built on the stage; at this size a write costs little more than its bytes.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// Bytes of the batch in each slot, for segments of `segment_bytes`.
pub fn slot_batch_bytes(segment_bytes: u64) -> usize {
    let share = usize::try_from(segment_bytes / 32).unwrap_or(BATCH_BYTES_MAX);
    share.clamp(BLOCK, BATCH_BYTES_MAX) / BLOCK * BLOCK
}

/// Bytes of the whole stage.
pub fn stage_bytes(segment_bytes: u64) -> usize {
    SLOTS * (SLOT_BATCH_AT + slot_batch_bytes(segment_bytes))
}

/// Whose log this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogIdentity {
    pub db_id: u64,
    pub shard: ShardId,
}

/// Begin a slot: nothing that lay in it counts any more.
pub fn begin_slot(slot: &mut [u8], id: LogIdentity, life: Life, lsn: Lsn, previous: Lsn) {
    let header = &mut slot[..HEADER_LEN];
    header.fill(0);
    header[MAGIC].copy_from_slice(&MAGIC_BYTES);
    header[SHARD].copy_from_slice(&id.shard.0.to_le_bytes());
    header[DB_ID].copy_from_slice(&id.db_id.to_le_bytes());
    header[LIFE].copy_from_slice(&life.0.to_le_bytes());
    header[LSN].copy_from_slice(&lsn.0.to_le_bytes());
    header[PREVIOUS].copy_from_slice(&previous.0.to_le_bytes());
    let crc = crc32fast::hash(&header[CRC.end..]);
    header[CRC].copy_from_slice(&crc.to_le_bytes());
}

impl StagedBatch {
    /// Where its last frame ends.
    pub fn exact_end(&self) -> Lsn {
        self.lsn.advance((BATCH_HEADER_LEN + self.payload.len()) as u64)
    }

    /// Whether it comes right behind a log that ends at `end`, whose last batch ends exactly at `exact` (`None`: that batch is not in
    /// the log any more, so it was durable as a whole).
    pub fn follows(&self, end: Lsn, exact: Option<Lsn>) -> bool {
        self.lsn == end && (self.previous == self.lsn || exact.is_none_or(|exact| exact == self.previous))
    }
}

/// A slot found after a crash: frames of one batch, whole and right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedBatch {
    pub life: Life,
    pub lsn: Lsn,
    /// Exact end of the batch before, or `lsn`: there was none in this life.
    pub previous: Lsn,
    pub frames: u32,
    pub payload: Vec<u8>,
}

/// All slots of `life` in a stage's bytes, by position. Slot boundaries are found by looking, since another opening
/// may have used other sizes.
pub fn find_slots(stage: &[u8], id: LogIdentity, life: Life) -> Vec<StagedBatch> {
    let mut found: Vec<StagedBatch> = Vec::new();
    for at in (0..stage.len()).step_by(BLOCK) {
        let Some(header) = stage.get(at..at + HEADER_LEN) else { break };
        if header[MAGIC] != MAGIC_BYTES
            || crc32fast::hash(&header[CRC.end..]) != fixed_u32(header, CRC)
            || fixed_u16(header, SHARD) != id.shard.0
            || fixed_u64(header, DB_ID) != id.db_id
            || fixed_u64(header, LIFE) != life.0
        {
            continue;
        }
        let (lsn, previous) = (Lsn(fixed_u64(header, LSN)), Lsn(fixed_u64(header, PREVIOUS)));
        if lsn.max(previous) > Lsn::LIMIT {
            continue;
        }
        let Some(bytes) = stage.get(at + SLOT_BATCH_AT + BATCH_HEADER_LEN..) else { continue };
        let mut frames = Frames::new(bytes, lsn.advance(BATCH_HEADER_LEN as u64), life);
        let count = frames.by_ref().count() as u32;
        if count > 0 {
            let payload = bytes[..frames.consumed()].to_vec();
            found.push(StagedBatch { life, lsn, previous, frames: count, payload });
        }
    }
    found.sort_by_key(|batch| batch.lsn);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame;

    const ID: LogIdentity = LogIdentity { db_id: 77, shard: ShardId(2) };

    fn stage_with_two_frames() -> Vec<u8> {
        let mut stage = vec![0u8; stage_bytes(64 << 10)];
        let slot = SLOT_BATCH_AT + slot_batch_bytes(64 << 10);
        begin_slot(&mut stage[slot..], ID, Life(4), Lsn(8192), Lsn(8000));
        let mut at = slot + SLOT_BATCH_AT + BATCH_HEADER_LEN;
        let mut lsn = 8192 + 64;
        for payload in [b"first".as_slice(), b"second"] {
            stage[at + 8..at + 8 + payload.len()].copy_from_slice(payload);
            frame::finish(&mut stage[at..], payload.len(), Lsn(lsn), Life(4));
            at += frame::frame_len(payload.len());
            lsn += frame::frame_len(payload.len()) as u64;
        }
        stage
    }

    #[test]
    fn whole_frames_of_the_last_life_are_found_and_others_are_not() {
        let stage = stage_with_two_frames();
        let found = find_slots(&stage, ID, Life(4));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].lsn, found[0].frames, found[0].payload.len()), (Lsn(8192), 2, 8 + 5 + 8 + 6));
        assert_eq!(found[0].previous, Lsn(8000));
        assert_eq!(find_slots(&stage, ID, Life(5)), []);
        assert_eq!(find_slots(&stage, LogIdentity { db_id: 78, ..ID }, Life(4)), []);
    }

    #[test]
    fn positions_that_no_log_reaches_are_no_slots() {
        for (lsn, previous) in [(Lsn(u64::MAX), Lsn(0)), (Lsn(8192), Lsn(u64::MAX))] {
            let mut stage = stage_with_two_frames();
            let slot = SLOT_BATCH_AT + slot_batch_bytes(64 << 10);
            begin_slot(&mut stage[slot..], ID, Life(4), lsn, previous);
            assert_eq!(find_slots(&stage, ID, Life(4)), []);
        }
    }

    #[test]
    fn a_torn_frame_ends_the_slot_before_it() {
        let mut stage = stage_with_two_frames();
        let second = SLOT_BATCH_AT + slot_batch_bytes(64 << 10) + SLOT_BATCH_AT + BATCH_HEADER_LEN + 13;
        stage[second + 9] ^= 1;
        let found = find_slots(&stage, ID, Life(4));
        assert_eq!((found[0].frames, found[0].payload.len()), (1, 13));
    }
}
