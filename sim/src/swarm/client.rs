//! One client: does what the mix lets it, and shows every answer to the models.
//!
//! Guards: an error is taken only if a fault, a limit or a close explains it (`world.rs`); what was refused must have done nothing.
//!
//! `write.rs` and `read.rs` are its acts on keys of a shard, `over.rs` those over several shards, `locking.rs` sessions and locks,
//! `owning.rs` keys of sessions and numbered keys, `watching.rs` watches.

mod locking;
mod over;
mod owning;
mod read;
mod watching;
mod write;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use corering_engine::runtime::Executor;
use corering_engine::runtime::sim::Rng;
use corering_engine::{
    Client, CommitTs, Durability, Engine, Error, Expiry, Keyspace, Pending, SessionKey, Snapshot, TxNumber, Value,
    Watch, WriteOptions,
};

use super::mix::Act;
use super::model::{Content, State, View, WriteId};
use super::world::{Outcome, World};

/// One client's hands.
pub struct Hands {
    pub world: Rc<World>,
    pub engine: Engine,
    pub client: Client,
    pub executor: Rc<dyn Executor>,
    pub rng: Rng,
    /// The keys that only this client writes.
    pub own: Vec<usize>,
    number: usize,
    views: Vec<(Snapshot, View)>,
    sessions: Vec<SessionKey>,
    /// Keys of sessions of which nobody knows what they hold.
    shut: BTreeSet<Vec<u8>>,
    watch: Option<Watch>,
    /// The age of the transaction whose commit was refused last.
    lost: Option<TxNumber>,
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
            number,
            views: Vec::new(),
            sessions: Vec::new(),
            shut: BTreeSet::new(),
            watch: None,
            lost: None,
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
        self.end_watch().await
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
            Act::Session => self.session_act().await.map(|()| "session"),
            Act::Lock => self.lock_act().await.map(|()| "lock"),
            Act::Guarded => self.guarded().await.map(|()| "guarded write"),
            Act::Own => self.own_act().await.map(|()| "key of a session"),
            Act::Number => self.number_act().await.map(|()| "numbered key"),
            Act::Watch => self.watch_act().await.map(|()| "watch"),
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
        for (key, state) in &changes {
            if let Some(content) = state {
                let (keyspace, name) = self.name(*key);
                self.world.changes.borrow_mut().tried(content.number(), keyspace, name);
            }
        }
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
        match self.world.judge(what, result)? {
            Outcome::Done(commit) => self.answered(id, commit).map_err(|e| format!("{what}: {e}")),
            Outcome::Refused => self.refused(id).map_err(|e| format!("{what}: {e}")),
            Outcome::Unknown => {
                // What such a key holds is not known any more, so that nothing can be said of the next write to it.
                let keys = self.world.model.borrow_mut().unsure(id);
                self.own.retain(|key| !keys.contains(key));
                Ok(())
            }
        }
    }

    fn answered(&self, id: WriteId, commit: Option<CommitTs>) -> Result<(), String> {
        let (at_sync, changes) = self.world.model.borrow().changes_of(id);
        self.world.model.borrow_mut().answered(id, commit)?;
        let Some(commit) = commit else { return Ok(()) };
        changes.into_iter().try_for_each(|(key, state)| {
            let (keyspace, name) = self.name(key);
            let number = state.map(|content| content.number());
            self.world.changes.borrow_mut().answered(commit, keyspace, name, number, at_sync)
        })
    }

    /// It was refused and did nothing.
    fn refused(&self, id: WriteId) -> Result<(), String> {
        let (_, changes) = self.world.model.borrow().changes_of(id);
        self.world.model.borrow_mut().refused(id)?;
        let numbers = changes.into_iter().filter_map(|(_, state)| state.map(|content| content.number()));
        numbers.into_iter().try_for_each(|number| self.world.changes.borrow_mut().refused(number))
    }

    async fn sync(&mut self) -> Result<(), String> {
        let promise = self.world.promises();
        let answer = self.client.sync();
        let result = self.answer(answer).await;
        if matches!(self.world.judge("sync", result)?, Outcome::Done(())) {
            self.world.promised(promise);
        }
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<(), String> {
        let promise = self.world.promises();
        let answer = self.engine.checkpoint_async();
        let result = self.answer(answer).await;
        if self.world.excuse("checkpoint", result)? {
            self.world.promised(promise);
        }
        Ok(())
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
