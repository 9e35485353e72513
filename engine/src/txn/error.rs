//! Why a transaction did not go on.

use std::fmt;

/// A refusal. Nothing of the transaction was done, and it has ended, but for those that say otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxError {
    /// A key that it read was changed before it could commit.
    Changed { key: Box<[u8]> },
    /// A range that it scanned would now answer otherwise.
    RangeChanged,
    /// Another transaction keeps a key that it would write.
    Kept { key: Box<[u8]> },
    /// An older transaction took a key away from it that both wanted to keep.
    Wounded,
    /// It had ended before.
    Ended { how: &'static str },
    /// It was open for longer than it may.
    TooOld { age_ms: u64, max_ms: u64 },
    /// More than a transaction may hold; it is still open, without the last call.
    TooLarge { what: &'static str, used: u64, max: u64 },
    /// No such savepoint, or no more; it is still open.
    NoSavepoint { number: u64 },
    /// A write in a transaction that only reads; it is still open.
    ReadOnly,
    /// Its fate was to be told for a time that is over. Nobody knows whether it committed.
    Forgotten { past_ms: u64 },
}

impl TxError {
    /// The same transaction, begun again, may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, TxError::Changed { .. } | TxError::RangeChanged | TxError::Kept { .. } | TxError::Wounded)
    }

    /// One word for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            TxError::Changed { .. } => "changed",
            TxError::RangeChanged => "range_changed",
            TxError::Kept { .. } => "kept",
            TxError::Wounded => "wounded",
            TxError::Ended { .. } => "ended",
            TxError::TooOld { .. } => "too_old",
            TxError::TooLarge { .. } => "too_large",
            TxError::NoSavepoint { .. } => "no_savepoint",
            TxError::ReadOnly => "read_only",
            TxError::Forgotten { .. } => "forgotten",
        }
    }
}

impl fmt::Display for TxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TxError::Changed { key } => {
                write!(f, "the key \"{}\" was changed since the transaction read it; run it again", key.escape_ascii())
            }
            TxError::RangeChanged => f.write_str("a range was changed since the transaction scanned it; run it again"),
            TxError::Kept { key } => {
                write!(
                    f,
                    "another transaction keeps the key \"{}\" until it ends; run this one again",
                    key.escape_ascii()
                )
            }
            TxError::Wounded => f.write_str(
                "an older transaction needed a key that this one kept, which would have been a deadlock; run it again",
            ),
            TxError::Ended { how } => write!(f, "the transaction has ended: {how}; begin another"),
            TxError::TooOld { age_ms, max_ms } => {
                write!(f, "the transaction was open for {age_ms} ms; at most {max_ms} are allowed; nothing was done")
            }
            TxError::TooLarge { what, used, max } => {
                write!(f, "the transaction has {used} {what}; at most {max} are allowed; split it")
            }
            TxError::NoSavepoint { number } => {
                write!(f, "savepoint {number} is not in this transaction, or was rolled back beyond")
            }
            TxError::ReadOnly => f.write_str("the transaction was begun to read only"),
            TxError::Forgotten { past_ms } => write!(
                f,
                "the fate of this transaction could be asked until {past_ms} ms ago; whether it committed is not known any more"
            ),
        }
    }
}
