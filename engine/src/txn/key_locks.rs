//! Keys that transactions hold until they end (`get_for_update`), on the shard that owns them.
//!
//! Guards: a key has at most one holder; nobody waits in a circle, and nobody for a transaction that has ended.
//!
//! The rule is wound-wait (Rosenkrantz, Stearns, Lewis 1978): the older transaction never waits for a younger one, it takes the key
//! away from it, and the younger one is told at its next step that it has to begin again, keeping its age. So whoever waits, waits for
//! an older one, and the oldest of all always gets on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::ids::Keyspace;
use crate::pending::Completer;

/// The age of a transaction: smaller is older. Unique within an opening of the database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxNumber(pub u64);

/// What a transaction and those who stand in its way share.
#[derive(Debug)]
pub struct TxLife {
    pub number: TxNumber,
    /// When it is ended, whatever its client does.
    pub deadline_ms: u64,
    /// An older transaction took a key away from it, or its time was over while others waited.
    wounded: AtomicBool,
    /// It wants no key any more.
    ended: AtomicBool,
    lost: Mutex<Lost>,
}

/// Keys at which a transaction lost to others, and those of the same number before it.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    pub keys: BTreeSet<Key>,
    /// The last of them lost at a key, so that the next has a turn to wait for.
    pub just_now: bool,
}

/// A transaction that is run again waits for so many keys at the most, of so many bytes.
const LOST_MAX: usize = 64;
const LOST_BYTES_MAX: usize = 16 << 10;

impl TxLife {
    /// `before`: the keys of the one before it, of the same number.
    pub fn new(number: TxNumber, deadline_ms: u64, before: BTreeSet<Key>) -> Arc<TxLife> {
        let (wounded, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let lost = Mutex::new(Lost { keys: before, just_now: false });
        Arc::new(TxLife { number, deadline_ms, wounded, ended, lost })
    }

    /// Others were faster at a key.
    pub fn lose(&self, keyspace: Keyspace, key: &[u8]) {
        if key.len() > LOST_BYTES_MAX {
            return;
        }
        let mut lost = self.lost.lock();
        lost.just_now = true;
        lost.keys.insert((keyspace, key.into()));
        let too_many = |keys: &BTreeSet<Key>| {
            keys.len() > LOST_MAX || keys.iter().map(|(_, key)| key.len()).sum::<usize>() > LOST_BYTES_MAX
        };
        while too_many(&lost.keys) {
            // The newest is the one that is wanted; of the others, any.
            let other = lost.keys.iter().find(|(of, name)| (*of, &name[..]) != (keyspace, key)).cloned();
            let Some(other) = other else { return };
            lost.keys.remove(&other);
        }
    }

    pub fn lost(&self) -> Lost {
        self.lost.lock().clone()
    }

    pub fn is_wounded(&self) -> bool {
        self.wounded.load(Ordering::SeqCst)
    }

    /// An older one takes this key, or its time is over.
    fn wound(&self, (keyspace, key): &Key) {
        self.lose(*keyspace, key);
        self.wounded.store(true, Ordering::SeqCst);
    }

    /// Keys that it asked for and was not given yet are not given to it any more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// What it was given is still its own.
    fn holds(&self) -> bool {
        !self.is_wounded() && !self.has_ended()
    }
}

pub type Key = (Keyspace, Box<[u8]>);

struct Held {
    by: Arc<TxLife>,
    /// The oldest is served first.
    waiting: BTreeMap<TxNumber, (Arc<TxLife>, Completer<()>)>,
}

/// See the module.
#[derive(Default)]
pub struct KeyLocks {
    held: HashMap<Key, Held>,
    of: HashMap<TxNumber, Vec<Key>>,
}

/// Who is to be told that a key is theirs.
pub struct Grant {
    pub key: Key,
    pub reply: Completer<()>,
}

impl KeyLocks {
    /// Take a key, or wait for it. Gives back whom to tell.
    pub fn acquire(&mut self, keyspace: Keyspace, key: &[u8], life: &Arc<TxLife>, reply: Completer<()>) -> Vec<Grant> {
        let full: Key = (keyspace, key.into());
        let Some(held) = self.held.get_mut(&full) else {
            self.enter(full.clone(), life);
            return vec![Grant { key: full, reply }];
        };
        if held.by.number == life.number {
            // Of an attempt before, perhaps.
            held.by = Arc::clone(life);
            return vec![Grant { key: full, reply }];
        }
        self.of.entry(life.number).or_default().push(full.clone());
        held.waiting.insert(life.number, (Arc::clone(life), reply));
        if held.by.number < life.number && !held.by.has_ended() {
            return Vec::new();
        }
        // The younger holder gives way, and one that has ended. Its other keys go when it hears of it, or when they are wanted.
        self.take_away(&full)
    }

