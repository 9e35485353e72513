//! One client: does what the mix lets it, and shows every answer to the model. What it does over several shards is in `over.rs`.
//!
//! Guards: an error is taken only if a fault, a limit or a close explains it; what was refused must have done nothing.

mod over;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use corering_engine::runtime::Executor;
use corering_engine::runtime::sim::{Rng, Sim};
use corering_engine::{
    Client, CommitTs, Condition, Durability, Engine, Error, Expiry, Keyspace, Kind, Pending, PutIf, ScanRange,
    Snapshot, TxError, Value, WriteBatch, WriteOptions,
};

use super::counters::Counter;
use super::mix::{Act, Mix};
use super::model::{Content, Model, State, View, WriteId};
use crate::account::Account;

/// Where the counters are.
pub const COUNTERS: Keyspace = Keyspace(2);
pub const COUNTER_NAMES: [&[u8]; 3] = [b"count:a", b"count:b", b"{c}:c"];

/// What the clients of one seed share, over all its lives.
pub struct World {
    pub sim: Sim,
    pub mix: Mix,
    pub model: RefCell<Model>,
    pub counters: RefCell<Vec<Counter>>,
    pub account: RefCell<Account>,
    pub next_number: Cell<u64>,
    /// Faults may strike in this life.
    pub faulty: Cell<bool>,
    /// The disk is full, or was in this life.
    pub full: Cell<bool>,
    pub closing: Cell<bool>,
    /// How far the wall clock was set forward.
    pub jumped_ms: Cell<u64>,
    /// Lies of the disk that the model knows of.
    pub lies_noticed: Cell<usize>,
    /// Where they were told, in all lives.
    pub lied_of: RefCell<Vec<Place>>,
}

/// A part of a database of which a write was lost.
#[derive(Clone, Debug)]
pub struct Place {
    /// What a refusal for it names.
    pub named: String,
    /// It may keep the database closed for good. Of a table the engine finds out before a manifest names it.
    pub may_refuse: bool,
}

impl Place {
    fn of(path: &str) -> Place {
        let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
        let shard = dir.split('/').next().unwrap_or("");
        match (dir.ends_with("/tables"), file) {
            (true, _) => Place { named: path.to_owned(), may_refuse: false },
            // A manifest that a later crash took back names what is no more, in its shard.
            (false, "manifest") => Place { named: format!("{shard}/"), may_refuse: true },
            // As does the superblock, anywhere.
            (false, "superblock") => Place { named: String::new(), may_refuse: true },
            // A log is one thing over its segments.
            (false, _) => Place { named: dir.to_owned(), may_refuse: true },
        }
    }
}

/// What became of a call.
enum Outcome<T> {
    Done(T),
    /// Nothing was done.
    Refused,
    /// It may have been done.
    Unknown,
}

impl World {
    /// The same knowledge, of a copy of the disk in another machine.
    pub fn copied_to(&self, sim: &Sim) -> World {
        World {
            sim: sim.clone(),
            mix: self.mix.clone(),
            model: self.model.clone(),
            counters: self.counters.clone(),
            account: RefCell::default(),
            next_number: self.next_number.clone(),
            faulty: Cell::new(false),
            full: Cell::new(false),
            closing: Cell::new(false),
            jumped_ms: self.jumped_ms.clone(),
            lies_noticed: Cell::new(0),
            lied_of: self.lied_of.clone(),
        }
    }

    /// Before anything is shown to the model: what was durable when the disk lied.
    pub fn notice_lies(&self) {
        for path in self.sim.lies(self.lies_noticed.get()) {
            self.lies_noticed.set(self.lies_noticed.get() + 1);
            if let Some(shard) = path.strip_prefix("shard-").filter(|_| path.ends_with(".seg")) {
                let shard = shard[..4].parse().expect("a shard's directory has its number");
                self.model.borrow_mut().lied(shard);
                self.counters.borrow_mut().iter_mut().for_each(Counter::lied);
            }
            self.lied_of.borrow_mut().push(Place::of(&path));
        }
    }

