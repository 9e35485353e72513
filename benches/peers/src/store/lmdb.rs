//! LMDB, by Debian's library.
//!
//! Guards: the only file that calls it; a transaction that was begun is ended.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr;

use super::{Level, Opening, Outcome, Session, Store, touch};
use crate::data::Key;

type Object = *mut c_void;

#[repr(C)]
struct Val {
    len: usize,
    data: *mut c_void,
}

#[link(name = "lmdb")]
unsafe extern "C" {
    fn mdb_strerror(error: c_int) -> *const c_char;
    fn mdb_env_create(env: *mut Object) -> c_int;
    fn mdb_env_open(env: Object, path: *const c_char, flags: c_uint, mode: c_uint) -> c_int;
    fn mdb_env_close(env: Object);
    fn mdb_env_set_mapsize(env: Object, bytes: usize) -> c_int;
    fn mdb_env_sync(env: Object, force: c_int) -> c_int;
    fn mdb_txn_begin(env: Object, parent: Object, flags: c_uint, txn: *mut Object) -> c_int;
    fn mdb_txn_commit(txn: Object) -> c_int;
    fn mdb_txn_abort(txn: Object);
    fn mdb_txn_reset(txn: Object);
    fn mdb_txn_renew(txn: Object) -> c_int;
    fn mdb_dbi_open(txn: Object, name: *const c_char, flags: c_uint, dbi: *mut c_uint) -> c_int;
    fn mdb_get(txn: Object, dbi: c_uint, key: *mut Val, data: *mut Val) -> c_int;
    fn mdb_put(txn: Object, dbi: c_uint, key: *mut Val, data: *mut Val, flags: c_uint) -> c_int;
    fn mdb_cursor_open(txn: Object, dbi: c_uint, cursor: *mut Object) -> c_int;
    fn mdb_cursor_close(cursor: Object);
    fn mdb_cursor_get(cursor: Object, key: *mut Val, data: *mut Val, op: c_uint) -> c_int;
}

const NO_SYNC: c_uint = 0x10000;
const READ_ONLY: c_uint = 0x20000;
const WRITE_MAP: c_uint = 0x80000;
/// Read transactions belong to their handle, not to the thread.
const NO_TLS: c_uint = 0x20_0000;
const NO_READ_AHEAD: c_uint = 0x80_0000;
const NOT_FOUND: c_int = -30798;
const FIRST: c_uint = 0;
const NEXT: c_uint = 8;
const SET_RANGE: c_uint = 17;
/// Address space, not memory.
const MAP_BYTES: usize = 64 << 30;

fn checked(result: c_int) -> Outcome<()> {
    if result == 0 {
        return Ok(());
    }
    // SAFETY: gives a static C string for every number.
    Err(unsafe { CStr::from_ptr(mdb_strerror(result)) }.to_string_lossy().into_owned())
}

fn val(bytes: &[u8]) -> Val {
    Val { len: bytes.len(), data: bytes.as_ptr().cast_mut().cast() }
}

impl Val {
    const NONE: Val = Val { len: 0, data: ptr::null_mut() };

    /// SAFETY: the library filled it in a transaction that has not ended.
    unsafe fn touched(&self) -> u64 {
        // SAFETY: as the caller promises.
        touch(unsafe { std::slice::from_raw_parts(self.data.cast(), self.len) })
    }
}

pub struct Lmdb {
    env: Object,
    dbi: c_uint,
    level: Level,
}

// SAFETY: an environment may be used by several threads; transactions are each one thread's own.
unsafe impl Send for Lmdb {}
// SAFETY: as above.
unsafe impl Sync for Lmdb {}

impl Lmdb {
    pub fn open(dir: &Path, opening: Opening) -> Outcome<Box<dyn Store>> {
        let dir = dir.join("lmdb");
        std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        let path = CString::new(dir.into_os_string().into_encoded_bytes()).map_err(|e| e.to_string())?;
        let flags = NO_TLS
            | NO_READ_AHEAD
            | match opening.level {
                Level::Durable => 0,
                Level::NoWait => NO_SYNC | WRITE_MAP,
            };
        let mut store = Lmdb { env: ptr::null_mut(), dbi: 0, level: opening.level };
        // SAFETY: the environment is made here and closed once; the transaction is ended.
        unsafe {
            checked(mdb_env_create(&raw mut store.env))?;
            checked(mdb_env_set_mapsize(store.env, MAP_BYTES))?;
            checked(mdb_env_open(store.env, path.as_ptr(), flags, 0o644))?;
            let mut txn = ptr::null_mut();
            checked(mdb_txn_begin(store.env, ptr::null_mut(), 0, &raw mut txn))?;
            checked(mdb_dbi_open(txn, ptr::null(), 0, &raw mut store.dbi))?;
            checked(mdb_txn_commit(txn))?;
        }
        Ok(Box::new(store))
    }
}

