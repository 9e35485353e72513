//! The engine's files on loom.

#[path = "../../engine/src/event.rs"]
pub mod event;
#[path = "../../engine/src/shard/inbox.rs"]
pub mod inbox;
#[path = "../../engine/src/mailbox.rs"]
pub mod mailbox;
#[path = "../../engine/src/shard/mark.rs"]
pub mod mark;
#[path = "../../engine/src/pending.rs"]
pub mod pending;
#[path = "../../engine/src/runtime/glommio/sleep.rs"]
pub mod sleep;

mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};

    pub use crate::shim::{ArcSwapOption, ArrayQueue, AtomicWaker, Condvar, Mutex};
}
