//! Completion queues: submit without waiting, poll one descriptor, reap. No code of the program runs in our threads.
//!
//! Guards: at most `capacity` operations are under way or unreaped, so the queue of those that are done never overflows
//! and its memory is bounded; the descriptor is readable whenever something can be reaped. An operation that was
//! submitted is never taken back: freeing the queue only forgets its completion.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use crate::batch::{Batch, corering_batch, lock};
use crate::db::{Db, corering_db};
use crate::engine::{Acquire, CommitTs, Error, Grant, Pending, PutIf, ValueRef, WriteOptions};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::object::{self, HandleKind, Object, using};
use crate::op::{Action, Answer, Op, corering_op, corering_op_kind, corering_result};
use crate::options::{self, corering_write_options};
use crate::status::corering_status::{self, *};
use crate::waits::Waits;
use crate::write::{self, Write};

/// Operations under way, and those that are done and not yet reaped. Any number of threads may use it at the same time.
#[allow(non_camel_case_types)]
pub struct corering_queue(());

/// Slots of the largest queue.
const CAPACITY_MAX: u32 = 1 << 20;

struct Done {
    user_data: u64,
    kind: u32,
    answer: Answer,
}

/// What the shards' threads see of a queue; outlives its handle while operations are under way.
struct Shared {
    done: ArrayQueue<Done>,
    /// Operations submitted and not yet reaped.
    open: AtomicU32,
    capacity: u32,
    event: OwnedFd,
    /// The descriptor is readable, or about to be.
    raised: AtomicBool,
    waits: Waits,
}

pub(crate) struct Queue {
    db: Arc<Db>,
    shared: Arc<Shared>,
}