impl Drop for Lmdb {
    fn drop(&mut self) {
        if !self.env.is_null() {
            // SAFETY: no transaction is left: sessions borrow the store.
            unsafe {
                mdb_env_sync(self.env, 1);
                mdb_env_close(self.env);
            }
        }
    }
}

impl Store for Lmdb {
    fn session(&self) -> Outcome<Box<dyn Session + '_>> {
        Ok(Box::new(Own { store: self, reader: ptr::null_mut() }))
    }

    fn settings(&self) -> String {
        let durability = match self.level {
            Level::Durable => "its default, a sync at each commit",
            Level::NoWait => "MDB_NOSYNC|MDB_WRITEMAP (a crash of the machine may damage the file)",
        };
        format!(
            "{durability}; MDB_NOTLS|MDB_NORDAHEAD; read transactions are kept and renewed; one write transaction for each put"
        )
    }
}

struct Own<'a> {
    store: &'a Lmdb,
    /// A read transaction that was reset, or null.
    reader: Object,
}

impl Own<'_> {
    fn write<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>, value: &[u8]) -> Outcome<()> {
        let mut txn = ptr::null_mut();
        // SAFETY: the transaction is begun and ended here; the bytes outlive the calls.
        unsafe {
            checked(mdb_txn_begin(self.store.env, ptr::null_mut(), 0, &raw mut txn))?;
            for key in keys {
                let (mut key, mut data) = (val(key), val(value));
                if let Err(fault) = checked(mdb_put(txn, self.store.dbi, &raw mut key, &raw mut data, 0)) {
                    mdb_txn_abort(txn);
                    return Err(fault);
                }
            }
            checked(mdb_txn_commit(txn))
        }
    }

    fn read<T>(&mut self, read: impl FnOnce(Object, c_uint) -> Outcome<T>) -> Outcome<T> {
        // SAFETY: the transaction is this session's own; what it lends is used before it is reset.
        unsafe {
            if self.reader.is_null() {
                checked(mdb_txn_begin(self.store.env, ptr::null_mut(), READ_ONLY, &raw mut self.reader))?;
            } else {
                checked(mdb_txn_renew(self.reader))?;
            }
            let result = read(self.reader, self.store.dbi);
            mdb_txn_reset(self.reader);
            result
        }
    }
}

fn get(txn: Object, dbi: c_uint, key: &[u8]) -> Outcome<Option<u64>> {
    let (mut key, mut data) = (val(key), Val::NONE);
    // SAFETY: the transaction goes on until the caller ends it.
    unsafe {
        match mdb_get(txn, dbi, &raw mut key, &raw mut data) {
            NOT_FOUND => Ok(None),
            other => checked(other).map(|()| Some(data.touched())),
        }
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        if !self.reader.is_null() {
            // SAFETY: this session's own, and not used after this.
            unsafe { mdb_txn_abort(self.reader) };
        }
    }
}

impl Session for Own<'_> {
    fn put(&mut self, key: &[u8], value: &[u8], _level: Level) -> Outcome<()> {
        self.write(std::iter::once(key), value)
    }

    fn batch(&mut self, keys: &[Key], value: &[u8], _level: Level) -> Outcome<()> {
        self.write(keys.iter().map(|key| key.as_slice()), value)
    }

    fn get(&mut self, key: &[u8]) -> Outcome<Option<u64>> {
        self.read(|txn, dbi| get(txn, dbi, key))
    }

    fn multi_get(&mut self, keys: &[Key]) -> Outcome<usize> {
        self.read(|txn, dbi| {
            let mut found = 0;
            for key in keys {
                found += usize::from(get(txn, dbi, key)?.is_some());
            }
            Ok(found)
        })
    }

    fn scan(&mut self, from: &[u8], rows: u64) -> Outcome<u64> {
        self.read(|txn, dbi| {
            let mut cursor = ptr::null_mut();
            let (mut key, mut data) = (val(from), Val::NONE);
            let mut seen = 0;
            // SAFETY: the cursor is made here and closed once, before its transaction is reset.
            unsafe {
                checked(mdb_cursor_open(txn, dbi, &raw mut cursor))?;
                // It takes no empty key.
                let mut op = if from.is_empty() { FIRST } else { SET_RANGE };
                while seen < rows && mdb_cursor_get(cursor, &raw mut key, &raw mut data, op) == 0 {
                    std::hint::black_box(key.touched() + data.touched());
                    seen += 1;
                    op = NEXT;
                }
                mdb_cursor_close(cursor);
            }
            Ok(seen)
        })
    }
}
