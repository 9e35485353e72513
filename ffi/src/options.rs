//! The structs that carry a call's settings. Each begins with its size, so that later versions can add fields at the
//! end; zero always means what the program would get without the struct.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::time::Duration;

use crate::db::Db;
use crate::engine::{Durability, Expiry, Keyspace, Options, WriteOptions};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::lock::{self, corering_guard};
use crate::object;
use crate::raw::{Caller, c_struct};
use crate::session::{self, corering_session};
use crate::snapshot::{Snap, corering_snapshot};
use crate::status::corering_status::{self, *};
use crate::write::Write;

/// When a write is answered. At every level, a process that is killed loses nothing that was answered; only a crash of
/// the machine may, at the levels `interval` and `none`.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_durability {
    /// In a call's options: the level that the database was opened with. In `corering_options`: sync.
    CORERING_DURABILITY_DEFAULT = 0,
    /// Once it is durable on disk.
    CORERING_DURABILITY_SYNC = 1,
    /// At once; durable within `interval_ms`.
    CORERING_DURABILITY_INTERVAL = 2,
    /// At once; durable when something else makes it so.
    CORERING_DURABILITY_NONE = 3,
}
use corering_durability::*;

/// Flags of `corering_options`.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_open_flags {
    /// Refuse a directory that holds no database yet.
    CORERING_OPEN_MUST_EXIST = 1,
    /// Refuse a directory that already holds a database.
    CORERING_OPEN_MUST_NOT_EXIST = 2,
    /// Pin the shards' threads to processors, which no other program uses.
    CORERING_OPEN_PIN_THREADS = 4,
}
use corering_open_flags::*;

/// Flags of `corering_scan_options`.
#[allow(non_camel_case_types, dead_code)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum corering_scan_flags {
    /// From the last key to the first.
    CORERING_SCAN_REVERSE = 1,
    /// Leave out the key that equals `lower`.
    CORERING_SCAN_LOWER_EXCLUSIVE = 2,
    /// Take in the key that equals `upper`.
    CORERING_SCAN_UPPER_INCLUSIVE = 4,
}

/// How a database is opened.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_options {
    /// The bytes of this struct that the program knows: sizeof(corering_options).
    pub struct_size: usize,
    /// Shards, each with its own core and log; 0: what an existing database has, or one for each processor.
    pub shards: u32,
    /// The level of writes that do not name one: a `corering_durability`.
    pub durability: u32,
    /// For CORERING_DURABILITY_INTERVAL: 1 to 3600000.
    pub interval_ms: u32,
    /// Any of `corering_open_flags`.
    pub flags: u32,
    /// Memory for each shard before its memtable is written as a table; 0: the engine's default.
    pub memtable_bytes: u64,
    /// Length of a full-grown log segment; 0: the engine's default.
    pub segment_bytes: u64,
    /// Requests that may wait for one shard; 0: the engine's default.
    pub inbox_len: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes of each shard's log that are kept beyond what recovery needs, for watches from further back.
    pub history_bytes: u64,
}

/// How a write is done.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_write_options {
    /// The bytes of this struct that the program knows: sizeof(corering_write_options).
    pub struct_size: usize,
    /// The name space of the key: 0 to 65279.
    pub keyspace: u32,
    /// A `corering_durability`.
    pub durability: u32,
    /// For CORERING_DURABILITY_INTERVAL: 1 to 3600000.
    pub interval_ms: u32,
    /// Zero.
    pub reserved: u32,
    /// Milliseconds since 1970 at which the value ceases to exist; 0: never.
    pub expires_at_ms: u64,
    /// Milliseconds from now at which the value ceases to exist; 0: never. Not together with `expires_at_ms`.
    pub ttl_ms: u64,
    /// The write takes effect only if all of these hold at that moment, else it fails as FENCED and changes nothing.
    pub guards: *const corering_guard,
    /// At most 256.
    pub guards_len: usize,
    /// Keys that are put are ephemeral: they go when this session ends. Null: they stay.
    pub session: *const corering_session,
}

/// How a read is done.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_read_options {
    /// The bytes of this struct that the program knows: sizeof(corering_read_options).
    pub struct_size: usize,
    /// The name space of the key: 0 to 65279.
    pub keyspace: u32,
    /// Zero.
    pub reserved: u32,
    /// Read as of this snapshot; null: the latest state.
    pub snapshot: *mut corering_snapshot,
}

