//! SESSION.*: who may hold locks (docs/locks.md).
//!
//! A session is not its connection: it outlives it for its time to live, and another connection that knows its secret may
//! take it over. One that is bound to a connection ends with it.

use std::time::Duration;

use corering_engine::runtime::LocalFuture;
use corering_engine::{Error, LockError, NewSession, SessionId, SessionInfo, SessionKey};

use super::errors::CommandError;
use super::spec::{Categories, Command, Flags, Group, Handler, Outcome};
use crate::resp::{Reply, Request, parse_i64};
use crate::server::Session;

const FAST: Flags = Flags::NOSCRIPT.or(Flags::FAST);
const TTL_DEFAULT: Duration = Duration::from_secs(30);
/// The keeper of a shard must find the time to keep it alive.
const BOUND_TTL_MIN: Duration = Duration::from_secs(2);

pub(super) const fn row(name: &'static str, arity: i32, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Lock, "0.1.0", handler).flags(flags).categories(Categories::LOCK)
}

pub const COMMANDS: &[Command] = &[
    row("session.open", -1, FAST, Handler::Later(open)).usage("[TTL ms] [LABEL text] [BIND grace-ms]").summary(
        "Makes a session, which may hold locks, and uses it on this connection; returns its id and its secret.",
    ),
    row("session.use", -3, FAST, Handler::Later(use_session))
        .usage("<id> <secret> [BIND grace-ms]")
        .summary("Keeps a session alive and makes the lock commands of this connection be about it."),
    row("session.keepalive", 3, FAST, Handler::Later(keepalive))
        .usage("<id> <secret>")
        .summary("Begins a session's time to live anew."),
    row("session.close", 3, FAST, Handler::Later(close))
        .usage("<id> <secret>")
        .complexity("O(N) where N is the number of its locks and waits")
        .summary("Ends a session, with all its locks and waits."),
    row("session.kill", 2, Flags::ADMIN.or(Flags::NOSCRIPT), Handler::Later(kill))
        .usage("<id>")
        .complexity("O(N) where N is the number of its locks and waits")
        .summary("Ends somebody's session, with all its locks and waits."),
    row("session.info", 2, FAST, Handler::Later(info)).usage("<id>").summary("Tells about a session that lives."),
    row("session.list", 1, Flags::NOSCRIPT, Handler::Later(list))
        .complexity("O(N) where N is the number of sessions")
        .tips(&["nondeterministic_output"])
        .summary("Tells about all sessions that live."),
];

/// Milliseconds, as options give them.
pub(super) fn milliseconds(what: &str, text: &[u8]) -> Result<Duration, CommandError> {
    match parse_i64(text).map(u64::try_from) {
        Some(Ok(ms)) => Ok(Duration::from_millis(ms)),
        _ => Err(CommandError::text(format!("ERR {what} is not a number of milliseconds"))),
    }
}

fn id(text: &[u8]) -> Result<SessionId, CommandError> {
    const NO_ID: CommandError = CommandError::fixed("ERR a session's id has 16 hexadecimal digits");
    hex(text, 16).and_then(|id| u64::try_from(id).ok()).map(SessionId).ok_or(NO_ID)
}

/// An id and its secret.
pub(super) fn key(id_text: &[u8], secret: &[u8]) -> Result<SessionKey, CommandError> {
    const NO_SECRET: CommandError = CommandError::fixed("ERR a session's secret has 32 hexadecimal digits");
    Ok(SessionKey { id: id(id_text)?, secret: hex(secret, 32).ok_or(NO_SECRET)? })
}

pub(super) fn hex(text: &[u8], digits: usize) -> Option<u128> {
    let all_digits = text.len() == digits && text.iter().all(u8::is_ascii_hexdigit);
    std::str::from_utf8(text).ok().filter(|_| all_digits).and_then(|text| u128::from_str_radix(text, 16).ok())
}

struct OpenOptions {
    new: NewSession,
    grace: Option<Duration>,
}

