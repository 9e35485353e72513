//! Transactions: begun, ended, and what concerns the whole of one. `transaction_keys.rs` has what they read and write.
//!
//! Guards: a call that waits (for a key, for a commit) does not hold the transaction meanwhile, so that it can be ended.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::batch::lock;
use crate::db::{Db, corering_db};
use crate::engine::{
    CommitTs, Error, Fate, Isolation, Keyspace, Pending, Savepoint, Transaction, TransactionId, TransactionOptions,
    TxNumber, Value,
};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::lock::{self as locks, corering_guard};
use crate::object::{self, HandleKind, Object, using};
use crate::op::{Answer, corering_op_kind};
use crate::options;
use crate::queue::{Queue, corering_queue};
use crate::raw::c_struct;
use crate::registry::Retired;
use crate::status::corering_status::{self, *};

/// A transaction over any keys. For one thread at a time.
#[allow(non_camel_case_types)]
pub struct corering_tx(());

/// What a transaction must look as if it had run alone among.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_isolation {
    /// All others, in an order that agrees with real time.
    CORERING_ISOLATION_STRICT = 0,
    /// It reads one state, and nobody else wrote what it writes since; two that read each other's keys may both commit.
    CORERING_ISOLATION_SNAPSHOT = 1,
}
use corering_isolation::*;

/// What `corering_transact` runs: it reads and writes by `tx`, and answers 0 or more to commit, an error's status to give up.
// "C-unwind": an exception that leaves it is stopped by the guard, which ends the process.
#[allow(non_camel_case_types)]
pub type corering_tx_function = Option<extern "C-unwind" fn(tx: *mut corering_tx, context: *mut c_void) -> i32>;

/// Flags of `corering_tx_options`.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_tx_flags {
    /// Writes are refused; it never waits and never aborts.
    CORERING_TX_READ_ONLY = 1,
    /// Its fate cannot be asked later, which saves a write.
    CORERING_TX_NO_FATE = 2,
}
use corering_tx_flags::*;

/// How a transaction is begun.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_tx_options {
    /// The bytes of this struct that the program knows: sizeof(corering_tx_options).
    pub struct_size: usize,
    /// A `corering_isolation`.
    pub isolation: u32,
    /// A `corering_durability`. Over several shards a commit is always durable when it is answered.
    pub durability: u32,
    /// For CORERING_DURABILITY_INTERVAL: 1 to 3600000.
    pub interval_ms: u32,
    /// Any of `corering_tx_flags`.
    pub flags: u32,
    /// It is ended when it was open for so long; 0: 60000.
    pub timeout_ms: u64,
    /// How long its fate can be asked after it committed; 0: 600000.
    pub remember_ms: u64,
    /// For a transaction that is run again: the number of the attempt before, which has ended; so it keeps its age, and the
    /// oldest wins. 0: a new one.
    pub again: u64,
}

/// Names a transaction for ever; to be kept before the commit by who wants to ask its fate.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_tx_id {
    pub bytes: [u8; 16],
}

/// How much of what a transaction may have it has.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_tx_usage {
    /// The bytes of this struct that the program knows: sizeof(corering_tx_usage). Set it before the call.
    pub struct_size: usize,
    /// Bytes of its writes.
    pub write_bytes: u64,
    pub write_bytes_max: u64,
    /// Keys and ranges that it has read.
    pub reads: u64,
    pub reads_max: u64,
    /// How long it has been open.
    pub age_ms: u64,
    pub age_ms_max: u64,
}

c_struct!(growing corering_tx_options, first_len 48);
c_struct!(growing corering_tx_usage, first_len 56);
c_struct!(plain corering_tx_id);

impl corering_tx_options {
    const NEW: corering_tx_options = corering_tx_options {
        struct_size: size_of::<corering_tx_options>(),
        isolation: CORERING_ISOLATION_STRICT as u32,
        durability: options::corering_durability::CORERING_DURABILITY_DEFAULT as u32,
        interval_ms: 0,
        flags: 0,
        timeout_ms: 0,
        remember_ms: 0,
        again: 0,
    };

