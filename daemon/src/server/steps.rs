//! What commands do to keys, as programs: one runs alone, or with others of an EXEC in one step.
//!
//! Guards: a command's program is written once, whichever way it runs; its events are told after the commit.

use std::collections::BTreeSet;

use corering_engine::{CommitTs, Error, Expiry, Guard, Keys, Keyspace, Pending, ShardId, Tx};

use super::output::Waiting;
use super::session::Session;
use super::shared::Shared;
use super::{KeyEvent, KeyEvents};
use crate::command::{Answer, CommandError, Entry, Outcome};
use crate::resp::{KeptRequest, Request};

/// What is told of a step that was done, to those who listen.
#[derive(Debug)]
pub enum Told {
    Changed(Keyspace, Box<[u8]>, KeyEvents),
    Renamed {
        keyspace: Keyspace,
        from: Box<[u8]>,
        to: Box<[u8]>,
    },
    /// All keys of a database are gone, or of all.
    Flushed(Option<Keyspace>),
}

impl Told {
    /// One event that takes a key's expiry away.
    pub fn one(keyspace: Keyspace, key: &[u8], event: KeyEvent) -> Told {
        Told::Changed(keyspace, key.into(), KeyEvents { events: vec![event], expiry: Expiry::NEVER })
    }

    pub(super) fn tell(&self, shared: &Shared) {
        match self {
            Told::Changed(keyspace, key, events) => shared.tell_events(*keyspace, key, events),
            Told::Renamed { keyspace, from, to } => shared.tell_renamed(*keyspace, from, to),
            Told::Flushed(keyspace) => shared.expiries.clear(*keyspace),
        }
    }
}

