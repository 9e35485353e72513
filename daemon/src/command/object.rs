//! OBJECT and MEMORY: how a value is kept, told in Redis's terms.

use super::errors::CommandError;
use super::spec::{Access, Categories, Command, Flags, Group, Handler, Keys, Outcome};
use super::strings::integer;
use super::table;
use crate::resp::{Request, parse_i64};
use crate::server::Session;

const HELP: Flags = Flags::LOADING.or(Flags::STALE);
const KEY: &[Keys] = &[Keys::one(2, Access::RO)];
const VARIES: &[&str] = &["nondeterministic_output"];

const fn look(name: &'static str, since: &'static str, handler: Handler) -> Command {
    Command::new(name, 3, Group::Generic, since, handler)
        .flags(Flags::READONLY)
        .categories(Categories::KEYSPACE)
        .keys(KEY)
        .tips(VARIES)
        .usage("<key>")
}

pub const COMMANDS: &[Command] = &[
    Command::new("object", -2, Group::Generic, "2.2.3", Handler::Container)
        .complexity("Depends on subcommand.")
        .summary("Commands about how values are kept.")
        .subcommands(OBJECT),
    Command::new("memory", -2, Group::Server, "4.0.0", Handler::Container)
        .complexity("Depends on subcommand.")
        .summary("Commands about memory.")
        .subcommands(MEMORY),
];

const OBJECT: &[Command] = &[
    look("encoding", "2.2.3", Handler::Now(encoding)).summary("Return what Redis would call the value's encoding."),
    look("freq", "4.0.0", Handler::Now(freq)).summary("Not kept: returns the error of a server without LFU."),
    Command::new("help", 2, Group::Generic, "6.2.0", Handler::Now(object_help))
        .flags(HELP)
        .categories(Categories::KEYSPACE)
        .summary("Print this help."),
    look("refcount", "2.2.3", Handler::Now(refcount)).summary("Return 1 for a key that exists."),
];

const MEMORY: &[Command] = &[
    Command::new("help", 2, Group::Server, "4.0.0", Handler::Now(memory_help)).flags(HELP).summary("Print this help."),
    Command::new("usage", -3, Group::Server, "4.0.0", Handler::Now(usage))
        .flags(Flags::READONLY)
        .keys(KEY)
        .usage("<key> [SAMPLES <count>]")
        .summary("Return the bytes that a key and its value take."),
];

/// What an entry takes beside its key's and value's own bytes: version, expiry, lengths and its place in the index.
const ENTRY_OVERHEAD: usize = 64;
/// The longest string that Redis keeps in one piece with its header.
const EMBSTR_LEN_MAX: usize = 44;

fn object_help(session: &mut Session, _: Request<'_>) -> Outcome {
    table::reply_help(session, "OBJECT", OBJECT);
    Ok(())
}

fn memory_help(session: &mut Session, _: Request<'_>) -> Outcome {
    table::reply_help(session, "MEMORY", MEMORY);
    Ok(())
}

fn encoding(session: &mut Session, request: Request<'_>) -> Outcome {
    session.read(request.arg(2), |found, reply| {
        match found.map(|value| value.bytes) {
            None => reply.null(),
            Some(bytes) if parse_i64(bytes).is_some() => reply.bulk(b"int"),
            Some(bytes) if bytes.len() <= EMBSTR_LEN_MAX => reply.bulk(b"embstr"),
            Some(_) => reply.bulk(b"raw"),
        }
        Ok(())
    })
}

fn refcount(session: &mut Session, request: Request<'_>) -> Outcome {
    session.read(request.arg(2), |found, reply| {
        match found {
            None => reply.null(),
            Some(_) => reply.integer(1),
        }
        Ok(())
    })
}

fn freq(session: &mut Session, request: Request<'_>) -> Outcome {
    session.read(request.arg(2), |found, reply| {
        if found.is_some() {
            return Err(CommandError::fixed(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        reply.null();
        Ok(())
    })
}

fn usage(session: &mut Session, request: Request<'_>) -> Outcome {
    let mut words = request.skip(3).iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(CommandError::SYNTAX)?;
        if !word.eq_ignore_ascii_case(b"samples") || integer(value)? < 0 {
            return Err(CommandError::SYNTAX);
        }
    }
    let key_len = request.arg(2).len();
    session.read(request.arg(2), move |found, reply| {
        match found {
            None => reply.null(),
            Some(value) => reply.integer((key_len + value.bytes.len() + ENTRY_OVERHEAD) as i64),
        }
        Ok(())
    })
}
