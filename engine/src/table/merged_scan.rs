//! One scan over all shards, in key order, at one moment.
//!
//! Guards: every key that has a value at that moment and belongs to the shard it was found in comes exactly once;
//! expired values are passed over.

use std::ops::Deref;

use super::merge::{Direction, Picker, Placed};
use super::place::Place;
use super::range_cursor::{Range, RangeCursor};
use super::read_state::ReadState;
use crate::error::Result;
use crate::ids::CommitTs;
use crate::value::ValueRef;

/// Says which keys of a shard are that shard's own.
pub type Owns<'a> = Box<dyn Fn(&[u8]) -> bool + Send + Sync + 'a>;

/// One shard's share of a scan. `owns` is for a shard that may still hold keys which have moved away.
pub struct ScanPart<'a, S> {
    pub state: S,
    /// The moment, which is an earlier one for a shard that stopped.
    pub at: CommitTs,
    pub owns: Option<Owns<'a>>,
}

/// See the module. `Send`, and owns what it reads.
pub struct MergedScan<'a> {
    cursors: Vec<RangeCursor>,
    owns: Vec<Option<Owns<'a>>>,
    picker: Picker,
    now_ms: u64,
    started: bool,
}

impl<'a> MergedScan<'a> {
    /// What is read is kept by the cursors; the parts go.
    pub fn new<S: Deref<Target = ReadState>>(
        parts: Vec<ScanPart<'a, S>>,
        range: &Range,
        now_ms: u64,
    ) -> Result<MergedScan<'a>> {
        let (mut cursors, mut owns) = (Vec::new(), Vec::new());
        for part in parts {
            cursors.push(RangeCursor::new(&part.state, range.clone(), part.at)?);
            owns.push(part.owns);
        }
        let direction: Direction = range.direction;
        Ok(MergedScan { cursors, owns, picker: Picker::new(direction), now_ms, started: false })
    }

    /// Moves a shard's cursor on to a key that counts.
    #[inline]
    fn advance(&mut self, i: usize) -> Result<()> {
        let (cursor, owns) = (&mut self.cursors[i], &self.owns[i]);
        while cursor.advance()? {
            let Some(place) = cursor.place() else { break };
            if !place.expiry.is_past(self.now_ms) && owns.as_ref().is_none_or(|owns| owns(place.key())) {
                break;
            }
        }
        Ok(())
    }

    /// Moves all of those that were at the last key; all, before the first.
    fn advance_several(&mut self) -> Result<()> {
        if !self.started {
            self.started = true;
            return (0..self.cursors.len()).try_for_each(|i| self.advance(i));
        }
        for k in 0..self.picker.tied().len() {
            self.advance(self.picker.tied()[k])?;
        }
        Ok(())
    }

    /// The next key and its value; none at the end. After an error the scan is of no more use.
    #[allow(clippy::should_implement_trait)] // what it gives is borrowed from it
    #[inline]
    pub fn next(&mut self) -> Result<Option<(&[u8], ValueRef<'_>)>> {
        match *self.picker.tied() {
            [one] => self.advance(one)?,
            _ => self.advance_several()?,
        }
        let Some(place) = self.picker.choose(&self.cursors) else { return Ok(None) };
        if self.picker.tied().len() == 1 {
            return Ok(Some(place.row()));
        }
        // While a key moves from one shard to another, both may have it: the later version counts.
        let places = self.picker.tied().iter().rev().filter_map(|i| self.cursors[*i].place());
        Ok(places.max_by_key(|place| place.ts).map(Place::row))
    }
}
