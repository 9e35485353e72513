//! What a crash keeps and what it may take, each shown by a seed that does it.

use super::*;
use crate::runtime::IoOp;

const SEEDS: std::ops::Range<u64> = 0..60;

/// The distinct outcomes of a crash over many damage seeds.
fn outcomes<T: Ord>(
    kind: CrashKind,
    prepare: impl Fn(&Sim),
    look: impl Fn(&mut Disk) -> T,
) -> std::collections::BTreeSet<T> {
    SEEDS
        .map(|seed| {
            let sim = Sim::new(seed);
            prepare(&sim);
            sim.crash_with(kind, seed);
            sim.disk(&look)
        })
        .collect()
}

/// The first byte of each of the file's blocks; empty if it is gone.
fn firsts(disk: &mut Disk, path: &str) -> Option<Vec<u8>> {
    disk.read(path).ok().map(|bytes| bytes.iter().step_by(BLOCK).copied().collect())
}

#[test]
fn unsynced_bytes_may_vanish_each_block_on_its_own_and_synced_bytes_never() {
    let prepare = |sim: &Sim| {
        let file = create(&sim.host().fs(), "a");
        file.write_blocking(0, &buf(1, 2)).unwrap();
        file.sync_data_blocking().unwrap();
        file.write_blocking(0, &buf(2, 2)).unwrap();
    };
    let seen = outcomes(CrashKind::Machine, prepare, |disk| firsts(disk, "a").unwrap());
    let all: Vec<Vec<u8>> = vec![vec![1, 1], vec![1, 2], vec![2, 1], vec![2, 2]];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
    let seen = outcomes(CrashKind::Process, prepare, |disk| firsts(disk, "a").unwrap());
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [[2, 2]], "a killed process loses nothing it wrote");
}

#[test]
fn what_is_left_after_a_crash_is_durable() {
    for seed in SEEDS {
        let sim = Sim::new(seed);
        create(&sim.host().fs(), "a").write_blocking(0, &buf(2, 3)).unwrap();
        sim.crash(CrashKind::Machine);
        let first = sim.disk(|disk| disk.fingerprint());
        sim.crash(CrashKind::Machine);
        assert_eq!(sim.disk(|disk| disk.fingerprint()), first);
    }
}

#[test]
fn after_a_killed_process_the_unsynced_is_still_unsynced() {
    let prepare = |sim: &Sim| {
        create(&sim.host().fs(), "a").write_blocking(0, &buf(1, 1)).unwrap();
        sim.crash(CrashKind::Process);
        assert_eq!(sim.disk(|disk| firsts(disk, "a")), Some(vec![1]));
    };
    let seen = outcomes(CrashKind::Machine, prepare, |disk| firsts(disk, "a"));
    assert!(seen.contains(&Some(vec![])) && seen.contains(&Some(vec![1])), "{seen:?}");
}

#[test]
fn a_sync_covers_only_writes_that_had_returned_when_it_began() {
    let run = |seed: u64, await_write: bool| {
        let sim = Sim::new(seed);
        let file = create(&sim.host().fs(), "a");
        file.write_durable_blocking(0, &buf(1, 1)).unwrap();
        let executor = sim.executor("x");
        sim.block_on(async {
            let write = executor.io(&file, IoOp::Write { offset: 0, buf: buf(2, 1) });
            if await_write {
                write.await.result.unwrap();
                executor.io(&file, IoOp::SyncData).await.result.unwrap();
            } else {
                let sync = executor.io(&file, IoOp::SyncData);
                write.await.result.unwrap();
                sync.await.result.unwrap();
            }
        })
        .unwrap();
        sim.crash_with(CrashKind::Machine, seed);
        sim.disk(|disk| firsts(disk, "a").unwrap()[0])
    };
    assert!(SEEDS.map(|seed| run(seed, true)).all(|byte| byte == 2));
    assert!(SEEDS.map(|seed| run(seed, false)).any(|byte| byte == 1), "a sync that began too early was trusted");
}

