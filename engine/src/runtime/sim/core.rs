//! The executor: every task of every shard and client on one thread, the next one chosen by the seed.
//!
//! Virtual time stands still while a task can run on a free core; then it jumps to the next moment at which a core is
//! free, a timer fires or a transfer completes. Nothing runnable and nothing due is a deadlock; too many polls or too
//! much virtual time in one run is a livelock; both name the tasks that wait.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

use super::config::Policy;
use super::file;
use super::host::SimExecutor;
use super::points::{CrashPoint, OpKind, Phase};
use super::state::{CrashUnwind, DiskImage, Due, Lane, OpInfo, Shared, State};
use super::stop::{Stop, Stuck};
use crate::runtime::{Executor, LocalFuture, TaskClass};

type TaskId = u64;
pub(super) type Hook = Box<dyn FnMut(&CrashPoint, Phase, DiskImage)>;
pub(super) type StepHook = Box<dyn FnMut() -> Result<(), String>>;

thread_local! {
    /// The simulations of this thread, for calls that arrive through `Send` handles and need the executor.
    static CORES: RefCell<BTreeMap<u64, Weak<Core>>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
}

pub(super) fn new_sim_id() -> u64 {
    NEXT_ID.with(|next| next.replace(next.get() + 1))
}

fn core_of(id: u64) -> Option<Rc<Core>> {
    CORES.with(|cores| cores.borrow().get(&id).and_then(Weak::upgrade))
}

/// Show a crash point to the harness that watches.
pub(super) fn show_point(id: u64, point: &CrashPoint, phase: Phase, image: DiskImage) {
    let Some(core) = core_of(id) else { return };
    let hook = core.hook.borrow_mut().take();
    if let Some(mut hook) = hook {
        hook(point, phase, image);
        *core.hook.borrow_mut() = Some(hook);
    }
}

/// Run the simulation until `done`, if this is called from outside of its tasks.
pub(super) fn drive(id: u64, done: &mut dyn FnMut() -> bool) {
    let Some(core) = core_of(id).filter(|core| !core.running.get()) else { return };
    match core.run(None, done) {
        Ok(()) | Err(Stop::Crashed { .. }) => {}
        Err(stop) => panic!("while joining a shard: {stop}"),
    }
}

/// Tasks that were woken, in the order of their waking.
#[derive(Default)]
struct Ready {
    order: BTreeMap<TaskId, u64>,
    next: u64,
}

struct TaskWaker {
    ready: Arc<Mutex<Ready>>,
    id: TaskId,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut ready = self.ready.lock();
        let order = ready.next;
        ready.next += 1;
        ready.order.entry(self.id).or_insert(order);
    }
}

struct Task {
    name: Arc<str>,
    lane: Lane,
    class: TaskClass,
    shard: Option<usize>,
    is_main: bool,
    priority: u64,
    waker: Waker,
    /// None while it is polled, and for the driver's own future.
    future: Option<LocalFuture<'static, ()>>,
}

/// The future that the driver waits for; it need not be `'static`.
pub(super) struct Driver<'a> {
    id: TaskId,
    poll: &'a mut dyn FnMut(&mut Context<'_>) -> Poll<()>,
}

impl<'a> Driver<'a> {
    pub fn new(poll: &'a mut dyn FnMut(&mut Context<'_>) -> Poll<()>) -> Driver<'a> {
        Driver { id: 0, poll }
    }
}

pub(super) struct Core {
    pub shared: Arc<Shared>,
    ready: Arc<Mutex<Ready>>,
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    next_task: Cell<TaskId>,
    running: Cell<bool>,
    pub hook: RefCell<Option<Hook>>,
    pub step_hook: RefCell<Option<StepHook>>,
}

enum Step {
    Poll(TaskId),
    Due(Due),
    Advanced,
    Nothing,
}

impl Core {
    pub fn new(shared: Arc<Shared>) -> Rc<Core> {
        let core = Rc::new(Core {
            shared,
            ready: Arc::default(),
            tasks: RefCell::default(),
            next_task: Cell::new(1),
            running: Cell::new(false),
            hook: RefCell::new(None),
            step_hook: RefCell::new(None),
        });
        CORES.with(|cores| cores.borrow_mut().insert(core.shared.id, Rc::downgrade(&core)));
        core
    }

