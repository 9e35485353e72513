//! What the device under a directory can do, and so how a write there is best made durable.
//!
//! Measured (docs/perf.md has the numbers). On a device with a volatile cache and no FUA, an asynchronous write with
//! RWF_DSYNC ends with a flush in a kernel worker that waits for a timer tick when all processors are busy: 4 ms. A
//! write linked to a data sync does not. On a device with FUA, or without a cache to flush, RWF_DSYNC completes
//! without a worker and is the best.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
    facts: DiskFacts,
}

/// What the kernel says of a device; `None` where it does not.
#[derive(Clone, Debug, Default)]
pub struct DiskFacts {
    /// "write back" or "write through".
    pub write_cache: Option<String>,
    /// Whether one write can be made durable without a flush of the whole cache.
    pub fua: Option<bool>,
    pub scheduler: Option<String>,
    pub nr_requests: Option<u64>,
    /// A disk that turns.
    pub rotational: Option<bool>,
}

impl Disk {
    /// Look at the device of `dir`. What cannot be found out counts as a device with a cache and without FUA.
    pub fn probe(dir: &Path) -> Disk {
        let queue = queue_of(dir);
        let fact = |name: &str| {
            let path = queue.as_ref()?.join(name);
            fs::read_to_string(path).ok().map(|text| text.trim().to_string())
        };
        let yes = |name: &str| fact(name).map(|text| text == "1");
        let facts = DiskFacts {
            write_cache: fact("write_cache"),
            fua: yes("fua"),
            scheduler: fact("scheduler"),
            nr_requests: fact("nr_requests").and_then(|text| text.parse().ok()),
            rotational: yes("rotational"),
        };
        let ring_sync = judge(facts.write_cache.as_deref(), facts.fua);
        tracing::debug!(dir = %dir.display(), ?facts, ?ring_sync, "looked at the disk");
        Disk { ring_sync, facts }
    }

    pub fn facts(&self) -> &DiskFacts {
        &self.facts
    }

    pub fn ring_sync(&self) -> RingSync {
        self.ring_sync
    }
}

fn judge(write_cache: Option<&str>, fua: Option<bool>) -> RingSync {
    match (write_cache, fua) {
        (Some("write through"), _) | (_, Some(true)) => RingSync::WriteThrough,
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
        assert_eq!(judge(Some("write back"), Some(false)), RingSync::LinkedSync);
        assert_eq!(judge(Some("write back"), Some(true)), RingSync::WriteThrough);
        assert_eq!(judge(Some("write through"), Some(false)), RingSync::WriteThrough);
        assert_eq!(judge(None, None), RingSync::LinkedSync);
    }
}
