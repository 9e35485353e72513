//! The memory of a shared region, and the only unsafe code of the simulation.
//!
//! The engine holds the one handle to each slot and writes there without telling anybody; the simulation reads the
//! pages between polls and keeps what changed as versions of the file's blocks. A life's memory is its own: what a dead
//! engine's destructors still store is seen by nobody.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

use super::disk::Ino;
use super::disk::inode::Inode;
use crate::runtime::{BLOCK, SharedRegion};

pub(super) struct RegionMemory {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is owned by this value and bound to no thread.
unsafe impl Send for RegionMemory {}
// SAFETY: `&RegionMemory` only reads, and only in the simulation's thread between polls, where no slot is being written.
unsafe impl Sync for RegionMemory {}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, BLOCK).expect("a region is smaller than isize::MAX")
}

impl RegionMemory {
    /// Memory with the file's bytes; its length is that of the file in whole blocks.
    fn of(inode: &Inode, len: usize) -> RegionMemory {
        let len = len.max(1).next_multiple_of(BLOCK);
        // SAFETY: the layout has a size above zero.
        let ptr = unsafe { alloc_zeroed(layout(len)) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout(len)) };
        let memory = RegionMemory { ptr, len };
        for block in 0..len / BLOCK {
            // SAFETY: the block lies inside the allocation, which nobody else has yet.
            let page = unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr().add(block * BLOCK), BLOCK) };
            page.copy_from_slice(inode.page(block));
        }
        memory
    }

    fn page(&self, block: usize) -> &[u8; BLOCK] {
        assert!(block < self.len / BLOCK);
        // SAFETY: inside the allocation and initialised; nobody writes it now (see `Sync`).
        unsafe { self.ptr.add(block * BLOCK).cast::<[u8; BLOCK]>().as_ref() }
    }
}

impl Drop for RegionMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `of` with this layout, freed once, here.
        unsafe { dealloc(self.ptr.as_ptr(), layout(self.len)) };
    }
}

/// A region that is mapped now.
pub(super) struct LiveRegion {
    pub ino: Ino,
    memory: Arc<RegionMemory>,
}

impl LiveRegion {
    /// Map the file: the region for the engine, and our view of it.
    pub fn map(ino: Ino, inode: &Inode, len: usize) -> (LiveRegion, Arc<SharedRegion>) {
        let memory = Arc::new(RegionMemory::of(inode, len));
        let keep = Box::new(Arc::clone(&memory));
        // SAFETY: the memory is aligned to BLOCK and lives as long as `keep`; the simulation only reads it.
        let region = unsafe { SharedRegion::from_raw(memory.ptr, memory.len, keep) };
        (LiveRegion { ino, memory }, Arc::new(region))
    }

    /// The engine has let go of it.
    pub fn is_unmapped(&self) -> bool {
        Arc::strong_count(&self.memory) == 1
    }

    /// The blocks that differ from what the file is known to hold.
    pub fn changes<'a>(&'a self, inode: &'a Inode) -> impl Iterator<Item = (usize, &'a [u8; BLOCK])> {
        let blocks = (0..self.memory.len / BLOCK).map(|block| (block, self.memory.page(block)));
        blocks.filter(|(block, page)| inode.page(*block) != *page)
    }
}
