//! The objects behind handles, one kind for each incomplete type of the header.

use std::sync::{Arc, Mutex};

use crate::batch::Batch;
use crate::db::Db;
use crate::failure::{Failure, HandleFault};
use crate::iterator::Iter;
use crate::queue::Queue;
use crate::registry::{self, Held, Retired};
use crate::snapshot::Snap;
use crate::transaction::Txn;
use crate::watch::Watcher;

/// What a handle stands for; the number is a part of the handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum HandleKind {
    Db = 1,
    Batch = 2,
    Snapshot = 3,
    Iterator = 4,
    Queue = 5,
    Value = 6,
    Watch = 7,
    Tx = 0,
}

impl HandleKind {
    pub(crate) fn from_bits(bits: u64) -> Option<HandleKind> {
        use HandleKind::*;
        [Db, Batch, Snapshot, Iterator, Queue, Value, Watch, Tx].into_iter().find(|kind| *kind as u64 == bits)
    }

    pub(crate) fn noun(self) -> &'static str {
        match self {
            HandleKind::Db => "database",
            HandleKind::Batch => "batch",
            HandleKind::Snapshot => "snapshot",
            HandleKind::Iterator => "iterator",
            HandleKind::Queue => "queue",
            HandleKind::Value => "value",
            HandleKind::Watch => "watch",
            HandleKind::Tx => "transaction",
        }
    }
}

pub(crate) enum Object {
    Db(Arc<Db>),
    /// The mutex answers a host that uses one batch or iterator in two threads at once: they take turns.
    Batch(Box<Mutex<Batch>>),
    Snapshot(Arc<Snap>),
    Iterator(Box<Mutex<Iter>>),
    Queue(Box<Queue>),
    Watch(Box<Watcher>),
    /// Only owned here: C reads the bytes.
    Value(#[allow(dead_code)] Vec<u8>),
    Tx(Arc<Txn>),
}

impl Object {
    pub(crate) fn kind(&self) -> HandleKind {
        match self {
            Object::Db(_) => HandleKind::Db,
            Object::Batch(_) => HandleKind::Batch,
            Object::Snapshot(_) => HandleKind::Snapshot,
            Object::Iterator(_) => HandleKind::Iterator,
            Object::Queue(_) => HandleKind::Queue,
            Object::Value(_) => HandleKind::Value,
            Object::Watch(_) => HandleKind::Watch,
            Object::Tx(_) => HandleKind::Tx,
        }
    }
}

/// A type whose values live behind handles of one kind.
pub(crate) trait Kinded {
    const KIND: HandleKind;
    fn of(object: &Object) -> Option<&Self>;
}

macro_rules! kinded {
    ($($type:ty => $kind:ident),* $(,)?) => {$(
        impl Kinded for $type {
            const KIND: HandleKind = HandleKind::$kind;
            #[inline]
            fn of(object: &Object) -> Option<&$type> {
                match object {
                    Object::$kind(it) => Some(it),
                    _ => None,
                }
            }
        }
    )*};
}

kinded! {
    Arc<Db> => Db, Mutex<Batch> => Batch, Arc<Snap> => Snapshot, Mutex<Iter> => Iterator, Queue => Queue, Watcher => Watch,
    Arc<Txn> => Tx,
}

/// An object that one call uses.
pub(crate) struct Using<T> {
    held: Held,
    kind: std::marker::PhantomData<T>,
}

impl<T: Kinded> std::ops::Deref for Using<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        T::of(self.held.object()).expect("the handle carries its object's kind")
    }
}

/// Finds the object of type `T` behind the number that C sees as a pointer.
#[inline]
pub(crate) fn using<T: Kinded, C>(handle: *mut C) -> Result<Using<T>, Failure> {
    Ok(Using { held: registry::hold(handle.addr() as u64, T::KIND)?, kind: std::marker::PhantomData })
}

/// As [`using`], with null for none.
#[inline]
pub(crate) fn using_if_given<T: Kinded, C>(handle: *mut C) -> Result<Option<Using<T>>, Failure> {
    if handle.is_null() { Ok(None) } else { using(handle).map(Some) }
}

/// Ends a handle; null is no handle and needs no end.
pub(crate) fn retire<C>(handle: *mut C, kind: HandleKind) -> Result<Option<Retired>, Failure> {
    retire_number(handle.addr() as u64, kind)
}

pub(crate) fn retire_number(handle: u64, kind: HandleKind) -> Result<Option<Retired>, Failure> {
    match registry::retire(handle, kind) {
        Ok(retired) => Ok(Some(retired)),
        Err(Failure::Handle(HandleFault::Null { .. })) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Gives `object` a handle, in the form that C sees.
pub(crate) fn publish<C>(object: Object) -> Result<*mut C, Failure> {
    let number = registry::insert(object)?;
    Ok(std::ptr::without_provenance_mut(number as usize))
}
