//! COMMAND and its subcommands: the table, told to clients.

use super::errors::CommandError;
use super::glob;
use super::spec::{Access, Categories, Command, Flags, Group, Handler, Keys, Outcome};
use super::table::{self, Entry};
use crate::resp::{Reply, Request};
use crate::server::Session;

const FLAGS: Flags = Flags::LOADING.or(Flags::STALE);
const UNORDERED: &[&str] = &["nondeterministic_output_order"];
const PER_NAME: &str = "O(N) where N is the number of commands asked for";
const PER_ARGUMENT: &str = "O(N) where N is the number of arguments";

const fn sub(name: &'static str, arity: i32, since: &'static str, handler: Handler) -> Command {
    Command::new(name, arity, Group::Server, since, handler).flags(FLAGS).categories(Categories::CONNECTION)
}

pub const COMMANDS: &[Command] = &[sub("command", -1, "2.8.13", Handler::Now(all))
    .tips(UNORDERED)
    .complexity("O(N) where N is the number of commands")
    .summary("Tells about all commands.")
    .subcommands(SUBCOMMANDS)];

const SUBCOMMANDS: &[Command] = &[
    sub("count", 2, "2.8.13", Handler::Now(count)).summary("Return the number of commands."),
    sub("docs", -2, "7.0.0", Handler::Now(docs))
        .usage("[<command-name> ...]")
        .tips(UNORDERED)
        .complexity(PER_NAME)
        .summary("Return what commands do, all or those named."),
    sub("getkeys", -4, "2.8.13", Handler::Now(getkeys))
        .usage("<full-command>")
        .complexity(PER_ARGUMENT)
        .summary("Return the keys of a full command."),
    sub("getkeysandflags", -4, "7.0.0", Handler::Now(getkeysandflags))
        .usage("<full-command>")
        .complexity(PER_ARGUMENT)
        .summary("Return the keys of a full command, and what it does with them."),
    sub("help", 2, "5.0.0", Handler::Now(help)).summary("Print this help."),
    sub("info", -2, "2.8.13", Handler::Now(info))
        .usage("[<command-name> ...]")
        .tips(UNORDERED)
        .complexity(PER_NAME)
        .summary("Return arity, flags and keys of commands, all or those named."),
    sub("list", -2, "7.0.0", Handler::Now(list))
        .usage("[FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]")
        .tips(UNORDERED)
        .complexity("O(N) where N is the number of commands")
        .summary("Return the names of the commands."),
];

fn help(session: &mut Session, _: Request<'_>) -> Outcome {
    table::reply_help(session, "COMMAND", SUBCOMMANDS);
    Ok(())
}

fn count(session: &mut Session, _: Request<'_>) -> Outcome {
    session.reply().integer(table::count() as i64);
    Ok(())
}

fn all(session: &mut Session, _: Request<'_>) -> Outcome {
    let mut reply = session.reply();
    reply.array(table::count());
    for command in table::commands() {
        describe(&mut reply, command, command.name);
    }
    Ok(())
}

fn info(session: &mut Session, request: Request<'_>) -> Outcome {
    if request.len() == 2 {
        return all(session, request);
    }
    let mut reply = session.reply();
    reply.array(request.len() - 2);
    for name in request.skip(2).iter() {
        match table::find_full(name) {
            Some(entry) => describe(&mut reply, entry.command, &entry.full_name),
            None => reply.null(),
        }
    }
    Ok(())
}

fn words(reply: &mut Reply<'_>, words: &[&str]) {
    reply.set(words.len());
    for word in words {
        reply.simple(word);
    }
}

fn bulks(reply: &mut Reply<'_>, words: &[&str]) {
    reply.set(words.len());
    for word in words {
        reply.bulk(word.as_bytes());
    }
}

fn describe(reply: &mut Reply<'_>, command: &Command, full_name: &str) {
    reply.array(10);
    reply.bulk(full_name.as_bytes());
    reply.integer(i64::from(command.arity));
    words(reply, &command.flags.names());
    let (first, last, step) = command.key_range();
    reply.integer(first);
    reply.integer(last);
    reply.integer(step);
    words(reply, &command.all_categories().names());
    bulks(reply, command.tips);
    reply.set(command.keys.len());
    for keys in command.keys {
        describe_keys(reply, keys);
    }
    // Redis says the absence of subcommands as a set, and their presence as an array.
    match command.subcommands.len() {
        0 => reply.set(0),
        len => reply.array(len),
    }
    for sub in command.subcommands {
        describe(reply, sub, &format!("{}|{}", command.name, sub.name));
    }
}

fn describe_keys(reply: &mut Reply<'_>, keys: &Keys) {
    reply.map(3 + usize::from(keys.notes.is_some()));
    if let Some(notes) = keys.notes {
        reply.bulk(b"notes");
        reply.bulk(notes.as_bytes());
    }
    reply.bulk(b"flags");
    words(reply, &keys.access.names());
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.integer(keys.first as i64);
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    let (kind, spec): (&str, [(&str, i64); 3]) = if keys.counted {
        ("keynum", [("keynumidx", 0), ("firstkey", 1), ("keystep", keys.step as i64)])
    } else {
        ("range", [("lastkey", keys.last), ("keystep", keys.step as i64), ("limit", 0)])
    };
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(spec.len());
    for (name, number) in spec {
        reply.bulk(name.as_bytes());
        reply.integer(number);
    }
}

fn docs(session: &mut Session, request: Request<'_>) -> Outcome {
    let named: Vec<(&Command, &str)> = if request.len() == 2 {
        table::commands().map(|command| (command, command.name)).collect()
    } else {
        let entries = request.skip(2).iter().filter_map(table::find_full);
        entries.map(|entry| (entry.command, entry.full_name.as_str())).collect()
    };
    let mut reply = session.reply();
    reply.map(named.len());
    for (command, name) in named {
        document(&mut reply, command, name);
    }
    Ok(())
}

