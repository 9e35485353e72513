//! Keys that go with their sessions, and keys made for their numbers, as the world outside knows them.
//!
//! Guards: such a key is there as long as its session may be counted on, over deaths too if it was durable, and is never seen once the
//! end of its session was answered; numbers never come twice, and those of one prefix grow, over all lives.
//!
//! Each key has one writer, whose writes are a list; a read agrees if the key stands at a place that is still possible.

use std::collections::{BTreeMap, BTreeSet};

use corering_engine::runtime::sim::CrashKind;
use corering_engine::{Keyspace, Made, SessionId, Value};

use super::locks::Locks;
use super::model::number_of;

pub const OWNED: Keyspace = Keyspace(4);
pub const PREFIXES: [&[u8]; 2] = [b"numbered:", b"{1}-"];
const DIGITS: usize = 20;

/// What one write left: nothing, or a value that is told by its number, and whose it is.
#[derive(Clone, Copy, Default, Debug)]
pub struct Left {
    pub number: Option<u64>,
    pub owner: Option<SessionId>,
    pub at_sync: bool,
}

#[derive(Clone, Debug)]
struct Past {
    /// The first is what the last opening found.
    steps: Vec<Left>,
    /// No read may show an earlier one.
    floor: usize,
    /// No crash may take the key to an earlier one.
    durable: usize,
    /// What was durable when the disk lost a write of a log in this life.
    owed: Option<usize>,
}

impl Past {
    fn of(found: Left) -> Past {
        Past { steps: vec![found], floor: 0, durable: 0, owed: None }
    }

    fn raise_floor(&mut self, place: usize) {
        self.floor = self.floor.max(place);
        let at_sync = self.steps[..=self.floor].iter().rposition(|left| left.at_sync);
        self.durable = self.durable.max(at_sync.unwrap_or(0));
    }
}

#[derive(Clone, Default, Debug)]
pub struct Owned {
    keys: BTreeMap<Vec<u8>, Past>,
    numbers: BTreeSet<u64>,
    last_numbers: [u64; PREFIXES.len()],
    /// The disk lost a write of a log in this life: nothing that was made since need be found again.
    lied: bool,
}

impl Owned {
    pub fn names(&self) -> Vec<Vec<u8>> {
        self.keys.keys().cloned().collect()
    }

    /// A write is about to be submitted.
    pub fn begin(&mut self, key: &[u8], left: Left) {
        let owed = self.lied.then_some(0);
        let new = || Past { owed, ..Past::of(Left::default()) };
        self.keys.entry(key.to_vec()).or_insert_with(new).steps.push(left);
    }

    fn past(&mut self, key: &[u8]) -> &mut Past {
        self.keys.get_mut(key).expect("a key that was written")
    }

    /// The key's last write was answered.
    pub fn answered(&mut self, key: &[u8]) {
        let past = self.past(key);
        past.raise_floor(past.steps.len() - 1);
    }

    /// The key's last write was refused and did nothing.
    pub fn refused(&mut self, key: &[u8]) -> Result<(), String> {
        let past = self.past(key);
        past.steps.pop();
        if past.floor < past.steps.len() {
            Ok(())
        } else {
            Err(format!("{} showed a write that was refused", shown(key)))
        }
    }

    /// The largest number given so far.
    pub fn last_number(&self, prefix: usize) -> u64 {
        self.last_numbers[prefix]
    }

    /// A key was made, asked for when `before` was the last number of its prefix.
    pub fn made(&mut self, prefix: usize, made: &Made, before: u64, left: Left) -> Result<(), String> {
        let digits = made.key.strip_prefix(PREFIXES[prefix]).filter(|digits| digits.len() == DIGITS);
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let Some(number) = number else { return Err(format!("{:?} is no numbered key", made.key)) };
        if number <= before || !self.numbers.insert(number) || number >= made.version.0 {
            return Err(format!("number {number} of commit {} was given after {before}", made.version));
        }
        self.last_numbers[prefix] = number.max(self.last_numbers[prefix]);
        self.begin(&made.key, left);
        self.answered(&made.key);
        Ok(())
    }

    /// A read of a key.
    pub fn read(&mut self, key: &[u8], found: Option<&Value>, locks: &Locks, now_ms: u64) -> Result<(), String> {
        let Some(past) = self.keys.get_mut(key) else { return Ok(()) };
        let number = found.map(|value| number_of(&value.bytes));
        let wrong = |past: &Past| Err(format!("at {now_ms} {} shows {number:?}: {past:?}", shown(key)));
        match number {
            None => {
                let may_be_gone = |left: &Left| match (left.number, left.owner) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(_), Some(owner)) => locks.may_be_over(owner, now_ms),
                };
                if past.steps[past.floor..].iter().any(may_be_gone) { Ok(()) } else { wrong(past) }
            }
            Some(number) => {
                let place = past.steps.iter().position(|left| left.number == Some(number));
                let Some(place) = place.filter(|place| *place >= past.floor) else { return wrong(past) };
                if past.steps[place].owner.is_some_and(|owner| locks.has_ended(owner)) {
                    return Err(format!("{} is there, and the end of its session was answered: {past:?}", shown(key)));
                }
                past.raise_floor(place);
                Ok(())
            }
        }
    }

    /// Whose the key is, if it has this value.
    pub fn owner(&self, key: &[u8], number: u64) -> Option<SessionId> {
        self.keys.get(key)?.steps.iter().find(|left| left.number == Some(number))?.owner
    }

    /// How far each key is when a call is made that promises durability of all before it.
    pub fn sync_begins(&self) -> BTreeMap<Vec<u8>, usize> {
        self.keys.iter().map(|(key, past)| (key.clone(), past.floor)).collect()
    }

    pub fn synced(&mut self, floors: BTreeMap<Vec<u8>, usize>) {
        for (key, floor) in floors {
            let past = self.past(&key);
            past.durable = past.durable.max(floor);
        }
    }

    /// The disk lost a write of a log.
    pub fn lied(&mut self, astray: bool) {
        self.lied = true;
        for past in self.keys.values_mut() {
            let owed = past.owed.get_or_insert(past.durable);
            *owed = if astray { 0 } else { *owed };
        }
    }

    pub fn ended(&mut self, death: Option<CrashKind>) {
        self.lied = false;
        for past in self.keys.values_mut() {
            if death == Some(CrashKind::Machine) {
                past.floor = past.durable;
            }
            if let Some(owed) = past.owed.take() {
                (past.floor, past.durable) = (past.floor.min(owed), past.durable.min(owed));
            }
        }
    }

    /// A key as an opening found it.
    pub fn recovered(&mut self, key: &[u8], found: Option<&Value>, locks: &Locks, now_ms: u64) -> Result<(), String> {
        self.read(key, found, locks, now_ms)?;
        let past = self.past(key);
        let number = found.map(|value| number_of(&value.bytes));
        let left = past.steps.iter().find(|left| left.number == number && number.is_some());
        *past = Past::of(left.copied().unwrap_or_default());
        Ok(())
    }
}

fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
