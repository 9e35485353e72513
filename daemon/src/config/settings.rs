//! All settings of a running server, typed. `table.rs` names them and reads and prints them as text.

use std::path::PathBuf;
use std::time::Duration;

use corering_engine::{Durability, Options, VALUE_LEN_MAX};

use crate::server::EventClasses;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Text on a terminal, JSON lines otherwise.
    Auto,
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// When a client that does not take its replies is given up. A limit of zero is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputLimit {
    /// Bytes of replies that may wait for one client.
    pub hard_bytes: u64,
    /// Bytes that may wait for longer than `soft_seconds`.
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    pub dir: PathBuf,
    pub bind: Vec<String>,
    pub port: u16,
    pub port_file: Option<PathBuf>,
    pub unixsocket: Option<PathBuf>,
    /// Permission bits of the socket's file.
    pub unixsocketperm: u32,
    pub tcp_backlog: u32,
    /// Shards to open with; `None` keeps what the database has, or takes one for each processor.
    pub shards: Option<u16>,
    pub durability: Durability,
    pub memtable_bytes: u64,
    pub segment_bytes: u64,
    /// Log kept for watches beyond what recovery needs, per shard.
    pub history_bytes: u64,
    pub inbox_len: u32,
    pub pin_threads: bool,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    pub maxclients: u32,
    /// Seconds after which a silent client is disconnected; zero for never.
    pub timeout: u32,
    /// Seconds between probes of a silent peer's existence; zero for none.
    pub tcp_keepalive: u32,
    pub proto_max_bulk_len: u64,
    pub client_query_buffer_limit: u64,
    pub client_output_buffer_limit: OutputLimit,
    /// The same for those who listen to channels.
    pub listener_output_limit: OutputLimit,
    pub notify_keyspace_events: EventClasses,
    pub requirepass: String,
    pub redis_version: String,
    pub server_name: String,
    pub server_version: String,
    pub shutdown_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        let engine = Options::default();
        Settings {
            dir: PathBuf::from("./corering-data"),
            bind: vec!["127.0.0.1".to_owned()],
            port: 6380,
            port_file: None,
            unixsocket: None,
            unixsocketperm: 0o700,
            tcp_backlog: 511,
            shards: None,
            durability: Durability::Sync,
            memtable_bytes: engine.memtable_bytes,
            segment_bytes: engine.segment_bytes,
            history_bytes: engine.history_bytes,
            inbox_len: engine.inbox_len,
            pin_threads: engine.pin_threads,
            log_level: LogLevel::Info,
            log_format: LogFormat::Auto,
            maxclients: 10_000,
            timeout: 0,
            tcp_keepalive: 300,
            proto_max_bulk_len: 512 << 20,
            client_query_buffer_limit: 256 << 20,
            client_output_buffer_limit: OutputLimit { hard_bytes: 256 << 20, soft_bytes: 64 << 20, soft_seconds: 60 },
            listener_output_limit: OutputLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_seconds: 60 },
            notify_keyspace_events: EventClasses::default(),
            requirepass: String::new(),
            redis_version: "7.2.4".to_owned(),
            server_name: "corering".to_owned(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// What the engine is opened with.
    pub fn engine_options(&self) -> Options {
        Options {
            shards: self.shards,
            durability: self.durability,
            memtable_bytes: self.memtable_bytes,
            segment_bytes: self.segment_bytes,
            history_bytes: self.history_bytes,
            inbox_len: self.inbox_len,
            pin_threads: self.pin_threads,
            ..Options::default()
        }
    }

    /// What the request parser lets through.
    pub fn request_limits(&self, authenticated: bool) -> crate::resp::Limits {
        let kept = usize::try_from(self.client_query_buffer_limit).unwrap_or(usize::MAX).min(u32::MAX as usize / 2);
        crate::resp::Limits {
            authenticated,
            bulk_len: i64::try_from(self.proto_max_bulk_len).unwrap_or(i64::MAX),
            kept_bulk_len: VALUE_LEN_MAX.min(kept),
            kept_request_len: kept,
        }
    }

    /// Bytes a string may grow to.
    pub fn value_len_max(&self) -> u64 {
        self.proto_max_bulk_len.min(VALUE_LEN_MAX as u64)
    }
}
