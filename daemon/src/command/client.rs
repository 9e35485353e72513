//! CLIENT and its subcommands: what connections are there, what they are called, and how to end them.

use super::connection::{USER, valid_name};
use super::errors::CommandError;
use super::spec::{Categories, Command, Flags, Group, Handler, Outcome};
use super::table;
use crate::resp::{Request, parse_i64};
use crate::server::{ClientFlags, ClientInfo, ReplyMode, Session};

const OWN: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);
const ADMIN: Flags = Flags::ADMIN.or(OWN);
const HELP: Flags = Flags::LOADING.or(Flags::STALE);

const fn sub(name: &'static str, arity: i32, since: &'static str, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Connection, since, handler).flags(flags).categories(Categories::CONNECTION)
}

pub const COMMANDS: &[Command] = &[Command::new("client", -2, Group::Connection, "2.4.0", Handler::Container)
    .complexity("Depends on subcommand.")
    .summary("Commands about connections.")
    .subcommands(SUBCOMMANDS)];

const SUBCOMMANDS: &[Command] = &[
    sub("getname", 2, "2.6.9", OWN, Handler::Now(getname)).summary("Return the name of the current connection."),
    sub("help", 2, "5.0.0", HELP, Handler::Now(help)).summary("Print this help."),
    sub("id", 2, "5.0.0", OWN, Handler::Now(id)).summary("Return the ID of the current connection."),
    sub("info", 2, "6.2.0", OWN, Handler::Now(info))
        .tips(&["nondeterministic_output"])
        .summary("Return information about the current connection."),
    sub("kill", -3, "2.4.0", ADMIN, Handler::Now(kill))
        .usage("<ip:port> | <option> <value> [<option> <value> ...]")
        .complexity("O(N) where N is the number of connections")
        .summary(
            "End connections, by ID, ADDR, LADDR, TYPE or USER; SKIPME (YES|NO) says whether one's own is spared.",
        ),
    sub("list", -2, "2.4.0", ADMIN, Handler::Now(list))
        .usage("[TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> ...]")
        .tips(&["nondeterministic_output"])
        .complexity("O(N) where N is the number of connections")
        .summary("Return information about connections."),
    sub("maint_notifications", -2, "7.2.0", OWN, Handler::Now(maint_notifications))
        .summary("Not supported: this server sends no notice of maintenance."),
    sub("no-evict", 3, "7.0.0", ADMIN, Handler::Now(no_evict))
        .usage("(ON|OFF)")
        .summary("Accepted and shown; connections are not evicted for their memory."),
    sub("no-touch", 3, "7.2.0", OWN, Handler::Now(no_touch))
        .usage("(ON|OFF)")
        .summary("Accepted and shown; no time of access is kept."),
    sub("reply", 3, "3.2.0", OWN, Handler::Now(reply))
        .usage("(ON|OFF|SKIP)")
        .summary("Control the replies sent to the current connection."),
    sub("setinfo", 4, "7.2.0", OWN, Handler::Now(setinfo))
        .usage("(LIB-NAME|LIB-VER) <value>")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .summary("Tell which library the client uses."),
    sub("setname", 3, "2.6.9", OWN, Handler::Now(setname))
        .usage("<name>")
        .summary("Give the current connection a name."),
];

fn help(session: &mut Session, _: Request<'_>) -> Outcome {
    table::reply_help(session, "CLIENT", SUBCOMMANDS);
    Ok(())
}

fn id(session: &mut Session, _: Request<'_>) -> Outcome {
    let id = session.info().id;
    session.reply().integer(id as i64);
    Ok(())
}

fn getname(session: &mut Session, _: Request<'_>) -> Outcome {
    let name = session.info().name();
    match name.is_empty() {
        true => session.reply().null(),
        false => session.reply().bulk(&name),
    }
    Ok(())
}

fn setname(session: &mut Session, request: Request<'_>) -> Outcome {
    valid_name("Client names", request.arg(2))?;
    session.info().set_name(request.arg(2));
    session.reply().ok();
    Ok(())
}

fn setinfo(session: &mut Session, request: Request<'_>) -> Outcome {
    let (option, value) = (request.arg(2), request.arg(3));
    let option = option.to_ascii_lowercase();
    match option.as_slice() {
        b"lib-name" => {
            valid_name("lib-name", value)?;
            session.info().set_lib_name(value);
        }
        b"lib-ver" => {
            valid_name("lib-ver", value)?;
            session.info().set_lib_version(value);
        }
        _ => return Err(CommandError::bytes([b"ERR Unrecognized option '", request.arg(2), b"'"].concat())),
    }
    session.reply().ok();
    Ok(())
}

fn maint_notifications(_: &mut Session, _: Request<'_>) -> Outcome {
    Err(CommandError::fixed("ERR CLIENT MAINT_NOTIFICATIONS is not supported by this server"))
}

fn on_off(word: &[u8]) -> Result<bool, CommandError> {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(CommandError::SYNTAX),
    }
}

fn no_evict(session: &mut Session, request: Request<'_>) -> Outcome {
    let on = on_off(request.arg(2))?;
    session.info().set(ClientFlags::NO_EVICT, on);
    session.reply().ok();
    Ok(())
}

