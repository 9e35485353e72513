//! The answer to a write that is under way: a future, a blocking wait, or a call when it is there.
//!
//! Guards: an answer is given exactly once; whoever gives up waiting leaves nothing behind but the write itself.
//! A thread that waits for its own write may perform the flush itself ([`Helper`]), which spares two wake-ups.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::sync::{Condvar, Mutex};
use crate::error::{Error, Result};

/// What brings a pending answer nearer.
pub trait Helper: Send + Sync {
    /// Do, in the calling thread, what the answer waits for, if nobody else does; returns when there is nothing to do.
    fn help(&self, ready: &dyn Fn() -> bool);
    /// See to it that somebody else does.
    fn kick(&self);
}

type OnReady<T> = Box<dyn FnOnce(Result<T>) + Send>;

enum State<T> {
    Empty,
    Polled(Waker),
    Waiting,
    Callback(OnReady<T>),
    Ready(Result<T>),
    Done,
}

struct Slot<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

/// The giving end. Dropped without an answer it gives [`Error::Closed`].
pub struct Completer<T> {
    slot: Option<Arc<Slot<T>>>,
}

/// The waiting end.
#[must_use = "a write is answered through this; wait for it, or drop it on purpose"]
pub struct Pending<T> {
    slot: Arc<Slot<T>>,
    helper: Option<Arc<dyn Helper>>,
    /// It found no room, and comes again.
    pub(crate) comes_again: bool,
}

/// Both ends of an answer to come.
pub fn pending<T>(helper: Option<Arc<dyn Helper>>) -> (Completer<T>, Pending<T>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Empty), arrived: Condvar::new() });
    (Completer { slot: Some(Arc::clone(&slot)) }, Pending { slot, helper, comes_again: false })
}

impl<T> Completer<T> {
    pub fn complete(mut self, result: Result<T>) {
        self.give(result);
    }

    fn give(&mut self, result: Result<T>) {
        let Some(slot) = self.slot.take() else { return };
        let mut state = slot.state.lock();
        match std::mem::replace(&mut *state, State::Done) {
            State::Empty => *state = State::Ready(result),
            State::Polled(waker) => {
                *state = State::Ready(result);
                drop(state);
                waker.wake();
            }
            State::Waiting => {
                *state = State::Ready(result);
                drop(state);
                slot.arrived.notify_one();
            }
            State::Callback(call) => {
                drop(state);
                call(result);
            }
            State::Ready(_) => unreachable!("an answer is given once"),
            // Nobody waits any more.
            State::Done => {}
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        self.give(Err(Error::Closed));
    }
}

impl<T> Pending<T> {
    /// An answer that is there already.
    pub fn ready(result: Result<T>) -> Pending<T> {
        let slot = Arc::new(Slot { state: Mutex::new(State::Ready(result)), arrived: Condvar::new() });
        Pending { slot, helper: None, comes_again: false }
    }

    pub fn is_ready(&self) -> bool {
        matches!(*self.slot.state.lock(), State::Ready(_))
    }

    /// Whether what the calling thread asks for from now on comes behind this. If not, it may overtake it until there is an answer: a step
    /// over several shards that found no room in one of them.
    pub fn has_place(&self) -> bool {
        !self.comes_again
    }

    /// Do in this thread what the answer waits for, as far as nobody else does it: the flush of its batch, for one. Returns without
    /// waiting for anybody; the answer may be there then.
    pub fn help(&mut self) {
        if let Some(helper) = self.helper.take()
            && !self.is_ready()
        {
            let slot = &self.slot;
            helper.help(&|| matches!(*slot.state.lock(), State::Ready(_)));
        }
    }

    /// Wait in this thread. Must not be called on a shard's own thread, which would wait for itself.
    pub fn wait(mut self) -> Result<T> {
        self.help();
        let mut state = self.slot.state.lock();
        loop {
            match std::mem::replace(&mut *state, State::Waiting) {
                State::Ready(result) => {
                    *state = State::Done;
                    return result;
                }
                State::Empty | State::Waiting => self.slot.arrived.wait(&mut state),
                State::Polled(_) | State::Callback(_) | State::Done => {
                    unreachable!("an answer is awaited in one way")
                }
            }
        }
    }

    /// Have `call` called with the answer: at once in this thread if it is there, else in the thread that completes it.
    /// It must be quick and must not block.
    pub fn on_ready(mut self, call: impl FnOnce(Result<T>) + Send + 'static) {
        let helper = self.helper.take();
        let mut state = self.slot.state.lock();
        match std::mem::replace(&mut *state, State::Done) {
            State::Ready(result) => {
                drop(state);
                call(result);
            }
            State::Empty | State::Polled(_) => {
                *state = State::Callback(Box::new(call));
                drop(state);
                if let Some(helper) = helper {
                    helper.kick();
                }
            }
            State::Waiting | State::Callback(_) | State::Done => unreachable!("an answer is awaited in one way"),
        }
    }
}

impl<T: Send + 'static> Pending<T> {
    /// The answer that `f` makes of this one.
    pub fn then<U: Send + 'static>(mut self, f: impl FnOnce(T) -> Result<U> + Send + 'static) -> Pending<U> {
        let (completer, mut answer) = pending(self.helper.take());
        answer.comes_again = self.comes_again;
        self.on_ready(move |result| completer.complete(result.and_then(f)));
        answer
    }

    /// All answers, in the order of `all`, or the first error of them.
    pub fn all(all: Vec<Pending<T>>) -> Pending<Vec<T>> {
        if all.is_empty() {
            return Pending::ready(Ok(Vec::new()));
        }
        let (completer, answer) = pending(None);
        let answers: Vec<Option<Result<T>>> = all.iter().map(|_| None).collect();
        let left = Arc::new(Mutex::new((all.len(), answers, Some(completer))));
        for (at, each) in all.into_iter().enumerate() {
            let left = Arc::clone(&left);
            each.on_ready(move |result| {
                let mut left = left.lock();
                left.0 -= 1;
                left.1[at] = Some(result);
                if left.0 > 0 {
                    return;
                }
                let answers = std::mem::take(&mut left.1);
                let completer = left.2.take();
                drop(left);
                if let Some(completer) = completer {
                    completer.complete(answers.into_iter().flatten().collect());
                }
            });
        }
        answer
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let slot = Arc::clone(&self.slot);
        let mut state = slot.state.lock();
        match std::mem::replace(&mut *state, State::Done) {
            State::Ready(result) => Poll::Ready(result),
            State::Empty | State::Polled(_) => {
                *state = State::Polled(cx.waker().clone());
                drop(state);
                if let Some(helper) = self.helper.take() {
                    helper.kick();
                }
                Poll::Pending
            }
            State::Done => panic!("an answer was polled after it was given"),
            State::Waiting | State::Callback(_) => unreachable!("an answer is awaited in one way"),
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        // Whoever drops an answer still wants the write.
        if let Some(helper) = self.helper.take()
            && !self.is_ready()
        {
            helper.kick();
        }
    }
}
