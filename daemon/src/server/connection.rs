//! The life of one connection: receive, run what is complete, answer, again.
//!
//! Guards: requests are run as they come and answered in order; while their answers wait for the disk, no more than a
//! bounded amount of input is taken, which is what holds back a client that sends faster than it is served.

use std::pin::pin;
use std::rc::Rc;

use futures_lite::future;

use super::session::Session;
use super::shard::{Connection, Phase, ShardServer};
use crate::command::dispatch::{Resolved, resolve};
use crate::command::{CommandError, Flags, Handler, transaction};
use crate::resp::{Decoder, Next, Refusal, Request};

/// Requests run between two turns of other connections.
const REQUESTS_PER_TURN: usize = 128;

pub async fn serve(server: Rc<ShardServer>, connection: Rc<Connection>) {
    let mut session = Session::new(Rc::clone(&server), Rc::clone(&connection));
    let mut decoder = Decoder::new();
    while receive(&server, &connection, &mut session, &mut decoder).await {
        session.refresh();
        run_all(&server, &connection, &mut session, &mut decoder).await;
        session.settle().await;
        session.send().await;
        if session.is_closing() || connection.info.is_killed() || server.shared.is_stopping() {
            break;
        }
        session.rest();
    }
    connection.stream.shutdown();
}

/// Wait for more bytes. False at the end of the stream.
async fn receive(server: &ShardServer, connection: &Connection, session: &mut Session, decoder: &mut Decoder) -> bool {
    let buffer = decoder.lend();
    let held = buffer.len();
    let free = buffer.capacity() - held;
    connection.info.set_buffers(held, free, 0, buffer.capacity() + session.output().capacity());
    connection.enter(Phase::Receiving, server.now_ms());
    if server.shared.is_stopping() || connection.info.is_killed() {
        return false;
    }
    let mut receiving = pin!(connection.stream.recv(buffer));
    let (received, buffer) = loop {
        let received = async { Some(receiving.as_mut().await) };
        let told = async {
            connection.info.mailbox.heard().await;
            None
        };
        if let Some(received) = future::or(received, told).await {
            break received;
        }
        session.deliver().await;
        if session.is_closing() || server.shared.is_stopping() || connection.info.is_killed() {
            return false;
        }
        connection.enter(Phase::Receiving, server.now_ms());
    };
    connection.enter(Phase::Working, 0);
    match received {
        Ok(0) | Err(_) => false,
        Ok(bytes) => {
            decoder.restore(buffer, bytes);
            connection.info.set_active(server.now_ms());
            if let Some(stats) = session.shard_stats() {
                stats.receives.add(1);
                stats.input_bytes.add(bytes as u64);
            }
            true
        }
    }
}

/// Run every request that is complete.
async fn run_all(server: &ShardServer, connection: &Connection, session: &mut Session, decoder: &mut Decoder) {
    let mut run = 0;
    while !session.is_closing() && !connection.info.is_killed() {
        match decoder.next(&session.limits()) {
            Ok(Next::Incomplete) => return,
            Ok(Next::Request(request)) => {
                run_one(server, session, request).await;
                let early = session.take_early();
                if !early.is_empty() {
                    decoder.feed(&early);
                }
            }
            Ok(Next::Refused(refusal)) => {
                session.begin_command();
                transaction::spoil(session);
                session.fail(&refused(refusal));
            }
            Err(error) => {
                session.settle().await;
                session.fail(&CommandError::bytes(error.message()));
                session.close_after_reply();
                return;
            }
        }
        if session.output().must_settle() || session.output().is_full() {
            session.settle().await;
            session.send().await;
        }
        run += 1;
        if run % REQUESTS_PER_TURN == 0 {
            server.executor.yield_now().await;
        }
    }
}

fn refused(refusal: Refusal) -> CommandError {
    CommandError::text(match refusal {
        Refusal::Bulk { len, max } => format!("ERR the value has {len} bytes; at most {max} are allowed"),
        Refusal::Request { max } => {
            format!("ERR the request has more than {max} bytes (client-query-buffer-limit); split it")
        }
    })
}

async fn run_one(server: &ShardServer, session: &mut Session, request: Request<'_>) {
    session.begin_command();
    if let Some(stats) = session.shard_stats() {
        stats.commands.add(1);
    }
    let entry = match resolve(session, request) {
        Ok(Resolved::Run(entry)) => entry,
        Ok(Resolved::CloseAtOnce) => {
            tracing::warn!(client.address = %session.info().addr, "a browser was made to send commands; its connection is closed");
            session.abandon();
            return;
        }
        Err(error) => return transaction::reject(session, request, error),
    };
    session.info().set_command(entry.index);
    if transaction::waits_for_exec(session, entry) {
        if let Err(error) = transaction::queue(session, entry, request) {
            transaction::reject(session, request, error);
        }
        return;
    }
    let waited = server.room.is_full() && entry.command.flags.has(Flags::WRITE);
    if waited {
        // Whoever holds room while waiting for more of it could wait for ever.
        session.settle().await;
        server.room.available().await;
    }
    // A message must not be heard before what was asked for before it can be seen.
    if matches!(entry.command.handler, Handler::Later(_)) || entry.command.flags.has(Flags::PUBSUB) {
        session.settle().await;
    }
    let outcome = transaction::run(session, entry, request).await;
    if let Err(error) = outcome {
        session.fail(&error);
    }
    if waited {
        server.room.pass_on();
    }
}
