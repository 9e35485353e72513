//! Commands about the connection itself: its protocol, its database, who it is.

use corering_engine::Keyspace;

use super::DATABASES;
use super::errors::CommandError;
use super::pubsub;
use super::spec::{Categories, Command, Flags, Group, Handler, Outcome};
use super::strings::integer;
use crate::resp::{Protocol, Request, parse_i64};
use crate::server::Session;

const EARLY: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST);
/// Allowed before a password was given.
const ALWAYS: Flags = EARLY.or(Flags::NO_AUTH).or(Flags::ALLOW_BUSY);
const PLAIN: Flags = Flags::LOADING.or(Flags::STALE).or(Flags::FAST);

const fn row(name: &'static str, arity: i32, since: &'static str, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Connection, since, handler).flags(flags).categories(Categories::CONNECTION)
}

pub const COMMANDS: &[Command] = &[
    row("auth", -2, "1.0.0", ALWAYS, Handler::Now(auth)).summary("Gives the password."),
    row("hello", -1, "6.0.0", ALWAYS, Handler::Now(hello))
        .summary("Chooses the protocol version, gives the password and the name."),
    row("ping", -1, "1.0.0", Flags::FAST, Handler::Now(ping))
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .summary("Returns PONG, or what it was given."),
    row("echo", 2, "1.0.0", PLAIN, Handler::Now(echo)).summary("Returns what it was given."),
    row("quit", -1, "1.0.0", ALWAYS, Handler::Now(quit)).summary("Closes the connection."),
    row("reset", 1, "6.2.0", ALWAYS, Handler::Now(reset)).summary("Puts the connection back into its first state."),
    row("select", 2, "1.0.0", PLAIN, Handler::Now(select)).summary("Chooses the database."),
];

fn ping(session: &mut Session, request: Request<'_>) -> Outcome {
    match request.len() {
        1 | 2 if pubsub::pong(session, request) => {}
        1 => session.reply().simple("PONG"),
        2 => session.reply().bulk(request.arg(1)),
        _ => return Err(CommandError::arity("ping")),
    }
    Ok(())
}

fn echo(session: &mut Session, request: Request<'_>) -> Outcome {
    session.reply().bulk(request.arg(1));
    Ok(())
}

fn quit(session: &mut Session, _: Request<'_>) -> Outcome {
    session.reply().ok();
    session.close_after_reply();
    Ok(())
}

fn reset(session: &mut Session, _: Request<'_>) -> Outcome {
    session.reset();
    session.reply().simple("RESET");
    Ok(())
}

fn select(session: &mut Session, request: Request<'_>) -> Outcome {
    session.select(database(request.arg(1))?);
    session.reply().ok();
    Ok(())
}

/// The keyspace of a database's number.
pub(super) fn database(text: &[u8]) -> Result<Keyspace, CommandError> {
    let number = integer(text)?;
    if i32::try_from(number).is_err() {
        return Err(CommandError::fixed("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    match u16::try_from(number) {
        Ok(database) if database < DATABASES => Ok(Keyspace(database)),
        _ => Err(CommandError::fixed("ERR DB index is out of range")),
    }
}

/// The one user there is.
pub(super) const USER: &[u8] = b"default";

fn auth(session: &mut Session, request: Request<'_>) -> Outcome {
    let (user, password) = match request.len() {
        2 if session.settings().requirepass.is_empty() => {
            return Err(CommandError::fixed(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        2 => (USER, request.arg(1)),
        3 => (request.arg(1), request.arg(2)),
        _ => return Err(CommandError::SYNTAX),
    };
    check(session, user, password)?;
    session.authenticate();
    session.reply().ok();
    Ok(())
}

fn check(session: &Session, user: &[u8], password: &[u8]) -> Outcome {
    let expected = session.settings().requirepass.as_bytes();
    if user == USER && (expected.is_empty() || same(expected, password)) {
        Ok(())
    } else {
        Err(CommandError::WRONG_PASS)
    }
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

fn hello(session: &mut Session, request: Request<'_>) -> Outcome {
    let mut protocol = session.protocol();
    if let Some(version) = request.get(1) {
        protocol = match parse_i64(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(CommandError::fixed("NOPROTO unsupported protocol version")),
            None => {
                return Err(CommandError::fixed("ERR Protocol version is not an integer or out of range"));
            }
        };
    }
    let (mut credentials, mut name) = (None, None);
    let mut words = request.skip(2);
    while let Some(word) = words.get(0) {
        let taken = if word.eq_ignore_ascii_case(b"auth") && words.len() > 2 {
            credentials = Some((words.arg(1), words.arg(2)));
            3
        } else if word.eq_ignore_ascii_case(b"setname") && words.len() > 1 {
            valid_name("Client names", words.arg(1))?;
            name = Some(words.arg(1));
            2
        } else {
            return Err(CommandError::bytes([b"ERR Syntax error in HELLO option '", word, b"'"].concat()));
        };
        words = words.skip(taken);
    }
    if let Some((user, password)) = credentials {
        check(session, user, password)?;
        session.authenticate();
    }
    if !session.is_authenticated() {
        return Err(CommandError::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        session.info().set_name(name);
    }
    session.set_protocol(protocol);
    let (version, id) = (session.settings().redis_version.clone(), session.info().id);
    let mut reply = session.reply();
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(version.as_bytes());
    reply.bulk(b"proto");
    reply.integer(protocol.number());
    reply.bulk(b"id");
    reply.integer(id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

/// What CLIENT LIST shows must not break its lines.
pub(super) fn valid_name(what: &str, name: &[u8]) -> Outcome {
    if name.iter().all(u8::is_ascii_graphic) {
        return Ok(());
    }
    Err(CommandError::text(format!("ERR {what} cannot contain spaces, newlines or special characters.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_compare() {
        assert!(same(b"", b"") && same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab"));
    }

    #[test]
    fn names_have_no_blanks() {
        assert!(valid_name("Client names", b"web-1").is_ok());
        assert!(valid_name("Client names", b"").is_ok());
        for name in [&b"a b"[..], b"a\n", b"\xff", b"\0"] {
            assert!(valid_name("Client names", name).is_err());
        }
    }
}
