//! A machine made of a seed: one thread, virtual time, a disk that keeps only what it must.
//!
//! The engine's own code runs on it unchanged, through the traits of [`crate::runtime`]. The same seed, the same
//! configuration and the same program give the same [`Sim::trace_hash`], in debug and in release.
//!
//! ```
//! use corering_engine::runtime::{OpenMode, sim::{CrashKind, Sim}};
//! use std::path::Path;
//!
//! let sim = Sim::new(7);
//! let fs = sim.host().fs();
//! let file = fs.open(Path::new("a"), OpenMode::CreateNew).unwrap();
//! file.write_durable_blocking(0, b"kept").unwrap();
//! fs.sync_dir(Path::new("")).unwrap();
//! sim.crash(CrashKind::Machine);
//! assert_eq!(sim.disk(|disk| disk.read("a").unwrap()), b"kept");
//! ```

mod config;
mod core;
mod disk;
pub mod faults;
mod file;
mod fs;
pub mod harness;
mod host;
mod points;
mod region;
pub mod rng;
mod state;
mod stop;
#[cfg(test)]
mod tests;
mod trace;
mod transfer;

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

pub use config::{Latency, Pace, Policy, SimConfig};
pub use disk::Disk;
pub use disk::crash::CrashKind;
pub use faults::{Fault, FaultRow, FaultRule, Faults, When};
pub use points::{CrashPoint, OpKind, Phase};
pub use rng::Rng;
pub use state::DiskImage;
pub use stop::{Stop, Stuck};
pub use trace::Counters;

use self::core::{Core, Driver};
use self::host::{ShardsEnded, SimHost};
use self::state::{Shared, State};
use super::{Executor, Host, LocalFuture, TaskClass};

/// A simulated machine. Clones are handles of the same one, for tasks that spawn others.
#[derive(Clone)]
pub struct Sim {
    core: Rc<Core>,
}

impl Sim {
    /// An empty disk and the habits of `seed`.
    pub fn new(seed: u64) -> Sim {
        Sim::with(seed, SimConfig::of_seed(seed), Disk::new())
    }

    pub fn with(seed: u64, config: SimConfig, disk: Disk) -> Sim {
        let mut disk = disk;
        disk.capacity = config.capacity;
        let shared = Arc::new(Shared::new(core::new_sim_id(), State::new(seed, config, disk)));
        Sim { core: Core::new(shared) }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.core.shared
    }

    pub fn seed(&self) -> u64 {
        self.shared().lock().seed
    }

    /// The machine as the engine sees it, until the next crash.
    pub fn host(&self) -> Arc<dyn Host> {
        let life = self.shared().lock().life;
        Arc::new(SimHost { shared: Arc::clone(self.shared()), life })
    }

    /// An executor for code outside of the engine: each task it spawns is a thread of its own.
    pub fn executor(&self, name: &str) -> Rc<dyn Executor> {
        let life = self.shared().lock().life;
        Rc::new(host::outside(self.shared(), &self.core, life, name))
    }

    /// Start a client: a task on a thread of its own.
    pub fn spawn<T: 'static>(&self, name: &str, task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        let joint = Rc::new(RefCell::new(Joint { value: None, waker: None }));
        let handle = JoinHandle { joint: Rc::clone(&joint) };
        let task: LocalFuture<'static, ()> = Box::pin(async move {
            let value = task.await;
            let waker = {
                let mut joint = joint.borrow_mut();
                joint.value = Some(value);
                joint.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        self.core.add_task(name, None, TaskClass::Foreground, None, task);
        handle
    }

    /// Run until `done`, which is asked before each step, says so.
    pub fn run_until(&self, mut done: impl FnMut() -> bool) -> Result<(), Stop> {
        self.core.run(None, &mut done)
    }

    /// Run so much virtual time.
    pub fn run_for(&self, ns: u64) -> Result<(), Stop> {
        let executor = self.executor("timer");
        self.block_on(executor.sleep(std::time::Duration::from_nanos(ns)))
    }

