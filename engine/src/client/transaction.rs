//! Transactions over any keys, all or nothing (docs/transactions.md).
//!
//! Guards: what it reads is one state of the database, with all that was acknowledged before and nothing that a crash could take back;
//! what it writes stays here until the commit, which takes effect only if what it read still holds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::commit::{Attempted, Check};
use super::write::submit;
use super::{Client, ScanRange, Snapshot, WriteOptions};
use crate::error::{Error, Result};
use crate::ids::{CommitTs, Expiry, Keyspace, Kind, ShardId};
use crate::lock::Guard;
use crate::options::{BATCH_BYTES_MAX, Durability};
use crate::pending::{Helper, Pending, pending};
use crate::shard::Request;
use crate::shard::tx::{TxWrite, check_sizes, own_in};
use crate::table::range_cursor::Range;
use crate::txn::{TxError, TxLife, TxNumber};
use crate::value::{Condition, Entry, Value};

/// Keys and ranges that a transaction may have read, so that its commit is quick.
const READS_MAX: usize = 1 << 20;
/// Of the keys read.
const READ_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// With what savepoints remember. The trace that the commit leaves is a write, too.
const WRITE_BYTES_MAX: usize = BATCH_BYTES_MAX - 256;
const GUARDS_MAX: usize = 1000;
const SAVEPOINTS_MAX: usize = 10_000;

/// Which transactions it must look as if it had run alone among.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// All, in an order that agrees with real time.
    #[default]
    StrictSerializable,
    /// It reads one state, and nobody else wrote the keys that it writes since; two that read each other's keys may both commit.
    Snapshot,
}

/// How a transaction is begun.
#[derive(Clone, Debug)]
pub struct TransactionOptions {
    pub isolation: Isolation,
    /// `None`: the engine's. Over several shards a commit is always durable when it is answered.
    pub durability: Option<Durability>,
    /// Writes are refused. It waits for no other transaction, and none has it abort; its timeout ends it as any other.
    pub read_only: bool,
    /// It is ended when it was open for so long.
    pub timeout: Duration,
    /// How long its fate can be asked after it committed; zero: not at all, which saves a write.
    pub remember: Duration,
    /// The age of a transaction that is run again: the older one wins.
    pub again: Option<TxNumber>,
}

impl Default for TransactionOptions {
    fn default() -> TransactionOptions {
        TransactionOptions {
            isolation: Isolation::StrictSerializable,
            durability: None,
            read_only: false,
            timeout: Duration::from_secs(60),
            remember: Duration::from_secs(600),
            again: None,
        }
    }
}

/// Names a transaction for ever: until when its fate can be asked, at least, in milliseconds of the wall clock (48 bits), and 80 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransactionId(pub u128);

const RANDOM_BITS: u32 = 80;

impl TransactionId {
    fn new(until_ms: u64, random: impl Fn() -> u64) -> TransactionId {
        let random = u128::from(random()) << 64 | u128::from(random());
        let until = u128::from(until_ms.min((1 << (128 - RANDOM_BITS)) - 1));
        TransactionId(until << RANDOM_BITS | random >> (128 - RANDOM_BITS))
    }

    /// Before that, whoever finds no trace of it knows that it did not commit.
    pub fn until_ms(self) -> u64 {
        (self.0 >> RANDOM_BITS) as u64
    }
}

impl std::fmt::Display for TransactionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A place in a transaction to go back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Savepoint(pub u64);

/// How much of what a transaction may have it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub write_bytes: u64,
    pub write_bytes_max: u64,
    pub reads: u64,
    pub reads_max: u64,
    pub age_ms: u64,
    pub age_ms_max: u64,
}

pub(super) type Key = (Keyspace, Vec<u8>);

/// See the module. Dropping it rolls it back.
pub struct Transaction {
    client: Client,
    id: TransactionId,
    life: Arc<TxLife>,
    options: TransactionOptions,
    begun_ms: u64,
    /// Taken at the first read.
    view: Option<Arc<Snapshot>>,
    /// The version of each key read; none: it had no value.
    reads: BTreeMap<Key, Option<CommitTs>>,
    scans: Vec<Range>,
    /// When the first value that a scan saw expires.
    expires: Expiry,
    writes: BTreeMap<Key, TxWrite>,
    /// Of the keys in `reads`.
    read_bytes: usize,
    write_bytes: usize,
    /// Each with what the writes after it, up to the next one, replaced first.
    savepoints: Vec<(Savepoint, Undo)>,
    /// Of all that they replaced.
    undo_bytes: usize,
    next_savepoint: u64,
    guards: Vec<Guard>,
    /// Keys that are kept until the end, and their shards.
    kept: BTreeSet<Key>,
    kept_at: BTreeSet<ShardId>,
    ended: Option<&'static str>,
}