    pub fn add_task(
        &self,
        name: &str,
        lane: Option<Lane>,
        class: TaskClass,
        shard: Option<usize>,
        future: LocalFuture<'static, ()>,
    ) -> TaskId {
        let id = self.next_task.get();
        let name = match (lane, class) {
            (None, _) => Arc::from(name),
            (Some(_), TaskClass::Foreground) => Arc::from(format!("{name} task {id}").as_str()),
            (Some(_), TaskClass::Background) => Arc::from(format!("{name} background task {id}").as_str()),
        };
        self.insert(name, lane, class, shard, false, Some(future))
    }

    fn insert(
        &self,
        name: Arc<str>,
        lane: Option<Lane>,
        class: TaskClass,
        shard: Option<usize>,
        is_main: bool,
        future: Option<LocalFuture<'static, ()>>,
    ) -> TaskId {
        let id = self.next_task.replace(self.next_task.get() + 1);
        let waker = Waker::from(Arc::new(TaskWaker { ready: Arc::clone(&self.ready), id }));
        let (lane, priority) = {
            let mut state = self.shared.lock();
            (lane.unwrap_or_else(|| state.new_lane()), state.rng_tasks.next_u64())
        };
        let task = Task { name, lane, class, shard, is_main, priority, waker: waker.clone(), future };
        self.tasks.borrow_mut().insert(id, task);
        waker.wake();
        id
    }

    /// Run until `done` says so or the driver's future is ready.
    pub fn run(self: &Rc<Core>, driver: Option<Driver<'_>>, done: &mut dyn FnMut() -> bool) -> Result<(), Stop> {
        assert!(!self.running.replace(true), "a simulation is run from outside of its tasks");
        let mut driver = driver;
        if let Some(driver) = &mut driver {
            driver.id = self.insert(Arc::from("driver"), None, TaskClass::Foreground, None, false, None);
        }
        let result = self.run_steps(&mut driver, done);
        if let Some(driver) = driver {
            self.tasks.borrow_mut().remove(&driver.id);
        }
        self.running.set(false);
        result
    }

    fn run_steps(self: &Rc<Core>, driver: &mut Option<Driver<'_>>, done: &mut dyn FnMut() -> bool) -> Result<(), Stop> {
        let (step_budget, time_limit) = {
            let state = self.shared.lock();
            (state.config.step_budget, state.now.saturating_add(state.config.time_budget_ns))
        };
        let mut steps = 0;
        loop {
            self.start_shards();
            self.died()?;
            self.ask_step_hook(steps)?;
            if done() {
                return Ok(());
            }
            match self.choose() {
                Step::Poll(id) => {
                    steps += 1;
                    if self.poll(id, driver)? {
                        return Ok(());
                    }
                }
                Step::Due(Due::Timer(waker)) => waker.wake(),
                Step::Due(Due::Io(id)) => file::complete(&self.shared, id),
                Step::Advanced => {}
                Step::Nothing => return Err(Stop::Deadlock(self.stuck(steps))),
            }
            if steps >= step_budget || self.shared.lock().now > time_limit {
                return Err(Stop::Livelock(self.stuck(steps)));
            }
        }
    }

    fn died(&self) -> Result<(), Stop> {
        match &self.shared.lock().crashed {
            Some((point, phase)) => Err(Stop::Crashed { point: point.clone(), phase: *phase }),
            None => Ok(()),
        }
    }

    fn ask_step_hook(&self, steps: u64) -> Result<(), Stop> {
        let Some(mut hook) = self.step_hook.borrow_mut().take() else { return Ok(()) };
        let well = hook();
        self.step_hook.borrow_mut().get_or_insert(hook);
        well.map_err(|message| Stop::Broken { message, stuck: self.stuck(steps) })
    }

    pub fn forget_hooks(&self) {
        let hooks = (self.hook.borrow_mut().take(), self.step_hook.borrow_mut().take());
        drop(hooks);
    }

