//! Reads every byte of a table and says the first thing that is not as it was written.
//!
//! Guards: beyond the checksums that readers check, that keys are in order over all blocks, that the index, the filter
//! and the footer's counts agree with the entries, and that what lies between the parts is zero.

use std::cmp::Ordering;

use super::file::{CheckCrc, Table};
use crate::error::{Error, Result};
use crate::format::block::{Op, cmp_versions};
use crate::format::bloom::{self, BloomRef};
use crate::format::damage::Damage;
use crate::format::footer::FOOTER_LEN;
use crate::format::manifest::{KeyBound, TableMeta};
use crate::format::table_index::IndexRef;
use crate::ids::{CommitTs, Keyspace};

/// What the entries add up to.
struct Sum {
    entries: u64,
    keys: u64,
    deletes: u64,
    min_ts: CommitTs,
    max_ts: CommitTs,
    first: Option<KeyBound>,
    last: Option<(Keyspace, Vec<u8>, CommitTs)>,
}

impl Table {
    /// Checks all of the table. `progress` is told of bytes as they have been read.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let footer = self.footer();
        let meta = self.meta();
        let map = self.map();
        let part = |range: &std::ops::Range<u64>| map.get(range.start as usize..range.end as usize).unwrap_or_default();
        let index = IndexRef::open(part(&footer.index), footer.db_id, meta.id)
            .map_err(|error| self.damaged(footer.index.start, error))?;
        let bloom = BloomRef::open(part(&footer.bloom), footer.db_id, meta.id)
            .map_err(|error| self.damaged(footer.bloom.start, error))?;
        let mut sum = Sum {
            entries: 0,
            keys: 0,
            deletes: 0,
            min_ts: CommitTs::MAX,
            max_ts: CommitTs::ZERO,
            first: None,
            last: None,
        };
        let mut end = 0;
        for number in 0..index.count() {
            let begin = end;
            end = self.verify_block(number, begin, &index, &bloom, &mut sum)?;
            progress(end - begin);
        }
        self.verify_zero(end, footer.data_len)?;
        self.verify_zero(footer.data_len, footer.index.start)?;
        self.verify_zero(footer.index.end, footer.bloom.start)?;
        self.verify_zero(footer.bloom.end, meta.bytes - FOOTER_LEN as u64)?;
        self.verify_sum(sum)?;
        progress(meta.bytes - end);
        Ok(())
    }

    /// Checks a block and what it adds; returns where it ends.
    fn verify_block(
        &self,
        number: usize,
        begin: u64,
        index: &IndexRef<'_>,
        bloom: &BloomRef<'_>,
        sum: &mut Sum,
    ) -> Result<u64> {
        let (place, last) = self.index_entry(index, number)?;
        if place.at != begin.next_multiple_of(crate::runtime::BLOCK as u64) {
            let what = format!("block {number} begins at {}, the one before ended at {begin}", place.at);
            return Err(Error::corrupt(self.path(), place.at, what));
        }
        self.verify_zero(begin, place.at)?;
        let block = self.block_at(place, number, CheckCrc::Always)?;
        let wrong = |what: String| self.damaged(place.at, Damage::new(0, what));
        block.verify_entries().map_err(|error| self.damaged(place.at, error))?;
        for i in 0..block.count() {
            let entry = block.entry(i).ok_or_else(|| self.damaged(place.at, block.broken_entry(i)))?;
            let before = sum.last.as_ref().map(|(keyspace, key, ts)| (*keyspace, &key[..], *ts));
            if before.is_some_and(|b| cmp_versions(b, (entry.keyspace, entry.key, entry.ts)) != Ordering::Less) {
                return Err(wrong(format!("entry {i} of block {number} is not behind the entry before it")));
            }
            if before.is_none_or(|(keyspace, key, _)| (keyspace, key) != (entry.keyspace, entry.key)) {
                sum.keys += 1;
                if !bloom.may_hold(bloom::hash(entry.keyspace, entry.key)) {
                    return Err(wrong(format!("the filter denies entry {i} of block {number}")));
                }
            }
            sum.entries += 1;
            sum.deletes += u64::from(entry.op == Op::Delete);
            sum.min_ts = sum.min_ts.min(entry.ts);
            sum.max_ts = sum.max_ts.max(entry.ts);
            sum.first.get_or_insert_with(|| KeyBound::of(entry.keyspace, entry.key));
            let (keyspace, key, ts) = sum.last.get_or_insert_default();
            (*keyspace, *ts) = (entry.keyspace, entry.ts);
            key.clear();
            key.extend_from_slice(entry.key);
        }
        match &sum.last {
            Some((keyspace, key, ts)) if block.count() > 0 && (*keyspace, &key[..], *ts) == last => {}
            _ => return Err(wrong(format!("block {number} does not end with the version that the index says"))),
        }
        Ok(place.at + u64::from(place.len))
    }

    fn verify_sum(&self, sum: Sum) -> Result<()> {
        let meta = self.meta();
        let found = TableMeta {
            entries: sum.entries,
            keys: sum.keys,
            deletes: sum.deletes,
            min_ts: sum.min_ts,
            max_ts: sum.max_ts,
            lower: sum.first.unwrap_or_else(|| meta.lower.clone()),
            upper: sum.last.map_or_else(|| meta.upper.clone(), |(keyspace, key, _)| KeyBound::of(keyspace, &key)),
            ..meta.clone()
        };
        if found != *meta {
            let what = format!("the footer says {meta:?}, the entries are {found:?}");
            return Err(Error::corrupt(self.path(), meta.bytes - FOOTER_LEN as u64, what));
        }
        Ok(())
    }

    fn verify_zero(&self, from: u64, to: u64) -> Result<()> {
        let bytes = self.map().get(from as usize..to as usize);
        let Some(bytes) = bytes else {
            return Err(Error::corrupt(self.path(), from, format!("a part ends at {from}, the next begins at {to}")));
        };
        match bytes.iter().position(|byte| *byte != 0) {
            Some(at) => {
                let what = format!("{:#04x} where padding should be zero", bytes[at]);
                Err(Error::corrupt(self.path(), from + at as u64, what))
            }
            None => Ok(()),
        }
    }
}
