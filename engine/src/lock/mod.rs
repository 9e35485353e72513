//! Locks: who holds a name, who waits for it, until when (docs/locks.md).
//!
//! Guards: the rules of modes, of the line and of leases, as pure functions of a table and the time. The shard that owns a name
//! keeps its table, logs what is decided here, and answers when that is durable.
//! Does not: log, read a clock, or know what a shard is.

pub mod deadlock;
mod hold;
pub mod line;
pub mod look;
pub mod losses;
mod names;
pub mod sessions;
pub mod table;
mod timers;

use std::time::Duration;

use crate::error::{Error, Result};
use crate::ids::{FencingToken, SessionId};

/// Names are short; what they stand for lies elsewhere.
pub const LOCK_NAME_MAX: usize = 1024;
/// Leases and times to live: long enough for anybody, short enough to count in milliseconds.
pub const LEASE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
pub const LEASE_MIN: Duration = Duration::from_millis(1);
/// Who waits on one shard, over all names.
pub const WAITERS_MAX: usize = 4 << 20;

/// How a lock is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Mode {
    /// Alone.
    Exclusive,
    /// Together with others that share it.
    Shared,
    /// `units` of `permits` in all; everybody who takes part says the same number of permits.
    Semaphore { permits: u32, units: u32 },
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mode::Exclusive => f.write_str("exclusive"),
            Mode::Shared => f.write_str("shared"),
            Mode::Semaphore { permits, units } => write!(f, "{units} of {permits} permits"),
        }
    }
}

/// A session as its owner names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionKey {
    pub id: SessionId,
    pub secret: u128,
}

/// By what a request for a lock can be taken back: chosen by whoever asks, different among the session's requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AskId(pub u64);

/// What a lock's new or old holder is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    pub token: FencingToken,
    /// How often the session holds it now.
    pub count: u32,
}

/// A write may depend on a hold: it takes effect only while this token's lease runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guard {
    pub name: Vec<u8>,
    pub token: FencingToken,
}

/// Why a lock or a session said no. Nothing was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LockError {
    /// Others hold it, and waiting was not asked for.
    Held,
    /// Nobody may be known to hold it, but no lock is granted yet: the machine was stopped, and for so long there may be holders of whom
    /// nothing is on disk.
    NotYet {
        left_ms: u64,
    },
    /// It was not granted in the time given.
    TimedOut,
    /// The session holds nothing by this name.
    NotHeld,
    /// The token is not that of the session's hold.
    WrongToken {
        current: FencingToken,
    },
    /// The lease ran out.
    Expired,
    /// A guarded write: the token's holder has lost the lock.
    Fenced {
        token: FencingToken,
        current: Option<FencingToken>,
    },
    /// There is no such session, or it has ended.
    NoSession {
        id: SessionId,
    },
    WrongSecret {
        id: SessionId,
    },
    /// The sessions wait for each other in this order; this one was chosen to give way.
    Deadlock {
        cycle: Vec<SessionId>,
    },
    /// The name is used with another number of permits.
    OtherPermits {
        permits: u32,
    },
}

impl LockError {
    /// The same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, LockError::Held | LockError::NotYet { .. } | LockError::TimedOut | LockError::Deadlock { .. })
    }
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LockError::Held => f.write_str("the lock is held by others; try again, or wait for it"),
            LockError::NotYet { left_ms } => write!(
                f,
                "no lock is granted for {left_ms} ms yet: the machine was stopped, and whoever was granted one before may believe in it; \
                 try again then, or wait for it"
            ),
            LockError::TimedOut => f.write_str("the lock was not granted in the time given"),
            LockError::NotHeld => f.write_str("the session does not hold this lock"),
            LockError::WrongToken { current } => write!(f, "the session holds this lock by the token {current}"),
            LockError::Expired => f.write_str("the lease has run out; the lock must be taken anew"),
            LockError::Fenced { token, current: Some(current) } => {
                write!(f, "fenced: the token {token} holds the lock no more; the present one is {current}")
            }
            LockError::Fenced { token, current: None } => {
                write!(f, "fenced: the token {token} holds the lock no more; nobody does")
            }
            LockError::NoSession { id } => write!(f, "the session {id} does not exist or has ended; make a new one"),
            LockError::WrongSecret { id } => write!(f, "the secret is not that of session {id}"),
            LockError::Deadlock { cycle } => {
                f.write_str("deadlock: ")?;
                for id in cycle {
                    write!(f, "{id} waits for ")?;
                }
                match cycle.first() {
                    Some(first) => write!(f, "{first}; this request gave way"),
                    None => Ok(()),
                }
            }
            LockError::OtherPermits { permits } => {
                write!(
                    f,
                    "the semaphore has {permits} permits; all who use it say the same number, and a session the same units each time"
                )
            }
        }
    }
}

/// Refuse names that no shard takes.
pub fn check_name(name: &[u8]) -> Result<()> {
    match name.len() {
        0 => Err(Error::invalid("a lock has a name")),
        1..=LOCK_NAME_MAX => Ok(()),
        len => Err(Error::invalid(format!("the lock's name has {len} bytes; at most {LOCK_NAME_MAX} are allowed"))),
    }
}

pub fn check_mode(mode: Mode) -> Result<()> {
    match mode {
        Mode::Exclusive | Mode::Shared => Ok(()),
        Mode::Semaphore { permits, units } if (1..=permits).contains(&units) => Ok(()),
        Mode::Semaphore { permits, units } => {
            Err(Error::invalid(format!("{units} of {permits} permits; at least 1 and at most all can be taken")))
        }
    }
}

/// A lease, or a session's time to live, in milliseconds.
pub fn check_lease(what: &str, time: Duration) -> Result<u64> {
    if (LEASE_MIN..=LEASE_MAX).contains(&time) {
        return Ok(u64::try_from(time.as_millis()).expect("a year of milliseconds"));
    }
    Err(Error::invalid(format!("{what} is {time:?}; it must be between 1 ms and {} days", LEASE_MAX.as_secs() / 86400)))
}

/// How long a hold may last after all contact with its session is lost.
pub fn longest_ms(ttl_ms: u64, lease_ms: Option<u64>) -> u64 {
    let longest = lease_ms.map_or(ttl_ms, |lease| lease.min(ttl_ms));
    longest + margin_ms(longest)
}

/// What is waited for beyond a lease before somebody else is served: clocks run at different rates.
pub fn margin_ms(lease_ms: u64) -> u64 {
    (lease_ms / 100).max(50)
}
