//! A shard as the rest of the process sees it: its view for reads, its inbox, and its core for whoever may run it.
//!
//! Guards: requests of one thread are executed in the order in which they were submitted; a request that was taken is
//! answered; nobody sleeps while there is something to do for it.
//!
//! A submitter tries to take the core and run the shard itself (after whatever waits in the inbox); if somebody else
//! runs it, the request goes into the inbox, and whoever runs the shard, or its own core's pump, executes it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::core::{Outbox, ShardCore};
use super::gate::GateNews;
use super::inbox::Inbox;
use super::request::{Reply, Request};
use super::stages::Stage;
use super::view::ShardView;
use crate::error::{self, Error, Poisoned, Result};
use crate::event::Event;
use crate::format::record::OpRef;
use crate::ids::CommitTs;
use crate::options::Durability;
use crate::pending::Helper;
use crate::runtime::Clock;
use crate::wal::flush::{FlushError, perform_blocking};
use crate::wal::{FlushPlan, Next};

pub struct ShardHandle {
    pub view: Arc<ShardView>,
    core: Mutex<ShardCore>,
    inbox: Inbox<Request>,
    clock: Arc<dyn Clock>,
    /// The log wants looking at.
    pub flush: Event,
    /// A checkpoint may be due.
    pub checkpoint: Event,
    /// A segment may be missing.
    pub spare: Event,
    /// Tables may want merging.
    pub merge: Event,
    /// Tables were merged, and may be removed.
    pub removal: Event,
    /// Something of the locks is due earlier than before.
    pub locks: Event,
    /// The engine wants this shard to end.
    pub close: Event,
    /// A flush has something to do and nobody does it.
    flush_wanted: AtomicBool,
}

impl ShardHandle {
    pub fn new(view: Arc<ShardView>, core: ShardCore, inbox_len: u32) -> ShardHandle {
        ShardHandle {
            view,
            clock: Arc::clone(&core.clock),
            core: Mutex::new(core),
            inbox: Inbox::new(inbox_len as usize),
            flush: Event::default(),
            checkpoint: Event::default(),
            spare: Event::default(),
            merge: Event::default(),
            removal: Event::default(),
            locks: Event::default(),
            close: Event::default(),
            flush_wanted: AtomicBool::new(false),
        }
    }

    /// Run `step` on the core and see to what it leaves to do.
    pub fn with_core<T>(&self, step: impl FnOnce(&mut ShardCore) -> T) -> T {
        let mut core = self.lock();
        let result = step(&mut core);
        self.release(core);
        result
    }

