//! One client's state, and what handlers ask of the server through it.
//!
//! Guards: a read that follows a write of the same connection on the same shard sees it, though the write is not yet
//! answered: it is sent after it to that shard. Over different shards the writes of one pipeline may take effect in any
//! order, as in a cluster of Redis; keys that share a `{tag}` are on one shard.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::Guard;
use corering_engine::{Client, Expiry, Keyspace, ShardId, ValueRef, WriteOptions};

use super::output::{Output, UNKNOWN_BYTES, Waiting};
use super::registry::{ClientInfo, Registry};
use super::saves::{SaveStart, SaveStatus};
use super::shard::{Connection, Phase, ShardServer};
use super::shared::{Identity, KeyCounts};
use super::stats::{ShardStats, Stats};
use super::{ClientFlags, Event};
use crate::command::{Answer, Cell, CommandError, Cursors, Outcome};
use crate::config::Settings;
use crate::resp::{Limits, Protocol, Reply};

/// Which replies the client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyMode {
    On,
    Off,
    /// None for the next command.
    SkipNext,
    /// None for this command.
    Skip,
}

/// Bytes given to the kernel at once: a peer that takes less in the time it has is not reading.
const SEND_BYTES_MAX: usize = 256 << 10;

pub struct Session {
    server: Rc<ShardServer>,
    connection: Rc<Connection>,
    settings: Arc<Settings>,
    limits: Limits,
    keyspace: Keyspace,
    protocol: Protocol,
    authenticated: bool,
    reply_mode: ReplyMode,
    output: Output,
    /// Replies that nobody wants.
    void: Vec<u8>,
    closing: bool,
    gone: bool,
}

impl Session {
    pub fn new(server: Rc<ShardServer>, connection: Rc<Connection>) -> Session {
        let settings = server.shared.settings.load_full();
        let authenticated = settings.requirepass.is_empty();
        Session {
            limits: settings.request_limits(authenticated),
            output: Output::new(server.shared.shard_count),
            server,
            connection,
            settings,
            keyspace: Keyspace::DEFAULT,
            protocol: Protocol::Resp2,
            authenticated,
            reply_mode: ReplyMode::On,
            void: Vec::new(),
            closing: false,
            gone: false,
        }
    }

    // -- what handlers ask for

