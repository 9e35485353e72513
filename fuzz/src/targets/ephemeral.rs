//! `format/ephemeral.rs`: whose an ephemeral key is, and the key that this lies under.

use corering_engine::SessionId;
use corering_engine::format::damage::Damage;
use corering_engine::format::ephemeral::{
    EPHEMERALS, decode_entry, encode_entry, entry_key, parse_entry_key, placed_by,
};

use crate::{memory, seal};

const LEN: usize = 16;
const SESSION_AT: usize = 8;

type Decode = fn(&[u8]) -> Result<SessionId, Damage>;

pub fn check(input: &[u8]) {
    agree(input, decode_entry);
}

/// Passes over bytes that a newer version may have given a meaning.
pub fn planted(input: &[u8]) {
    agree(input, |bytes| {
        let mut bytes = bytes.to_vec();
        bytes.iter_mut().take(SESSION_AT).skip(1).for_each(|byte| *byte = 0);
        decode_entry(&bytes)
    });
}

fn agree(input: &[u8], decode: Decode) {
    key(input);
    value(input, decode);
    let mut bytes = input.to_vec();
    bytes.resize(LEN, 0);
    seal::put(&mut bytes, 0, &[1]);
    value(&bytes, decode);
    seal::put(&mut bytes, 1, &[0; SESSION_AT - 1]);
    value(&bytes, decode);
    assert!(decode(&bytes).is_ok(), "every session is one");
}

fn value(bytes: &[u8], decode: Decode) {
    match memory::at_most(bytes.len() + memory::TEXT, "an entry", || decode(bytes)) {
        Ok(session) => assert_eq!(encode_entry(session).as_slice(), bytes, "what is accepted is what would be written"),
        Err(damage) => assert!(damage.at <= bytes.len() as u64),
    }
}

fn key(bytes: &[u8]) {
    match memory::at_most(memory::TEXT, "an entry's key", || parse_entry_key(bytes)) {
        Ok((keyspace, key)) => {
            assert_eq!(entry_key(keyspace, key), bytes);
            assert_eq!(placed_by(EPHEMERALS, bytes), key, "an entry lies beside its key");
        }
        Err(_) => assert!(bytes.len() < 2, "every keyspace has entries"),
    }
    assert_eq!(placed_by(corering_engine::Keyspace(0), bytes), bytes);
}
