//! KEY.*: watches, ephemeral and sequential keys (docs/watch.md).
//!
//! Guards: what a watch brings comes behind the reply that began it, and before the reply to whatever is asked later about it.

use corering_engine::runtime::LocalFuture;
use corering_engine::{CommitTs, Expiry, SessionKey, WatchKeys, WatchOptions};

use super::cell::Answer;
use super::errors::CommandError;
use super::sessions::{self, milliseconds};
use super::spec::{Access, Categories, Command, Flags, Group, Handler, Keys, Outcome};
use crate::resp::{Request, parse_i64};
use crate::server::{Session, watch_number};

/// Watches of one connection.
const WATCHES_MAX: usize = 10_000;

const WRITES: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const LISTENS: Flags = Flags::NOSCRIPT.or(Flags::PUBSUB);

const fn row(name: &'static str, arity: i32, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Generic, "0.1.0", handler).flags(flags).categories(Categories::KEYSPACE)
}

pub const COMMANDS: &[Command] = &[
    row("key.put", -3, WRITES, Handler::Now(put))
        .keys(&[Keys::one(1, Access::OW.or(Access::UPDATE))])
        .usage("<key> <value> [PX ms] [SESSION id secret]")
        .summary("Sets a string that goes when the session ends: the connection's, or the one named."),
    row("key.seq", -3, WRITES, Handler::Later(seq))
        .usage("<prefix> <value> [EPHEMERAL] [PX ms] [SESSION id secret]")
        .summary("Sets a string under a new key, the prefix and 20 digits that grow; returns the key and its version."),
    row("key.session", 2, Flags::READONLY.or(Flags::FAST), Handler::Later(owner))
        .keys(&[Keys::one(1, Access::RO)])
        .usage("<key>")
        .summary("Tells the session that a key goes with; nothing if it stays."),
    row("key.watch", -2, LISTENS, Handler::Now(watch))
        .usage("<key> [PREFIX] [FROM version] [LIMIT bytes]")
        .summary("Tells every change of a key, or of the keys with a prefix, from now on or after a version."),
    row("key.unwatch", -1, LISTENS, Handler::Now(unwatch))
        .usage("[<watch> ...]")
        .summary("Ends watches of this connection, those given or all; returns how many."),
    row("key.progress", 2, LISTENS.or(Flags::FAST), Handler::Now(progress))
        .usage("<watch>")
        .summary("Tells the version up to which a watch has told everything."),
];

#[derive(Default)]
struct Options {
    ephemeral: bool,
    session: Option<SessionKey>,
    expiry: Expiry,
}

impl Options {
    fn of(session: &Session, request: Request<'_>) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut words = request.skip(3).iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(CommandError::SYNTAX);
            match word.to_ascii_lowercase().as_slice() {
                b"ephemeral" => options.ephemeral = true,
                b"session" => options.session = Some(sessions::key(value()?, value()?)?),
                b"px" => {
                    let ms = milliseconds("the time to live", value()?)?.as_millis() as u64;
                    options.expiry = Expiry::at_ms(session.wall_ms().saturating_add(ms));
                }
                _ => return Err(CommandError::SYNTAX),
            }
        }
        Ok(options)
    }

    /// The session that the key will be of.
    fn owner(&self, session: &Session) -> Result<SessionKey, CommandError> {
        const NO_SESSION: CommandError = CommandError::fixed(
            "NOSESSION this connection uses no session: SESSION.OPEN or SESSION.USE one, or name it by SESSION id secret",
        );
        self.session.or(session.lock_session()).ok_or(NO_SESSION)
    }
}

fn put(session: &mut Session, request: Request<'_>) -> Outcome {
    let options = Options::of(session, request)?;
    if options.ephemeral {
        return Err(CommandError::SYNTAX);
    }
    let owner = options.owner(session)?;
    session.client().check_session_key(owner)?;
    let (value, expiry) = (request.arg(2).to_vec(), options.expiry);
    session.update(request.arg(1), move |cell| {
        cell.put_for(&value, expiry, owner.id)?;
        cell.tell_expire(expiry);
        Ok(Answer::Ok)
    })
}

fn seq<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let options = Options::of(session, request)?;
        let ephemeral = options.ephemeral || options.session.is_some();
        let owner = ephemeral.then(|| options.owner(session)).transpose()?;
        let write = corering_engine::WriteOptions { session: owner, ..session.write_options(options.expiry) };
        let made = session.client().put_sequential(session.keyspace(), request.arg(1), request.arg(2), write).await?;
        let mut reply = session.reply();
        reply.array(2);
        reply.bulk(&made.key);
        reply.integer(watch_number(made.version.0));
        Ok(())
    })
}

fn owner<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        match session.client().ephemeral_owner(session.keyspace(), request.arg(1)).await? {
            Some(id) => session.reply().bulk(id.to_string().as_bytes()),
            None => session.reply().null(),
        }
        Ok(())
    })
}

fn positive(what: &str, text: &[u8]) -> Result<u64, CommandError> {
    match parse_i64(text).map(u64::try_from) {
        Some(Ok(number)) => Ok(number),
        _ => Err(CommandError::text(format!("ERR {what} is not a number that is not negative"))),
    }
}

fn watch(session: &mut Session, request: Request<'_>) -> Outcome {
    let mut options = WatchOptions::default();
    let mut prefix = false;
    let mut words = request.skip(2).iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(CommandError::SYNTAX);
        match word.to_ascii_lowercase().as_slice() {
            b"prefix" => prefix = true,
            b"from" => options.from = Some(CommitTs(positive("the version", value()?)?)),
            b"limit" => options.limit_bytes = positive("the limit", value()?)?,
            _ => return Err(CommandError::SYNTAX),
        }
    }
    if session.watches().len() >= WATCHES_MAX {
        return Err(CommandError::text(format!("ERR a connection has at most {WATCHES_MAX} watches")));
    }
    let key = request.arg(1).to_vec();
    let keys = if prefix { WatchKeys::Prefix(key) } else { WatchKeys::One(key) };
    let (id, from) = session.watch_keys(keys, options)?;
    let mut reply = session.reply();
    reply.array(2);
    reply.integer(watch_number(id));
    reply.integer(watch_number(from.0));
    Ok(())
}

fn unwatch(session: &mut Session, request: Request<'_>) -> Outcome {
    let mut ids = Vec::new();
    for text in request.iter().skip(1) {
        ids.push(positive("the watch", text)?);
    }
    if ids.is_empty() {
        ids = session.watches();
    }
    let ended = ids.into_iter().filter(|id| session.end_watch(*id)).count();
    session.reply().integer(ended as i64);
    Ok(())
}

fn progress(session: &mut Session, request: Request<'_>) -> Outcome {
    const NO_WATCH: CommandError = CommandError::fixed("ERR this connection has no such watch");
    let progress = session.watch_progress(positive("the watch", request.arg(1))?).ok_or(NO_WATCH)?;
    session.reply().integer(watch_number(progress.0));
    Ok(())
}
