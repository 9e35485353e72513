//! `format/table_index.rs`: an index that was opened is the one that would be written, and searches agree with a walk.

use corering_engine::format::block::cmp_versions;
use corering_engine::format::damage::Damage;
use corering_engine::format::table_index::{IndexBuilder, IndexEntry, IndexRef};
use corering_engine::{CommitTs, Keyspace};

use crate::{memory, seal};

const DB_ID: u64 = 0x11;
const TABLE_ID: u64 = 0x22;
const HEADER_LEN: usize = 40;

type LowerBound = fn(&IndexRef<'_>, Keyspace, &[u8], CommitTs) -> Result<usize, Damage>;

pub fn check(input: &[u8]) {
    agree(input, |index, keyspace, key, ts| index.lower_bound(0..index.count(), keyspace, key, ts));
}

/// Forgets that a block may end between two versions of a key.
pub fn planted(input: &[u8]) {
    agree(input, |index, keyspace, key, _| index.lower_bound(0..index.count(), keyspace, key, CommitTs::MAX));
}

/// The input is what follows the header: entries, then where each begins.
fn agree(input: &[u8], lower_bound: LowerBound) {
    let (count, body) = match input {
        [count, body @ ..] => (u32::from(*count), body),
        [] => (0, &[][..]),
    };
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend_from_slice(body);
    let len = bytes.len();
    seal::put(&mut bytes, 8, &(len as u64).to_le_bytes());
    seal::put(&mut bytes, 16, &DB_ID.to_le_bytes());
    seal::put(&mut bytes, 24, &TABLE_ID.to_le_bytes());
    seal::put(&mut bytes, 32, &count.to_le_bytes());
    seal::crc(&mut bytes, 0, 4..len);
    let opened = memory::at_most(memory::TEXT, "an index", || IndexRef::open(&bytes, DB_ID, TABLE_ID));
    let index = match opened {
        Ok(index) => index,
        Err(damage) => return assert!(damage.at <= len as u64, "{damage:?} lies outside"),
    };
    let entries: Vec<IndexEntry<'_>> = (0..index.count()).map_while(|i| index.entry(i)).collect();
    assert_eq!(entries.len(), count as usize, "every entry of an open index can be read");
    let mut builder = IndexBuilder::default();
    entries.iter().for_each(|(place, last)| builder.push(*place, *last));
    assert_eq!(builder.finish(DB_ID, TABLE_ID), bytes, "what is accepted is what would be written");
    let in_order = entries.is_sorted_by(|a, b| cmp_versions(a.1, b.1).is_lt());
    for (_, (keyspace, key, ts)) in &entries {
        for ts in [ts.0.saturating_sub(1), ts.0, ts.0.saturating_add(1)].map(CommitTs) {
            let found = lower_bound(&index, *keyspace, key, ts).expect("every entry can be read");
            let walked = entries.partition_point(|(_, last)| cmp_versions(*last, (*keyspace, key, ts)).is_lt());
            assert!(found == walked || !in_order, "{found} found, {walked} by a walk");
            assert!(found <= entries.len());
        }
    }
}
