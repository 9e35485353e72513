//! What the world outside knows of a database, and whether an answer agrees with it.
//!
//! Guards: a strong read shows the last write answered, or one under way, and never goes back; a view shows exactly the commits
//! up to its number; after a crash each shard has a prefix of its writes that holds all it must, each whole or not at all.
//! Leaves out: several writers of one key (`counters.rs` has those).
//!
//! Each key has one writer and at most one write under way, so its past is a list: what recovery found, then each write
//! that was tried. An answer agrees if the key stands at one of the places that are still possible.

use std::collections::BTreeMap;
use std::rc::Rc;

use corering_engine::runtime::sim::CrashKind;
use corering_engine::{CommitTs, Expiry, Keyspace, Value};

/// What a key holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Content {
    pub bytes: Rc<[u8]>,
    pub expiry: Expiry,
}

pub type State = Option<Content>;

/// A write that was tried; all keys that it changes, change together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WriteId(u64);

#[derive(Clone, Debug)]
struct Write {
    shard: u16,
    /// A read that sees it, and its answer, promise that it is durable.
    at_sync: bool,
    keys: Vec<usize>,
    commit: Option<CommitTs>,
    /// When it was tried and answered, counted in events of the model.
    tried: u64,
    answered: Option<u64>,
}

impl Write {
    /// Whether its shard must have done it before the other.
    fn is_before(&self, other: &Write) -> bool {
        self.shard == other.shard
            && match (self.commit, other.commit) {
                (Some(a), Some(b)) => a < b,
                _ => self.answered.is_some_and(|answered| answered < other.tried),
            }
    }
}

/// One key's past. Place 0 is `base`, place `n` is after `steps[n - 1]`.
#[derive(Clone, Default, Debug)]
struct History {
    base: State,
    base_commit: Option<CommitTs>,
    steps: Vec<(WriteId, State)>,
    /// No strong read may show an earlier place.
    floor: usize,
    /// No crash may take the key to an earlier place.
    durable: usize,
}

impl History {
    fn state(&self, place: usize) -> &State {
        if place == 0 { &self.base } else { &self.steps[place - 1].1 }
    }

    fn last(&self) -> usize {
        self.steps.len()
    }
}

/// The places that a view may show of each key, narrowed by what it has shown.
#[derive(Clone, Debug)]
pub struct View {
    at: CommitTs,
    floors: Vec<usize>,
    shown: BTreeMap<usize, Vec<usize>>,
}

/// What was answered when a call was made that promises durability of all before it.
#[derive(Clone, Debug)]
pub struct Answered(Vec<usize>);

#[derive(Clone, Debug)]
pub struct Model {
    names: Vec<(Keyspace, Vec<u8>)>,
    keys: Vec<History>,
    writes: BTreeMap<WriteId, Write>,
    events: u64,
    /// For each shard of whose log the disk lost a write in this life: the places that were durable then.
    owed: BTreeMap<u16, Vec<usize>>,
}

fn shows(state: &State, now_ms: u64) -> Option<&Content> {
    state.as_ref().filter(|content| !content.expiry.is_past(now_ms))
}

impl Model {
    pub fn new(names: Vec<(Keyspace, Vec<u8>)>) -> Model {
        let keys = vec![History::default(); names.len()];
        Model { names, keys, writes: BTreeMap::new(), events: 0, owed: BTreeMap::new() }
    }

    pub fn names(&self) -> &[(Keyspace, Vec<u8>)] {
        &self.names
    }

    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    /// What the key's writer knows it to hold: everything it tried has been answered.
    pub fn current(&self, key: usize) -> &State {
        self.keys[key].state(self.keys[key].last())
    }

    /// The commit of what the key holds now, if the model knows it.
    pub fn current_commit(&self, key: usize) -> Option<CommitTs> {
        self.commit(&self.keys[key], self.keys[key].last())
    }

    fn commit(&self, history: &History, place: usize) -> Option<CommitTs> {
        match place {
            0 => history.base_commit,
            n => self.writes[&history.steps[n - 1].0].commit,
        }
    }

    /// A write is about to be submitted.
    pub fn begin(&mut self, shard: u16, at_sync: bool, changes: Vec<(usize, State)>) -> WriteId {
        let tried = self.event();
        let id = WriteId(tried);
        let keys = changes.iter().map(|(key, _)| *key).collect();
        for (key, state) in changes {
            self.keys[key].steps.push((id, state));
        }
        self.writes.insert(id, Write { shard, at_sync, keys, commit: None, tried, answered: None });
        id
    }

    /// What the key held before a write that is under way.
    pub fn before(&self, key: usize, id: WriteId) -> &State {
        self.keys[key].state(self.place_of(key, id) - 1)
    }

