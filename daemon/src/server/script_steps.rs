//! The commands of a script, one after the other, and then all of them at once.
//!
//! Guards: what a script does takes effect in one step, on whatever shards, and only if no key that it has looked at changed since; so
//! it is as if the whole script had run at that moment. Each command sees what those before it wrote. Nobody else sees anything before.
//!
//! A command is executed when the script asks for it, in a step that leaves nothing behind: what it wrote is kept as a draft, and what
//! it looked at is remembered. The last step checks the latter and writes the former.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use corering_engine::{Draft, Error, Expiry, Guard, Keys, Keyspace, Pending, ShardId, Tx};
use parking_lot::Mutex;

use super::session::Session;
use super::steps::{Gathered, Told, Watched, undoes};
use crate::command::{Answer, CommandError};
use crate::resp::{ReplyReader, Value};

/// One run of a script.
#[derive(Default)]
pub struct Attempt {
    /// A key of each shard that it needs: a step over those may use any key of theirs.
    places: BTreeMap<ShardId, Vec<u8>>,
    guards: Vec<Guard>,
    known: HashSet<(Keyspace, Vec<u8>)>,
    watched: Vec<Watched>,
    draft: Draft,
    told: Vec<Told>,
}

/// What became of one command.
pub enum Tried {
    Answered(Value),
    /// A shard has no room at the moment: begin anew when this is answered.
    NotNow(Pending<()>),
    Failed(CommandError),
}

/// What a step leaves for the script, whoever runs it.
type Slot = Arc<Mutex<Option<Result<(Answer, Vec<Told>, Draft, Vec<Watched>), Error>>>>;

impl Session {
    /// Execute what a command came to, as the next of a script's.
    pub fn try_step(&self, attempt: &mut Attempt, mut gathered: Gathered) -> Tried {
        let Some(mut step) = gathered.step.take() else { return read_back(&gathered.reply) };
        attempt.guards.append(&mut gathered.guards);
        let keyspace = self.keyspace();
        let mut new = Vec::new();
        for key in gathered.keys {
            if attempt.known.insert((keyspace, key.clone())) {
                attempt.places.entry(self.client().shard_of(&key)).or_insert_with(|| key.clone());
                new.push(key);
            }
        }
        let slot = Slot::default();
        let (place, mut draft) = (Arc::clone(&slot), Some(std::mem::take(&mut attempt.draft)));
        let program = move |tx: &mut Tx<'_>| {
            let mut run = || {
                let looked =
                    new.iter().map(|key| Watched::look(tx, keyspace, key.clone())).collect::<Result<_, _>>()?;
                // It writes nothing that could lack room, and so runs once.
                tx.resume(draft.take().unwrap_or_default());
                let (answer, told) = step(tx)?;
                Ok((answer, told, tx.take_draft(), looked))
            };
            let done = run();
            if done.is_err() {
                // Nothing of it may be written.
                drop(tx.take_draft());
            }
            *place.lock() = Some(done);
            Ok(())
        };
        let keys: Vec<&[u8]> = attempt.places.values().map(Vec::as_slice).collect();
        // It runs in this thread at once, unless a shard has no room; when all it read is durable is the last step's concern.
        let answer = self.client().run_over(Keys::Of(&keys), Vec::new(), self.write_options(Expiry::NEVER), program);
        let done = slot.lock().take();
        match done {
            None => Tried::NotNow(answer),
            Some(Err(error)) => Tried::Failed(error.into()),
            Some(Ok((answer, mut told, draft, mut looked))) => {
                attempt.draft = draft;
                attempt.watched.append(&mut looked);
                attempt.told.append(&mut told);
                match undoes(&answer) {
                    Some(error) => Tried::Failed(error.into()),
                    None => value_of(answer),
                }
            }
        }
    }

    /// Make all that a script did take effect. False: something that it looked at has changed, and nothing was done.
    pub async fn commit_script(&self, attempt: Attempt) -> Result<bool, CommandError> {
        let Attempt { places, guards, watched, draft, told, .. } = attempt;
        if places.is_empty() {
            return Ok(true);
        }
        let program = move |tx: &mut Tx<'_>| {
            for watched in &watched {
                if watched.has_changed(tx)? {
                    return Ok(false);
                }
            }
            tx.resume(draft.clone());
            Ok(true)
        };
        let keys: Vec<&[u8]> = places.values().map(Vec::as_slice).collect();
        let options = self.write_options(Expiry::NEVER);
        let done = self.client().run_over(Keys::Of(&keys), guards, options, program).await?;
        if done && let Some(shared) = self.shared_for_events() {
            told.iter().for_each(|told| told.tell(&shared));
        }
        Ok(done)
    }
}

fn value_of(answer: Answer) -> Tried {
    match answer {
        Answer::Ok => Tried::Answered(Value::Simple(b"OK".to_vec())),
        Answer::Null => Tried::Answered(Value::Null),
        Answer::Integer(number) => Tried::Answered(Value::Integer(number)),
        Answer::Bulk(bytes) => Tried::Answered(Value::Bulk(bytes)),
        Answer::Raw(bytes) => read_back(&bytes),
        Answer::Failed(error) => Tried::Answered(Value::Error(error.as_bytes().to_vec())),
    }
}

/// A reply that was written for a client.
fn read_back(bytes: &[u8]) -> Tried {
    let mut reader = ReplyReader::new();
    reader.feed(bytes);
    match reader.next_value() {
        Ok(Some(value)) => Tried::Answered(value),
        Ok(None) | Err(_) => {
            Tried::Failed(CommandError::fixed("ERR the command has no reply that a script could read"))
        }
    }
}
