//! One client's state, and what handlers ask of the server through it.
//!
//! Guards: a read that follows a write of the same connection on the same shard sees it, though the write is not yet
//! answered: it is sent after it to that shard. Over different shards the writes of one pipeline may take effect in any
//! order, as in a cluster of Redis; keys that share a `{tag}` are on one shard.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::Guard;
use corering_engine::{
    Client, CommitTs, Expiry, Guard as LockGuard, Keyspace, Pending, SessionId, SessionKey, ShardId, TransactionId,
    TransactionOptions, ValueRef, WatchKeys, WatchOptions, WriteOptions,
};
use futures_lite::future;

use super::lockers::Lockers;
use super::output::{Output, UNKNOWN_BYTES, Waiting};
use super::pubsub::{Kind, PubSub};
use super::registry::{ClientInfo, Registry};
use super::saves::{SaveStart, SaveStatus};
use super::shard::{Connection, Phase, ShardServer};
use super::shared::{Identity, KeyCounts, Shared};
use super::stats::{ShardStats, Stats};
use super::steps::{Gathered, Queue, Told, Watched};
use super::transactions::{OpenTransactions, Transactions};
use super::watches::Watches;
use super::{ClientFlags, Event};
use crate::command::{Answer, Cell, CommandError, Cursors, Outcome};
use crate::config::Settings;
use crate::resp::{Limits, Protocol, Reply};
use crate::script::Scripts;

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

/// Bytes that are taken from a client while it waits for a lock, so that its end is noticed; behind so many it is not.
const EARLY_BYTES_MAX: usize = 64 << 10;
const EARLY_RECEIVE: usize = 4 << 10;

