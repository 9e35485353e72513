use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::format::block::Op;
use crate::ids::{Expiry, Kind};
use crate::table::MemCursor;
use crate::value::ValueRef;

fn put(ts: u64, value: &[u8]) -> NewVersion<'_> {
    NewVersion { ts: CommitTs(ts), op: Op::Put { kind: Kind(3), expiry: Expiry(ts % 5), value } }
}

fn delete(ts: u64) -> NewVersion<'static> {
    NewVersion { ts: CommitTs(ts), op: Op::Delete }
}

const KS: Keyspace = Keyspace(1);

#[test]
fn versions_are_found_by_their_time() {
    let mut writer = MemWriter::new(Order::Deferred, 7);
    writer.insert(KS, b"k", put(10, b"ten"));
    writer.insert(KS, b"k", delete(20));
    writer.insert(KS, b"k", put(30, b"thirty"));
    writer.insert(KS, b"k", put(30, b"later of the same commit"));
    let table = Arc::clone(writer.table());
    let get = |ts| table.get(KS, b"k", CommitTs(ts));
    assert_eq!(get(9), Lookup::Missing);
    assert!(matches!(get(10), Lookup::Found(ValueRef { bytes: b"ten", kind: Kind(3), version: CommitTs(10), .. })));
    assert_eq!(get(29), Lookup::Deleted { version: CommitTs(20) });
    assert!(matches!(get(u64::MAX), Lookup::Found(ValueRef { bytes: b"later of the same commit", .. })));
    assert_eq!(table.get(Keyspace(2), b"k", CommitTs::MAX), Lookup::Missing);
    assert_eq!((table.min_ts(), table.max_ts()), (CommitTs(10), CommitTs(30)));
    assert_eq!((table.len(), table.keys()), (4, 1));
}

#[test]
#[should_panic(expected = "versions of a key ascend")]
fn an_older_version_is_our_mistake() {
    let mut writer = MemWriter::new(Order::Kept, 7);
    writer.insert(KS, b"k", put(10, b""));
    writer.insert(KS, b"k", put(9, b""));
}

#[test]
fn an_unordered_memtable_must_be_sealed_before_ordered_reads() {
    let writer = MemWriter::new(Order::Deferred, 7);
    assert!(MemCursor::new(Arc::clone(writer.table())).is_err());
    assert!(MemCursor::new(writer.seal()).is_ok());
    assert!(MemCursor::new(Arc::clone(MemWriter::new(Order::Kept, 7).table())).is_ok());
}

#[test]
fn large_keys_and_values_come_back() {
    for order in [Order::Kept, Order::Deferred] {
        let mut writer = MemWriter::new(order, 1);
        let key = vec![5; crate::options::KEY_LEN_MAX];
        let value: Vec<u8> = (0..9_000_000_u32).map(|i| i as u8).collect();
        writer.insert(KS, &key, put(1, &value));
        writer.insert(KS, b"", put(2, &value[..70_000]));
        writer.insert(KS, b"", put(3, b""));
        let table = writer.seal();
        assert!(matches!(table.get(KS, &key, CommitTs::MAX), Lookup::Found(v) if v.bytes == value));
        assert!(matches!(table.get(KS, b"", CommitTs(2)), Lookup::Found(v) if v.bytes == &value[..70_000]));
        assert!(matches!(table.get(KS, b"", CommitTs(3)), Lookup::Found(v) if v.bytes.is_empty()));
        assert!(table.bytes() > 9_000_000);
    }
}

#[test]
fn growth_loses_no_key_at_any_size() {
    let mut writer = MemWriter::new(Order::Deferred, 99);
    for i in 0..20_000_u32 {
        writer.insert(KS, &i.to_le_bytes(), put(u64::from(i) + 1, &i.to_be_bytes()));
        // The newest, the oldest and some between, in every state of the index.
        for probe in [i, 0, i / 2, i / 3] {
            let found = writer.table().get(KS, &probe.to_le_bytes(), CommitTs::MAX);
            assert!(matches!(found, Lookup::Found(v) if v.bytes == probe.to_be_bytes()), "{probe} of {i}");
        }
        assert_eq!(writer.table().get(KS, &(i + 1).to_le_bytes(), CommitTs::MAX), Lookup::Missing);
        if i % 1777 == 0 {
            assert!((0..=i).all(|i| writer.table().get(KS, &i.to_le_bytes(), CommitTs::MAX) != Lookup::Missing));
        }
    }
    let table = writer.seal();
    assert_eq!(table.nodes().count(), 20_000);
}

