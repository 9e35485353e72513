//! C's pointers become Rust's slices here, and nowhere else.
//!
//! Guards: no null, no length that no object can have, no misaligned array and no half-known options struct gets
//! through; outputs are zero from the start of a call, so that a failure leaves them so. What cannot be checked (that a
//! pointer that is not null leads to as many bytes as its length says) is the caller's promise, under "Safety" in the
//! comment of each exported function; a `Caller` is the proof that such a promise was given.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr;

use crate::engine::{Error, KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::failure::Failure;

/// A type for which zeroes are a value.
///
/// # Safety
/// They are.
pub(crate) unsafe trait Zeroable: Copy {}

/// A type for which all bits are a value.
///
/// # Safety
/// They are.
pub(crate) unsafe trait Plain: Zeroable {}

/// An options struct: `repr(C)`, its first field the `usize` that says how many bytes of it the program knows.
///
/// # Safety
/// It is.
pub(crate) unsafe trait Growing: Plain {
    /// Its size in the first version that had it.
    const LEN_MIN: usize;
}

macro_rules! mark {
    ($trait:ident: $($type:ty),* $(,)?) => {$(
        // SAFETY: integers and raw pointers have no invalid bits; a `bool` and a status may be zero.
        unsafe impl $trait for $type {}
    )*};
}

mark!(Zeroable: u8, u32, i32, u64, i64, usize, bool);
mark!(Plain: u8, u32, i32, u64, i64, usize);

// SAFETY: null is a value of a raw pointer.
unsafe impl<T> Zeroable for *mut T {}
// SAFETY: null is a value of a raw pointer.
unsafe impl<T> Zeroable for *const T {}

/// Lets the modules that define the header's structs mark them without an `unsafe` of their own.
macro_rules! c_struct {
    (zeroable $($type:ty),* $(,)?) => {$(
        // SAFETY: `repr(C)`, of integers, raw pointers and statuses; all may be zero.
        #[allow(unsafe_code)]
        unsafe impl $crate::raw::Zeroable for $type {}
    )*};
    (plain $($type:ty),* $(,)?) => {$(
        $crate::raw::c_struct!(zeroable $type);
        // SAFETY: `repr(C)`, of integers and raw pointers only.
        #[allow(unsafe_code)]
        unsafe impl $crate::raw::Plain for $type {}
    )*};
    (growing $type:ty, first_len $len:expr) => {
        $crate::raw::c_struct!(plain $type);
        const _: () = assert!(std::mem::offset_of!($type, struct_size) == 0);
        // SAFETY: as above; the size is the first field by the line before.
        #[allow(unsafe_code)]
        unsafe impl $crate::raw::Growing for $type {
            const LEN_MIN: usize = $len;
        }
    };
}
pub(crate) use c_struct;

/// An options struct longer than this is taken for a size that was never set.
const STRUCT_LEN_MAX: usize = 4096;

/// The promise of whoever called an exported function about the pointers it passed, for the time of that call.
pub(crate) struct Caller(());

impl Caller {
    /// # Safety
    /// Called in an `unsafe extern "C"` function whose documented contract covers every pointer that is then given to
    /// the methods of this value.
    #[inline]
    pub(crate) unsafe fn promised() -> Caller {
        Caller(())
    }

    #[inline]
    pub(crate) fn bytes(&self, what: &'static str, data: *const c_void, len: usize) -> Result<&[u8], Failure> {
        self.array(what, data.cast::<u8>(), len)
    }

    #[inline]
    pub(crate) fn key(&self, data: *const c_void, len: usize) -> Result<&[u8], Failure> {
        if len > KEY_LEN_MAX {
            return Err(Error::KeyTooLarge { len: len as u64, max: KEY_LEN_MAX as u64 }.into());
        }
        self.bytes("the key", data, len)
    }

    #[inline]
    pub(crate) fn value(&self, data: *const c_void, len: usize) -> Result<&[u8], Failure> {
        if len > VALUE_LEN_MAX {
            return Err(Error::ValueTooLarge { len: len as u64, max: VALUE_LEN_MAX as u64 }.into());
        }
        self.bytes("the value", data, len)
    }

    #[inline]
    pub(crate) fn array<T: Plain>(&self, what: &'static str, data: *const T, count: usize) -> Result<&[T], Failure> {
        if count == 0 {
            return Ok(&[]);
        }
        check_array(what, data, count)?;
        // SAFETY: not null, aligned, of a possible size; the caller promises that it is readable during the call.
        Ok(unsafe { std::slice::from_raw_parts(data, count) })
    }

    /// A struct that must be given.
    #[inline]
    pub(crate) fn one<T: Plain>(&self, what: &'static str, data: *const T) -> Result<T, Failure> {
        if data.is_null() {
            return Err(Failure::argument(format!("{what} is null")));
        }
        // SAFETY: not null; the caller promises that it is readable; any alignment will do.
        Ok(unsafe { data.read_unaligned() })
    }

    /// An options struct of any version: what the program does not know of is as in `default`; what this library does
    /// not know of must be zero. Null is the default.
    #[inline]
    pub(crate) fn options<T: Growing>(&self, given: *const T, default: T) -> Result<T, Failure> {
        if given.is_null() { Ok(default) } else { self.read_options(given, default) }
    }

    fn read_options<T: Growing>(&self, given: *const T, default: T) -> Result<T, Failure> {
        // SAFETY: not null; the caller promises a struct that begins with its size.
        let len = unsafe { given.cast::<usize>().read_unaligned() };
        if !(T::LEN_MIN..=STRUCT_LEN_MAX).contains(&len) {
            return Err(Failure::argument(format!(
                "struct_size is {len}; set it to the size of the struct, or call the struct's _init function"
            )));
        }
        let known = len.min(size_of::<T>());
        let mut options = default;
        // SAFETY: the caller promises `len` readable bytes; `known` of them fit; every bit pattern is a `T`.
        unsafe { ptr::copy_nonoverlapping(given.cast::<u8>(), ptr::from_mut(&mut options).cast::<u8>(), known) };
        // SAFETY: as above, the rest of the `len` bytes.
        let unknown = unsafe { std::slice::from_raw_parts(given.cast::<u8>().add(known), len - known) };
        if unknown.iter().any(|byte| *byte != 0) {
            return Err(Failure::argument(
                "the options ask for something that this version of the library does not know",
            ));
        }
        Ok(options)
    }

    /// Fills an options struct of `len` bytes, of whatever version, with `default`.
    pub(crate) fn init_options<T: Growing>(&self, given: *mut T, len: usize, default: &T) -> Result<(), Failure> {
        if given.is_null() {
            return Err(Failure::argument("the options are null"));
        }
        if !(T::LEN_MIN..=STRUCT_LEN_MAX).contains(&len) {
            return Err(Failure::argument(format!("{len} is not the size of an options struct")));
        }
        let known = len.min(size_of::<T>());
        // SAFETY: the caller promises `len` writable bytes; `default` has `known` of them.
        unsafe {
            ptr::write_bytes(given.cast::<u8>(), 0, len);
            ptr::copy_nonoverlapping(ptr::from_ref(default).cast::<u8>(), given.cast::<u8>(), known);
            given.cast::<usize>().write_unaligned(len);
        }
        Ok(())
    }

    /// Fills a growing struct of which the program says that it knows `struct_size` bytes.
    pub(crate) fn fill<T: Growing>(&self, given: *mut T, filled: &T) -> Result<(), Failure> {
        let len = self.one("the struct", given.cast_const().cast::<usize>())?;
        self.init_options(given, len, filled)
    }

    /// Text that ends with a zero byte.
    pub(crate) fn text(&self, what: &'static str, text: *const c_char) -> Result<&CStr, Failure> {
        if text.is_null() {
            return Err(Failure::argument(format!("{what} is null")));
        }
        // SAFETY: not null; the caller promises a zero byte at the end.
        Ok(unsafe { CStr::from_ptr(text) })
    }

    /// A place for one output, zeroed now. A null pointer takes nothing.
    #[inline]
    pub(crate) fn out<T: Zeroable>(&self, place: *mut T) -> Out<'_, T> {
        if !place.is_null() {
            // SAFETY: not null; the caller promises that it is writable.
            unsafe { ptr::write_bytes(place.cast::<u8>(), 0, size_of::<T>()) };
        }
        Out { place, call: PhantomData }
    }

    /// Places for `count` outputs, zeroed now.
    pub(crate) fn outs<T: Zeroable>(
        &self,
        what: &'static str,
        places: *mut T,
        count: usize,
    ) -> Result<Outs<'_, T>, Failure> {
        if count > 0 {
            check_array(what, places, count)?;
            // SAFETY: not null, aligned, of a possible size; the caller promises that it is writable.
            unsafe { ptr::write_bytes(places, 0, count) };
        }
        Ok(Outs { places, count, call: PhantomData })
    }

    /// The caller's memory for bytes.
    #[inline]
    pub(crate) fn buffer(&self, place: *mut c_void, capacity: usize) -> Result<Buffer<'_>, Failure> {
        if place.is_null() && capacity > 0 {
            return Err(Failure::argument("the buffer is null, its capacity is not"));
        }
        Ok(Buffer { place: place.cast(), capacity, call: PhantomData })
    }
}

