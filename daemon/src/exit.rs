//! How the program ends: its statuses are for ever, because scripts and service managers read them.

use std::fmt;

use corering_engine::Error;

pub const OK: i32 = 0;
/// The command line, the environment or the configuration file is wrong.
pub const USAGE: i32 = 1;
/// The data on disk is damaged, or was written by a version that this one cannot read.
pub const DAMAGED: i32 = 2;
/// The kernel, the container or a limit does not allow what is needed.
pub const UNSUPPORTED: i32 = 3;
/// The disk failed or is full, or the engine could not go on for another reason.
pub const DISK: i32 = 4;
/// Somebody else has the directory or the address.
pub const IN_USE: i32 = 5;
/// As a shell shows a process that SIGINT ended.
pub const SECOND_SIGNAL: i32 = 130;

/// Why the program ends, and with which status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub status: i32,
    pub message: String,
}

impl Failure {
    pub fn new(status: i32, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure::new(USAGE, message.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The status for an error of the engine.
pub fn status_of(error: &Error) -> i32 {
    match error {
        Error::InvalidArgument { .. }
        | Error::KeyTooLarge { .. }
        | Error::ValueTooLarge { .. }
        | Error::BatchTooLarge { .. }
        | Error::CrossShard { .. }
        | Error::NotAnInteger
        | Error::Overflow
        | Error::Compacted { .. }
        | Error::Lagged { .. }
        | Error::Lock(_)
        | Error::Tx(_) => USAGE,
        Error::Corrupt { .. } | Error::Incompatible { .. } => DAMAGED,
        Error::Unsupported { .. } => UNSUPPORTED,
        Error::Locked { .. } => IN_USE,
        Error::Busy { .. } | Error::NoSpace { .. } | Error::Poisoned(_) | Error::Closed | Error::Io { .. } => DISK,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(status_of(&error), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(status_of(&Error::corrupt("/d", 3, "bad")), DAMAGED);
        assert_eq!(status_of(&Error::Unsupported { what: "no io_uring".into() }), UNSUPPORTED);
        assert_eq!(status_of(&Error::Locked { path: "/d".into(), holder_pid: Some(1) }), IN_USE);
        assert_eq!(status_of(&Error::NoSpace { path: "/d".into() }), DISK);
        assert_eq!(status_of(&Error::invalid("x")), USAGE);
    }
}
