//! Commands about the server as a whole: time, images on disk, its end.

use corering_engine::runtime::LocalFuture;

use super::errors::CommandError;
use super::info;
use super::spec::{Categories, Command, Flags, Group, Handler, Outcome};
use super::strings::integer;
use crate::resp::Request;
use crate::server::{SaveStart, Session};

const ADMIN: Flags = Flags::ADMIN.or(Flags::NOSCRIPT);

pub const COMMANDS: &[Command] = &[
    Command::new("info", -1, Group::Server, "1.0.0", Handler::Later(info::info))
        .flags(Flags::LOADING.or(Flags::STALE))
        .categories(Categories::DANGEROUS)
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .summary("Tells about the server, in sections."),
    Command::new("time", 1, Group::Server, "2.6.0", Handler::Now(time))
        .flags(Flags::LOADING.or(Flags::STALE).or(Flags::FAST))
        .tips(&["nondeterministic_output"])
        .summary("Returns the time: seconds since 1970, and microseconds."),
    Command::new("save", 1, Group::Server, "1.0.0", Handler::Later(save))
        .flags(ADMIN.or(Flags::NO_ASYNC_LOADING).or(Flags::NO_MULTI))
        .complexity("O(N) where N is what was written since the last one")
        .summary("Writes a checkpoint and waits for it."),
    Command::new("bgsave", -1, Group::Server, "1.0.0", Handler::Now(bgsave))
        .flags(ADMIN.or(Flags::NO_ASYNC_LOADING))
        .summary("Starts to write a checkpoint."),
    Command::new("lastsave", 1, Group::Server, "1.0.0", Handler::Now(lastsave))
        .flags(Flags::LOADING.or(Flags::STALE).or(Flags::FAST))
        .categories(Categories::ADMIN.or(Categories::DANGEROUS))
        .tips(&["nondeterministic_output"])
        .summary("Returns the time of the last checkpoint that was asked for."),
    Command::new("shutdown", -1, Group::Server, "1.0.0", Handler::Now(shutdown))
        .flags(ADMIN.or(Flags::LOADING).or(Flags::STALE).or(Flags::NO_MULTI).or(Flags::ALLOW_BUSY))
        .complexity("O(N) where N is what was written since the last checkpoint")
        .summary("Stops the server, with a checkpoint unless NOSAVE is given."),
    Command::new("wait", 3, Group::Generic, "3.0.0", Handler::Later(wait))
        .flags(Flags::NOSCRIPT)
        .categories(Categories::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .summary("Returns the number of replicas that have all writes: none, for there are none."),
    Command::new("role", 1, Group::Server, "2.8.12", Handler::Now(role))
        .flags(Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST))
        .categories(Categories::ADMIN.or(Categories::DANGEROUS))
        .summary("Returns the server's part in replication: a master without replicas."),
];

fn time(session: &mut Session, _: Request<'_>) -> Outcome {
    let now_us = session.wall_us();
    let mut reply = session.reply();
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(now_us / 1_000_000).as_bytes());
    reply.bulk(itoa::Buffer::new().format(now_us % 1_000_000).as_bytes());
    Ok(())
}

const SAVING: CommandError = CommandError::fixed("ERR Background save already in progress");

fn save<'a>(session: &'a mut Session, _: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        match session.start_save() {
            SaveStart::Running => return Err(SAVING),
            SaveStart::Started(done) => done.await.map_err(CommandError::text)?,
        }
        session.reply().ok();
        Ok(())
    })
}

fn bgsave(session: &mut Session, request: Request<'_>) -> Outcome {
    match request.len() {
        1 => {}
        2 if request.arg(1).eq_ignore_ascii_case(b"schedule") => {}
        _ => return Err(CommandError::SYNTAX),
    }
    match session.start_save() {
        SaveStart::Running => Err(SAVING),
        SaveStart::Started(_) => {
            session.reply().simple("Background saving started");
            Ok(())
        }
    }
}

fn lastsave(session: &mut Session, _: Request<'_>) -> Outcome {
    let seconds = session.last_save_unix_s();
    session.reply().integer(seconds as i64);
    Ok(())
}

fn shutdown(session: &mut Session, request: Request<'_>) -> Outcome {
    let mut save = None;
    let mut abort = false;
    for word in request.skip(1).iter() {
        match word.to_ascii_lowercase().as_slice() {
            b"nosave" if save != Some(true) => save = Some(false),
            b"save" if save != Some(false) => save = Some(true),
            b"now" | b"force" => {}
            b"abort" => abort = true,
            _ => return Err(CommandError::SYNTAX),
        }
    }
    if abort {
        if request.len() > 2 {
            return Err(CommandError::SYNTAX);
        }
        // A stop that has begun is not taken back, and before it there is nothing to abort.
        return Err(CommandError::fixed("ERR No shutdown in progress."));
    }
    session.stop_server(save != Some(false));
    session.close_after_reply();
    Ok(())
}

/// Without replicas no waiting changes the answer, so there is none, whatever the timeout.
fn wait<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        integer(request.arg(1))?;
        match crate::resp::parse_i64(request.arg(2)) {
            None => return Err(CommandError::fixed("ERR timeout is not an integer or out of range")),
            Some(..0) => return Err(CommandError::fixed("ERR timeout is negative")),
            Some(_) => session.reply().integer(0),
        }
        Ok(())
    })
}

fn role(session: &mut Session, _: Request<'_>) -> Outcome {
    let mut reply = session.reply();
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
    Ok(())
}
