//! What the world outside knows of a database, and whether an answer agrees with it.
//!
//! Guards: a strong read shows the last write answered, or one under way, and never goes back; a view shows exactly the commits
//! up to its number, each with all its keys; so does what a commit read, of the numbers before its own; after a crash each shard
//! has a prefix of its writes that holds all it must, each whole on all its shards or not at all.
//! Leaves out: several writers of one key (`counters.rs` has those).
//!
//! Each key has one writer and at most one write under way, so its past is a list: what recovery found, then each write
//! that was tried. An answer agrees if the key stands at one of the places that are still possible.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corering_engine::runtime::sim::CrashKind;
use corering_engine::{CommitTs, Expiry, Keyspace, Value};

/// What a key holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Content {
    pub bytes: Rc<[u8]>,
    pub expiry: Expiry,
}

impl Content {
    /// The number by which it can be told from all others.
    pub fn number(&self) -> u64 {
        number_of(&self.bytes)
    }
}

/// The number in a value that a client wrote.
pub fn number_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
}

pub type State = Option<Content>;

/// A write that was tried; all keys that it changes, change together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WriteId(u64);

#[derive(Clone, Debug)]
struct Write {
    /// All that it changes keys of, ascending.
    shards: Vec<u16>,
    /// A read that sees it, and its answer, promise that it is durable.
    at_sync: bool,
    keys: Vec<usize>,
    commit: Option<CommitTs>,
    /// When it was tried and answered, counted in events of the model.
    tried: u64,
    answered: Option<u64>,
    /// It was answered that nobody knows, and nothing of it was seen so far.
    unsure: bool,
}

impl Write {
    /// Whether a shard of both must have done it before the other.
    fn is_before(&self, other: &Write) -> bool {
        self.shards.iter().any(|shard| other.shards.contains(shard))
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
    /// None: it is one state, and nobody says which.
    at: Option<CommitTs>,
    floors: Vec<usize>,
    shown: BTreeMap<usize, Vec<usize>>,
    /// Whether a write is in it, as far as that was seen.
    holds: BTreeMap<WriteId, bool>,
}

/// What was answered when a call was made that promises durability of all before it.
#[derive(Clone, Debug)]
pub struct Answered(Vec<usize>);

#[derive(Clone, Debug)]
pub struct Model {
    names: Vec<(Keyspace, Vec<u8>)>,
    keys: Vec<History>,
    writes: BTreeMap<WriteId, Write>,
    /// Of each key, the places that views at a number may have shown. Commits that are learnt later must agree.
    observed: BTreeMap<usize, Vec<(CommitTs, Vec<usize>)>>,
    events: u64,
    /// For each shard of whose log the disk lost a write in this life: the places that were durable then.
    owed: BTreeMap<u16, Vec<usize>>,
    /// Those shards, once the life has ended: the end of their logs may be gone.
    ends_lost: BTreeSet<u16>,
}

fn shows(state: &State, now_ms: u64) -> Option<&Content> {
    state.as_ref().filter(|content| !content.expiry.is_past(now_ms))
}

impl Model {
    pub fn new(names: Vec<(Keyspace, Vec<u8>)>) -> Model {
        let keys = vec![History::default(); names.len()];
        Model {
            names,
            keys,
            writes: BTreeMap::new(),
            observed: BTreeMap::new(),
            events: 0,
            owed: BTreeMap::new(),
            ends_lost: BTreeSet::new(),
        }
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
    pub fn begin(&mut self, shards: Vec<u16>, at_sync: bool, changes: Vec<(usize, State)>) -> WriteId {
        let tried = self.event();
        let id = WriteId(tried);
        let keys = changes.iter().map(|(key, _)| *key).collect();
        for (key, state) in changes {
            self.keys[key].steps.push((id, state));
        }
        let write = Write { shards, at_sync, keys, commit: None, tried, answered: None, unsure: false };
        self.writes.insert(id, write);
        id
    }

    /// What the key held before a write that is under way.
    pub fn before(&self, key: usize, id: WriteId) -> &State {
        self.keys[key].state(self.place_of(key, id) - 1)
    }

    /// Whether a write that is under way is durable when it is seen, and what it changes.
    pub fn changes_of(&self, id: WriteId) -> (bool, Vec<(usize, State)>) {
        let write = &self.writes[&id];
        let state = |key: &usize| (*key, self.keys[*key].state(self.place_of(*key, id)).clone());
        (write.at_sync, write.keys.iter().map(state).collect())
    }

    /// A watch told of a write: whoever reads from now on sees it, or what came behind it.
    pub fn told(&mut self, name: &(Keyspace, Vec<u8>), bytes: &[u8], at: CommitTs) -> Result<(), String> {
        let Some(key) = self.names.iter().position(|other| other == name) else { return Ok(()) };
        let of_step = |(_, state): &(WriteId, State)| state.as_ref().is_some_and(|c| c.number() == number_of(bytes));
        // Of what an earlier life wrote nothing is new.
        let Some(step) = self.keys[key].steps.iter().position(of_step) else { return Ok(()) };
        let place = step + 1;
        if self.keys[key].state(place).as_ref().is_none_or(|content| *content.bytes != *bytes) {
            return Err(format!("{}: a watch told of {}, written otherwise", self.name(key), tell_bytes(bytes)));
        }
        match self.commit(&self.keys[key], place) {
            Some(commit) if commit != at => {
                return Err(format!("{}: a watch told of commit {commit} as of {at}", self.name(key)));
            }
            Some(_) => {}
            None => {
                self.learn(key, place, at)?;
                self.agrees_with_what_was_observed(key)?;
            }
        }
        self.seen(key, &[place]);
        Ok(())
    }

    /// It was answered.
    pub fn answered(&mut self, id: WriteId, commit: Option<CommitTs>) -> Result<(), String> {
        let answered = self.event();
        let write = self.writes.get_mut(&id).expect("a write that was begun");
        write.answered = Some(answered);
        let keys = write.keys.clone();
        for key in &keys {
            let place = self.place_of(*key, id);
            if let Some(commit) = commit {
                self.learn(*key, place, commit)?;
            }
            self.raise_floor(*key, place);
        }
        keys.into_iter().try_for_each(|key| self.agrees_with_what_was_observed(key))
    }

    /// It was answered that nobody knows what became of it.
    /// The keys of which nobody knows what they hold.
    pub fn unsure(&mut self, id: WriteId) -> Vec<usize> {
        let write = self.writes.get_mut(&id).expect("a write that was begun");
        write.unsure = true;
        write.keys.clone()
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
            for (_, places) in self.observed.entry(key).or_default() {
                places.retain(|observed| *observed != place);
            }
            self.agrees_with_what_was_observed(key)?;
        }
        Ok(())
    }

