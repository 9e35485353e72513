//! All commands by name, and what the table itself is asked for.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::spec::Command;
use super::{
    client, config_command, connection, docs, guard, keys, locks, multi_key, object, pubsub, script, server, sessions,
    strings, transaction, tx, watches,
};
use crate::server::Session;

/// A command or subcommand with its full name (`client|id`).
pub struct Entry {
    pub command: &'static Command,
    pub full_name: String,
    pub subcommands: HashMap<&'static str, Entry>,
    /// Its place in [`Table::names`].
    pub index: u32,
}

pub struct Table {
    entries: HashMap<&'static str, Entry>,
    /// Full names by index.
    names: Vec<String>,
}

/// No command's name is longer.
const NAME_LEN_MAX: usize = 32;

static TABLE: LazyLock<Table> = LazyLock::new(Table::build);

/// The rows of all families.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    let families = [
        strings::COMMANDS,
        multi_key::COMMANDS,
        keys::COMMANDS,
        connection::COMMANDS,
        client::COMMANDS,
        config_command::COMMANDS,
        docs::COMMANDS,
        object::COMMANDS,
        server::COMMANDS,
        sessions::COMMANDS,
        locks::COMMANDS,
        guard::COMMANDS,
        transaction::COMMANDS,
        tx::COMMANDS,
        pubsub::COMMANDS,
        script::COMMANDS,
        watches::COMMANDS,
    ];
    families.into_iter().flatten()
}

impl Table {
    fn build() -> Table {
        let mut names = Vec::new();
        let entries = commands().map(|command| (command.name, Table::entry(command, None, &mut names))).collect();
        Table { entries, names }
    }

    fn entry(command: &'static Command, parent: Option<&str>, names: &mut Vec<String>) -> Entry {
        let full_name = parent.map_or_else(|| command.name.to_owned(), |parent| format!("{parent}|{}", command.name));
        let index = names.len() as u32;
        names.push(full_name.clone());
        let subcommands =
            command.subcommands.iter().map(|sub| (sub.name, Table::entry(sub, Some(command.name), names))).collect();
        Entry { command, full_name, subcommands, index }
    }
}

fn lookup<'t>(entries: &'t HashMap<&'static str, Entry>, name: &[u8]) -> Option<&'t Entry> {
    let mut lower = [0; NAME_LEN_MAX];
    let lower = lower.get_mut(..name.len())?;
    for (to, from) in lower.iter_mut().zip(name) {
        *to = from.to_ascii_lowercase();
    }
    entries.get(std::str::from_utf8(lower).ok()?)
}

/// The command called `name`, in any case.
pub fn find(name: &[u8]) -> Option<&'static Entry> {
    lookup(&TABLE.entries, name)
}

/// The subcommand of `entry` called `name`.
pub fn find_sub(entry: &'static Entry, name: &[u8]) -> Option<&'static Entry> {
    lookup(&entry.subcommands, name)
}

/// The command with this full name, `|` between a container and its subcommand.
pub fn find_full(name: &[u8]) -> Option<&'static Entry> {
    match name.iter().position(|byte| *byte == b'|') {
        None => find(name),
        Some(bar) => find_sub(find(name.get(..bar)?)?, name.get(bar + 1..)?),
    }
}

/// The full name at an entry's index.
pub fn name_at(index: u32) -> &'static str {
    TABLE.names.get(index as usize).map_or("NULL", String::as_str)
}

pub fn count() -> usize {
    TABLE.entries.len()
}

/// The lines of HELP: usage and summary of each subcommand.
pub fn reply_help(session: &mut Session, container: &str, subcommands: &[Command]) {
    let mut lines = vec![format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for command in subcommands {
        let name = command.name.to_ascii_uppercase();
        lines.push(if command.usage.is_empty() { name } else { format!("{name} {}", command.usage) });
        lines.push(format!("    {}", command.summary));
    }
    let mut reply = session.reply();
    reply.array(lines.len());
    for line in lines {
        reply.simple(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::spec::{Flags, Handler};

    fn all() -> impl Iterator<Item = &'static Command> {
        commands().flat_map(|command| std::iter::once(command).chain(command.subcommands))
    }

    #[test]
    fn rows_are_complete() {
        for command in all() {
            let name = command.name;
            assert!(!command.summary.is_empty(), "{name} has no summary");
            assert!(command.arity != 0 && name.len() <= NAME_LEN_MAX, "{name}");
            assert_eq!(name, name.to_ascii_lowercase());
            assert_eq!(
                matches!(command.handler, Handler::Container),
                command.flags == Flags::NONE && !command.subcommands.is_empty(),
                "{name}"
            );
            assert!(!(command.flags.has(Flags::WRITE) && command.flags.has(Flags::READONLY)), "{name}");
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_once() {
        assert_eq!(count(), commands().count(), "two rows share a name");
        for command in commands() {
            assert!(std::ptr::eq(find(command.name.to_ascii_uppercase().as_bytes()).unwrap().command, command));
        }
        assert!(find(b"").is_none() && find(b"nosuch").is_none() && find(&[0xff; 5]).is_none());
        assert!(find(&[b'a'; 1000]).is_none());
        let id = find_full(b"CLIENT|id").unwrap();
        assert_eq!((id.full_name.as_str(), name_at(id.index)), ("client|id", "client|id"));
    }

    #[test]
    fn every_command_of_the_issue_is_there() {
        for name in "get set setnx setex psetex getset getdel getex mget mset msetnx append strlen getrange setrange incr \
            decr incrby decrby incrbyfloat del unlink exists type touch expire pexpire expireat pexpireat ttl pttl persist \
            expiretime pexpiretime rename renamenx keys scan randomkey dbsize flushdb flushall hello auth client command \
            config info select ping echo quit reset"
            .split_ascii_whitespace()
        {
            assert!(find(name.as_bytes()).is_some(), "{name}");
        }
    }
}
