//! The simulated machine behind the engine's traits: clock, chance, timers, executors and shard threads.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::core::Core;
use super::file::{SimFile, Transfer};
use super::fs::SimFs;
use super::state::{Due, DueKey, Lane, ShardRecord, ShardStart, Shared};
use crate::error::{Error, Result};
use crate::ids::ShardId;
use crate::pending::{Completer, pending};
use crate::runtime::{
    Blocking, Clock, DurableWay, Executor, File, Fs, Host, IoDone, IoOp, LocalFuture, ShardMain, ShardThread, TaskClass,
};

pub(super) struct SimHost {
    pub shared: Arc<Shared>,
    pub life: u64,
}

struct SimClock {
    shared: Arc<Shared>,
}

/// Milliseconds since 1970 when a simulation begins.
const BIRTH_MS: u64 = 1_700_000_000_000;

impl Clock for SimClock {
    fn monotonic_ns(&self) -> u64 {
        self.shared.lock().now
    }

    fn wall_ms(&self) -> u64 {
        let state = self.shared.lock();
        (BIRTH_MS + state.now / 1_000_000).saturating_add_signed(state.wall_offset_ms)
    }

    fn pause(&self, _: Duration) {
        panic!("a task must not block its thread");
    }
}

impl Host for SimHost {
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SimClock { shared: Arc::clone(&self.shared) })
    }

    fn random_u64(&self) -> u64 {
        self.shared.lock().rng_host.next_u64()
    }

    fn boot(&self) -> u64 {
        self.shared.lock().disk.boot
    }

    fn processors(&self) -> Vec<usize> {
        (0..self.shared.lock().config.processors).collect()
    }

    fn fs(&self) -> Arc<dyn Fs> {
        Arc::new(SimFs { shared: Arc::clone(&self.shared), life: self.life })
    }

    fn start_shard(&self, shard: ShardId, processor: Option<usize>, main: ShardMain) -> Result<Box<dyn ShardThread>> {
        let mut state = self.shared.lock();
        if state.is_dead(self.life) {
            return Err(Error::Closed);
        }
        if let Some(processor) = processor
            && processor >= state.config.processors
        {
            return Err(Error::Unsupported { what: format!("there is no processor {processor}") });
        }
        let index = state.shards.len();
        let lane = state.new_lane();
        let name = Arc::from(format!("shard {shard}").as_str());
        state.shards.push(ShardRecord { name, lane, ended: false, waiting: Vec::new() });
        state.starts.push(ShardStart { index, main });
        drop(state);
        Ok(Box::new(SimThread { shared: Arc::clone(&self.shared), life: self.life, index }))
    }
}

struct SimThread {
    shared: Arc<Shared>,
    life: u64,
    index: usize,
}

impl ShardThread for SimThread {
    /// Outside of any task, runs the simulation until the shard has ended. Inside one it cannot wait, and returns at once.
    fn join(&self) {
        let ended = |shared: &Shared| {
            let state = shared.lock();
            state.is_dead(self.life) || state.shards[self.index].ended
        };
        if !ended(&self.shared) {
            super::core::drive(self.shared.id, &mut || ended(&self.shared));
        }
    }
}

/// Ready when every shard started in this life has ended.
pub(super) struct ShardsEnded {
    pub shared: Arc<Shared>,
    pub life: u64,
}

