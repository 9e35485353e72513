//! SUBSCRIBE, PUBLISH and their kin.
//!
//! Guards: a reply to SUBSCRIBE comes before all messages of its channel, one to UNSUBSCRIBE after all of them.

use super::errors::CommandError;
use super::spec::{Categories, Command, Flags, Group, Handler, Outcome};
use super::table;
use crate::resp::{Protocol, Request};
use crate::server::{Session, SubscriptionKind as Kind};

const EARLY: Flags = Flags::PUBSUB.or(Flags::LOADING).or(Flags::STALE);
const OWN: Flags = EARLY.or(Flags::NOSCRIPT);

const fn row(name: &'static str, arity: i32, since: &'static str, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Pubsub, since, handler).flags(flags).categories(Categories::PUBSUB)
}

pub const COMMANDS: &[Command] = &[
    row("subscribe", -2, "2.0.0", OWN, Handler::Now(subscribe))
        .complexity("O(N) where N is the number of channels given")
        .summary("Listens to channels."),
    row("psubscribe", -2, "2.0.0", OWN, Handler::Now(psubscribe))
        .complexity("O(N) where N is the number of patterns given")
        .summary("Listens to all channels that match patterns."),
    row("unsubscribe", -1, "2.0.0", OWN, Handler::Now(unsubscribe))
        .complexity("O(N) where N is the number of channels given")
        .summary("Listens to channels no more, those given or all."),
    row("punsubscribe", -1, "2.0.0", OWN, Handler::Now(punsubscribe))
        .complexity("O(N) where N is the number of patterns given")
        .summary("Listens to patterns of channels no more, those given or all."),
    row("publish", 3, "2.0.0", EARLY.or(Flags::FAST), Handler::Now(publish))
        .complexity("O(N+M) where N is the number of the channel's listeners and M that of all patterns")
        .summary("Gives a message to all who listen to a channel; returns how many they are."),
    Command::new("pubsub", -2, Group::Pubsub, "2.8.0", Handler::Container)
        .complexity("Depends on subcommand.")
        .summary("Commands about who listens to what.")
        .subcommands(SUBCOMMANDS),
];

const SUBCOMMANDS: &[Command] = &[
    row("channels", -2, "2.8.0", EARLY, Handler::Now(channels))
        .usage("[<pattern>]")
        .complexity("O(N) where N is the number of channels listened to")
        .summary("Return the channels that somebody listens to."),
    row("help", 2, "6.2.0", Flags::LOADING.or(Flags::STALE), Handler::Now(help))
        .categories(Categories::NONE)
        .summary("Print this help."),
    row("numpat", 2, "2.8.0", EARLY, Handler::Now(numpat))
        .summary("Return the number of different patterns listened to."),
    row("numsub", -2, "2.8.0", EARLY, Handler::Now(numsub))
        .usage("[<channel> ...]")
        .complexity("O(N) where N is the number of channels given")
        .summary("Return how many listen to each channel."),
];

/// Whether a connection that listens by RESP2, where nothing tells messages from replies, may run a command.
pub(super) fn allowed_while_listening(name: &str) -> bool {
    matches!(name, "subscribe" | "psubscribe" | "unsubscribe" | "punsubscribe" | "ping" | "quit" | "reset")
        || matches!(name, "key.watch" | "key.unwatch" | "key.progress")
}

fn subscribe(session: &mut Session, request: Request<'_>) -> Outcome {
    begin(session, request, Kind::Channel, b"subscribe")
}

fn psubscribe(session: &mut Session, request: Request<'_>) -> Outcome {
    begin(session, request, Kind::Pattern, b"psubscribe")
}

fn unsubscribe(session: &mut Session, request: Request<'_>) -> Outcome {
    end(session, request, Kind::Channel, b"unsubscribe")
}

fn punsubscribe(session: &mut Session, request: Request<'_>) -> Outcome {
    end(session, request, Kind::Pattern, b"punsubscribe")
}

fn begin(session: &mut Session, request: Request<'_>, kind: Kind, word: &[u8]) -> Outcome {
    for name in request.iter().skip(1) {
        session.subscribe(kind, name);
        confirm(session, word, Some(name));
    }
    Ok(())
}

fn end(session: &mut Session, request: Request<'_>, kind: Kind, word: &[u8]) -> Outcome {
    let mut names: Vec<Vec<u8>> = request.iter().skip(1).map(<[u8]>::to_vec).collect();
    if names.is_empty() {
        names = session.subscribed(kind);
        if names.is_empty() {
            confirm(session, word, None);
        }
    }
    for name in names {
        session.unsubscribe(kind, &name);
        confirm(session, word, Some(&name));
    }
    Ok(())
}

fn confirm(session: &mut Session, word: &[u8], name: Option<&[u8]>) {
    let count = session.info().subscriptions();
    let mut reply = session.reply();
    reply.push(3);
    reply.bulk(word);
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.integer(count as i64);
}

fn publish(session: &mut Session, request: Request<'_>) -> Outcome {
    let count = session.publish(request.arg(1), request.arg(2));
    session.reply().integer(count as i64);
    Ok(())
}

fn help(session: &mut Session, _: Request<'_>) -> Outcome {
    table::reply_help(session, "PUBSUB", SUBCOMMANDS);
    Ok(())
}

fn channels(session: &mut Session, request: Request<'_>) -> Outcome {
    if request.len() > 3 {
        return Err(CommandError::fixed(
            "ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.",
        ));
    }
    let names = session.pubsub().channels(request.get(2));
    let mut reply = session.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
    Ok(())
}

fn numpat(session: &mut Session, _: Request<'_>) -> Outcome {
    let (_, patterns) = session.pubsub().counts();
    session.reply().integer(patterns as i64);
    Ok(())
}

fn numsub(session: &mut Session, request: Request<'_>) -> Outcome {
    let counts: Vec<usize> = request.iter().skip(2).map(|name| session.pubsub().listeners(name)).collect();
    let mut reply = session.reply();
    // Not a map, in RESP3 either.
    reply.array(2 * counts.len());
    for (name, count) in request.iter().skip(2).zip(counts) {
        reply.bulk(name);
        reply.integer(count as i64);
    }
    Ok(())
}

/// PING of a connection that listens by RESP2.
pub(super) fn pong(session: &mut Session, request: Request<'_>) -> bool {
    let listens = session.protocol() == Protocol::Resp2 && session.info().listens();
    if listens {
        let mut reply = session.reply();
        reply.array(2);
        reply.bulk(b"pong");
        reply.bulk(request.get(1).unwrap_or_default());
    }
    listens
}
