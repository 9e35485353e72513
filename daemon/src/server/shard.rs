//! The daemon's part of one shard's thread: its listeners, its connections, and the keeper that looks after them.
//!
//! Guards: a connection that was killed, is silent or does not take its replies ends soon, whatever its own task waits
//! for; after a stop each connection has the answers to all that was taken from it, if it takes them in time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corering_engine::runtime::net::{Address, Bound, Listener, Stream};
use corering_engine::runtime::{Executor, TaskClass};
use corering_engine::{Client, Local, SessionId, SessionKey, ShardId};
use futures_lite::future;

use super::bell::Bell;
use super::connection;
use super::events::Event as KeyEvent;
use super::registry::{ClientFlags, ClientInfo};
use super::room::Room;
use super::shared::Shared;
use super::transactions::Transactions;
use crate::config::OutputLimit;

/// How often the keeper looks, unless it is called.
const TICK: Duration = Duration::from_millis(100);
/// How often it looks at every connection.
const SWEEP_MS: u64 = 1000;
/// How often it keeps bound sessions alive.
const KEEP_MS: u64 = 300;
/// After an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection's task is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing: it waits for a request.
    Receiving,
    Working,
    /// It waits for a lock.
    Blocked,
    /// It waits for the peer to take replies, `bytes` in all.
    Sending {
        bytes: u64,
    },
}

pub struct Connection {
    pub info: Arc<ClientInfo>,
    pub stream: Stream,
    pub transactions: Transactions,
    phase: Cell<Phase>,
    since_ms: Cell<u64>,
    /// Since when more messages wait for it than the soft limit; zero if they do not.
    overfull_ms: Cell<u64>,
}

impl Connection {
    /// Whether more messages wait for it than `limit` allows, for longer than it allows.
    fn is_overfull(&self, limit: OutputLimit, now_ms: u64) -> bool {
        if limit.soft_bytes == 0 || (self.info.mailbox.bytes() as u64) < limit.soft_bytes {
            self.overfull_ms.set(0);
            return false;
        }
        if self.overfull_ms.get() == 0 {
            self.overfull_ms.set(now_ms.max(1));
        }
        now_ms.saturating_sub(self.overfull_ms.get()) > limit.soft_seconds * 1000
    }

    pub fn enter(&self, phase: Phase, now_ms: u64) {
        self.phase.set(phase);
        self.since_ms.set(now_ms);
    }
}

pub struct ShardServer {
    pub shared: Arc<Shared>,
    pub client: Client,
    pub executor: Rc<dyn Executor>,
    pub shard: ShardId,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    listeners: RefCell<Vec<Rc<Listener>>>,
    /// Milliseconds since the start, as of the last tick.
    now_ms: Cell<u64>,
    /// For writes of all connections of this thread.
    pub room: Room,
    /// Sessions that live as long as connections of this thread.
    bound: RefCell<HashMap<(SessionId, u64), SessionKey>>,
}

impl ShardServer {
    pub fn new(shared: Arc<Shared>, local: Local) -> Rc<ShardServer> {
        Rc::new(ShardServer {
            now_ms: Cell::new(shared.monotonic_ms()),
            room: Room::new(shared.settings.load().inbox_len, shared.shard_count),
            shared,
            client: local.client,
            executor: local.executor,
            shard: local.shard,
            connections: RefCell::default(),
            listeners: RefCell::default(),
            bound: RefCell::default(),
        })
    }

    /// The time, no older than a tick.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Accept connections from here on.
    pub fn listen(self: &Rc<Self>, bound: Vec<Bound>) -> io::Result<()> {
        let net = self.executor.net().ok_or_else(|| io::Error::other("this shard's thread has no network"))?;
        for bound in bound {
            let listener = Rc::new(net.listener(bound));
            self.listeners.borrow_mut().push(Rc::clone(&listener));
            let server = Rc::clone(self);
            self.executor.spawn(TaskClass::Foreground, Box::pin(async move { server.accept_all(&listener).await }));
        }
        Ok(())
    }