    fn start_shards(self: &Rc<Core>) {
        let starts = std::mem::take(&mut self.shared.lock().starts);
        for start in starts {
            let (name, lane, life) = {
                let state = self.shared.lock();
                let shard = &state.shards[start.index];
                (Arc::clone(&shard.name), shard.lane, state.life)
            };
            let executor = Rc::new(SimExecutor {
                shared: Arc::clone(&self.shared),
                core: Rc::downgrade(self),
                life,
                lane: Some(lane),
                shard: Some(start.index),
                name: Arc::clone(&name),
                aside: Rc::default(),
            });
            let main = start.main;
            let future = Box::pin(async move { main(executor as Rc<dyn Executor>).await });
            self.insert(name, Some(lane), TaskClass::Foreground, Some(start.index), true, Some(future));
        }
    }

    fn choose(&self) -> Step {
        let mut tasks = self.tasks.borrow_mut();
        let ready: Vec<(TaskId, u64)> = {
            let mut ready = self.ready.lock();
            ready.order.retain(|id, _| tasks.contains_key(id));
            ready.order.iter().map(|(id, order)| (*id, *order)).collect()
        };
        let mut state = self.shared.lock();
        let free_at = |state: &State, id: &TaskId| state.busy_until[tasks[id].lane];
        let now = state.now;
        let mut free: Vec<_> = ready.iter().copied().filter(|(id, _)| free_at(&state, id) <= now).collect();
        let next_due = state.due.keys().next().copied();
        if next_due.is_some_and(|due| due.0 <= now)
            && (free.is_empty() || state.rng_tasks.coin())
            && let Some((key, due)) = state.due.pop_first()
        {
            let kind = u64::from(matches!(due, Due::Io(_)));
            state.trace.counters.timers_fired += 1 - kind;
            state.trace.mix(&[0xd0e, kind, key.0], || format!("{now:>12} due"));
            return Step::Due(due);
        }
        if free.is_empty() {
            let next_free = ready.iter().map(|(id, _)| free_at(&state, id)).min();
            return match next_free.into_iter().chain(next_due.map(|due| due.0)).min() {
                Some(next) => {
                    state.now = now.max(next);
                    Step::Advanced
                }
                None => Step::Nothing,
            };
        }
        prefer_foreground(&mut state, &tasks, &mut free);
        let id = pick(&mut state, &mut tasks, &free);
        let name = &tasks[&id].name;
        state.trace.mix(&[0x7a, id, now], || format!("{now:>12} run {name}"));
        state.trace.polled(name);
        self.ready.lock().order.remove(&id);
        Step::Poll(id)
    }

