//! The outcome of a call, as a number that never changes its meaning.

use crate::engine::{Error, LockError, TxError};

/// The outcome of a call. Zero: done. Above zero: done, with an answer other than the usual one. Below zero: an error.
/// These numbers are for ever; later versions may add some.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum corering_status {
    /// Done.
    CORERING_OK = 0,
    /// There is no such key.
    CORERING_NOT_FOUND = 1,
    /// The condition of a conditional write does not hold; nothing was written.
    CORERING_REFUSED = 2,
    /// The iterator has no further entry.
    CORERING_END = 3,
    /// The caller's buffer is too short; the length that it needs was written.
    CORERING_BUFFER_TOO_SMALL = 4,
    /// An argument makes no sense; nothing was done.
    CORERING_ERROR_INVALID_ARGUMENT = -1,
    /// The handle is null, of another kind, or was never given out.
    CORERING_ERROR_INVALID_HANDLE = -2,
    /// The handle, or the database behind it, was closed.
    CORERING_ERROR_CLOSED = -3,
    /// The handle belongs to the process that this one was forked from.
    CORERING_ERROR_FORKED = -4,
    /// The program was compiled for an ABI that this library does not have.
    CORERING_ERROR_ABI_MISMATCH = -5,
    /// More handles are open than the library can number.
    CORERING_ERROR_TOO_MANY_HANDLES = -6,
    /// The library found a mistake of its own; the call may or may not have taken effect.
    CORERING_ERROR_PANIC = -7,
    /// The key is longer than CORERING_KEY_LEN_MAX.
    CORERING_ERROR_KEY_TOO_LARGE = -8,
    /// The value is longer than CORERING_VALUE_LEN_MAX.
    CORERING_ERROR_VALUE_TOO_LARGE = -9,
    /// The atomic batch holds more bytes than the engine takes at once.
    CORERING_ERROR_BATCH_TOO_LARGE = -10,
    /// Not given any more: batches and transactions may have keys of any shards.
    CORERING_ERROR_CROSS_SHARD = -11,
    /// An increment met a value that is no decimal 64-bit integer.
    CORERING_ERROR_NOT_AN_INTEGER = -12,
    /// An increment would leave the range of 64-bit integers.
    CORERING_ERROR_OVERFLOW = -13,
    /// A queue is full; nothing was done; the same call may succeed later.
    CORERING_ERROR_BUSY = -14,
    /// The disk has no room; nothing was done; the same call may succeed once there is room.
    CORERING_ERROR_NO_SPACE = -15,
    /// A shard stopped for good; the write may or may not be found after the next opening.
    CORERING_ERROR_POISONED = -16,
    /// The directory is open in another process, or by another handle of this one.
    CORERING_ERROR_LOCKED = -17,
    /// Bytes on disk are not what was written there; the message names the file and the byte.
    CORERING_ERROR_CORRUPT = -18,
    /// The directory was written by something that this version cannot read.
    CORERING_ERROR_INCOMPATIBLE = -19,
    /// The kernel, the container or a limit does not allow what the engine needs; the message says what to do.
    CORERING_ERROR_UNSUPPORTED = -20,
    /// The operating system refused an operation; the message says which, and on what file.
    CORERING_ERROR_IO = -21,
    /// Others hold the lock and waiting was not asked for; the same call may succeed later.
    CORERING_ERROR_LOCK_HELD = -22,
    /// The lock was not granted in the time given; the same call may succeed later.
    CORERING_ERROR_LOCK_TIMEOUT = -23,
    /// The session does not hold the lock.
    CORERING_ERROR_NOT_HELD = -24,
    /// The token is not the one by which the session holds the lock.
    CORERING_ERROR_WRONG_TOKEN = -25,
    /// The lease has run out; the lock must be taken anew.
    CORERING_ERROR_LEASE_EXPIRED = -26,
    /// A guard of the write has lost its lock; nothing was written.
    CORERING_ERROR_FENCED = -27,
    /// The session does not exist or has ended.
    CORERING_ERROR_NO_SESSION = -28,
    /// The secret is not the session's.
    CORERING_ERROR_WRONG_SECRET = -29,
    /// Sessions wait for each other, and this request gave way; the message names them; the same call may succeed later.
    CORERING_ERROR_DEADLOCK = -30,
    /// The semaphore is in use with another number of permits.
    CORERING_ERROR_OTHER_PERMITS = -31,
    /// Changes so far back are not kept any more; `corering_watch_progress` tells from where there are all.
    CORERING_ERROR_COMPACTED = -32,
    /// The watch was cut off because it was not taken from; `corering_watch_progress` tells from where to go on.
    CORERING_ERROR_LAGGED = -33,
    /// No lock is granted yet after the machine was stopped, and waiting was not asked for; the message says for how long; the same call
    /// may succeed then.
    CORERING_ERROR_LOCK_NOT_YET = -34,
    /// Others changed what the transaction read, or kept what it would write; nothing was done; run it again.
    CORERING_ERROR_CONFLICT = -40,
    /// The transaction was committed, rolled back or ended before.
    CORERING_ERROR_TRANSACTION_ENDED = -41,
    /// The transaction was open for longer than its timeout; nothing was done.
    CORERING_ERROR_TRANSACTION_TOO_OLD = -42,
    /// More than a transaction may hold; it is still open, without this call.
    CORERING_ERROR_TRANSACTION_TOO_LARGE = -43,
    /// The savepoint is not in this transaction, or was rolled back beyond; it is still open.
    CORERING_ERROR_NO_SAVEPOINT = -44,
    /// A write in a transaction that was begun to read only; it is still open.
    CORERING_ERROR_READ_ONLY = -45,
}

