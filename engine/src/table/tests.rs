//! All sources together, against a model; and what damage to a table's bytes does.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::compaction::{Limits, Retention, pick};
use super::file::file_name;
use super::memtable::{MemWriter, Memtable, Order};
use super::merge::Direction;
use super::merged_scan::{MergedScan, ScanPart};
use super::node::NewVersion;
use super::range_cursor::{Range, RangeCursor};
use super::read_state::ReadState;
use super::source::Source;
use super::table_set::TableSet;
use super::testing::{Bench, DB, SHARD};
use super::*;
use crate::error::Error;
use crate::format::block::Op;
use crate::format::manifest::Manifest;
use crate::ids::{Expiry, Keyspace, Kind, Lsn, ShardId};

const NOW: u64 = 1000;
const SHARDS: usize = 3;

type Key = (u16, Vec<u8>);
/// Value and expiry; none for a delete.
type Written = Option<(Vec<u8>, u64)>;

/// A shard's data as the engine keeps it, and as it should be.
struct Shard {
    bench: Bench,
    writer: MemWriter,
    sealed: Vec<Arc<Memtable>>,
    tables: Arc<TableSet>,
    model: BTreeMap<Key, BTreeMap<u64, Written>>,
    snapshots: Vec<CommitTs>,
    order: Order,
    ts: u64,
}

impl Shard {
    fn new(order: Order, table_bytes: u64) -> Shard {
        Shard {
            bench: Bench::new(table_bytes),
            writer: MemWriter::new(order, 5),
            sealed: Vec::new(),
            tables: Arc::default(),
            model: BTreeMap::new(),
            snapshots: Vec::new(),
            order,
            ts: 0,
        }
    }

    fn write(&mut self, key: &Key, written: Written) {
        self.ts += 1;
        let op = match &written {
            Some((value, expiry)) => Op::Put { kind: Kind(value.len() as u8), expiry: Expiry(*expiry), value },
            None => Op::Delete,
        };
        self.writer.insert(Keyspace(key.0), &key.1, NewVersion { ts: CommitTs(self.ts), op });
        self.model.entry(key.clone()).or_default().insert(self.ts, written);
    }

    fn seal(&mut self) {
        let old = std::mem::replace(&mut self.writer, MemWriter::new(self.order, 6));
        self.sealed.insert(0, old.seal());
    }

    /// Writes the oldest sealed memtables as a run.
    fn checkpoint(&mut self, count: usize) {
        let from = self.sealed.len().saturating_sub(count);
        let sources: Vec<Source> = self.sealed.split_off(from).into_iter().map(Source::Memtable).collect();
        let retention =
            Retention { snapshots: &self.snapshots, bottom: self.tables.is_empty(), now_ms: NOW, keep: None };
        let run = self.bench.write(&sources, &retention).unwrap();
        self.tables = Arc::new(self.tables.with_newest(run));
    }

    fn merge(&mut self, limits: Limits) {
        while let Some(job) = pick(&self.tables, limits) {
            let retention = Retention { snapshots: &self.snapshots, bottom: job.bottom, now_ms: NOW, keep: None };
            let run = self.bench.write(&job.sources(), &retention).unwrap();
            self.tables = Arc::new(self.tables.with_merged(&job.runs, run));
        }
        assert!(self.tables.runs().len() <= limits.runs_max.max(1));
    }

    fn state(&self) -> ReadState {
        ReadState {
            active: Arc::clone(self.writer.table()),
            sealed: self.sealed.clone(),
            tables: Arc::clone(&self.tables),
        }
    }

    fn expected(&self, key: &Key, at: CommitTs) -> Option<(u64, &[u8])> {
        let (ts, written) = self.model.get(key)?.range(..=at.0).next_back()?;
        let (value, expiry) = written.as_ref()?;
        (!Expiry(*expiry).is_past(NOW)).then_some((*ts, &value[..]))
    }

    fn check_gets(&self, at: CommitTs) {
        let state = self.state();
        state.prefetch(self.model.keys().map(|key| (Keyspace(key.0), &key.1[..])));
        for key in self.model.keys() {
            let found = match state.get(Keyspace(key.0), &key.1, at).unwrap() {
                Lookup::Found(value) if !value.expiry.is_past(NOW) => {
                    assert_eq!(value.kind, Kind(value.bytes.len() as u8));
                    Some((value.version.0, value.bytes))
                }
                Lookup::Found(_) | Lookup::Deleted { .. } | Lookup::Missing => None,
            };
            assert_eq!(found, self.expected(key, at), "{key:?} at {at}");
        }
    }

