//! LOCK.*: locks by name (docs/locks.md).
//!
//! Guards: a wait holds up nobody but its own connection, and a connection that ends while it waits leaves the line; a lock is
//! let go only after everything that its connection asked for before has been answered.

use std::collections::HashMap;

use corering_engine::runtime::LocalFuture;
use corering_engine::{
    Acquire, Durability, Error, FencingToken, Grant, Hold, LockError, LockHandle, LockInfo, Mode, SessionId,
    SessionKey, Wait,
};

use super::errors::CommandError;
use super::glob;
use super::sessions::{self, milliseconds, row};
use super::spec::{Command, Flags, Handler, Outcome};
use super::strings::integer;
use crate::resp::{Reply, Request, parse_i64};
use crate::server::Session;

const FAST: Flags = Flags::NOSCRIPT.or(Flags::FAST);
const LIST_DEFAULT: usize = 1000;

pub const COMMANDS: &[Command] = &[
    row("lock.acquire", -2, Flags::NOSCRIPT, Handler::Later(acquire))
        .usage("<name> [SHARED | PERMITS n [UNITS k]] [WAIT ms | BLOCK] [LEASE ms] [SESSION id secret] [SYNC | NONE]")
        .summary("Takes a lock, at once or in its turn; returns its fencing token and how often the session holds it."),
    row("lock.release", -2, FAST, Handler::Later(release))
        .usage("<name> [TOKEN t] [SESSION id secret] [SYNC | NONE]")
        .summary(
            "Lets a lock go; returns how often the session still holds it, or -1 if its lease had run out before.",
        ),
    row("lock.renew", -2, FAST, Handler::Later(renew))
        .usage("<name> [TOKEN t] [SESSION id secret]")
        .summary("Begins a lock's lease anew; returns its token."),
    row("lock.downgrade", -2, FAST, Handler::Later(downgrade))
        .usage("<name> [TOKEN t] [SESSION id secret] [SYNC | NONE]")
        .summary("Makes an exclusive hold a shared one, without letting go; returns its token and count."),
    row("lock.info", 2, FAST, Handler::Later(info))
        .usage("<name>")
        .complexity("O(N) where N is the number of holders and waiters shown")
        .summary("Tells who holds a lock and who waits for it; nothing if nobody does."),
    row("lock.list", -1, Flags::NOSCRIPT, Handler::Later(list))
        .usage("[COUNT n] [MATCH glob]")
        .complexity("O(N) where N is the number of locks held or wanted")
        .tips(&["nondeterministic_output"])
        .summary("Tells about all locks that are held or waited for."),
];

/// The options of all commands on one lock.
struct Options {
    mode: Mode,
    wait: Wait,
    lease: Option<std::time::Duration>,
    token: Option<FencingToken>,
    session: SessionKey,
    durability: Durability,
}

/// Which of them a command takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Acquire,
    Change,
    Renew,
}

fn options(session: &Session, request: Request<'_>, of: Of) -> Result<Options, CommandError> {
    let (mut mode, mut wait, mut lease, mut token, mut key, mut level) = (None, None, None, None, None, None);
    let (mut permits, mut units) = (None, None);
    let mut words = request.skip(2).iter();
    let is_acquire = of == Of::Acquire;
    let takes_level = of != Of::Renew;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(CommandError::SYNTAX);
        let twice = match word.to_ascii_lowercase().as_slice() {
            b"shared" if is_acquire => mode.replace(Mode::Shared).is_some(),
            b"permits" if is_acquire => permits.replace(number(value()?)?).is_some(),
            b"units" if is_acquire => units.replace(number(value()?)?).is_some(),
            b"wait" if is_acquire => {
                let ms = milliseconds("the time to wait", value()?)?.as_millis() as u64;
                wait.replace(if ms == 0 { Wait::No } else { Wait::Ms(ms) }).is_some()
            }
            b"block" if is_acquire => wait.replace(Wait::AsLongAsTheSession).is_some(),
            b"lease" if is_acquire => lease.replace(milliseconds("the lease", value()?)?).is_some(),
            b"token" if !is_acquire => token.replace(parse_token(value()?)?).is_some(),
            b"session" => key.replace(sessions::key(value()?, value()?)?).is_some(),
            b"sync" if takes_level => level.replace(Durability::Sync).is_some(),
            b"none" if takes_level => level.replace(Durability::None).is_some(),
            _ => return Err(CommandError::SYNTAX),
        };
        if twice {
            return Err(CommandError::SYNTAX);
        }
    }
    let mode = match (mode, permits, units) {
        (mode, None, None) => mode.unwrap_or(Mode::Exclusive),
        (None, Some(permits), units) => Mode::Semaphore { permits, units: units.unwrap_or(1) },
        _ => return Err(CommandError::SYNTAX),
    };
    const NO_SESSION: CommandError = CommandError::fixed(
        "NOSESSION this connection uses no session: SESSION.OPEN or SESSION.USE one, or name it by SESSION id secret",
    );
    let key = key.or(session.lock_session()).ok_or(NO_SESSION)?;
    let durability = level.unwrap_or(Durability::Sync);
    Ok(Options { mode, wait: wait.unwrap_or(Wait::No), lease, token, session: key, durability })
}

fn number(text: &[u8]) -> Result<u32, CommandError> {
    u32::try_from(integer(text)?).map_err(|_| CommandError::NOT_AN_INTEGER)
}

pub(super) fn parse_token(text: &[u8]) -> Result<FencingToken, CommandError> {
    match parse_i64(text).map(u64::try_from) {
        Some(Ok(token)) => Ok(FencingToken(token)),
        _ => Err(CommandError::fixed("ERR a token is a number as LOCK.ACQUIRE returned it")),
    }
}

