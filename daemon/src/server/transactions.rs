//! Interactive transactions of connections, and which of them are open on this server.
//!
//! Guards: one ends with its connection, or when its time is over, whatever its client does; whoever was told what became of one was
//! told for ever, because one that is still open is rolled back before its fate is told to another connection.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use corering_engine::{
    Client, CommitTs, Expiry, Keyspace, Kind, Pending, Savepoint, Transaction, TransactionId, TransactionOptions,
    TxNumber, Usage,
};
use parking_lot::Mutex;

use super::shared::Shared;
use super::steps::Told;
use super::{KeyEvent, KeyEvents};
use crate::command::CommandError;

/// Open transactions of one connection.
const OPEN_MAX: usize = 100;
/// Ended ones of which a connection knows how they ended, and how old they were.
const ENDED_MAX: usize = 32;

const UNKNOWN: CommandError =
    CommandError::fixed("NOTX this connection has no such transaction: TX.BEGIN another, or ask TX.FATE");
const ASKED_ABOUT: CommandError =
    CommandError::fixed("NOTX the transaction has ended: another connection asked for its fate; begin another");

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its commit is under way.
    Ending,
    /// Somebody was told that it did not happen.
    Refused,
}

/// What the server knows of a transaction whose fate is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is not open, or no more: the database knows.
    Over,
    Ending,
}

/// All that are open, over all connections.
#[derive(Default)]
pub struct OpenTransactions(Mutex<HashMap<TransactionId, State>>);

impl OpenTransactions {
    /// See to it that what is told of a transaction stays true.
    pub fn settle(&self, id: TransactionId) -> Standing {
        let mut states = self.0.lock();
        match states.get_mut(&id) {
            None => Standing::Over,
            Some(State::Ending) => Standing::Ending,
            Some(state) => {
                *state = State::Refused;
                Standing::Over
            }
        }
    }

    fn is_refused(&self, id: TransactionId) -> bool {
        self.0.lock().get(&id) == Some(&State::Refused)
    }

    /// Whether it may commit; from here on it cannot be refused.
    fn begin_end(&self, id: TransactionId) -> bool {
        let mut states = self.0.lock();
        match states.get_mut(&id) {
            Some(state @ State::Open) => {
                *state = State::Ending;
                true
            }
            Some(State::Ending | State::Refused) | None => false,
        }
    }
}

/// Keeps it among the open ones.
struct Listed {
    shared: Arc<Shared>,
    id: TransactionId,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.transactions.0.lock().remove(&self.id);
    }
}

/// One transaction of a connection.
pub struct Interactive {
    transaction: Transaction,
    pub isolation: &'static str,
    pub read_only: bool,
    listed: Option<Listed>,
    /// What is told once it has committed, to those who listen.
    told: Vec<Told>,
    savepoints: Vec<(Savepoint, usize)>,
}

impl Interactive {
    pub fn id(&self) -> TransactionId {
        self.transaction.id()
    }

    pub fn usage(&self) -> Usage {
        self.transaction.usage()
    }

    /// It goes on, unless it has ended or must.
    pub fn open(&mut self) -> Result<&mut Transaction, CommandError> {
        if let Some(listed) = &self.listed
            && listed.shared.transactions.is_refused(listed.id)
        {
            // It may have ended by itself.
            let _ = self.transaction.rollback();
            return Err(ASKED_ABOUT);
        }
        self.transaction.check_open()?;
        Ok(&mut self.transaction)
    }

    fn tell(&mut self, tells: bool, told: impl FnOnce() -> Told) {
        if tells {
            self.told.push(told());
        }
    }

    pub fn put(
        &mut self,
        keyspace: Keyspace,
        key: &[u8],
        value: &[u8],
        expiry: Expiry,
        tells: bool,
    ) -> Result<(), CommandError> {
        self.open()?.put_full(keyspace, key, value, Kind::BYTES, expiry)?;
        self.tell(tells, || {
            let mut events = vec![KeyEvent::Set];
            events.extend((!expiry.is_never()).then_some(KeyEvent::Expire));
            Told::Changed(keyspace, key.into(), KeyEvents { events, expiry })
        });
        Ok(())
    }

    /// Whether the key was there.
    pub fn delete(&mut self, keyspace: Keyspace, key: &[u8], tells: bool) -> Result<bool, CommandError> {
        let transaction = self.open()?;
        if transaction.get(keyspace, key)?.is_none() {
            return Ok(false);
        }
        transaction.delete(keyspace, key)?;
        self.tell(tells, || Told::one(keyspace, key, KeyEvent::Del));
        Ok(true)
    }

