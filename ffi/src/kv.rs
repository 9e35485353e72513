//! Single keys: get, put, delete, conditional put, increment; and many gets at once.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::c_void;
use std::sync::Arc;

use crate::db::{Db, corering_db};
use crate::engine::PutIf;
use crate::guard::guarded;
use crate::object::using;
use crate::op::{Action, Answer};
use crate::op::{corering_bytes, corering_condition};
use crate::options::{self, corering_read_options, corering_write_options};
use crate::raw::Out;
use crate::status::corering_status::{self, *};
use crate::value::corering_value;

/// The longest key, in bytes.
pub const CORERING_KEY_LEN_MAX: usize = 65536;
/// The longest value, in bytes.
pub const CORERING_VALUE_LEN_MAX: usize = 67108864;

const _: () = assert!(CORERING_KEY_LEN_MAX == crate::engine::KEY_LEN_MAX);
const _: () = assert!(CORERING_VALUE_LEN_MAX == crate::engine::VALUE_LEN_MAX);

/// The value of a key, in memory of the library. `options` may be null.
///
/// Owns: the caller owns the value; `corering_value_free` ends it.
/// Writes: `value`, zeroes if there is none.
/// Threads: any; runs in the calling thread, without waiting for a write.
/// Status: OK; NOT_FOUND; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; TOO_MANY_HANDLES; CORRUPT;
///   IO.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `value` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_get(
    db: *mut corering_db,
    key: *const c_void,
    key_len: usize,
    options: *const corering_read_options,
    value: *mut corering_value,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(value).required("value")?;
        let db = using::<Arc<Db>, _>(db)?;
        let key = c.key(key, key_len)?;
        let read = options::read(c, options, &db)?;
        let found = match &read.snapshot {
            Some(snapshot) => db.client.get_at(&snapshot.view, read.keyspace, key)?,
            None => db.client.get(read.keyspace, key)?,
        };
        let Some(found) = found else { return Ok(CORERING_NOT_FOUND) };
        out.set(corering_value::publish(found)?);
        Ok(CORERING_OK)
    })
}

/// The value of a key, in memory of the caller: the fast way. `options` may be null.
///
/// Owns: the caller keeps the buffer.
/// Writes: the bytes to `buffer`, all or none; the value's length to `value_len`, also if the buffer is too small;
///   its version to `version`, if given. A `capacity` of 0 asks for the length alone.
/// Threads: any; runs in the calling thread, without waiting for a write.
/// Status: OK; NOT_FOUND; BUFFER_TOO_SMALL; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; CORRUPT;
///   IO.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `buffer` has room for `capacity`
///   bytes and does not overlap the key; `value_len` is writable; `version` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_get_into(
    db: *mut corering_db,
    key: *const c_void,
    key_len: usize,
    options: *const corering_read_options,
    buffer: *mut c_void,
    capacity: usize,
    value_len: *mut usize,
    version: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let (len, version) = (c.out(value_len), c.out(version));
        let len = len.required("value_len")?;
        let db = using::<Arc<Db>, _>(db)?;
        let key = c.key(key, key_len)?;
        let buffer = c.buffer(buffer, capacity)?;
        let read = options::read(c, options, &db)?;
        let deliver = |bytes: &[u8], written: u64| {
            len.set(bytes.len());
            version.set(written);
            if buffer.put(bytes) { CORERING_OK } else { CORERING_BUFFER_TOO_SMALL }
        };
        Ok(match &read.snapshot {
            Some(snapshot) => match db.client.get_at(&snapshot.view, read.keyspace, key)? {
                Some(found) => deliver(&found.bytes, found.version.0),
                None => CORERING_NOT_FOUND,
            },
            None => db.client.get_with(read.keyspace, key, |found| match found {
                Some(found) => deliver(found.bytes, found.version.0),
                None => CORERING_NOT_FOUND,
            })?,
        })
    })
}

/// The values of many keys at once, all of one keyspace and snapshot. `options` may be null.
///
/// Owns: the caller owns the values; `corering_value_free` ends each.
/// Writes: `count` values in the order of the keys; zeroes for a key that is not there; zeroes to all on failure.
/// Threads: any; runs in the calling thread, without waiting for a write.
/// Status: OK, also if no key is there; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE;
///   TOO_MANY_HANDLES; CORRUPT; IO.
/// Safety: `keys` has `count` keys, each with its bytes; `options` is null or begins with its size; `values` has room
///   for `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_multi_get(
    db: *mut corering_db,
    keys: *const corering_bytes,
    count: usize,
    options: *const corering_read_options,
    values: *mut corering_value,
) -> corering_status {
    guarded!(|c| {
        let outs = c.outs("values", values, count)?;
        let db = using::<Arc<Db>, _>(db)?;
        let keys = c.array("keys", keys, count)?;
        let keys = keys.iter().map(|key| c.key(key.data, key.len)).collect::<Result<Vec<_>, _>>()?;
        let read = options::read(c, options, &db)?;
        let found = match &read.snapshot {
            Some(snapshot) => {
                keys.iter().map(|key| db.client.get_at(&snapshot.view, read.keyspace, key)).collect::<Result<_, _>>()?
            }
            None => db.client.multi_get(read.keyspace, &keys)?,
        };
        publish_all(found, &outs)?;
        Ok(CORERING_OK)
    })
}

