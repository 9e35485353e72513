//! Whether this machine lets a shard's thread start, and what to do where it does not.

use std::io;

use crate::error::{Error, Result};
use crate::runtime::host::sys;

/// glommio refuses to start below this, whoever the user is.
const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// Refuse a limit on locked memory that is too low.
pub fn locked_memory() -> Result<()> {
    match sys::locked_memory_limit() {
        Ok(Some(limit)) if limit < LOCKED_BYTES_MIN => Err(too_little_locked_memory(limit)),
        _ => Ok(()),
    }
}

fn too_little_locked_memory(limit: u64) -> Error {
    Error::Unsupported {
        what: format!(
            "each shard needs to lock {} KiB of memory for its rings, and the limit is {} KiB; raise it with \
             `ulimit -l 8192` in the shell, LimitMEMLOCK=8M in a systemd unit, or \
             `docker run --ulimit memlock=8388608:8388608`",
            LOCKED_BYTES_MIN >> 10,
            limit >> 10
        ),
    }
}

/// What a failure to make a ring means.
pub fn ring_refused(error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => Error::Unsupported {
            what: format!(
                "io_uring is blocked here ({error}). The default seccomp profiles of most container runtimes do this: \
                 allow io_uring_setup, io_uring_enter and io_uring_register in the profile (or, to try it, \
                 `docker run --security-opt seccomp=unconfined`). Outside a container, look at \
                 `sysctl kernel.io_uring_disabled`, which must be 0 (or 1 with the process in io_uring_group), and \
                 at the kernel, which must be 5.15 or later"
            ),
        },
        Some(libc::ENOMEM) => match sys::locked_memory_limit() {
            Ok(Some(limit)) => Error::Unsupported {
                what: format!(
                    "no memory for a ring of io_uring ({error}). The limit on locked memory is {} KiB, shared by all \
                     processes of the user; raise it with `ulimit -l`, LimitMEMLOCK= in a systemd unit, or \
                     `docker run --ulimit memlock=…`, or use fewer shards",
                    limit >> 10
                ),
            },
            _ => Error::Unsupported { what: format!("no memory for a ring of io_uring: {error}") },
        },
        Some(libc::EMFILE | libc::ENFILE) => Error::Unsupported {
            what: format!("too many open files to start a shard ({error}); raise the limit with `ulimit -n`"),
        },
        _ => Error::Unsupported { what: format!("cannot set up a ring of io_uring: {error}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let blocked = ring_refused(&io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(blocked.contains("io_uring is blocked") && blocked.contains("seccomp"), "{blocked}");
        let low = too_little_locked_memory(64 << 10).to_string();
        for fact in ["512 KiB", "64 KiB", "ulimit -l", "LimitMEMLOCK=", "docker run --ulimit"] {
            assert!(low.contains(fact), "{fact} is missing in: {low}");
        }
    }
}
