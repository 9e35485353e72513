//! TX.*: transactions that a client goes through step by step (docs/transactions.md).
//!
//! Guards: what a transaction reads and writes is the engine's to keep in order; a wait for a key holds up nobody but its own connection;
//! an end of which nobody knows the outcome is told as such, with the name to ask for it.

use std::ops::Bound;
use std::time::Duration;

use corering_engine::runtime::LocalFuture;
use corering_engine::{
    Error, Expiry, Fate, Guard, Isolation, Kind, Pending, Savepoint, ScanRange, TransactionId, TransactionOptions,
    Value, ValueRef,
};

use super::errors::CommandError;
use super::locks::parse_token;
use super::options::StringOptions;
use super::sessions::{hex, milliseconds};
use super::spec::{Access, Categories, Command, Flags, Group, Handler, Keys, Outcome};
use super::strings::{integer, string};
use crate::resp::{Reply, Request};
use crate::server::{Interactive, Session, Standing};

/// A transaction that is open keeps old versions from being cleared away.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const REMEMBER_MAX: Duration = Duration::from_secs(86_400);
const SCAN_DEFAULT: usize = 100;
const SCAN_MAX: i64 = 100_000;
/// Entries read between two turns of other tasks.
const SCAN_PIECE: usize = 128;

const ANY: Flags = Flags::NOSCRIPT.or(Flags::NO_MULTI);
const FAST: Flags = ANY.or(Flags::FAST);
const READS: Flags = FAST.or(Flags::READONLY);
const WRITES: Flags = FAST.or(Flags::WRITE).or(Flags::DENYOOM);

const fn row(name: &'static str, arity: i32, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Transactions, "0.1.0", handler).flags(flags).categories(Categories::TRANSACTION)
}

pub const COMMANDS: &[Command] = &[
    row("tx.begin", -1, ANY, Handler::Later(begin))
        .usage("[ISOLATION SERIALIZABLE | SNAPSHOT] [READONLY] [TIMEOUT ms] [REMEMBER ms] [AGAIN id]")
        .summary("Begins a transaction, which ends with this connection at the latest; returns its id. One that is run again waits for its turn."),
    row("tx.get", 3, READS, Handler::Later(get))
        .keys(&[Keys::one(2, Access::RO.or(Access::ACCESS))])
        .usage("<id> <key>")
        .summary("Returns the string of a key as the transaction sees it."),
    row("tx.getforupdate", 3, WRITES, Handler::Later(get_for_update))
        .keys(&[Keys::one(2, Access::RW.or(Access::ACCESS))])
        .usage("<id> <key>")
        .summary("Returns the string of a key and keeps the key until the transaction ends; waits for an older transaction that keeps it."),
    row("tx.scan", -2, ANY.or(Flags::READONLY), Handler::Later(scan))
        .usage("<id> [PREFIX p] [FROM key | AFTER key] [TO key | BEFORE key] [REVERSE] [LIMIT n]")
        .complexity("O(N) where N is the number of keys returned")
        .summary("Returns keys and their strings in order, as the transaction sees them."),
    row("tx.set", -4, WRITES, Handler::Later(set))
        .keys(&[Keys::one(2, Access::RW.or(Access::ACCESS).or(Access::UPDATE).or(Access::VARIABLE))])
        .usage("<id> <key> <value> [the options of SET]")
        .summary("Sets the string of a key when the transaction commits."),
    row("tx.del", -3, FAST.or(Flags::WRITE), Handler::Later(del))
        .keys(&[Keys { access: Access::RM.or(Access::DELETE), first: 2, last: -1, step: 1, notes: None, counted: false }])
        .usage("<id> <key> [<key> ...]")
        .complexity("O(N) where N is the number of keys given")
        .summary("Deletes keys when the transaction commits; returns how many it sees."),
    row("tx.guard", 4, FAST, Handler::Now(guard))
        .usage("<id> <name> <token>")
        .summary("Makes the commit take effect only if the token holds its lock at that moment."),
    row("tx.savepoint", 2, FAST, Handler::Now(savepoint))
        .usage("<id>")
        .summary("Makes a place in the transaction to go back to; returns its number."),
    row("tx.rollbackto", 3, FAST, Handler::Now(rollback_to))
        .usage("<id> <savepoint>")
        .complexity("O(N) where N is the number of writes since")
        .summary("Forgets the transaction's writes since the savepoint."),
    row("tx.release", 3, FAST, Handler::Now(release))
        .usage("<id> <savepoint>")
        .summary("Forgets a savepoint and those made since; the writes stay."),
    row("tx.commit", 2, ANY.or(Flags::WRITE), Handler::Later(commit))
        .usage("<id>")
        .complexity("O(N) where N is the number of keys read and written")
        .summary("Makes all that the transaction wrote happen at one moment, or nothing; returns the commit's number, 0 if it wrote nothing."),
    row("tx.rollback", 2, FAST, Handler::Now(rollback))
        .usage("<id>")
        .summary("Ends the transaction; nothing has happened."),
    row("tx.info", 2, FAST, Handler::Now(info))
        .usage("<id>")
        .summary("Tells how much of what a transaction may have this one has."),
    row("tx.fate", 2, ANY, Handler::Later(fate))
        .usage("<id>")
        .summary("Tells what became of a transaction: its commit's number, or nothing if it did not happen. One that is open elsewhere is rolled back."),
];

