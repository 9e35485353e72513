//! Memory that the kernel reads and writes: aligned for direct I/O, and owned by an operation until it completes.
//!
//! Guards: an [`IoBuf`] handed to an I/O cannot be freed or changed under it, because it was moved into it.
//! Unsafe lives here alone: one allocation, and slots cut out of a region that each exist once.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::BLOCK;

/// Heap memory aligned to [`BLOCK`], zeroed at birth.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer owns its allocation alone; nothing about it is bound to a thread.
unsafe impl Send for AlignedBuf {}
// SAFETY: `&AlignedBuf` gives only `&[u8]`.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// `len` zeroed bytes, rounded up to a multiple of [`BLOCK`].
    pub fn zeroed(len: usize) -> AlignedBuf {
        let len = len.max(1).next_multiple_of(BLOCK);
        let layout = Layout::from_size_align(len, BLOCK).expect("a buffer is smaller than isize::MAX");
        // SAFETY: `layout` has a size above zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        AlignedBuf { ptr, len }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.len, BLOCK).expect("the layout it was made with");
        // SAFETY: allocated in `zeroed` with this layout, freed once, here.
        unsafe { dealloc(self.ptr.as_ptr(), layout) };
    }
}

impl std::ops::Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes (zeroed) owned by self.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` makes it the only access.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

/// Memory that outlives the process, cut into slots of equal length. Made by `Fs::shared_region`.
pub struct SharedRegion {
    base: NonNull<u8>,
    len: usize,
    /// One bit for each slot handed out, while slots of 1/64 of the region or more are in use.
    taken: AtomicU64,
    /// Keeps the memory mapped (or allocated) as long as the region or one of its slots lives.
    _keep: Box<dyn std::any::Any + Send + Sync>,
}

// SAFETY: the region itself gives no access to its bytes; each slot is handed out once (`taken`).
unsafe impl Send for SharedRegion {}
// SAFETY: as above; `taken` is atomic.
unsafe impl Sync for SharedRegion {}

impl SharedRegion {
    /// # Safety
    /// `base` is aligned to [`BLOCK`], valid for reads and writes of `len` bytes for as long as `keep` lives, and
    /// nobody else writes there while slots are out.
    pub unsafe fn from_raw(base: NonNull<u8>, len: usize, keep: Box<dyn std::any::Any + Send + Sync>) -> SharedRegion {
        assert_eq!(base.as_ptr() as usize % BLOCK, 0, "a region is aligned");
        SharedRegion { base, len, taken: AtomicU64::new(0), _keep: keep }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Cut the region into `count` slots and hand them all out. Panics if they are out already.
    pub fn take_slots(self: &Arc<Self>, count: usize) -> Vec<SlotBuf> {
        let slot_len = self.len / count / BLOCK * BLOCK;
        assert!(count > 0 && slot_len > 0, "a region of {} bytes cannot hold {count} slots", self.len);
        let before = self.taken.swap(1, Ordering::AcqRel);
        assert_eq!(before, 0, "the slots of a region are handed out once");
        (0..count)
            .map(|i| {
                // SAFETY: `i * slot_len < len`, so the pointer stays inside the region.
                let ptr = unsafe { self.base.add(i * slot_len) };
                SlotBuf { ptr, len: slot_len, region: Arc::clone(self) }
            })
            .collect()
    }
}

/// One slot of a [`SharedRegion`]; the only handle to its bytes.
pub struct SlotBuf {
    ptr: NonNull<u8>,
    len: usize,
    region: Arc<SharedRegion>,
}

// SAFETY: slots do not overlap and each exists once, so moving one moves the only access to its bytes.
unsafe impl Send for SlotBuf {}
// SAFETY: `&SlotBuf` gives only `&[u8]`.
unsafe impl Sync for SlotBuf {}

impl SlotBuf {
    pub fn region(&self) -> &Arc<SharedRegion> {
        &self.region
    }
}

impl std::ops::Deref for SlotBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: inside the region (see `take_slots`), initialised (file or zeroed memory), and only this handle writes it.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for SlotBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` makes it the only access.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

/// Where the bytes of an [`IoBuf`] live.
pub enum Backing {
    Heap(AlignedBuf),
    Slot(SlotBuf),
}

/// A buffer that travels with an I/O: `len` bytes of its backing, from `from` on, take part.
pub struct IoBuf {
    backing: Backing,
    from: usize,
    len: usize,
}

impl IoBuf {
    pub fn heap(buf: AlignedBuf, len: usize) -> IoBuf {
        assert!(len <= buf.len());
        IoBuf { backing: Backing::Heap(buf), from: 0, len }
    }

    pub fn slot(buf: SlotBuf, from: usize, len: usize) -> IoBuf {
        assert!(from + len <= buf.len() && from.is_multiple_of(BLOCK));
        IoBuf { backing: Backing::Slot(buf), from, len }
    }

    pub fn into_backing(self) -> Backing {
        self.backing
    }

    /// The heap buffer back. Panics for a slot.
    pub fn into_heap(self) -> AlignedBuf {
        match self.backing {
            Backing::Heap(buf) => buf,
            Backing::Slot(_) => panic!("a slot is not heap memory"),
        }
    }
}

impl std::ops::Deref for IoBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.backing {
            Backing::Heap(buf) => &buf[self.from..self.from + self.len],
            Backing::Slot(buf) => &buf[self.from..self.from + self.len],
        }
    }
}

impl std::ops::DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.backing {
            Backing::Heap(buf) => &mut buf[self.from..self.from + self.len],
            Backing::Slot(buf) => &mut buf[self.from..self.from + self.len],
        }
    }
}

impl std::fmt::Debug for IoBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IoBuf({} bytes)", self.len)
    }
}