    /// The key was seen at or behind `place`: it never goes back, and what was to be durable when seen, is.
    fn raise_floor(&mut self, key: usize, place: usize) {
        let history = &mut self.keys[key];
        history.floor = history.floor.max(place);
        let reached = &history.steps[..history.floor];
        let is_promised = |write: &Write| write.at_sync && !write.unsure;
        if let Some(at) = reached.iter().rposition(|(id, _)| is_promised(&self.writes[id])) {
            history.durable = history.durable.max(at + 1);
        }
    }

    /// One of these places of the key was seen: the write there became visible with all its keys at one moment.
    fn seen(&mut self, key: usize, places: &[usize]) {
        let Some(first) = places.first().copied() else { return };
        if let Some((id, _)) = first.checked_sub(1).map(|step| self.keys[key].steps[step].clone()) {
            let write = self.writes.get_mut(&id).expect("a write that was begun");
            if places.len() == 1 {
                write.unsure = false;
            }
            if !write.unsure {
                for other in write.keys.clone() {
                    let place = self.place_of(other, id);
                    self.raise_floor(other, place);
                }
            }
        }
        self.raise_floor(key, first);
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
        let write = |place: usize| place.checked_sub(1).map(|step| history.steps[step].0);
        let past: Vec<String> = (0..=history.last())
            .map(|place| {
                let commit = self.commit(history, place).map(|c| c.0);
                format!("{}@{commit:?} by {:?}", tell(history.state(place)), write(place))
            })
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
        if places.is_empty() {
            return Err(self.wrong(key, "a read", found, now_ms));
        }
        self.seen(key, &places);
        if let ([only], Some(value)) = (&places[..], found)
            && self.commit(&self.keys[key], *only).is_none()
        {
            self.learn(key, *only, value.version)?;
            self.agrees_with_what_was_observed(key)?;
        }
        Ok(())
    }

    /// Everything answered so far will be in a view that is asked for now.
    pub fn view_begins(&self) -> Vec<usize> {
        self.keys.iter().map(|history| history.floor).collect()
    }

    /// `at`: its number, if that is known.
    pub fn view(&self, floors: Vec<usize>, at: Option<CommitTs>) -> View {
        View { at, floors, shown: BTreeMap::new(), holds: BTreeMap::new() }
    }

    /// What a commit read, if nothing came between its reads and its number.
    pub fn view_before(&self, floors: Vec<usize>, commit: CommitTs) -> View {
        self.view(floors, Some(CommitTs(commit.0.saturating_sub(1))))
    }

    /// Whether the key stands at this place for whoever sees all commits up to a number and no others.
    fn is_place_at(&self, key: usize, place: usize, at: CommitTs) -> bool {
        let history = &self.keys[key];
        self.commit(history, place).is_none_or(|commit| commit <= at)
            && (place + 1..=history.last()).all(|later| self.commit(history, later).is_none_or(|c| c > at))
    }