#[test]
fn a_durable_write_says_nothing_of_earlier_writes() {
    let prepare = |sim: &Sim| {
        let file = create(&sim.host().fs(), "a");
        file.write_durable_blocking(0, &buf(1, 3)).unwrap();
        file.write_blocking(0, &buf(2, 1)).unwrap();
        file.write_durable_blocking(BLOCK as u64, &buf(3, 1)).unwrap();
    };
    let seen = outcomes(CrashKind::Machine, prepare, |disk| firsts(disk, "a").unwrap());
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [[1, 3, 1], [2, 3, 1]]);
}

#[test]
fn writes_are_torn_at_sectors_and_nowhere_else() {
    let prepare = |sim: &Sim| {
        let file = create(&sim.host().fs(), "a");
        file.write_durable_blocking(0, &buf(1, 1)).unwrap();
        file.write_blocking(0, &buf(2, 1)).unwrap();
    };
    let mut torn = 0;
    for bytes in outcomes(CrashKind::Machine, prepare, |disk| disk.read("a").unwrap()) {
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|b| *b == sector[0])));
        torn += usize::from(bytes.iter().any(|b| *b != bytes[0]));
    }
    assert!(torn > 3, "{torn} torn outcomes");
}

#[test]
fn a_write_in_flight_is_there_in_any_part_after_both_kinds() {
    for kind in [CrashKind::Process, CrashKind::Machine] {
        let prepare = |sim: &Sim| {
            let file = create(&sim.host().fs(), "a");
            file.write_durable_blocking(0, &buf(1, 2)).unwrap();
            let executor = sim.executor("x");
            let at = sim.crash_points();
            sim.crash_at(at, Phase::Before);
            let stop = sim.block_on(executor.io(&file, IoOp::Write { offset: 0, buf: buf(2, 2) })).unwrap_err();
            assert!(matches!(stop, Stop::Crashed { .. }), "{stop}");
        };
        let seen = outcomes(kind, prepare, |disk| disk.read("a").unwrap());
        assert!(seen.contains(&vec![1; 2 * BLOCK]) && seen.contains(&vec![2; 2 * BLOCK]), "{kind:?}");
        assert!(seen.len() > 4, "{kind:?}: {} outcomes", seen.len());
    }
}

#[test]
fn names_need_a_sync_of_their_directory() {
    let prepare = |sim: &Sim| {
        let fs = sim.host().fs();
        fs.create_dir(Path::new("d")).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        let file = fs.open(Path::new("d/kept"), OpenMode::CreateNew).unwrap();
        file.write_durable_blocking(0, b"x").unwrap();
        fs.sync_dir(Path::new("d")).unwrap();
        let file = fs.open(Path::new("d/loose"), OpenMode::CreateNew).unwrap();
        file.write_durable_blocking(0, b"y").unwrap();
    };
    let seen = outcomes(CrashKind::Machine, prepare, |disk| disk.files());
    let kept = ("d/kept".to_string(), 1);
    let loose = ("d/loose".to_string(), 1);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [vec![kept.clone()], vec![kept, loose]]);
}

