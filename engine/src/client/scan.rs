//! Views over all shards, and scans of them in key order.

use std::ops::Bound;
use std::sync::Arc;

use super::Client;
use crate::error::{Error, Result};
use crate::ids::{CommitTs, Keyspace, ShardId};
use crate::pending::{Helper, Pending, pending};
use crate::runtime::LocalFuture;
use crate::shard::{Request, ShardHandle};
use crate::table::merge::Direction;
use crate::table::merged_scan::{MergedScan, Owns, ScanPart};
use crate::table::range_cursor::Range;
use crate::table::read_state::ReadState;
use crate::txn::snapshots::Registered;
use crate::value::{Entry, Value, ValueRef};

/// Attempts to read all shards' marks at one moment before the shards are held for it.
const COLLECTS_MAX: usize = 64;

/// A view over all shards: every commit up to its version, and nothing later. Old versions are kept while it lives.
pub struct Snapshot {
    registered: Registered,
}

impl Snapshot {
    pub(super) fn mark(&self, shard: ShardId) -> CommitTs {
        self.registered.at(shard)
    }

    pub fn version(&self) -> CommitTs {
        self.registered.newest()
    }
}

/// Which keys of a keyspace to scan, and in which direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanRange {
    pub keyspace: Keyspace,
    pub lower: Bound<Vec<u8>>,
    pub upper: Bound<Vec<u8>>,
    pub reverse: bool,
}

impl ScanRange {
    pub fn all(keyspace: Keyspace) -> ScanRange {
        ScanRange { keyspace, lower: Bound::Unbounded, upper: Bound::Unbounded, reverse: false }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(keyspace: Keyspace, prefix: &[u8]) -> ScanRange {
        let upper = match prefix.iter().rposition(|b| *b != 0xff) {
            Some(last) => {
                let mut end = prefix[..=last].to_vec();
                end[last] += 1;
                Bound::Excluded(end)
            }
            None => Bound::Unbounded,
        };
        ScanRange { keyspace, lower: Bound::Included(prefix.to_vec()), upper, reverse: false }
    }
}

impl From<ScanRange> for Range {
    fn from(range: ScanRange) -> Range {
        let ScanRange { keyspace, lower, upper, reverse } = range;
        let direction = if reverse { Direction::Reverse } else { Direction::Forward };
        Range { keyspace, lower, upper, direction }
    }
}

/// Entries of a range in key order. It keeps its view by itself.
pub struct Scan {
    merged: MergedScan<'static>,
    /// Versions that the scan may still come to are kept as long as it lives.
    _view: Registered,
}

impl Scan {
    /// The next entry, lent where it lies.
    pub fn next_ref(&mut self) -> Result<Option<(&[u8], ValueRef<'_>)>> {
        self.merged.next()
    }
}

impl Iterator for Scan {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        match self.next_ref() {
            Ok(None) => None,
            Ok(Some((key, value))) => {
                let value: Value = value.to_value();
                Some(Ok(Entry { key: key.to_vec(), value }))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl Client {
    /// A view of every commit up to its version and none beyond, among them all that was acknowledged before. Waits, at most for one flush of each shard, until what is under way and
    /// older than the view is visible. Not for a shard's own thread: see [`Client::snapshot_async`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let (snapshot, waits) = self.begin_snapshot()?;
        for wait in waits {
            wait.wait()?;
        }
        Ok(snapshot)
    }

    /// As [`Client::snapshot`], for tasks.
    pub fn snapshot_async(&self) -> LocalFuture<'static, Result<Snapshot>> {
        let begun = self.begin_snapshot();
        Box::pin(async move {
            let (snapshot, waits) = begun?;
            for wait in waits {
                wait.await?;
            }
            Ok(snapshot)
        })
    }

    /// A view of what is visible now, as transactions have it: all that anybody was told of, and all that single reads have seen. It waits for
    /// nobody. Beside single reads this is the one to take: a [`Client::snapshot`] goes by the numbers of commits, and may hold one that a read
    /// did not see yet without another, higher one that was answered before that read.
    pub fn view(&self) -> Result<Snapshot> {
        self.check_open()?;
        Ok(self.visible_view())
    }

    /// A view of what is visible now, on all shards at one moment: everything that anybody was told of. It waits for nobody.
    pub(super) fn visible_view(&self) -> Snapshot {
        let shards = &self.shared.shards;
        let read = || -> Vec<CommitTs> { shards.iter().map(|handle| handle.view.visible()).collect() };
        // Marks only grow: what is the same twice was so at every moment between.
        let twice = || {
            let mut first = read();
            for _ in 0..COLLECTS_MAX {
                let second = read();
                if first == second {
                    return Some(first.into());
                }
                first = second;
            }
            None
        };
        let snapshots = &self.shared.snapshots;
        let registered = snapshots.register_visible(twice).unwrap_or_else(|| {
            // Too busy for that: while all shards are held, no mark moves.
            let all: Vec<&Arc<ShardHandle>> = shards.iter().collect();
            let held = ShardHandle::with_cores(&all, |_| snapshots.register_visible(|| Some(read().into())));
            held.expect("marks were given")
        });
        Snapshot { registered }
    }

