//! Locks: taken, waited for, given back, looked at; and the guards that a write may carry.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use crate::db::{Db, corering_db};
use crate::engine::{Acquire, FencingToken, Grant, Guard, LockCursor, LockFilter, LockHandle, Mode, SessionKey, Wait};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::object::using;
use crate::options;
use crate::queue::{Queue, corering_queue};
use crate::raw::{Caller, c_struct};
use crate::session::{self, corering_session};
use crate::status::corering_status::{self, *};

/// Bytes of the longest name of a lock.
pub const CORERING_LOCK_NAME_MAX: usize = 1024;

/// For `wait_ms`: as long as the session lives.
pub const CORERING_WAIT_FOREVER: u64 = u64::MAX;

/// Guards of one write.
const GUARDS_MAX: usize = 256;

/// How a lock is taken.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_lock_mode {
    /// Alone.
    CORERING_LOCK_EXCLUSIVE = 0,
    /// Together with others that share it. Whoever holds it so and takes it exclusively upgrades it.
    CORERING_LOCK_SHARED = 1,
    /// `units` of `permits`.
    CORERING_LOCK_SEMAPHORE = 2,
}
use corering_lock_mode::*;

/// How a lock is taken. The functions that end or change a hold heed the durability alone.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_lock_options {
    /// The bytes of this struct that the program knows: sizeof(corering_lock_options).
    pub struct_size: usize,
    /// A `corering_lock_mode`.
    pub mode: u32,
    /// For CORERING_LOCK_SEMAPHORE: how many there are in all; everybody who uses the name says the same number.
    pub permits: u32,
    /// For CORERING_LOCK_SEMAPHORE: how many to take; 0: one.
    pub units: u32,
    /// A `corering_durability`. To acquire, CORERING_DURABILITY_DEFAULT is sync, whatever the database's level: below that, a
    /// crash of the machine may lose the grant, and the next opening waits for as long as it could still run.
    pub durability: u32,
    /// For CORERING_DURABILITY_INTERVAL: 1 to 3600000.
    pub interval_ms: u32,
    /// Zero.
    pub reserved: u32,
    /// How long to wait for the grant; 0: not at all; CORERING_WAIT_FOREVER: as long as the session lives.
    pub wait_ms: u64,
    /// How long the hold lasts if it is not renewed; 0: as long as the session lives.
    pub lease_ms: u64,
}

/// What the holder of a lock is told.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_grant {
    /// The fencing token: larger than those of all grants before it.
    pub token: u64,
    /// How often the session holds the lock now; it is to be released as often.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
}

/// A condition of a write: the token is the one of a present holder of the lock, whose lease is running.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_guard {
    /// The lock's name.
    pub name: *const c_void,
    pub name_len: usize,
    pub token: u64,
}

/// A session that holds a lock, or waits for it.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_lock_part {
    /// The session's number.
    pub session: u64,
    /// Of a hold: its fencing token. 0: the session waits.
    pub token: u64,
    /// A `corering_lock_mode`.
    pub mode: u32,
    /// Of a semaphore: the permits in all, and those held or asked for.
    pub permits: u32,
    pub units: u32,
    /// Of a hold: how often the session has taken it.
    pub count: u32,
    /// Of a hold: milliseconds since 1970 at which it was granted.
    pub since_ms: u64,
    /// Of a hold: the milliseconds that its lease runs on; CORERING_WAIT_FOREVER if it ends with the session only.
    pub left_ms: u64,
    /// Of a wait: how long it has lasted.
    pub waited_ms: u64,
    /// Zero.
    pub reserved: u64,
}

/// A lock that is held or waited for.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_lock_entry {
    /// How many hold it, and how many wait for it.
    pub holders: u64,
    pub waiters: u64,
    pub name_len: u32,
    /// Zero.
    pub reserved: u32,
    /// The name, then zeroes.
    pub name: [u8; 1024],
}

