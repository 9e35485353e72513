//! What is stored under a key, as readers and writers see it.

use crate::ids::{CommitTs, Expiry, Kind};

/// A stored value, borrowed from where it lives. Never expired and never deleted: such are not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValueRef<'a> {
    pub bytes: &'a [u8],
    pub kind: Kind,
    pub expiry: Expiry,
    /// The commit that wrote it.
    pub version: CommitTs,
}

impl ValueRef<'_> {
    pub fn to_value(self) -> Value {
        Value { bytes: self.bytes.to_vec(), kind: self.kind, expiry: self.expiry, version: self.version }
    }
}

/// A stored value, copied out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    pub bytes: Vec<u8>,
    pub kind: Kind,
    pub expiry: Expiry,
    pub version: CommitTs,
}

/// A key and its value, as a scan gives them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub key: Vec<u8>,
    pub value: Value,
}

/// What a conditional write asks of the key's present value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    Always,
    Absent,
    Present,
    /// The bytes are exactly these.
    Equal(Vec<u8>),
    /// The value was written by exactly this commit.
    Version(CommitTs),
}

impl Condition {
    /// Whether a present value, with its version, meets it.
    pub fn holds(&self, current: Option<(&[u8], CommitTs)>) -> bool {
        match (self, current) {
            (Condition::Always, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
            (Condition::Equal(bytes), Some((current, _))) => current == &bytes[..],
            (Condition::Version(version), Some((_, current))) => current == *version,
            (Condition::Absent, Some(_)) | (Condition::Present | Condition::Equal(_) | Condition::Version(_), None) => {
                false
            }
        }
    }
}
