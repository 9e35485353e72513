//! Keys that all clients write at once: of counters no count is given twice, none goes back, and none that was answered is lost; in a
//! lock's register, which holds the token under which it was written last, tokens never fall.

use std::collections::BTreeSet;

use corering_engine::Value;
use corering_engine::runtime::sim::CrashKind;

/// What only grows: how far it must have come.
#[derive(Clone, Copy, Default, Debug)]
struct Reached<T> {
    floor: T,
    durable: T,
    /// What was durable when the disk lost a write of a log in this life.
    owed: Option<T>,
}

impl<T: Ord + Copy + Default> Reached<T> {
    fn of(found: T) -> Reached<T> {
        Reached { floor: found, durable: found, owed: None }
    }

    fn answered(&mut self, value: T, at_sync: bool) {
        self.floor = self.floor.max(value);
        if at_sync {
            self.synced(value);
        }
    }

    fn synced(&mut self, floor: T) {
        self.durable = self.durable.max(floor);
    }

    /// The disk lost a write of some log: nothing that becomes durable from now on need be found again.
    fn lied(&mut self, astray: bool) {
        let owed = self.owed.get_or_insert(self.durable);
        *owed = if astray { T::default() } else { *owed };
    }

    /// A life ended, by a death or a close.
    fn ended(&mut self, death: Option<CrashKind>) {
        if death == Some(CrashKind::Machine) {
            self.floor = self.durable;
        }
        if let Some(owed) = self.owed.take() {
            (self.floor, self.durable) = (self.floor.min(owed), self.durable.min(owed));
        }
    }
}

#[derive(Clone, Default, Debug)]
pub struct Counter {
    /// What the last opening found, or less if a crash may have taken some of it.
    base: i64,
    /// Increments tried since and not refused.
    tried: i64,
    reached: Reached<i64>,
    answers: BTreeSet<i64>,
}

impl Counter {
    /// An increment by one is about to be submitted; its answer will be above what is returned.
    pub fn begin(&mut self) -> i64 {
        self.tried += 1;
        self.reached.floor
    }

    pub fn refused(&mut self) {
        self.tried -= 1;
    }

    pub fn answered(&mut self, count: i64, above: i64, at_sync: bool) -> Result<(), String> {
        if !self.answers.insert(count) || count <= above || count > self.base + self.tried {
            return Err(format!("an increment was answered {count}, asked for above {above}; {self:?}"));
        }
        self.reached.answered(count, at_sync);
        Ok(())
    }

    pub fn read(&mut self, found: Option<&Value>) -> Result<(), String> {
        let count = count_of(found)?;
        if !(self.reached.floor..=self.base + self.tried).contains(&count) {
            return Err(format!("a counter shows {count}; {self:?}"));
        }
        self.reached.floor = count;
        Ok(())
    }

    pub fn sync_begins(&self) -> i64 {
        self.reached.floor
    }

    pub fn synced(&mut self, floor: i64) {
        self.reached.synced(floor);
    }

    /// The disk lost a write of some log: nothing that becomes durable from now on need be found again.
    pub fn lied(&mut self, astray: bool) {
        self.reached.lied(astray);
    }

    /// A life ended, by a death or a close.
    pub fn ended(&mut self, death: Option<CrashKind>) {
        self.reached.ended(death);
    }

    /// As an opening found it.
    pub fn recovered(&mut self, found: Option<&Value>) -> Result<(), String> {
        self.read(found)?;
        *self = Counter { base: self.reached.floor, reached: Reached::of(self.reached.floor), ..Counter::default() };
        Ok(())
    }
}

/// The largest tokens under which a register was written.
#[derive(Clone, Default, Debug)]
pub struct Register {
    tried: u64,
    reached: Reached<u64>,
}

impl Register {
    /// A write under this token is about to be submitted.
    pub fn begin(&mut self, token: u64) {
        self.tried = self.tried.max(token);
    }

    /// It was done, and found the token of the one before.
    pub fn answered(&mut self, token: u64, before: u64, at_sync: bool) -> Result<(), String> {
        if before > token {
            return Err(format!("a write of token {token} came behind that of {before}; {self:?}"));
        }
        self.reached.answered(token, at_sync);
        Ok(())
    }

    pub fn sync_begins(&self) -> u64 {
        self.reached.floor
    }

    pub fn synced(&mut self, floor: u64) {
        self.reached.synced(floor);
    }

    pub fn lied(&mut self, astray: bool) {
        self.reached.lied(astray);
    }

    pub fn ended(&mut self, death: Option<CrashKind>) {
        self.reached.ended(death);
    }

    /// As an opening found it.
    pub fn recovered(&mut self, found: u64) -> Result<(), String> {
        if !(self.reached.floor..=self.tried).contains(&found) {
            return Err(format!("a register has {found}; {self:?}"));
        }
        self.reached = Reached { owed: self.reached.owed, ..Reached::of(found) };
        Ok(())
    }
}

fn count_of(found: Option<&Value>) -> Result<i64, String> {
    let Some(value) = found else { return Ok(0) };
    let text = std::str::from_utf8(&value.bytes).map_err(|e| e.to_string())?;
    text.parse().map_err(|e| format!("a counter holds {text:?}: {e}"))
}
