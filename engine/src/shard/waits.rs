//! How long those waited in line who wait no more: granted, timed out or sent away.

/// Classes of waits: up to 1, 2, 4 … ms; the last has no end.
const CLASSES: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    pub count: u64,
    pub sum_ms: u64,
    pub max_ms: u64,
    classes: [u64; CLASSES],
}

impl Waits {
    pub fn note(&mut self, waited_ms: u64) {
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(waited_ms);
        self.max_ms = self.max_ms.max(waited_ms);
        let class = (u64::BITS - waited_ms.saturating_sub(1).leading_zeros()) as usize;
        self.classes[class.min(CLASSES - 1)] += 1;
    }

    /// Those of several shards together.
    pub fn add(&mut self, other: &Waits) {
        self.count += other.count;
        self.sum_ms = self.sum_ms.saturating_add(other.sum_ms);
        self.max_ms = self.max_ms.max(other.max_ms);
        self.classes.iter_mut().zip(other.classes).for_each(|(own, other)| *own += other);
    }

    /// A time within which `part` of all waits ended: the end of their class, at most twice too much.
    pub fn within_ms(&self, part: f64) -> u64 {
        let wanted = (self.count as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (class, count) in self.classes.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return (1u64 << class).min(self.max_ms);
            }
        }
        self.max_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_waits_end_within_the_half_time() {
        let mut waits = Waits::default();
        assert_eq!((waits.within_ms(0.5), waits.within_ms(1.0)), (0, 0));
        (1..=100).for_each(|ms| waits.note(ms));
        assert_eq!((waits.count, waits.sum_ms, waits.max_ms), (100, 5050, 100));
        assert_eq!((waits.within_ms(0.5), waits.within_ms(0.99), waits.within_ms(0.01)), (64, 100, 1));
        let mut both = Waits::default();
        both.note(u64::MAX);
        both.add(&waits);
        assert_eq!((both.count, both.max_ms, both.within_ms(0.5)), (101, u64::MAX, 64));
    }
}