fn open_options(request: Request<'_>) -> Result<OpenOptions, CommandError> {
    let new = NewSession { ttl: TTL_DEFAULT, label: Vec::new() };
    let mut options = OpenOptions { new, grace: None };
    let mut words = request.skip(1).iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(CommandError::SYNTAX)?;
        match word.to_ascii_lowercase().as_slice() {
            b"ttl" => options.new.ttl = milliseconds("the time to live", value)?,
            b"label" => options.new.label = value.to_vec(),
            b"bind" => options.grace = Some(milliseconds("the grace", value)?),
            _ => return Err(CommandError::SYNTAX),
        }
    }
    if options.grace.is_some() {
        bindable(options.new.ttl)?;
    }
    Ok(options)
}

fn bindable(ttl: Duration) -> Outcome {
    if ttl >= BOUND_TTL_MIN {
        return Ok(());
    }
    let least = BOUND_TTL_MIN.as_millis();
    Err(CommandError::text(format!("ERR a session that is bound to a connection lives for at least {least} ms")))
}

fn open<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let OpenOptions { new, grace } = open_options(request)?;
        let key = session.client().create_session(new).await?;
        session.use_lock_session(key);
        if let Some(grace) = grace {
            session.bind_lock_session(key, grace);
        }
        let mut reply = session.reply();
        reply.array(2);
        reply.bulk(key.id.to_string().as_bytes());
        reply.bulk(format!("{:032x}", key.secret).as_bytes());
        Ok(())
    })
}

fn use_session<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let key = key(request.arg(1), request.arg(2))?;
        let grace = match (request.len(), request.get(3)) {
            (3, _) => None,
            (5, Some(word)) if word.eq_ignore_ascii_case(b"bind") => Some(milliseconds("the grace", request.arg(4))?),
            _ => return Err(CommandError::SYNTAX),
        };
        session.client().keep_alive(key)?;
        if grace.is_some() {
            let info = session.client().session(key.id);
            bindable(info.map_or(Duration::ZERO, |info| Duration::from_millis(info.ttl_ms)))?;
        }
        session.lockers().adopt(key.id);
        session.use_lock_session(key);
        if let Some(grace) = grace {
            session.bind_lock_session(key, grace);
        }
        session.reply().ok();
        Ok(())
    })
}

fn keepalive<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let key = key(request.arg(1), request.arg(2))?;
        session.client().keep_alive(key)?;
        session.lockers().adopt(key.id);
        session.reply().ok();
        Ok(())
    })
}

fn close<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let key = key(request.arg(1), request.arg(2))?;
        session.client().end_session(key).await?;
        session.forget_lock_session(key.id);
        session.reply().ok();
        Ok(())
    })
}

fn kill<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        session.client().kill_session(id(request.arg(1))?).await?;
        session.reply().ok();
        Ok(())
    })
}

fn info<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let id = id(request.arg(1))?;
        let found = session.client().session(id).ok_or(Error::Lock(LockError::NoSession { id }))?;
        describe(&mut session.reply(), &found);
        Ok(())
    })
}

fn list<'a>(session: &'a mut Session, _: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let all = session.client().sessions();
        session.reply().array(all.len());
        for info in all {
            describe(&mut session.reply(), &info);
            session.relieve_if_full().await?;
        }
        Ok(())
    })
}

fn describe(reply: &mut Reply<'_>, info: &SessionInfo) {
    reply.map(4);
    reply.bulk(b"id");
    reply.bulk(info.id.to_string().as_bytes());
    reply.bulk(b"label");
    reply.bulk(&info.label);
    reply.bulk(b"ttl-ms");
    reply.integer(info.ttl_ms as i64);
    reply.bulk(b"left-ms");
    reply.integer(info.left_ms as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_secrets_are_hexadecimal_and_whole() {
        let made = key(b"00000000000000ff", b"000000000000000000000000000000Ab").unwrap();
        assert_eq!((made.id, made.secret), (SessionId(255), 0xab));
        assert!(key(b"ff", &[b'0'; 32]).is_err());
        assert!(key(&[b'0'; 16], &[b'0'; 31]).is_err());
        assert!(key(b"+000000000000000", &[b'0'; 32]).is_err());
        assert!(key(&[0xff; 16], &[b'0'; 32]).is_err());
    }

    #[test]
    fn times_are_whole_and_not_negative() {
        assert_eq!(milliseconds("x", b"1500"), Ok(Duration::from_millis(1500)));
        for bad in [b"-1".as_slice(), b"1.5", b"", b"9223372036854775808"] {
            assert!(milliseconds("x", bad).is_err());
        }
    }
}
