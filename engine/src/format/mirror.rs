//! A small record kept in two copies, so that neither a crash while it is written nor the loss of one copy loses it.
//!
//! ```text
//!  copy A at 0, copy B at COPY_LEN:
//!  0       8      12      16         24
//!  | magic | crc  | len   | sequence | payload: len bytes ...
//! ```
//!
//! `crc` covers bytes 12..24+len. Copy A is written and synced, then copy B; only then is the change acknowledged. So
//! whoever acted upon sequence `n` may rely on both copies having been `n` or later, and one damaged copy is replaced
//! by the other without losing anything that was acknowledged.

use std::ops::Range;

use super::le::{fixed_u32, fixed_u64, is_zero};

const MAGIC: Range<usize> = 0..8;
const CRC: Range<usize> = MAGIC.end..MAGIC.end + 4;
const LEN: Range<usize> = CRC.end..CRC.end + 4;
const SEQUENCE: Range<usize> = LEN.end..LEN.end + 8;
pub const MIRROR_HEADER_LEN: usize = SEQUENCE.end;
/// Room for one copy, header included.
pub const COPY_LEN: usize = 1 << 20;
pub const MIRROR_PAYLOAD_MAX: usize = COPY_LEN - MIRROR_HEADER_LEN;
const MAGIC_BYTES: [u8; 8] = *b"CRmirror";

/// What one copy is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyAt {
    NeverWritten,
    Valid { sequence: u64, payload: Vec<u8> },
    Unreadable,
}

pub fn encode(sequence: u64, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= MIRROR_PAYLOAD_MAX, "a mirrored record has at most {MIRROR_PAYLOAD_MAX} bytes");
    let mut out = vec![0; MIRROR_HEADER_LEN];
    out[MAGIC].copy_from_slice(&MAGIC_BYTES);
    out[LEN].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    out[SEQUENCE].copy_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(payload);
    let crc = crc32fast::hash(&out[CRC.end..]);
    out[CRC].copy_from_slice(&crc.to_le_bytes());
    out
}

pub fn decode(bytes: &[u8]) -> CopyAt {
    let Some(header) = bytes.get(..MIRROR_HEADER_LEN) else {
        return if is_zero(bytes) { CopyAt::NeverWritten } else { CopyAt::Unreadable };
    };
    if is_zero(header) {
        return CopyAt::NeverWritten;
    }
    let end = MIRROR_HEADER_LEN + fixed_u32(header, LEN) as usize;
    let Some(checked) = bytes.get(CRC.end..end) else { return CopyAt::Unreadable };
    if header[MAGIC] != MAGIC_BYTES || crc32fast::hash(checked) != fixed_u32(header, CRC) {
        return CopyAt::Unreadable;
    }
    CopyAt::Valid { sequence: fixed_u64(header, SEQUENCE), payload: bytes[MIRROR_HEADER_LEN..end].to_vec() }
}

/// What two copies together say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MirrorState {
    /// Neither was ever written.
    NeverWritten,
    /// The record; `repair` says that one copy is older or damaged and wants writing again.
    Valid { sequence: u64, payload: Vec<u8>, repair: bool },
    /// No copy can be read, and at least one was written.
    Unreadable,
}

/// The rule for every pair of states: a total table.
pub fn judge(a: CopyAt, b: CopyAt) -> MirrorState {
    use CopyAt::{NeverWritten, Unreadable, Valid};
    match (a, b) {
        (NeverWritten, NeverWritten) => MirrorState::NeverWritten,
        (Valid { sequence: sa, payload: pa }, Valid { sequence: sb, payload: pb }) => {
            // Copy A is written first, so it is never the older one, except after damage that was repaired from B.
            if sa >= sb {
                MirrorState::Valid { sequence: sa, payload: pa, repair: sa != sb }
            } else {
                MirrorState::Valid { sequence: sb, payload: pb, repair: true }
            }
        }
        (Valid { sequence, payload }, NeverWritten | Unreadable)
        | (NeverWritten | Unreadable, Valid { sequence, payload }) => {
            MirrorState::Valid { sequence, payload, repair: true }
        }
        // The first write ever was torn: nothing was acknowledged yet.
        (Unreadable, NeverWritten) => MirrorState::NeverWritten,
        (NeverWritten, Unreadable) | (Unreadable, Unreadable) => MirrorState::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(sequence: u64) -> CopyAt {
        decode(&encode(sequence, b"payload"))
    }

    #[test]
    fn golden_bytes_and_every_bit_flip() {
        let good = encode(7, b"hi");
        assert_eq!(good[..8], *b"CRmirror");
        assert_eq!(good[12..], [2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(decode(&good), CopyAt::Valid { sequence: 7, payload: b"hi".to_vec() });
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes), CopyAt::Unreadable, "bit {bit}");
        }
    }

    #[test]
    fn one_damaged_copy_is_replaced_by_the_other() {
        for (a, b) in [(valid(4), CopyAt::Unreadable), (CopyAt::Unreadable, valid(4))] {
            assert!(matches!(judge(a, b), MirrorState::Valid { sequence: 4, repair: true, .. }));
        }
        assert!(matches!(judge(valid(5), valid(4)), MirrorState::Valid { sequence: 5, repair: true, .. }));
        assert!(matches!(judge(valid(5), valid(5)), MirrorState::Valid { sequence: 5, repair: false, .. }));
        assert_eq!(judge(CopyAt::Unreadable, CopyAt::Unreadable), MirrorState::Unreadable);
        assert_eq!(judge(CopyAt::Unreadable, CopyAt::NeverWritten), MirrorState::NeverWritten);
    }
}
