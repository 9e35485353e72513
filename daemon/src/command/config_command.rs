//! CONFIG and its subcommands. What SET takes takes effect at once; what cannot change says so.

use super::errors::CommandError;
use super::glob;
use super::spec::{Categories, Command, Flags, Group, Handler, Outcome};
use super::table;
use crate::config::{self, Change, SETTINGS, Setting};
use crate::resp::Request;
use crate::server::Session;

const ADMIN: Flags = Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE);

const fn sub(name: &'static str, arity: i32, since: &'static str, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Server, since, handler).flags(flags).categories(Categories::NONE)
}

pub const COMMANDS: &[Command] = &[Command::new("config", -2, Group::Server, "2.0.0", Handler::Container)
    .complexity("Depends on subcommand.")
    .summary("Commands about the server's settings.")
    .subcommands(SUBCOMMANDS)];

const SUBCOMMANDS: &[Command] = &[
    sub("get", -3, "2.0.0", ADMIN, Handler::Now(get))
        .usage("<pattern> [<pattern> ...]")
        .complexity("O(N) where N is the number of patterns")
        .summary("Return the settings that match a pattern."),
    sub("help", 2, "5.0.0", Flags::LOADING.or(Flags::STALE), Handler::Now(help)).summary("Print this help."),
    sub("resetstat", 2, "2.0.0", ADMIN, Handler::Now(resetstat)).summary("Set the counters of INFO to zero."),
    sub("rewrite", 2, "2.8.0", ADMIN, Handler::Now(rewrite)).summary("Not supported: the file is its owner's."),
    sub("set", -4, "2.0.0", ADMIN, Handler::Now(set))
        .usage("<setting> <value> [<setting> <value> ...]")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .complexity("O(N) where N is the number of settings")
        .summary("Change settings: all of those given, or none."),
];

fn help(session: &mut Session, _: Request<'_>) -> Outcome {
    table::reply_help(session, "CONFIG", SUBCOMMANDS);
    Ok(())
}

fn get(session: &mut Session, request: Request<'_>) -> Outcome {
    let settings = session.settings();
    let mut found: Vec<(&[u8], String)> = Vec::new();
    for setting in SETTINGS {
        let matching = |pattern: &&[u8]| glob::matches_ignoring_case(pattern, setting.name.as_bytes());
        // A name without wildcards is given back as it was written.
        if let Some(pattern) = request.skip(2).iter().find(matching) {
            let name = if glob::is_literal(pattern) { pattern } else { setting.name.as_bytes() };
            found.push((name, (setting.get)(settings)));
        }
    }
    let mut reply = session.reply();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name);
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

fn set(session: &mut Session, request: Request<'_>) -> Outcome {
    let pairs = request.skip(2);
    if !pairs.len().is_multiple_of(2) {
        return Err(CommandError::arity("config|set"));
    }
    let mut changes: Vec<(&'static Setting, String)> = Vec::new();
    for (i, name) in pairs.iter().enumerate().step_by(2) {
        let found = std::str::from_utf8(name).ok().and_then(config::find);
        let Some(setting) = found else {
            let text = b"ERR Unknown option or number of arguments for CONFIG SET - '";
            return Err(CommandError::bytes([&text[..], name, b"'"].concat()));
        };
        if matches!(setting.change, Change::AtStart | Change::Fixed) {
            return failed(name, "can't set immutable config");
        }
        if changes.iter().any(|(other, _)| other.name == setting.name) {
            return failed(name, "duplicate parameter");
        }
        let Ok(value) = std::str::from_utf8(pairs.arg(i + 1)) else {
            return failed(name, "argument must be text in UTF-8");
        };
        changes.push((setting, value.to_owned()));
    }
    let mut settings = session.settings().clone();
    for (setting, value) in &changes {
        if let Err(why) = (setting.set)(&mut settings, value) {
            return failed(setting.name.as_bytes(), &why.0);
        }
    }
    session.change_settings(settings);
    session.reply().ok();
    Ok(())
}

fn failed(name: &[u8], why: &str) -> Outcome {
    let head = b"ERR CONFIG SET failed (possibly related to argument '";
    Err(CommandError::bytes([&head[..], name, b"') - ", why.as_bytes()].concat()))
}

fn resetstat(session: &mut Session, _: Request<'_>) -> Outcome {
    session.stats().reset(session.engine_stats().lock_counts());
    session.reply().ok();
    Ok(())
}

fn rewrite(_: &mut Session, _: Request<'_>) -> Outcome {
    Err(CommandError::fixed("ERR CONFIG REWRITE is not supported: change the configuration file itself"))
}