impl Shared {
    fn new(capacity: u32) -> Result<Shared, Failure> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::io("eventfd", "the completion queue", errno.into()))?;
        Ok(Shared {
            done: ArrayQueue::new(capacity as usize),
            open: AtomicU32::new(0),
            capacity,
            event,
            raised: AtomicBool::new(false),
            waits: Waits::default(),
        })
    }

    /// Takes a slot for one more operation.
    fn reserve(&self) -> bool {
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < self.capacity).then_some(open + 1))
            .is_ok()
    }

    /// Of an operation that did not begin.
    fn give_back(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Called in a shard's thread: an operation with a reserved slot is done.
    fn complete(&self, done: Done) {
        // Full only if more were submitted than slots were reserved; then one completion is lost, and nothing else.
        let pushed = self.done.push(done).is_ok();
        debug_assert!(pushed, "every operation has reserved its slot");
        self.raise();
    }

    fn raise(&self) {
        if !self.raised.swap(true, Ordering::SeqCst) {
            // Fails only when the counter is full, and then the descriptor is readable anyway.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Nothing was left to reap. Whatever came in since must raise the descriptor again.
    fn lower(&self) {
        if self.raised.load(Ordering::SeqCst) {
            let _ = rustix::io::read(&self.event, &mut [0u8; 8]);
            self.raised.swap(false, Ordering::SeqCst);
            if !self.done.is_empty() {
                self.raise();
            }
        }
    }

    fn reap(&self) -> Option<Done> {
        let done = self.done.pop()?;
        self.give_back();
        Some(done)
    }
}

/// A place for one completion, which comes in any case.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    user_data: u64,
    kind: u32,
    answered: bool,
}

impl Slot {
    pub(crate) fn complete(mut self, answer: Answer) {
        self.give(answer);
    }

    fn give(&mut self, answer: Answer) {
        self.answered = true;
        self.shared.complete(Done { user_data: self.user_data, kind: self.kind, answer });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.answered {
            self.give(Answer::Failed(Error::Closed.into()));
        }
    }
}

impl Queue {
    /// Takes a place for one completion.
    pub(crate) fn slot(&self, user_data: u64, kind: u32) -> Result<Slot, Failure> {
        self.db.check_open()?;
        if !self.shared.reserve() {
            return Err(self.full());
        }
        Ok(Slot { shared: Arc::clone(&self.shared), user_data, kind, answered: false })
    }

    /// Sends one operation off; its slot is reserved.
    fn start(&self, user_data: u64, kind: u32, op: Op, write: &Write) {
        let options = &write.options;
        if write.is_guarded() && !matches!(op.action, Action::Sync) {
            let pending = write::start(&self.db, vec![op], write.guards.clone(), *options);
            return self.follow(user_data, kind, pending, |answers| answers.into_iter().next().unwrap_or(Answer::Done));
        }
        let Op { keyspace, key, action } = op;
        let client = &self.db.client;
        let with = |expiry| WriteOptions { expiry, ..*options };
        let written = |version: CommitTs| Answer::Written { version: version.0 };
        match action {
            Action::Put { value, expiry } => {
                self.follow(user_data, kind, client.put(keyspace, &key, &value, with(expiry)), written);
            }
            Action::Delete => {
                self.follow(user_data, kind, client.delete(keyspace, &key, *options), Answer::Existed);
            }
            Action::PutIf { value, expiry, condition } => {
                let pending = client.put_if(keyspace, &key, &value, condition, with(expiry));
                self.follow(user_data, kind, pending, |outcome| match outcome {
                    PutIf::Done(version) => Answer::Written { version: version.0 },
                    PutIf::Refused { current } => Answer::Refused { version: current.map_or(0, |version| version.0) },
                });
            }
            Action::Incr { by, expiry } => {
                self.follow(user_data, kind, client.incr(keyspace, &key, by, with(expiry)), Answer::Number);
            }
            // On its shard, so that it sees what was submitted before it.
            Action::Get => {
                let route = key.clone();
                let read = client.run(&route, *options, move |tx| Ok(tx.get(keyspace, &key)?.map(ValueRef::to_value)));
                self.follow(user_data, kind, read, Answer::Value);
            }
            Action::Sync => self.follow(user_data, kind, client.sync(), |()| Answer::Done),
        }
    }

    /// Starts something that is no operation on a key, if there is room for its completion.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        user_data: u64,
        kind: u32,
        answer: impl FnOnce(T) -> Answer + Send + 'static,
        start: impl FnOnce(&Db) -> Pending<T>,
    ) -> Result<(), Failure> {
        self.db.check_open()?;
        if !self.shared.reserve() {
            return Err(self.full());
        }
        self.follow(user_data, kind, start(&self.db), answer);
        Ok(())
    }

    /// As [`Queue::submit`], for what is refused at once or has an outcome that is asked for when it is reaped.
    pub(crate) fn submit_later<T: Send + 'static>(
        &self,
        user_data: u64,
        kind: u32,
        start: impl FnOnce(&Db) -> Result<Pending<T>, Failure>,
        answer: impl FnOnce(Result<T, Error>) -> Result<Answer, Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        self.db.check_open()?;
        if !self.shared.reserve() {
            return Err(self.full());
        }
        let pending = start(&self.db).inspect_err(|_| self.shared.give_back())?;
        let shared = Arc::clone(&self.shared);
        pending.on_ready(move |outcome| {
            let later = move || answer(outcome).unwrap_or_else(Answer::Failed);
            shared.complete(Done { user_data, kind, answer: Answer::Later(Box::new(later)) });
        });
        Ok(())
    }

    /// Asks for a lock, so that [`Queue::cancel`] finds it.
    pub(crate) fn acquire(&self, user_data: u64, name: &[u8], acquire: Acquire) -> Result<(), Failure> {
        self.db.check_open()?;
        if !self.shared.reserve() {
            return Err(self.full());
        }
        let id = self.db.new_ask();
        let client = &self.db.client;
        let waits = &self.shared.waits;
        let pending = waits.send(user_data, id, name, acquire.session.id, || client.acquire_as(id, name, acquire));
        let shared = Arc::clone(&self.shared);
        pending.on_ready(move |outcome| {
            shared.waits.remove(user_data, id);
            let granted = |grant: Grant| Answer::Granted { token: grant.token.0, count: grant.count };
            let answer = outcome.map_or_else(|error| Answer::Failed(error.into()), granted);
            shared.complete(Done { user_data, kind: corering_op_kind::CORERING_OP_ACQUIRE as u32, answer });
        });
        Ok(())
    }

    /// Asks for the end of the waits for locks with this tag; false if there are none.
    pub(crate) fn cancel(&self, user_data: u64) -> Result<bool, Failure> {
        self.db.check_open()?;
        Ok(self.shared.waits.cancel(&self.db.client, user_data)?)
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    fn follow<T: Send + 'static>(
        &self,
        user_data: u64,
        kind: u32,
        pending: Pending<T>,
        answer: impl FnOnce(T) -> Answer + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        pending.on_ready(move |outcome| {
            let answer = outcome.map_or_else(|error| Answer::Failed(error.into()), answer);
            shared.complete(Done { user_data, kind, answer });
        });
    }

    fn full(&self) -> Failure {
        Error::Busy { queue: "completion queue", limit: self.shared.capacity.into() }.into()
    }
}

/// Makes a completion queue for a database, for at most `capacity` (1 to 1048576) operations under way or not reaped.
///
/// Owns: the caller owns the queue; `corering_queue_free` ends it.
/// Writes: the handle to `queue`, null on failure.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; TOO_MANY_HANDLES; IO.
/// Safety: `queue` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_new(
    db: *mut corering_db,
    capacity: u32,
    queue: *mut *mut corering_queue,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(queue).required("queue")?;
        let db = Arc::clone(&*using::<Arc<Db>, _>(db)?);
        if !(1..=CAPACITY_MAX).contains(&capacity) {
            return Err(Failure::argument(format!("capacity is {capacity}; give 1 to {CAPACITY_MAX}")));
        }
        let shared = Arc::new(Shared::new(capacity)?);
        out.set(object::publish(Object::Queue(Box::new(Queue { db, shared })))?);
        Ok(CORERING_OK)
    })
}

