//! Ranges of keys, in order, in one consistent state.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::c_void;
use std::ops::Bound;
use std::sync::{Arc, Mutex, Weak};

use crate::batch::lock;
use crate::db::{Db, corering_db};
use crate::engine::{Entry, Scan, ScanRange, ValueRef};
use crate::failure::{Failure, HandleFault};
use crate::guard::guarded;
use crate::object::{self, HandleKind, Object, using};
use crate::options::{self, corering_scan_flags::*};
use crate::range::Limits;
use crate::raw::{Caller, c_struct};
use crate::snapshot::corering_snapshot;
use crate::status::corering_status::{self, *};
use crate::transaction::Txn;

/// `corering_iterator_fill` stops once it has copied so much.
const FILL_BYTES: usize = 1 << 20;

/// Entries that a transaction's iterator reads at once: few at first, for those who look at few.
const PAGE_FIRST: usize = 16;
const PAGE_MAX: usize = 256;

/// Walks over keys in order. For one thread at a time.
#[allow(non_camel_case_types)]
pub struct corering_iterator(());

/// What a scan runs over. A bound that is null is none.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_scan_options {
    /// The bytes of this struct that the program knows: sizeof(corering_scan_options).
    pub struct_size: usize,
    /// The name space of the keys: 0 to 65279.
    pub keyspace: u32,
    /// Any of `corering_scan_flags`.
    pub flags: u32,
    /// The least key; without CORERING_SCAN_LOWER_EXCLUSIVE, it belongs to the range.
    pub lower: *const c_void,
    pub lower_len: usize,
    /// The greatest key; with CORERING_SCAN_UPPER_INCLUSIVE, it belongs to the range.
    pub upper: *const c_void,
    pub upper_len: usize,
    /// Only keys that begin so, beside the bounds.
    pub prefix: *const c_void,
    pub prefix_len: usize,
    /// At most so many entries; 0: all.
    pub limit: u64,
    /// Read as of this snapshot; null: one of its own, made now.
    pub snapshot: *mut corering_snapshot,
}

/// A key and its value, in memory of the iterator that gave it.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_entry {
    pub key: *const u8,
    pub key_len: usize,
    pub value: *const u8,
    pub value_len: usize,
    /// The commit that wrote it.
    pub version: u64,
    /// Milliseconds since 1970 at which it ceases to exist; 0: never.
    pub expires_at_ms: u64,
}

c_struct!(growing corering_scan_options, first_len 80);
c_struct!(plain corering_entry);

impl corering_scan_options {
    const NEW: corering_scan_options = corering_scan_options {
        struct_size: size_of::<corering_scan_options>(),
        keyspace: 0,
        flags: 0,
        lower: std::ptr::null(),
        lower_len: 0,
        upper: std::ptr::null(),
        upper_len: 0,
        prefix: std::ptr::null(),
        prefix_len: 0,
        limit: 0,
        snapshot: std::ptr::null_mut(),
    };

    fn range(&self, caller: &Caller) -> Result<ScanRange, Failure> {
        let known =
            CORERING_SCAN_REVERSE as u32 | CORERING_SCAN_LOWER_EXCLUSIVE as u32 | CORERING_SCAN_UPPER_INCLUSIVE as u32;
        options::check_flags("flags", self.flags, known)?;
        let has = |flag: options::corering_scan_flags| self.flags & flag as u32 != 0;
        let limits = Limits {
            lower: key_if_given(caller, self.lower, self.lower_len)?,
            lower_exclusive: has(CORERING_SCAN_LOWER_EXCLUSIVE),
            upper: key_if_given(caller, self.upper, self.upper_len)?,
            upper_inclusive: has(CORERING_SCAN_UPPER_INCLUSIVE),
            prefix: key_if_given(caller, self.prefix, self.prefix_len)?,
        };
        let (lower, upper) = limits.bounds();
        Ok(ScanRange { keyspace: options::keyspace(self.keyspace)?, lower, upper, reverse: has(CORERING_SCAN_REVERSE) })
    }
}

fn key_if_given(caller: &Caller, data: *const c_void, len: usize) -> Result<Option<&[u8]>, Failure> {
    let key = caller.key(data, len)?;
    Ok((!data.is_null()).then_some(key))
}

/// Where an iterator's entries come from.
enum Source {
    Stored(Box<Scan>),
    Transaction(Pages),
}

/// A transaction's entries, page by page.
struct Pages {
    of: Weak<Txn>,
    /// What is behind the page; none at the end.
    rest: Option<ScanRange>,
    page: Vec<Entry>,
    at: usize,
    ask: usize,
}

