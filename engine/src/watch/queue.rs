//! A watcher's end: events that wait to be taken, within a limit, and how it ended.
//!
//! Guards: events are taken in order, each once; an end comes behind what waits, but for a watcher that is cut off: there what
//! waits is dropped, and it is told from where to go on.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::hub::Hub;
use super::{WatchEvent, WatchKeys};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::ids::{CommitTs, Keyspace};
use crate::sync::{Condvar, Mutex};

type Notify = Arc<dyn Fn() + Send + Sync>;

pub struct Queue {
    pub keyspace: Keyspace,
    pub keys: WatchKeys,
    /// Of a watch that begins now, when that is: what ended before is no news. Zero for one from further back.
    pub began_ms: u64,
    limit_bytes: u64,
    state: Mutex<State>,
    arrived: Condvar,
    /// Some were taken, or nobody takes any more.
    room: Event,
}

struct State {
    waiting: VecDeque<WatchEvent>,
    bytes: u64,
    /// Everything up to here was put in, or does not concern it; once it is live, the hub's frontier says more.
    reached: CommitTs,
    live: bool,
    end: Option<Error>,
    dropped: bool,
    waker: Option<Waker>,
    notify: Option<Notify>,
}

impl State {
    fn take(&mut self) -> Option<WatchEvent> {
        let event = self.waiting.pop_front()?;
        self.bytes -= event.bytes();
        self.reached = self.reached.max(event.at);
        Some(event)
    }

    fn is_over(&self) -> bool {
        self.dropped || self.end.is_some()
    }
}

impl Queue {
    pub fn new(keyspace: Keyspace, keys: WatchKeys, limit_bytes: u64, from: CommitTs, began_ms: u64) -> Queue {
        let state = State {
            waiting: VecDeque::new(),
            bytes: 0,
            reached: from,
            live: false,
            end: None,
            dropped: false,
            waker: None,
            notify: None,
        };
        Queue {
            keyspace,
            keys,
            began_ms,
            limit_bytes,
            state: Mutex::new(state),
            arrived: Condvar::new(),
            room: Event::default(),
        }
    }

    /// Add an event; a live watch that is too far behind is cut off. False: nothing more is wanted.
    pub fn push(&self, event: WatchEvent) -> bool {
        let mut state = self.state.lock();
        if state.is_over() {
            return false;
        }
        // Its number was given out before the watch began or joined: it was read from the log, or is not asked for.
        if state.live && event.at <= state.reached {
            return true;
        }
        let bytes = event.bytes();
        match state.waiting.front() {
            Some(front) if state.live && state.bytes + bytes > self.limit_bytes => {
                let resume = CommitTs(front.at.0 - 1);
                cut(&mut state, resume);
                false
            }
            Some(_) | None => {
                state.bytes += bytes;
                state.waiting.push_back(event);
                true
            }
        }
    }

    /// What memory holds after `at` is in the queue: from now on it gets what comes. False if nobody wants it.
    pub fn go_live(&self, at: CommitTs) -> bool {
        let mut state = self.state.lock();
        state.live = true;
        state.reached = state.reached.max(at);
        !state.is_over()
    }

    /// It reads the log and has put in everything up to here.
    pub fn reach_reading(&self, at: CommitTs) {
        let mut state = self.state.lock();
        state.reached = state.reached.max(at);
    }

    /// No more will come.
    pub fn end(&self, error: Error) {
        let mut state = self.state.lock();
        if !state.is_over() {
            state.end = Some(error);
        }
    }

    /// Something was lost behind `at`, up to which everything was handed out.
    pub fn cut_off(&self, at: CommitTs) {
        let mut state = self.state.lock();
        if !state.is_over() {
            let resume = state.waiting.front().map_or(at.max(state.reached), |front| CommitTs(front.at.0 - 1));
            cut(&mut state, resume);
        }
    }

    /// Tell whoever waits. Called without any lock of the hub.
    pub fn signal(&self) {
        let mut state = self.state.lock();
        let (waker, notify) = (state.waker.take(), state.notify.clone());
        drop(state);
        self.arrived.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(notify) = notify {
            notify();
        }
    }

    /// Wait until less than half the limit waits. False: nobody takes any more.
    pub async fn wait_for_room(&self) -> bool {
        loop {
            {
                let state = self.state.lock();
                if state.is_over() {
                    return false;
                }
                if state.bytes <= self.limit_bytes / 2 {
                    return true;
                }
            }
            self.room.wait().await;
        }
    }

