//! Commands on several keys.
//!
//! Guards: each is one step over the shards of all its keys, and its events are told after it; reads of many keys see one state.

use corering_engine::runtime::LocalFuture;
use corering_engine::{Expiry, Kind, ValueRef};

use super::cell::Answer;
use super::connection::database;
use super::errors::CommandError;
use super::spec::{Access, Categories, Command, Flags, Group, Handler, Keys, Outcome};
use crate::resp::{Reply, Request};
use crate::server::{KeyEvent, KeyEvents, Session, Told};

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
    row("msetnx", -3, "1.0.1", Flags::WRITE.or(Flags::DENYOOM), Handler::Now(msetnx))
        .keys(&[Keys::all(2, Access::OW.or(Access::INSERT))])
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .summary("Sets the strings of several keys if none of them exists."),
];

/// Keys read between two turns of other tasks.
const READS_PER_TURN: usize = 128;

fn keys(request: Request<'_>, step: usize) -> Vec<&[u8]> {
    request.iter().skip(1).step_by(step).collect()
}

fn owned(keys: &[&[u8]]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.to_vec()).collect()
}

fn reply_string(found: Option<ValueRef<'_>>, reply: &mut Reply<'_>) {
    match found {
        Some(value) if value.kind == Kind::BYTES => reply.bulk(value.bytes),
        _ => reply.null(),
    }
}

