//! RocksDB, by the C API of Debian's library.
//!
//! Guards: the only file that calls it; what the library gave is given back to it, once.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::path::Path;
use std::ptr;

use super::{Level, Opening, Outcome, Session, Store, touch};
use crate::data::Key;

/// Every object of the library.
pub type Object = *mut c_void;

#[link(name = "rocksdb")]
unsafe extern "C" {
    fn rocksdb_options_create() -> Object;
    fn rocksdb_options_destroy(options: Object);
    fn rocksdb_options_set_create_if_missing(options: Object, yes: c_uchar);
    fn rocksdb_options_increase_parallelism(options: Object, threads: c_int);
    fn rocksdb_options_set_write_buffer_size(options: Object, bytes: usize);
    fn rocksdb_options_set_max_total_wal_size(options: Object, bytes: u64);
    fn rocksdb_options_set_compression(options: Object, kind: c_int);
    fn rocksdb_options_set_bytes_per_sync(options: Object, bytes: u64);
    fn rocksdb_options_set_block_based_table_factory(options: Object, table: Object);
    fn rocksdb_block_based_options_create() -> Object;
    fn rocksdb_block_based_options_destroy(table: Object);
    fn rocksdb_block_based_options_set_block_cache(table: Object, cache: Object);
    fn rocksdb_block_based_options_set_filter_policy(table: Object, filter: Object);
    fn rocksdb_cache_create_lru(bytes: usize) -> Object;
    fn rocksdb_cache_destroy(cache: Object);
    fn rocksdb_filterpolicy_create_bloom_full(bits: f64) -> Object;
    fn rocksdb_open_column_families(
        options: Object,
        path: *const c_char,
        count: c_int,
        names: *const *const c_char,
        each: *const Object,
        handles: *mut Object,
        error: *mut *mut c_char,
    ) -> Object;
    fn rocksdb_column_family_handle_destroy(family: Object);
    fn rocksdb_close(db: Object);
    fn rocksdb_free(pointer: *mut c_void);
    fn rocksdb_writeoptions_create() -> Object;
    fn rocksdb_writeoptions_set_sync(options: Object, yes: c_uchar);
    fn rocksdb_writeoptions_destroy(options: Object);
    fn rocksdb_readoptions_create() -> Object;
    fn rocksdb_readoptions_destroy(options: Object);
    fn rocksdb_put(
        db: Object,
        options: Object,
        key: *const c_char,
        key_len: usize,
        value: *const c_char,
        value_len: usize,
        error: *mut *mut c_char,
    );
    fn rocksdb_get_pinned(
        db: Object,
        options: Object,
        key: *const c_char,
        key_len: usize,
        error: *mut *mut c_char,
    ) -> Object;
    fn rocksdb_pinnableslice_value(slice: Object, len: *mut usize) -> *const c_char;
    fn rocksdb_pinnableslice_destroy(slice: Object);
    fn rocksdb_batched_multi_get_cf(
        db: Object,
        options: Object,
        family: Object,
        count: usize,
        keys: *const *const c_char,
        lens: *const usize,
        values: *mut Object,
        errors: *mut *mut c_char,
        sorted: bool,
    );
    fn rocksdb_writebatch_create() -> Object;
    fn rocksdb_writebatch_destroy(batch: Object);
    fn rocksdb_writebatch_put(
        batch: Object,
        key: *const c_char,
        key_len: usize,
        value: *const c_char,
        value_len: usize,
    );
    fn rocksdb_write(db: Object, options: Object, batch: Object, error: *mut *mut c_char);
    fn rocksdb_create_iterator(db: Object, options: Object) -> Object;
    fn rocksdb_iter_destroy(iterator: Object);
    fn rocksdb_iter_seek(iterator: Object, key: *const c_char, len: usize);
    fn rocksdb_iter_valid(iterator: Object) -> c_uchar;
    fn rocksdb_iter_next(iterator: Object);
    fn rocksdb_iter_key(iterator: Object, len: *mut usize) -> *const c_char;
    fn rocksdb_iter_value(iterator: Object, len: *mut usize) -> *const c_char;
    fn rocksdb_flushoptions_create() -> Object;
    fn rocksdb_flushoptions_destroy(options: Object);
    fn rocksdb_flush(db: Object, options: Object, error: *mut *mut c_char);
    fn rocksdb_compact_range(
        db: Object,
        start: *const c_char,
        start_len: usize,
        limit: *const c_char,
        limit_len: usize,
    );
}

