//! The commit of a transaction, and what can be learnt of it later.
//!
//! Guards: it takes effect only if, at that moment, what the transaction read is still so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::transaction::{Key, TransactionId};
use super::{Client, Isolation, Keys, Snapshot, Transaction, TransactionOptions, WriteOptions};
use crate::canary::{Canary, planted};
use crate::error::{Error, Result};
use crate::format::fate::{FATES, TAGS, fate_key, tag_of};
use crate::ids::{CommitTs, Expiry, Kind, ShardId};
use crate::lock::Guard;
use crate::pending::{Completer, Pending};
use crate::shard::joint::{Joint, JointProgram, Reads};
use crate::shard::tx::TxWrite;
use crate::shard::{Request, Tx};
use crate::table::range_cursor::Range;
use crate::txn::stats::Transactions;
use crate::txn::{TxError, TxLife, TxNumber};

/// Pauses between attempts of [`Client::transact`] are drawn below this, doubled with each attempt up to the other.
const PAUSE_FIRST: Duration = Duration::from_micros(50);
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Committed(CommitTs),
    /// It did not happen, or wrote nothing.
    NotCommitted,
}

/// What must still hold at the commit.
pub(super) struct Check {
    pub isolation: Isolation,
    pub view: Option<Arc<Snapshot>>,
    pub reads: BTreeMap<Key, Option<CommitTs>>,
    pub scans: Vec<Range>,
    pub expires: Expiry,
    pub kept: BTreeSet<Key>,
    pub life: Arc<TxLife>,
}

/// A transaction at its end.
pub(super) struct Attempted {
    pub check: Check,
    pub writes: BTreeMap<Key, TxWrite>,
    /// Shards where it keeps keys.
    pub places: BTreeSet<ShardId>,
}

impl Check {
    fn run(&self, tx: &Tx<'_>, writes: &BTreeMap<Key, TxWrite>) -> Result<()> {
        let refuse = |refusal| Err(Error::Tx(refusal));
        if self.life.is_wounded() {
            return refuse(TxError::Wounded);
        }
        if !planted(Canary::SkipReadCheck) {
            self.check_reads(tx)?;
        }
        for key @ (keyspace, name) in writes.keys() {
            if tx.is_kept_by_other(*keyspace, name, self.life.number)? {
                return refuse(TxError::Kept { key: name[..].into() });
            }
            if !self.kept.contains(key) && self.was_written_since(tx, key)? {
                return refuse(TxError::Changed { key: name[..].into() });
            }
        }
        Ok(())
    }

    /// What another attempt will wait for.
    fn note_lost(&self, tx: &Tx<'_>, writes: &BTreeMap<Key, TxWrite>) -> Result<()> {
        let is_kept = |(keyspace, name): &Key| tx.is_kept_by_other(*keyspace, name, self.life.number);
        for (key, seen) in self.checked_reads() {
            if !still_reads(tx, key, seen)? || is_kept(key)? {
                self.life.lose(key.0, &key.1);
            }
        }
        for key in writes.keys() {
            if is_kept(key)? || self.was_written_since(tx, key)? {
                self.life.lose(key.0, &key.1);
            }
        }
        Ok(())
    }

    /// The reads that must still hold.
    fn checked_reads(&self) -> impl Iterator<Item = (&Key, &Option<CommitTs>)> {
        let all = self.isolation == Isolation::StrictSerializable;
        self.reads.iter().filter(move |(key, _)| all || self.kept.contains(key))
    }

    /// Whether somebody wrote a key since the state that was read, which only the weaker isolation asks.
    fn was_written_since(&self, tx: &Tx<'_>, (keyspace, name): &Key) -> Result<bool> {
        match (self.isolation, &self.view) {
            (Isolation::Snapshot, Some(view)) => Ok(tx.last_change(*keyspace, name)? > view.mark(tx.shard_of(name))),
            (Isolation::Snapshot, None) | (Isolation::StrictSerializable, _) => Ok(false),
        }
    }

    /// What it read and scanned would be answered in the same way now.
    fn check_reads(&self, tx: &Tx<'_>) -> Result<()> {
        let refuse = |refusal| Err(Error::Tx(refusal));
        for (key, seen) in self.checked_reads() {
            if !still_reads(tx, key, seen)? {
                return refuse(TxError::Changed { key: key.1[..].into() });
            }
        }
        if self.isolation == Isolation::StrictSerializable {
            let since = |shard| self.view.as_ref().map_or(CommitTs::MAX, |view| view.mark(shard));
            for range in &self.scans {
                if tx.has_changed(range, since)? {
                    return refuse(TxError::RangeChanged);
                }
            }
            if self.expires.is_past(tx.now_ms()) {
                return refuse(TxError::RangeChanged);
            }
        }
        Ok(())
    }
}

fn still_reads(tx: &Tx<'_>, (keyspace, name): &Key, seen: &Option<CommitTs>) -> Result<bool> {
    Ok(tx.get(*keyspace, name)?.map(|value| value.version) == *seen)
}

struct Commit {
    check: Check,
    writes: BTreeMap<Key, TxWrite>,
    transactions: Arc<Transactions>,
    completer: Completer<CommitTs>,
}

