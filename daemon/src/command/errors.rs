//! What a client is told when a command cannot be done: Redis's own words wherever Redis has the case.

use std::borrow::Cow;
use std::sync::Arc;

use corering_engine::{Error, LockError, TransactionId, TxError};

/// The line of an error reply, from its code on.
#[derive(Clone, Debug)]
pub struct CommandError {
    text: Cow<'static, [u8]>,
    /// The engine's failure behind it, if there is one.
    cause: Option<Arc<Error>>,
}

impl PartialEq for CommandError {
    fn eq(&self, other: &CommandError) -> bool {
        self.text == other.text
    }
}

impl CommandError {
    pub const SYNTAX: CommandError = CommandError::fixed("ERR syntax error");
    pub const NOT_AN_INTEGER: CommandError = CommandError::fixed("ERR value is not an integer or out of range");
    pub const NOT_A_FLOAT: CommandError = CommandError::fixed("ERR value is not a valid float");
    pub const NOT_FINITE: CommandError = CommandError::fixed("ERR increment would produce NaN or Infinity");
    pub const OVERFLOW: CommandError = CommandError::fixed("ERR increment or decrement would overflow");
    pub const DECREMENT_OVERFLOW: CommandError = CommandError::fixed("ERR decrement would overflow");
    pub const WRONG_TYPE: CommandError =
        CommandError::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub const NO_SUCH_KEY: CommandError = CommandError::fixed("ERR no such key");
    pub const OFFSET: CommandError = CommandError::fixed("ERR offset is out of range");
    pub const TOO_LONG: CommandError =
        CommandError::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    pub const INVALID_CURSOR: CommandError = CommandError::fixed("ERR invalid cursor");
    pub const NO_AUTH: CommandError = CommandError::fixed("NOAUTH Authentication required.");
    pub const WRONG_PASS: CommandError =
        CommandError::fixed("WRONGPASS invalid username-password pair or user is disabled.");

    pub const fn fixed(text: &'static str) -> CommandError {
        CommandError { text: Cow::Borrowed(text.as_bytes()), cause: None }
    }

    pub fn text(text: impl Into<String>) -> CommandError {
        CommandError::bytes(text.into().into_bytes())
    }

    pub fn bytes(text: Vec<u8>) -> CommandError {
        CommandError { text: Cow::Owned(text), cause: None }
    }

    pub fn invalid_expire(command: &str) -> CommandError {
        CommandError::text(format!("ERR invalid expire time in '{command}' command"))
    }

    pub fn arity(full_name: &str) -> CommandError {
        CommandError::text(format!("ERR wrong number of arguments for '{full_name}' command"))
    }

    /// Nobody knows whether the transaction happened, before the next opening.
    pub fn unknown_outcome(error: Error, id: TransactionId) -> CommandError {
        let text = format!("TXUNKNOWN {error}; then ask TX.FATE {id}");
        CommandError { cause: Some(Arc::new(error)), ..CommandError::text(text) }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    pub fn cause(&self) -> Option<&Error> {
        self.cause.as_deref()
    }

    /// The first word, by which INFO counts errors.
    pub fn code(&self) -> &[u8] {
        self.text.split(|byte| *byte == b' ').next().unwrap_or_default()
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> CommandError {
        let told = match &error {
            Error::NotAnInteger => CommandError::NOT_AN_INTEGER,
            Error::Overflow => CommandError::OVERFLOW,
            // Clients know this code: nothing was done, and the same again may succeed.
            Error::Busy { .. } => CommandError::text(format!("TRYAGAIN {error}")),
            // Clients know this one too: writes are refused because of the disk, reads go on.
            Error::NoSpace { .. } => CommandError::text(format!("MISCONF {error}")),
            Error::Lock(refusal) => CommandError::text(format!("{} {refusal}", lock_code(refusal))),
            Error::Tx(refusal) => CommandError::text(format!("{} {refusal}", tx_code(refusal))),
            _ => CommandError::text(format!("ERR {error}")),
        };
        CommandError { cause: Some(Arc::new(error)), ..told }
    }
}

/// The first word of a transaction's refusal.
fn tx_code(refusal: &TxError) -> &'static str {
    match refusal {
        TxError::Changed { .. } | TxError::RangeChanged | TxError::Kept { .. } | TxError::Wounded => "CONFLICT",
        TxError::Ended { .. } => "NOTX",
        TxError::TooOld { .. } | TxError::Forgotten { .. } => "TXTOOOLD",
        TxError::TooLarge { .. } => "TXTOOLARGE",
        TxError::NoSavepoint { .. } => "NOSAVEPOINT",
        TxError::ReadOnly => "READONLYTX",
    }
}

/// The first word of a lock's or a session's refusal.
fn lock_code(refusal: &LockError) -> &'static str {
    match refusal {
        LockError::Held => "LOCKED",
        LockError::NotYet { .. } => "LOCKNOTYET",
        LockError::TimedOut => "LOCKTIMEOUT",
        LockError::NotHeld => "NOTHELD",
        LockError::WrongToken { .. } => "WRONGTOKEN",
        LockError::Expired => "LEASEEXPIRED",
        LockError::Fenced { .. } => "FENCED",
        LockError::NoSession { .. } => "NOSESSION",
        LockError::WrongSecret { .. } => "WRONGSECRET",
        LockError::Deadlock { .. } => "DEADLOCK",
        LockError::OtherPermits { .. } => "OTHERPERMITS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        assert_eq!(CommandError::WRONG_TYPE.code(), b"WRONGTYPE");
        assert_eq!(CommandError::SYNTAX.code(), b"ERR");
        let busy = CommandError::from(Error::Busy { queue: "inbox", limit: 2 });
        assert_eq!(busy.code(), b"TRYAGAIN");
        let full = CommandError::from(Error::NoSpace { path: "/data".into() });
        assert_eq!(full.as_bytes(), b"MISCONF no space left for /data; make room and try again");
    }
}
