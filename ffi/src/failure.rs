//! What went wrong in a call: a status for the program, and a text for people, kept until the thread's next failure.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use crate::engine::Error;
use crate::object::HandleKind;
use crate::status::corering_status::{self, *};

#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Engine(Error),
    Argument(Cow<'static, str>),
    Handle(HandleFault),
    Abi { asked: u32 },
    TooManyHandles { limit: u64 },
    Panic(String),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum HandleFault {
    Null { wanted: HandleKind },
    Unknown { wanted: HandleKind },
    WrongKind { wanted: HandleKind, found: Option<HandleKind> },
    Closed { kind: HandleKind },
    Forked,
}

impl Failure {
    pub(crate) fn argument(what: impl Into<Cow<'static, str>>) -> Failure {
        Failure::Argument(what.into())
    }

    /// Nothing was done, for reasons of others' work: as [`crate::engine::Error::is_lost_race`].
    pub(crate) fn is_lost_race(&self) -> bool {
        self.status().is_lost_race()
    }

    pub(crate) fn status(&self) -> corering_status {
        match self {
            Failure::Engine(error) => error.into(),
            Failure::Argument(_) => CORERING_ERROR_INVALID_ARGUMENT,
            Failure::Handle(HandleFault::Null { .. } | HandleFault::Unknown { .. } | HandleFault::WrongKind { .. }) => {
                CORERING_ERROR_INVALID_HANDLE
            }
            Failure::Handle(HandleFault::Closed { .. }) => CORERING_ERROR_CLOSED,
            Failure::Handle(HandleFault::Forked) => CORERING_ERROR_FORKED,
            Failure::Abi { .. } => CORERING_ERROR_ABI_MISMATCH,
            Failure::TooManyHandles { .. } => CORERING_ERROR_TOO_MANY_HANDLES,
            Failure::Panic(_) => CORERING_ERROR_PANIC,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Engine(error) => error.fmt(f),
            Failure::Argument(what) => write!(f, "invalid argument: {what}"),
            Failure::Handle(fault) => fault.fmt(f),
            Failure::Abi { asked } => write!(
                f,
                "the program was compiled for ABI {asked}; this library has ABI {}: compile it again with this library's corering.h",
                crate::version::CORERING_ABI_VERSION
            ),
            Failure::TooManyHandles { limit } => write!(f, "{limit} handles are open; close some"),
            Failure::Panic(text) => write!(f, "a mistake in the library, please report it: {text}"),
        }
    }
}

impl fmt::Display for HandleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandleFault::Null { wanted } => write!(f, "a null pointer where a {} is needed", wanted.noun()),
            HandleFault::Unknown { wanted } => {
                write!(f, "not a handle of this library where a {} is needed", wanted.noun())
            }
            HandleFault::WrongKind { wanted, found: Some(found) } => {
                write!(f, "the handle of a {} where a {} is needed", found.noun(), wanted.noun())
            }
            HandleFault::WrongKind { wanted, found: None } => {
                write!(f, "not a handle of this library where a {} is needed", wanted.noun())
            }
            HandleFault::Closed { kind } => write!(f, "the {} was closed before", kind.noun()),
            HandleFault::Forked => f.write_str(
                "the handle belongs to the process that this one was forked from; open the database in this process",
            ),
        }
    }
}

thread_local! {
    static LAST: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// Keeps `failure` as the calling thread's last one and gives its status.
#[cold]
pub(crate) fn keep(failure: Failure) -> corering_status {
    let status = failure.status();
    // A thread that is ending has nowhere to keep it; the status is enough then.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(failure);
        }
    });
    status
}

/// The text of the calling thread's last failure.
pub(crate) fn last_text() -> String {
    LAST.try_with(|last| last.try_borrow().ok().and_then(|last| last.as_ref().map(Failure::to_string)))
        .ok()
        .flatten()
        .unwrap_or_default()
}
