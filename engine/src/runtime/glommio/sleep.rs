//! Whether a thread sleeps, so that whoever has work for it rings its bell, and nobody rings for a thread that is awake.
//!
//! Guards: work that was put where the thread looks is seen by its last look before it sleeps, or whoever put it there is told to
//! ring.

use std::sync::atomic::Ordering;

use super::sync::{AtomicBool, fence};

#[derive(Default)]
pub struct Sleep {
    /// Set by the thread before its last look; whoever clears it rings.
    asleep: AtomicBool,
}

impl Sleep {
    /// Called after work was put where the thread looks, from any thread. True: ring.
    pub fn must_ring(&self) -> bool {
        // Either the work is seen by the thread's last look before it sleeps, or its mark is seen here.
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }

    /// From here on whoever has work rings. False: `last_look` found some, and the thread must not sleep.
    pub fn fall_asleep(&self, last_look: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let sleeps = !last_look();
        if !sleeps {
            self.wake_up();
        }
        sleeps
    }

    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