    fn to_engine(self) -> Result<TransactionOptions, Failure> {
        const STRICT: u32 = CORERING_ISOLATION_STRICT as u32;
        const SNAPSHOT: u32 = CORERING_ISOLATION_SNAPSHOT as u32;
        options::check_flags("flags", self.flags, CORERING_TX_READ_ONLY as u32 | CORERING_TX_NO_FATE as u32)?;
        let has = |flag: corering_tx_flags| self.flags & flag as u32 != 0;
        if has(CORERING_TX_NO_FATE) && self.remember_ms != 0 {
            return Err(Failure::argument("remember_ms is set together with CORERING_TX_NO_FATE"));
        }
        let default = TransactionOptions::default();
        let span = |ms: u64, default| if ms == 0 { default } else { Duration::from_millis(ms) };
        Ok(TransactionOptions {
            isolation: match self.isolation {
                STRICT => Isolation::StrictSerializable,
                SNAPSHOT => Isolation::Snapshot,
                other => {
                    return Err(Failure::argument(format!("isolation is {other}, which is no corering_isolation")));
                }
            },
            durability: options::durability(self.durability, self.interval_ms)?,
            read_only: has(CORERING_TX_READ_ONLY),
            timeout: span(self.timeout_ms, default.timeout),
            remember: if has(CORERING_TX_NO_FATE) { Duration::ZERO } else { span(self.remember_ms, default.remember) },
            // Zero is the oldest's number in the engine, and none here.
            again: self.again.checked_sub(1).map(TxNumber),
        })
    }
}

/// What the handle of a transaction stands for; its iterators, and what a queue asked for, know it as long as it is there.
pub(crate) struct Txn {
    pub db: Arc<Db>,
    id: TransactionId,
    number: TxNumber,
    /// It is committed by `corering_transact`, and by nobody else: so that what ran it knows whether it may run again.
    is_transacted: bool,
    inner: Mutex<Transaction>,
}

impl Txn {
    fn begin(db: &Arc<Db>, options: TransactionOptions, is_transacted: bool) -> Result<Txn, Failure> {
        let transaction = db.client.begin(options)?;
        let (id, number) = (transaction.id(), transaction.number());
        Ok(Txn { db: Arc::clone(db), id, number, is_transacted, inner: Mutex::new(transaction) })
    }

    fn check_commit(&self) -> Result<(), Failure> {
        if self.is_transacted {
            return Err(Failure::argument(
                "corering_transact commits this transaction itself: return 0 from the function instead",
            ));
        }
        Ok(())
    }

    /// For a short step.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, Transaction>, Failure> {
        self.db.check_open()?;
        lock(&self.inner)
    }

    /// Waits for the key without holding the transaction.
    pub(crate) fn get_for_update(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Value>, Failure> {
        let granted = self.lock()?.keep(keyspace, key)?;
        match granted.wait() {
            Ok(()) => Ok(self.lock()?.get_kept(keyspace, key)?),
            Err(error) => Err(self.why_not_granted(error)),
        }
    }

    /// Waits for its turn without holding the transaction.
    pub(crate) fn wait_turn(&self) -> Result<(), Failure> {
        let waits = self.lock()?.turn()?;
        waits.into_iter().try_for_each(Pending::wait).map_err(|error| self.why_not_granted(error))
    }

    /// A wait that was given up because the transaction has ended says that.
    pub(crate) fn why_not_granted(&self, error: Error) -> Failure {
        match self.lock() {
            Ok(mut inner) if !inner.is_open() => inner.rollback().map_or_else(Failure::from, |()| error.into()),
            Ok(_) => error.into(),
            Err(failure) => failure,
        }
    }

    /// Commits or gives up, as the function of `corering_transact` answered.
    fn do_as_answered(&self, answer: i32) -> Result<Attempt, Failure> {
        if answer >= 0 {
            let pending = self.lock()?.commit();
            return match pending.wait() {
                Ok(commit) => Ok(Attempt::Committed(commit)),
                Err(error) if error.is_lost_race() => Ok(Attempt::Again),
                Err(error) => Err(error.into()),
            };
        }
        match corering_status::from_number(answer) {
            Some(status) if status.is_lost_race() => Ok(Attempt::Again),
            Some(status) => Ok(Attempt::GaveUp(status)),
            None => Err(Failure::argument(format!(
                "the function answered {answer}, which is no corering_status; nothing was written"
            ))),
        }
    }

    /// Whoever still waits for a key is told.
    fn end(&self) {
        if let Ok(mut inner) = lock(&self.inner) {
            let _ = inner.rollback();
        }
    }
}

