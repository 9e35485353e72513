//! The machine's clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use super::sys;
use crate::runtime::Clock;

pub struct SystemClock;

impl Clock for SystemClock {
    fn monotonic_ns(&self) -> u64 {
        sys::monotonic_ns()
    }

    fn wall_ms(&self) -> u64 {
        // A clock set before 1970 reads as 1970: expiries are then far away rather than past.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    fn pause(&self, time: std::time::Duration) {
        std::thread::sleep(time);
    }
}
