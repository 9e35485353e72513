//! Commands on several keys.
//!
//! Guards: the keys of one shard are read and written in one atomic step; a command's answer waits for all its shards.
//! Does not yet: make keys of *different* shards one step. MSET, MSETNX, DEL and RENAME over several shards are atomic
//! on each; transactions across shards change that here and nowhere else. Until then RENAME over two shards writes the
//! new name before it deletes the old, so that a crash can leave both, and never neither.

use std::collections::BTreeMap;

use corering_engine::runtime::LocalFuture;
use corering_engine::{Expiry, Kind, ShardId, Value, WriteBatch};

use super::errors::CommandError;
use super::spec::{Access, Categories, Command, Flags, Group, Handler, Keys, Outcome};
use crate::resp::Request;
use crate::server::{KeyEvent, KeyEvents, Session, Waiting};

const PER_KEY: &str = "O(N) where N is the number of keys given";

const fn row(name: &'static str, arity: i32, since: &'static str, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::String, since, handler)
        .flags(flags)
        .categories(Categories::STRING)
        .complexity(PER_KEY)
}

pub const COMMANDS: &[Command] = &[
    row("mget", -2, "1.0.0", Flags::READONLY.or(Flags::FAST), Handler::Later(mget))
        .keys(&[Keys::all(1, Access::RO.or(Access::ACCESS))])
        .tips(&["request_policy:multi_shard"])
        .summary("Returns the strings of several keys."),
    row("mset", -3, "1.0.1", Flags::WRITE.or(Flags::DENYOOM), Handler::Now(mset))
        .keys(&[Keys::all(2, Access::OW.or(Access::UPDATE))])
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .summary("Sets the strings of several keys."),
    row("msetnx", -3, "1.0.1", Flags::WRITE.or(Flags::DENYOOM), Handler::Later(msetnx))
        .keys(&[Keys::all(2, Access::OW.or(Access::INSERT))])
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .summary("Sets the strings of several keys if none of them exists."),
];

/// Keys read between two turns of other tasks.
const READS_PER_TURN: usize = 128;

fn mget<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        session.reply().array(request.len() - 1);
        for (i, key) in request.iter().skip(1).enumerate() {
            let read = session.read(key, |found, reply| {
                match found {
                    Some(value) if value.kind == Kind::BYTES => reply.bulk(value.bytes),
                    _ => reply.null(),
                }
                Ok(())
            });
            if let Err(error) = read {
                // The array's length is out already: the error takes this element's place.
                session.reply().error(error.as_bytes());
            }
            if session.must_relieve() || i % READS_PER_TURN == READS_PER_TURN - 1 {
                session.relieve().await?;
            }
        }
        Ok(())
    })
}

/// EXISTS and TOUCH: a key given twice counts twice.
pub fn exists<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let mut count = 0;
        for (i, key) in request.iter().skip(1).enumerate() {
            let found = session.client().get_with(session.keyspace(), key, |found| found.is_some())?;
            session.count_lookup(found);
            count += i64::from(found);
            if i % READS_PER_TURN == READS_PER_TURN - 1 {
                session.relieve().await?;
            }
        }
        session.reply().integer(count);
        Ok(())
    })
}

/// The places of the request's keys, by the shard that owns them, in the order given.
fn by_shard(session: &Session, request: Request<'_>, step: usize) -> BTreeMap<ShardId, Vec<usize>> {
    let mut shards: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
    for place in (1..request.len()).step_by(step) {
        shards.entry(session.client().shard_of(request.arg(place))).or_default().push(place);
    }
    shards
}

