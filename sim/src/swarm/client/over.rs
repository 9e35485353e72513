//! What a client does over several shards at once: batches, programs and transactions.
//!
//! Guards: what a commit read was so just before its number; what a transaction reads is one state; a refusal did nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corering_engine::{
    CommitTs, Durability, Error, Expiry, Isolation, Keys, Keyspace, Kind, Savepoint, ScanRange, Transaction,
    TransactionOptions, Value, WriteOptions,
};

use super::{Found, Hands};
use crate::swarm::model::{Content, State, View};
use crate::swarm::world::Outcome;

/// A read, and the time by which it judged what had expired.
struct Read {
    key: usize,
    found: Found,
    now_ms: u64,
    /// The key was kept: whatever the isolation, it must still be so at the commit.
    kept: bool,
}

/// A transaction that is open, as its client knows it.
struct Open {
    tx: Transaction,
    /// One state, not of a number that is known.
    view: View,
    /// What must still be so at the commit.
    reads: Vec<Read>,
    /// Keys that are read as they are now, and not in the view.
    kept: BTreeSet<usize>,
    writes: BTreeMap<usize, State>,
    savepoints: Vec<(Savepoint, BTreeMap<usize, State>)>,
}

/// Whether a transaction goes on after one of its steps.
#[derive(PartialEq, Eq)]
enum Goes {
    On,
    Ended,
}

impl Hands {
    /// Some of this client's keys, on any shards.
    fn own_some(&mut self) -> Vec<usize> {
        let first = self.own_key();
        let others: Vec<usize> = self.own.iter().copied().filter(|key| *key != first).collect();
        std::iter::once(first).chain(others.into_iter().filter(|_| self.rng.coin())).collect()
    }

    pub(super) async fn batch_over(&mut self) -> Result<(), String> {
        let keys = self.own_some();
        self.batch_of(keys).await
    }

    /// Reads keys of all clients and changes own ones, in one step.
    pub(super) async fn run_over(&mut self) -> Result<(), String> {
        let level = self.level();
        let changes: Vec<(usize, State)> = self.own_some().into_iter().map(|key| (key, self.new_state())).collect();
        let read: Vec<usize> = (0..self.rng.below(4)).map(|_| self.any_key()).collect();
        let floors = self.world.model.borrow().view_begins();
        let id = self.begin(level, changes.clone());
        let read_names: Vec<_> = read.iter().map(|key| self.name(*key)).collect();
        let names: Vec<_> = changes.iter().map(|(key, _)| self.name(*key)).collect();
        let all: Vec<&[u8]> = read_names.iter().chain(&names).map(|(_, name)| &name[..]).collect();
        let of = Keys::Of(&all);
        let writes: Vec<_> = names
            .iter()
            .zip(&changes)
            .map(|(name, (_, state))| {
                (name.clone(), state.as_ref().map(|content| (content.bytes.to_vec(), content.expiry)))
            })
            .collect();
        let names_to_read = read_names.clone();
        let answer = self.client.run_over_commit(
            of,
            Vec::new(),
            WriteOptions { durability: Some(level), ..WriteOptions::default() },
            move |tx| {
                let look =
                    |(keyspace, name): &(Keyspace, Vec<u8>)| Ok(tx.get(*keyspace, name)?.map(|value| value.to_value()));
                let found = names_to_read.iter().map(look).collect::<Result<Vec<Found>, Error>>()?;
                for ((keyspace, name), write) in &writes {
                    match write {
                        Some((bytes, expiry)) => tx.put(*keyspace, name, bytes, Kind::BYTES, *expiry)?,
                        None => tx.delete(*keyspace, name)?,
                    }
                }
                Ok((found, tx.now_ms()))
            },
            |(found, now_ms), commit| (found, now_ms, commit),
        );
        let result = self.answer(answer).await;
        let done = result.as_ref().ok().cloned();
        self.settle(id, "run over shards", result.map(|(_, _, commit)| Some(commit)))?;
        let Some((found, now_ms, commit)) = done else { return Ok(()) };
        let reads = read.into_iter().zip(found).map(|(key, found)| Read { key, found, now_ms, kept: false });
        self.check_reads_of(commit, floors, reads.collect()).map_err(|e| format!("run over shards: {e}"))
    }

    /// What was read must be what the commits before this one left.
    fn check_reads_of(&self, commit: CommitTs, floors: Vec<usize>, reads: Vec<Read>) -> Result<(), String> {
        let mut model = self.world.model.borrow_mut();
        let mut before = model.view_before(floors, commit);
        let now_ms = self.now_ms();
        reads.iter().try_for_each(|read| {
            // What was written since and had expired again by the commit, is no change.
            let now_ms = if read.found.is_none() { now_ms } else { read.now_ms };
            model.read_view(&mut before, read.key, read.found.as_ref(), now_ms)
        })
    }