    fn check_scan(&self, range: &Range, at: CommitTs) {
        check_scan(std::slice::from_ref(self), range, at);
    }
}

/// One scan over shards that share out the keys.
fn check_scan(shards: &[Shard], range: &Range, at: CommitTs) {
    let parts = shards.iter().map(|shard| ScanPart { state: Arc::new(shard.state()), at, owns: None });
    let mut scan = MergedScan::new(parts.collect(), range, NOW).unwrap();
    let mut found = Vec::new();
    while let Some((key, value)) = scan.next().unwrap() {
        assert_eq!(value.kind, Kind(value.bytes.len() as u8));
        found.push((key.to_vec(), value.version.0, value.bytes.to_vec()));
    }
    assert!(scan.next().unwrap().is_none());
    let keys = shards.iter().flat_map(|shard| shard.model.keys().map(move |key| (shard, key)));
    let in_range = keys.filter(|(_, key)| key.0 == range.keyspace.0).filter(|(_, key)| {
        let above = match &range.lower {
            Bound::Included(lower) => key.1 >= *lower,
            Bound::Excluded(lower) => key.1 > *lower,
            Bound::Unbounded => true,
        };
        let below = match &range.upper {
            Bound::Included(upper) => key.1 <= *upper,
            Bound::Excluded(upper) => key.1 < *upper,
            Bound::Unbounded => true,
        };
        above && below
    });
    let mut expected: Vec<(Vec<u8>, u64, Vec<u8>)> = in_range
        .filter_map(|(shard, key)| shard.expected(key, at).map(|(ts, value)| (key.1.clone(), ts, value.to_vec())))
        .collect();
    expected.sort();
    if range.direction == Direction::Reverse {
        expected.reverse();
    }
    assert_eq!(found, expected, "{range:?} at {at}");
}

fn key() -> impl Strategy<Value = Key> {
    let short = prop::collection::vec(0..3_u8, 0..4);
    // Longer than what bounds keep, so that neighbouring tables have equal bounds.
    let long = (200..400_usize, 0..3_u8).prop_map(|(len, last)| [&vec![1; len][..], &[last]].concat());
    (prop_oneof![Just(0_u16), Just(7), Just(u16::MAX)], prop_oneof![4 => short, 1 => long])
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(|key| Bound::Included(key.1)),
        key().prop_map(|key| Bound::Excluded(key.1))
    ]
}

fn range() -> impl Strategy<Value = Range> {
    (key(), bound(), bound(), any::<bool>()).prop_map(|(key, lower, upper, reverse)| Range {
        keyspace: Keyspace(key.0),
        lower,
        upper,
        direction: if reverse { Direction::Reverse } else { Direction::Forward },
    })
}