/// DEL and UNLINK.
pub fn del(session: &mut Session, request: Request<'_>) -> Outcome {
    let keyspace = session.keyspace();
    if request.len() == 2 {
        return session.delete(request.arg(1));
    }
    let mut sums = Vec::new();
    let shards = by_shard(session, request, 1);
    for places in shards.values() {
        let keys: Vec<Vec<u8>> = places.iter().map(|place| request.arg(*place).to_vec()).collect();
        let Some(first) = keys.first().cloned() else { continue };
        let shared = session.shared_for_events();
        let deleted = session.client().run(&first, session.write_options(Expiry::NEVER), move |tx| {
            let mut deleted = Vec::new();
            for key in keys {
                if tx.get(keyspace, &key)?.is_some() {
                    tx.delete(keyspace, &key)?;
                    deleted.push(key);
                }
            }
            Ok(deleted)
        });
        sums.push(deleted.then(move |deleted| {
            if let Some(shared) = shared {
                deleted.iter().for_each(|key| shared.tell_events(keyspace, key, &happened(KeyEvent::Del)));
            }
            Ok(deleted.len() as i64)
        }));
    }
    session.wait_for_all(shards.keys(), Waiting::Sum(sums), 0);
    Ok(())
}

fn happened(event: KeyEvent) -> KeyEvents {
    KeyEvents { events: vec![event], expiry: Expiry::NEVER }
}

fn pairs_are_whole(request: Request<'_>, name: &str) -> Outcome {
    if request.len().is_multiple_of(2) { Err(CommandError::arity(name)) } else { Ok(()) }
}

fn mset(session: &mut Session, request: Request<'_>) -> Outcome {
    pairs_are_whole(request, "mset")?;
    let keyspace = session.keyspace();
    let shards = by_shard(session, request, 2);
    let mut batches = Vec::new();
    let mut bytes = 0;
    for places in shards.values() {
        let mut batch = WriteBatch::new();
        for &place in places {
            batch.put(keyspace, request.arg(place), request.arg(place + 1));
            bytes += request.arg(place + 1).len();
        }
        let mut written = session.client().write_batch(batch, session.write_options(Expiry::NEVER));
        if let Some(shared) = session.shared_for_events() {
            let keys: Vec<Vec<u8>> = places.iter().map(|place| request.arg(*place).to_vec()).collect();
            written = written.then(move |commit| {
                keys.iter().for_each(|key| shared.tell_events(keyspace, key, &happened(KeyEvent::Set)));
                Ok(commit)
            });
        }
        batches.push(written);
    }
    session.wait_for_all(shards.keys(), Waiting::All(batches), bytes);
    Ok(())
}

fn msetnx<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        pairs_are_whole(request, "msetnx")?;
        let shards = by_shard(session, request, 2);
        if shards.len() > 1 {
            for (place, key) in request.iter().enumerate().skip(1).step_by(2) {
                if session.client().get_with(session.keyspace(), key, |found| found.is_some())? {
                    session.reply().integer(0);
                    return Ok(());
                }
                if place % READS_PER_TURN == 1 {
                    session.relieve().await?;
                }
            }
        }
        let mut set = true;
        for places in shards.values() {
            let done = set_absent(session, request, places).await?;
            if let Some(shared) = session.shared_for_events().filter(|_| done) {
                for &place in places {
                    shared.tell_events(session.keyspace(), request.arg(place), &happened(KeyEvent::Set));
                }
            }
            set &= done;
        }
        session.reply().integer(i64::from(set));
        Ok(())
    })
}

/// Set the pairs at `places`, all of one shard, if none of their keys exists.
async fn set_absent(session: &Session, request: Request<'_>, places: &[usize]) -> Result<bool, CommandError> {
    let keyspace = session.keyspace();
    let pairs: Vec<(Vec<u8>, Vec<u8>)> =
        places.iter().map(|place| (request.arg(*place).to_vec(), request.arg(place + 1).to_vec())).collect();
    let Some((first, _)) = pairs.first() else { return Ok(true) };
    let first = first.clone();
    let pending = session.client().run(&first, session.write_options(Expiry::NEVER), move |tx| {
        for (key, _) in &pairs {
            if tx.get(keyspace, key)?.is_some() {
                return Ok(false);
            }
        }
        for (key, value) in &pairs {
            tx.put(keyspace, key, value, Kind::BYTES, Expiry::NEVER)?;
        }
        Ok(true)
    });
    Ok(pending.await?)
}

