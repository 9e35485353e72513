//! Sessions: who holds locks. A plain struct that a program can keep, so that it can go on with its session after a restart.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use crate::db::{Db, corering_db};
use crate::engine::{NewSession, SessionId, SessionKey};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::lock::CORERING_LOCK_NAME_MAX;
use crate::object::using;
use crate::op::{Answer, corering_op_kind};
use crate::queue::{Queue, corering_queue};
use crate::raw::{Caller, c_struct};
use crate::status::corering_status::{self, *};

/// Bytes of the longest label of a session.
pub const CORERING_SESSION_LABEL_MAX: usize = 256;

/// What a session lives without being kept alive, if nothing else is said.
const TTL_MS_DEFAULT: u64 = 10_000;

/// A session: whoever has this may act for it, in this process or, after the database was opened again, in another. Keep the
/// secret as one.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_session {
    pub id: u64,
    pub secret: [u64; 2],
}

/// How a session is made.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_session_options {
    /// The bytes of this struct that the program knows: sizeof(corering_session_options).
    pub struct_size: usize,
    /// It ends when it was not kept alive for so long; 0: 10000.
    pub ttl_ms: u64,
    /// For people who look at locks: at most CORERING_SESSION_LABEL_MAX bytes.
    pub label: *const c_void,
    pub label_len: usize,
}

/// A session, to look at.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_session_info {
    pub id: u64,
    pub ttl_ms: u64,
    /// Until it runs out, if it is not kept alive.
    pub left_ms: u64,
    pub label_len: u32,
    /// Zero.
    pub reserved: u32,
    /// The label's bytes, then zeroes.
    pub label: [u8; 256],
}

/// A hold that ended without being released: its lease ran out, or its session ended.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_loss {
    /// The hold's fencing token, with which nothing can be written any more.
    pub token: u64,
    pub name_len: u32,
    /// Zero.
    pub reserved: u32,
    /// The lock's name, then zeroes.
    pub name: [u8; 1024],
}

c_struct!(plain corering_session);
c_struct!(zeroable corering_session_info, corering_loss);
c_struct!(growing corering_session_options, first_len 32);

impl corering_session {
    fn of(key: SessionKey) -> corering_session {
        corering_session { id: key.id.0, secret: [(key.secret >> 64) as u64, key.secret as u64] }
    }

    pub(crate) fn key(self) -> SessionKey {
        let [high, low] = self.secret;
        SessionKey { id: SessionId(self.id), secret: u128::from(high) << 64 | u128::from(low) }
    }
}

impl corering_session_options {
    const NEW: corering_session_options = corering_session_options {
        struct_size: size_of::<corering_session_options>(),
        ttl_ms: 0,
        label: std::ptr::null(),
        label_len: 0,
    };
}

pub(crate) fn given(caller: &Caller, session: *const corering_session) -> Result<SessionKey, Failure> {
    Ok(caller.one("the session", session)?.key())
}

/// Fills `options` with the defaults: ten seconds to live, no label.
///
/// Owns: the caller keeps the struct.
/// Writes: `struct_size` bytes at `options`.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
/// Safety: `options` has room for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_session_options_init(
    options: *mut corering_session_options,
    struct_size: usize,
) -> corering_status {
    guarded!(|c| {
        c.init_options(options, struct_size, &corering_session_options::NEW)?;
        Ok(CORERING_OK)
    })
}

/// Makes a session, durably. It lives until `corering_session_end` or `corering_session_kill`, or until it was not kept
/// alive for its time to live; not only as long as this process. `options` may be null.
///
/// Owns: the caller keeps the session, which needs no freeing.
/// Writes: `session`.
/// Threads: any; blocks until the session is durable.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
/// Safety: `options` is null or begins with its size, and its `label` has `label_len` bytes; `session` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_session_open(
    db: *mut corering_db,
    options: *const corering_session_options,
    session: *mut corering_session,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(session).required("session")?;
        let db = using::<Arc<Db>, _>(db)?;
        let options = c.options(options, corering_session_options::NEW)?;
        if options.label_len > CORERING_SESSION_LABEL_MAX {
            return Err(Failure::argument(format!("a label has at most {CORERING_SESSION_LABEL_MAX} bytes")));
        }
        let label = c.bytes("the label", options.label, options.label_len)?.to_vec();
        let ttl_ms = if options.ttl_ms == 0 { TTL_MS_DEFAULT } else { options.ttl_ms };
        let new = NewSession { ttl: Duration::from_millis(ttl_ms), label };
        out.set(corering_session::of(db.client.create_session(new).wait()?));
        Ok(CORERING_OK)
    })
}

/// Begins a session's time to live anew. Every third of it is often enough.
///
/// Owns: the caller keeps the session.
/// Writes: nothing.
/// Threads: any; does not wait.
/// Status: OK; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_session_keep_alive(
    db: *mut corering_db,
    session: *const corering_session,
) -> corering_status {
    guarded!(|c| {
        let db = using::<Arc<Db>, _>(db)?;
        db.client.keep_alive(given(c, session)?)?;
        Ok(CORERING_OK)
    })
}

