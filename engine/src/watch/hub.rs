//! Where what the shards show becomes one order: merged by commit, kept for a while, and handed to the watches that it concerns.
//!
//! Guards: a commit is handed out when every shard has shown everything up to it, so that nothing older can come; a watch joins
//! at a place that memory holds everything after.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::expiry::{Expiries, Place, Survey};
use super::feed::{Part, Shown};
use super::index::Index;
use super::queue::Queue;
use super::{Change, WatchEvent};
use crate::canary::{Canary, planted};
use crate::error::Error;
use crate::event::Event;
use crate::ids::{CommitTs, Expiry, ShardId};
use crate::shard::ShardView;
use crate::sync::Mutex;
use crate::txn::timestamps::Timestamps;

/// Bytes of past changes in memory.
const HISTORY_MAX: u64 = 16 << 20;

pub struct Hub {
    timestamps: Arc<Timestamps>,
    shown: Vec<Shown>,
    /// The dispatcher must look.
    pub stir: Event,
    /// Everything up to here was handed to whom it concerns.
    frontier: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts the times at which the feeds were taken away.
    round: u64,
    on: bool,
    live: BTreeMap<u64, Arc<Queue>>,
    index: Index,
    next_id: u64,
    /// Watches that read the log, and those of them whose reading has not begun.
    catching_up: BTreeMap<u64, Arc<Queue>>,
    begun: Vec<Backlog>,
    history: VecDeque<WatchEvent>,
    history_bytes: u64,
    /// The history holds everything after this.
    since: CommitTs,
    /// When watched keys end, and the watches that joined and whose keys were not looked through yet.
    expiries: Expiries,
    surveys: Vec<Survey>,
    ended: Option<Error>,
}

/// A watch from further back than memory.
pub struct Backlog {
    pub id: u64,
    pub queue: Arc<Queue>,
    pub from: CommitTs,
}

