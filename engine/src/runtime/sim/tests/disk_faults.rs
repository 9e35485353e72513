//! Each fault does what its name says, to the files its rule names and no others.

use super::*;
use crate::runtime::IoOp;

fn with_fault(seed: u64, fault: Fault, when: When) -> (Sim, Arc<dyn File>) {
    let sim = Sim::new(seed);
    let file = create(&sim.host().fs(), "a");
    file.write_durable_blocking(0, &buf(1, 4)).unwrap();
    sim.set_faults(Faults::new([FaultRule::new("a", fault, when)]));
    (sim, file)
}

fn bytes(sim: &Sim) -> Vec<u8> {
    sim.disk(|disk| disk.read("a").unwrap())
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
fn a_failed_read_or_write_is_eio_and_the_next_one_works() {
    let (sim, file) = with_fault(1, Fault::ReadError, When::Nth(0));
    let mut block = buf(0, 1);
    assert_eq!(errno(file.read_blocking(0, &mut block)), Some(libc::EIO));
    assert_eq!(file.read_blocking(0, &mut block).unwrap(), BLOCK);
    assert_eq!(sim.counters().fault(Fault::ReadError), 1);
    let (sim, file) = with_fault(1, Fault::WriteError, When::Nth(0));
    assert_eq!(errno(file.write_blocking(0, &buf(2, 4))), Some(libc::EIO));
    let after = bytes(&sim);
    assert!(after.contains(&1) && after.contains(&2), "a failed write was done in part");
}

#[test]
fn other_files_are_not_struck() {
    let (sim, _) = with_fault(1, Fault::WriteError, When::From(0));
    create(&sim.host().fs(), "b").write_blocking(0, &buf(2, 1)).unwrap();
}

#[test]
fn a_lost_write_reports_success() {
    let (sim, file) = with_fault(2, Fault::LostWrite, When::Nth(0));
    file.write_durable_blocking(0, &buf(2, 1)).unwrap();
    assert_eq!(bytes(&sim), vec![1; 4 * BLOCK]);
}

#[test]
fn a_misdirected_write_is_at_another_block() {
    let (sim, file) = with_fault(3, Fault::MisdirectedWrite, When::Nth(0));
    file.write_blocking(0, &buf(2, 1)).unwrap();
    let blocks: Vec<u8> = bytes(&sim).iter().step_by(BLOCK).copied().collect();
    assert_eq!(blocks[0], 1);
    assert_eq!(blocks.iter().filter(|b| **b == 2).count(), 1, "{blocks:?}");
}

#[test]
fn rot_flips_one_bit_for_good_and_maps_show_it() {
    let (sim, file) = with_fault(4, Fault::BitRot, When::Nth(0));
    let mut all = buf(0, 4);
    file.read_blocking(0, &mut all).unwrap();
    let flipped: u32 = all.iter().map(|b| (b ^ 1).count_ones()).sum();
    assert_eq!(flipped, 1);
    assert_eq!(*file.map().unwrap(), *all);
    sim.crash(CrashKind::Machine);
    assert_eq!(bytes(&sim), *all, "it is on the medium");
}

#[test]
fn a_failed_sync_cannot_be_made_good_by_another() {
    let mut lost = 0;
    for seed in 0..40 {
        let (sim, file) = with_fault(seed, Fault::SyncError, When::Nth(0));
        file.write_blocking(0, &buf(2, 1)).unwrap();
        assert_eq!(errno(file.sync_data_blocking()), Some(libc::EIO));
        file.sync_data_blocking().expect("the kernel reports an error once");
        assert_eq!(bytes(&sim)[0], 2, "reads still see it");
        sim.crash(CrashKind::Machine);
        lost += usize::from(bytes(&sim)[0] == 1);
    }
    assert!((5..35).contains(&lost), "{lost} of 40");
}

#[test]
fn a_failed_sync_of_a_directory_cannot_be_made_good_either() {
    let mut lost = 0;
    for seed in 0..40 {
        let sim = Sim::new(seed);
        sim.set_faults(Faults::new([FaultRule::new("", Fault::SyncDirError, When::Nth(0))]));
        let fs = sim.host().fs();
        fs.open(Path::new("a"), OpenMode::CreateNew).unwrap();
        assert_eq!(errno(fs.sync_dir(Path::new(""))), Some(libc::EIO));
        fs.sync_dir(Path::new("")).unwrap();
        sim.crash(CrashKind::Machine);
        lost += usize::from(sim.disk(|disk| disk.files().is_empty()));
    }
    assert!((5..35).contains(&lost), "{lost} of 40");
}

#[test]
fn short_transfers_say_how_short() {
    let (sim, file) = with_fault(5, Fault::ShortWrite, When::From(0));
    let executor = sim.executor("x");
    let done = sim.block_on(executor.io(&file, IoOp::Write { offset: 0, buf: buf(2, 2) })).unwrap();
    let n = done.result.unwrap();
    assert!(n < 2 * BLOCK && n.is_multiple_of(512));
    assert_eq!(bytes(&sim).iter().filter(|b| **b == 2).count(), n);
    assert_eq!(file.write_blocking(0, &buf(2, 2)).unwrap_err().kind(), std::io::ErrorKind::WriteZero);
    let (sim, file) = with_fault(5, Fault::ShortRead, When::From(0));
    let executor = sim.executor("x");
    let done = sim.block_on(executor.io(&file, IoOp::Read { offset: 0, buf: buf(0, 2) })).unwrap();
    assert!(done.result.unwrap() < 2 * BLOCK);
}

#[test]
fn a_slow_disk_takes_longer() {
    let time = |rules: Vec<FaultRule>| {
        let (sim, file) = with_fault(6, Fault::Slow, When::Nth(u64::MAX));
        sim.set_faults(Faults::new(rules));
        let executor = sim.executor("x");
        sim.block_on(executor.io(&file, IoOp::SyncData)).unwrap();
        sim.now_ns()
    };
    let slow = vec![FaultRule::new("a", Fault::Slow, When::From(0))];
    assert!(time(slow) > 5 * time(Vec::new()));
}

#[test]
fn a_full_disk_says_so_and_room_can_be_made() {
    let sim = Sim::new(7);
    sim.set_capacity(Some(8 * BLOCK as u64));
    let fs = sim.host().fs();
    let file = create(&fs, "a");
    file.allocate(4 * BLOCK as u64).unwrap();
    assert_eq!(errno(file.allocate(9 * BLOCK as u64)), Some(libc::ENOSPC));
    assert_eq!(file.size().unwrap(), 4 * BLOCK as u64, "the length is as it was");
    file.write_blocking(0, &buf(1, 4)).expect("reserved");
    let other = create(&fs, "b");
    other.write_blocking(0, &buf(1, 4)).unwrap();
    assert_eq!(errno(other.write_blocking(4 * BLOCK as u64, &buf(1, 1))), Some(libc::ENOSPC));
    fs.remove_file(Path::new("a")).unwrap();
    assert_eq!(errno(other.write_blocking(4 * BLOCK as u64, &buf(1, 1))), Some(libc::ENOSPC), "it is still open");
    drop(file);
    other.write_blocking(4 * BLOCK as u64, &buf(1, 1)).unwrap();
}

#[test]
fn swapped_blocks_and_flipped_bits_are_at_the_harness_hands() {
    let (sim, _) = with_fault(8, Fault::Slow, When::Nth(0));
    create(&sim.host().fs(), "b").write_durable_blocking(0, &buf(9, 1)).unwrap();
    sim.disk(|disk| {
        disk.swap_blocks((Path::new("a"), 1), (Path::new("b"), 0)).unwrap();
        disk.flip_bit("b", 0, 7).unwrap();
        assert!(disk.flip_bit("b", BLOCK as u64, 0).is_err());
        assert_eq!(disk.read("a").unwrap()[BLOCK], 9);
        assert_eq!(disk.read("b").unwrap()[..2], [0x81, 1]);
    });
}

#[test]
#[should_panic(expected = "not a multiple of 4096")]
fn a_misaligned_direct_transfer_is_our_mistake() {
    let sim = Sim::new(9);
    let file = create(&sim.host().fs(), "a");
    let _ = file.write_blocking(512, &buf(1, 1));
}

#[test]
#[should_panic(expected = "opened for reading")]
fn a_write_to_a_file_opened_for_reading_is_our_mistake() {
    let sim = Sim::new(9);
    let fs = sim.host().fs();
    create(&fs, "a");
    let _ = fs.open(Path::new("a"), OpenMode::Read).unwrap().write_blocking(0, b"x");
}

#[test]
fn each_seed_draws_its_own_mix_from_a_table() {
    let row = |kind, files, fault| FaultRow { kind, files, fault, chance: 500_000, why_we_survive: "" };
    let rows = [row("log", "a", Fault::WriteError), row("log", "a", Fault::Slow), row("other", "b", Fault::LostWrite)];
    let mut mixes = std::collections::BTreeSet::new();
    let mut struck = Counters::default();
    for seed in 0..60 {
        let faults = faults::draw(&rows, &mut Rng::new(seed));
        mixes.insert(format!("{faults:?}"));
        let (sim, file) = with_fault(seed, Fault::Slow, When::Nth(u64::MAX));
        sim.set_faults(faults);
        for _ in 0..8 {
            let _ = file.write_blocking(0, &buf(2, 1));
        }
        struck.absorb(&sim.counters());
        assert_eq!(sim.counters().fault(Fault::LostWrite), 0, "the row names another file");
    }
    assert!(mixes.len() > 20, "{} mixes", mixes.len());
    assert!(struck.fault(Fault::WriteError) > 10 && struck.fault(Fault::Slow) > 10, "{struck}");
}

#[test]
fn faults_can_be_switched_off_for_a_while() {
    let (sim, file) = with_fault(10, Fault::WriteError, When::From(0));
    sim.faults_enabled(false);
    file.write_blocking(0, &buf(2, 1)).unwrap();
    sim.faults_enabled(true);
    file.write_blocking(0, &buf(2, 1)).unwrap_err();
}

#[test]
fn the_wall_clock_jumps_and_the_other_does_not() {
    let sim = Sim::new(11);
    let clock = sim.host().clock();
    let (wall, monotonic) = (clock.wall_ms(), clock.monotonic_ns());
    sim.jump_wall_ms(-5_000);
    assert_eq!((clock.wall_ms(), clock.monotonic_ns()), (wall - 5_000, monotonic));
    sim.run_for(3_000_000).unwrap();
    assert!(clock.wall_ms() >= wall - 4_997);
}
