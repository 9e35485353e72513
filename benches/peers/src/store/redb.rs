//! redb, a copy-on-write B-tree in Rust.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::{Level, Opening, Outcome, Session, Store, touch};
use crate::data::Key;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");

pub struct Redb {
    db: Database,
    cache: u64,
}

fn fault(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Redb {
    pub fn open(dir: &Path, opening: Opening) -> Outcome<Box<dyn Store>> {
        let mut builder = Database::builder();
        builder.set_cache_size(usize::try_from(opening.memory).unwrap_or(usize::MAX));
        let db = builder.create(dir.join("redb")).map_err(fault)?;
        let begun = db.begin_write().map_err(fault)?;
        begun.open_table(TABLE).map_err(fault)?;
        begun.commit().map_err(fault)?;
        Ok(Box::new(Redb { db, cache: opening.memory }))
    }
}

impl Store for Redb {
    fn session(&self) -> Outcome<Box<dyn Session + '_>> {
        Ok(Box::new(Own { db: &self.db }))
    }

    fn settings(&self) -> String {
        format!(
            "durable: Durability::Immediate; not waiting: Durability::None (a kill of the process loses it); cache_size={} MiB; one write transaction for each put",
            self.cache >> 20
        )
    }
}

struct Own<'a> {
    db: &'a Database,
}

impl Own<'_> {
    fn write<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>, value: &[u8], level: Level) -> Outcome<()> {
        let mut begun = self.db.begin_write().map_err(fault)?;
        let durability = match level {
            Level::Durable => Durability::Immediate,
            Level::NoWait => Durability::None,
        };
        begun.set_durability(durability).map_err(fault)?;
        {
            let mut table = begun.open_table(TABLE).map_err(fault)?;
            for key in keys {
                table.insert(key, value).map_err(fault)?;
            }
        }
        begun.commit().map_err(fault)
    }
}

impl Session for Own<'_> {
    fn put(&mut self, key: &[u8], value: &[u8], level: Level) -> Outcome<()> {
        self.write(std::iter::once(key), value, level)
    }

    fn batch(&mut self, keys: &[Key], value: &[u8], level: Level) -> Outcome<()> {
        self.write(keys.iter().map(|key| key.as_slice()), value, level)
    }

    fn get(&mut self, key: &[u8]) -> Outcome<Option<u64>> {
        let begun = self.db.begin_read().map_err(fault)?;
        let table = begun.open_table(TABLE).map_err(fault)?;
        let found = table.get(key).map_err(fault)?;
        Ok(found.map(|value| touch(value.value())))
    }

    fn multi_get(&mut self, keys: &[Key]) -> Outcome<usize> {
        let begun = self.db.begin_read().map_err(fault)?;
        let table = begun.open_table(TABLE).map_err(fault)?;
        let mut found = 0;
        for key in keys {
            let value = table.get(key.as_slice()).map_err(fault)?;
            found += usize::from(value.is_some_and(|value| touch(value.value()) > 0));
        }
        Ok(found)
    }

    fn scan(&mut self, from: &[u8], rows: u64) -> Outcome<u64> {
        let begun = self.db.begin_read().map_err(fault)?;
        let table = begun.open_table(TABLE).map_err(fault)?;
        let mut seen = 0;
        for row in table.range(from..).map_err(fault)? {
            if seen == rows {
                break;
            }
            let (key, value) = row.map_err(fault)?;
            std::hint::black_box(touch(key.value()) + touch(value.value()));
            seen += 1;
        }
        Ok(seen)
    }
}
