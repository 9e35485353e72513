//! What can go wrong, with the facts a caller needs; callers decide by predicates, not by lists of variants.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::{CommitTs, ShardId};
use crate::lock::LockError;
use crate::txn::TxError;

pub type Result<T> = std::result::Result<T, Error>;

/// Where a shard was when it could not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Append,
    Write,
    Sync,
    Apply,
    Checkpoint,
    Assertion,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Append => "append",
            Stage::Write => "write",
            Stage::Sync => "sync",
            Stage::Apply => "apply",
            Stage::Checkpoint => "checkpoint",
            Stage::Assertion => "assertion",
        })
    }
}

/// The first cause that stopped a shard, kept for good.
#[derive(Clone, Debug)]
pub struct Poisoned {
    pub shard: ShardId,
    pub stage: Stage,
    pub cause: String,
}

/// A failure of the engine. Cheap to clone, so that one failed sync can answer all who waited for it.
#[derive(Clone, Debug)]
pub enum Error {
    /// The call's arguments make no sense; nothing was done.
    InvalidArgument {
        what: String,
    },
    KeyTooLarge {
        len: u64,
        max: u64,
    },
    ValueTooLarge {
        len: u64,
        max: u64,
    },
    BatchTooLarge {
        bytes: u64,
        max: u64,
    },
    /// A step uses a key of a shard that it does not hold.
    CrossShard {
        first: ShardId,
        other: ShardId,
    },
    /// `incr` met a value that is not a decimal 64-bit integer, or would overflow.
    NotAnInteger,
    Overflow,
    /// A queue is full; nothing was done; try again.
    Busy {
        queue: &'static str,
        limit: u64,
    },
    /// The disk has no room for more log; nothing was done. Reads and deletes go on.
    NoSpace {
        path: PathBuf,
    },
    /// The shard could not go on; the write was not acknowledged and may or may not be durable.
    Poisoned(Arc<Poisoned>),
    /// A lock, a session or a guard refused; nothing was done.
    Lock(LockError),
    /// A transaction was refused.
    Tx(TxError),
    /// A watch from further back than what is kept; `oldest` is the earliest commit after which everything still is.
    Compacted {
        oldest: CommitTs,
    },
    /// A watch that was not taken from was cut off; one from `resume` loses nothing.
    Lagged {
        resume: CommitTs,
    },
    /// The engine was closed.
    Closed,
    /// Another process, or another handle of this one, has the directory open.
    Locked {
        path: PathBuf,
        holder_pid: Option<u32>,
    },
    /// Bytes on disk are not what was written there; the database is not opened.
    Corrupt {
        path: PathBuf,
        offset: u64,
        what: String,
    },
    /// The directory was written by something this version cannot read.
    Incompatible {
        path: PathBuf,
        what: String,
    },
    /// The kernel, the container or a limit does not allow what the engine needs; `what` says what to do.
    Unsupported {
        what: String,
    },
    Io {
        op: &'static str,
        path: PathBuf,
        offset: Option<u64>,
        source: Arc<io::Error>,
    },
}

impl Error {
    pub fn invalid(what: impl Into<String>) -> Error {
        Error::InvalidArgument { what: what.into() }
    }

    pub fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { op, path: path.into(), offset: None, source: Arc::new(source) }
    }

    pub fn io_at(op: &'static str, path: impl Into<PathBuf>, offset: u64, source: io::Error) -> Error {
        Error::Io { op, path: path.into(), offset: Some(offset), source: Arc::new(source) }
    }

    pub fn corrupt(path: impl Into<PathBuf>, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt { path: path.into(), offset, what: what.into() }
    }

    /// Nothing was done and the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Busy { .. } | Error::NoSpace { .. } => true,
            Error::Lock(refusal) => refusal.is_retryable(),
            Error::Tx(refusal) => refusal.is_retryable(),
            _ => false,
        }
    }

    /// A transaction lost against others' work: what to run again at once, after a pause. A full disk is retryable, too, but not so.
    pub fn is_lost_race(&self) -> bool {
        matches!(self, Error::Tx(_) | Error::Busy { .. }) && self.is_retryable()
    }

    /// The write was not acknowledged, yet may be found after the next opening.
    pub fn may_have_committed(&self) -> bool {
        matches!(self, Error::Poisoned(_))
    }

    /// The operating system said that the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::NoSpace { .. } => true,
            Error::Io { source, .. } => matches!(source.raw_os_error(), Some(libc::ENOSPC) | Some(libc::EDQUOT)),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidArgument { what } => write!(f, "invalid argument: {what}"),
            Error::KeyTooLarge { len, max } => write!(f, "the key has {len} bytes; at most {max} are allowed"),
            Error::ValueTooLarge { len, max } => write!(f, "the value has {len} bytes; at most {max} are allowed"),
            Error::BatchTooLarge { bytes, max } => {
                write!(f, "the batch has {bytes} bytes; at most {max} are allowed; split it")
            }
            Error::CrossShard { first, other } => write!(
                f,
                "a step on shard {first} uses a key of shard {other}; name all its keys, or give them one {{tag}} to keep them together"
            ),
            Error::NotAnInteger => f.write_str("the value is not an integer or out of range"),
            Error::Overflow => f.write_str("increment or decrement would overflow"),
            Error::Busy { queue, limit } => write!(f, "busy: the {queue} is full ({limit}); try again"),
            Error::NoSpace { path } => {
                write!(f, "no space left for {}; make room and try again", path.display())
            }
            Error::Poisoned(p) => write!(
                f,
                "shard {} stopped at {}: {}; what was not acknowledged may or may not be durable; reopen the database",
                p.shard, p.stage, p.cause
            ),
            Error::Lock(refusal) => write!(f, "{refusal}"),
            Error::Tx(refusal) => write!(f, "{refusal}"),
            Error::Compacted { oldest } => write!(
                f,
                "changes so far back are not kept any more; the earliest watch is from commit {oldest}: read what is there, and watch from there"
            ),
            Error::Lagged { resume } => {
                write!(f, "the watch was cut off because it was not taken from; watch again from commit {resume}")
            }
            Error::Closed => f.write_str("the engine is closed"),
            Error::Locked { path, holder_pid: Some(pid) } => {
                write!(f, "{} is open in process {pid}; close it there first", path.display())
            }
            Error::Locked { path, holder_pid: None } => {
                write!(f, "{} is open in another process; close it there first", path.display())
            }
            Error::Corrupt { path, offset, what } => {
                write!(f, "{} is damaged at byte {offset}: {what}", path.display())
            }
            Error::Incompatible { path, what } => write!(f, "{} cannot be read: {what}", path.display()),
            Error::Unsupported { what } => f.write_str(what),
            Error::Io { op, path, offset: Some(at), source } => {
                write!(f, "{op} {} at byte {at}: {source}", path.display())
            }
            Error::Io { op, path, offset: None, source } => write!(f, "{op} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
