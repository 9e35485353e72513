//! The memory of one memtable: handed out from its chunks' fronts, freed all at once with it.
//!
//! Guards: memory once handed out stays where it is, zeroed until written, for as long as the arena lives. So readers
//! on any thread that keep the arena alive need no other protection of what they point at.
//! Does not: know what lies in it (`node.rs`, `hash_index.rs`).

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything handed out begins at a multiple of this.
pub const ALIGN: usize = 8;
/// Chunks double from the first to the second; small memtables (tests, many shards) stay small.
const CHUNK_LEN_MIN: usize = 16 << 10;
const CHUNK_LEN_MAX: usize = 4 << 20;
/// A dependent miss costs half as much on huge pages, so that larger chunks ask for them.
const HUGE_PAGE: usize = 2 << 20;
const PAGE: usize = 4096;
/// Pointers carry a tag above these bits (`hash_index.rs`).
pub const ADDRESS_BITS: u32 = 48;

const _: () = assert!(usize::BITS == 64);

/// One zeroed allocation.
struct Chunk {
    ptr: NonNull<u8>,
    layout: Layout,
    mapped: bool,
}

// SAFETY: a chunk owns its memory; it is only freed through it.
unsafe impl Send for Chunk {}

impl Chunk {
    fn zeroed(len: usize) -> Chunk {
        let huge = len >= HUGE_PAGE && !cfg!(miri);
        let (len, align) = if huge { (len.next_multiple_of(PAGE), HUGE_PAGE) } else { (len, 64) };
        let layout = Layout::from_size_align(len, align).expect("an arena's chunk is smaller than isize::MAX");
        let ptr = if huge {
            map_huge(layout)
        } else {
            // SAFETY: chunks are never empty.
            unsafe { alloc_zeroed(layout) }
        };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        assert!((ptr.as_ptr().addr() + len) >> ADDRESS_BITS == 0, "addresses have {ADDRESS_BITS} bits");
        Chunk { ptr, layout, mapped: huge }
    }
}

/// Fresh zeroed pages aligned for huge ones; null when there is no memory.
fn map_huge(layout: Layout) -> *mut u8 {
    let whole = layout.size() + layout.align();
    // SAFETY: a new private mapping, which aliases nothing.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            whole,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    let front = base.addr().next_multiple_of(layout.align()) - base.addr();
    let ptr = base.wrapping_byte_add(front);
    let back = whole - front - layout.size();
    // SAFETY: both ends lie inside the mapping made above, outside of what is handed out; they and `ptr` are multiples
    // of a page. Advice changes no content. Should the kernel refuse any of it, memory is wasted but not unsound.
    unsafe {
        if front > 0 {
            libc::munmap(base, front);
        }
        if back > 0 {
            libc::munmap(ptr.wrapping_byte_add(layout.size()), back);
        }
        libc::madvise(ptr, layout.size(), libc::MADV_HUGEPAGE);
    }
    ptr.cast()
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.mapped {
            // SAFETY: mapped with this length in `map_huge`, unmapped once, here.
            unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.layout.size()) };
        } else {
            // SAFETY: allocated with this layout in `zeroed`, freed once, here.
            unsafe { dealloc(self.ptr.as_ptr(), self.layout) };
        }
    }
}

/// Owns the chunks. Shared by the writer, which adds to them, and readers, which keep them alive.
#[derive(Default)]
pub struct Arena {
    chunks: Mutex<Vec<Chunk>>,
    used: AtomicU64,
}

impl Arena {
    /// Bytes handed out.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn add_chunk(&self, len: usize) -> NonNull<u8> {
        let chunk = Chunk::zeroed(len);
        let ptr = chunk.ptr;
        self.chunks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(chunk);
        ptr
    }

    fn count(&self, len: usize) {
        // One writer, so that load and store need not be one step.
        self.used.store(self.used.load(Ordering::Relaxed) + len as u64, Ordering::Relaxed);
    }
}

/// The writer's place in the arena's newest chunk.
pub struct Bump {
    next: *mut u8,
    left: usize,
    chunk_len: usize,
}

// SAFETY: `next` points into a chunk that only this writer hands out from; nothing about it is bound to a thread.
unsafe impl Send for Bump {}

impl Default for Bump {
    fn default() -> Bump {
        Bump { next: std::ptr::null_mut(), left: 0, chunk_len: CHUNK_LEN_MIN / 2 }
    }
}

impl Bump {
    /// `len` zeroed bytes at a multiple of [`ALIGN`], valid as long as `arena` lives. Always the same arena.
    pub fn alloc(&mut self, arena: &Arena, len: usize) -> NonNull<u8> {
        let len = len.max(1).next_multiple_of(ALIGN);
        if len > self.left {
            let chunk_len = (self.chunk_len * 2).min(CHUNK_LEN_MAX);
            if len > chunk_len / 8 {
                return self.alloc_chunk(arena, len);
            }
            self.chunk_len = chunk_len;
            self.next = arena.add_chunk(chunk_len).as_ptr();
            self.left = chunk_len;
        }
        arena.count(len);
        let ptr = NonNull::new(self.next).expect("a chunk with room left");
        // SAFETY: `len <= left`, so the new front is inside the chunk or at its end.
        self.next = unsafe { self.next.add(len) };
        self.left -= len;
        ptr
    }

    /// As `alloc`, in a chunk of its own at a multiple of 64.
    pub fn alloc_chunk(&mut self, arena: &Arena, len: usize) -> NonNull<u8> {
        arena.count(len);
        arena.add_chunk(len.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zeroed_aligned_and_do_not_overlap() {
        let arena = Arena::default();
        let mut bump = Bump::default();
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        let mut sum = 0;
        for i in 0..4000_usize {
            let len = match i % 500 {
                0 => 3 << 20,
                1 => 70_000,
                _ => i % 97 + 1,
            };
            let ptr = bump.alloc(&arena, len);
            // SAFETY: `len` zeroed bytes of our own.
            let bytes = unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr(), len) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(0xaa);
            assert_eq!(ptr.as_ptr().addr() % ALIGN, 0);
            pieces.push((ptr.as_ptr().addr(), len));
            sum += len.next_multiple_of(ALIGN) as u64;
        }
        assert_eq!(arena.used(), sum);
        pieces.sort();
        assert!(pieces.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
    }
}
