//! `format/mirror.rs`: one copy, and what two copies say together.

use corering_engine::format::mirror::{CopyAt, MIRROR_HEADER_LEN, MirrorState, decode, encode, judge};

use crate::input::Input;
use crate::{memory, seal};

type Judge = fn(CopyAt, CopyAt) -> MirrorState;

pub fn check(input: &[u8]) {
    agree(input, judge);
}

/// Takes the first copy whenever it can be read.
pub fn planted(input: &[u8]) {
    agree(input, |a, b| match a {
        CopyAt::Valid { .. } => judge(a.clone(), a),
        CopyAt::NeverWritten | CopyAt::Unreadable => judge(a, b),
    });
}

fn agree(input: &[u8], judge: Judge) {
    let mut input = Input::new(input);
    let sealed = input.u8();
    let a = copy(input.short(), sealed & 1 != 0);
    let b = copy(input.rest(), sealed & 2 != 0);
    let both = [sequence(&a), sequence(&b)];
    let state = judge(a.clone(), b.clone());
    match state {
        MirrorState::NeverWritten => {
            assert_eq!(both, [None, None]);
            assert_eq!(b, CopyAt::NeverWritten, "a copy that is there was given up");
        }
        MirrorState::Unreadable => {
            assert_eq!(both, [None, None]);
            assert!(a == CopyAt::Unreadable || b == CopyAt::Unreadable, "nothing was ever written");
        }
        MirrorState::Valid { sequence, payload, repair } => {
            assert_eq!(both.iter().max(), Some(&Some(sequence)), "the newer copy counts");
            assert_eq!(repair, both != [Some(sequence); 2], "a copy that differs is repaired");
            assert!([a, b].contains(&CopyAt::Valid { sequence, payload }));
        }
    }
}

fn sequence(copy: &CopyAt) -> Option<u64> {
    match copy {
        CopyAt::Valid { sequence, .. } => Some(*sequence),
        CopyAt::NeverWritten | CopyAt::Unreadable => None,
    }
}

fn copy(bytes: &[u8], sealed: bool) -> CopyAt {
    let mut bytes = bytes.to_vec();
    if sealed && bytes.len() >= MIRROR_HEADER_LEN {
        let left = bytes.len() - MIRROR_HEADER_LEN;
        let len = usize::from(bytes[12]).min(left);
        seal::put(&mut bytes, 0, b"CRmirror");
        seal::put(&mut bytes, 12, &(len as u32).to_le_bytes());
        seal::crc(&mut bytes, 8, 12..MIRROR_HEADER_LEN + len);
    }
    let copy = memory::at_most(bytes.len(), "a copy", || decode(&bytes));
    match &copy {
        CopyAt::Valid { sequence, payload } => {
            assert_eq!(encode(*sequence, payload), bytes[..MIRROR_HEADER_LEN + payload.len()]);
        }
        CopyAt::NeverWritten => assert!(bytes.iter().take(MIRROR_HEADER_LEN).all(|byte| *byte == 0)),
        CopyAt::Unreadable => {}
    }
    copy
}
