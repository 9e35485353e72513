//! Files on three kinds of file systems: a disk with direct I/O, memory, and one that has no direct I/O.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;

use super::{machine, on_shard};
use crate::runtime::host::Machine;
use crate::runtime::{AlignedBuf, BLOCK, Executor, File, Host, IoBuf, IoOp, LocalFuture, OpenMode};

/// The same claim on each kind of file system.
fn everywhere(claim: impl Fn(&Machine)) {
    let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    claim(&machine(disk.path()));
    let buffered = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    claim(&Machine::without_direct(buffered.path()));
    match tempfile::tempdir_in("/dev/shm") {
        Ok(memory) => claim(&machine(memory.path())),
        Err(e) => println!("not tried on /dev/shm: {e}"),
    }
}

fn filled(len: usize, seed: u8) -> IoBuf {
    let mut buf = AlignedBuf::zeroed(len);
    for (i, byte) in buf.iter_mut().enumerate() {
        *byte = (i / 3) as u8 ^ seed;
    }
    IoBuf::heap(buf, len)
}

fn empty(len: usize) -> IoBuf {
    IoBuf::heap(AlignedBuf::zeroed(len), len)
}

fn new_file(host: &dyn Host, name: &str) -> Arc<dyn File> {
    host.fs().open(Path::new(name), OpenMode::CreateNewDirect).unwrap()
}

async fn write(executor: &Rc<dyn Executor>, file: &Arc<dyn File>, op: IoOp) -> usize {
    executor.io(file, op).await.result.unwrap()
}

#[test]
fn what_was_written_is_read_back() {
    everywhere(|host| {
        let file = new_file(host, "f");
        let len = 4 * BLOCK;
        on_shard(host, move |executor| {
            Box::pin(async move {
                let ops = [
                    IoOp::Write { offset: 0, buf: filled(len, 1) },
                    IoOp::WriteDurable { offset: len as u64, buf: filled(len, 2) },
                    IoOp::SyncData,
                ];
                for (op, moved) in ops.into_iter().zip([len, len, 0]) {
                    assert_eq!(write(&executor, &file, op).await, moved);
                }
                file.write_durable_blocking(2 * len as u64, &filled(len, 3)).unwrap();
                file.write_blocking(3 * len as u64, &filled(len, 4)).unwrap();
                file.sync_data_blocking().unwrap();
                for i in 0..4_u8 {
                    let at = u64::from(i) * len as u64;
                    let done = executor.io(&file, IoOp::Read { offset: at, buf: empty(len) }).await;
                    assert_eq!(done.result.unwrap(), len);
                    let mut blocking = AlignedBuf::zeroed(len);
                    assert_eq!(file.read_blocking(at, &mut blocking).unwrap(), len);
                    assert!(done.buf.unwrap()[..] == filled(len, i + 1)[..] && blocking[..] == filled(len, i + 1)[..]);
                }
            })
        });
    });
}

#[test]
fn a_read_is_short_only_at_the_end_of_the_file() {
    everywhere(|host| {
        let file = new_file(host, "f");
        file.write_blocking(0, &filled(3 * BLOCK, 9)).unwrap();
        // An end inside a block, as a tool that copies files may leave it.
        file.set_len(2 * BLOCK as u64 + 100).unwrap();
        let expect = [(0, 8, 2 * BLOCK + 100), (2, 1, 100), (2, 4, 100), (3, 1, 0), (900, 1, 0)];
        for (block, blocks, moved) in expect {
            let mut buf = AlignedBuf::zeroed(blocks * BLOCK);
            assert_eq!(file.read_blocking((block * BLOCK) as u64, &mut buf).unwrap(), moved, "block {block}");
        }
        on_shard(host, move |executor| {
            Box::pin(async move {
                for (block, blocks, moved) in expect {
                    let op = IoOp::Read { offset: (block * BLOCK) as u64, buf: empty(blocks * BLOCK) };
                    assert_eq!(executor.io(&file, op).await.result.unwrap(), moved, "block {block}");
                }
            })
        });
    });
}

