//! `format/segment.rs`: a segment's first block, and names of segments.

use corering_engine::format::segment::{SEGMENT_HEADER_LEN, SegmentAt, decode, file_name, parse_name};

use crate::{memory, seal};

const FIELDS_LEN: usize = 48;
const VERSION_AT: usize = 12;

pub fn check(input: &[u8]) {
    agree(input, decode);
}

/// Takes any version for its own.
pub fn planted(input: &[u8]) {
    agree(input, |bytes| {
        let mut bytes = bytes.to_vec();
        seal::put(&mut bytes, VERSION_AT, &1u16.to_le_bytes());
        seal::crc(&mut bytes, 8, 12..SEGMENT_HEADER_LEN);
        decode(&bytes)
    });
}

fn agree(input: &[u8], decode: fn(&[u8]) -> SegmentAt) {
    if let Some((name, sequence)) = std::str::from_utf8(input).ok().and_then(|name| Some((name, parse_name(name)?))) {
        assert_eq!(file_name(sequence), name);
    }
    let (fields, rest) = input.split_at(input.len().min(FIELDS_LEN));
    let mut bytes = seal::sparse(SEGMENT_HEADER_LEN, fields, rest);
    read(&bytes, decode);
    seal::put(&mut bytes, 0, b"CRsegmnt");
    seal::crc(&mut bytes, 8, 12..SEGMENT_HEADER_LEN);
    read(&bytes, decode);
    read(&bytes[..bytes.len() - 1], decode);
}

fn read(bytes: &[u8], decode: fn(&[u8]) -> SegmentAt) {
    match memory::at_most(bytes.len(), "a segment's header", || decode(bytes)) {
        SegmentAt::NeverWritten => assert!(bytes.iter().all(|byte| *byte == 0)),
        SegmentAt::Valid(header) => {
            let mut again = vec![0xff; SEGMENT_HEADER_LEN];
            header.encode(&mut again);
            assert_eq!(again, bytes, "what is accepted is what would be written");
        }
        SegmentAt::Unreadable => {}
    }
}