    /// It was answered.
    pub fn answered(&mut self, id: WriteId, commit: Option<CommitTs>) -> Result<(), String> {
        let answered = self.event();
        let write = self.writes.get_mut(&id).expect("a write that was begun");
        write.answered = Some(answered);
        for key in write.keys.clone() {
            if let Some(commit) = commit {
                self.learn(key, self.place_of(key, id), commit)?;
            }
            let place = self.place_of(key, id);
            self.raise_floor(key, place);
        }
        Ok(())
    }

    fn place_of(&self, key: usize, id: WriteId) -> usize {
        let at = self.keys[key].steps.iter().position(|(step, _)| *step == id);
        at.expect("a write stands in the past of its keys") + 1
    }

    /// It was refused and nothing was done.
    pub fn refused(&mut self, id: WriteId) -> Result<(), String> {
        let write = self.writes.remove(&id).expect("a write that was begun");
        for key in write.keys {
            let place = self.place_of(key, id);
            let history = &mut self.keys[key];
            if place <= history.floor {
                return Err(format!("{} showed a write that was then refused", self.name(key)));
            }
            history.steps.remove(place - 1);
        }
        Ok(())
    }

    /// The key was seen at or behind `place`: it never goes back, and what was to be durable when seen, is.
    fn raise_floor(&mut self, key: usize, place: usize) {
        let history = &mut self.keys[key];
        history.floor = history.floor.max(place);
        let reached = &history.steps[..history.floor];
        if let Some(at) = reached.iter().rposition(|(id, _)| self.writes[id].at_sync) {
            history.durable = history.durable.max(at + 1);
        }
    }

    fn learn(&mut self, key: usize, place: usize, commit: CommitTs) -> Result<(), String> {
        let before = (0..place).rev().find_map(|earlier| self.commit(&self.keys[key], earlier));
        if before.is_some_and(|before| before >= commit) {
            return Err(format!("{}: commit {commit} follows commit {before:?}", self.name(key)));
        }
        match place {
            0 => self.keys[key].base_commit = Some(commit),
            n => {
                let id = self.keys[key].steps[n - 1].0;
                self.writes.get_mut(&id).expect("a write that was begun").commit = Some(commit);
            }
        }
        Ok(())
    }

    fn name(&self, key: usize) -> String {
        let (keyspace, name) = &self.names[key];
        format!("key {}/{}", keyspace.0, String::from_utf8_lossy(name))
    }

