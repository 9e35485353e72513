//! Writes collected to take effect together.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::db::{Db, corering_db};
use crate::engine::{BATCH_BYTES_MAX, CommitTs, Error, Kind, Pending, WriteBatch};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::object::{self, HandleKind, Object, using};
use crate::options::{self, corering_write_options};
use crate::status::corering_status::{self, *};
use crate::write::Write;

/// Writes that take effect together or not at all, whatever shards their keys belong to. For one thread at a time.
#[allow(non_camel_case_types)]
pub struct corering_batch(());

pub(crate) struct Batch {
    pub db: Arc<Db>,
    pub writes: WriteBatch,
    /// Bytes of keys and values in `writes`.
    bytes: usize,
}

impl Batch {
    /// Refuses at the door what the engine would refuse at the commit, so that a batch cannot grow without bound.
    fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        let bytes = self.bytes + bytes;
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::BatchTooLarge { bytes: bytes as u64, max: BATCH_BYTES_MAX as u64 }.into());
        }
        self.bytes = bytes;
        Ok(())
    }

    pub(crate) fn commit(&self, write: Write) -> Pending<CommitTs> {
        let (client, writes) = (&self.db.client, self.writes.clone());
        if write.is_guarded() {
            return client.write_batch_guarded(writes, write.guards, write.options);
        }
        client.write_batch(writes, write.options)
    }
}

/// A panic of an earlier call with the object left it in an unknown state.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, Failure> {
    mutex.lock().map_err(|_| Failure::Panic("an earlier call with this handle ended in a panic; free it".into()))
}

/// Makes an empty batch for a database.
///
/// Owns: the caller owns the batch; `corering_batch_free` ends it.
/// Writes: the handle to `batch`, null on failure.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; TOO_MANY_HANDLES.
/// Safety: `batch` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_batch_new(db: *mut corering_db, batch: *mut *mut corering_batch) -> corering_status {
    guarded!(|c| {
        let out = c.out(batch).required("batch")?;
        let db = Arc::clone(&*using::<Arc<Db>, _>(db)?);
        let new = Batch { db, writes: WriteBatch::new(), bytes: 0 };
        out.set(object::publish(Object::Batch(Box::new(Mutex::new(new))))?);
        Ok(CORERING_OK)
    })
}

/// Ends a batch; what was not committed is forgotten.
///
/// Owns: the handle ends here.
/// Writes: nothing.
/// Threads: any.
/// Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
/// Safety: any pointer will do; it is not dereferenced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_batch_free(batch: *mut corering_batch) -> corering_status {
    guarded!(|_c| {
        if let Some(retired) = object::retire(batch, HandleKind::Batch)? {
            drop(retired.finish());
        }
        Ok(CORERING_OK)
    })
}

/// Adds: store a value under a key. Of `options`, which may be null, it heeds the keyspace and the expiry; a `ttl_ms`
/// counts from here.
///
/// Owns: the caller keeps key and value; they are copied.
/// Writes: nothing.
/// Threads: one at a time for a batch.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; BATCH_TOO_LARGE.
/// Safety: `key` has `key_len` bytes, `value` has `value_len`; `options` is null or begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_batch_put(
    batch: *mut corering_batch,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const corering_write_options,
) -> corering_status {
    guarded!(|c| {
        let batch = using::<Mutex<Batch>, _>(batch)?;
        let mut batch = lock(&batch)?;
        let (key, value) = (c.key(key, key_len)?, c.value(value, value_len)?);
        let write = options::write(c, options, &batch.db)?.without_guards()?;
        batch.grow(key.len() + value.len())?;
        batch.writes.put_full(write.keyspace, key, value, Kind::BYTES, write.options.expiry);
        Ok(CORERING_OK)
    })
}

/// Adds: remove a key. Of `options`, which may be null, it heeds the keyspace.
///
/// Owns: the caller keeps the key; it is copied.
/// Writes: nothing.
/// Threads: one at a time for a batch.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; BATCH_TOO_LARGE.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_batch_delete(
    batch: *mut corering_batch,
    key: *const c_void,
    key_len: usize,
    options: *const corering_write_options,
) -> corering_status {
    guarded!(|c| {
        let batch = using::<Mutex<Batch>, _>(batch)?;
        let mut batch = lock(&batch)?;
        let key = c.key(key, key_len)?;
        let write = options::write(c, options, &batch.db)?.without_guards()?;
        batch.grow(key.len())?;
        batch.writes.delete(write.keyspace, key);
        Ok(CORERING_OK)
    })
}

/// Empties a batch, for use again.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: one at a time for a batch.
/// Status: OK; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: no pointers but the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_batch_clear(batch: *mut corering_batch) -> corering_status {
    guarded!(|_c| {
        let batch = using::<Mutex<Batch>, _>(batch)?;
        let mut batch = lock(&batch)?;
        batch.writes.clear();
        batch.bytes = 0;
        Ok(CORERING_OK)
    })
}

/// How many writes a batch holds.
///
/// Owns: nothing.
/// Writes: `count`, 0 on failure.
/// Threads: one at a time for a batch.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `count` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_batch_len(batch: *mut corering_batch, count: *mut usize) -> corering_status {
    guarded!(|c| {
        let out = c.out(count).required("count")?;
        out.set(lock(&*using::<Mutex<Batch>, _>(batch)?)?.writes.len());
        Ok(CORERING_OK)
    })
}

/// Does all writes of a batch at once. The batch keeps them, so that a commit that was refused can be tried again;
/// `corering_batch_clear` empties it. Of `options`, which may be null, it heeds the durability and the guards.
///
/// Owns: the caller keeps the batch.
/// Writes: the commit to `version`, if given.
/// Threads: one at a time for a batch; blocks until the writes are as durable as asked for.
/// Status: OK; BATCH_TOO_LARGE; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; BUSY; NO_SPACE; POISONED.
/// Safety: `options` is null or begins with its size; `version` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_batch_commit(
    batch: *mut corering_batch,
    options: *const corering_write_options,
    version: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(version);
        let batch = using::<Mutex<Batch>, _>(batch)?;
        let batch = lock(&batch)?;
        let write = options::write(c, options, &batch.db)?;
        out.set(batch.commit(write).wait()?.0);
        Ok(CORERING_OK)
    })
}
