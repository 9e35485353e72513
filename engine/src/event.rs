//! A flag that one task waits for and anybody sets.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::sync::{AtomicBool, AtomicWaker};

/// Set by many, awaited by one task. A set before the wait is not lost; several sets are one.
#[derive(Default)]
pub struct Event {
    set: AtomicBool,
    waker: AtomicWaker,
}

impl Event {
    pub fn set(&self) {
        if !self.set.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Wait for the next set and take it.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.set.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            if self.set.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