c_struct!(plain corering_guard);
c_struct!(zeroable corering_grant, corering_lock_part, corering_lock_entry);
c_struct!(growing corering_lock_options, first_len 48);

impl corering_lock_options {
    const NEW: corering_lock_options = corering_lock_options {
        struct_size: size_of::<corering_lock_options>(),
        mode: CORERING_LOCK_EXCLUSIVE as u32,
        permits: 0,
        units: 0,
        durability: options::corering_durability::CORERING_DURABILITY_DEFAULT as u32,
        interval_ms: 0,
        reserved: 0,
        wait_ms: 0,
        lease_ms: 0,
    };

    fn read(caller: &Caller, given: *const corering_lock_options) -> Result<corering_lock_options, Failure> {
        let options = caller.options(given, corering_lock_options::NEW)?;
        options::zero("reserved", options.reserved)?;
        Ok(options)
    }

    fn mode(&self) -> Result<Mode, Failure> {
        const EXCLUSIVE: u32 = CORERING_LOCK_EXCLUSIVE as u32;
        const SHARED: u32 = CORERING_LOCK_SHARED as u32;
        const SEMAPHORE: u32 = CORERING_LOCK_SEMAPHORE as u32;
        match (self.mode, self.permits, self.units) {
            (EXCLUSIVE, 0, 0) => Ok(Mode::Exclusive),
            (SHARED, 0, 0) => Ok(Mode::Shared),
            (EXCLUSIVE | SHARED, ..) => {
                Err(Failure::argument("permits and units belong to CORERING_LOCK_SEMAPHORE only"))
            }
            (SEMAPHORE, permits, units) => Ok(Mode::Semaphore { permits, units: units.max(1) }),
            (mode, ..) => Err(Failure::argument(format!("mode is {mode}, which is no corering_lock_mode"))),
        }
    }

    fn acquire(&self, session: SessionKey) -> Result<Acquire, Failure> {
        let wait = match self.wait_ms {
            0 => Wait::No,
            CORERING_WAIT_FOREVER => Wait::AsLongAsTheSession,
            ms => Wait::Ms(ms),
        };
        let lease = (self.lease_ms != 0).then(|| Duration::from_millis(self.lease_ms));
        let durability = options::durability(self.durability, self.interval_ms)?;
        Ok(Acquire { session, mode: self.mode()?, wait, lease, durability })
    }
}

impl corering_grant {
    fn of(grant: Grant) -> corering_grant {
        corering_grant { token: grant.token.0, count: grant.count, reserved: 0 }
    }
}

fn name_of(caller: &Caller, name: *const c_void, len: usize) -> Result<&[u8], Failure> {
    if (1..=CORERING_LOCK_NAME_MAX).contains(&len) {
        return caller.bytes("the lock's name", name, len);
    }
    Err(Failure::argument(format!("the lock's name has {len} bytes; give 1 to {CORERING_LOCK_NAME_MAX}")))
}

/// Zero stands for whatever the session holds.
fn token_of(token: u64) -> Option<FencingToken> {
    (token != 0).then_some(FencingToken(token))
}

/// The guards of a write.
pub(crate) fn guards(caller: &Caller, given: *const corering_guard, count: usize) -> Result<Vec<Guard>, Failure> {
    if count > GUARDS_MAX {
        return Err(Failure::argument(format!("guards_len is {count}; at most {GUARDS_MAX} are checked in one step")));
    }
    let owned = |guard: &corering_guard| {
        let name = name_of(caller, guard.name, guard.name_len)?.to_vec();
        Ok(Guard { name, token: FencingToken(guard.token) })
    };
    caller.array("guards", given, count)?.iter().map(owned).collect()
}

/// Fills `options` with the defaults: exclusive, no wait, for as long as the session lives, durable before it is answered.
///
/// Owns: the caller keeps the struct.
/// Writes: `struct_size` bytes at `options`.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
/// Safety: `options` has room for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_lock_options_init(
    options: *mut corering_lock_options,
    struct_size: usize,
) -> corering_status {
    guarded!(|c| {
        c.init_options(options, struct_size, &corering_lock_options::NEW)?;
        Ok(CORERING_OK)
    })
}