pub type Done = (Answer, Vec<Told>);
pub(super) type Step = Box<dyn FnMut(&mut Tx<'_>) -> Result<Done, Error> + Send>;

/// What one command of an EXEC comes to.
#[derive(Default)]
pub struct Gathered {
    pub(super) keys: Vec<Vec<u8>>,
    /// It looks at keys that it does not name.
    all_keys: bool,
    pub(super) guards: Vec<Guard>,
    pub(super) step: Option<Step>,
    /// What it answered without a step.
    pub(super) reply: Vec<u8>,
}

/// A key that must not have changed.
#[derive(Clone, Debug)]
pub struct Watched {
    keyspace: Keyspace,
    key: Vec<u8>,
    /// Its value's version; it had none if it was not there, or had expired.
    version: Option<CommitTs>,
    last_change: CommitTs,
}

impl Watched {
    pub(super) fn look(tx: &Tx<'_>, keyspace: Keyspace, key: Vec<u8>) -> Result<Watched, Error> {
        let version = tx.get(keyspace, &key)?.map(|value| value.version);
        let last_change = tx.last_change(keyspace, &key)?;
        Ok(Watched { keyspace, key, version, last_change })
    }

    /// A key that was not there, was set and is gone again has changed too, unless all trace of that is gone from the tables.
    pub(super) fn has_changed(&self, tx: &Tx<'_>) -> Result<bool, Error> {
        let version = tx.get(self.keyspace, &self.key)?.map(|value| value.version);
        Ok(version != self.version || tx.last_change(self.keyspace, &self.key)? > self.last_change)
    }
}

/// Commands between MULTI and EXEC.
#[derive(Default)]
pub struct Queue {
    pub requests: Vec<(&'static Entry, KeptRequest)>,
    bytes: usize,
    /// One was refused: EXEC will be too.
    pub refused: bool,
}

/// What became of one command of an EXEC.
pub enum Part {
    Step(Answer),
    /// It needed no step.
    Reply(Vec<u8>),
    Failed(CommandError),
}

/// The commands of an EXEC that look at keys, on their way to becoming one step.
#[derive(Default)]
pub struct Batch {
    keys: Vec<Vec<u8>>,
    all_keys: bool,
    guards: Vec<Guard>,
    steps: Vec<Step>,
    parts: Vec<Option<Part>>,
}

impl Batch {
    pub fn add(&mut self, mut gathered: Gathered, outcome: Outcome) {
        self.parts.push(match (outcome, gathered.step) {
            (Err(error), _) => Some(Part::Failed(error)),
            (Ok(()), None) => {
                self.guards.append(&mut gathered.guards);
                Some(Part::Reply(gathered.reply))
            }
            (Ok(()), Some(step)) => {
                self.keys.append(&mut gathered.keys);
                self.all_keys |= gathered.all_keys;
                self.guards.append(&mut gathered.guards);
                self.steps.push(step);
                None
            }
        });
    }
}

/// An error of the engine, not of a command, undoes all of them; but for values that are too large for it, which are the command's fault.
pub(super) fn undoes(answer: &Answer) -> Option<Error> {
    let Answer::Failed(error) = answer else { return None };
    let ours = |cause: &&Error| !matches!(cause, Error::KeyTooLarge { .. } | Error::ValueTooLarge { .. });
    error.cause().filter(ours).cloned()
}

impl Session {
    /// Run a program over `keys` in one step, if the guards of this command hold, and answer what it answers once that is durable.
    /// What the programs of an EXEC come to is gathered instead.
    pub fn submit(
        &mut self,
        keys: &[&[u8]],
        bytes: usize,
        mut f: impl FnMut(&mut Tx<'_>) -> Result<Done, Error> + Send + 'static,
    ) {
        if let Some(gathered) = &mut self.gathered {
            gathered.keys.extend(keys.iter().map(|key| key.to_vec()));
            gathered.guards.extend_from_slice(&self.guards);
            gathered.step = Some(Box::new(f));
            return;
        }
        let shards: BTreeSet<ShardId> = keys.iter().map(|key| self.client().shard_of(key)).collect();
        let answer = match self.shared_for_events() {
            None => self.step(keys, &shards, move |tx| f(tx).map(|(answer, _)| answer)),
            Some(shared) => self.step(keys, &shards, f).then(move |(answer, told)| {
                told.iter().for_each(|told| told.tell(&shared));
                Ok(answer)
            }),
        };
        self.wait_for_all(&shards, Waiting::Answer(answer), bytes);
    }

    /// A program of an EXEC that looks at all keys.
    pub fn submit_over_all(&mut self, f: impl FnMut(&mut Tx<'_>) -> Result<Done, Error> + Send + 'static) {
        if let Some(gathered) = &mut self.gathered {
            gathered.all_keys = true;
            gathered.step = Some(Box::new(f));
        }
    }

    /// What the EXEC depends on, whatever its commands do.
    pub fn gather_guards(&mut self, guards: Vec<Guard>) {
        if let Some(gathered) = &mut self.gathered {
            gathered.guards.extend(guards);
        }
    }

    fn step<T: Send + 'static>(
        &self,
        keys: &[&[u8]],
        shards: &BTreeSet<ShardId>,
        f: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Pending<T> {
        let options = self.write_options(Expiry::NEVER);
        match keys.first() {
            Some(key) if shards.len() == 1 && self.guards.is_empty() => self.client().run(key, options, f),
            Some(key) if shards.len() == 1 => self.client().run_guarded(key, self.guards.clone(), options, f),
            _ => self.client().run_over(Keys::Of(keys), self.guards.clone(), options, f),
        }
    }

    // -- MULTI and WATCH

    pub fn is_gathering(&self) -> bool {
        self.gathered.is_some()
    }

    pub fn begin_gathering(&mut self) {
        self.gathered = Some(Gathered::default());
    }

    pub fn end_gathering(&mut self) -> Gathered {
        self.gathered.take().unwrap_or_default()
    }

    pub fn queue(&mut self) -> Option<&mut Queue> {
        self.queue.as_mut()
    }

    pub fn is_queueing(&self) -> bool {
        self.queue.is_some()
    }

    pub fn begin_queue(&mut self) {
        self.queue = Some(Queue::default());
        self.info().set_queued(Some((0, 0)));
    }

    /// Keep a command for EXEC.
    pub fn enqueue(&mut self, entry: &'static Entry, request: Request<'_>) -> Outcome {
        let max = self.limits().kept_request_len;
        let kept = KeptRequest::new(request);
        if let Some(queue) = &mut self.queue {
            queue.bytes += kept.size();
            if queue.bytes > max {
                return Err(CommandError::text(format!(
                    "ERR the transaction has more than {max} bytes (client-query-buffer-limit); split it"
                )));
            }
            queue.requests.push((entry, kept));
            let queued = (queue.requests.len(), queue.bytes);
            self.info().set_queued(Some(queued));
        }
        Ok(())
    }

    /// The transaction's commands; it is over, and nothing is watched any more.
    pub fn end_queue(&mut self) -> Option<(Queue, Vec<Watched>)> {
        let queue = self.queue.take()?;
        self.info().set_queued(None);
        Some((queue, std::mem::take(&mut self.watched)))
    }

    pub fn unwatch(&mut self) {
        self.watched.clear();
    }

    /// Remember the state of keys. One that is watched already keeps the state it had then.
    pub async fn watch(&mut self, request: Request<'_>) -> Outcome {
        let keyspace = self.keyspace();
        let is_new = |key: &&[u8]| !self.watched.iter().any(|w| w.keyspace == keyspace && w.key == *key);
        let keys: Vec<&[u8]> = request.iter().skip(1).filter(is_new).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let own: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
        let looked =
            self.client().run_over(Keys::Of(&keys), Vec::new(), self.write_options(Expiry::NEVER), move |tx| {
                own.iter().map(|key| Watched::look(tx, keyspace, key.clone())).collect::<Result<Vec<_>, _>>()
            });
        let looked = looked.await?;
        self.watched.extend(looked);
        Ok(())
    }

    /// Run all steps of a batch in one. `None`: a watched key has changed, and nothing was done.
    pub async fn run_batch(&self, batch: Batch, watched: Vec<Watched>) -> Result<Option<Vec<Part>>, CommandError> {
        let Batch { mut keys, all_keys, guards, mut steps, parts } = batch;
        keys.extend(watched.iter().map(|watched| watched.key.clone()));
        let mut answers = Vec::new();
        if keys.is_empty() && !all_keys {
            // Guards alone are looked at where the first one's lock lies, and wherever the others' do.
            keys.extend(guards.first().map(|guard| guard.name.clone()));
        }
        if !keys.is_empty() || all_keys {
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let keys = if all_keys { Keys::All } else { Keys::Of(&keys) };
            if all_keys {
                self.client().in_order().await?;
            }
            let program = move |tx: &mut Tx<'_>| {
                for watched in &watched {
                    if watched.has_changed(tx)? {
                        return Ok(None);
                    }
                }
                let mut all = Vec::with_capacity(steps.len());
                for step in &mut steps {
                    let done = step(tx)?;
                    if let Some(error) = undoes(&done.0) {
                        return Err(error);
                    }
                    all.push(done);
                }
                Ok(Some(all))
            };
            let options = self.write_options(Expiry::NEVER);
            let Some(done) = self.client().run_over(keys, guards, options, program).await? else {
                return Ok(None);
            };
            let shared = self.shared_for_events();
            for (answer, told) in done {
                if let Some(shared) = &shared {
                    told.iter().for_each(|told| told.tell(shared));
                }
                answers.push(answer);
            }
        }
        let mut answers = answers.into_iter();
        let parts =
            parts.into_iter().map(|part| part.unwrap_or_else(|| Part::Step(answers.next().unwrap_or(Answer::Null))));
        Ok(Some(parts.collect()))
    }
}