    /// Run until the future is ready. A stop before that ends this life: only [`Sim::crash`] goes on from there.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> Result<T, Stop> {
        let mut future = pin!(future);
        let mut value = None;
        let mut poll = |cx: &mut Context<'_>| match future.as_mut().poll(cx) {
            Poll::Ready(ready) => {
                value = Some(ready);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        };
        let ran = self.core.run(Some(Driver::new(&mut poll)), &mut || false);
        if let Err(stop) = ran {
            // The future is dropped on return: by then its world is dead and its shards are gone.
            self.shared().lock().die();
            self.core.kill_tasks();
            return Err(stop);
        }
        Ok(value.expect("the run ended because the future was ready"))
    }

    /// Ready when every shard started so far in this life has ended.
    pub fn shards_ended(&self) -> impl Future<Output = ()> + use<> {
        let life = self.shared().lock().life;
        ShardsEnded { shared: Arc::clone(self.shared()), life }
    }

    /// Die at a crash point of this life: the run stops with [`Stop::Crashed`].
    pub fn crash_at(&self, index: u64, phase: Phase) {
        self.shared().lock().points.plan(Some((index, phase)));
    }

    /// No longer die where [`Sim::crash_at`] said.
    pub fn crash_nowhere(&self) {
        self.shared().lock().points.plan(None);
    }

    /// Crash points met so far in this life.
    pub fn crash_points(&self) -> u64 {
        self.shared().lock().points.count()
    }

    /// End this life, with damage chosen by the seed: every task is dropped, every handle is dead, and the disk keeps
    /// what `kind` makes it keep. [`Sim::host`] then gives the next life's machine.
    pub fn crash(&self, kind: CrashKind) {
        let seed = self.shared().lock().rng_damage.next_u64();
        self.crash_with(kind, seed);
    }

    /// As [`Sim::crash`], with damage chosen by `damage_seed`.
    pub fn crash_with(&self, kind: CrashKind, damage_seed: u64) {
        {
            let mut state = self.shared().lock();
            state.die();
            let image = state.death.take().expect("it died just now");
            state.disk = image.after_crash(kind, damage_seed);
            let fingerprint = state.disk.fingerprint();
            state.trace.mix(&[0xc4a5, fingerprint], || format!("crash of the {kind:?}"));
        }
        self.end_life();
        let mut state = self.shared().lock();
        state.crashed = None;
        state.points.restart();
    }

    /// End this life and begin no other: all tasks are dropped, also those that hold a handle of this simulation and
    /// would keep it in memory.
    pub fn power_off(&self) {
        self.shared().lock().die();
        self.end_life();
        self.core.forget_hooks();
    }

    fn end_life(&self) {
        let old = self.shared().lock().end_life();
        drop(old);
        self.core.kill_tasks();
    }

    /// What the disk would be asked to survive if the run died now.
    pub fn image(&self) -> DiskImage {
        let mut state = self.shared().lock();
        let death = state.death.clone();
        death.unwrap_or_else(|| state.image())
    }

    /// Look at the disk or change it, past clock, faults and crash points.
    pub fn disk<T>(&self, f: impl FnOnce(&mut Disk) -> T) -> T {
        let mut state = self.shared().lock();
        if let Some(death) = &mut state.death {
            return f(&mut death.disk);
        }
        state.observe_regions();
        f(&mut state.disk)
    }

    /// Be shown every crash point with the disk at that moment, from within the run. The hook must not run this
    /// simulation; others it may.
    pub fn watch_points(&self, hook: impl FnMut(&CrashPoint, Phase, DiskImage) + 'static) {
        *self.core.hook.borrow_mut() = Some(Box::new(hook));
        self.shared().lock().points.watched = true;
    }

    /// Ask before every step whether all is well; if not, the run stops with [`Stop::Broken`].
    pub fn watch_steps(&self, hook: impl FnMut() -> Result<(), String> + 'static) {
        *self.core.step_hook.borrow_mut() = Some(Box::new(hook));
    }

    pub fn set_faults(&self, faults: Faults) {
        self.shared().lock().faults = faults;
    }

    /// One rule more, which counts operations from now on.
    pub fn add_fault(&self, rule: FaultRule) {
        self.shared().lock().faults.add(rule);
    }

    /// The files of which a write was lost or went astray, and which of these it was, in the order in which that happened; from the
    /// `from`-th on.
    pub fn lies(&self, from: usize) -> Vec<(String, Fault)> {
        self.shared().lock().lies[from..].to_vec()
    }

    /// Switch all faults off or on, for a phase in which the disk must behave.
    pub fn faults_enabled(&self, on: bool) {
        self.shared().lock().faults_on = on;
    }

    /// Bytes of disk; none for no limit.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.shared().lock().disk.capacity = capacity;
    }

    /// Set the wall clock forward or back.
    pub fn jump_wall_ms(&self, by: i64) {
        self.shared().lock().wall_offset_ms += by;
    }

    pub fn now_ns(&self) -> u64 {
        self.shared().lock().now
    }

    pub fn counters(&self) -> Counters {
        self.shared().lock().trace.counters.clone()
    }

    /// Equal for two runs that did the same.
    pub fn trace_hash(&self) -> u64 {
        self.shared().lock().trace.hash()
    }
}

struct Joint<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// A spawned client's result. Dropping it lets the client go on.
pub struct JoinHandle<T> {
    joint: Rc<RefCell<Joint<T>>>,
}

impl<T> JoinHandle<T> {
    pub fn is_finished(&self) -> bool {
        self.joint.borrow().value.is_some()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut joint = self.joint.borrow_mut();
        match joint.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                let replaced = joint.waker.replace(cx.waker().clone());
                drop(joint);
                drop(replaced);
                Poll::Pending
            }
        }
    }
}