fn document(reply: &mut Reply<'_>, command: &Command, full_name: &str) {
    let syntax = syntax(command, full_name);
    let fields = [
        Some(("summary", command.summary)),
        Some(("since", command.since)),
        Some(("group", command.group.name())),
        Some(("complexity", command.complexity)),
        // Redis tells a tree of `arguments` here; clients pass over fields that they do not know.
        syntax.as_deref().map(|syntax| ("syntax", syntax)),
    ];
    reply.bulk(full_name.as_bytes());
    reply.map(fields.iter().flatten().count() + usize::from(!command.subcommands.is_empty()));
    for (field, text) in fields.into_iter().flatten() {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if command.subcommands.is_empty() {
        return;
    }
    reply.bulk(b"subcommands");
    reply.map(command.subcommands.len());
    for sub in command.subcommands {
        document(reply, sub, &format!("{}|{}", command.name, sub.name));
    }
}

/// How the command is written; none if the table does not say.
fn syntax(command: &Command, full_name: &str) -> Option<String> {
    let name = full_name.replace('|', " ").to_ascii_uppercase();
    if !command.usage.is_empty() {
        return Some(format!("{name} {}", command.usage));
    }
    let words = i32::try_from(name.split(' ').count()).ok()?;
    (command.arity == words).then_some(name)
}

fn list(session: &mut Session, request: Request<'_>) -> Outcome {
    let filter: Filter = match request.len() {
        2 => Box::new(|_, _| true),
        5 if request.arg(2).eq_ignore_ascii_case(b"filterby") => filter(request.arg(3), request.arg(4).to_vec())?,
        _ => return Err(CommandError::SYNTAX),
    };
    let filtered = request.len() == 5;
    let mut names = Vec::new();
    for command in table::commands() {
        if filter(command, command.name) {
            names.push(command.name.to_owned());
        }
        // Redis names subcommands only where it filters.
        for sub in command.subcommands.iter().filter(|_| filtered) {
            let full_name = format!("{}|{}", command.name, sub.name);
            if filter(sub, &full_name) {
                names.push(full_name);
            }
        }
    }
    let mut reply = session.reply();
    reply.array(names.len());
    for name in names {
        reply.bulk(name.as_bytes());
    }
    Ok(())
}

type Filter = Box<dyn Fn(&Command, &str) -> bool>;

fn filter(by: &[u8], what: Vec<u8>) -> Result<Filter, CommandError> {
    Ok(match by.to_ascii_lowercase().as_slice() {
        // We have no modules, so no command comes from one.
        b"module" => Box::new(|_, _| false),
        b"aclcat" => {
            let wanted = format!("@{}", String::from_utf8_lossy(&what).to_ascii_lowercase());
            Box::new(move |command, _| command.all_categories().names().contains(&wanted.as_str()))
        }
        b"pattern" => Box::new(move |_, name| glob::matches_ignoring_case(&what, name.as_bytes())),
        _ => return Err(CommandError::SYNTAX),
    })
}

/// The command that the arguments from the third on would run, and these arguments.
fn whole_command<'a>(request: Request<'a>) -> Result<(&'static Entry, Request<'a>), CommandError> {
    const UNKNOWN: CommandError = CommandError::fixed("ERR Invalid command specified");
    let whole = request.skip(2);
    let mut entry = table::find(whole.arg(0)).ok_or(UNKNOWN)?;
    if !entry.subcommands.is_empty() && whole.len() > 1 {
        entry = table::find_sub(entry, whole.arg(1)).ok_or(UNKNOWN)?;
    }
    if entry.command.keys.is_empty() {
        return Err(CommandError::fixed("ERR The command has no key arguments"));
    }
    if !entry.command.takes(whole.len()) {
        return Err(CommandError::fixed("ERR Invalid number of arguments specified for command"));
    }
    Ok((entry, whole))
}

fn getkeys(session: &mut Session, request: Request<'_>) -> Outcome {
    let (entry, whole) = whole_command(request)?;
    let places: Vec<usize> = entry.command.keys.iter().flat_map(|keys| keys.positions(whole)).collect();
    let mut reply = session.reply();
    reply.array(places.len());
    for place in places {
        reply.bulk(whole.arg(place));
    }
    Ok(())
}

fn getkeysandflags(session: &mut Session, request: Request<'_>) -> Outcome {
    let (entry, whole) = whole_command(request)?;
    let mut found = Vec::new();
    for keys in entry.command.keys {
        let access = if keys.access.has(Access::VARIABLE) { access_of(entry, whole) } else { keys.access };
        found.extend(keys.positions(whole).map(|place| (whole.arg(place), access)));
    }
    let mut reply = session.reply();
    reply.array(found.len());
    for (key, access) in found {
        reply.array(2);
        reply.bulk(key);
        words(&mut reply, &access.names());
    }
    Ok(())
}

/// SET and DELEX do different things with their key: with GET or a condition on its string they read it too.
fn access_of(entry: &Entry, whole: Request<'_>) -> Access {
    let options = whole.skip(if entry.command.name == "delex" { 2 } else { 3 });
    let has =
        |names: &[&str]| options.iter().any(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes())));
    if entry.command.name == "delex" {
        return if has(&["ifeq", "ifne"]) { Access::RW.or(Access::DELETE) } else { Access::RM.or(Access::DELETE) };
    }
    if has(&["get", "ifeq", "ifne"]) {
        Access::RW.or(Access::ACCESS).or(Access::UPDATE)
    } else {
        Access::OW.or(Access::UPDATE)
    }
}
