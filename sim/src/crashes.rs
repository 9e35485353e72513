//! Enumerated crashes: each script is run once, then again dying at each of its writes, syncs, renames, removals and stores, by the end
//! of the process and of the machine, with several damages, and dying twice more while it recovers.
//!
//! Guards: after every chain of deaths each shard has a prefix of its writes that holds every answered one, whole batches, and
//! expiries as they were written; what was read once stays.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use corering_engine::runtime::sim::SimConfig;
use corering_engine::runtime::sim::harness::{Failure, Life, Plan, Summary, enumerate, replay};
use corering_engine::runtime::{Host, LocalFuture};
use corering_engine::{
    Client, CommitTs, Durability, Engine, Error, Expiry, Keyspace, Kind, Options, TransactionOptions, WriteBatch,
    WriteOptions,
};

use crate::account::Account;
use crate::scenario::REPLAY;
use crate::support::{check_closed, check_what_a_crash_left, text};
use crate::swarm::model::{Content, Model, State};

/// Later than any run goes on.
const FAR: Expiry = Expiry(4_000_000_000_000);
/// Long past when the first run begins.
const PAST: Expiry = Expiry(1);

const SYNC: Durability = Durability::Sync;
const LATER: Durability = Durability::None;

/// One step of a script; keys are numbers.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put(usize, usize, Durability),
    Expiring(usize, Expiry, Durability),
    Delete(usize, Durability),
    /// Puts all keys of the first one's shard, but deletes every third.
    Batch(usize, Durability),
    /// A transaction that moves all keys of all shards on, as one commit; it reads the key given before.
    Commit(usize, Durability),
    Checkpoint,
    Sync,
    /// Close, and open with so many shards.
    Reopen(u16),
}
use Step::*;

/// A script with its name, the shards that it begins with, and what it shows.
pub struct Script {
    pub name: &'static str,
    shards: u16,
    steps: &'static [Step],
}

const KEYS: usize = 8;

pub const SCRIPTS: [Script; 10] = [
    Script { name: "create", shards: 3, steps: &[] },
    Script {
        name: "put",
        shards: 2,
        steps: &[
            Put(0, 20, SYNC),
            Put(1, 9_000, LATER),
            Put(2, 300, LATER),
            Put(0, 3_000, LATER),
            Put(3, 8, SYNC),
            Put(1, 8, LATER),
        ],
    },
    Script {
        name: "batch",
        shards: 2,
        steps: &[Batch(0, SYNC), Batch(1, LATER), Batch(2, LATER), Put(3, 200, SYNC), Batch(0, LATER), Batch(5, SYNC)],
    },
    Script {
        name: "delete",
        shards: 2,
        steps: &[
            Put(0, 50, SYNC),
            Put(1, 50, LATER),
            Delete(0, LATER),
            Delete(1, SYNC),
            Put(0, 9, LATER),
            Checkpoint,
            Delete(0, SYNC),
            Checkpoint,
            Put(1, 9, SYNC),
        ],
    },
    Script {
        name: "ttl",
        shards: 2,
        steps: &[
            Expiring(0, FAR, SYNC),
            Expiring(1, PAST, LATER),
            Put(2, 50, LATER),
            Expiring(2, PAST, SYNC),
            Checkpoint,
            Expiring(0, PAST, SYNC),
            Expiring(3, FAR, LATER),
            Put(1, 20, SYNC),
        ],
    },
    Script {
        name: "checkpoint",
        shards: 2,
        steps: &[
            Put(0, 500, LATER),
            Put(1, 9_000, SYNC),
            Checkpoint,
            Put(0, 20, SYNC),
            Delete(1, LATER),
            Checkpoint,
            Put(2, 300, LATER),
            Sync,
            Put(3, 9, LATER),
        ],
    },
    Script {
        name: "merge",
        shards: 1,
        steps: &[
            Put(0, 50, SYNC),
            Checkpoint,
            Put(1, 50, SYNC),
            Checkpoint,
            Put(0, 9, SYNC),
            Checkpoint,
            Delete(1, SYNC),
            Checkpoint,
            Put(2, 9, SYNC),
            Checkpoint,
            Put(3, 9, SYNC),
            Checkpoint,
            Put(0, 8, SYNC),
            Checkpoint,
            Put(4, 9, LATER),
            Checkpoint,
            Put(1, 30, SYNC),
        ],
    },
    Script {
        name: "reshard",
        shards: 2,
        steps: &[
            Batch(0, SYNC),
            Batch(1, SYNC),
            Checkpoint,
            Put(2, 100, SYNC),
            Reopen(3),
            Put(2, 9, SYNC),
            Delete(3, SYNC),
            Reopen(1),
            Put(3, 9, SYNC),
            Reopen(2),
        ],
    },
    Script {
        name: "commit",
        shards: 3,
        steps: &[
            Put(0, 50, LATER),
            Commit(0, SYNC),
            Put(1, 50, LATER),
            Commit(1, LATER),
            Checkpoint,
            Put(2, 300, LATER),
            Commit(2, SYNC),
            Put(2, 9, LATER),
            Commit(3, SYNC),
            Reopen(2),
            Commit(4, LATER),
        ],
    },
    Script { name: "close", shards: 2, steps: &[Put(0, 500, LATER), Put(1, 9_000, LATER), Put(2, 8, SYNC)] },
];

