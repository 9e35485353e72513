//! The steps that are counted, each a function of its own that valgrind is told to look into.
//!
//! The engine runs in the simulation: no ring, which valgrind does not know, no thread, and the same bytes each time. A step is done
//! many times, on what was prepared outside of it; one of the other kind (a flush, a growing index) would disturb it, so that none
//! falls into it.

use std::hint::black_box;
use std::ops::Bound;
use std::sync::Arc;

use corering_benches::data::{KS, VALUE, at, key};
use corering_daemon::resp::{Decoder, Limits, Next};
use corering_engine::format::block::Op;
use corering_engine::format::frame::{self, frame_len};
use corering_engine::format::record::{self, Joined, OpRef, RecordRef};
use corering_engine::lock::table::{Ask, Decision, LockTable};
use corering_engine::ring::{Ring, VNODES};
use corering_engine::runtime::Host;
use corering_engine::runtime::sim::{Disk, Latency, Pace, Policy, Sim, SimConfig};
use corering_engine::{
    Acquire, Client, CommitTs, Durability, Engine, Expiry, FencingToken, Kind, Life, LockHandle, Lsn, Mode, NewSession,
    Options, Pending, Scan, ScanRange, SessionId, SessionKey, Wait, WriteBatch, WriteOptions,
};

/// Keys of the database: just above a growth of the index and the insertions that it is spread over, so that none falls into a step.
const KEYS: u64 = 26_000;
/// How often a step is done; its records fit into one batch of the log.
const TIMES: usize = 200;
const MANY: usize = 16;
const ROWS: u64 = 2000;
const LIMITS: Limits =
    Limits { authenticated: true, bulk_len: 1 << 20, kept_bulk_len: 1 << 20, kept_request_len: 1 << 20 };

/// A step's name, and how many operations one run of it does.
pub const STEPS: &[(&str, u64)] = &[
    ("ring_lookup", TIMES as u64),
    ("record_encode", TIMES as u64),
    ("record_decode", TIMES as u64),
    ("frame_encode", TIMES as u64),
    ("frame_decode", TIMES as u64),
    ("resp_parse", TIMES as u64),
    ("get_hot", TIMES as u64),
    ("get_absent", TIMES as u64),
    ("multi_get", (TIMES * MANY) as u64),
    ("put_none", TIMES as u64),
    ("put_new_key_none", TIMES as u64),
    ("put_sync_until_flush", TIMES as u64),
    ("put_sync_flush_and_answer", TIMES as u64),
    ("batch_of_100_none", 300),
    ("lock_in_table", TIMES as u64),
    ("lock_and_unlock", TIMES as u64),
    ("scan_memory", ROWS),
    ("scan_of_ten", TIMES as u64),
    ("get_table", TIMES as u64),
    ("scan_table", ROWS),
];

/// Do all of them, in this order.
pub fn run() {
    bytes();
    let config = SimConfig {
        processors: 1,
        latency: Latency {
            transfer_ns: (1000, 1000),
            sync_ns: (1000, 1000),
            name_ns: (1000, 1000),
            tail_one_in: u64::MAX,
        },
        policy: Policy::Oldest,
        pace: Pace::Steady,
        durable_way: None,
        region_points: false,
        ..SimConfig::of_seed(1)
    };
    let sim = Sim::with(1, config, Disk::new());
    let host: Arc<dyn Host> = sim.host();
    let options = Options { shards: Some(1), memtable_bytes: 1 << 30, ..Options::default() };
    let ran = sim.block_on(async move {
        let engine = Engine::open_on(host, options).await.expect("a new database");
        whole(&engine).await;
        engine.close_async().await.expect("a close");
    });
    ran.expect("the simulation runs to its end");
    sim.power_off();
}

fn bytes() {
    let ring = Ring::new(2, VNODES);
    counted_ring_lookup(&ring);
    let key = key(1);
    let op =
        OpRef { keyspace: KS, key: &key, change: Op::Put { kind: Kind::BYTES, expiry: Expiry::NEVER, value: &VALUE } };
    let mut encoded = vec![0; record::encoded_len(Joined::ALONE, std::iter::once(op))];
    counted_record_encode(&mut encoded, op);
    counted_record_decode(&encoded);
    let mut framed = vec![0x5a; frame_len(encoded.len())];
    counted_frame_encode(&mut framed, encoded.len());
    counted_frame_decode(&framed);
    let request = [b"*3\r\n$3\r\nSET\r\n$16\r\n".as_slice(), &key, b"\r\n$100\r\n", &VALUE, b"\r\n"].concat();
    counted_resp_parse(&mut Decoder::new(), &request.repeat(TIMES));
}