#[test]
fn a_seal_in_the_middle_of_growth_loses_no_key() {
    for len in (0..400).chain([5_000, 5_119, 5_120, 5_121, 5_500, 9_000]) {
        let mut writer = MemWriter::new(Order::Deferred, 3);
        (0..len).for_each(|i: u32| writer.insert(KS, &i.to_be_bytes(), put(1, b"")));
        let mut cursor = MemCursor::new(writer.seal()).unwrap();
        cursor.seek(Keyspace(0), b"");
        for i in 0..len {
            assert_eq!(cursor.key(), Some((KS, &i.to_be_bytes()[..])));
            cursor.next_key();
        }
        assert_eq!(cursor.key(), None);
    }
}

/// More keys than one sample stands for, many of them alike in all that a sample keeps.
#[test]
fn a_search_of_sorted_keys_ends_at_the_first_not_before() {
    for len in [1, 15, 16, 17, 32, 33, 500] {
        let key_of = |i: u32| [&[b'k'; 20][..(i % 3) as usize * 10], &(i / 3 * 2 + 1).to_be_bytes()].concat();
        let mut keys: Vec<Vec<u8>> = (0..len).map(key_of).collect();
        let mut writer = MemWriter::new(Order::Deferred, 3);
        keys.iter().for_each(|key| writer.insert(KS, key, put(1, b"")));
        keys.sort();
        let mut cursor = MemCursor::new(writer.seal()).unwrap();
        let probes = (0..len).map(key_of).chain((0..len).map(|i| [&key_of(i)[..], &[0]].concat()));
        for probe in probes.chain([vec![], vec![b'k'; 9], vec![b'k'; 21], vec![0xff]]) {
            let place = keys.partition_point(|key| *key < probe);
            cursor.seek(KS, &probe);
            assert_eq!(cursor.key(), keys.get(place).map(|key| (KS, &key[..])));
            cursor.seek_before(KS, &probe);
            assert_eq!(cursor.key(), place.checked_sub(1).map(|before| (KS, &keys[before][..])));
        }
    }
}

/// In steps, of which several divide keys that were divided before, and each is as short as promised.
#[test]
fn a_sorter_brings_many_keys_into_order() {
    // All alike in what is kept beside them, which ends in zeros that some keys have and others lack.
    let alike = |i: u32| [&[7; 30][..], &[0; 3][..i as usize % 4], &i.to_be_bytes()].concat();
    let short = |i: u32| i.wrapping_mul(0x9e37_79b1).to_be_bytes()[..1 + i as usize % 4].to_vec();
    let keys_of: [&dyn Fn(u32) -> Vec<u8>; 3] = [&alike, &short, &|i| i.to_le_bytes().to_vec()];
    for (key_of, count) in
        keys_of.into_iter().flat_map(|key_of| [0, 1, 4096, 4097, 60_000].map(|count| (key_of, count)))
    {
        let mut writer = MemWriter::new(Order::Deferred, 5);
        let mut expected = std::collections::BTreeSet::new();
        for i in 0..if cfg!(miri) { count.min(300) } else { count } {
            let key = key_of(i);
            writer.insert(Keyspace((i % 3) as u16), &key, put(1, b""));
            expected.insert(((i % 3) as u16, key));
        }
        let table = writer.seal();
        let mut sorter = table.sorter().expect("nobody has sorted it");
        let mut rounds = 0;
        while let Some(keys) = sorter.step() {
            assert!(keys <= 4096, "{keys} keys in one step");
            rounds += keys;
        }
        sorter.publish();
        assert_eq!(rounds, 2 * expected.len());
        let mut cursor = MemCursor::new(table).unwrap();
        cursor.seek(Keyspace(0), b"");
        for (keyspace, key) in &expected {
            assert_eq!(cursor.key(), Some((Keyspace(*keyspace), &key[..])));
            cursor.next_key();
        }
        assert_eq!(cursor.key(), None);
    }
}

/// It finds room for as many keys as the one before had, at its first key; fewer and more come just as well.
#[test]
fn a_memtable_expects_what_the_one_before_it_had() {
    for (before, now) in [(0_u32, 10_u32), (1000, 1000), (1000, 5), (1000, 4000)] {
        let mut first = MemWriter::new(Order::Deferred, 5);
        (0..before).for_each(|i| first.insert(KS, &i.to_le_bytes(), put(1, b"")));
        let mut writer = first.next(Order::Deferred);
        assert_eq!(writer.bytes(), 0, "an empty one takes nothing");
        let expected = writer.first_bytes();
        assert!(expected >= u64::from(before) * 8 * 8 / 5);
        for i in 0..now {
            writer.insert(KS, &i.to_le_bytes(), put(2, b"v"));
            assert!(i > 0 || (expected..expected + 200).contains(&writer.bytes()));
        }
        assert!((0..now).all(|i| writer.table().get(KS, &i.to_le_bytes(), CommitTs::MAX) != Lookup::Missing));
        assert_eq!(writer.table().get(KS, &now.to_le_bytes(), CommitTs::MAX), Lookup::Missing);
        assert_eq!(writer.seal().nodes().count(), now as usize);
    }
}