fn id(text: &[u8]) -> Result<TransactionId, CommandError> {
    const NO_ID: CommandError = CommandError::fixed("ERR a transaction's id has 32 hexadecimal digits");
    hex(text, 32).map(TransactionId).ok_or(NO_ID)
}

fn bounded(what: &str, text: &[u8], max: Duration) -> Result<Duration, CommandError> {
    let time = milliseconds(what, text)?;
    if time <= max {
        return Ok(time);
    }
    Err(CommandError::text(format!("ERR {what} is at most {} ms", max.as_millis())))
}

fn begin<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let (options, isolation) = begin_options(session, request)?;
        let id = session.begin_transaction(options, isolation)?;
        if let Err(error) = wait_turn(session, id).await {
            // Its client never knew of it.
            session.transactions().forget(id);
            return Err(error);
        }
        session.reply().bulk(id.to_string().as_bytes());
        Ok(())
    })
}

/// One that is run again keeps the keys at which it lost, each when it is the oldest that wants it. Beside others of its connection it does
/// not wait: it might be for one of these, which can do nothing as long.
async fn wait_turn(session: &mut Session, id: TransactionId) -> Outcome {
    if session.transactions().open() > 1 {
        return Ok(());
    }
    let turn = session.transactions().with(id, |own| Ok(own.open()?.turn()?))?;
    for mut kept in turn {
        // If nobody is there any more, the transaction ends with its connection.
        let Some(answered) = answer_of(session, &mut kept).await else { return Ok(()) };
        session.transactions().with(id, |own| {
            // One that ended meanwhile says why.
            own.open()?;
            Ok(answered?)
        })?;
    }
    Ok(())
}

/// Whether a key is kept; none if nobody is there any more.
async fn answer_of(session: &mut Session, kept: &mut Pending<()>) -> Option<Result<(), Error>> {
    match kept.is_ready() {
        true => Some(kept.await),
        false => session.wait_watching(kept).await,
    }
}