    /// A new value, or none.
    fn new_state(&mut self) -> State {
        if self.rng.one_in(3) {
            return None;
        }
        let expiry = if self.rng.one_in(5) { self.soon() } else { Expiry::NEVER };
        Some(self.new_content(expiry))
    }

    fn begin_transaction(&mut self, options: TransactionOptions) -> Result<Option<(Open, Vec<usize>)>, String> {
        let floors = self.world.model.borrow().view_begins();
        let begun = self.client.begin(options);
        let Outcome::Done(tx) = self.world.judge("begin", begun)? else { return Ok(None) };
        let view = self.world.model.borrow().view(floors.clone(), None);
        let (reads, kept, writes) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        let open = Open { tx, view, reads, kept, writes, savepoints: Vec::new() };
        Ok(Some((open, floors)))
    }

    /// Some steps, and the commit, or not.
    pub(super) async fn transact(&mut self) -> Result<(), String> {
        let level = self.level();
        let isolation = *self.rng.pick(&[Isolation::StrictSerializable, Isolation::Snapshot]);
        // One that lost is run again, or not.
        let again = self.lost.take().filter(|_| self.rng.one_in(2));
        let options = TransactionOptions { isolation, durability: Some(level), again, ..TransactionOptions::default() };
        let Some((mut open, floors)) = self.begin_transaction(options)? else { return Ok(()) };
        if self.wait_turn(&mut open).await? == Goes::Ended {
            return Ok(());
        }
        for _ in 0..self.rng.between(1, 8) {
            if self.step(&mut open).await? == Goes::Ended {
                return Ok(());
            }
            if self.rng.one_in(4) {
                let us = *self.rng.pick(&[1, 30, 500]);
                self.executor.sleep(Duration::from_micros(us)).await;
            }
        }
        if self.rng.one_in(8) {
            return self.world.judge("rollback", open.tx.rollback()).map(drop);
        }
        self.commit(open, level, isolation, floors).await
    }

    async fn commit(
        &mut self,
        open: Open,
        level: Durability,
        isolation: Isolation,
        floors: Vec<usize>,
    ) -> Result<(), String> {
        let Open { mut tx, reads, writes, .. } = open;
        if writes.is_empty() {
            let answer = tx.commit();
            let result = self.answer(answer).await;
            return self.world.judge("commit of nothing", result).map(drop);
        }
        let id = self.begin(level, writes.into_iter().collect());
        let answer = tx.commit();
        let result = self.answer(answer).await;
        self.lost = result.as_ref().is_err_and(Error::is_lost_race).then(|| tx.number());
        let done = result.as_ref().ok().copied();
        self.settle(id, "commit", result.map(Some))?;
        let Some(commit) = done else { return Ok(()) };
        // At the weaker isolation it may have read what was changed since.
        let held = |read: &Read| read.kept || isolation == Isolation::StrictSerializable;
        let reads = reads.into_iter().filter(held).collect();
        self.check_reads_of(commit, floors, reads).map_err(|e| format!("a commit: {e}"))
    }

    async fn wait_turn(&mut self, open: &mut Open) -> Result<Goes, String> {
        let Outcome::Done(turn) = self.world.judge("turn", open.tx.turn())? else { return Ok(Goes::Ended) };
        for kept in turn {
            let result = self.answer(kept).await;
            let Outcome::Done(()) = self.world.judge("wait for the turn", result)? else { return Ok(Goes::Ended) };
        }
        Ok(Goes::On)
    }

    async fn step(&mut self, open: &mut Open) -> Result<Goes, String> {
        match self.rng.below(12) {
            0..=3 => self.read_in(open),
            4 => self.keep_in(open).await,
            5 => self.scan_in(open).await,
            6..=9 => self.write_in(open),
            10 => {
                let made = open.tx.savepoint();
                let Outcome::Done(savepoint) = self.world.judge("savepoint", made)? else { return Ok(Goes::Ended) };
                open.savepoints.push((savepoint, open.writes.clone()));
                Ok(Goes::On)
            }
            _ => self.go_back_in(open),
        }
    }

    fn read_in(&mut self, open: &mut Open) -> Result<Goes, String> {
        let key = self.any_key();
        let (keyspace, name) = self.name(key);
        let now_ms = self.now_ms();
        let result = open.tx.get(keyspace, &name);
        let Outcome::Done(found) = self.world.judge("get in a transaction", result)? else { return Ok(Goes::Ended) };
        if open.kept.contains(&key) {
            self.check_kept_in(open, Read { key, found, now_ms, kept: true })?;
        } else {
            self.check_read_in(open, Read { key, found, now_ms, kept: false })?;
        }
        Ok(Goes::On)
    }

