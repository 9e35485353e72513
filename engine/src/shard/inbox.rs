//! Requests of other threads that wait for a shard, and the bell of the task that takes them.
//!
//! Guards: requests of one thread are executed in the order in which they were submitted; a request that was taken is executed or,
//! once the shard has closed, refused, and once; nobody sleeps while one waits.
//! Does not: run the shard. Whoever holds its core does, and empties this first.

use std::sync::atomic::Ordering;

use super::event::Event;
use super::sync::{ArrayQueue, AtomicBool};

pub struct Inbox<R> {
    /// With the time at which each came.
    queue: ArrayQueue<(R, u64)>,
    closed: AtomicBool,
    /// Requests wait, or room for them appeared.
    pub pump: Event,
}

impl<R> Inbox<R> {
    pub fn new(len: usize) -> Inbox<R> {
        Inbox { queue: ArrayQueue::new(len), closed: AtomicBool::new(false), pump: Event::default() }
    }

    /// Hand over a request: `run` executes it at once if it can, which is asked for only while nothing waits before it. What is
    /// found waiting in a shard that has closed, goes to `refuse`. A full inbox gives the request back.
    pub fn submit(
        &self,
        request: R,
        run: impl FnOnce(R) -> Result<(), R>,
        now_ns: impl FnOnce() -> u64,
        refuse: impl Fn(R),
    ) -> Result<(), R> {
        let request = match self.queue.is_empty() {
            true => match run(request) {
                Ok(()) => return Ok(()),
                Err(request) => request,
            },
            false => request,
        };
        self.queue.push((request, now_ns())).map_err(|(request, _)| request)?;
        self.pump.set();
        if self.is_closed() {
            // The pump may have gone: nobody else would answer.
            self.refuse_all(refuse);
        }
        Ok(())
    }

    /// The oldest, and when it came; for whoever holds the core.
    pub fn pop(&self) -> Option<(R, u64)> {
        self.queue.pop()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// From now on everything is refused.
    pub fn close(&self, refuse: impl Fn(R)) {
        self.closed.store(true, Ordering::SeqCst);
        self.refuse_all(refuse);
    }

    fn refuse_all(&self, refuse: impl Fn(R)) {
        while let Some((request, _)) = self.queue.pop() {
            refuse(request);
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}