/// Takes a lock for a session, or takes it once more. Who waits is served strictly in order. `options` may be null.
///
/// Owns: the caller keeps session and name. The session holds the lock until `corering_lock_release`, or the end of the lease or
///   of the session.
/// Writes: `grant`, if given.
/// Threads: any; blocks until the lock is granted and that is as durable as asked for, or `wait_ms` have passed.
/// Status: OK; LOCK_HELD; LOCK_NOT_YET; LOCK_TIMEOUT; LEASE_EXPIRED if the session's own earlier hold has just run out; DEADLOCK;
///   OTHER_PERMITS; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
/// Safety: `session` is null or a session; `name` has `name_len` bytes; `options` is null or begins with its size; `grant`
///   is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_lock_acquire(
    db: *mut corering_db,
    session: *const corering_session,
    name: *const c_void,
    name_len: usize,
    options: *const corering_lock_options,
    grant: *mut corering_grant,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(grant);
        let db = using::<Arc<Db>, _>(db)?;
        let (session, name) = (session::given(c, session)?, name_of(c, name, name_len)?);
        let acquire = corering_lock_options::read(c, options)?.acquire(session)?;
        out.set(corering_grant::of(db.client.acquire(name, acquire).wait()?));
        Ok(CORERING_OK)
    })
}

/// Gives a lock back, or one of the times that the session has taken it. `token` is the hold's, or 0 for whatever the session
/// holds by this name. Of `options`, which may be null, it heeds the durability.
///
/// Owns: the caller keeps session and name.
/// Writes: how often the session still holds it to `count`, and to `expired` whether the lease had run out before, so that
///   others may have held the lock already; both if given.
/// Threads: any; blocks until the release is as durable as asked for.
/// Status: OK; NOT_HELD; WRONG_TOKEN; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY;
///   NO_SPACE; POISONED.
/// Safety: `session` is null or a session; `name` has `name_len` bytes; `options` is null or begins with its size; `count`
///   and `expired` are null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_lock_release(
    db: *mut corering_db,
    session: *const corering_session,
    name: *const c_void,
    name_len: usize,
    token: u64,
    options: *const corering_lock_options,
    count: *mut u32,
    expired: *mut bool,
) -> corering_status {
    guarded!(|c| {
        let (count, expired) = (c.out(count), c.out(expired));
        let db = using::<Arc<Db>, _>(db)?;
        let (session, name) = (session::given(c, session)?, name_of(c, name, name_len)?);
        let options = corering_lock_options::read(c, options)?;
        let level = options::durability(options.durability, options.interval_ms)?;
        let lock = LockHandle { name, session, token: token_of(token) };
        let released = db.client.release(lock, level).wait()?;
        count.set(released.count);
        expired.set(released.expired);
        Ok(CORERING_OK)
    })
}

/// Begins the lease of a hold anew, with its whole length. `token` is the hold's, or 0 for whatever the session holds.
///
/// Owns: the caller keeps session and name.
/// Writes: the hold's token to `current`, if given.
/// Threads: any; does not wait for the disk.
/// Status: OK; NOT_HELD; WRONG_TOKEN; LEASE_EXPIRED; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED;
///   FORKED; BUSY; POISONED.
/// Safety: `session` is null or a session; `name` has `name_len` bytes; `current` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_lock_renew(
    db: *mut corering_db,
    session: *const corering_session,
    name: *const c_void,
    name_len: usize,
    token: u64,
    current: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(current);
        let db = using::<Arc<Db>, _>(db)?;
        let (session, name) = (session::given(c, session)?, name_of(c, name, name_len)?);
        let lock = LockHandle { name, session, token: token_of(token) };
        out.set(db.client.renew(lock).wait()?.0);
        Ok(CORERING_OK)
    })
}

