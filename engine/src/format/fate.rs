//! What is kept of a transaction that committed, so that its client can ask after a lost connection or a restart.
//!
//! The key, in the keyspace [`FATES`]: `{`, two digits of base 64, `}`, and the transaction's 16 bytes. The digits are chosen so
//! that the key lies on a shard that the transaction writes to anyhow; whoever asks tries them all. The value is empty: the
//! version says which commit it was.

use crate::ids::{Keyspace, ShardId};
use crate::ring::Ring;

pub const FATES: Keyspace = Keyspace(0xff10);

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
/// Different tags.
pub const TAGS: u16 = 64 * 64;

/// The key of transaction `id` under a tag.
pub fn fate_key(tag: u16, id: u128) -> [u8; 20] {
    let mut key = [0; 20];
    key[0] = b'{';
    key[1] = DIGITS[usize::from(tag / 64 % 64)];
    key[2] = DIGITS[usize::from(tag % 64)];
    key[3] = b'}';
    key[4..].copy_from_slice(&id.to_be_bytes());
    key
}

/// The first tag whose keys lie on `shard`. With a thousand shards one in fifty has none.
pub fn tag_of(ring: &Ring, shard: ShardId) -> Option<u16> {
    (0..TAGS).find(|tag| ring.owner_of_key(&fate_key(*tag, 0)) == shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_key() {
        let key = fate_key(64 + 2, 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        assert_eq!(&key, b"{BC}\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10");
    }

    #[test]
    fn every_shard_of_a_usual_number_has_a_tag_of_its_own() {
        for shards in [1, 2, 7, 64, 256] {
            let ring = Ring::new(shards, crate::ring::VNODES);
            for shard in (0..shards).map(ShardId) {
                let tag = tag_of(&ring, shard).expect("a tag");
                assert_eq!(ring.owner_of_key(&fate_key(tag, u128::MAX)), shard);
            }
        }
    }
}
