//! Values that the library owns until the program frees them.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use crate::engine::Value;
use crate::failure::Failure;
use crate::guard::guarded;
use crate::object::{self, HandleKind, Object};
use crate::raw::c_struct;
use crate::registry;
use crate::status::corering_status::{self, *};

/// Bytes in memory of the library. Free it with `corering_value_free`; a value of zeroes (no `data`) is none, and needs
/// no freeing.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct corering_value {
    /// The bytes; null only if there is no value. Valid until the value is freed.
    pub data: *const u8,
    pub len: usize,
    /// The commit that wrote it, for CORERING_IF_VERSION.
    pub version: u64,
    /// Milliseconds since 1970 at which it ceases to exist; 0: never.
    pub expires_at_ms: u64,
    /// The library's own; do not change it.
    pub owner: u64,
}

c_struct!(plain corering_value);

impl corering_value {
    pub(crate) const NONE: corering_value =
        corering_value { data: std::ptr::null(), len: 0, version: 0, expires_at_ms: 0, owner: 0 };

    pub(crate) fn publish(value: Value) -> Result<corering_value, Failure> {
        Self::publish_bytes(value.bytes, value.version.0, value.expiry.0)
    }

    pub(crate) fn publish_bytes(bytes: Vec<u8>, version: u64, expires_at_ms: u64) -> Result<corering_value, Failure> {
        // The bytes stay where they are when the vector that owns them moves into the registry.
        let (data, len) = (bytes.as_ptr(), bytes.len());
        let owner = registry::insert(Object::Value(bytes))?;
        Ok(corering_value { data, len, version, expires_at_ms, owner })
    }

    pub(crate) fn free(self) -> Result<(), Failure> {
        object::retire_number(self.owner, HandleKind::Value).map(drop)
    }
}

/// Frees a value that the library gave out, and zeroes it.
///
/// Owns: the value ends here.
/// Writes: zeroes to `value`.
/// Threads: any.
/// Status: OK, also for null and for a value of zeroes; CLOSED if a copy of it was freed before; INVALID_HANDLE if it
///   is not one of the library's; FORKED.
/// Safety: `value` is null or leads to a `corering_value`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_value_free(value: *mut corering_value) -> corering_status {
    guarded!(|c| {
        if value.is_null() {
            return Ok(CORERING_OK);
        }
        let given = c.one("the value", value.cast_const())?;
        c.out(value);
        given.free()?;
        Ok(CORERING_OK)
    })
}