impl Client {
    pub fn begin(&self, options: TransactionOptions) -> Result<Transaction> {
        self.check_open()?;
        if options.timeout.is_zero() {
            return Err(Error::invalid("a transaction's timeout is at least 1 ms"));
        }
        let remember_ms = options.remember.as_millis().try_into().unwrap_or(u64::MAX);
        let id = TransactionId::new(self.shared.clock.wall_ms().saturating_add(remember_ms), &self.shared.random);
        let begun_ms = self.now_ms();
        let deadline_ms = begun_ms.saturating_add(options.timeout.as_millis().try_into().unwrap_or(u64::MAX));
        let life = self.shared.transactions.begin(options.again, begun_ms, deadline_ms)?;
        Ok(Transaction {
            client: self.clone(),
            id,
            life,
            options,
            begun_ms,
            view: None,
            reads: BTreeMap::new(),
            scans: Vec::new(),
            expires: Expiry::NEVER,
            writes: BTreeMap::new(),
            read_bytes: 0,
            write_bytes: 0,
            savepoints: Vec::new(),
            undo_bytes: 0,
            next_savepoint: 1,
            guards: Vec::new(),
            kept: BTreeSet::new(),
            kept_at: BTreeSet::new(),
            ended: None,
        })
    }
}

impl Transaction {
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// What to give to the transaction that runs the same again.
    pub fn number(&self) -> TxNumber {
        self.life.number
    }

    /// The value of `key`, own writes included.
    pub fn get(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.check()?;
        if let Some(own) = self.own(keyspace, key) {
            return Ok(own);
        }
        if self.kept.contains(&(keyspace, key.to_vec())) {
            return self.get_latest(keyspace, key);
        }
        let view = self.view();
        let found = self.client.get_at(&view, keyspace, key)?;
        self.note_read(keyspace, key, &found)?;
        Ok(found)
    }

    /// As [`Transaction::get`], and keeps the key: no other transaction changes or keeps it before this one has ended. Waits for an
    /// older transaction that keeps it; blocks.
    pub fn get_for_update(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.keep(keyspace, key)?.wait()?;
        self.get_kept(keyspace, key)
    }

    /// As [`Transaction::get_for_update`], for tasks.
    pub async fn get_for_update_async(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.keep(keyspace, key)?.await?;
        self.get_kept(keyspace, key)
    }

    /// What to wait for before anything else: one that is run again keeps the keys at which it lost before, each from when it is the
    /// oldest of those who want it. So whoever lost comes to its turn, and is not run in vain. It reads them as any other, from one view
    /// that is taken behind that.
    pub fn turn(&mut self) -> Result<Vec<Pending<()>>> {
        self.check()?;
        let lost = if self.options.read_only { BTreeSet::new() } else { self.life.lost().keys };
        lost.into_iter().map(|(keyspace, key)| self.keep(keyspace, &key)).collect()
    }

    /// Wait for its turn ([`Transaction::turn`]); blocks.
    pub fn wait_turn(&mut self) -> Result<()> {
        self.turn()?.into_iter().try_for_each(Pending::wait)
    }