#[test]
fn a_directory_that_was_not_synced_takes_its_synced_files_with_it() {
    let prepare = |sim: &Sim| {
        let fs = sim.host().fs();
        fs.create_dir(Path::new("d")).unwrap();
        fs.open(Path::new("d/a"), OpenMode::CreateNew).unwrap();
        fs.sync_dir(Path::new("d")).unwrap();
    };
    let seen = outcomes(CrashKind::Machine, prepare, |disk| disk.files().len());
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_rename_is_whole_or_not_at_all_and_may_outrun_the_content() {
    let prepare = |sim: &Sim| {
        let fs = sim.host().fs();
        let old = fs.open(Path::new("a"), OpenMode::CreateNew).unwrap();
        old.write_durable_blocking(0, b"old").unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        let new = fs.open(Path::new("a.new"), OpenMode::CreateNew).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        new.write_blocking(0, b"new").unwrap();
        fs.rename(Path::new("a.new"), Path::new("a")).unwrap();
    };
    let seen = outcomes(CrashKind::Machine, prepare, |disk| (disk.read("a").unwrap(), disk.read("a.new").ok()));
    let has = |a: &[u8], new: Option<&[u8]>| seen.contains(&(a.to_vec(), new.map(<[u8]>::to_vec)));
    assert!(has(b"old", Some(b"")) && has(b"old", Some(b"new")), "{seen:?}");
    assert!(has(b"new", None), "{seen:?}");
    assert!(has(b"", None), "the name without the content, for want of a sync before the rename: {seen:?}");
    let content: [&[u8]; 3] = [b"", b"new", &[0; 3]];
    for (a, new) in &seen {
        let done = new.is_none() && content.contains(&a.as_slice());
        let not_done = a == b"old" && new.as_ref().is_some_and(|new| content.contains(&new.as_slice()));
        assert!(done || not_done, "{a:?} {new:?}");
    }
}

#[test]
fn names_survive_in_any_subset_that_their_order_allows() {
    let prepare = |sim: &Sim| {
        let fs = sim.host().fs();
        for name in ["a", "b"] {
            fs.open(Path::new(name), OpenMode::CreateNew).unwrap();
        }
        fs.rename(Path::new("a"), Path::new("c")).unwrap();
    };
    let seen = outcomes(CrashKind::Machine, prepare, |disk| {
        disk.files().into_iter().map(|f| f.0).collect::<Vec<_>>().join("")
    });
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["", "a", "ab", "b", "bc", "c"]);
}

#[test]
fn a_removed_file_may_come_back_with_its_content() {
    let prepare = |sim: &Sim| {
        let fs = sim.host().fs();
        create(&fs, "a").write_durable_blocking(0, &buf(7, 1)).unwrap();
        fs.remove_file(Path::new("a")).unwrap();
    };
    let seen = outcomes(CrashKind::Machine, prepare, |disk| firsts(disk, "a"));
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [None, Some(vec![7])]);
}

#[test]
fn lengths_are_kept_apart_from_content() {
    let prepare = |sim: &Sim| {
        let file = create(&sim.host().fs(), "a");
        file.write_durable_blocking(0, &buf(1, 1)).unwrap();
        file.allocate(3 * BLOCK as u64).unwrap();
        file.write_blocking(BLOCK as u64, &buf(2, 2)).unwrap();
    };
    let seen = outcomes(CrashKind::Machine, prepare, |disk| firsts(disk, "a").unwrap());
    assert!(seen.contains(&vec![1]), "{seen:?}");
    assert!(seen.contains(&vec![1, 0, 0]), "{seen:?}");
    assert!(seen.contains(&vec![1, 2, 2]), "{seen:?}");
}

#[test]
fn a_cut_and_what_was_there_before_it_do_not_mix() {
    let prepare = |sim: &Sim| {
        let file = create(&sim.host().fs(), "a");
        file.write_durable_blocking(0, &buf(1, 2)).unwrap();
        file.set_len(BLOCK as u64).unwrap();
        file.write_blocking(BLOCK as u64, &buf(2, 1)).unwrap();
    };
    for bytes in outcomes(CrashKind::Machine, prepare, |disk| disk.read("a").unwrap()) {
        let second: Vec<u8> = bytes.iter().skip(BLOCK).copied().collect();
        let old = second.iter().filter(|b| **b == 1).count();
        assert!(old == 0 || old == BLOCK, "{old} bytes from before the cut among new ones");
    }
    let seen = outcomes(CrashKind::Machine, prepare, |disk| firsts(disk, "a").unwrap());
    assert!(seen.contains(&vec![1]) && seen.contains(&vec![1, 1]) && seen.contains(&vec![1, 2]), "{seen:?}");
    let settled = |sim: &Sim| {
        prepare(sim);
        sim.host().fs().open(Path::new("a"), OpenMode::Direct).unwrap().sync_data_blocking().unwrap();
    };
    let seen = outcomes(CrashKind::Machine, settled, |disk| firsts(disk, "a").unwrap());
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [[1, 2]]);
}