c_struct!(growing corering_options, first_len 48);
c_struct!(growing corering_write_options, first_len 40);
c_struct!(growing corering_read_options, first_len 24);

impl corering_options {
    pub(crate) fn new() -> corering_options {
        let engine = Options::default();
        corering_options {
            struct_size: size_of::<corering_options>(),
            shards: 0,
            durability: CORERING_DURABILITY_SYNC as u32,
            interval_ms: 0,
            flags: 0,
            memtable_bytes: engine.memtable_bytes,
            segment_bytes: engine.segment_bytes,
            inbox_len: engine.inbox_len,
            reserved: 0,
            history_bytes: 0,
        }
    }

    pub(crate) fn to_engine(self) -> Result<Options, Failure> {
        let known =
            CORERING_OPEN_MUST_EXIST as u32 | CORERING_OPEN_MUST_NOT_EXIST as u32 | CORERING_OPEN_PIN_THREADS as u32;
        check_flags("flags", self.flags, known)?;
        zero("reserved", self.reserved)?;
        let default = Options::default();
        let has = |flag: corering_open_flags| self.flags & flag as u32 != 0;
        Ok(Options {
            shards: match self.shards {
                0 => None,
                n => Some(u16::try_from(n).map_err(|_| Failure::argument(format!("shards is {n}; at most 1024")))?),
            },
            durability: durability(self.durability, self.interval_ms)?.unwrap_or(Durability::Sync),
            create_if_missing: !has(CORERING_OPEN_MUST_EXIST),
            error_if_exists: has(CORERING_OPEN_MUST_NOT_EXIST),
            memtable_bytes: or_default(self.memtable_bytes, default.memtable_bytes),
            segment_bytes: or_default(self.segment_bytes, default.segment_bytes),
            history_bytes: self.history_bytes,
            inbox_len: or_default(self.inbox_len.into(), default.inbox_len.into()) as u32,
            pin_threads: has(CORERING_OPEN_PIN_THREADS),
        })
    }
}

impl corering_write_options {
    const NEW: corering_write_options = corering_write_options {
        struct_size: size_of::<corering_write_options>(),
        keyspace: 0,
        durability: CORERING_DURABILITY_DEFAULT as u32,
        interval_ms: 0,
        reserved: 0,
        expires_at_ms: 0,
        ttl_ms: 0,
        guards: std::ptr::null(),
        guards_len: 0,
        session: std::ptr::null(),
    };
}

impl corering_read_options {
    const NEW: corering_read_options = corering_read_options {
        struct_size: size_of::<corering_read_options>(),
        keyspace: 0,
        reserved: 0,
        snapshot: std::ptr::null_mut(),
    };
}

/// A call's keyspace, how it writes, and its guards.
#[inline]
pub(crate) fn write(caller: &Caller, given: *const corering_write_options, db: &Db) -> Result<Write, Failure> {
    if given.is_null() {
        return Ok(Write::plain());
    }
    let options = caller.options(given, corering_write_options::NEW)?;
    zero("reserved", options.reserved)?;
    let durability = durability(options.durability, options.interval_ms)?;
    let expiry = expiry(options.expires_at_ms, options.ttl_ms, db)?;
    let guards = lock::guards(caller, options.guards, options.guards_len)?;
    let session = if options.session.is_null() { None } else { Some(session::given(caller, options.session)?) };
    Ok(Write { keyspace: keyspace(options.keyspace)?, options: WriteOptions { durability, expiry, session }, guards })
}

/// What a read is about.
pub(crate) struct Read {
    pub keyspace: Keyspace,
    pub snapshot: Option<object::Using<std::sync::Arc<Snap>>>,
}

#[inline]
pub(crate) fn read(caller: &Caller, given: *const corering_read_options, db: &Db) -> Result<Read, Failure> {
    if given.is_null() {
        return Ok(Read { keyspace: Keyspace::DEFAULT, snapshot: None });
    }
    let options = caller.options(given, corering_read_options::NEW)?;
    zero("reserved", options.reserved)?;
    Ok(Read { keyspace: keyspace(options.keyspace)?, snapshot: snapshot_of(options.snapshot, db)? })
}