    fn agrees_with_what_was_observed(&self, key: usize) -> Result<(), String> {
        let Some(observed) = self.observed.get(&key) else { return Ok(()) };
        match observed.iter().find(|(at, places)| !places.iter().any(|place| self.is_place_at(key, *place, *at))) {
            None => Ok(()),
            Some((at, places)) => Err(format!(
                "at {at}, {} was seen at places {places:?} of its past, and what was learnt since says otherwise: {:?}",
                self.name(key),
                (0..=self.keys[key].last()).map(|place| self.commit(&self.keys[key], place)).collect::<Vec<_>>()
            )),
        }
    }

    /// A read in a view: exactly the commits up to its number, each with all its keys, and the same whenever it is asked.
    pub fn read_view(&mut self, view: &mut View, key: usize, found: Option<&Value>, now_ms: u64) -> Result<(), String> {
        let mut places = self.places(key, view.floors[key], found, now_ms);
        if let Some(at) = view.at {
            places.retain(|place| self.is_place_at(key, *place, at));
        }
        // What has expired since was something else before.
        if let Some(shown) = view.shown.get(&key) {
            places.retain(|place| shown.contains(place));
        }
        let steps = &self.keys[key].steps;
        for (before, (id, _)) in steps.iter().enumerate() {
            if let Some(is_in) = view.holds.get(id) {
                places.retain(|place| (*place > before) == *is_in);
            }
        }
        if places.is_empty() {
            let what =
                format!("a view at {:?} that began at place {}, with {:?}", view.at, view.floors[key], view.holds);
            return Err(self.wrong(key, &what, found, now_ms));
        }
        for (before, (id, _)) in steps.iter().enumerate() {
            let is_in = if self.writes[id].unsure {
                // It may have been overwritten without ever having been done.
                places == [before + 1]
            } else {
                places.iter().all(|place| *place > before)
            };
            if is_in || places.iter().all(|place| *place <= before) {
                view.holds.insert(*id, is_in);
            }
        }
        if let Some(at) = view.at {
            let observed = self.observed.entry(key).or_default();
            if observed.last().is_none_or(|(last, seen)| (*last, seen) != (at, &places)) {
                observed.push((at, places.clone()));
            }
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
    /// found again, for no reader can tell a lost end of a log from one that was never written. Nor what was before, if one that went
    /// astray may have come down on the last of it.
    pub fn lied(&mut self, shard: u16, astray: bool) {
        let durable = || self.keys.iter().map(|history| history.durable).collect();
        let owed = self.owed.entry(shard).or_insert_with(durable);
        if astray {
            owed.fill(0);
        }
    }

    /// A life ended, by a death or a close. Noted at once: the next one may come before the recovery ends, and be of the milder kind.
    pub fn ended(&mut self, death: Option<CrashKind>) {
        if death == Some(CrashKind::Machine) {
            self.keys.iter_mut().for_each(|history| history.floor = history.durable);
        }
        let owed = std::mem::take(&mut self.owed);
        self.ends_lost.extend(owed.keys());
        // What fell with a lost part on one shard takes along what stood behind it on others: also a write under a token, or of a key
        // of a session, of which this model knows nothing.
        for (key, history) in self.keys.iter_mut().enumerate() {
            for places in owed.values() {
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
            // What nobody knew of may have been overwritten without ever having been done.
            let is_sure = |at: usize| !self.writes[&steps[at].0].unsure || places == [at + 1];
            kept.extend((0..*first).filter(|at| is_sure(*at)).map(|at| (steps[at].0, key)));
            lost.extend(steps[*last..].iter().map(|(id, _)| (*id, key)));
        }
        // If its part was at the end of a log that the disk lost, and the others have theirs in tables, nobody can tell.
        let cannot_tell =
            |write: &Write| write.shards.len() > 1 && write.shards.iter().any(|shard| self.ends_lost.contains(shard));
        for (gone, key) in lost.iter().filter(|(gone, _)| !cannot_tell(&self.writes[gone])) {
            if let Some(other) = kept.get(gone) {
                return Err(format!("one write is in {} and not in {}", self.name(*other), self.name(*key)));
            }
            // It may be kept on another shard, and be lost with this one on theirs.
            let is_kept_behind = |(id, _): &(&WriteId, &usize)| {
                self.writes[gone].is_before(&self.writes[*id]) && !cannot_tell(&self.writes[*id])
            };
            if let Some((id, other)) = kept.iter().find(is_kept_behind) {
                let (gone, kept) = (&self.writes[gone], &self.writes[id]);
                return Err(format!(
                    "of shards {:?} one lost a write to {} and kept a later one to {}: {gone:?}, {kept:?}",
                    gone.shards,
                    self.name(*key),
                    self.name(*other)
                ));
            }
        }
        self.writes.clear();
        self.observed.clear();
        self.ends_lost.clear();
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
