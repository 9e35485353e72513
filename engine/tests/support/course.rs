//! Transactions of `corering_proof::txn::load`, carried out on an engine: by threads, which wait, or by tasks of a simulation.

// Each test uses one of the ways.
#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicI64;

use corering_engine::{
    Client, Error, Expiry, Fate, Keys, Keyspace, Kind, Pending, ScanRange, TransactionId, TransactionOptions,
    WriteOptions,
};
use corering_proof::txn::load::{Course, Doing, Plan, Step, Way};
use corering_proof::txn::{Outcome, Txn};

const KS: Keyspace = Keyspace::DEFAULT;

/// A transaction that may have happened, though nobody was told.
pub struct UnderWay {
    pub txn: Txn,
    pub id: Option<TransactionId>,
}

/// What one client did.
#[derive(Default)]
pub struct Record {
    pub done: Vec<Txn>,
    pub under_way: Option<UnderWay>,
    /// What it saw that no history is needed to refuse.
    pub wrong: Option<String>,
}

/// One client.
pub struct Player<'a> {
    pub client: Client,
    pub number: u32,
    pub course: Course,
    pub values: &'a AtomicI64,
    pub tick: &'a dyn Fn() -> u64,
    /// It is a thread of its own, and waits.
    pub blocks: bool,
    pub write: WriteOptions,
}

impl Player<'_> {
    async fn answer<T>(&self, pending: Pending<T>) -> Result<T, Error> {
        if self.blocks { pending.wait() } else { pending.await }
    }

    /// One transaction. False: the engine has gone; what was under way is kept in the record.
    pub async fn one(&self, below: &mut dyn FnMut(u64) -> u64, record: &RefCell<Record>) -> bool {
        let plan = self.course.plan(&mut *below, self.values);
        let asked = (self.tick)();
        let mut doing = Doing::new(self.course);
        let mut wrong = None;
        let done = match plan.way {
            Way::Interactive | Way::ReadOnly => self.interactive(&plan, asked, &mut doing, &mut wrong, record).await,
            Way::AtOnce => self.at_once(&plan, asked, &mut doing, record).await,
            Way::Single => self.single(&plan, &mut doing),
        };
        let outcome = match done {
            Ok(()) => Outcome::Committed { at: (self.tick)() },
            Err(error) if error.is_retryable() => Outcome::Aborted,
            Err(_) => return false,
        };
        let mut record = record.borrow_mut();
        record.under_way = None;
        if matches!(outcome, Outcome::Committed { .. }) && wrong.is_some() {
            record.wrong = wrong;
        }
        record.done.push(Txn { client: self.number, actions: doing.actions, asked, outcome });
        true
    }

    fn single(&self, plan: &Plan, doing: &mut Doing) -> Result<(), Error> {
        for step in &plan.steps {
            if let Step::Look { key, .. } = *step {
                let found = self.client.get(KS, &self.course.key(key))?;
                doing.looked(key, found.as_ref().map(|value| &value.bytes[..]));
            }
        }
        Ok(())
    }

    async fn interactive(
        &self,
        plan: &Plan,
        asked: u64,
        doing: &mut Doing,
        wrong: &mut Option<String>,
        record: &RefCell<Record>,
    ) -> Result<(), Error> {
        let options = TransactionOptions {
            read_only: plan.way == Way::ReadOnly,
            durability: self.write.durability,
            ..TransactionOptions::default()
        };
        let mut tx = self.client.begin(options)?;
        for step in &plan.steps {
            match *step {
                Step::Look { key, keep } | Step::Change { key, keep, .. } => {
                    let name = self.course.key(key);
                    let found = if keep {
                        let kept = tx.keep(KS, &name)?;
                        self.answer(kept).await?;
                        tx.get_kept(KS, &name)?
                    } else {
                        tx.get(KS, &name)?
                    };
                    let found = found.as_ref().map(|value| &value.bytes[..]);
                    match *step {
                        Step::Change { value, by, .. } => {
                            if let Some(bytes) = doing.change(key, found, value, by) {
                                tx.put(KS, &name, &bytes)?;
                            }
                        }
                        Step::Look { .. } | Step::LookAtAll => doing.looked(key, found),
                    }
                }
                Step::LookAtAll => {
                    let all = ScanRange::prefix(KS, &self.course.prefix());
                    let rows = if self.blocks { tx.scan(all, 1000)? } else { tx.scan_async(all, 1000).await? };
                    // Only what commits has seen one state.
                    *wrong = doing.looked_at_all(rows.iter().map(|row| (&row.key[..], &row.value.bytes[..]))).err();
                }
            }
        }
        let txn = Txn { client: self.number, actions: doing.actions.clone(), asked, outcome: Outcome::Unknown };
        record.borrow_mut().under_way = Some(UnderWay { txn, id: Some(tx.id()) });
        let commit = tx.commit();
        self.answer(commit).await.map(drop)
    }

    async fn at_once(&self, plan: &Plan, asked: u64, doing: &mut Doing, record: &RefCell<Record>) -> Result<(), Error> {
        let actions = Doing::unknown(self.course, plan);
        let txn = Txn { client: self.number, actions: actions.clone(), asked, outcome: Outcome::Unknown };
        record.borrow_mut().under_way = Some(UnderWay { txn, id: None });
        // What it wanted, should it be refused.
        doing.actions = actions;
        let (course, steps) = (self.course, plan.steps.clone());
        let names: BTreeSet<Vec<u8>> = steps.iter().filter_map(key_of).map(|key| course.key(key)).collect();
        let names: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
        let done = self.client.run_over(Keys::Of(&names), Vec::new(), self.write, move |tx| {
            let mut doing = Doing::new(course);
            for step in &steps {
                let Some(key) = key_of(step) else { continue };
                let name = course.key(key);
                let found = tx.get(KS, &name)?.map(|value| value.bytes.to_vec());
                match *step {
                    Step::Change { value, by, .. } => {
                        if let Some(bytes) = doing.change(key, found.as_deref(), value, by) {
                            tx.put(KS, &name, &bytes, Kind::BYTES, Expiry::NEVER)?;
                        }
                    }
                    Step::Look { .. } | Step::LookAtAll => doing.looked(key, found.as_deref()),
                }
            }
            Ok(doing)
        });
        *doing = self.answer(done).await?;
        Ok(())
    }
}

fn key_of(step: &Step) -> Option<u64> {
    match *step {
        Step::Look { key, .. } | Step::Change { key, .. } => Some(key),
        Step::LookAtAll => None,
    }
}

impl Record {
    /// After another opening: what became of the transaction that was under way, if that can be asked.
    pub async fn settle(record: &RefCell<Record>, client: &Client, tick: &dyn Fn() -> u64) -> Result<(), Error> {
        let under_way = record.borrow_mut().under_way.take();
        let Some(UnderWay { mut txn, id }) = under_way else { return Ok(()) };
        if let Some(id) = id {
            txn.outcome = match client.fate(id).await? {
                Fate::Committed(_) => Outcome::Committed { at: tick() },
                // One that wrote nothing has no fate to be asked for, and nobody sees a difference.
                Fate::NotCommitted => Outcome::Aborted,
            };
        }
        record.borrow_mut().done.push(txn);
        Ok(())
    }
}
