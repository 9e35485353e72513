//! Turns handles into objects, and survives every handle that is none.
//!
//! A handle is a number that C sees as a pointer to an incomplete type. Nobody ever dereferences it: it is looked up.
//!
//! ```text
//!  63   62..60  59..52       51..28   27..0
//!  1    kind    incarnation  index    generation
//! ```
//!
//! The top bit is never set in an address of a program, so no pointer passes for a handle. `index` names a slot;
//! `generation` grows with every use of it, so that a closed handle is told from the one that has its slot now;
//! `incarnation` counts the forks behind this process, so that a child's handles are not its parent's.
//!
//! Guards: an object is not dropped while a call uses it. A call announces the handle in its thread's `Record` and then
//! looks whether the slot still holds it; whoever closes clears the slot first and then looks at all records, and waits
//! (hazard pointers: Michael, "Safe memory reclamation for dynamic lock-free objects using atomic reads and writes",
//! 2002). A lookup writes only to its own thread's cache line.
//!
//! Does not: know what the objects are (`object.rs`). This is the one global of the library: the price of surviving a
//! double close. Slots and records are never freed; a slot takes 64 bytes and is used again.

#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};
use std::time::Duration;

use crossbeam_utils::{Backoff, CachePadded};

use crate::failure::{Failure, HandleFault};
use crate::object::{HandleKind, Object};
use crate::process::Birthplace;

const HANDLE_BIT: u64 = 1 << 63;
const KIND_SHIFT: u32 = 60;
const INCARNATION_SHIFT: u32 = 52;
const INDEX_SHIFT: u32 = 28;
const GENERATION_MAX: u32 = (1 << INDEX_SHIFT) - 1;
const INDEX_COUNT: u32 = 1 << (INCARNATION_SHIFT - INDEX_SHIFT);
/// A child so many forks away gets no handles: their numbers would begin to repeat.
const INCARNATION_MAX: u64 = 0xff;

/// Slots of the first chunk; each further chunk has twice as many as the one before.
const CHUNK_LEN: u32 = 64;
const CHUNKS: usize = 18;
/// Handles that one call uses at the same time.
const LANES: usize = 3;

const _: () = assert!(CHUNK_LEN as u64 * ((1 << CHUNKS) - 1) + CHUNK_LEN as u64 == INDEX_COUNT as u64);

#[repr(align(64))]
struct Slot {
    /// The handle that lives here, or zero.
    live: AtomicU64,
    /// Of the handle that lives here, or will next.
    generation: AtomicU32,
    /// The next free slot's index + 1.
    next_free: AtomicU32,
    object: UnsafeCell<Option<Object>>,
}

/// What one thread is using.
struct Record {
    lanes: [AtomicU64; LANES],
    taken: AtomicBool,
    next: *const CachePadded<Record>,
    registry: *const Registry,
}

pub(crate) struct Registry {
    birthplace: Birthplace,
    incarnation: u64,
    chunks: [AtomicPtr<Slot>; CHUNKS],
    /// Slots ever used.
    used: AtomicU32,
    /// Stack of free slots: a counter against ABA in the upper half, index + 1 in the lower.
    free: AtomicU64,
    records: AtomicPtr<CachePadded<Record>>,
}

// SAFETY: a slot's object is written only by the thread that took the slot from the free stack or cleared `live`, when
// no other can see it; it is read only under a lane that keeps it; objects are Send and Sync. `next` and `registry` of
// a record never change once it is published.
unsafe impl Sync for Registry {}

static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    // Nothing to drop: it can be used while the thread's other variables are being destroyed.
    static MINE: Cell<Option<&'static Record>> = const { Cell::new(None) };
}

/// Called by the C library at a thread's end, in as many rounds as it takes: a call that another destructor makes after
/// this one takes a record again, and this one runs again. (Rust's own thread locals have one round.)
unsafe extern "C" fn release_at_exit(record: *mut c_void) {
    MINE.set(None);
    // SAFETY: what `first_record` set for this key: a record, which is never freed.
    unsafe { &*record.cast::<Record>() }.taken.store(false, Release);
}