impl Pages {
    fn next_ref(&mut self, most: u64) -> Result<Option<(&[u8], ValueRef<'_>)>, Failure> {
        if self.at == self.page.len() && !self.fill(most)? {
            return Ok(None);
        }
        let Entry { key, value } = &self.page[self.at];
        self.at += 1;
        let value = ValueRef { bytes: &value.bytes, version: value.version, expiry: value.expiry, kind: value.kind };
        Ok(Some((key, value)))
    }

    fn fill(&mut self, most: u64) -> Result<bool, Failure> {
        let txn = self.of.upgrade().ok_or(Failure::Handle(HandleFault::Closed { kind: HandleKind::Tx }))?;
        let Some(range) = self.rest.clone() else { return Ok(false) };
        let ask = self.ask.min(usize::try_from(most).unwrap_or(usize::MAX));
        self.page = txn.lock()?.scan(range, ask)?;
        self.at = 0;
        self.ask = PAGE_MAX.min(2 * self.ask);
        match (self.page.last(), &mut self.rest) {
            (Some(last), Some(rest)) if self.page.len() == ask => {
                let behind = Bound::Excluded(last.key.clone());
                if rest.reverse { rest.upper = behind } else { rest.lower = behind }
            }
            _ => self.rest = None,
        }
        Ok(!self.page.is_empty())
    }
}

impl Source {
    /// `most`: how many are still wanted.
    fn next_ref(&mut self, most: u64) -> Result<Option<(&[u8], ValueRef<'_>)>, Failure> {
        match self {
            Source::Stored(scan) => Ok(scan.next_ref()?),
            Source::Transaction(pages) => pages.next_ref(most),
        }
    }
}

pub(crate) struct Iter {
    db: Arc<Db>,
    scan: Source,
    left: u64,
    /// Bytes of the entries that `fill` shows, one behind the other.
    arena: Vec<u8>,
    /// Met after entries that the program got first.
    failed: Option<Failure>,
}

impl Iter {
    fn open(db: &Arc<Db>, caller: &Caller, options: &corering_scan_options) -> Result<Iter, Failure> {
        let range = options.range(caller)?;
        let scan = match options::snapshot_of(options.snapshot, db)? {
            Some(snapshot) => db.client.scan(&snapshot.view, range)?,
            None => db.client.scan(&db.client.view()?, range)?,
        };
        Ok(Iter::new(db, Source::Stored(Box::new(scan)), options.limit))
    }

    pub(crate) fn over_transaction(
        txn: &Arc<Txn>,
        caller: &Caller,
        options: *const corering_scan_options,
    ) -> Result<Iter, Failure> {
        let options = caller.options(options, corering_scan_options::NEW)?;
        if !options.snapshot.is_null() {
            return Err(Failure::argument("a transaction reads its own state; it takes no snapshot"));
        }
        let rest = Some(options.range(caller)?);
        txn.lock()?.check_open()?;
        let pages = Pages { of: Arc::downgrade(txn), rest, page: Vec::new(), at: 0, ask: PAGE_FIRST };
        Ok(Iter::new(&txn.db, Source::Transaction(pages), options.limit))
    }

    fn new(db: &Arc<Db>, scan: Source, limit: u64) -> Iter {
        let left = if limit == 0 { u64::MAX } else { limit };
        Iter { db: Arc::clone(db), scan, left, arena: Vec::new(), failed: None }
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.db.check_open()?;
        self.failed.take().map_or(Ok(()), Err)
    }

    /// The next entry where it lies: the scan keeps it until it is called again.
    fn next(&mut self) -> Result<Option<corering_entry>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some((key, value)) = self.scan.next_ref(self.left)? else {
            self.left = 0;
            return Ok(None);
        };
        self.left -= 1;
        Ok(Some(corering_entry {
            key: key.as_ptr(),
            key_len: key.len(),
            value: value.bytes.as_ptr(),
            value_len: value.bytes.len(),
            version: value.version.0,
            expires_at_ms: value.expiry.0,
        }))
    }

    /// The next entries, at most `count`, copied one behind the other: the scan keeps only its last. Their pointers are
    /// set last, since the arena moves as it grows.
    fn next_many(&mut self, count: usize) -> Result<Vec<corering_entry>, Failure> {
        self.arena.clear();
        let mut shown: Vec<corering_entry> = Vec::new();
        while shown.len() < count && self.left > 0 && self.arena.len() < FILL_BYTES {
            match self.scan.next_ref(self.left) {
                Ok(Some((key, value))) => {
                    self.left -= 1;
                    self.arena.extend_from_slice(key);
                    self.arena.extend_from_slice(value.bytes);
                    shown.push(corering_entry {
                        key: std::ptr::null(),
                        key_len: key.len(),
                        value: std::ptr::null(),
                        value_len: value.bytes.len(),
                        version: value.version.0,
                        expires_at_ms: value.expiry.0,
                    });
                }
                Ok(None) => self.left = 0,
                Err(failure) if shown.is_empty() => return Err(failure),
                Err(failure) => {
                    self.failed = Some(failure);
                    break;
                }
            }
        }
        let mut rest = self.arena.as_slice();
        for entry in &mut shown {
            let (key, behind) = rest.split_at(entry.key_len);
            let (value, behind) = behind.split_at(entry.value_len);
            (entry.key, entry.value, rest) = (key.as_ptr(), value.as_ptr(), behind);
        }
        Ok(shown)
    }
}