    fn take_away(&mut self, key: &Key) -> Vec<Grant> {
        let Some(held) = self.held.get(key) else { return Vec::new() };
        held.by.wound(key);
        let loser = held.by.number;
        if let Some(keys) = self.of.get_mut(&loser) {
            keys.retain(|own| own != key);
        }
        self.pass_on(key)
    }

    /// When the first holder that others wait for has to end.
    pub fn next_due_ms(&self) -> Option<u64> {
        let awaited = self.held.values().filter(|held| !held.waiting.is_empty());
        awaited.map(|held| held.by.deadline_ms).min()
    }

    /// Holders whose time is over give way to those who wait.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Grant> {
        let is_over = |held: &Held| held.by.deadline_ms <= now_ms || held.by.has_ended();
        let is_due = |held: &Held| is_over(held) && !held.waiting.is_empty();
        let due: Vec<Key> = self.held.iter().filter(|(_, held)| is_due(held)).map(|(key, _)| key.clone()).collect();
        due.iter().flat_map(|key| self.take_away(key)).collect()
    }

    fn enter(&mut self, key: Key, life: &Arc<TxLife>) {
        self.of.entry(life.number).or_default().push(key.clone());
        self.held.insert(key, Held { by: Arc::clone(life), waiting: BTreeMap::new() });
    }

    /// The key has no holder any more: the oldest of those who wait gets it.
    fn pass_on(&mut self, key: &Key) -> Vec<Grant> {
        let Some(held) = self.held.get_mut(key) else { return Vec::new() };
        match held.waiting.pop_first() {
            Some((_, (life, reply))) => {
                held.by = life;
                vec![Grant { key: key.clone(), reply }]
            }
            None => {
                self.held.remove(key);
                Vec::new()
            }
        }
    }

    /// A transaction has ended: what it held is passed on, what it waited for is not waited for any more.
    pub fn end(&mut self, number: TxNumber) -> Vec<Grant> {
        let mut granted = Vec::new();
        for key in self.of.remove(&number).unwrap_or_default() {
            let Some(held) = self.held.get_mut(&key) else { continue };
            if held.by.number == number {
                granted.append(&mut self.pass_on(&key));
            } else {
                held.waiting.remove(&number);
            }
        }
        granted
    }

    /// Those who wait, who do so no more.
    pub fn take_waits(&mut self) -> Vec<Completer<()>> {
        let waiting = self.held.values_mut().map(|held| std::mem::take(&mut held.waiting));
        waiting.flat_map(BTreeMap::into_values).map(|(_, reply)| reply).collect()
    }

