//! What happens to keys, told to those who asked for it (notify-keyspace-events).
//!
//! Guards: an event is told once its write is durable, in the order of the writes of its key. `expired` is told within about
//! a tenth of a second of the time, for keys whose expiry was set while class `x` was on, in this run of the server, and of no more
//! than a million of them at once: the engine drops expired values without a word.

use std::collections::{BTreeSet, HashMap};

use corering_engine::{Expiry, Keyspace};
use parking_lot::Mutex;

use super::shared::Shared;

/// Keys whose expiry is watched.
const WATCHED_MAX: usize = 1 << 20;

/// The classes of events that are told, and how.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EventClasses(u16);

/// Letters as Redis has them. We have keys of strings only; the other classes are accepted, and have no events.
const LETTERS: &str = "g$lshzxetdKEmn";
/// What `A` stands for.
const ALL: &str = "g$lshzxetd";

impl EventClasses {
    pub fn parse(text: &str) -> Option<EventClasses> {
        let mut bits = 0;
        for letter in text.chars() {
            match letter {
                'A' => bits |= EventClasses::parse(ALL)?.0,
                letter => bits |= 1 << LETTERS.find(letter)?,
            }
        }
        Some(EventClasses(bits))
    }

    fn has(self, letter: char) -> bool {
        LETTERS.find(letter).is_some_and(|bit| self.0 >> bit & 1 == 1)
    }

    /// Whether anything is told at all.
    pub fn tells(self) -> bool {
        self.has('K') || self.has('E')
    }

    pub fn tells_expired(self) -> bool {
        self.tells() && self.has('x')
    }
}

impl std::fmt::Display for EventClasses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = ALL.chars().all(|letter| self.has(letter));
        if all {
            f.write_str("A")?;
        }
        for letter in LETTERS.chars().filter(|letter| self.has(*letter) && !(all && ALL.contains(*letter))) {
            write!(f, "{letter}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Set,
    SetRange,
    Append,
    IncrBy,
    IncrByFloat,
    Del,
    Expire,
    Persist,
    RenameFrom,
    RenameTo,
    CopyTo,
    Expired,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Event::Set => "set",
            Event::SetRange => "setrange",
            Event::Append => "append",
            Event::IncrBy => "incrby",
            Event::IncrByFloat => "incrbyfloat",
            Event::Del => "del",
            Event::Expire => "expire",
            Event::Persist => "persist",
            Event::RenameFrom => "rename_from",
            Event::RenameTo => "rename_to",
            Event::CopyTo => "copy_to",
            Event::Expired => "expired",
        }
    }

    fn class(self) -> char {
        match self {
            Event::Set | Event::SetRange | Event::Append | Event::IncrBy | Event::IncrByFloat => '$',
            Event::Del | Event::Expire | Event::Persist | Event::RenameFrom | Event::RenameTo | Event::CopyTo => 'g',
            Event::Expired => 'x',
        }
    }
}

/// What one step did to one key.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KeyEvents {
    pub events: Vec<Event>,
    /// The expiry that it has now; never, if it is gone.
    pub expiry: Expiry,
}

#[derive(Default)]
struct Watched {
    due_ms: HashMap<(Keyspace, Vec<u8>), u64>,
    order: BTreeSet<(u64, Keyspace, Vec<u8>)>,
}

impl Watched {
    fn set(&mut self, keyspace: Keyspace, key: &[u8], due_ms: Option<u64>) {
        let place = (keyspace, key.to_vec());
        if let Some(before) = self.due_ms.remove(&place) {
            self.order.remove(&(before, keyspace, key.to_vec()));
        }
        if let Some(due_ms) = due_ms
            && self.due_ms.len() < WATCHED_MAX
        {
            self.order.insert((due_ms, keyspace, key.to_vec()));
            self.due_ms.insert(place, due_ms);
        }
    }
}

/// The keys whose end by time will be told.
#[derive(Default)]
pub struct Expiries(Mutex<Watched>);