    /// Whether an error names a place of which the disk lied.
    pub fn tells_of_a_lie(&self, error: &Error, for_good: bool) -> bool {
        self.notice_lies();
        let said = error.to_string();
        matches!(error, Error::Corrupt { .. } | Error::Incompatible { .. } | Error::Io { .. })
            && self.lied_of.borrow().iter().any(|p| said.contains(&p.named) && (p.may_refuse || !for_good))
    }

    fn judge<T>(&self, what: &str, result: Result<T, Error>) -> Result<Outcome<T>, String> {
        self.notice_lies();
        let mut account = self.account.borrow_mut();
        match result {
            Ok(value) => Ok(Outcome::Done(value)),
            Err(Error::Busy { .. }) => {
                account.refusal("busy");
                Ok(Outcome::Refused)
            }
            Err(Error::NoSpace { .. }) if self.full.get() || self.faulty.get() => {
                account.refusal("no space");
                Ok(Outcome::Refused)
            }
            // Segments or tables cannot be made for long: whoever would wait for them is told why.
            Err(error @ Error::Io { .. }) if self.faulty.get() && !error.may_have_committed() => {
                account.refusal("the background's failure");
                Ok(Outcome::Refused)
            }
            // A table that does not verify is not used, and made again.
            Err(error @ Error::Corrupt { .. }) if self.tells_of_a_lie(&error, false) => {
                account.refusal("a lie found out");
                Ok(Outcome::Refused)
            }
            // Another transaction came between, or it was open for too long.
            Err(Error::Tx(refusal)) if refusal.is_retryable() || matches!(refusal, TxError::TooOld { .. }) => {
                account.refusal("conflict");
                Ok(Outcome::Refused)
            }
            Err(Error::Closed) if self.closing.get() => {
                account.refusal("closed");
                Ok(Outcome::Refused)
            }
            Err(Error::Poisoned(_)) if self.faulty.get() => {
                account.refusal("poisoned");
                Ok(Outcome::Unknown)
            }
            Err(error) => Err(format!("{what}: {error}")),
        }
    }

    /// Of a call that may fail as a whole while the disk does: a checkpoint.
    fn excuse(&self, what: &str, result: Result<(), Error>) -> Result<bool, String> {
        match result {
            Err(error @ Error::Io { .. }) if self.faulty.get() || (self.full.get() && error.is_no_space()) => {
                self.account.borrow_mut().refusal("checkpoint failed");
                Ok(false)
            }
            other => Ok(matches!(self.judge(what, other)?, Outcome::Done(()))),
        }
    }

    fn content(&self, len: usize, expiry: Expiry) -> Content {
        let number = self.next_number.replace(self.next_number.get() + 1);
        let mut bytes = vec![number as u8; len.max(8)];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Content { bytes: bytes.into(), expiry }
    }
}

/// One client's hands.
pub struct Hands {
    pub world: Rc<World>,
    pub engine: Engine,
    pub client: Client,
    pub executor: Rc<dyn Executor>,
    pub rng: Rng,
    /// The keys that only this client writes.
    pub own: Vec<usize>,
    views: Vec<(Snapshot, View)>,
}

/// A write under way.
struct UnderWay {
    id: WriteId,
    what: &'static str,
    answer: Pending<CommitTs>,
}

type Found = Option<Value>;

impl Hands {
    pub fn new(world: &Rc<World>, engine: &Engine, number: usize, rng: Rng) -> Hands {
        let each = world.mix.keys_per_client;
        Hands {
            world: Rc::clone(world),
            engine: engine.clone(),
            client: engine.client(),
            executor: world.sim.executor("client's timer"),
            rng,
            own: (number * each..(number + 1) * each).collect(),
            views: Vec::new(),
        }
    }

