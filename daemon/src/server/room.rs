//! How many writes the connections of one thread may have under way together.
//!
//! Guards: the shards' inboxes never fill up by us, so that no client is told to try again while there is anything
//! better to do: who finds no room waits for it, in turn, and takes no further input meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

pub struct Room {
    max: usize,
    taken: Cell<usize>,
    waiting: RefCell<VecDeque<Waker>>,
}

impl Room {
    /// Room for this thread's part of an inbox of `inbox_len`, which `shards` threads send to. Half of it stays free for
    /// what is not counted here: the commands that await each of their writes.
    pub fn new(inbox_len: u32, shards: u16) -> Room {
        let max = (inbox_len as usize / 2 / usize::from(shards.max(1))).max(1);
        Room { max, taken: Cell::new(0), waiting: RefCell::default() }
    }

    pub fn is_full(&self) -> bool {
        self.taken.get() >= self.max
    }

    /// Until there is room. It is not taken yet: no other task runs before the caller does so.
    pub async fn available(&self) {
        let mut waited = false;
        poll_fn(|context| {
            if !self.is_full() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            // Who was woken and found it full again keeps its place at the front.
            if waited {
                waiting.push_front(context.waker().clone())
            } else {
                waiting.push_back(context.waker().clone())
            }
            waited = true;
            Poll::Pending
        })
        .await;
    }

    pub fn take(&self) {
        self.taken.set(self.taken.get() + 1);
    }

    pub fn give_back(&self, count: usize) {
        self.taken.set(self.taken.get().saturating_sub(count));
        self.pass_on();
    }

    /// Wake as many as there is room for. Whoever waited calls it too, for it may not have needed the room.
    pub fn pass_on(&self) {
        let mut free = self.max.saturating_sub(self.taken.get());
        while free > 0 {
            let Some(waker) = self.waiting.borrow_mut().pop_front() else { return };
            waker.wake();
            free -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    #[test]
    fn who_finds_no_room_waits_for_it() {
        let room = Room::new(8, 2);
        block_on(async {
            for _ in 0..2 {
                room.available().await;
                room.take();
            }
            let mut waiting = pin!(room.available());
            assert!(poll_once(waiting.as_mut()).await.is_none());
            room.give_back(1);
            assert!(poll_once(waiting.as_mut()).await.is_some());
        });
    }

    #[test]
    fn room_that_was_not_needed_goes_to_the_next() {
        let room = Room::new(2, 1);
        block_on(async {
            room.take();
            let (mut first, mut second) = (pin!(room.available()), pin!(room.available()));
            assert!(poll_once(first.as_mut()).await.is_none());
            assert!(poll_once(second.as_mut()).await.is_none());
            room.give_back(1);
            assert!(poll_once(first.as_mut()).await.is_some());
            room.pass_on();
            assert!(room.waiting.borrow().is_empty(), "the second was woken");
            assert!(poll_once(second.as_mut()).await.is_some());
        });
    }

    #[test]
    fn there_is_room_for_at_least_one() {
        assert!(!Room::new(2, 1000).is_full());
    }
}
