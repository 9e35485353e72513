//! One key inside an atomic step of its shard, and the answer such a step gives.

use corering_engine::{Expiry, Keyspace, Kind, SessionId, Tx, ValueRef};

use super::errors::CommandError;
use crate::resp::Reply;
use crate::server::{KeyEvent, KeyEvents};

/// What a step on a shard answers; written for the client's protocol once the step is durable.
#[derive(Debug)]
pub enum Answer {
    Ok,
    Null,
    Integer(i64),
    Bulk(Vec<u8>),
    /// Written already, in the client's protocol.
    Raw(Vec<u8>),
    /// Nothing was changed.
    Failed(CommandError),
}

impl Answer {
    /// Write it; the error, if it is one, has been written too.
    pub fn write(self, reply: &mut Reply<'_>) -> Result<(), CommandError> {
        match self {
            Answer::Ok => reply.ok(),
            Answer::Null => reply.null(),
            Answer::Integer(n) => reply.integer(n),
            Answer::Bulk(bytes) => reply.bulk(&bytes),
            Answer::Raw(bytes) => reply.raw(&bytes),
            Answer::Failed(error) => {
                reply.error(error.as_bytes());
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The latest state of one key, to look at and to change.
pub struct Cell<'t, 'a> {
    tx: &'t mut Tx<'a>,
    keyspace: Keyspace,
    key: &'t [u8],
    /// What was done to it, if anybody wants to know.
    told: Option<KeyEvents>,
}

impl<'t, 'a> Cell<'t, 'a> {
    pub fn new(tx: &'t mut Tx<'a>, keyspace: Keyspace, key: &'t [u8], tells: bool) -> Cell<'t, 'a> {
        Cell { tx, keyspace, key, told: tells.then(KeyEvents::default) }
    }

    pub fn into_events(self) -> KeyEvents {
        self.told.unwrap_or_default()
    }

    fn tell(&mut self, event: KeyEvent, expiry: Expiry) {
        if let Some(told) = &mut self.told {
            told.events.push(event);
            told.expiry = expiry;
        }
    }

    pub fn get(&self) -> Result<Option<ValueRef<'_>>, CommandError> {
        Ok(self.tx.get(self.keyspace, self.key)?)
    }

    /// Set a string. One that has expired already is not there at all.
    pub fn put(&mut self, value: &[u8], expiry: Expiry) -> Result<(), CommandError> {
        self.put_as(KeyEvent::Set, value, expiry)
    }

    /// Set a string; those who listen are told that it was this.
    pub fn put_as(&mut self, event: KeyEvent, value: &[u8], expiry: Expiry) -> Result<(), CommandError> {
        match event {
            KeyEvent::Set => self.tx.put(self.keyspace, self.key, value, Kind::BYTES, expiry)?,
            // What only changes a value leaves it whose it is.
            _ => self.tx.update(self.keyspace, self.key, value, Kind::BYTES, expiry)?,
        }
        self.tell(event, expiry);
        Ok(())
    }

    /// Set a string that goes with a session.
    pub fn put_for(&mut self, value: &[u8], expiry: Expiry, session: SessionId) -> Result<(), CommandError> {
        self.tx.put_as(self.keyspace, self.key, value, Kind::BYTES, expiry, Some(session))?;
        self.tell(KeyEvent::Set, expiry);
        Ok(())
    }

    /// The last put was given an expiry.
    pub fn tell_expire(&mut self, expiry: Expiry) {
        if !expiry.is_never() {
            self.tell(KeyEvent::Expire, expiry);
        }
    }

    /// Keep the value, of whatever kind, and change its expiry.
    pub fn set_expiry(&mut self, expiry: Expiry) -> Result<(), CommandError> {
        let Some(value) = self.get()?.map(ValueRef::to_value) else { return Ok(()) };
        self.tx.update(self.keyspace, self.key, &value.bytes, value.kind, expiry)?;
        self.tell(if expiry.is_never() { KeyEvent::Persist } else { KeyEvent::Expire }, expiry);
        Ok(())
    }

    pub fn delete(&mut self) -> Result<(), CommandError> {
        self.tx.delete(self.keyspace, self.key)?;
        self.tell(KeyEvent::Del, Expiry::NEVER);
        Ok(())
    }

    pub fn now_ms(&self) -> u64 {
        self.tx.now_ms()
    }
}
