//! Ephemeral keys of a shard: whose each is, kept in step with the records that say so (docs/watch.md).
//!
//! Guards: a key and the entry that names its session are written by one record; whoever writes such a key otherwise, in whatever
//! way, takes the entry away in the same record; the end of a session removes what is still its own and nothing else.
//! Crash leaves: entries of sessions that are gone; they are removed before the shard serves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::core::{ShardCore, Unwritten};
use super::recover::Offline;
use super::tx::Tx;
use crate::canary::{Canary, planted};
use crate::error::{Error, Result};
use crate::format::block::Op;
use crate::format::ephemeral::{EPHEMERAL_KEY_LEN_MAX, EPHEMERALS, decode_entry, entry_key, parse_entry_key};
use crate::format::record::OpRef;
use crate::ids::{Expiry, Keyspace, Kind, SessionId};
use crate::lock::LockError;
use crate::options::{Durability, KEY_LEN_MAX};
use crate::ring::Ring;

/// Keys removed by one record at the end of a session.
const REMOVED_AT_ONCE: usize = 64;
/// What such a record may take in the log, beyond its first key.
const REMOVED_BYTES: usize = 64 << 10;

/// Digits of the number of a sequential key.
pub const SEQUENCE_DIGITS: usize = 20;

type EphemeralKey = (Keyspace, Box<[u8]>);

/// The ephemeral keys of one shard.
#[derive(Default)]
pub struct Ephemerals {
    owners: BTreeMap<Keyspace, HashMap<Box<[u8]>, SessionId>>,
    keys: BTreeMap<SessionId, BTreeSet<EphemeralKey>>,
}

impl Ephemerals {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn len(&self) -> usize {
        self.keys.values().map(BTreeSet::len).sum()
    }

    pub fn owner(&self, keyspace: Keyspace, key: &[u8]) -> Option<SessionId> {
        self.owners.get(&keyspace)?.get(key).copied()
    }

    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.keys.keys().copied()
    }

    pub fn keys_of(&self, session: SessionId) -> impl Iterator<Item = &EphemeralKey> + '_ {
        self.keys.get(&session).into_iter().flatten()
    }

    fn set(&mut self, keyspace: Keyspace, key: &[u8], session: SessionId) {
        self.clear(keyspace, key);
        self.owners.entry(keyspace).or_default().insert(key.into(), session);
        self.keys.entry(session).or_default().insert((keyspace, key.into()));
    }

    fn clear(&mut self, keyspace: Keyspace, key: &[u8]) {
        let Some(owners) = self.owners.get_mut(&keyspace) else { return };
        let Some((key, session)) = owners.remove_entry(key) else { return };
        if owners.is_empty() {
            self.owners.remove(&keyspace);
        }
        if let Some(keys) = self.keys.get_mut(&session) {
            keys.remove(&(keyspace, key));
            if keys.is_empty() {
                self.keys.remove(&session);
            }
        }
    }

    /// Entries that a record of these ops must delete: of keys that it writes without saying whose they are now.
    pub(super) fn released_by<'a>(&self, ops: impl Iterator<Item = OpRef<'a>> + Clone) -> Vec<Vec<u8>> {
        let said: BTreeSet<&[u8]> = ops.clone().filter(|op| op.keyspace == EPHEMERALS).map(|op| op.key).collect();
        let owned = ops.filter(|op| self.owner(op.keyspace, op.key).is_some());
        owned.map(|op| entry_key(op.keyspace, op.key)).filter(|entry| !said.contains(entry.as_slice())).collect()
    }

    /// A record of these ops was written.
    pub(super) fn follow<'a>(&mut self, ops: impl Iterator<Item = OpRef<'a>>) {
        for op in ops.filter(|op| op.keyspace == EPHEMERALS) {
            let (keyspace, key) = parse_entry_key(op.key).expect("the shard writes only entries here");
            match op.change {
                Op::Put { value, .. } => {
                    self.set(keyspace, key, decode_entry(value).expect("the shard writes only entries here"))
                }
                Op::Delete => self.clear(keyspace, key),
            }
        }
    }
}

/// Whether a record says something of whose keys are.
pub(super) fn names_owners<'a>(mut ops: impl Iterator<Item = OpRef<'a>>) -> bool {
    ops.any(|op| op.keyspace == EPHEMERALS)
}

impl ShardCore {
    pub fn ephemerals(&self) -> &Ephemerals {
        &self.ephemerals
    }

