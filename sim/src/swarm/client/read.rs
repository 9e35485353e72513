//! Reads: by key, in snapshots that are held, by scans; each answer shown to the model.

use std::collections::BTreeMap;
use std::ops::Bound;

use corering_engine::{Keyspace, ScanRange, Snapshot, Value};

use super::{Found, Hands};
use crate::swarm::model::View;
use crate::swarm::world::{COUNTER_NAMES, COUNTERS, Outcome};

impl Hands {
    fn read(&self, key: usize) -> Result<(), String> {
        let (keyspace, name) = self.name(key);
        match self.world.judge("get", self.client.get(keyspace, &name))? {
            Outcome::Done(found) => self.world.model.borrow_mut().read(key, found.as_ref(), self.now_ms()),
            Outcome::Refused | Outcome::Unknown => Ok(()),
        }
    }

    pub(super) fn get(&mut self) -> Result<(), String> {
        if self.rng.one_in(5) {
            let at = self.rng.index(COUNTER_NAMES.len());
            let result = self.client.get(COUNTERS, COUNTER_NAMES[at]);
            return match self.world.judge("get", result)? {
                Outcome::Done(found) => self.world.counters.borrow_mut()[at].read(found.as_ref()),
                Outcome::Refused | Outcome::Unknown => Ok(()),
            };
        }
        let key = self.any_key();
        self.read(key)
    }

    pub(super) fn get_many(&mut self) -> Result<(), String> {
        let keyspace = Keyspace(self.rng.below(2) as u16);
        let keys: Vec<usize> = (0..self.rng.between(1, 5)).map(|_| self.any_key()).collect();
        let keys: Vec<usize> = keys.into_iter().filter(|key| self.name(*key).0 == keyspace).collect();
        let names: Vec<Vec<u8>> = keys.iter().map(|key| self.name(*key).1).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let Outcome::Done(found) = self.world.judge("multi_get", self.client.multi_get(keyspace, &names))? else {
            return Ok(());
        };
        for (key, found) in keys.iter().zip(&found) {
            self.world.model.borrow_mut().read(*key, found.as_ref(), self.now_ms())?;
        }
        Ok(())
    }

    async fn new_view(&mut self) -> Result<Option<(Snapshot, View)>, String> {
        let floors = self.world.model.borrow().view_begins();
        let snapshot = self.client.snapshot_async().await;
        Ok(match self.world.judge("snapshot", snapshot)? {
            Outcome::Done(snapshot) => {
                let view = self.world.model.borrow().view(floors, Some(snapshot.version()));
                Some((snapshot, view))
            }
            Outcome::Refused | Outcome::Unknown => None,
        })
    }

    /// Take a view, to be read from now on; or let one go.
    pub(super) async fn take_view(&mut self) -> Result<(), String> {
        if self.views.len() >= 3 {
            let old = self.rng.index(self.views.len());
            self.views.swap_remove(old);
        }
        let view = self.new_view().await?;
        self.views.extend(view);
        Ok(())
    }

    pub(super) fn read_view(&mut self) -> Result<(), String> {
        if self.views.is_empty() {
            return Ok(());
        }
        let (key, at) = (self.any_key(), self.rng.index(self.views.len()));
        let (keyspace, name) = self.name(key);
        let now_ms = self.now_ms();
        let (snapshot, view) = &mut self.views[at];
        let result = self.client.get_at(snapshot, keyspace, &name);
        match self.world.judge("get_at", result)? {
            Outcome::Done(found) => self.world.model.borrow_mut().read_view(view, key, found.as_ref(), now_ms),
            Outcome::Refused | Outcome::Unknown => Ok(()),
        }
    }

    pub(super) async fn scan_now(&mut self) -> Result<(), String> {
        let Some((snapshot, mut view)) = self.new_view().await? else { return Ok(()) };
        self.scan(&snapshot, &mut view).await
    }

    pub(super) async fn scan_view(&mut self) -> Result<(), String> {
        if self.views.is_empty() {
            return Ok(());
        }
        let at = self.rng.index(self.views.len());
        let (snapshot, mut view) = self.views.swap_remove(at);
        self.scan(&snapshot, &mut view).await?;
        self.views.push((snapshot, view));
        Ok(())
    }

