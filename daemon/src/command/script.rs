//! EVAL and its kin: scripts in Lua, as Redis has them.
//!
//! Guards: a script is one atomic step on whatever keys it uses, durable at the level of other writes before it is answered. If keys that
//! it looked at change while it runs, it runs again; only the last run counts.

use corering_engine::runtime::LocalFuture;
use futures_lite::future::{block_on, poll_once};

use super::errors::CommandError;
use super::spec::{Access, Categories, Command, Flags, Group, Handler, Keys, Outcome};
use super::strings::integer;
use super::table::{self, Entry};
use super::transaction;
use crate::resp::{KeptRequest, Protocol, Reply, Request, Value};
use crate::script::{self, Failure, Script, Sha, Stop};
use crate::server::{Attempt, Session, Tried};

const EVAL: Flags =
    Flags::NOSCRIPT.or(Flags::STALE).or(Flags::SKIP_MONITOR).or(Flags::NO_MANDATORY_KEYS).or(Flags::MOVABLEKEYS);
const EVAL_RO: Flags = EVAL.or(Flags::READONLY);
const CHANGED: Keys = Keys::counted(2, Access::RW.or(Access::ACCESS).or(Access::UPDATE));
const READ: Keys = Keys::counted(2, Access::RO.or(Access::ACCESS));
const KEYS: &[Keys] =
    &[CHANGED.noted("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")];
const KEYS_RO: &[Keys] =
    &[READ.noted("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")];
/// Runs of one script, before others that change its keys are told on.
const ATTEMPTS_MAX: u32 = 1000;

const fn row(name: &'static str, arity: i32, since: &'static str, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Scripting, since, handler).flags(flags).categories(Categories::SCRIPTING)
}

pub const COMMANDS: &[Command] = &[
    row("eval", -3, "2.6.0", EVAL, Handler::Later(eval))
        .keys(KEYS)
        .complexity("Depends on the script that is executed.")
        .summary("Runs a script in Lua, in one step."),
    row("evalsha", -3, "2.6.0", EVAL, Handler::Later(evalsha))
        .keys(&[CHANGED])
        .complexity("Depends on the script that is executed.")
        .summary("Runs a script that is known by its SHA-1."),
    row("eval_ro", -3, "7.0.0", EVAL_RO, Handler::Later(eval_ro))
        .keys(KEYS_RO)
        .complexity("Depends on the script that is executed.")
        .summary("Runs a script that only reads."),
    row("evalsha_ro", -3, "7.0.0", EVAL_RO, Handler::Later(evalsha_ro))
        .keys(&[READ])
        .complexity("Depends on the script that is executed.")
        .summary("Runs a script that only reads and is known by its SHA-1."),
    Command::new("script", -2, Group::Scripting, "2.6.0", Handler::Container)
        .complexity("Depends on subcommand.")
        .summary("A container for commands about scripts.")
        .subcommands(SUBCOMMANDS),
];

const SUBCOMMANDS: &[Command] = &[
    row("load", 3, "2.6.0", Flags::NOSCRIPT.or(Flags::STALE), Handler::Now(load))
        .usage("<script>")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .complexity("O(N) with N being the length in bytes of the script body.")
        .summary("Keeps a script for EVALSHA; answers its SHA-1."),
    row("exists", -3, "2.6.0", Flags::NOSCRIPT, Handler::Now(exists))
        .usage("<sha1> [<sha1> ...]")
        .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"])
        .complexity("O(N) with N being the number of scripts to check.")
        .summary("Says of each script whether EVALSHA would find it."),
    row("flush", -2, "2.6.0", Flags::NOSCRIPT, Handler::Now(flush))
        .usage("[ASYNC|SYNC]")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .complexity("O(N) with N being the number of scripts in cache")
        .summary("Forgets all scripts."),
    row("kill", 2, "2.6.0", Flags::NOSCRIPT.or(Flags::ALLOW_BUSY), Handler::Now(kill))
        .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
        .summary("Would end a script that runs for long; none does."),
    row("help", 2, "5.0.0", Flags::LOADING.or(Flags::STALE), Handler::Now(help)).summary("Prints this help."),
];

const NO_SCRIPT: CommandError = CommandError::fixed("NOSCRIPT No matching script. Please use EVAL.");

fn eval<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(run_source(session, request, false))
}

fn eval_ro<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(run_source(session, request, true))
}

fn evalsha<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(run_known(session, request, false))
}

fn evalsha_ro<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(run_known(session, request, true))
}

