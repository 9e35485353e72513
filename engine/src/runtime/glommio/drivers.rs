//! The two glommio tasks that run a shard's tasks, and how the thread sleeps.
//!
//! Guards: whatever was started is handed to the kernel, and what has completed is taken, before the thread sleeps
//! and at least every `TURN_TASKS` tasks; when both classes have work, glommio divides the core by their shares.
//!
//! The thread sleeps in its own ring: to sleep in glommio's costs six system calls more. So glommio must always have
//! one of the two drivers to run: the foreground waits only while the background runs, and the background wakes it
//! before it waits itself.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::inbox::Inbox;
use super::tasks::contain;
use crate::ids::ShardId;
use crate::runtime::TaskClass;
use crate::runtime::host::sys;
use crate::runtime::uring::{Ring, SpareTime, Wait};

/// How long the foreground runs on when the background has work too; glommio then decides by their shares.
const SLICE_NS: u64 = 1_000_000;

/// Tasks run between two looks at the ring: few enough to start I/O promptly, enough to share a system call.
const TURN_TASKS: usize = 32;

/// So that a ring which refuses everything does not fill the log.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

pub struct Drivers {
    shard: ShardId,
    inbox: Arc<Inbox>,
    ring: Ring,
    over: Cell<bool>,
    foreground: Signal,
    background: Signal,
    /// When the foreground had nothing to do.
    spare: Rc<SpareTime>,
}

/// Wakes a driver, which is always done by the other one.
#[derive(Default)]
struct Signal {
    set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    fn set(&self) {
        self.set.set(true);
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|context| {
            if self.set.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn is_waited_for(&self) -> bool {
        self.waker.borrow().is_some()
    }
}

impl Drivers {
    pub fn new(shard: ShardId, inbox: Arc<Inbox>, ring: Ring) -> Rc<Drivers> {
        Rc::new(Drivers {
            shard,
            inbox,
            ring,
            over: Cell::new(false),
            foreground: Signal::default(),
            background: Signal::default(),
            spare: Rc::default(),
        })
    }

    pub fn spare(&self) -> Rc<SpareTime> {
        Rc::clone(&self.spare)
    }

    fn in_spare_time<T>(&self, what: impl FnOnce() -> T) -> T {
        let began = sys::monotonic_ns();
        let done = what();
        self.spare.add(sys::monotonic_ns() - began);
        done
    }

    /// The main task has ended: both drivers will.
    pub fn end(&self) {
        self.over.set(true);
        self.background.set();
    }

    /// Run foreground tasks and the ring until the main task has ended.
    pub async fn run_foreground(&self) {
        let mut slice_start = sys::monotonic_ns();
        while !self.over.get() {
            let ran = self.run_some(TaskClass::Foreground, TURN_TASKS);
            if self.over.get() {
                break;
            }
            let idle = ran == 0 && self.inbox.is_empty(TaskClass::Foreground);
            if !self.background_has_work() {
                self.turn(if idle { Wait::Sleep } else { Wait::No });
                continue;
            }
            self.turn(Wait::No);
            let now = sys::monotonic_ns();
            if idle && !self.foreground_has_work() {
                self.start_background().await;
                self.foreground.wait().await;
            } else if now - slice_start > SLICE_NS {
                self.start_background().await;
                glommio::executor().yield_task_queue_now().await;
            } else {
                continue;
            }
            slice_start = sys::monotonic_ns();
        }
    }

    /// Let the background's driver compete for the core, if it does not yet.
    async fn start_background(&self) {
        if !self.background.is_waited_for() {
            return;
        }
        // glommio has yet to count the time since the foreground last gave way, most of it perhaps asleep, and gives
        // a queue that starts the count of the one that runs. Else the background could claim its share of a sleep.
        glommio::executor().yield_task_queue_now().await;
        self.background.set();
    }

    /// Run background tasks, one at a time, when glommio says so.
    pub async fn run_background(&self) {
        while !self.over.get() {
            if self.inbox.is_empty(TaskClass::Background) {
                self.foreground.set();
                self.background.wait().await;
                continue;
            }
            if self.foreground_has_work() {
                self.run_some(TaskClass::Background, 1);
            } else {
                self.in_spare_time(|| self.run_some(TaskClass::Background, 1));
            }
            if self.foreground_has_work() {
                self.foreground.set();
                glommio::executor().yield_task_queue_now().await;
            }
        }
        self.foreground.set();
    }

    fn foreground_has_work(&self) -> bool {
        self.ring.has_work() || !self.inbox.is_empty(TaskClass::Foreground)
    }

    fn background_has_work(&self) -> bool {
        !self.inbox.is_empty(TaskClass::Background)
    }

    fn run_some(&self, class: TaskClass, most: usize) -> usize {
        let mut ran = 0;
        while ran < most
            && let Some(runnable) = self.inbox.pop(class)
        {
            // Tasks contain their own panics; this is for a panic while one is dropped.
            contain(self.shard, "at its end", || runnable.run());
            ran += 1;
        }
        ran
    }

    fn turn(&self, wait: Wait) {
        let wait = match wait {
            Wait::Sleep if !self.inbox.fall_asleep() => Wait::No,
            other => other,
        };
        let done = match wait {
            Wait::Sleep => self.in_spare_time(|| self.ring.turn(wait)),
            Wait::No => self.ring.turn(wait),
        };
        self.inbox.wake_up();
        if let Err(e) = done {
            // Nothing was lost: what was queued stays queued, and is tried again at the next turn.
            tracing::error!(shard = %self.shard, error = %e, "the ring does not take submissions");
            std::thread::sleep(PAUSE_AFTER_ERROR);
        }
    }
}