fn begin_options(session: &Session, request: Request<'_>) -> Result<(TransactionOptions, &'static str), CommandError> {
    let mut options =
        TransactionOptions { durability: session.write_options(Expiry::NEVER).durability, ..Default::default() };
    let mut isolation = "serializable";
    let mut words = request.skip(1).iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(CommandError::SYNTAX);
        match word.to_ascii_lowercase().as_slice() {
            b"isolation" => match value()?.to_ascii_lowercase().as_slice() {
                b"serializable" => (options.isolation, isolation) = (Isolation::StrictSerializable, "serializable"),
                b"snapshot" => (options.isolation, isolation) = (Isolation::Snapshot, "snapshot"),
                _ => return Err(CommandError::SYNTAX),
            },
            b"readonly" => options.read_only = true,
            b"timeout" => options.timeout = bounded("the transaction's timeout", value()?, TIMEOUT_MAX)?,
            b"remember" => options.remember = bounded("the time to remember the fate", value()?, REMEMBER_MAX)?,
            b"again" => options.again = Some(session.transactions().age_of(id(value()?)?)?),
            _ => return Err(CommandError::SYNTAX),
        }
    }
    Ok((options, isolation))
}

fn lent(value: &Value) -> ValueRef<'_> {
    ValueRef { bytes: &value.bytes, kind: value.kind, expiry: value.expiry, version: value.version }
}

fn reply_value(reply: &mut Reply<'_>, found: Option<&Value>) -> Outcome {
    match found {
        Some(value) => reply.bulk(string(lent(value))?.bytes),
        None => reply.null(),
    }
    Ok(())
}

fn get<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let (keyspace, key) = (session.keyspace(), request.arg(2));
        let found = session.transactions().with(id(request.arg(1))?, |own| Ok(own.open()?.get(keyspace, key)?))?;
        session.count_lookup(found.is_some());
        reply_value(&mut session.reply(), found.as_ref())
    })
}

fn get_for_update<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let (keyspace, key, id) = (session.keyspace(), request.arg(2), id(request.arg(1))?);
        let mut kept = session.transactions().with(id, |own| Ok(own.open()?.keep(keyspace, key)?))?;
        // If nobody is there any more, the transaction ends with its connection.
        let Some(answered) = answer_of(session, &mut kept).await else { return Ok(()) };
        let found = session.transactions().with(id, |own| {
            // One that ended meanwhile says why, rather than that nobody waits any more.
            let transaction = own.open()?;
            answered?;
            Ok(transaction.get_kept(keyspace, key)?)
        })?;
        session.count_lookup(found.is_some());
        reply_value(&mut session.reply(), found.as_ref())
    })
}

struct ScanOptions {
    range: ScanRange,
    limit: usize,
}

fn scan_options(session: &Session, request: Request<'_>) -> Result<ScanOptions, CommandError> {
    let mut prefix = None;
    let (mut lower, mut upper, mut reverse, mut limit) = (None, None, false, SCAN_DEFAULT);
    let mut words = request.skip(2).iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(CommandError::SYNTAX);
        let twice = match word.to_ascii_lowercase().as_slice() {
            b"prefix" => prefix.replace(value()?).is_some(),
            b"from" => lower.replace(Bound::Included(value()?.to_vec())).is_some(),
            b"after" => lower.replace(Bound::Excluded(value()?.to_vec())).is_some(),
            b"to" => upper.replace(Bound::Included(value()?.to_vec())).is_some(),
            b"before" => upper.replace(Bound::Excluded(value()?.to_vec())).is_some(),
            b"reverse" => std::mem::replace(&mut reverse, true),
            b"limit" => {
                limit = match integer(value()?)? {
                    n @ 1..=SCAN_MAX => n as usize,
                    _ => return Err(CommandError::text(format!("ERR the limit is between 1 and {SCAN_MAX}"))),
                };
                false
            }
            _ => return Err(CommandError::SYNTAX),
        };
        if twice {
            return Err(CommandError::SYNTAX);
        }
    }
    let keyspace = session.keyspace();
    let mut range = prefix.map_or(ScanRange::all(keyspace), |prefix| ScanRange::prefix(keyspace, prefix));
    range.reverse = reverse;
    if let Some(lower) = lower.filter(|lower| place(lower) >= place(&range.lower)) {
        range.lower = lower;
    }
    if let Some(upper) = upper.filter(|upper| {
        let ends = place(&range.upper);
        ends.is_none() || place(upper) < ends
    }) {
        range.upper = upper;
    }
    Ok(ScanOptions { range, limit })
}

