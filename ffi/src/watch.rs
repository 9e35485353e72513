//! Watches: every change of a key, or of the keys with a prefix, in the order of commits. And keys with a number of their own.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::batch::lock;
use crate::db::{Db, corering_db};
use crate::engine::{Change, CommitTs, Error, Watch, WatchEvent, WatchKeys, WatchOptions, What};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::object::{self, HandleKind, Object, using};
use crate::op::{Answer, corering_op_kind};
use crate::options::{self, corering_read_options, corering_write_options};
use crate::queue::{Queue, Slot, corering_queue};
use crate::raw::{Caller, c_struct};
use crate::status::corering_status::{self, *};

/// Delivers changes of some keys. For one thread at a time.
#[allow(non_camel_case_types)]
pub struct corering_watch(());

/// Flags of `corering_watch_options`.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_watch_flags {
    /// All keys that begin with `key`; with none, all keys of the keyspace.
    CORERING_WATCH_PREFIX = 1,
    /// Everything after the commit `from`, rather than from now on.
    CORERING_WATCH_FROM = 2,
}
use corering_watch_flags::*;

/// Flags of a `corering_change`.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_change_flags {
    /// The key is gone; else it has the value now.
    CORERING_CHANGE_DELETED = 1,
    /// Another change of the same commit comes next, and waits already.
    CORERING_CHANGE_MORE = 2,
}
use corering_change_flags::*;

/// What is watched.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_watch_options {
    /// The bytes of this struct that the program knows: sizeof(corering_watch_options).
    pub struct_size: usize,
    /// The name space of the keys: 0 to 65279.
    pub keyspace: u32,
    /// Any of `corering_watch_flags`.
    pub flags: u32,
    /// One key; with CORERING_WATCH_PREFIX, what keys begin with.
    pub key: *const c_void,
    pub key_len: usize,
    /// With CORERING_WATCH_FROM: a version, or what `corering_watch_progress` told; 0: from the first commit on.
    pub from: u64,
    /// Bytes of changes that may wait before the watch is cut off; 0: 32 MiB.
    pub limit_bytes: u64,
}

/// A change of a key, in memory of the watch that gave it.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_change {
    pub key: *const u8,
    pub key_len: usize,
    pub value: *const u8,
    pub value_len: usize,
    /// The commit that made the change.
    pub version: u64,
    /// Milliseconds since 1970 at which the value ceases to exist, of which a change tells then; 0: never.
    pub expires_at_ms: u64,
    pub keyspace: u32,
    /// Any of `corering_change_flags`.
    pub flags: u32,
}

c_struct!(growing corering_watch_options, first_len 48);
c_struct!(plain corering_change);

impl corering_watch_options {
    const NEW: corering_watch_options = corering_watch_options {
        struct_size: size_of::<corering_watch_options>(),
        keyspace: 0,
        flags: CORERING_WATCH_PREFIX as u32,
        key: std::ptr::null(),
        key_len: 0,
        from: 0,
        limit_bytes: 0,
    };

    fn open(&self, caller: &Caller, db: &Db) -> Result<Watch, Failure> {
        options::check_flags("flags", self.flags, CORERING_WATCH_PREFIX as u32 | CORERING_WATCH_FROM as u32)?;
        let has = |flag: corering_watch_flags| self.flags & flag as u32 != 0;
        let key = caller.key(self.key, self.key_len)?.to_vec();
        let keys = if has(CORERING_WATCH_PREFIX) { WatchKeys::Prefix(key) } else { WatchKeys::One(key) };
        let default = WatchOptions::default();
        if self.from != 0 && !has(CORERING_WATCH_FROM) {
            return Err(Failure::argument("from is set without CORERING_WATCH_FROM"));
        }
        let given = WatchOptions {
            from: has(CORERING_WATCH_FROM).then_some(CommitTs(self.from)),
            limit_bytes: if self.limit_bytes == 0 { default.limit_bytes } else { self.limit_bytes },
        };
        Ok(db.client.watch(options::keyspace(self.keyspace)?, keys, given)?)
    }
}