/// The key under which a thread keeps its record until its end; none if the process has run out of keys.
fn exit_key() -> Option<libc::pthread_key_t> {
    static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: `key` is writable; the destructor stays where it is, since the library is never unloaded (build.rs).
        (unsafe { libc::pthread_key_create(&raw mut key, Some(release_at_exit)) } == 0).then_some(key)
    })
}

/// This process's registry.
#[inline]
fn registry() -> Result<&'static Registry, Failure> {
    // SAFETY: null, or a registry that was leaked by `start`.
    match unsafe { REGISTRY.load(Acquire).as_ref() } {
        Some(registry) if registry.birthplace.is_here() => Ok(registry),
        other => start(other),
    }
}

/// Makes the first registry of a process. What a child inherited from its parent is left as it is, for ever: dropping
/// it would act on the parent's files.
#[cold]
fn start(inherited: Option<&'static Registry>) -> Result<&'static Registry, Failure> {
    let incarnation = inherited.map_or(0, |r| r.incarnation + 1);
    if incarnation > INCARNATION_MAX {
        return Err(Failure::Handle(HandleFault::Forked));
    }
    let new = Box::into_raw(Box::new(Registry {
        birthplace: Birthplace::here(),
        incarnation,
        chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
        used: AtomicU32::new(0),
        free: AtomicU64::new(0),
        records: AtomicPtr::new(ptr::null_mut()),
    }));
    let old = inherited.map_or(ptr::null_mut(), |r| ptr::from_ref(r).cast_mut());
    match REGISTRY.compare_exchange(old, new, AcqRel, Acquire) {
        // SAFETY: just leaked, never freed.
        Ok(_) => Ok(unsafe { &*new }),
        Err(theirs) => {
            // SAFETY: `new` was never published; `theirs` was leaked by another thread's `start`.
            unsafe {
                drop(Box::from_raw(new));
                Ok(&*theirs)
            }
        }
    }
}

/// Gives `object` a handle.
pub(crate) fn insert(object: Object) -> Result<u64, Failure> {
    let registry = registry()?;
    let kind = object.kind();
    let index = registry.take_slot()?;
    let slot = registry.slot(index).expect("a slot taken exists");
    let handle = HANDLE_BIT
        | (kind as u64) << KIND_SHIFT
        | registry.incarnation << INCARNATION_SHIFT
        | u64::from(index) << INDEX_SHIFT
        | u64::from(slot.generation.load(Relaxed));
    // SAFETY: the slot is off the free stack and `live` is zero: nobody else looks at the object.
    unsafe { *slot.object.get() = Some(object) };
    slot.live.store(handle, SeqCst);
    Ok(handle)
}

/// Keeps the object behind `handle` alive until the guard is dropped.
#[inline]
pub(crate) fn hold(handle: u64, kind: HandleKind) -> Result<Held, Failure> {
    let registry = registry()?;
    let slot = registry.find(handle, kind)?;
    let (record, borrowed) = registry.record();
    // Only this thread fills its lanes.
    let Some(lane) = record.lanes.iter().find(|lane| lane.load(Relaxed) == 0) else {
        return Err(Failure::Panic("a call uses more handles than there are lanes".into()));
    };
    lane.store(handle, SeqCst);
    let held = Held { slot, lane, record, borrowed, not_send: PhantomData };
    if slot.live.load(SeqCst) == handle { Ok(held) } else { Err(slot.fault(handle, kind)) }
}

/// Ends `handle`: from here on it is closed for everybody. Of several threads that try, one gets the object.
pub(crate) fn retire(handle: u64, kind: HandleKind) -> Result<Retired, Failure> {
    let registry = registry()?;
    let slot = registry.find(handle, kind)?;
    match slot.live.compare_exchange(handle, 0, SeqCst, SeqCst) {
        Ok(_) => Ok(Retired { registry, slot, handle, done: false }),
        Err(_) => Err(slot.fault(handle, kind)),
    }
}

/// An object that this call may use.
pub(crate) struct Held {
    slot: &'static Slot,
    lane: &'static AtomicU64,
    record: &'static Record,
    /// The record is for this call only: the thread is ending and has none of its own any more.
    borrowed: bool,
    not_send: PhantomData<*const ()>,
}

impl Held {
    #[inline]
    pub(crate) fn object(&self) -> &Object {
        // SAFETY: the lane was set before `live` was seen to be this handle, so the closer waits for us.
        unsafe { (*self.slot.object.get()).as_ref() }.expect("a live slot has an object")
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        self.lane.store(0, Release);
        if self.borrowed {
            self.record.taken.store(false, Release);
        }
    }
}

/// An object that only calls in flight still use.
pub(crate) struct Retired {
    registry: &'static Registry,
    slot: &'static Slot,
    handle: u64,
    done: bool,
}

impl Retired {
    pub(crate) fn object(&self) -> &Object {
        // SAFETY: only `finish` takes the object, and it takes `self`.
        unsafe { (*self.slot.object.get()).as_ref() }.expect("a retired slot has its object")
    }

    /// Waits until no call uses the object, and hands it over.
    pub(crate) fn finish(mut self) -> Object {
        self.take()
    }

    fn take(&mut self) -> Object {
        self.done = true;
        self.registry.wait_for_calls(self.handle);
        // SAFETY: `live` is zero, so no new call finds the object, and those that had found it are over.
        let object = unsafe { (*self.slot.object.get()).take() }.expect("a retired slot has its object");
        self.registry.give_back(self.slot, self.handle);
        object
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        if !self.done {
            drop(self.take());
        }
    }
}

fn kind_bits(handle: u64) -> u64 {
    (handle & !HANDLE_BIT) >> KIND_SHIFT
}

fn index_of(handle: u64) -> u32 {
    (handle >> INDEX_SHIFT) as u32 & (INDEX_COUNT - 1)
}

impl Registry {
    #[inline]
    fn find(&self, handle: u64, kind: HandleKind) -> Result<&Slot, Failure> {
        if handle & HANDLE_BIT == 0 || kind_bits(handle) != kind as u64 || handle == u64::MAX {
            return Err(not_of_kind(handle, kind));
        }
        if handle >> INCARNATION_SHIFT & INCARNATION_MAX != self.incarnation {
            return Err(Failure::Handle(HandleFault::Forked));
        }
        self.slot(index_of(handle)).ok_or(Failure::Handle(HandleFault::Unknown { wanted: kind }))
    }

    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot> {
        let (chunk, offset) = place(index);
        let first = self.chunks.get(chunk)?.load(Acquire);
        if first.is_null() {
            return None;
        }
        // SAFETY: the chunk is an array of `chunk_len(chunk)` slots, `offset` is less, and it is never freed.
        Some(unsafe { &*first.add(offset) })
    }

    fn take_slot(&self) -> Result<u32, Failure> {
        let mut head = self.free.load(Acquire);
        while let Some(index) = (head as u32).checked_sub(1) {
            let next = self.slot(index).expect("a free slot exists").next_free.load(Relaxed);
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(next);
            match self.free.compare_exchange_weak(head, new, AcqRel, Acquire) {
                Ok(_) => return Ok(index),
                Err(now) => head = now,
            }
        }
        let index = self.used.fetch_add(1, Relaxed);
        if index >= INDEX_COUNT - CHUNK_LEN {
            self.used.fetch_sub(1, Relaxed);
            return Err(Failure::TooManyHandles { limit: u64::from(INDEX_COUNT - CHUNK_LEN) });
        }
        self.grow_to(place(index).0);
        Ok(index)
    }

    /// Makes sure that the chunk is there.
    fn grow_to(&self, chunk: usize) {
        if !self.chunks[chunk].load(Acquire).is_null() {
            return;
        }
        let slots: Box<[Slot]> = (0..chunk_len(chunk)).map(|_| Slot::new()).collect();
        let new = Box::into_raw(slots).cast::<Slot>();
        if self.chunks[chunk].compare_exchange(ptr::null_mut(), new, AcqRel, Acquire).is_err() {
            let slots = ptr::slice_from_raw_parts_mut(new, chunk_len(chunk));
            // SAFETY: made by `into_raw` above with this length, and not published.
            drop(unsafe { Box::from_raw(slots) });
        }
    }

    /// The slot may be used again, unless its generations are used up: a closed handle must never come back to life.
    fn give_back(&self, slot: &Slot, handle: u64) {
        let generation = slot.generation.load(Relaxed);
        slot.generation.store(generation + 1, Release);
        if generation == GENERATION_MAX {
            return;
        }
        let index = index_of(handle);
        let mut head = self.free.load(Relaxed);
        loop {
            slot.next_free.store(head as u32, Relaxed);
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(index + 1);
            match self.free.compare_exchange_weak(head, new, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn wait_for_calls(&self, handle: u64) {
        let backoff = Backoff::new();
        while self.is_used(handle) {
            if backoff.is_completed() {
                std::thread::sleep(Duration::from_micros(100));
            } else {
                backoff.snooze();
            }
        }
    }

    fn is_used(&self, handle: u64) -> bool {
        let mut record = self.records.load(SeqCst).cast_const();
        // SAFETY: records are published whole and never freed.
        while let Some(r) = unsafe { record.as_ref() } {
            if r.lanes.iter().any(|lane| lane.load(SeqCst) == handle) {
                return true;
            }
            record = r.next;
        }
        false
    }

    /// The calling thread's record, and whether it must be given back after the call.
    #[inline]
    fn record(&self) -> (&'static Record, bool) {
        match MINE.get() {
            Some(record) if ptr::eq(record.registry, self) => (record, false),
            _ => self.first_record(),
        }
    }

    #[cold]
    fn first_record(&self) -> (&'static Record, bool) {
        let record = self.take_record();
        let place = ptr::from_ref(record).cast::<c_void>();
        // SAFETY: the key was made by `exit_key`.
        let kept = exit_key().is_some_and(|key| unsafe { libc::pthread_setspecific(key, place) } == 0);
        if kept {
            MINE.set(Some(record));
        }
        // Otherwise nobody would release the record at the thread's end.
        (record, !kept)
    }

    fn take_record(&self) -> &'static Record {
        let mut at = self.records.load(Acquire).cast_const();
        // SAFETY: records are published whole and never freed.
        while let Some(record) = unsafe { at.as_ref() } {
            if record.taken.compare_exchange(false, true, AcqRel, Relaxed).is_ok() {
                return record;
            }
            at = record.next;
        }
        let new = Box::leak(Box::new(CachePadded::new(Record {
            lanes: [const { AtomicU64::new(0) }; LANES],
            taken: AtomicBool::new(true),
            next: ptr::null(),
            registry: self,
        })));
        let mut head = self.records.load(Relaxed);
        loop {
            new.next = head;
            match self.records.compare_exchange(head, new, SeqCst, Relaxed) {
                Ok(_) => return new,
                Err(now) => head = now,
            }
        }
    }
}

impl Slot {
    fn new() -> Slot {
        Slot {
            live: AtomicU64::new(0),
            generation: AtomicU32::new(1),
            next_free: AtomicU32::new(0),
            object: UnsafeCell::new(None),
        }
    }

    /// Why this handle is not the one that lives here.
    #[cold]
    fn fault(&self, handle: u64, wanted: HandleKind) -> Failure {
        let given = handle as u32 & GENERATION_MAX;
        let known = given != 0 && given <= self.generation.load(Acquire);
        Failure::Handle(if known { HandleFault::Closed { kind: wanted } } else { HandleFault::Unknown { wanted } })
    }
}

#[cold]
fn not_of_kind(handle: u64, wanted: HandleKind) -> Failure {
    Failure::Handle(if handle == 0 {
        HandleFault::Null { wanted }
    } else if handle & HANDLE_BIT == 0 {
        HandleFault::Unknown { wanted }
    } else {
        // A pointer of all ones is nobody's, though its bits are those of a kind.
        let found = HandleKind::from_bits(kind_bits(handle)).filter(|_| handle != u64::MAX);
        HandleFault::WrongKind { wanted, found }
    })
}

fn chunk_len(chunk: usize) -> usize {
    (CHUNK_LEN as usize) << chunk
}

/// Chunk and place in it.
#[inline]
fn place(index: u32) -> (usize, usize) {
    let chunk = (index / CHUNK_LEN + 1).ilog2();
    (chunk as usize, (index - CHUNK_LEN * ((1 << chunk) - 1)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8]) -> u64 {
        insert(Object::Value(bytes.to_vec())).expect("there is room")
    }

    fn fault(result: Result<Held, Failure>) -> HandleFault {
        match result {
            Err(Failure::Handle(fault)) => fault,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("the handle is accepted"),
        }
    }

    #[test]
    fn places_follow_each_other_without_gap_or_overlap() {
        let mut expected = (0, 0);
        for index in 0..100_000 {
            assert_eq!(place(index), expected, "{index}");
            expected.1 += 1;
            if expected.1 == chunk_len(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        assert_eq!(place(INDEX_COUNT - CHUNK_LEN - 1), (CHUNKS - 1, chunk_len(CHUNKS - 1) - 1));
    }

    #[test]
    fn whatever_is_no_live_handle_is_told_apart() {
        let live = value(b"here");
        assert!(matches!(fault(hold(0, HandleKind::Value)), HandleFault::Null { .. }));
        assert!(matches!(fault(hold(0x7fff_1234_5678, HandleKind::Value)), HandleFault::Unknown { .. }));
        for kind in [HandleKind::Value, HandleKind::Watch] {
            assert!(matches!(fault(hold(u64::MAX, kind)), HandleFault::WrongKind { found: None, .. }));
        }
        let as_db = fault(hold(live, HandleKind::Db));
        assert!(matches!(as_db, HandleFault::WrongKind { found: Some(HandleKind::Value), .. }));
        let never = live | u64::from(INDEX_COUNT - 1) << INDEX_SHIFT;
        assert!(matches!(fault(hold(never, HandleKind::Value)), HandleFault::Unknown { .. }));
        let later = live + 5;
        assert!(matches!(fault(hold(later, HandleKind::Value)), HandleFault::Unknown { .. }));
        let other_process = live ^ 1 << INCARNATION_SHIFT;
        assert!(matches!(fault(hold(other_process, HandleKind::Value)), HandleFault::Forked));
        drop(retire(live, HandleKind::Value).expect("it lives").finish());
        assert!(matches!(fault(hold(live, HandleKind::Value)), HandleFault::Closed { .. }));
        assert!(retire(live, HandleKind::Value).is_err());
    }

    #[test]
    fn a_slot_used_again_does_not_revive_the_old_handle() {
        let old = value(b"old");
        drop(retire(old, HandleKind::Value).expect("it lives"));
        let all: Vec<u64> = (0..200).map(|n| value(&[n])).collect();
        assert!(matches!(fault(hold(old, HandleKind::Value)), HandleFault::Closed { .. }));
        all.into_iter().for_each(|handle| drop(retire(handle, HandleKind::Value).expect("it lives")));
    }

    #[test]
    fn of_many_threads_that_close_one_gets_the_object() {
        for _ in 0..200 {
            let handle = value(b"x");
            let won: usize = std::thread::scope(|scope| {
                let tries: Vec<_> = (0..4)
                    .map(|_| scope.spawn(move || retire(handle, HandleKind::Value).map(Retired::finish).is_ok()))
                    .collect();
                tries.into_iter().map(|thread| usize::from(thread.join().expect("no panic"))).sum()
            });
            assert_eq!(won, 1);
        }
    }

    /// Readers hold and read while another thread closes and opens: nobody reads bytes that were given back. Its bytes
    /// are checked, so that memory used again shows (and an address sanitizer sees it at once).
    #[test]
    fn an_object_outlives_the_calls_that_use_it() {
        let shared = AtomicU64::new(value(&[7; 64]));
        let stop = AtomicBool::new(false);
        let seen = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        if let Ok(held) = hold(shared.load(Relaxed), HandleKind::Value) {
                            let Object::Value(bytes) = held.object() else { panic!("a value became something else") };
                            assert!(bytes.iter().all(|byte| *byte == bytes[0]) && bytes.len() == 64);
                            seen.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
            for round in 0u32.. {
                if round > 5_000 && seen.load(Relaxed) > 1_000 {
                    break;
                }
                let old = shared.swap(value(&[round as u8; 64]), Relaxed);
                let Object::Value(mut bytes) = retire(old, HandleKind::Value).expect("ours").finish() else {
                    panic!("a value became something else")
                };
                bytes.iter_mut().enumerate().for_each(|(n, byte)| *byte = n as u8);
                std::hint::black_box(&bytes);
            }
            stop.store(true, Relaxed);
        });
    }
}
