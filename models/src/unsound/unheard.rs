//! Flags that are never seen set.

#[path = "../../../engine/src/event.rs"]
pub mod event;
#[path = "../../../engine/src/shard/inbox.rs"]
pub mod inbox;

mod sync {
    use std::sync::atomic::Ordering;

    pub use crate::shim::{ArrayQueue, AtomicWaker};

    #[derive(Default)]
    pub struct AtomicBool;

    impl AtomicBool {
        pub fn new(_: bool) -> AtomicBool {
            AtomicBool
        }

        pub fn load(&self, _: Ordering) -> bool {
            false
        }

        pub fn store(&self, _: bool, _: Ordering) {}

        pub fn swap(&self, _: bool, _: Ordering) -> bool {
            false
        }
    }
}
