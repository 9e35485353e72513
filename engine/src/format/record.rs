//! A record: what one atomic step did to a shard, as it lies in a frame's payload.
//!
//! ```text
//!  0      1      2        4         8          16
//!  | type | 0    | shards | op_count| commit_ts | a u16 for each shard ... | carried ... | ops ...
//!
//!  an op:
//!  0    1      2          4         8           12        20
//!  | op | kind | keyspace | key_len | value_len | expiry  | key ... | value ...
//! ```
//!
//! `WRITE` concerns one shard and names none. `PART` is one shard's part of a commit over several, all of which it names in
//! ascending order: it counts only if each of them has its part (docs/transactions.md). `CARRIER` is a part that holds those of some of
//! the other shards too. `VOID` has neither shards nor ops: what stands before it in the log, from `commit_ts` on, never happened.
//!
//! ```text
//! what a CARRIER carries: its length in bytes as a u32, then for each shard, ascending:
//!  0       2   4         8       12  16       24
//!  | shard | 0 | op_count| bytes | 0 | before | ops ...
//! ```
//!
//! `before` is the commit that came before this one on that shard, and `bytes` the length of the ops.
//!
//! A reader that meets a type it does not know refuses the log rather than skip it. So it does with a byte that should be zero
//! and is not; a delete's kind, value and expiry are such bytes.

use std::ops::Range;

use super::block::Op;
use super::le::{Reader, fixed_u16, fixed_u32, fixed_u64, is_zero};
use crate::ids::{CommitTs, Expiry, Keyspace, Kind, ShardId};

const TYPE: Range<usize> = 0..1;
const SHARDS: Range<usize> = 2..4;
const OP_COUNT: Range<usize> = SHARDS.end..SHARDS.end + 4;
const COMMIT_TS: Range<usize> = OP_COUNT.end..OP_COUNT.end + 8;
pub const RECORD_HEADER_LEN: usize = COMMIT_TS.end;

const CODE: Range<usize> = 0..1;
const KIND: Range<usize> = CODE.end..CODE.end + 1;
const KEYSPACE: Range<usize> = KIND.end..KIND.end + 2;
const KEY_LEN: Range<usize> = KEYSPACE.end..KEYSPACE.end + 4;
const VALUE_LEN: Range<usize> = KEY_LEN.end..KEY_LEN.end + 4;
const EXPIRY: Range<usize> = VALUE_LEN.end..VALUE_LEN.end + 8;
pub const OP_HEADER_LEN: usize = EXPIRY.end;
const _: () = assert!(RECORD_HEADER_LEN == 16 && OP_HEADER_LEN == 20);

const TYPE_WRITE: u8 = 1;
const TYPE_PART: u8 = 2;
const TYPE_VOID: u8 = 3;
const TYPE_CARRIER: u8 = 4;
const SHARD_LEN: usize = 2;
/// Before what is carried, the length of all of it.
const CARRIED_LEN: usize = 4;
const CARRIED_SHARD: Range<usize> = 0..2;
const CARRIED_COUNT: Range<usize> = 4..8;
const CARRIED_BYTES: Range<usize> = CARRIED_COUNT.end..CARRIED_COUNT.end + 4;
const CARRIED_BEFORE: Range<usize> = 16..24;
const CARRIED_HEADER_LEN: usize = CARRIED_BEFORE.end;
const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;

/// One change to one key, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpRef<'a> {
    pub keyspace: Keyspace,
    pub key: &'a [u8],
    pub change: Op<'a>,
}

impl OpRef<'_> {
    pub fn encoded_len(&self) -> usize {
        OP_HEADER_LEN
            + self.key.len()
            + match self.change {
                Op::Put { value, .. } => value.len(),
                Op::Delete => 0,
            }
    }
}

fn ops_len<'a>(ops: impl Iterator<Item = OpRef<'a>>) -> usize {
    ops.map(|op| op.encoded_len()).sum()
}

/// Which shards a record names, and what it carries of their parts.
#[derive(Clone, Copy, Default, Debug)]
pub struct Joined<'a> {
    /// All that the commit concerns, ascending; none if it is this one alone.
    pub shards: &'a [ShardId],
    /// Made by [`carry`].
    pub carried: &'a [u8],
}

