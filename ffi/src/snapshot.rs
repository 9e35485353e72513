//! Read views.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::sync::Arc;

use crate::db::{Db, corering_db};
use crate::engine::Snapshot;
use crate::failure::Failure;
use crate::guard::guarded;
use crate::object::{self, HandleKind, Object};
use crate::status::corering_status::{self, *};

/// One state of the whole database, kept for reading. Any number of threads may use it at the same time. What was
/// overwritten since it was made takes memory until it is freed.
#[allow(non_camel_case_types)]
pub struct corering_snapshot(());

pub(crate) struct Snap {
    pub view: Snapshot,
    db: Arc<Db>,
}

impl Snap {
    pub(crate) fn check_db(&self, db: &Db) -> Result<(), Failure> {
        if self.db.is(db) { Ok(()) } else { Err(Failure::argument("the snapshot is one of another database")) }
    }
}

/// Keeps the present state of all shards for reading.
///
/// Owns: the caller owns the snapshot; `corering_snapshot_free` ends it.
/// Writes: the handle to `snapshot`, null on failure.
/// Threads: any; may wait for a write that is on its way to disk.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED; POISONED.
/// Safety: `snapshot` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_snapshot_new(
    db: *mut corering_db,
    snapshot: *mut *mut corering_snapshot,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(snapshot).required("snapshot")?;
        let db = object::using::<Arc<Db>, _>(db)?;
        let snap = Snap { view: db.client.snapshot()?, db: Arc::clone(&db) };
        out.set(object::publish(Object::Snapshot(Arc::new(snap)))?);
        Ok(CORERING_OK)
    })
}

/// Releases a snapshot. Iterators made from it keep what they need.
///
/// Owns: the handle ends here.
/// Writes: nothing.
/// Threads: any.
/// Status: OK, also for null; CLOSED if it was freed before; INVALID_HANDLE; FORKED.
/// Safety: any pointer will do; it is not dereferenced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_snapshot_free(snapshot: *mut corering_snapshot) -> corering_status {
    guarded!(|_c| {
        if let Some(retired) = object::retire(snapshot, HandleKind::Snapshot)? {
            drop(retired.finish());
        }
        Ok(CORERING_OK)
    })
}

/// The last commit that the snapshot shows.
///
/// Owns: nothing.
/// Writes: `version`, 0 on failure.
/// Threads: any.
/// Status: OK; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED.
/// Safety: `version` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_snapshot_version(
    snapshot: *mut corering_snapshot,
    version: *mut u64,
) -> corering_status {
    guarded!(|c| {
        let out = c.out(version).required("version")?;
        out.set(object::using::<Arc<Snap>, _>(snapshot)?.view.version().0);
        Ok(CORERING_OK)
    })
}
