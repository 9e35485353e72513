//! The keys of one shard in a range, each with its newest version at a moment.
//!
//! Guards: every key that has a value at that moment comes exactly once, in order; deletes are passed over.
//! Does not: judge expiry or ownership (`merged_scan.rs`).

use std::ops::Bound;

use super::merge::{Direction, Picker, Placed};
use super::place::Place;
use super::read_state::ReadState;
use super::source::Cursor;
use crate::error::Result;
use crate::ids::{CommitTs, Keyspace};
use crate::value::ValueRef;

/// What part of a keyspace is read, and in which direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Range {
    pub keyspace: Keyspace,
    pub lower: Bound<Vec<u8>>,
    pub upper: Bound<Vec<u8>>,
    pub direction: Direction,
}

impl Range {
    pub fn all(keyspace: Keyspace, direction: Direction) -> Range {
        Range { keyspace, lower: Bound::Unbounded, upper: Bound::Unbounded, direction }
    }

    /// The key is not behind the end, in the range's direction.
    #[inline]
    pub(crate) fn is_before_end(&self, keyspace: Keyspace, key: &[u8]) -> bool {
        if keyspace != self.keyspace {
            return false;
        }
        match self.direction {
            Direction::Forward => match &self.upper {
                Bound::Included(upper) => key <= &upper[..],
                Bound::Excluded(upper) => key < &upper[..],
                Bound::Unbounded => true,
            },
            Direction::Reverse => match &self.lower {
                Bound::Included(lower) => key >= &lower[..],
                Bound::Excluded(lower) => key > &lower[..],
                Bound::Unbounded => true,
            },
        }
    }

    /// Brings a cursor to the range's first key.
    pub(crate) fn start(&self, cursor: &mut Cursor) -> Result<()> {
        let keyspace = self.keyspace;
        match (self.direction, &self.lower, &self.upper) {
            (Direction::Forward, Bound::Unbounded, _) => cursor.seek(keyspace, &[]),
            (Direction::Forward, Bound::Included(lower), _) => cursor.seek(keyspace, lower),
            (Direction::Forward, Bound::Excluded(lower), _) => {
                cursor.seek(keyspace, lower)?;
                if cursor.key() == Some((keyspace, &lower[..])) {
                    cursor.next_key()?;
                }
                Ok(())
            }
            (Direction::Reverse, _, Bound::Excluded(upper)) => cursor.seek_before(keyspace, upper),
            (Direction::Reverse, _, Bound::Included(upper)) => {
                // The first key behind `upper` is `upper` and a zero.
                let mut behind = upper.clone();
                behind.push(0);
                cursor.seek_before(keyspace, &behind)
            }
            (Direction::Reverse, _, Bound::Unbounded) => match keyspace.0.checked_add(1) {
                Some(next) => cursor.seek_before(Keyspace(next), &[]),
                None => {
                    // No keyspace lies behind the last: no key is longer than this one.
                    let behind = vec![0xff; crate::options::KEY_LEN_MAX + 1];
                    cursor.seek_before(keyspace, &behind)
                }
            },
        }
    }
}

/// No cursor's number.
const NONE: usize = usize::MAX;

#[inline]
fn step(cursor: &mut Cursor, direction: Direction) -> Result<()> {
    match direction {
        Direction::Forward => cursor.next_key(),
        Direction::Reverse => cursor.prev_key(),
    }
}

/// See the module. Owns what it reads, so that it may live as long as its user likes.
pub struct RangeCursor {
    range: Range,
    at: CommitTs,
    cursors: Vec<Cursor>,
    picker: Picker,
    /// The cursor that has the current key's version, or [`NONE`].
    current: usize,
    started: bool,
}

impl RangeCursor {
    /// A cursor before the range's first key.
    pub fn new(state: &ReadState, range: Range, at: CommitTs) -> Result<RangeCursor> {
        let cursors = state.cursors(at)?;
        let picker = Picker::new(range.direction);
        Ok(RangeCursor { range, at, cursors, picker, current: NONE, started: false })
    }

    /// To the next key; false at the end. After an error the cursor is of no more use.
    #[inline]
    pub fn advance(&mut self) -> Result<bool> {
        // With one source there is nothing to choose.
        if let ([cursor], true) = (&mut self.cursors[..], self.started) {
            step(cursor, self.range.direction)?;
            match cursor.place() {
                Some(place) if self.range.is_before_end(place.keyspace, place.key()) => {
                    if place.ts <= self.at && !place.deleted {
                        self.current = 0;
                        return Ok(true);
                    }
                }
                _ => return Ok(self.end()),
            }
            if let Some((_, false)) = cursor.settle(self.at)? {
                self.current = 0;
                return Ok(true);
            }
        }
        self.advance_any()
    }

    /// [`RangeCursor::advance`] for any number of sources.
    fn advance_any(&mut self) -> Result<bool> {
        self.current = NONE;
        loop {
            if self.started {
                for &i in self.picker.tied() {
                    step(&mut self.cursors[i], self.range.direction)?;
                }
            } else {
                for cursor in &mut self.cursors {
                    self.range.start(cursor)?;
                }
                self.started = true;
            }
            match self.picker.choose(&self.cursors) {
                Some(place) if self.range.is_before_end(place.keyspace, place.key()) => {}
                _ => return Ok(self.end()),
            }
            if let [one] = *self.picker.tied() {
                if let Some((_, false)) = self.cursors[one].settle(self.at)? {
                    self.current = one;
                    return Ok(true);
                }
            } else if self.settle_tied()? {
                return Ok(true);
            }
        }
    }

    /// The newest version of those that several sources have; false if it is a delete, or if all are later.
    fn settle_tied(&mut self) -> Result<bool> {
        let mut newest: Option<(CommitTs, bool, usize)> = None;
        for &i in self.picker.tied() {
            if let Some((ts, deleted)) = self.cursors[i].settle(self.at)?
                && newest.is_none_or(|(known, _, _)| known < ts)
            {
                newest = Some((ts, deleted, i));
            }
        }
        self.current = newest.map_or(NONE, |(_, deleted, i)| if deleted { NONE } else { i });
        Ok(self.current != NONE)
    }

    /// There is no next key, nor will be. False.
    fn end(&mut self) -> bool {
        self.cursors.clear();
        self.picker = Picker::new(self.range.direction);
        self.current = NONE;
        false
    }

    /// The key the cursor is at, and its value.
    #[inline]
    pub fn current(&self) -> Option<(&[u8], ValueRef<'_>)> {
        self.place().map(Place::row)
    }
}

impl Placed for RangeCursor {
    #[inline]
    fn place(&self) -> Option<&Place> {
        self.cursors.get(self.current)?.place()
    }
}
