//! One step of a shard: reads of its latest state, and writes that take effect together when the step ends.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::ephemeral::Ephemerals;
use crate::error::{Error, Result};
use crate::format::block::Op;
use crate::format::ephemeral::{EPHEMERALS, decode_entry, encode_entry, entry_key};
use crate::format::record::OpRef;
use crate::ids::{CommitTs, Expiry, Keyspace, Kind, SessionId, ShardId};
use crate::lock::sessions::Sessions;
use crate::options::{BATCH_BYTES_MAX, KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::ring::Ring;
use crate::runtime::Clock;
use crate::table::Lookup;
use crate::table::merge::Direction;
use crate::table::merged_scan::{MergedScan, Owns, ScanPart};
use crate::table::range_cursor::Range;
use crate::table::read_state::ReadState;
use crate::txn::TxNumber;
use crate::txn::key_locks::KeyLocks;
use crate::txn::timestamps::Timestamps;
use crate::value::{Value, ValueRef};

/// What a program sees and changes.
pub struct Tx<'a> {
    /// The shards it holds, ascending.
    parts: &'a [TxPart<'a>],
    pub(super) world: TxWorld<'a>,
    now_ms: u64,
    /// Some of the writes say whose keys are.
    names_owners: bool,
    pub(super) writes: BTreeMap<(Keyspace, Vec<u8>), TxWrite>,
    bytes: usize,
    /// What must be visible on each shard before the step's refusal is told; none: all that stands in line.
    pub(super) behind: Option<Behind>,
}

/// A commit on each of some shards.
pub(super) type Behind = BTreeMap<ShardId, CommitTs>;

/// One of the shards that a step holds.
pub struct TxPart<'a> {
    pub shard: ShardId,
    pub state: &'a ReadState,
    pub locks: &'a KeyLocks,
    pub ephemerals: &'a Ephemerals,
}

/// What a step sees beside its shards.
#[derive(Clone, Copy)]
pub struct TxWorld<'a> {
    pub ring: &'a Ring,
    pub clock: &'a dyn Clock,
    pub sessions: &'a Sessions,
    pub timestamps: &'a Timestamps,
}

/// The last write of a key in a step.
#[derive(Clone, Debug)]
pub enum TxWrite {
    Put { value: Vec<u8>, kind: Kind, expiry: Expiry },
    Delete,
}

impl TxWrite {
    /// Bytes it takes under a key.
    pub fn bytes(&self, key: &[u8]) -> usize {
        key.len()
            + match self {
                TxWrite::Put { value, .. } => value.len(),
                TxWrite::Delete => 0,
            }
    }

    /// The value as the writer itself reads it.
    pub fn to_value(&self) -> Option<Value> {
        match self {
            TxWrite::Put { value, kind, expiry } => {
                Some(Value { bytes: value.clone(), kind: *kind, expiry: *expiry, version: CommitTs::MAX })
            }
            TxWrite::Delete => None,
        }
    }
}

/// What a step has written, kept to go on with in another: a program that asks for one thing after the other runs in many steps, and
/// only the last of them leaves anything behind.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    writes: BTreeMap<(Keyspace, Vec<u8>), TxWrite>,
    bytes: usize,
    names_owners: bool,
}

/// What became of a key that was thought to be over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overdue {
    Removed,
    /// It is not over, or not there; with an expiry it will be.
    Not {
        until: Option<Expiry>,
    },
}

/// Refuse what no shard stores.
pub fn check_sizes(key: &[u8], value_len: usize) -> Result<()> {
    if key.len() > KEY_LEN_MAX {
        return Err(Error::KeyTooLarge { len: key.len() as u64, max: KEY_LEN_MAX as u64 });
    }
    if value_len > VALUE_LEN_MAX {
        return Err(Error::ValueTooLarge { len: value_len as u64, max: VALUE_LEN_MAX as u64 });
    }
    Ok(())
}

impl<'a> Tx<'a> {
    pub(super) fn new(parts: &'a [TxPart<'a>], world: TxWorld<'a>) -> Tx<'a> {
        let now_ms = world.clock.wall_ms();
        Tx { parts, world, now_ms, names_owners: false, writes: BTreeMap::new(), bytes: 0, behind: None }
    }

