//! Memory that outlives the process: a shared mapping of a file whose every block is on disk already.
//!
//! Guards: a store into the region cannot meet a full disk (SIGBUS), because its blocks were written when it was made.
//! Crash of the process leaves every store; crash of the machine leaves any of its pages, old or new.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions};

use super::file::allocate_or_undo;
use crate::runtime::{BLOCK, SharedRegion};

pub fn open(path: &Path, len: usize) -> io::Result<Arc<SharedRegion>> {
    if len == 0 || !len.is_multiple_of(BLOCK) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a shared region is a multiple of 4096 bytes long"));
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)?;
    let before = file.metadata()?.len();
    // Also for a file that is long enough: a copy made by a tool may have holes.
    allocate_or_undo(&file, len as u64)?;
    write_zeros(&file, before, len as u64)?;
    // SAFETY: the file belongs to this database alone (its directory is locked), and nobody shortens it.
    let mut map: MmapMut = unsafe { MmapOptions::new().len(len).map_mut(&file) }?;
    let base = NonNull::new(map.as_mut_ptr()).ok_or_else(|| io::Error::other("a mapping at address zero"))?;
    // SAFETY: a mapping starts on a page and lives as long as `map`, which is kept; only slots write there.
    Ok(Arc::new(unsafe { SharedRegion::from_raw(base, len, Box::new(map)) }))
}

/// Blocks that were only reserved still cost the file system metadata at their first writeback; zeros written once
/// leave nothing to be found out later.
fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0_u8; 256 << 10];
    let mut at = from;
    while at < to {
        let part = zeros.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    if from < to { file.sync_all() } else { Ok(()) }
}