/// Fills `options` with the defaults: all keys of keyspace 0, forward, as of now.
///
/// Owns: the caller keeps the struct.
/// Writes: `struct_size` bytes at `options`.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
/// Safety: `options` has room for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_scan_options_init(
    options: *mut corering_scan_options,
    struct_size: usize,
) -> corering_status {
    guarded!(|c| {
        c.init_options(options, struct_size, &corering_scan_options::NEW)?;
        Ok(CORERING_OK)
    })
}

/// Begins to walk over a range of keys, in order over all shards, in one consistent state. `options` may be null for
/// all keys of keyspace 0. The iterator stands before the first entry.
///
/// Owns: the caller owns the iterator; `corering_iterator_free` ends it. The bounds are copied. A snapshot in the
///   options may be freed before the iterator.
/// Writes: the handle to `iterator`, null on failure.
/// Threads: any; makes a snapshot if none is given.
/// Status: OK, also if the range is empty; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; KEY_TOO_LARGE;
///   TOO_MANY_HANDLES; POISONED; CORRUPT; IO.
/// Safety: `options` is null or begins with its size, its bounds have as many bytes as they say; `iterator` is
///   writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_scan(
    db: *mut corering_db,
    options: *const corering_scan_options,
    iterator: *mut *mut corering_iterator,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(iterator).required("iterator")?;
        let db = using::<Arc<Db>, _>(db)?;
        let iter = Iter::open(&db, c, &c.options(options, corering_scan_options::NEW)?)?;
        out.set(object::publish(Object::Iterator(Box::new(Mutex::new(iter))))?);
        Ok(CORERING_OK)
    })
}

/// The next entry.
///
/// Owns: the iterator owns the bytes; they are valid until the next call with this iterator.
/// Writes: `entry`, zeroes at the end or on failure.
/// Threads: one at a time for an iterator.
/// Status: OK; END; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED, also if the database was closed; FORKED; CORRUPT; IO.
/// Safety: `entry` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_iterator_next(
    iterator: *mut corering_iterator,
    entry: *mut corering_entry,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(entry).required("entry")?;
        let iter = using::<Mutex<Iter>, _>(iterator)?;
        let mut iter = lock(&iter)?;
        iter.check()?;
        let Some(entry) = iter.next()? else { return Ok(CORERING_END) };
        out.set(entry);
        Ok(CORERING_OK)
    })
}

/// The next entries, at most `capacity`, and at most about 1 MiB of them: one call for many rows.
///
/// Owns: the iterator owns the bytes; they are valid until the next call with this iterator.
/// Writes: `entries`, zeroes behind the last; how many there are to `count`.
/// Threads: one at a time for an iterator.
/// Status: OK with at least one entry; END with none; INVALID_ARGUMENT, also for a capacity of 0; INVALID_HANDLE;
///   CLOSED; FORKED; CORRUPT; IO. An error that is met behind some entries is the next call's.
/// Safety: `entries` has room for `capacity`; `count` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_iterator_fill(
    iterator: *mut corering_iterator,
    entries: *mut corering_entry,
    capacity: usize,
    count: *mut usize,
) -> corering_status {
    guarded!(|c| {
        let count = c.out(count);
        let outs = c.outs("entries", entries, capacity)?;
        let count = count.required("count")?;
        if capacity == 0 {
            return Err(Failure::argument("capacity is 0"));
        }
        let iter = using::<Mutex<Iter>, _>(iterator)?;
        let mut iter = lock(&iter)?;
        iter.check()?;
        let shown = iter.next_many(outs.len())?;
        shown.iter().enumerate().for_each(|(index, entry)| outs.set(index, *entry));
        count.set(shown.len());
        Ok(if shown.is_empty() { CORERING_END } else { CORERING_OK })
    })
}

/// Ends an iterator.
///
/// Owns: the handle and the bytes of its entries end here.
/// Writes: nothing.
/// Threads: any.
/// Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
/// Safety: any pointer will do; it is not dereferenced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_iterator_free(iterator: *mut corering_iterator) -> corering_status {
    guarded!(|_c| {
        if let Some(retired) = object::retire(iterator, HandleKind::Iterator)? {
            drop(retired.finish());
        }
        Ok(CORERING_OK)
    })
}
