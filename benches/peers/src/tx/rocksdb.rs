//! RocksDB's TransactionDB and OptimisticTransactionDB, by the C API of Debian's library.
//!
//! Guards: the only file that calls this part of it; what the library gave is given back to it, once.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_uchar};
use std::path::Path;
use std::ptr;

use super::{Access, Session, Step, Stopped, Store, Tx};
use crate::store::Outcome;
use crate::store::rocksdb::{Object, chars, checked, options as database_options};

const MEMORY: usize = 1 << 30;

#[link(name = "rocksdb")]
unsafe extern "C" {
    fn rocksdb_options_destroy(options: Object);
    fn rocksdb_free(pointer: *mut std::ffi::c_void);
    fn rocksdb_writeoptions_create() -> Object;
    fn rocksdb_writeoptions_set_sync(options: Object, yes: c_uchar);
    fn rocksdb_writeoptions_destroy(options: Object);
    fn rocksdb_readoptions_create() -> Object;
    fn rocksdb_readoptions_set_snapshot(options: Object, snapshot: Object);
    fn rocksdb_readoptions_destroy(options: Object);
    fn rocksdb_transactiondb_options_create() -> Object;
    fn rocksdb_transactiondb_options_destroy(options: Object);
    fn rocksdb_transactiondb_open(options: Object, tx: Object, name: *const c_char, error: *mut *mut c_char) -> Object;
    fn rocksdb_transactiondb_close(db: Object);
    fn rocksdb_transaction_options_create() -> Object;
    fn rocksdb_transaction_options_destroy(options: Object);
    fn rocksdb_transaction_options_set_set_snapshot(options: Object, yes: c_uchar);
    fn rocksdb_transaction_options_set_deadlock_detect(options: Object, yes: c_uchar);
    fn rocksdb_transaction_begin(db: Object, write: Object, options: Object, old: Object) -> Object;
    fn rocksdb_optimistictransactiondb_open(options: Object, name: *const c_char, error: *mut *mut c_char) -> Object;
    fn rocksdb_optimistictransactiondb_close(db: Object);
    fn rocksdb_optimistictransaction_options_create() -> Object;
    fn rocksdb_optimistictransaction_options_destroy(options: Object);
    fn rocksdb_optimistictransaction_options_set_set_snapshot(options: Object, yes: c_uchar);
    fn rocksdb_optimistictransaction_begin(db: Object, write: Object, options: Object, old: Object) -> Object;
    fn rocksdb_transaction_get_snapshot(tx: Object) -> Object;
    fn rocksdb_transaction_get(
        tx: Object,
        options: Object,
        key: *const c_char,
        key_len: usize,
        value_len: *mut usize,
        error: *mut *mut c_char,
    ) -> *mut c_char;
    fn rocksdb_transaction_get_for_update(
        tx: Object,
        options: Object,
        key: *const c_char,
        key_len: usize,
        value_len: *mut usize,
        exclusive: c_uchar,
        error: *mut *mut c_char,
    ) -> *mut c_char;
    fn rocksdb_transaction_put(
        tx: Object,
        key: *const c_char,
        key_len: usize,
        value: *const c_char,
        value_len: usize,
        error: *mut *mut c_char,
    );
    fn rocksdb_transaction_commit(tx: Object, error: *mut *mut c_char);
    fn rocksdb_transaction_rollback(tx: Object, error: *mut *mut c_char);
    fn rocksdb_transaction_destroy(tx: Object);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// TransactionDB: reads lock.
    Pessimistic,
    /// OptimisticTransactionDB: reads are compared at the commit.
    Optimistic,
}

pub struct RocksDb {
    db: Object,
    manner: Manner,
    write: Object,
    read: Object,
    /// For transactions that write.
    tx: Object,
    /// For those that only read, at a snapshot.
    tx_reads: Object,
}

// SAFETY: the library says that a database may be used by several threads at once; the options are only read.
unsafe impl Send for RocksDb {}
// SAFETY: as above.
unsafe impl Sync for RocksDb {}

impl RocksDb {
    pub fn open(dir: &Path, manner: Manner) -> Outcome<Box<dyn Store>> {
        let path =
            CString::new(dir.join("rocksdb").into_os_string().into_encoded_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: each object is made here, used as its kind, and destroyed once.
        unsafe {
            let options = database_options(MEMORY);
            let (db, [tx, tx_reads]) = match manner {
                Manner::Pessimistic => {
                    let all = rocksdb_transactiondb_options_create();
                    let db = checked(|error| rocksdb_transactiondb_open(options, all, path.as_ptr(), error));
                    rocksdb_transactiondb_options_destroy(all);
                    let tx = [rocksdb_transaction_options_create(), rocksdb_transaction_options_create()];
                    rocksdb_transaction_options_set_deadlock_detect(tx[0], 1);
                    rocksdb_transaction_options_set_set_snapshot(tx[1], 1);
                    (db, tx)
                }
                Manner::Optimistic => {
                    let db = checked(|error| rocksdb_optimistictransactiondb_open(options, path.as_ptr(), error));
                    let tx = [
                        rocksdb_optimistictransaction_options_create(),
                        rocksdb_optimistictransaction_options_create(),
                    ];
                    rocksdb_optimistictransaction_options_set_set_snapshot(tx[1], 1);
                    (db, tx)
                }
            };
            rocksdb_options_destroy(options);
            let write = rocksdb_writeoptions_create();
            rocksdb_writeoptions_set_sync(write, 1);
            Ok(Box::new(RocksDb { db: db?, manner, write, read: rocksdb_readoptions_create(), tx, tx_reads }))
        }
    }
}

impl Drop for RocksDb {
    fn drop(&mut self) {
        // SAFETY: made in `open`, and not used after this.
        unsafe {
            match self.manner {
                Manner::Pessimistic => {
                    rocksdb_transaction_options_destroy(self.tx);
                    rocksdb_transaction_options_destroy(self.tx_reads);
                    rocksdb_transactiondb_close(self.db);
                }
                Manner::Optimistic => {
                    rocksdb_optimistictransaction_options_destroy(self.tx);
                    rocksdb_optimistictransaction_options_destroy(self.tx_reads);
                    rocksdb_optimistictransactiondb_close(self.db);
                }
            }
            rocksdb_writeoptions_destroy(self.write);
            rocksdb_readoptions_destroy(self.read);
        }
    }
}

impl Store for RocksDb {
    fn session(&self) -> Outcome<Box<dyn Session + '_>> {
        Ok(Box::new(Own { store: self, old: ptr::null_mut() }))
    }

