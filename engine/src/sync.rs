//! What `event.rs`, `mailbox.rs` and `pending.rs` are built of: the atomics, locks and wakers that threads share. They take
//! them from here, beside them, so that the crate `corering-models` can put the same files on loom's.

pub use std::sync::atomic::AtomicBool;

pub use atomic_waker::AtomicWaker;
pub use parking_lot::{Condvar, Mutex};
