//! Opening and closing a database, and what concerns all of it.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::{OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::engine::{AskId, Client, Engine, Error};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::object::{self, HandleKind, Object};
use crate::options::corering_options;
use crate::process;
use crate::status::corering_status::{self, *};
use crate::version;

/// An open database. Any number of threads may use it at the same time.
#[allow(non_camel_case_types)]
pub struct corering_db(());

/// What the handle of a database stands for; batches, snapshots, iterators and queues keep it.
pub(crate) struct Db {
    pub engine: Engine,
    pub client: Client,
    closed: AtomicBool,
    /// Waits for locks that were asked for by queues.
    asked: AtomicU64,
}

impl Db {
    fn open(path: &Path, options: &corering_options) -> Result<Db, Failure> {
        let options = options.to_engine()?;
        let engine = process::without_signals(|| Engine::open(path, options))?;
        Ok(Db { client: engine.client(), engine, closed: AtomicBool::new(false), asked: AtomicU64::new(0) })
    }

    fn close(&self) -> Result<(), Failure> {
        self.closed.store(true, Ordering::Release);
        Ok(self.engine.close()?)
    }

    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed.into()) } else { Ok(()) }
    }

    /// One that no other wait has.
    pub(crate) fn new_ask(&self) -> AskId {
        AskId(self.asked.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn is(&self, other: &Db) -> bool {
        std::ptr::eq(self, other)
    }
}

/// Opens the database in the directory `path`, and makes it if there is none (see CORERING_OPEN_MUST_EXIST). `options`
/// may be null for the defaults.
///
/// Owns: the caller owns the handle; `corering_close` ends it.
/// Writes: the handle to `db`, null on failure.
/// Threads: any. It starts a thread for each shard; blocks while the log is replayed.
/// Status: OK; ABI_MISMATCH; INVALID_ARGUMENT; LOCKED (the message names the holder); CORRUPT; INCOMPATIBLE;
///   UNSUPPORTED (io_uring or locked memory; the message says what to do); NO_SPACE; IO.
/// Safety: `path` ends with a zero byte; `options` is null or begins with its size; `db` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_open(
    abi_version: u32,
    path: *const c_char,
    options: *const corering_options,
    db: *mut *mut corering_db,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(db).required("db")?;
        if !version::accepts(abi_version) {
            return Err(Failure::Abi { asked: abi_version });
        }
        let path = Path::new(OsStr::from_bytes(c.text("the path", path)?.to_bytes()));
        if path.as_os_str().is_empty() {
            return Err(Failure::argument("the path is empty"));
        }
        let opened = Arc::new(Db::open(path, &c.options(options, corering_options::new())?)?);
        match object::publish(Object::Db(opened.clone())) {
            Ok(handle) => out.set(handle),
            Err(failure) => {
                opened.close()?;
                return Err(failure);
            }
        }
        Ok(CORERING_OK)
    })
}

/// Closes a database: everything answered becomes durable, its threads end. The handle ends here whatever the status.
/// Batches, snapshots, iterators and queues of the database answer CLOSED from here on, and are still to be freed.
/// Calls of other threads that are under way are answered first, with what they did or with CLOSED.
///
/// Owns: the handle ends here.
/// Writes: nothing.
/// Threads: any; blocks.
/// Status: OK, also for null; CLOSED if it was closed before; INVALID_HANDLE; FORKED; POISONED or IO if something
///   that was answered at a level below sync could not be made durable.
/// Safety: any pointer will do; it is not dereferenced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_close(db: *mut corering_db) -> corering_status {
    guarded!(|_c| {
        let Some(retired) = object::retire(db, HandleKind::Db)? else { return Ok(CORERING_OK) };
        let Object::Db(db) = retired.object() else { unreachable!("the kind was checked") };
        let closed = db.close();
        drop(retired.finish());
        closed?;
        Ok(CORERING_OK)
    })
}

/// Makes durable everything that was answered before, at whatever level.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: any; blocks.
/// Status: OK; INVALID_HANDLE; CLOSED; FORKED; POISONED; IO.
/// Safety: no pointers but the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_sync(db: *mut corering_db) -> corering_status {
    guarded!(|_c| {
        object::using::<Arc<Db>, _>(db)?.client.sync().wait()?;
        Ok(CORERING_OK)
    })
}

/// Writes what is in memory as sorted tables and trims the log, so that the next opening has nothing to replay.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: any; blocks, for seconds if there is much in memory.
/// Status: OK; INVALID_HANDLE; CLOSED; FORKED; POISONED; NO_SPACE; IO.
/// Safety: no pointers but the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_checkpoint(db: *mut corering_db) -> corering_status {
    guarded!(|_c| {
        object::using::<Arc<Db>, _>(db)?.engine.checkpoint()?;
        Ok(CORERING_OK)
    })
}

/// How many shards the database has.
///
/// Owns: nothing.
/// Writes: `count`, 0 on failure.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `count` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_shard_count(db: *mut corering_db, count: *mut u32) -> corering_status {
    guarded!(|c| {
        let out = c.out(count).required("count")?;
        out.set(object::using::<Arc<Db>, _>(db)?.engine.shard_count().into());
        Ok(CORERING_OK)
    })
}

/// What the opening found and did: what was replayed from each log, what was cut, which keys were moved. UTF-8, ended
/// by a zero byte, cut to fit.
///
/// Owns: the caller keeps the buffer.
/// Writes: `buffer`; the text's length without the zero byte to `len`, if given.
/// Threads: any.
/// Status: OK; BUFFER_TOO_SMALL if the text was cut; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `buffer` has room for `capacity` bytes; `len` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_open_report(
    db: *mut corering_db,
    buffer: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> corering_status {
    guarded!(|c| {
        let len = c.out(len);
        let buffer = c.buffer(buffer.cast::<c_void>(), capacity)?;
        let text = object::using::<Arc<Db>, _>(db)?.engine.report().to_string();
        len.set(text.len());
        buffer.put_text(&text);
        Ok(if text.len() < capacity { CORERING_OK } else { CORERING_BUFFER_TOO_SMALL })
    })
}
