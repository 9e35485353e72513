//! A check of a closed database: clean ones are clean, one flipped bit is named with its file and byte, and nothing is
//! changed on disk.

use std::path::Path;
use std::sync::Arc;

use corering_engine::check::{CheckReport, check, check_on, stat, stat_on};
use corering_engine::runtime::Host;
use corering_engine::runtime::sim::{CrashKind, Disk, Sim, SimConfig};
use corering_engine::{Durability, Engine, Error, Keyspace, Options, WriteOptions};

const COPY_LEN: u64 = 1 << 20;
const BLOCK: u64 = 4096;

fn options() -> Options {
    Options { shards: Some(2), segment_bytes: 64 << 10, memtable_bytes: 64 << 10, ..Options::default() }
}

async fn put(engine: &Engine, numbers: std::ops::Range<u32>) {
    let options = WriteOptions { durability: Some(Durability::Sync), ..WriteOptions::default() };
    for number in numbers {
        let value = vec![number as u8; 300];
        engine.client().put(Keyspace::DEFAULT, &number.to_le_bytes(), &value, options).await.unwrap();
    }
}

fn machine(disk: Disk) -> Sim {
    Sim::with(5, SimConfig::of_seed(5), disk)
}

fn disk_of(sim: &Sim) -> Disk {
    sim.disk(|disk| disk.clone())
}

/// Tables and an empty log.
fn closed() -> Disk {
    let sim = machine(Disk::new());
    let host = sim.host();
    sim.block_on(async move {
        let engine = Engine::open_on(host, options()).await.unwrap();
        put(&engine, 0..60).await;
        engine.close_async().await.unwrap();
    })
    .unwrap();
    let disk = disk_of(&sim);
    sim.power_off();
    disk
}

/// Tables, and behind them a log that is to be replayed.
fn killed() -> Disk {
    let sim = machine(closed());
    let host = sim.host();
    sim.block_on(async move {
        let engine = Engine::open_on(host, options()).await.unwrap();
        put(&engine, 60..90).await;
        // The last handle must not go while its shards run.
        std::mem::forget(engine);
    })
    .unwrap();
    sim.crash(CrashKind::Process);
    let disk = disk_of(&sim);
    sim.power_off();
    disk
}

/// The report, and the disk is as it was.
fn report(disk: Disk) -> CheckReport {
    let before = disk.fingerprint();
    let sim = machine(disk);
    let host = sim.host();
    let mut bytes = 0;
    let report = sim.block_on(check_on(host, &mut |progress| bytes = progress.bytes_read)).unwrap().unwrap();
    assert!(bytes >= report.bytes_read());
    assert_eq!(disk_of(&sim).fingerprint(), before, "a check changes nothing");
    sim.power_off();
    report
}

fn flipped(disk: &Disk, path: &str, byte: u64) -> CheckReport {
    let mut disk = disk.clone();
    disk.flip_bit(path, byte, 3).unwrap();
    report(disk)
}

/// The one damage, in the file and within the block that starts at `offset`.
fn assert_names(report: &CheckReport, path: &str, offset: u64) {
    let named = |d: &&corering_engine::check::Damage| d.path.ends_with(path) && d.offset == offset;
    assert!(report.damages.iter().any(|d| named(&d)), "{path} at {offset}: {report}");
    assert_eq!(report.damages.len(), 1, "one bit is one damage: {report}");
    assert_eq!(report.shards.len(), 2, "it goes on after damage: {report}");
}

fn files(disk: &Disk, end: &str) -> Vec<(String, u64)> {
    disk.files().into_iter().filter(|(path, _)| path.ends_with(end)).collect()
}

#[test]
fn a_clean_database_is_clean_closed_or_killed() {
    let clean = report(closed());
    assert!(clean.is_clean() && clean.notes.is_empty(), "{clean}");
    assert_eq!(clean.shards.iter().map(|s| s.entries).sum::<u64>(), 60, "{clean}");
    assert!(clean.to_string().ends_with("no damage found"));
    let killed = report(killed());
    assert!(killed.is_clean(), "{killed}");
    let logged: u64 = killed.shards.iter().map(|s| s.log_records + s.stage_records).sum();
    assert_eq!(logged, 30, "{killed}");
}

#[test]
fn a_flipped_bit_in_a_root_record_is_named_and_the_rest_is_checked() {
    let disk = closed();
    for path in ["superblock", "shard-0000/manifest", "shard-0001/manifest"] {
        for copy in [0, COPY_LEN] {
            for byte in [0, 9, 13, 17, 40] {
                assert_names(&flipped(&disk, path, copy + byte), path, copy);
            }
        }
    }
    let mut both = disk;
    both.flip_bit("shard-0001/manifest", 30, 0).unwrap();
    both.flip_bit("shard-0001/manifest", COPY_LEN + 30, 0).unwrap();
    let report = report(both);
    assert_eq!(report.damages.len(), 2, "{report}");
    assert!(report.shards[0].entries > 0, "{report}");
}