#[derive(Clone, Debug)]
enum Step {
    Write(Key, Written),
    Snapshot,
    Seal,
    Checkpoint(usize),
    Merge(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![
        20 => prop::collection::vec(any::<u8>(), 0..50),
        4 => (0..9_000_usize).prop_map(|len| vec![7; len]),
        1 => (250_000..300_000_usize).prop_map(|len| vec![9; len]),
    ];
    let expiry = prop_oneof![6 => Just(0), 1 => Just(NOW - 1), 1 => Just(NOW + 1)];
    prop_oneof![
        40 => (key(), prop::option::weighted(0.8, (value, expiry))).prop_map(|(key, value)| Step::Write(key, value)),
        3 => Just(Step::Snapshot),
        3 => Just(Step::Seal),
        3 => (1..4_usize).prop_map(Step::Checkpoint),
        2 => (1..4_usize).prop_map(Step::Merge),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 150 } else { 1500 }))]

    /// What a reader at a snapshot or at present finds is the model's answer, whatever was sealed, checkpointed and
    /// merged between.
    #[test]
    fn all_sources_together_answer_as_a_model_does(
        steps in prop::collection::vec(step(), 1..150),
        ranges in prop::collection::vec(range(), 1..8),
        kept: bool,
        table_bytes in prop_oneof![Just(1_u64), Just(20_000), Just(1 << 30)],
    ) {
        let mut shard = Shard::new(if kept { Order::Kept } else { Order::Deferred }, table_bytes);
        for step in steps {
            match step {
                Step::Write(key, written) => shard.write(&key, written),
                Step::Snapshot => shard.snapshots.push(CommitTs(shard.ts)),
                Step::Seal => shard.seal(),
                Step::Checkpoint(count) => shard.checkpoint(count),
                Step::Merge(runs_max) => shard.merge(Limits { runs_max }),
            }
        }
        let moments: Vec<CommitTs> = shard.snapshots.iter().copied().chain([CommitTs(shard.ts), CommitTs::MAX]).collect();
        moments.iter().for_each(|at| shard.check_gets(*at));
        if !kept {
            shard.seal();
        }
        for at in moments {
            ranges.iter().for_each(|range| shard.check_scan(range, at));
            for keyspace in [0, 7, u16::MAX] {
                for direction in [Direction::Forward, Direction::Reverse] {
                    shard.check_scan(&Range::all(Keyspace(keyspace), direction), at);
                }
            }
        }
    }

    /// Shards of one source and of several, each in another state: one scan over all finds what the model has, at a snapshot
    /// and at present, in both directions.
    #[test]
    fn a_scan_over_shards_in_any_state_answers_as_a_model_does(
        steps in prop::collection::vec((0..SHARDS, step()), 1..150),
        ranges in prop::collection::vec(range(), 1..8),
        kept: bool,
        table_bytes in prop_oneof![Just(1_u64), Just(20_000), Just(1 << 30)],
    ) {
        let order = if kept { Order::Kept } else { Order::Deferred };
        let mut shards: [Shard; SHARDS] = std::array::from_fn(|_| Shard::new(order, table_bytes));
        let mut ts = 0;
        for (i, step) in steps {
            match step {
                Step::Write(key, written) => {
                    let owner = &mut shards[key.1.iter().map(|byte| usize::from(*byte)).sum::<usize>() % SHARDS];
                    owner.ts = ts;
                    owner.write(&key, written);
                    ts = owner.ts;
                }
                Step::Snapshot => shards.iter_mut().for_each(|shard| shard.snapshots.push(CommitTs(ts))),
                Step::Seal => shards[i].seal(),
                Step::Checkpoint(count) => shards[i].checkpoint(count),
                Step::Merge(runs_max) => shards[i].merge(Limits { runs_max }),
            }
        }
        if !kept {
            shards.iter_mut().for_each(Shard::seal);
        }
        for at in shards[0].snapshots.iter().copied().chain([CommitTs(ts), CommitTs::MAX]) {
            ranges.iter().for_each(|range| check_scan(&shards, range, at));
            for keyspace in [0, 7, u16::MAX] {
                for direction in [Direction::Forward, Direction::Reverse] {
                    check_scan(&shards, &Range::all(Keyspace(keyspace), direction), at);
                }
            }
        }
    }

    /// Two shards that share out the keys: one scan over both is one scan over all; a key that has moved comes once.
    #[test]
    fn a_scan_over_shards_is_a_scan_over_all(
        writes in prop::collection::vec((key(), prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..20))), 1..80),
        range in range(),
        filter: bool,
    ) {
        let mut all = Shard::new(Order::Kept, 1 << 30);
        let mut parts = [Shard::new(Order::Kept, 1 << 30), Shard::new(Order::Kept, 1 << 30)];
        let owner = |key: &[u8]| usize::from(key.last().copied().unwrap_or(0) % 2);
        for (key, value) in &writes {
            let written = value.as_ref().map(|value| (value.clone(), 0));
            all.write(key, written.clone());
            let own = &mut parts[owner(&key.1)];
            own.ts = all.ts - 1;
            own.write(key, written);
            if filter {
                // What the other shard has left over from before the key moved.
                parts[1 - owner(&key.1)].write(key, Some((b"stale".to_vec(), 0)));
            }
        }
        let scan_parts = parts.iter().enumerate().map(|(i, shard)| ScanPart {
            at: CommitTs::MAX,
            state: Arc::new(shard.state()),
            owns: filter.then(|| Box::new(move |key: &[u8]| owner(key) == i) as _),
        });
        let mut scan = MergedScan::new(scan_parts.collect(), &range, NOW).unwrap();
        let mut single = RangeCursor::new(&all.state(), range.clone(), CommitTs::MAX).unwrap();
        while single.advance().unwrap() {
            prop_assert_eq!(scan.next().unwrap(), single.current());
        }
        prop_assert!(scan.next().unwrap().is_none());
    }
}

