//! The counter that orders commits over all shards, and the rule by which a view over all shards misses none.
//!
//! Guards: a snapshot taken at `S` holds exactly the commits up to `S`, on every shard, including all that were
//! acknowledged before it was asked for.
//!
//! A shard announces, before it draws a number, that a commit *at or above what the counter shows* is under way
//! ([`InFlight::announce`]), and takes the announcement back when everything it drew is visible. A reader draws `S` and
//! then looks at each shard's announcement. If it is above `S`, or none, no commit up to `S` is under way there and none
//! can come: whoever draws later draws above `S`. Else the reader waits for that shard, at most one flush. All accesses are
//! sequentially consistent, so that either the shard sees the reader's draw or the reader the shard's announcement.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::CommitTs;

/// One per engine.
#[derive(Default)]
pub struct Timestamps {
    last: AtomicU64,
}

impl Timestamps {
    /// Start behind everything that recovery found.
    pub fn starting_after(last: CommitTs) -> Timestamps {
        Timestamps { last: AtomicU64::new(last.0) }
    }

    /// The highest number given out.
    pub fn last(&self) -> CommitTs {
        CommitTs(self.last.load(Ordering::SeqCst))
    }

    /// Recovery found a commit with this number.
    pub fn raise_to(&self, seen: CommitTs) {
        self.last.fetch_max(seen.0, Ordering::SeqCst);
    }

    /// The next number, for something that is no commit: nobody waits for it to become visible.
    pub fn draw_number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The next number; `in_flight` announces it first.
    pub fn draw(&self, in_flight: &InFlight) -> CommitTs {
        in_flight.announce(CommitTs(self.last.load(Ordering::SeqCst) + 1));
        CommitTs(self.last.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// The next number, for a commit that all these shards announce first.
pub fn draw_over(timestamps: &Timestamps, shards: &[&InFlight]) -> CommitTs {
    let at_least = CommitTs(timestamps.last.load(Ordering::SeqCst) + 1);
    shards.iter().for_each(|shard| shard.announce(at_least));
    CommitTs(timestamps.last.fetch_add(1, Ordering::SeqCst) + 1)
}

/// One shard's announcement: no commit below this number is under way there.
pub struct InFlight {
    floor: AtomicU64,
}

impl Default for InFlight {
    fn default() -> InFlight {
        InFlight { floor: AtomicU64::new(CommitTs::MAX.0) }
    }
}

impl InFlight {
    /// Called by the shard alone.
    fn announce(&self, at_least: CommitTs) {
        if self.floor.load(Ordering::SeqCst) == CommitTs::MAX.0 {
            self.floor.store(at_least.0, Ordering::SeqCst);
        }
    }

    /// The oldest commit still under way, or `MAX`. Called by the shard alone.
    pub fn set_oldest(&self, oldest: CommitTs) {
        self.floor.store(oldest.0, Ordering::SeqCst);
    }

    /// The oldest commit that may be under way, or `MAX`.
    pub fn oldest(&self) -> CommitTs {
        CommitTs(self.floor.load(Ordering::SeqCst))
    }

    /// Whether every commit up to `at`, drawn before, is visible on this shard.
    pub fn is_settled(&self, at: CommitTs) -> bool {
        self.floor.load(Ordering::SeqCst) > at.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_waits_exactly_while_a_commit_up_to_its_view_is_under_way() {
        let timestamps = Timestamps::starting_after(CommitTs(10));
        let shard = InFlight::default();
        assert!(shard.is_settled(timestamps.last()));
        let first = timestamps.draw(&shard);
        let second = timestamps.draw(&shard);
        assert_eq!((first, second), (CommitTs(11), CommitTs(12)));
        assert!(shard.is_settled(CommitTs(10)));
        assert!(!shard.is_settled(CommitTs(11)));
        shard.set_oldest(second);
        assert!(shard.is_settled(CommitTs(11)) && !shard.is_settled(CommitTs(12)));
        shard.set_oldest(CommitTs::MAX);
        assert!(shard.is_settled(timestamps.last()));
    }
}
