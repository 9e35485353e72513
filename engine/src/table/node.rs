//! Keys and their versions as they lie in a memtable's arena.
//!
//! Guards: whatever a reader can reach is completely written: a node or version is written first and published after,
//! by one release store of the pointer that leads to it; from then on only `newest` and the links change.
//!
//! ```text
//!  links (8 × height, the lowest last) | newest | key len | keyspace | height | key … pad to 8 | first version
//!                                      ^ what a Node points at
//!  version: older | ts | expiry | value len | kind | deleted | pad | value …
//! ```
//!
//! The first version lies right behind its key, so that a point read of a key written once touches one place.

#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::arena::{ALIGN, Arena, Bump};
use crate::format::block::Op;
use crate::ids::{CommitTs, Expiry, Keyspace, Kind};

#[repr(C)]
struct NodeHead {
    newest: AtomicPtr<u8>,
    key_len: u32,
    keyspace: u16,
    height: u8,
}

#[repr(C)]
struct VersionHead {
    older: *mut u8,
    ts: u64,
    expiry: u64,
    len: u32,
    kind: u8,
    deleted: u8,
}

const NODE_HEAD: usize = size_of::<NodeHead>();
const VERSION_HEAD: usize = size_of::<VersionHead>();
const LINK: usize = size_of::<AtomicPtr<u8>>();

const _: () = assert!(NODE_HEAD == 16 && align_of::<NodeHead>() == ALIGN);
const _: () = assert!(VERSION_HEAD == 32 && align_of::<VersionHead>() == ALIGN);

/// The head, a key of 16 bytes, its version and most of a value of 100.
const PREFETCHED_LINES: usize = 3;

/// Values from here on lie apart from their key, so that keys stay close together.
const INLINE_VALUE_MAX: usize = 1024;

/// A key in an arena. Its lifetime is the arena's, which whoever made it from a pointer has promised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Node<'a> {
    ptr: NonNull<u8>,
    arena: std::marker::PhantomData<&'a Arena>,
}

/// One version of a key in an arena.
#[derive(Clone, Copy)]
pub struct Version<'a> {
    ptr: NonNull<u8>,
    arena: std::marker::PhantomData<&'a Arena>,
}

/// What is to be written.
#[derive(Clone, Copy)]
pub struct NewVersion<'a> {
    pub ts: CommitTs,
    pub op: Op<'a>,
}

impl NewVersion<'_> {
    fn value(&self) -> &[u8] {
        match self.op {
            Op::Put { value, .. } => value,
            Op::Delete => &[],
        }
    }
}

// SAFETY: a node is a pointer into memory that outlives 'a and is only read, or changed through its atomics.
unsafe impl Send for Node<'_> {}
// SAFETY: as above.
unsafe impl Sync for Node<'_> {}