#[test]
fn scans_are_send_and_own_what_they_read() {
    fn check<T: Send + 'static>(_: &T) {}
    let mut shard = Shard::new(Order::Deferred, 1 << 30);
    shard.write(&(0, b"in a table".to_vec()), Some((b"1".to_vec(), 0)));
    shard.seal();
    shard.checkpoint(1);
    shard.write(&(0, b"in memory".to_vec()), Some((b"2".to_vec(), 0)));
    shard.seal();
    let range = Range::all(Keyspace(0), Direction::Forward);
    let part = ScanPart { state: Arc::new(shard.state()), at: CommitTs::MAX, owns: None };
    let mut scan = MergedScan::new(vec![part], &range, NOW).unwrap();
    check(&scan);
    drop(shard);
    let keys = std::thread::spawn(move || {
        let mut keys = Vec::new();
        while let Some((key, _)) = scan.next().unwrap() {
            keys.push(key.to_vec());
        }
        keys
    });
    assert_eq!(keys.join().unwrap(), [b"in a table".to_vec(), b"in memory".to_vec()]);
}

#[test]
fn an_ordered_read_of_an_active_unordered_memtable_is_refused_unless_all_of_it_is_later() {
    let mut shard = Shard::new(Order::Deferred, 1 << 30);
    shard.write(&(0, b"a".to_vec()), Some((b"1".to_vec(), 0)));
    shard.seal();
    let range = Range::all(Keyspace(0), Direction::Forward);
    assert!(RangeCursor::new(&shard.state(), range.clone(), CommitTs::MAX).is_ok());
    shard.write(&(0, b"b".to_vec()), Some((b"2".to_vec(), 0)));
    assert!(RangeCursor::new(&shard.state(), range.clone(), CommitTs(1)).is_ok());
    let refused = RangeCursor::new(&shard.state(), range, CommitTs(2)).err().unwrap();
    assert!(matches!(refused, Error::InvalidArgument { .. }));
}

/// Several blocks, versions, a delete, an expiry and a block of one large value.
fn small_table() -> (Shard, Vec<u8>) {
    let mut shard = Shard::new(Order::Deferred, 1 << 30);
    for i in 0..60_u8 {
        shard.write(&(1, vec![b'k', i]), Some((vec![i; 300], 0)));
    }
    shard.snapshots.push(CommitTs(shard.ts));
    shard.write(&(1, vec![b'k', 7]), None);
    shard.write(&(1, vec![b'k', 9]), Some((b"expires".to_vec(), NOW + 5)));
    shard.write(&(2, b"large".to_vec()), Some((vec![3; 300_000], 0)));
    shard.write(&(2, b"last".to_vec()), Some((b"v".to_vec(), 0)));
    shard.seal();
    shard.checkpoint(1);
    assert_eq!(shard.tables.runs()[0].tables().len(), 1);
    assert!(shard.tables.runs()[0].tables()[0].block_count() >= 4);
    let bytes = shard.bench.fs.contents(Path::new(&file_name(1)));
    (shard, bytes)
}

/// Key, version and value.
type Row = (Vec<u8>, u64, Vec<u8>);

/// What every kind of read gives from these bytes; an error for the first that fails.
fn read_all(shard: &Shard, bytes: Vec<u8>) -> Result<Vec<Row>, Error> {
    shard.bench.fs.put(Path::new(&file_name(1)), bytes);
    let table = Arc::new(shard.bench.open(1)?);
    let tables = TableSet::new(vec![table_set::Run::new(vec![table])]);
    let state =
        ReadState { active: MemWriter::new(Order::Kept, 1).seal(), sealed: Vec::new(), tables: Arc::new(tables) };
    let mut found = Vec::new();
    for at in [CommitTs(60), CommitTs::MAX] {
        for key in shard.model.keys() {
            if let Lookup::Found(value) = state.get(Keyspace(key.0), &key.1, at)? {
                found.push((key.1.clone(), value.version.0, value.bytes.to_vec()));
            }
        }
        for direction in [Direction::Forward, Direction::Reverse] {
            for keyspace in [1, 2] {
                let mut cursor = RangeCursor::new(&state, Range::all(Keyspace(keyspace), direction), at)?;
                while cursor.advance()? {
                    let (key, value) = cursor.current().unwrap();
                    found.push((key.to_vec(), value.version.0, value.bytes.to_vec()));
                }
            }
        }
    }
    Ok(found)
}