    pub fn client(&self) -> &Client {
        &self.server.client
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn keyspace(&self) -> Keyspace {
        self.keyspace
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub fn info(&self) -> &ClientInfo {
        &self.connection.info
    }

    pub fn registry(&self) -> &Registry {
        &self.server.shared.registry
    }

    pub fn stats(&self) -> &Stats {
        &self.server.shared.stats
    }

    pub fn cursors(&self) -> &Cursors {
        &self.server.shared.cursors
    }

    pub fn key_counts(&self) -> &KeyCounts {
        &self.server.shared.key_counts
    }

    pub fn identity(&self) -> Guard<Arc<Identity>> {
        self.server.shared.identity.load()
    }

    pub fn shard_count(&self) -> u16 {
        self.server.shared.shard_count
    }

    pub fn wall_ms(&self) -> u64 {
        self.client().clock().wall_ms()
    }

    pub fn wall_us(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
    }

    pub fn monotonic_ms(&self) -> u64 {
        self.server.shared.monotonic_ms()
    }

    pub fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    pub async fn yield_now(&self) {
        self.server.executor.yield_now().await;
    }

    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    pub fn start_save(&self) -> SaveStart {
        self.server.shared.saves.start(&self.server.shared.engine)
    }

    pub fn save_status(&self) -> SaveStatus {
        self.server.shared.saves.status()
    }

    pub fn last_save_unix_s(&self) -> u64 {
        self.save_status().last_unix_s
    }

    pub fn stop_server(&self, save: bool) {
        self.server.shared.control.send(Event::Stop { save, why: "the command SHUTDOWN" });
    }

    // -- what handlers change

    pub fn select(&mut self, keyspace: Keyspace) {
        self.keyspace = keyspace;
        self.info().set_keyspace(keyspace);
    }

    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.info().set_protocol(protocol);
    }

    pub fn authenticate(&mut self) {
        self.authenticated = true;
        self.limits = self.settings.request_limits(true);
    }

    /// Off stays off until it is set on.
    pub fn set_reply_mode(&mut self, mode: ReplyMode) {
        if !(mode == ReplyMode::SkipNext && self.reply_mode == ReplyMode::Off) {
            self.reply_mode = mode;
        }
    }

    /// As a new connection.
    pub fn reset(&mut self) {
        self.select(Keyspace::DEFAULT);
        self.set_protocol(Protocol::Resp2);
        self.authenticated = self.settings.requirepass.is_empty();
        self.limits = self.settings.request_limits(self.authenticated);
        self.reply_mode = ReplyMode::On;
        self.info().set_name(b"");
        self.info().set(ClientFlags::NO_EVICT, false);
        self.info().set(ClientFlags::NO_TOUCH, false);
    }

    pub fn close_after_reply(&mut self) {
        self.closing = true;
        self.info().set(ClientFlags::CLOSING, true);
    }

    /// Put new settings in force for everyone.
    pub fn change_settings(&mut self, settings: Settings) {
        let shared = &self.server.shared;
        shared.levels.set(settings.log_level);
        shared.settings.store(Arc::new(settings));
        self.refresh();
    }

    // -- reads and writes

    pub fn write_options(&self, expiry: Expiry) -> WriteOptions {
        WriteOptions { durability: Some(self.settings.durability), expiry }
    }

    /// Answer by what `f` makes of a key's value: here and now, or behind our own writes on its shard.
    pub fn read(
        &mut self,
        key: &[u8],
        f: impl FnOnce(Option<ValueRef<'_>>, &mut Reply<'_>) -> Outcome + Send + 'static,
    ) -> Outcome {
        if !self.output.is_settled() {
            let shard = self.server.client.shard_of(key);
            if self.output.waits_on(shard) {
                self.read_behind_writes(shard, key, f);
                return Ok(());
            }
        }
        let buffer = if self.is_muted() {
            self.void.clear();
            &mut self.void
        } else {
            self.output.buffer()
        };
        let mut reply = Reply::new(buffer, self.protocol);
        let (client, keyspace) = (&self.server.client, self.keyspace);
        let (found, outcome) = client.get_with(keyspace, key, |found| (found.is_some(), f(found, &mut reply)))?;
        self.count_lookup(found);
        outcome
    }

    fn read_behind_writes(
        &mut self,
        shard: ShardId,
        key: &[u8],
        f: impl FnOnce(Option<ValueRef<'_>>, &mut Reply<'_>) -> Outcome + Send + 'static,
    ) {
        let (keyspace, protocol) = (self.keyspace, self.protocol);
        let own: Box<[u8]> = key.into();
        let pending = self.client().run(key, self.write_options(Expiry::NEVER), move |tx| {
            let mut bytes = Vec::new();
            let outcome = f(tx.get(keyspace, &own)?, &mut Reply::new(&mut bytes, protocol));
            Ok(match outcome {
                Ok(()) => Answer::Raw(bytes),
                Err(error) => Answer::Failed(error),
            })
        });
        self.wait_for(shard, Waiting::Answer(pending), UNKNOWN_BYTES);
    }

    /// Change a key in one step on its shard.
    pub fn update(
        &mut self,
        key: &[u8],
        f: impl FnOnce(&mut Cell<'_, '_>) -> Result<Answer, CommandError> + Send + 'static,
    ) -> Outcome {
        let keyspace = self.keyspace;
        let own: Box<[u8]> = key.into();
        let shard = self.client().shard_of(key);
        let pending = self.client().run(key, self.write_options(Expiry::NEVER), move |tx| {
            Ok(f(&mut Cell::new(tx, keyspace, &own)).unwrap_or_else(Answer::Failed))
        });
        self.wait_for(shard, Waiting::Answer(pending), key.len());
        Ok(())
    }

    /// Answer once a write on `shard`, which carries about `bytes`, is done.
    pub fn wait_for(&mut self, shard: ShardId, waiting: Waiting, bytes: usize) {
        self.wait_for_all(std::iter::once(&shard), waiting, bytes);
    }

    pub fn wait_for_all<'a>(&mut self, shards: impl Iterator<Item = &'a ShardId>, waiting: Waiting, bytes: usize) {
        let muted = self.is_muted();
        self.server.room.take();
        self.output.push(shards.copied(), waiting, muted, self.protocol, bytes);
    }

    pub fn count_lookup(&self, found: bool) {
        if let Some(stats) = self.shard_stats() {
            if found { stats.hits.add(1) } else { stats.misses.add(1) }
        }
    }

    // -- replies