/// Fills `options` with the defaults: strict serializability, the database's durability, one minute, a new age.
///
/// Owns: the caller keeps the struct.
/// Writes: `struct_size` bytes at `options`.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
/// Safety: `options` has room for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_options_init(
    options: *mut corering_tx_options,
    struct_size: usize,
) -> corering_status {
    guarded!(|c| {
        c.init_options(options, struct_size, &corering_tx_options::NEW)?;
        Ok(CORERING_OK)
    })
}

/// Begins a transaction. `options` may be null.
///
/// Owns: the caller owns the transaction; `corering_tx_free` ends it, also after it was committed or rolled back.
/// Writes: the handle to `tx`, null on failure.
/// Threads: any; does not wait.
/// Status: OK; INVALID_ARGUMENT, also for an `again` that was never given out or is still open; INVALID_HANDLE; CLOSED; FORKED;
///   TOO_MANY_HANDLES.
/// Safety: `options` is null or begins with its size; `tx` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_begin(
    db: *mut corering_db,
    options: *const corering_tx_options,
    tx: *mut *mut corering_tx,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(tx).required("tx")?;
        let db = using::<Arc<Db>, _>(db)?;
        db.check_open()?;
        let options = c.options(options, corering_tx_options::NEW)?.to_engine()?;
        out.set(object::publish(Object::Tx(Arc::new(Txn::begin(&db, options, false)?)))?);
        Ok(CORERING_OK)
    })
}

/// Frees a transaction; one that is open is rolled back. A commit that is under way by a queue goes on.
///
/// Owns: the handle ends here.
/// Writes: nothing.
/// Threads: any.
/// Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
/// Safety: any pointer will do; it is not dereferenced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_free(tx: *mut corering_tx) -> corering_status {
    guarded!(|_c| {
        let Some(retired) = object::retire(tx, HandleKind::Tx)? else { return Ok(CORERING_OK) };
        let Object::Tx(txn) = retired.object() else { unreachable!("the kind was checked") };
        txn.end();
        drop(retired.finish());
        Ok(CORERING_OK)
    })
}

/// The name by which the transaction's fate can be asked (`corering_tx_fate`).
///
/// Owns: the caller keeps the struct.
/// Writes: `id`, zeroes on failure.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `id` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_get_id(tx: *mut corering_tx, id: *mut corering_tx_id) -> corering_status {
    guarded!(|c| {
        let out = c.out(id).required("id")?;
        out.set(corering_tx_id { bytes: using::<Arc<Txn>, _>(tx)?.id.0.to_be_bytes() });
        Ok(CORERING_OK)
    })
}

/// The transaction's age, for `again` of the one that runs the same once more. Never zero.
///
/// Owns: nothing.
/// Writes: `number`, 0 on failure.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `number` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_number(tx: *mut corering_tx, number: *mut u64) -> corering_status {
    guarded!(|c| {
        let out = c.out(number).required("number")?;
        out.set(using::<Arc<Txn>, _>(tx)?.number.0 + 1);
        Ok(CORERING_OK)
    })
}

/// How much of what a transaction may have it has.
///
/// Owns: the caller keeps the struct.
/// Writes: as many bytes of `usage` as its `struct_size` says; nothing on failure.
/// Threads: one at a time for a transaction.
/// Status: OK, also after its end; INVALID_ARGUMENT for null, or for a size that no version of the struct has; INVALID_HANDLE; CLOSED;
///   FORKED.
/// Safety: `usage` is null or begins with its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_get_usage(tx: *mut corering_tx, usage: *mut corering_tx_usage) -> corering_status {
    guarded!(|c| {
        let used = using::<Arc<Txn>, _>(tx)?.lock()?.usage();
        let filled = corering_tx_usage {
            struct_size: size_of::<corering_tx_usage>(),
            write_bytes: used.write_bytes,
            write_bytes_max: used.write_bytes_max,
            reads: used.reads,
            reads_max: used.reads_max,
            age_ms: used.age_ms,
            age_ms_max: used.age_ms_max,
        };
        c.fill(usage, &filled)?;
        Ok(CORERING_OK)
    })
}