pub struct RocksDb {
    db: Object,
    family: Object,
    read: Object,
    durable: Object,
    no_wait: Object,
    memory: u64,
    resident: bool,
}

// SAFETY: the library says that a database may be used by several threads at once; the options are only read.
unsafe impl Send for RocksDb {}
// SAFETY: as above.
unsafe impl Sync for RocksDb {}

/// Call with a place for the library's error.
pub fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Outcome<T> {
    let mut error: *mut c_char = ptr::null_mut();
    let result = call(&raw mut error);
    taken(error).map_or(Ok(result), Err)
}

/// The text of an error, which is freed.
fn taken(error: *mut c_char) -> Option<String> {
    if error.is_null() {
        return None;
    }
    // SAFETY: a C string that the library made for us.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: nobody uses it after this.
    unsafe { rocksdb_free(error.cast()) };
    Some(text)
}

pub fn chars(bytes: &[u8]) -> *const c_char {
    bytes.as_ptr().cast()
}

/// What its guide ("Setup Options and Basic Tuning") begins with, and a cache of so many bytes.
pub fn options(memory: usize) -> Object {
    // SAFETY: each object is made here, used as its kind, and destroyed once; the options share the table's and its cache, and
    // the table's take over the filter.
    unsafe {
        let options = rocksdb_options_create();
        rocksdb_options_set_create_if_missing(options, 1);
        rocksdb_options_increase_parallelism(options, 2);
        rocksdb_options_set_bytes_per_sync(options, 1 << 20);
        rocksdb_options_set_compression(options, 0);
        let table = rocksdb_block_based_options_create();
        let cache = rocksdb_cache_create_lru(memory);
        rocksdb_block_based_options_set_block_cache(table, cache);
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10.0));
        rocksdb_options_set_block_based_table_factory(options, table);
        rocksdb_block_based_options_destroy(table);
        rocksdb_cache_destroy(cache);
        options
    }
}

impl RocksDb {
    pub fn open(dir: &Path, opening: Opening) -> Outcome<Box<dyn Store>> {
        let path =
            CString::new(dir.join("rocksdb").into_os_string().into_encoded_bytes()).map_err(|e| e.to_string())?;
        let memory = usize::try_from(opening.memory).map_err(|e| e.to_string())?;
        // SAFETY: each object is made here, used as its kind, and destroyed once.
        unsafe {
            let options = options(memory);
            if opening.resident {
                rocksdb_options_set_write_buffer_size(options, memory);
                rocksdb_options_set_max_total_wal_size(options, 4 * opening.memory);
            }
            let mut family = ptr::null_mut();
            let names = [c"default".as_ptr()];
            let db = checked(|error| {
                rocksdb_open_column_families(
                    options,
                    path.as_ptr(),
                    1,
                    names.as_ptr(),
                    &raw const options,
                    &raw mut family,
                    error,
                )
            });
            rocksdb_options_destroy(options);
            let durable = rocksdb_writeoptions_create();
            rocksdb_writeoptions_set_sync(durable, 1);
            Ok(Box::new(RocksDb {
                db: db?,
                family,
                read: rocksdb_readoptions_create(),
                durable,
                no_wait: rocksdb_writeoptions_create(),
                memory: opening.memory,
                resident: opening.resident,
            }))
        }
    }

    fn write_options(&self, level: Level) -> Object {
        match level {
            Level::Durable => self.durable,
            Level::NoWait => self.no_wait,
        }
    }
}

impl Drop for RocksDb {
    fn drop(&mut self) {
        // SAFETY: made in `open`, and not used after this.
        unsafe {
            rocksdb_column_family_handle_destroy(self.family);
            rocksdb_close(self.db);
            rocksdb_readoptions_destroy(self.read);
            rocksdb_writeoptions_destroy(self.durable);
            rocksdb_writeoptions_destroy(self.no_wait);
        }
    }
}