    /// The value as it is now, this step's own writes included. What is read here may not be durable yet; the answer of
    /// the step waits for it.
    pub fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<ValueRef<'_>>> {
        let part = self.part(key)?;
        if !self.writes.is_empty()
            && let Some(write) = self.writes.get(&(keyspace, key.to_vec()))
        {
            return Ok(match write {
                TxWrite::Put { value, kind, expiry } => {
                    let own = ValueRef { bytes: value, kind: *kind, expiry: *expiry, version: CommitTs::MAX };
                    (!expiry.is_past(self.now_ms)).then_some(own)
                }
                TxWrite::Delete => None,
            });
        }
        Ok(match part.state.get(keyspace, key, CommitTs::MAX)? {
            Lookup::Found(value) if !value.expiry.is_past(self.now_ms) => Some(value),
            Lookup::Found(_) | Lookup::Deleted { .. } | Lookup::Missing => None,
        })
    }

    /// The keys of `range` on the shards that the step holds, in key order and as they are now, own writes included, as long as `f` wants
    /// more of them. Memory must be in order ([`Client::in_order`](crate::Client::in_order)). It takes as long as there are keys, and all
    /// these shards are held up so long.
    pub fn scan(&self, range: impl Into<Range>, mut f: impl FnMut(&[u8], ValueRef<'_>) -> bool) -> Result<()> {
        let range = range.into();
        let ring = self.world.ring;
        let parts = self.parts.iter().map(|part| {
            let shard = part.shard;
            // What moved away may still lie in tables.
            let owns: Owns<'_> = Box::new(move |key| ring.owner_of_key(key) == shard);
            ScanPart { state: part.state, at: CommitTs::MAX, owns: Some(owns) }
        });
        let mut stored = MergedScan::new(parts.collect(), &range, self.now_ms)?;
        let mut own = own_in(&self.writes, &range).into_iter().peekable();
        let comes_first = |a: &[u8], b: &[u8]| match range.direction {
            Direction::Forward => a <= b,
            Direction::Reverse => a >= b,
        };
        while let Some((key, value)) = stored.next()? {
            let mut replaced = false;
            while let Some((own_key, own_value)) = own.next_if(|(own_key, _)| comes_first(own_key, key)) {
                replaced |= own_key == key;
                if !self.gives(&own_key, own_value.as_ref(), &mut f) {
                    return Ok(());
                }
            }
            if !replaced && !f(key, value) {
                return Ok(());
            }
        }
        for (key, value) in own {
            if !self.gives(&key, value.as_ref(), &mut f) {
                break;
            }
        }
        Ok(())
    }

    /// Whether `f` wants more, having been given what this step wrote, if that is a value.
    fn gives(&self, key: &[u8], value: Option<&Value>, f: &mut impl FnMut(&[u8], ValueRef<'_>) -> bool) -> bool {
        match value.filter(|value| !value.expiry.is_past(self.now_ms)) {
            Some(Value { bytes, kind, expiry, version }) => {
                f(key, ValueRef { bytes, kind: *kind, expiry: *expiry, version: *version })
            }
            None => true,
        }
    }

    pub fn put(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8], kind: Kind, expiry: Expiry) -> Result<()> {
        check_sizes(key, value.len())?;
        self.write(keyspace, key, TxWrite::Put { value: value.to_vec(), kind, expiry })
    }

    pub fn delete(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<()> {
        check_sizes(key, 0)?;
        self.write(keyspace, key, TxWrite::Delete)
    }

    /// Write that a key is gone whose expiry has passed, if so it is.
    pub(crate) fn remove_overdue(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<Overdue> {
        match self.part(key)?.state.get(keyspace, key, CommitTs::MAX)? {
            Lookup::Found(value) if value.expiry.is_past(self.now_ms) => {
                self.delete(keyspace, key)?;
                Ok(Overdue::Removed)
            }
            Lookup::Found(value) => Ok(Overdue::Not { until: (!value.expiry.is_never()).then_some(value.expiry) }),
            Lookup::Deleted { .. } | Lookup::Missing => Ok(Overdue::Not { until: None }),
        }
    }

    /// A write that a transaction kept until now.
    pub(crate) fn write_own(&mut self, keyspace: Keyspace, key: &[u8], write: &TxWrite) -> Result<()> {
        self.write(keyspace, key, write.clone())
    }

    pub(crate) fn shard_of(&self, key: &[u8]) -> ShardId {
        self.world.ring.owner_of_key(key)
    }

    /// Wall-clock milliseconds since 1970 that this step judges expiries by.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn write(&mut self, keyspace: Keyspace, key: &[u8], write: TxWrite) -> Result<()> {
        self.part(key)?;
        self.bytes += write.bytes(key);
        if self.bytes > BATCH_BYTES_MAX {
            return Err(Error::BatchTooLarge { bytes: self.bytes as u64, max: BATCH_BYTES_MAX as u64 });
        }
        if self.names_owners {
            // What was said of it before no longer holds.
            self.writes.remove(&(EPHEMERALS, entry_key(keyspace, key)));
        }
        self.writes.insert((keyspace, key.to_vec()), write);
        Ok(())
    }

    pub(super) fn part(&self, key: &[u8]) -> Result<&'a TxPart<'a>> {
        let owner = self.world.ring.owner_of_key(key);
        self.parts
            .iter()
            .find(|part| part.shard == owner)
            .ok_or_else(|| Error::CrossShard { first: self.parts[0].shard, other: owner })
    }

    /// The last change of a key, be it a delete; own writes do not count.
    pub fn last_change(&self, keyspace: Keyspace, key: &[u8]) -> Result<CommitTs> {
        let last = self.part(key)?.state.get(keyspace, key, CommitTs::MAX)?;
        Ok(last.version().unwrap_or(CommitTs::ZERO))
    }

    /// The step is refused: it is answered as soon as readers see the last changes of these keys, and does not wait for more.
    pub(crate) fn refused_for<'k>(&mut self, keys: impl Iterator<Item = (Keyspace, &'k [u8])>) {
        let mut behind = Behind::new();
        for (keyspace, key) in keys {
            // What lies on a shard that the step does not hold was not in its way.
            let Ok(part) = self.part(key) else { continue };
            let upto = behind.entry(part.shard).or_default();
            *upto = (*upto).max(part.state.changed_in_memory(keyspace, key));
        }
        self.behind = Some(behind);
    }

    /// Whether a key of `range` was changed after the marks given, one for each shard of the database.
    pub(crate) fn has_changed(&self, range: &Range, since: impl Fn(ShardId) -> CommitTs) -> Result<bool> {
        for part in self.parts {
            if part.state.changed_since(range, since(part.shard))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether another transaction keeps the key for itself.
    pub(crate) fn is_kept_by_other(&self, keyspace: Keyspace, key: &[u8], number: TxNumber) -> Result<bool> {
        Ok(self.part(key)?.locks.is_held_by_other(keyspace, key, number))
    }

    /// A key that this step writes is this session's.
    pub(super) fn say_owner(&mut self, keyspace: Keyspace, key: &[u8], session: SessionId) {
        let value = encode_entry(session).to_vec();
        let entry = TxWrite::Put { value, kind: Kind::BYTES, expiry: Expiry::NEVER };
        self.writes.insert((EPHEMERALS, entry_key(keyspace, key)), entry);
        self.names_owners = true;
    }

    /// Whose this step makes a key; `None` if it does not write it.
    pub(super) fn said_owner(&self, keyspace: Keyspace, key: &[u8]) -> Option<Option<SessionId>> {
        self.writes.get(&(keyspace, key.to_vec()))?;
        let entry = self.writes.get(&(EPHEMERALS, entry_key(keyspace, key)));
        Some(match entry {
            Some(TxWrite::Put { value, .. }) => decode_entry(value).ok(),
            Some(TxWrite::Delete) | None => None,
        })
    }

    /// Take out what was written so far; the step leaves nothing of it behind.
    pub fn take_draft(&mut self) -> Draft {
        let (bytes, names_owners) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.names_owners));
        Draft { writes: std::mem::take(&mut self.writes), bytes, names_owners }
    }

    /// Go on from what another step wrote, before this one writes anything. Its keys are this step's, too.
    pub fn resume(&mut self, draft: Draft) {
        let Draft { writes, bytes, names_owners } = draft;
        self.writes = writes;
        self.bytes = bytes;
        self.names_owners = names_owners;
    }

    /// Forget the writes so far.
    pub(crate) fn discard(&mut self) {
        self.writes.clear();
        self.bytes = 0;
    }
}

