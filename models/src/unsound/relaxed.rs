//! Every atomic is relaxed, whatever was asked for, and a fence is none.

#[path = "../../../engine/src/event.rs"]
pub mod event;
#[path = "../../../engine/src/shard/mark.rs"]
pub mod mark;
#[path = "../../../engine/src/runtime/glommio/sleep.rs"]
pub mod sleep;

mod sync {
    use std::sync::atomic::Ordering;

    pub use crate::shim::{ArcSwapOption, AtomicWaker};

    pub fn fence(_: Ordering) {}

    #[derive(Default)]
    pub struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn new(value: bool) -> AtomicBool {
            AtomicBool(loom::sync::atomic::AtomicBool::new(value))
        }

        pub fn load(&self, _: Ordering) -> bool {
            self.0.load(Ordering::Relaxed)
        }

        pub fn store(&self, value: bool, _: Ordering) {
            self.0.store(value, Ordering::Relaxed);
        }

        pub fn swap(&self, value: bool, _: Ordering) -> bool {
            self.0.swap(value, Ordering::Relaxed)
        }
    }

    #[derive(Default)]
    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub fn new(value: u64) -> AtomicU64 {
            AtomicU64(loom::sync::atomic::AtomicU64::new(value))
        }

        pub fn load(&self, _: Ordering) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        pub fn swap(&self, value: u64, _: Ordering) -> u64 {
            self.0.swap(value, Ordering::Relaxed)
        }

        pub fn fetch_or(&self, value: u64, _: Ordering) -> u64 {
            self.0.fetch_or(value, Ordering::Relaxed)
        }
    }

    pub struct AtomicUsize(loom::sync::atomic::AtomicUsize);

    impl AtomicUsize {
        pub fn new(value: usize) -> AtomicUsize {
            AtomicUsize(loom::sync::atomic::AtomicUsize::new(value))
        }

        pub fn fetch_sub(&self, value: usize, _: Ordering) -> usize {
            self.0.fetch_sub(value, Ordering::Relaxed)
        }
    }
}