type Model = BTreeMap<(u16, Vec<u8>), Vec<(u64, Option<Vec<u8>>)>>;

fn check_against(table: &Arc<Memtable>, model: &Model, probes: &[(u16, Vec<u8>)], at: u64) {
    for ((keyspace, key), versions) in model {
        let expected = versions.iter().rev().find(|(ts, _)| *ts <= at);
        let found = table.get(Keyspace(*keyspace), key, CommitTs(at));
        match (expected, found) {
            (None, Lookup::Missing) => {}
            (Some((ts, None)), Lookup::Deleted { version }) => assert_eq!(version.0, *ts),
            (Some((ts, Some(value))), Lookup::Found(v)) => assert_eq!((v.version.0, v.bytes), (*ts, &value[..])),
            (expected, found) => panic!("{expected:?} expected, {found:?} found"),
        }
    }
    let mut cursor = MemCursor::new(Arc::clone(table)).unwrap();
    cursor.seek(Keyspace(0), b"");
    for ((keyspace, key), versions) in model {
        assert_eq!(cursor.key(), Some((Keyspace(*keyspace), &key[..])));
        let mut found = vec![cursor.entry().unwrap().ts.0];
        while cursor.older() {
            found.push(cursor.entry().unwrap().ts.0);
        }
        assert!(found.iter().eq(versions.iter().rev().map(|(ts, _)| ts)));
        cursor.next_key();
    }
    assert_eq!(cursor.key(), None);
    cursor.seek_before(Keyspace(u16::MAX), b"");
    for (keyspace, key) in model.keys().rev() {
        assert_eq!(cursor.key(), Some((Keyspace(*keyspace), &key[..])));
        cursor.prev_key();
    }
    assert_eq!(cursor.key(), None);
    for probe in probes {
        let keyspace = Keyspace(probe.0);
        cursor.seek(keyspace, &probe.1);
        assert_eq!(
            cursor.key().map(|(ks, key)| (ks.0, key.to_vec())),
            model.range(probe..).next().map(|(k, _)| k.clone())
        );
        cursor.seek_before(keyspace, &probe.1);
        assert_eq!(
            cursor.key().map(|(ks, key)| (ks.0, key.to_vec())),
            model.range(..probe).next_back().map(|(k, _)| k.clone())
        );
    }
}

fn keys() -> impl Strategy<Value = (u16, Vec<u8>)> {
    (0..3_u16, prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 0..4).prop_union_long())
}

trait Long {
    fn prop_union_long(self) -> BoxedStrategy<Vec<u8>>;
}

impl<S: Strategy<Value = Vec<u8>> + 'static> Long for S {
    /// Some keys with a beginning in common that is longer than what the sorter keeps beside them.
    fn prop_union_long(self) -> BoxedStrategy<Vec<u8>> {
        (self, any::<bool>()).prop_map(|(key, long)| if long { [&[1; 15], &key[..]].concat() } else { key }).boxed()
    }
}

proptest! {
    #[test]
    fn it_answers_as_a_model_does(
        writes in prop::collection::vec((keys(), prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..3_u64), 0..200),
        probes in prop::collection::vec(keys(), 0..20),
        at in 0..200_u64,
        kept: bool,
        seed: u64,
    ) {
        let mut writer = MemWriter::new(if kept { Order::Kept } else { Order::Deferred }, seed);
        let mut model = Model::new();
        let mut ts = 1;
        for ((keyspace, key), value, step) in &writes {
            ts += step;
            let version = value.as_ref().map_or_else(|| delete(ts), |value| put(ts, value));
            writer.insert(Keyspace(*keyspace), key, version);
            model.entry((*keyspace, key.clone())).or_default().push((ts, value.clone()));
        }
        if kept {
            check_against(writer.table(), &model, &probes, at);
        }
        check_against(&writer.seal(), &model, &probes, at);
    }
}