fn place(bound: &Bound<Vec<u8>>) -> Option<&[u8]> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    }
}

fn scan<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let ScanOptions { range, limit } = scan_options(session, request)?;
        let mut own = session.transactions().take(id(request.arg(1))?)?;
        let scanned = scan_in(session, &mut own, range, limit).await;
        session.transactions().put_back(own);
        let (found, count) = scanned?;
        session.reply().array(2 * count);
        for chunk in found.chunks(1 << 20) {
            session.reply().raw(chunk);
            session.relieve_if_full().await?;
        }
        Ok(())
    })
}

/// Keys and strings as they are replied, and how many of them.
async fn scan_in(
    session: &Session,
    own: &mut Interactive,
    mut range: ScanRange,
    limit: usize,
) -> Result<(Vec<u8>, usize), CommandError> {
    let (mut found, mut count) = (Vec::new(), 0);
    let max = session.reply_bytes_max();
    while count < limit {
        let wanted = SCAN_PIECE.min(limit - count);
        let entries = own.open()?.scan_async(range.clone(), wanted).await?;
        let mut reply = Reply::new(&mut found, session.protocol());
        for entry in &entries {
            reply.bulk(&entry.key);
            match entry.value.kind {
                Kind::BYTES => reply.bulk(&entry.value.bytes),
                _ => reply.null(),
            }
        }
        count += entries.len();
        if found.len() as u64 > max {
            return Err(CommandError::text(format!(
                "ERR the reply would be longer than {max} bytes (client-output-buffer-limit); ask for less by LIMIT"
            )));
        }
        match entries.into_iter().next_back() {
            Some(last) if count.is_multiple_of(SCAN_PIECE) => {
                let from = Bound::Excluded(last.key);
                if range.reverse { range.upper = from } else { range.lower = from }
            }
            _ => break,
        }
        session.yield_now().await;
    }
    Ok((found, count))
}

fn set<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let (keyspace, tells, rest) = (session.keyspace(), session.tells(), request.skip(1));
        let options = StringOptions::parse_set(rest)?;
        let expiry = options.expiry(session.wall_ms(), "tx.set")?;
        let (key, value) = (rest.arg(1), rest.arg(2));
        let (written, before) = session.transactions().with(id(request.arg(1))?, |own| {
            if options.is_plain() {
                own.put(keyspace, key, value, expiry.unwrap_or(Expiry::NEVER), tells)?;
                return Ok((true, None));
            }
            let found = own.open()?.get(keyspace, key)?;
            if options.get || options.when.compares() {
                found.as_ref().map(lent).map(string).transpose()?;
            }
            let allowed = options.when.allows(found.as_ref().map(|value| &value.bytes[..]));
            if allowed {
                let kept = found.as_ref().filter(|_| options.keep_ttl).map_or(Expiry::NEVER, |value| value.expiry);
                own.put(keyspace, key, value, expiry.unwrap_or(kept), tells)?;
            }
            Ok((allowed, found))
        })?;
        match (options.get, written) {
            (true, _) => return reply_value(&mut session.reply(), before.as_ref()),
            (false, true) => session.reply().ok(),
            (false, false) => session.reply().null(),
        }
        Ok(())
    })
}

fn del<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let (keyspace, tells) = (session.keyspace(), session.tells());
        let deleted = session.transactions().with(id(request.arg(1))?, |own| {
            let mut deleted = 0;
            for key in request.skip(2).iter() {
                deleted += i64::from(own.delete(keyspace, key, tells)?);
            }
            Ok(deleted)
        })?;
        session.reply().integer(deleted);
        Ok(())
    })
}

