//! The one source of chance of a simulation: xoshiro256** seeded by splitmix64 (Blackman and Vigna, 2018).
//!
//! Own code because the stream is part of what a seed means: a generator from a crate may change with its version, and
//! every recorded seed would then replay something else.

/// A seeded generator. Two with the same seed give the same numbers on every machine and in every build.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

/// One step of splitmix64; also a good mixer of two words when called as `splitmix(a ^ splitmix(b))`.
pub fn splitmix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    pub fn new(seed: u64) -> Rng {
        let mut word = seed;
        let state = std::array::from_fn(|_| {
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
            splitmix(word)
        });
        Rng { state }
    }

    /// The stream for one purpose, so that drawing more of one kind does not shift another.
    pub fn stream(seed: u64, purpose: &str) -> Rng {
        let label = purpose.bytes().fold(0u64, |h, b| splitmix(h ^ u64::from(b)));
        Rng::new(splitmix(seed ^ splitmix(label)))
    }

    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..n`; the bias of the multiplication is below 2^-32 for every `n` used here.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a choice needs at least one alternative");
        let wide = u128::from(self.next_u64()) * u128::from(n);
        u64::try_from(wide >> 64).expect("a product of two u64 shifted by 64 fits")
    }

    /// An index into a slice of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high);
        match (high - low).checked_add(1) {
            Some(span) => low + self.below(span),
            None => self.next_u64(),
        }
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn coin(&mut self) -> bool {
        self.one_in(2)
    }

    pub fn per_million(&mut self, chance: u32) -> bool {
        self.below(1_000_000) < u64::from(chance)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_seed_is_frozen() {
        let mut rng = Rng::new(1);
        let drawn: [u64; 3] = std::array::from_fn(|_| rng.next_u64());
        let mut again = Rng::new(1);
        assert_eq!(drawn, std::array::from_fn(|_| again.next_u64()));
        assert_eq!(splitmix(0), 0xe220_a839_7b1d_cdaf, "the first output of splitmix64 seeded with 0");
        assert_ne!(Rng::stream(1, "disk").next_u64(), Rng::stream(1, "tasks").next_u64());
    }

    #[test]
    fn choices_stay_inside_their_range_and_reach_its_ends() {
        let mut rng = Rng::new(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[rng.index(5)] = true;
            assert!((3..=4).contains(&rng.between(3, 4)));
        }
        assert_eq!(seen, [true; 5]);
    }
}
