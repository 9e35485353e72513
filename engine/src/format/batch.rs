//! A batch: the frames that one write puts into the log, and the only unit that a crash keeps or tears.
//!
//! ```text
//!  0       4       8   9   10    12           16      24     32     40        48       52        60  64
//!  | magic | crc   | v | 0 | shd | payload_len| db_id | life | lsn  | durable | frames | settled | 0 | frames ... | zeros
//! ```
//!
//! `crc` covers bytes 8..64; each frame checks itself. `lsn` is the batch's own position, `durable` the durable mark
//! known when it was written (law 1), `settled` a commit up to which all was settled for good then (docs/transactions.md). The whole is padded with zeros to a multiple of [`BLOCK`]. The first frame
//! lies at `lsn + 64`.

use std::ops::Range;

use super::frame;
use super::le::{fixed_u16, fixed_u32, fixed_u64, is_zero};
use crate::ids::{CommitTs, Life, Lsn, ShardId};
use crate::runtime::BLOCK;

const MAGIC: Range<usize> = 0..4;
const CRC: Range<usize> = MAGIC.end..MAGIC.end + 4;
const VERSION: Range<usize> = CRC.end..CRC.end + 1;
const SHARD: Range<usize> = VERSION.end + 1..VERSION.end + 3;
const PAYLOAD_LEN: Range<usize> = SHARD.end..SHARD.end + 4;
const DB_ID: Range<usize> = PAYLOAD_LEN.end..PAYLOAD_LEN.end + 8;
const LIFE: Range<usize> = DB_ID.end..DB_ID.end + 8;
const LSN: Range<usize> = LIFE.end..LIFE.end + 8;
const DURABLE: Range<usize> = LSN.end..LSN.end + 8;
const FRAMES: Range<usize> = DURABLE.end..DURABLE.end + 4;
const SETTLED: Range<usize> = FRAMES.end..FRAMES.end + 8;
pub const BATCH_HEADER_LEN: usize = 64;
const _: () = assert!(SETTLED.end + 4 == BATCH_HEADER_LEN);

const MAGIC_BYTES: [u8; 4] = *b"CRba";
const VERSION_NOW: u8 = 1;

/// What a batch says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub db_id: u64,
    pub shard: ShardId,
    pub life: Life,
    pub lsn: Lsn,
    /// Everything before this was durable when the batch was written.
    pub durable: Lsn,
    /// Bytes of frames behind the header.
    pub payload_len: u32,
    pub frames: u32,
    /// The fate of every commit of this shard up to this one was known when the batch was written: it happened.
    pub settled: CommitTs,
}

/// Bytes a batch takes in the log for `payload_len` bytes of frames.
pub fn batch_len(payload_len: usize) -> usize {
    (BATCH_HEADER_LEN + payload_len).next_multiple_of(BLOCK)
}

impl BatchHeader {
    pub fn encode(&self, out: &mut [u8]) {
        let out = &mut out[..BATCH_HEADER_LEN];
        out.fill(0);
        out[MAGIC].copy_from_slice(&MAGIC_BYTES);
        out[VERSION].copy_from_slice(&[VERSION_NOW]);
        out[SHARD].copy_from_slice(&self.shard.0.to_le_bytes());
        out[PAYLOAD_LEN].copy_from_slice(&self.payload_len.to_le_bytes());
        out[DB_ID].copy_from_slice(&self.db_id.to_le_bytes());
        out[LIFE].copy_from_slice(&self.life.0.to_le_bytes());
        out[LSN].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[DURABLE].copy_from_slice(&self.durable.0.to_le_bytes());
        out[FRAMES].copy_from_slice(&self.frames.to_le_bytes());
        out[SETTLED].copy_from_slice(&self.settled.0.to_le_bytes());
        let crc = crc32fast::hash(&out[CRC.end..]);
        out[CRC].copy_from_slice(&crc.to_le_bytes());
    }

    /// The length of the whole batch in the log.
    pub fn len(&self) -> usize {
        batch_len(self.payload_len as usize)
    }

    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Where its last frame ends.
    pub fn exact_end(&self) -> Lsn {
        self.lsn.advance(BATCH_HEADER_LEN as u64 + u64::from(self.payload_len))
    }

    pub fn end(&self) -> Lsn {
        self.lsn.advance(self.len() as u64)
    }
}

/// What the first bytes of a block are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderAt {
    /// Zeros: nothing was ever written here, or it was made unreadable.
    NeverWritten,
    Valid(BatchHeader),
    /// Anything else.
    Unreadable,
}

pub fn decode_header(bytes: &[u8]) -> HeaderAt {
    let Some(bytes) = bytes.get(..BATCH_HEADER_LEN) else { return HeaderAt::Unreadable };
    if is_zero(bytes) {
        return HeaderAt::NeverWritten;
    }
    if bytes[MAGIC] != MAGIC_BYTES
        || bytes[VERSION] != [VERSION_NOW]
        || crc32fast::hash(&bytes[CRC.end..]) != fixed_u32(bytes, CRC)
        || !is_zero(&bytes[VERSION.end..SHARD.start])
        || !is_zero(&bytes[SETTLED.end..])
    {
        return HeaderAt::Unreadable;
    }
    let header = BatchHeader {
        db_id: fixed_u64(bytes, DB_ID),
        shard: ShardId(fixed_u16(bytes, SHARD)),
        life: Life(fixed_u64(bytes, LIFE)),
        lsn: Lsn(fixed_u64(bytes, LSN)),
        durable: Lsn(fixed_u64(bytes, DURABLE)),
        payload_len: fixed_u32(bytes, PAYLOAD_LEN),
        frames: fixed_u32(bytes, FRAMES),
        settled: CommitTs(fixed_u64(bytes, SETTLED)),
    };
    if header.lsn.max(header.durable) > Lsn::LIMIT { HeaderAt::Unreadable } else { HeaderAt::Valid(header) }
}