    pub fn reply(&mut self) -> Reply<'_> {
        let buffer = if self.is_muted() {
            self.void.clear();
            &mut self.void
        } else {
            self.output.buffer()
        };
        Reply::new(buffer, self.protocol)
    }

    fn is_muted(&self) -> bool {
        self.reply_mode != ReplyMode::On
    }

    /// Bytes that one reply may have.
    pub fn reply_bytes_max(&self) -> u64 {
        match self.settings.client_output_buffer_limit.hard_bytes {
            0 => u64::MAX,
            max => max,
        }
    }

    pub fn must_relieve(&self) -> bool {
        self.output.is_full()
    }

    /// Send what is ready if it is much, and let others run.
    pub async fn relieve(&mut self) -> Outcome {
        self.relieve_if_full().await?;
        self.yield_now().await;
        Ok(())
    }

    pub async fn relieve_if_full(&mut self) -> Outcome {
        if self.output.is_full() {
            self.send().await;
        }
        if self.gone { Err(GONE) } else { Ok(()) }
    }

    // -- for the connection's loop

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// See settings that were changed since.
    pub fn refresh(&mut self) {
        let current = self.server.shared.settings.load();
        if !Arc::ptr_eq(&current, &self.settings) {
            self.settings = Arc::clone(&current);
            self.limits = self.settings.request_limits(self.authenticated);
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing || self.gone
    }

    /// Close without another byte.
    pub fn abandon(&mut self) {
        self.gone = true;
    }

    /// The replies mode moves on with each command.
    pub fn begin_command(&mut self) {
        self.reply_mode = match self.reply_mode {
            ReplyMode::SkipNext => ReplyMode::Skip,
            ReplyMode::Skip => ReplyMode::On,
            mode => mode,
        };
    }

    /// Write an error in answer to a command.
    pub fn fail(&mut self, error: &CommandError) {
        if *error == GONE {
            return;
        }
        self.count_error(error);
        self.reply().error(error.as_bytes());
    }

    fn count_error(&self, error: &CommandError) {
        if let Some(stats) = self.shard_stats() {
            stats.errors.add(1);
        }
        self.stats().count_error(error.code());
        if let Some(cause) = error.cause() {
            self.server.shared.note(cause);
        }
    }

    pub fn shard_stats(&self) -> Option<&ShardStats> {
        self.stats().shard(self.server.shard)
    }

    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Await all replies that wait, sending when there is much.
    pub async fn settle(&mut self) {
        while let Some(settled) = self.output.settle_one().await {
            self.server.room.give_back(1);
            if let Err(error) = settled {
                self.count_error(&error);
            }
            if self.output.is_full() {
                self.send().await;
            }
        }
    }

    /// Send what is ready. A peer that is gone takes nothing, and nothing is kept for it.
    pub async fn send(&mut self) {
        let ready = self.output.take_ready();
        if ready.is_empty() || self.gone {
            self.output.restore(Vec::new());
            return;
        }
        if let Some(stats) = self.shard_stats() {
            stats.sends.add(1);
            stats.output_bytes.add(ready.len() as u64);
        }
        self.info().set_buffers(0, 0, ready.len(), ready.capacity() + self.output.capacity());
        self.connection.enter(Phase::Sending { bytes: ready.len() as u64 }, self.server.now_ms());
        let buffer = if ready.len() <= SEND_BYTES_MAX {
            let (sent, buffer) = self.connection.stream.send_all(ready).await;
            self.gone |= sent.is_err();
            buffer
        } else {
            self.send_in_chunks(&ready).await;
            ready
        };
        self.connection.enter(Phase::Working, 0);
        self.output.restore(buffer);
    }

    async fn send_in_chunks(&mut self, ready: &[u8]) {
        let mut buffer = Vec::with_capacity(SEND_BYTES_MAX);
        let mut left = ready.len();
        for chunk in ready.chunks(SEND_BYTES_MAX) {
            // Each chunk has its own time.
            self.connection.enter(Phase::Sending { bytes: left as u64 }, self.monotonic_ms());
            buffer.clear();
            buffer.extend_from_slice(chunk);
            let (sent, returned) = self.connection.stream.send_all(buffer).await;
            buffer = returned;
            left -= chunk.len();
            if sent.is_err() {
                self.gone = true;
                return;
            }
        }
    }

    /// Before a wait for the next request.
    pub fn rest(&mut self) {
        self.output.rest();
        if self.void.capacity() > 0 {
            self.void = Vec::new();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.server.room.give_back(self.output.waiting());
    }
}

/// The peer is gone: nobody is told anything.
const GONE: CommandError = CommandError::fixed("GONE");