    pub async fn work(mut self) -> Result<(), String> {
        let total: u64 = self.world.mix.acts.iter().map(|(_, weight)| weight).sum();
        for _ in 0..self.world.mix.acts_per_client {
            if self.world.closing.get() && self.rng.one_in(3) {
                break;
            }
            let mut at = self.rng.below(total);
            let acts = self.world.mix.acts.clone();
            let chosen = acts.iter().find(|(_, weight)| {
                let hit = at < *weight;
                at = at.saturating_sub(*weight);
                hit
            });
            let (act, _) = *chosen.expect("the weights add up to the total");
            self.act(act).await?;
        }
        Ok(())
    }

    async fn act(&mut self, act: Act) -> Result<(), String> {
        if self.own.is_empty() && act.writes() {
            return Ok(());
        }
        let name = match act {
            Act::Put => self.put(Expiry::NEVER).await.map(|()| "put"),
            Act::PutExpiring => {
                let expiry = self.soon();
                self.put(expiry).await.map(|()| "put that expires")
            }
            Act::PutIf => self.put_if().await.map(|()| "put_if"),
            Act::Delete => self.delete().await.map(|()| "delete"),
            Act::Batch => self.batch().await.map(|()| "batch"),
            Act::Run => self.run().await.map(|()| "run"),
            Act::BatchOver => self.batch_over().await.map(|()| "batch over shards"),
            Act::RunOver => self.run_over().await.map(|()| "run over shards"),
            Act::Transact => self.transact().await.map(|()| "transaction"),
            Act::ReadOver => self.read_over().await.map(|()| "transaction that reads"),
            Act::Burst => self.burst().await.map(|()| "burst"),
            Act::Count => self.count().await.map(|()| "incr"),
            Act::Get => self.get().map(|()| "get"),
            Act::GetMany => self.get_many().map(|()| "multi_get"),
            Act::TakeView => self.take_view().await.map(|()| "snapshot"),
            Act::ReadView => self.read_view().map(|()| "get_at"),
            Act::Scan => self.scan_now().await.map(|()| "scan"),
            Act::ScanView => self.scan_view().await.map(|()| "scan of a held snapshot"),
            Act::Sync => self.sync().await.map(|()| "sync"),
            Act::Checkpoint => self.checkpoint().await.map(|()| "checkpoint"),
            Act::Pause => self.pause().await.map(|()| "pause"),
        }?;
        self.world.account.borrow_mut().act(name);
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.client.clock().wall_ms()
    }

    fn soon(&mut self) -> Expiry {
        let in_ms = *self.rng.pick(&[0, 1, 5, 50, 1_000, 60_000]);
        Expiry::at_ms(self.now_ms() + in_ms)
    }

    fn level(&mut self) -> Durability {
        *self.rng.pick(&self.world.mix.levels)
    }

    fn options(&self, level: Durability, expiry: Expiry) -> WriteOptions {
        WriteOptions { durability: Some(level), expiry, session: None }
    }

    fn own_key(&mut self) -> usize {
        *self.rng.pick(&self.own)
    }

    fn any_key(&mut self) -> usize {
        self.rng.index(self.world.model.borrow().names().len())
    }

    fn name(&self, key: usize) -> (Keyspace, Vec<u8>) {
        self.world.model.borrow().names()[key].clone()
    }

    fn shard_of(&self, key: usize) -> u16 {
        self.client.shard_of(&self.name(key).1).0
    }

    fn new_content(&mut self, expiry: Expiry) -> Content {
        let len = *self.rng.pick(&self.world.mix.value_lens);
        self.world.content(len, expiry)
    }

    fn begin(&mut self, level: Durability, changes: Vec<(usize, State)>) -> WriteId {
        let shards: BTreeSet<u16> = changes.iter().map(|(key, _)| self.shard_of(*key)).collect();
        // Over several shards it is always durable when it is answered, and when it is seen.
        let at_sync = level == Durability::Sync || shards.len() > 1;
        self.world.model.borrow_mut().begin(shards.into_iter().collect(), at_sync, changes)
    }

