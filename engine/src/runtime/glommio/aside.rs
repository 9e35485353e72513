//! A thread beside a shard's own, for calls that block: changes of names, syncs of small files.
//!
//! Guards: works are done in the order in which they were given, also when nobody waits for them any more, and none after
//! [`Aside::end`]; a panic ends that one work alone. It is started when it is first needed.

use std::cell::{Cell, RefCell};
use std::future;
use std::sync::mpsc::{SendError, Sender, channel};
use std::thread::{self, JoinHandle};

use super::tasks::contain;
use crate::ids::ShardId;
use crate::pending::{Completer, pending};
use crate::runtime::host::sys;
use crate::runtime::{Blocking, LocalFuture};

struct Job {
    work: Blocking,
    done: Completer<()>,
}

impl Job {
    fn perform(self, shard: ShardId) {
        contain(shard, "beside its core", self.work);
        self.done.complete(Ok(()));
    }
}

pub struct Aside {
    shard: ShardId,
    /// Where it may run; the shard's own thread, which starts it, may be pinned.
    processors: Vec<usize>,
    thread: RefCell<Option<(Sender<Job>, JoinHandle<()>)>>,
    /// Nothing more is taken.
    ended: Cell<bool>,
}

impl Aside {
    pub fn new(shard: ShardId, processors: Vec<usize>) -> Aside {
        Aside { shard, processors, thread: RefCell::default(), ended: Cell::new(false) }
    }

    pub fn perform(&self, work: Blocking) -> LocalFuture<'static, ()> {
        if self.ended.get() {
            return Box::pin(future::pending());
        }
        let (done, answer) = pending(None);
        if let Err(job) = self.send(Job { work, done }) {
            // No thread is to be had; the core is held up instead.
            job.perform(self.shard);
        }
        Box::pin(async move {
            // What went wrong is said already.
            let _ = answer.await;
        })
    }

    fn send(&self, job: Job) -> Result<(), Job> {
        let mut thread = self.thread.borrow_mut();
        if thread.is_none() {
            *thread = self.start();
        }
        match &*thread {
            Some((sender, _)) => sender.send(job).map_err(|SendError(job)| job),
            None => Err(job),
        }
    }

    fn start(&self) -> Option<(Sender<Job>, JoinHandle<()>)> {
        let (sender, jobs) = channel::<Job>();
        let (shard, processors) = (self.shard, self.processors.clone());
        let run = move || {
            if let Err(error) = sys::keep_this_thread_on(&processors) {
                tracing::debug!(%shard, %error, "a thread beside a shard stays on the shard's processor");
            }
            jobs.into_iter().for_each(|job| job.perform(shard));
        };
        match thread::Builder::new().name(format!("corering-{shard}-fs")).spawn(run) {
            Ok(handle) => Some((sender, handle)),
            Err(error) => {
                tracing::warn!(%shard, %error, "cannot start a thread for calls that block; the shard's own makes them");
                None
            }
        }
    }

    /// Take nothing more; ready when all that was taken is done.
    pub fn finish(&self) -> LocalFuture<'static, ()> {
        let is_used = self.thread.borrow().is_some();
        let last = if is_used { self.perform(Box::new(|| ())) } else { Box::pin(future::ready(())) };
        self.ended.set(true);
        last
    }

    /// Take nothing more, and wait in this thread until all is done.
    pub fn end(&self) {
        self.ended.set(true);
        let Some((sender, handle)) = self.thread.borrow_mut().take() else { return };
        drop(sender);
        // It contains every panic.
        let _ = handle.join();
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.end();
    }
}
