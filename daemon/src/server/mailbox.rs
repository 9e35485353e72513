//! Messages for one connection that answer no request of it.
//!
//! Guards: any thread may put one in; the connection's own task takes them, in order, between two replies. How much may
//! wait is for who puts them in to judge by.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::bell::Bell;

#[derive(Default)]
struct Letters {
    queue: VecDeque<Arc<[u8]>>,
    bytes: usize,
}

#[derive(Default)]
pub struct Mailbox {
    letters: Mutex<Letters>,
    bell: Bell,
}

impl Mailbox {
    /// Put in a message that is written for the connection's protocol; returns the bytes that wait now.
    pub fn put(&self, letter: Arc<[u8]>) -> usize {
        let bytes = {
            let mut letters = self.letters.lock();
            letters.bytes += letter.len();
            letters.queue.push_back(letter);
            letters.bytes
        };
        self.bell.ring();
        bytes
    }

    /// Move what waits to the end of `out`, but no more than about `max` bytes. True if nothing is left.
    pub fn take(&self, out: &mut Vec<u8>, max: usize) -> bool {
        let mut letters = self.letters.lock();
        let mut taken = 0;
        while taken < max
            && let Some(letter) = letters.queue.pop_front()
        {
            taken += letter.len();
            out.extend_from_slice(&letter);
        }
        letters.bytes -= taken;
        letters.queue.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.letters.lock().bytes
    }

    /// Have the connection's task look up, be it for a message or for another reason.
    pub fn ring(&self) {
        self.bell.ring();
    }

    pub async fn heard(&self) {
        self.bell.heard().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_in_order_and_as_many_as_are_asked_for() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.put(Arc::from(b"abc".as_slice())), 3);
        assert_eq!(mailbox.put(Arc::from(b"de".as_slice())), 5);
        let mut out = Vec::new();
        assert!(!mailbox.take(&mut out, 1));
        assert_eq!((out.as_slice(), mailbox.bytes()), (b"abc".as_slice(), 2));
        assert!(mailbox.take(&mut out, usize::MAX));
        assert_eq!((out.as_slice(), mailbox.bytes()), (b"abcde".as_slice(), 0));
        futures_lite::future::block_on(mailbox.heard());
    }
}
