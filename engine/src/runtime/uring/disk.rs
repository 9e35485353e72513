//! What the device under a directory can do, and so how a write there is best made durable.
//!
//! Measured (docs/perf.md has the numbers). On a device with a volatile cache and no FUA, an asynchronous write with
//! RWF_DSYNC ends with a flush in a kernel worker that waits for a timer tick when all processors are busy: 4 ms. A
//! write linked to a data sync does not. On a device with FUA, or without a cache to flush, RWF_DSYNC completes
//! without a worker and is the best.
//!
//! The shard's thread itself writes short batches: nobody else has to be woken, which saves 13 to 18 us of about 80.
//! That is the same for all lengths, while the time for which its core is held up grows (64 KiB: 80 us, 1 MiB: 300 us),
//! so that long batches go through the ring.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::runtime::DurableWay;

/// The longest batch that the shard's thread writes itself.
const BLOCKING_LEN_MAX: usize = 64 << 10;

/// How the ring makes a write durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingSync {
    /// The write carries RWF_DSYNC.
    WriteThrough,
    /// The write is linked to a data sync.
    LinkedSync,
}

#[derive(Clone, Debug)]
pub struct Disk {
    ring_sync: RingSync,
}

impl Disk {
    /// Look at the device of `dir`. What cannot be found out counts as a device with a cache and without FUA.
    pub fn probe(dir: &Path) -> Disk {
        let queue = queue_of(dir);
        let fact = |name: &str| {
            let path = queue.as_ref()?.join(name);
            fs::read_to_string(path).ok().map(|text| text.trim().to_string())
        };
        let (cache, fua) = (fact("write_cache"), fact("fua"));
        let ring_sync = judge(cache.as_deref(), fua.as_deref());
        tracing::debug!(dir = %dir.display(), ?cache, ?fua, ?ring_sync, "looked at the disk");
        Disk { ring_sync }
    }

    pub fn ring_sync(&self) -> RingSync {
        self.ring_sync
    }

    pub fn durable_way(&self, len: usize) -> DurableWay {
        if len <= BLOCKING_LEN_MAX { DurableWay::Blocking } else { DurableWay::Ring }
    }
}

fn judge(write_cache: Option<&str>, fua: Option<&str>) -> RingSync {
    match (write_cache, fua) {
        (Some("write through"), _) | (_, Some("1")) => RingSync::WriteThrough,
        _ => RingSync::LinkedSync,
    }
}

/// The kernel's description of the device: a partition has none of its own, but lies inside its disk's.
fn queue_of(dir: &Path) -> Option<PathBuf> {
    let device = fs::metadata(dir).ok()?.dev();
    let name = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
    let device = fs::canonicalize(name).ok()?;
    [device.join("queue"), device.parent()?.join("queue")].into_iter().find(|queue| queue.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volatile_cache_without_fua_needs_a_linked_sync() {
        assert_eq!(judge(Some("write back"), Some("0")), RingSync::LinkedSync);
        assert_eq!(judge(Some("write back"), Some("1")), RingSync::WriteThrough);
        assert_eq!(judge(Some("write through"), Some("0")), RingSync::WriteThrough);
        assert_eq!(judge(None, None), RingSync::LinkedSync);
    }
}
