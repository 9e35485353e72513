//! Ours, by the Rust API.

use std::collections::VecDeque;
use std::ops::Bound;
use std::path::Path;
use std::time::Instant;

use corering_engine::{
    Client, Durability, Engine, Expiry, Keyspace, Options, Pending, ScanRange, WriteBatch, WriteOptions,
};

use super::{AsyncRun, Level, Opening, Outcome, Session, Store, touch};
use crate::data::{Key, key};

const KS: Keyspace = Keyspace::DEFAULT;

/// Where what was loaded is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    Memory,
    Tables,
}

pub struct Corering {
    engine: Engine,
    rest: Rest,
    memtable_bytes: u64,
}

impl Corering {
    pub fn open(dir: &Path, opening: Opening, rest: Rest) -> Outcome<Box<dyn Store>> {
        let shards = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let defaults = Options::default();
        let memtable_bytes = match rest {
            Rest::Memory if opening.resident => opening.memory / shards,
            Rest::Memory | Rest::Tables => defaults.memtable_bytes,
        };
        let engine = Engine::open(dir, Options { memtable_bytes, ..defaults }).map_err(|error| error.to_string())?;
        Ok(Box::new(Corering { engine, rest, memtable_bytes }))
    }
}

fn at(level: Level) -> WriteOptions {
    let durability = match level {
        Level::Durable => Durability::Sync,
        Level::NoWait => Durability::None,
    };
    WriteOptions { durability: Some(durability), ..WriteOptions::default() }
}

impl Store for Corering {
    fn session(&self) -> Outcome<Box<dyn Session + '_>> {
        Ok(Box::new(Own { client: self.engine.client() }))
    }

    fn settings(&self) -> String {
        format!(
            "durable: Durability::Sync; not waiting: Durability::None; {} shards; memtable_bytes={} MiB a shard; {}",
            self.engine.shard_count(),
            self.memtable_bytes >> 20,
            match self.rest {
                Rest::Memory => "data where these leave it",
                Rest::Tables => "data in tables (a checkpoint after loading)",
            }
        )
    }

    fn load(&self, count: u64, value: &[u8]) -> Outcome<()> {
        let client = self.engine.client();
        let mut under_way = VecDeque::new();
        for i in 0..count {
            under_way.push_back(client.put(KS, &key(i), value, at(Level::NoWait)));
            if under_way.len() == 64 {
                finish(under_way.pop_front())?;
            }
        }
        while !under_way.is_empty() {
            finish(under_way.pop_front())?;
        }
        client.sync().wait().map_err(|error| error.to_string())?;
        if self.rest == Rest::Tables {
            self.engine.checkpoint().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn put_async(&self, run: &mut dyn AsyncRun) -> Option<Outcome<()>> {
        Some(put_async(&self.engine.client(), run))
    }
}

fn finish<T>(pending: Option<Pending<T>>) -> Outcome<()> {
    pending.map_or(Ok(()), |pending| pending.wait().map(drop).map_err(|error| error.to_string()))
}

fn put_async(client: &Client, run: &mut dyn AsyncRun) -> Outcome<()> {
    let mut under_way: VecDeque<(Pending<_>, Instant)> = VecDeque::new();
    let value = crate::data::value(crate::data::VALUE_LEN);
    while let Some(key) = run.next() {
        under_way.push_back((client.put(KS, &key, &value, at(Level::Durable)), Instant::now()));
        // Whatever is there is taken, before somebody is waited for.
        while under_way.len() >= run.depth() || under_way.front().is_some_and(|(oldest, _)| oldest.is_ready()) {
            let Some((oldest, began)) = under_way.pop_front() else { break };
            finish(Some(oldest))?;
            run.done(began);
        }
    }
    for (oldest, began) in under_way {
        finish(Some(oldest))?;
        run.done(began);
    }
    Ok(())
}

struct Own {
    client: Client,
}

impl Session for Own {
    fn put(&mut self, key: &[u8], value: &[u8], level: Level) -> Outcome<()> {
        finish(Some(self.client.put(KS, key, value, at(level))))
    }

    fn batch(&mut self, keys: &[Key], value: &[u8], level: Level) -> Outcome<()> {
        // A batch is atomic on one shard; keys that do not share one go into a batch for each.
        let mut batches: Vec<WriteBatch> = Vec::new();
        for key in keys {
            let shard = self.client.shard_of(key).index();
            batches.resize_with(batches.len().max(shard + 1), WriteBatch::new);
            batches[shard].put(KS, key, value);
        }
        let under_way: Vec<_> = batches
            .into_iter()
            .filter(|batch| !batch.is_empty())
            .map(|batch| self.client.write_batch(batch, at(level)))
            .collect();
        under_way.into_iter().try_for_each(|pending| finish(Some(pending)))
    }

    fn get(&mut self, key: &[u8]) -> Outcome<Option<u64>> {
        let found = self.client.get_with(KS, key, |value| value.map(|value| touch(value.bytes)));
        found.map_err(|error| error.to_string())
    }

    fn multi_get(&mut self, keys: &[Key]) -> Outcome<usize> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
        let mut found = 0;
        // Where they lie, as the peers lend theirs.
        let read = self.client.multi_get_with(KS, &keys, |value| {
            found += usize::from(value.is_some_and(|value| touch(value.bytes) > 0));
        });
        read.map(|()| found).map_err(|error| error.to_string())
    }

    fn scan(&mut self, from: &[u8], rows: u64) -> Outcome<u64> {
        let scan = || {
            let snapshot = self.client.snapshot()?;
            let lower = Bound::Included(from.to_vec());
            let mut scan = self.client.scan(&snapshot, ScanRange { lower, ..ScanRange::all(KS) })?;
            let mut seen = 0;
            while seen < rows {
                let Some((key, value)) = scan.next_ref()? else { break };
                std::hint::black_box(touch(key) + touch(value.bytes));
                seen += 1;
            }
            Ok(seen)
        };
        scan().map_err(|error: corering_engine::Error| error.to_string())
    }
}
