//! What the library asks of the process it is in: whether it is a child of fork, and no signals for its threads.
//!
//! Guards: a child never touches an engine of its parent: the threads behind it do not exist there, and the files are
//! still the parent's. A page that the kernel wipes on fork answers for the price of one load; `getpid` would be a
//! system call each time. Where the kernel refuses such a page, `getpid` it is.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

const PAGE_LEN: usize = 4096;
const HERE: u32 = 0x0ca5_ca1e;

/// The process in which it was made. Never freed: it belongs to a registry, which lives as long as its process.
pub(crate) struct Birthplace {
    mark: Option<&'static AtomicU32>,
    pid: u32,
}

impl Birthplace {
    pub(crate) fn here() -> Birthplace {
        let mark = wiped_page();
        if let Some(mark) = mark {
            mark.store(HERE, Ordering::Relaxed);
        }
        Birthplace { mark, pid: std::process::id() }
    }

    /// Is this still the process that called `here`?
    pub(crate) fn is_here(&self) -> bool {
        match self.mark {
            Some(mark) => mark.load(Ordering::Relaxed) == HERE,
            None => std::process::id() == self.pid,
        }
    }
}

/// Runs `f` with all signals blocked that are not faults of the code itself. Threads that it starts inherit that, so that
/// no handler of the program ever runs on one of ours.
pub(crate) fn without_signals<T>(f: impl FnOnce() -> T) -> T {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the set was filled by pthread_sigmask.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
        }
    }
    let (mut blocked, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: sigfillset writes the set, the others change one that is written; pthread_sigmask fills `before`, and fails
    // only for a first argument that makes no sense.
    let _restore = unsafe {
        libc::sigfillset(blocked.as_mut_ptr());
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT] {
            libc::sigdelset(blocked.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, blocked.as_ptr(), before.as_mut_ptr());
        Restore(before.assume_init())
    };
    f()
}

/// A page of zeroes that is zeroes again in a child.
fn wiped_page() -> Option<&'static AtomicU32> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no other memory.
    let page = unsafe {
        mmap_anonymous(ptr::null_mut(), PAGE_LEN, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()?
    };
    // SAFETY: the range is the mapping made above; the advice changes only what a child finds there.
    if unsafe { madvise(page, PAGE_LEN, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: nobody else knows of the mapping.
        let _ = unsafe { munmap(page, PAGE_LEN) };
        return None;
    }
    // SAFETY: the page is aligned, zeroed (a valid AtomicU32), readable, writable, and never unmapped.
    Some(unsafe { &*page.cast::<AtomicU32>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_blocked(signal: i32) -> bool {
        let mut now = MaybeUninit::uninit();
        // SAFETY: with no new set, pthread_sigmask only writes the present one.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), now.as_mut_ptr());
            libc::sigismember(now.as_ptr(), signal) == 1
        }
    }

    #[test]
    fn threads_started_without_signals_get_none_and_the_caller_keeps_its_own() {
        let in_thread =
            without_signals(|| std::thread::spawn(|| (is_blocked(libc::SIGTERM), is_blocked(libc::SIGBUS))));
        assert_eq!(in_thread.join().expect("no panic"), (true, false));
        assert!(!is_blocked(libc::SIGTERM));
    }

    #[test]
    fn the_process_that_made_it_is_here() {
        let place = Birthplace::here();
        assert!(place.mark.is_some(), "the kernel has had MADV_WIPEONFORK since 4.14");
        assert!(place.is_here());
    }
}