async fn whole(engine: &Engine) {
    let client = engine.client();
    load(&client).await;
    let keys: Vec<[u8; 16]> = (0..TIMES as u64).map(|i| key(i * 97 % KEYS)).collect();
    let absent: Vec<[u8; 16]> = (0..TIMES as u64).map(|i| key(2 * KEYS + i)).collect();
    let many: Vec<[u8; 16]> = (0..(TIMES * MANY) as u64).map(|i| key(i * 31 % KEYS)).collect();
    let many: Vec<&[u8]> = many.iter().map(|key| key.as_slice()).collect();
    counted_get_hot(&client, &keys);
    counted_get_absent(&client, &absent);
    counted_multi_get(&client, &many);
    settle(&client).await;
    counted_put_none(&client, &keys);
    settle(&client).await;
    counted_put_new_key_none(&client, &absent);
    settle(&client).await;
    let pending = counted_put_sync_until_flush(&client, &keys);
    counted_put_sync_flush_and_answer(pending);
    settle(&client).await;
    counted_batch_of_100_none(&client, batches());
    settle(&client).await;
    let session = NewSession { ttl: std::time::Duration::from_secs(3600), label: Vec::new() };
    let session = client.create_session(session).await.expect("a session");
    counted_lock_in_table(&mut LockTable::new(7), &keys);
    // The first one below `sync` writes a promise to the root record, and with it the simulated memory is looked through.
    lock_and_unlock(&client, session);
    settle(&client).await;
    counted_lock_and_unlock(&client, session);
    settle(&client).await;
    // The first scan has the shard keep order; the second is what is counted.
    let first = client.snapshot_async().await.expect("a snapshot");
    rows(&mut client.scan_async(&first, ScanRange::all(KS)).await.expect("a scan"));
    drop(first);
    let snapshot = client.snapshot_async().await.expect("a snapshot");
    counted_scan_memory(&mut client.scan_async(&snapshot, ScanRange::all(KS)).await.expect("a scan"));
    drop(snapshot);
    counted_scan_of_ten(&client, &keys);
    engine.checkpoint_async().await.expect("a checkpoint");
    // A block's checksum is looked at once.
    let snapshot = client.snapshot_async().await.expect("a snapshot");
    rows(&mut client.scan_async(&snapshot, ScanRange::all(KS)).await.expect("a scan"));
    get_found(&client, &keys);
    counted_get_table(&client, &keys);
    let snapshot = client.snapshot_async().await.expect("a snapshot");
    counted_scan_table(&mut client.scan_async(&snapshot, ScanRange::all(KS)).await.expect("a scan"));
}

async fn load(client: &Client) {
    for i in 0..KEYS {
        client.put(KS, &key(i), &VALUE, at(Durability::None)).await.expect("a put");
    }
    settle(client).await;
}

/// Nothing is left to be written: the next batch of the log is an empty one.
async fn settle(client: &Client) {
    client.sync().await.expect("a sync");
}

/// New keys. There is one shard, so that any may stand in a batch.
fn batches() -> Vec<WriteBatch> {
    let make = |batch: u64| {
        let mut made = WriteBatch::new();
        (0..100).for_each(|i| {
            made.put(KS, &key(4 * KEYS + batch * 100 + i), &VALUE);
        });
        made
    };
    (0..3).map(make).collect()
}

#[inline(never)]
fn counted_ring_lookup(ring: &Ring) {
    for i in 0..TIMES as u64 {
        black_box(ring.owner_of_key(black_box(&key(i))));
    }
}

#[inline(never)]
fn counted_record_encode(out: &mut [u8], op: OpRef<'_>) {
    for _ in 0..TIMES {
        let op = black_box(op);
        assert_eq!(record::encoded_len(Joined::ALONE, std::iter::once(op)), out.len());
        record::encode(black_box(&mut *out), CommitTs(7), Joined::ALONE, std::iter::once(op));
    }
}

#[inline(never)]
fn counted_record_decode(bytes: &[u8]) {
    for _ in 0..TIMES {
        let record = RecordRef::decode(black_box(bytes)).expect("encoded before");
        record.for_each(|op| _ = black_box(op)).expect("encoded before");
    }
}

#[inline(never)]
fn counted_frame_encode(out: &mut [u8], payload_len: usize) {
    for _ in 0..TIMES {
        frame::finish(black_box(&mut *out), payload_len, Lsn(4160), Life(7));
    }
}

#[inline(never)]
fn counted_frame_decode(bytes: &[u8]) {
    for _ in 0..TIMES {
        assert!(frame::decode(black_box(bytes), Lsn(4160), Life(7)).is_some());
    }
}

#[inline(never)]
fn counted_resp_parse(decoder: &mut Decoder, bytes: &[u8]) {
    decoder.feed(bytes);
    for _ in 0..TIMES {
        match decoder.next(&LIMITS) {
            Ok(Next::Request(request)) => assert_eq!(black_box(request.arg(1)).len(), 16),
            _ => panic!("whole requests were fed"),
        }
    }
}