#[inline]
fn check_array<T>(what: &'static str, data: *const T, count: usize) -> Result<(), Failure> {
    if !data.is_null() && data.is_aligned() && count <= isize::MAX as usize / size_of::<T>() {
        return Ok(());
    }
    Err(array_fault(what, data, count))
}

#[cold]
fn array_fault<T>(what: &'static str, data: *const T, count: usize) -> Failure {
    Failure::argument(if data.is_null() {
        format!("{what}: a null pointer with a length of {count}")
    } else if !data.is_aligned() {
        format!("{what}: the address {data:p} is not aligned")
    } else {
        format!("{what}: a length of {count} is more than memory can hold")
    })
}

/// Where one output goes.
#[derive(Clone, Copy)]
pub(crate) struct Out<'c, T> {
    place: *mut T,
    call: PhantomData<&'c Caller>,
}

impl<T: Zeroable> Out<'_, T> {
    /// Refuses null for an output that makes no sense to leave out.
    #[inline]
    pub(crate) fn required(self, what: &'static str) -> Result<Self, Failure> {
        if self.place.is_null() {
            return Err(Failure::argument(format!("the output {what} is null")));
        }
        Ok(self)
    }

    #[inline]
    pub(crate) fn set(self, value: T) {
        if !self.place.is_null() {
            // SAFETY: not null; the caller promises that it is writable; any alignment will do.
            unsafe { self.place.write_unaligned(value) };
        }
    }
}

