//! What a program may ask about a status, and the text behind the last failure.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::ffi::{c_char, c_void};

use crate::failure;
use crate::guard::guarded;
use crate::status::corering_status::{self, *};

/// A status's name, such as "not_found"; "unknown" for a number that this version does not have.
///
/// Owns: the library; the text is static.
/// Writes: nothing.
/// Threads: any.
/// Status: none.
/// Safety: no pointers.
#[unsafe(no_mangle)]
pub extern "C" fn corering_status_name(status: i32) -> *const c_char {
    corering_status::from_number(status).map_or(c"unknown", corering_status::name).as_ptr()
}

/// Whether nothing was done and the same call may succeed later.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: any.
/// Status: none.
/// Safety: no pointers.
#[unsafe(no_mangle)]
pub extern "C" fn corering_status_is_retryable(status: i32) -> bool {
    corering_status::from_number(status).is_some_and(corering_status::is_retryable)
}

/// Whether a write that was not acknowledged may yet be found later. Every other error means: nothing was written.
/// A number that this version does not have may mean anything, so it counts as a yes.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: any.
/// Status: none.
/// Safety: no pointers.
#[unsafe(no_mangle)]
pub extern "C" fn corering_status_may_have_committed(status: i32) -> bool {
    corering_status::from_number(status).is_none_or(corering_status::may_have_committed)
}

/// The text behind the last call of this thread that failed: which argument, file, byte, limit, process. UTF-8, ended
/// by a zero byte, cut to fit. Successful calls leave it alone. Empty if no call of this thread has failed.
///
/// Owns: the caller keeps the buffer.
/// Writes: `buffer`; the text's length without the zero byte to `len`, if given.
/// Threads: any; each has its own text.
/// Status: OK; BUFFER_TOO_SMALL if the text was cut; INVALID_ARGUMENT for null with a capacity (the text stays).
/// Safety: `buffer` has room for `capacity` bytes; `len` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_error_message(
    buffer: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> corering_status {
    guarded!(|c| {
        let len = c.out(len);
        let text = failure::last_text();
        let Ok(buffer) = c.buffer(buffer.cast::<c_void>(), capacity) else {
            return Ok(CORERING_ERROR_INVALID_ARGUMENT);
        };
        len.set(text.len());
        buffer.put_text(&text);
        Ok(if text.len() < capacity { CORERING_OK } else { CORERING_BUFFER_TOO_SMALL })
    })
}
