use proptest::prelude::*;

use super::*;

fn table(id: u64, lower: &[u8], upper: &[u8]) -> TableMeta {
    TableMeta {
        id,
        bytes: 8192,
        entries: 10,
        keys: 9,
        deletes: 1,
        min_ts: CommitTs(3),
        max_ts: CommitTs(4),
        ring_version: 2,
        lower: KeyBound::of(Keyspace(1), lower),
        upper: KeyBound::of(Keyspace(1), upper),
    }
}

fn sample() -> Manifest {
    Manifest {
        db_id: 0x0807_0605_0403_0201,
        shard: ShardId(0x0a0b),
        ring_version: 2,
        next_file: 12,
        replay_from: Lsn(0x1000),
        max_ts: CommitTs(0x77),
        runs: vec![vec![table(5, b"a", b"bc")], vec![], vec![table(1, b"a", b"c"), table(2, b"d", b"zz")]],
    }
}

#[test]
fn golden_bytes() {
    let manifest = Manifest { runs: vec![vec![table(5, b"a", b"bc")]], ..sample() };
    #[rustfmt::skip]
    let golden = [
        1, 0, 0, 0,                 // version
        0, 0,
        0x0b, 0x0a,                 // shard
        1, 2, 3, 4, 5, 6, 7, 8,     // database
        2, 0, 0, 0, 0, 0, 0, 0,     // ring version
        12, 0, 0, 0, 0, 0, 0, 0,    // next file
        0, 0x10, 0, 0, 0, 0, 0, 0,  // replay from
        0x77, 0, 0, 0, 0, 0, 0, 0,  // max ts
        1, 0, 0, 0,                 // runs
        1, 0, 0, 0,                 // tables in run 0
        5, 0, 0, 0, 0, 0, 0, 0,     // id
        0, 32, 0, 0, 0, 0, 0, 0,    // bytes
        10, 0, 0, 0, 0, 0, 0, 0,    // entries
        9, 0, 0, 0, 0, 0, 0, 0,     // keys
        1, 0, 0, 0, 0, 0, 0, 0,     // deletes
        3, 0, 0, 0, 0, 0, 0, 0,     // min ts
        4, 0, 0, 0, 0, 0, 0, 0,     // max ts
        2, 0, 0, 0, 0, 0, 0, 0,     // ring version
        1, 0, 1, 0,                 // lower: length, keyspace
        2, 0, 1, 0,                 // upper
        b'a', b'b', b'c',
    ];
    assert_eq!(manifest.encode().unwrap(), golden);
    assert_eq!(Manifest::decode(&golden).unwrap(), manifest);
}

#[test]
fn every_cut_is_refused() {
    let bytes = sample().encode().unwrap();
    assert_eq!(Manifest::decode(&bytes).unwrap(), sample());
    for len in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..len]).is_err(), "cut to {len}");
    }
    assert!(Manifest::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn overlapping_tables_are_refused() {
    let mut manifest = sample();
    manifest.runs[2].swap(0, 1);
    assert!(Manifest::decode(&manifest.encode().unwrap()).unwrap_err().what.contains("overlaps"));
}

#[test]
fn a_manifest_that_would_not_fit_its_slot_is_refused() {
    let long = [9; 4 * BOUND_LEN_MAX];
    let runs = |count: u64| vec![(0..count).map(|id| table(id, &long, &long)).collect()];
    assert!(Manifest { runs: runs(1_700), ..sample() }.encode().is_ok());
    let error = Manifest { runs: runs(2_000), ..sample() }.encode().unwrap_err();
    assert!(error.to_string().contains("2000 tables"), "{error}");
}

#[test]
fn bounds_of_long_keys_exclude_no_key_within() {
    let mut low = vec![7; BOUND_LEN_MAX];
    low.extend_from_slice(b"b");
    let mut high = vec![7; BOUND_LEN_MAX];
    high.extend_from_slice(b"d");
    let table = table(1, &low, &high);
    for end in [b"b", b"c", b"d"] {
        let mut key = vec![7; BOUND_LEN_MAX];
        key.extend_from_slice(end);
        assert!(table.may_hold(Keyspace(1), &key));
    }
    assert!(!table.may_hold(Keyspace(1), &[7; BOUND_LEN_MAX - 1]));
    assert!(!table.may_hold(Keyspace(1), &[8]));
    assert!(!table.may_hold(Keyspace(2), &low));
}

proptest! {
    #[test]
    fn flipped_bits_and_random_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..4),
                                                 bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::decode(&bytes);
        let mut bytes = sample().encode().unwrap();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let _ = Manifest::decode(&bytes);
    }

    #[test]
    fn what_was_encoded_is_decoded(db_id: u64, next_file: u64, lsn in 0..=Lsn::LIMIT.0, keys in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 0..300), 0..12)) {
        // Each table ends where it begins, so that any set of keys makes a run.
        let tables = keys.iter().enumerate().map(|(i, key)| table(i as u64, key, key)).collect();
        let manifest = Manifest { db_id, next_file, replay_from: Lsn(lsn), runs: vec![tables], ..sample() };
        prop_assert_eq!(Manifest::decode(&manifest.encode().unwrap()).unwrap(), manifest);
    }
}