impl Expiries {
    fn set(&self, keyspace: Keyspace, key: &[u8], expiry: Expiry) {
        self.0.lock().set(keyspace, key, expiry.unix_ms());
    }

    /// What has one name has another.
    fn rename(&self, keyspace: Keyspace, from: &[u8], to: &[u8]) {
        let mut watched = self.0.lock();
        let due_ms = watched.due_ms.get(&(keyspace, from.to_vec())).copied();
        watched.set(keyspace, from, None);
        watched.set(keyspace, to, due_ms);
    }

    /// One that is over by now.
    pub fn take_due(&self, now_ms: u64) -> Option<(Keyspace, Vec<u8>)> {
        let mut watched = self.0.lock();
        let (due_ms, keyspace, key) = watched.order.first()?.clone();
        (due_ms <= now_ms).then(|| {
            watched.set(keyspace, &key, None);
            (keyspace, key)
        })
    }

    /// Forget a database's keys, or all.
    pub fn clear(&self, keyspace: Option<Keyspace>) {
        let mut watched = self.0.lock();
        let goes = |own: Keyspace| keyspace.is_none_or(|keyspace| keyspace == own);
        watched.due_ms.retain(|(own, _), _| !goes(*own));
        watched.order.retain(|(_, own, _)| !goes(*own));
    }
}

impl Shared {
    /// Tell what became of a key, now that it is durable.
    pub fn tell_events(&self, keyspace: Keyspace, key: &[u8], what: &KeyEvents) {
        if what.events.is_empty() {
            return;
        }
        if self.settings.load().notify_keyspace_events.tells_expired() {
            self.expiries.set(keyspace, key, what.expiry);
        }
        what.events.iter().for_each(|event| self.tell_event(keyspace, key, *event));
    }

    pub fn tell_renamed(&self, keyspace: Keyspace, from: &[u8], to: &[u8]) {
        self.expiries.rename(keyspace, from, to);
        self.tell_event(keyspace, from, Event::RenameFrom);
        self.tell_event(keyspace, to, Event::RenameTo);
    }

    pub fn tell_event(&self, keyspace: Keyspace, key: &[u8], event: Event) {
        let classes = self.settings.load().notify_keyspace_events;
        if !classes.has(event.class()) || self.pubsub.is_silent() {
            return;
        }
        let (database, name) = (keyspace.0, event.name());
        if classes.has('K') {
            let channel = [format!("__keyspace@{database}__:").as_bytes(), key].concat();
            self.publish(&channel, name.as_bytes());
        }
        if classes.has('E') {
            self.publish(format!("__keyevent@{database}__:{name}").as_bytes(), key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_as_redis_prints_them() {
        for (text, shown) in [("", ""), ("KEA", "AKE"), ("A", "A"), ("gE", "gE"), ("$x", "$x"), ("Kg$lshzxetd", "AK")] {
            assert_eq!(EventClasses::parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(EventClasses::parse("KQ"), None);
        assert!(!EventClasses::parse("A").unwrap().tells());
    }

    #[test]
    fn a_watched_key_is_due_once_and_at_its_last_time() {
        let expiries = Expiries::default();
        let (zero, one) = (Keyspace(0), Keyspace(1));
        expiries.set(zero, b"a", Expiry::at_ms(10));
        expiries.set(zero, b"a", Expiry::at_ms(20));
        expiries.set(zero, b"b", Expiry::at_ms(15));
        expiries.set(one, b"c", Expiry::at_ms(5));
        expiries.set(zero, b"b", Expiry::NEVER);
        expiries.rename(zero, b"a", b"z");
        assert_eq!(expiries.take_due(19), Some((one, b"c".to_vec())));
        assert_eq!(expiries.take_due(19), None);
        assert_eq!(expiries.take_due(20), Some((zero, b"z".to_vec())));
        expiries.set(zero, b"d", Expiry::at_ms(1));
        expiries.clear(Some(zero));
        assert_eq!(expiries.take_due(u64::MAX), None);
    }
}
