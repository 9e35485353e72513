//! `format/record.rs`: a record that can be read is, byte for byte, the one that would be written.

use corering_engine::CommitTs;
use corering_engine::format::record::{BadRecord, OpRef, RecordRef, encode, encoded_len};

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
    seal::put(&mut bytes, 0, &[1, 0, 0, 0]);
    read(&bytes, walk);
}

fn read(bytes: &[u8], walk: Walk) {
    let decoded = memory::at_most(memory::TEXT, "a record", || {
        let record = RecordRef::decode(bytes).ok()?;
        walk(&record, &mut |_| ()).ok()?;
        Some(record)
    });
    let Some(record) = decoded else { return };
    let mut ops = Vec::new();
    walk(&record, &mut |op| ops.push(op)).expect("read before");
    let mut again = vec![0xff; encoded_len(ops.iter().copied())];
    encode(&mut again, CommitTs(record.commit_ts.0), ops.iter().copied());
    assert_eq!(again, bytes);
}
