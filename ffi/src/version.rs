//! Versions: of the ABI, which a program is compiled for, and of the library.

#![allow(unsafe_code)] // exports only

use std::ffi::c_char;

/// The major version is in the soname; a program compiled for another one cannot use this library.
pub const CORERING_ABI_MAJOR: u32 = 0;
/// Grows with every addition. A program needs a library of at least the minor version it was compiled for.
pub const CORERING_ABI_MINOR: u32 = 1;
/// What a program passes to `corering_open`: the ABI it was compiled for, major * 65536 + minor.
pub const CORERING_ABI_VERSION: u32 = 1;

const _: () = assert!(CORERING_ABI_VERSION == CORERING_ABI_MAJOR << 16 | CORERING_ABI_MINOR);

pub(crate) fn accepts(asked: u32) -> bool {
    asked >> 16 == CORERING_ABI_MAJOR && asked & 0xffff <= CORERING_ABI_MINOR
}

/// The ABI of this library, as in CORERING_ABI_VERSION.
///
/// Owns: nothing.
/// Writes: nothing.
/// Threads: any.
/// Status: none.
/// Safety: no pointers.
#[unsafe(no_mangle)]
pub extern "C" fn corering_abi_version() -> u32 {
    CORERING_ABI_VERSION
}

/// The version of the library, such as "0.1.0".
///
/// Owns: the library; the text is static.
/// Writes: nothing.
/// Threads: any.
/// Status: none.
/// Safety: no pointers.
#[unsafe(no_mangle)]
pub extern "C" fn corering_version() -> *const c_char {
    const VERSION: &std::ffi::CStr =
        match std::ffi::CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no zero byte"),
        };
    VERSION.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_the_same_major_and_no_later_minor_is_accepted() {
        assert!(accepts(CORERING_ABI_VERSION));
        assert!(accepts(CORERING_ABI_MAJOR << 16));
        assert!(!accepts(CORERING_ABI_VERSION + 1));
        assert!(!accepts((CORERING_ABI_MAJOR + 1) << 16));
        assert!(!accepts(u32::MAX));
    }
}