/// The descriptor that is readable whenever a completion can be reaped. Poll it; do not read, write or close it.
///
/// Owns: the queue owns the descriptor; it ends with the queue.
/// Writes: `fd`, 0 on failure.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `fd` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_fd(queue: *mut corering_queue, fd: *mut i32) -> corering_status {
    guarded!(|c| {
        let out = c.out(fd).required("fd")?;
        out.set(using::<Queue, _>(queue)?.shared.event.as_raw_fd());
        Ok(CORERING_OK)
    })
}

/// Submits operations without waiting for them. Those of one shard take effect in the order in which one thread submits
/// them, and a get sees the writes submitted before it. Of `options`, which may be null, it heeds the durability, the session and the
/// guards, on which then each operation depends; the other settings are each operation's own. An operation that makes no sense is accepted and fails in its completion.
///
/// Owns: the caller keeps the operations and what they lead to; they are copied.
/// Writes: to `accepted` how many were taken, from the first on.
/// Threads: any; does not wait for the disk.
/// Status: OK if at least one was accepted, or none was given; BUSY if the queue is full: reap, then submit again;
///   INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `ops` has `count` operations, each with its bytes; `options` is null or begins with its size; `accepted`
///   is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_submit(
    queue: *mut corering_queue,
    ops: *const corering_op,
    count: usize,
    options: *const corering_write_options,
    accepted: *mut usize,
) -> corering_status {
    guarded!(|c| {
        let accepted = c.out(accepted).required("accepted")?;
        let queue = using::<Queue, _>(queue)?;
        let ops = c.array("ops", ops, count)?;
        let write = options::write(c, options, &queue.db)?;
        queue.db.check_open()?;
        for (place, given) in ops.iter().enumerate() {
            if !queue.shared.reserve() {
                return if place == 0 { Err(queue.full()) } else { Ok(CORERING_OK) };
            }
            match Op::from_c(c, given, &queue.db) {
                Ok(op) => queue.start(given.user_data, given.kind, op, &write),
                Err(failure) => queue.shared.complete(Done {
                    user_data: given.user_data,
                    kind: given.kind,
                    answer: Answer::Failed(failure),
                }),
            }
            accepted.set(place + 1);
        }
        Ok(CORERING_OK)
    })
}

/// Submits an atomic batch without waiting for it. The batch keeps its writes and may be changed or freed at once. Of
/// `options`, which may be null, it heeds the durability and the guards.
///
/// Owns: the caller keeps the batch; its writes are copied.
/// Writes: nothing.
/// Threads: any; does not wait for the disk.
/// Status: OK; BUSY if the queue is full; INVALID_ARGUMENT, also for the batch of another database; INVALID_HANDLE;
///   CLOSED; FORKED.
/// Safety: `options` is null or begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_submit_batch(
    queue: *mut corering_queue,
    batch: *mut corering_batch,
    options: *const corering_write_options,
    user_data: u64,
) -> corering_status {
    guarded!(|c| {
        let queue = using::<Queue, _>(queue)?;
        let batch = using::<Mutex<Batch>, _>(batch)?;
        let batch = lock(&batch)?;
        if !batch.db.is(&queue.db) {
            return Err(Failure::argument("the batch is one of another database"));
        }
        let write = options::write(c, options, &queue.db)?;
        let kind = corering_op_kind::CORERING_OP_BATCH as u32;
        let written = |version: CommitTs| Answer::Written { version: version.0 };
        queue.submit(user_data, kind, written, |_| batch.commit(write))?;
        Ok(CORERING_OK)
    })
}

/// Takes completions that are there, at most `capacity`, without waiting. The descriptor stays readable while some are
/// left. Completions can be reaped after the database was closed.
///
/// Owns: the caller owns the values of the results, each to be freed with `corering_value_free`.
/// Writes: `results`, zeroes behind the last; how many there are to `count`.
/// Threads: any.
/// Status: OK, also if there are none; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED if the queue was freed; FORKED.
/// Safety: `results` has room for `capacity`; `count` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_reap(
    queue: *mut corering_queue,
    results: *mut corering_result,
    capacity: usize,
    count: *mut usize,
) -> corering_status {
    guarded!(|c| {
        let count = c.out(count);
        let outs = c.outs("results", results, capacity)?;
        let count = count.required("count")?;
        let queue = using::<Queue, _>(queue)?;
        let mut reaped = 0;
        while reaped < outs.len()
            && let Some(done) = queue.shared.reap()
        {
            outs.set(reaped, done.answer.into_c(done.user_data, done.kind));
            reaped += 1;
            count.set(reaped);
        }
        if queue.shared.done.is_empty() {
            queue.shared.lower();
        }
        Ok(CORERING_OK)
    })
}

/// Ends a queue. Operations that are under way go on and take effect; their completions are dropped, as are those not
/// reaped. To know every outcome, reap before.
///
/// Owns: the handle and the descriptor end here.
/// Writes: nothing.
/// Threads: any.
/// Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
/// Safety: any pointer will do; it is not dereferenced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_free(queue: *mut corering_queue) -> corering_status {
    guarded!(|_c| {
        if let Some(retired) = object::retire(queue, HandleKind::Queue)? {
            drop(retired.finish());
        }
        Ok(CORERING_OK)
    })
}
