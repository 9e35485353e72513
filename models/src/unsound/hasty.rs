//! A count of those who are missing that takes the first for the last.

#[path = "../../../engine/src/shard/mark.rs"]
pub mod mark;

mod sync {
    use std::sync::atomic::Ordering;

    pub use loom::sync::atomic::{AtomicBool, AtomicU64};

    pub use crate::shim::ArcSwapOption;

    pub struct AtomicUsize;

    impl AtomicUsize {
        pub fn new(_: usize) -> AtomicUsize {
            AtomicUsize
        }

        pub fn fetch_sub(&self, _: usize, _: Ordering) -> usize {
            1
        }
    }
}
