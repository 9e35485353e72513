//! The directory tree of a database on the machine's own file system.
//!
//! Guards: no path leaves the root; direct I/O is used where the file system has it, and where it has not, that is
//! found out once, said once, and buffered I/O serves in its place (a durable write is then still durable).

use std::any::Any;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::file::HostFile;
use super::lock::DirLock;
use super::{region, sys};
use crate::runtime::{BLOCK, File, Fs, LockError, OpenMode, SharedRegion};

pub struct HostFs {
    /// As the user named it, for messages.
    shown: PathBuf,
    /// The same as an absolute path: the host program may change its working directory.
    root: PathBuf,
    direct_refused: AtomicBool,
}

impl HostFs {
    pub fn new(root: &Path) -> io::Result<HostFs> {
        let absolute = std::path::absolute(root)?;
        Ok(HostFs { shown: root.to_path_buf(), root: absolute, direct_refused: AtomicBool::new(false) })
    }

    /// As on a file system that has no direct I/O.
    #[cfg(test)]
    pub fn without_direct(root: &Path) -> io::Result<HostFs> {
        let fs = HostFs::new(root)?;
        fs.direct_refused.store(true, Ordering::Relaxed);
        Ok(fs)
    }

    fn at(&self, path: &Path) -> io::Result<PathBuf> {
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            let what = format!("{} leaves the database's directory", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(self.root.join(path))
    }

    /// Whether `file` got direct I/O.
    fn make_direct(&self, file: &fs::File, path: &Path) -> io::Result<bool> {
        if self.direct_refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let reason = match sys::set_direct(file, true) {
            Ok(()) => match sys::direct_alignment(file) {
                None => return Ok(true),
                Some((memory, offset)) if fits(memory) && fits(offset) => return Ok(true),
                Some((memory, offset)) => {
                    sys::set_direct(file, false)?;
                    format!("it wants memory aligned to {memory} and offsets to {offset} bytes")
                }
            },
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => "the file system has none".to_string(),
            Err(e) => return Err(e),
        };
        if !self.direct_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                path = %path.display(),
                "no direct I/O here ({reason}); using buffered I/O, which is slower and keeps the log in memory twice"
            );
        }
        Ok(false)
    }
}

/// Make a directory and the missing ones above it, each with a name that outlives a crash.
pub fn create_durably(dir: &Path) -> io::Result<()> {
    let dir = std::path::absolute(dir)?;
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.is_dir()).collect();
    for dir in missing.iter().rev() {
        match fs::create_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            other => other?,
        }
        if let Some(parent) = dir.parent() {
            sys::sync_once(&fs::File::open(parent)?)?;
        }
    }
    Ok(())
}

/// Zero says that the kernel has no direct I/O for the file.
fn fits(alignment: u32) -> bool {
    alignment != 0 && BLOCK.is_multiple_of(alignment as usize)
}

impl Fs for HostFs {
    fn root(&self) -> PathBuf {
        self.shown.clone()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(self.at(path)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.at(path)?)? {
            // A name that is not Unicode is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.at(path)?.try_exists()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let full = self.at(path)?;
        let (write, create, want_direct) = match mode {
            OpenMode::Read => (false, false, false),
            OpenMode::ReadWrite => (true, false, false),
            OpenMode::CreateNew => (true, true, false),
            OpenMode::Direct => (true, false, true),
            OpenMode::CreateNewDirect => (true, true, true),
        };
        let file = OpenOptions::new().read(true).write(write).create_new(create).mode(0o644).open(&full)?;
        // Not by O_DIRECT in `open`: where that is refused, the new file would already have been made.
        let direct = want_direct && self.make_direct(&file, &full)?;
        Ok(Arc::new(HostFile::new(file, self.shown.join(path), direct)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.at(from)?, self.at(to)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.at(path)?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(self.at(path)?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        sys::sync_once(&fs::File::open(self.at(path)?)?)
    }

    fn shared_region(&self, path: &Path, len: usize) -> io::Result<Arc<SharedRegion>> {
        region::open(&self.at(path)?, len)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Any + Send + Sync>, LockError> {
        let full = self.at(path).map_err(LockError::Io)?;
        Ok(Box::new(DirLock::take(&full)?))
    }
}