    pub fn savepoint(&mut self) -> Result<Savepoint, CommandError> {
        let savepoint = self.open()?.savepoint()?;
        self.savepoints.push((savepoint, self.told.len()));
        Ok(savepoint)
    }

    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<(), CommandError> {
        self.open()?.rollback_to(savepoint)?;
        if let Some((_, told)) = self.savepoints.iter().find(|(own, _)| *own == savepoint) {
            self.told.truncate(*told);
        }
        Ok(())
    }

    pub fn rollback(&mut self) -> Result<(), CommandError> {
        self.open()?.rollback()?;
        Ok(())
    }

    /// Its end. Others hear of it once it has happened.
    pub fn commit(&mut self) -> Result<Pending<CommitTs>, CommandError> {
        self.open()?;
        if let Some(listed) = &self.listed
            && !listed.shared.transactions.begin_end(listed.id)
        {
            return Err(ASKED_ABOUT);
        }
        let told = std::mem::take(&mut self.told);
        let shared = self.listed.as_ref().map(|listed| Arc::clone(&listed.shared));
        Ok(self.transaction.commit().then(move |commit| {
            if let Some(shared) = shared {
                told.iter().for_each(|told| told.tell(&shared));
            }
            Ok(commit)
        }))
    }
}

#[derive(Default)]
struct Held {
    open: Vec<Interactive>,
    /// The oldest first.
    ended: VecDeque<Interactive>,
}

/// Those of one connection.
#[derive(Default)]
pub struct Transactions(RefCell<Held>);

impl Transactions {
    pub fn begin(
        &self,
        client: &Client,
        shared: &Arc<Shared>,
        options: TransactionOptions,
        isolation: &'static str,
    ) -> Result<TransactionId, CommandError> {
        let mut held = self.0.borrow_mut();
        if held.open.len() >= OPEN_MAX {
            return Err(CommandError::text(format!(
                "TXTOOMANY a connection has at most {OPEN_MAX} transactions open; end one"
            )));
        }
        let read_only = options.read_only;
        let transaction = client.begin(options)?;
        let id = transaction.id();
        shared.transactions.0.lock().insert(id, State::Open);
        let listed = Some(Listed { shared: Arc::clone(shared), id });
        let (told, savepoints) = (Vec::new(), Vec::new());
        held.open.push(Interactive { transaction, isolation, read_only, listed, told, savepoints });
        Ok(id)
    }

    /// The age of one of this connection that has ended, or is open.
    pub fn age_of(&self, id: TransactionId) -> Result<TxNumber, CommandError> {
        let held = self.0.borrow();
        let found = held.open.iter().chain(&held.ended).find(|own| own.id() == id);
        found.map(|own| own.transaction.number()).ok_or(UNKNOWN)
    }

    /// Look at one or go on with it.
    pub fn with<T>(
        &self,
        id: TransactionId,
        f: impl FnOnce(&mut Interactive) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let mut interactive = self.take(id)?;
        let done = f(&mut interactive);
        self.put_back(interactive);
        done
    }

    /// One that the caller goes on with over several turns; to be given back.
    pub fn take(&self, id: TransactionId) -> Result<Interactive, CommandError> {
        let mut held = self.0.borrow_mut();
        if let Some(at) = held.open.iter().position(|own| own.id() == id) {
            return Ok(held.open.swap_remove(at));
        }
        let at = held.ended.iter().position(|own| own.id() == id).ok_or(UNKNOWN)?;
        held.ended.remove(at).ok_or(UNKNOWN)
    }

    pub fn put_back(&self, mut interactive: Interactive) {
        let mut held = self.0.borrow_mut();
        if interactive.transaction.is_open() {
            held.open.push(interactive);
            return;
        }
        (interactive.listed, interactive.told, interactive.savepoints) = (None, Vec::new(), Vec::new());
        if held.ended.len() >= ENDED_MAX {
            held.ended.pop_front();
        }
        held.ended.push_back(interactive);
    }

    /// One that nobody was told of.
    pub fn forget(&self, id: TransactionId) {
        drop(self.take(id));
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.borrow().open.len()
    }

    /// Whether it is open here.
    pub fn has_open(&self, id: TransactionId) -> bool {
        self.0.borrow().open.iter().any(|own| own.id() == id)
    }

    /// End those whose time is over, or that were refused.
    pub fn expire(&self) {
        let ids: Vec<TransactionId> = self.0.borrow().open.iter().map(Interactive::id).collect();
        for id in ids {
            // What it answers is what its client is told at its next command.
            let _ = self.with(id, |own| own.open().map(drop));
        }
    }

    /// The connection ends, or begins anew.
    pub fn clear(&self) {
        let held = std::mem::take(&mut *self.0.borrow_mut());
        drop(held);
    }
}