/// Makes a place in the transaction to go back to.
///
/// Owns: the transaction keeps it.
/// Writes: its number to `savepoint`, 0 on failure.
/// Threads: one at a time for a transaction.
/// Status: OK; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `savepoint` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_savepoint(tx: *mut corering_tx, savepoint: *mut u64) -> corering_status {
    guarded!(|c| {
        let out = c.out(savepoint).required("savepoint")?;
        out.set(using::<Arc<Txn>, _>(tx)?.lock()?.savepoint()?.0);
        Ok(CORERING_OK)
    })
}

/// Forgets the writes since a savepoint, and the savepoints made since; it stays. What was read stays read, keys that are kept
/// stay kept.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: one at a time for a transaction.
/// Status: OK; NO_SAVEPOINT; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: no pointers but the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_rollback_to(tx: *mut corering_tx, savepoint: u64) -> corering_status {
    guarded!(|_c| {
        using::<Arc<Txn>, _>(tx)?.lock()?.rollback_to(Savepoint(savepoint))?;
        Ok(CORERING_OK)
    })
}

/// Forgets a savepoint, and those made since; the writes stay.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: one at a time for a transaction.
/// Status: OK; NO_SAVEPOINT; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: no pointers but the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_release(tx: *mut corering_tx, savepoint: u64) -> corering_status {
    guarded!(|_c| {
        using::<Arc<Txn>, _>(tx)?.lock()?.release(Savepoint(savepoint))?;
        Ok(CORERING_OK)
    })
}

/// Has the commit take effect only if all these tokens hold their locks at that moment; else it fails as FENCED.
///
/// Owns: the caller keeps the guards; they are copied.
/// Writes: nothing.
/// Threads: one at a time for a transaction.
/// Status: OK; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `guards` has `count` guards, each with its name's bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_guard(
    tx: *mut corering_tx,
    guards: *const corering_guard,
    count: usize,
) -> corering_status {
    guarded!(|c| {
        let txn = using::<Arc<Txn>, _>(tx)?;
        let guards = locks::guards(c, guards, count)?;
        let mut inner = txn.lock()?;
        guards.into_iter().try_for_each(|guard| inner.guard(guard))?;
        Ok(CORERING_OK)
    })
}

/// Commits. It ends the transaction, whatever the status; the handle is still to be freed.
///
/// Owns: the caller keeps the handle.
/// Writes: the commit to `version`, if given; 0 if it wrote nothing.
/// Threads: one at a time for a transaction; blocks until the commit is durable and seen everywhere.
/// Status: OK; CONFLICT: nothing was done, run it again; FENCED; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_HANDLE; CLOSED;
///   FORKED; BUSY; NO_SPACE; POISONED: ask `corering_tx_fate` after the next opening; INVALID_ARGUMENT, and it is still open, for the
///   transaction of a function that `corering_transact` runs.
/// Safety: `version` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_commit(tx: *mut corering_tx, version: *mut u64) -> corering_status {
    guarded!(|c| {
        let out = c.out(version);
        let txn = using::<Arc<Txn>, _>(tx)?;
        txn.check_commit()?;
        let pending = txn.lock()?.commit();
        drop(txn);
        out.set(pending.wait()?.0);
        Ok(CORERING_OK)
    })
}

/// Rolls back: the transaction ends, and nothing was done. The handle is still to be freed.
///
/// Owns: the caller keeps the handle.
/// Writes: nothing.
/// Threads: any; whoever waits for a key of this transaction in another thread is answered TRANSACTION_ENDED.
/// Status: OK; TRANSACTION_ENDED; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: no pointers but the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_rollback(tx: *mut corering_tx) -> corering_status {
    guarded!(|_c| {
        using::<Arc<Txn>, _>(tx)?.lock()?.rollback()?;
        Ok(CORERING_OK)
    })
}

/// What became of a transaction, in this opening of the database or in one before. Only of one that is not under way any more.
///
/// Owns: nothing.
/// Writes: the commit to `version`, if given; 0 if it did not happen.
/// Threads: any; may wait for writes that are under way.
/// Status: OK if it committed; NOT_FOUND if it did not, or wrote nothing; TRANSACTION_TOO_OLD if that is longer ago than it was to be
///   remembered, and nobody knows; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; POISONED; CORRUPT; IO.
/// Safety: `id` is null or an id; `version` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_fate(
    db: *mut corering_db,
    id: *const corering_tx_id,
    version: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(version);
        let db = using::<Arc<Db>, _>(db)?;
        db.check_open()?;
        let id = c.one("the id", id)?;
        match db.client.fate(TransactionId(u128::from_be_bytes(id.bytes))).wait()? {
            Fate::Committed(commit) => {
                out.set(commit.0);
                Ok(CORERING_OK)
            }
            Fate::NotCommitted => Ok(CORERING_NOT_FOUND),
        }
    })
}

