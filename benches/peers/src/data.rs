//! Keys and values, the same for every system, and which key comes next.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution as _, Zipf};

pub const VALUE_LEN: usize = 100;
pub type Key = [u8; 16];

/// Odd, so that multiplying by it visits every number once (Knuth's multiplicative hashing, TAOCP 3, 6.4).
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `i`-th key; neighbours in number are far apart in key order.
pub fn key(i: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&i.wrapping_mul(SCATTER).to_be_bytes());
    key[8..].copy_from_slice(&i.to_be_bytes());
    key
}

/// The `i`-th key of a batch: one of `tags` tags in braces, which keep the batch on one shard of ours, and a number.
pub fn tagged_key(tag: u64, i: u64) -> Key {
    let mut key = *b"{000000}\0\0\0\0\0\0\0\0";
    let mut rest = tag;
    for digit in key[1..7].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key[8..].copy_from_slice(&i.wrapping_mul(SCATTER).to_be_bytes());
    key
}

/// Bytes that do not compress.
pub fn value(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SmallRng::seed_from_u64(7).fill(&mut bytes[..]);
    bytes
}

/// A number that no other call gives, for names and pauses.
pub fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    Uniform,
    /// With the exponent 0.99 of YCSB; popular keys are spread over all of them.
    Zipf,
}

/// Draws of a Zipf distribution are slow; so many are made before, and used in turn.
const DRAWS: usize = 1 << 20;

/// Numbers below a bound, for one thread.
pub struct Numbers {
    state: u64,
    bound: u64,
    drawn: Option<Vec<u64>>,
    at: usize,
}

impl Numbers {
    pub fn new(choice: Choice, bound: u64, thread: u64) -> Numbers {
        let drawn = match (choice, Zipf::new(bound as f64, 0.99)) {
            (Choice::Zipf, Ok(zipf)) => {
                let mut rng = SmallRng::seed_from_u64(thread);
                Some((0..DRAWS).map(|_| (zipf.sample(&mut rng) as u64).wrapping_mul(SCATTER) % bound).collect())
            }
            _ => None,
        };
        Numbers { state: thread.wrapping_mul(SCATTER) ^ 0x5555, bound, drawn, at: 0 }
    }

    pub fn draw(&mut self) -> u64 {
        match &self.drawn {
            Some(drawn) => {
                self.at = (self.at + 1) & (DRAWS - 1);
                drawn[self.at]
            }
            None => self.below(self.bound),
        }
    }

    /// Lehmer's generator with the constants of PCG.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 32) * bound) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_batches_share_a_tag() {
        let keys: std::collections::HashSet<Key> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
        assert_eq!(&tagged_key(123, 1)[..8], b"{000123}");
        assert_ne!(tagged_key(1, 1), tagged_key(1, 2));
    }

    #[test]
    fn zipf_prefers_some_keys_and_uniform_does_not() {
        let most = |choice| {
            let mut numbers = Numbers::new(choice, 1000, 1);
            let mut counts = vec![0; 1000];
            (0..100_000).for_each(|_| counts[numbers.draw() as usize] += 1);
            counts.into_iter().max().unwrap_or(0)
        };
        assert!(most(Choice::Uniform) < 200, "{}", most(Choice::Uniform));
        assert!(most(Choice::Zipf) > 8_000, "{}", most(Choice::Zipf));
    }
}