    /// Whether somebody else holds the key.
    pub fn is_held_by_other(&self, keyspace: Keyspace, key: &[u8], number: TxNumber) -> bool {
        if self.held.is_empty() {
            return false;
        }
        self.held.get(&(keyspace, Box::from(key))).is_some_and(|held| held.by.number != number && held.by.holds())
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pending::{Pending, pending};

    const KS: Keyspace = Keyspace(0);

    fn ask(locks: &mut KeyLocks, key: &[u8], life: &Arc<TxLife>) -> Pending<()> {
        let (reply, answer) = pending(None);
        for granted in locks.acquire(KS, key, life, reply) {
            granted.reply.complete(Ok(()));
        }
        answer
    }

    fn end(locks: &mut KeyLocks, life: &Arc<TxLife>) {
        for granted in locks.end(life.number) {
            granted.reply.complete(Ok(()));
        }
    }

    fn lives() -> [Arc<TxLife>; 3] {
        [1, 2, 3].map(|n| TxLife::new(TxNumber(n), 1000 * n, BTreeSet::new()))
    }

    #[test]
    fn the_younger_waits_and_the_oldest_of_those_is_served_first() {
        let (mut locks, [old, middle, young]) = (KeyLocks::default(), lives());
        assert!(ask(&mut locks, b"k", &old).is_ready());
        let waits = [ask(&mut locks, b"k", &young), ask(&mut locks, b"k", &middle)];
        assert!(!waits[0].is_ready() && !waits[1].is_ready());
        end(&mut locks, &old);
        assert!(!waits[0].is_ready() && waits[1].is_ready());
        end(&mut locks, &middle);
        assert!(waits[0].is_ready());
        end(&mut locks, &young);
        assert!(locks.is_empty() && !old.is_wounded() && !middle.is_wounded() && !young.is_wounded());
    }

    #[test]
    fn the_older_takes_the_key_from_the_younger_at_once() {
        let (mut locks, [old, _, young]) = (KeyLocks::default(), lives());
        assert!(ask(&mut locks, b"k", &young).is_ready());
        assert!(ask(&mut locks, b"k", &old).is_ready());
        assert!(young.is_wounded() && !old.is_wounded());
        // The end of the loser takes nothing from the winner.
        end(&mut locks, &young);
        assert!(locks.is_held_by_other(KS, b"k", young.number));
        end(&mut locks, &old);
        assert!(locks.is_empty());
    }

    #[test]
    fn two_that_want_each_others_keys_do_not_wait_for_each_other() {
        let (mut locks, [old, young, _]) = (KeyLocks::default(), lives());
        assert!(ask(&mut locks, b"a", &old).is_ready());
        assert!(ask(&mut locks, b"b", &young).is_ready());
        let young_waits = ask(&mut locks, b"a", &young);
        assert!(!young_waits.is_ready());
        assert!(ask(&mut locks, b"b", &old).is_ready());
        assert!(young.is_wounded());
        end(&mut locks, &young);
        // Its wait was given up with it.
        end(&mut locks, &old);
        assert!(locks.is_empty());
        assert!(young_waits.wait().is_err());
    }

    #[test]
    fn a_holder_that_never_ends_holds_nobody_up_beyond_its_time() {
        let (mut locks, [old, young, _]) = (KeyLocks::default(), lives());
        assert!(ask(&mut locks, b"k", &old).is_ready());
        assert_eq!(locks.next_due_ms(), None);
        let waits = ask(&mut locks, b"k", &young);
        assert_eq!(locks.next_due_ms(), Some(1000));
        assert!(locks.expire(999).is_empty());
        locks.expire(1000).into_iter().for_each(|granted| granted.reply.complete(Ok(())));
        assert!(waits.is_ready() && old.is_wounded() && !young.is_wounded());
    }

    #[test]
    fn one_that_ended_without_a_word_keeps_nothing_from_who_asks_then() {
        let (mut locks, [old, middle, young]) = (KeyLocks::default(), lives());
        assert!(ask(&mut locks, b"k", &old).is_ready());
        let waits = ask(&mut locks, b"k", &young);
        old.end();
        assert!(!locks.is_held_by_other(KS, b"k", young.number));
        // Those who asked before come first if they are older.
        assert!(ask(&mut locks, b"k", &middle).is_ready() && !waits.is_ready());
        end(&mut locks, &middle);
        assert!(waits.is_ready());
        // Run again, it is wounded as any other.
        let again = TxLife::new(young.number, 3000, BTreeSet::new());
        assert!(ask(&mut locks, b"k", &again).is_ready());
        assert!(ask(&mut locks, b"k", &TxLife::new(TxNumber(0), 3000, BTreeSet::new())).is_ready());
        assert!(again.is_wounded() && !young.is_wounded());
    }

    #[test]
    fn what_was_lost_last_is_never_forgotten_for_what_was_lost_before() {
        let life = TxLife::new(TxNumber(1), 1000, BTreeSet::new());
        assert!(!life.lost().just_now);
        for i in 0..200_u32 {
            life.lose(KS, &i.to_be_bytes());
            let lost = life.lost();
            assert!(lost.just_now && lost.keys.len() <= LOST_MAX && lost.keys.contains(&(KS, i.to_be_bytes().into())));
        }
        life.lose(KS, &vec![7; LOST_BYTES_MAX]);
        assert_eq!(life.lost().keys.len(), 1);
        life.lose(KS, &vec![7; LOST_BYTES_MAX + 1]);
        assert_eq!(life.lost().keys.len(), 1);
        let again = TxLife::new(TxNumber(1), 1000, life.lost().keys);
        assert!(!again.lost().just_now && again.lost().keys.len() == 1);
    }

    #[test]
    fn a_key_may_be_taken_again_by_its_holder() {
        let (mut locks, [old, ..]) = (KeyLocks::default(), lives());
        assert!(ask(&mut locks, b"k", &old).is_ready());
        assert!(ask(&mut locks, b"k", &old).is_ready());
        assert!(!locks.is_held_by_other(KS, b"k", old.number));
        end(&mut locks, &old);
        assert!(locks.is_empty());
    }
}
