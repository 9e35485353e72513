//! `wal/stage.rs`: the slots found in the memory that outlived a process: what was appended in the last life, and nothing
//! else.

use corering_engine::format::batch::BATCH_HEADER_LEN;
use corering_engine::runtime::BLOCK;
use corering_engine::wal::LogIdentity;
use corering_engine::wal::stage::{SLOT_BATCH_AT, StagedBatch, begin_slot, find_slots};
use corering_engine::{Life, Lsn, ShardId};

use super::frame::framed;
use crate::input::Input;
use crate::memory;

const ID: LogIdentity = LogIdentity { db_id: 21, shard: ShardId(2) };
const LIFE: Life = Life(6);
const SLOT_LEN: usize = SLOT_BATCH_AT + BLOCK;
const SLOTS: usize = 3;

type Find = fn(&[u8], LogIdentity, Life) -> Vec<StagedBatch>;

pub fn check(input: &[u8]) {
    agree(input, find_slots);
}

/// Takes slots of the life before as well.
pub fn planted(input: &[u8]) {
    agree(input, |stage, id, life| {
        let mut found = find_slots(stage, id, life);
        found.extend(find_slots(stage, id, Life(life.0 - 1)));
        found.sort_by_key(|batch| batch.lsn);
        found
    });
}

/// A stage of a few slots, each written by the input; then bytes of it changed by the input.
fn agree(input: &[u8], find: Find) {
    let mut input = Input::new(input);
    let mut stage = vec![0; SLOTS * SLOT_LEN];
    let mut written = Vec::new();
    for (i, slot) in stage.chunks_exact_mut(SLOT_LEN).enumerate() {
        written.extend(fill(slot, i as u64, &mut input));
    }
    written.sort_by_key(|batch: &StagedBatch| batch.lsn);
    // At most what the slots hold, and a vector's growth.
    let room = 2 * stage.len() + memory::TEXT;
    assert_eq!(memory::at_most(room, "a stage", || find(&stage, ID, LIFE)), written);

    for change in input.rest().chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % stage.len();
        stage[at] ^= change[2];
    }
    let found = memory::at_most(room, "a changed stage", || find(&stage, ID, LIFE));
    for batch in &found {
        // Changes can only cut a batch short or take it away.
        let original = written.iter().find(|original| original.lsn == batch.lsn).expect("no slot was invented");
        assert!(original.payload.starts_with(&batch.payload), "frames that were never appended");
        assert!(batch.frames <= original.frames && batch.frames > 0);
        assert_eq!((batch.life, batch.previous), (LIFE, original.previous));
    }
    assert!(found.is_sorted_by_key(|batch| batch.lsn));
}

/// Begin a slot and append frames; what must be found of it.
fn fill(slot: &mut [u8], number: u64, input: &mut Input<'_>) -> Option<StagedBatch> {
    let sort = input.u8();
    if sort & 3 == 0 {
        return None;
    }
    let (id, life) = match sort & 12 {
        4 => (LogIdentity { db_id: 22, ..ID }, LIFE),
        8 => (LogIdentity { shard: ShardId(3), ..ID }, LIFE),
        12 => (ID, Life(LIFE.0 - 1)),
        _ => (ID, LIFE),
    };
    // The slots of one log have different positions.
    let lsn = Lsn(u64::from(input.u8()) << 56 | number << 12);
    let previous = Lsn(u64::from(input.u8()) << 56);
    begin_slot(slot, id, life, lsn, previous);
    let (mut at, mut frames) = (SLOT_BATCH_AT + BATCH_HEADER_LEN, 0);
    let begin = at;
    for _ in 0..sort >> 6 {
        let payload = input.short();
        if payload.is_empty() {
            continue;
        }
        let bytes = framed(payload, Lsn(lsn.0.wrapping_add((at - SLOT_BATCH_AT) as u64)), life);
        slot[at..at + bytes.len()].copy_from_slice(&bytes);
        at += bytes.len();
        frames += 1;
    }
    let is_ours = id == ID && life == LIFE && frames > 0 && lsn.max(previous) <= Lsn::LIMIT;
    is_ours.then(|| StagedBatch { life, lsn, previous, frames, payload: slot[begin..at].to_vec() })
}