    /// Wait for an answer, now and then as a thread would that flushes by itself.
    async fn answer<T>(&mut self, mut pending: Pending<T>) -> Result<T, Error> {
        if self.rng.one_in(self.world.mix.help_one_in) {
            pending.help();
        }
        pending.await
    }

    fn settle(&mut self, id: WriteId, what: &str, result: Result<Option<CommitTs>, Error>) -> Result<(), String> {
        let outcome = self.world.judge(what, result)?;
        let mut model = self.world.model.borrow_mut();
        match outcome {
            Outcome::Done(commit) => model.answered(id, commit).map_err(|e| format!("{what}: {e}")),
            Outcome::Refused => model.refused(id).map_err(|e| format!("{what}: {e}")),
            Outcome::Unknown => {
                // What such a key holds is not known any more, so that nothing can be said of the next write to it.
                let keys = model.unsure(id);
                drop(model);
                self.own.retain(|key| !keys.contains(key));
                Ok(())
            }
        }
    }

    fn submit_put(&mut self, key: usize, expiry: Expiry) -> UnderWay {
        let (level, content) = (self.level(), self.new_content(expiry));
        let id = self.begin(level, vec![(key, Some(content.clone()))]);
        let (keyspace, name) = self.name(key);
        let answer = self.client.put(keyspace, &name, &content.bytes, self.options(level, expiry));
        UnderWay { id, what: "put", answer }
    }

    async fn put(&mut self, expiry: Expiry) -> Result<(), String> {
        let key = self.own_key();
        let UnderWay { id, what, answer } = self.submit_put(key, expiry);
        let result = self.answer(answer).await;
        self.settle(id, what, result.map(Some))
    }

    /// Writes of different keys, submitted together and waited for in any order.
    async fn burst(&mut self) -> Result<(), String> {
        let mut under_way = Vec::new();
        for key in self.own.clone() {
            if self.rng.coin() {
                under_way.push(self.submit_put(key, Expiry::NEVER));
            }
            if self.rng.one_in(4) {
                self.executor.yield_now().await;
            }
            if self.rng.one_in(3) {
                // What is under way must not be seen yet.
                self.get()?;
            }
        }
        while !under_way.is_empty() {
            let next = self.rng.index(under_way.len());
            let UnderWay { id, what, answer } = under_way.swap_remove(next);
            let result = self.answer(answer).await;
            self.settle(id, what, result.map(Some))?;
        }
        Ok(())
    }

    /// Own keys of the same shard as `key`, `key` first.
    fn neighbours(&mut self, key: usize) -> Vec<usize> {
        let shard = self.shard_of(key);
        let others = self.own.clone().into_iter().filter(|other| *other != key && self.shard_of(*other) == shard);
        let others: Vec<usize> = others.collect();
        std::iter::once(key).chain(others.into_iter().filter(|_| self.rng.coin())).collect()
    }

    async fn batch(&mut self) -> Result<(), String> {
        let key = self.own_key();
        let keys = self.neighbours(key);
        self.batch_of(keys).await
    }

    async fn batch_of(&mut self, keys: Vec<usize>) -> Result<(), String> {
        let level = self.level();
        let mut batch = WriteBatch::new();
        let mut changes = Vec::new();
        for key in keys {
            let (keyspace, name) = self.name(key);
            // The last write of a key in a batch counts.
            if self.rng.one_in(4) {
                batch.put(keyspace, &name, b"is overwritten in the same batch");
            }
            if self.rng.one_in(3) {
                batch.delete(keyspace, &name);
                changes.push((key, None));
            } else {
                let expiry = if self.rng.one_in(4) { self.soon() } else { Expiry::NEVER };
                let content = self.new_content(expiry);
                batch.put_full(keyspace, &name, &content.bytes, Kind::BYTES, expiry);
                changes.push((key, Some(content)));
            }
        }
        let id = self.begin(level, changes);
        let answer = self.client.write_batch(batch, self.options(level, Expiry::NEVER));
        let result = self.answer(answer).await;
        self.settle(id, "batch", result.map(Some))
    }