impl Joined<'_> {
    /// A record of this shard alone.
    pub const ALONE: Joined<'static> = Joined { shards: &[], carried: &[] };

    fn len(&self) -> usize {
        self.shards.len() * SHARD_LEN + if self.carried.is_empty() { 0 } else { CARRIED_LEN + self.carried.len() }
    }
}

/// Bytes that [`encode`] writes for these ops.
pub fn encoded_len<'a>(joined: Joined<'_>, ops: impl Iterator<Item = OpRef<'a>>) -> usize {
    RECORD_HEADER_LEN + joined.len() + ops_len(ops)
}

/// Bytes that [`carry`] adds for these ops.
pub fn carried_len<'a>(ops: impl Iterator<Item = OpRef<'a>>) -> usize {
    CARRIED_HEADER_LEN + ops_len(ops)
}

/// Add a shard's part to what a record carries. Shards come ascending.
pub fn carry<'a>(out: &mut Vec<u8>, shard: ShardId, before: CommitTs, ops: impl Iterator<Item = OpRef<'a>> + Clone) {
    let start = out.len();
    out.resize(start + carried_len(ops.clone()), 0);
    let (header, rest) = out[start..].split_at_mut(CARRIED_HEADER_LEN);
    header[CARRIED_SHARD].copy_from_slice(&shard.0.to_le_bytes());
    header[CARRIED_BYTES].copy_from_slice(&u32::try_from(rest.len()).expect("a part is far smaller").to_le_bytes());
    header[CARRIED_BEFORE].copy_from_slice(&before.0.to_le_bytes());
    header[CARRIED_COUNT].copy_from_slice(&encode_ops(rest, ops).to_le_bytes());
}

fn encode_header(header: &mut [u8], kind: u8, shards: usize, op_count: u32, commit_ts: CommitTs) {
    header.fill(0);
    header[TYPE][0] = kind;
    header[SHARDS].copy_from_slice(&u16::try_from(shards).expect("shards are numbered in 16 bits").to_le_bytes());
    header[OP_COUNT].copy_from_slice(&op_count.to_le_bytes());
    header[COMMIT_TS].copy_from_slice(&commit_ts.0.to_le_bytes());
}

/// Write a record of ops into `out`, which has exactly the right length.
pub fn encode<'a>(out: &mut [u8], commit_ts: CommitTs, joined: Joined<'_>, ops: impl Iterator<Item = OpRef<'a>>) {
    let Joined { shards, carried } = joined;
    let (header, rest) = out.split_at_mut(RECORD_HEADER_LEN);
    let (named, mut rest) = rest.split_at_mut(shards.len() * SHARD_LEN);
    for (out, shard) in named.chunks_exact_mut(SHARD_LEN).zip(shards) {
        out.copy_from_slice(&shard.0.to_le_bytes());
    }
    if !carried.is_empty() {
        let (len, behind) = rest.split_at_mut(CARRIED_LEN);
        len.copy_from_slice(&u32::try_from(carried.len()).expect("little is carried").to_le_bytes());
        let (out, behind) = behind.split_at_mut(carried.len());
        out.copy_from_slice(carried);
        rest = behind;
    }
    let kind = match (shards, carried) {
        ([], _) => TYPE_WRITE,
        (_, []) => TYPE_PART,
        _ => TYPE_CARRIER,
    };
    let count = encode_ops(rest, ops);
    encode_header(header, kind, shards.len(), count, commit_ts);
}

/// Write ops into `out`, which has exactly the right length; says how many.
fn encode_ops<'a>(mut rest: &mut [u8], ops: impl Iterator<Item = OpRef<'a>>) -> u32 {
    let mut count = 0u32;
    for op in ops {
        let (this, after) = rest.split_at_mut(op.encoded_len());
        let (code, kind, expiry, value) = match op.change {
            Op::Put { kind, expiry, value } => (OP_PUT, kind, expiry, value),
            Op::Delete => (OP_DELETE, Kind::BYTES, Expiry::NEVER, &[][..]),
        };
        this[CODE][0] = code;
        this[KIND][0] = kind.0;
        this[KEYSPACE].copy_from_slice(&op.keyspace.0.to_le_bytes());
        this[KEY_LEN].copy_from_slice(&(op.key.len() as u32).to_le_bytes());
        this[VALUE_LEN].copy_from_slice(&(value.len() as u32).to_le_bytes());
        this[EXPIRY].copy_from_slice(&expiry.0.to_le_bytes());
        let (key_out, value_out) = this[OP_HEADER_LEN..].split_at_mut(op.key.len());
        key_out.copy_from_slice(op.key);
        value_out.copy_from_slice(value);
        count += 1;
        rest = after;
    }
    assert!(rest.is_empty(), "the length was computed from the same ops");
    count
}