pub fn rename<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        match move_key(session, request.arg(1), request.arg(2), false).await? {
            Moved::NoSource => return Err(CommandError::NO_SUCH_KEY),
            Moved::Done | Moved::TargetExists => session.reply().ok(),
        }
        Ok(())
    })
}

pub fn renamenx<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        match move_key(session, request.arg(1), request.arg(2), true).await? {
            Moved::NoSource => return Err(CommandError::NO_SUCH_KEY),
            Moved::Done => session.reply().integer(1),
            Moved::TargetExists => session.reply().integer(0),
        }
        Ok(())
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moved {
    Done,
    NoSource,
    TargetExists,
}

async fn move_key(session: &Session, from: &[u8], to: &[u8], only_if_absent: bool) -> Result<Moved, CommandError> {
    let client = session.client();
    if from == to {
        let exists = client.get_with(session.keyspace(), from, |found| found.is_some())?;
        return Ok(match (exists, only_if_absent) {
            (false, _) => Moved::NoSource,
            (true, false) => Moved::Done,
            (true, true) => Moved::TargetExists,
        });
    }
    let moved = if client.shard_of(from) == client.shard_of(to) {
        move_within(session, from, to, only_if_absent).await?
    } else {
        move_across(session, from, to, only_if_absent).await?
    };
    if let Some(shared) = session.shared_for_events().filter(|_| moved == Moved::Done) {
        shared.tell_renamed(session.keyspace(), from, to);
    }
    Ok(moved)
}

async fn move_within(session: &Session, from: &[u8], to: &[u8], only_if_absent: bool) -> Result<Moved, CommandError> {
    let keyspace = session.keyspace();
    let (from, to) = (from.to_vec(), to.to_vec());
    let pending = session.client().run(&from.clone(), session.write_options(Expiry::NEVER), move |tx| {
        let Some(value) = tx.get(keyspace, &from)?.map(|value| value.to_value()) else { return Ok(Moved::NoSource) };
        if only_if_absent && tx.get(keyspace, &to)?.is_some() {
            return Ok(Moved::TargetExists);
        }
        tx.put(keyspace, &to, &value.bytes, value.kind, value.expiry)?;
        tx.delete(keyspace, &from)?;
        Ok(Moved::Done)
    });
    Ok(pending.await?)
}

async fn move_across(session: &Session, from: &[u8], to: &[u8], only_if_absent: bool) -> Result<Moved, CommandError> {
    let keyspace = session.keyspace();
    let client = session.client();
    let mut only_if_absent = only_if_absent;
    loop {
        let Some(value) = client.get(keyspace, from)? else { return Ok(Moved::NoSource) };
        let version = value.version;
        if !put_moved(session, to, value, only_if_absent).await? {
            return Ok(Moved::TargetExists);
        }
        // From here on what stands under the new name is ours.
        only_if_absent = false;
        let source = from.to_vec();
        let pending = client.run(from, session.write_options(Expiry::NEVER), move |tx| {
            match tx.get(keyspace, &source)?.map(|found| found.version) {
                Some(current) if current != version => return Ok(false),
                Some(_) => tx.delete(keyspace, &source)?,
                None => {}
            }
            Ok(true)
        });
        if pending.await? {
            return Ok(Moved::Done);
        }
        // Somebody wrote the source in between: what it holds now is what must be found under the new name.
    }
}

async fn put_moved(session: &Session, to: &[u8], value: Value, only_if_absent: bool) -> Result<bool, CommandError> {
    let keyspace = session.keyspace();
    let key = to.to_vec();
    let pending = session.client().run(to, session.write_options(Expiry::NEVER), move |tx| {
        if only_if_absent && tx.get(keyspace, &key)?.is_some() {
            return Ok(false);
        }
        tx.put(keyspace, &key, &value.bytes, value.kind, value.expiry)?;
        Ok(true)
    });
    Ok(pending.await?)
}