/// Ends a session with all its holds and waits; what waits for a grant answers NO_SESSION.
///
/// Owns: the caller keeps the struct, which names nothing any more.
/// Writes: nothing.
/// Threads: any; blocks until the end is durable.
/// Status: OK; NO_SESSION; WRONG_SECRET; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
/// Safety: `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_session_end(
    db: *mut corering_db,
    session: *const corering_session,
) -> corering_status {
    guarded!(|c| {
        let db = using::<Arc<Db>, _>(db)?;
        db.client.end_session(given(c, session)?).wait()?;
        Ok(CORERING_OK)
    })
}

/// As `corering_session_end`, by whoever knows no more than the session's number: for administrators.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: any; blocks until the end is durable.
/// Status: OK; NO_SESSION; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
/// Safety: no pointers but the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_session_kill(db: *mut corering_db, id: u64) -> corering_status {
    guarded!(|_c| {
        let db = using::<Arc<Db>, _>(db)?;
        db.client.kill_session(SessionId(id)).wait()?;
        Ok(CORERING_OK)
    })
}

/// The sessions that live, without their secrets. A `capacity` of 0 asks for their number alone.
///
/// Owns: the caller keeps the array.
/// Writes: at most `capacity` sessions, zeroes behind the last; how many live to `count`, also if there are more.
/// Threads: any.
/// Status: OK; BUFFER_TOO_SMALL if there are more; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `sessions` has room for `capacity`; `count` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_session_list(
    db: *mut corering_db,
    sessions: *mut corering_session_info,
    capacity: usize,
    count: *mut usize,
) -> corering_status {
    guarded!(|c| {
        let count = c.out(count);
        let outs = c.outs("sessions", sessions, capacity)?;
        let count = count.required("count")?;
        let db = using::<Arc<Db>, _>(db)?;
        db.check_open()?;
        let all = db.client.sessions();
        for (place, session) in all.iter().take(capacity).enumerate() {
            let mut label = [0; CORERING_SESSION_LABEL_MAX];
            let len = session.label.len().min(label.len());
            label[..len].copy_from_slice(&session.label[..len]);
            let (id, ttl_ms, left_ms) = (session.id.0, session.ttl_ms, session.left_ms);
            outs.set(place, corering_session_info { id, ttl_ms, left_ms, label_len: len as u32, reserved: 0, label });
        }
        count.set(all.len());
        Ok(if all.len() <= capacity { CORERING_OK } else { CORERING_BUFFER_TOO_SMALL })
    })
}

/// The next hold that the session lost, waited for up to `wait_ms`; 0 only looks, CORERING_WAIT_FOREVER has no end. Losses are
/// kept for the session from the first call of this, or of `corering_queue_lost`, on.
///
/// Owns: the caller keeps the session.
/// Writes: `loss`, zeroes if there is none.
/// Threads: any; each loss is told once, to one of those who ask.
/// Status: OK; END if there was none in time; NO_SESSION if the session has ended, and with it all its holds, also those that were
///   not told one by one; BUSY if more than 65536 waited to be taken: the oldest are gone, ask again for the others; WRONG_SECRET;
///   INVALID_ARGUMENT; INVALID_HANDLE; CLOSED, also if the database is closed meanwhile; FORKED.
/// Safety: `session` is null or a session; `loss` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_session_lost(
    db: *mut corering_db,
    session: *const corering_session,
    wait_ms: u64,
    loss: *mut corering_loss,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(loss).required("loss")?;
        let db = using::<Arc<Db>, _>(db)?;
        let session = given(c, session)?;
        let at_most = (wait_ms != u64::MAX).then_some(Duration::from_millis(wait_ms));
        let Some(lost) = db.client.take_loss(session, at_most)? else { return Ok(CORERING_END) };
        let mut name = [0; CORERING_LOCK_NAME_MAX];
        let len = lost.name.len().min(name.len());
        name[..len].copy_from_slice(&lost.name[..len]);
        out.set(corering_loss { token: lost.token.0, name_len: len as u32, reserved: 0, name });
        Ok(CORERING_OK)
    })
}

/// Has a completion of the kind CORERING_OP_LOST arrive in the queue, once, when the session has lost a hold or has ended. Take with
/// `corering_session_lost` and a `wait_ms` of 0 until END, then ask again. Asking again before completes what was asked first as
/// CLOSED.
///
/// Owns: the caller keeps queue and session.
/// Writes: nothing.
/// Threads: any; does not wait.
/// Status: OK; BUSY if the queue is full; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED. NO_SESSION and WRONG_SECRET are in the
///   completion.
/// Safety: `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_lost(
    queue: *mut corering_queue,
    session: *const corering_session,
    user_data: u64,
) -> corering_status {
    guarded!(|c| {
        let queue = using::<Queue, _>(queue)?;
        let session = given(c, session)?;
        let kind = corering_op_kind::CORERING_OP_LOST as u32;
        queue.submit(user_data, kind, |()| Answer::Done, |db| db.client.loss_ready(session))?;
        Ok(CORERING_OK)
    })
}