/// Bytes of a record that voids others.
pub const VOID_LEN: usize = RECORD_HEADER_LEN;

/// Write a record that voids everything before it from `first` on.
pub fn encode_void(out: &mut [u8], first: CommitTs) {
    encode_header(&mut out[..VOID_LEN], TYPE_VOID, 0, 0, first);
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind<'a> {
    /// A commit of this shard alone.
    Write,
    /// Part of a commit over several shards; it may carry those of others.
    Part(ShardList<'a>),
    /// What stands before it, from its commit on, never happened.
    Void,
}

/// The shards of a commit, ascending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardList<'a> {
    bytes: &'a [u8],
}

impl<'a> ShardList<'a> {
    pub fn iter(self) -> impl Iterator<Item = ShardId> + 'a {
        self.bytes.chunks_exact(SHARD_LEN).map(|bytes| ShardId(u16::from_le_bytes([bytes[0], bytes[1]])))
    }
}

/// A decoded record; the ops are checked while they are walked.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    pub commit_ts: CommitTs,
    pub kind: RecordKind<'a>,
    carried: &'a [u8],
    op_count: u32,
    ops: &'a [u8],
}

/// Another shard's part, as a record carries it.
#[derive(Clone, Copy, Debug)]
pub struct Carried<'a> {
    pub shard: ShardId,
    /// The commit that came before this one on that shard.
    pub before: CommitTs,
    commit_ts: CommitTs,
    named: ShardList<'a>,
    op_count: u32,
    ops: &'a [u8],
}

impl<'a> Carried<'a> {
    /// The record that the shard's own log would hold.
    pub fn to_part(&self) -> Vec<u8> {
        let mut out = vec![0; RECORD_HEADER_LEN];
        let shards = self.named.bytes.len() / SHARD_LEN;
        encode_header(&mut out, TYPE_PART, shards, self.op_count, self.commit_ts);
        out.extend_from_slice(self.named.bytes);
        out.extend_from_slice(self.ops);
        out
    }

    pub fn for_each(&self, each: impl FnMut(OpRef<'a>)) -> Result<(), BadRecord> {
        walk(self.op_count, self.ops, each)
    }
}

/// Why a payload is not a record. Its frame's checksum was right, so this is not a torn write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadRecord {
    TooShort,
    UnknownType(u8),
    UnknownOp(u8),
    /// A byte that this version leaves zero is not.
    Reserved,
    /// A part of a commit that does not name several shards in order, or carries the part of none of them.
    Shards,
    TrailingBytes,
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadRecord::TooShort => f.write_str("a record is shorter than its own lengths say"),
            BadRecord::UnknownType(t) => write!(f, "a record has the unknown type {t}; a newer version wrote it"),
            BadRecord::UnknownOp(op) => {
                write!(f, "a record holds the unknown operation {op}; a newer version wrote it")
            }
            BadRecord::Reserved => {
                f.write_str("a record sets bytes that this version does not know; a newer version wrote it")
            }
            BadRecord::Shards => f.write_str("a record does not name the shards of its commit in order"),
            BadRecord::TrailingBytes => f.write_str("a record has bytes behind its last operation"),
        }
    }
}