use corering_status::*;

impl corering_status {
    /// Every status, in the order of the header.
    pub const ALL: [corering_status; 45] = [
        CORERING_OK,
        CORERING_NOT_FOUND,
        CORERING_REFUSED,
        CORERING_END,
        CORERING_BUFFER_TOO_SMALL,
        CORERING_ERROR_INVALID_ARGUMENT,
        CORERING_ERROR_INVALID_HANDLE,
        CORERING_ERROR_CLOSED,
        CORERING_ERROR_FORKED,
        CORERING_ERROR_ABI_MISMATCH,
        CORERING_ERROR_TOO_MANY_HANDLES,
        CORERING_ERROR_PANIC,
        CORERING_ERROR_KEY_TOO_LARGE,
        CORERING_ERROR_VALUE_TOO_LARGE,
        CORERING_ERROR_BATCH_TOO_LARGE,
        CORERING_ERROR_CROSS_SHARD,
        CORERING_ERROR_NOT_AN_INTEGER,
        CORERING_ERROR_OVERFLOW,
        CORERING_ERROR_BUSY,
        CORERING_ERROR_NO_SPACE,
        CORERING_ERROR_POISONED,
        CORERING_ERROR_LOCKED,
        CORERING_ERROR_CORRUPT,
        CORERING_ERROR_INCOMPATIBLE,
        CORERING_ERROR_UNSUPPORTED,
        CORERING_ERROR_IO,
        CORERING_ERROR_LOCK_HELD,
        CORERING_ERROR_LOCK_TIMEOUT,
        CORERING_ERROR_NOT_HELD,
        CORERING_ERROR_WRONG_TOKEN,
        CORERING_ERROR_LEASE_EXPIRED,
        CORERING_ERROR_FENCED,
        CORERING_ERROR_NO_SESSION,
        CORERING_ERROR_WRONG_SECRET,
        CORERING_ERROR_DEADLOCK,
        CORERING_ERROR_OTHER_PERMITS,
        CORERING_ERROR_COMPACTED,
        CORERING_ERROR_LAGGED,
        CORERING_ERROR_LOCK_NOT_YET,
        CORERING_ERROR_CONFLICT,
        CORERING_ERROR_TRANSACTION_ENDED,
        CORERING_ERROR_TRANSACTION_TOO_OLD,
        CORERING_ERROR_TRANSACTION_TOO_LARGE,
        CORERING_ERROR_NO_SAVEPOINT,
        CORERING_ERROR_READ_ONLY,
    ];

    /// The status with this number, if there is one.
    pub fn from_number(number: i32) -> Option<corering_status> {
        Self::ALL.into_iter().find(|status| *status as i32 == number)
    }

    pub fn is_error(self) -> bool {
        (self as i32) < 0
    }

