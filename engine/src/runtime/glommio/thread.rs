//! The life of a shard's thread.
//!
//! Guards: the caller learns at once whether it started; `join` returns when it has ended, however that came about.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use glommio::{Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, SharesManager};
use parking_lot::Mutex;

use super::aside::Aside;
use super::check;
use super::drivers::Drivers;
use super::executor::ShardExecutor;
use super::inbox::Inbox;
use super::leak;
use super::tasks::{Tasks, contain};
use super::weight::Weight;
use crate::error::{Error, Result};
use crate::ids::ShardId;
use crate::runtime::host::sys;
use crate::runtime::uring::{BellOp, Disk, Op, Ring, Ways};
use crate::runtime::{ShardMain, ShardThread, TaskClass};

/// Never, so to speak. The drivers share out the time themselves, and glommio 0.9 loses wakes when this timer fires after
/// it has looked at its events and before it has run the first task: it then goes to sleep with tasks to run.
const PREEMPT: Duration = Duration::from_secs(1 << 30);
/// glommio's rings carry nothing but its own timers.
const GLOMMIO_RING_DEPTH: usize = 32;

/// A shard's thread works for some ten microseconds and waits. On busy processors, 50 clients' durable writes went 8 to 30 %
/// faster with the shortest slice that the kernel gives.
const SLICE_NS: u64 = 100_000;

pub struct ThreadPlan {
    pub shard: ShardId,
    pub processor: Option<usize>,
    /// Where threads of this process may run.
    pub processors: Vec<usize>,
    pub disk: Disk,
}

struct Thread {
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl ShardThread for Thread {
    fn join(&self) {
        // Held while joining, so that a second caller waits too.
        let mut handle = self.handle.lock();
        if let Some(handle) = handle.take()
            && handle.join().is_err()
        {
            tracing::error!("a shard's thread ended by a panic");
        }
    }
}

/// Start the thread and its executor, and run `main` on it.
pub fn start_thread(plan: ThreadPlan, main: ShardMain) -> Result<Box<dyn ShardThread>> {
    check::locked_memory()?;
    let shard = plan.shard;
    let (started, answer) = sync_channel(1);
    let handle = thread::Builder::new()
        .name(format!("corering-{shard}"))
        .spawn(move || {
            contain(shard, "and took its thread with it", || run(plan, main, &started));
        })
        .map_err(|e| Error::Unsupported { what: format!("cannot start a thread for shard {shard}: {e}") })?;
    match answer.recv() {
        Ok(Ok(())) => Ok(Box::new(Thread { handle: Mutex::new(Some(handle)) })),
        Ok(Err(error)) => {
            let _ = handle.join();
            Err(error)
        }
        Err(_) => {
            let _ = handle.join();
            Err(Error::Unsupported { what: format!("the thread of shard {shard} ended before it had started") })
        }
    }
}

fn run(plan: ThreadPlan, main: ShardMain, started: &SyncSender<Result<()>>) {
    if let Err(error) = sys::wish_for_slices_of(SLICE_NS) {
        tracing::debug!(%error, "the scheduler does not take the wish for short slices");
    }
    let made = pin(&plan).and_then(|()| make_parts());
    match made {
        Ok((inbox, ring, executor)) => {
            if started.send(Ok(())).is_ok() {
                let waker = executor.run(async {
                    live(&plan, inbox, ring, main).await;
                    leak::notifying_waker().await
                });
                let leaked = waker.as_ref().and_then(leak::leaked_event);
                drop(executor);
                drop(leaked);
            }
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
}

fn pin(plan: &ThreadPlan) -> Result<()> {
    // Before anything is allocated, so that its memory is near.
    let Some(processor) = plan.processor else { return Ok(()) };
    sys::keep_this_thread_on(&[processor]).map_err(|e| Error::Unsupported {
        what: format!("cannot run shard {} on processor {processor}: {e}", plan.shard),
    })
}

fn make_parts() -> Result<(Arc<Inbox>, Ring, LocalExecutor)> {
    let inbox = Inbox::new().map_err(|e| check::ring_refused(&e))?;
    let ring = Ring::new().map_err(|e| check::ring_refused(&e))?;
    // Not glommio's own pinning: it wants to read the machine's topology, which containers may hide.
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .ring_depth(GLOMMIO_RING_DEPTH)
        .io_memory(0)
        .preempt_timer(PREEMPT)
        .make()
        .map_err(|e| check::ring_refused(&e.into()))?;
    Ok((Arc::new(inbox), ring, executor))
}

/// What runs on the executor, from the first task to the last.
async fn live(plan: &ThreadPlan, inbox: Arc<Inbox>, ring: Ring, main: ShardMain) {
    let bell = ring.start(Op::Bell(BellOp::new(inbox.bell())));
    let drivers = Drivers::new(plan.shard, Arc::clone(&inbox), ring.clone());
    let weight = Rc::new(Weight::default());
    let shares = Shares::Dynamic(Rc::clone(&weight) as Rc<dyn SharesManager>);
    let queue = glommio::executor().create_task_queue(shares, Latency::NotImportant, "background");
    let driver = Rc::clone(&drivers);
    let background = glommio::spawn_local_into(async move { driver.run_background().await }, queue)
        .expect("the queue was just made");
    // So that the background begins to wait, and its count of time with it.
    glommio::executor().yield_task_queue_now().await;

    let tasks = Tasks::new(plan.shard, inbox);
    let aside = Rc::new(Aside::new(plan.shard, plan.processors.clone()));
    let executor = ShardExecutor {
        tasks: tasks.clone(),
        ring,
        disk: plan.disk.clone(),
        ways: Ways::new(drivers.spare()),
        background: weight,
        aside: Rc::clone(&aside),
    }
    .shared();
    let end = EndOnDrop(Rc::clone(&drivers));
    let main = async move {
        // Also when the main task panics.
        let _end = end;
        main(executor).await;
    };
    tasks.spawn(TaskClass::Foreground, Box::pin(main));
    drivers.run_foreground().await;

    tasks.end_all();
    aside.end();
    background.await;
    drop(bell);
}

struct EndOnDrop(Rc<Drivers>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}
