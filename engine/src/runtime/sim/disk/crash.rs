//! How much of what was not durable a crash leaves. One seed decides all of it.
//!
//! Independent choices for every block hide the rare orders that break protocols (everything of one file, nothing of
//! another), so each crash, and each file in it, first draws a style, and the style makes the choices.

use super::super::rng::Rng;

/// The unit that a disk writes whole.
pub const SECTOR: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CrashKind {
    /// The process was killed: the kernel keeps every write that had returned, and shared regions whole.
    Process,
    /// The machine stopped: only what was synced is sure.
    Machine,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::runtime::sim) enum Style {
    /// Nothing that was not synced.
    Old,
    /// Everything.
    New,
    /// Everything up to one moment, nothing after it.
    Until(u64),
    /// Each block on its own.
    Blocks,
    /// Each sector on its own.
    Sectors,
}

impl Style {
    /// How many of the changes with these numbers survive (a prefix: later bytes of one place replace earlier ones).
    pub fn prefix(&self, rng: &mut Rng, seqs: impl ExactSizeIterator<Item = u64>) -> usize {
        match *self {
            Style::Old => 0,
            Style::New => seqs.len(),
            Style::Until(moment) => seqs.take_while(|seq| *seq <= moment).count(),
            Style::Blocks | Style::Sectors => rng.index(seqs.len() + 1),
        }
    }

    pub fn tears(&self, rng: &mut Rng) -> bool {
        *self == Style::Sectors && !rng.one_in(4)
    }
}

/// The choices of one crash.
pub struct Damage {
    pub(in crate::runtime::sim) rng: Rng,
    everywhere: Option<Style>,
    last_seq: u64,
}

impl Damage {
    /// `last_seq` is the number of the last change made before the crash.
    pub(in crate::runtime::sim) fn new(seed: u64, last_seq: u64) -> Damage {
        let mut rng = Rng::stream(seed, "damage");
        let everywhere = match rng.below(8) {
            0 => Some(Style::Old),
            1 => Some(Style::New),
            2 => Some(Style::Until(rng.between(0, last_seq))),
            3 => Some(Style::Sectors),
            _ => None,
        };
        Damage { rng, everywhere, last_seq }
    }

    pub(in crate::runtime::sim) fn style_of_file(&mut self) -> Style {
        if let Some(style) = self.everywhere {
            return style;
        }
        match self.rng.below(5) {
            0 => Style::Old,
            1 => Style::New,
            2 => Style::Until(self.rng.between(0, self.last_seq)),
            3 => Style::Blocks,
            _ => Style::Sectors,
        }
    }

    /// Which parts of a write in flight were done: ranges of its bytes, in sectors.
    pub(in crate::runtime::sim) fn torn(&mut self, len: usize) -> Vec<std::ops::Range<usize>> {
        let style = self.rng.below(4);
        let cut = self.rng.index(len / SECTOR + 1);
        let sectors = (0..len).step_by(SECTOR).map(|at| at..(at + SECTOR).min(len));
        sectors
            .enumerate()
            .filter(|(i, _)| match style {
                0 => false,
                1 => true,
                2 => *i < cut,
                _ => self.rng.coin(),
            })
            .map(|(_, range)| range)
            .collect()
    }
}