impl<'a> Node<'a> {
    /// Writes a key and its first version; nobody sees it until its pointer is published.
    pub fn create(
        bump: &mut Bump,
        arena: &'a Arena,
        keyspace: Keyspace,
        key: &[u8],
        height: usize,
        version: Option<NewVersion<'_>>,
    ) -> Node<'a> {
        let key_room = key.len().next_multiple_of(ALIGN);
        let own_len = height * LINK + NODE_HEAD + key_room;
        let inline = version.filter(|version| version.value().len() < INLINE_VALUE_MAX);
        let whole = own_len + inline.map_or(0, |version| VERSION_HEAD + version.value().len());
        let base = bump.alloc(arena, whole);
        // SAFETY: all offsets lie inside the `whole` bytes just handed out, aligned as their sizes are multiples of 8;
        // nobody else knows of them yet. Zeroed links are null pointers.
        unsafe {
            base.as_ptr().write_bytes(0, height * LINK);
            let ptr = base.add(height * LINK);
            let newest = match (inline, version) {
                (Some(version), _) => {
                    let at = base.add(own_len);
                    write_version(at, version, std::ptr::null_mut());
                    at.as_ptr()
                }
                (None, Some(version)) => create_version(bump, arena, version, std::ptr::null_mut()).as_ptr(),
                (None, None) => std::ptr::null_mut(),
            };
            ptr.cast::<NodeHead>().write(NodeHead {
                newest: AtomicPtr::new(newest),
                key_len: key.len() as u32,
                keyspace: keyspace.0,
                height: height as u8,
            });
            ptr.add(NODE_HEAD).as_ptr().copy_from_nonoverlapping(key.as_ptr(), key.len());
            Node { ptr, arena: std::marker::PhantomData }
        }
    }

    /// # Safety
    /// `ptr` came from [`Node::as_ptr`] of a node of an arena that outlives `'a`, through a load that acquired what
    /// its writer released.
    pub unsafe fn from_ptr(ptr: NonNull<u8>) -> Node<'a> {
        Node { ptr, arena: std::marker::PhantomData }
    }

    pub fn as_ptr(self) -> NonNull<u8> {
        self.ptr
    }

    fn head(self) -> &'a NodeHead {
        // SAFETY: a node's head was written before its pointer was published; only its atomic changes.
        unsafe { self.ptr.cast::<NodeHead>().as_ref() }
    }

    pub fn keyspace(self) -> Keyspace {
        Keyspace(self.head().keyspace)
    }

    pub fn key(self) -> &'a [u8] {
        let len = self.head().key_len as usize;
        // SAFETY: the key's bytes lie behind the head, written before the node was published, and never change.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().add(NODE_HEAD), len) }
    }

    pub fn is(self, keyspace: Keyspace, key: &[u8]) -> bool {
        self.head().keyspace == keyspace.0 && self.key() == key
    }

    pub fn full_key(self) -> (Keyspace, &'a [u8]) {
        (self.keyspace(), self.key())
    }

    pub fn height(self) -> usize {
        usize::from(self.head().height)
    }

    /// The newest version. Every published node but a list's head has one.
    pub fn newest(self) -> Option<Version<'a>> {
        let ptr = NonNull::new(self.head().newest.load(Ordering::Acquire))?;
        Some(Version { ptr, arena: std::marker::PhantomData })
    }

    /// The newest version not after `at`.
    pub fn version_at(self, at: CommitTs) -> Option<Version<'a>> {
        let mut version = self.newest()?;
        while version.ts() > at {
            version = version.older()?;
        }
        Some(version)
    }

    /// Puts a version before the others. For the arena's one writer.
    pub fn push(self, bump: &mut Bump, arena: &'a Arena, version: NewVersion<'_>) {
        let older = self.head().newest.load(Ordering::Relaxed);
        let ptr = create_version(bump, arena, version, older);
        self.head().newest.store(ptr.as_ptr(), Ordering::Release);
    }

    fn link(self, level: usize) -> &'a AtomicPtr<u8> {
        assert!(level < self.height());
        // SAFETY: `height` links lie before the head, the lowest last; they are only used as atomics.
        unsafe { &*self.ptr.as_ptr().sub((level + 1) * LINK).cast::<AtomicPtr<u8>>() }
    }

    /// The next node on a level of the ordered list.
    pub fn next(self, level: usize) -> Option<Node<'a>> {
        let ptr = NonNull::new(self.link(level).load(Ordering::Acquire))?;
        Some(Node { ptr, arena: std::marker::PhantomData })
    }

    /// For the arena's one writer.
    pub fn set_next(self, level: usize, next: Option<Node<'a>>) {
        self.link(level).store(next.map_or(std::ptr::null_mut(), |next| next.ptr.as_ptr()), Ordering::Release);
    }

    /// Asks for the first bytes of the node, with a short key's first version and a short value, which are needed soon.
    #[inline]
    pub fn prefetch(self) {
        for line in 0..PREFETCHED_LINES {
            super::hash_index::prefetch(self.ptr.as_ptr().wrapping_add(line * 64));
        }
    }
}

impl<'a> Version<'a> {
    /// # Safety
    /// As for [`Node::from_ptr`], with [`Version::as_ptr`].
    pub unsafe fn from_ptr(ptr: NonNull<u8>) -> Version<'a> {
        Version { ptr, arena: std::marker::PhantomData }
    }

    pub fn as_ptr(self) -> NonNull<u8> {
        self.ptr
    }

    fn head(self) -> &'a VersionHead {
        // SAFETY: written before it was published, never changed.
        unsafe { self.ptr.cast::<VersionHead>().as_ref() }
    }

    pub fn ts(self) -> CommitTs {
        CommitTs(self.head().ts)
    }

    pub fn op(self) -> Op<'a> {
        let head = self.head();
        if head.deleted != 0 {
            return Op::Delete;
        }
        // SAFETY: the value's bytes lie behind the head, written before it was published, and never change.
        let value = unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().add(VERSION_HEAD), head.len as usize) };
        Op::Put { kind: Kind(head.kind), expiry: Expiry(head.expiry), value }
    }

    pub fn older(self) -> Option<Version<'a>> {
        let ptr = NonNull::new(self.head().older)?;
        Some(Version { ptr, arena: std::marker::PhantomData })
    }
}

fn create_version(bump: &mut Bump, arena: &Arena, version: NewVersion<'_>, older: *mut u8) -> NonNull<u8> {
    let ptr = bump.alloc(arena, VERSION_HEAD + version.value().len());
    // SAFETY: as many bytes as needed, just handed out.
    unsafe { write_version(ptr, version, older) };
    ptr
}

/// # Safety
/// `at` is aligned to 8 and valid for writing the version's head and value; nobody reads there yet.
unsafe fn write_version(at: NonNull<u8>, version: NewVersion<'_>, older: *mut u8) {
    let value = version.value();
    let (kind, expiry, deleted) = match version.op {
        Op::Put { kind, expiry, .. } => (kind, expiry, 0),
        Op::Delete => (Kind(0), Expiry::NEVER, 1),
    };
    let head =
        VersionHead { older, ts: version.ts.0, expiry: expiry.0, len: value.len() as u32, kind: kind.0, deleted };
    // SAFETY: the caller's promise.
    unsafe {
        at.cast::<VersionHead>().write(head);
        at.add(VERSION_HEAD).as_ptr().copy_from_nonoverlapping(value.as_ptr(), value.len());
    }
}
