//! Reads, writes and syncs as they take effect on the disk, with the faults that strike them.

use std::io;
use std::path::Path;

use super::disk::Ino;
use super::disk::crash::SECTOR;
use super::faults::Fault;
use super::points::OpKind;
use super::state::{Rules, State};
use crate::runtime::BLOCK;

pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

pub(super) fn enospc() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

/// Direct I/O has rules that a kernel answers with EINVAL; breaking them is our mistake, so it stops the run.
pub(super) fn check_rules(rules: Rules, kind: OpKind, path: &Path, offset: u64, bytes: &[u8]) {
    let path = path.display();
    let reads = kind == OpKind::Read;
    assert!(reads || rules.writable, "{kind:?} of {path}, which was opened for reading");
    if rules.direct {
        let (address, len) = (bytes.as_ptr() as usize, bytes.len());
        assert!(
            offset.is_multiple_of(BLOCK as u64),
            "direct {kind:?} of {path} at byte {offset}, not a multiple of {BLOCK}"
        );
        assert!(len.is_multiple_of(BLOCK), "direct {kind:?} of {path} of {len} bytes, not a multiple of {BLOCK}");
        assert!(address.is_multiple_of(BLOCK), "direct {kind:?} of {path} with memory not aligned to {BLOCK}");
    }
}

impl State {
    pub fn read(&mut self, ino: Ino, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let fault = self.strike(OpKind::Read, path);
        if fault == Some(Fault::ReadError) {
            self.rng_faults.fill(buf);
            return Err(eio());
        }
        let in_file = self.disk.inode(ino).len().saturating_sub(offset).min(buf.len() as u64);
        if fault == Some(Fault::BitRot) {
            self.rot(ino, offset, in_file);
        }
        let n = self.disk.inode(ino).read(offset, buf);
        if fault == Some(Fault::ShortRead) && n > 0 {
            return Ok(self.rng_faults.index(n));
        }
        self.trace.counters.bytes_read += n as u64;
        self.trace.mix(&[n as u64, xxhash_rust::xxh3::xxh3_64(&buf[..n])], || format!("     read {n} bytes"));
        Ok(n)
    }

    /// Flip a bit among `len` bytes of the medium.
    pub fn rot(&mut self, ino: Ino, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        let at = offset + self.rng_faults.below(len);
        let bit = self.rng_faults.below(8);
        self.disk.inode_mut(ino).damage(at, |byte| byte ^ (1 << bit));
    }

    /// Returns the bytes written: fewer than given only by [`Fault::ShortWrite`].
    pub fn write(&mut self, ino: Ino, path: &Path, offset: u64, data: &[u8], durable: bool) -> io::Result<usize> {
        assert!(
            !self.regions.iter().any(|r| r.ino == ino),
            "write to {} while it is mapped as a region",
            path.display()
        );
        let kind = if durable { OpKind::WriteDurable } else { OpKind::Write };
        let fault = self.strike(kind, path);
        let room = self.disk.inode(ino).space_for(offset, data.len() as u64);
        if fault == Some(Fault::NoSpace) || !self.has_room(room) {
            return Err(enospc());
        }
        let done = match fault {
            Some(Fault::LostWrite) => return Ok(data.len()),
            Some(Fault::WriteError) => {
                self.write_parts(ino, offset, data);
                return Err(eio());
            }
            Some(Fault::ShortWrite) if data.len() >= SECTOR => {
                // As often near the beginning as near the end: a long write may end in what nobody misses.
                let sectors = data.len() / SECTOR;
                let most = 1 << self.rng_faults.index(sectors.ilog2() as usize + 1);
                self.rng_faults.index(most) * SECTOR
            }
            _ => data.len(),
        };
        let offset = match fault {
            Some(Fault::MisdirectedWrite) => self.elsewhere(ino, offset),
            _ => offset,
        };
        let seq = self.disk.next_seq();
        if durable && fault != Some(Fault::SyncError) {
            self.disk.inode_mut(ino).write_durable(seq, offset, &data[..done]);
        } else {
            self.disk.inode_mut(ino).write(seq, offset, &data[..done]);
        }
        self.trace.counters.bytes_written += done as u64;
        if fault == Some(Fault::SyncError) {
            self.sync_failed(ino, seq);
            return Err(eio());
        }
        Ok(done)
    }

    /// Some sectors of a write that failed.
    fn write_parts(&mut self, ino: Ino, offset: u64, data: &[u8]) {
        let seq = self.disk.next_seq();
        for at in (0..data.len()).step_by(SECTOR) {
            if self.rng_faults.coin() {
                let end = (at + SECTOR).min(data.len());
                self.disk.inode_mut(ino).write(seq, offset + at as u64, &data[at..end]);
            }
        }
    }

    /// Another block of the same file, or the next one if it has only one.
    fn elsewhere(&mut self, ino: Ino, offset: u64) -> u64 {
        let blocks = (self.disk.inode(ino).len() / BLOCK as u64).max(2);
        let block = (offset / BLOCK as u64 + 1 + self.rng_faults.below(blocks - 1)) % blocks;
        block * BLOCK as u64 + offset % BLOCK as u64
    }

    /// A sync of what had returned when change `upto` was the last.
    pub fn sync(&mut self, ino: Ino, path: &Path, upto: u64) -> io::Result<()> {
        if self.strike(OpKind::Sync, path).is_some() {
            self.sync_failed(ino, upto);
            return Err(eio());
        }
        self.disk.inode_mut(ino).sync(upto);
        Ok(())
    }

    fn sync_failed(&mut self, ino: Ino, upto: u64) {
        let State { disk, rng_faults, .. } = self;
        disk.inode_mut(ino).sync_failed(upto, rng_faults);
    }
}