    async fn accept_all(self: Rc<Self>, listener: &Listener) {
        while !self.shared.is_stopping() {
            match listener.accept().await {
                Ok(stream) => self.welcome(stream),
                Err(_) if self.shared.is_stopping() => return,
                Err(error) => {
                    let address = listener.local_address();
                    tracing::warn!(error.message = %error, server.address = %address, "a connection could not be accepted");
                    self.executor.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn welcome(self: &Rc<Self>, stream: Stream) {
        let stats = self.shared.stats.shard(self.shard);
        if self.shared.is_stopping() {
            return;
        }
        let max = self.shared.settings.load().maxclients as usize;
        let (peer, local) = (shown(stream.peer()), shown(stream.local()));
        let is_unix = matches!(stream.local(), Address::Unix(_));
        // A client's end of a Unix socket has no name; Redis shows the socket's.
        let peer = if is_unix { local.clone() } else { peer };
        let Some(info) = self.shared.registry.enter(self.shard, peer, local, self.shared.monotonic_ms(), max) else {
            if let Some(stats) = stats {
                stats.rejected.add(1);
            }
            self.executor.spawn(TaskClass::Foreground, Box::pin(async move { turn_away(stream).await }));
            return;
        };
        if let Some(stats) = stats {
            stats.connections.add(1);
        }
        info.set(ClientFlags::UNIX_SOCKET, is_unix);
        let connection = Rc::new(Connection {
            info,
            stream,
            transactions: Transactions::default(),
            phase: Cell::new(Phase::Working),
            since_ms: Cell::new(0),
            overfull_ms: Cell::new(0),
        });
        self.connections.borrow_mut().insert(connection.info.id, Rc::clone(&connection));
        let server = Rc::clone(self);
        self.executor.spawn(
            TaskClass::Foreground,
            Box::pin(async move {
                connection::serve(Rc::clone(&server), Rc::clone(&connection)).await;
                server.connections.borrow_mut().remove(&connection.info.id);
                server.shared.registry.leave(&connection.info);
                if server.shared.is_stopping() {
                    server.shared.registry.ring(server.shard);
                }
            }),
        );
    }

    /// Look after the connections until the server has stopped and none is left.
    pub async fn keep(self: Rc<Self>) {
        let Some(bell) = self.shared.registry.bell(self.shard) else { return };
        let (mut swept_ms, mut kept_ms) = (0, 0);
        let mut stop_by_ms = None;
        loop {
            let called = self.tick(bell).await;
            let now_ms = self.shared.monotonic_ms();
            self.now_ms.set(now_ms);
            self.shared.beat(self.shard, now_ms);
            if self.shard.index() == 0 {
                self.tell_expired();
            }
            if now_ms - kept_ms >= KEEP_MS {
                kept_ms = now_ms;
                self.keep_bound_alive();
            }
            if called || now_ms - swept_ms >= SWEEP_MS {
                swept_ms = now_ms;
                self.sweep(now_ms);
            }
            if self.shared.is_stopping() {
                let timeout_ms = self.shared.settings.load().shutdown_timeout.as_millis() as u64;
                if self.stop(now_ms, *stop_by_ms.get_or_insert(now_ms + timeout_ms)) {
                    break;
                }
            }
        }
        self.shared.drained(self.shard);
    }

    /// True if the bell was rung, false once a tick has passed.
    async fn tick(&self, bell: &Bell) -> bool {
        let rung = async {
            bell.heard().await;
            true
        };
        let passed = async {
            self.executor.sleep(TICK).await;
            false
        };
        future::or(rung, passed).await
    }

    /// From now on the session lives as long as one of our connections.
    pub fn bind(&self, key: SessionKey, client: u64) {
        self.shared.lockers.own(key.id, client);
        self.bound.borrow_mut().insert((key.id, client), key);
    }

    /// Its connection has gone: it ends in `grace`, if nobody takes it over.
    pub fn unbind(self: &Rc<Self>, id: SessionId, client: u64, grace: Duration) {
        self.bound.borrow_mut().remove(&(id, client));
        if !self.shared.lockers.disown(id, client) || self.shared.is_stopping() {
            return;
        }
        let number = self.shared.lockers.orphan(id);
        let server = Rc::clone(self);
        let end = async move {
            if !grace.is_zero() {
                server.executor.sleep(grace).await;
            }
            if server.shared.lockers.give_up(id, number) && !server.shared.is_stopping() {
                // It may have ended by itself.
                let _ = server.client.kill_session(id).await;
            }
        };
        self.executor.spawn(TaskClass::Foreground, Box::pin(end));
    }

    /// Tell of watched keys that are gone by time.
    fn tell_expired(&self) {
        while let Some((keyspace, key)) = self.shared.expiries.take_due(self.client.clock().wall_ms()) {
            if let Ok(false) = self.client.get_with(keyspace, &key, |found| found.is_some()) {
                self.shared.tell_event(keyspace, &key, KeyEvent::Expired);
            }
        }
    }

    fn keep_bound_alive(&self) {
        // One that was ended is looked after no more.
        self.bound.borrow_mut().retain(|_, key| self.client.keep_alive(*key).is_ok());
    }

    /// End transactions whose time is over, and connections that were killed, are silent for too long, or do not take their replies.
    fn sweep(&self, now_ms: u64) {
        let settings = self.shared.settings.load();
        let silent_ms = u64::from(settings.timeout) * 1000;
        let limit = settings.client_output_buffer_limit;
        let listener_limit = settings.listener_output_limit;
        let stuck_ms = limit.soft_seconds * 1000;
        for connection in self.connections.borrow().values() {
            connection.transactions.expire();
            let idle_ms = now_ms.saturating_sub(connection.since_ms.get());
            let client = &connection.info;
            let why = match connection.phase.get() {
                _ if client.is_killed() => "it was killed",
                _ if connection.is_overfull(listener_limit, now_ms) => "it does not take its messages",
                Phase::Receiving if client.listens() => continue,
                Phase::Receiving if silent_ms > 0 && idle_ms > silent_ms => "it was silent for too long",
                Phase::Sending { bytes } if limit.soft_bytes > 0 && bytes >= limit.soft_bytes && idle_ms > stuck_ms => {
                    "it does not take its replies"
                }
                _ => continue,
            };
            tracing::debug!(client.address = %client.addr, client.id = client.id, why, "a connection is ended");
            connection.stream.shutdown();
        }
    }

    /// Whether all connections have ended. Those that wait for a request are ended; the others end by themselves, or
    /// are when the time is up.
    fn stop(&self, now_ms: u64, by_ms: u64) -> bool {
        for listener in self.listeners.borrow_mut().drain(..) {
            listener.close();
        }
        for connection in self.connections.borrow().values() {
            if matches!(connection.phase.get(), Phase::Receiving | Phase::Blocked) || now_ms >= by_ms {
                connection.stream.shutdown();
                connection.info.mailbox.ring();
            }
        }
        self.connections.borrow().is_empty()
    }
}

/// An address as Redis's clients expect it.
fn shown(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(Some(path)) => format!("{}:0", path.display()),
        Address::Unix(None) => "?:0".to_owned(),
    }
}

async fn turn_away(stream: Stream) {
    let text = b"-ERR max number of clients reached\r\n".to_vec();
    // Whether it reads this or not, it is turned away.
    let _ = stream.send_all(text).await;
    stream.shutdown();
}
