//! The memory of one memtable: handed out from its chunks' fronts, given up all at once with it.
//!
//! Guards: memory once handed out stays where it is for as long as the arena lives. So readers on any thread that keep the arena
//! alive need no other protection of what they point at.
//! Does not: know what lies in it (`node.rs`, `hash_index.rs`).
//!
//! Large chunks of memtables that are gone are kept for the next ones of the same shard ([`ChunkPool`]): the kernel zeroes memory that it
//! gives out anew, which took a third of a writer's time, and on a virtual machine may have to ask its host for it first.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

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

/// One allocation.
struct Chunk {
    ptr: NonNull<u8>,
    layout: Layout,
    mapped: bool,
    /// Nobody has written to it.
    zeroed: bool,
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
        Chunk { ptr, layout, mapped: huge, zeroed: true }
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

/// Large chunks that wait to be used again, so many bytes at most.
#[derive(Default)]
pub struct ChunkPool {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

#[derive(Default)]
struct Kept {
    chunks: Vec<Chunk>,
    /// Large chunks were asked for since the pool was last told to rest. At rest nothing is kept.
    busy: bool,
}

impl ChunkPool {
    pub fn new(bytes_max: u64) -> ChunkPool {
        ChunkPool { kept: Mutex::default(), bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX) }
    }

    /// A chunk of this length, for which the kernel need not be asked.
    fn take(&self, len: usize) -> Option<Chunk> {
        let mut kept = lock(&self.kept);
        kept.busy |= len >= HUGE_PAGE;
        let at = kept.chunks.iter().rposition(|chunk| chunk.layout.size() == len)?;
        Some(kept.chunks.swap_remove(at))
    }

    /// Whether it may have something, or be given it.
    pub fn is_busy(&self) -> bool {
        lock(&self.kept).busy
    }

    /// Keep nothing until chunks are asked for again. Gives one chunk back to the kernel, which takes a while; says whether there was one.
    pub fn rest(&self) -> bool {
        let mut kept = lock(&self.kept);
        kept.busy = false;
        let chunk = kept.chunks.pop();
        drop(kept);
        chunk.is_some()
    }