/// What the world outside knows.
#[derive(Clone)]
struct Known {
    model: Model,
    next: u64,
    shards: u16,
}

fn name(key: usize) -> Vec<u8> {
    format!("key:{key}").into_bytes()
}

async fn open(host: &Arc<dyn Host>, shards: u16) -> Result<Engine, String> {
    let options = Options {
        shards: Some(shards),
        segment_bytes: 64 << 10,
        memtable_bytes: 64 << 10,
        inbox_len: 4,
        ..Options::default()
    };
    Engine::open_on(Arc::clone(host), options).await.map_err(text)
}

/// One life's hands.
struct Hands {
    known: Rc<RefCell<Known>>,
    client: Client,
}

impl Hands {
    fn content(&self, len: usize, expiry: Expiry) -> Content {
        let mut known = self.known.borrow_mut();
        known.next += 1;
        let mut bytes = vec![known.next as u8; len.max(8)];
        bytes[..8].copy_from_slice(&known.next.to_le_bytes());
        Content { bytes: bytes.into(), expiry }
    }

    /// Write the changes, as one record of each of their shards.
    async fn write(&self, changes: Vec<(usize, State)>, level: Durability) -> Result<(), String> {
        let shards: BTreeSet<u16> = changes.iter().map(|(key, _)| self.client.shard_of(&name(*key)).0).collect();
        let at_sync = level == SYNC || shards.len() > 1;
        let id = self.known.borrow_mut().model.begin(shards.into_iter().collect(), at_sync, changes.clone());
        let options = WriteOptions { durability: Some(level), ..WriteOptions::default() };
        let commit: Result<CommitTs, Error> = match &changes[..] {
            [(key, Some(content))] => {
                let options = WriteOptions { expiry: content.expiry, ..options };
                self.client.put(Keyspace::DEFAULT, &name(*key), &content.bytes, options).await
            }
            _ => {
                let mut batch = WriteBatch::new();
                for (key, state) in &changes {
                    match state {
                        Some(content) => {
                            batch.put_full(Keyspace::DEFAULT, &name(*key), &content.bytes, Kind::BYTES, content.expiry)
                        }
                        None => batch.delete(Keyspace::DEFAULT, &name(*key)),
                    };
                }
                self.client.write_batch(batch, options).await
            }
        };
        let commit = commit.map_err(text)?;
        self.known.borrow_mut().model.answered(id, Some(commit))
    }

    async fn commit(&self, read: usize, changes: Vec<(usize, State)>, level: Durability) -> Result<(), String> {
        let options = TransactionOptions { durability: Some(level), ..TransactionOptions::default() };
        let mut tx = self.client.begin(options).map_err(text)?;
        let found = tx.get(Keyspace::DEFAULT, &name(read)).map_err(text)?;
        self.known.borrow_mut().model.read(read, found.as_ref(), self.client.clock().wall_ms())?;
        for (key, state) in &changes {
            match state {
                Some(content) => tx.put(Keyspace::DEFAULT, &name(*key), &content.bytes),
                None => tx.delete(Keyspace::DEFAULT, &name(*key)),
            }
            .map_err(text)?;
        }
        let shards = (0..KEYS).map(|key| self.client.shard_of(&name(key)).0).collect::<BTreeSet<u16>>();
        let at_sync = level == SYNC || shards.len() > 1;
        let id = self.known.borrow_mut().model.begin(shards.into_iter().collect(), at_sync, changes);
        let commit = tx.commit().await.map_err(text)?;
        self.known.borrow_mut().model.answered(id, Some(commit))
    }

