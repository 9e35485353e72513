//! Keys that go with their sessions, and keys made for their numbers.

use corering_engine::{Durability, Error, Expiry, LockError, Made, SessionKey, WriteOptions};

use super::Hands;
use crate::swarm::model::number_of;
use crate::swarm::owned::{Left, OWNED, PREFIXES};
use crate::swarm::world::Outcome;

/// Keys of sessions that each client writes.
const KEYS_EACH: u64 = 3;

impl Hands {
    pub(super) async fn own_act(&mut self) -> Result<(), String> {
        let key = format!("owned:{}:{}", self.number, self.rng.below(KEYS_EACH)).into_bytes();
        match self.rng.below(8) {
            0 | 1 => self.look_at_any(),
            2 => self.whose(&key).await,
            _ if self.shut.contains(&key) => Ok(()),
            3 => self.delete_owned(key).await,
            4 => self.put_owned(key, None).await,
            _ => match self.a_session().await? {
                Some(session) => self.put_owned(key, Some(session)).await,
                None => Ok(()),
            },
        }
    }

    fn look_at(&self, key: &[u8]) -> Result<(), String> {
        match self.world.judge("get", self.client.get(OWNED, key))? {
            Outcome::Done(found) => {
                let (locks, now_ms) = (self.world.locks.borrow(), self.world.now_ms());
                self.world.owned.borrow_mut().read(key, found.as_ref(), &locks, now_ms)
            }
            Outcome::Refused | Outcome::Unknown => Ok(()),
        }
    }

    fn look_at_any(&mut self) -> Result<(), String> {
        let names = self.world.owned.borrow().names();
        if names.is_empty() {
            return Ok(());
        }
        let key = &names[self.rng.index(names.len())];
        self.look_at(key)
    }

    /// The engine knows whose the key is, as long as it is there.
    async fn whose(&mut self, key: &[u8]) -> Result<(), String> {
        let Outcome::Done(before) = self.world.judge("get", self.client.get(OWNED, key))? else { return Ok(()) };
        let owner = self.client.ephemeral_owner(OWNED, key);
        let owner = self.answer(owner).await;
        let Outcome::Done(owner) = self.world.judge("ephemeral_owner", owner)? else { return Ok(()) };
        let wanted = before.and_then(|value| self.world.owned.borrow().owner(key, number_of(&value.bytes)));
        let may_be_gone = |id| self.world.locks.borrow().may_be_over(id, self.world.now_ms());
        if owner == wanted || (owner.is_none() && wanted.is_some_and(may_be_gone)) {
            return Ok(());
        }
        Err(format!("{key:?} is of {owner:?}, not of {wanted:?}"))
    }

    fn owned_options(&self, level: Durability, session: Option<SessionKey>) -> WriteOptions {
        WriteOptions { session, ..self.options(level, Expiry::NEVER) }
    }

    async fn put_owned(&mut self, key: Vec<u8>, session: Option<SessionKey>) -> Result<(), String> {
        let (level, content) = (self.level(), self.new_content(Expiry::NEVER));
        let (number, at_sync) = (content.number(), level == Durability::Sync);
        let left = Left { number: Some(number), owner: session.map(|session| session.id), at_sync };
        self.world.changes.borrow_mut().tried(number, OWNED, key.clone());
        self.world.owned.borrow_mut().begin(&key, left);
        let put = self.client.put(OWNED, &key, &content.bytes, self.owned_options(level, session));
        let put = self.answer(put).await;
        match self.judge_owned("put for a session", put)? {
            Outcome::Done(commit) => {
                self.world.owned.borrow_mut().answered(&key);
                self.world.changes.borrow_mut().answered(commit, OWNED, key, Some(number), at_sync)
            }
            Outcome::Refused => {
                self.world.owned.borrow_mut().refused(&key)?;
                self.world.changes.borrow_mut().refused(number)
            }
            // What it holds is not known any more, so that nothing can be said of the next write to it.
            Outcome::Unknown => {
                self.shut.insert(key);
                Ok(())
            }
        }
    }

    async fn delete_owned(&mut self, key: Vec<u8>) -> Result<(), String> {
        let level = self.level();
        let left = Left { number: None, owner: None, at_sync: level == Durability::Sync };
        self.world.owned.borrow_mut().begin(&key, left);
        let delete = self.client.delete(OWNED, &key, self.owned_options(level, None));
        let delete = self.answer(delete).await;
        match self.judge_owned("delete", delete)? {
            Outcome::Done(true) => {
                self.world.owned.borrow_mut().answered(&key);
                Ok(())
            }
            // It was not there, and nothing was done.
            Outcome::Done(false) | Outcome::Refused => self.world.owned.borrow_mut().refused(&key),
            Outcome::Unknown => {
                self.shut.insert(key);
                Ok(())
            }
        }
    }

    /// Make a key for its number, for a session or for good.
    pub(super) async fn number_act(&mut self) -> Result<(), String> {
        let session = if self.rng.coin() { self.a_session().await? } else { None };
        let (level, content) = (self.level(), self.new_content(Expiry::NEVER));
        let (number, at_sync) = (content.number(), level == Durability::Sync);
        let prefix = self.rng.index(PREFIXES.len());
        let before = self.world.owned.borrow().last_number(prefix);
        self.world.changes.borrow_mut().tried(number, OWNED, PREFIXES[prefix].to_vec());
        let options = self.owned_options(level, session);
        let made = self.client.put_sequential(OWNED, PREFIXES[prefix], &content.bytes, options);
        let made = self.answer(made).await;
        match self.judge_owned("put_sequential", made)? {
            Outcome::Done(made) => {
                let left = Left { number: Some(number), owner: session.map(|session| session.id), at_sync };
                self.world.owned.borrow_mut().made(prefix, &made, before, left)?;
                let Made { key, version } = made;
                self.world.changes.borrow_mut().answered(version, OWNED, key, Some(number), at_sync)
            }
            Outcome::Refused => self.world.changes.borrow_mut().refused(number),
            Outcome::Unknown => Ok(()),
        }
    }

    fn judge_owned<T>(&mut self, what: &str, result: Result<T, Error>) -> Result<Outcome<T>, String> {
        match result {
            Err(Error::Lock(LockError::NoSession { id })) => {
                self.no_session(what, id)?;
                Ok(Outcome::Refused)
            }
            other => match self.world.judge(what, other)? {
                Outcome::Done(done) => Ok(Outcome::Done(done)),
                Outcome::Refused => Ok(Outcome::Refused),
                Outcome::Unknown => Ok(Outcome::Unknown),
            },
        }
    }

    /// Every such key is as the world has it.
    pub fn verify_owned(&mut self) -> Result<(), String> {
        let names = self.world.owned.borrow().names();
        for key in names {
            let found = self.client.get(OWNED, &key).map_err(|e| e.to_string())?;
            let (locks, now_ms) = (self.world.locks.borrow(), self.world.now_ms());
            self.world.owned.borrow_mut().recovered(&key, found.as_ref(), &locks, now_ms)?;
        }
        self.world.changes.borrow_mut().recovered();
        Ok(())
    }
}
