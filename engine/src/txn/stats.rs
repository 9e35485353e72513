//! Transactions that are open, and what became of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::error::TxError;
use super::fate::Decided;
use super::key_locks::{Lost, TxLife, TxNumber};
use crate::error::Error;
use crate::runtime::Clock;

/// All transactions of one engine.
pub struct Transactions {
    clock: Arc<dyn Clock>,
    numbers: Mutex<Numbers>,
    next: AtomicU64,
    begun: AtomicU64,
    again: AtomicU64,
    committed: AtomicU64,
    rolled_back: AtomicU64,
    changed: AtomicU64,
    kept: AtomicU64,
    wounded: AtomicU64,
    too_old: AtomicU64,
    failed: AtomicU64,
    waits: AtomicU64,
    /// Milliseconds for which those were open that ended: of all together, and the longest.
    ages_ms: AtomicU64,
    age_ms_max: AtomicU64,
    /// What the opening decided about.
    decided: Decided,
}

/// What is known of transactions by their age.
#[derive(Default)]
struct Numbers {
    /// With when they began.
    open: BTreeMap<TxNumber, (Arc<TxLife>, u64)>,
    /// Where those lost that ended, for when they are run again, each with its place among the others.
    lost: BTreeMap<TxNumber, (u64, Lost)>,
    losers: u64,
}

/// So many losers are remembered, the last ones. Whoever is run again is so soon.
const LOSERS_MAX: usize = 1024;

impl Numbers {
    fn remember(&mut self, number: TxNumber, lost: Lost) {
        if lost.keys.is_empty() {
            return;
        }
        self.losers += 1;
        self.lost.insert(number, (self.losers, lost));
        if self.lost.len() > LOSERS_MAX
            && let Some(first) = self.lost.iter().min_by_key(|(_, (at, _))| *at).map(|(number, _)| *number)
        {
            self.lost.remove(&first);
        }
    }
}

/// Counts since the opening, and what is open now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxStats {
    pub begun: u64,
    /// Of these, those that ran again what was aborted before.
    pub retried: u64,
    pub committed: u64,
    pub rolled_back: u64,
    /// Aborted because what they read was changed.
    pub aborted_changed: u64,
    /// Aborted because another transaction kept a key that they would write.
    pub aborted_kept: u64,
    /// Aborted because an older transaction took a key from them.
    pub aborted_wounded: u64,
    /// Aborted because they were open for too long.
    pub aborted_too_old: u64,
    /// Ended with any other error.
    pub failed: u64,
    /// Waits for a key that another transaction kept.
    pub waits: u64,
    pub open: u64,
    /// Milliseconds that the oldest open one is old.
    pub oldest_ms: u64,
    /// Milliseconds for which those were open that ended: of all together, and the longest.
    pub ages_ms: u64,
    pub age_ms_max: u64,
    /// What the opening found of commits over several shards that nobody knew to be settled.
    pub decided: Decided,
}

impl Transactions {
    pub fn new(clock: Arc<dyn Clock>, decided: Decided) -> Transactions {
        Transactions {
            clock,
            numbers: Mutex::default(),
            next: AtomicU64::default(),
            begun: AtomicU64::default(),
            again: AtomicU64::default(),
            committed: AtomicU64::default(),
            rolled_back: AtomicU64::default(),
            changed: AtomicU64::default(),
            kept: AtomicU64::default(),
            wounded: AtomicU64::default(),
            too_old: AtomicU64::default(),
            failed: AtomicU64::default(),
            waits: AtomicU64::default(),
            ages_ms: AtomicU64::default(),
            age_ms_max: AtomicU64::default(),
            decided,
        }
    }

    /// A transaction begins; `again` has the age of one that has to be run again.
    pub fn begin(&self, again: Option<TxNumber>, now_ms: u64, deadline_ms: u64) -> Result<Arc<TxLife>, Error> {
        let mut numbers = self.numbers.lock();
        let number = match again {
            None => TxNumber(self.next.fetch_add(1, Ordering::Relaxed)),
            // Two of one number would keep the same keys.
            Some(number) if numbers.open.contains_key(&number) => {
                return Err(Error::invalid(format!("the transaction of the age {} is still open", number.0)));
            }
            Some(number) if number.0 >= self.next.load(Ordering::Relaxed) => {
                return Err(Error::invalid(format!("no transaction had the age {}", number.0)));
            }
            Some(number) => number,
        };
        let before = again.and_then(|number| numbers.lost.remove(&number));
        let life = TxLife::new(number, deadline_ms, before.map(|(_, lost)| lost.keys).unwrap_or_default());
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.again.fetch_add(u64::from(again.is_some()), Ordering::Relaxed);
        numbers.open.insert(number, (Arc::clone(&life), now_ms));
        Ok(life)
    }

    /// It ended without being asked to commit.
    pub fn rolled_back(&self, number: TxNumber) {
        self.close(number, true);
        self.rolled_back.fetch_add(1, Ordering::Relaxed);
    }

    pub fn ended(&self, number: TxNumber, outcome: Result<(), &Error>) {
        self.close(number, outcome.is_err());
        let count = match outcome {
            Ok(()) => &self.committed,
            Err(Error::Tx(TxError::Changed { .. } | TxError::RangeChanged)) => &self.changed,
            Err(Error::Tx(TxError::Kept { .. })) => &self.kept,
            Err(Error::Tx(TxError::Wounded)) => &self.wounded,
            Err(Error::Tx(TxError::TooOld { .. })) => &self.too_old,
            Err(_) => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&self, number: TxNumber, may_run_again: bool) {
        let mut numbers = self.numbers.lock();
        let open = numbers.open.remove(&number);
        if let Some((life, begun_ms)) = open {
            if may_run_again {
                numbers.remember(number, life.lost());
            }
            drop(numbers);
            let age_ms = self.clock.monotonic_ms().saturating_sub(begun_ms);
            self.ages_ms.fetch_add(age_ms, Ordering::Relaxed);
            self.age_ms_max.fetch_max(age_ms, Ordering::Relaxed);
        }
    }

    /// Whether one that ended lost at a key, so that it has a turn to wait for.
    pub fn has_turn(&self, number: TxNumber) -> bool {
        self.numbers.lock().lost.get(&number).is_some_and(|(_, lost)| lost.just_now)
    }

    pub fn waits(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    pub fn stats(&self, now_ms: u64) -> TxStats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (open, oldest_ms) = {
            let open = &self.numbers.lock().open;
            let oldest = open.values().map(|(_, begun_ms)| now_ms.saturating_sub(*begun_ms)).max();
            (open.len() as u64, oldest.unwrap_or(0))
        };
        TxStats {
            begun: load(&self.begun),
            retried: load(&self.again),
            committed: load(&self.committed),
            rolled_back: load(&self.rolled_back),
            aborted_changed: load(&self.changed),
            aborted_kept: load(&self.kept),
            aborted_wounded: load(&self.wounded),
            aborted_too_old: load(&self.too_old),
            failed: load(&self.failed),
            waits: load(&self.waits),
            open,
            oldest_ms,
            ages_ms: load(&self.ages_ms),
            age_ms_max: load(&self.age_ms_max),
            decided: self.decided,
        }
    }
}
