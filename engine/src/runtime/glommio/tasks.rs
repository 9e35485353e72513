//! The tasks of one thread, from spawn to end.
//!
//! Guards: a panic ends the task it happened in, is reported, and touches nothing else; `end_all` drops every future
//! on this thread, even those whose wakers other threads still hold.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::inbox::Inbox;
use crate::ids::ShardId;
use crate::runtime::{LocalFuture, TaskClass};

/// The tasks that have not ended.
type Alive = Rc<RefCell<Slab<Waker>>>;

#[derive(Clone)]
pub struct Tasks {
    shard: ShardId,
    inbox: Arc<Inbox>,
    alive: Alive,
}

impl Tasks {
    pub fn new(shard: ShardId, inbox: Arc<Inbox>) -> Tasks {
        Tasks { shard, inbox, alive: Rc::default() }
    }

    pub fn spawn(&self, class: TaskClass, future: LocalFuture<'static, ()>) {
        let mut alive = self.alive.borrow_mut();
        let entry = alive.vacant_entry();
        let registration = Registration { alive: Rc::clone(&self.alive), key: entry.key() };
        let contained = Contained { future: Some(future), shard: self.shard, _registration: registration };
        let inbox = Arc::clone(&self.inbox);
        let (runnable, task) = async_task::spawn_local(contained, move |runnable| inbox.push(class, runnable));
        entry.insert(runnable.waker());
        drop(alive);
        task.detach();
        runnable.schedule();
    }

    /// Drop the futures of all tasks, and of those spawned meanwhile, without running them.
    pub fn end_all(&self) {
        while !self.alive.borrow().is_empty() {
            let wakers: Vec<Waker> = self.alive.borrow().iter().map(|(_, waker)| waker.clone()).collect();
            for waker in wakers {
                waker.wake();
            }
            // A task that another thread is about to push comes within the next rounds.
            for class in [TaskClass::Foreground, TaskClass::Background] {
                while let Some(runnable) = self.inbox.pop(class) {
                    // Dropping it drops the task's future.
                    contain(self.shard, "while it was ended", || drop(runnable));
                }
            }
        }
    }
}

/// Run `f`; report its panic and go on.
pub fn contain<T>(shard: ShardId, when: &str, f: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(payload) => {
            tracing::error!(%shard, "a task panicked {when}: {}", text_of(&*payload));
            None
        }
    }
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

/// A task's place among the living, given up when its future is gone.
struct Registration {
    alive: Alive,
    key: usize,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let waker = self.alive.borrow_mut().try_remove(self.key);
        drop(waker);
    }
}

struct Contained {
    /// None once it has ended.
    future: Option<LocalFuture<'static, ()>>,
    shard: ShardId,
    /// Dropped after the future.
    _registration: Registration,
}

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shard = self.shard;
        let Some(future) = self.future.as_mut() else { return Poll::Ready(()) };
        let polled = contain(shard, "", || future.as_mut().poll(context));
        if let Some(Poll::Pending) = polled {
            return Poll::Pending;
        }
        self.end();
        Poll::Ready(())
    }
}

impl Contained {
    fn end(&mut self) {
        let future = self.future.take();
        contain(self.shard, "while its future was dropped", || drop(future));
    }
}

impl Drop for Contained {
    /// `async-task` aborts the process when dropping a future panics.
    fn drop(&mut self) {
        self.end();
    }
}