fn guard(session: &mut Session, request: Request<'_>) -> Outcome {
    let guard = Guard { name: request.arg(2).to_vec(), token: parse_token(request.arg(3))? };
    session.transactions().with(id(request.arg(1))?, |own| Ok(own.open()?.guard(guard)?))?;
    session.reply().ok();
    Ok(())
}

fn savepoint(session: &mut Session, request: Request<'_>) -> Outcome {
    let Savepoint(number) = session.transactions().with(id(request.arg(1))?, Interactive::savepoint)?;
    session.reply().integer(i64::try_from(number).unwrap_or(i64::MAX));
    Ok(())
}

fn which(text: &[u8]) -> Result<Savepoint, CommandError> {
    let number = u64::try_from(integer(text)?);
    number.map(Savepoint).map_err(|_| CommandError::NOT_AN_INTEGER)
}

fn rollback_to(session: &mut Session, request: Request<'_>) -> Outcome {
    let savepoint = which(request.arg(2))?;
    session.transactions().with(id(request.arg(1))?, |own| own.rollback_to(savepoint))?;
    session.reply().ok();
    Ok(())
}

fn release(session: &mut Session, request: Request<'_>) -> Outcome {
    let savepoint = which(request.arg(2))?;
    session.transactions().with(id(request.arg(1))?, |own| Ok(own.open()?.release(savepoint)?))?;
    session.reply().ok();
    Ok(())
}

fn rollback(session: &mut Session, request: Request<'_>) -> Outcome {
    session.transactions().with(id(request.arg(1))?, Interactive::rollback)?;
    session.reply().ok();
    Ok(())
}

fn commit<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let id = id(request.arg(1))?;
        let mut own = session.transactions().take(id)?;
        let ended = match own.commit() {
            Ok(answer) => answer.await.map_err(|error| match error.may_have_committed() {
                true => CommandError::unknown_outcome(error, id),
                false => error.into(),
            }),
            Err(refused) => Err(refused),
        };
        session.transactions().put_back(own);
        let commit = ended?;
        session.reply().integer(i64::try_from(commit.0).unwrap_or(i64::MAX));
        Ok(())
    })
}

fn info(session: &mut Session, request: Request<'_>) -> Outcome {
    let (isolation, read_only, usage) = session.transactions().with(id(request.arg(1))?, |own| {
        own.open()?;
        Ok((own.isolation, own.read_only, own.usage()))
    })?;
    let mut reply = session.reply();
    reply.map(8);
    reply.bulk(b"isolation");
    reply.bulk(isolation.as_bytes());
    reply.bulk(b"read-only");
    reply.integer(i64::from(read_only));
    for (name, used) in [
        ("write-bytes", usage.write_bytes),
        ("write-bytes-max", usage.write_bytes_max),
        ("reads", usage.reads),
        ("reads-max", usage.reads_max),
        ("age-ms", usage.age_ms),
        ("age-ms-max", usage.age_ms_max),
    ] {
        reply.bulk(name.as_bytes());
        reply.integer(i64::try_from(used).unwrap_or(i64::MAX));
    }
    Ok(())
}

fn fate<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    const OPEN: CommandError =
        CommandError::fixed("ERR the transaction is open on this connection: TX.COMMIT it, or TX.ROLLBACK");
    const ENDING: CommandError = CommandError::fixed("TRYAGAIN the transaction is being committed; ask again");
    Box::pin(async move {
        let id = id(request.arg(1))?;
        if session.transactions().has_open(id) {
            return Err(OPEN);
        }
        match session.open_transactions().settle(id) {
            Standing::Ending => return Err(ENDING),
            Standing::Over => {}
        }
        match session.client().fate(id).await? {
            Fate::Committed(commit) => session.reply().integer(i64::try_from(commit.0).unwrap_or(i64::MAX)),
            Fate::NotCommitted => session.reply().null(),
        }
        Ok(())
    })
}
