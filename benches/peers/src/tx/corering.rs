//! Ours, by the Rust API.

use std::path::Path;

use corering_engine::{
    Client, Durability, Engine, Error, Keyspace, Options, Transaction, TransactionOptions, TxNumber,
};

use super::{Access, Session, Step, Stopped, Store, Tx};
use crate::store::Outcome;

const KS: Keyspace = Keyspace::DEFAULT;

/// What becomes of keys that will be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// They are compared at the commit.
    Optimistic,
    /// They are kept from the read on.
    Kept,
}

pub struct Corering {
    engine: Engine,
    manner: Manner,
}

impl Corering {
    pub fn open(dir: &Path, manner: Manner) -> Outcome<Box<dyn Store>> {
        let engine = Engine::open(dir, Options::default()).map_err(|error| error.to_string())?;
        Ok(Box::new(Corering { engine, manner }))
    }
}

impl Store for Corering {
    fn session(&self) -> Outcome<Box<dyn Session + '_>> {
        Ok(Box::new(Own { client: self.engine.client(), manner: self.manner, again: None }))
    }

    fn settings(&self) -> String {
        let shards = self.engine.shard_count();
        let manner = match self.manner {
            Manner::Optimistic => "get",
            Manner::Kept => "get_for_update of what will be written",
        };
        format!("Durability::Sync; {shards} shards; strictly serializable; {manner}; fates are not remembered")
    }
}

struct Own {
    client: Client,
    manner: Manner,
    /// The age of what is run again.
    again: Option<TxNumber>,
}

fn stopped(error: Error) -> Stopped {
    // A full disk is retryable, too, but not by trying at once.
    if error.is_retryable() && !error.is_no_space() { Stopped::Again } else { Stopped::Failed(error.to_string()) }
}

impl Session for Own {
    fn attempt(&mut self, access: Access, f: &mut dyn FnMut(&mut dyn Tx) -> Step<()>) -> Step<()> {
        let options = TransactionOptions {
            durability: Some(Durability::Sync),
            read_only: access == Access::Reads,
            // The peers remember none.
            remember: std::time::Duration::ZERO,
            again: self.again.take(),
            ..TransactionOptions::default()
        };
        let transaction = self.client.begin(options).map_err(stopped)?;
        let mut running = Running { transaction, manner: self.manner };
        // What `Client::transact` does.
        let done = running.transaction.wait_turn().map_err(stopped).and_then(|()| f(&mut running));
        let done = done.and_then(|()| running.transaction.commit().wait().map(drop).map_err(stopped));
        if matches!(done, Err(Stopped::Again)) {
            self.again = Some(running.transaction.number());
        }
        done
    }

    fn pause(&mut self, failed: u32) {
        std::thread::sleep(self.client.pause(self.again, failed));
    }
}

struct Running {
    transaction: Transaction,
    manner: Manner,
}

impl Tx for Running {
    fn get(&mut self, key: &[u8]) -> Step<Option<Vec<u8>>> {
        self.transaction.get(KS, key).map(|found| found.map(|value| value.bytes)).map_err(stopped)
    }

    fn get_for_update(&mut self, key: &[u8]) -> Step<Option<Vec<u8>>> {
        match self.manner {
            Manner::Optimistic => self.get(key),
            Manner::Kept => {
                let found = self.transaction.get_for_update(KS, key);
                found.map(|found| found.map(|value| value.bytes)).map_err(stopped)
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Step<()> {
        self.transaction.put(KS, key, value).map_err(stopped)
    }
}
