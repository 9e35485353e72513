//! What a transaction reads and writes. Its writes stay with it until the commit.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::c_void;
use std::sync::{Arc, Mutex};

use crate::engine::{Condition, Keyspace, Kind, Value};
use crate::failure::{Failure, HandleFault};
use crate::guard::guarded;
use crate::iterator::{Iter, corering_iterator, corering_scan_options};
use crate::object::{self, HandleKind, Object, using};
use crate::op::{Answer, corering_condition, corering_op_kind};
use crate::options::{self, corering_read_options, corering_write_options};
use crate::queue::{Queue, corering_queue};
use crate::raw::{Caller, Out};
use crate::status::corering_status::{self, *};
use crate::transaction::{Txn, corering_tx, of_queue};
use crate::value::corering_value;
use crate::write::Write;

/// A transaction reads its own state.
fn keyspace(caller: &Caller, given: *const corering_read_options, txn: &Txn) -> Result<Keyspace, Failure> {
    let read = options::read(caller, given, &txn.db)?;
    match read.snapshot {
        None => Ok(read.keyspace),
        Some(_) => Err(Failure::argument("a transaction reads its own state; it takes no snapshot")),
    }
}

/// Durability and guards belong to the whole transaction.
fn write(caller: &Caller, given: *const corering_write_options, txn: &Txn) -> Result<Write, Failure> {
    let write = options::write(caller, given, &txn.db)?.without_guards()?;
    match write.options.durability {
        None => Ok(write),
        Some(_) => Err(Failure::argument("the durability belongs to corering_tx_options")),
    }
}

fn deliver(out: Out<'_, corering_value>, found: Option<Value>) -> Result<corering_status, Failure> {
    let Some(found) = found else { return Ok(CORERING_NOT_FOUND) };
    out.set(corering_value::publish(found)?);
    Ok(CORERING_OK)
}

/// The value of a key as the transaction sees it: one state of the database, and its own writes, whose `version` is UINT64_MAX.
/// `options` may be null.
///
/// Owns: the caller owns the value; `corering_value_free` ends it.
/// Writes: `value`, zeroes if there is none.
/// Threads: one at a time for a transaction; does not wait.
/// Status: OK; NOT_FOUND; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; TRANSACTION_TOO_LARGE; INVALID_ARGUMENT; INVALID_HANDLE;
///   CLOSED; FORKED; KEY_TOO_LARGE; TOO_MANY_HANDLES; CORRUPT; IO.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `value` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_get(
    tx: *mut corering_tx,
    key: *const c_void,
    key_len: usize,
    options: *const corering_read_options,
    value: *mut corering_value,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(value).required("value")?;
        let txn = using::<Arc<Txn>, _>(tx)?;
        let key = c.key(key, key_len)?;
        let keyspace = keyspace(c, options, &txn)?;
        let found = txn.lock()?.get(keyspace, key)?;
        deliver(out, found)
    })
}

/// The latest value of a key, which the transaction keeps: no other one changes or keeps it before this one has ended. Waits for an
/// older transaction that keeps it, and takes it from a younger one. `options` may be null.
///
/// Owns: the caller owns the value; `corering_value_free` ends it.
/// Writes: `value`, zeroes if there is none.
/// Threads: one at a time for a transaction; blocks as long as an older transaction keeps the key.
/// Status: OK; NOT_FOUND: there is no such key, and it is kept; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD;
///   TRANSACTION_TOO_LARGE; READ_ONLY; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; TOO_MANY_HANDLES;
///   POISONED; CORRUPT; IO.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size; `value` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_get_for_update(
    tx: *mut corering_tx,
    key: *const c_void,
    key_len: usize,
    options: *const corering_read_options,
    value: *mut corering_value,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(value).required("value")?;
        let txn = using::<Arc<Txn>, _>(tx)?;
        let key = c.key(key, key_len)?;
        let keyspace = keyspace(c, options, &txn)?;
        deliver(out, txn.get_for_update(keyspace, key)?)
    })
}

/// Stores a value under a key when the transaction commits. Of `options`, which may be null, it heeds the keyspace and the expiry.
///
/// Owns: the caller keeps key and value; they are copied.
/// Writes: nothing.
/// Threads: one at a time for a transaction; does not wait.
/// Status: OK; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; TRANSACTION_TOO_LARGE; READ_ONLY; INVALID_ARGUMENT; INVALID_HANDLE;
///   CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE.
/// Safety: `key` has `key_len` bytes, `value` has `value_len`; `options` is null or begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_put(
    tx: *mut corering_tx,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const corering_write_options,
) -> corering_status {
    guarded!(|c| {
        let txn = using::<Arc<Txn>, _>(tx)?;
        let (key, value) = (c.key(key, key_len)?, c.value(value, value_len)?);
        let write = write(c, options, &txn)?;
        txn.lock()?.put_full(write.keyspace, key, value, Kind::BYTES, write.options.expiry)?;
        Ok(CORERING_OK)
    })
}

