//! The system calls that the standard library has no safe way to make.
//!
//! Guards: every descriptor and pointer passed to the kernel lives for the whole call; results are turned into
//! `io::Result` at once, with EINTR retried where the call then has had no effect.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `-1` becomes the error the kernel left behind.
fn check(result: i64) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn offset_of(at: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(at).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

/// One `pwritev2(RWF_DSYNC)`: the bytes it reports are durable when it returns.
pub fn write_dsync(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    let at = offset_of(offset)?;
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `part` describes `bytes`, which outlives the call and is only read.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, at, libc::RWF_DSYNC) };
    check(written as i64).map(|n| n as usize)
}

/// `fallocate` of the bytes from `from` to `to`; the file becomes at least `to` long.
pub fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    let (at, len) = (offset_of(from)?, offset_of(to - from)?);
    loop {
        // SAFETY: takes no pointers.
        let done = unsafe { libc::fallocate(file.as_raw_fd(), 0, at, len) };
        match check(i64::from(done)) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => return other.map(drop),
        }
    }
}

/// Turn direct I/O on an open file on or off. EINVAL: the file system has none.
pub fn set_direct(file: &File, on: bool) -> io::Result<()> {
    // SAFETY: takes no pointers.
    let flags = check(i64::from(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }))? as libc::c_int;
    let flags = if on { flags | libc::O_DIRECT } else { flags & !libc::O_DIRECT };
    // SAFETY: takes no pointers.
    check(i64::from(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) })).map(drop)
}

/// What direct I/O on this file must be aligned to (memory, offsets); `None` where the kernel does not say.
/// Zeros mean that there is no direct I/O.
pub fn direct_alignment(file: &File) -> Option<(u32, u32)> {
    // SAFETY: `statx` is plain numbers, for which zeros are a value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the empty path is a C string; `stat` is written before the call returns.
    let done = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, &raw mut stat)
    };
    (done == 0 && stat.stx_mask & libc::STATX_DIOALIGN != 0)
        .then_some((stat.stx_dio_mem_align, stat.stx_dio_offset_align))
}

/// `true`: the lock is ours; `false`: somebody else has it.
pub fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        // SAFETY: takes no pointers.
        let done = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        match check(i64::from(done)) {
            Ok(_) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}

pub fn unlock(file: &File) {
    // SAFETY: takes no pointers. Closing the file does the same, so a failure changes nothing.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    loop {
        // SAFETY: `bytes` is 8 bytes that outlive the call.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match check(got as i64) {
            Ok(8) => return Ok(u64::from_ne_bytes(bytes)),
            Ok(_) => continue,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
    }
}

pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is written before the call returns. It cannot fail: the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// Room for 65,536 processors.
const MASK_WORDS: usize = 1024;
type Mask = [u64; MASK_WORDS];

/// Processors that the calling thread may run on; the kernel has already taken the cgroup's cpuset into account.
pub fn allowed_processors() -> io::Result<Vec<usize>> {
    let mut mask: Mask = [0; MASK_WORDS];
    // SAFETY: the mask's true size is given; the kernel writes no more than that.
    let done = unsafe { libc::sched_getaffinity(0, size_of::<Mask>(), mask.as_mut_ptr().cast()) };
    check(i64::from(done))?;
    Ok((0..MASK_WORDS * 64).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect())
}

/// Let the calling thread run on these processors alone.
pub fn keep_this_thread_on(processors: &[usize]) -> io::Result<()> {
    let mut mask: Mask = [0; MASK_WORDS];
    for processor in processors {
        let word = mask.get_mut(processor / 64).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        *word |= 1 << (processor % 64);
    }
    // SAFETY: the mask's true size is given; the kernel only reads it.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<Mask>(), mask.as_ptr().cast()) };
    check(i64::from(done)).map(drop)
}

/// Ask the scheduler to give the calling thread the processor for `ns` at a time, and thereby sooner: a thread whose slice is
/// shorter goes before others when it wakes. Kernels before 6.12 take the wish and ignore it.
pub fn wish_for_slices_of(ns: u64) -> io::Result<()> {
    // SAFETY: plain numbers, for which zeros are a value.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: the size given is that of `attr`, which is written before the call returns.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) })?;
    if attr.sched_policy != libc::SCHED_OTHER as u32 {
        // Somebody has chosen already.
        return Ok(());
    }
    attr.size = size;
    attr.sched_flags = 0;
    attr.sched_runtime = ns;
    // SAFETY: `attr` outlives the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// Bytes of memory that an unprivileged process may lock; `None`: without limit.
pub fn locked_memory_limit() -> io::Result<Option<u64>> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is written before the call returns.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    check(i64::from(done))?;
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}

/// A counter that can be polled: writes add, a read takes all and blocks (or is polled for) at zero.
pub fn event_counter() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = check(i64::from(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }))?;
    // SAFETY: a descriptor that the call just made and nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sleep until the descriptor can be read from, a signal comes, or the time is over.
pub fn wait_readable(fd: BorrowedFd<'_>, ms_max: u16) -> io::Result<()> {
    let mut wanted = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    match check(i64::from(unsafe { libc::poll(&raw mut wanted, 1, i32::from(ms_max)) })) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        _ => Ok(()),
    }
}

/// Whether valgrind runs this process: it has its own library loaded before all others.
pub fn under_valgrind() -> bool {
    std::env::var_os("LD_PRELOAD").is_some_and(|libraries| libraries.to_string_lossy().contains("vgpreload"))
}

/// One `fdatasync`, never made again: after a failure the kernel may have dropped the pages, and a second call would
/// lie. (The standard library's `sync_data` retries on EINTR.)
pub fn sync_data_once(file: &File) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(i64::from(unsafe { libc::fdatasync(file.as_raw_fd()) })).map(drop)
}

/// One `fsync`, never made again, as above.
pub fn sync_once(file: &File) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(i64::from(unsafe { libc::fsync(file.as_raw_fd()) })).map(drop)
}

/// Add one to an event counter.
pub fn add_event(event: BorrowedFd<'_>) -> io::Result<()> {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: `one` is 8 bytes that outlive the call and are only read.
    check(unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) } as i64).map(drop)
}
