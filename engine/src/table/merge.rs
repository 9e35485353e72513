//! Which of several cursors in key order come next.
//!
//! Guards: cursors at equal keys are named together, those of newer sources first. As long as one cursor alone stays
//! before all others, each step costs one comparison; a cursor that falls behind others finds its place by halving.

use std::cmp::Ordering;

use super::place::Place;

/// The way through the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Forward,
    Reverse,
}

impl Direction {
    #[inline]
    fn cmp(self, a: &Place, b: &Place) -> Ordering {
        match self {
            Direction::Forward => a.cmp_key(b),
            Direction::Reverse => b.cmp_key(a),
        }
    }
}

/// Has a place in key order, or none behind its last key.
pub trait Placed {
    fn place(&self) -> Option<&Place>;
}

/// Chooses among cursors, which their owner moves.
pub struct Picker {
    direction: Direction,
    /// Cursors that are not at their end, by their keys and then as their sources come. Those chosen last, which
    /// their owner moves, stand at the front in any order.
    order: Vec<usize>,
    /// How many were chosen last: at the next key, together.
    tied: usize,
    started: bool,
}

impl Picker {
    pub fn new(direction: Direction) -> Picker {
        Picker { direction, order: Vec::new(), tied: 0, started: false }
    }

    /// What was chosen last.
    #[inline]
    pub fn tied(&self) -> &[usize] {
        &self.order[..self.tied]
    }

    /// Chooses the cursors that come next, after those chosen last were moved on. None: all are at their end.
    #[inline]
    pub fn choose<'c, C: Placed>(&mut self, cursors: &'c [C]) -> Option<&'c Place> {
        // Most often one was chosen last, and is the next again or changes places with the second.
        match self.order[..] {
            [one] if self.tied == 1 => {
                if let Some(place) = cursors[one].place() {
                    return Some(place);
                }
            }
            [one, second] if self.tied == 1 => {
                if let (Some(a), Some(b)) = (cursors[one].place(), cursors[second].place()) {
                    match self.direction.cmp(a, b) {
                        Ordering::Less => return Some(a),
                        Ordering::Greater => {
                            self.order.swap(0, 1);
                            return Some(b);
                        }
                        Ordering::Equal => {}
                    }
                }
            }
            _ => {}
        }
        self.sort_in(cursors)
    }

    /// [`Picker::choose`] for any number of cursors.
    fn sort_in<'c, C: Placed>(&mut self, cursors: &'c [C]) -> Option<&'c Place> {
        if !self.started {
            self.started = true;
            self.order = (0..cursors.len()).collect();
            self.tied = self.order.len();
        }
        let direction = self.direction;
        // From the last one on, so that what is behind each is in order.
        for at in (0..self.tied).rev() {
            let moved = self.order[at];
            let Some(place) = cursors[moved].place() else {
                self.order.remove(at);
                continue;
            };
            let is_before = |other: &usize| match cursors[*other].place() {
                Some(other_place) => direction.cmp(other_place, place).then(other.cmp(&moved)).is_lt(),
                None => true,
            };
            let behind = &self.order[at + 1..];
            let before = match behind.first() {
                Some(next) if is_before(next) => behind.partition_point(is_before),
                _ => 0,
            };
            self.order[at..=at + before].rotate_left(1);
        }
        let Some(first) = self.order.first().and_then(|first| cursors[*first].place()) else {
            self.tied = 0;
            return None;
        };
        let others = self.order[1..].iter();
        let tied = others.take_while(|other| cursors[**other].place().is_some_and(|place| place.is_same_key(first)));
        self.tied = 1 + tied.count();
        Some(first)
    }
}
