//! How much of a core the background gets while the foreground has work too.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use glommio::SharesManager;

use crate::runtime::BACKGROUND_WEIGHT;

/// How soon a change counts.
const PERIOD: Duration = Duration::from_millis(1);

/// Shares of glommio's queue for the background; its own queue, in which the foreground runs, has 1000.
#[derive(Default)]
pub struct Weight {
    followed: RefCell<Option<Arc<AtomicU32>>>,
}

impl Weight {
    pub fn follow(&self, weight: Arc<AtomicU32>) {
        *self.followed.borrow_mut() = Some(weight);
    }
}

impl SharesManager for Weight {
    fn shares(&self) -> usize {
        let followed = self.followed.borrow();
        let weight = followed.as_ref().map_or(BACKGROUND_WEIGHT, |weight| weight.load(Ordering::Relaxed));
        // None at all would be never.
        weight.max(1) as usize
    }

    fn adjustment_period(&self) -> Duration {
        PERIOD
    }
}
