//! Writes: checked here, executed by the shard that owns their keys.

use std::sync::Arc;

use super::{Client, Keys};
use crate::error::{Error, Result};
use crate::format::block::Op;
use crate::format::record::OpRef;
use crate::ids::{CommitTs, Expiry, Keyspace, Kind, SessionId, ShardId};
use crate::lock::{Guard, SessionKey};
use crate::options::{BATCH_BYTES_MAX, Durability};
use crate::pending::{Completer, Helper, Pending, pending};
use crate::shard::request::{Program, Reply};
use crate::shard::tx::check_sizes;
use crate::shard::{Request, ShardHandle, Tx};
use crate::value::Condition;
use crate::write_batch::WriteBatch;

/// How one write is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// `None`: the level the engine was opened with.
    pub durability: Option<Durability>,
    /// When the value written ceases to exist.
    pub expiry: Expiry,
    /// The key that is put is ephemeral: it goes when this session ends.
    pub session: Option<SessionKey>,
}

/// A key that was made for its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    pub key: Vec<u8>,
    pub version: CommitTs,
}

impl WriteOptions {
    /// Whose the keys that are put will be.
    pub fn owner(&self) -> Option<SessionId> {
        self.session.map(|session| session.id)
    }
}

/// What became of a conditional write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutIf {
    Done(CommitTs),
    /// The condition did not hold; the version that stands there.
    Refused {
        current: Option<CommitTs>,
    },
}