#[inline(never)]
fn counted_get_hot(client: &Client, keys: &[[u8; 16]]) {
    for key in keys {
        assert!(client.get_with(KS, key, |value| value.is_some_and(|it| it.bytes.len() == 100)).expect("a get"));
    }
}

#[inline(never)]
fn counted_get_absent(client: &Client, keys: &[[u8; 16]]) {
    for key in keys {
        assert!(client.get_with(KS, key, |value| value.is_none()).expect("a get"));
    }
}

#[inline(never)]
fn counted_multi_get(client: &Client, keys: &[&[u8]]) {
    for keys in keys.chunks(MANY) {
        let mut found = 0;
        client.multi_get_with(KS, keys, |value| found += usize::from(value.is_some())).expect("a multi_get");
        assert_eq!(found, keys.len());
    }
}

#[inline(never)]
fn counted_put_none(client: &Client, keys: &[[u8; 16]]) {
    // So that the linker does not take it and the next one for one.
    black_box("put_none");
    put_none(client, keys);
}

#[inline(never)]
fn counted_put_new_key_none(client: &Client, keys: &[[u8; 16]]) {
    put_none(client, keys);
}

fn put_none(client: &Client, keys: &[[u8; 16]]) {
    for key in keys {
        let pending = client.put(KS, key, &VALUE, at(Durability::None));
        assert!(pending.is_ready(), "it was done in place");
    }
}

#[inline(never)]
fn counted_put_sync_until_flush(client: &Client, keys: &[[u8; 16]]) -> Vec<Pending<CommitTs>> {
    keys.iter().map(|key| client.put(KS, key, &VALUE, at(Durability::Sync))).collect()
}

/// With the simulated disk's part, which is as constant as ours.
#[inline(never)]
fn counted_put_sync_flush_and_answer(pending: Vec<Pending<CommitTs>>) {
    for put in pending {
        put.wait().expect("a put");
    }
}

#[inline(never)]
fn counted_batch_of_100_none(client: &Client, batches: Vec<WriteBatch>) {
    for batch in batches {
        let options = WriteOptions { durability: Some(Durability::None), ..WriteOptions::default() };
        assert!(client.write_batch(batch, options).is_ready(), "it was done in place");
    }
}

/// A shard's table alone, as the shard uses it: a name is taken and let go.
#[inline(never)]
fn counted_lock_in_table(table: &mut LockTable<u64>, names: &[[u8; 16]]) {
    let ask = Ask { session: SessionId(7), mode: Mode::Exclusive, lease_ms: None };
    for (token, name) in (1..).zip(names) {
        let id = table.find_or_add(black_box(name));
        match table.decide(id, &ask, 0, 0) {
            Ok(Decision::Grant(hold)) => table.enter(id, hold, FencingToken(token), 0),
            other => panic!("{other:?}"),
        }
        let id = table.find(black_box(name)).expect("it is held");
        table.decide_release(id, ask.session, None, 0).expect("it is held");
        table.remove(id, ask.session);
        table.settle(id);
    }
}

#[inline(never)]
fn counted_lock_and_unlock(client: &Client, session: SessionKey) {
    (0..TIMES).for_each(|_| lock_and_unlock(client, session));
}

fn lock_and_unlock(client: &Client, session: SessionKey) {
    let durability = Some(Durability::None);
    let acquire = Acquire { session, mode: Mode::Exclusive, wait: Wait::No, lease: None, durability };
    let grant = client.acquire(b"a lock", acquire);
    assert!(grant.is_ready(), "nobody holds it");
    let released = client.release(LockHandle { name: b"a lock", session, token: None }, durability);
    assert!(released.is_ready(), "it was held");
}

#[inline(never)]
fn counted_scan_memory(scan: &mut Scan) {
    black_box("scan_memory");
    rows(scan);
}

/// With all that it takes to begin.
#[inline(never)]
fn counted_scan_of_ten(client: &Client, keys: &[[u8; 16]]) {
    for key in keys {
        let snapshot = client.snapshot().expect("a snapshot");
        let range = ScanRange { lower: Bound::Included(key.to_vec()), ..ScanRange::all(KS) };
        let mut scan = client.scan(&snapshot, range).expect("a scan");
        for _ in 0..10 {
            let Some((key, value)) = scan.next_ref().expect("a row") else { break };
            black_box((key.len(), value.bytes.len()));
        }
    }
}

#[inline(never)]
fn counted_scan_table(scan: &mut Scan) {
    rows(scan);
}

fn rows(scan: &mut Scan) {
    for _ in 0..ROWS {
        let (key, value) = scan.next_ref().expect("a row").expect("there are more");
        black_box((key.len(), value.bytes.len()));
    }
}

#[inline(never)]
fn counted_get_table(client: &Client, keys: &[[u8; 16]]) {
    get_found(client, keys);
}

fn get_found(client: &Client, keys: &[[u8; 16]]) {
    for key in keys {
        assert!(client.get_with(KS, key, |value| value.is_some()).expect("a get"));
    }
}
