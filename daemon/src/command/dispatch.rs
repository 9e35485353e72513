//! From a request to the handler that answers it, or the reason why none may.

use super::errors::CommandError;
use super::pubsub::allowed_while_listening;
use super::spec::Flags;
use super::table::{self, Entry};
use crate::resp::{Protocol, Request};
use crate::server::Session;

/// Bytes of a name, and of all arguments, that an error repeats.
const ECHO_LEN_MAX: usize = 128;

/// What becomes of a request.
pub enum Resolved {
    Run(&'static Entry),
    /// A web page made a browser send this: it is no client.
    CloseAtOnce,
}

pub fn resolve(session: &Session, request: Request<'_>) -> Result<Resolved, CommandError> {
    let name = request.arg(0);
    let Some(mut entry) = table::find(name) else {
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            return Ok(Resolved::CloseAtOnce);
        }
        return Err(unknown_command(request));
    };
    if !entry.subcommands.is_empty() && request.len() > 1 {
        entry = table::find_sub(entry, request.arg(1)).ok_or_else(|| unknown_subcommand(entry, request))?;
    }
    if !entry.command.takes(request.len()) {
        return Err(CommandError::arity(&entry.full_name));
    }
    if !session.is_authenticated() && !entry.command.flags.has(Flags::NO_AUTH) {
        return Err(CommandError::NO_AUTH);
    }
    let listens = session.protocol() == Protocol::Resp2 && session.info().listens();
    if listens && !allowed_while_listening(entry.command.name) {
        return Err(CommandError::text(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            entry.full_name
        )));
    }
    Ok(Resolved::Run(entry))
}

/// As C prints it: up to a zero byte, and no more than `max` bytes.
fn c_string(bytes: &[u8], max: usize) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end.min(max)).unwrap_or_default()
}

fn unknown_command(request: Request<'_>) -> CommandError {
    let mut args = Vec::new();
    for arg in request.skip(1).iter() {
        if args.len() >= ECHO_LEN_MAX {
            break;
        }
        let room = ECHO_LEN_MAX - args.len();
        args.push(b'\'');
        args.extend_from_slice(c_string(arg, room));
        args.extend_from_slice(b"' ");
    }
    let name = c_string(request.arg(0), ECHO_LEN_MAX);
    CommandError::bytes([b"ERR unknown command '", name, b"', with args beginning with: ", args.as_slice()].concat())
}

fn unknown_subcommand(entry: &Entry, request: Request<'_>) -> CommandError {
    let name = c_string(request.arg(1), ECHO_LEN_MAX);
    let container = entry.command.name.to_ascii_uppercase();
    CommandError::bytes([b"ERR unknown subcommand '", name, b"'. Try ", container.as_bytes(), b" HELP."].concat())
}