    /// Whether the key's writer may have found it there, between two moments.
    fn was_there(&self, key: usize, moments: [u64; 2]) -> [bool; 2] {
        let model = self.world.model.borrow();
        moments.map(|now| model.current(key).as_ref().is_some_and(|content| !content.expiry.is_past(now)))
    }

    async fn delete(&mut self) -> Result<(), String> {
        let (key, level) = (self.own_key(), self.level());
        let (keyspace, name) = self.name(key);
        let then = self.now_ms();
        let [before, _] = self.was_there(key, [then; 2]);
        let id = self.begin(level, vec![(key, None)]);
        let answer = self.client.delete(keyspace, &name, self.options(level, Expiry::NEVER));
        let result = self.answer(answer).await;
        if let Ok(existed) = &result {
            // Expired meanwhile, at the most.
            if *existed && !before {
                return Err(format!("delete says that key {key} existed"));
            }
            if !existed {
                self.world.model.borrow_mut().refused(id)?;
                return match self.was_there(key, [then, self.now_ms()]) {
                    [true, true] => Err(format!("delete says that key {key} did not exist")),
                    _ => Ok(()),
                };
            }
        }
        self.settle(id, "delete", result.map(|_| None))
    }

    async fn put_if(&mut self) -> Result<(), String> {
        let (key, level) = (self.own_key(), self.level());
        let (keyspace, name) = self.name(key);
        let (current, commit) = {
            let model = self.world.model.borrow();
            (model.current(key).clone(), model.current_commit(key))
        };
        let condition = match (self.rng.below(5), &current, commit) {
            (0, _, _) => Condition::Absent,
            (1, _, _) => Condition::Present,
            (2, Some(content), _) => Condition::Equal(content.bytes.to_vec()),
            (3, _, Some(commit)) => Condition::Version(commit),
            (4, _, _) => Condition::Equal(b"never written".to_vec()),
            _ => Condition::Always,
        };
        let then = self.now_ms();
        let content = self.new_content(Expiry::NEVER);
        let before = self.was_there(key, [then; 2])[0];
        let id = self.begin(level, vec![(key, Some(content.clone()))]);
        let options = self.options(level, Expiry::NEVER);
        let answer = self.client.put_if(keyspace, &name, &content.bytes, condition.clone(), options);
        let result = self.answer(answer).await;
        let after = before && current.as_ref().is_some_and(|content| !content.expiry.is_past(self.now_ms()));
        let holds = |there: bool| match &condition {
            Condition::Always => true,
            Condition::Absent => !there,
            Condition::Present | Condition::Version(_) => there,
            Condition::Equal(bytes) => there && current.as_ref().is_some_and(|content| *content.bytes == bytes[..]),
        };
        let may = [holds(before), holds(after)];
        match result {
            Ok(PutIf::Done(_)) if !may.contains(&true) => {
                Err(format!("put_if with {condition:?} was done on {current:?}"))
            }
            Ok(PutIf::Refused { .. }) if !may.contains(&false) => {
                Err(format!("put_if with {condition:?} was refused on {current:?}"))
            }
            Ok(PutIf::Refused { current: found }) => {
                if found.is_some() && commit.is_some() && found != commit {
                    return Err(format!("put_if found version {found:?}, not {commit:?}"));
                }
                self.world.model.borrow_mut().refused(id)
            }
            Ok(PutIf::Done(commit)) => self.settle(id, "put_if", Ok(Some(commit))),
            Err(error) => self.settle(id, "put_if", Err(error)),
        }
    }