/// Removes a key when the transaction commits. It does not say whether the key was there: that would be a read. Of `options`, which
/// may be null, it heeds the keyspace.
///
/// Owns: the caller keeps the key; it is copied.
/// Writes: nothing.
/// Threads: one at a time for a transaction; does not wait.
/// Status: OK; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; TRANSACTION_TOO_LARGE; READ_ONLY; INVALID_ARGUMENT; INVALID_HANDLE;
///   CLOSED; FORKED; KEY_TOO_LARGE.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_delete(
    tx: *mut corering_tx,
    key: *const c_void,
    key_len: usize,
    options: *const corering_write_options,
) -> corering_status {
    guarded!(|c| {
        let txn = using::<Arc<Txn>, _>(tx)?;
        let key = c.key(key, key_len)?;
        let write = write(c, options, &txn)?;
        txn.lock()?.delete(write.keyspace, key)?;
        Ok(CORERING_OK)
    })
}

/// Stores a value under a key when the transaction commits, if `condition` holds for what the transaction sees there; that is then a
/// part of what must still hold at the commit. Of `options`, which may be null, it heeds the keyspace and the expiry.
///
/// Owns: the caller keeps key, value and condition; they are copied.
/// Writes: nothing.
/// Threads: one at a time for a transaction; does not wait.
/// Status: OK; REFUSED: the condition does not hold, the transaction is still open; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD;
///   TRANSACTION_TOO_LARGE; READ_ONLY; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; VALUE_TOO_LARGE; CORRUPT; IO.
/// Safety: `key` has `key_len` bytes, `value` has `value_len`, the condition's `expected` as many as it says; `options` is null or
///   begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_put_if(
    tx: *mut corering_tx,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    condition: *const corering_condition,
    options: *const corering_write_options,
) -> corering_status {
    guarded!(|c| {
        let txn = using::<Arc<Txn>, _>(tx)?;
        let (key, value) = (c.key(key, key_len)?, c.value(value, value_len)?);
        let condition: Condition = c.one("the condition", condition)?.to_engine(c)?;
        let write = write(c, options, &txn)?;
        let done = txn.lock()?.put_if_full(write.keyspace, key, value, &condition, write.options.expiry)?;
        Ok(if done { CORERING_OK } else { CORERING_REFUSED })
    })
}

/// Begins to walk over a range of keys as the transaction sees it, with its own writes in their places. It is read a page at a time:
/// what lies beyond the page that was reached is not read yet, so that others may change it, and later writes of the transaction show
/// there. `options` may be null for all keys of keyspace 0; it takes no snapshot.
///
/// Owns: the caller owns the iterator; `corering_iterator_free` ends it. It answers TRANSACTION_ENDED once the transaction has
///   ended, CLOSED once that was freed.
/// Writes: the handle to `iterator`, null on failure.
/// Threads: one at a time for a transaction, also of its iterators; does not wait.
/// Status: OK, also if the range is empty; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE; TRANSACTION_ENDED;
///   TOO_MANY_HANDLES. The iterator's calls may answer CONFLICT, TRANSACTION_ENDED, TRANSACTION_TOO_OLD and TRANSACTION_TOO_LARGE, too.
/// Safety: `options` is null or begins with its size, its bounds have as many bytes as they say; `iterator` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_scan(
    tx: *mut corering_tx,
    options: *const corering_scan_options,
    iterator: *mut *mut corering_iterator,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(iterator).required("iterator")?;
        let txn = using::<Arc<Txn>, _>(tx)?;
        let iter = Iter::over_transaction(&txn, c, options)?;
        out.set(object::publish(Object::Iterator(Box::new(Mutex::new(iter))))?);
        Ok(CORERING_OK)
    })
}

/// As `corering_tx_get_for_update`, without waiting: the grant is a completion of the queue, of the kind CORERING_OP_GET_FOR_UPDATE,
/// with the value, which is read when it is reaped. Rolling the transaction back ends the wait.
///
/// Owns: the caller keeps the key; it is copied.
/// Writes: nothing.
/// Threads: one at a time for a transaction; does not wait.
/// Status: OK; BUSY if the queue is full; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; READ_ONLY; INVALID_ARGUMENT, also for
///   the transaction of another database; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE.
/// Safety: `key` has `key_len` bytes; `options` is null or begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_get_for_update(
    queue: *mut corering_queue,
    tx: *mut corering_tx,
    key: *const c_void,
    key_len: usize,
    options: *const corering_read_options,
    user_data: u64,
) -> corering_status {
    guarded!(|c| {
        let queue = using::<Queue, _>(queue)?;
        let txn = of_queue(&queue, tx)?;
        let key = c.key(key, key_len)?;
        let keyspace = keyspace(c, options, &txn)?;
        let mut inner = txn.lock()?;
        let of = Arc::downgrade(&txn);
        let key = key.to_vec();
        let kind = corering_op_kind::CORERING_OP_GET_FOR_UPDATE as u32;
        queue.submit_later(user_data, kind, |_| Ok(inner.keep(keyspace, &key)?), {
            let key = key.clone();
            move |granted| {
                // In the thread that reaps: a shard's thread must not wait for one that uses the transaction.
                let Some(txn) = of.upgrade() else {
                    return Err(Failure::Handle(HandleFault::Closed { kind: HandleKind::Tx }));
                };
                match granted {
                    Ok(()) => Ok(Answer::Value(txn.lock()?.get_kept(keyspace, &key)?)),
                    Err(error) => Err(txn.why_not_granted(error)),
                }
            }
        })?;
        Ok(CORERING_OK)
    })
}
