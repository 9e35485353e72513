//! For every layout that is read back: what was encoded is what is decoded. The fuzz targets (`fuzz/`) say the other half: what is decoded is
//! what would be encoded.

use corering_engine::format::batch::{BATCH_HEADER_LEN, BatchHeader, Frames, HeaderAt, body_is_right, decode_header};
use corering_engine::format::block::{BlockBuilder, BlockId, BlockRef, EntryRef, Op, cmp_versions};
use corering_engine::format::bloom::{self, BloomBuilder, BloomRef};
use corering_engine::format::ephemeral::{decode_entry, encode_entry, entry_key, parse_entry_key};
use corering_engine::format::footer::Footer;
use corering_engine::format::hold::{
    StoredHold, StoredSession, hold_key, parse_hold_key, parse_session_key, session_key,
};
use corering_engine::format::manifest::{KeyBound, Manifest, TableMeta};
use corering_engine::format::mirror::{self, CopyAt};
use corering_engine::format::record::{Joined, OpRef, RecordRef, encode, encoded_len};
use corering_engine::format::segment::{self, SEGMENT_HEADER_LEN, SegmentAt, SegmentHeader};
use corering_engine::format::superblock::Superblock;
use corering_engine::format::table_index::{BlockPlace, IndexBuilder, IndexRef};
use corering_engine::format::{footer, frame};
use corering_engine::wal::LogIdentity;
use corering_engine::wal::stage::{SLOT_BATCH_AT, begin_slot, find_slots};
use corering_engine::{CommitTs, Expiry, FencingToken, Keyspace, Kind, Life, Lsn, Mode, SessionId, ShardId};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn lsn() -> impl Strategy<Value = Lsn> {
    (0..=Lsn::LIMIT.0).prop_map(Lsn)
}

fn bytes(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=len_max)
}

fn mode() -> impl Strategy<Value = Mode> {
    let semaphore =
        (1..=u32::MAX).prop_flat_map(|permits| (1..=permits).prop_map(move |units| Mode::Semaphore { permits, units }));
    prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared), semaphore]
}

/// Keyspace, key, and what a version says.
type Written = (u16, Vec<u8>, Option<(Vec<u8>, u8, u64)>);

fn written() -> impl Strategy<Value = Written> {
    (any::<u16>(), bytes(40), proptest::option::of((bytes(60), any::<u8>(), any::<u64>())))
}

fn op(put: &Option<(Vec<u8>, u8, u64)>) -> Op<'_> {
    match put {
        Some((value, kind, expiry)) => Op::Put { kind: Kind(*kind), expiry: Expiry(*expiry), value },
        None => Op::Delete,
    }
}

/// Frames one behind the other from `lsn` on.
fn frames(payloads: &[Vec<u8>], mut lsn: Lsn, life: Life) -> Vec<u8> {
    let mut out = Vec::new();
    for payload in payloads {
        let mut bytes = vec![0; frame::frame_len(payload.len())];
        bytes[frame::FRAME_HEADER_LEN..].copy_from_slice(payload);
        frame::finish(&mut bytes, payload.len(), lsn, life);
        lsn = lsn.advance(bytes.len() as u64);
        out.extend_from_slice(&bytes);
    }
    out
}

fn table((key, other): (Vec<u8>, Vec<u8>), numbers: [u64; 8]) -> TableMeta {
    let [id, bytes, entries, keys, deletes, min_ts, max_ts, ring_version] = numbers;
    let (lower, upper) = if key <= other { (key, other) } else { (other, key) };
    TableMeta {
        id,
        bytes,
        entries,
        keys,
        deletes,
        min_ts: CommitTs(min_ts),
        max_ts: CommitTs(max_ts),
        ring_version,
        lower: KeyBound::of(Keyspace(1), &lower),
        upper: KeyBound::of(Keyspace(1), &upper),
    }
}