    /// Returns whether it was the driver's future and is ready.
    fn poll(&self, id: TaskId, driver: &mut Option<Driver<'_>>) -> Result<bool, Stop> {
        let taken = {
            let mut tasks = self.tasks.borrow_mut();
            let task = tasks.get_mut(&id).expect("a chosen task exists");
            (task.name.clone(), task.lane, task.waker.clone(), task.future.take())
        };
        let (name, lane, waker, mut future) = taken;
        self.shared.lock().polling = Some(lane);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut cx = Context::from_waker(&waker);
            match (&mut future, driver) {
                (Some(future), _) => future.as_mut().poll(&mut cx),
                (None, Some(driver)) if driver.id == id => (driver.poll)(&mut cx),
                (None, _) => Poll::Pending,
            }
        }));
        self.after_poll(lane);
        match polled {
            Ok(Poll::Pending) => {
                if let Some(task) = self.tasks.borrow_mut().get_mut(&id) {
                    task.future = future;
                }
                Ok(false)
            }
            Ok(Poll::Ready(())) => {
                let was_driver = future.is_none();
                drop_quietly(future);
                self.ended(id);
                Ok(was_driver)
            }
            Err(payload) => {
                drop_quietly(future);
                self.tasks.borrow_mut().remove(&id);
                self.died()?;
                if payload.is::<CrashUnwind>() {
                    return Ok(false);
                }
                Err(Stop::Panicked { task: name.to_string(), message: message_of(&*payload), stuck: self.stuck(0) })
            }
        }
    }

    fn after_poll(&self, lane: Lane) {
        let mut state = self.shared.lock();
        state.polling = None;
        let pace = state.config.pace;
        let ns = pace.draw(&mut state.rng_tasks);
        let now = state.now;
        let busy = &mut state.busy_until[lane];
        *busy = (*busy).max(now) + ns;
        if state.config.region_points
            && state.crashed.is_none()
            && let Some(path) = state.observe_regions()
        {
            let life = state.life;
            drop(state);
            // Dying there is noticed by the run loop.
            let _ = self.shared.perform(life, &OpInfo::name(OpKind::RegionStore, &path), |_| Ok(()));
        }
    }

    /// A task came to its end; with a shard's main task, all of the shard's tasks do.
    fn ended(&self, id: TaskId) {
        let Some(task) = self.tasks.borrow_mut().remove(&id) else { return };
        let (Some(shard), true) = (task.shard, task.is_main) else { return };
        let siblings: Vec<Task> = {
            let mut tasks = self.tasks.borrow_mut();
            let ids: Vec<TaskId> = tasks.iter().filter(|(_, t)| t.shard == Some(shard)).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| tasks.remove(id)).collect()
        };
        for sibling in siblings {
            drop_quietly(sibling.future);
        }
        let waiting = {
            let mut state = self.shared.lock();
            state.shards[shard].ended = true;
            std::mem::take(&mut state.shards[shard].waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Drop every task, as the end of a process does.
    pub fn kill_tasks(&self) {
        assert!(!self.running.get(), "a simulation is crashed from outside of its tasks");
        let unstarted = std::mem::take(&mut self.shared.lock().starts);
        drop(unstarted);
        loop {
            let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
            if tasks.is_empty() {
                break;
            }
            // A client may hold the engine, whose destructor waits for the shards.
            let (shards, clients): (Vec<_>, Vec<_>) = tasks.into_values().partition(|task| task.shard.is_some());
            for task in shards.into_iter().chain(clients) {
                drop_quietly(task.future);
            }
        }
        self.ready.lock().order.clear();
    }

    fn stuck(&self, steps: u64) -> Box<Stuck> {
        let state = self.shared.lock();
        let ready = self.ready.lock();
        let tasks = self.tasks.borrow();
        let waiting = tasks.iter().filter(|(id, _)| !ready.order.contains_key(id));
        Box::new(Stuck {
            seed: state.seed,
            now_ns: state.now,
            steps,
            waiting: waiting.map(|(_, task)| task.name.to_string()).collect(),
            runnable: ready.order.keys().filter_map(|id| tasks.get(id)).map(|t| t.name.to_string()).collect(),
            recent: state.trace.recent(),
        })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        CORES.with(|cores| cores.borrow_mut().remove(&self.shared.id));
        self.shared.lock().life += 1;
        self.kill_tasks();
    }
}

fn prefer_foreground(state: &mut State, tasks: &BTreeMap<TaskId, Task>, free: &mut Vec<(TaskId, u64)>) {
    let is_foreground = |(id, _): &(TaskId, u64)| tasks[id].class == TaskClass::Foreground;
    let foreground = free.iter().filter(|task| is_foreground(task)).count();
    if foreground == 0 || foreground == free.len() {
        return;
    }
    let background = state.rng_tasks.one_in(state.config.background_one_in);
    free.retain(|task| is_foreground(task) != background);
}

fn pick(state: &mut State, tasks: &mut BTreeMap<TaskId, Task>, free: &[(TaskId, u64)]) -> TaskId {
    let any = free[state.rng_tasks.index(free.len())].0;
    match state.config.policy {
        Policy::Uniform => any,
        Policy::Oldest => free.iter().min_by_key(|(_, order)| *order).map_or(any, |(id, _)| *id),
        Policy::Priorities if state.rng_tasks.one_in(8) => any,
        Policy::Priorities => {
            let id = free.iter().map(|(id, _)| *id).max_by_key(|id| tasks[id].priority).unwrap_or(any);
            if state.rng_tasks.one_in(16)
                && let Some(task) = tasks.get_mut(&id)
            {
                task.priority = state.rng_tasks.next_u64();
            }
            id
        }
    }
}

/// A destructor that panics in a killed process is seen by nobody.
fn drop_quietly(future: Option<LocalFuture<'static, ()>>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
}

pub(super) fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_string()
}
