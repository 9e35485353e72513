//! Wakes one task of a shard from any thread.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use atomic_waker::AtomicWaker;

/// Rung from anywhere, heard by one task. A ring that nobody waits for is kept.
#[derive(Default)]
pub struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    pub fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Until it was rung since the last time it was heard.
    pub async fn heard(&self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_ring_is_heard_from_another_thread_and_only_once() {
        let bell = Arc::new(Bell::default());
        let ringer = Arc::clone(&bell);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            ringer.ring();
        });
        futures_lite::future::block_on(bell.heard());
        thread.join().unwrap();
        bell.ring();
        bell.ring();
        futures_lite::future::block_on(bell.heard());
        let again = futures_lite::future::block_on(futures_lite::future::poll_once(bell.heard()));
        assert!(again.is_none());
    }
}