proptest! {
    #[test]
    fn frame_and_batch(payloads in vec(vec(any::<u8>(), 1..300), 0..8), lsn in lsn(), durable in lsn(), life: u64, db_id: u64, shard: u16, settled: u64) {
        let life = Life(life);
        let body = frames(&payloads, lsn.advance(BATCH_HEADER_LEN as u64), life);
        let header = BatchHeader {
            db_id, shard: ShardId(shard), life, lsn, durable, payload_len: body.len() as u32, frames: payloads.len() as u32,
            settled: CommitTs(settled),
        };
        let mut bytes = vec![0; header.len()];
        header.encode(&mut bytes);
        bytes[BATCH_HEADER_LEN..BATCH_HEADER_LEN + body.len()].copy_from_slice(&body);
        prop_assert_eq!(decode_header(&bytes), HeaderAt::Valid(header));
        prop_assert!(body_is_right(&header, &bytes));
        let found = Frames::new(&bytes[BATCH_HEADER_LEN..], lsn.advance(BATCH_HEADER_LEN as u64), life);
        prop_assert!(found.map(|(_, payload)| payload).eq(payloads.iter().map(Vec::as_slice)));
    }

    #[test]
    fn record(ops in vec(written(), 0..8), ts: u64, shards in proptest::collection::btree_set(any::<u16>(), 2..5), alone: bool) {
        let refs: Vec<OpRef<'_>> =
            ops.iter().map(|(keyspace, key, put)| OpRef { keyspace: Keyspace(*keyspace), key, change: op(put) }).collect();
        let shards: Vec<ShardId> = if alone { Vec::new() } else { shards.into_iter().map(ShardId).collect() };
        let joined = Joined { shards: &shards, carried: &[] };
        let mut bytes = vec![0xff; encoded_len(joined, refs.iter().copied())];
        encode(&mut bytes, CommitTs(ts), joined, refs.iter().copied());
        let record = RecordRef::decode(&bytes).unwrap();
        let mut seen = Vec::new();
        record.for_each(|op| seen.push(op)).unwrap();
        prop_assert_eq!((record.commit_ts, seen), (CommitTs(ts), refs));
    }

    #[test]
    fn segment_header(db_id: u64, shard: u16, sequence: u64, base_lsn in lsn(), life: u64) {
        let header = SegmentHeader { db_id, shard: ShardId(shard), sequence, base_lsn, life: Life(life) };
        let mut bytes = vec![0xff; SEGMENT_HEADER_LEN];
        header.encode(&mut bytes);
        prop_assert_eq!(segment::decode(&bytes), SegmentAt::Valid(header));
        // A name has sixteen digits.
        let sequence = sequence % 10_000_000_000_000_000;
        prop_assert_eq!(segment::parse_name(&segment::file_name(sequence)), Some(sequence));
    }

    #[test]
    fn superblock(
        db_id: u64,
        numbers in prop::array::uniform8(any::<u64>()),
        vnodes in 1..=u16::MAX,
        shards in 1..=u16::MAX,
    ) {
        let [life, ring_version, reserved, unsynced_lease_ms, boot, history, sessions, sessions_lost_boot] = numbers;
        let (life, reserved_commits, history_after) = (Life(life), CommitTs(reserved), CommitTs(history));
        let superblock = Superblock {
            db_id,
            life,
            ring_version,
            vnodes,
            shards,
            reserved_commits,
            unsynced_lease_ms,
            boot,
            history_after,
            sessions_lost: CommitTs(sessions),
            sessions_lost_boot,
        };
        prop_assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }

    #[test]
    fn mirrored_copy(sequence: u64, payload in bytes(2000), behind in bytes(20)) {
        let mut bytes = mirror::encode(sequence, &payload);
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(mirror::decode(&bytes), CopyAt::Valid { sequence, payload });
    }

    #[test]
    fn manifest(keys in btree_set(bytes(300), 0..12), numbers: [u64; 8], db_id: u64, lsn in lsn(), shard: u16) {
        // Each table ends where it begins, so that any set of keys makes a run.
        let run: Vec<TableMeta> = keys.iter().map(|key| table((key.clone(), key.clone()), numbers)).collect();
        let [ring_version, next_file, max_ts, ..] = numbers;
        let manifest = Manifest {
            db_id, shard: ShardId(shard), ring_version, next_file, replay_from: lsn, max_ts: CommitTs(max_ts), runs: vec![run, vec![]],
        };
        prop_assert_eq!(Manifest::decode(&manifest.encode().unwrap()), Ok(manifest));
    }

    #[test]
    fn table_footer(numbers: [u64; 8], bounds in (bytes(300), bytes(300)), parts: [u32; 5], db_id: u64, shard: u16, blocks: u32) {
        let mut ends = parts.map(u64::from);
        ends.sort_unstable();
        let file_len = ends[4] + footer::FOOTER_LEN as u64;
        let mut meta = table(bounds, numbers);
        meta.bytes = file_len;
        let footer = Footer {
            db_id, shard: ShardId(shard), blocks, data_len: ends[0], index: ends[1]..ends[2], bloom: ends[3]..ends[4], meta,
        };
        prop_assert_eq!(Footer::decode(&footer.encode(), file_len), Ok(footer));
    }

    #[test]
    fn data_block(entries in vec((written(), any::<u64>()), 0..20), db_id: u64, table_id: u64, number: u32) {
        let id = BlockId { db_id, table_id, number };
        let mut refs: Vec<EntryRef<'_>> = entries.iter()
            .map(|((keyspace, key, put), ts)| EntryRef { keyspace: Keyspace(*keyspace), key, ts: CommitTs(*ts), op: op(put) })
            .collect();
        let version = |entry: &EntryRef<'_>| (entry.keyspace, entry.key.to_vec(), entry.ts);
        refs.sort_by(|a, b| cmp_versions((a.keyspace, a.key, a.ts), (b.keyspace, b.key, b.ts)));
        refs.dedup_by(|a, b| version(a) == version(b));
        let mut builder = BlockBuilder::new();
        refs.iter().for_each(|entry| builder.push(entry, bloom::hash(entry.keyspace, entry.key)));
        let bytes = builder.finish(id);
        let block = BlockRef::open(bytes, bytes.len() as u32, id).unwrap();
        prop_assert_eq!((block.verify_crc(), block.verify_entries()), (Ok(()), Ok(())));
        prop_assert!((0..block.count()).map(|i| block.entry(i).unwrap()).eq(refs));
    }

    #[test]
    fn table_index(entries in vec((any::<u64>(), any::<u32>(), any::<u16>(), bytes(40), any::<u64>()), 0..20), db_id: u64, table_id: u64) {
        let mut builder = IndexBuilder::default();
        let entry = |(at, len, keyspace, key, ts): &(u64, u32, u16, Vec<u8>, u64)| {
            (BlockPlace { at: *at, len: *len }, (Keyspace(*keyspace), key.clone(), CommitTs(*ts)))
        };
        for (place, (keyspace, key, ts)) in entries.iter().map(entry) {
            builder.push(place, (keyspace, &key, ts));
        }
        let bytes = builder.finish(db_id, table_id);
        let index = IndexRef::open(&bytes, db_id, table_id).unwrap();
        let found = (0..index.count()).map(|i| index.entry(i).unwrap()).map(|(place, (ks, key, ts))| (place, (ks, key.to_vec(), ts)));
        prop_assert!(found.eq(entries.iter().map(entry)));
    }

    #[test]
    fn table_filter(keys in vec((any::<u16>(), bytes(20)), 0..200), room in 0..200_usize, db_id: u64, table_id: u64) {
        let hashes: Vec<u64> = keys.iter().map(|(keyspace, key)| bloom::hash(Keyspace(*keyspace), key)).collect();
        let mut builder = BloomBuilder::new(room, db_id, table_id);
        builder.add(&hashes);
        let bytes = builder.finish();
        let filter = BloomRef::open(&bytes, db_id, table_id).unwrap();
        prop_assert!(hashes.iter().all(|hash| filter.may_hold(*hash)));
    }

    #[test]
    fn stage_slot(payloads in vec(vec(any::<u8>(), 1..300), 1..8), lsn in lsn(), previous in lsn(), life: u64, db_id: u64, shard: u16) {
        let (id, life) = (LogIdentity { db_id, shard: ShardId(shard) }, Life(life));
        let body = frames(&payloads, lsn.advance(BATCH_HEADER_LEN as u64), life);
        let mut stage = vec![0; SLOT_BATCH_AT + BATCH_HEADER_LEN];
        begin_slot(&mut stage, id, life, lsn, previous);
        stage.extend_from_slice(&body);
        stage.extend_from_slice(&[0; 64]);
        let found = find_slots(&stage, id, life);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!((found[0].lsn, found[0].previous, found[0].frames), (lsn, previous, payloads.len() as u32));
        prop_assert_eq!(&found[0].payload, &body);
    }

    #[test]
    fn hold_of_a_lock(name in bytes(60), session: u64, mode in mode(), count in 1..=u32::MAX, numbers: [u64; 3]) {
        let [token, lease, since_unix_ms] = numbers;
        // Zero says that there is none.
        let (token, lease_ms) = (Some(token).filter(|n| n % 2 > 0).map(FencingToken), Some(lease).filter(|n| n % 2 > 0));
        let hold = StoredHold { mode, count, token, lease_ms, since_unix_ms };
        prop_assert_eq!(StoredHold::decode(&hold.encode()), Ok(hold));
        let mut key = Vec::new();
        hold_key(&name, SessionId(session), &mut key);
        prop_assert_eq!(parse_hold_key(&key), Ok((name.as_slice(), SessionId(session))));
    }

    #[test]
    fn session(id: u64, secret: u128, ttl_ms: u64, label in bytes(60)) {
        let session = StoredSession { secret, ttl_ms, label };
        prop_assert_eq!(StoredSession::decode(&session.encode()), Ok(session));
        prop_assert_eq!(parse_session_key(&session_key(SessionId(id))), Ok(SessionId(id)));
    }

    #[test]
    fn entry_of_an_ephemeral_key(key in bytes(60), keyspace: u16, session: u64) {
        prop_assert_eq!(decode_entry(&encode_entry(SessionId(session))), Ok(SessionId(session)));
        let entry = entry_key(Keyspace(keyspace), &key);
        prop_assert_eq!(parse_entry_key(&entry), Ok((Keyspace(keyspace), key.as_slice())));
    }
}