impl<'a> RecordRef<'a> {
    pub fn decode(payload: &'a [u8]) -> Result<RecordRef<'a>, BadRecord> {
        let header = payload.get(..RECORD_HEADER_LEN).ok_or(BadRecord::TooShort)?;
        let (kind, shards) = (header[TYPE][0], usize::from(fixed_u16(header, SHARDS)));
        if !matches!(kind, TYPE_WRITE | TYPE_PART | TYPE_VOID | TYPE_CARRIER) {
            return Err(BadRecord::UnknownType(kind));
        }
        let has_shards = matches!(kind, TYPE_PART | TYPE_CARRIER);
        if !is_zero(&header[TYPE.end..SHARDS.start]) || (!has_shards && shards > 0) {
            return Err(BadRecord::Reserved);
        }
        let op_count = fixed_u32(header, OP_COUNT);
        let rest = &payload[RECORD_HEADER_LEN..];
        let (named, rest) = rest.split_at_checked(shards * SHARD_LEN).ok_or(BadRecord::TooShort)?;
        let named = ShardList { bytes: named };
        if has_shards && (shards < 2 || !named.iter().is_sorted_by(|a, b| a < b)) {
            return Err(BadRecord::Shards);
        }
        let (carried, ops) = match kind {
            TYPE_CARRIER => {
                let (len, rest) = rest.split_at_checked(CARRIED_LEN).ok_or(BadRecord::TooShort)?;
                rest.split_at_checked(fixed_u32(len, 0..CARRIED_LEN) as usize).ok_or(BadRecord::TooShort)?
            }
            _ => (&[][..], rest),
        };
        let commit_ts = CommitTs(fixed_u64(header, COMMIT_TS));
        let record_kind = match kind {
            TYPE_WRITE => RecordKind::Write,
            TYPE_PART | TYPE_CARRIER => RecordKind::Part(named),
            _ if op_count == 0 => RecordKind::Void,
            _ => return Err(BadRecord::Reserved),
        };
        let record = RecordRef { commit_ts, kind: record_kind, carried, op_count, ops };
        if kind == TYPE_CARRIER {
            record.check_carried(named)?;
        }
        Ok(record)
    }

    fn check_carried(&self, named: ShardList<'a>) -> Result<(), BadRecord> {
        if self.carried.is_empty() {
            return Err(BadRecord::Shards);
        }
        let mut rest = named.iter();
        let mut in_order = true;
        self.walk_carried(|part| in_order &= rest.any(|shard| shard == part.shard))?;
        if in_order { Ok(()) } else { Err(BadRecord::Shards) }
    }

    fn walk_carried(&self, mut each: impl FnMut(Carried<'a>)) -> Result<(), BadRecord> {
        let RecordKind::Part(named) = self.kind else { return Ok(()) };
        let mut rest = Reader::new(self.carried);
        let short = |_| BadRecord::TooShort;
        while rest.left() > 0 {
            let header = rest.take(CARRIED_HEADER_LEN, "a carried part").map_err(short)?;
            let reserved = [CARRIED_SHARD.end..CARRIED_COUNT.start, CARRIED_BYTES.end..CARRIED_BEFORE.start];
            if reserved.into_iter().any(|bytes| !is_zero(&header[bytes])) {
                return Err(BadRecord::Reserved);
            }
            let ops = rest.take(fixed_u32(header, CARRIED_BYTES) as usize, "operations").map_err(short)?;
            each(Carried {
                shard: ShardId(fixed_u16(header, CARRIED_SHARD)),
                before: CommitTs(fixed_u64(header, CARRIED_BEFORE)),
                commit_ts: self.commit_ts,
                named,
                op_count: fixed_u32(header, CARRIED_COUNT),
                ops,
            });
        }
        Ok(())
    }

    /// The parts of other shards that it carries.
    pub fn carried(&self) -> Vec<Carried<'a>> {
        let mut all = Vec::new();
        self.walk_carried(|part| all.push(part)).expect("checked when it was decoded");
        all
    }

    /// Call `each` with every op of this shard in order; stops at the first that cannot be read.
    pub fn for_each(&self, each: impl FnMut(OpRef<'a>)) -> Result<(), BadRecord> {
        walk(self.op_count, self.ops, each)
    }

    /// Whether everything can be read, of other shards too.
    pub fn check(&self) -> Result<(), BadRecord> {
        self.for_each(|_| ())?;
        self.carried().iter().try_for_each(|part| part.for_each(|_| ()))
    }
}

fn walk<'a>(op_count: u32, ops: &'a [u8], mut each: impl FnMut(OpRef<'a>)) -> Result<(), BadRecord> {
    let mut rest = Reader::new(ops);
    let short = |_| BadRecord::TooShort;
    for _ in 0..op_count {
        let header = rest.take(OP_HEADER_LEN, "an operation").map_err(short)?;
        let key = rest.take(fixed_u32(header, KEY_LEN) as usize, "a key").map_err(short)?;
        let value = rest.take(fixed_u32(header, VALUE_LEN) as usize, "a value").map_err(short)?;
        let change = match header[CODE][0] {
            OP_PUT => Op::Put { value, kind: Kind(header[KIND][0]), expiry: Expiry(fixed_u64(header, EXPIRY)) },
            OP_DELETE if header[KIND][0] == 0 && value.is_empty() && is_zero(&header[EXPIRY]) => Op::Delete,
            OP_DELETE => return Err(BadRecord::Reserved),
            other => return Err(BadRecord::UnknownOp(other)),
        };
        each(OpRef { keyspace: Keyspace(fixed_u16(header, KEYSPACE)), key, change });
    }
    if rest.left() == 0 { Ok(()) } else { Err(BadRecord::TrailingBytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(ts: u64, shards: &[ShardId], ops: &[OpRef<'_>]) -> Vec<u8> {
        joined(ts, Joined { shards, carried: &[] }, ops)
    }

    fn joined(ts: u64, joined: Joined<'_>, ops: &[OpRef<'_>]) -> Vec<u8> {
        let mut out = vec![0xff; encoded_len(joined, ops.iter().copied())];
        encode(&mut out, CommitTs(ts), joined, ops.iter().copied());
        out
    }

    #[test]
    fn golden_bytes_of_a_put_and_a_delete() {
        let put = OpRef {
            keyspace: Keyspace(2),
            key: b"k",
            change: Op::Put { value: b"vv", kind: Kind(3), expiry: Expiry(9) },
        };
        let delete = OpRef { keyspace: Keyspace(0), key: b"d", change: Op::Delete };
        let expected: &[u8] = &[
            1, 0, 0, 0, 2, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, // record: type, ops, commit
            1, 3, 2, 0, 1, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, b'k', b'v', b'v', // put
            2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'd', // delete
        ];
        assert_eq!(encoded(77, &[], &[put, delete]), expected);
    }

    #[test]
    fn golden_bytes_of_a_part_and_a_void() {
        let delete = OpRef { keyspace: Keyspace(0), key: b"d", change: Op::Delete };
        let expected: &[u8] = &[
            2, 0, 2, 0, 1, 0, 0, 0, 78, 0, 0, 0, 0, 0, 0, 0, // record: type, shards, ops, commit
            1, 0, 4, 1, // shards
            2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'd', // delete
        ];
        assert_eq!(encoded(78, &[ShardId(1), ShardId(260)], &[delete]), expected);
        let mut void = [0xff; VOID_LEN];
        encode_void(&mut void, CommitTs(78));
        assert_eq!(void, [3, 0, 0, 0, 0, 0, 0, 0, 78, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordRef::decode(&void).unwrap().kind, RecordKind::Void);
    }

    #[test]
    fn golden_bytes_of_a_part_that_carries_another() {
        let delete = |key| OpRef { keyspace: Keyspace(0), key, change: Op::Delete };
        let mut carried = Vec::new();
        carry(&mut carried, ShardId(260), CommitTs(70), [delete(b"e")].into_iter());
        let shards = [ShardId(1), ShardId(260)];
        let bytes = joined(78, Joined { shards: &shards, carried: &carried }, &[delete(b"d")]);
        let expected: &[u8] = &[
            4, 0, 2, 0, 1, 0, 0, 0, 78, 0, 0, 0, 0, 0, 0, 0, // record: type, shards, ops, commit
            1, 0, 4, 1, // shards
            45, 0, 0, 0, // bytes of what is carried
            4, 1, 0, 0, 1, 0, 0, 0, 21, 0, 0, 0, 0, 0, 0, 0, 70, 0, 0, 0, 0, 0, 0, 0, // shard, ops, bytes, before
            2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'e', // delete
            2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'd', // delete
        ];
        assert_eq!(bytes, expected);
        let record = RecordRef::decode(&bytes).unwrap();
        let [part] = record.carried()[..] else { panic!("it carries one") };
        assert_eq!((part.shard, part.before), (ShardId(260), CommitTs(70)));
        assert_eq!(part.to_part(), encoded(78, &shards, &[delete(b"e")]));
    }

    #[test]
    fn what_carries_the_part_of_no_shard_it_names_is_refused() {
        let carry_all = |of: &[u16]| {
            let mut carried = Vec::new();
            of.iter().for_each(|shard| carry(&mut carried, ShardId(*shard), CommitTs(1), std::iter::empty()));
            joined(9, Joined { shards: &[ShardId(1), ShardId(2), ShardId(4)], carried: &carried }, &[])
        };
        assert!(RecordRef::decode(&carry_all(&[2, 4])).is_ok());
        for of in [&[3][..], &[4, 2], &[2, 2], &[5]] {
            assert_eq!(RecordRef::decode(&carry_all(of)).unwrap_err(), BadRecord::Shards, "{of:?}");
        }
        let mut nothing = encoded(9, &[ShardId(1), ShardId(2)], &[]);
        nothing[0] = TYPE_CARRIER;
        assert_eq!(RecordRef::decode(&nothing).unwrap_err(), BadRecord::TooShort);
        nothing.extend([0; CARRIED_LEN]);
        assert_eq!(RecordRef::decode(&nothing).unwrap_err(), BadRecord::Shards);
        let mut set = carry_all(&[2]);
        set[RECORD_HEADER_LEN + 3 * SHARD_LEN + CARRIED_LEN + 2] = 1;
        assert_eq!(RecordRef::decode(&set).unwrap_err(), BadRecord::Reserved);
    }

    #[test]
    fn what_is_no_list_of_several_shards_is_refused() {
        for shards in [&[3][..], &[3, 3], &[4, 3], &[]] {
            let shards: Vec<ShardId> = shards.iter().map(|n| ShardId(*n)).collect();
            let mut bytes = encoded(1, &shards, &[]);
            bytes[0] = TYPE_PART;
            assert_eq!(RecordRef::decode(&bytes).unwrap_err(), BadRecord::Shards, "{shards:?}");
        }
        let mut write = encoded(1, &[ShardId(1), ShardId(2)], &[]);
        write[0] = TYPE_WRITE;
        assert_eq!(RecordRef::decode(&write).unwrap_err(), BadRecord::Reserved);
    }

    proptest! {
        #[test]
        fn encode_and_decode_agree(ops in proptest::collection::vec(
            (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..40),
             proptest::option::of((proptest::collection::vec(any::<u8>(), 0..60), any::<u8>(), any::<u64>()))), 0..8),
            shards in proptest::collection::btree_set(any::<u16>(), 2..6), alone in any::<bool>(), carried in 0..6usize) {
            let refs: Vec<OpRef<'_>> = ops.iter().map(|(ks, key, put)| OpRef {
                keyspace: Keyspace(*ks),
                key,
                change: match put {
                    Some((value, kind, expiry)) => Op::Put { value, kind: Kind(*kind), expiry: Expiry(*expiry) },
                    None => Op::Delete,
                },
            }).collect();
            let shards: Vec<ShardId> = if alone { Vec::new() } else { shards.into_iter().map(ShardId).collect() };
            let mut bytes_carried = Vec::new();
            for shard in shards.iter().take(carried) {
                carry(&mut bytes_carried, *shard, CommitTs(shard.0.into()), refs.iter().copied());
            }
            let bytes = joined(5, Joined { shards: &shards, carried: &bytes_carried }, &refs);
            let record = RecordRef::decode(&bytes).unwrap();
            match record.kind {
                RecordKind::Write => prop_assert!(alone),
                RecordKind::Part(named) => prop_assert!(named.iter().eq(shards.iter().copied())),
                RecordKind::Void => prop_assert!(false),
            }
            prop_assert_eq!(record.commit_ts, CommitTs(5));
            let parts = record.carried();
            prop_assert!(parts.iter().map(|part| part.shard).eq(shards.iter().copied().take(carried)));
            for part in parts {
                prop_assert_eq!(part.before, CommitTs(part.shard.0.into()));
                prop_assert_eq!(part.to_part(), encoded(5, &shards, &refs));
            }
            let mut seen = Vec::new();
            record.for_each(|op| seen.push(op)).unwrap();
            prop_assert_eq!(seen, refs);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(record) = RecordRef::decode(&bytes) {
                let _ = record.check();
            }
        }
    }
}
