//! What a decoder says about bytes that are not what was written.

use std::path::Path;

use crate::error::Error;

/// The place, counted from the start of the bytes that were decoded, and what is wrong there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    pub at: u64,
    pub what: String,
}

impl Damage {
    pub fn new(at: usize, what: impl Into<String>) -> Damage {
        Damage { at: at as u64, what: what.into() }
    }

    /// The error for a file in which the decoded bytes begin at `base`.
    pub fn in_file(self, path: &Path, base: u64) -> Error {
        Error::corrupt(path, base.saturating_add(self.at), self.what)
    }
}