async fn run_source(session: &mut Session, request: Request<'_>, reads_only: bool) -> Outcome {
    let sha = Sha::of(request.arg(1));
    check_keys(request)?;
    script::check(&sha, &body(request.arg(1))?.0).map_err(CommandError::bytes)?;
    let source = session.scripts().remember(&sha, request.arg(1));
    execute(session, request, &sha, &source, reads_only).await
}

async fn run_known(session: &mut Session, request: Request<'_>, reads_only: bool) -> Outcome {
    let sha = Sha::parse(request.arg(1)).ok_or(NO_SCRIPT)?;
    let source = session.scripts().get(&sha).ok_or(NO_SCRIPT)?;
    execute(session, request, &sha, &source, reads_only).await
}

/// How many of the arguments are keys.
fn check_keys(request: Request<'_>) -> Result<usize, CommandError> {
    let count = integer(request.arg(2))?;
    match usize::try_from(count) {
        Err(_) => Err(CommandError::fixed("ERR Number of keys can't be negative")),
        Ok(count) if count > request.len() - 3 => {
            Err(CommandError::fixed("ERR Number of keys can't be greater than number of args"))
        }
        Ok(count) => Ok(count),
    }
}

/// The script without its first line, if that says what it is (`#!lua flags=no-writes`); and whether it only reads.
fn body(source: &[u8]) -> Result<(Vec<u8>, bool), CommandError> {
    let Some(rest) = source.strip_prefix(b"#!") else { return Ok((source.to_vec(), false)) };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (line, code) = rest.split_at(end);
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    if words.next() != Some("lua") {
        return Err(CommandError::text(format!("ERR Could not find scripting engine '{}'", line.trim())));
    }
    let mut reads_only = false;
    for word in words {
        let Some(flags) = word.strip_prefix("flags=") else {
            return Err(CommandError::text(format!("ERR Unknown lua shebang option: {word}")));
        };
        for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
            match flag {
                "no-writes" => reads_only = true,
                "allow-oom" | "allow-stale" | "no-cluster" | "allow-cross-slot-keys" => {}
                other => return Err(CommandError::text(format!("ERR Unexpected flag in script shebang: {other}"))),
            }
        }
    }
    // The end of the line stays, so that lines keep their numbers.
    Ok((code.to_vec(), reads_only))
}

