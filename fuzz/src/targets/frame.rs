//! `format/frame.rs`: a frame checks at its own place and life, and nowhere else.

use corering_engine::format::frame::{FRAME_HEADER_LEN, decode, finish, frame_len};
use corering_engine::{Life, Lsn};

use crate::input::Input;
use crate::memory;

type Decode = for<'a> fn(&'a [u8], Lsn, Life) -> Option<&'a [u8]>;

pub fn check(input: &[u8]) {
    agree(input, decode);
}

/// Takes a frame of an earlier life of the same bytes.
pub fn planted(input: &[u8]) {
    agree(input, |bytes, lsn, life| {
        decode(bytes, lsn, life).or_else(|| decode(bytes, lsn, Life(life.0.saturating_sub(1))))
    });
}

pub fn framed(payload: &[u8], lsn: Lsn, life: Life) -> Vec<u8> {
    let mut bytes = vec![0; frame_len(payload.len())];
    bytes[FRAME_HEADER_LEN..].copy_from_slice(payload);
    finish(&mut bytes, payload.len(), lsn, life);
    bytes
}

fn agree(input: &[u8], decode: Decode) {
    let mut input = Input::new(input);
    let (life, lsn, flip) = (Life(input.u8().into()), Lsn(input.u16().into()), usize::from(input.u16()));
    let bytes = input.rest();
    let as_it_came = memory::at_most(0, "a frame", || decode(bytes, lsn, life));
    if let Some(payload) = as_it_came {
        assert_eq!(framed(payload, lsn, life), bytes[..frame_len(payload.len())]);
    }
    if bytes.is_empty() {
        return;
    }
    let mut whole = framed(bytes, lsn, life);
    assert_eq!(decode(&whole, lsn, life), Some(bytes));
    assert_eq!(decode(&whole, lsn.advance(1), life), None, "at another place");
    assert_eq!(decode(&whole, lsn, life.next()), None, "in another life");
    assert_eq!(decode(&whole[..whole.len() - 1], lsn, life), None, "cut");
    let bit = flip % (whole.len() * 8);
    whole[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(decode(&whole, lsn, life), None, "with bit {bit} flipped");
}
