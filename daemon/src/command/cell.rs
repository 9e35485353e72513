//! One key inside an atomic step of its shard, and the answer such a step gives.

use corering_engine::{Expiry, Keyspace, Kind, Tx, ValueRef};

use super::errors::CommandError;
use crate::resp::Reply;

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
}

impl<'t, 'a> Cell<'t, 'a> {
    pub fn new(tx: &'t mut Tx<'a>, keyspace: Keyspace, key: &'t [u8]) -> Cell<'t, 'a> {
        Cell { tx, keyspace, key }
    }

    pub fn get(&self) -> Result<Option<ValueRef<'_>>, CommandError> {
        Ok(self.tx.get(self.keyspace, self.key)?)
    }

    /// Set a string. One that has expired already is not there at all.
    pub fn put(&mut self, value: &[u8], expiry: Expiry) -> Result<(), CommandError> {
        Ok(self.tx.put(self.keyspace, self.key, value, Kind::BYTES, expiry)?)
    }

    /// Keep the value, of whatever kind, and change its expiry.
    pub fn set_expiry(&mut self, expiry: Expiry) -> Result<(), CommandError> {
        let Some(value) = self.get()?.map(ValueRef::to_value) else { return Ok(()) };
        Ok(self.tx.put(self.keyspace, self.key, &value.bytes, value.kind, expiry)?)
    }

    pub fn delete(&mut self) -> Result<(), CommandError> {
        Ok(self.tx.delete(self.keyspace, self.key)?)
    }

    pub fn now_ms(&self) -> u64 {
        self.tx.now_ms()
    }
}
