//! The door to the outside world, and the only room that reads a clock, randomness or a file, or names glommio or io_uring.
//!
//! All logic above speaks to these traits, so that the same code runs on the machine (`host`) and in the seeded
//! simulation (`sim`):
//!
//! - [`Host`]: what an engine needs of a machine: clock, chance, processors, a [`Fs`] rooted at the database's
//!   directory, and a pinned thread for each shard.
//! - [`Executor`]: what the tasks of one shard need: spawn, sleep, yield, and file I/O that does not block their core.
//! - [`File`], [`Fs`]: blocking operations for what is rare (names, lengths, root records), of which a serving shard makes
//!   those that may take long [off its core](off_core), and for a calling thread that makes its own write durable; the large and frequent
//!   transfers go through [`Executor::io`].
//!
//! Rules that both implementations keep: a name is durable only after [`Fs::sync_dir`]; bytes only after a sync that
//! began after their write had returned; a buffer given to an I/O is owned by it until it completes, even if the
//! future is dropped.

pub mod buffer;
pub mod glommio;
pub mod host;
pub mod net;
pub mod sim;
#[cfg(test)]
mod tests;
mod uring;

use std::any::Any;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use parking_lot::Mutex;

pub use buffer::{AlignedBuf, IoBuf, SharedRegion, SlotBuf};
pub use uring::DiskFacts;

use crate::canary::{Canary, planted};
use crate::ids::ShardId;

/// The unit of direct I/O: offsets, lengths and addresses of every transfer are multiples of it.
pub const BLOCK: usize = 4096;

/// Whoever writes much that nobody waits for has so many bytes of it made durable at a time. A sync of more, which a disk with a cache of
/// its own would have to write first, holds up everybody's writes for as long: 64 MiB took a tenth of a second.
pub const UNSYNCED_MAX: u64 = 4 << 20;

pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Time. Leases and intervals use `monotonic_ns`; only expiries, which users give as dates, use `wall_ms`.
pub trait Clock: Send + Sync {
    fn monotonic_ns(&self) -> u64;
    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ns() / 1_000_000
    }
    /// Milliseconds since 1970. May jump in both directions.
    fn wall_ms(&self) -> u64;
    /// Hold the calling thread up for so long. Not on a shard's own thread, and not within the simulation.
    fn pause(&self, time: Duration);
}

/// How urgent a task is; a shard's core is shared out among the classes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskClass {
    /// Requests and the log: what somebody waits for.
    Foreground,
    /// Checkpoints, merges, zeroing of segments: a small share, more only when the core is idle.
    Background,
}

/// One transfer between memory and a file.
#[derive(Debug)]
pub enum IoOp {
    /// Fill `buf` from `offset`; short only at the end of the file.
    Read { offset: u64, buf: IoBuf },
    /// Write all of `buf` at `offset`.
    Write { offset: u64, buf: IoBuf },
    /// Write all of `buf` at `offset`; when it returns, those bytes are durable. Says nothing of earlier writes.
    WriteDurable { offset: u64, buf: IoBuf },
    /// Make durable every write to this file that had returned before.
    SyncData,
}

/// The outcome of an [`IoOp`]: bytes transferred, and the buffer back (none for a sync).
#[derive(Debug)]
pub struct IoDone {
    pub result: io::Result<usize>,
    pub buf: Option<IoBuf>,
}

impl IoDone {
    /// The outcome of a write of which every byte counts: its buffer back. A count that is short is a failure like any other, also
    /// where the runtime promises that there is none.
    pub fn written(self) -> io::Result<IoBuf> {
        let done = self.result?;
        let buf = self.buf.expect("a write gives its buffer back");
        if done == buf.len() || planted(Canary::IgnoreShortWrite) { Ok(buf) } else { Err(wrote_only(done, buf.len())) }
    }
}

fn wrote_only(done: usize, len: usize) -> io::Error {
    io::Error::new(io::ErrorKind::WriteZero, format!("wrote {done} of {len} bytes"))
}

/// A read that ended before the file did.
pub(crate) fn read_only(done: usize, len: usize) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("read {done} of {len} bytes"))
}

