//! What the clients of one seed share over all its lives, and what explains an error.
//!
//! Guards: an error is taken only if a fault, a limit or a close explains it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use corering_engine::runtime::sim::{CrashKind, Fault, Sim};
use corering_engine::{CommitTs, Engine, Error, Expiry, Keyspace, LockLost, TxError};

use super::changes::{Changes, Key};
use super::counters::{Counter, Register};
use super::locks::{Belief, Locks};
use super::mix::Mix;
use super::model::{Answered, Content, Model};
use super::owned::Owned;
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
    pub locks: RefCell<Locks>,
    /// What was written under the guard of each lock.
    pub registers: RefCell<Vec<Register>>,
    pub owned: RefCell<Owned>,
    pub changes: RefCell<Changes>,
    /// Holds that ended by time, as the engine tells of them from within.
    pub lost: Arc<Mutex<Vec<LockLost>>>,
    pub account: RefCell<Account>,
    pub next_number: Cell<u64>,
    /// Faults may strike in this life.
    pub faulty: Cell<bool>,
    /// The disk is full, or was in this life.
    pub full: Cell<bool>,
    pub closing: Cell<bool>,
    /// How far the wall clock was set forward.
    pub jumped_ms: Cell<u64>,
    /// How far the clock of the machine is behind that of the one from which it was copied.
    pub behind_ms: u64,
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

/// What was answered when a call was made that promises durability of all before it.
pub struct Promise {
    writes: Answered,
    counts: Vec<i64>,
    tokens: Vec<u64>,
    holds: Vec<Belief>,
    owned: BTreeMap<Vec<u8>, usize>,
    changes: Vec<(CommitTs, Key)>,
}

/// What became of a call.
pub enum Outcome<T> {
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
            locks: self.locks.clone(),
            registers: self.registers.clone(),
            owned: self.owned.clone(),
            changes: self.changes.clone(),
            lost: Arc::default(),
            account: RefCell::default(),
            next_number: self.next_number.clone(),
            faulty: Cell::new(false),
            full: Cell::new(false),
            closing: Cell::new(false),
            jumped_ms: self.jumped_ms.clone(),
            behind_ms: self.now_ms(),
            lies_noticed: Cell::new(0),
            lied_of: self.lied_of.clone(),
        }
    }

    /// A call is made whose answer says that all that was answered before is durable.
    pub fn promises(&self) -> Promise {
        Promise {
            writes: self.model.borrow().sync_begins(),
            counts: self.counters.borrow().iter().map(Counter::sync_begins).collect(),
            tokens: self.registers.borrow().iter().map(Register::sync_begins).collect(),
            holds: self.locks.borrow().sync_begins(),
            owned: self.owned.borrow().sync_begins(),
            changes: self.changes.borrow().sync_begins(),
        }
    }

    pub fn promised(&self, promise: Promise) {
        self.model.borrow_mut().synced(promise.writes);
        self.counters.borrow_mut().iter_mut().zip(promise.counts).for_each(|(counter, floor)| counter.synced(floor));
        let mut registers = self.registers.borrow_mut();
        registers.iter_mut().zip(promise.tokens).for_each(|(register, floor)| register.synced(floor));
        self.locks.borrow_mut().synced(promise.holds);
        self.owned.borrow_mut().synced(promise.owned);
        self.changes.borrow_mut().synced(promise.changes);
    }

    /// The monotonic time, by which leases and sessions are counted.
    pub fn now_ms(&self) -> u64 {
        self.behind_ms + self.sim.now_ns() / 1_000_000
    }

    /// Have all holds noted that end by time.
    pub fn listen(&self, engine: &Engine) {
        let lost = Arc::clone(&self.lost);
        engine
            .client()
            .on_lock_lost(move |told| lost.lock().unwrap_or_else(PoisonError::into_inner).push(told.clone()));
    }

    pub fn take_lost(&self) -> Vec<LockLost> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A life ended, by a death or a close.
    pub fn life_ended(&self, death: Option<CrashKind>) {
        self.model.borrow_mut().ended(death);
        self.counters.borrow_mut().iter_mut().for_each(|counter| counter.ended(death));
        self.registers.borrow_mut().iter_mut().for_each(|register| register.ended(death));
        self.locks.borrow_mut().ended(death);
        self.owned.borrow_mut().ended(death);
        self.changes.borrow_mut().ended(death);
        drop(self.take_lost());
    }

    /// Before anything is shown to the model: what was durable when the disk lied.
    pub fn notice_lies(&self) {
        for (path, fault) in self.sim.lies(self.lies_noticed.get()) {
            self.lies_noticed.set(self.lies_noticed.get() + 1);
            if let Some(shard) = path.strip_prefix("shard-").filter(|_| path.ends_with(".seg")) {
                let shard = shard[..4].parse().expect("a shard's directory has its number");
                // It may have destroyed what was durable, where it came down.
                let astray = fault == Fault::MisdirectedWrite;
                self.model.borrow_mut().lied(shard, astray);
                self.counters.borrow_mut().iter_mut().for_each(|counter| counter.lied(astray));
                self.registers.borrow_mut().iter_mut().for_each(|register| register.lied(astray));
                self.locks.borrow_mut().lied();
                self.owned.borrow_mut().lied(astray);
                self.changes.borrow_mut().lied();
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

    pub fn judge<T>(&self, what: &str, result: Result<T, Error>) -> Result<Outcome<T>, String> {
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
    pub fn excuse(&self, what: &str, result: Result<(), Error>) -> Result<bool, String> {
        match result {
            Err(error @ Error::Io { .. }) if self.faulty.get() || (self.full.get() && error.is_no_space()) => {
                self.account.borrow_mut().refusal("checkpoint failed");
                Ok(false)
            }
            other => Ok(matches!(self.judge(what, other)?, Outcome::Done(()))),
        }
    }

    pub fn content(&self, len: usize, expiry: Expiry) -> Content {
        let number = self.next_number.replace(self.next_number.get() + 1);
        let mut bytes = vec![number as u8; len.max(8)];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Content { bytes: bytes.into(), expiry }
    }
}
