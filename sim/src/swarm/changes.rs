//! What watches must tell, and what they told, over all lives.
//!
//! Guards: a watch tells of commits in their order, each change once, as it was written and with the number that its writer was told;
//! of no write that was refused; of every write answered since it began, over deaths too if that was durable.
//! Leaves out: which deletes there are that nobody answered a number for: ends by time, ends of sessions.

use std::collections::BTreeMap;

use corering_engine::runtime::sim::CrashKind;
use corering_engine::{CommitTs, Keyspace, WatchEvent, What};

use super::model::number_of;

pub type Key = (Keyspace, Vec<u8>);

/// A write that was answered: the number of its value; none for a delete.
#[derive(Clone, Copy, Debug)]
struct Answered {
    number: Option<u64>,
    durable: bool,
}

/// Somebody who watches a prefix, and goes on where it was.
#[derive(Clone, Debug)]
pub struct Watcher {
    pub keyspace: Keyspace,
    pub prefix: Vec<u8>,
    /// Everything up to here was told; none: it has not begun.
    pub reached: Option<CommitTs>,
    /// Everything after this must be told.
    since: CommitTs,
    told: BTreeMap<(CommitTs, Vec<u8>), Option<u64>>,
    /// By the numbers of values.
    numbers: BTreeMap<u64, CommitTs>,
}

impl Watcher {
    fn concerns(&self, key: &Key) -> bool {
        key.0 == self.keyspace && key.1.starts_with(&self.prefix)
    }

    fn lacks(&self, at: CommitTs, key: &Key, answered: &Answered) -> bool {
        self.concerns(key)
            && at > self.since
            && Some(at) <= self.reached
            && self.told.get(&(at, key.1.clone())) != Some(&answered.number)
    }
}

#[derive(Clone, Default, Debug)]
pub struct Changes {
    /// Of each value that was tried, its key, or the beginning of that.
    tried: BTreeMap<u64, Key>,
    answered: BTreeMap<(CommitTs, Key), Answered>,
    /// The commits of values, as far as they were answered.
    commits: BTreeMap<u64, CommitTs>,
    watchers: BTreeMap<usize, Watcher>,
    /// The disk lost a write of a log in this life: what was answered may be gone after it.
    lied: bool,
}

impl Changes {
    /// A value is about to be written.
    pub fn tried(&mut self, number: u64, keyspace: Keyspace, key: Vec<u8>) {
        self.tried.insert(number, (keyspace, key));
    }

    /// The write was refused and did nothing.
    pub fn refused(&mut self, number: u64) -> Result<(), String> {
        self.tried.remove(&number);
        match self.watchers.values().find_map(|watcher| watcher.numbers.get(&number)) {
            None => Ok(()),
            Some(at) => Err(format!("a watch told of #{number} at {at}, which was refused")),
        }
    }

    pub fn answered(
        &mut self,
        at: CommitTs,
        keyspace: Keyspace,
        key: Vec<u8>,
        number: Option<u64>,
        durable: bool,
    ) -> Result<(), String> {
        let (key, answered) = ((keyspace, key), Answered { number, durable });
        if let Some(number) = number {
            self.commits.insert(number, at);
            let told = self.watchers.values().find_map(|watcher| watcher.numbers.get(&number));
            if let Some(told) = told.filter(|told| **told != at) {
                return Err(format!("#{number} was answered as commit {at}, and a watch told of it at {told}"));
            }
        }
        if let Some(watcher) = self.watchers.values().find(|watcher| watcher.lacks(at, &key, &answered)) {
            return Err(format!("commit {at} of {key:?}, {answered:?}, was left out by a watch: {watcher:?}"));
        }
        self.answered.insert((at, key), answered);
        Ok(())
    }

    /// The watcher of this number, made if there is none.
    pub fn watcher(&mut self, number: usize, make: impl FnOnce() -> (Keyspace, Vec<u8>)) -> &mut Watcher {
        self.watchers.entry(number).or_insert_with(|| {
            let (keyspace, prefix) = make();
            let (told, numbers) = (BTreeMap::new(), BTreeMap::new());
            Watcher { keyspace, prefix, reached: None, since: CommitTs::ZERO, told, numbers }
        })
    }

