//! Every atomic is relaxed, whatever was asked for.

#[path = "../../../engine/src/event.rs"]
pub mod event;

mod sync {
    use std::sync::atomic::Ordering;

    pub use crate::shim::AtomicWaker;

    #[derive(Default)]
    pub struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn swap(&self, value: bool, _: Ordering) -> bool {
            self.0.swap(value, Ordering::Relaxed)
        }
    }
}