    /// Reads two keys and changes both, in one step.
    async fn run(&mut self) -> Result<(), String> {
        let (key, level) = (self.own_key(), self.level());
        let keys = self.neighbours(key);
        let other = *keys.last().expect("at least the key itself");
        let content = self.new_content(Expiry::NEVER);
        let mut changes = vec![(key, Some(content.clone()))];
        if other != key {
            changes.push((other, None));
        }
        let id = self.begin(level, changes.clone());
        let names: Vec<_> = changes.iter().map(|(key, _)| self.name(*key)).collect();
        let bytes = content.bytes.to_vec();
        let first = names[0].1.clone();
        let then = self.now_ms();
        let answer = self.client.run_commit(
            &first,
            self.options(level, Expiry::NEVER),
            move |tx| {
                let read = |name: &(Keyspace, Vec<u8>)| Ok(tx.get(name.0, &name.1)?.map(|value| value.bytes.to_vec()));
                let found = names.iter().map(read).collect::<Result<Vec<_>, Error>>()?;
                tx.put(names[0].0, &names[0].1, &bytes, Kind::BYTES, Expiry::NEVER)?;
                if let Some((keyspace, name)) = names.get(1) {
                    tx.delete(*keyspace, name)?;
                }
                Ok(found)
            },
            |found, commit| (found, commit),
        );
        let result = self.answer(answer).await;
        if let Ok((found, _)) = &result {
            for ((key, _), found) in changes.iter().zip(found) {
                self.check_read_before(*key, id, found.as_deref(), [then, self.now_ms()])?;
            }
        }
        self.settle(id, "run", result.map(|(_, commit)| Some(commit)))
    }

    /// What a program of the key's writer read before it wrote.
    fn check_read_before(
        &self,
        key: usize,
        id: WriteId,
        found: Option<&[u8]>,
        moments: [u64; 2],
    ) -> Result<(), String> {
        let model = self.world.model.borrow();
        let state = model.before(key, id);
        let may = moments.map(|now| state.as_ref().filter(|c| !c.expiry.is_past(now)).map(|c| &*c.bytes));
        if may.contains(&found) { Ok(()) } else { Err(format!("a program read {found:?} of key {key}, not {may:?}")) }
    }

    async fn count(&mut self) -> Result<(), String> {
        let (at, level) = (self.rng.index(COUNTER_NAMES.len()), self.level());
        let above = self.world.counters.borrow_mut()[at].begin();
        let answer = self.client.incr(COUNTERS, COUNTER_NAMES[at], 1, self.options(level, Expiry::NEVER));
        let result = self.answer(answer).await;
        let outcome = self.world.judge("incr", result)?;
        let counter = &mut self.world.counters.borrow_mut()[at];
        match outcome {
            Outcome::Done(count) => counter.answered(count, above, level == Durability::Sync),
            Outcome::Refused => {
                counter.refused();
                Ok(())
            }
            Outcome::Unknown => Ok(()),
        }
    }

    fn read(&self, key: usize) -> Result<(), String> {
        let (keyspace, name) = self.name(key);
        match self.world.judge("get", self.client.get(keyspace, &name))? {
            Outcome::Done(found) => self.world.model.borrow_mut().read(key, found.as_ref(), self.now_ms()),
            Outcome::Refused | Outcome::Unknown => Ok(()),
        }
    }

    fn get(&mut self) -> Result<(), String> {
        if self.rng.one_in(5) {
            let at = self.rng.index(COUNTER_NAMES.len());
            let result = self.client.get(COUNTERS, COUNTER_NAMES[at]);
            return match self.world.judge("get", result)? {
                Outcome::Done(found) => self.world.counters.borrow_mut()[at].read(found.as_ref()),
                Outcome::Refused | Outcome::Unknown => Ok(()),
            };
        }
        let key = self.any_key();
        self.read(key)
    }

    fn get_many(&mut self) -> Result<(), String> {
        let keyspace = Keyspace(self.rng.below(2) as u16);
        let keys: Vec<usize> = (0..self.rng.between(1, 5)).map(|_| self.any_key()).collect();
        let keys: Vec<usize> = keys.into_iter().filter(|key| self.name(*key).0 == keyspace).collect();
        let names: Vec<Vec<u8>> = keys.iter().map(|key| self.name(*key).1).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let Outcome::Done(found) = self.world.judge("multi_get", self.client.multi_get(keyspace, &names))? else {
            return Ok(());
        };
        for (key, found) in keys.iter().zip(&found) {
            self.world.model.borrow_mut().read(*key, found.as_ref(), self.now_ms())?;
        }
        Ok(())
    }

