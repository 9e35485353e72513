//! Which session an ephemeral key is of, as a key and value of one of the engine's own keyspaces (docs/watch.md).
//!
//! ```text
//!  key of an entry (0xff02):    | the ephemeral key ... | its keyspace: 2, big-endian |
//!  value of an entry:           0         1    8         16
//!                               | version | 0  | session |
//! ```
//!
//! Guards: an entry lies on the shard of its key, whatever braces the key has: the ring places it by the key in it ([`placed_by`]).

use std::ops::Range;

use super::damage::Damage;
use super::le::{fixed_u64, is_zero};
use crate::ids::{Keyspace, SessionId};
use crate::options::KEY_LEN_MAX;

pub const EPHEMERALS: Keyspace = Keyspace(0xff02);

const KEYSPACE_LEN: usize = 2;
/// An entry is a key, too.
pub const EPHEMERAL_KEY_LEN_MAX: usize = KEY_LEN_MAX - KEYSPACE_LEN;

const VERSION_NOW: u8 = 1;
const SESSION: Range<usize> = 8..16;
const ENTRY_LEN: usize = SESSION.end;

/// The part of a stored key that says where it lies.
pub fn placed_by(keyspace: Keyspace, key: &[u8]) -> &[u8] {
    if keyspace == EPHEMERALS { key.split_last_chunk::<KEYSPACE_LEN>().map_or(key, |(key, _)| key) } else { key }
}

pub fn entry_key(keyspace: Keyspace, key: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(key.len() + KEYSPACE_LEN);
    entry.extend_from_slice(key);
    entry.extend_from_slice(&keyspace.0.to_be_bytes());
    entry
}

/// The keyspace and the ephemeral key of an entry's key.
pub fn parse_entry_key(entry: &[u8]) -> Result<(Keyspace, &[u8]), Damage> {
    match entry.split_last_chunk::<KEYSPACE_LEN>() {
        Some((key, keyspace)) => Ok((Keyspace(u16::from_be_bytes(*keyspace)), key)),
        None => Err(Damage::new(0, format!("{} bytes are no entry of an ephemeral key", entry.len()))),
    }
}

pub fn encode_entry(session: SessionId) -> [u8; ENTRY_LEN] {
    let mut out = [0; ENTRY_LEN];
    out[0] = VERSION_NOW;
    out[SESSION].copy_from_slice(&session.0.to_le_bytes());
    out
}

pub fn decode_entry(bytes: &[u8]) -> Result<SessionId, Damage> {
    if bytes.len() != ENTRY_LEN || bytes[0] != VERSION_NOW || !is_zero(&bytes[1..SESSION.start]) {
        return Err(Damage::new(0, format!("{} bytes do not say whose an ephemeral key is", bytes.len())));
    }
    Ok(SessionId(fixed_u64(bytes, SESSION)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Ring, VNODES};
    use proptest::prelude::*;

    #[test]
    fn golden_bytes_of_an_entry() {
        assert_eq!(entry_key(Keyspace(258), b"{t}k"), b"{t}k\x01\x02");
        assert_eq!(encode_entry(SessionId(0x0102)), [1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn entries_give_back_what_they_are_of_and_lie_beside_it(
            key in prop::collection::vec(prop::sample::select(b"ab{}\0\x01".to_vec()), 0..12),
            keyspace: u16,
            session: u64,
        ) {
            let entry = entry_key(Keyspace(keyspace), &key);
            prop_assert_eq!(parse_entry_key(&entry).unwrap(), (Keyspace(keyspace), key.as_slice()));
            let ring = Ring::new(7, VNODES);
            prop_assert_eq!(ring.owner_of_key(placed_by(EPHEMERALS, &entry)), ring.owner_of_key(&key));
            prop_assert_eq!(placed_by(Keyspace(keyspace & 0xff), &entry), entry.as_slice());
            prop_assert_eq!(decode_entry(&encode_entry(SessionId(session))).unwrap(), SessionId(session));
        }

        #[test]
        fn other_bytes_are_refused_or_say_the_same(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(session) = decode_entry(&bytes) {
                prop_assert_eq!(encode_entry(session).to_vec(), bytes);
            }
        }
    }
}
