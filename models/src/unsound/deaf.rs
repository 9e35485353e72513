//! A condition whose waiters are never notified.

#[path = "../../../engine/src/pending.rs"]
pub mod pending;

mod sync {
    pub use crate::shim::Mutex;

    /// Forgets whom to notify.
    #[derive(Default)]
    pub struct Condvar(crate::shim::Condvar);

    impl Condvar {
        pub fn new() -> Condvar {
            Condvar::default()
        }

        pub fn wait<T>(&self, guard: &mut crate::shim::Guard<'_, T>) {
            self.0.wait(guard);
        }

        pub fn notify_one(&self) {}
    }
}