    async fn step(&self, engine: &Engine, step: Step) -> Result<(), String> {
        match step {
            Put(key, len, level) => self.write(vec![(key, Some(self.content(len, Expiry::NEVER)))], level).await,
            Expiring(key, expiry, level) => self.write(vec![(key, Some(self.content(60, expiry)))], level).await,
            Delete(key, level) => self.write(vec![(key, None)], level).await,
            Batch(first, level) => {
                let shard = self.client.shard_of(&name(first));
                let keys = (0..KEYS).filter(|key| self.client.shard_of(&name(*key)) == shard);
                let change = |key: usize| (key, (key % 3 != 2).then(|| self.content(40 + key * 100, Expiry::NEVER)));
                self.write(keys.map(change).collect(), level).await
            }
            Commit(read, level) => {
                let mut changes = Vec::new();
                for key in 0..KEYS {
                    let state = ((key + read) % 4 != 3).then(|| self.content(20 + key * 30, Expiry::NEVER));
                    changes.push((key, state));
                }
                self.commit(read, changes, level).await
            }
            Checkpoint | Sync => {
                let answered = self.known.borrow().model.sync_begins();
                match step {
                    Sync => self.client.sync().await,
                    _ => engine.checkpoint_async().await,
                }
                .map_err(text)?;
                self.known.borrow_mut().model.synced(answered);
                Ok(())
            }
            Reopen(_) => unreachable!("the script's own loop does these"),
        }
    }
}

async fn close(engine: &Engine, known: &Rc<RefCell<Known>>) -> Result<(), String> {
    let answered = known.borrow().model.sync_begins();
    engine.close_async().await.map_err(text)?;
    known.borrow_mut().model.synced(answered);
    Ok(())
}

/// Open and compare.
async fn opened(life: &Life<Known>) -> Result<(Engine, Hands), String> {
    let shards = life.model.borrow().shards;
    let engine = open(&life.host, shards).await?;
    let client = engine.client();
    let found =
        (0..KEYS).map(|key| client.get(Keyspace::DEFAULT, &name(key))).collect::<Result<Vec<_>, _>>().map_err(text)?;
    let now_ms = client.clock().wall_ms();
    let compared =
        life.model.borrow_mut().model.recovered(found, now_ms).map_err(|e| format!("{e}\n{}", engine.report()));
    let hands = Hands { known: Rc::clone(&life.model), client };
    match compared {
        Ok(()) => Ok((engine, hands)),
        Err(error) => {
            // The last handle must not be dropped inside a task while the shards run.
            let _ = engine.close_async().await;
            Err(error)
        }
    }
}

async fn play(life: Life<Known>, steps: &'static [Step]) -> Result<(), String> {
    let mut open = Some(opened(&life).await?);
    for step in steps {
        let (engine, hands) = open.as_ref().expect("it is open between two steps");
        match *step {
            Reopen(shards) => {
                close(engine, &life.model).await?;
                // No handle of the old opening may hold its files.
                drop(open.take());
                life.model.borrow_mut().shards = shards;
                open = Some(opened(&life).await?);
            }
            step => hands.step(engine, step).await?,
        }
    }
    let (engine, _) = open.as_ref().expect("it is open behind the last step");
    close(engine, &life.model).await
}

async fn check(life: Life<Known>) -> Result<(), String> {
    if let Some(kind) = life.died_of {
        life.model.borrow_mut().model.ended(Some(kind));
    }
    check_what_a_crash_left(&life.host).await?;
    let (engine, hands) = opened(&life).await?;
    let written = hands.step(&engine, Put(KEYS - 1, 30, SYNC)).await;
    let closed = close(&engine, &life.model).await;
    written.and(closed)?;
    check_closed(&life.host).await
}

/// Run a script and die in it at so many points; at all of them if none.
pub fn run(
    script: &'static Script,
    seed: u64,
    points_max: Option<usize>,
    again: Option<&str>,
) -> Result<Account, String> {
    let mut plan = Plan::new(script.name, seed);
    plan.config = SimConfig { step_budget: 300_000, ..plan.config };
    plan.points_max = points_max;
    plan.damages = 2;
    let names = (0..KEYS).map(|key| (Keyspace::DEFAULT, name(key))).collect();
    let known = Known { model: Model::new(names), next: 0, shards: script.shards };
    let play = |life: Life<Known>| -> LocalFuture<'static, _> { Box::pin(play(life, script.steps)) };
    let check = |life: Life<Known>| -> LocalFuture<'static, _> { Box::pin(check(life)) };
    let done: Result<Summary, Box<Failure>> = match again {
        None => enumerate(&plan, known, play, check),
        Some(text) => replay(&plan, text, known, play, check),
    };
    done.map(|summary| Account::of_enumeration(&summary)).map_err(|failure| {
        format!("{}: {}\n  {}{REPLAY}{}", script.name, failure.message, failure.story.join("\n  "), failure.replay())
    })
}

/// A script of the seed's choice, at all of its points.
pub fn of_seed(seed: u64, again: Option<&str>) -> Result<Account, String> {
    run(&SCRIPTS[(seed / 50 % SCRIPTS.len() as u64) as usize], seed, None, again)
}