    /// A name without the prefix, for logs.
    pub fn name(self) -> &'static std::ffi::CStr {
        match self {
            CORERING_OK => c"ok",
            CORERING_NOT_FOUND => c"not_found",
            CORERING_REFUSED => c"refused",
            CORERING_END => c"end",
            CORERING_BUFFER_TOO_SMALL => c"buffer_too_small",
            CORERING_ERROR_INVALID_ARGUMENT => c"invalid_argument",
            CORERING_ERROR_INVALID_HANDLE => c"invalid_handle",
            CORERING_ERROR_CLOSED => c"closed",
            CORERING_ERROR_FORKED => c"forked",
            CORERING_ERROR_ABI_MISMATCH => c"abi_mismatch",
            CORERING_ERROR_TOO_MANY_HANDLES => c"too_many_handles",
            CORERING_ERROR_PANIC => c"panic",
            CORERING_ERROR_KEY_TOO_LARGE => c"key_too_large",
            CORERING_ERROR_VALUE_TOO_LARGE => c"value_too_large",
            CORERING_ERROR_BATCH_TOO_LARGE => c"batch_too_large",
            CORERING_ERROR_CROSS_SHARD => c"cross_shard",
            CORERING_ERROR_NOT_AN_INTEGER => c"not_an_integer",
            CORERING_ERROR_OVERFLOW => c"overflow",
            CORERING_ERROR_BUSY => c"busy",
            CORERING_ERROR_NO_SPACE => c"no_space",
            CORERING_ERROR_POISONED => c"poisoned",
            CORERING_ERROR_LOCKED => c"locked",
            CORERING_ERROR_CORRUPT => c"corrupt",
            CORERING_ERROR_INCOMPATIBLE => c"incompatible",
            CORERING_ERROR_UNSUPPORTED => c"unsupported",
            CORERING_ERROR_IO => c"io",
            CORERING_ERROR_LOCK_HELD => c"lock_held",
            CORERING_ERROR_LOCK_TIMEOUT => c"lock_timeout",
            CORERING_ERROR_NOT_HELD => c"not_held",
            CORERING_ERROR_WRONG_TOKEN => c"wrong_token",
            CORERING_ERROR_LEASE_EXPIRED => c"lease_expired",
            CORERING_ERROR_FENCED => c"fenced",
            CORERING_ERROR_NO_SESSION => c"no_session",
            CORERING_ERROR_WRONG_SECRET => c"wrong_secret",
            CORERING_ERROR_DEADLOCK => c"deadlock",
            CORERING_ERROR_OTHER_PERMITS => c"other_permits",
            CORERING_ERROR_COMPACTED => c"compacted",
            CORERING_ERROR_LAGGED => c"lagged",
            CORERING_ERROR_LOCK_NOT_YET => c"lock_not_yet",
            CORERING_ERROR_CONFLICT => c"conflict",
            CORERING_ERROR_TRANSACTION_ENDED => c"transaction_ended",
            CORERING_ERROR_TRANSACTION_TOO_OLD => c"transaction_too_old",
            CORERING_ERROR_TRANSACTION_TOO_LARGE => c"transaction_too_large",
            CORERING_ERROR_NO_SAVEPOINT => c"no_savepoint",
            CORERING_ERROR_READ_ONLY => c"read_only",
        }
    }

    /// Nothing was done, and the same call may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            CORERING_ERROR_BUSY
                | CORERING_ERROR_NO_SPACE
                | CORERING_ERROR_LOCK_HELD
                | CORERING_ERROR_LOCK_TIMEOUT
                | CORERING_ERROR_DEADLOCK
                | CORERING_ERROR_LOCK_NOT_YET
                | CORERING_ERROR_CONFLICT
        )
    }

    /// As [`Error::is_lost_race`].
    pub(crate) fn is_lost_race(self) -> bool {
        matches!(self, CORERING_ERROR_CONFLICT | CORERING_ERROR_BUSY)
    }

    /// The write was not acknowledged, yet may be found later.
    pub fn may_have_committed(self) -> bool {
        matches!(self, CORERING_ERROR_POISONED | CORERING_ERROR_PANIC)
    }
}

impl From<&Error> for corering_status {
    fn from(error: &Error) -> corering_status {
        match error {
            Error::InvalidArgument { .. } => CORERING_ERROR_INVALID_ARGUMENT,
            Error::KeyTooLarge { .. } => CORERING_ERROR_KEY_TOO_LARGE,
            Error::ValueTooLarge { .. } => CORERING_ERROR_VALUE_TOO_LARGE,
            Error::BatchTooLarge { .. } => CORERING_ERROR_BATCH_TOO_LARGE,
            Error::CrossShard { .. } => CORERING_ERROR_CROSS_SHARD,
            Error::NotAnInteger => CORERING_ERROR_NOT_AN_INTEGER,
            Error::Overflow => CORERING_ERROR_OVERFLOW,
            Error::Busy { .. } => CORERING_ERROR_BUSY,
            Error::NoSpace { .. } => CORERING_ERROR_NO_SPACE,
            Error::Poisoned(_) => CORERING_ERROR_POISONED,
            Error::Closed => CORERING_ERROR_CLOSED,
            Error::Compacted { .. } => CORERING_ERROR_COMPACTED,
            Error::Lagged { .. } => CORERING_ERROR_LAGGED,
            Error::Locked { .. } => CORERING_ERROR_LOCKED,
            Error::Corrupt { .. } => CORERING_ERROR_CORRUPT,
            Error::Incompatible { .. } => CORERING_ERROR_INCOMPATIBLE,
            Error::Unsupported { .. } => CORERING_ERROR_UNSUPPORTED,
            Error::Io { .. } => CORERING_ERROR_IO,
            Error::Lock(refusal) => refusal.into(),
            Error::Tx(refusal) => refusal.into(),
        }
    }
}