async fn execute(session: &mut Session, request: Request<'_>, sha: &Sha, source: &[u8], reads_only: bool) -> Outcome {
    let key_count = check_keys(request)?;
    let (source, says_reads_only) = body(source)?;
    let reads_only = reads_only || says_reads_only;
    let words: Vec<&[u8]> = request.iter().skip(3).collect();
    let (keys, args) = words.split_at(key_count);
    let (before, protocol) = (session.keyspace(), session.speak(Protocol::Resp2));
    let mut outcome = Err(CommandError::fixed("TRYAGAIN the keys of the script change all the time; try again"));
    for _ in 0..ATTEMPTS_MAX {
        let mut attempt = Attempt::default();
        let (mut failed, mut not_now) = (None, None);
        let given = Script { sha, source: &source, keys: keys.to_vec(), args: args.to_vec() };
        let ran = script::run(&given, &mut |words| {
            match call(session, &mut attempt, &words, reads_only) {
                Ok(Tried::Answered(value)) => Ok(value),
                Ok(Tried::NotNow(pending)) => {
                    not_now = Some(pending);
                    Err(Stop)
                }
                // What the engine could not do ends the script; what a command refused, it may handle.
                Ok(Tried::Failed(error)) => {
                    failed = Some(error);
                    Err(Stop)
                }
                Err(refusal) => Ok(Value::Error(refusal.as_bytes().to_vec())),
            }
        });
        if let Some(error) = failed {
            outcome = Err(error);
            break;
        }
        if let Some(pending) = not_now {
            session.select(before);
            if let Err(error) = pending.await {
                outcome = Err(error.into());
                break;
            }
            continue;
        }
        // As in Redis, what a script did before it failed stays.
        match session.commit_script(attempt).await {
            Ok(true) => {
                outcome = match ran {
                    Ok(value) => Ok(value),
                    Err(Failure::Error(text)) => Err(CommandError::bytes(text)),
                    Err(Failure::Stopped) => Err(CommandError::fixed("ERR the script had to end")),
                };
                break;
            }
            Ok(false) => {
                session.select(before);
                session.yield_now().await;
            }
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    session.select(before);
    session.speak(protocol);
    match outcome? {
        Value::Error(text) => Err(CommandError::bytes(text)),
        value => {
            write(&mut session.reply(), &value);
            Ok(())
        }
    }
}

/// One command of a script.
fn call(
    session: &mut Session,
    attempt: &mut Attempt,
    words: &[Vec<u8>],
    reads_only: bool,
) -> Result<Tried, CommandError> {
    let kept = KeptRequest::of(words);
    let request = kept.request();
    let mut entry =
        table::find(request.arg(0)).ok_or(CommandError::fixed("ERR Unknown Redis command called from script"))?;
    if !entry.subcommands.is_empty() && request.len() > 1 {
        entry = table::find_sub(entry, request.arg(1))
            .ok_or(CommandError::fixed("ERR Unknown Redis command called from script"))?;
    }
    if !entry.command.takes(request.len()) {
        return Err(CommandError::fixed("ERR Wrong number of args calling Redis command from script"));
    }
    if !may_be_called(entry) {
        return Err(CommandError::fixed("ERR This Redis command is not allowed from script"));
    }
    if reads_only && entry.command.flags.has(Flags::WRITE) {
        return Err(CommandError::fixed("ERR Write commands are not allowed from read-only scripts."));
    }
    session.begin_gathering();
    // What does something to keys only says what, and is ready at once.
    let ran = block_on(poll_once(transaction::run(session, entry, request)));
    let gathered = session.end_gathering();
    ran.unwrap_or(Err(CommandError::fixed("ERR This Redis command is not allowed from script")))?;
    Ok(session.try_step(attempt, gathered))
}

/// What does something to the keys that it names, and a few that do nothing.
fn may_be_called(entry: &Entry) -> bool {
    let command = entry.command;
    let harmless = ["select", "ping", "echo", "time", "guard"].contains(&entry.full_name.as_str());
    let on_keys = !command.keys.is_empty()
        && (command.flags.has(Flags::WRITE) || command.flags.has(Flags::READONLY))
        && !command.flags.has(Flags::NO_MULTI)
        && !command.flags.has(Flags::NOSCRIPT);
    let watches = entry.full_name.starts_with("key.") && entry.full_name != "key.put";
    harmless || (on_keys && !watches && command.group != Group::Lock)
}

fn write(reply: &mut Reply<'_>, value: &Value) {
    match value {
        Value::Integer(number) => reply.integer(*number),
        Value::Bulk(bytes) => reply.bulk(bytes),
        Value::Simple(text) => reply.simple(&String::from_utf8_lossy(text)),
        Value::Error(text) => reply.error(text),
        Value::Array(items) => {
            reply.array(items.len());
            items.iter().for_each(|item| write(reply, item));
        }
        _ => reply.null(),
    }
}

fn load(session: &mut Session, request: Request<'_>) -> Outcome {
    let source = request.arg(2);
    let sha = Sha::of(source);
    script::check(&sha, &body(source)?.0).map_err(CommandError::bytes)?;
    if !session.scripts().load(&sha, source) {
        return Err(CommandError::fixed(
            "ERR the scripts that are loaded take all the room there is for them; SCRIPT FLUSH",
        ));
    }
    session.reply().bulk(sha.hex().as_bytes());
    Ok(())
}

fn exists(session: &mut Session, request: Request<'_>) -> Outcome {
    let known = |hex: &[u8]| Sha::parse(hex).is_some_and(|sha| session.scripts().get(&sha).is_some());
    let found: Vec<bool> = request.iter().skip(2).map(known).collect();
    let mut reply = session.reply();
    reply.array(found.len());
    found.into_iter().for_each(|found| reply.integer(i64::from(found)));
    Ok(())
}

fn flush(session: &mut Session, request: Request<'_>) -> Outcome {
    let how = request.get(2).unwrap_or(b"SYNC");
    let known = how.eq_ignore_ascii_case(b"sync") || how.eq_ignore_ascii_case(b"async");
    if request.len() > 3 || !known {
        return Err(CommandError::fixed("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    session.scripts().flush();
    script::forget();
    session.reply().ok();
    Ok(())
}

fn kill(_: &mut Session, _: Request<'_>) -> Outcome {
    Err(CommandError::fixed("NOTBUSY No scripts in execution right now."))
}

fn help(session: &mut Session, _: Request<'_>) -> Outcome {
    table::reply_help(session, "SCRIPT", SUBCOMMANDS);
    Ok(())
}
