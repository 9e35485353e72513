//! The disk's own limit: a write of one block, made durable by one call, on a file that was written with zeroes before.
//! A lone durable put cannot be faster; how much slower it is, is what the engine costs.

use std::path::Path;
use std::sync::Arc;

use corering_benches::{place, trial};
use corering_engine::runtime::host::Machine;
use corering_engine::runtime::{AlignedBuf, BLOCK, File, Host, OpenMode};
use criterion::{Criterion, Throughput};

const FILE_BYTES: u64 = 16 << 20;

pub fn benches(c: &mut Criterion) {
    let dir = place::new_dir("disk");
    let machine = Machine::new(dir.path(), false).expect("the directory was made");
    let file = machine.fs().open(Path::new("raw"), OpenMode::CreateNewDirect).expect("a new file");
    zero(&file);
    let mut group = c.benchmark_group("disk");
    for (name, len) in [("durable_write_4k", BLOCK), ("durable_write_64k", 16 * BLOCK)] {
        let mut buf = AlignedBuf::zeroed(len);
        buf.fill(0x5a);
        let mut offset = 0;
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                file.write_durable_blocking(offset, &buf).expect("a durable write");
                offset = (offset + len as u64) % FILE_BYTES;
            });
        });
    }
    group.finish();
}

fn zero(file: &Arc<dyn File>) {
    let zeroes = AlignedBuf::zeroed(1 << 20);
    let bytes = if trial() { 16 * BLOCK as u64 } else { FILE_BYTES };
    file.allocate(FILE_BYTES).expect("room on the disk");
    for offset in (0..bytes).step_by(zeroes.len()) {
        file.write_blocking(offset, &zeroes).expect("a write");
    }
    file.sync_data_blocking().expect("a sync");
}
