//! One engine for each directory, by a lock on a file that also says who holds it.
//!
//! Guards: two descriptions of the file cannot both be locked, in one process or in two; the kernel gives the lock
//! back when its holder dies, so that no stale lock is ever met.
//! A process forked from the holder shares the lock until both have closed it or the holder gives it up.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process;

use super::sys;
use crate::runtime::LockError;

pub struct DirLock {
    file: File,
    /// A forked child that drops its copy must not unlock its parent's.
    pid: u32,
}

impl DirLock {
    pub fn take(path: &Path) -> Result<DirLock, LockError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(LockError::Io)?;
        if !sys::try_lock(&file).map_err(LockError::Io)? {
            return Err(LockError::Held { pid: holder(&file) });
        }
        let pid = process::id();
        write_holder(&file, pid).map_err(LockError::Io)?;
        Ok(DirLock { file, pid })
    }
}

fn write_holder(file: &File, pid: u32) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(format!("{pid}\n").as_bytes(), 0)
}

/// The number in the file; none while the holder is still writing it.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.strip_suffix('\n')?.parse().ok()
}

impl Drop for DirLock {
    fn drop(&mut self) {
        if process::id() == self.pid {
            // The name of a holder that is gone must not be read by the next one to be refused; a failure here
            // leaves a wrong hint, nothing more.
            let _ = self.file.set_len(0);
            sys::unlock(&self.file);
        }
    }
}