/// What ends a look during a long wait.
enum Seen<T> {
    Answer(Result<T, corering_engine::Error>),
    /// `None`: the end of the stream.
    Bytes(Option<Vec<u8>>),
    Mail,
}

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
    /// Whose locks the LOCK commands are about, unless they say.
    lock_session: Option<SessionKey>,
    /// Sessions that end with this connection, and their grace.
    bound: Vec<(SessionId, Duration)>,
    /// What the write of this command depends on.
    pub(super) guards: Vec<LockGuard>,
    /// While a command of an EXEC is run: what it comes to.
    pub(super) gathered: Option<Gathered>,
    /// Between MULTI and EXEC.
    pub(super) queue: Option<Queue>,
    pub(super) watched: Vec<Watched>,
    /// Received while the connection waited for a lock.
    early: Vec<u8>,
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
    watches: Watches,
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
            lock_session: None,
            bound: Vec::new(),
            guards: Vec::new(),
            gathered: None,
            queue: None,
            watched: Vec::new(),
            early: Vec::new(),
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            watches: Watches::default(),
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

    pub fn lockers(&self) -> &Lockers {
        &self.server.shared.lockers
    }

    pub fn pubsub(&self) -> &PubSub {
        &self.server.shared.pubsub
    }

    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        self.server.shared.publish(channel, message)
    }

    pub fn blocked_clients(&self) -> usize {
        self.server.shared.blocked.load(Ordering::Relaxed)
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

    pub fn shared(&self) -> &Arc<Shared> {
        &self.server.shared
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

    pub fn engine_stats(&self) -> corering_engine::Stats {
        self.server.shared.engine.stats()
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

    /// Have replies written by another protocol, for a while and without telling anybody; gives the one before.
    pub fn speak(&mut self, protocol: Protocol) -> Protocol {
        std::mem::replace(&mut self.protocol, protocol)
    }

    pub fn scripts(&self) -> &Scripts {
        &self.server.shared.scripts
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
        self.end_queue();
        self.transactions().clear();
        self.let_go_of_sessions();
        self.stop_listening();
        self.info().set_name(b"");
        self.info().set(ClientFlags::NO_EVICT, false);
        self.info().set(ClientFlags::NO_TOUCH, false);
    }

    /// Interactive transactions of this connection.
    pub fn transactions(&self) -> &Transactions {
        &self.connection.transactions
    }

    pub fn open_transactions(&self) -> &OpenTransactions {
        &self.server.shared.transactions
    }

    pub fn begin_transaction(
        &self,
        options: TransactionOptions,
        isolation: &'static str,
    ) -> Result<TransactionId, CommandError> {
        self.transactions().begin(self.client(), &self.server.shared, options, isolation)
    }

    pub fn lock_session(&self) -> Option<SessionKey> {
        self.lock_session
    }

    /// The LOCK commands are about this session from now on.
    pub fn use_lock_session(&mut self, key: SessionKey) {
        self.stop_using();
        self.lock_session = Some(key);
        self.lockers().begin_use(key.id, &self.connection.info);
    }

    fn stop_using(&mut self) {
        if let Some(key) = self.lock_session.take() {
            self.lockers().end_use(key.id, &self.connection.info);
        }
    }

    /// The session is kept alive while this connection lives, and ends `grace` after it.
    pub fn bind_lock_session(&mut self, key: SessionKey, grace: Duration) {
        self.bound.retain(|(id, _)| *id != key.id);
        self.bound.push((key.id, grace));
        self.server.bind(key, self.connection.info.id);
    }

    /// Whatever it is to this connection, it is no more.
    pub fn forget_lock_session(&mut self, id: SessionId) {
        if self.lock_session.is_some_and(|key| key.id == id) {
            self.stop_using();
        }
    }

    fn let_go_of_sessions(&mut self) {
        self.stop_using();
        for (id, grace) in std::mem::take(&mut self.bound) {
            self.server.unbind(id, self.connection.info.id, grace);
        }
    }

    /// Listen to a channel, or to all that match a pattern.
    pub fn subscribe(&mut self, kind: Kind, name: &[u8]) {
        if self.names_of(kind).insert(name.to_vec()) {
            self.pubsub().add(kind, name, &self.connection.info);
            self.count_subscriptions();
        }
    }

    /// What was published before has reached the client before whatever is written next.
    pub fn unsubscribe(&mut self, kind: Kind, name: &[u8]) {
        if self.names_of(kind).remove(name) {
            self.pubsub().remove(kind, name, &self.connection.info);
            self.count_subscriptions();
            self.connection.info.mailbox.take(self.output.buffer(), usize::MAX);
        }
    }

    pub fn subscribed(&self, kind: Kind) -> Vec<Vec<u8>> {
        let names = if kind == Kind::Channel { &self.channels } else { &self.patterns };
        names.iter().cloned().collect()
    }

    fn names_of(&mut self, kind: Kind) -> &mut BTreeSet<Vec<u8>> {
        if kind == Kind::Channel { &mut self.channels } else { &mut self.patterns }
    }

    fn count_subscriptions(&self) {
        self.info().set_subscriptions(self.channels.len(), self.patterns.len());
    }

    /// Have changes of keys sent to the client; gives the watch's number, and after which commit it begins.
    pub fn watch_keys(&mut self, keys: WatchKeys, options: WatchOptions) -> Result<(u64, CommitTs), CommandError> {
        let watch = self.client().watch(self.keyspace, keys, options)?;
        let from = options.from.unwrap_or_else(|| watch.progress());
        Ok((self.watches.add(watch, &self.server.executor, &self.connection.info), from))
    }

    /// What it brought before reaches the client before whatever is written next.
    pub fn end_watch(&mut self, id: u64) -> bool {
        let ended = self.watches.remove(id, &self.connection.info);
        self.connection.info.mailbox.take(self.output.buffer(), usize::MAX);
        ended
    }

    pub fn watches(&self) -> Vec<u64> {
        self.watches.ids()
    }

    /// Everything up to here reaches the client before whatever is written next.
    pub fn watch_progress(&mut self, id: u64) -> Option<CommitTs> {
        let progress = self.watches.progress(id)?;
        self.connection.info.mailbox.take(self.output.buffer(), usize::MAX);
        Some(progress)
    }

    fn stop_listening(&mut self) {
        for id in self.watches.ids() {
            self.watches.remove(id, &self.connection.info);
        }
        for kind in [Kind::Channel, Kind::Pattern] {
            for name in self.subscribed(kind) {
                self.unsubscribe(kind, &name);
            }
        }
    }

    pub fn guard_by(&mut self, guards: Vec<LockGuard>) {
        self.guards = guards;
    }

    pub fn is_guarded(&self) -> bool {
        !self.guards.is_empty()
    }

    pub fn close_after_reply(&mut self) {
        self.closing = true;
        self.info().set(ClientFlags::CLOSING, true);
    }

    /// Put new settings in force for everyone.
    pub fn change_settings(&mut self, settings: Settings) {
        let shared = &self.server.shared;
        shared.levels.set(settings.log_level);
        if !settings.notify_keyspace_events.tells_expired() {
            shared.expiries.clear(None);
        }
        shared.settings.store(Arc::new(settings));
        self.refresh();
    }

    // -- reads and writes

    pub fn write_options(&self, expiry: Expiry) -> WriteOptions {
        WriteOptions { durability: Some(self.settings.durability), expiry, session: None }
    }

    /// Answer by what `f` makes of a key's value: here and now, or behind our own writes on its shard.
    pub fn read(
        &mut self,
        key: &[u8],
        mut f: impl FnMut(Option<ValueRef<'_>>, &mut Reply<'_>) -> Outcome + Send + 'static,
    ) -> Outcome {
        if self.runs_elsewhere() || self.output.waits_on(self.server.client.shard_of(key)) {
            self.read_in_step(key, f);
            return Ok(());
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

    /// A read that has its place among writes.
    fn read_in_step(
        &mut self,
        key: &[u8],
        mut f: impl FnMut(Option<ValueRef<'_>>, &mut Reply<'_>) -> Outcome + Send + 'static,
    ) {
        let (keyspace, protocol) = (self.keyspace, self.protocol);
        let own: Box<[u8]> = key.into();
        self.submit(&[key], UNKNOWN_BYTES, move |tx| {
            let mut bytes = Vec::new();
            let outcome = f(tx.get(keyspace, &own)?, &mut Reply::new(&mut bytes, protocol));
            Ok((outcome.map_or_else(Answer::Failed, |()| Answer::Raw(bytes)), Vec::new()))
        });
    }

    /// Change a key in one step on its shard.
    pub fn update(
        &mut self,
        key: &[u8],
        mut f: impl FnMut(&mut Cell<'_, '_>) -> Result<Answer, CommandError> + Send + 'static,
    ) -> Outcome {
        let (keyspace, tells) = (self.keyspace, self.tells());
        let own: Box<[u8]> = key.into();
        self.submit(&[key], key.len(), move |tx| {
            let mut cell = Cell::new(tx, keyspace, &own, tells);
            let answer = f(&mut cell).unwrap_or_else(Answer::Failed);
            let told = tells.then(|| Told::Changed(keyspace, own.clone(), cell.into_events()));
            Ok((answer, told.into_iter().collect()))
        });
        Ok(())
    }

    /// Whether this command must be a program, to run with its guards or with others.
    fn runs_elsewhere(&self) -> bool {
        self.is_guarded() || self.is_gathering()
    }

    /// Whether anybody may want to know what happens to keys.
    pub fn tells(&self) -> bool {
        self.settings.notify_keyspace_events.tells()
    }

    /// For telling of events from where writes are answered.
    pub fn shared_for_events(&self) -> Option<Arc<Shared>> {
        self.tells().then(|| Arc::clone(&self.server.shared))
    }

    /// Set a string, whatever the key held.
    pub fn put(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> Outcome {
        if self.runs_elsewhere() || self.tells() {
            let value = value.to_vec();
            return self.update(key, move |cell| {
                cell.put(&value, expiry)?;
                cell.tell_expire(expiry);
                Ok(Answer::Ok)
            });
        }
        let shard = self.client().shard_of(key);
        let pending = self.client().put(self.keyspace, key, value, self.write_options(expiry));
        self.wait_for(shard, Waiting::Stored(pending), value.len());
        Ok(())
    }

    /// Delete a key; answers whether it was there.
    pub fn delete(&mut self, key: &[u8]) -> Outcome {
        if self.runs_elsewhere() || self.tells() {
            return self.update(key, |cell| {
                let existed = cell.get()?.is_some();
                if existed {
                    cell.delete()?;
                }
                Ok(Answer::Integer(i64::from(existed)))
            });
        }
        let shard = self.client().shard_of(key);
        let pending = self.client().delete(self.keyspace, key, self.write_options(Expiry::NEVER));
        self.wait_for(shard, Waiting::Deleted(pending), 0);
        Ok(())
    }

    /// Answer once a write on `shard`, which carries about `bytes`, is done.
    fn wait_for(&mut self, shard: ShardId, waiting: Waiting, bytes: usize) {
        self.wait_for_all(std::iter::once(&shard), waiting, bytes);
    }

    /// As [`Session::wait_for`], over several shards.
    pub(super) fn wait_for_all<'a>(
        &mut self,
        shards: impl IntoIterator<Item = &'a ShardId>,
        waiting: Waiting,
        bytes: usize,
    ) {
        let muted = self.is_muted();
        self.server.room.take();
        self.output.push(shards.into_iter().copied(), waiting, muted, self.protocol, bytes);
    }

    pub fn count_lookup(&self, found: bool) {
        if let Some(stats) = self.shard_stats() {
            if found { stats.hits.add(1) } else { stats.misses.add(1) }
        }
    }

    // -- replies

    pub fn reply(&mut self) -> Reply<'_> {
        let muted = self.is_muted();
        let buffer = if let Some(gathered) = &mut self.gathered {
            &mut gathered.reply
        } else if muted {
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

    /// Send what the connection is told without having asked.
    pub async fn deliver(&mut self) {
        loop {
            let info = Arc::clone(&self.connection.info);
            let all = info.mailbox.take(self.output.buffer(), SEND_BYTES_MAX);
            self.send().await;
            if all || self.gone || info.is_killed() {
                return;
            }
        }
    }

    pub async fn pause(&self, time: Duration) {
        self.server.executor.sleep(time).await;
    }

    /// Wait for an answer that may take long, with an eye on the peer. `None`: the peer has gone, or the connection is to end;
    /// nobody will be told.
    pub async fn wait_watching<T>(&mut self, answer: &mut Pending<T>) -> Option<Result<T, corering_engine::Error>> {
        self.send().await;
        let connection = Rc::clone(&self.connection);
        let blocked = &Rc::clone(&self.server).shared.blocked;
        blocked.fetch_add(1, Ordering::Relaxed);
        let answered = loop {
            connection.enter(Phase::Blocked, self.server.now_ms());
            if self.gone || connection.info.is_killed() || self.server.shared.is_stopping() {
                break None;
            }
            let has_room = self.early.len() < EARLY_BYTES_MAX;
            let answered = async { Seen::Answer((&mut *answer).await) };
            let received = async {
                if !has_room {
                    return future::pending().await;
                }
                let (received, bytes) = connection.stream.recv(Vec::with_capacity(EARLY_RECEIVE)).await;
                Seen::Bytes(received.is_ok_and(|count| count > 0).then_some(bytes))
            };
            let told = async {
                connection.info.mailbox.heard().await;
                Seen::Mail
            };
            match future::or(answered, future::or(received, told)).await {
                Seen::Answer(answer) => break Some(answer),
                Seen::Bytes(Some(bytes)) => self.early.extend_from_slice(&bytes),
                Seen::Bytes(None) => break None,
                Seen::Mail => self.deliver().await,
            }
        };
        connection.enter(Phase::Working, 0);
        blocked.fetch_sub(1, Ordering::Relaxed);
        self.gone |= answered.is_none();
        answered
    }

    /// What was received during such a wait: it comes behind what was received before.
    pub fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.early)
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
        self.transactions().clear();
        self.let_go_of_sessions();
        self.stop_listening();
        self.server.room.give_back(self.output.waiting());
    }
}

/// The peer is gone: nobody is told anything.
const GONE: CommandError = CommandError::fixed("GONE");