/// The writes of a step as the log and the memtable take them.
pub(super) fn ops(writes: &BTreeMap<(Keyspace, Vec<u8>), TxWrite>) -> impl Iterator<Item = OpRef<'_>> + Clone {
    writes.iter().map(|((keyspace, key), write)| OpRef {
        keyspace: *keyspace,
        key,
        change: match write {
            TxWrite::Put { value, kind, expiry } => Op::Put { value, kind: *kind, expiry: *expiry },
            TxWrite::Delete => Op::Delete,
        },
    })
}

/// Own writes of a range, in its direction.
pub(crate) fn own_in(writes: &BTreeMap<(Keyspace, Vec<u8>), TxWrite>, range: &Range) -> Vec<(Vec<u8>, Option<Value>)> {
    let first = match &range.lower {
        Bound::Included(key) | Bound::Excluded(key) => (range.keyspace, key.clone()),
        Bound::Unbounded => (range.keyspace, Vec::new()),
    };
    let inside = |key: &[u8]| {
        (match &range.lower {
            Bound::Excluded(lower) => key > &lower[..],
            Bound::Included(_) | Bound::Unbounded => true,
        }) && match &range.upper {
            Bound::Included(upper) => key <= &upper[..],
            Bound::Excluded(upper) => key < &upper[..],
            Bound::Unbounded => true,
        }
    };
    let mut own: Vec<(Vec<u8>, Option<Value>)> = writes
        .range(first..)
        .take_while(|((keyspace, _), _)| *keyspace == range.keyspace)
        .filter(|((_, key), _)| inside(key))
        .map(|((_, key), write)| (key.clone(), write.to_value()))
        .collect();
    if range.direction == Direction::Reverse {
        own.reverse();
    }
    own
}