    fn next(&self, state: &mut State) -> Option<Result<WatchEvent>> {
        match state.take() {
            Some(event) => {
                if !state.live {
                    self.room.set();
                }
                Some(Ok(event))
            }
            None => state.end.clone().map(Err),
        }
    }
}

fn cut(state: &mut State, resume: CommitTs) {
    state.waiting.clear();
    state.bytes = 0;
    state.reached = resume;
    state.end = Some(Error::Lagged { resume });
}

/// A watch. Dropping it ends it. Threads that share one share what comes.
pub struct Watch {
    queue: Arc<Queue>,
    hub: Arc<Hub>,
    id: u64,
}

impl Watch {
    pub(crate) fn new(queue: Arc<Queue>, hub: Arc<Hub>, id: u64) -> Watch {
        Watch { queue, hub, id }
    }

    /// The next event, if one waits; the error that ended the watch, once all before it were taken.
    pub fn try_next(&self) -> Result<Option<WatchEvent>> {
        self.queue.next(&mut self.queue.state.lock()).transpose()
    }

    /// The next event. One task waits at a time.
    pub fn next(&self) -> impl Future<Output = Result<WatchEvent>> + '_ {
        poll_fn(|cx| {
            let mut state = self.queue.state.lock();
            match self.queue.next(&mut state) {
                Some(next) => Poll::Ready(next),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    /// Wait in this thread; `None`: nothing came in time. Not on a shard's own thread.
    pub fn wait(&self, at_most: Option<Duration>) -> Result<Option<WatchEvent>> {
        let mut state = self.queue.state.lock();
        let nothing = |state: &mut State| state.waiting.is_empty() && state.end.is_none();
        match at_most {
            Some(time) => drop(self.queue.arrived.wait_while_for(&mut state, nothing, time)),
            None => self.queue.arrived.wait_while(&mut state, nothing),
        }
        self.queue.next(&mut state).transpose()
    }

    /// Everything up to here was taken: a watch from here loses nothing.
    pub fn progress(&self) -> CommitTs {
        // First the frontier: what lies before it is in the queue.
        let frontier = self.hub.frontier();
        let state = self.queue.state.lock();
        match state.waiting.front() {
            Some(front) => CommitTs(front.at.0 - 1).max(state.reached),
            None if state.live && state.end.is_none() => frontier.max(state.reached),
            None => state.reached,
        }
    }

    /// Have `notify` called when something is to be taken: now if it is so already, and whenever something came. It is called on
    /// shards' threads, must be quick, and calls nothing of the engine.
    pub fn on_ready(&self, notify: impl Fn() + Send + Sync + 'static) {
        let notify: Notify = Arc::new(notify);
        let mut state = self.queue.state.lock();
        let before = state.notify.replace(Arc::clone(&notify));
        let ready = !state.waiting.is_empty() || state.end.is_some();
        drop(state);
        drop(before);
        if ready {
            notify();
        }
    }

    /// End it: whoever waits is told [`Error::Closed`] behind what waits.
    pub fn stop(&self) {
        self.hub.leave(self.id);
        self.queue.end(Error::Closed);
        self.queue.room.set();
        self.queue.signal();
    }

    pub fn keyspace(&self) -> Keyspace {
        self.queue.keyspace
    }

    pub fn keys(&self) -> &WatchKeys {
        &self.queue.keys
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.dropped = true;
        state.waiting.clear();
        let notify = state.notify.take();
        drop(state);
        drop(notify);
        self.queue.room.set();
        self.hub.leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Kind;
    use crate::watch::{Change, What};

    fn event(at: u64) -> WatchEvent {
        let what = What::Put { value: Vec::new(), kind: Kind::BYTES, expiry: crate::ids::Expiry::NEVER };
        WatchEvent {
            at: CommitTs(at),
            changes: vec![Arc::new(Change { keyspace: Keyspace(0), key: Vec::new(), what })],
        }
    }

    #[test]
    fn what_was_given_out_before_a_watch_joined_is_not_told_again() {
        let queue = Queue::new(Keyspace(0), WatchKeys::Prefix(Vec::new()), 1000, CommitTs(3), 0);
        assert!(queue.push(event(4)), "read from the log");
        assert!(queue.go_live(CommitTs(6)));
        // Commit 5 was under way when the watch had read up to 6.
        assert!(queue.push(event(5)) && queue.push(event(7)));
        let mut state = queue.state.lock();
        let told = std::iter::from_fn(|| state.take()).map(|event| event.at.0);
        assert_eq!(told.collect::<Vec<_>>(), [4, 7]);
    }
}
