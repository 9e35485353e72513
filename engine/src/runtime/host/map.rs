//! Whole files mapped for reading.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// The bytes of a file; an empty one has nothing to map.
pub struct MappedFile(Option<Mmap>);

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

pub fn whole(file: &File) -> io::Result<MappedFile> {
    if file.metadata()?.len() == 0 {
        return Ok(MappedFile(None));
    }
    // SAFETY: files that are mapped are written once and never changed while the directory is locked, and shortened only when
    // nobody can look at the mapping any more (`Keeper::remove_unread`); who else writes there can also write into the
    // process's memory by other means.
    Ok(MappedFile(Some(unsafe { Mmap::map(file) }?)))
}