impl Client {
    pub fn put(&self, keyspace: Keyspace, key: &[u8], value: &[u8], options: WriteOptions) -> Pending<CommitTs> {
        if options.session.is_some() {
            let (owned_key, owned_value) = (key.to_vec(), value.to_vec());
            let put = move |tx: &mut Tx<'_>| {
                let owner = options.owner();
                tx.put_as(keyspace, &owned_key, &owned_value, Kind::BYTES, options.expiry, owner)
            };
            return self.run_commit(key, options, put, |(), commit| commit);
        }
        let change = Op::Put { value, kind: Kind::BYTES, expiry: options.expiry };
        self.write_one(OpRef { keyspace, key, change }, options)
    }

    /// Put under a new key: `prefix` and a number of 20 digits, larger than that of any key made so before (docs/watch.md).
    pub fn put_sequential(
        &self,
        keyspace: Keyspace,
        prefix: &[u8],
        value: &[u8],
        options: WriteOptions,
    ) -> Pending<Made> {
        let (prefix_owned, value) = (prefix.to_vec(), value.to_vec());
        let put = move |tx: &mut Tx<'_>| {
            let owner = options.owner();
            tx.put_sequential(keyspace, &prefix_owned, &value, Kind::BYTES, options.expiry, owner)
        };
        self.run_commit(prefix, options, put, |key, version| Made { key, version })
    }

    /// The session that a key is of, if it is ephemeral.
    pub fn ephemeral_owner(&self, keyspace: Keyspace, key: &[u8]) -> Pending<Option<SessionId>> {
        let owned = key.to_vec();
        self.run(key, WriteOptions::default(), move |tx| tx.owner(keyspace, &owned))
    }

    /// Says whether the key existed.
    pub fn delete(&self, keyspace: Keyspace, key: &[u8], options: WriteOptions) -> Pending<bool> {
        let owned = key.to_vec();
        self.run(key, options, move |tx| {
            let existed = tx.get(keyspace, &owned)?.is_some();
            if existed {
                tx.delete(keyspace, &owned)?;
            }
            Ok(existed)
        })
    }

    /// Put if the present value meets the condition.
    pub fn put_if(
        &self,
        keyspace: Keyspace,
        key: &[u8],
        value: &[u8],
        condition: Condition,
        options: WriteOptions,
    ) -> Pending<PutIf> {
        let (owned_key, owned_value) = (key.to_vec(), value.to_vec());
        self.run_commit(
            key,
            options,
            move |tx| {
                let current = tx.get(keyspace, &owned_key)?;
                if !condition.holds(current.map(|value| (value.bytes, value.version))) {
                    return Ok(Some(current.map(|value| value.version)));
                }
                tx.put_as(keyspace, &owned_key, &owned_value, Kind::BYTES, options.expiry, options.owner())?;
                Ok(None)
            },
            |refused, commit| match refused {
                Some(current) => PutIf::Refused { current },
                None => PutIf::Done(commit),
            },
        )
    }

    /// Add to a decimal integer; an absent key counts as zero. The expiry of the key stays, and whose it is unless a session is named.
    pub fn incr(&self, keyspace: Keyspace, key: &[u8], by: i64, options: WriteOptions) -> Pending<i64> {
        let owned = key.to_vec();
        self.run(key, options, move |tx| {
            let current = tx.get(keyspace, &owned)?;
            let (before, expiry) = match current {
                Some(value) => (parse_integer(value.bytes).ok_or(Error::NotAnInteger)?, value.expiry),
                None => (0, options.expiry),
            };
            let after = before.checked_add(by).ok_or(Error::Overflow)?;
            let value = after.to_string();
            match options.owner() {
                None => tx.update(keyspace, &owned, value.as_bytes(), Kind::BYTES, expiry)?,
                owner => tx.put_as(keyspace, &owned, value.as_bytes(), Kind::BYTES, expiry, owner)?,
            }
            Ok(after)
        })
    }

    /// Write all of the batch atomically, whatever shards its keys belong to. Over several it is always durable when it is answered.
    pub fn write_batch(&self, batch: WriteBatch, options: WriteOptions) -> Pending<CommitTs> {
        self.write_batch_guarded(batch, Vec::new(), options)
    }

    /// As [`Client::write_batch`], if every guard's token holds its lock, with a running lease, at the moment at which the batch takes
    /// effect. An empty batch has nothing to guard.
    pub fn write_batch_guarded(
        &self,
        batch: WriteBatch,
        guards: Vec<Guard>,
        options: WriteOptions,
    ) -> Pending<CommitTs> {
        let places = match self.check_batch(&batch) {
            Err(error) => return Pending::ready(Err(error)),
            Ok(places) if places.is_empty() => return Pending::ready(Ok(CommitTs::ZERO)),
            Ok(places) => places,
        };
        if let ([shard], true, None) = (&places[..], guards.is_empty(), options.session) {
            let mut batch = batch;
            batch.keep_last_of_each_key(self.shared.batch_seed);
            return self.write_on(&self.shared.shards[shard.index()], batch.ops(), options, || batch.clone());
        }
        let all = move |tx: &mut Tx<'_>| write_all(tx, &batch, options.owner());
        self.run_at(places, guards, options, all, |(), commit| commit)
    }

    /// As [`Client::run`], but only if every guard's token holds its lock, with a running lease, at the moment at which the
    /// step takes effect. `f` may be called again if the log had no room for what it wrote.
    pub fn run_guarded<T: Send + 'static>(
        &self,
        key: &[u8],
        guards: Vec<Guard>,
        options: WriteOptions,
        f: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        self.run_over(Keys::Of(&[key]), guards, options, f)
    }

    /// Run `f` on the shard that owns `key`, in one step with all its reads and writes. The answer comes when its writes,
    /// and any write that it read, are durable at their level. `f` must be quick and must not block.
    pub fn run<T: Send + 'static>(
        &self,
        key: &[u8],
        options: WriteOptions,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        self.run_commit(key, options, f, |value, _| value)
    }

    /// As [`Client::run`]; `finish` is given the commit too.
    pub fn run_commit<T: Send + 'static, U: Send + 'static>(
        &self,
        key: &[u8],
        options: WriteOptions,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        finish: impl FnOnce(T, CommitTs) -> U + Send + 'static,
    ) -> Pending<U> {
        let checked = self.check_open().and_then(|()| check_sizes(key, 0));
        if let Err(error) = checked.and_then(|()| self.check_session(options)) {
            return Pending::ready(Err(error));
        }
        let handle = self.handle_of(key);
        let (completer, answer) = pending(Some(Arc::clone(handle) as Arc<dyn Helper>));
        let program = Box::new(Call { f, finish, completer });
        submit(handle, Request::Run { program, level: self.level(options) });
        answer
    }

    /// Everything answered before, on every shard, becomes durable.
    pub fn sync(&self) -> Pending<()> {
        self.on_every_shard(|reply| Request::Sync { reply })
    }

    /// Write what is in memory as tables and trim the logs.
    pub(crate) fn checkpoint(&self) -> Pending<()> {
        self.on_every_shard(|reply| Request::Checkpoint { reply })
    }

    pub(super) fn on_every_shard(&self, make: impl Fn(Completer<()>) -> Request) -> Pending<()> {
        match self.check_open() {
            Ok(()) => Pending::all(self.ask_every_shard(make)).then(|_| Ok(())),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// What each shard answers, in their order.
    pub(super) fn ask_every_shard<T>(&self, make: impl Fn(Completer<T>) -> Request) -> Vec<Pending<T>> {
        let ask = |handle: &Arc<ShardHandle>| {
            let (completer, answer) = pending(Some(Arc::clone(handle) as Arc<dyn Helper>));
            submit(handle, make(completer));
            answer
        };
        self.shared.shards.iter().map(ask).collect()
    }

    fn write_one(&self, op: OpRef<'_>, options: WriteOptions) -> Pending<CommitTs> {
        if let Err(error) = self.check_open().and_then(|()| check_sizes(op.key, value_len(op))) {
            return Pending::ready(Err(error));
        }
        self.write_on(self.handle_of(op.key), std::iter::once(op), options, || {
            let mut batch = WriteBatch::new();
            batch.push(op);
            batch
        })
    }

    /// Write what was checked, each key once, in this thread if the shard is free; else it is handed over as `to_batch` makes it.
    fn write_on<'a>(
        &self,
        handle: &Arc<ShardHandle>,
        ops: impl Iterator<Item = OpRef<'a>> + Clone,
        options: WriteOptions,
        to_batch: impl FnOnce() -> WriteBatch,
    ) -> Pending<CommitTs> {
        let level = self.level(options);
        let new = || pending(Some(Arc::clone(handle) as Arc<dyn Helper>));
        // Both ends are made only for a write that has to wait.
        let mut waiting = None;
        let taken = handle.write_now(ops, level, || -> Reply {
            let (completer, answer) = new();
            waiting = Some(answer);
            Box::new(move |result| completer.complete(result))
        });
        match (taken, waiting) {
            (Some(Ok(Some(commit))), _) => Pending::ready(Ok(commit)),
            (Some(Ok(None)), Some(answer)) => answer,
            (Some(Err(error)), _) => Pending::ready(Err(error)),
            (Some(Ok(None)), None) => unreachable!("a write that waits was given a reply"),
            (None, _) => {
                let (reply, answer) = new();
                submit(handle, Request::Write { batch: to_batch(), level, reply });
                answer
            }
        }
    }

    /// The session lives and this is its secret.
    pub fn check_session_key(&self, session: SessionKey) -> Result<()> {
        self.check_open()?;
        self.shared.sessions.check(session, self.now_ms()).map(drop).map_err(Error::Lock)
    }

    /// Whoever writes for a session knows its secret.
    pub(super) fn check_session(&self, options: WriteOptions) -> Result<()> {
        match options.session {
            Some(session) => self.shared.sessions.check(session, self.now_ms()).map(drop).map_err(Error::Lock),
            None => Ok(()),
        }
    }

    fn level(&self, options: WriteOptions) -> Durability {
        self.level_of(options.durability)
    }

    /// The shards of all keys, ascending.
    fn check_batch(&self, batch: &WriteBatch) -> Result<Vec<ShardId>> {
        self.check_open()?;
        let mut places = Vec::new();
        for op in batch.ops() {
            check_sizes(op.key, value_len(op))?;
            let place = self.shard_of(op.key);
            if let Err(at) = places.binary_search(&place) {
                places.insert(at, place);
            }
        }
        let bytes = batch.byte_len();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::BatchTooLarge { bytes: bytes as u64, max: BATCH_BYTES_MAX as u64 });
        }
        Ok(places)
    }
}

