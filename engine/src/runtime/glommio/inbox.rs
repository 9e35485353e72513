//! Where woken tasks wait to be run, and the bell that rouses a sleeping thread.
//!
//! Guards: a task pushed here is run, whatever the thread was doing: either the thread sees it at its last look before
//! it sleeps, or the pusher sees that the thread sleeps and rings. A wake of a thread that is awake costs no system
//! call.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use async_task::Runnable;
use crossbeam_queue::SegQueue;

use super::sleep::Sleep;
use crate::runtime::TaskClass;
use crate::runtime::host::sys;

pub struct Inbox {
    foreground: SegQueue<Runnable>,
    background: SegQueue<Runnable>,
    sleep: Sleep,
    /// The thread's ring waits for it to be added to.
    bell: Arc<OwnedFd>,
}

impl Inbox {
    pub fn new() -> io::Result<Inbox> {
        Ok(Inbox {
            foreground: SegQueue::new(),
            background: SegQueue::new(),
            sleep: Sleep::default(),
            bell: Arc::new(sys::event_counter()?),
        })
    }

    fn woken(&self, class: TaskClass) -> &SegQueue<Runnable> {
        match class {
            TaskClass::Foreground => &self.foreground,
            TaskClass::Background => &self.background,
        }
    }

    /// From any thread.
    pub fn push(&self, class: TaskClass, task: Runnable) {
        self.woken(class).push(task);
        if self.sleep.must_ring()
            && let Err(e) = sys::add_event(self.bell.as_fd())
        {
            // The counter is read to zero at each wake, so it is not full; there is no other reason to fail.
            tracing::error!(error = %e, "cannot wake a shard's thread");
        }
    }

    pub fn pop(&self, class: TaskClass) -> Option<Runnable> {
        self.woken(class).pop()
    }

    pub fn is_empty(&self, class: TaskClass) -> bool {
        self.woken(class).is_empty()
    }

    /// From here on a push rings; false: there is something to run, and the thread must not sleep.
    pub fn fall_asleep(&self) -> bool {
        self.sleep.fall_asleep(|| !self.foreground.is_empty() || !self.background.is_empty())
    }

    pub fn wake_up(&self) {
        self.sleep.wake_up();
    }

    pub fn bell(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.bell)
    }
}