/// Shares a lock that the session holds exclusively, without letting go; the token stays. `token` is the hold's, or 0. Of
/// `options`, which may be null, it heeds the durability.
///
/// Owns: the caller keeps session and name.
/// Writes: `grant`, if given.
/// Threads: any; blocks until the change is as durable as asked for.
/// Status: OK; NOT_HELD; WRONG_TOKEN; LEASE_EXPIRED; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED;
///   FORKED; BUSY; NO_SPACE; POISONED.
/// Safety: `session` is null or a session; `name` has `name_len` bytes; `options` is null or begins with its size; `grant`
///   is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_lock_downgrade(
    db: *mut corering_db,
    session: *const corering_session,
    name: *const c_void,
    name_len: usize,
    token: u64,
    options: *const corering_lock_options,
    grant: *mut corering_grant,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(grant);
        let db = using::<Arc<Db>, _>(db)?;
        let (session, name) = (session::given(c, session)?, name_of(c, name, name_len)?);
        let options = corering_lock_options::read(c, options)?;
        let level = options::durability(options.durability, options.interval_ms)?;
        let lock = LockHandle { name, session, token: token_of(token) };
        out.set(corering_grant::of(db.client.downgrade(lock, level).wait()?));
        Ok(CORERING_OK)
    })
}

/// Who holds a lock, then who waits for it, in the order in which they will be served.
///
/// Owns: the caller keeps the array.
/// Writes: at most `capacity` parts, zeroes behind the last; how many there are to `count`, also if there are more.
/// Threads: any.
/// Status: OK; NOT_FOUND if nobody holds it or waits; BUFFER_TOO_SMALL if there are more; INVALID_ARGUMENT; INVALID_HANDLE;
///   CLOSED; FORKED; BUSY; POISONED.
/// Safety: `name` has `name_len` bytes; `parts` has room for `capacity`; `count` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_lock_info(
    db: *mut corering_db,
    name: *const c_void,
    name_len: usize,
    parts: *mut corering_lock_part,
    capacity: usize,
    count: *mut usize,
) -> corering_status {
    guarded!(|c| {
        let count = c.out(count);
        let outs = c.outs("parts", parts, capacity)?;
        let count = count.required("count")?;
        let db = using::<Arc<Db>, _>(db)?;
        let name = name_of(c, name, name_len)?;
        let Some(info) = db.client.lock_info_of(name, capacity).wait()? else { return Ok(CORERING_NOT_FOUND) };
        let now_ms = db.client.clock().monotonic_ns() / 1_000_000;
        let holds = info.holds.iter().map(|hold| {
            let left_ms = if hold.until_ms == u64::MAX { u64::MAX } else { hold.until_ms.saturating_sub(now_ms) };
            let (token, count, since_ms) = (hold.token.0, hold.count, hold.since_unix_ms);
            corering_lock_part { token, count, since_ms, left_ms, ..part(hold.session.0, hold.mode) }
        });
        let waits = info
            .waiting
            .iter()
            .map(|wait| corering_lock_part { waited_ms: wait.waited_ms, ..part(wait.session.0, wait.mode) });
        holds.chain(waits).take(capacity).enumerate().for_each(|(place, part)| outs.set(place, part));
        let all = info.holders + info.waiters;
        count.set(all);
        Ok(if all <= capacity { CORERING_OK } else { CORERING_BUFFER_TOO_SMALL })
    })
}

