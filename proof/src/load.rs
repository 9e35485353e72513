//! What the clients of a recorded history do: few keys, so that calls meet, and values that nobody else writes, so that a
//! read says which write it saw.

use crate::register::{Condition, Op};

/// Values of one client are so far apart from each other that additions do not make one into another.
const STEP: i64 = 1_000;

/// Draws the calls of one client.
pub struct Load {
    rng: fastrand::Rng,
    keys: u64,
    client: i64,
    written: i64,
    /// What this client saw last, for conditions that have a chance to hold.
    seen: Option<i64>,
    /// Whether the other end can compare a value before it writes.
    compares: bool,
}

impl Load {
    pub fn new(seed: u64, client: u32, keys: u64) -> Load {
        let rng = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(client)));
        Load { rng, keys, client: i64::from(client), written: 0, seen: None, compares: true }
    }

    /// For an interface that has no "put if equal".
    pub fn without_comparisons(self) -> Load {
        Load { compares: false, ..self }
    }

    /// Note a value that was read.
    pub fn saw(&mut self, value: Option<i64>) {
        self.seen = value;
    }

    fn value(&mut self) -> i64 {
        self.written += STEP;
        self.client * 1_000_000_000_000 + self.written
    }

    /// A key and what to do with it.
    pub fn draw(&mut self) -> (u64, Op) {
        let key = self.rng.u64(..self.keys);
        let op = match self.rng.u32(..100) {
            0..40 => Op::Get,
            40..62 => Op::Put(self.value()),
            62..72 => Op::Delete,
            72..80 => Op::PutIf(Condition::Absent, self.value()),
            80..85 => Op::PutIf(Condition::Present, self.value()),
            85..90 => match self.seen {
                Some(seen) if self.compares => Op::PutIf(Condition::Equal(seen), self.value()),
                _ => Op::PutIf(Condition::Present, self.value()),
            },
            _ => Op::Incr(self.rng.i64(1..5)),
        };
        (key, op)
    }
}
