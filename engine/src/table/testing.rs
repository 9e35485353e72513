//! A machine in memory for this room's tests: files that are byte strings, an executor that yields at each call.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use super::compaction::{Progress, Retention, RunTarget, write_run};
use super::file::{Table, TableIdentity, file_name};
use super::source::Source;
use super::table_set::Run;
use crate::error::Result;
use crate::ids::{CommitTs, ShardId};
use crate::runtime::{
    BLOCK, Blocking, DurableWay, Executor, File, Fs, IoDone, IoOp, LocalFuture, LockError, Mapping, OpenMode,
    SharedRegion, TaskClass,
};

#[derive(Default)]
struct Disk {
    files: BTreeMap<PathBuf, Arc<Mutex<Vec<u8>>>>,
    writes: u64,
    syncs: u64,
    /// The write with this number fails.
    failing_write: Option<u64>,
    failing_sync: Option<u64>,
    /// Returned by the write with this number instead of its length.
    short_write: Option<u64>,
}

/// A clone is another handle to the same files.
#[derive(Clone, Default)]
pub struct MemFs {
    disk: Arc<Mutex<Disk>>,
}

pub struct MemFile {
    path: PathBuf,
    bytes: Arc<Mutex<Vec<u8>>>,
    disk: Arc<Mutex<Disk>>,
}

impl MemFs {
    pub fn fail_write(&self, number: u64) {
        self.disk.lock().unwrap().failing_write = Some(number);
    }

    pub fn fail_sync(&self, number: u64) {
        self.disk.lock().unwrap().failing_sync = Some(number);
    }

    pub fn shorten_write(&self, number: u64) {
        self.disk.lock().unwrap().short_write = Some(number);
    }

    pub fn writes_and_syncs(&self) -> (u64, u64) {
        let disk = self.disk.lock().unwrap();
        (disk.writes, disk.syncs)
    }

    pub fn names(&self) -> Vec<String> {
        self.disk.lock().unwrap().files.keys().map(|path| path.display().to_string()).collect()
    }

    pub fn contents(&self, path: &Path) -> Vec<u8> {
        self.disk.lock().unwrap().files[path].lock().unwrap().clone()
    }

    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.disk.lock().unwrap().files.insert(path.to_path_buf(), Arc::new(Mutex::new(bytes)));
    }
}

