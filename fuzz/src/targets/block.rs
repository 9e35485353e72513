//! `format/block.rs`: entries of a data block, whatever its checksum said; searches against a walk over all entries.

use corering_engine::format::block::{BlockBuilder, BlockId, BlockRef, EntryRef, Op, cmp_versions};
use corering_engine::format::bloom;
use corering_engine::format::damage::Damage;
use corering_engine::{CommitTs, Expiry, Keyspace, Kind};

use crate::input::Input;
use crate::{memory, seal};

const ID: BlockId = BlockId { db_id: 7, table_id: 8, number: 9 };
const HEADER_LEN: usize = 40;
const ENTRIES_MAX: usize = 24;

type Find = for<'a> fn(&BlockRef<'a>, Keyspace, &[u8], u64, CommitTs) -> Result<Option<EntryRef<'a>>, Damage>;

pub fn check(input: &[u8]) {
    built(input, |block, keyspace, key, hash, at| block.find(keyspace, key, hash, at));
    as_it_came(input, |block, keyspace, key, hash, at| block.find(keyspace, key, hash, at));
}

/// Finds the newest version of a key, whatever moment was asked for.
pub fn planted(input: &[u8]) {
    built(input, |block, keyspace, key, hash, _| block.find(keyspace, key, hash, CommitTs::MAX));
}

fn open(bytes: &[u8]) -> Result<BlockRef<'_>, Damage> {
    let block = BlockRef::open(bytes, bytes.len() as u32, ID)?;
    block.verify_crc()?;
    Ok(block)
}

fn rebuild(entries: &[EntryRef<'_>]) -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    for entry in entries {
        builder.push(entry, bloom::hash(entry.keyspace, entry.key));
    }
    builder.finish(ID).to_vec()
}

fn version<'a>(entry: &EntryRef<'a>) -> (Keyspace, &'a [u8], CommitTs) {
    (entry.keyspace, entry.key, entry.ts)
}

/// Entries of the input, in order, into a block and out again.
fn built(input: &[u8], find: Find) {
    let mut input = Input::new(input);
    let mut entries: Vec<EntryRef<'_>> = Vec::new();
    while !input.is_empty() && entries.len() < ENTRIES_MAX {
        let sort = input.u8();
        let (keyspace, ts) = (Keyspace(u16::from(sort >> 6)), CommitTs(input.u8().into()));
        // Few different keys, so that they have several versions.
        let key = &b"keys"[..usize::from(sort & 3)];
        let op = match sort & 0b1_1100 {
            0 => Op::Delete,
            _ => Op::Put { kind: Kind(input.u8()), expiry: Expiry(input.u8().into()), value: input.short() },
        };
        entries.push(EntryRef { keyspace, key, ts, op });
    }
    entries.sort_by(|a, b| cmp_versions(version(a), version(b)));
    entries.dedup_by(|a, b| version(a) == version(b));
    let bytes = rebuild(&entries);
    let block = open(&bytes).expect("a block that was built");
    block.verify_entries().expect("entries in order");
    let found: Vec<EntryRef<'_>> = (0..block.count()).map_while(|i| block.entry(i)).collect();
    assert_eq!(found, entries);
    searches_agree(&block, &entries, find);
}

/// Each version, and the moments just before and after it, by search and by a walk.
fn searches_agree(block: &BlockRef<'_>, entries: &[EntryRef<'_>], find: Find) {
    for entry in entries {
        let hash = bloom::hash(entry.keyspace, entry.key);
        for ts in [entry.ts.0.saturating_sub(1), entry.ts.0, entry.ts.0.saturating_add(1)].map(CommitTs) {
            let looked_for = (entry.keyspace, entry.key, ts);
            let first = entries.partition_point(|entry| cmp_versions(version(entry), looked_for).is_lt());
            assert_eq!(block.lower_bound(entry.keyspace, entry.key, ts), Ok(first));
            let newest = entries.get(first).filter(|found| (found.keyspace, found.key) == (entry.keyspace, entry.key));
            assert_eq!(find(block, entry.keyspace, entry.key, hash, ts), Ok(newest.copied()));
        }
    }
}

/// Bytes as they came behind a right header.
fn as_it_came(input: &[u8], find: Find) {
    let mut bytes = vec![0; HEADER_LEN];
    let mut input = Input::new(input);
    let count = u32::from(input.u8());
    bytes.extend_from_slice(input.rest());
    let len = bytes.len() as u32;
    seal::put(&mut bytes, 4, &len.to_le_bytes());
    seal::put(&mut bytes, 8, &ID.db_id.to_le_bytes());
    seal::put(&mut bytes, 16, &ID.table_id.to_le_bytes());
    seal::put(&mut bytes, 24, &ID.number.to_le_bytes());
    seal::put(&mut bytes, 28, &count.to_le_bytes());
    seal::crc(&mut bytes, 0, 4..len as usize);
    let Ok(block) = memory::at_most(memory::TEXT, "a block", || open(&bytes)) else { return };
    memory::at_most(memory::TEXT, "reads of a block", || {
        for i in 0..=block.count() {
            if let Some(entry) = block.entry(i) {
                assert_eq!(block.key(i), Some(version(&entry)), "both ways to an entry agree");
                let hash = bloom::hash(entry.keyspace, entry.key);
                let _ = find(&block, entry.keyspace, entry.key, hash, entry.ts);
                let _ = block.lower_bound(entry.keyspace, entry.key, entry.ts);
            }
        }
    });
    if memory::at_most(bytes.len() + memory::TEXT, "a check of a block", || block.verify_entries()).is_ok() {
        let entries: Vec<EntryRef<'_>> = (0..block.count()).map_while(|i| block.entry(i)).collect();
        assert_eq!(rebuild(&entries), bytes, "what is verified is what would be written");
        searches_agree(&block, &entries, find);
    }
}