fn no_touch(session: &mut Session, request: Request<'_>) -> Outcome {
    let on = on_off(request.arg(2))?;
    session.info().set(ClientFlags::NO_TOUCH, on);
    session.reply().ok();
    Ok(())
}

fn reply(session: &mut Session, request: Request<'_>) -> Outcome {
    match request.arg(2).to_ascii_lowercase().as_slice() {
        b"on" => {
            session.set_reply_mode(ReplyMode::On);
            session.reply().ok();
        }
        b"off" => session.set_reply_mode(ReplyMode::Off),
        b"skip" => session.set_reply_mode(ReplyMode::SkipNext),
        _ => return Err(CommandError::SYNTAX),
    }
    Ok(())
}

fn info(session: &mut Session, _: Request<'_>) -> Outcome {
    let mut line = session.info().line(session.monotonic_ms());
    line.push('\n');
    session.reply().verbatim("txt", line.as_bytes());
    Ok(())
}

/// The classes of clients that Redis knows, of which we have two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Normal,
    Listener,
    Other,
}

impl Class {
    fn includes(self, client: &ClientInfo) -> bool {
        let listens = client.listens();
        match self {
            Class::Normal => !listens,
            Class::Listener => listens,
            Class::Other => false,
        }
    }
}

fn class(class: &[u8]) -> Result<Class, CommandError> {
    match class.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Class::Normal),
        b"pubsub" => Ok(Class::Listener),
        b"master" | b"slave" | b"replica" => Ok(Class::Other),
        _ => Err(CommandError::bytes([b"ERR Unknown client type '", class, b"'"].concat())),
    }
}

fn list(session: &mut Session, request: Request<'_>) -> Outcome {
    let mut clients = match request.len() {
        2 => session.registry().all(),
        4 if request.arg(2).eq_ignore_ascii_case(b"type") => {
            let class = class(request.arg(3))?;
            let mut clients = session.registry().all();
            clients.retain(|client| class.includes(client));
            clients
        }
        4.. if request.arg(2).eq_ignore_ascii_case(b"id") => {
            let mut clients = Vec::new();
            for id in request.skip(3).iter() {
                let id = parse_i64(id).ok_or(CommandError::fixed("ERR Invalid client ID"))?;
                clients.extend(u64::try_from(id).ok().and_then(|id| session.registry().find(id)));
            }
            clients
        }
        _ => return Err(CommandError::SYNTAX),
    };
    if request.len() <= 4 {
        clients.sort_by_key(|client| client.id);
    }
    let now = session.monotonic_ms();
    let mut lines = String::new();
    for client in clients {
        lines.push_str(&client.line(now));
        lines.push('\n');
    }
    session.reply().verbatim("txt", lines.as_bytes());
    Ok(())
}

/// Which connections CLIENT KILL means; each condition given must hold.
#[derive(Default)]
struct Victims<'a> {
    id: Option<u64>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    class: Option<Class>,
    spare_self: bool,
}

impl Victims<'_> {
    fn include(&self, client: &ClientInfo, own: u64) -> bool {
        self.id.is_none_or(|id| id == client.id)
            && self.addr.is_none_or(|addr| addr == client.addr.as_bytes())
            && self.laddr.is_none_or(|laddr| laddr == client.laddr.as_bytes())
            && self.class.is_none_or(|class| class.includes(client))
            && !(self.spare_self && client.id == own)
    }
}

fn kill(session: &mut Session, request: Request<'_>) -> Outcome {
    if request.len() == 3 {
        let victims = Victims { addr: Some(request.arg(2)), ..Victims::default() };
        if end_all(session, &victims) == 0 {
            return Err(CommandError::fixed("ERR No such client"));
        }
        session.reply().ok();
        return Ok(());
    }
    let victims = victims(request)?;
    let count = end_all(session, &victims);
    session.reply().integer(count);
    Ok(())
}

fn victims<'a>(request: Request<'a>) -> Result<Victims<'a>, CommandError> {
    let mut victims = Victims { spare_self: true, ..Victims::default() };
    let mut words = request.skip(2).iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(CommandError::SYNTAX)?;
        match word.to_ascii_lowercase().as_slice() {
            b"id" => match parse_i64(value) {
                Some(id @ 1..) => victims.id = Some(id as u64),
                _ => return Err(CommandError::fixed("ERR client-id should be greater than 0")),
            },
            b"type" => victims.class = Some(class(value)?),
            b"addr" => victims.addr = Some(value),
            b"laddr" => victims.laddr = Some(value),
            b"user" if value == USER => {}
            b"user" => return Err(CommandError::bytes([b"ERR No such user '", value, b"'"].concat())),
            b"skipme" => match value.to_ascii_lowercase().as_slice() {
                b"yes" => victims.spare_self = true,
                b"no" => victims.spare_self = false,
                _ => return Err(CommandError::SYNTAX),
            },
            _ => return Err(CommandError::SYNTAX),
        }
    }
    Ok(victims)
}

fn end_all(session: &mut Session, victims: &Victims<'_>) -> i64 {
    let own = session.info().id;
    let mut count = 0;
    for client in session.registry().all() {
        if !victims.include(&client, own) {
            continue;
        }
        count += 1;
        if client.id == own {
            session.close_after_reply();
        } else {
            session.registry().kill(&client);
        }
    }
    count
}