    async fn new_view(&mut self) -> Result<Option<(Snapshot, View)>, String> {
        let floors = self.world.model.borrow().view_begins();
        let snapshot = self.client.snapshot_async().await;
        Ok(match self.world.judge("snapshot", snapshot)? {
            Outcome::Done(snapshot) => {
                let view = self.world.model.borrow().view(floors, Some(snapshot.version()));
                Some((snapshot, view))
            }
            Outcome::Refused | Outcome::Unknown => None,
        })
    }

    /// Take a view, to be read from now on; or let one go.
    async fn take_view(&mut self) -> Result<(), String> {
        if self.views.len() >= 3 {
            let old = self.rng.index(self.views.len());
            self.views.swap_remove(old);
        }
        let view = self.new_view().await?;
        self.views.extend(view);
        Ok(())
    }

    fn read_view(&mut self) -> Result<(), String> {
        if self.views.is_empty() {
            return Ok(());
        }
        let (key, at) = (self.any_key(), self.rng.index(self.views.len()));
        let (keyspace, name) = self.name(key);
        let now_ms = self.now_ms();
        let (snapshot, view) = &mut self.views[at];
        let result = self.client.get_at(snapshot, keyspace, &name);
        match self.world.judge("get_at", result)? {
            Outcome::Done(found) => self.world.model.borrow_mut().read_view(view, key, found.as_ref(), now_ms),
            Outcome::Refused | Outcome::Unknown => Ok(()),
        }
    }

    async fn scan_now(&mut self) -> Result<(), String> {
        let Some((snapshot, mut view)) = self.new_view().await? else { return Ok(()) };
        self.scan(&snapshot, &mut view).await
    }

    async fn scan_view(&mut self) -> Result<(), String> {
        if self.views.is_empty() {
            return Ok(());
        }
        let at = self.rng.index(self.views.len());
        let (snapshot, mut view) = self.views.swap_remove(at);
        self.scan(&snapshot, &mut view).await?;
        self.views.push((snapshot, view));
        Ok(())
    }

    /// Scan all of a range at once.
    pub async fn scan_all(&mut self, range: ScanRange) -> Result<(), String> {
        let Some((snapshot, mut view)) = self.new_view().await? else { return Ok(()) };
        self.scan_range(&snapshot, &mut view, range, usize::MAX).await
    }

    fn range(&mut self) -> ScanRange {
        let keyspace = Keyspace(self.rng.below(2) as u16);
        let reverse = self.rng.coin();
        let range = match self.rng.below(3) {
            0 => ScanRange::all(keyspace),
            1 => {
                let name = {
                    let key = self.any_key();
                    self.name(key).1
                };
                let len = self.rng.index(name.len() + 1);
                ScanRange::prefix(keyspace, &name[..len])
            }
            _ => {
                let mut bound = || {
                    let key = self.any_key();
                    let name = self.name(key).1;
                    [Bound::Unbounded, Bound::Included(name.clone()), Bound::Excluded(name)][self.rng.index(3)].clone()
                };
                ScanRange { lower: bound(), upper: bound(), ..ScanRange::all(keyspace) }
            }
        };
        ScanRange { reverse, ..range }
    }

    /// Scan a range, some of it, now and then stopping on the way, and compare each key it passed.
    async fn scan(&mut self, snapshot: &Snapshot, view: &mut View) -> Result<(), String> {
        let range = self.range();
        let limit = if self.rng.coin() { usize::MAX } else { self.rng.index(6) };
        self.scan_range(snapshot, view, range, limit).await
    }