    /// Register the view and ask each shard that has older commits under way to say when they are visible.
    fn begin_snapshot(&self) -> Result<(Snapshot, Vec<Pending<()>>)> {
        self.check_open()?;
        let registered = self.shared.snapshots.register();
        let at = registered.newest();
        let unsettled = self.shared.shards.iter().filter(|handle| !handle.view.is_settled(at));
        let waits = unsettled.map(fence).collect();
        Ok((Snapshot { registered }, waits))
    }

    /// The entries of `range` as the view has them, in key order over all shards.
    pub fn scan(&self, snapshot: &Snapshot, range: ScanRange) -> Result<Scan> {
        self.check_open()?;
        self.keep_order()?;
        self.scan_of(snapshot, range)
    }

    /// As [`Client::scan`], where memory is known to be in order.
    pub(super) fn scan_of(&self, snapshot: &Snapshot, range: ScanRange) -> Result<Scan> {
        // A registration of its own, so that the snapshot may go before the scan does.
        let view = self.shared.snapshots.register_at(&snapshot.registered);
        Ok(Scan { merged: self.merged(range, &view)?, _view: view })
    }

    /// As [`Client::scan`], for tasks on a shard's thread.
    pub fn scan_async(&self, snapshot: &Snapshot, range: ScanRange) -> LocalFuture<'static, Result<Scan>> {
        let client = self.clone();
        let view = self.shared.snapshots.register_at(&snapshot.registered);
        Box::pin(async move {
            client.check_open()?;
            for wait in client.order_waits() {
                wait.await?;
            }
            Ok(Scan { merged: client.merged(range, &view)?, _view: view })
        })
    }

    fn merged(&self, range: ScanRange, view: &Registered) -> Result<MergedScan<'static>> {
        let parts = self.shared.shards.iter().map(|handle| {
            let (state, at) = handle.view.at(view.at(handle.view.id));
            let owns = self.owner_filter(&state, handle.view.id);
            ScanPart { state, at, owns }
        });
        MergedScan::new(parts.collect(), &range.into(), self.shared.clock.wall_ms())
    }

    /// Tables written before the last change of the shard count may hold keys that moved away since.
    fn owner_filter(&self, state: &ReadState, shard: ShardId) -> Option<Owns<'static>> {
        let version = self.shared.ring_version;
        let pure = state.tables.runs().iter().flat_map(|run| run.tables()).all(|t| t.meta().ring_version == version);
        let ring = Arc::clone(&self.shared.ring);
        (!pure).then(|| -> Owns<'static> { Box::new(move |key| ring.owner_of_key(key) == shard) })
    }

    pub(super) fn keep_order(&self) -> Result<()> {
        for wait in self.order_waits() {
            wait.wait()?;
        }
        Ok(())
    }

    /// Have memory kept in key order from now on, as steps need it that scan ([`Tx::scan`](crate::Tx::scan)).
    pub fn in_order(&self) -> LocalFuture<'static, Result<()>> {
        let waits = self.order_waits();
        Box::pin(async move {
            for wait in waits {
                wait.await?;
            }
            Ok(())
        })
    }

    /// Shards whose memtable is not kept in key order yet are asked to.
    pub(super) fn order_waits(&self) -> Vec<Pending<()>> {
        let unordered = self.shared.shards.iter().filter(|handle| !handle.view.is_ordered());
        unordered.map(|handle| ask(handle, |reply| Request::KeepOrder { reply })).collect()
    }
}

fn fence(handle: &Arc<ShardHandle>) -> Pending<()> {
    ask(handle, |reply| Request::Fence { reply })
}

fn ask(handle: &Arc<ShardHandle>, make: impl FnOnce(crate::pending::Completer<()>) -> Request) -> Pending<()> {
    let (completer, answer) = pending(Some(Arc::clone(handle) as Arc<dyn Helper>));
    if let Err(request) = handle.submit(make(completer)) {
        request.refuse(Error::Busy { queue: "inbox of the shard", limit: handle.inbox_capacity() });
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        let upper = |prefix: &[u8]| ScanRange::prefix(Keyspace(0), prefix).upper;
        assert_eq!(upper(b"ab"), Bound::Excluded(b"ac".to_vec()));
        assert_eq!(upper(b"a\xff"), Bound::Excluded(b"b".to_vec()));
        assert_eq!(upper(b"\xff\xff"), Bound::Unbounded);
        assert_eq!(upper(b""), Bound::Unbounded);
    }
}
