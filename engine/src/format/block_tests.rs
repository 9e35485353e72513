use proptest::prelude::*;

use super::*;

const ID: BlockId = BlockId { db_id: 0x0102_0304_0506_0708, table_id: 0x22, number: 3 };

fn put(keyspace: u16, key: &'static [u8], ts: u64, value: &'static [u8], expiry: u64) -> EntryRef<'static> {
    let op = Op::Put { kind: Kind(7), expiry: Expiry(expiry), value };
    EntryRef { keyspace: Keyspace(keyspace), key, ts: CommitTs(ts), op }
}

fn push(builder: &mut BlockBuilder, entry: &EntryRef<'_>) {
    builder.push(entry, bloom::hash(entry.keyspace, entry.key));
}

fn sample() -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    push(&mut builder, &put(0, b"a", 9, b"new", 0));
    push(&mut builder, &EntryRef { keyspace: Keyspace(0), key: b"a", ts: CommitTs(8), op: Op::Delete });
    push(&mut builder, &put(0, b"a", 2, b"", 77));
    push(&mut builder, &put(0, b"bb", 5, b"value", 0));
    push(&mut builder, &put(4, b"", 5, b"x", 1));
    let len = builder.len();
    let bytes = builder.finish(ID).to_vec();
    assert_eq!(bytes.len(), len);
    bytes
}

fn open(bytes: &[u8]) -> Result<BlockRef<'_>, Damage> {
    let block = BlockRef::open(bytes, bytes.len() as u32, ID)?;
    block.verify_crc()?;
    Ok(block)
}

#[test]
fn golden_bytes() {
    let mut builder = BlockBuilder::new();
    builder.push(&put(0x0201, b"k", 5, b"vv", 0x0a0b), 0x115a);
    builder.push(&EntryRef { keyspace: Keyspace(0x0201), key: b"l", ts: CommitTs(6), op: Op::Delete }, 0x11a5);
    #[rustfmt::skip]
    let golden = [
        0, 0, 0, 0,                 // checksum, below
        102, 0, 0, 0,               // length: 40 + 2 + 8 + 31 + 21
        8, 7, 6, 5, 4, 3, 2, 1,     // database
        0x22, 0, 0, 0, 0, 0, 0, 0,  // table
        3, 0, 0, 0,                 // number
        2, 0, 0, 0,                 // count
        0, 0, 0, 0,                 // flags
        0, 0, 0, 0,
        0x5a, 0xa5,                 // tags
        0, 0, 0, 0,                 // where entry 0 begins
        31, 0, 0, 0,                // where entry 1 begins
        5, 0, 0, 0, 0, 0, 0, 0,     // ts
        2, 0, 0, 0,                 // value length
        1, 0, 0, 0,                 // key length
        1, 2,                       // keyspace
        7,                          // kind
        2,                          // it expires
        0x0b, 0x0a, 0, 0, 0, 0, 0, 0,
        b'k', b'v', b'v',
        6, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0,
        1, 0, 0, 0,
        1, 2,
        0,
        1,                          // a delete
        b'l',
    ];
    let bytes = builder.finish(ID);
    assert_eq!(bytes[4..], golden[4..]);
    assert_eq!(bytes[..4], crc32fast::hash(&golden[4..]).to_le_bytes());
}

#[test]
fn what_was_pushed_is_found() {
    let bytes = sample();
    let block = open(&bytes).unwrap();
    block.verify_entries().unwrap();
    assert_eq!(block.count(), 5);
    assert_eq!(block.entry(0), Some(put(0, b"a", 9, b"new", 0)));
    assert_eq!(block.entry(1).unwrap().op, Op::Delete);
    assert_eq!(block.entry(2), Some(put(0, b"a", 2, b"", 77)));
    assert_eq!(block.entry(4), Some(put(4, b"", 5, b"x", 1)));
    assert_eq!(block.entry(5), None);
    let find = |keyspace, key: &[u8], ts| block.lower_bound(Keyspace(keyspace), key, CommitTs(ts)).unwrap();
    assert_eq!(find(0, b"", u64::MAX), 0);
    assert_eq!(find(0, b"a", u64::MAX), 0);
    assert_eq!(find(0, b"a", 8), 1);
    assert_eq!(find(0, b"a", 7), 2);
    assert_eq!(find(0, b"a", 1), 3);
    assert_eq!(find(0, b"zzz", 1), 4);
    assert_eq!(find(4, b"", 4), 5);
}

