//! The descriptor that glommio leaks.
//!
//! glommio 0.9 frees a task without dropping its header, which holds a count of the executor's notifier: once an
//! executor has run anything, the notifier and its eventfd stay for good, one for each start of a shard. A program
//! that opens and closes databases all day would run out of descriptors.
//!
//! Guards: only that eventfd is closed. It is recognised by its counter, which must grow by exactly the number of
//! wakes made, twice; where none or several do, nothing is closed. Since its owner is leaked, nobody closes it again,
//! and nobody writes to it: no waker of glommio's ever leaves the shard's thread.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::future::poll_fn;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::{Latency, Shares};

use crate::runtime::host::sys;

/// How often the counter is made to grow between two looks: by chance, because another shard may end just now too.
fn numbers_of_wakes() -> Option<[u64; 2]> {
    let chance = sys::random_u64().ok()?;
    Some([3 + chance % 50, 3 + (chance >> 32) % 50])
}

/// A waker of the running executor whose every use by another thread adds one to its eventfd.
pub async fn notifying_waker() -> Option<Waker> {
    let latency = Latency::Matters(Duration::from_millis(1));
    let queue = glommio::executor().create_task_queue(Shares::Static(1), latency, "notifying");
    let task = poll_fn(|context| Poll::Ready(context.waker().clone()));
    Some(glommio::spawn_local_into(task, queue).ok()?.await)
}

/// After the executor's last run, on its thread, which is then as foreign to it as any other: the eventfd behind
/// `waker`, to be closed once the executor is gone.
pub fn leaked_event(waker: &Waker) -> Option<OwnedFd> {
    // A read that the executor has left in the kernel takes what is there first.
    wake(waker, 2);
    let wakes = numbers_of_wakes()?;
    let mut looks = vec![counters()?];
    for count in wakes {
        wake(waker, count);
        looks.push(counters()?);
    }
    let grew = |fd: &RawFd| {
        looks.windows(2).zip(wakes).all(|(look, count)| match (look[0].get(fd), look[1].get(fd)) {
            (Some(before), Some(after)) => after.checked_sub(*before) == Some(count),
            _ => false,
        })
    };
    let mut found = looks[0].keys().copied().filter(grew);
    let (Some(fd), None) = (found.next(), found.next()) else { return None };
    // SAFETY: as said above, the descriptor is open, its owner is leaked, and this is its only other owner.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn wake(waker: &Waker, count: u64) {
    for _ in 0..count {
        waker.wake_by_ref();
    }
}

/// The counters of the process's eventfds.
fn counters() -> Option<BTreeMap<RawFd, u64>> {
    let mut counters = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo").ok()? {
        let entry = entry.ok()?;
        // Others open and close descriptors meanwhile.
        let Ok(info) = fs::read_to_string(entry.path()) else { continue };
        let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:"));
        if let Some(count) = count.and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            && let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok())
        {
            counters.insert(fd, count);
        }
    }
    Some(counters)
}