    /// Scan all of a range at once.
    pub async fn scan_all(&mut self, range: ScanRange) -> Result<(), String> {
        let Some((snapshot, mut view)) = self.new_view().await? else { return Ok(()) };
        self.scan_range(&snapshot, &mut view, range, usize::MAX).await
    }

    fn range(&mut self) -> ScanRange {
        let keyspace = Keyspace(self.rng.below(2) as u16);
        let reverse = self.rng.coin();
        let range = match self.rng.below(3) {
            0 => ScanRange::all(keyspace),
            1 => {
                let name = {
                    let key = self.any_key();
                    self.name(key).1
                };
                let len = self.rng.index(name.len() + 1);
                ScanRange::prefix(keyspace, &name[..len])
            }
            _ => {
                let mut bound = || {
                    let key = self.any_key();
                    let name = self.name(key).1;
                    [Bound::Unbounded, Bound::Included(name.clone()), Bound::Excluded(name)][self.rng.index(3)].clone()
                };
                ScanRange { lower: bound(), upper: bound(), ..ScanRange::all(keyspace) }
            }
        };
        ScanRange { reverse, ..range }
    }

    /// Scan a range, some of it, now and then stopping on the way, and compare each key it passed.
    pub(super) async fn scan(&mut self, snapshot: &Snapshot, view: &mut View) -> Result<(), String> {
        let range = self.range();
        let limit = if self.rng.coin() { usize::MAX } else { self.rng.index(6) };
        self.scan_range(snapshot, view, range, limit).await
    }

    async fn scan_range(
        &mut self,
        snapshot: &Snapshot,
        view: &mut View,
        range: ScanRange,
        limit: usize,
    ) -> Result<(), String> {
        let scanning = self.client.scan_async(snapshot, range.clone()).await;
        let now_ms = self.now_ms();
        let Outcome::Done(mut scan) = self.world.judge("scan", scanning)? else { return Ok(()) };
        let mut found: Vec<(Vec<u8>, Value)> = Vec::new();
        let mut ended = false;
        while found.len() < limit {
            let Some(entry) = scan.next() else {
                ended = true;
                break;
            };
            let entry = entry.map_err(|e| format!("scan: {e}"))?;
            found.push((entry.key, entry.value));
            if self.rng.one_in(8) {
                self.executor.yield_now().await;
            }
        }
        self.check_scan(&range, found, ended, view, now_ms).map_err(|e| format!("scan of {range:?}: {e}"))
    }

    fn check_scan(
        &self,
        range: &ScanRange,
        found: Vec<(Vec<u8>, Value)>,
        ended: bool,
        view: &mut View,
        now_ms: u64,
    ) -> Result<(), String> {
        let in_order =
            |pair: &[(Vec<u8>, Value)]| if range.reverse { pair[0].0 > pair[1].0 } else { pair[0].0 < pair[1].0 };
        if !found.windows(2).all(in_order) {
            return Err("keys out of order".to_owned());
        }
        let last = found.last().map(|(key, _)| key.clone());
        let passed = |name: &Vec<u8>| {
            ended || last.as_ref().is_some_and(|last| if range.reverse { name >= last } else { name <= last })
        };
        let mut found: BTreeMap<Vec<u8>, Value> = found.into_iter().collect();
        let mut model = self.world.model.borrow_mut();
        for (key, (keyspace, name)) in model.names().to_vec().iter().enumerate() {
            if *keyspace == range.keyspace && is_in(range, name) && passed(name) {
                let value: Found = found.remove(name);
                model.read_view(view, key, value.as_ref(), now_ms)?;
            }
        }
        match found.keys().next() {
            None => Ok(()),
            Some(strange) => Err(format!("found {strange:?}, which is not in the range or was never written")),
        }
    }
}

fn is_in(range: &ScanRange, name: &Vec<u8>) -> bool {
    let above = match &range.lower {
        Bound::Unbounded => true,
        Bound::Included(bound) => name >= bound,
        Bound::Excluded(bound) => name > bound,
    };
    let below = match &range.upper {
        Bound::Unbounded => true,
        Bound::Included(bound) => name <= bound,
        Bound::Excluded(bound) => name < bound,
    };
    above && below
}