/// Some of the locks that are held or waited for, in no order. A lock that is there from the first call to the last is in exactly one
/// answer. An answer may be empty and not the last: `next` tells.
///
/// Owns: the caller keeps the array.
/// Writes: at most `capacity` locks, zeroes behind the last; how many to `count`; to `next` the `cursor` of the next call, 0 if there are
///   no more.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT, also for a capacity of 0; INVALID_HANDLE; CLOSED; FORKED; BUSY; POISONED.
/// Safety: `locks` has room for `capacity`; `count` and `next` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_lock_scan(
    db: *mut corering_db,
    cursor: u64,
    locks: *mut corering_lock_entry,
    capacity: usize,
    count: *mut usize,
    next: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let (count, next) = (c.out(count), c.out(next));
        let outs = c.outs("locks", locks, capacity)?;
        let (count, next) = (count.required("count")?, next.required("next")?);
        let db = using::<Arc<Db>, _>(db)?;
        if capacity == 0 {
            return Err(Failure::argument("the capacity is 0: there is room for no lock"));
        }
        let filter = LockFilter { matches: Arc::new(|_| true), at_most: capacity, shown_max: 0 };
        let (found, after) = db.client.locks(LockCursor(cursor), filter).wait()?;
        for (place, info) in found.iter().take(capacity).enumerate() {
            let mut name = [0; CORERING_LOCK_NAME_MAX];
            let len = info.name.len().min(name.len());
            name[..len].copy_from_slice(&info.name[..len]);
            let (holders, waiters) = (info.holders as u64, info.waiters as u64);
            outs.set(place, corering_lock_entry { holders, waiters, name_len: len as u32, reserved: 0, name });
        }
        count.set(found.len());
        next.set(after.map_or(0, |after| after.0));
        Ok(CORERING_OK)
    })
}

fn part(session: u64, mode: Mode) -> corering_lock_part {
    let (mode, permits, units) = match mode {
        Mode::Exclusive => (CORERING_LOCK_EXCLUSIVE, 0, 0),
        Mode::Shared => (CORERING_LOCK_SHARED, 0, 0),
        Mode::Semaphore { permits, units } => (CORERING_LOCK_SEMAPHORE, permits, units),
    };
    let mode = mode as u32;
    corering_lock_part {
        session,
        token: 0,
        mode,
        permits,
        units,
        count: 0,
        since_ms: 0,
        left_ms: 0,
        waited_ms: 0,
        reserved: 0,
    }
}

/// As `corering_lock_acquire`, without waiting: the grant is a completion of kind CORERING_OP_ACQUIRE, with the token in
/// `version` and the count in `integer`. A wait ends with its `wait_ms`, by `corering_queue_cancel` (both LOCK_TIMEOUT) or with its
/// session (NO_SESSION); it takes one of the queue's places until then. `options` may be null.
///
/// Owns: the caller keeps session and name; they are copied.
/// Writes: nothing.
/// Threads: any; does not wait.
/// Status: OK; BUSY if the queue is full; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED. The others of
///   `corering_lock_acquire` are in the completion.
/// Safety: `session` is null or a session; `name` has `name_len` bytes; `options` is null or begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_acquire(
    queue: *mut corering_queue,
    session: *const corering_session,
    name: *const c_void,
    name_len: usize,
    options: *const corering_lock_options,
    user_data: u64,
) -> corering_status {
    guarded!(|c| {
        let queue = using::<Queue, _>(queue)?;
        let (session, name) = (session::given(c, session)?, name_of(c, name, name_len)?);
        let acquire = corering_lock_options::read(c, options)?.acquire(session)?;
        queue.acquire(user_data, name, acquire)?;
        Ok(CORERING_OK)
    })
}

/// Ends the wait of a `corering_queue_acquire` of this queue: it leaves the line, and the others move up. Its completion comes all the
/// same, and once: LOCK_TIMEOUT, or the grant if that was first; then the session holds the lock, which is to be released. Of
/// several waits with this `user_data`, all are ended.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: any; does not wait.
/// Status: OK; NOT_FOUND if the queue has no such wait: it was never asked for, or its completion is there already; BUSY: ask again;
///   INVALID_HANDLE; CLOSED; FORKED; POISONED.
/// Safety: any pointer will do; it is not dereferenced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_cancel(queue: *mut corering_queue, user_data: u64) -> corering_status {
    guarded!(|_c| {
        let queue = using::<Queue, _>(queue)?;
        Ok(if queue.cancel(user_data)? { CORERING_OK } else { CORERING_NOT_FOUND })
    })
}