#[test]
fn a_key_is_found_by_its_hash() {
    let bytes = sample();
    let block = open(&bytes).unwrap();
    let find = |keyspace, key: &[u8], at| {
        let keyspace = Keyspace(keyspace);
        block.find(keyspace, key, bloom::hash(keyspace, key), CommitTs(at)).unwrap().map(|entry| entry.ts.0)
    };
    assert_eq!(find(0, b"a", u64::MAX), Some(9));
    assert_eq!(find(0, b"a", 8), Some(8));
    assert_eq!(find(0, b"a", 7), Some(2));
    assert_eq!(find(0, b"a", 1), None);
    assert_eq!(find(0, b"bb", 5), Some(5));
    assert_eq!(find(0, b"b", 5), None);
    assert_eq!(find(4, b"", 5), Some(5));
    assert_eq!(find(1, b"a", 9), None);
}

#[test]
fn a_large_block_has_the_bytes_of_a_built_one() {
    let entry = put(1, b"key", 5, b"a value as large as you like", 99);
    let mut builder = BlockBuilder::new();
    push(&mut builder, &entry);
    let value = b"a value as large as you like";
    let head = large_block_head(ID, &entry, bloom::hash(entry.keyspace, entry.key), |crc| crc.update(value));
    let large = [&head[..], value].concat();
    assert_eq!(large, builder.finish(ID));
}

#[test]
fn blocks_of_others_are_refused() {
    let bytes = sample();
    let len = bytes.len() as u32;
    for other in [BlockId { db_id: 1, ..ID }, BlockId { table_id: 1, ..ID }, BlockId { number: 1, ..ID }] {
        assert!(BlockRef::open(&bytes, len, other).is_err(), "{other:?}");
    }
    assert!(BlockRef::open(&bytes, len - 1, ID).is_err());
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let bytes = sample();
    for bit in 0..bytes.len() * 8 {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&broken).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(BlockRef::open(&bytes[..len], bytes.len() as u32, ID).is_err(), "cut to {len}");
    }
}

#[test]
fn order_and_gaps_are_verified() {
    let mut builder = BlockBuilder::new();
    push(&mut builder, &put(0, b"b", 1, b"", 0));
    push(&mut builder, &put(0, b"a", 1, b"", 0));
    let bytes = builder.finish(ID).to_vec();
    assert!(open(&bytes).unwrap().verify_entries().unwrap_err().what.contains("order"));

    let mut builder = BlockBuilder::new();
    builder.push(&put(0, b"a", 1, b"", 0), bloom::hash(Keyspace(0), b"a") + 1);
    let bytes = builder.finish(ID).to_vec();
    assert!(open(&bytes).unwrap().verify_entries().unwrap_err().what.contains("tag"));

    let mut builder = BlockBuilder::new();
    push(&mut builder, &put(0, b"a", 1, b"", 0));
    builder.entries.push(0);
    let bytes = builder.finish(ID).to_vec();
    assert!(open(&bytes).unwrap().verify_entries().unwrap_err().what.contains("behind"));
}

proptest! {
    /// Reading entries must be safe even if the checksum were right.
    #[test]
    fn random_entries_never_panic(mut bytes in prop::collection::vec(any::<u8>(), HEADER_LEN..300), count in 0..6u32, small: bool) {
        if small {
            // Small numbers reach further than random ones.
            bytes.iter_mut().for_each(|byte| if *byte > 40 { *byte = 0 });
        }
        let len = bytes.len();
        bytes[..HEADER_LEN].copy_from_slice(&header(ID, len, count as usize));
        if let Ok(block) = BlockRef::open(&bytes, len as u32, ID) {
            for i in 0..7 {
                block.entry(i);
                block.key(i);
            }
            let _ = block.lower_bound(Keyspace(0), b"key", CommitTs(3));
            for hash in 0..40 {
                let _ = block.find(Keyspace(0), b"", hash, CommitTs::MAX);
            }
            let _ = block.verify_entries();
        }
    }

    #[test]
    fn random_headers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), len in 0..120u32) {
        let _ = BlockRef::open(&bytes, len, ID);
    }
}