impl From<&TxError> for corering_status {
    fn from(refusal: &TxError) -> corering_status {
        match refusal {
            TxError::Changed { .. } | TxError::RangeChanged | TxError::Kept { .. } | TxError::Wounded => {
                CORERING_ERROR_CONFLICT
            }
            TxError::Ended { .. } => CORERING_ERROR_TRANSACTION_ENDED,
            TxError::TooOld { .. } | TxError::Forgotten { .. } => CORERING_ERROR_TRANSACTION_TOO_OLD,
            TxError::TooLarge { .. } => CORERING_ERROR_TRANSACTION_TOO_LARGE,
            TxError::NoSavepoint { .. } => CORERING_ERROR_NO_SAVEPOINT,
            TxError::ReadOnly => CORERING_ERROR_READ_ONLY,
        }
    }
}

impl From<&LockError> for corering_status {
    fn from(refusal: &LockError) -> corering_status {
        match refusal {
            LockError::Held => CORERING_ERROR_LOCK_HELD,
            LockError::NotYet { .. } => CORERING_ERROR_LOCK_NOT_YET,
            LockError::TimedOut => CORERING_ERROR_LOCK_TIMEOUT,
            LockError::NotHeld => CORERING_ERROR_NOT_HELD,
            LockError::WrongToken { .. } => CORERING_ERROR_WRONG_TOKEN,
            LockError::Expired => CORERING_ERROR_LEASE_EXPIRED,
            LockError::Fenced { .. } => CORERING_ERROR_FENCED,
            LockError::NoSession { .. } => CORERING_ERROR_NO_SESSION,
            LockError::WrongSecret { .. } => CORERING_ERROR_WRONG_SECRET,
            LockError::Deadlock { .. } => CORERING_ERROR_DEADLOCK,
            LockError::OtherPermits { .. } => CORERING_ERROR_OTHER_PERMITS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_engine_keeps_its_predicates() {
        let busy = Error::Busy { queue: "inbox", limit: 2 };
        let full = Error::NoSpace { path: "x".into() };
        let cause = crate::engine::Poisoned {
            shard: crate::engine::ShardId(0),
            stage: crate::engine::Stage::Sync,
            cause: "EIO".into(),
        };
        let id = crate::engine::SessionId(1);
        let token = crate::engine::FencingToken(1);
        let locks = [
            LockError::Held,
            LockError::NotYet { left_ms: 1 },
            LockError::TimedOut,
            LockError::NotHeld,
            LockError::WrongToken { current: token },
            LockError::Expired,
            LockError::Fenced { token, current: None },
            LockError::NoSession { id },
            LockError::WrongSecret { id },
            LockError::Deadlock { cycle: vec![id] },
            LockError::OtherPermits { permits: 1 },
        ];
        let plain = [busy, full, Error::Poisoned(cause.into()), Error::Closed, Error::Overflow, Error::NotAnInteger];
        let transactions = [
            TxError::Changed { key: b"k".as_slice().into() },
            TxError::RangeChanged,
            TxError::Kept { key: b"k".as_slice().into() },
            TxError::Wounded,
            TxError::Ended { how: "it was committed" },
            TxError::TooOld { age_ms: 2, max_ms: 1 },
            TxError::TooLarge { what: "reads", used: 2, max: 1 },
            TxError::NoSavepoint { number: 1 },
            TxError::ReadOnly,
            TxError::Forgotten { past_ms: 1 },
        ];
        let refusals = locks.map(Error::Lock).into_iter().chain(transactions.map(Error::Tx));
        for error in plain.into_iter().chain(refusals) {
            let status = corering_status::from(&error);
            assert_eq!(status.is_retryable(), error.is_retryable(), "{status:?}");
            assert_eq!(status.may_have_committed(), error.may_have_committed(), "{status:?}");
        }
    }

    #[test]
    fn names_and_numbers_are_one_to_one() {
        for status in corering_status::ALL {
            assert_eq!(corering_status::from_number(status as i32), Some(status));
            assert_eq!(corering_status::ALL.iter().filter(|other| other.name() == status.name()).count(), 1);
        }
        assert_eq!(corering_status::from_number(-1000), None);
    }
}
