//! Numbers that must not be mixed, each with only the arithmetic that has a meaning.

use std::fmt;

/// One core's slice of the data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard's place in a slice that holds one element for each shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A byte position in one shard's log. It only ever grows, over all segments and all lives of the database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    pub const ZERO: Lsn = Lsn(0);
    /// No log gets this far: at 10 GB a second it takes fifteen years. Decoders refuse positions beyond, so that sums with
    /// positions that were read from a disk stay in range.
    pub const LIMIT: Lsn = Lsn(1 << 62);

    /// The position `bytes` further on.
    #[must_use]
    pub fn advance(self, bytes: u64) -> Lsn {
        Lsn(self.0.checked_add(bytes).expect("a log holds less than 2^64 bytes"))
    }

    /// Bytes from `earlier` to here.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.checked_sub(earlier.0).expect("positions compared in order")
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The order of commits over all shards. Zero is before every commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CommitTs(pub u64);

impl CommitTs {
    pub const ZERO: CommitTs = CommitTs(0);
    pub const MAX: CommitTs = CommitTs(u64::MAX);
}

impl fmt::Display for CommitTs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Who holds locks: drawn at random when a session is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The number of a grant: larger than those of all grants before it. It is the commit that recorded the grant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FencingToken(pub u64);

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Counts the openings of a database for writing; every byte written carries the life that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Life(pub u64);

impl Life {
    #[must_use]
    pub fn next(self) -> Life {
        Life(self.0 + 1)
    }
}

/// A place on the hash ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// A name space of keys. `0..=15` are what a Redis client calls databases; from `0xff00` on they are the engine's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Keyspace(pub u16);

impl Keyspace {
    pub const DEFAULT: Keyspace = Keyspace(0);
    pub const FIRST_INTERNAL: Keyspace = Keyspace(0xff00);
}

/// What the bytes of a value are. The engine stores it and gives it back; only its users give it a meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Kind(pub u8);

impl Kind {
    /// Plain bytes: what C, Python and Redis strings put.
    pub const BYTES: Kind = Kind(0);
}

/// Wall-clock milliseconds since 1970 at which a value ceases to exist; `NEVER` is stored as zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Expiry(pub u64);

impl Expiry {
    pub const NEVER: Expiry = Expiry(0);

    /// An expiry at `unix_ms`; a time at or before 1970 becomes the first millisecond after it.
    pub fn at_ms(unix_ms: u64) -> Expiry {
        Expiry(unix_ms.max(1))
    }

    pub fn is_never(self) -> bool {
        self.0 == 0
    }

    pub fn is_past(self, now_unix_ms: u64) -> bool {
        self.0 != 0 && self.0 <= now_unix_ms
    }

    pub fn unix_ms(self) -> Option<u64> {
        (self.0 != 0).then_some(self.0)
    }
}
