//! Keys that are watched and end by their time: for them somebody has to write that they are gone, so that watches tell of it like
//! of any other change.
//!
//! Guards: a key whose put a watch was told of, or that stood there when the watch began, is looked at when its time has come; whether
//! it is over then the key's shard says, in the step that deletes it. So what is kept here may be out of date, and is only never missing.
//! Does not: say when a value ends for readers; that is its expiry, to the millisecond.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use super::{Change, WatchKeys, What};
use crate::client::{Client, ScanRange, WriteOptions};
use crate::error::{Error, Result};
use crate::format::block::Op;
use crate::ids::{CommitTs, Expiry, Keyspace};
use crate::runtime::Executor;
use crate::shard::tx::Overdue;
use crate::table::Lookup;
use crate::table::range_cursor::Range;
use crate::table::read_state::ReadState;
use crate::table::source::Source;

/// Keys that one step asks their shards to end.
const STEP_MAX: usize = 256;
/// Keys that a survey looks at before others have their turn.
const LOOK_MAX: usize = 512;
/// After a shard had no room for the delete.
const RETRY: Duration = Duration::from_millis(100);

pub type Place = (Keyspace, Box<[u8]>);

/// When watched keys end.
#[derive(Default)]
pub struct Expiries {
    of: HashMap<Arc<Place>, u64>,
    due: BTreeSet<(u64, Arc<Place>)>,
}

impl Expiries {
    /// The latest change of a watched key.
    pub fn see(&mut self, change: &Change) {
        match &change.what {
            What::Put { expiry, .. } if !expiry.is_never() => self.set(change.keyspace, &change.key, *expiry),
            What::Put { .. } | What::Deleted if self.of.is_empty() => {}
            What::Put { .. } | What::Deleted => self.forget(&(change.keyspace, change.key.as_slice().into())),
        }
    }

    /// What stood there at some time, of a key of which nothing later is known.
    pub fn learn(&mut self, keyspace: Keyspace, key: &[u8], expiry: Expiry) {
        if !self.of.contains_key(&(keyspace, Box::from(key))) {
            self.set(keyspace, key, expiry);
        }
    }

    fn set(&mut self, keyspace: Keyspace, key: &[u8], expiry: Expiry) {
        let place = Arc::new((keyspace, Box::from(key)));
        self.forget(&place);
        if let Some(at_ms) = expiry.unix_ms() {
            self.due.insert((at_ms, Arc::clone(&place)));
            self.of.insert(place, at_ms);
        }
    }

    fn forget(&mut self, place: &Place) {
        if let Some((place, at_ms)) = self.of.remove_entry(place) {
            self.due.remove(&(at_ms, place));
        }
    }

    pub fn next_ms(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }

    /// Some of those whose time has come.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<Arc<Place>> {
        let mut taken = Vec::new();
        while taken.len() < STEP_MAX
            && let Some((at_ms, _)) = self.due.first()
            && *at_ms <= now_ms
        {
            let (_, place) = self.due.pop_first().expect("seen above");
            self.of.remove(&place);
            taken.push(place);
        }
        taken
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.of.len(), self.due.len());
        self.due.len()
    }
}

/// A watch that joined the living: what of its keys stands there already, and will end.
pub struct Survey {
    pub id: u64,
    pub keyspace: Keyspace,
    pub keys: WatchKeys,
    /// What ended before is no news.
    pub after_ms: u64,
}

impl Survey {
    fn wants(&self, expiry: Expiry) -> bool {
        expiry.unix_ms().is_some_and(|at_ms| at_ms > self.after_ms)
    }

    fn found(&self, keyspace: Keyspace, key: &[u8], op: Op<'_>) -> Option<(Vec<u8>, Expiry)> {
        match op {
            Op::Put { expiry, .. } if keyspace == self.keyspace && self.wants(expiry) && self.keys.holds(key) => {
                Some((key.to_vec(), expiry))
            }
            Op::Put { .. } | Op::Delete => None,
        }
    }
}

/// Look through what is stored of a watch's keys. It reads beside writers and holds up nobody.
pub async fn look_through(client: Client, executor: Rc<dyn Executor>, hub: Arc<Hub>, survey: Survey) {
    for shard in client.shards() {
        let state = Arc::clone(&shard.view.latest().0);
        let looked = match &survey.keys {
            WatchKeys::One(key) => look_at_one(&state, &hub, &survey, key),
            WatchKeys::Prefix(prefix) => look_below(&state, &executor, &hub, &survey, prefix).await,
        };
        if let Err(error) = looked {
            // Readers are told the same, by name of the file.
            tracing::warn!(%error, "keys that will expire could not be looked through for a watch");
        }
    }
}

