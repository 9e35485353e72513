//! Brings a watch from further back up to where memory begins, by reading the shards' logs.
//!
//! Guards: everything after the watch's start is put into its queue in order, or it is told that it is no longer there; it joins
//! the living at exactly the place it has read up to. It reads no faster than its watcher takes.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::WatchEvent;
use super::feed::change;
use super::hub::{Backlog, Hub};
use super::queue::Queue;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::format::record::{RecordKind, RecordRef};
use crate::ids::{CommitTs, Lsn};
use crate::runtime::Executor;
use crate::wal::LogIdentity;
use crate::wal::reread::{Reread, Rereader, Stretch};

/// After a shard had no room for what it was asked.
const RETRY: Duration = Duration::from_millis(20);

pub async fn catch_up(client: Client, executor: Rc<dyn Executor>, hub: Arc<Hub>, backlog: Backlog) {
    let Backlog { id, queue, from } = backlog;
    let mut at = from;
    loop {
        match read_on(&client, &executor, &queue, at).await {
            Ok(Some(reached)) => at = reached,
            Ok(None) => return hub.leave(id),
            Err(error) if error.is_retryable() => {
                executor.sleep(RETRY).await;
                continue;
            }
            Err(error) => return hub.give_up(id, &queue, error),
        }
        if hub.join(id, &queue, at) {
            return queue.signal();
        }
    }
}

/// Put what the logs hold after `from` into the queue; says up to where. `None`: nobody takes it any more.
async fn read_on(
    client: &Client,
    executor: &Rc<dyn Executor>,
    queue: &Queue,
    from: CommitTs,
) -> Result<Option<CommitTs>> {
    // Everything up to this number is in the logs once they are synced.
    let upto = client.hub().last();
    client.sync().await?;
    let mut oldest = client.history_after();
    let mut logs = Vec::new();
    for handle in client.shards() {
        let (id, stretches) = handle.with_core(|core| (core.log().identity(), core.log().stretches()));
        let (log, begins_after) = ShardLog::open(executor, id, stretches, queue, from, upto).await?;
        oldest = oldest.max(begins_after);
        logs.push(log);
    }
    if from < oldest {
        return Err(Error::Compacted { oldest });
    }
    loop {
        let mut next = None;
        for log in &mut logs {
            if let Some(event) = log.peek().await? {
                next = Some(next.map_or(event, |next: CommitTs| next.min(event)));
            }
        }
        let Some(at) = next.filter(|at| *at <= upto) else { break };
        let changes = logs.iter_mut().filter_map(|log| log.take(at)).flatten().collect();
        if !queue.wait_for_room().await || !queue.push(WatchEvent { at, changes }) {
            return Ok(None);
        }
        queue.reach_reading(at);
        queue.signal();
    }
    queue.reach_reading(upto);
    Ok(Some(upto))
}

/// One shard's log, commit by commit, as far as it concerns a watch.
struct ShardLog<'a> {
    log: Rereader,
    queue: &'a Queue,
    from: CommitTs,
    upto: CommitTs,
    events: VecDeque<WatchEvent>,
    /// Parts of commits over several shards whose fate what was read so far does not tell; what is not before the first waits.
    unsettled: VecDeque<CommitTs>,
    ended: bool,
}

impl<'a> ShardLog<'a> {
    /// Opened where what comes after `from` begins, with the commit after which the log has everything.
    async fn open(
        executor: &Rc<dyn Executor>,
        id: LogIdentity,
        stretches: Vec<Stretch>,
        queue: &'a Queue,
        from: CommitTs,
        upto: CommitTs,
    ) -> Result<(ShardLog<'a>, CommitTs)> {
        let mut needed = VecDeque::new();
        let mut first = None;
        let mut base = Lsn::ZERO;
        for stretch in stretches.into_iter().rev() {
            base = stretch.segment.base;
            let found = first_commit(executor, id, &stretch).await?;
            needed.push_front(stretch);
            first = found.or(first);
            if first.is_some_and(|first| first <= from) {
                break;
            }
        }
        let begins_after = match first {
            Some(first) if first <= from => CommitTs::ZERO,
            // Nothing was trimmed yet.
            _ if base == Lsn::ZERO => CommitTs::ZERO,
            Some(first) => CommitTs(first.0 - 1),
            None => upto,
        };
        let log = Rereader::new(Rc::clone(executor), id, needed);
        Ok((
            ShardLog { log, queue, from, upto, events: VecDeque::new(), unsettled: VecDeque::new(), ended: false },
            begins_after,
        ))
    }

    /// The commit that comes next.
    async fn peek(&mut self) -> Result<Option<CommitTs>> {
        while !self.is_ready() && !self.ended {
            match self.log.next().await? {
                Reread::End => self.ended = true,
                // All that is trimmed lies before what was asked to be readable.
                Reread::Gone => return Err(Error::Compacted { oldest: self.upto }),
                Reread::Batch(frames) => {
                    while self.unsettled.front().is_some_and(|first| *first <= frames.settled()) {
                        self.unsettled.pop_front();
                    }
                    for (lsn, payload) in frames {
                        let bad = |bad| Error::invalid(format!("the record at {lsn} cannot be read again: {bad}"));
                        let record = RecordRef::decode(payload).map_err(bad)?;
                        let at = record.commit_ts;
                        if record.kind == RecordKind::Void {
                            // An opening found that it and what came behind never happened.
                            self.events.retain(|event| event.at < at);
                            self.unsettled.retain(|part| *part < at);
                            continue;
                        }
                        if at <= self.from {
                            continue;
                        }
                        if at > self.upto {
                            self.ended = true;
                            break;
                        }
                        if let RecordKind::Part(_) = record.kind {
                            self.unsettled.push_back(at);
                        }
                        let (keyspace, keys) = (self.queue.keyspace, &self.queue.keys);
                        let mut changes = Vec::new();
                        record
                            .for_each(|op| {
                                if op.keyspace == keyspace && keys.holds(op.key) {
                                    changes.push(Arc::new(change(op)));
                                }
                            })
                            .map_err(bad)?;
                        if !changes.is_empty() {
                            self.events.push_back(WatchEvent { at, changes });
                        }
                    }
                }
            }
        }
        Ok(self.events.front().map(|event| event.at))
    }

    /// Whether it is known that the next event happened. At the end of what was asked for all of it did: it was visible.
    fn is_ready(&self) -> bool {
        let known = |event: &WatchEvent| self.unsettled.front().is_none_or(|part| event.at < *part);
        self.events.front().is_some_and(known)
    }

    /// This shard's part of a commit.
    fn take(&mut self, at: CommitTs) -> Option<Vec<Arc<super::Change>>> {
        self.events.front().filter(|event| event.at == at)?;
        self.events.pop_front().map(|event| event.changes)
    }
}

/// The first commit of a stretch; none if it is empty, or gone already.
async fn first_commit(executor: &Rc<dyn Executor>, id: LogIdentity, stretch: &Stretch) -> Result<Option<CommitTs>> {
    let mut log = Rereader::new(Rc::clone(executor), id, VecDeque::from([stretch.clone()]));
    match log.next().await? {
        Reread::Batch(mut frames) => {
            let first = frames.next().and_then(|(_, payload)| RecordRef::decode(payload).ok());
            Ok(first.map(|record| record.commit_ts))
        }
        Reread::End | Reread::Gone => Ok(None),
    }
}