/// The snapshot that options name, if they do, and if it is one of this database.
pub(crate) fn snapshot_of(
    given: *mut corering_snapshot,
    db: &Db,
) -> Result<Option<object::Using<std::sync::Arc<Snap>>>, Failure> {
    let snapshot = object::using_if_given::<std::sync::Arc<Snap>, _>(given)?;
    if let Some(snapshot) = &snapshot {
        snapshot.check_db(db)?;
    }
    Ok(snapshot)
}

pub(crate) fn keyspace(number: u32) -> Result<Keyspace, Failure> {
    match u16::try_from(number) {
        Ok(n) if Keyspace(n) < Keyspace::FIRST_INTERNAL => Ok(Keyspace(n)),
        _ => Err(Failure::argument(format!("keyspace is {number}; 0 to {} are yours", Keyspace::FIRST_INTERNAL.0 - 1))),
    }
}

pub(crate) fn durability(level: u32, interval_ms: u32) -> Result<Option<Durability>, Failure> {
    const DEFAULT: u32 = CORERING_DURABILITY_DEFAULT as u32;
    const SYNC: u32 = CORERING_DURABILITY_SYNC as u32;
    const INTERVAL: u32 = CORERING_DURABILITY_INTERVAL as u32;
    const NONE: u32 = CORERING_DURABILITY_NONE as u32;
    match (level, interval_ms) {
        (INTERVAL, 1..=3_600_000) => Ok(Some(Durability::Interval(Duration::from_millis(interval_ms.into())))),
        (INTERVAL, _) => Err(Failure::argument(format!("interval_ms is {interval_ms}; give 1 to 3600000"))),
        (DEFAULT, 0) => Ok(None),
        (SYNC, 0) => Ok(Some(Durability::Sync)),
        (NONE, 0) => Ok(Some(Durability::None)),
        (DEFAULT | SYNC | NONE, _) => {
            Err(Failure::argument("interval_ms belongs to CORERING_DURABILITY_INTERVAL only"))
        }
        _ => Err(Failure::argument(format!("durability is {level}, which is no corering_durability"))),
    }
}

pub(crate) fn expiry(expires_at_ms: u64, ttl_ms: u64, db: &Db) -> Result<Expiry, Failure> {
    match (expires_at_ms, ttl_ms) {
        (0, 0) => Ok(Expiry::NEVER),
        (at, 0) => Ok(Expiry::at_ms(at)),
        (0, ttl) => Ok(Expiry::at_ms(db.client.clock().wall_ms().saturating_add(ttl))),
        _ => Err(Failure::argument("both expires_at_ms and ttl_ms are set")),
    }
}

pub(crate) fn check_flags(what: &'static str, given: u32, known: u32) -> Result<(), Failure> {
    match given & !known {
        0 => Ok(()),
        unknown => Err(Failure::argument(format!("{what}: {unknown:#x} is unknown to this version of the library"))),
    }
}

pub(crate) fn zero(what: &'static str, given: impl Into<u64>) -> Result<(), Failure> {
    if given.into() == 0 { Ok(()) } else { Err(Failure::argument(format!("{what} is not zero"))) }
}

fn or_default(given: u64, default: u64) -> u64 {
    if given == 0 { default } else { given }
}

/// Fills `options` with the defaults: one shard for each processor, durability sync.
///
/// Owns: the caller keeps the struct.
/// Writes: `struct_size` bytes at `options`.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
/// Safety: `options` has room for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_options_init(options: *mut corering_options, struct_size: usize) -> corering_status {
    guarded!(|c| {
        c.init_options(options, struct_size, &corering_options::new())?;
        Ok(CORERING_OK)
    })
}

/// Fills `options` with the defaults: keyspace 0, the database's durability, no expiry.
///
/// Owns: the caller keeps the struct.
/// Writes: `struct_size` bytes at `options`.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
/// Safety: `options` has room for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_write_options_init(
    options: *mut corering_write_options,
    struct_size: usize,
) -> corering_status {
    guarded!(|c| {
        c.init_options(options, struct_size, &corering_write_options::NEW)?;
        Ok(CORERING_OK)
    })
}

/// Fills `options` with the defaults: keyspace 0, the latest state.
///
/// Owns: the caller keeps the struct.
/// Writes: `struct_size` bytes at `options`.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT for null, or for a size that no version of the struct has.
/// Safety: `options` has room for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_read_options_init(
    options: *mut corering_read_options,
    struct_size: usize,
) -> corering_status {
    guarded!(|c| {
        c.init_options(options, struct_size, &corering_read_options::NEW)?;
        Ok(CORERING_OK)
    })
}