    /// Remove the keys of a session that has ended. False if the log has no room for more.
    pub(super) fn remove_keys_of(&mut self, session: SessionId) -> bool {
        if planted(Canary::KeepKeysOfSession) {
            return true;
        }
        loop {
            let mut bytes = 0;
            let next = self.ephemerals.keys_of(session).take_while(|(_, key)| {
                let fits = bytes < REMOVED_BYTES;
                bytes += 2 * key.len();
                fits
            });
            let keys: Vec<EphemeralKey> = next.take(REMOVED_AT_ONCE).cloned().collect();
            if keys.is_empty() {
                return true;
            }
            let ops = keys.iter().map(|(keyspace, key)| OpRef { keyspace: *keyspace, key, change: Op::Delete });
            match self.write(ops, Durability::None) {
                // Nobody asked for it, so that nobody is told.
                Ok((commit, need)) => self.wait(need, Some(commit), Box::new(drop)),
                Err(Unwritten::Later(_) | Unwritten::Never(_)) => {
                    self.outbox.kick_flusher = true;
                    self.outbox.kick_background = true;
                    return false;
                }
            }
        }
    }
}

impl Offline {
    /// The shard's ephemeral keys, also those of sessions that are gone.
    pub fn ephemerals(&self, ring: &Ring) -> Result<Ephemerals> {
        let mut ephemerals = Ephemerals::default();
        for (entry, value) in self.entries(EPHEMERALS, ring)? {
            let (keyspace, key) = parse_entry_key(&entry).map_err(|damage| self.damaged(damage))?;
            let session = decode_entry(&value.value).map_err(|damage| self.damaged(damage))?;
            ephemerals.set(keyspace, key, session);
        }
        Ok(ephemerals)
    }
}

impl Tx<'_> {
    /// As [`Tx::put`]; the key is the session's, or nobody's. Refused if the session is not live.
    pub fn put_as(
        &mut self,
        keyspace: Keyspace,
        key: &[u8],
        value: &[u8],
        kind: Kind,
        expiry: Expiry,
        owner: Option<SessionId>,
    ) -> Result<()> {
        if let Some(id) = owner {
            if !self.world.sessions.is_live(id, self.world.clock.monotonic_ms()) {
                return Err(Error::Lock(LockError::NoSession { id }));
            }
            if key.len() > EPHEMERAL_KEY_LEN_MAX {
                return Err(Error::KeyTooLarge { len: key.len() as u64, max: EPHEMERAL_KEY_LEN_MAX as u64 });
            }
        }
        self.put(keyspace, key, value, kind, expiry)?;
        if let Some(id) = owner {
            self.say_owner(keyspace, key, id);
        }
        Ok(())
    }

    /// As [`Tx::put`]; the key stays whose it is.
    pub fn update(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8], kind: Kind, expiry: Expiry) -> Result<()> {
        let owner = self.owner(keyspace, key)?;
        self.put(keyspace, key, value, kind, expiry)?;
        if let Some(id) = owner {
            // Also of one that has ended by now: its keys go with it.
            self.say_owner(keyspace, key, id);
        }
        Ok(())
    }

    /// Put under a key that no other put is ever given: the prefix and a number that grows (docs/watch.md).
    pub fn put_sequential(
        &mut self,
        keyspace: Keyspace,
        prefix: &[u8],
        value: &[u8],
        kind: Kind,
        expiry: Expiry,
        owner: Option<SessionId>,
    ) -> Result<Vec<u8>> {
        let shard = self.part(prefix)?.shard;
        if prefix.len() + SEQUENCE_DIGITS > KEY_LEN_MAX {
            let len = (prefix.len() + SEQUENCE_DIGITS) as u64;
            return Err(Error::KeyTooLarge { len, max: KEY_LEN_MAX as u64 });
        }
        let mut key = prefix.to_vec();
        loop {
            let number = self.world.timestamps.draw_number();
            key.truncate(prefix.len());
            key.extend_from_slice(format!("{number:0SEQUENCE_DIGITS$}").as_bytes());
            if self.world.ring.owner_of_key(&key) == shard {
                break;
            }
        }
        self.put_as(keyspace, &key, value, kind, expiry, owner)?;
        Ok(key)
    }

    /// The session that an ephemeral key is of, this step's own writes included.
    pub fn owner(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<SessionId>> {
        if let Some(said) = self.said_owner(keyspace, key) {
            return Ok(said);
        }
        // What has expired is nobody's.
        let owner = self.part(key)?.ephemerals.owner(keyspace, key);
        Ok(if owner.is_some() && self.get(keyspace, key)?.is_none() { None } else { owner })
    }
}