/// How an attempt of `corering_transact` ended.
enum Attempt {
    Committed(CommitTs),
    /// Nothing was done, and others' work is why.
    Again,
    /// The function says so; the text is that of the call that failed in it.
    GaveUp(corering_status),
}

/// Runs the function once, and does what it answers.
fn attempt(txn: &Arc<Txn>, function: impl FnOnce(*mut corering_tx) -> i32) -> Result<Attempt, Failure> {
    if let Err(failure) = txn.wait_turn() {
        txn.end();
        return if failure.is_lost_race() { Ok(Attempt::Again) } else { Err(failure) };
    }
    let tx = object::publish::<corering_tx>(Object::Tx(Arc::clone(txn)))?;
    let answer = function(tx);
    // From here on nobody finds it by its handle; the function may have freed that.
    let retired = object::retire(tx, HandleKind::Tx).ok().flatten();
    let attempt = txn.do_as_answered(answer);
    // Whoever waits for a key is told, and then no call uses it.
    txn.end();
    drop(retired.map(Retired::finish));
    attempt
}

/// Runs `function` in a transaction and commits it: again and again, in new transactions of the same age, each when it is its turn
/// (`corering_tx_wait_turn`) and with pauses between them (`corering_tx_pause_ns`), until that succeeds or fails for another reason than others' work. `options` may be null.
///
/// `function` is given the transaction and `context`, and may be run any number of times: what it does besides reading and writing by
/// the transaction must bear that. If it answers 0 or more, the transaction is committed; if it answers CONFLICT or BUSY, as a call
/// with the transaction may, it is run again; any other error gives up: nothing was written, and that error is the answer here. It must
/// not commit. If it rolls back or frees the transaction, the answer is TRANSACTION_ENDED, unless it gives up.
///
/// A commit whose outcome is not known, or a full disk, ends it: nothing is run again that may have been done. To ask
/// `corering_tx_fate` then, have the function keep `corering_tx_get_id`.
///
/// Owns: the library owns the transaction; `function` must not keep it. Iterators that it made are still to be freed.
/// Writes: the commit to `version`, if given; 0 if it wrote nothing.
/// Threads: any; `function` runs in the calling thread only, with no lock of the library held, and may call whatever it likes.
///   Blocks until the commit is durable and seen everywhere.
/// Status: OK; what `function` gave up with; what `corering_tx_begin` and `corering_tx_commit` give, but no CONFLICT and no BUSY;
///   INVALID_ARGUMENT for null, or if `function` answers with a number below 0 that is no status.
/// Safety: `options` is null or begins with its size; `version` is null or writable; `function` is a function of this type that can be
///   called with `context`, and returns: no `longjmp` may leave it, and an exception that does ends the process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_transact(
    db: *mut corering_db,
    options: *const corering_tx_options,
    function: corering_tx_function,
    context: *mut c_void,
    version: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(version);
        // The handle is let go of: the function may close the database.
        let db = Arc::clone(&*using::<Arc<Db>, _>(db)?);
        let mut options = c.options(options, corering_tx_options::NEW)?.to_engine()?;
        let function = function.ok_or_else(|| Failure::argument("function is null"))?;
        let mut attempts = 0_u32;
        loop {
            db.check_open()?;
            let txn = Arc::new(Txn::begin(&db, options.clone(), true)?);
            options.again = Some(txn.number);
            match attempt(&txn, |tx| function(tx, context))? {
                Attempt::Committed(commit) => {
                    out.set(commit.0);
                    return Ok(CORERING_OK);
                }
                Attempt::GaveUp(status) => return Ok(status),
                Attempt::Again => std::thread::sleep(db.client.pause(options.again, attempts)),
            }
            attempts = attempts.saturating_add(1);
        }
    })
}