/// A watch and what of its last event is still to be taken.
pub(crate) struct Watcher {
    db: Arc<Db>,
    watch: Watch,
    taken: Mutex<Taken>,
    /// The commit of which some changes are still to be taken; 0: none.
    under_way: AtomicU64,
    /// The earliest place that there is, once the watch was told so; 0 before.
    oldest: AtomicU64,
}

#[derive(Default)]
struct Taken {
    event: Option<WatchEvent>,
    next: usize,
}

impl Watcher {
    fn new(db: &Arc<Db>, watch: Watch) -> Watcher {
        Watcher {
            db: Arc::clone(db),
            watch,
            taken: Mutex::default(),
            under_way: AtomicU64::new(0),
            oldest: AtomicU64::new(0),
        }
    }

    /// The next change; none came in time.
    fn next(&self, taken: &mut Taken, wait: Option<Duration>) -> Result<Option<corering_change>, Failure> {
        if taken.event.as_ref().is_none_or(|event| taken.next >= event.changes.len()) {
            *taken = Taken { event: self.wait(wait)?, next: 0 };
        }
        let Some(event) = &taken.event else { return Ok(None) };
        let change = &event.changes[taken.next];
        taken.next += 1;
        let more = taken.next < event.changes.len();
        self.under_way.store(if more { event.at.0 } else { 0 }, Ordering::Release);
        Ok(Some(shown(event.at, change, more)))
    }

    fn wait(&self, at_most: Option<Duration>) -> Result<Option<WatchEvent>, Failure> {
        let event = if at_most == Some(Duration::ZERO) { self.watch.try_next() } else { self.watch.wait(at_most) };
        event.map_err(|error| {
            if let Error::Compacted { oldest } = &error {
                self.oldest.store(oldest.0, Ordering::Release);
            }
            error.into()
        })
    }

    fn progress(&self) -> u64 {
        let progress = match self.under_way.load(Ordering::Acquire) {
            0 => self.watch.progress().0,
            at => at - 1,
        };
        progress.max(self.oldest.load(Ordering::Acquire))
    }
}

fn shown(at: CommitTs, change: &Change, more: bool) -> corering_change {
    let (value, expires_at_ms, gone) = match &change.what {
        What::Put { value, expiry, .. } => (value.as_slice(), expiry.0, false),
        What::Deleted => (&[][..], 0, true),
    };
    let flag = |on: bool, flag: corering_change_flags| if on { flag as u32 } else { 0 };
    corering_change {
        key: change.key.as_ptr(),
        key_len: change.key.len(),
        value: value.as_ptr(),
        value_len: value.len(),
        version: at.0,
        expires_at_ms,
        keyspace: change.keyspace.0.into(),
        flags: flag(gone, CORERING_CHANGE_DELETED) | flag(more, CORERING_CHANGE_MORE),
    }
}

/// Fills `options` with the defaults: all keys of keyspace 0, from now on.
///
/// Owns: the caller keeps the struct.
/// Writes: `struct_size` bytes at `options`.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
/// Safety: `options` has room for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_watch_options_init(
    options: *mut corering_watch_options,
    struct_size: usize,
) -> corering_status {
    guarded!(|c| {
        c.init_options(options, struct_size, &corering_watch_options::NEW)?;
        Ok(CORERING_OK)
    })
}

