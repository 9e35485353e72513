//! loom's locks and wakers in the shape of those that the engine uses: a lock is never poisoned, a condition takes the guard
//! by reference, and so is a waker taken. Queues and places that others wrote without locks have one here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use loom::sync::MutexGuard;

#[derive(Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> Guard<'_, T> {
        Guard(Some(self.0.lock().expect("a model's panic ends it")))
    }
}

/// Empty only while a condition has it.
pub struct Guard<'a, T>(Option<MutexGuard<'a, T>>);

impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("held")
    }
}

impl<T> std::ops::DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("held")
    }
}

#[derive(Default)]
pub struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub fn new() -> Condvar {
        Condvar(loom::sync::Condvar::new())
    }

    pub fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        let held = guard.0.take().expect("held");
        guard.0 = Some(self.0.wait(held).expect("a model's panic ends it"));
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }
}

#[derive(Default)]
pub struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub fn wake(&self) {
        self.0.wake();
    }
}

/// A queue of a fixed length. Not crossbeam's, whose own orderings are not looked at here.
pub struct ArrayQueue<T> {
    capacity: usize,
    entries: Mutex<VecDeque<T>>,
}

impl<T> ArrayQueue<T> {
    pub fn new(capacity: usize) -> ArrayQueue<T> {
        ArrayQueue { capacity, entries: Mutex::new(VecDeque::new()) }
    }

    pub fn push(&self, entry: T) -> Result<(), T> {
        let mut entries = self.entries.lock();
        if entries.len() == self.capacity {
            return Err(entry);
        }
        entries.push_back(entry);
        Ok(())
    }

    pub fn pop(&self) -> Option<T> {
        self.entries.lock().pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.lock().is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// A place that is replaced as a whole.
pub struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

impl<T> ArcSwapOption<T> {
    pub fn empty() -> ArcSwapOption<T> {
        ArcSwapOption(Mutex::new(None))
    }

    pub fn load(&self) -> Option<Arc<T>> {
        self.0.lock().clone()
    }

    pub fn store(&self, value: Option<Arc<T>>) {
        let before = std::mem::replace(&mut *self.0.lock(), value);
        drop(before);
    }
}