/// Hands all values over, or none.
fn publish_all(
    found: Vec<Option<crate::engine::Value>>,
    outs: &crate::raw::Outs<'_, corering_value>,
) -> Result<(), crate::failure::Failure> {
    let mut given = Vec::with_capacity(found.len());
    for value in found {
        match value.map_or(Ok(corering_value::NONE), corering_value::publish) {
            Ok(value) => given.push(value),
            Err(failure) => {
                given.into_iter().for_each(|value| drop(value.free()));
                return Err(failure);
            }
        }
    }
    given.into_iter().enumerate().for_each(|(index, value)| outs.set(index, value));
    Ok(())
}

/// Stores a value under a key, over whatever was there. `options` may be null.
///
/// Owns: the caller keeps key and value.
/// Writes: the commit to `version`, if given.
/// Threads: any; blocks until the write is as durable as asked for.
/// Status: OK; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; BUSY; NO_SPACE;
///   POISONED.
/// Safety: `key` has `key_len` bytes, `value` has `value_len`; `options` is null or begins with its size; `version`
///   is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_put(
    db: *mut corering_db,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const corering_write_options,
    version: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(version);
        let db = using::<Arc<Db>, _>(db)?;
        let (key, value) = (c.key(key, key_len)?, c.value(value, value_len)?);
        let write = options::write(c, options, &db)?;
        if write.is_guarded() {
            let action = Action::Put { value: value.to_vec(), expiry: write.options.expiry };
            if let Answer::Written { version } = write.guarded(&db, key, action)? {
                out.set(version);
            }
            return Ok(CORERING_OK);
        }
        out.set(db.client.put(write.keyspace, key, value, write.options).wait()?.0);
        Ok(CORERING_OK)
    })
}

/// Removes a key. `options` may be null.
///
/// Owns: the caller keeps the key.
/// Writes: whether it was there to `existed`, if given.
/// Threads: any; blocks until the write is as durable as asked for.
/// Status: OK, also if the key was not there; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; BUSY;
///   NO_SPACE; POISONED.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `existed` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_delete(
    db: *mut corering_db,
    key: *const c_void,
    key_len: usize,
    options: *const corering_write_options,
    existed: *mut bool,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(existed);
        let db = using::<Arc<Db>, _>(db)?;
        let key = c.key(key, key_len)?;
        let write = options::write(c, options, &db)?;
        if write.is_guarded() {
            out.set(matches!(write.guarded(&db, key, Action::Delete)?, Answer::Existed(true)));
            return Ok(CORERING_OK);
        }
        out.set(db.client.delete(write.keyspace, key, write.options).wait()?);
        Ok(CORERING_OK)
    })
}

/// Stores a value under a key if `condition` holds for what is there. `options` may be null.
///
/// Owns: the caller keeps key, value and condition.
/// Writes: to `version`, if given: the commit; if refused, the commit that wrote what is there, 0 if nothing is.
/// Threads: any; blocks until the write, or what refused it, is as durable as asked for.
/// Status: OK; REFUSED; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; BUSY;
///   NO_SPACE; POISONED.
/// Safety: `key` has `key_len` bytes, `value` has `value_len`, the condition's `expected` as many as it says;
///   `options` is null or begins with its size; `version` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_put_if(
    db: *mut corering_db,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    condition: *const corering_condition,
    options: *const corering_write_options,
    version: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let out: Out<'_, u64> = c.out(version);
        let db = using::<Arc<Db>, _>(db)?;
        let (key, value) = (c.key(key, key_len)?, c.value(value, value_len)?);
        let condition = c.one("the condition", condition)?.to_engine(c)?;
        let write = options::write(c, options, &db)?;
        if write.is_guarded() {
            let action = Action::PutIf { value: value.to_vec(), expiry: write.options.expiry, condition };
            let (status, version) = match write.guarded(&db, key, action)? {
                Answer::Written { version } => (CORERING_OK, version),
                Answer::Refused { version } => (CORERING_REFUSED, version),
                _ => (CORERING_OK, 0),
            };
            out.set(version);
            return Ok(status);
        }
        Ok(match db.client.put_if(write.keyspace, key, value, condition, write.options).wait()? {
            PutIf::Done(version) => {
                out.set(version.0);
                CORERING_OK
            }
            PutIf::Refused { current } => {
                out.set(current.map_or(0, |version| version.0));
                CORERING_REFUSED
            }
        })
    })
}

/// Adds `by` to the decimal number under a key, 0 if there is none, and keeps its expiry; the expiry in `options`, which
/// may be null, is for a key that is new.
///
/// Owns: the caller keeps the key.
/// Writes: the new number to `result`, if given.
/// Threads: any; blocks until the write is as durable as asked for.
/// Status: OK; NOT_AN_INTEGER; OVERFLOW; FENCED; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; BUSY;
///   NO_SPACE; POISONED.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `result` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_incr(
    db: *mut corering_db,
    key: *const c_void,
    key_len: usize,
    by: i64,
    options: *const corering_write_options,
    result: *mut i64,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(result);
        let db = using::<Arc<Db>, _>(db)?;
        let key = c.key(key, key_len)?;
        let write = options::write(c, options, &db)?;
        if write.is_guarded() {
            let action = Action::Incr { by, expiry: write.options.expiry };
            if let Answer::Number(number) = write.guarded(&db, key, action)? {
                out.set(number);
            }
            return Ok(CORERING_OK);
        }
        out.set(db.client.incr(write.keyspace, key, by, write.options).wait()?);
        Ok(CORERING_OK)
    })
}