/// Begins to watch keys: each change after the start is delivered once, in the order of commits, when a reader could see it.
/// `options` may be null for all keys of keyspace 0, from now on. Whether everything after `from` is still there
/// `corering_watch_next` says.
///
/// Owns: the caller owns the watch; `corering_watch_free` ends it. The key is copied.
/// Writes: the handle to `watch`, null on failure.
/// Threads: any; does not wait for the disk.
/// Status: OK; INVALID_ARGUMENT, also for a `from` that is no commit yet; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE;
///   TOO_MANY_HANDLES; POISONED.
/// Safety: `options` is null or begins with its size, and its `key` has `key_len` bytes; `watch` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_watch_new(
    db: *mut corering_db,
    options: *const corering_watch_options,
    watch: *mut *mut corering_watch,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(watch).required("watch")?;
        let db = using::<Arc<Db>, _>(db)?;
        let begun = c.options(options, corering_watch_options::NEW)?.open(c, &db)?;
        out.set(object::publish(Object::Watch(Box::new(Watcher::new(&db, begun))))?);
        Ok(CORERING_OK)
    })
}

/// The next change, waited for up to `wait_ms`; 0 only looks, CORERING_WAIT_FOREVER has no end.
///
/// Owns: the watch owns the bytes; they are valid until the next call of this function with this watch, or its end.
/// Writes: `change`, zeroes if there is none.
/// Threads: one at a time for a watch.
/// Status: OK; END if none came in time; LAGGED if the watch was cut off because it was not taken from, COMPACTED if changes
///   so far back are not kept: `corering_watch_progress` tells from where to watch again; CLOSED, also if the database was
///   closed, or the watch freed meanwhile, behind what waits; INVALID_ARGUMENT; INVALID_HANDLE; FORKED; POISONED; CORRUPT; IO.
/// Safety: `change` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_watch_next(
    watch: *mut corering_watch,
    wait_ms: u64,
    change: *mut corering_change,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(change).required("change")?;
        let watcher = using::<Watcher, _>(watch)?;
        let wait = (wait_ms != u64::MAX).then_some(Duration::from_millis(wait_ms));
        let next = watcher.next(&mut *lock(&watcher.taken)?, wait)?;
        let Some(next) = next else { return Ok(CORERING_END) };
        out.set(next);
        Ok(CORERING_OK)
    })
}

/// The version up to which everything was taken, also when nothing has changed for long: a watch from there loses nothing. After
/// COMPACTED: the earliest version from which there can be one.
///
/// Owns: nothing.
/// Writes: `version`, 0 on failure.
/// Threads: the one that takes.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED if the watch was freed; FORKED.
/// Safety: `version` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_watch_progress(watch: *mut corering_watch, version: *mut u64) -> corering_status {
    guarded!(|c| {
        let out = c.out(version).required("version")?;
        out.set(using::<Watcher, _>(watch)?.progress());
        Ok(CORERING_OK)
    })
}

/// Has a completion of the kind CORERING_OP_WATCH arrive in the queue, once, when something can be taken from the watch or it has
/// ended. Take with a `wait_ms` of 0 until END, then ask again. Asking again before, or freeing the watch, completes what
/// was asked first as CLOSED.
///
/// Owns: the caller keeps queue and watch.
/// Writes: nothing.
/// Threads: any; does not wait.
/// Status: OK; BUSY if the queue is full; INVALID_ARGUMENT for a watch of another database; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: no pointers but the handles.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_watch(
    queue: *mut corering_queue,
    watch: *mut corering_watch,
    user_data: u64,
) -> corering_status {
    guarded!(|_c| {
        let queue = using::<Queue, _>(queue)?;
        let watcher = using::<Watcher, _>(watch)?;
        if !watcher.db.is(queue.db()) {
            return Err(Failure::argument("the watch is one of another database"));
        }
        let slot = queue.slot(user_data, corering_op_kind::CORERING_OP_WATCH as u32)?;
        watcher.watch.on_ready(notify_once(slot));
        Ok(CORERING_OK)
    })
}

fn notify_once(slot: Slot) -> impl Fn() + Send + Sync + 'static {
    let slot = Mutex::new(Some(slot));
    move || {
        let slot = slot.lock().ok().and_then(|mut slot| slot.take());
        if let Some(slot) = slot {
            slot.complete(Answer::Done);
        }
    }
}