#[test]
fn a_buffer_comes_back_with_an_error_too() {
    let dir = tempfile::tempdir().unwrap();
    let host = machine(dir.path());
    drop(new_file(&host, "f"));
    let file = host.fs().open(Path::new("f"), OpenMode::Read).unwrap();
    on_shard(&host, move |executor| {
        Box::pin(async move {
            let ops = |i| match i {
                0 => IoOp::Write { offset: 0, buf: filled(BLOCK, 1) },
                _ => IoOp::WriteDurable { offset: 0, buf: filled(BLOCK, 1) },
            };
            for i in 0..2 {
                let done = executor.io(&file, ops(i)).await;
                assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EBADF));
                assert_eq!(done.buf.unwrap().len(), BLOCK);
            }
        })
    });
}

#[test]
fn more_operations_than_the_ring_has_places_all_complete() {
    everywhere(|host| {
        let file = new_file(host, "f");
        on_shard(host, move |executor| {
            Box::pin(async move {
                const OPS: u64 = 6000;
                let at = |i: u64| i * BLOCK as u64;
                // Started before any is waited for; every third is a linked pair.
                let started: Vec<_> = (0..OPS)
                    .map(|i| {
                        let buf = filled(BLOCK, i as u8);
                        let op = match i % 300 {
                            0 => IoOp::WriteDurable { offset: at(i), buf },
                            _ => IoOp::Write { offset: at(i), buf },
                        };
                        executor.io(&file, op)
                    })
                    .collect();
                for started in started {
                    assert_eq!(started.await.result.unwrap(), BLOCK);
                }
                let reads: Vec<_> =
                    (0..OPS).map(|i| executor.io(&file, IoOp::Read { offset: at(i), buf: empty(BLOCK) })).collect();
                for (i, read) in reads.into_iter().enumerate() {
                    assert!(read.await.buf.unwrap()[..] == filled(BLOCK, i as u8)[..], "block {i}");
                }
            })
        });
    });
}

#[test]
fn a_dropped_future_leaves_its_operation_whole() {
    everywhere(|host| {
        let file = new_file(host, "f");
        let again = Arc::clone(&file);
        let len = 64 * BLOCK;
        on_shard(host, move |executor| {
            Box::pin(async move {
                for round in 0..50_u64 {
                    let offset = round * len as u64;
                    // Dropped at once, dropped after a turn, and read into memory that nobody has any more.
                    drop(executor.io(&file, IoOp::WriteDurable { offset, buf: filled(len, round as u8) }));
                    drop(executor.io(&file, IoOp::Read { offset: 0, buf: empty(len) }));
                    let waited = executor.io(&file, IoOp::Read { offset: 0, buf: empty(len) });
                    executor.yield_now().await;
                    drop(waited);
                }
                // And some still in flight when the thread ends.
            })
        });
        for round in 0..50_u8 {
            let mut buf = AlignedBuf::zeroed(len);
            again.read_blocking(u64::from(round) * len as u64, &mut buf).unwrap();
            assert!(buf[..] == filled(len, round)[..], "round {round}");
        }
    });
}

