//! Mistakes that can be planted on purpose, so that the simulation can be shown to find each of them.
//!
//! Guards: without the feature `canaries`, which nothing but those tests turns on, [`planted`] is a constant and costs nothing.
//! The choice is one per thread, because a simulation is one thread: many of them can run at once, each with its own mistake.

/// One planted mistake; the names say what the engine then does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Canary {
    /// A write that asked to be durable is answered when it is in memory.
    AcknowledgeBeforeSync,
    /// The name of a new segment is not made durable.
    SkipDirectorySync,
    /// A write of the log that moved fewer bytes than it was given counts as whole.
    IgnoreShortWrite,
    /// A sync that failed is tried once more, and believed.
    RetryFailedSync,
    /// Recovery ends the log at damage below the durable mark as if nothing had been behind it.
    StopAtDamage,
    /// Recovery leaves out the last record of a log.
    CutOneRecordEarly,
    /// Recovery forgets when a value ceases to exist.
    ForgetExpiry,
    /// A read sees what is in memory, durable or not.
    ServeNotDurable,
    /// A guard looks at who holds the lock, and not at whether its lease still runs.
    GuardOutlivesLease,
    /// A commit over several shards is shown, and answered, once the first of its parts is durable.
    ShowCommitInPart,
    /// An opening keeps a part of a commit whose other parts are not there.
    KeepLonelyPart,
    /// A lock is granted whoever else holds it.
    GrantBesideHolder,
    /// An opening does not read back who holds a lock.
    ForgetHold,
    /// The ephemeral keys of a session that has ended stay.
    KeepKeysOfSession,
    /// Watches are not told of deletes.
    LeaveOutDeletes,
    /// Nothing that a transaction read or scanned is looked at again when it commits.
    SkipReadCheck,
    /// Blocks behind a cut are left readable, and recovery takes batches of an earlier life for the log's next (`tests/planted.rs`).
    AcceptEarlierLife,
    /// Watches are told of what one shard shows without a look at what others have under way (`tests/planted.rs`).
    HandOutEarly,
    /// The last in a line is served first (`tests/planted.rs`).
    ServeOutOfTurn,
}

impl Canary {
    /// Those that the scenarios of the crate `corering-sim` find; the others are found by tests that say so.
    pub const ALL: [Canary; 16] = [
        Canary::AcknowledgeBeforeSync,
        Canary::SkipDirectorySync,
        Canary::IgnoreShortWrite,
        Canary::RetryFailedSync,
        Canary::StopAtDamage,
        Canary::CutOneRecordEarly,
        Canary::ForgetExpiry,
        Canary::ServeNotDurable,
        Canary::GuardOutlivesLease,
        Canary::ShowCommitInPart,
        Canary::KeepLonelyPart,
        Canary::GrantBesideHolder,
        Canary::ForgetHold,
        Canary::KeepKeysOfSession,
        Canary::LeaveOutDeletes,
        Canary::SkipReadCheck,
    ];
}

/// Whether this mistake is to be made now.
#[cfg(not(feature = "canaries"))]
#[inline(always)]
pub const fn planted(_: Canary) -> bool {
    false
}

#[cfg(feature = "canaries")]
pub use chosen::{plant, planted};

#[cfg(feature = "canaries")]
mod chosen {
    use std::cell::Cell;

    use super::Canary;

    thread_local! {
        static CHOSEN: Cell<Option<Canary>> = const { Cell::new(None) };
    }

    /// Plant a mistake in all engines that run in this thread from now on, or none.
    pub fn plant(canary: Option<Canary>) {
        CHOSEN.set(canary);
    }

    /// Whether this mistake is to be made now.
    pub fn planted(canary: Canary) -> bool {
        CHOSEN.get() == Some(canary)
    }
}