    fn get(&mut self, number: usize) -> &mut Watcher {
        self.watchers.get_mut(&number).expect("a watcher that was made")
    }

    /// It begins at `from`, or goes on there with a gap before it.
    pub fn begins(&mut self, number: usize, from: CommitTs) {
        let watcher = self.get(number);
        (watcher.reached, watcher.since) = (Some(from), from);
    }

    pub fn told(&mut self, number: usize, event: &WatchEvent) -> Result<(), String> {
        let (tried, commits) = (&self.tried, &self.commits);
        let watcher = self.watchers.get_mut(&number).expect("a watcher that was made");
        if watcher.reached.is_none_or(|reached| event.at <= reached) {
            return Err(format!("commit {} came after {:?} had been reached", event.at, watcher.reached));
        }
        for change in &event.changes {
            let key = (change.keyspace, change.key.clone());
            let value = match &change.what {
                What::Put { value, .. } => Some(number_of(value)),
                What::Deleted => None,
            };
            let wrong = |why: &str| Err(format!("at {} a watch told of {key:?} with {value:?}: {why}", event.at));
            if !watcher.concerns(&key) {
                return wrong("it is not watched");
            }
            if let Some(number) = value {
                let is_tried = tried.get(&number).is_some_and(|of| of.0 == key.0 && key.1.starts_with(&of.1));
                if !is_tried {
                    return wrong("nobody tried that, or it was refused");
                }
                if commits.get(&number).is_some_and(|at| *at != event.at) {
                    return wrong("it was answered as another commit");
                }
                if watcher.numbers.insert(number, event.at).is_some() {
                    return wrong("it was told before");
                }
            }
            if watcher.told.insert((event.at, key.1.clone()), value).is_some() {
                return wrong("the key comes twice in it");
            }
        }
        watcher.reached = Some(event.at);
        Ok(())
    }

    /// The watch says that everything up to `at` was told.
    pub fn reached(&mut self, number: usize, at: CommitTs) -> Result<(), String> {
        let watcher = self.get(number);
        let Some(before) = watcher.reached.replace(at) else { return Err("a watch got on before it began".to_owned()) };
        if at < before {
            return Err(format!("the progress of a watch fell from {before} to {at}"));
        }
        self.is_complete(number)
    }

    fn is_complete(&self, number: usize) -> Result<(), String> {
        let watcher = &self.watchers[&number];
        let lacking = self.answered.iter().find(|((at, key), answered)| watcher.lacks(*at, key, answered));
        match lacking {
            None => Ok(()),
            Some(((at, key), answered)) => {
                Err(format!("commit {at} of {key:?}, {answered:?}, was left out by a watch"))
            }
        }
    }

    /// The disk lost a write of a log.
    pub fn lied(&mut self) {
        self.lied = true;
    }

    pub fn ended(&mut self, death: Option<CrashKind>) {
        if std::mem::take(&mut self.lied) {
            self.answered.clear();
        }
        match death {
            Some(CrashKind::Machine) => self.answered.retain(|_, answered| answered.durable),
            Some(CrashKind::Process) | None => {}
        }
    }

    /// An opening has read everything back.
    pub fn recovered(&mut self) {
        self.answered.values_mut().for_each(|answered| answered.durable = true);
    }

    /// What was answered when a call is made that promises durability of all before it.
    pub fn sync_begins(&self) -> Vec<(CommitTs, Key)> {
        self.answered.iter().filter(|(_, answered)| !answered.durable).map(|(of, _)| of.clone()).collect()
    }

    pub fn synced(&mut self, writes: Vec<(CommitTs, Key)>) {
        for of in writes {
            if let Some(answered) = self.answered.get_mut(&of) {
                answered.durable = true;
            }
        }
    }
}
