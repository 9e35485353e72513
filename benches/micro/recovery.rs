//! Opening a database whose log has to be replayed, as after a kill.
//!
//! A close would write tables and leave no log, so the directory is copied while the engine is open and quiet: what a kill at
//! that moment leaves. Each opening gets a copy of its own; only the opening is timed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use corering_benches::data::{self, Database};
use corering_benches::{place, trial};
use corering_engine::Engine;
use criterion::{Criterion, SamplingMode, Throughput};
use tempfile::TempDir;

/// Records of about 160 bytes each: 64 MB of log.
const RECORDS: u64 = 400_000;

pub fn benches(c: &mut Criterion) {
    let records = if trial() { 4_000 } else { RECORDS };
    let mut group = c.benchmark_group("recovery");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_millis(1));
    let image = killed(records);
    let bytes = open_copy(&image, records).1;
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("replay", |b| {
        b.iter_custom(|times| (0..times).map(|_| open_copy(&image, records).0).sum());
    });
    group.finish();
}

fn killed(records: u64) -> TempDir {
    let database = Database::loaded("log", records);
    let image = place::new_dir("image");
    copy(database.dir.path(), image.path());
    image
}

/// How long the opening took, and how many bytes of log it replayed.
fn open_copy(image: &TempDir, records: u64) -> (Duration, u64) {
    let dir = place::new_dir("replay");
    copy(image.path(), dir.path());
    let began = Instant::now();
    let engine = Engine::open(dir.path(), data::options()).unwrap_or_else(|e| panic!("cannot open the copy: {e}"));
    let took = began.elapsed();
    assert_eq!(engine.report().records_replayed(), records);
    let bytes = engine.report().bytes_replayed();
    drop(engine);
    (took, bytes)
}

/// The tree at `from`, on disk at `to`: its writing is not to be done while the opening is timed.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a name");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a kind of file").is_dir() {
            fs::create_dir(&target).expect("a new directory");
            copy(&entry.path(), &target);
        } else {
            match fs::copy(entry.path(), &target) {
                Ok(_) => fs::File::open(&target).and_then(|file| file.sync_all()).expect("a sync"),
                // A segment that was being prepared has got its name meanwhile; replay needs none.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => panic!("cannot copy {}: {error}", entry.path().display()),
            }
        }
    }
}