    /// Ask for a key; once that is answered, [`Transaction::get_kept`] gives its value.
    pub fn keep(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<Pending<()>> {
        self.check_writable()?;
        check_sizes(key, 0)?;
        let handle = self.client.handle_of(key);
        self.kept_at.insert(handle.view.id);
        let (reply, answer) = pending(Some(Arc::clone(handle) as Arc<dyn Helper>));
        submit(handle, Request::KeepKey { keyspace, key: key.into(), life: Arc::clone(&self.life), reply });
        if !answer.is_ready() {
            self.client.shared.transactions.waits();
        }
        Ok(answer)
    }

    /// The value of a key that is kept.
    pub fn get_kept(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.check()?;
        if let Some(own) = self.own(keyspace, key) {
            // That it was not changed before it was kept, the commit has still to see.
            return Ok(own);
        }
        self.kept.insert((keyspace, key.to_vec()));
        self.get_latest(keyspace, key)
    }

    fn get_latest(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Value>> {
        let found = self.client.get(keyspace, key)?;
        self.note_read(keyspace, key, &found)?;
        Ok(found)
    }

    /// Up to `limit` entries of `range` in its order, own writes included; fewer only at its end. Blocks until memory is in order, the
    /// first time in a database's life.
    pub fn scan(&mut self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.check()?;
        self.client.keep_order()?;
        self.scan_in_order(range, limit)
    }

    /// As [`Transaction::scan`], for tasks.
    pub async fn scan_async(&mut self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.check()?;
        for wait in self.client.order_waits() {
            wait.await?;
        }
        self.scan_in_order(range, limit)
    }

    fn scan_in_order(&mut self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        let view = self.view();
        let mut stored = self.client.scan_of(&view, range.clone())?;
        let mut next = stored.next().transpose()?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut consumed: Range = range.into();
        let own = own_in(&self.writes, &consumed);
        let mut own = own.into_iter().peekable();
        let forward = consumed.direction == crate::table::merge::Direction::Forward;
        let before = |a: &[u8], b: &[u8]| if forward { a < b } else { a > b };
        while entries.len() < limit {
            let (own_key, stored_key) =
                (own.peek().map(|(key, _)| &key[..]), next.as_ref().map(|entry| &entry.key[..]));
            let take_own = match (own_key, stored_key) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(own), Some(stored)) => !before(stored, own),
            };
            if take_own {
                let (key, value) = own.next().expect("peeked");
                if next.as_ref().is_some_and(|entry| entry.key == key) {
                    next = stored.next().transpose()?;
                }
                entries.extend(value.map(|value| Entry { key, value }));
                continue;
            }
            let entry = next.take().expect("seen above");
            next = stored.next().transpose()?;
            if let Some(at) = entry.value.expiry.unix_ms() {
                let first = self.expires.unix_ms().map_or(at, |first| first.min(at));
                self.expires = Expiry::at_ms(first);
            }
            entries.push(entry);
        }
        if entries.len() == limit
            && let Some(last) = entries.last()
        {
            // What lies behind was not looked at.
            let end = Bound::Included(last.key.clone());
            if forward { consumed.upper = end } else { consumed.lower = end }
        }
        if !self.options.read_only {
            self.check_reads()?;
            self.scans.push(consumed);
        }
        Ok(entries)
    }

    pub fn put(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_full(keyspace, key, value, Kind::BYTES, Expiry::NEVER)
    }

