//! Who is connected: what CLIENT LIST shows and CLIENT KILL ends, over all shards' threads.
//!
//! Guards: a connection is here from its acceptance to its end; one that was killed runs no further command and is no
//! longer listed, even if its thread has not closed it yet.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use corering_engine::{Keyspace, ShardId};
use parking_lot::Mutex;

use super::bell::Bell;
use super::mailbox::Mailbox;
use crate::command::table;
use crate::resp::Protocol;

/// What CLIENT LIST shows as letters, and the like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientFlags(u32);

impl ClientFlags {
    pub const NO_EVICT: ClientFlags = ClientFlags(1);
    pub const NO_TOUCH: ClientFlags = ClientFlags(2);
    pub const UNIX_SOCKET: ClientFlags = ClientFlags(4);
    pub const CLOSING: ClientFlags = ClientFlags(8);
}

/// Names that clients give themselves.
#[derive(Default)]
struct Names {
    name: Vec<u8>,
    lib_name: Vec<u8>,
    lib_version: Vec<u8>,
}

/// One connection, as others see it. Its own thread writes the numbers, without order: they are for people.
pub struct ClientInfo {
    pub id: u64,
    pub shard: ShardId,
    pub addr: String,
    pub laddr: String,
    connected_ms: u64,
    active_ms: AtomicU64,
    names: Mutex<Names>,
    flags: AtomicU32,
    killed: AtomicBool,
    keyspace: AtomicU16,
    protocol: AtomicU16,
    command: AtomicU32,
    input: AtomicU64,
    input_free: AtomicU64,
    output: AtomicU64,
    memory: AtomicU64,
    channels: AtomicUsize,
    patterns: AtomicUsize,
    watches: AtomicUsize,
    /// Commands that wait for EXEC, and their bytes; below zero: there was no MULTI.
    queued: AtomicI64,
    queued_bytes: AtomicUsize,
    /// What it is told without having asked.
    pub mailbox: Mailbox,
}

const NO_COMMAND: u32 = u32::MAX;

impl ClientInfo {
    pub fn name(&self) -> Vec<u8> {
        self.names.lock().name.clone()
    }

    pub fn set_name(&self, name: &[u8]) {
        self.names.lock().name = name.to_vec();
    }

    pub fn set_lib_name(&self, name: &[u8]) {
        self.names.lock().lib_name = name.to_vec();
    }

    pub fn set_lib_version(&self, version: &[u8]) {
        self.names.lock().lib_version = version.to_vec();
    }

    pub fn set(&self, flag: ClientFlags, on: bool) {
        if on {
            self.flags.fetch_or(flag.0, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag.0, Ordering::Relaxed);
        }
    }

