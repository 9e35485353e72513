//! Which tables a shard consists of, and from where its log must be replayed on top of them.
//!
//! Guards: a manifest is decoded whole or not at all. Checksums and the choice between two slots are its keeper's; here
//! every length is still checked, as the bytes may be another version's.
//!
//! Manifest, all numbers little-endian:
//!
//! ```text
//!  0         4     6       8       16             24          32            40         48     52
//!  | version | 0   | shard | db id | ring version | next file | replay from | max ts   | runs | runs …
//! ```
//!
//! Run: `tables u32`, then its tables in key order. Table (its bounds: see [`KeyBound`]):
//!
//! ```text
//!  0    8       16        24     32        40       48       56             64          66        68          70        72
//!  | id | bytes | entries | keys | deletes | min ts | max ts | ring version | lower len | lower ks | upper len | upper ks | lower | upper
//! ```

use std::ops::Range;

use super::damage::Damage;
use super::le::{Reader, u16_at, u32_at, u64_at};
use super::mirror::MIRROR_PAYLOAD_MAX;
use crate::error::{Error, Result};
use crate::ids::{CommitTs, Keyspace, Lsn, ShardId};

const VERSION: Range<usize> = 0..4;
const ZERO: Range<usize> = VERSION.end..VERSION.end + 2;
const SHARD: Range<usize> = ZERO.end..ZERO.end + 2;
const DB: Range<usize> = SHARD.end..SHARD.end + 8;
const RING: Range<usize> = DB.end..DB.end + 8;
const NEXT_FILE: Range<usize> = RING.end..RING.end + 8;
const REPLAY: Range<usize> = NEXT_FILE.end..NEXT_FILE.end + 8;
const MAX_TS: Range<usize> = REPLAY.end..REPLAY.end + 8;
const RUNS: Range<usize> = MAX_TS.end..MAX_TS.end + 4;
const HEADER_LEN: usize = RUNS.end;

const T_ID: Range<usize> = 0..8;
const T_BYTES: Range<usize> = T_ID.end..T_ID.end + 8;
const T_ENTRIES: Range<usize> = T_BYTES.end..T_BYTES.end + 8;
const T_KEYS: Range<usize> = T_ENTRIES.end..T_ENTRIES.end + 8;
const T_DELETES: Range<usize> = T_KEYS.end..T_KEYS.end + 8;
const T_MIN_TS: Range<usize> = T_DELETES.end..T_DELETES.end + 8;
const T_MAX_TS: Range<usize> = T_MIN_TS.end..T_MIN_TS.end + 8;
const T_RING: Range<usize> = T_MAX_TS.end..T_MAX_TS.end + 8;
const T_LOWER_LEN: Range<usize> = T_RING.end..T_RING.end + 2;
const T_LOWER_KS: Range<usize> = T_LOWER_LEN.end..T_LOWER_LEN.end + 2;
const T_UPPER_LEN: Range<usize> = T_LOWER_KS.end..T_LOWER_KS.end + 2;
const T_UPPER_KS: Range<usize> = T_UPPER_LEN.end..T_UPPER_LEN.end + 2;
const T_LEN: usize = T_UPPER_KS.end;

/// The layout's version, raised when an older program could not read it.
pub const MANIFEST_VERSION: u32 = 1;
/// A larger manifest is refused: it is written whole at each checkpoint, and its slots have this size.
pub const MANIFEST_LEN_MAX: usize = MIRROR_PAYLOAD_MAX;
/// Bytes of a key that a bound keeps.
pub const BOUND_LEN_MAX: usize = 256;

const _: () = assert!(HEADER_LEN == 52);
const _: () = assert!(T_LEN == 72);
const _: () = assert!(BOUND_LEN_MAX <= u16::MAX as usize);

/// A keyspace and the first [`BOUND_LEN_MAX`] bytes of a key. Keys are cut to as many before they are compared with
/// it, so that bounds of long keys stay short and yet never exclude a key that lies within.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyBound {
    pub keyspace: Keyspace,
    prefix: Vec<u8>,
}

impl KeyBound {
    pub fn of(keyspace: Keyspace, key: &[u8]) -> KeyBound {
        KeyBound { keyspace, prefix: cut(key).to_vec() }
    }

    /// The key, or its beginning if it is longer.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// How the bound compares with a key that was cut as the bound was.
    pub fn cmp_key(&self, keyspace: Keyspace, key: &[u8]) -> std::cmp::Ordering {
        (self.keyspace, &self.prefix[..]).cmp(&(keyspace, cut(key)))
    }
}

fn cut(key: &[u8]) -> &[u8] {
    &key[..key.len().min(BOUND_LEN_MAX)]
}

/// What is known of a table without opening it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableMeta {
    /// Its number among the files of its shard; gives its name.
    pub id: u64,
    /// Length of its file.
    pub bytes: u64,
    /// Versions in it, of how many keys, and how many of them are deletes.
    pub entries: u64,
    pub keys: u64,
    pub deletes: u64,
    pub min_ts: CommitTs,
    pub max_ts: CommitTs,
    /// The ring its keys were chosen by.
    pub ring_version: u64,
    pub lower: KeyBound,
    pub upper: KeyBound,
}