    /// Take the core. A panic while it is held stops the shard: nobody knows what state it left.
    fn lock(&self) -> Held<'_> {
        Held { core: self.core.lock(), shard: self }
    }

    fn try_lock(&self) -> Option<Held<'_>> {
        self.core.try_lock().map(|core| Held { core, shard: self })
    }

    fn release(&self, mut core: Held<'_>) {
        let outbox = core.take_outbox();
        self.flush_wanted.store(core.wants_flush(), Ordering::Release);
        drop(core);
        self.serve(outbox);
    }

    fn serve(&self, mut outbox: Outbox) {
        let news = std::mem::take(&mut outbox.gates);
        self.serve_here(outbox);
        news.tell();
    }

    /// As [`ShardHandle::with_core`]; what it means for other shards is left to the caller.
    pub(super) fn step(&self, step: impl FnOnce(&mut ShardCore)) -> GateNews {
        let mut core = self.lock();
        step(&mut core);
        let mut outbox = core.take_outbox();
        self.flush_wanted.store(core.wants_flush(), Ordering::Release);
        drop(core);
        let news = std::mem::take(&mut outbox.gates);
        self.serve_here(outbox);
        news
    }

    fn serve_here(&self, outbox: Outbox) {
        if outbox.kick_flusher {
            self.flush.set();
        }
        if outbox.kick_pump {
            self.inbox.pump.set();
        }
        if outbox.kick_background {
            self.spare.set();
            self.checkpoint.set();
        }
        if outbox.kick_locks {
            self.locks.set();
        }
        outbox.deliver();
    }

    /// Run `step` on several cores at once, each with what waits in its inbox executed before. They are given in the order of
    /// their shards, the order in which everybody takes them.
    pub fn with_cores<T>(shards: &[&Arc<ShardHandle>], step: impl FnOnce(&mut [&mut ShardCore]) -> T) -> T {
        assert!(shards.is_sorted_by_key(|shard| shard.view.id), "shards are taken in their order");
        let mut held: Vec<Held<'_>> = shards.iter().map(|shard| shard.lock()).collect();
        for (shard, core) in shards.iter().zip(&mut held) {
            while core.accepts()
                && let Some((request, _)) = shard.inbox.pop()
            {
                core.execute(request);
            }
        }
        let mut cores: Vec<&mut ShardCore> = held.iter_mut().map(|held| &mut **held).collect();
        let result = step(&mut cores);
        // All are free before anybody is told: who is told may come back for them.
        let mut outboxes = Vec::with_capacity(held.len());
        for (shard, mut core) in shards.iter().zip(held) {
            outboxes.push(core.take_outbox());
            shard.flush_wanted.store(core.wants_flush(), Ordering::Release);
        }
        for (shard, outbox) in shards.iter().zip(outboxes) {
            shard.serve(outbox);
        }
        result
    }

    /// Hand over a request; it is answered through itself.
    pub fn submit(&self, request: Request) -> std::result::Result<(), Request> {
        let run = |request| {
            let Some(mut core) = self.try_lock() else { return Err(request) };
            let taken = if core.accepts() {
                core.execute(request);
                Ok(())
            } else {
                Err(request)
            };
            self.release(core);
            taken
        };
        self.inbox.submit(request, run, || self.clock.monotonic_ns(), refuse_closed)
    }

    pub fn inbox_capacity(&self) -> u64 {
        self.inbox.capacity() as u64
    }

    /// Requests wait in the inbox, or room for them appeared.
    pub fn pump(&self) -> &Event {
        &self.inbox.pump
    }

    /// Write borrowed ops if the shard is free; `None` if it is not, and the caller should submit a request. The commit is given if it
    /// need not wait; else the reply is called with it.
    pub fn write_now<'a>(
        &self,
        ops: impl Iterator<Item = OpRef<'a>> + Clone,
        level: Durability,
        reply: impl FnOnce() -> Reply,
    ) -> Option<Result<Option<CommitTs>>> {
        if !self.inbox.is_empty() {
            return None;
        }
        let mut core = self.try_lock()?;
        if !core.accepts() {
            self.release(core);
            return None;
        }
        let outcome = core.write_now(ops, level, reply);
        self.release(core);
        match outcome {
            Ok(done) => Some(Ok(done)),
            Err(Some(error)) => Some(Err(error)),
            Err(None) => None,
        }
    }

    /// Try a step on the core in this thread, if the shard is free and nobody came before.
    pub fn in_place<T>(&self, step: impl FnOnce(&mut ShardCore) -> T) -> Option<T> {
        if !self.inbox.is_empty() {
            return None;
        }
        let mut core = self.try_lock()?;
        let tried = core.accepts().then(|| step(&mut core));
        self.release(core);
        tried
    }

    /// Execute what waits in the inbox, as far as the shard takes it.
    pub fn drain_inbox(&self, at_most: usize) -> usize {
        let mut core = self.lock();
        let mut executed = 0;
        let now_ns = self.clock.monotonic_ns();
        while executed < at_most && core.accepts() {
            let Some((request, came_ns)) = self.inbox.pop() else { break };
            core.stages.record(Stage::Hopped, now_ns.saturating_sub(came_ns));
            core.execute(request);
            executed += 1;
        }
        core.tick_missed();
        self.release(core);
        executed
    }

    /// Whether a flush has something to do and nobody does it.
    pub fn wants_flush(&self) -> bool {
        self.flush_wanted.load(Ordering::Acquire)
    }

    pub fn inbox_is_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    pub fn finish_flush(&self, outcome: std::result::Result<FlushPlan, FlushError>) {
        self.with_core(|core| core.finish_flush(outcome));
        // Room may have appeared for who waits.
        if !self.inbox.is_empty() {
            self.inbox.pump.set();
        }
    }

    /// From now on everything is refused.
    pub fn close_inbox(&self) {
        self.inbox.close(refuse_closed);
    }

    pub fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }
}

fn refuse_closed(request: Request) {
    request.refuse(Error::Closed);
}

/// The core, held.
struct Held<'a> {
    core: MutexGuard<'a, ShardCore>,
    shard: &'a ShardHandle,
}

impl Deref for Held<'_> {
    type Target = ShardCore;
    fn deref(&self) -> &ShardCore {
        &self.core
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut ShardCore {
        &mut self.core
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let cause = "an assertion failed while the shard was at work; please report it".to_owned();
            let view = &self.shard.view;
            view.poison(Arc::new(Poisoned { shard: view.id, stage: error::Stage::Assertion, cause }));
            // They tell those who wait, in line and in the inbox.
            self.shard.flush.set();
            self.shard.inbox.pump.set();
        }
    }
}

/// A flush that is performed by a caller's thread.
struct Lent<'a>(&'a ShardHandle);

impl Lent<'_> {
    fn perform(self, plan: FlushPlan) -> std::result::Result<FlushPlan, FlushError> {
        let outcome = perform_blocking(plan);
        std::mem::forget(self);
        outcome
    }
}

impl Drop for Lent<'_> {
    /// It panicked. Nobody else will say how it ended, and a close would wait for that.
    fn drop(&mut self) {
        self.0.with_core(|core| core.log_mut().failed());
    }
}

impl Helper for ShardHandle {
    /// Flush in the calling thread as long as its answer is missing and nobody else flushes.
    fn help(&self, ready: &dyn Fn() -> bool) {
        while !ready() && self.wants_flush() {
            let Some(mut core) = self.try_lock() else {
                // Whoever holds it may leave without flushing.
                self.flush.set();
                return;
            };
            let next = core.begin_flush();
            self.release(core);
            match next {
                Next::Flush(plan) => {
                    let outcome = Lent(self).perform(plan);
                    self.finish_flush(outcome);
                }
                Next::Idle { .. } => return,
                Next::NeedsSpare => {
                    self.flush.set();
                    self.spare.set();
                    return;
                }
            }
        }
        // Its answer is there, by its own work or by that of another shard; what others wait for is left to the core.
        self.kick();
    }

    fn kick(&self) {
        if self.wants_flush() {
            self.flush.set();
        }
    }
}