impl Future for ShardsEnded {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.is_dead(self.life) {
            return Poll::Pending;
        }
        match state.shards.iter_mut().find(|shard| !shard.ended) {
            None => Poll::Ready(()),
            Some(shard) => {
                shard.waiting.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What the tasks of one shard, or those of a harness, run on.
pub(super) struct SimExecutor {
    pub shared: Arc<Shared>,
    pub core: Weak<Core>,
    pub life: u64,
    pub lane: Option<Lane>,
    pub shard: Option<usize>,
    pub name: Arc<str>,
    pub aside: Rc<Aside>,
}

impl Executor for SimExecutor {
    fn spawn(&self, class: TaskClass, task: LocalFuture<'static, ()>) {
        let Some(core) = self.core.upgrade() else { return };
        let dead = self.shared.lock().is_dead(self.life);
        if !dead {
            core.add_task(&self.name, self.lane, class, self.shard, task);
        }
    }

    fn sleep(&self, time: Duration) -> LocalFuture<'static, ()> {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let at = self.shared.lock().now.saturating_add(ns);
        Box::pin(Sleep { shared: Arc::clone(&self.shared), life: self.life, at, key: None })
    }

    fn yield_now(&self) -> LocalFuture<'static, ()> {
        Box::pin(Yield { yielded: false })
    }

    fn io(&self, file: &Arc<dyn File>, op: IoOp) -> LocalFuture<'static, IoDone> {
        let file = file.as_any().downcast_ref::<SimFile>().expect("a file of this simulation");
        assert_eq!(file.shared.id, self.shared.id, "a file of this simulation");
        let life = if file.life == self.life { self.life } else { 0 };
        Box::pin(Transfer::new(&self.shared, life, file.share(), op))
    }

    fn off_core(&self, work: Blocking) -> LocalFuture<'static, ()> {
        let dead = self.shared.lock().is_dead(self.life);
        match self.core.upgrade().filter(|_| !dead && !self.aside.ended.get()) {
            Some(core) => self.aside.take(self, &core, work),
            None => Box::pin(std::future::pending()),
        }
    }

    fn finish_off_core(&self) -> LocalFuture<'static, ()> {
        let last =
            if self.aside.running.get() { self.off_core(Box::new(|| ())) } else { Box::pin(std::future::ready(())) };
        self.aside.ended.set(true);
        last
    }

    fn durable_way(&self, _len: usize, _waiting: usize) -> DurableWay {
        let mut state = self.shared.lock();
        let fixed = state.config.durable_way;
        fixed.unwrap_or_else(|| *state.rng_host.pick(&[DurableWay::Ring, DurableWay::Blocking]))
    }
}

/// What is done off one shard's core: by a thread of its own, one work after the other.
#[derive(Default)]
pub(super) struct Aside {
    jobs: RefCell<VecDeque<(Blocking, Completer<()>)>>,
    running: Cell<bool>,
    ended: Cell<bool>,
}

impl Aside {
    fn take(self: &Rc<Aside>, executor: &SimExecutor, core: &Core, work: Blocking) -> LocalFuture<'static, ()> {
        let (completer, done) = pending(None);
        self.jobs.borrow_mut().push_back((work, completer));
        if !self.running.replace(true) {
            let aside = Rc::clone(self);
            let run = async move {
                loop {
                    let job = aside.jobs.borrow_mut().pop_front();
                    let Some((work, completer)) = job else { break };
                    work();
                    completer.complete(Ok(()));
                    Yield { yielded: false }.await;
                }
                aside.running.set(false);
            };
            let name = format!("{} off its core", executor.name);
            core.add_task(&name, None, TaskClass::Foreground, executor.shard, Box::pin(run));
        }
        Box::pin(async move {
            if done.await.is_err() {
                // It will never be done: this life is over.
                std::future::pending().await
            }
        })
    }
}

struct Sleep {
    shared: Arc<Shared>,
    life: u64,
    at: u64,
    key: Option<DueKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.is_dead(self.life) {
            return Poll::Pending;
        }
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let timer = Due::Timer(cx.waker().clone());
        let replaced = match self.key {
            Some(key) => state.due.insert(key, timer),
            None => {
                self.key = Some(state.schedule(self.at, timer));
                None
            }
        };
        drop(state);
        // Not under the lock: a waker may own futures, whose destructors take it.
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let timer = self.shared.lock().due.remove(&key);
            drop(timer);
        }
    }
}

struct Yield {
    yielded: bool,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// An executor for tasks outside of any shard: each is a thread of its own.
pub(super) fn outside(shared: &Arc<Shared>, core: &Rc<Core>, life: u64, name: &str) -> SimExecutor {
    SimExecutor {
        shared: Arc::clone(shared),
        core: Rc::downgrade(core),
        life,
        lane: None,
        shard: None,
        name: Arc::from(name),
        aside: Rc::default(),
    }
}