/// The frames of a run of bytes that begins at `lsn`, as long as they are whole and right.
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    lsn: Lsn,
    /// The life that must have written them; `None` when all were found right before.
    life: Option<Life>,
    settled: CommitTs,
}

impl<'a> Frames<'a> {
    pub fn new(bytes: &'a [u8], lsn: Lsn, life: Life) -> Frames<'a> {
        Frames { bytes, at: 0, lsn, life: Some(life), settled: CommitTs::ZERO }
    }

    /// The frames of a batch whose [`body_is_right`].
    pub fn of_right_batch(header: &BatchHeader, batch: &'a [u8]) -> Frames<'a> {
        let bytes = &batch[BATCH_HEADER_LEN..BATCH_HEADER_LEN + header.payload_len as usize];
        Frames::of_right_bytes(header.lsn.advance(BATCH_HEADER_LEN as u64), bytes, header.settled)
    }

    /// Frames that were all found whole and right before, the first at `lsn`, and what their batch knew to be settled.
    pub fn of_right_bytes(lsn: Lsn, bytes: &'a [u8], settled: CommitTs) -> Frames<'a> {
        Frames { bytes, at: 0, lsn, life: None, settled }
    }

    /// What was settled when their batch was written; zero if that is not known.
    pub fn settled(&self) -> CommitTs {
        self.settled
    }

    /// Where the first frame lies, and the bytes of all.
    pub fn whole(&self) -> (Lsn, &'a [u8]) {
        (self.lsn, self.bytes)
    }

    /// Bytes of right frames seen so far.
    pub fn consumed(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (Lsn, &'a [u8]);

    fn next(&mut self) -> Option<(Lsn, &'a [u8])> {
        let lsn = self.lsn.advance(self.at as u64);
        let bytes = &self.bytes[self.at..];
        let payload = match self.life {
            Some(life) => frame::decode(bytes, lsn, life)?,
            None => frame::decode_again(bytes)?,
        };
        self.at += frame::frame_len(payload.len());
        Some((lsn, payload))
    }
}

/// Whether `bytes`, a whole batch with this header, holds exactly the frames it promises and zeros behind them.
pub fn body_is_right(header: &BatchHeader, bytes: &[u8]) -> bool {
    let end = BATCH_HEADER_LEN + header.payload_len as usize;
    if bytes.len() != header.len() || end > bytes.len() {
        return false;
    }
    let mut frames =
        Frames::new(&bytes[BATCH_HEADER_LEN..end], header.lsn.advance(BATCH_HEADER_LEN as u64), header.life);
    let count = frames.by_ref().count();
    count == header.frames as usize && frames.consumed() == header.payload_len as usize && is_zero(&bytes[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            db_id: 0x1122_3344_5566_7788,
            shard: ShardId(5),
            life: Life(9),
            lsn: Lsn(8192),
            durable: Lsn(4096),
            payload_len: 11,
            frames: 1,
            settled: CommitTs(0x0203),
        }
    }

    fn batch() -> Vec<u8> {
        let mut bytes = vec![0; header().len()];
        header().encode(&mut bytes);
        bytes[BATCH_HEADER_LEN + 8..BATCH_HEADER_LEN + 11].copy_from_slice(b"abc");
        frame::finish(&mut bytes[BATCH_HEADER_LEN..], 3, Lsn(8192 + 64), Life(9));
        bytes
    }

    #[test]
    fn golden_bytes_of_a_header() {
        let mut out = [0xffu8; BATCH_HEADER_LEN];
        header().encode(&mut out);
        assert_eq!(out[..4], *b"CRba");
        assert_eq!(out[8..16], [1, 0, 5, 0, 11, 0, 0, 0]);
        assert_eq!(out[16..24], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        assert_eq!(out[24..48], [9, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[48..], [1, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_header(&out), HeaderAt::Valid(header()));
    }

    /// Positions that no log reaches would overflow the sums that are made with them.
    #[test]
    fn what_no_writer_writes_is_unreadable_whatever_its_checksum() {
        let mut bytes = [0; BATCH_HEADER_LEN];
        for far in [Lsn(u64::MAX), Lsn(Lsn::LIMIT.0 + 1)] {
            for header in [BatchHeader { lsn: far, ..header() }, BatchHeader { durable: far, ..header() }] {
                header.encode(&mut bytes);
                assert_eq!(decode_header(&bytes), HeaderAt::Unreadable);
            }
        }
        for reserved in (VERSION.end..SHARD.start).chain(SETTLED.end..BATCH_HEADER_LEN) {
            header().encode(&mut bytes);
            bytes[reserved] = 1;
            let crc = crc32fast::hash(&bytes[CRC.end..]);
            bytes[CRC].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(decode_header(&bytes), HeaderAt::Unreadable, "byte {reserved}");
        }
    }

    #[test]
    fn zeros_are_never_written_and_every_flip_is_noticed() {
        assert_eq!(decode_header(&[0; 64]), HeaderAt::NeverWritten);
        let good = batch();
        assert!(body_is_right(&header(), &good));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let noticed = match decode_header(&bytes) {
                HeaderAt::Valid(found) => !body_is_right(&found, &bytes),
                HeaderAt::NeverWritten | HeaderAt::Unreadable => true,
            };
            assert!(noticed, "bit {bit}");
        }
    }
}
