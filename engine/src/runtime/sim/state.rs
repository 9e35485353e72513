//! Everything of a simulation that its host, files and timers share: one lock, taken for one step and never held while
//! code of the engine, a waker or a harness runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use super::config::SimConfig;
use super::disk::{Disk, Ino, Torn};
use super::faults::{Fault, Faults};
use super::points::{CrashPoint, OpKind, Phase, Points};
use super::region::LiveRegion;
use super::rng::Rng;
use super::trace::Trace;
use crate::runtime::{IoDone, IoOp, ShardMain};

/// A core, or a thread outside of the engine: what runs there runs one after the other.
pub(super) type Lane = usize;

/// When something is due; the middle word, drawn by the seed, orders what is due at the same time.
pub(super) type DueKey = (u64, u64, u64);

pub(super) enum Due {
    Timer(Waker),
    Io(u64),
}

/// A transfer that was submitted and has not completed.
pub(super) struct InFlight {
    pub ino: Ino,
    pub path: Arc<Path>,
    pub op: IoOp,
    /// Changes up to this number had returned when it was submitted.
    pub upto: u64,
}

/// How a file was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub writable: bool,
    pub direct: bool,
}

/// Where the task that waits for a transfer finds it.
#[derive(Default)]
pub(super) struct IoSlot {
    pub done: Option<IoDone>,
    pub waker: Option<Waker>,
}

pub(super) struct ShardStart {
    pub index: usize,
    pub main: ShardMain,
}

pub(super) struct ShardRecord {
    pub name: Arc<str>,
    pub lane: Lane,
    pub ended: bool,
    pub waiting: Vec<Waker>,
}

pub(super) struct State {
    pub config: SimConfig,
    pub seed: u64,
    pub disk: Disk,
    pub faults: Faults,
    pub faults_on: bool,
    /// Files of which a write was lost or went astray.
    pub lies: Vec<(String, Fault)>,
    pub trace: Trace,
    pub points: Points,
    pub now: u64,
    pub wall_offset_ms: i64,
    /// Every crash begins a new life; handles of an old one are dead.
    pub life: u64,
    pub crashed: Option<(CrashPoint, Phase)>,
    /// The disk when this life ended; what its destructors still do changes nothing.
    pub death: Option<DiskImage>,
    /// A task or the driver's future is being polled right now, on this lane.
    pub polling: Option<Lane>,
    pub busy_until: Vec<u64>,
    pub due: BTreeMap<DueKey, Due>,
    pub in_flight: BTreeMap<u64, InFlight>,
    pub slots: BTreeMap<u64, IoSlot>,
    pub regions: Vec<LiveRegion>,
    pub handles: Vec<(Ino, Weak<()>)>,
    pub locks: BTreeMap<PathBuf, Weak<()>>,
    pub starts: Vec<ShardStart>,
    pub shards: Vec<ShardRecord>,
    next_id: u64,
    pub rng_tasks: Rng,
    pub rng_time: Rng,
    pub rng_faults: Rng,
    pub rng_host: Rng,
    pub rng_damage: Rng,
}

impl State {
    pub fn new(seed: u64, config: SimConfig, disk: Disk) -> State {
        State {
            trace: Trace::new(seed, config.log),
            config,
            seed,
            disk,
            faults: Faults::default(),
            faults_on: true,
            lies: Vec::new(),
            points: Points::default(),
            now: 0,
            wall_offset_ms: 0,
            life: 1,
            crashed: None,
            death: None,
            polling: None,
            busy_until: Vec::new(),
            due: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            slots: BTreeMap::new(),
            regions: Vec::new(),
            handles: Vec::new(),
            locks: BTreeMap::new(),
            starts: Vec::new(),
            shards: Vec::new(),
            next_id: 0,
            rng_tasks: Rng::stream(seed, "tasks"),
            rng_time: Rng::stream(seed, "time"),
            rng_faults: Rng::stream(seed, "faults"),
            rng_host: Rng::stream(seed, "host"),
            rng_damage: Rng::stream(seed, "crashes"),
        }
    }

    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn new_lane(&mut self) -> Lane {
        self.busy_until.push(0);
        self.busy_until.len() - 1
    }

