//! `format/bloom.rs`: never a false "no", and a changed bit is noticed.

use corering_engine::Keyspace;
use corering_engine::format::bloom::{BloomBuilder, BloomRef, hash};

use crate::input::Input;
use crate::{memory, seal};

const DB_ID: u64 = 3;
const TABLE_ID: u64 = 4;
const HEADER_LEN: usize = 32;
const GROUP_LEN: usize = 32;

pub fn check(input: &[u8]) {
    built(input, |bytes| bytes);
    as_it_came(input);
}

/// Leaves the last group out, as if the filter had been cut and its length set to match.
pub fn planted(input: &[u8]) {
    built(input, |mut bytes| {
        if bytes.len() > HEADER_LEN + GROUP_LEN {
            bytes.truncate(bytes.len() - GROUP_LEN);
            seal_filter(&mut bytes);
        }
        bytes
    });
}

fn seal_filter(bytes: &mut [u8]) {
    let len = bytes.len();
    seal::put(bytes, 8, &(len as u64).to_le_bytes());
    seal::put(bytes, 16, &DB_ID.to_le_bytes());
    seal::put(bytes, 24, &TABLE_ID.to_le_bytes());
    seal::crc(bytes, 0, 4..len);
}

/// A filter for a declared number of keys, with the input's keys in it.
fn built(input: &[u8], stored: fn(Vec<u8>) -> Vec<u8>) {
    let mut input = Input::new(input);
    let (room, flip) = (usize::from(input.u8()), usize::from(input.u16()));
    let mut hashes = Vec::new();
    while !input.is_empty() {
        let key = input.slice(4);
        hashes.push(hash(Keyspace(1), key));
    }
    let mut builder = BloomBuilder::new(room, DB_ID, TABLE_ID);
    builder.add(&hashes);
    let mut bytes = stored(builder.finish());
    {
        let filter = BloomRef::open(&bytes, DB_ID, TABLE_ID).expect("a filter that was built");
        assert!(hashes.iter().all(|hash| filter.may_hold(*hash)), "a key that is there was denied");
        assert!(BloomRef::open(&bytes, DB_ID, TABLE_ID + 1).is_err(), "the filter of another table");
    }
    let bit = flip % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    assert!(BloomRef::open(&bytes, DB_ID, TABLE_ID).is_err(), "bit {bit} flipped");
}

/// Bytes as they came, and behind a right header.
fn as_it_came(input: &[u8]) {
    let _ = memory::at_most(memory::TEXT, "a filter", || BloomRef::open(input, DB_ID, TABLE_ID).is_ok());
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend_from_slice(input);
    seal_filter(&mut bytes);
    let opened = memory::at_most(memory::TEXT, "a filter", || BloomRef::open(&bytes, DB_ID, TABLE_ID));
    assert_eq!(
        opened.is_ok(),
        !input.is_empty() && input.len().is_multiple_of(GROUP_LEN),
        "whole groups and nothing else"
    );
    let reopened = BloomRef::reopen(&bytes);
    for part in input.chunks(8) {
        let hash = hash(Keyspace(0), part);
        if let Ok(filter) = &opened {
            assert_eq!(filter.may_hold(hash), reopened.may_hold(hash));
            assert_eq!(filter.group(hash).map(<[u8]>::len), Some(GROUP_LEN));
        }
    }
}