fn look_at_one(state: &ReadState, hub: &Hub, survey: &Survey, key: &[u8]) -> Result<()> {
    if let Lookup::Found(value) = state.get(survey.keyspace, key, CommitTs::MAX)?
        && survey.wants(value.expiry)
    {
        hub.learn(survey, vec![(key.to_vec(), value.expiry)]);
    }
    Ok(())
}

async fn look_below(
    state: &ReadState,
    executor: &Rc<dyn Executor>,
    hub: &Hub,
    survey: &Survey,
    prefix: &[u8],
) -> Result<()> {
    // Newest first: of several versions of a key, what is learnt first counts.
    for table in std::iter::once(&state.active).chain(&state.sealed).filter(|table| table.has_expiring()) {
        let mut entries = table.entries_so_far().peekable();
        while entries.peek().is_some() {
            let some = entries.by_ref().take(LOOK_MAX);
            let found = some.filter_map(|entry| survey.found(entry.keyspace, entry.key, entry.op)).collect();
            if !hub.learn(survey, found) {
                return Ok(());
            }
            executor.yield_now().await;
        }
    }
    let range: Range = ScanRange::prefix(survey.keyspace, prefix).into();
    for run in state.tables.runs() {
        let mut cursor = Source::Run(run.clone()).cursor()?;
        range.start(&mut cursor)?;
        loop {
            let (mut looked, mut found) = (0, Vec::new());
            while looked < LOOK_MAX
                && let Some(entry) = cursor.entry()
                && range.is_before_end(entry.keyspace, entry.key)
            {
                found.extend(survey.found(entry.keyspace, entry.key, entry.op));
                looked += 1;
                cursor.next_key()?;
            }
            if !hub.learn(survey, found) {
                return Ok(());
            }
            if looked < LOOK_MAX {
                break;
            }
            executor.yield_now().await;
        }
    }
    Ok(())
}

/// Have the shards of these keys delete what is over.
pub async fn end_due(client: Client, executor: Rc<dyn Executor>, hub: Arc<Hub>, places: Vec<Arc<Place>>) {
    let ask = |place: &Arc<Place>| {
        let own = Arc::clone(place);
        client.run(&place.1, WriteOptions::default(), move |tx| tx.remove_overdue(own.0, &own.1))
    };
    let mut asked: Vec<_> = places.iter().map(|place| (place, ask(place))).collect();
    while !asked.is_empty() {
        let mut again = Vec::new();
        for (place, answer) in asked {
            match answer.await {
                Ok(Overdue::Not { until: Some(expiry) }) => hub.look_again(place, expiry),
                Ok(Overdue::Removed | Overdue::Not { until: None }) => {}
                Err(error) if error.is_retryable() => again.push(place),
                Err(Error::Closed) => return,
                Err(error) => tracing::warn!(%error, "a key that has expired could not be deleted for its watches"),
            }
        }
        if !again.is_empty() {
            executor.sleep(RETRY).await;
        }
        asked = again.into_iter().map(|place| (place, ask(place))).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Kind;

    fn put(key: &[u8], expiry: u64) -> Change {
        let what = What::Put { value: Vec::new(), kind: Kind::BYTES, expiry: Expiry(expiry) };
        Change { keyspace: Keyspace(0), key: key.to_vec(), what }
    }

    #[test]
    fn each_key_is_due_once_at_its_last_time() {
        let mut expiries = Expiries::default();
        for change in [put(b"a", 10), put(b"b", 30), put(b"a", 20), put(b"c", 5), put(b"never", 0), put(b"c", 0)] {
            expiries.see(&change);
        }
        expiries.learn(Keyspace(0), b"a", Expiry(1));
        expiries.learn(Keyspace(1), b"a", Expiry(15));
        assert_eq!((expiries.next_ms(), expiries.len()), (Some(15), 3));
        let keys = |places: Vec<Arc<Place>>| -> Vec<(u16, Vec<u8>)> {
            places.iter().map(|place| (place.0.0, place.1.to_vec())).collect()
        };
        assert_eq!(keys(expiries.take_due(20)), [(1, b"a".to_vec()), (0, b"a".to_vec())]);
        expiries.see(&Change { what: What::Deleted, ..put(b"b", 1) });
        assert_eq!((expiries.next_ms(), expiries.len()), (None, 0));
        (0..STEP_MAX as u64 + 1).for_each(|n| expiries.learn(Keyspace(0), &n.to_be_bytes(), Expiry(n + 1)));
        assert_eq!((expiries.take_due(u64::MAX).len(), expiries.len()), (STEP_MAX, 1));
    }
}