/// An open file. The blocking calls may be made from any thread.
pub trait File: Send + Sync {
    fn path(&self) -> &Path;
    /// Bytes from the start to the end of the file.
    fn size(&self) -> io::Result<u64>;
    /// Fill `buf` from `offset`, short only at the end of the file; returns the bytes read.
    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Fill `buf` from `offset`; the caller knows that the file has so many bytes there.
    fn read_all_blocking(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let done = self.read_blocking(offset, buf)?;
        if done == buf.len() { Ok(()) } else { Err(read_only(done, buf.len())) }
    }
    /// Write all of `buf`.
    fn write_blocking(&self, offset: u64, buf: &[u8]) -> io::Result<()>;
    /// Write all of `buf` and make those bytes durable, in one call where the kernel has one.
    fn write_durable_blocking(&self, offset: u64, buf: &[u8]) -> io::Result<()>;
    fn sync_data_blocking(&self) -> io::Result<()>;
    /// Reserve `len` bytes of disk and make the file that long. ENOSPC here leaves the file's length as it was.
    fn allocate(&self, len: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Return once direct writes that a process had under way when it ended have come down: the kernel lets go of its locks before
    /// them. False if the file system cannot reserve space, behind which it would wait for such writes.
    fn await_late_writes(&self) -> bool {
        true
    }
    /// Map the whole file for reading. On a failing disk the process gets SIGBUS (docs/c-abi.md says so to hosts).
    fn map(&self) -> io::Result<Mapping>;
    /// For the implementation of [`Executor::io`] to find its own.
    fn as_any(&self) -> &dyn Any;
}

/// Bytes of a mapped file.
#[derive(Clone)]
pub struct Mapping(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Mapping {
    pub fn new(bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Mapping {
        Mapping(bytes)
    }
}

impl std::ops::Deref for Mapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapping({} bytes)", self.len())
    }
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// It must exist; only reads.
    Read,
    /// It must exist; buffered reads and writes.
    ReadWrite,
    /// It must not exist.
    CreateNew,
    /// It must exist; direct I/O (every transfer a multiple of [`BLOCK`], from memory so aligned).
    Direct,
    /// It must not exist; direct I/O.
    CreateNewDirect,
}

/// A directory tree: all paths are relative to the database's directory.
pub trait Fs: Send + Sync {
    /// The tree's root as a user would name it, for messages.
    fn root(&self) -> PathBuf;
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Replaces `to` if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Make the names in `path` durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Memory backed by the file at `path` (created with `len` bytes if missing), which outlives the process: what was
    /// stored there before a SIGKILL is there at the next opening. A crash of the machine may keep any of its pages.
    fn shared_region(&self, path: &Path, len: usize) -> io::Result<Arc<SharedRegion>>;
    /// Take the directory for this engine alone until the guard is dropped.
    fn lock(&self, path: &Path) -> Result<Box<dyn Any + Send + Sync>, LockError>;
}

/// Why [`Fs::lock`] did not.
#[derive(Debug)]
pub enum LockError {
    Held { pid: Option<u32> },
    Io(io::Error),
}

/// What the background of a core weighs, until it is told otherwise, where the foreground weighs 1000.
pub const BACKGROUND_WEIGHT: u32 = 50;

/// What tasks on one shard's core need.
pub trait Executor {
    fn spawn(&self, class: TaskClass, task: LocalFuture<'static, ()>);
    fn sleep(&self, time: Duration) -> LocalFuture<'static, ()>;
    /// Let other tasks of this core run.
    fn yield_now(&self) -> LocalFuture<'static, ()>;
    /// The background weighs what this says, from now on, while both classes have work; the foreground weighs 1000.
    fn weigh_background(&self, _weight: Arc<AtomicU32>) {}
    /// Perform `op` on `file` without blocking this core.
    fn io(&self, file: &Arc<dyn File>, op: IoOp) -> LocalFuture<'static, IoDone>;
    /// Have `work`, which may block, done beside this core, in the order in which works are given. It is done also when nobody waits for it
    /// any more.
    fn off_core(&self, work: Blocking) -> LocalFuture<'static, ()>;
    /// From now on nothing that is given to [`Executor::off_core`] is done, nor is that ever ready. Ready when all before is done.
    fn finish_off_core(&self) -> LocalFuture<'static, ()>;
    /// Sockets served by this core's ring; none in the simulation.
    fn net(&self) -> Option<net::Net> {
        None
    }
    /// How this core best makes a write of `len` bytes durable, for which so many wait.
    fn durable_way(&self, len: usize, waiting: usize) -> DurableWay;
    /// Making a write of `len` bytes durable this way took so long.
    fn durable_took(&self, _way: DurableWay, _len: usize, _ns: u64) {}
}

/// Work for [`Executor::off_core`].
pub type Blocking = Box<dyn FnOnce() + Send>;

/// What `work`, which may block, gives; it is done beside the executor's core.
pub async fn off_core<T: Send + 'static>(executor: &dyn Executor, work: impl FnOnce() -> T + Send + 'static) -> T {
    let given = Arc::new(Mutex::new(None));
    let give = Arc::clone(&given);
    executor.off_core(Box::new(move || *give.lock() = Some(work()))).await;
    let given = given.lock().take();
    given.expect("work off the core did not end by a panic")
}

/// The two ways of making a batch durable; which is better depends on device and load (docs/perf.md).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DurableWay {
    /// [`File::write_durable_blocking`] in the shard's own thread.
    Blocking,
    /// [`IoOp::WriteDurable`] through the ring.
    Ring,
}

/// The body of a shard's thread.
pub type ShardMain = Box<dyn FnOnce(Rc<dyn Executor>) -> LocalFuture<'static, ()> + Send>;

/// A started shard thread.
pub trait ShardThread: Send + Sync {
    /// Wait for the end of the thread's main task. Must not be called from a shard's thread.
    fn join(&self);
}

/// What an engine needs of the machine it runs on.
pub trait Host: Send + Sync {
    fn clock(&self) -> Arc<dyn Clock>;
    fn random_u64(&self) -> u64;
    /// Another number after each start of the machine: what a process left in memory that outlives it may be there still only while
    /// this is the same.
    fn boot(&self) -> u64;
    /// Processors this process may use, in order.
    fn processors(&self) -> Vec<usize>;
    fn fs(&self) -> Arc<dyn Fs>;
    /// Start a shard's thread, pinned to `processor` if one is given. Fails with what to do about it where the machine does not
    /// allow a ring or enough locked memory.
    fn start_shard(
        &self,
        shard: ShardId,
        processor: Option<usize>,
        main: ShardMain,
    ) -> crate::error::Result<Box<dyn ShardThread>>;
}
