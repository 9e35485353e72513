//! Makes bytes pass the checks that chance never passes, so that what lies behind them is reached: magic words, lengths
//! and checksums. Offsets are those of the rulers in `engine/src/format/`; a target would notice a wrong one by its corpus,
//! which would reach nothing.

use std::ops::Range;

pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(field) = bytes.get_mut(at..at + value.len()) {
        field.copy_from_slice(value);
    }
}

/// Write the checksum of `covered` at `at`; nothing if the bytes are too short for either.
pub fn crc(bytes: &mut [u8], at: usize, covered: Range<usize>) {
    if let Some(covered) = bytes.get(covered) {
        let crc = crc32fast::hash(covered);
        put(bytes, at, &crc.to_le_bytes());
    }
}

/// `start` at the front of `len` bytes, and behind it, where zeros belong, those that `rest` sets: three bytes each, a
/// place and a value.
pub fn sparse(len: usize, start: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let start = &start[..start.len().min(len)];
    bytes[..start.len()].copy_from_slice(start);
    for set in rest.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([set[0], set[1]]));
        put(&mut bytes, at, &set[2..]);
    }
    bytes
}
