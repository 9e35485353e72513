//! Which of several cursors in key order come next.
//!
//! Guards: cursors at equal keys are named together, those of newer sources first. As long as one cursor alone stays
//! before all others, each step costs one comparison.

use std::cmp::Ordering;

use super::source::Cursor;
use crate::ids::Keyspace;

/// The way through the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Forward,
    Reverse,
}

/// Has a place in key order.
pub trait Keyed {
    fn key(&self) -> Option<(Keyspace, &[u8])>;
}

impl Keyed for Cursor {
    fn key(&self) -> Option<(Keyspace, &[u8])> {
        Cursor::key(self)
    }
}

/// Chooses among cursors, which their owner moves.
pub struct Picker {
    direction: Direction,
    /// Cursors at the next key, in the order of their sources. Empty: before the first choice, or at the end.
    tied: Vec<usize>,
    /// The first of all the others.
    runner_up: Option<usize>,
}

impl Picker {
    pub fn new(direction: Direction) -> Picker {
        Picker { direction, tied: Vec::new(), runner_up: None }
    }

    /// What was chosen last.
    pub fn tied(&self) -> &[usize] {
        &self.tied
    }

    fn cmp(&self, a: (Keyspace, &[u8]), b: (Keyspace, &[u8])) -> Ordering {
        match self.direction {
            Direction::Forward => a.cmp(&b),
            Direction::Reverse => b.cmp(&a),
        }
    }

    /// Chooses the cursors that come next, after those chosen last were moved on. None: all are at their end.
    pub fn choose<'c, C: Keyed>(&mut self, cursors: &'c [C]) -> Option<(Keyspace, &'c [u8])> {
        if let ([one], Some(second)) = (&self.tied[..], self.runner_up)
            && let (Some(key), Some(second)) = (cursors[*one].key(), cursors[second].key())
            && self.cmp(key, second).is_lt()
        {
            return Some(key);
        }
        let mut best: Option<(Keyspace, &[u8])> = None;
        let mut second: Option<(Keyspace, &[u8])> = None;
        self.tied.clear();
        self.runner_up = None;
        for (i, cursor) in cursors.iter().enumerate() {
            let Some(key) = cursor.key() else { continue };
            match best.map_or(Ordering::Less, |best| self.cmp(key, best)) {
                Ordering::Less => {
                    second = best;
                    self.runner_up = self.tied.first().copied();
                    best = Some(key);
                    self.tied.clear();
                    self.tied.push(i);
                }
                Ordering::Equal => self.tied.push(i),
                Ordering::Greater => {
                    if second.is_none_or(|second| self.cmp(key, second).is_lt()) {
                        second = Some(key);
                        self.runner_up = Some(i);
                    }
                }
            }
        }
        best
    }
}