#[test]
fn a_file_of_another_host_is_refused() {
    struct Alien(PathBuf);
    impl File for Alien {
        fn path(&self) -> &Path {
            &self.0
        }
        fn size(&self) -> std::io::Result<u64> {
            Ok(0)
        }
        fn read_blocking(&self, _: u64, _: &mut [u8]) -> std::io::Result<usize> {
            Ok(0)
        }
        fn write_blocking(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
            Ok(())
        }
        fn write_durable_blocking(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
            Ok(())
        }
        fn sync_data_blocking(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn allocate(&self, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn set_len(&self, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn map(&self) -> std::io::Result<crate::runtime::Mapping> {
            Err(std::io::ErrorKind::Unsupported.into())
        }
        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let done = on_shard(&machine(dir.path()), |executor| -> LocalFuture<'static, _> {
        let file: Arc<dyn File> = Arc::new(Alien(PathBuf::from("elsewhere")));
        executor.io(&file, IoOp::Write { offset: 0, buf: empty(BLOCK) })
    });
    assert_eq!(done.result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert!(done.buf.is_some());
}

/// A file system of a few pages.
struct TinyDisk {
    dir: tempfile::TempDir,
}

impl TinyDisk {
    fn mount(bytes: usize) -> Option<TinyDisk> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match done {
            Ok(output) if output.status.success() => Some(TinyDisk { dir }),
            other => {
                println!("skipped: cannot mount a tmpfs ({other:?})");
                None
            }
        }
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

#[test]
fn a_full_disk_is_an_error_that_leaves_lengths_alone() {
    let Some(disk) = TinyDisk::mount(256 << 10) else { return };
    let host = machine(disk.dir.path());
    let fs = host.fs();
    let file = new_file(&host, "f");
    file.allocate(64 << 10).unwrap();
    assert_eq!(file.size().unwrap(), 64 << 10);
    assert_eq!(file.allocate(10 << 20).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(file.size().unwrap(), 64 << 10);
    let region = fs.shared_region(Path::new("region"), 10 << 20);
    assert_eq!(region.err().unwrap().raw_os_error(), Some(libc::ENOSPC));

    let len = 1 << 20;
    assert_eq!(file.write_blocking(0, &filled(len, 1)).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(file.write_durable_blocking(0, &filled(len, 1)).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    on_shard(&host, move |executor| {
        Box::pin(async move {
            // Part of it fits: the transfer is continued until the disk says no.
            let ops =
                [IoOp::Write { offset: 0, buf: filled(len, 1) }, IoOp::WriteDurable { offset: 0, buf: filled(len, 1) }];
            for op in ops {
                let done = executor.io(&file, op).await;
                assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
                assert!(done.buf.unwrap()[..] == filled(len, 1)[..]);
            }
        })
    });
}

#[test]
fn names_lengths_and_mappings() {
    everywhere(|host| {
        let fs = host.fs();
        let (dir, a, b) = (Path::new("d"), Path::new("d/a"), Path::new("d/b"));
        fs.create_dir(dir).unwrap();
        let file = fs.open(a, OpenMode::CreateNew).unwrap();
        assert_eq!(fs.open(a, OpenMode::CreateNewDirect).err().unwrap().kind(), std::io::ErrorKind::AlreadyExists);
        assert!(file.map().unwrap().is_empty());
        file.write_blocking(0, b"abc").unwrap();
        assert_eq!(&file.map().unwrap()[..], b"abc");
        assert_eq!(file.path(), fs.root().join(a));
        drop(fs.open(b, OpenMode::CreateNew).unwrap());
        fs.sync_dir(dir).unwrap();
        assert_eq!(fs.list(dir).unwrap(), ["a", "b"]);
        fs.rename(a, b).unwrap();
        assert_eq!((fs.exists(a).unwrap(), fs.exists(b).unwrap()), (false, true));
        assert_eq!(fs.open(b, OpenMode::Read).unwrap().size().unwrap(), 3);
        fs.remove_file(b).unwrap();
        fs.remove_dir(dir).unwrap();
        assert_eq!(fs.list(Path::new("")).unwrap(), Vec::<String>::new());
        for outside in ["/etc/passwd", "../x", "d/../../x"] {
            let error = fs.open(Path::new(outside), OpenMode::Read).err().unwrap();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{outside}");
        }
    });
}

#[test]
fn allocated_blocks_keep_what_was_written_before() {
    everywhere(|host| {
        let file = new_file(host, "f");
        file.write_blocking(0, &filled(BLOCK, 5)).unwrap();
        file.allocate(16 * BLOCK as u64).unwrap();
        file.allocate(0).unwrap();
        file.allocate(2 * BLOCK as u64).unwrap();
        let mut buf = AlignedBuf::zeroed(20 * BLOCK);
        assert_eq!(file.read_blocking(0, &mut buf).unwrap(), 16 * BLOCK);
        assert!(buf[..BLOCK] == filled(BLOCK, 5)[..] && buf[BLOCK..].iter().all(|b| *b == 0));
    });
}

#[test]
fn a_missing_root_is_made_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    assert!(Machine::new(&deep, false).is_err());
    assert!(!dir.path().join("a").exists());
    Machine::new(&deep, true).unwrap().fs().create_dir(Path::new("d")).unwrap();
    assert!(deep.join("d").is_dir());
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(Machine::new(&dir.path().join("file"), true).is_err());
}
