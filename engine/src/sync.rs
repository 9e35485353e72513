//! What the hand-over between threads is built of (`event.rs`, `mailbox.rs`, `pending.rs`, `shard/inbox.rs`, `shard/mark.rs`,
//! `runtime/glommio/sleep.rs`): the atomics, locks, queues and wakers that threads share. They take them from
//! `super::sync`, so that the crate `corering-models` can put the same files on loom's.

pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};

pub use arc_swap::ArcSwapOption;
pub use atomic_waker::AtomicWaker;
pub use crossbeam_queue::ArrayQueue;
pub use parking_lot::{Condvar, Mutex};