    fn give(&self, mut chunk: Chunk) {
        let mut kept = lock(&self.kept);
        let bytes: usize = kept.chunks.iter().map(|chunk| chunk.layout.size()).sum();
        if chunk.mapped && kept.busy && bytes + chunk.layout.size() <= self.bytes_max {
            chunk.zeroed = false;
            kept.chunks.push(chunk);
        }
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Owns the chunks. Shared by the writer, which adds to them, and readers, which keep them alive.
#[derive(Default)]
pub struct Arena {
    chunks: Mutex<Vec<Chunk>>,
    used: AtomicU64,
    pool: Arc<ChunkPool>,
}

impl Arena {
    pub fn new(pool: Arc<ChunkPool>) -> Arena {
        Arena { chunks: Mutex::default(), used: AtomicU64::new(0), pool }
    }

    pub fn pool(&self) -> &Arc<ChunkPool> {
        &self.pool
    }

    /// Bytes handed out.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The memory of a new chunk, and whether it is zeroed.
    fn add_chunk(&self, len: usize) -> (NonNull<u8>, bool) {
        let chunk = self.pool.take(len).unwrap_or_else(|| Chunk::zeroed(len));
        let (ptr, zeroed) = (chunk.ptr, chunk.zeroed);
        lock(&self.chunks).push(chunk);
        (ptr, zeroed)
    }

    fn count(&self, len: usize) {
        // One writer, so that load and store need not be one step.
        self.used.store(self.used.load(Ordering::Relaxed) + len as u64, Ordering::Relaxed);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for chunk in self.chunks.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).drain(..) {
            self.pool.give(chunk);
        }
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
    /// `len` bytes at a multiple of [`ALIGN`], valid as long as `arena` lives, with anything in them. Always the same arena.
    pub fn alloc(&mut self, arena: &Arena, len: usize) -> NonNull<u8> {
        let len = len.max(1).next_multiple_of(ALIGN);
        if len > self.left {
            let chunk_len = (self.chunk_len * 2).min(CHUNK_LEN_MAX);
            if len > chunk_len / 8 {
                arena.count(len);
                return arena.add_chunk(len).0;
            }
            self.chunk_len = chunk_len;
            self.next = arena.add_chunk(chunk_len).0.as_ptr();
            self.left = chunk_len;
        }
        arena.count(len);
        let ptr = NonNull::new(self.next).expect("a chunk with room left");
        // SAFETY: `len <= left`, so the new front is inside the chunk or at its end.
        self.next = unsafe { self.next.add(len) };
        self.left -= len;
        ptr
    }

    /// Zeroed bytes in a chunk of their own at a multiple of 64.
    pub fn alloc_zeroed_chunk(&mut self, arena: &Arena, len: usize) -> NonNull<u8> {
        assert!(len > 0);
        arena.count(len);
        let (ptr, zeroed) = arena.add_chunk(len);
        if !zeroed {
            // SAFETY: a chunk has at least the `len` bytes asked for, and nobody else knows of them yet.
            unsafe { ptr.as_ptr().write_bytes(0, len) };
        }
        ptr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_at<'a>(ptr: NonNull<u8>, len: usize) -> &'a mut [u8] {
        // SAFETY: `len` bytes that were just handed out, whose arena outlives the test's use of them.
        unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr(), len) }
    }

    #[test]
    fn pieces_are_aligned_and_do_not_overlap() {
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
            bytes_at(ptr, len).fill(0xaa);
            assert_eq!(ptr.as_ptr().addr() % ALIGN, 0);
            pieces.push((ptr.as_ptr().addr(), len));
            sum += len.next_multiple_of(ALIGN) as u64;
        }
        assert_eq!(arena.used(), sum);
        pieces.sort();
        assert!(pieces.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
    }

    #[test]
    #[cfg_attr(miri, ignore = "large chunks are mapped, which miri does not do")]
    fn chunks_are_used_again_up_to_the_limit_and_tables_of_slots_come_zeroed() {
        const LEN: usize = CHUNK_LEN_MAX;
        let pool = Arc::new(ChunkPool::new(2 * LEN as u64));
        let fill = || {
            let (arena, mut bump) = (Arena::new(Arc::clone(&pool)), Bump::default());
            let chunks: Vec<NonNull<u8>> = (0..3).map(|_| bump.alloc_zeroed_chunk(&arena, LEN)).collect();
            for chunk in &chunks {
                let bytes = bytes_at(*chunk, LEN);
                assert!(bytes.iter().all(|byte| *byte == 0));
                bytes.fill(0xaa);
            }
            let small = bump.alloc_zeroed_chunk(&arena, 100);
            bytes_at(small, 100).fill(0xaa);
            chunks.into_iter().map(|chunk| chunk.as_ptr().addr()).collect::<Vec<_>>()
        };
        let kept = |pool: &ChunkPool| {
            lock(&pool.kept).chunks.iter().map(|chunk| chunk.ptr.as_ptr().addr()).collect::<Vec<_>>()
        };
        let first = fill();
        assert_eq!(kept(&pool), first[..2]);
        let second = fill();
        assert!(first[..2].iter().all(|chunk| second.contains(chunk)));
        assert_eq!(kept(&pool).len(), 2);
        assert!(pool.take(LEN + PAGE).is_none());
        assert!(pool.is_busy() && pool.rest());
        assert_eq!((pool.is_busy(), kept(&pool).len()), (false, 1));
        assert!(pool.rest() && !pool.rest());
        // What comes while it rests is not kept.
        let arena = Arena::new(Arc::clone(&pool));
        Bump::default().alloc_zeroed_chunk(&arena, LEN);
        assert!(pool.is_busy() && !pool.rest());
        drop(arena);
        assert_eq!(kept(&pool).len(), 0);
    }
}
