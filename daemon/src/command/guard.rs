//! GUARD: a write that takes effect only while a lock is held.
//!
//! Guards: the token is checked in the same step as the write, so that no stale holder's write gets in between. Between MULTI and
//! EXEC they are those of the whole transaction.

use corering_engine::Guard;

use super::errors::CommandError;
use super::locks::parse_token;
use super::sessions::row;
use super::spec::{Command, Flags, Group, Handler, Outcome};
use super::table::{self, Entry};
use crate::resp::Request;
use crate::server::Session;

/// Guards before one command.
const GUARDS_MAX: usize = 16;

pub const COMMANDS: &[Command] = &[row("guard", -3, Flags::WRITE.or(Flags::DENYOOM), Handler::Now(guard))
    .usage("<name> <token> [GUARD <name> <token> ...] <write command>, or <name> <token> after MULTI")
    .complexity("that of the command")
    .summary("Runs a command that writes keys, only if the token holds its lock at the moment at which the write takes effect.")];

fn guard(session: &mut Session, request: Request<'_>) -> Outcome {
    let (mut rest, mut guards) = (request, Vec::new());
    while rest.arg(0).eq_ignore_ascii_case(b"guard") {
        if guards.len() >= GUARDS_MAX {
            return Err(CommandError::text(format!("ERR a write has at most {GUARDS_MAX} guards")));
        }
        if rest.len() < 3 {
            return Err(CommandError::arity("guard"));
        }
        guards.push(Guard { name: rest.arg(1).to_vec(), token: parse_token(rest.arg(2))? });
        rest = rest.skip(3);
    }
    if rest.is_empty() {
        return guard_all(session, guards);
    }
    let entry = table::find(rest.arg(0)).ok_or(NOT_A_WRITE)?;
    if !entry.command.takes(rest.len()) {
        return Err(CommandError::arity(&entry.full_name));
    }
    let Handler::Now(run) = entry.command.handler else { return Err(NOT_A_WRITE) };
    if !writes_keys(entry) {
        return Err(NOT_A_WRITE);
    }
    session.guard_by(guards);
    let outcome = run(session, rest);
    session.guard_by(Vec::new());
    outcome
}

/// Without a command it is for all of an EXEC.
fn guard_all(session: &mut Session, guards: Vec<Guard>) -> Outcome {
    if !session.is_gathering() {
        return Err(NOT_A_WRITE);
    }
    session.gather_guards(guards);
    session.reply().ok();
    Ok(())
}

const NOT_A_WRITE: CommandError =
    CommandError::fixed("ERR GUARD goes before a command that writes keys, or between MULTI and EXEC");

/// Such a command's program is handed to `Session::submit`, which sees to the guards.
fn writes_keys(entry: &Entry) -> bool {
    let within_another = entry.command.group == Group::Transactions;
    entry.command.flags.has(Flags::WRITE) && !entry.command.keys.is_empty() && !within_another
}
