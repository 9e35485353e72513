//! The shared object behind `import corering`: the C that cffi writes from corering.h, linked with the C ABI.
//!
//! Does not: have any code of its own but the module's entry point.

#![cfg(feature = "extension")]
#![allow(unsafe_code)]

use std::ffi::c_void;

// Links the functions that the C side calls.
extern crate corering as _;

unsafe extern "C" {
    fn corering_python_init() -> *mut c_void;
}

/// What Python's import calls.
///
/// # Safety
/// Called by Python with its interpreter lock held.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit__native() -> *mut c_void {
    // SAFETY: the function that cffi writes for just this; our caller is its caller.
    unsafe { corering_python_init() }
}
