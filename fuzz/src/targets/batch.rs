//! `format/batch.rs`: what a header and a body are taken for, and that a right batch is the one that was encoded.

use corering_engine::format::batch::{
    BATCH_HEADER_LEN, BatchHeader, Frames, HeaderAt, batch_len, body_is_right, decode_header,
};
use corering_engine::format::frame;
use corering_engine::runtime::BLOCK;
use corering_engine::{CommitTs, Life, Lsn, ShardId};

use super::frame::framed;
use crate::input::Input;
use crate::{memory, seal};

const FRAMES_MAX: u8 = 6;

pub fn check(input: &[u8]) {
    built(input, body_is_right);
    as_it_came(input, body_is_right);
}

/// Does not look at what stands behind the frames.
pub fn planted(input: &[u8]) {
    let careless = |header: &BatchHeader, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let end = (BATCH_HEADER_LEN + header.payload_len as usize).min(bytes.len());
        bytes[end..].fill(0);
        body_is_right(header, &bytes)
    };
    built(input, careless);
    as_it_came(input, careless);
}

/// The batch that holds these frames.
fn encode(header: &BatchHeader, payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; BATCH_HEADER_LEN];
    header.encode(&mut bytes);
    for payload in payloads {
        let lsn = header.lsn.advance(bytes.len() as u64);
        bytes.extend_from_slice(&framed(payload, lsn, header.life));
    }
    bytes.resize(batch_len(bytes.len() - BATCH_HEADER_LEN), 0);
    bytes
}

/// Build a batch of the input's frames, then change one byte of it.
fn built(input: &[u8], body_is_right: impl Fn(&BatchHeader, &[u8]) -> bool) {
    let mut input = Input::new(input);
    let (db_id, life, lsn) = (input.u8().into(), Life(input.u8().into()), Lsn(u64::from(input.u8()) * BLOCK as u64));
    let (at, change) = (usize::from(input.u16()), input.u8().max(1));
    let mut payloads = Vec::new();
    for _ in 0..input.u8() % FRAMES_MAX {
        let payload = input.short();
        if !payload.is_empty() {
            payloads.push(payload);
        }
    }
    let header = BatchHeader {
        db_id,
        shard: ShardId(3),
        life,
        lsn,
        durable: lsn,
        payload_len: payloads.iter().map(|payload| frame::frame_len(payload.len()) as u32).sum(),
        frames: payloads.len() as u32,
        settled: CommitTs(u64::from(change)),
    };
    let mut bytes = encode(&header, &payloads);
    assert_eq!(decode_header(&bytes), HeaderAt::Valid(header));
    assert!(body_is_right(&header, &bytes));
    let at = at % bytes.len();
    bytes[at] ^= change;
    match decode_header(&bytes) {
        HeaderAt::Valid(found) => {
            assert_eq!(found, header, "a header that was not touched");
            assert!(!body_is_right(&header, &bytes), "byte {at} was changed");
            let frames = Frames::new(&bytes[BATCH_HEADER_LEN..], lsn.advance(BATCH_HEADER_LEN as u64), life);
            // Those before the change, and no others.
            assert!(
                frames.map(|(_, payload)| payload).eq(payloads.iter().copied().take_while({
                    let mut end = BATCH_HEADER_LEN;
                    move |payload| {
                        end += frame::frame_len(payload.len());
                        end <= at
                    }
                })) || at >= BATCH_HEADER_LEN + header.payload_len as usize
            );
        }
        HeaderAt::Unreadable => assert!(at < BATCH_HEADER_LEN, "byte {at} was changed"),
        HeaderAt::NeverWritten => panic!("one changed byte made a batch vanish"),
    }
}

/// Bytes as they came, made to pass the header's and the first frames' checksums.
fn as_it_came(input: &[u8], body_is_right: impl Fn(&BatchHeader, &[u8]) -> bool) {
    let mut bytes = input.to_vec();
    bytes.resize(bytes.len().max(BATCH_HEADER_LEN).next_multiple_of(BLOCK), 0);
    seal::put(&mut bytes, 0, b"CRba");
    seal::put(&mut bytes, 8, &[1]);
    seal::crc(&mut bytes, 4, 8..BATCH_HEADER_LEN);
    let HeaderAt::Valid(header) = memory::at_most(0, "a header", || decode_header(&bytes)) else { return };
    let mut again = vec![0xff; BATCH_HEADER_LEN];
    header.encode(&mut again);
    assert_eq!(again, bytes[..BATCH_HEADER_LEN], "what is accepted is what would be written");
    if memory::at_most(bytes.len(), "a body", || body_is_right(&header, &bytes)) {
        let end = BATCH_HEADER_LEN + header.payload_len as usize;
        let start = header.lsn.advance(BATCH_HEADER_LEN as u64);
        let payloads: Vec<&[u8]> =
            Frames::new(&bytes[BATCH_HEADER_LEN..end], start, header.life).map(|(_, payload)| payload).collect();
        assert_eq!(encode(&header, &payloads), bytes);
    }
}
