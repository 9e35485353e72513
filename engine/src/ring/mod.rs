//! Consistent hashing: which shard owns a key.
//!
//! Each shard puts a number of virtual nodes on a ring of 64-bit tokens; a key belongs to the first node at or behind
//! its own token (Karger et al., "Consistent Hashing and Random Trees", 1997). A node's place depends only on its
//! shard and number, so another shard count moves only the keys that the new nodes take, or the gone nodes leave.
//!
//! Guards: the functions here are frozen. What they say of a key is where its bytes are on disk; the test vectors below
//! must never change.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::{ShardId, Token};

/// Virtual nodes of one shard in a new database: keeps every shard's part within a few percent of the others'.
pub const VNODES: u16 = 512;
const KEY_SEED: u64 = 0x436f_7265_7269_6e67; // "Corering"
const NODE_SEED: u64 = 0x7669_7274_6e6f_6465; // "virtnode"

/// The part of a key that decides where it lies: what stands between the first `{` and the next `}`, if that is not
/// empty, else the whole key. The rule of Redis Cluster.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|b| *b == b'{') else { return key };
    let inner = &key[open + 1..];
    match inner.iter().position(|b| *b == b'}') {
        Some(len) if len > 0 => &inner[..len],
        Some(_) | None => key,
    }
}

pub fn token_of(key: &[u8]) -> Token {
    Token(xxh3_64_with_seed(hash_tag(key), KEY_SEED))
}

fn node_token(shard: ShardId, node: u16) -> Token {
    let mut name = [0; 4];
    name[..2].copy_from_slice(&shard.0.to_le_bytes());
    name[2..].copy_from_slice(&node.to_le_bytes());
    Token(xxh3_64_with_seed(&name, NODE_SEED))
}

/// An immutable version of the ring.
#[derive(Clone, Debug)]
pub struct Ring {
    shards: u16,
    /// Nodes by token; ties go to the lower shard.
    nodes: Vec<(Token, ShardId)>,
    /// For each value of a token's upper bits, the first node at or behind the start of that stretch.
    starts: Vec<u32>,
    shift: u32,
}

impl Ring {
    pub fn new(shards: u16, vnodes: u16) -> Ring {
        assert!(shards > 0 && vnodes > 0, "a ring has nodes");
        let mut nodes: Vec<(Token, ShardId)> =
            (0..shards).flat_map(|s| (0..vnodes).map(move |n| (node_token(ShardId(s), n), ShardId(s)))).collect();
        nodes.sort_unstable();
        let bits = (nodes.len() * 2).next_power_of_two().trailing_zeros();
        let shift = 64 - bits;
        let starts = (0..1u64 << bits)
            .map(|upper| nodes.partition_point(|(token, _)| token.0 < upper << shift) as u32)
            .collect();
        Ring { shards, nodes, starts, shift }
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    pub fn owner(&self, token: Token) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        let mut at = self.starts[(token.0 >> self.shift) as usize] as usize;
        while at < self.nodes.len() && self.nodes[at].0 < token {
            at += 1;
        }
        self.nodes[if at == self.nodes.len() { 0 } else { at }].1
    }

    pub fn owner_of_key(&self, key: &[u8]) -> ShardId {
        if self.shards == 1 { ShardId(0) } else { self.owner(token_of(key)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hash_tags_follow_the_rule_of_redis_cluster() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"plain", b"plain"),
            (b"{user1000}.following", b"user1000"),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"{open", b"{open"),
            (b"close}only", b"close}only"),
            (b"", b""),
        ];
        for (key, tag) in cases {
            assert_eq!(hash_tag(key), tag);
        }
    }

    #[test]
    fn frozen_vectors() {
        let tokens = [b"".as_slice(), b"a", b"key:000000000042", b"{tag}x", &[0, 255, 10]].map(|k| token_of(k).0);
        assert_eq!(tokens, FROZEN_TOKENS);
        let ring = Ring::new(5, VNODES);
        let owners: Vec<u16> = (0..24u32).map(|i| ring.owner_of_key(format!("key:{i}").as_bytes()).0).collect();
        assert_eq!(owners, FROZEN_OWNERS);
    }

    const FROZEN_TOKENS: [u64; 5] =
        [13561870444536141682, 16589681895150511710, 18281988919769031835, 8428158413424986809, 18147094669521431518];
    const FROZEN_OWNERS: [u16; 24] = [0, 4, 1, 0, 1, 4, 0, 3, 4, 1, 0, 4, 1, 1, 0, 2, 1, 0, 2, 1, 3, 0, 2, 0];

    #[test]
    fn another_shard_count_moves_only_what_it_must() {
        let keys: Vec<Vec<u8>> = (0..100_000u32).map(|i| format!("key:{i:012}").into_bytes()).collect();
        for (from, to) in [(1u16, 2u16), (2, 3), (4, 5), (5, 4), (8, 16), (16, 15)] {
            let (before, after) = (Ring::new(from, VNODES), Ring::new(to, VNODES));
            let mut moved = 0usize;
            for key in &keys {
                let (a, b) = (before.owner_of_key(key), after.owner_of_key(key));
                if a != b {
                    moved += 1;
                    // A key moves only to a new shard, or away from one that is gone.
                    assert!(b.0 >= from || a.0 >= to, "{from} -> {to} moved a key from {a} to {b}");
                }
            }
            let (less, more) = (from.min(to), from.max(to));
            let expected = f64::from(more - less) / f64::from(more);
            let share = moved as f64 / keys.len() as f64;
            assert!(
                (share - expected).abs() < 0.25 * expected + 0.01,
                "{from} -> {to}: {share} moved, {expected} expected"
            );
        }
    }

    #[test]
    fn shards_get_about_equal_parts() {
        for shards in [2u16, 3, 8, 16] {
            let ring = Ring::new(shards, VNODES);
            let mut counts = vec![0u32; usize::from(shards)];
            for i in 0..200_000u32 {
                counts[ring.owner_of_key(&i.to_le_bytes()).index()] += 1;
            }
            let mean = 200_000.0 / f64::from(shards);
            for count in counts {
                assert!((f64::from(count) - mean).abs() < 0.20 * mean, "{shards} shards: {count} of {mean}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_table_of_starts_agrees_with_a_plain_search(token: u64, shards in 1u16..20, vnodes in 1u16..40) {
            let ring = Ring::new(shards, vnodes);
            let plain = ring.nodes.iter().find(|(t, _)| t.0 >= token).unwrap_or(&ring.nodes[0]).1;
            prop_assert_eq!(ring.owner(Token(token)), plain);
        }
    }
}
