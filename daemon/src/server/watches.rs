//! The watches of one connection: what they bring becomes messages to it.
//!
//! Guards: changes come in order; a connection that does not take its messages stops its watches, which the engine then cuts off with
//! the version from which to go on, of which the connection is told behind what it was sent.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::{Executor, TaskClass};
use corering_engine::{CommitTs, Error, Watch, WatchEvent, What};

use super::registry::ClientInfo;
use crate::resp::{Protocol, Reply};

/// Bytes of messages that may wait in a mailbox before a watch waits.
const MAIL_MAX: usize = 1 << 20;
/// How often a watch looks whether its connection has taken some.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Default)]
pub struct Watches {
    all: BTreeMap<u64, Arc<Watch>>,
    last: u64,
}

impl Watches {
    /// Have what it brings sent to the client; returns its number among the connection's watches.
    pub fn add(&mut self, watch: Watch, executor: &Rc<dyn Executor>, client: &Arc<ClientInfo>) -> u64 {
        self.last += 1;
        let watch = Arc::new(watch);
        self.all.insert(self.last, Arc::clone(&watch));
        client.set_watches(self.all.len());
        let carried = carry(watch, self.last, Rc::clone(executor), Arc::clone(client));
        executor.spawn(TaskClass::Foreground, Box::pin(carried));
        self.last
    }

    pub fn remove(&mut self, id: u64, client: &ClientInfo) -> bool {
        let removed = self.all.remove(&id);
        client.set_watches(self.all.len());
        if let Some(watch) = &removed {
            watch.stop();
        }
        removed.is_some()
    }

    pub fn ids(&self) -> Vec<u64> {
        self.all.keys().copied().collect()
    }

    /// Everything up to here is in the mailbox, or was sent.
    pub fn progress(&self, id: u64) -> Option<CommitTs> {
        self.all.get(&id).map(|watch| watch.progress())
    }
}

async fn carry(watch: Arc<Watch>, id: u64, executor: Rc<dyn Executor>, client: Arc<ClientInfo>) {
    loop {
        let event = watch.next().await;
        let (letter, is_last) = match event {
            Ok(event) => (message(id, &event, client.protocol()), false),
            // It was stopped, or the server stops.
            Err(Error::Closed) => return,
            Err(error) => (end(id, &error, watch.progress(), client.protocol()), true),
        };
        client.mailbox.put(letter);
        if is_last {
            return;
        }
        while client.mailbox.bytes() > MAIL_MAX && !client.is_killed() {
            executor.sleep(LOOK).await;
        }
    }
}

fn written(protocol: Protocol, write: impl FnOnce(&mut Reply<'_>)) -> Arc<[u8]> {
    let mut bytes = Vec::new();
    write(&mut Reply::new(&mut bytes, protocol));
    bytes.into()
}

pub fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn message(id: u64, event: &WatchEvent, protocol: Protocol) -> Arc<[u8]> {
    written(protocol, |reply| {
        reply.push(4);
        reply.bulk(b"key-change");
        reply.integer(number(id));
        reply.integer(number(event.at.0));
        reply.array(event.changes.len());
        for change in &event.changes {
            match &change.what {
                What::Put { value, expiry, .. } => {
                    reply.array(4);
                    reply.bulk(b"put");
                    reply.bulk(&change.key);
                    reply.bulk(value);
                    reply.integer(expiry.unix_ms().map_or(-1, number));
                }
                What::Deleted => {
                    reply.array(2);
                    reply.bulk(b"del");
                    reply.bulk(&change.key);
                }
            }
        }
    })
}

fn end(id: u64, error: &Error, reached: CommitTs, protocol: Protocol) -> Arc<[u8]> {
    let (why, from) = match error {
        Error::Lagged { resume } => (b"LAGGED".as_slice(), *resume),
        Error::Compacted { oldest } => (b"COMPACTED".as_slice(), *oldest),
        _ => (b"ERR".as_slice(), reached),
    };
    written(protocol, |reply| {
        reply.push(5);
        reply.bulk(b"key-watch-end");
        reply.integer(number(id));
        reply.bulk(why);
        reply.integer(number(from.0));
        reply.bulk(error.to_string().as_bytes());
    })
}
