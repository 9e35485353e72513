//! `format/record.rs`: a record that can be read is, byte for byte, the one that would be written.

use corering_engine::CommitTs;
use corering_engine::format::record::{
    BadRecord, Joined, OpRef, RecordKind, RecordRef, VOID_LEN, carry, encode, encode_void, encoded_len,
};

use crate::{memory, seal};

type Walk = for<'a> fn(&RecordRef<'a>, &mut dyn FnMut(OpRef<'a>)) -> Result<(), BadRecord>;

pub fn check(input: &[u8]) {
    agree(input, |record, each| record.for_each(each));
}

/// Does not mind bytes behind the last operation.
pub fn planted(input: &[u8]) {
    agree(input, |record, each| match record.for_each(each) {
        Err(BadRecord::TrailingBytes) => Ok(()),
        other => other,
    });
}

fn agree(input: &[u8], walk: Walk) {
    let mut bytes = input.to_vec();
    read(&bytes, walk);
    for start in [[1, 0, 0, 0], [2, 0, 2, 0], [3, 0, 0, 0], [4, 0, 2, 0]] {
        seal::put(&mut bytes, 0, &start);
        read(&bytes, walk);
    }
}

fn read(bytes: &[u8], walk: Walk) {
    let decoded = memory::at_most(memory::TEXT, "a record", || {
        let record = RecordRef::decode(bytes).ok()?;
        walk(&record, &mut |_| ()).ok()?;
        record.carried().iter().try_for_each(|part| part.for_each(|_| ())).ok()?;
        Some(record)
    });
    let Some(record) = decoded else { return };
    let mut ops = Vec::new();
    walk(&record, &mut |op| ops.push(op)).expect("read before");
    let commit = CommitTs(record.commit_ts.0);
    let shards = match record.kind {
        RecordKind::Write => Vec::new(),
        RecordKind::Part(shards) => shards.iter().collect(),
        RecordKind::Void => {
            let mut again = vec![0xff; VOID_LEN];
            encode_void(&mut again, commit);
            return assert_eq!(again, bytes);
        }
    };
    let mut carried = Vec::new();
    for part in record.carried() {
        let mut ops = Vec::new();
        part.for_each(|op| ops.push(op)).expect("read before");
        carry(&mut carried, part.shard, part.before, ops.into_iter());
        read(&part.to_part(), |record, each| record.for_each(each));
    }
    let joined = Joined { shards: &shards, carried: &carried };
    let mut again = vec![0xff; encoded_len(joined, ops.iter().copied())];
    encode(&mut again, commit, joined, ops.iter().copied());
    assert_eq!(again, bytes);
}