    pub fn put_full(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8], kind: Kind, expiry: Expiry) -> Result<()> {
        self.check_writable()?;
        check_sizes(key, value.len())?;
        self.write(keyspace, key, TxWrite::Put { value: value.to_vec(), kind, expiry })
    }

    pub fn delete(&mut self, keyspace: Keyspace, key: &[u8]) -> Result<()> {
        self.check_writable()?;
        check_sizes(key, 0)?;
        self.write(keyspace, key, TxWrite::Delete)
    }

    /// Put if the present value meets the condition, which is then part of what must still hold at the commit. Says whether it did.
    pub fn put_if(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8], condition: &Condition) -> Result<bool> {
        self.put_if_full(keyspace, key, value, condition, Expiry::NEVER)
    }

    pub fn put_if_full(
        &mut self,
        keyspace: Keyspace,
        key: &[u8],
        value: &[u8],
        condition: &Condition,
        expiry: Expiry,
    ) -> Result<bool> {
        self.check_writable()?;
        check_sizes(key, value.len())?;
        let current = match condition {
            Condition::Always => None,
            _ => self.get(keyspace, key)?,
        };
        let holds = condition.holds(current.as_ref().map(|value| (&value.bytes[..], value.version)));
        if holds {
            self.put_full(keyspace, key, value, Kind::BYTES, expiry)?;
        }
        Ok(holds)
    }

    /// The commit takes effect only if this token holds its lock at that moment.
    pub fn guard(&mut self, guard: Guard) -> Result<()> {
        self.check()?;
        crate::lock::check_name(&guard.name)?;
        at_most("guards", self.guards.len() + 1, GUARDS_MAX)?;
        self.guards.push(guard);
        Ok(())
    }

    /// A place to go back to.
    pub fn savepoint(&mut self) -> Result<Savepoint> {
        self.check()?;
        at_most("savepoints", self.savepoints.len() + 1, SAVEPOINTS_MAX)?;
        let savepoint = Savepoint(self.next_savepoint);
        self.next_savepoint += 1;
        self.savepoints.push((savepoint, Undo::new()));
        Ok(savepoint)
    }

    /// Forget the writes since the savepoint, and the savepoints since; it stays. What was read stays read.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.check()?;
        let at = self.savepoint_at(savepoint)?;
        // The newest first.
        for (_, undo) in self.savepoints.split_off(at).into_iter().rev() {
            for (key, before) in undo {
                self.undo_bytes -= undo_bytes(&key, before.as_ref());
                let now = match before {
                    Some(before) => {
                        self.write_bytes += before.bytes(&key.1);
                        self.writes.insert(key.clone(), before)
                    }
                    None => self.writes.remove(&key),
                };
                self.write_bytes -= now.map_or(0, |now| now.bytes(&key.1));
            }
        }
        self.savepoints.push((savepoint, Undo::new()));
        Ok(())
    }

    /// Forget a savepoint, and those since; the writes stay.
    pub fn release(&mut self, savepoint: Savepoint) -> Result<()> {
        self.check()?;
        let at = self.savepoint_at(savepoint)?;
        for (_, undo) in self.savepoints.split_off(at) {
            for (key, before) in undo {
                match self.savepoints.last_mut() {
                    // The savepoint before it may have to give that back.
                    Some((_, older)) if !older.contains_key(&key) => drop(older.insert(key, before)),
                    Some(_) | None => self.undo_bytes -= undo_bytes(&key, before.as_ref()),
                }
            }
        }
        Ok(())
    }

    fn savepoint_at(&self, savepoint: Savepoint) -> Result<usize> {
        let at = self.savepoints.iter().position(|(own, _)| *own == savepoint);
        at.ok_or(Error::Tx(TxError::NoSavepoint { number: savepoint.0 }))
    }

    pub fn usage(&self) -> Usage {
        Usage {
            write_bytes: (self.write_bytes + self.undo_bytes) as u64,
            write_bytes_max: WRITE_BYTES_MAX as u64,
            reads: (self.reads.len() + self.scans.len()) as u64,
            reads_max: READS_MAX as u64,
            age_ms: self.age_ms(),
            age_ms_max: self.options.timeout.as_millis() as u64,
        }
    }

    /// Ends it. Answered with the commit (zero if it wrote nothing) once it is durable and visible everywhere; with a refusal if it did not
    /// happen; with an error that [`Error::may_have_committed`] if nobody knows before the next opening.
    pub fn commit(&mut self) -> Pending<CommitTs> {
        if let Err(error) = self.check() {
            return Pending::ready(Err(error));
        }
        self.ended = Some(COMMITTED);
        if self.writes.is_empty() && self.kept.is_empty() && self.guards.is_empty() {
            // It saw one state; nothing can have changed that.
            self.client.shared.transactions.ended(self.life.number, Ok(()));
            self.let_go();
            return Pending::ready(Ok(CommitTs::ZERO));
        }
        let guards = std::mem::take(&mut self.guards);
        let mut writes = std::mem::take(&mut self.writes);
        if !writes.is_empty() && !self.options.remember.is_zero() {
            self.client.remember(self.id, self.options.remember, &mut writes);
        }
        let attempted = Attempted {
            check: Check {
                isolation: self.options.isolation,
                view: self.view.take(),
                reads: std::mem::take(&mut self.reads),
                scans: std::mem::take(&mut self.scans),
                expires: self.expires,
                kept: std::mem::take(&mut self.kept),
                life: Arc::clone(&self.life),
            },
            writes,
            places: std::mem::take(&mut self.kept_at),
        };
        self.client.commit(
            attempted,
            guards,
            WriteOptions { durability: self.options.durability, ..Default::default() },
        )
    }

    /// Ends it; nothing was done.
    pub fn rollback(&mut self) -> Result<()> {
        if let Some(how) = self.ended {
            return Err(Error::Tx(TxError::Ended { how }));
        }
        self.end("it was rolled back");
        self.client.shared.transactions.rolled_back(self.life.number);
        Ok(())
    }

    /// As every other call does first: an error if it has ended, or has to.
    pub fn check_open(&mut self) -> Result<()> {
        self.check()
    }

    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether its commit was asked for; what came of it, that call's answer says.
    pub fn was_committed(&self) -> bool {
        self.ended == Some(COMMITTED)
    }

    // -- within

    fn end(&mut self, how: &'static str) {
        self.ended = Some(how);
        self.view = None;
        self.reads.clear();
        self.writes.clear();
        self.savepoints.clear();
        self.let_go();
    }

    /// Keys that were kept are free.
    fn let_go(&mut self) {
        // What still waits in an inbox keeps nothing from now on, so that nothing has to stand in line behind it: a full inbox may have
        // to wait for this very thread.
        self.life.end();
        for shard in std::mem::take(&mut self.kept_at) {
            self.client.shared.shards[shard.index()].with_core(|core| core.end_key_locks(self.life.number));
        }
    }

    fn age_ms(&self) -> u64 {
        self.client.now_ms().saturating_sub(self.begun_ms)
    }

    fn check(&mut self) -> Result<()> {
        self.client.check_open()?;
        if let Some(how) = self.ended {
            return Err(Error::Tx(TxError::Ended { how }));
        }
        let (age_ms, max_ms) = (self.age_ms(), self.options.timeout.as_millis() as u64);
        let refusal = if self.life.is_wounded() {
            TxError::Wounded
        } else if age_ms > max_ms {
            TxError::TooOld { age_ms, max_ms }
        } else {
            return Ok(());
        };
        let how = if refusal == TxError::Wounded { "an older one needed its keys" } else { "it was open for too long" };
        Err(self.abort(refusal, how))
    }

    fn check_writable(&mut self) -> Result<()> {
        self.check()?;
        if self.options.read_only { Err(Error::Tx(TxError::ReadOnly)) } else { Ok(()) }
    }

    fn check_reads(&self) -> Result<()> {
        at_most("reads", self.reads.len() + self.scans.len() + 1, READS_MAX)
    }

    fn view(&mut self) -> Arc<Snapshot> {
        Arc::clone(self.view.get_or_insert_with(|| Arc::new(self.client.visible_view())))
    }

    fn note_read(&mut self, keyspace: Keyspace, key: &[u8], found: &Option<Value>) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let name = (keyspace, key.to_vec());
        if !self.reads.contains_key(&name) {
            self.check_reads()?;
            at_most("bytes of keys read", self.read_bytes + key.len(), READ_BYTES_MAX)?;
            self.read_bytes += key.len();
        }
        let version = found.as_ref().map(|value| value.version);
        let before = self.reads.insert(name, version);
        if before.is_some_and(|before| before != version) {
            // It was read from the view, and is kept now: what was told then does not hold any more.
            return Err(self.abort(TxError::Changed { key: key.into() }, "a key that it had read was changed"));
        }
        Ok(())
    }

    /// End it with a refusal.
    fn abort(&mut self, refusal: TxError, how: &'static str) -> Error {
        self.end(how);
        let error = Error::Tx(refusal);
        self.client.shared.transactions.ended(self.life.number, Err(&error));
        error
    }

    /// What this transaction wrote to a key, if it did.
    fn own(&self, keyspace: Keyspace, key: &[u8]) -> Option<Option<Value>> {
        if self.writes.is_empty() {
            return None;
        }
        self.writes.get(&(keyspace, key.to_vec())).map(TxWrite::to_value)
    }

    fn write(&mut self, keyspace: Keyspace, key: &[u8], write: TxWrite) -> Result<()> {
        let full = (keyspace, key.to_vec());
        let before = self.writes.get(&full);
        let used = self.write_bytes - before.map_or(0, |before| before.bytes(key)) + write.bytes(key);
        // What it replaces, once for each savepoint.
        let replaced = match self.savepoints.last() {
            Some((_, undo)) if !undo.contains_key(&full) => undo_bytes(&full, before),
            Some(_) | None => 0,
        };
        at_most("bytes of writes", used + self.undo_bytes + replaced, WRITE_BYTES_MAX)?;
        (self.write_bytes, self.undo_bytes) = (used, self.undo_bytes + replaced);
        match self.savepoints.last_mut() {
            Some((_, undo)) => {
                let before = self.writes.insert(full.clone(), write);
                undo.entry(full).or_insert(before);
            }
            None => drop(self.writes.insert(full, write)),
        }
        Ok(())
    }
}

/// How a transaction ended whose commit was asked for.
const COMMITTED: &str = "it was committed";

/// What to go back to: what each key was to have before; `None`, nothing.
type Undo = BTreeMap<Key, Option<TxWrite>>;

fn undo_bytes(key: &Key, before: Option<&TxWrite>) -> usize {
    key.1.len() + before.map_or(0, |before| before.bytes(&key.1))
}

fn at_most(what: &'static str, used: usize, max: usize) -> Result<()> {
    if used <= max {
        return Ok(());
    }
    Err(Error::Tx(TxError::TooLarge { what, used: used as u64, max: max as u64 }))
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let _ = self.rollback();
    }
}