    /// The places at or behind `floor` that show what was found.
    fn places(&self, key: usize, floor: usize, found: Option<&Value>, now_ms: u64) -> Vec<usize> {
        let history = &self.keys[key];
        let is_there = |place: &usize| match (shows(history.state(*place), now_ms), found) {
            (None, None) => true,
            (Some(content), Some(value)) => {
                *content.bytes == value.bytes[..]
                    && content.expiry == value.expiry
                    && self.commit(history, *place).is_none_or(|commit| commit == value.version)
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        (floor..=history.last()).filter(is_there).collect()
    }

    fn wrong(&self, key: usize, what: &str, found: Option<&Value>, now_ms: u64) -> String {
        let history = &self.keys[key];
        let tell = |state: &State| match shows(state, now_ms) {
            None => "nothing".to_owned(),
            Some(content) => tell_bytes(&content.bytes),
        };
        let past: Vec<String> = (0..=history.last())
            .map(|place| format!("{}@{:?}", tell(history.state(place)), self.commit(history, place).map(|c| c.0)))
            .collect();
        let found = found.map(|v| format!("{}@{} until {:?}", tell_bytes(&v.bytes), v.version, v.expiry.unix_ms()));
        format!(
            "{what}: {} shows {found:?}; its past, of which place {} is the first that may be shown and {} durable: {past:?}",
            self.name(key),
            history.floor,
            history.durable
        )
    }

    /// A strong read.
    pub fn read(&mut self, key: usize, found: Option<&Value>, now_ms: u64) -> Result<(), String> {
        let places = self.places(key, self.keys[key].floor, found, now_ms);
        let Some(first) = places.first() else { return Err(self.wrong(key, "a read", found, now_ms)) };
        self.raise_floor(key, *first);
        if let ([only], Some(value)) = (&places[..], found)
            && self.commit(&self.keys[key], *only).is_none()
        {
            self.learn(key, *only, value.version)?;
        }
        Ok(())
    }

    /// Everything answered so far will be in a view that is asked for now.
    pub fn view_begins(&self) -> Vec<usize> {
        self.keys.iter().map(|history| history.floor).collect()
    }

    pub fn view(&self, floors: Vec<usize>, at: CommitTs) -> View {
        View { at, floors, shown: BTreeMap::new() }
    }

    /// A read in a view: exactly the commits up to its number, and the same whenever it is asked.
    pub fn read_view(&self, view: &mut View, key: usize, found: Option<&Value>, now_ms: u64) -> Result<(), String> {
        let history = &self.keys[key];
        let up_to = |place: usize| self.commit(history, place).is_none_or(|commit| commit <= view.at);
        let none_between = |place: usize| {
            (place + 1..=history.last()).all(|later| self.commit(history, later).is_none_or(|c| c > view.at))
        };
        let mut places = self.places(key, view.floors[key], found, now_ms);
        places.retain(|place| up_to(*place) && none_between(*place));
        // What has expired since was something else before.
        if let Some(shown) = view.shown.get(&key) {
            places.retain(|place| shown.contains(place));
        }
        if places.is_empty() {
            let what = format!("a view at {} that began at place {}", view.at, view.floors[key]);
            return Err(self.wrong(key, &what, found, now_ms));
        }
        view.shown.insert(key, places);
        Ok(())
    }

    /// A call is made whose answer says that all writes answered before are durable.
    pub fn sync_begins(&self) -> Answered {
        Answered(self.view_begins())
    }

    pub fn synced(&mut self, answered: Answered) {
        for (history, floor) in self.keys.iter_mut().zip(answered.0) {
            history.durable = history.durable.max(floor);
        }
    }

    /// The disk lost a write of this shard's log, or put it elsewhere: nothing that becomes durable there from now on need be
    /// found again, for no reader can tell a lost end of a log from one that was never written.
    pub fn lied(&mut self, shard: u16) {
        let durable = self.keys.iter().map(|history| history.durable).collect();
        self.owed.entry(shard).or_insert(durable);
    }

    /// A life ended, by a death or a close. Noted at once: the next one may come before the recovery ends, and be of the milder kind.
    pub fn ended(&mut self, death: Option<CrashKind>) {
        if death == Some(CrashKind::Machine) {
            self.keys.iter_mut().for_each(|history| history.floor = history.durable);
        }
        let owed = std::mem::take(&mut self.owed);
        for (key, history) in self.keys.iter_mut().enumerate() {
            let shard = history.steps.first().map(|(id, _)| self.writes[id].shard);
            if let Some(places) = shard.and_then(|shard| owed.get(&shard)) {
                history.floor = history.floor.min(places[key]);
                history.durable = history.durable.min(places[key]);
            }
        }
    }

    /// All keys as an opening found them. From here on this is what the world knows, and no crash may take it back.
    pub fn recovered(&mut self, found: Vec<Option<Value>>, now_ms: u64) -> Result<(), String> {
        let (mut kept, mut lost) = (BTreeMap::new(), BTreeMap::new());
        for (key, value) in found.iter().enumerate() {
            let places = self.places(key, self.keys[key].floor, value.as_ref(), now_ms);
            let (Some(first), Some(last)) = (places.first(), places.last()) else {
                return Err(self.wrong(key, "after an opening", value.as_ref(), now_ms));
            };
            if let ([only], Some(value)) = (&places[..], value) {
                self.learn(key, *only, value.version)?;
            }
            let steps = &self.keys[key].steps;
            kept.extend(steps[..*first].iter().map(|(id, _)| (*id, key)));
            lost.extend(steps[*last..].iter().map(|(id, _)| (*id, key)));
        }
        for (gone, key) in &lost {
            if let Some(other) = kept.get(gone) {
                return Err(format!("one write is in {} and not in {}", self.name(*other), self.name(*key)));
            }
            let after = kept.iter().find(|(id, _)| self.writes[gone].is_before(&self.writes[id]));
            if let Some((id, other)) = after {
                let (gone, kept) = (&self.writes[gone], &self.writes[id]);
                return Err(format!(
                    "shard {} lost a write to {} and kept a later one to {}: {gone:?}, {kept:?}",
                    gone.shard,
                    self.name(*key),
                    self.name(*other)
                ));
            }
        }
        self.writes.clear();
        for (history, value) in self.keys.iter_mut().zip(found) {
            let base_commit = value.as_ref().map(|value| value.version);
            let base = value.map(|value| Content { bytes: value.bytes.into(), expiry: value.expiry });
            *history = History { base, base_commit, ..History::default() };
        }
        Ok(())
    }
}

fn tell_bytes(bytes: &[u8]) -> String {
    match bytes.get(..8) {
        Some(head) => format!("#{}+{}", u64::from_le_bytes(head.try_into().expect("8 bytes")), bytes.len()),
        None => format!("{bytes:?}"),
    }
}
