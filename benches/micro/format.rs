//! Records and the frames around them: the bytes of every put in the log.

use std::hint::black_box;

use corering_benches::data::{KS, VALUE, key};
use corering_engine::format::block::Op;
use corering_engine::format::frame::{self, FRAME_HEADER_LEN, frame_len};
use corering_engine::format::record::{self, Joined, OpRef, RecordRef};
use corering_engine::{CommitTs, Expiry, Kind, Life, Lsn};
use criterion::{BenchmarkId, Criterion, Throughput};

const LSN: Lsn = Lsn(4160);
const LIFE: Life = Life(7);

pub fn benches(c: &mut Criterion) {
    frames(c);
    records(c);
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for payload_len in [152, 4096, 65536] {
        let mut bytes = vec![0x5a; frame_len(payload_len)];
        frame::finish(&mut bytes, payload_len, LSN, LIFE);
        assert_eq!(frame::decode(&bytes, LSN, LIFE), Some(&bytes[FRAME_HEADER_LEN..]));
        group.throughput(Throughput::Bytes(payload_len as u64));
        group.bench_function(BenchmarkId::new("decode", payload_len), |b| {
            b.iter(|| frame::decode(black_box(&bytes), LSN, LIFE).map(<[u8]>::len));
        });
        group.bench_function(BenchmarkId::new("encode", payload_len), |b| {
            b.iter(|| frame::finish(black_box(&mut bytes), payload_len, LSN, LIFE));
        });
    }
    group.finish();
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    for count in [1, 100] {
        let keys: Vec<[u8; 16]> = (0..count).map(key).collect();
        let change = Op::Put { kind: Kind::BYTES, expiry: Expiry::NEVER, value: &VALUE };
        let ops = || keys.iter().map(|key| OpRef { keyspace: KS, key, change });
        let mut bytes = vec![0; record::encoded_len(Joined::ALONE, ops())];
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("encode", count), |b| {
            b.iter(|| {
                assert_eq!(record::encoded_len(Joined::ALONE, ops()), bytes.len());
                record::encode(black_box(&mut bytes), CommitTs(7), Joined::ALONE, ops());
            });
        });
        record::encode(&mut bytes, CommitTs(7), Joined::ALONE, ops());
        group.bench_function(BenchmarkId::new("decode", count), |b| {
            b.iter(|| {
                let mut seen = 0;
                let record = RecordRef::decode(black_box(&bytes)).expect("encoded above");
                record.for_each(|op| seen += op.key.len()).expect("encoded above");
                assert_eq!(seen, 16 * keys.len());
            });
        });
    }
    group.finish();
}