#[test]
fn region_pages_may_be_old_after_the_machine_and_never_after_the_process() {
    let prepare = |sim: &Sim| {
        let fs = sim.host().fs();
        let region = fs.shared_region(Path::new("r"), 2 * BLOCK).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        fs.open(Path::new("r"), OpenMode::ReadWrite).unwrap().sync_data_blocking().unwrap();
        let mut slots = region.take_slots(2);
        for round in 1..=2 {
            for slot in &mut slots {
                slot.fill(round);
            }
            sim.block_on(sim.executor("x").yield_now()).unwrap();
        }
    };
    let seen = outcomes(CrashKind::Process, prepare, |disk| firsts(disk, "r").unwrap());
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [[2, 2]]);
    let seen = outcomes(CrashKind::Machine, prepare, |disk| firsts(disk, "r").unwrap());
    for expected in [[0, 0], [2, 2], [1, 2], [2, 0]] {
        assert!(seen.contains(expected.as_slice()), "{expected:?} missing in {seen:?}");
    }
}

#[test]
fn a_region_is_found_again_by_the_next_life() {
    let sim = Sim::new(1);
    let region = sim.host().fs().shared_region(Path::new("r"), BLOCK).unwrap();
    let mut slots = region.take_slots(1);
    slots[0].fill(9);
    sim.crash(CrashKind::Process);
    slots[0].fill(8);
    let again = sim.host().fs().shared_region(Path::new("r"), BLOCK).unwrap();
    assert_eq!(again.take_slots(1)[0][0], 9, "what a dead life stores is seen by nobody");
}

#[test]
fn the_handles_of_a_dead_life_do_nothing() {
    let sim = Sim::new(2);
    let (host, fs) = (sim.host(), sim.host().fs());
    let file = create(&fs, "a");
    let executor = sim.executor("x");
    let lock = fs.lock(Path::new("")).unwrap();
    assert!(matches!(sim.host().fs().lock(Path::new("")), Err(crate::runtime::LockError::Held { .. })));
    let witness = Rc::new(());
    let held = Rc::clone(&witness);
    sim.spawn("a client", async move {
        let _held = held;
        std::future::pending::<()>().await
    });
    sim.run_until(|| true).unwrap();
    sim.crash(CrashKind::Process);
    assert_eq!(Rc::strong_count(&witness), 1, "its tasks are gone");
    assert!(file.write_blocking(0, &buf(1, 1)).is_err());
    assert!(file.size().is_err() && fs.list(Path::new("")).is_err());
    assert!(host.start_shard(crate::ids::ShardId(0), None, Box::new(|_| Box::pin(async {}))).is_err());
    let never = executor.io(&file, IoOp::SyncData);
    let never = sim.spawn("for ever", never);
    assert!(matches!(sim.run_until(|| false), Err(Stop::Deadlock(_))), "an operation of a dead life never completes");
    assert!(!never.is_finished());
    sim.host().fs().lock(Path::new("")).expect("the lock died with its holder");
    drop(lock);
    assert_eq!(sim.disk(|disk| disk.files()), [("a".to_string(), 0)]);
}

#[test]
fn a_run_dies_at_once_at_its_point_and_later_code_of_the_step_does_not_run() {
    let sim = Sim::new(3);
    let fs = sim.host().fs();
    let file = create(&fs, "a");
    let acknowledged = std::cell::Cell::new(0);
    sim.crash_at(sim.crash_points() + 1, Phase::After);
    let stop = sim
        .block_on(async {
            for i in 0..5u8 {
                let _ = file.write_durable_blocking(0, &buf(i, 1));
                acknowledged.set(acknowledged.get() + 1);
            }
        })
        .unwrap_err();
    let Stop::Crashed { point, phase } = &stop else { panic!("{stop}") };
    assert_eq!((point.kind, *phase), (OpKind::WriteDurable, Phase::After));
    assert_eq!(acknowledged.get(), 1, "the second write took effect and was not acknowledged");
    sim.crash(CrashKind::Machine);
    assert_eq!(sim.disk(|disk| firsts(disk, "a")), Some(vec![1]));
}