impl Store for RocksDb {
    fn session(&self) -> Outcome<Box<dyn Session + '_>> {
        Ok(Box::new(Own { store: self }))
    }

    fn settings(&self) -> String {
        format!(
            "durable: sync=true; not waiting: sync=false (WAL to the kernel); LRU block cache {} MiB; bloom filter 10 bits; IncreaseParallelism(2); bytes_per_sync=1 MiB; no compression{}",
            self.memory >> 20,
            if self.resident { "; write_buffer_size as the cache" } else { "" }
        )
    }

    fn load(&self, count: u64, value: &[u8]) -> Outcome<()> {
        super::load_by_batches(self.session()?.as_mut(), count, value)?;
        // SAFETY: the objects live; null bounds mean everything.
        unsafe {
            let options = rocksdb_flushoptions_create();
            let flushed = checked(|error| rocksdb_flush(self.db, options, error));
            rocksdb_flushoptions_destroy(options);
            flushed?;
            rocksdb_compact_range(self.db, ptr::null(), 0, ptr::null(), 0);
        }
        Ok(())
    }
}

struct Own<'a> {
    store: &'a RocksDb,
}

/// A pinned value, touched and let go.
fn touched(slice: Object) -> Option<u64> {
    if slice.is_null() {
        return None;
    }
    let mut len = 0;
    // SAFETY: the slice was made for us; its bytes live until it is destroyed.
    unsafe {
        let bytes = rocksdb_pinnableslice_value(slice, &raw mut len);
        let sum = touch(std::slice::from_raw_parts(bytes.cast(), len));
        rocksdb_pinnableslice_destroy(slice);
        Some(sum)
    }
}

impl Session for Own<'_> {
    fn put(&mut self, key: &[u8], value: &[u8], level: Level) -> Outcome<()> {
        let (db, options) = (self.store.db, self.store.write_options(level));
        // SAFETY: the bytes outlive the call.
        checked(|error| unsafe { rocksdb_put(db, options, chars(key), key.len(), chars(value), value.len(), error) })
    }

    fn batch(&mut self, keys: &[Key], value: &[u8], level: Level) -> Outcome<()> {
        // SAFETY: the batch is made here and destroyed once; the bytes outlive the calls.
        unsafe {
            let batch = rocksdb_writebatch_create();
            for key in keys {
                rocksdb_writebatch_put(batch, chars(key), key.len(), chars(value), value.len());
            }
            let written = checked(|error| rocksdb_write(self.store.db, self.store.write_options(level), batch, error));
            rocksdb_writebatch_destroy(batch);
            written
        }
    }

    fn get(&mut self, key: &[u8]) -> Outcome<Option<u64>> {
        let store = self.store;
        // SAFETY: the bytes outlive the call.
        let slice = checked(|error| unsafe { rocksdb_get_pinned(store.db, store.read, chars(key), key.len(), error) })?;
        Ok(touched(slice))
    }

    fn multi_get(&mut self, keys: &[Key]) -> Outcome<usize> {
        let pointers: Vec<*const c_char> = keys.iter().map(|key| chars(key)).collect();
        let lens = vec![size_of::<Key>(); keys.len()];
        let mut values = vec![ptr::null_mut(); keys.len()];
        let mut errors: Vec<*mut c_char> = vec![ptr::null_mut(); keys.len()];
        let store = self.store;
        // SAFETY: all arrays are as long as said and outlive the call.
        unsafe {
            rocksdb_batched_multi_get_cf(
                store.db,
                store.read,
                store.family,
                keys.len(),
                pointers.as_ptr(),
                lens.as_ptr(),
                values.as_mut_ptr(),
                errors.as_mut_ptr(),
                false,
            );
        }
        let found = values.into_iter().filter_map(touched).count();
        errors.into_iter().filter_map(taken).next().map_or(Ok(found), Err)
    }

    fn scan(&mut self, from: &[u8], rows: u64) -> Outcome<u64> {
        let mut seen = 0;
        // SAFETY: the iterator is made here and destroyed once; its bytes are used before it moves on.
        unsafe {
            let iterator = rocksdb_create_iterator(self.store.db, self.store.read);
            rocksdb_iter_seek(iterator, chars(from), from.len());
            while seen < rows && rocksdb_iter_valid(iterator) != 0 {
                let (mut key_len, mut value_len) = (0, 0);
                let key = rocksdb_iter_key(iterator, &raw mut key_len);
                let value = rocksdb_iter_value(iterator, &raw mut value_len);
                let key = touch(std::slice::from_raw_parts(key.cast(), key_len));
                std::hint::black_box(key + touch(std::slice::from_raw_parts(value.cast(), value_len)));
                seen += 1;
                rocksdb_iter_next(iterator);
            }
            rocksdb_iter_destroy(iterator);
        }
        Ok(seen)
    }
}