impl Hub {
    pub fn new(timestamps: Arc<Timestamps>, shards: u16) -> Hub {
        Hub {
            timestamps,
            shown: (0..shards).map(|_| Shown::default()).collect(),
            stir: Event::default(),
            frontier: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    pub fn shown(&self, shard: ShardId) -> &Shown {
        &self.shown[shard.index()]
    }

    pub fn frontier(&self) -> CommitTs {
        CommitTs(self.frontier.load(Ordering::Acquire))
    }

    /// The last number given out.
    pub fn last(&self) -> CommitTs {
        self.timestamps.last()
    }

    /// For which round the feeds are to be put up before somebody enters.
    pub fn round(&self) -> u64 {
        self.state.lock().round
    }

    /// Let a watch in, once every shard has a feed of `round`: live if memory holds what it wants, else to read the log. `None`: the
    /// feeds are gone meanwhile.
    pub fn enter(&self, round: u64, from: Option<CommitTs>, make: impl FnOnce(CommitTs) -> Queue) -> Option<Entered> {
        let mut state = self.state.lock();
        if state.round != round {
            return None;
        }
        let last = self.timestamps.last();
        if !state.on {
            // Every commit drawn from here on is noted by its shard.
            state.on = true;
            state.since = last;
            self.frontier.store(last.0, Ordering::Release);
        }
        if let Some(error) = &state.ended {
            return Some(Err(error.clone()));
        }
        let from = from.unwrap_or(last);
        if from > last {
            return Some(Err(Error::invalid(format!(
                "a watch from commit {from}, which is behind the last one, {last}"
            ))));
        }
        let queue = Arc::new(make(from));
        let id = state.next_id;
        state.next_id += 1;
        if !state.join(id, &queue, from) {
            state.catching_up.insert(id, Arc::clone(&queue));
            state.begun.push(Backlog { id, queue: Arc::clone(&queue), from });
        }
        drop(state);
        self.stir.set();
        Some(Ok((id, queue)))
    }

    /// A watch has come as far as `at`. False: that is further back than memory.
    pub fn join(&self, id: u64, queue: &Arc<Queue>, at: CommitTs) -> bool {
        let mut state = self.state.lock();
        let joined = state.join(id, queue, at);
        if joined {
            state.catching_up.remove(&id);
            drop(state);
            self.stir.set();
        }
        joined
    }

    /// A watch failed to catch up.
    pub fn give_up(&self, id: u64, queue: &Queue, error: Error) {
        self.state.lock().catching_up.remove(&id);
        queue.end(error);
        queue.signal();
    }

    pub fn take_begun(&self) -> Vec<Backlog> {
        std::mem::take(&mut self.state.lock().begun)
    }

    /// Its watcher is gone.
    pub fn leave(&self, id: u64) {
        let mut state = self.state.lock();
        state.catching_up.remove(&id);
        state.begun.retain(|backlog| backlog.id != id);
        state.surveys.retain(|survey| survey.id != id);
        state.forget(id);
        drop(state);
        self.stir.set();
    }

    /// Whether the feeds stand for nobody.
    pub fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.on && state.live.is_empty() && state.catching_up.is_empty()
    }

    /// Forget everything if nobody watches; gives the round whose feeds are to be taken away.
    pub fn turn_off(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if !state.on || !state.live.is_empty() || !state.catching_up.is_empty() {
            return None;
        }
        let round = state.round;
        state.on = false;
        state.round += 1;
        state.history = VecDeque::new();
        state.history_bytes = 0;
        state.expiries = Expiries::default();
        state.surveys = Vec::new();
        Some(round)
    }

    /// Watches whose keys are to be looked through for such as will end.
    pub fn take_surveys(&self) -> Vec<Survey> {
        std::mem::take(&mut self.state.lock().surveys)
    }

    /// Keys that end, found for a watch. False: it is gone.
    pub fn learn(&self, survey: &Survey, found: Vec<(Vec<u8>, Expiry)>) -> bool {
        let mut state = self.state.lock();
        if !state.live.contains_key(&survey.id) {
            return false;
        }
        let any = !found.is_empty();
        for (key, expiry) in found {
            state.expiries.learn(survey.keyspace, &key, expiry);
        }
        drop(state);
        if any {
            self.stir.set();
        }
        true
    }

    /// A key that was thought to be over ends at another time.
    pub fn look_again(&self, place: &Place, expiry: Expiry) {
        self.state.lock().expiries.learn(place.0, &place.1, expiry);
        self.stir.set();
    }

    /// Some of the watched keys whose time has come.
    pub fn take_due(&self, now_ms: u64) -> Vec<Arc<Place>> {
        let mut state = self.state.lock();
        let mut due = state.expiries.take_due(now_ms);
        due.retain(|place| {
            let mut watched = false;
            state.index.each(place.0, &place.1, |_| watched = true);
            watched
        });
        due
    }

    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.state.lock().expiries.next_ms()
    }

    /// Hand out what all shards have shown. Gives those to signal.
    pub fn dispatch<'a>(&self, views: impl Iterator<Item = &'a ShardView>) -> Vec<Arc<Queue>> {
        let mut state = self.state.lock();
        if !state.on {
            self.shown.iter().for_each(|shown| shown.take_up_to(CommitTs::MAX, &mut Vec::new()));
            return Vec::new();
        }
        let mut touched = BTreeMap::new();
        let lost = self.shown.iter().fold(false, |lost, shown| shown.take_lost() | lost);
        // Drawn first: whoever announces later draws a larger number.
        let mut upto = self.timestamps.last();
        if lost {
            self.start_anew(&mut state, upto, &mut touched);
            return touched.into_values().collect();
        }
        let mut failure = None;
        for view in views {
            if !planted(Canary::HandOutEarly) {
                upto = upto.min(CommitTs(view.in_flight.oldest().0 - 1));
            }
            failure = failure.or(view.poisoned());
        }
        let mut parts: Vec<Part> = Vec::new();
        self.shown.iter().for_each(|shown| shown.take_up_to(upto, &mut parts));
        // From before the feeds stood everywhere, or before something was lost.
        let before = self.frontier();
        parts.retain(|part| part.at > before);
        parts.sort_by_key(|part| part.at);
        let mut parts = parts.into_iter().peekable();
        while let Some(Part { at, mut changes }) = parts.next() {
            while let Some(more) = parts.next_if(|part| part.at == at) {
                changes.extend(more.changes);
            }
            state.hand_out(WatchEvent { at, changes }, &mut touched);
        }
        if upto > before {
            self.frontier.store(upto.0, Ordering::Release);
        }
        if let Some(error) = failure {
            state.end_all(&error, &mut touched);
        }
        touched.into_values().collect()
    }

    /// Something that the feeds held is gone: whoever is live is cut off.
    fn start_anew(&self, state: &mut State, at: CommitTs, touched: &mut BTreeMap<u64, Arc<Queue>>) {
        let before = self.frontier();
        for (id, queue) in std::mem::take(&mut state.live) {
            queue.cut_off(before);
            touched.insert(id, queue);
        }
        state.index = Index::default();
        state.history.clear();
        state.history_bytes = 0;
        state.since = at;
        self.frontier.store(at.0, Ordering::Release);
    }

    /// No more will come, ever.
    pub fn end(&self, error: &Error) {
        let mut touched = BTreeMap::new();
        self.state.lock().end_all(error, &mut touched);
        touched.values().for_each(|queue| queue.signal());
    }
}

