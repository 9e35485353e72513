use std::cell::RefCell;
use std::sync::Arc;

use super::*;
use crate::ids::{Expiry, Kind};
use crate::runtime::UNSYNCED_MAX;
use crate::table::memtable::{MemWriter, Order};
use crate::table::node::NewVersion;
use crate::table::testing::{Bench, keep_all};

/// A key, a commit, and a value with its expiry, or none for a delete.
type Write<'a> = (&'a [u8], u64, Option<(&'a [u8], u64)>);

fn memtable(writes: &[Write<'_>]) -> Source {
    let mut writer = MemWriter::new(Order::Deferred, 1);
    for (key, ts, written) in writes {
        let op = match written {
            Some((value, expiry)) => Op::Put { kind: Kind::BYTES, expiry: Expiry(*expiry), value },
            None => Op::Delete,
        };
        writer.insert(Keyspace(0), key, NewVersion { ts: CommitTs(*ts), op });
    }
    Source::Memtable(writer.seal())
}

/// Every version in a run, newest first for each key.
fn versions(run: &Run) -> Vec<(Vec<u8>, u64)> {
    let mut cursor = Source::Run(run.clone()).cursor().unwrap();
    cursor.seek(Keyspace(0), b"").unwrap();
    let mut found = Vec::new();
    while let Some(entry) = cursor.entry() {
        found.push((entry.key.to_vec(), entry.ts.0));
        if !cursor.older().unwrap() {
            cursor.next_key().unwrap();
        }
    }
    found
}

fn kept(snapshots: &[u64], bottom: bool, writes: &[Write<'_>]) -> Vec<u64> {
    let snapshots: Vec<CommitTs> = snapshots.iter().copied().map(CommitTs).collect();
    let retention = Retention { snapshots: &snapshots, bottom, now_ms: 100, keep: None };
    let run = Bench::new(TABLE_BYTES).write(&[memtable(writes)], &retention).unwrap();
    versions(&run).into_iter().map(|(_, ts)| ts).collect()
}

#[test]
fn a_run_tells_how_far_it_has_come_in_small_steps_to_its_end() {
    for order in [Order::Deferred, Order::Kept] {
        let mut writer = MemWriter::new(order, 1);
        for key in 0..100_000u64 {
            let op = Op::Put { kind: Kind::BYTES, expiry: Expiry(0), value: b"value" };
            writer.insert(Keyspace(0), &key.reverse_bits().to_be_bytes(), NewVersion { ts: CommitTs(key + 1), op });
        }
        let memtables = [writer.seal()];
        let told = RefCell::new(vec![0]);
        let tell = |parts| told.borrow_mut().push(parts);
        let progress = Progress::new(&memtables, &tell);
        let sources = [Source::Memtable(Arc::clone(&memtables[0]))];
        let run = Bench::new(TABLE_BYTES).write_telling(&sources, &keep_all(&[]), Some(&progress)).unwrap();
        let written = *told.borrow().last().unwrap();
        assert!((Progress::WHOLE * 3 / 4..Progress::WHOLE * 9 / 10).contains(&written), "{order:?}: {written}");
        for at in (0..run.bytes()).step_by(100_000) {
            progress.read_back(100_000.min(run.bytes() - at), run.bytes());
        }
        let told = told.into_inner();
        assert!(
            told.windows(2).all(|two| two[0] < two[1] && two[1] - two[0] <= Progress::WHOLE / 16),
            "{order:?}: {told:?}"
        );
        assert!(*told.last().unwrap() >= Progress::WHOLE - 2, "{order:?}: {told:?}");
    }
}

#[test]
fn versions_that_somebody_can_see_are_kept_and_no_others() {
    let value = Some((&b"v"[..], 0));
    let five = [(&b"k"[..], 10, value), (b"k", 20, value), (b"k", 30, None), (b"k", 40, value), (b"k", 50, value)];
    assert_eq!(kept(&[], false, &five), [50]);
    assert_eq!(kept(&[9], false, &five), [50]);
    assert_eq!(kept(&[10], false, &five), [50, 10]);
    assert_eq!(kept(&[19, 30, 49, 70], false, &five), [50, 40, 30, 10]);
    assert_eq!(kept(&[20, 21, 22], false, &five), [50, 20]);
}

#[test]
fn deletes_and_expired_values_go_only_when_nothing_older_lies_below() {
    let value = Some((&b"v"[..], 0));
    let deleted = [(&b"k"[..], 10, value), (b"k", 20, None)];
    assert_eq!(kept(&[], false, &deleted), [20]);
    assert_eq!(kept(&[], true, &deleted), Vec::<u64>::new());
    assert_eq!(kept(&[15], true, &deleted), [20, 10]);
    let expired = [(&b"k"[..], 10, Some((&b"v"[..], 100)))];
    assert_eq!(kept(&[], false, &expired), [10]);
    assert_eq!(kept(&[], true, &expired), Vec::<u64>::new());
    let later = [(&b"k"[..], 10, Some((&b"v"[..], 101)))];
    assert_eq!(kept(&[], true, &later), [10]);
    // A snapshot that saw nothing but deletes finds nothing, too.
    let deletes = [(&b"k"[..], 10, None), (b"k", 20, None), (b"k", 30, value)];
    assert_eq!(kept(&[10, 20], true, &deletes), [30]);
}

#[test]
fn one_commit_in_two_sources_is_kept_once_and_the_newer_source_counts() {
    // As after a crash between a checkpoint and the trimming of the log.
    let newer = memtable(&[(b"k", 10, Some((b"newer", 0)))]);
    let older = memtable(&[(b"k", 10, Some((b"older", 0))), (b"l", 10, None)]);
    let run = Bench::new(TABLE_BYTES).write(&[newer, older], &keep_all(&[])).unwrap();
    assert_eq!(versions(&run), [(b"k".to_vec(), 10), (b"l".to_vec(), 10)]);
    let table = &run.tables()[0];
    let hash = crate::table::file::Table::hash(Keyspace(0), b"k");
    let found = table.get(Keyspace(0), b"k", hash, CommitTs::MAX).unwrap();
    assert!(matches!(found, crate::table::Lookup::Found(value) if value.bytes == b"newer"));
}

#[test]
fn keys_of_others_are_left_out() {
    let value = Some((&b"v"[..], 0));
    let source = memtable(&[(b"a", 1, value), (b"b", 2, value), (b"c", 3, value)]);
    let keep = |_: Keyspace, key: &[u8]| key != b"b";
    let retention = Retention { keep: Some(&keep), ..keep_all(&[]) };
    let run = Bench::new(TABLE_BYTES).write(&[source], &retention).unwrap();
    assert_eq!(versions(&run), [(b"a".to_vec(), 1), (b"c".to_vec(), 3)]);
    let none = |_: Keyspace, _: &[u8]| false;
    let mut bench = Bench::new(TABLE_BYTES);
    let run = bench.write(&[memtable(&[(b"a", 1, value)])], &Retention { keep: Some(&none), ..keep_all(&[]) }).unwrap();
    assert!(run.tables().is_empty() && bench.fs.names().is_empty());
}

fn many(count: u32) -> Source {
    let keys: Vec<[u8; 4]> = (0..count).map(u32::to_be_bytes).collect();
    let writes: Vec<_> = keys.iter().map(|key| (&key[..], 1, Some((&[7_u8; 1000][..], 0)))).collect();
    memtable(&writes)
}

#[test]
fn a_run_is_split_and_others_get_their_turn() {
    let mut bench = Bench::new(1 << 20);
    let run = bench.write(&[many(10_000)], &keep_all(&[])).unwrap();
    assert!((8..14).contains(&run.tables().len()), "{} tables", run.tables().len());
    assert!(run.bytes() < 11 << 20);
    assert_eq!(versions(&run).len(), 10_000);
    let yields = bench.executor.yields.get();
    assert!(yields > 150, "{yields} yields");
    // Large values: the largest step is a piece of one.
    let value = vec![1; 20 << 20];
    let (_, before) = bench.fs.writes_and_syncs();
    bench.executor.yields.set(0);
    bench.write(&[memtable(&[(b"k", 1, Some((&value, 0)))])], &keep_all(&[])).unwrap();
    assert!(bench.executor.yields.get() >= 20);
    // No sync has more to write than is bearable for those who wait beside it.
    let (_, syncs) = bench.fs.writes_and_syncs();
    assert!(syncs - before >= (20 << 20) / UNSYNCED_MAX, "{} syncs of 20 MiB", syncs - before);
}

#[test]
fn nothing_is_left_behind_by_a_failed_run() {
    let mut bench = Bench::new(1 << 20);
    bench.write(&[many(4_000)], &keep_all(&[])).unwrap();
    let (writes, syncs) = bench.fs.writes_and_syncs();
    assert!(writes > 4 && syncs >= 3);
    for failing in 1..=writes {
        for short in [false, true] {
            let mut bench = Bench::new(1 << 20);
            if short {
                bench.fs.shorten_write(failing)
            } else {
                bench.fs.fail_write(failing)
            }
            let error = bench.write(&[many(4_000)], &keep_all(&[])).err().unwrap();
            assert_eq!(error.is_no_space(), !short, "{error}");
            assert!(bench.fs.names().is_empty(), "write {failing}: {:?}", bench.fs.names());
        }
    }
    for failing in 1..=syncs {
        let mut bench = Bench::new(1 << 20);
        bench.fs.fail_sync(failing);
        assert!(bench.write(&[many(4_000)], &keep_all(&[])).is_err());
        assert!(bench.fs.names().is_empty());
        assert_eq!(bench.fs.writes_and_syncs().1, failing, "a failed sync is not tried again");
    }
}

#[test]
fn merges_keep_the_runs_few_at_a_sane_cost() {
    for flushes in [50_u64, 500, 2000] {
        let limits = Limits::default();
        let mut sizes: Vec<u64> = Vec::new();
        let mut written = 0;
        for i in 0..flushes {
            // Not all alike.
            let bytes = 40_000_000 + i * 7919 % 30_000_000;
            sizes.insert(0, bytes);
            written += bytes;
            while let Some(span) = pick_sizes(&sizes, limits) {
                let bytes: u64 = sizes[span.clone()].iter().sum();
                written += bytes;
                sizes.splice(span, [bytes]);
            }
            assert!(sizes.len() <= limits.runs_max);
        }
        let amplification = written as f64 / sizes.iter().sum::<u64>() as f64;
        eprintln!("{flushes} checkpoints: each byte is written {amplification:.1} times");
        assert!(amplification < 12.0, "{flushes} checkpoints: {amplification}");
    }
}

#[test]
fn few_runs_are_left_alone_and_a_merge_finds_its_place_again() {
    let mut bench = Bench::new(TABLE_BYTES);
    let value = Some((&b"v"[..], 0));
    let run = |bench: &mut Bench, ts| bench.write(&[memtable(&[(b"k", ts, value)])], &keep_all(&[])).unwrap();
    let limits = Limits { runs_max: 2 };
    let mut set = TableSet::default();
    for ts in 1..=2 {
        set = set.with_newest(run(&mut bench, ts));
        assert!(pick(&set, limits).is_none());
    }
    set = set.with_newest(run(&mut bench, 3));
    let job = pick(&set, limits).unwrap();
    let merged = bench.write(&job.sources(), &keep_all(&[])).unwrap();
    // A checkpoint came while the merge ran.
    let set = Arc::new(set.with_newest(run(&mut bench, 4)));
    let after = set.with_merged(&job.runs, merged);
    assert_eq!(after.runs().len(), 4 - job.runs.len() + 1);
    assert_eq!(versions(&after.runs()[0]), [(b"k".to_vec(), 4)]);
    assert_eq!(after.max_ts(), CommitTs(4));
}