/// As RESP has integers; there are no more commits than these.
fn shown(token: FencingToken) -> i64 {
    i64::try_from(token.0).unwrap_or(i64::MAX)
}

fn reply_grant(session: &mut Session, grant: Grant) {
    let mut reply = session.reply();
    reply.array(2);
    reply.integer(shown(grant.token));
    reply.integer(i64::from(grant.count));
}

fn acquire<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let Options { mode, wait, lease, session: key, durability, .. } = options(session, request, Of::Acquire)?;
        let name = request.arg(1);
        let asked = Acquire { session: key, mode, wait, lease, durability: Some(durability) };
        let id = session.lockers().next_ask();
        let client = session.client().clone();
        let mut answer = client.acquire_as(id, name, asked);
        let answered = match wait {
            Wait::No => Some((&mut answer).await),
            Wait::Ms(_) | Wait::AsLongAsTheSession => session.wait_watching(&mut answer).await,
        };
        let Some(answered) = answered else {
            // Nobody is there to take it: no trace of the wait is left, and none of a grant that came meanwhile.
            client.cancel(id, name, key.id).await?;
            if let Ok(grant) = answer.await {
                let lock = LockHandle { name, session: key, token: Some(grant.token) };
                client.release(lock, Some(Durability::None)).await?;
            }
            return Ok(());
        };
        if let Some(stats) = session.shard_stats() {
            match &answered {
                Ok(_) => stats.lock_grants.add(1),
                Err(Error::Lock(LockError::TimedOut)) => stats.lock_timeouts.add(1),
                Err(_) => {}
            }
        }
        reply_grant(session, answered?);
        Ok(())
    })
}

fn release<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let Options { token, session: key, durability, .. } = options(session, request, Of::Change)?;
        let lock = LockHandle { name: request.arg(1), session: key, token };
        let released = session.client().release(lock, Some(durability)).await?;
        session.reply().integer(if released.expired { -1 } else { i64::from(released.count) });
        Ok(())
    })
}

fn renew<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let Options { token, session: key, .. } = options(session, request, Of::Renew)?;
        let token = session.client().renew(LockHandle { name: request.arg(1), session: key, token }).await?;
        session.reply().integer(shown(token));
        Ok(())
    })
}

fn downgrade<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let Options { token, session: key, durability, .. } = options(session, request, Of::Change)?;
        let lock = LockHandle { name: request.arg(1), session: key, token };
        let grant = session.client().downgrade(lock, Some(durability)).await?;
        reply_grant(session, grant);
        Ok(())
    })
}

fn info<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        match session.client().lock_info(request.arg(1)).await? {
            None => session.reply().null(),
            Some(info) => {
                let labels = Labels::new(session);
                labels.describe(&mut session.reply(), &info);
            }
        }
        Ok(())
    })
}

fn list<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let (mut count, mut pattern) = (LIST_DEFAULT, None);
        let mut words = request.skip(1).iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or(CommandError::SYNTAX)?;
            match word.to_ascii_lowercase().as_slice() {
                b"count" => match integer(value)? {
                    n @ 1.. => count = usize::try_from(n).unwrap_or(usize::MAX),
                    _ => return Err(CommandError::SYNTAX),
                },
                b"match" => pattern = Some(value),
                _ => return Err(CommandError::SYNTAX),
            }
        }
        let all = session.client().locks().await?;
        let matching = |info: &&LockInfo| pattern.is_none_or(|pattern| glob::matches(pattern, &info.name));
        let found: Vec<&LockInfo> = all.iter().filter(matching).take(count).collect();
        let labels = Labels::new(session);
        session.reply().array(found.len());
        for info in found {
            labels.describe(&mut session.reply(), info);
            session.relieve_if_full().await?;
        }
        Ok(())
    })
}

/// What sessions are called, and the time, for inspections.
struct Labels {
    labels: HashMap<SessionId, Vec<u8>>,
    now_ms: u64,
}

impl Labels {
    fn new(session: &Session) -> Labels {
        let client = session.client();
        let labels = client.sessions().into_iter().map(|info| (info.id, info.label)).collect();
        Labels { labels, now_ms: client.clock().monotonic_ns() / 1_000_000 }
    }

    fn session(&self, reply: &mut Reply<'_>, id: SessionId, mode: Mode) {
        reply.bulk(b"session");
        reply.bulk(id.to_string().as_bytes());
        reply.bulk(b"label");
        reply.bulk(self.labels.get(&id).map_or(b"", Vec::as_slice));
        reply.bulk(b"mode");
        reply.bulk(mode.to_string().as_bytes());
    }

    fn describe(&self, reply: &mut Reply<'_>, info: &LockInfo) {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(&info.name);
        reply.bulk(b"holders");
        reply.array(info.holds.len());
        for hold in &info.holds {
            self.hold(reply, hold);
        }
        reply.bulk(b"waiting");
        reply.array(info.waiting.len());
        for waiter in &info.waiting {
            reply.map(4);
            self.session(reply, waiter.session, waiter.mode);
            reply.bulk(b"waited-ms");
            reply.integer(waiter.waited_ms as i64);
        }
    }

    fn hold(&self, reply: &mut Reply<'_>, hold: &Hold) {
        reply.map(7);
        self.session(reply, hold.session, hold.mode);
        reply.bulk(b"token");
        reply.integer(shown(hold.token));
        reply.bulk(b"count");
        reply.integer(i64::from(hold.count));
        reply.bulk(b"since-unix-ms");
        reply.integer(hold.since_unix_ms as i64);
        // Without a lease it is held as long as the session lives.
        reply.bulk(b"lease-left-ms");
        match hold.lease_ms {
            Some(_) => reply.integer(hold.until_ms.saturating_sub(self.now_ms) as i64),
            None => reply.null(),
        }
    }
}
