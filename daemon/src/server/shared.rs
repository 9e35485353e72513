//! What all shards' threads and the main thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use corering_engine::{Engine, Error, ShardId};
use parking_lot::{Condvar, Mutex};

use super::control::{Control, Event};
use super::events::Expiries;
use super::lockers::Lockers;
use super::pubsub::PubSub;
use super::registry::Registry;
use super::saves::Saves;
use super::stats::Stats;
use super::transactions::OpenTransactions;
use crate::command::{Cursors, KeyCount};
use crate::config::Settings;
use crate::logging::LevelHandle;
use crate::script::Scripts;

/// What a run of the server is called, and where it is found.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// 40 hexadecimal digits, different in each run.
    pub run_id: String,
    pub port: u16,
    pub config_file: String,
}

/// Counts of keys, for INFO: counting takes as long as there are keys, so that the counts are kept for a hundred times
/// as long as that took.
#[derive(Default)]
pub struct KeyCounts(Mutex<Option<(Arc<Vec<KeyCount>>, Instant)>>);

impl KeyCounts {
    pub fn recent(&self) -> Option<Arc<Vec<KeyCount>>> {
        let counts = self.0.lock();
        let (counts, until) = counts.as_ref()?;
        (Instant::now() < *until).then(|| Arc::clone(counts))
    }

    pub fn remember(&self, counts: Vec<KeyCount>, took: Duration) -> Arc<Vec<KeyCount>> {
        let counts = Arc::new(counts);
        *self.0.lock() = Some((Arc::clone(&counts), Instant::now() + took * 100));
        counts
    }
}

pub struct Shared {
    pub engine: Engine,
    pub shard_count: u16,
    pub settings: ArcSwap<Settings>,
    pub registry: Registry,
    pub lockers: Arc<Lockers>,
    pub pubsub: PubSub,
    pub transactions: OpenTransactions,
    pub expiries: Expiries,
    /// Connections that wait for a lock.
    pub blocked: AtomicUsize,
    pub stats: Stats,
    pub saves: Arc<Saves>,
    pub cursors: Cursors,
    pub key_counts: KeyCounts,
    pub scripts: Scripts,
    pub control: Control,
    pub levels: LevelHandle,
    pub identity: ArcSwap<Identity>,
    pub started: Instant,
    stopping: AtomicBool,
    /// When each shard's keeper ticked last.
    beats_ms: Vec<AtomicU64>,
    /// Shards whose connections have all ended.
    drained: Mutex<u16>,
    drained_changed: Condvar,
}

impl Shared {
    pub fn new(
        engine: Engine,
        settings: Settings,
        control: Control,
        levels: LevelHandle,
        identity: Identity,
    ) -> Shared {
        let shard_count = engine.shard_count();
        Shared {
            engine,
            shard_count,
            settings: ArcSwap::from_pointee(settings),
            registry: Registry::new(shard_count),
            lockers: Arc::default(),
            pubsub: PubSub::default(),
            transactions: OpenTransactions::default(),
            expiries: Expiries::default(),
            blocked: AtomicUsize::new(0),
            stats: Stats::new(shard_count),
            saves: Saves::new(),
            cursors: Cursors::default(),
            key_counts: KeyCounts::default(),
            scripts: Scripts::default(),
            control,
            levels,
            identity: ArcSwap::from_pointee(identity),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            beats_ms: (0..shard_count).map(|_| AtomicU64::new(0)).collect(),
            drained: Mutex::new(0),
            drained_changed: Condvar::new(),
        }
    }

    /// Milliseconds since the start.
    pub fn monotonic_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shard_count).map(ShardId)
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// From here on no connection is accepted, and those there are end once they have their answers.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for shard in self.shards() {
            self.registry.ring(shard);
        }
    }

    /// A shard's thread runs its tasks.
    pub fn beat(&self, shard: ShardId, now_ms: u64) {
        if let Some(beat) = self.beats_ms.get(shard.index()) {
            beat.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Whether every shard's thread has run its tasks within the time.
    pub fn is_alive(&self, within: Duration) -> bool {
        let oldest = self.beats_ms.iter().map(|beat| beat.load(Ordering::Relaxed)).min().unwrap_or(0);
        self.monotonic_ms().saturating_sub(oldest) <= within.as_millis() as u64
    }

    /// The last connection of a shard has ended.
    pub fn drained(&self, _: ShardId) {
        *self.drained.lock() += 1;
        self.drained_changed.notify_all();
    }

    /// Wait until no shard has a connection left, but not for longer than `time`.
    pub fn wait_until_drained(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut drained = self.drained.lock();
        while *drained < self.shard_count {
            if self.drained_changed.wait_until(&mut drained, until).timed_out() {
                return false;
            }
        }
        true
    }

    /// Give a message to all who listen to a channel. Who does not take what it is given is given up.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        let max = self.settings.load().listener_output_limit.hard_bytes;
        self.pubsub.publish(channel, message, |client, waiting| {
            if max > 0 && waiting as u64 > max {
                tracing::debug!(client.address = %client.addr, client.id = client.id, "a listener does not take its messages");
                self.registry.kill(client);
            }
        })
    }

    /// Look at what the engine could not do: one that cannot go on takes the server with it.
    pub fn note(&self, error: &Error) {
        if matches!(error, Error::Poisoned(_)) {
            self.control.send(Event::EngineFailed(error.clone()));
        }
    }
}