    fn check_read_in(&self, open: &mut Open, read: Read) -> Result<(), String> {
        if let Some(own) = open.writes.get(&read.key) {
            return is_own(own, read.found.as_ref()).map_err(|e| format!("a transaction reads its own write: {e}"));
        }
        let mut model = self.world.model.borrow_mut();
        model
            .read_view(&mut open.view, read.key, read.found.as_ref(), read.now_ms)
            .map_err(|e| format!("in a transaction: {e}"))?;
        open.reads.push(read);
        Ok(())
    }

    fn check_kept_in(&self, open: &mut Open, read: Read) -> Result<(), String> {
        if let Some(own) = open.writes.get(&read.key) {
            return is_own(own, read.found.as_ref()).map_err(|e| format!("a kept key: {e}"));
        }
        self.world.model.borrow_mut().read(read.key, read.found.as_ref(), read.now_ms)?;
        open.reads.push(read);
        Ok(())
    }

    /// Keeps a key, of any client, and reads it as it is now.
    async fn keep_in(&mut self, open: &mut Open) -> Result<Goes, String> {
        let key = self.any_key();
        let (keyspace, name) = self.name(key);
        let kept = open.tx.get_for_update_async(keyspace, &name).await;
        let now_ms = self.now_ms();
        let Outcome::Done(found) = self.world.judge("get_for_update", kept)? else { return Ok(Goes::Ended) };
        open.kept.insert(key);
        self.check_kept_in(open, Read { key, found, now_ms, kept: true })?;
        Ok(Goes::On)
    }

    /// All of a keyspace, own writes among it.
    async fn scan_in(&mut self, open: &mut Open) -> Result<Goes, String> {
        let keyspace = Keyspace(self.rng.below(2) as u16);
        let reverse = self.rng.coin();
        let scan = open.tx.scan_async(ScanRange { reverse, ..ScanRange::all(keyspace) }, usize::MAX).await;
        let now_ms = self.now_ms();
        let Outcome::Done(entries) = self.world.judge("scan in a transaction", scan)? else { return Ok(Goes::Ended) };
        let mut found: BTreeMap<Vec<u8>, Value> = entries.into_iter().map(|e| (e.key, e.value)).collect();
        let names = self.world.model.borrow().names().to_vec();
        for (key, (_, name)) in names.iter().enumerate().filter(|(_, (of, _))| *of == keyspace) {
            self.check_read_in(open, Read { key, found: found.remove(name), now_ms, kept: false })?;
        }
        match found.keys().next() {
            None => Ok(Goes::On),
            Some(strange) => Err(format!("a scan in a transaction found {strange:?}, which was never written")),
        }
    }

    fn write_in(&mut self, open: &mut Open) -> Result<Goes, String> {
        let key = self.own_key();
        let (keyspace, name) = self.name(key);
        let state = if self.rng.one_in(3) { None } else { Some(self.new_content(Expiry::NEVER)) };
        let done = match &state {
            Some(content) => open.tx.put(keyspace, &name, &content.bytes),
            None => open.tx.delete(keyspace, &name),
        };
        let Outcome::Done(()) = self.world.judge("write in a transaction", done)? else { return Ok(Goes::Ended) };
        open.writes.insert(key, state);
        Ok(Goes::On)
    }

    fn go_back_in(&mut self, open: &mut Open) -> Result<Goes, String> {
        if open.savepoints.is_empty() {
            return Ok(Goes::On);
        }
        let at = self.rng.index(open.savepoints.len());
        open.savepoints.truncate(at + 1);
        let (savepoint, writes) = open.savepoints[at].clone();
        let went = open.tx.rollback_to(savepoint);
        let Outcome::Done(()) = self.world.judge("rollback_to", went)? else { return Ok(Goes::Ended) };
        open.writes = writes;
        Ok(Goes::On)
    }

    /// A transaction that only reads: one state, whatever is committed meanwhile.
    pub(super) async fn read_over(&mut self) -> Result<(), String> {
        let options = TransactionOptions { read_only: true, ..TransactionOptions::default() };
        let Some((mut open, _)) = self.begin_transaction(options)? else { return Ok(()) };
        for _ in 0..self.rng.between(2, 12) {
            if self.read_in(&mut open)? == Goes::Ended {
                return Ok(());
            }
            if self.rng.one_in(3) {
                let us = *self.rng.pick(&[1, 30, 500]);
                self.executor.sleep(Duration::from_micros(us)).await;
            }
        }
        if self.rng.coin() {
            self.scan_in(&mut open).await?;
        }
        Ok(())
    }
}

/// Whether a transaction reads what it wrote.
fn is_own(own: &State, found: Option<&Value>) -> Result<(), String> {
    let bytes = |content: &Content| content.bytes.to_vec();
    let (wanted, found) = (own.as_ref().map(bytes), found.map(|value| value.bytes.clone()));
    if wanted == found { Ok(()) } else { Err(format!("{found:?}, not {wanted:?}")) }
}
