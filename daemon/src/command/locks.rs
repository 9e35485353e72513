//! LOCK.*: locks by name (docs/locks.md).
//!
//! Guards: a wait holds up nobody but its own connection, and a connection that ends while it waits leaves the line; a lock is
//! let go only after everything that its connection asked for before has been answered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::LocalFuture;
use corering_engine::{
    Acquire, Client, Durability, Error, FencingToken, Grant, Hold, LockCursor, LockFilter, LockHandle, LockInfo, Mode,
    NameFilter, Pending, SessionId, SessionKey, Wait,
};

use super::errors::CommandError;
use super::glob;
use super::sessions::{self, milliseconds, row};
use super::spec::{Command, Flags, Handler, Outcome};
use super::strings::integer;
use crate::resp::{Reply, Request, parse_i64};
use crate::server::Session;

const FAST: Flags = Flags::NOSCRIPT.or(Flags::FAST);
/// How long a shard is given to make room for a question that must be asked.
const ROOM_PAUSE: Duration = Duration::from_millis(5);
const LIST_DEFAULT: usize = 1000;
/// Locks in one answer of LOCK.SCAN.
const SCAN_DEFAULT: usize = 10;
const SCAN_MAX: usize = 1000;
/// Holders and waiters that it shows of each.
const SCAN_SHOWN: usize = 100;

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
        .summary("Tells about the locks that are held or waited for, the first by name."),
    row("lock.scan", -2, Flags::NOSCRIPT, Handler::Later(scan))
        .usage("<cursor> [MATCH glob] [COUNT n]")
        .complexity("O(1) for each call, with a bound of some thousands of locks looked at")
        .tips(&["nondeterministic_output"])
        .summary(
            "Tells about all locks, some in each answer: begin with 0, go on with the number returned, until it is 0.",
        ),
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
            until_there_is_room(session, || client.cancel(id, name, key.id)).await?;
            if let Ok(grant) = answer.await {
                let lock = LockHandle { name, session: key, token: Some(grant.token) };
                until_there_is_room(session, || client.release(lock, Some(Durability::None))).await?;
            }
            return Ok(());
        };
        reply_grant(session, answered?);
        Ok(())
    })
}

/// Ask a shard again and again that has no room for the question.
async fn until_there_is_room<T>(session: &Session, ask: impl Fn() -> Pending<T>) -> corering_engine::Result<T> {
    loop {
        match ask().await {
            Err(Error::Busy { .. }) => session.pause(ROOM_PAUSE).await,
            other => return other,
        }
    }
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
                let client = session.client().clone();
                Describe(&client).lock(&mut session.reply(), &info);
            }
        }
        Ok(())
    })
}

struct ListOptions {
    count: usize,
    matches: NameFilter,
}

fn list_options(words: Request<'_>, skip: usize, count: usize) -> Result<ListOptions, CommandError> {
    let mut options = ListOptions { count, matches: Arc::new(|_| true) };
    let mut words = words.skip(skip).iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(CommandError::SYNTAX)?;
        match word.to_ascii_lowercase().as_slice() {
            b"count" => match integer(value)? {
                n @ 1.. => options.count = usize::try_from(n).unwrap_or(usize::MAX),
                _ => return Err(CommandError::SYNTAX),
            },
            b"match" => {
                let pattern = value.to_vec();
                options.matches = Arc::new(move |name| glob::matches(&pattern, name));
            }
            _ => return Err(CommandError::SYNTAX),
        }
    }
    Ok(options)
}

fn list<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let ListOptions { count, matches } = list_options(request, 1, LIST_DEFAULT)?;
        let client = session.client().clone();
        // The first names of all, found without keeping more than are told.
        let mut names = BTreeSet::new();
        let mut from = Some(LockCursor::default());
        while let Some(place) = from {
            let filter = LockFilter { matches: Arc::clone(&matches), at_most: usize::MAX, shown_max: 0 };
            let (found, next) = client.locks(place, filter).await?;
            names.extend(found.into_iter().map(|info| info.name));
            while names.len() > count {
                names.pop_last();
            }
            from = next;
        }
        // The reply begins with the number of locks, and some may be gone by now.
        let max = session.reply_bytes_max();
        let (mut found, mut count) = (Vec::new(), 0);
        for name in names {
            if let Some(info) = client.lock_info(&name).await? {
                Describe(&client).lock(&mut Reply::new(&mut found, session.protocol()), &info);
                count += 1;
            }
            if found.len() as u64 > max {
                return Err(CommandError::text(format!(
                    "ERR the reply would be longer than {max} bytes (client-output-buffer-limit); use LOCK.SCAN"
                )));
            }
        }
        session.reply().array(count);
        for chunk in found.chunks(1 << 20) {
            session.reply().raw(chunk);
            session.relieve().await?;
        }
        Ok(())
    })
}

fn scan<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let cursor = super::scan::cursor(request.arg(1)).ok_or(CommandError::INVALID_CURSOR)?;
        let ListOptions { count, matches } = list_options(request, 2, SCAN_DEFAULT)?;
        let filter = LockFilter { matches, at_most: count.min(SCAN_MAX), shown_max: SCAN_SHOWN };
        let client = session.client().clone();
        let (found, next) = client.locks(LockCursor(cursor), filter).await?;
        let mut reply = session.reply();
        reply.array(2);
        reply.bulk(next.map_or(0, |next| next.0).to_string().as_bytes());
        reply.array(found.len());
        for info in found {
            Describe(&client).lock(&mut session.reply(), &info);
            session.relieve_if_full().await?;
        }
        Ok(())
    })
}

/// Tells of locks, with what their sessions are called.
struct Describe<'a>(&'a Client);

impl Describe<'_> {
    fn lock(&self, reply: &mut Reply<'_>, info: &LockInfo) {
        reply.map(5);
        reply.bulk(b"name");
        reply.bulk(&info.name);
        reply.bulk(b"holder-count");
        reply.integer(info.holders as i64);
        reply.bulk(b"holders");
        reply.array(info.holds.len());
        for hold in &info.holds {
            self.hold(reply, hold);
        }
        reply.bulk(b"waiting-count");
        reply.integer(info.waiters as i64);
        reply.bulk(b"waiting");
        reply.array(info.waiting.len());
        for waiter in &info.waiting {
            reply.map(4);
            self.session(reply, waiter.session, waiter.mode);
            reply.bulk(b"waited-ms");
            reply.integer(waiter.waited_ms as i64);
        }
    }

    fn session(&self, reply: &mut Reply<'_>, id: SessionId, mode: Mode) {
        reply.bulk(b"session");
        reply.bulk(id.to_string().as_bytes());
        reply.bulk(b"label");
        reply.bulk(&self.0.session(id).map(|info| info.label).unwrap_or_default());
        reply.bulk(b"mode");
        reply.bulk(mode.to_string().as_bytes());
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
            Some(_) => reply.integer(hold.until_ms.saturating_sub(self.0.clock().monotonic_ms()) as i64),
            None => reply.null(),
        }
    }
}
