//! Orders from the thread that opens or closes an engine to a shard's thread. Few and rare; one task takes them.

use std::collections::VecDeque;

use super::event::Event;
use super::sync::Mutex;

pub struct Mailbox<T> {
    letters: Mutex<VecDeque<T>>,
    arrived: Event,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Mailbox<T> {
        Mailbox { letters: Mutex::new(VecDeque::new()), arrived: Event::default() }
    }
}

impl<T> Mailbox<T> {
    pub fn send(&self, letter: T) {
        self.letters.lock().push_back(letter);
        self.arrived.set();
    }

    pub async fn receive(&self) -> T {
        loop {
            if let Some(letter) = self.letters.lock().pop_front() {
                return letter;
            }
            self.arrived.wait().await;
        }
    }
}