/// Where a number of outputs go.
pub(crate) struct Outs<'c, T> {
    places: *mut T,
    count: usize,
    call: PhantomData<&'c Caller>,
}

impl<T: Zeroable> Outs<'_, T> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn set(&self, index: usize, value: T) {
        assert!(index < self.count, "an output beyond the end of the array");
        // SAFETY: within the array that was checked when this was made.
        unsafe { self.places.add(index).write(value) };
    }
}

/// The caller's memory for bytes of which the length is not known before.
#[derive(Clone, Copy)]
pub(crate) struct Buffer<'c> {
    place: *mut u8,
    capacity: usize,
    call: PhantomData<&'c Caller>,
}

impl Buffer<'_> {
    /// Copies all of `bytes`, or, if they do not fit, nothing. Says whether they did.
    #[inline]
    pub(crate) fn put(self, bytes: &[u8]) -> bool {
        if bytes.len() > self.capacity {
            return false;
        }
        if !bytes.is_empty() {
            // SAFETY: the caller promises `capacity` writable bytes, which are at least as many; `copy` lets them overlap.
            unsafe { ptr::copy(bytes.as_ptr(), self.place, bytes.len()) };
        }
        true
    }

    /// Copies as much of `text` as fits before a zero byte, which is always there unless there is no room at all.
    pub(crate) fn put_text(self, text: &str) {
        let Some(room) = self.capacity.checked_sub(1) else { return };
        let mut kept = room.min(text.len());
        while !text.is_char_boundary(kept) {
            kept -= 1;
        }
        self.put(&text.as_bytes()[..kept]);
        // SAFETY: `kept` is less than `capacity`.
        unsafe { self.place.add(kept).write(0) };
    }
}
