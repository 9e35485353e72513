//! An open file of the machine, and its blocking operations.
//!
//! Guards: a transfer is continued until it is whole; a sync that failed is reported and never made again, because
//! the kernel may have dropped the pages; a file that could not be lengthened has its old length.

use std::any::Any;
use std::fs::File as StdFile;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::map;
use super::sys;
use crate::runtime::{BLOCK, File, Mapping};

/// The most that one call transfers; the kernel's own limit is just below 2 GiB.
pub const PIECE_MAX: usize = 1 << 30;

pub struct HostFile {
    file: StdFile,
    path: PathBuf,
    /// Opened for direct I/O, and got it.
    direct: bool,
}

impl HostFile {
    pub fn new(file: StdFile, path: PathBuf, direct: bool) -> HostFile {
        HostFile { file, path, direct }
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

/// With direct I/O a read that is not a whole number of blocks has met the end of the file, and asking for the rest
/// would be refused as unaligned.
pub fn read_met_end(direct: bool, got: usize) -> bool {
    got == 0 || (direct && !got.is_multiple_of(BLOCK))
}

pub fn wrote_nothing() -> io::Error {
    io::Error::new(io::ErrorKind::WriteZero, "the kernel wrote no bytes and gave no reason")
}

/// Reserve `len` bytes from the start of the file, which becomes that long; on failure it has its old length.
pub fn allocate_or_undo(file: &StdFile, len: u64) -> io::Result<()> {
    let before = file.metadata()?.len();
    if len == 0 {
        return Ok(());
    }
    let done = match sys::allocate(file, 0, len) {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => fill(file, before, len),
        other => other,
    };
    if done.is_err() && file.metadata()?.len() != before {
        file.set_len(before)?;
    }
    done
}

/// For file systems without `fallocate`: the bytes beyond the old end are written. Buffered, through a second
/// description, because the first may be open for direct I/O.
fn fill(file: &StdFile, from: u64, to: u64) -> io::Result<()> {
    let again = std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let zeros = vec![0_u8; 256 << 10];
    let mut at = from;
    while at < to {
        let part = zeros.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        again.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    // Delayed allocation could still find the disk full; reserve means now.
    again.sync_all()
}

impl File for HostFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while got < buf.len() {
            match self.file.read_at(&mut buf[got..], offset + got as u64) {
                Ok(n) => {
                    got += n;
                    if read_met_end(self.direct, n) {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(got)
    }

    fn write_blocking(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn write_durable_blocking(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let end = buf.len().min(done + PIECE_MAX);
            match sys::write_dsync(&self.file, offset + done as u64, &buf[done..end]) {
                Ok(0) => return Err(wrote_nothing()),
                Ok(n) => done += n,
                // Interrupted before anything was written.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    self.file.write_all_at(&buf[done..], offset + done as u64)?;
                    return sys::sync_data_once(&self.file);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn sync_data_blocking(&self) -> io::Result<()> {
        sys::sync_data_once(&self.file)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        allocate_or_undo(&self.file, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn await_late_writes(&self) -> bool {
        // Space that is there already is reserved once more, which changes nothing, behind all direct writes to the file.
        self.size().and_then(|len| if len > 0 { sys::allocate(&self.file, 0, len) } else { Ok(()) }).is_ok()
    }

    fn map(&self) -> io::Result<Mapping> {
        map::whole(&self.file).map(|bytes| Mapping::new(Arc::new(bytes)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
