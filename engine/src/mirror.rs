//! A small record on disk in two copies: the superblock and each shard's manifest.
//!
//! Guards: [`MirrorFile::save`] returns only when both copies are durable; [`MirrorFile::load`] repairs a copy that a
//! crash or a bad sector took, and refuses when neither can be read.
//! Crash leaves: copy A newer than copy B, or A torn and B the record before; `format/mirror.rs` has the table.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::mirror::{COPY_LEN, CopyAt, MIRROR_PAYLOAD_MAX, MirrorState, decode, encode, judge};
use crate::runtime::{File, Fs, OpenMode};

pub struct MirrorFile {
    file: Arc<dyn File>,
    path: PathBuf,
    sequence: u64,
}

impl MirrorFile {
    /// Create the file and make its name durable. Its record is `NeverWritten` until the first save.
    pub fn create(fs: &Arc<dyn Fs>, path: &Path) -> Result<MirrorFile> {
        let shown = fs.root().join(path);
        let file = fs.open(path, OpenMode::CreateNew).map_err(|e| Error::io("create", &shown, e))?;
        file.allocate(2 * COPY_LEN as u64).map_err(|e| Error::io("allocate", &shown, e))?;
        file.sync_data_blocking().map_err(|e| Error::io("sync", &shown, e))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        fs.sync_dir(parent).map_err(|e| Error::io("sync directory of", &shown, e))?;
        Ok(MirrorFile { file, path: shown, sequence: 0 })
    }

    /// Both copies as they stand; changes nothing.
    pub fn copies(fs: &Arc<dyn Fs>, path: &Path) -> Result<[CopyAt; 2]> {
        let shown = fs.root().join(path);
        let file = fs.open(path, OpenMode::Read).map_err(|e| Error::io("open", &shown, e))?;
        Ok([read_copy(&file, &shown, 0)?, read_copy(&file, &shown, COPY_LEN as u64)?])
    }

    /// Open an existing file for reading its record only.
    pub fn peek(fs: &Arc<dyn Fs>, path: &Path) -> Result<Option<Vec<u8>>> {
        let shown = fs.root().join(path);
        let file = fs.open(path, OpenMode::Read).map_err(|e| Error::io("open", &shown, e))?;
        match read_both(&file, &shown)? {
            MirrorState::NeverWritten => Ok(None),
            MirrorState::Valid { payload, .. } => Ok(Some(payload)),
            MirrorState::Unreadable => Err(unreadable(&shown)),
        }
    }

    /// Open an existing file. `None` as the record means that nothing was ever acknowledged in it.
    pub fn load(fs: &Arc<dyn Fs>, path: &Path) -> Result<(MirrorFile, Option<Vec<u8>>)> {
        let shown = fs.root().join(path);
        let file = fs.open(path, OpenMode::ReadWrite).map_err(|e| Error::io("open", &shown, e))?;
        let state = read_both(&file, &shown)?;
        let mut mirror = MirrorFile { file, path: shown, sequence: 0 };
        match state {
            MirrorState::NeverWritten => Ok((mirror, None)),
            MirrorState::Unreadable => Err(unreadable(&mirror.path)),
            MirrorState::Valid { sequence, payload, repair } => {
                mirror.sequence = sequence;
                if repair {
                    tracing::warn!(path = %mirror.path.display(), "a copy was torn or damaged; rewriting it from the other");
                    mirror.save(&payload)?;
                } else {
                    // A save whose last sync failed leaves a second copy that reads well and is not durable.
                    mirror.write_copy(COPY_LEN as u64, &encode(sequence, &payload))?;
                }
                Ok((mirror, Some(payload)))
            }
        }
    }

    /// Replace the record. After an error the old or the new record will be found.
    pub fn save(&mut self, payload: &[u8]) -> Result<()> {
        if payload.len() > MIRROR_PAYLOAD_MAX {
            return Err(Error::invalid(format!(
                "{}: a record of {} bytes; at most {MIRROR_PAYLOAD_MAX}",
                self.path.display(),
                payload.len()
            )));
        }
        // A number of its own for every attempt: what a failed one left must be older than the next.
        self.sequence += 1;
        let bytes = encode(self.sequence, payload);
        for copy in [0, COPY_LEN as u64] {
            self.write_copy(copy, &bytes)?;
        }
        Ok(())
    }

    fn write_copy(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_blocking(at, bytes).map_err(|e| Error::io_at("write", &self.path, at, e))?;
        self.file.sync_data_blocking().map_err(|e| Error::io("sync", &self.path, e))
    }
}

fn unreadable(path: &Path) -> Error {
    Error::corrupt(path, 0, "both copies of the record are damaged; restore the file from a backup")
}

fn read_both(file: &Arc<dyn File>, path: &Path) -> Result<MirrorState> {
    Ok(judge(read_copy(file, path, 0)?, read_copy(file, path, COPY_LEN as u64)?))
}

/// One copy; reads the header's block first, so that an opening does not read megabytes.
fn read_copy(file: &Arc<dyn File>, path: &Path, at: u64) -> Result<CopyAt> {
    match decode(&read_up_to(file, path, at, 64 << 10)?) {
        CopyAt::Unreadable => Ok(decode(&read_up_to(file, path, at, COPY_LEN)?)),
        other => Ok(other),
    }
}

/// So many bytes, or what the file has. A read that stops short is an error, not a damaged record.
fn read_up_to(file: &Arc<dyn File>, path: &Path, at: u64, len: usize) -> Result<Vec<u8>> {
    let problem = |e| Error::io_at("read", path, at, e);
    let there = file.size().map_err(problem)?.saturating_sub(at);
    let mut bytes = vec![0; usize::try_from(there).map_or(len, |there| there.min(len))];
    file.read_all_blocking(at, &mut bytes).map_err(problem)?;
    Ok(bytes)
}
