//! The engine's files on loom.

#[path = "../../engine/src/event.rs"]
pub mod event;
#[path = "../../engine/src/mailbox.rs"]
pub mod mailbox;
#[path = "../../engine/src/pending.rs"]
pub mod pending;

mod sync {
    pub use loom::sync::atomic::AtomicBool;

    pub use crate::shim::{AtomicWaker, Condvar, Mutex};
}