    fn has(&self, flag: ClientFlags) -> bool {
        self.flags.load(Ordering::Relaxed) & flag.0 != 0
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    pub fn set_keyspace(&self, keyspace: Keyspace) {
        self.keyspace.store(keyspace.0, Ordering::Relaxed);
    }

    pub fn set_protocol(&self, protocol: Protocol) {
        self.protocol.store(protocol.number() as u16, Ordering::Relaxed);
    }

    pub fn protocol(&self) -> Protocol {
        match self.protocol.load(Ordering::Relaxed) {
            3 => Protocol::Resp3,
            _ => Protocol::Resp2,
        }
    }

    pub fn set_subscriptions(&self, channels: usize, patterns: usize) {
        self.channels.store(channels, Ordering::Relaxed);
        self.patterns.store(patterns, Ordering::Relaxed);
    }

    pub fn set_watches(&self, count: usize) {
        self.watches.store(count, Ordering::Relaxed);
    }

    pub fn set_queued(&self, queued: Option<(usize, usize)>) {
        let (count, bytes) = queued.map_or((-1, 0), |(count, bytes)| (count as i64, bytes));
        self.queued.store(count, Ordering::Relaxed);
        self.queued_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether it is sent messages that it did not ask for one by one.
    pub fn listens(&self) -> bool {
        self.subscriptions() > 0 || self.watches.load(Ordering::Relaxed) > 0
    }

    pub fn subscriptions(&self) -> usize {
        self.channels.load(Ordering::Relaxed) + self.patterns.load(Ordering::Relaxed)
    }

    /// The command it ran last, by its place in the table.
    pub fn set_command(&self, index: u32) {
        self.command.store(index, Ordering::Relaxed);
    }

    pub fn set_active(&self, now_ms: u64) {
        self.active_ms.store(now_ms, Ordering::Relaxed);
    }

    pub fn active_ms(&self) -> u64 {
        self.active_ms.load(Ordering::Relaxed)
    }

    /// Bytes in its buffers: input waiting, room for more, output waiting, and all memory held.
    pub fn set_buffers(&self, input: usize, input_free: usize, output: usize, memory: usize) {
        self.input.store(input as u64, Ordering::Relaxed);
        self.input_free.store(input_free as u64, Ordering::Relaxed);
        self.output.store(output as u64, Ordering::Relaxed);
        self.memory.store(memory as u64, Ordering::Relaxed);
    }

    pub fn input_bytes(&self) -> u64 {
        self.input.load(Ordering::Relaxed)
    }

    pub fn output_bytes(&self) -> u64 {
        self.output.load(Ordering::Relaxed)
    }

    /// Its line in CLIENT LIST.
    pub fn line(&self, now_ms: u64) -> String {
        let names = self.names.lock();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let seconds = |since: u64| now_ms.saturating_sub(since) / 1000;
        let mut flags = String::new();
        if self.listens() {
            flags.push('P');
        }
        let queued = self.queued.load(Ordering::Relaxed);
        if queued >= 0 {
            flags.push('x');
        }
        for (flag, letter) in [
            (ClientFlags::UNIX_SOCKET, 'U'),
            (ClientFlags::CLOSING, 'c'),
            (ClientFlags::NO_EVICT, 'e'),
            (ClientFlags::NO_TOUCH, 'T'),
        ] {
            if self.has(flag) {
                flags.push(letter);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let command = match self.command.load(Ordering::Relaxed) {
            NO_COMMAND => "NULL",
            index => table::name_at(index),
        };
        let mut line = String::new();
        let _ = write!(
            line,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub=0 multi={queued} \
             qbuf={} qbuf-free={} argv-mem=0 multi-mem={} rbs=0 rbp=0 obl={} oll=0 omem=0 tot-mem={} events=r cmd={command} \
             user=default redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.addr,
            self.laddr,
            text(&names.name),
            seconds(self.connected_ms),
            seconds(self.active_ms()),
            self.keyspace.load(Ordering::Relaxed),
            self.channels.load(Ordering::Relaxed),
            self.patterns.load(Ordering::Relaxed),
            self.input_bytes(),
            self.input_free.load(Ordering::Relaxed),
            self.queued_bytes.load(Ordering::Relaxed),
            self.output_bytes(),
            self.memory.load(Ordering::Relaxed),
            self.protocol.load(Ordering::Relaxed),
            text(&names.lib_name),
            text(&names.lib_version),
        );
        line
    }
}

#[derive(Default)]
struct ShardClients {
    clients: Mutex<HashMap<u64, Arc<ClientInfo>>>,
    /// Tells the shard's keeper that there is something to do.
    bell: Bell,
}

pub struct Registry {
    shards: Vec<ShardClients>,
    last_id: AtomicU64,
    count: AtomicUsize,
}

impl Registry {
    pub fn new(shards: u16) -> Registry {
        Registry {
            shards: (0..shards).map(|_| ShardClients::default()).collect(),
            last_id: AtomicU64::new(0),
            count: AtomicUsize::new(0),
        }
    }

    /// Connections there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// A new connection on `shard`, unless there are `max` already.
    pub fn enter(
        &self,
        shard: ShardId,
        addr: String,
        laddr: String,
        now_ms: u64,
        max: usize,
    ) -> Option<Arc<ClientInfo>> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let info = Arc::new(ClientInfo {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            shard,
            addr,
            laddr,
            connected_ms: now_ms,
            active_ms: AtomicU64::new(now_ms),
            names: Mutex::default(),
            flags: AtomicU32::new(0),
            killed: AtomicBool::new(false),
            keyspace: AtomicU16::new(0),
            protocol: AtomicU16::new(2),
            command: AtomicU32::new(NO_COMMAND),
            input: AtomicU64::new(0),
            input_free: AtomicU64::new(0),
            output: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            channels: AtomicUsize::new(0),
            patterns: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
            queued: AtomicI64::new(-1),
            queued_bytes: AtomicUsize::new(0),
            mailbox: Mailbox::default(),
        });
        if let Some(clients) = self.shards.get(shard.index()) {
            clients.clients.lock().insert(info.id, Arc::clone(&info));
        }
        Some(info)
    }

    pub fn leave(&self, info: &ClientInfo) {
        let clients = self.shards.get(info.shard.index());
        if clients.is_some_and(|clients| clients.clients.lock().remove(&info.id).is_some()) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// All connections that were not killed, in no order.
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        let alive = |client: &&Arc<ClientInfo>| !client.is_killed();
        self.shards
            .iter()
            .flat_map(|shard| shard.clients.lock().values().filter(alive).cloned().collect::<Vec<_>>())
            .collect()
    }

    pub fn find(&self, id: u64) -> Option<Arc<ClientInfo>> {
        let found = self.shards.iter().find_map(|shard| shard.clients.lock().get(&id).cloned());
        found.filter(|client| !client.is_killed())
    }

    /// End a connection: at once for everyone who looks, and soon for its socket.
    pub fn kill(&self, info: &ClientInfo) {
        info.killed.store(true, Ordering::Release);
        info.mailbox.ring();
        self.ring(info.shard);
    }

    pub fn ring(&self, shard: ShardId) {
        if let Some(clients) = self.shards.get(shard.index()) {
            clients.bell.ring();
        }
    }

    pub fn bell(&self, shard: ShardId) -> Option<&Bell> {
        self.shards.get(shard.index()).map(|clients| &clients.bell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(registry: &Registry, shard: u16, max: usize) -> Option<Arc<ClientInfo>> {
        registry.enter(ShardId(shard), "1.2.3.4:5".to_owned(), "5.6.7.8:9".to_owned(), 1000, max)
    }

    #[test]
    fn no_more_than_allowed_come_in_and_leaving_makes_room() {
        let registry = Registry::new(2);
        let first = enter(&registry, 0, 2).unwrap();
        let second = enter(&registry, 1, 2).unwrap();
        assert!(first.id < second.id);
        assert!(enter(&registry, 0, 2).is_none());
        assert_eq!(registry.count(), 2);
        registry.leave(&first);
        registry.leave(&first);
        assert_eq!(registry.count(), 1, "leaving twice counts once");
        assert!(enter(&registry, 0, 2).is_some());
    }

    #[test]
    fn the_killed_are_not_listed() {
        let registry = Registry::new(1);
        let client = enter(&registry, 0, 9).unwrap();
        assert!(registry.find(client.id).is_some());
        registry.kill(&client);
        assert!(client.is_killed() && registry.find(client.id).is_none() && registry.all().is_empty());
        assert_eq!(registry.count(), 1, "its place is taken until its thread lets it go");
    }

    #[test]
    fn a_line_for_each() {
        let registry = Registry::new(1);
        let client = enter(&registry, 0, 9).unwrap();
        client.set_name(b"web");
        client.set(ClientFlags::NO_EVICT, true);
        client.set_keyspace(Keyspace(3));
        client.set_protocol(Protocol::Resp3);
        client.set_active(4000);
        let line = client.line(9500);
        assert!(
            line.starts_with("id=1 addr=1.2.3.4:5 laddr=5.6.7.8:9 fd=-1 name=web age=8 idle=5 flags=e db=3 "),
            "{line}"
        );
        assert!(line.ends_with(" cmd=NULL user=default redir=-1 resp=3 lib-name= lib-ver="), "{line}");
    }
}
