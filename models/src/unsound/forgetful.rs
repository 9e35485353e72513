//! A waker that is never there when it is wanted: every wake-up is lost.

#[path = "../../../engine/src/event.rs"]
pub mod event;
#[path = "../../../engine/src/mailbox.rs"]
pub mod mailbox;

mod sync {
    use std::task::Waker;

    pub use loom::sync::atomic::AtomicBool;

    pub use crate::shim::Mutex;

    /// Wakes nobody.
    #[derive(Default)]
    pub struct AtomicWaker;

    impl AtomicWaker {
        pub fn register(&self, _: &Waker) {}

        pub fn wake(&self) {}
    }
}