impl TableMeta {
    /// False: the key is not in the table.
    pub fn may_hold(&self, keyspace: Keyspace, key: &[u8]) -> bool {
        self.lower.cmp_key(keyspace, key).is_le() && self.upper.cmp_key(keyspace, key).is_ge()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for number in [
            self.id,
            self.bytes,
            self.entries,
            self.keys,
            self.deletes,
            self.min_ts.0,
            self.max_ts.0,
            self.ring_version,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for bound in [&self.lower, &self.upper] {
            out.extend_from_slice(&(bound.prefix.len() as u16).to_le_bytes());
            out.extend_from_slice(&bound.keyspace.0.to_le_bytes());
        }
        out.extend_from_slice(&self.lower.prefix);
        out.extend_from_slice(&self.upper.prefix);
    }

    fn decode(reader: &mut Reader<'_>) -> std::result::Result<TableMeta, Damage> {
        let at = reader.at();
        let head = reader.take(T_LEN, "a table")?;
        let number = |range: Range<usize>| u64_at(head, range).expect("taken whole");
        let small = |range: Range<usize>| u16_at(head, range).expect("taken whole");
        let mut bound = |len: Range<usize>, keyspace: Range<usize>| {
            let len = usize::from(small(len));
            if len > BOUND_LEN_MAX {
                return Err(Damage::new(at, format!("a bound of {len} bytes")));
            }
            Ok(KeyBound { keyspace: Keyspace(small(keyspace)), prefix: reader.take(len, "a bound")?.to_vec() })
        };
        let lower = bound(T_LOWER_LEN, T_LOWER_KS)?;
        let upper = bound(T_UPPER_LEN, T_UPPER_KS)?;
        if lower > upper {
            return Err(Damage::new(at, "a table that ends before it begins"));
        }
        Ok(TableMeta {
            id: number(T_ID),
            bytes: number(T_BYTES),
            entries: number(T_ENTRIES),
            keys: number(T_KEYS),
            deletes: number(T_DELETES),
            min_ts: CommitTs(number(T_MIN_TS)),
            max_ts: CommitTs(number(T_MAX_TS)),
            ring_version: number(T_RING),
            lower,
            upper,
        })
    }
}

/// The tables of one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    pub db_id: u64,
    pub shard: ShardId,
    /// The ring this shard's keys were chosen by.
    pub ring_version: u64,
    /// Above the number of every file that was ever begun.
    pub next_file: u64,
    /// Everything logged before this position is in the tables.
    pub replay_from: Lsn,
    /// The last commit that the tables cover.
    pub max_ts: CommitTs,
    /// Newest first; the tables of a run are in key order and do not overlap.
    pub runs: Vec<Vec<TableMeta>>,
}

impl Manifest {
    /// Its bytes; refused when they would be more than [`MANIFEST_LEN_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = vec![0; HEADER_LEN];
        out[VERSION].copy_from_slice(&MANIFEST_VERSION.to_le_bytes());
        out[SHARD].copy_from_slice(&self.shard.0.to_le_bytes());
        out[DB].copy_from_slice(&self.db_id.to_le_bytes());
        out[RING].copy_from_slice(&self.ring_version.to_le_bytes());
        out[NEXT_FILE].copy_from_slice(&self.next_file.to_le_bytes());
        out[REPLAY].copy_from_slice(&self.replay_from.0.to_le_bytes());
        out[MAX_TS].copy_from_slice(&self.max_ts.0.to_le_bytes());
        out[RUNS].copy_from_slice(&(self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            out.extend_from_slice(&(run.len() as u32).to_le_bytes());
            run.iter().for_each(|table| table.encode(&mut out));
        }
        if out.len() > MANIFEST_LEN_MAX {
            let tables: usize = self.runs.iter().map(Vec::len).sum();
            return Err(Error::invalid(format!(
                "the manifest of shard {} takes {} bytes for {tables} tables; at most {MANIFEST_LEN_MAX} are allowed; use more shards",
                self.shard,
                out.len()
            )));
        }
        Ok(out)
    }

    pub fn decode(bytes: &[u8]) -> std::result::Result<Manifest, Damage> {
        if bytes.len() > MANIFEST_LEN_MAX {
            return Err(Damage::new(0, format!("a manifest of {} bytes", bytes.len())));
        }
        let mut reader = Reader::new(bytes);
        let head = reader.take(HEADER_LEN, "a manifest")?;
        let number = |range: Range<usize>| u64_at(head, range).expect("taken whole");
        let version = u32_at(head, VERSION).expect("taken whole");
        if version != MANIFEST_VERSION {
            return Err(Damage::new(
                VERSION.start,
                format!("a manifest of version {version}; this program reads {MANIFEST_VERSION}"),
            ));
        }
        if u16_at(head, ZERO) != Some(0) {
            return Err(Damage::new(ZERO.start, "a byte that should be zero is not"));
        }
        if Lsn(number(REPLAY)) > Lsn::LIMIT {
            return Err(Damage::new(REPLAY.start, format!("log position {}, which no log reaches", number(REPLAY))));
        }
        let run_count = u32_at(head, RUNS).expect("taken whole");
        let mut runs = Vec::new();
        for _ in 0..run_count {
            let table_count = reader.u32("a run")?;
            let mut run: Vec<TableMeta> = Vec::new();
            for _ in 0..table_count {
                let at = reader.at();
                let table = TableMeta::decode(&mut reader)?;
                if run.last().is_some_and(|before| before.upper > table.lower) {
                    return Err(Damage::new(at, format!("table {} overlaps the one before it in its run", table.id)));
                }
                run.push(table);
            }
            runs.push(run);
        }
        if reader.left() != 0 {
            return Err(Damage::new(reader.at(), format!("{} bytes behind the last run", reader.left())));
        }
        Ok(Manifest {
            db_id: number(DB),
            shard: ShardId(u16_at(head, SHARD).expect("taken whole")),
            ring_version: number(RING),
            next_file: number(NEXT_FILE),
            replay_from: Lsn(number(REPLAY)),
            max_ts: CommitTs(number(MAX_TS)),
            runs,
        })
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
