//! One step of a shard: reads of its latest state, and writes that take effect together when the step ends.

use std::collections::BTreeMap;

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
use crate::table::read_state::ReadState;
use crate::txn::timestamps::Timestamps;
use crate::value::ValueRef;

/// What a program sees and changes.
pub struct Tx<'a> {
    pub(super) state: &'a ReadState,
    pub(super) ring: &'a Ring,
    pub(super) shard: ShardId,
    pub(super) now_ms: u64,
    pub(super) clock: &'a dyn Clock,
    pub(super) sessions: &'a Sessions,
    pub(super) ephemerals: &'a Ephemerals,
    pub(super) timestamps: &'a Timestamps,
    /// Some of the writes say whose keys are.
    pub(super) names_owners: bool,
    pub(super) writes: BTreeMap<(Keyspace, Vec<u8>), TxWrite>,
    pub(super) bytes: usize,
}

/// The last write of a key in a step.
#[derive(Debug)]
pub enum TxWrite {
    Put { value: Vec<u8>, kind: Kind, expiry: Expiry },
    Delete,
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

impl Tx<'_> {
    /// The value as it is now, this step's own writes included. What is read here may not be durable yet; the answer of
    /// the step waits for it.
    pub fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<ValueRef<'_>>> {
        self.check_owner(key)?;
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
        Ok(match self.state.get(keyspace, key, CommitTs::MAX)? {
            Lookup::Found(value) if !value.expiry.is_past(self.now_ms) => Some(value),
            Lookup::Found(_) | Lookup::Deleted { .. } | Lookup::Missing => None,
        })
    }

    pub fn put(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8], kind: Kind, expiry: Expiry) -> Result<()> {
        check_sizes(key, value.len())?;
        self.write(keyspace, key, TxWrite::Put { value: value.to_vec(), kind, expiry })
    }

    pub fn delete(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<()> {
        check_sizes(key, 0)?;
        self.write(keyspace, key, TxWrite::Delete)
    }

    /// Wall-clock milliseconds since 1970 that this step judges expiries by.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn write(&mut self, keyspace: Keyspace, key: &[u8], write: TxWrite) -> Result<()> {
        self.check_owner(key)?;
        let len = match &write {
            TxWrite::Put { value, .. } => value.len(),
            TxWrite::Delete => 0,
        };
        self.bytes += key.len() + len;
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

    pub(super) fn check_owner(&self, key: &[u8]) -> Result<()> {
        let other = self.ring.owner_of_key(key);
        if other == self.shard { Ok(()) } else { Err(Error::CrossShard { first: self.shard, other }) }
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
