//! fjall, an LSM-tree in Rust.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Level, Opening, Outcome, Session, Store, touch};
use crate::data::Key;

pub struct Fjall {
    db: Database,
    keys: Keyspace,
    cache: u64,
    memtable: u64,
}

fn fault(error: fjall::Error) -> String {
    error.to_string()
}

impl Fjall {
    pub fn open(dir: &Path, opening: Opening) -> Outcome<Box<dyn Store>> {
        // Its default of 64 MiB, unless the journal has to hold everything.
        let memtable = if opening.resident { opening.memory } else { 64 << 20 };
        let db = Database::builder(dir.join("fjall"))
            .cache_size(opening.memory)
            .max_journaling_size((2 * opening.memory).max(512 << 20))
            .open()
            .map_err(fault)?;
        let keys =
            db.keyspace("keys", || KeyspaceCreateOptions::default().max_memtable_size(memtable)).map_err(fault)?;
        Ok(Box::new(Fjall { db, keys, cache: opening.memory, memtable }))
    }
}

impl Store for Fjall {
    fn session(&self) -> Outcome<Box<dyn Session + '_>> {
        Ok(Box::new(Own { store: self }))
    }

    fn settings(&self) -> String {
        format!(
            "durable: persist(PersistMode::SyncData) after each write; not waiting: its default (to the kernel); cache_size={} MiB; max_memtable_size={} MiB",
            self.cache >> 20,
            self.memtable >> 20
        )
    }

    fn load(&self, count: u64, value: &[u8]) -> Outcome<()> {
        super::load_by_batches(self.session()?.as_mut(), count, value)?;
        // What is left to do in the background would be measured otherwise.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while (self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0)
            && std::time::Instant::now() < deadline
        {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(())
    }
}

struct Own<'a> {
    store: &'a Fjall,
}

impl Own<'_> {
    fn settle(&self, level: Level) -> Outcome<()> {
        match level {
            Level::Durable => self.store.db.persist(PersistMode::SyncData).map_err(fault),
            Level::NoWait => Ok(()),
        }
    }
}

impl Session for Own<'_> {
    fn put(&mut self, key: &[u8], value: &[u8], level: Level) -> Outcome<()> {
        self.store.keys.insert(key, value).map_err(fault)?;
        self.settle(level)
    }

    fn batch(&mut self, keys: &[Key], value: &[u8], level: Level) -> Outcome<()> {
        let mut batch = self.store.db.batch();
        for key in keys {
            batch.insert(&self.store.keys, key.as_slice(), value);
        }
        batch.commit().map_err(fault)?;
        self.settle(level)
    }

    fn get(&mut self, key: &[u8]) -> Outcome<Option<u64>> {
        Ok(self.store.keys.get(key).map_err(fault)?.map(|value| touch(&value)))
    }

    fn multi_get(&mut self, keys: &[Key]) -> Outcome<usize> {
        let mut found = 0;
        for key in keys {
            let value = self.store.keys.get(key).map_err(fault)?;
            found += usize::from(value.is_some_and(|value| touch(&value) > 0));
        }
        Ok(found)
    }

    fn scan(&mut self, from: &[u8], rows: u64) -> Outcome<u64> {
        let mut seen = 0;
        for row in self.store.keys.range(from..) {
            if seen == rows {
                break;
            }
            let (key, value) = row.into_inner().map_err(fault)?;
            std::hint::black_box(touch(&key) + touch(&value));
            seen += 1;
        }
        Ok(seen)
    }
}
