//! Writes to keys of one shard, each answer shown to the model; and counters.

use corering_engine::{CommitTs, Condition, Durability, Error, Expiry, Keyspace, Kind, Pending, PutIf, WriteBatch};

use super::Hands;
use crate::swarm::model::WriteId;
use crate::swarm::world::{COUNTER_NAMES, COUNTERS, Outcome};

/// A write under way.
struct UnderWay {
    id: WriteId,
    what: &'static str,
    answer: Pending<CommitTs>,
}

impl Hands {
    fn submit_put(&mut self, key: usize, expiry: Expiry) -> UnderWay {
        let (level, content) = (self.level(), self.new_content(expiry));
        let id = self.begin(level, vec![(key, Some(content.clone()))]);
        let (keyspace, name) = self.name(key);
        let answer = self.client.put(keyspace, &name, &content.bytes, self.options(level, expiry));
        UnderWay { id, what: "put", answer }
    }

    pub(super) async fn put(&mut self, expiry: Expiry) -> Result<(), String> {
        let key = self.own_key();
        let UnderWay { id, what, answer } = self.submit_put(key, expiry);
        let result = self.answer(answer).await;
        self.settle(id, what, result.map(Some))
    }

    /// Writes of different keys, submitted together and waited for in any order.
    pub(super) async fn burst(&mut self) -> Result<(), String> {
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

    pub(super) async fn batch(&mut self) -> Result<(), String> {
        let key = self.own_key();
        let keys = self.neighbours(key);
        self.batch_of(keys).await
    }

    pub(super) async fn batch_of(&mut self, keys: Vec<usize>) -> Result<(), String> {
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

    pub(super) async fn delete(&mut self) -> Result<(), String> {
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
                self.refused(id)?;
                return match self.was_there(key, [then, self.now_ms()]) {
                    [true, true] => Err(format!("delete says that key {key} did not exist")),
                    _ => Ok(()),
                };
            }
        }
        self.settle(id, "delete", result.map(|_| None))
    }

    pub(super) async fn put_if(&mut self) -> Result<(), String> {
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
                self.refused(id)
            }
            Ok(PutIf::Done(commit)) => self.settle(id, "put_if", Ok(Some(commit))),
            Err(error) => self.settle(id, "put_if", Err(error)),
        }
    }

    /// Reads two keys and changes both, in one step.
    pub(super) async fn run(&mut self) -> Result<(), String> {
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

    pub(super) async fn count(&mut self) -> Result<(), String> {
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
}