    pub fn is_dead(&self, life: u64) -> bool {
        self.life != life || self.death.is_some()
    }

    pub fn schedule(&mut self, at: u64, due: Due) -> DueKey {
        let key = (at, self.rng_time.next_u64(), self.new_id());
        self.due.insert(key, due);
        key
    }

    /// The lane that is being polled does nothing else for so long.
    pub fn occupy(&mut self, ns: u64) {
        if let Some(lane) = self.polling {
            self.busy_until[lane] = self.busy_until[lane].max(self.now) + ns;
        }
    }

    pub fn is_open(&self, ino: Ino) -> bool {
        self.handles.iter().any(|(open, handle)| *open == ino && handle.strong_count() > 0)
            || self.in_flight.values().any(|flight| flight.ino == ino)
            || self.regions.iter().any(|region| region.ino == ino)
    }

    pub fn forget_unreachable(&mut self) {
        self.handles.retain(|(_, handle)| handle.strong_count() > 0);
        let open: BTreeSet<Ino> = self
            .handles
            .iter()
            .map(|(ino, _)| *ino)
            .chain(self.in_flight.values().map(|flight| flight.ino))
            .chain(self.regions.iter().map(|region| region.ino))
            .collect();
        self.disk.forget_unreachable(|ino| open.contains(&ino));
    }

    /// Is there room for `bytes` more?
    pub fn has_room(&self, bytes: u64) -> bool {
        match self.disk.capacity {
            Some(capacity) if bytes > 0 => self.disk.used(|ino| self.is_open(ino)) + bytes <= capacity,
            _ => true,
        }
    }

    pub fn strike(&mut self, op: OpKind, path: &Path) -> Option<Fault> {
        if !self.faults_on {
            return None;
        }
        let fault = self.faults.strike(&mut self.rng_faults, op, path)?;
        *self.trace.counters.faults.entry(fault).or_default() += 1;
        if fault.is_a_lie() {
            self.lies.push((path.display().to_string(), fault));
        }
        self.trace.mix(&[0xfa, fault as u64], || format!("fault {fault:?} {op:?} {}", path.display()));
        Some(fault)
    }

    pub fn latency(&mut self, op: OpKind, path: &Path, len: usize) -> u64 {
        let ns = self.config.latency.draw(&mut self.rng_time, op, len);
        if self.faults_on && self.faults.slow(&mut self.rng_faults, op, path) {
            *self.trace.counters.faults.entry(Fault::Slow).or_default() += 1;
            return ns * self.rng_time.between(10, 10_000);
        }
        ns
    }

    /// Take what the engine stored in shared regions as changes of their files. Returns the first that changed.
    pub fn observe_regions(&mut self) -> Option<PathBuf> {
        let mut changed = None;
        let regions = std::mem::take(&mut self.regions);
        for region in &regions {
            let seq = self.disk.seq() + 1;
            let pages: Vec<_> = region.changes(self.disk.inode(region.ino)).map(|(i, page)| (i, *page)).collect();
            if pages.is_empty() {
                continue;
            }
            self.disk.next_seq();
            for (block, page) in &pages {
                self.disk.inode_mut(region.ino).store_page(seq, *block, page);
                let hash = xxhash_rust::xxh3::xxh3_64(page);
                self.trace.mix(&[0x5e, *block as u64, hash], || format!("region page {block} {hash:016x}"));
            }
            changed.get_or_insert(region.ino);
        }
        self.regions = regions.into_iter().filter(|region| !region.is_unmapped()).collect();
        let ino = changed?;
        let named = self.disk.names.walk().into_iter().find(|(_, named)| *named == ino);
        Some(PathBuf::from(named.map_or_else(|| format!("(removed, inode {ino})"), |(path, _)| path)))
    }

    /// Nothing of this life takes effect any more.
    pub fn die(&mut self) {
        if self.death.is_none() {
            self.death = Some(self.image());
        }
    }