type Entered = Result<(u64, Arc<Queue>), Error>;

impl State {
    fn join(&mut self, id: u64, queue: &Arc<Queue>, at: CommitTs) -> bool {
        if at < self.since {
            return false;
        }
        let from = self.history.partition_point(|event| event.at <= at);
        for event in self.history.range(from..) {
            let of_watch = |change: &&Arc<Change>| change.keyspace == queue.keyspace && queue.keys.holds(&change.key);
            let changes: Vec<Arc<Change>> = event.changes.iter().filter(of_watch).cloned().collect();
            if !changes.is_empty() {
                queue.push(WatchEvent { at: event.at, changes });
            }
        }
        if queue.go_live(at) {
            self.index.add(queue.keyspace, &queue.keys, id);
            self.live.insert(id, Arc::clone(queue));
            let (keyspace, keys, after_ms) = (queue.keyspace, queue.keys.clone(), queue.began_ms);
            self.surveys.push(Survey { id, keyspace, keys, after_ms });
        }
        true
    }

    fn forget(&mut self, id: u64) {
        if let Some(queue) = self.live.remove(&id) {
            self.index.remove(queue.keyspace, &queue.keys, id);
        }
    }

    fn hand_out(&mut self, event: WatchEvent, touched: &mut BTreeMap<u64, Arc<Queue>>) {
        let mut of_watch: BTreeMap<u64, Vec<Arc<Change>>> = BTreeMap::new();
        for change in &event.changes {
            let mut watched = false;
            self.index.each(change.keyspace, &change.key, |id| {
                watched = true;
                of_watch.entry(id).or_default().push(Arc::clone(change));
            });
            if watched {
                self.expiries.see(change);
            }
        }
        for (id, changes) in of_watch {
            let queue = &self.live[&id];
            let goes_on = queue.push(WatchEvent { at: event.at, changes });
            touched.entry(id).or_insert_with(|| Arc::clone(queue));
            if !goes_on {
                self.forget(id);
            }
        }
        self.history_bytes += event.bytes();
        self.history.push_back(event);
        while self.history_bytes > HISTORY_MAX
            && let Some(oldest) = self.history.pop_front()
        {
            self.history_bytes -= oldest.bytes();
            self.since = oldest.at;
        }
    }

    fn end_all(&mut self, error: &Error, touched: &mut BTreeMap<u64, Arc<Queue>>) {
        self.ended.get_or_insert_with(|| error.clone());
        self.index = Index::default();
        self.begun.clear();
        self.surveys.clear();
        self.expiries = Expiries::default();
        let all = std::mem::take(&mut self.live).into_iter().chain(std::mem::take(&mut self.catching_up));
        for (id, queue) in all {
            queue.end(error.clone());
            touched.insert(id, queue);
        }
    }
}
