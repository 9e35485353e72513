//! Mutations of corpus entries that depend on a seed alone: the small sibling of libFuzzer's, for `make test`.

use fastrand::Rng;

const LEN_MAX: usize = 4 << 10;
/// Lengths and counts at which decoders change their minds.
const NUMBERS: [u64; 12] = [0, 1, 2, 7, 64, 127, 255, 4096, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];

/// One to five changes to a copy of `seed`; `other` lends parts of itself.
pub fn mutate(rng: &mut Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.usize(1..=5) {
        once(rng, &mut bytes, other);
    }
    bytes.truncate(LEN_MAX);
    bytes
}

fn once(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.usize(0..=bytes.len());
    let end = rng.usize(at..=bytes.len());
    match rng.u8(0..9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
        1 if at < bytes.len() => bytes[at] = rng.u8(..),
        2 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(if rng.bool() { 1 } else { 255 }),
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..end.min(at + 16))),
        5 => {
            let copied = bytes[at..end.min(at + 64)].to_vec();
            let to = rng.usize(0..=bytes.len());
            bytes.splice(to..to, copied);
        }
        6 => {
            let number = NUMBERS[rng.usize(0..NUMBERS.len())].to_le_bytes();
            let width = [1, 2, 4, 8][rng.usize(0..4)];
            let to = (at + width).min(bytes.len());
            bytes.splice(at..to, number[..width].iter().copied());
        }
        7 => {
            let from = rng.usize(0..=other.len());
            let len = rng.usize(0..=other.len() - from);
            bytes.splice(at..end, other[from..from + len].iter().copied());
        }
        _ => bytes.insert(at, rng.u8(..)),
    }
}