#[test]
fn every_flipped_bit_gives_the_right_answer_or_a_refusal() {
    let (shard, bytes) = small_table();
    let right = read_all(&shard, bytes.clone()).unwrap();
    assert!(right.len() > 200);
    // A bit of every byte but the middle of the large value, of which every 997th; in debug builds, of every third byte.
    let large = bytes.windows(4096).position(|window| window == [3; 4096]).unwrap();
    let places = (0..bytes.len()).filter(|at| !(large..large + 295_000).contains(at) || at % 997 == 0);
    let places = places.step_by(if cfg!(debug_assertions) { 3 } else { 1 });
    let mut refused = 0;
    let mut harmless = 0;
    for at in places {
        let bit = at % 8;
        let mut broken = bytes.clone();
        broken[at] ^= 1 << bit;
        match read_all(&shard, broken) {
            Ok(found) => {
                assert!(found == right, "byte {at} bit {bit}: a wrong answer");
                // Only padding may go unnoticed by readers; `verify` notices it.
                let error = shard.bench.open(1).unwrap().verify(&mut |_| {}).unwrap_err();
                assert!(matches!(&error, Error::Corrupt { offset, .. } if *offset == at as u64), "{at}: {error}");
                harmless += 1;
            }
            Err(Error::Corrupt { path, offset, .. }) => {
                assert_eq!(path, Path::new(&file_name(1)));
                assert!(offset < bytes.len() as u64);
                refused += 1;
            }
            Err(other) => panic!("byte {at} bit {bit}: {other}"),
        }
    }
    assert!(refused > 5_000 && harmless > 100, "{refused} refused, {harmless} harmless");
}

#[test]
fn swapped_pages_cut_files_and_strangers_are_refused() {
    let (shard, bytes) = small_table();
    let right = read_all(&shard, bytes.clone()).unwrap();
    let pages = bytes.len() / 4096;
    for (a, b) in (0..pages).flat_map(|a| (a + 1..pages).map(move |b| (a, b))).step_by(3) {
        let mut broken = bytes.clone();
        let (left, right_half) = broken.split_at_mut(b * 4096);
        left[a * 4096..(a + 1) * 4096].swap_with_slice(&mut right_half[..4096]);
        if broken == bytes {
            continue;
        }
        match read_all(&shard, broken) {
            Ok(found) => assert!(found == right, "pages {a} and {b}"),
            Err(Error::Corrupt { .. }) => {}
            Err(other) => panic!("pages {a} and {b}: {other}"),
        }
    }
    for len in (0..bytes.len()).step_by(1021).chain([bytes.len() - 1]) {
        assert!(matches!(read_all(&shard, bytes[..len].to_vec()), Err(Error::Corrupt { .. })), "cut to {len}");
    }
    assert!(read_all(&shard, [&bytes[..], &[0; 4096]].concat()).is_err());
    // An intact table in the place of another.
    shard.bench.fs.put(Path::new(&file_name(2)), bytes);
    let error = shard.bench.open(2).err().unwrap();
    assert!(error.to_string().contains("table 1 of shard 3"), "{error}");
}

#[test]
fn a_table_of_a_later_version_is_called_incompatible() {
    let (shard, mut bytes) = small_table();
    let footer = bytes.len() - 4096;
    bytes[footer + 8] = 2;
    let crc = crc32fast::hash(&bytes[footer..footer + 4092]);
    bytes[footer + 4092..].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(read_all(&shard, bytes), Err(Error::Incompatible { .. })));
}

#[test]
fn tables_are_opened_by_a_manifest_and_must_be_what_it_says() {
    let (shard, _) = small_table();
    let manifest = Manifest {
        db_id: DB,
        shard: SHARD,
        ring_version: 9,
        next_file: 2,
        replay_from: Lsn(0),
        max_ts: shard.tables.max_ts(),
        runs: shard.tables.metas(),
    };
    let manifest = Manifest::decode(&manifest.encode().unwrap()).unwrap();
    let opened = TableSet::open(&shard.bench.fs, Path::new(""), &manifest).unwrap();
    assert_eq!(opened.metas(), manifest.runs);
    let refused = |manifest: &Manifest| TableSet::open(&shard.bench.fs, Path::new(""), manifest).err().unwrap();
    let mut other = manifest.clone();
    other.runs[0][0].entries += 1;
    assert!(matches!(refused(&other), Error::Corrupt { .. }));
    let mut missing = manifest.clone();
    missing.runs[0][0].id = 5;
    assert!(refused(&missing).to_string().contains("not there"));
    assert!(matches!(refused(&Manifest { shard: ShardId(0), ..manifest }), Error::Corrupt { .. }));
}

#[test]
fn verify_tells_of_every_byte_it_read() {
    let (shard, bytes) = small_table();
    let mut read = 0;
    shard.bench.open(1).unwrap().verify(&mut |bytes| read += bytes).unwrap();
    assert_eq!(read, bytes.len() as u64);
}