impl JointProgram for Commit {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        if let Err(refused) = self.check.run(tx, &self.writes) {
            if let Err(error) = self.check.note_lost(tx, &self.writes) {
                tracing::debug!(%error, "where a transaction lost is not known");
            }
            // Once it has heard, it may run again at once, and sees what was in its way.
            if self.check.scans.is_empty() {
                let keys = self.check.reads.keys().chain(self.writes.keys());
                tx.refused_for(keys.map(|(keyspace, key)| (*keyspace, &key[..])));
            }
            return Err(refused);
        }
        self.writes.iter().try_for_each(|((keyspace, key), write)| tx.write_own(*keyspace, key, write))
    }

    fn done(self: Box<Self>, result: Result<CommitTs>) {
        // It keeps nothing any more, should it not have come to its shards.
        self.check.life.end();
        self.transactions.ended(self.check.life.number, result.as_ref().map(drop));
        self.completer.complete(result);
    }
}

impl Client {
    pub(super) fn commit(&self, attempted: Attempted, guards: Vec<Guard>, options: WriteOptions) -> Pending<CommitTs> {
        let Attempted { check, writes, mut places } = attempted;
        let read = check.checked_reads().map(|(key, _)| key);
        places.extend(read.chain(writes.keys()).map(|(_, key)| self.shard_of(key)));
        if check.isolation == Isolation::StrictSerializable && !check.scans.is_empty() {
            places.extend(self.places(Keys::All).unwrap_or_default());
        }
        let guards = match self.guards_at(guards) {
            Ok(guards) => guards,
            Err(error) => return Pending::ready(Err(error)),
        };
        let places: Vec<ShardId> = places.into_iter().collect();
        let (completer, answer) = self.joint_pending(&places, &guards);
        let ends = Some(check.life.number);
        let transactions = Arc::clone(&self.shared.transactions);
        let program = Box::new(Commit { check, writes, transactions, completer });
        let level = self.level_of(options.durability);
        self.attempt(Joint { places, guards, program, level, reads: Reads::Visible, ends });
        answer
    }

    /// Have the transaction leave a trace of itself among its writes.
    pub(super) fn remember(&self, id: TransactionId, time: Duration, writes: &mut BTreeMap<Key, TxWrite>) {
        // On a shard that it writes to, if one has a tag; else on one more.
        let tag = writes.keys().find_map(|(_, key)| tag_of(&self.shared.ring, self.shard_of(key))).unwrap_or(0);
        let until = self.shared.clock.wall_ms().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let trace = TxWrite::Put { value: Vec::new(), kind: Kind::BYTES, expiry: Expiry::at_ms(until) };
        writes.insert((FATES, fate_key(tag, id.0).to_vec()), trace);
    }

    /// What became of a transaction whose client did not hear it, in this opening of the database or in one before. It must not be
    /// under way any more. [`TxError::Forgotten`] if that is longer ago than it was to be remembered.
    pub fn fate(&self, id: TransactionId) -> Pending<Fate> {
        let client = self.clone();
        // Behind all that is under way.
        self.on_every_shard(|reply| Request::Fence { reply }).then(move |()| {
            for tag in 0..TAGS {
                if let Some(trace) = client.get(FATES, &fate_key(tag, id.0))? {
                    return Ok(Fate::Committed(trace.version));
                }
            }
            match client.shared.clock.wall_ms().checked_sub(id.until_ms()) {
                Some(past_ms) => Err(Error::Tx(TxError::Forgotten { past_ms })),
                None => Ok(Fate::NotCommitted),
            }
        })
    }

    /// Run `f` in a transaction and commit it, again and again until that succeeds or fails for another reason than others' work. Blocks,
    /// also for pauses between the attempts. An error that [`Error::may_have_committed`] ends it, and so does any error of an `f` that
    /// committed by itself: it is not run twice.
    pub fn transact<T>(
        &self,
        options: TransactionOptions,
        mut f: impl FnMut(&mut Transaction) -> Result<T>,
    ) -> Result<(T, CommitTs)> {
        let mut options = options;
        let mut attempt = 0;
        loop {
            let mut transaction = self.begin(options.clone())?;
            options.again = Some(transaction.number());
            let value = transaction.wait_turn().and_then(|()| f(&mut transaction));
            // Then what it did stands, or may stand: it is not done again.
            let by_itself = transaction.was_committed();
            let done = value.and_then(|value| Ok((value, transaction.commit().wait()?)));
            match done {
                Err(error) if error.is_lost_race() && !by_itself => {
                    drop(transaction);
                    self.shared.clock.pause(self.pause(options.again, attempt));
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    /// How long to wait before the next attempt of a transaction that failed `attempt` times before: not at all if it will wait for its
    /// turn ([`Transaction::turn`]).
    pub fn pause(&self, number: Option<TxNumber>, attempt: u32) -> Duration {
        if number.is_some_and(|number| self.shared.transactions.has_turn(number)) {
            return Duration::ZERO;
        }
        let most = PAUSE_FIRST.saturating_mul(1 << attempt.min(16)).min(PAUSE_MAX);
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos((self.shared.random)() % nanos)
    }
}