/// Ends a watch. Who waits in `corering_watch_next` is told CLOSED.
///
/// Owns: the handle and the bytes of its last change end here.
/// Writes: nothing.
/// Threads: any.
/// Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
/// Safety: any pointer will do; it is not dereferenced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_watch_free(watch: *mut corering_watch) -> corering_status {
    guarded!(|_c| {
        if let Ok(watcher) = using::<Watcher, _>(watch) {
            watcher.watch.stop();
        }
        if let Some(retired) = object::retire(watch, HandleKind::Watch)? {
            drop(retired.finish());
        }
        Ok(CORERING_OK)
    })
}

/// Stores a value under a new key: `prefix` and 20 decimal digits, a number larger than that of any key made so before. No
/// number comes twice, also after deletes and restarts. `options` may be null; with a session, the key is ephemeral. Guards
/// are refused.
///
/// Owns: the caller keeps prefix and value.
/// Writes: the key to `key`; its length to `key_len`, also if the buffer is too small; the commit to `version`, if given.
/// Threads: any; blocks until the write is as durable as asked for.
/// Status: OK; BUFFER_TOO_SMALL if `capacity` is less than `prefix_len` + 20: nothing was written; NO_SESSION; WRONG_SECRET;
///   INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; BUSY; NO_SPACE; POISONED.
/// Safety: `prefix` has `prefix_len` bytes, `value` has `value_len`; `options` is null or begins with its size; `key` has room
///   for `capacity` bytes; `key_len` is writable; `version` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_put_sequential(
    db: *mut corering_db,
    prefix: *const c_void,
    prefix_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const corering_write_options,
    key: *mut c_void,
    capacity: usize,
    key_len: *mut usize,
    version: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let (len_out, version_out) = (c.out(key_len), c.out(version));
        let len_out = len_out.required("key_len")?;
        let db = using::<Arc<Db>, _>(db)?;
        let (prefix, value) = (c.key(prefix, prefix_len)?, c.value(value, value_len)?);
        let room = c.buffer(key, capacity)?;
        let write = options::write(c, options, &db)?;
        if write.is_guarded() {
            return Err(Failure::argument("a sequential key cannot be guarded"));
        }
        db.check_open()?;
        let needed = prefix.len() + SEQUENCE_DIGITS;
        if capacity < needed {
            len_out.set(needed);
            return Ok(CORERING_BUFFER_TOO_SMALL);
        }
        let made = db.client.put_sequential(write.keyspace, prefix, value, write.options).wait()?;
        room.put(&made.key);
        len_out.set(made.key.len());
        version_out.set(made.version.0);
        Ok(CORERING_OK)
    })
}

const SEQUENCE_DIGITS: usize = 20;

/// The session that an ephemeral key is of: `id`, without its secret. Of `options`, which may be null, it heeds the keyspace.
///
/// Owns: the caller keeps the key.
/// Writes: `session_id`, 0 if the key is none's.
/// Threads: any; asks the key's shard.
/// Status: OK; NOT_FOUND if the key is not there or not ephemeral; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED;
///   KEY_TOO_LARGE; BUSY; POISONED.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `session_id` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_key_session(
    db: *mut corering_db,
    key: *const c_void,
    key_len: usize,
    options: *const corering_read_options,
    session_id: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(session_id).required("session_id")?;
        let db = using::<Arc<Db>, _>(db)?;
        let key = c.key(key, key_len)?;
        let read = options::read(c, options, &db)?;
        if read.snapshot.is_some() {
            return Err(Failure::argument("whose a key is can be asked of the latest state only"));
        }
        let Some(id) = db.client.ephemeral_owner(read.keyspace, key).wait()? else { return Ok(CORERING_NOT_FOUND) };
        out.set(id.0);
        Ok(CORERING_OK)
    })
}