/// One writer, readers of both kinds: whoever knows that a write has returned finds it, versions never go back, and
/// ordered readers see ascending keys and everything that was complete before they began. What ThreadSanitizer says of
/// it is in docs/testing.md.
#[test]
fn readers_never_miss_what_was_written_before_they_began() {
    // Miri takes a thousand times as long, and needs no luck: it sees a race where none happened to do harm.
    const KEYS: u64 = if cfg!(miri) { 150 } else { 5_000 };
    let rounds = match () {
        () if cfg!(miri) => 1,
        () if cfg!(debug_assertions) => 6,
        () => 30,
    };
    for order in [Order::Kept, Order::Deferred] {
        let mut writer = MemWriter::new(order, 11);
        let table = Arc::clone(writer.table());
        let written = AtomicU64::new(0);
        let done = AtomicBool::new(false);
        // Write n: key n * 7919 mod KEYS, version n.
        let key_of = |n: u64| (n * 7919 % KEYS).to_be_bytes();
        std::thread::scope(|scope| {
            for reader in 0..3_u64 {
                let (table, written, done) = (&table, &written, &done);
                scope.spawn(move || {
                    let mut n = reader;
                    while !done.load(Ordering::Acquire) {
                        let known = written.load(Ordering::Acquire);
                        if known == 0 {
                            continue;
                        }
                        n = (n * 31 + 17) % known + 1;
                        let Lookup::Found(value) = table.get(KS, &key_of(n), CommitTs::MAX) else {
                            panic!("write {n} of {known} is missing");
                        };
                        assert!(value.version.0 >= n);
                        assert_eq!(value.bytes, value.version.0.to_le_bytes().repeat(3));
                        assert_eq!(value.version.0 % KEYS, n % KEYS);
                        let at = table.get(KS, &key_of(n), CommitTs(n));
                        assert!(matches!(at, Lookup::Found(value) if value.version.0 == n));
                        if order == Order::Kept && n % 512 == 0 {
                            let mut cursor = MemCursor::new(Arc::clone(table)).unwrap();
                            cursor.seek(KS, b"");
                            let (mut count, mut last) = (0, None);
                            while let Some((_, key)) = cursor.key() {
                                assert!(last.as_deref() < Some(key));
                                last = Some(key.to_vec());
                                count += 1;
                                cursor.next_key();
                            }
                            assert!(count >= known.min(KEYS));
                        }
                    }
                });
            }
            let (unaware, done_soon) = (&table, &done);
            scope.spawn(move || {
                // Nothing but the memtable itself tells this one of writes, so that a missing release would show.
                let mut n = 1_u64;
                while !done_soon.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(31).wrapping_add(17) % KEYS;
                    if let Lookup::Found(value) = unaware.get(KS, &n.to_be_bytes(), CommitTs::MAX) {
                        assert_eq!(value.version.0 * 7919 % KEYS, n);
                        assert_eq!(value.bytes, value.version.0.to_le_bytes().repeat(3));
                    }
                    if order == Order::Kept {
                        let mut cursor = MemCursor::new(Arc::clone(unaware)).unwrap();
                        cursor.seek(KS, &n.to_be_bytes());
                        assert!(cursor.key().is_none_or(|(_, key)| key >= &n.to_be_bytes()[..]));
                    }
                }
            });
            for n in 1..=KEYS * rounds {
                writer.insert(KS, &key_of(n), put(n, &n.to_le_bytes().repeat(3)));
                written.store(n, Ordering::Release);
            }
            done.store(true, Ordering::Release);
        });
        let table = writer.seal();
        // Several first ordered readers at once.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut cursor = MemCursor::new(Arc::clone(&table)).unwrap();
                    cursor.seek(KS, b"");
                    for key in 0..KEYS {
                        assert_eq!(cursor.key(), Some((KS, &key.to_be_bytes()[..])));
                        cursor.next_key();
                    }
                });
            }
        });
    }
}

/// Memtables of two keys and a version more, whose reader waits for each at its birth, knowing of it by nothing but the
/// memtable: the place where Miri and ThreadSanitizer see a missing release.
#[test]
fn whoever_finds_a_new_version_finds_all_of_it() {
    let rounds = if cfg!(miri) { 40 } else { 500 };
    let steps: [(&[u8], u64, &[u8]); 3] = [(b"a", 1, b"first"), (b"a", 2, b"second"), (b"b", 3, b"third")];
    for round in 0..rounds {
        let mut writer = MemWriter::new(if round % 2 == 0 { Order::Deferred } else { Order::Kept }, round);
        let table = Arc::clone(writer.table());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (key, ts, bytes) in steps {
                    let found = loop {
                        match table.get(KS, key, CommitTs::MAX) {
                            Lookup::Found(value) if value.version.0 >= ts => break value,
                            _ => std::thread::yield_now(),
                        }
                    };
                    assert!(found.version.0 > ts || found.bytes == bytes);
                }
            });
            for (key, ts, bytes) in steps {
                writer.insert(KS, key, put(ts, bytes));
            }
        });
    }
}
