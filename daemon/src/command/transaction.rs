//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! Guards: what the commands of an EXEC do to keys, on whatever shards, is one step, and nothing comes between it and the look at the
//! watched keys. Commands that do nothing to keys run after it, at their places: a PUBLISH tells of what has happened.

use corering_engine::runtime::LocalFuture;

use super::errors::CommandError;
use super::spec::{Categories, Command, Flags, Group, Handler, Outcome};
use super::table::Entry;
use crate::resp::Request;
use crate::server::{Batch, Part, Session};

const EARLY: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);
const FAST: Flags = EARLY.or(Flags::FAST).or(Flags::ALLOW_BUSY);

const fn row(name: &'static str, arity: i32, since: &'static str, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Transactions, since, handler).flags(flags).categories(Categories::TRANSACTION)
}

pub const COMMANDS: &[Command] = &[
    row("multi", 1, "1.2.0", FAST, Handler::Now(multi)).summary("Begins a transaction: commands wait for EXEC."),
    row("exec", 1, "1.2.0", EARLY.or(Flags::SKIP_SLOWLOG), Handler::Later(exec))
        .complexity("Depends on commands in the transaction")
        .summary("Runs the commands of the transaction in one step."),
    row("discard", 1, "2.0.0", FAST, Handler::Now(discard))
        .complexity("O(N), when N is the number of queued commands")
        .summary("Forgets the commands of the transaction."),
    row("watch", -2, "2.2.0", FAST, Handler::Later(watch))
        .keys(&[super::spec::Keys::all(1, super::spec::Access::RO)])
        .complexity("O(1) for every key.")
        .summary("Has the next EXEC do nothing if one of the keys changes before it."),
    row("unwatch", 1, "2.2.0", FAST, Handler::Now(unwatch)).summary("Forgets which keys were watched."),
];

const EXEC_ABORT: CommandError = CommandError::fixed("EXECABORT Transaction discarded because of previous errors.");
const NOT_INSIDE: CommandError = CommandError::fixed("ERR Command not allowed inside a transaction");

fn multi(session: &mut Session, _: Request<'_>) -> Outcome {
    if session.is_queueing() {
        return Err(CommandError::fixed("ERR MULTI calls can not be nested"));
    }
    session.begin_queue();
    session.reply().ok();
    Ok(())
}

fn discard(session: &mut Session, _: Request<'_>) -> Outcome {
    session.end_queue().ok_or(CommandError::fixed("ERR DISCARD without MULTI"))?;
    session.reply().ok();
    Ok(())
}

fn unwatch(session: &mut Session, _: Request<'_>) -> Outcome {
    session.unwatch();
    session.reply().ok();
    Ok(())
}

fn watch<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        if session.is_queueing() {
            return Err(CommandError::fixed("ERR WATCH inside MULTI is not allowed"));
        }
        session.watch(request).await?;
        session.reply().ok();
        Ok(())
    })
}

/// Whether a command waits for EXEC where there was a MULTI.
pub fn waits_for_exec(session: &Session, entry: &Entry) -> bool {
    let at_once = ["exec", "discard", "multi", "watch", "quit", "reset"];
    session.is_queueing() && !at_once.contains(&entry.full_name.as_str())
}

/// Keep a command for EXEC.
pub fn queue(session: &mut Session, entry: &'static Entry, request: Request<'_>) -> Outcome {
    let command = entry.command;
    let is_lock = command.group == Group::Lock && command.name != "guard";
    let is_watch = entry.full_name.starts_with("key.") && entry.full_name != "key.put";
    let is_script = command.group == Group::Scripting && !command.keys.is_empty();
    if command.flags.has(Flags::NO_MULTI) || is_lock || is_watch || is_script {
        return Err(NOT_INSIDE);
    }
    if !is_part_of_step(entry) && (command.flags.has(Flags::WRITE) || command.flags.has(Flags::READONLY)) {
        return Err(CommandError::text(format!("ERR '{}' is not possible inside a transaction", entry.full_name)));
    }
    session.enqueue(entry, request)?;
    session.reply().simple("QUEUED");
    Ok(())
}

/// A request was refused before it was run. An EXEC after that is refused too.
pub fn reject(session: &mut Session, request: Request<'_>, error: CommandError) {
    let mut error = error;
    if session.is_queueing() && request.arg(0).eq_ignore_ascii_case(b"exec") {
        session.end_queue();
        let why = error.as_bytes().strip_prefix(b"ERR ").unwrap_or(error.as_bytes());
        error = CommandError::bytes([b"EXECABORT Transaction discarded because of: ", why].concat());
    }
    spoil(session);
    session.fail(&error);
}

/// The transaction under way, if there is one, cannot be executed any more.
pub fn spoil(session: &mut Session) {
    if let Some(queue) = session.queue() {
        queue.refused = true;
    }
}

/// Commands that name no keys and have their place in the step.
const WITHOUT_KEYS: &[&str] =
    &["guard", "select", "unwatch", "keys", "scan", "dbsize", "randomkey", "flushdb", "flushall"];

/// Whether a command does something to keys, or chooses the database for those that do.
fn is_part_of_step(entry: &Entry) -> bool {
    !entry.command.keys.is_empty() || WITHOUT_KEYS.contains(&entry.command.name)
}

fn exec<'a>(session: &'a mut Session, _: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let (queue, watched) = session.end_queue().ok_or(CommandError::fixed("ERR EXEC without MULTI"))?;
        if queue.refused {
            return Err(EXEC_ABORT);
        }
        let before = session.keyspace();
        let mut batch = Batch::default();
        for (entry, request) in queue.requests.iter().filter(|(entry, _)| is_part_of_step(entry)) {
            session.begin_gathering();
            let outcome = run(session, entry, request.request()).await;
            batch.add(session.end_gathering(), outcome);
        }
        let ran = session.run_batch(batch, watched).await;
        if let (Ok(parts), Some(stats)) = (&ran, session.shard_stats()) {
            if parts.is_some() { stats.exec_committed.add(1) } else { stats.exec_watched.add(1) }
        }
        let parts = match ran {
            Ok(Some(parts)) => parts,
            Ok(None) => {
                session.select(before);
                session.reply().null_array();
                return Ok(());
            }
            Err(error) => {
                session.select(before);
                return Err(error);
            }
        };
        session.reply().array(queue.requests.len());
        let mut parts = parts.into_iter();
        for (entry, request) in &queue.requests {
            let outcome = match is_part_of_step(entry).then(|| parts.next()).flatten() {
                None => run(session, entry, request.request()).await,
                Some(Part::Step(super::Answer::Failed(error)) | Part::Failed(error)) => Err(error),
                Some(Part::Step(answer)) => answer.write(&mut session.reply()),
                Some(Part::Reply(bytes)) => {
                    session.reply().raw(&bytes);
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                session.fail(&error);
            }
            session.relieve_if_full().await?;
        }
        Ok(())
    })
}

/// Run a command by whatever handler it has.
pub async fn run(session: &mut Session, entry: &Entry, request: Request<'_>) -> Outcome {
    match entry.command.handler {
        Handler::Now(run) => run(session, request),
        Handler::Later(run) => run(session, request).await,
        Handler::Container => Err(CommandError::arity(&entry.full_name)),
    }
}