#[test]
fn every_change_of_the_disk_is_a_point_to_die_at() {
    let sim = Sim::new(4);
    let kinds = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&kinds);
    sim.watch_points(move |point, phase, _| {
        if phase == Phase::Before {
            noted.borrow_mut().push(point.kind);
        }
    });
    let fs = sim.host().fs();
    let path = Path::new("d/a");
    fs.create_dir(Path::new("d")).unwrap();
    let file = fs.open(path, OpenMode::CreateNew).unwrap();
    file.allocate(10).unwrap();
    file.write_blocking(0, b"x").unwrap();
    file.write_durable_blocking(1, b"y").unwrap();
    file.read_blocking(0, &mut [0; 2]).unwrap();
    file.sync_data_blocking().unwrap();
    file.set_len(1).unwrap();
    fs.rename(path, Path::new("d/b")).unwrap();
    fs.sync_dir(Path::new("d")).unwrap();
    fs.remove_file(Path::new("d/b")).unwrap();
    fs.remove_dir(Path::new("d")).unwrap();
    use OpKind::*;
    let expected = [CreateDir, Create, Allocate, Write, WriteDurable, Sync, SetLen, Rename, SyncDir, Remove, RemoveDir];
    assert_eq!(*kinds.borrow(), expected);
    assert_eq!(sim.crash_points(), expected.len() as u64);
}

/// What an engine's last handle does: tell its shard to end, wait for it, and store a last word.
struct Handle {
    fs: Arc<dyn Fs>,
    thread: Box<dyn crate::runtime::ShardThread>,
    slots: Vec<crate::runtime::SlotBuf>,
    dropped: Rc<std::cell::Cell<u32>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.thread.join();
        let _ = self.fs.remove_file(Path::new("r"));
        self.slots.iter_mut().for_each(|slot| slot.fill(66));
        self.dropped.set(self.dropped.get() + 1);
    }
}

#[test]
fn destructors_of_a_dead_life_neither_hang_nor_change_anything() {
    let dropped = Rc::new(std::cell::Cell::new(0));
    for (stopped, by) in ["crash", "deadlock", "panic", "none"].into_iter().enumerate() {
        let sim = Sim::new(stopped as u64);
        let host = sim.host();
        let region = host.fs().shared_region(Path::new("r"), BLOCK).unwrap();
        let main = Box::new(|_| -> LocalFuture<'static, ()> { Box::pin(std::future::pending()) });
        let thread = host.start_shard(crate::ids::ShardId(0), None, main).unwrap();
        let handle = Handle { fs: host.fs(), thread, slots: region.take_slots(1), dropped: Rc::clone(&dropped) };
        let executor = sim.executor("x");
        let life = async move {
            let mut handle = handle;
            handle.slots[0].fill(1);
            executor.yield_now().await;
            match by {
                "crash" => handle.fs.create_dir(Path::new("d")).unwrap(),
                "panic" => panic!("on purpose"),
                "deadlock" => std::future::pending().await,
                _ => {}
            }
        };
        if by == "crash" {
            sim.crash_at(2, Phase::Before);
        }
        let ended = sim.block_on(life);
        assert_eq!(ended.is_ok(), by == "none", "{by}");
        assert_eq!(dropped.get(), 1 + stopped as u32, "{by}");
        sim.crash(CrashKind::Process);
        let found = sim.disk(|disk| disk.read("r").ok().map(|bytes| bytes[0]));
        // A panic unwinds in a living world, so the destructor does what it says, as at an ordinary end.
        let expected = if matches!(by, "none" | "panic") { None } else { Some(1) };
        assert_eq!(found, expected, "{by}");
    }
}
