//! A frame: the bytes of one record in the log.
//!
//! ```text
//!  0        4        8
//!  | len    | crc    | payload: len bytes ...
//! ```
//!
//! `crc` is the CRC-32 (IEEE) of the frame's own position in the log, the life that wrote it, `len` and the payload.
//! Position and life are not stored: a frame read at any other place, or left over from an earlier use of the same
//! bytes, does not check. That is what lets recovery walk a stage slot whose tail holds older frames.

use std::ops::Range;

use super::le::fixed_u32;
use crate::ids::{Life, Lsn};

const LEN: Range<usize> = 0..4;
const CRC: Range<usize> = LEN.end..LEN.end + 4;
pub const FRAME_HEADER_LEN: usize = CRC.end;
const _: () = assert!(FRAME_HEADER_LEN == 8);

/// Bytes a frame takes for a payload of `payload_len`.
pub fn frame_len(payload_len: usize) -> usize {
    FRAME_HEADER_LEN + payload_len
}

fn checksum(lsn: Lsn, life: Life, payload: &[u8]) -> u32 {
    let mut salt = [0u8; 20];
    salt[..8].copy_from_slice(&lsn.0.to_le_bytes());
    salt[8..16].copy_from_slice(&life.0.to_le_bytes());
    salt[16..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt);
    hasher.update(payload);
    hasher.finalize()
}

/// Write the header of a frame whose payload already lies at `out[FRAME_HEADER_LEN..]`, `payload_len` bytes long.
pub fn finish(out: &mut [u8], payload_len: usize, lsn: Lsn, life: Life) {
    let crc = checksum(lsn, life, &out[FRAME_HEADER_LEN..FRAME_HEADER_LEN + payload_len]);
    out[LEN].copy_from_slice(&(payload_len as u32).to_le_bytes());
    out[CRC].copy_from_slice(&crc.to_le_bytes());
}

/// The payload of the frame at the start of `bytes`, if there is a whole and right one.
pub fn decode(bytes: &[u8], lsn: Lsn, life: Life) -> Option<&[u8]> {
    let payload = decode_again(bytes)?;
    (checksum(lsn, life, payload) == fixed_u32(bytes, CRC)).then_some(payload)
}

/// As [`decode`] for a frame that was found right before: its checksum is not computed again.
pub fn decode_again(bytes: &[u8]) -> Option<&[u8]> {
    let header = bytes.get(..FRAME_HEADER_LEN)?;
    let len = fixed_u32(header, LEN) as usize;
    // An empty record does not exist; refusing it keeps zeroed bytes from being looked at further.
    bytes.get(FRAME_HEADER_LEN..FRAME_HEADER_LEN.checked_add(len)?).filter(|payload| !payload.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8], lsn: u64, life: u64) -> Vec<u8> {
        let mut out = vec![0; frame_len(payload.len())];
        out[FRAME_HEADER_LEN..].copy_from_slice(payload);
        finish(&mut out, payload.len(), Lsn(lsn), Life(life));
        out
    }

    #[test]
    fn golden_bytes_of_a_frame() {
        assert_eq!(framed(b"abc", 64, 1), [3, 0, 0, 0, 0xd1, 0x64, 0x1c, 0x35, b'a', b'b', b'c']);
    }

    #[test]
    fn a_frame_checks_only_at_its_own_place_and_life() {
        let bytes = framed(b"payload", 4160, 7);
        assert_eq!(decode(&bytes, Lsn(4160), Life(7)), Some(&b"payload"[..]));
        assert_eq!(decode(&bytes, Lsn(4161), Life(7)), None);
        assert_eq!(decode(&bytes, Lsn(4160), Life(8)), None);
    }

    #[test]
    fn every_bit_flip_and_every_cut_is_noticed() {
        let bytes = framed(b"some payload of a record", 128, 3);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped, Lsn(128), Life(3)), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len], Lsn(128), Life(3)), None, "cut to {len}");
        }
    }
}