/// How long to wait before a transaction that failed `attempt` times before is run again: drawn at random below 50 us,
/// doubled with each attempt up to 5 ms. `again` is its age, as in `corering_tx_options`: 0 if it is known where that lost, since it will
/// wait for its turn then (`corering_tx_wait_turn`).
///
/// Owns: nothing.
/// Writes: `nanoseconds`, 0 on failure.
/// Threads: any; does not wait.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `nanoseconds` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_pause_ns(
    db: *mut corering_db,
    again: u64,
    attempt: u32,
    nanoseconds: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(nanoseconds).required("nanoseconds")?;
        let db = using::<Arc<Db>, _>(db)?;
        db.check_open()?;
        let pause = db.client.pause(again.checked_sub(1).map(TxNumber), attempt);
        out.set(pause.as_nanos() as u64);
        Ok(CORERING_OK)
    })
}

/// Waits for the turn of a transaction that is run again, before anything else is done with it: it keeps the keys at which the attempts
/// before it lost, as by `corering_tx_get_for_update`, each once all older ones that want the key have had it. Without it, the same
/// may be lost again. One that is not run again has its turn at once.
///
/// Owns: the caller keeps the handle.
/// Writes: nothing.
/// Threads: one at a time for a transaction; blocks. Rolling the transaction back in another thread ends the wait.
/// Status: OK; CONFLICT: an older one needed a key, run it again; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_HANDLE; CLOSED;
///   FORKED; POISONED.
/// Safety: no pointers but the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_tx_wait_turn(tx: *mut corering_tx) -> corering_status {
    guarded!(|_c| {
        using::<Arc<Txn>, _>(tx)?.wait_turn()?;
        Ok(CORERING_OK)
    })
}

/// As `corering_tx_wait_turn`, without waiting: its turn is a completion of the queue, of the kind CORERING_OP_TURN.
///
/// Owns: the caller keeps the handle.
/// Writes: nothing.
/// Threads: one at a time for a transaction; does not wait.
/// Status: OK; BUSY if the queue is full; CONFLICT; TRANSACTION_ENDED; TRANSACTION_TOO_OLD; INVALID_ARGUMENT for the transaction
///   of another database; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: no pointers but the handles.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_wait_turn(
    queue: *mut corering_queue,
    tx: *mut corering_tx,
    user_data: u64,
) -> corering_status {
    guarded!(|_c| {
        let queue = using::<Queue, _>(queue)?;
        let txn = of_queue(&queue, tx)?;
        let mut inner = txn.lock()?;
        let of = Arc::downgrade(&txn);
        let kind = corering_op_kind::CORERING_OP_TURN as u32;
        queue.submit_later(
            user_data,
            kind,
            |_| Ok(Pending::all(inner.turn()?)),
            move |turns| match (turns, of.upgrade()) {
                (Ok(_), _) => Ok(Answer::Done),
                (Err(error), Some(txn)) => Err(txn.why_not_granted(error)),
                (Err(error), None) => Err(error.into()),
            },
        )?;
        Ok(CORERING_OK)
    })
}

/// As `corering_tx_commit`, without waiting: the outcome is a completion of the queue, of the kind CORERING_OP_COMMIT. The handle
/// may be freed at once.
///
/// Owns: the caller keeps the handle.
/// Writes: nothing.
/// Threads: one at a time for a transaction; does not wait for the disk.
/// Status: OK; BUSY if the queue is full: the transaction is still open; INVALID_ARGUMENT, also for the transaction of another database,
///   and for that of a function that `corering_transact` runs; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: no pointers but the handles.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_queue_commit(
    queue: *mut corering_queue,
    tx: *mut corering_tx,
    user_data: u64,
) -> corering_status {
    guarded!(|_c| {
        let queue = using::<Queue, _>(queue)?;
        let txn = of_queue(&queue, tx)?;
        txn.check_commit()?;
        let mut inner = txn.lock()?;
        let kind = corering_op_kind::CORERING_OP_COMMIT as u32;
        queue.submit(user_data, kind, |commit: CommitTs| Answer::Written { version: commit.0 }, |_| inner.commit())?;
        Ok(CORERING_OK)
    })
}

/// A transaction of the queue's database.
pub(crate) fn of_queue(queue: &Queue, tx: *mut corering_tx) -> Result<object::Using<Arc<Txn>>, Failure> {
    let txn = using::<Arc<Txn>, _>(tx)?;
    if txn.db.is(queue.db()) { Ok(txn) } else { Err(Failure::argument("the transaction is one of another database")) }
}