#[test]
fn a_flipped_bit_anywhere_in_a_table_is_named() {
    let disk = closed();
    let tables = files(&disk, ".table");
    assert_eq!(tables.len(), 2);
    for (path, len) in tables {
        for byte in (0..len).step_by(97) {
            let report = flipped(&disk, &path, byte);
            let [damage] = &report.damages[..] else { panic!("byte {byte} of {path}: {report}") };
            assert!(damage.path.ends_with(&path), "{report}");
            // A block, the index, the filter and the footer each check themselves as a whole.
            assert!(damage.offset <= len, "{report}");
            assert!(damage.offset.abs_diff(byte) <= 4 * BLOCK, "byte {byte} of {path}: {report}");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_log_below_the_durable_mark_is_named() {
    let disk = killed();
    let mut named = 0;
    for (path, len) in files(&disk, ".seg") {
        let bytes = disk.read(&path).unwrap();
        let blocks = (1..len / BLOCK).filter(|block| bytes[(block * BLOCK) as usize..].starts_with(b"CRba"));
        let blocks: Vec<u64> = blocks.collect();
        // The last batch has nobody behind it who knew it to be durable, nor has the one before it (its sync may not have
        // returned when the last header was made); before replay starts nothing is read.
        for block in &blocks {
            for byte in [3, 20, 50, 70] {
                let report = flipped(&disk, &path, block * BLOCK + byte);
                if report.is_clean() {
                    continue;
                }
                assert_names(&report, &path, block * BLOCK);
                named += 1;
            }
        }
    }
    assert!(named > 40, "{named}");
}

#[test]
fn a_flipped_bit_in_a_segment_header_is_named() {
    for disk in [closed(), killed()] {
        let mut named = 0;
        for (path, _) in files(&disk, ".seg") {
            if !disk.read(&path).unwrap().starts_with(b"CRsegmnt") {
                continue;
            }
            for byte in [0, 8, 20, 32, 40, 4000] {
                assert_names(&flipped(&disk, &path, byte), &path, 0);
                named += 1;
            }
        }
        assert!(named >= 12, "{named}");
    }
}

#[test]
fn strange_files_are_noted_and_missing_ones_are_damage() {
    let mut disk = closed();
    for path in ["old", "shard-0000/notes", "shard-0001/wal/x", "shard-0001/tables/0000009999.table"] {
        disk.write(path, b"?").unwrap();
    }
    let found = report(disk.clone());
    assert!(found.is_clean(), "{found}");
    assert_eq!(found.notes.len(), 4, "{found}");
    let sim = machine(disk);
    let fs = sim.host().fs();
    let (table, _) = files(&disk_of(&sim), "1.table").swap_remove(0);
    fs.remove_file(Path::new(&table)).unwrap();
    let found = report(disk_of(&sim));
    assert_eq!(found.damages.len(), 1, "{found}");
    assert!(found.damages[0].path.ends_with(&table), "{found}");
}

/// Put a simulated disk's files into a directory of this machine.
fn copy_out(disk: &Disk) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, _) in disk.files() {
        let to = dir.path().join(&path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, disk.read(&path).unwrap()).unwrap();
    }
    dir
}

#[test]
fn a_directory_of_this_machine_is_checked_and_told_of() {
    let disk = closed();
    let dir = copy_out(&disk);
    let report = check(dir.path(), &mut |_| ()).unwrap();
    assert!(report.is_clean(), "{report}");
    let told = stat(dir.path()).unwrap();
    let sim = machine(disk);
    let mut simulated = sim.block_on(stat_on(sim.host())).unwrap().unwrap();
    simulated.path.clone_from(&told.path);
    assert_eq!(told, simulated);
    assert_eq!(told.shards.iter().map(|s| s.keys).sum::<u64>(), 60, "{told}");
    let (path, len) = files(&disk_of(&sim), ".table").swap_remove(0);
    let mut bytes = std::fs::read(dir.path().join(&path)).unwrap();
    bytes[100] ^= 1;
    assert_eq!(bytes.len() as u64, len);
    std::fs::write(dir.path().join(&path), bytes).unwrap();
    let report = check(dir.path(), &mut |_| ()).unwrap();
    assert_eq!(report.damages.len(), 1, "{report}");
}

#[test]
fn an_open_database_and_an_empty_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(check(dir.path(), &mut |_| ()), Err(Error::InvalidArgument { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a directory that is none of ours stays as it is");
    let sim = machine(closed());
    let host: Arc<dyn Host> = sim.host();
    let lock = host.fs().lock(Path::new("LOCK")).unwrap();
    let refused = sim.block_on(check_on(Arc::clone(&host), &mut |_| ())).unwrap();
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    drop(lock);
    sim.block_on(check_on(host, &mut |_| ())).unwrap().unwrap();
}
