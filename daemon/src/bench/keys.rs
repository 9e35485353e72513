//! Which key comes next, and what it is called.

use std::io::Write as _;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution as _, Zipf};

use super::plan::{Distribution, Plan};

/// Chooses keys for one thread.
pub struct Keys {
    rng: SmallRng,
    count: u64,
    zipf: Option<Zipf<f64>>,
    name: Vec<u8>,
}

impl Keys {
    pub fn new(plan: &Plan, thread: u32) -> Keys {
        let zipf = match plan.distribution {
            Distribution::Uniform => None,
            // The command line lets through only what is a distribution.
            Distribution::Zipf { exponent } => Zipf::new(plan.keys as f64, exponent).ok(),
        };
        let rng = SmallRng::seed_from_u64(plan.seed.wrapping_mul(0x9e37_79b9).wrapping_add(u64::from(thread)));
        Keys { rng, count: plan.keys, zipf, name: Vec::new() }
    }

    pub fn next(&mut self) -> &[u8] {
        let number = match &self.zipf {
            None => self.rng.random_range(0..self.count),
            // Popular keys are spread over all of them, and with them over the shards.
            Some(zipf) => (zipf.sample(&mut self.rng) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.count,
        };
        name(number, &mut self.name);
        &self.name
    }
}

/// The key with a number: 16 bytes, in the order of the numbers.
pub fn name(number: u64, name: &mut Vec<u8>) {
    name.clear();
    // Writing to a vector does not fail.
    let _ = write!(name, "key:{number:012}");
}

/// Bytes that do not compress, different in each call's first bytes.
pub struct Values {
    bytes: Vec<u8>,
    counter: u64,
}

impl Values {
    pub fn new(len: usize, seed: u64) -> Values {
        let mut bytes = vec![0; len];
        SmallRng::seed_from_u64(seed).fill(&mut bytes[..]);
        Values { bytes, counter: 0 }
    }

    pub fn next(&mut self) -> &[u8] {
        self.counter += 1;
        for (to, from) in self.bytes.iter_mut().zip(self.counter.to_be_bytes()) {
            *to = from;
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Limit, Target};
    use super::*;
    use std::collections::HashMap;
    use std::time::Duration;

    fn plan(distribution: Distribution) -> Plan {
        Plan {
            workloads: vec![],
            target: Target::Socket { address: String::new() },
            threads: 1,
            pipeline: 1,
            keys: 1000,
            value_len: 8,
            batch_len: 1,
            distribution,
            limit: Limit::Time(Duration::ZERO),
            rate: None,
            seed: 1,
            json: false,
        }
    }

    fn counts(distribution: Distribution) -> Vec<u32> {
        let mut keys = Keys::new(&plan(distribution), 0);
        let mut counts: HashMap<Vec<u8>, u32> = HashMap::new();
        for _ in 0..100_000 {
            let key = keys.next();
            assert_eq!(key.len(), 16);
            *counts.entry(key.to_vec()).or_default() += 1;
        }
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn uniform_keys_come_about_equally_often() {
        let counts = counts(Distribution::Uniform);
        assert_eq!(counts.len(), 1000);
        assert!(counts[0] < 160 && counts[999] > 50, "{} {}", counts[0], counts[999]);
    }

    #[test]
    fn zipf_keys_follow_their_rank() {
        let counts = counts(Distribution::Zipf { exponent: 1.0 });
        // The first of 1000 has a share of 1 in 7.49.
        assert!((11_000..16_000).contains(&counts[0]), "{}", counts[0]);
        assert!((5_000..8_500).contains(&counts[1]), "{}", counts[1]);
    }

    #[test]
    fn the_same_seed_gives_the_same_keys() {
        let draw = |thread| {
            let mut keys = Keys::new(&plan(Distribution::Uniform), thread);
            (0..20).map(|_| keys.next().to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }
}