    /// Every handle of this life is dead from now on. What is given back is to be dropped outside of the lock.
    pub fn end_life(&mut self) -> impl Sized + use<> {
        self.life += 1;
        self.handles.clear();
        self.locks.clear();
        (
            std::mem::take(&mut self.in_flight),
            std::mem::take(&mut self.slots),
            std::mem::take(&mut self.due),
            std::mem::take(&mut self.starts),
            std::mem::take(&mut self.shards),
            std::mem::take(&mut self.regions),
        )
    }

    /// The disk now, with the writes in flight.
    pub fn image(&mut self) -> DiskImage {
        self.observe_regions();
        let torn = |flight: &InFlight| match &flight.op {
            IoOp::Write { offset, buf } | IoOp::WriteDurable { offset, buf } => {
                Some(Torn { ino: flight.ino, offset: *offset, data: Arc::from(&buf[..]) })
            }
            IoOp::Read { .. } | IoOp::SyncData => None,
        };
        DiskImage { disk: self.disk.clone(), in_flight: self.in_flight.values().filter_map(torn).collect() }
    }
}

/// The state of a disk at one moment of a run.
#[derive(Clone)]
pub struct DiskImage {
    pub(super) disk: Disk,
    in_flight: Vec<Torn>,
}

impl DiskImage {
    /// What a crash at that moment leaves, by the choices of `seed`.
    pub fn after_crash(&self, kind: super::CrashKind, seed: u64) -> Disk {
        self.disk.after_crash(kind, seed, &self.in_flight)
    }
}

pub(super) struct Shared {
    pub id: u64,
    state: Mutex<State>,
}

/// What a blocking call is, for its crash point and the trace.
pub(super) struct OpInfo<'a> {
    pub kind: OpKind,
    pub path: &'a Path,
    pub offset: u64,
    pub len: usize,
    /// Hash of what is written.
    pub content: u64,
}

impl<'a> OpInfo<'a> {
    pub fn name(kind: OpKind, path: &'a Path) -> OpInfo<'a> {
        OpInfo { kind, path, offset: 0, len: 0, content: 0 }
    }
}

/// Unwinds out of the task that reached the point where the run dies.
pub(super) struct CrashUnwind;

pub(super) fn dead() -> io::Error {
    io::Error::other("the simulated process is dead")
}

impl Shared {
    pub fn new(id: u64, state: State) -> Shared {
        Shared { id, state: Mutex::new(state) }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Let `apply` take effect as one operation of that life: through its crash point, traced and counted.
    pub fn perform<T>(
        &self,
        life: u64,
        op: &OpInfo<'_>,
        apply: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        if state.is_dead(life) {
            return Err(dead());
        }
        state.observe_regions();
        let now = state.now;
        state.trace.mix(&[now, op.kind as u64, op.offset, op.len as u64, op.content], || {
            format!("{now:>12} {:?} {} {}+{}", op.kind, op.path.display(), op.offset, op.len)
        });
        if !op.kind.is_point() {
            *state.trace.counters.ops.entry(op.kind).or_default() += 1;
            return apply(&mut state);
        }
        let point = CrashPoint {
            index: state.points.take_index(),
            kind: op.kind,
            path: op.path.to_path_buf(),
            offset: op.offset,
            len: op.len as u64,
        };
        state = self.pass(state, &point, Phase::Before)?;
        let result = apply(&mut state);
        *state.trace.counters.ops.entry(op.kind).or_default() += 1;
        if op.kind != OpKind::RegionStore {
            drop(self.pass(state, &point, Phase::After)?);
        }
        result
    }

    /// Show a point to whoever watches, and die there if that is the plan.
    fn pass<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        point: &CrashPoint,
        phase: Phase,
    ) -> io::Result<MutexGuard<'a, State>> {
        if state.points.watched {
            let image = state.image();
            drop(state);
            super::core::show_point(self.id, point, phase, image);
            state = self.lock();
        }
        if !state.points.strikes(point.index, phase) {
            return Ok(state);
        }
        state.trace.mix(&[0xdead], || format!("dies at {point}, {phase:?}"));
        state.crashed = Some((point.clone(), phase));
        state.die();
        let unwind = state.polling.is_some() && !std::thread::panicking();
        drop(state);
        if unwind {
            std::panic::resume_unwind(Box::new(CrashUnwind));
        }
        Err(dead())
    }
}