    fn settings(&self) -> String {
        let manner = match self.manner {
            Manner::Pessimistic => "TransactionDB, deadlock_detect",
            Manner::Optimistic => "OptimisticTransactionDB",
        };
        format!(
            "{manner}; sync=true; what a writing transaction reads, by GetForUpdate, what a read-only one reads, at a snapshot; LRU block cache {} MiB",
            MEMORY >> 20
        )
    }
}

struct Own<'a> {
    store: &'a RocksDb,
    /// The last transaction, whose memory the next one uses.
    old: Object,
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        if !self.old.is_null() {
            // SAFETY: made by `begin`, and not used after this.
            unsafe { rocksdb_transaction_destroy(self.old) };
        }
    }
}

/// The library tells by words alone.
fn stopped(why: String) -> Stopped {
    let again = ["Resource busy", "Operation timed out", "Operation failed. Try again", "Deadlock", "TryAgain"];
    if again.iter().any(|words| why.contains(words)) { Stopped::Again } else { Stopped::Failed(why) }
}

impl Session for Own<'_> {
    fn attempt(&mut self, access: Access, f: &mut dyn FnMut(&mut dyn Tx) -> Step<()>) -> Step<()> {
        let store = self.store;
        // SAFETY: the objects live as long as the store; the transaction is used by this thread alone, and ended before it is used again.
        unsafe {
            let options = if access == Access::Reads { store.tx_reads } else { store.tx };
            let tx = match store.manner {
                Manner::Pessimistic => rocksdb_transaction_begin(store.db, store.write, options, self.old),
                Manner::Optimistic => rocksdb_optimistictransaction_begin(store.db, store.write, options, self.old),
            };
            self.old = tx;
            let (mut read, mut snapshot) = (store.read, ptr::null_mut());
            if access == Access::Reads {
                snapshot = rocksdb_transaction_get_snapshot(tx);
                read = rocksdb_readoptions_create();
                rocksdb_readoptions_set_snapshot(read, snapshot);
            }
            let done = f(&mut Running { tx, read, access });
            if access == Access::Reads {
                rocksdb_readoptions_destroy(read);
                rocksdb_free(snapshot);
            }
            let done = done.and_then(|()| checked(|error| rocksdb_transaction_commit(tx, error)).map_err(stopped));
            if done.is_err() {
                checked(|error| rocksdb_transaction_rollback(tx, error)).map_err(Stopped::Failed)?;
            }
            done
        }
    }
}

struct Running {
    tx: Object,
    read: Object,
    access: Access,
}

impl Tx for Running {
    fn get(&mut self, key: &[u8]) -> Step<Option<Vec<u8>>> {
        if self.access == Access::Writes {
            return self.locked(key, 0);
        }
        let mut len = 0;
        // SAFETY: the key outlives the call.
        let found = checked(|error| unsafe {
            rocksdb_transaction_get(self.tx, self.read, chars(key), key.len(), &raw mut len, error)
        });
        Ok(taken(found.map_err(stopped)?, len))
    }

    fn get_for_update(&mut self, key: &[u8]) -> Step<Option<Vec<u8>>> {
        self.locked(key, 1)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Step<()> {
        // SAFETY: the bytes outlive the call.
        checked(|error| unsafe {
            rocksdb_transaction_put(self.tx, chars(key), key.len(), chars(value), value.len(), error);
        })
        .map_err(stopped)
    }
}

impl Running {
    fn locked(&mut self, key: &[u8], exclusive: c_uchar) -> Step<Option<Vec<u8>>> {
        let mut len = 0;
        // SAFETY: the key outlives the call.
        let found = checked(|error| unsafe {
            rocksdb_transaction_get_for_update(
                self.tx,
                self.read,
                chars(key),
                key.len(),
                &raw mut len,
                exclusive,
                error,
            )
        });
        Ok(taken(found.map_err(stopped)?, len))
    }
}

/// A value that the library made for us, which is freed.
fn taken(bytes: *mut c_char, len: usize) -> Option<Vec<u8>> {
    if bytes.is_null() {
        return None;
    }
    // SAFETY: so many bytes, made for us; nobody uses them after this.
    unsafe {
        let value = std::slice::from_raw_parts(bytes.cast::<u8>(), len).to_vec();
        rocksdb_free(bytes.cast());
        Some(value)
    }
}
