//! What the engine keeps for itself among a shard's keys (sessions, holds of locks, whose ephemeral keys are), read back at the opening without asking
//! memory to be in order: the replay sets it aside, the tables are scanned for the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::locking::Locks;
use super::recover::Offline;
use crate::error::Result;
use crate::format::block::Op;
use crate::format::damage::Damage;
use crate::format::ephemeral::placed_by;
use crate::format::hold::{HOLDS, SESSIONS, StoredHold, StoredSession, parse_hold_key, parse_session_key};
use crate::format::record::OpRef;
use crate::ids::{CommitTs, Keyspace, SessionId};
use crate::lock::sessions::Sessions;
use crate::ring::Ring;
use crate::table::merge::Direction;
use crate::table::range_cursor::{Range, RangeCursor};
use crate::table::read_state::ReadState;
use crate::table::{MemWriter, Order};

/// The last change of each internal key that the log had.
#[derive(Default)]
pub struct SetAside {
    last: BTreeMap<(Keyspace, Vec<u8>), Option<Entry>>,
}

#[derive(Clone)]
pub(super) struct Entry {
    version: CommitTs,
    pub value: Vec<u8>,
}

impl SetAside {
    pub fn note(&mut self, op: OpRef<'_>, version: CommitTs) {
        if op.keyspace < Keyspace::FIRST_INTERNAL {
            return;
        }
        let entry = match op.change {
            Op::Put { value, .. } => Some(Entry { version, value: value.to_vec() }),
            Op::Delete => None,
        };
        self.last.insert((op.keyspace, op.key.to_vec()), entry);
    }
}

impl Offline {
    /// The sessions that this shard keeps, with the commits that made them.
    pub fn sessions(&self, ring: &Ring) -> Result<Vec<(SessionId, CommitTs, StoredSession)>> {
        let mut sessions = Vec::new();
        for (key, entry) in self.entries(SESSIONS, ring)? {
            let id = parse_session_key(&key).map_err(|damage| self.damaged(damage))?;
            let session = StoredSession::decode(&entry.value).map_err(|damage| self.damaged(damage))?;
            sessions.push((id, entry.version, session));
        }
        Ok(sessions)
    }

    /// The shard's locks as they were held. Until `closed_until_ms` others may be held of which nothing is on disk.
    pub fn locks(&self, ring: &Ring, sessions: &Arc<Sessions>, closed_until_ms: u64) -> Result<Locks> {
        let now_ms = self.clock.monotonic_ms();
        let mut locks = Locks::new(Arc::clone(sessions), closed_until_ms, self.hash_seed);
        for (key, entry) in self.entries(HOLDS, ring)? {
            let (name, session) = parse_hold_key(&key).map_err(|damage| self.damaged(damage))?;
            let hold = StoredHold::decode(&entry.value).map_err(|damage| self.damaged(damage))?;
            locks.restore(name, session, hold, entry.version, now_ms);
        }
        Ok(locks)
    }

    pub(super) fn damaged(&self, damage: Damage) -> crate::error::Error {
        damage.in_file(&self.fs.root().join(&self.paths.dir), 0)
    }

    /// All that stands in an internal keyspace and is this shard's by `ring`.
    pub(super) fn entries(&self, keyspace: Keyspace, ring: &Ring) -> Result<BTreeMap<Vec<u8>, Entry>> {
        let state = ReadState {
            active: MemWriter::new(Order::Kept, self.hash_seed).seal(),
            sealed: Vec::new(),
            tables: self.keeper.tables(),
        };
        let mut found = BTreeMap::new();
        let mut cursor = RangeCursor::new(&state, Range::all(keyspace, Direction::Forward), CommitTs::MAX)?;
        while cursor.advance()? {
            let Some((key, value)) = cursor.current() else { break };
            found.insert(key.to_vec(), Entry { version: value.version, value: value.bytes.to_vec() });
        }
        for ((_, key), entry) in self.replay.set_aside.last.iter().filter(|((own, _), _)| *own == keyspace) {
            match entry {
                Some(entry) => {
                    let newer = found.get(key).is_none_or(|other| other.version <= entry.version);
                    if newer {
                        found.insert(key.clone(), entry.clone());
                    }
                }
                None => {
                    found.remove(key);
                }
            }
        }
        found.retain(|key, _| ring.owner_of_key(placed_by(keyspace, key)) == self.shard);
        Ok(found)
    }
}
