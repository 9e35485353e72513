//! The machine: real clocks, real files, a thread and a ring for each shard.
//!
//! Guards: nothing above `runtime/` meets the operating system but through here.
//! Leaves to `glommio/` and `uring/`: what runs inside a shard's thread.

mod clock;
mod file;
mod fs;
mod lock;
mod map;
mod region;
pub(crate) mod sys;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) use file::{HostFile, PIECE_MAX, read_met_end, wrote_nothing};

use crate::error::{Error, Result};
use crate::ids::ShardId;
use crate::runtime::glommio::{ThreadPlan, start_thread};
use crate::runtime::uring::{Disk, DiskFacts};
use crate::runtime::{Clock, Fs, Host, ShardMain, ShardThread};

/// The host of an engine whose directory lies on this machine.
pub struct Machine {
    clock: Arc<clock::SystemClock>,
    fs: Arc<fs::HostFs>,
    disk: Disk,
}

impl Machine {
    /// The machine seen from the directory `root`, which is made (with its parents) if it is missing and may be.
    pub fn new(root: &Path, create_if_missing: bool) -> Result<Machine> {
        let fs = fs::HostFs::new(root).map_err(|e| Error::io("resolve", root, e))?;
        match std::fs::metadata(root) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(Error::io("open", root, io::Error::from_raw_os_error(libc::ENOTDIR))),
            Err(e) if e.kind() == io::ErrorKind::NotFound && create_if_missing => {
                fs::create_durably(root).map_err(|e| Error::io("create", root, e))?;
            }
            Err(e) => return Err(Error::io("open", root, e)),
        }
        Ok(Machine { clock: Arc::new(clock::SystemClock), disk: Disk::probe(root), fs: Arc::new(fs) })
    }

    /// What the kernel says of the device under the directory.
    pub fn disk_facts(&self) -> &DiskFacts {
        self.disk.facts()
    }

    /// As on a file system that has no direct I/O.
    #[cfg(test)]
    pub(crate) fn without_direct(root: &Path) -> Machine {
        let fs = fs::HostFs::without_direct(root).expect("a path");
        Machine { clock: Arc::new(clock::SystemClock), disk: Disk::probe(root), fs: Arc::new(fs) }
    }
}

impl Host for Machine {
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    fn random_u64(&self) -> u64 {
        sys::random_u64().expect("the kernel's random source cannot fail once the machine has started")
    }

    fn boot(&self) -> u64 {
        // Where it cannot be read, every opening counts as another boot: that is careful, not wrong.
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        id.map_or_else(|_| self.random_u64(), |id| xxhash_rust::xxh3::xxh3_64(id.trim().as_bytes()))
    }

    fn processors(&self) -> Vec<usize> {
        sys::allowed_processors().unwrap_or_else(|e| {
            tracing::warn!(error = %e, "cannot ask for the processors to use; using processor 0");
            vec![0]
        })
    }

    fn fs(&self) -> Arc<dyn Fs> {
        Arc::clone(&self.fs) as Arc<dyn Fs>
    }

    fn start_shard(&self, shard: ShardId, processor: Option<usize>, main: ShardMain) -> Result<Box<dyn ShardThread>> {
        start_thread(ThreadPlan { shard, processor, processors: self.processors(), disk: self.disk.clone() }, main)
    }
}
