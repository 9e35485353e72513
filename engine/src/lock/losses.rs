//! Holds that a session lost, for whoever asks on its behalf.
//!
//! Guards: from the first question on, each loss can be taken once, in the order in which the holds ended; whoever waits is told of a
//! loss, and of the session's end. What nobody takes is bounded, and who takes it then is told that something is missing.

use std::collections::VecDeque;
use std::time::Duration;

use super::sessions::LockLost;
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex};

/// Losses that wait for their session to take them.
const WAITING_MAX: usize = 1 << 16;

type Notify = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct Losses {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    /// Somebody has asked: from then on losses are kept.
    wanted: bool,
    waiting: VecDeque<LockLost>,
    /// Some were not kept, because nobody took them.
    missing: bool,
    notify: Option<Notify>,
    /// No more will come.
    end: Option<Error>,
}

impl Losses {
    /// The next loss, waited for up to `at_most`; `None`: there was none in time.
    pub fn take(&self, at_most: Option<Duration>) -> Result<Option<LockLost>> {
        let mut state = self.state.lock();
        state.wanted = true;
        match at_most {
            Some(Duration::ZERO) => {}
            Some(time) => drop(self.arrived.wait_while_for(&mut state, |state| !state.is_ready(), time)),
            None => self.arrived.wait_while(&mut state, |state| !state.is_ready()),
        }
        state.next()
    }

    /// Have `notify` called once, when there is something to take: now, if it is so already. Who asked before is forgotten.
    pub fn on_ready(&self, notify: Notify) {
        let mut state = self.state.lock();
        state.wanted = true;
        let before = state.notify.replace(notify);
        let now = if state.is_ready() { state.notify.take() } else { None };
        // They run code of whoever asked: never under the lock.
        drop(state);
        drop(before);
        now.into_iter().for_each(|notify| notify());
    }

    /// A hold has ended.
    pub fn add(&self, lost: &LockLost) {
        let mut state = self.state.lock();
        if !state.wanted || state.end.is_some() {
            return;
        }
        if state.waiting.len() == WAITING_MAX {
            state.waiting.pop_front();
            state.missing = true;
        }
        state.waiting.push_back(lost.clone());
        let notify = state.notify.take();
        drop(state);
        self.tell(notify);
    }

    /// No more will come: the session has ended everywhere, or the engine closes.
    pub fn end(&self, why: Error) {
        let mut state = self.state.lock();
        state.end.get_or_insert(why);
        let notify = state.notify.take();
        drop(state);
        self.tell(notify);
    }

    fn tell(&self, notify: Option<Notify>) {
        self.arrived.notify_all();
        notify.into_iter().for_each(|notify| notify());
    }
}

impl State {
    fn is_ready(&self) -> bool {
        !self.waiting.is_empty() || self.end.is_some()
    }

    fn next(&mut self) -> Result<Option<LockLost>> {
        if std::mem::take(&mut self.missing) {
            return Err(Error::Busy { queue: "losses that their session did not take", limit: WAITING_MAX as u64 });
        }
        match (self.waiting.pop_front(), &self.end) {
            (Some(lost), _) => Ok(Some(lost)),
            (None, Some(end)) => Err(end.clone()),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ids::{FencingToken, SessionId};

    fn lost(token: u64) -> LockLost {
        LockLost { name: b"n".to_vec(), session: SessionId(1), token: FencingToken(token) }
    }

    fn told(losses: &Losses) -> Arc<AtomicUsize> {
        let told = Arc::new(AtomicUsize::new(0));
        let own = Arc::clone(&told);
        losses.on_ready(Box::new(move || {
            own.fetch_add(1, Ordering::SeqCst);
        }));
        told
    }

    #[test]
    fn each_loss_is_taken_once_and_whoever_waits_is_told() {
        let losses = Losses::default();
        losses.add(&lost(1));
        assert_eq!(losses.take(Some(Duration::ZERO)).unwrap(), None, "before anybody asked");
        let first = told(&losses);
        losses.add(&lost(2));
        losses.add(&lost(3));
        assert_eq!(first.load(Ordering::SeqCst), 1, "once");
        let second = told(&losses);
        assert_eq!(second.load(Ordering::SeqCst), 1, "at once: there is something");
        assert_eq!(losses.take(None).unwrap(), Some(lost(2)));
        assert_eq!(losses.take(Some(Duration::from_secs(1))).unwrap(), Some(lost(3)));
        assert_eq!(losses.take(Some(Duration::from_millis(1))).unwrap(), None);
        let third = told(&losses);
        losses.add(&lost(4));
        losses.end(Error::Closed);
        losses.end(Error::Overflow);
        assert_eq!(third.load(Ordering::SeqCst), 1);
        assert_eq!(losses.take(None).unwrap(), Some(lost(4)));
        assert!(matches!(losses.take(None), Err(Error::Closed)));
        assert_eq!(told(&losses).load(Ordering::SeqCst), 1, "the end is something, too");
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_says_so() {
        let losses = Losses::default();
        assert_eq!(losses.take(Some(Duration::ZERO)).unwrap(), None);
        (0..WAITING_MAX as u64 + 2).for_each(|token| losses.add(&lost(token)));
        assert!(matches!(losses.take(None), Err(Error::Busy { .. })));
        assert_eq!(losses.take(None).unwrap(), Some(lost(2)));
    }

    #[test]
    fn a_thread_that_waits_is_woken() {
        let losses = Arc::new(Losses::default());
        let waiting = Arc::clone(&losses);
        let thread = std::thread::spawn(move || waiting.take(None).unwrap());
        while !losses.state.lock().wanted {
            std::thread::yield_now();
        }
        losses.add(&lost(7));
        assert_eq!(thread.join().unwrap(), Some(lost(7)));
    }
}