fn mget<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let (keys, keyspace, protocol) = (keys(request, 1), session.keyspace(), session.protocol());
        if session.is_gathering() {
            let own = owned(&keys);
            session.submit(&keys, 0, move |tx| {
                let mut bytes = Vec::new();
                let mut reply = Reply::new(&mut bytes, protocol);
                reply.array(own.len());
                for key in &own {
                    reply_string(tx.get(keyspace, key)?, &mut reply);
                }
                Ok((Answer::Raw(bytes), Vec::new()))
            });
            return Ok(());
        }
        let snapshot = session.client().view()?;
        session.reply().array(keys.len());
        for (i, key) in keys.into_iter().enumerate() {
            match session.client().get_at(&snapshot, keyspace, key) {
                Ok(found) => {
                    session.count_lookup(found.is_some());
                    let found = found.as_ref().map(|value| ValueRef {
                        bytes: &value.bytes,
                        kind: value.kind,
                        expiry: value.expiry,
                        version: value.version,
                    });
                    reply_string(found, &mut session.reply());
                }
                // The array's length is out already: the error takes this element's place.
                Err(error) => session.reply().error(CommandError::from(error).as_bytes()),
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
        let (keys, keyspace) = (keys(request, 1), session.keyspace());
        if session.is_gathering() {
            let own = owned(&keys);
            session.submit(&keys, 0, move |tx| {
                let mut count = 0;
                for key in &own {
                    count += i64::from(tx.get(keyspace, key)?.is_some());
                }
                Ok((Answer::Integer(count), Vec::new()))
            });
            return Ok(());
        }
        let snapshot = match keys.len() {
            1 => None,
            _ => Some(session.client().view()?),
        };
        let mut count = 0;
        for (i, key) in keys.into_iter().enumerate() {
            let client = session.client();
            let found = match &snapshot {
                None => client.get_with(keyspace, key, |found| found.is_some())?,
                Some(snapshot) => client.get_at(snapshot, keyspace, key)?.is_some(),
            };
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

/// DEL and UNLINK.
pub fn del(session: &mut Session, request: Request<'_>) -> Outcome {
    if request.len() == 2 {
        return session.delete(request.arg(1));
    }
    let (keys, keyspace) = (keys(request, 1), session.keyspace());
    let own = owned(&keys);
    session.submit(&keys, 0, move |tx| {
        let mut told = Vec::new();
        for key in &own {
            if tx.get(keyspace, key)?.is_some() {
                tx.delete(keyspace, key)?;
                told.push(Told::one(keyspace, key, KeyEvent::Del));
            }
        }
        Ok((Answer::Integer(told.len() as i64), told))
    });
    Ok(())
}

fn mset(session: &mut Session, request: Request<'_>) -> Outcome {
    set_all(session, request, "mset", false)
}

fn msetnx(session: &mut Session, request: Request<'_>) -> Outcome {
    set_all(session, request, "msetnx", true)
}

fn set_all(session: &mut Session, request: Request<'_>, name: &str, only_if_absent: bool) -> Outcome {
    if request.len().is_multiple_of(2) {
        return Err(CommandError::arity(name));
    }
    let (keys, keyspace, tells) = (keys(request, 2), session.keyspace(), session.tells());
    let values: Vec<Vec<u8>> = request.iter().skip(2).step_by(2).map(<[u8]>::to_vec).collect();
    let (own, bytes) = (owned(&keys), values.iter().map(Vec::len).sum());
    session.submit(&keys, bytes, move |tx| {
        if only_if_absent {
            for key in &own {
                if tx.get(keyspace, key)?.is_some() {
                    return Ok((Answer::Integer(0), Vec::new()));
                }
            }
        }
        for (key, value) in own.iter().zip(&values) {
            tx.put(keyspace, key, value, Kind::BYTES, Expiry::NEVER)?;
        }
        let told = own.iter().filter(|_| tells).map(|key| Told::one(keyspace, key, KeyEvent::Set)).collect();
        Ok((if only_if_absent { Answer::Integer(1) } else { Answer::Ok }, told))
    });
    Ok(())
}

pub fn rename(session: &mut Session, request: Request<'_>) -> Outcome {
    move_key(session, request, false)
}

pub fn renamenx(session: &mut Session, request: Request<'_>) -> Outcome {
    move_key(session, request, true)
}

fn move_key(session: &mut Session, request: Request<'_>, only_if_absent: bool) -> Outcome {
    let (keys, keyspace) = (keys(request, 1), session.keyspace());
    let (from, to): (Box<[u8]>, Box<[u8]>) = (request.arg(1).into(), request.arg(2).into());
    session.submit(&keys, 0, move |tx| {
        let Some(value) = tx.get(keyspace, &from)?.map(|value| value.to_value()) else {
            return Ok((Answer::Failed(CommandError::NO_SUCH_KEY), Vec::new()));
        };
        if only_if_absent && tx.get(keyspace, &to)?.is_some() {
            return Ok((Answer::Integer(0), Vec::new()));
        }
        let done = if only_if_absent { Answer::Integer(1) } else { Answer::Ok };
        if from == to {
            return Ok((done, Vec::new()));
        }
        tx.put(keyspace, &to, &value.bytes, value.kind, value.expiry)?;
        tx.delete(keyspace, &from)?;
        Ok((done, vec![Told::Renamed { keyspace, from: from.clone(), to: to.clone() }]))
    });
    Ok(())
}

pub fn copy(session: &mut Session, request: Request<'_>) -> Outcome {
    let (mut into, mut replace) = (session.keyspace(), false);
    let mut words = request.skip(3).iter();
    while let Some(word) = words.next() {
        match word.to_ascii_lowercase().as_slice() {
            b"replace" => replace = true,
            b"db" => into = database(words.next().ok_or(CommandError::SYNTAX)?)?,
            _ => return Err(CommandError::SYNTAX),
        }
    }
    let (keys, keyspace, tells) = (&keys(request, 1)[..2], session.keyspace(), session.tells());
    let (from, to): (Box<[u8]>, Box<[u8]>) = (request.arg(1).into(), request.arg(2).into());
    if keyspace == into && from == to {
        return Err(CommandError::fixed("ERR source and destination objects are the same"));
    }
    session.submit(keys, 0, move |tx| {
        let Some(value) = tx.get(keyspace, &from)?.map(ValueRef::to_value) else {
            return Ok((Answer::Integer(0), Vec::new()));
        };
        if !replace && tx.get(into, &to)?.is_some() {
            return Ok((Answer::Integer(0), Vec::new()));
        }
        tx.put(into, &to, &value.bytes, value.kind, value.expiry)?;
        let events = KeyEvents { events: vec![KeyEvent::CopyTo], expiry: value.expiry };
        let told = tells.then(|| Told::Changed(into, to.clone(), events));
        Ok((Answer::Integer(1), told.into_iter().collect()))
    });
    Ok(())
}