impl File for MemFile {
    fn path(&self) -> &Path {
        &self.path
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let from = (offset as usize).min(bytes.len());
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }
    fn write_blocking(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        let end = offset as usize + buf.len();
        let len = bytes.len().max(end);
        bytes.resize(len, 0xdd);
        bytes[offset as usize..end].copy_from_slice(buf);
        Ok(())
    }
    fn write_durable_blocking(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.write_blocking(offset, buf)
    }
    fn sync_data_blocking(&self) -> io::Result<()> {
        Ok(())
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
    fn map(&self) -> io::Result<Mapping> {
        Ok(Mapping::new(Arc::new(self.bytes.lock().unwrap().clone())))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Fs for MemFs {
    fn root(&self) -> PathBuf {
        PathBuf::from("/memory")
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(self.names())
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk.lock().unwrap().files.contains_key(path))
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk.lock().unwrap();
        let new = matches!(mode, OpenMode::CreateNew | OpenMode::CreateNewDirect);
        let bytes = match (disk.files.get(path), new) {
            (Some(_), true) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, false) => return Err(io::ErrorKind::NotFound.into()),
            (Some(bytes), false) => Arc::clone(bytes),
            (None, true) => Arc::clone(disk.files.entry(path.to_path_buf()).or_default()),
        };
        Ok(Arc::new(MemFile { path: path.to_path_buf(), bytes, disk: Arc::clone(&self.disk) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        let bytes = disk.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.files.insert(to.to_path_buf(), bytes);
        Ok(())
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.lock().unwrap().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn shared_region(&self, _: &Path, _: usize) -> io::Result<Arc<SharedRegion>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn lock(&self, _: &Path) -> std::result::Result<Box<dyn Any + Send + Sync>, LockError> {
        Ok(Box::new(()))
    }
}

/// Runs one task to its end; counts its yields.
#[derive(Default)]
pub struct TestExecutor {
    pub yields: std::cell::Cell<u64>,
}

fn yield_once() -> impl Future<Output = ()> {
    let mut yielded = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

impl Executor for TestExecutor {
    fn spawn(&self, _: TaskClass, _: LocalFuture<'static, ()>) {
        panic!("the tests of this room spawn nothing");
    }
    fn sleep(&self, _: Duration) -> LocalFuture<'static, ()> {
        Box::pin(yield_once())
    }
    fn yield_now(&self) -> LocalFuture<'static, ()> {
        self.yields.set(self.yields.get() + 1);
        Box::pin(yield_once())
    }
    fn io(&self, file: &Arc<dyn File>, op: IoOp) -> LocalFuture<'static, IoDone> {
        let file = Arc::clone(file);
        Box::pin(async move {
            yield_once().await;
            let own = file.as_any().downcast_ref::<MemFile>().unwrap();
            let mut disk = own.disk.lock().unwrap();
            match op {
                IoOp::Write { offset, buf } => {
                    assert!(offset.is_multiple_of(BLOCK as u64) && buf.len().is_multiple_of(BLOCK) && !buf.is_empty());
                    assert_eq!(buf.as_ptr().addr() % BLOCK, 0);
                    disk.writes += 1;
                    let result = if disk.failing_write == Some(disk.writes) {
                        Err(io::Error::from_raw_os_error(libc::ENOSPC))
                    } else if disk.short_write == Some(disk.writes) {
                        file.write_blocking(offset, &buf[..BLOCK]).map(|()| BLOCK)
                    } else {
                        file.write_blocking(offset, &buf).map(|()| buf.len())
                    };
                    IoDone { result, buf: Some(buf) }
                }
                IoOp::SyncData => {
                    disk.syncs += 1;
                    let failed = disk.failing_sync == Some(disk.syncs);
                    let result = if failed { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(0) };
                    IoDone { result, buf: None }
                }
                IoOp::Read { .. } | IoOp::WriteDurable { .. } => panic!("tables are not written so"),
            }
        })
    }
    fn off_core(&self, work: Blocking) -> LocalFuture<'static, ()> {
        work();
        Box::pin(yield_once())
    }

    fn finish_off_core(&self) -> LocalFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    fn durable_way(&self, _: usize, _: usize) -> DurableWay {
        DurableWay::Ring
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures_lite::future::block_on(Pin::from(Box::new(future)))
}

/// A directory of tables and what is needed to write more of them.
pub struct Bench {
    pub fs: MemFs,
    pub executor: Rc<TestExecutor>,
    pub next: u64,
    pub table_bytes: u64,
}

pub const DB: u64 = 0xdb;
pub const SHARD: ShardId = ShardId(3);

impl Bench {
    pub fn new(table_bytes: u64) -> Bench {
        Bench { fs: MemFs::default(), executor: Rc::default(), next: 0, table_bytes }
    }

    pub fn identity(id: u64) -> TableIdentity {
        TableIdentity { db_id: DB, shard: SHARD, id }
    }

    pub fn open(&self, id: u64) -> Result<Table> {
        let file = self.fs.open(Path::new(&file_name(id)), OpenMode::Read).unwrap();
        Table::open(&*file, Bench::identity(id))
    }

    pub fn write(&mut self, sources: &[Source], retention: &Retention<'_>) -> Result<Run> {
        self.write_telling(sources, retention, None)
    }

    pub fn write_telling(
        &mut self,
        sources: &[Source],
        retention: &Retention<'_>,
        progress: Option<&Progress<'_>>,
    ) -> Result<Run> {
        let Bench { fs, executor, next, table_bytes } = self;
        let executor: Rc<dyn Executor> = Rc::clone(executor) as Rc<dyn Executor>;
        let mut next_file = || {
            *next += 1;
            *next
        };
        let target = RunTarget {
            executor,
            fs: &*fs,
            dir: Path::new(""),
            db_id: DB,
            shard: SHARD,
            ring_version: 9,
            next_file: &mut next_file,
            table_bytes: *table_bytes,
            progress,
        };
        let metas = block_on(write_run(sources, target, retention))?;
        let run = Run::open(&self.fs, Path::new(""), DB, SHARD, &metas)?;
        run.tables().iter().try_for_each(|table| table.verify(&mut |_| {}))?;
        Ok(run)
    }
}

pub fn keep_all(snapshots: &[CommitTs]) -> Retention<'_> {
    Retention { snapshots, bottom: false, now_ms: 0, keep: None }
}