/// All of a batch in one step.
pub(super) fn write_all(tx: &mut Tx<'_>, batch: &WriteBatch, owner: Option<SessionId>) -> Result<()> {
    for OpRef { keyspace, key, change } in batch.ops() {
        match change {
            Op::Put { value, kind, expiry } => tx.put_as(keyspace, key, value, kind, expiry, owner)?,
            Op::Delete => tx.delete(keyspace, key)?,
        }
    }
    Ok(())
}

fn value_len(op: OpRef<'_>) -> usize {
    match op.change {
        Op::Put { value, .. } => value.len(),
        Op::Delete => 0,
    }
}

/// A closure as a shard's program.
struct Call<F, G, U> {
    f: F,
    finish: G,
    completer: Completer<U>,
}

impl<F, G, T, U> Program for Call<F, G, U>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    G: FnOnce(T, CommitTs) -> U + Send + 'static,
    T: Send + 'static,
    U: Send + 'static,
{
    fn run(self: Box<Self>, tx: &mut Tx<'_>) -> Reply {
        let Call { f, finish, completer } = *self;
        let result = f(tx);
        if result.is_err() {
            tx.discard();
        }
        Box::new(move |done| {
            completer.complete(result.and_then(|value| done.map(|commit| finish(value, commit))));
        })
    }

    fn refuse(self: Box<Self>, error: Error) {
        self.completer.complete(Err(error));
    }
}

/// Hand over a request; if the inbox is full it is answered `Busy`.
pub(super) fn submit(handle: &Arc<ShardHandle>, request: Request) {
    if handle.is_closed() {
        return request.refuse(Error::Closed);
    }
    if let Err(request) = handle.submit(request) {
        request.refuse(Error::Busy { queue: "inbox of the shard", limit: handle.inbox_capacity() });
    }
}

/// A decimal integer as Redis takes it: no sign but a leading minus, no leading zeros, no spaces.
fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        assert_eq!(parse_integer(b"-12"), Some(-12));
        assert_eq!(parse_integer(b"9223372036854775807"), Some(i64::MAX));
        for bad in [b"".as_slice(), b"+1", b"01", b" 1", b"1 ", b"-0", b"9223372036854775808", b"1.0", &[0xff]] {
            assert_eq!(parse_integer(bad), None, "{bad:?}");
        }
    }
}
