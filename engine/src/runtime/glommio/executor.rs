//! What a shard's tasks see of their thread.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::aside::Aside;
use super::tasks::Tasks;
use super::weight::Weight;
use crate::runtime::net::Net;
use crate::runtime::uring::{Disk, FileOp, Op, Ring, TimerOp, Ways};
use crate::runtime::{Blocking, DurableWay, Executor, File, IoDone, IoOp, LocalFuture, TaskClass};

pub struct ShardExecutor {
    pub tasks: Tasks,
    pub ring: Ring,
    pub disk: Disk,
    pub ways: Ways,
    pub background: Rc<Weight>,
    pub aside: Rc<Aside>,
}

impl ShardExecutor {
    pub fn shared(self) -> Rc<dyn Executor> {
        Rc::new(self)
    }
}

impl Executor for ShardExecutor {
    fn spawn(&self, class: TaskClass, task: LocalFuture<'static, ()>) {
        self.tasks.spawn(class, task);
    }

    fn sleep(&self, time: Duration) -> LocalFuture<'static, ()> {
        // Not glommio's timers, which it looks at only when it has nothing to run.
        let ticket = self.ring.start(Op::Timer(TimerOp::new(time)));
        Box::pin(async move {
            ticket.await;
        })
    }

    fn yield_now(&self) -> LocalFuture<'static, ()> {
        Box::pin(futures_lite::future::yield_now())
    }

    fn weigh_background(&self, weight: Arc<AtomicU32>) {
        self.background.follow(weight);
    }

    fn io(&self, file: &Arc<dyn File>, op: IoOp) -> LocalFuture<'static, IoDone> {
        match FileOp::new(file, op, self.disk.ring_sync()) {
            Ok(op) => {
                let ticket = self.ring.start(Op::File(op));
                Box::pin(async move {
                    match ticket.await {
                        Op::File(op) => op.into_done(),
                        _ => unreachable!("an operation keeps its kind"),
                    }
                })
            }
            Err(done) => Box::pin(std::future::ready(done)),
        }
    }

    fn off_core(&self, work: Blocking) -> LocalFuture<'static, ()> {
        self.aside.perform(work)
    }

    fn finish_off_core(&self) -> LocalFuture<'static, ()> {
        self.aside.finish()
    }

    fn net(&self) -> Option<Net> {
        Some(Net::new(self.ring.clone()))
    }

    fn durable_way(&self, len: usize, waiting: usize) -> DurableWay {
        self.ways.choose(len, waiting)
    }

    fn durable_took(&self, way: DurableWay, len: usize, ns: u64) {
        self.ways.took(way, len, ns);
    }
}