    async fn scan_range(
        &mut self,
        snapshot: &Snapshot,
        view: &mut View,
        range: ScanRange,
        limit: usize,
    ) -> Result<(), String> {
        let scanning = self.client.scan_async(snapshot, range.clone()).await;
        let now_ms = self.now_ms();
        let Outcome::Done(mut scan) = self.world.judge("scan", scanning)? else { return Ok(()) };
        let mut found: Vec<(Vec<u8>, Value)> = Vec::new();
        let mut ended = false;
        while found.len() < limit {
            let Some(entry) = scan.next() else {
                ended = true;
                break;
            };
            let entry = entry.map_err(|e| format!("scan: {e}"))?;
            found.push((entry.key, entry.value));
            if self.rng.one_in(8) {
                self.executor.yield_now().await;
            }
        }
        self.check_scan(&range, found, ended, view, now_ms).map_err(|e| format!("scan of {range:?}: {e}"))
    }

    fn check_scan(
        &self,
        range: &ScanRange,
        found: Vec<(Vec<u8>, Value)>,
        ended: bool,
        view: &mut View,
        now_ms: u64,
    ) -> Result<(), String> {
        let in_order =
            |pair: &[(Vec<u8>, Value)]| if range.reverse { pair[0].0 > pair[1].0 } else { pair[0].0 < pair[1].0 };
        if !found.windows(2).all(in_order) {
            return Err("keys out of order".to_owned());
        }
        let last = found.last().map(|(key, _)| key.clone());
        let passed = |name: &Vec<u8>| {
            ended || last.as_ref().is_some_and(|last| if range.reverse { name >= last } else { name <= last })
        };
        let mut found: BTreeMap<Vec<u8>, Value> = found.into_iter().collect();
        let mut model = self.world.model.borrow_mut();
        for (key, (keyspace, name)) in model.names().to_vec().iter().enumerate() {
            if *keyspace == range.keyspace && is_in(range, name) && passed(name) {
                let value: Found = found.remove(name);
                model.read_view(view, key, value.as_ref(), now_ms)?;
            }
        }
        match found.keys().next() {
            None => Ok(()),
            Some(strange) => Err(format!("found {strange:?}, which is not in the range or was never written")),
        }
    }

    async fn sync(&mut self) -> Result<(), String> {
        let (answered, counts) = self.promises();
        let answer = self.client.sync();
        let result = self.answer(answer).await;
        if matches!(self.world.judge("sync", result)?, Outcome::Done(())) {
            self.promised(answered, counts);
        }
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<(), String> {
        let (answered, counts) = self.promises();
        let answer = self.engine.checkpoint_async();
        let result = self.answer(answer).await;
        if self.world.excuse("checkpoint", result)? {
            self.promised(answered, counts);
        }
        Ok(())
    }

    fn promises(&self) -> (super::model::Answered, Vec<i64>) {
        let counts = self.world.counters.borrow().iter().map(Counter::sync_begins).collect();
        (self.world.model.borrow().sync_begins(), counts)
    }

    fn promised(&self, answered: super::model::Answered, counts: Vec<i64>) {
        self.world.model.borrow_mut().synced(answered);
        self.world.counters.borrow_mut().iter_mut().zip(counts).for_each(|(counter, floor)| counter.synced(floor));
    }

    async fn pause(&mut self) -> Result<(), String> {
        if self.rng.one_in(self.world.mix.jump_one_in) {
            let by = *self.rng.pick(&[1, 100, 10_000]);
            self.world.sim.jump_wall_ms(by as i64);
            self.world.jumped_ms.set(self.world.jumped_ms.get() + by);
        }
        let us = *self.rng.pick(&[1, 100, 5_000, 300_000, 2_000_000]);
        self.executor.sleep(Duration::from_micros(us)).await;
        Ok(())
    }
}

fn is_in(range: &ScanRange, name: &Vec<u8>) -> bool {
    let above = match &range.lower {
        Bound::Unbounded => true,
        Bound::Included(bound) => name >= bound,
        Bound::Excluded(bound) => name > bound,
    };
    let below = match &range.upper {
        Bound::Unbounded => true,
        Bound::Included(bound) => name <= bound,
        Bound::Excluded(bound) => name < bound,
    };
    above && below
}
