//! The settings by name: one row makes the flag, the variable, the key of the file and what CONFIG GET and SET show.

use std::path::PathBuf;
use std::time::Duration;

use super::settings::Settings;
use super::values::{self, BadValue};

/// When a setting can be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Only before the start.
    AtStart,
    /// Also by CONFIG SET, at once.
    AtRuntime,
    /// Never: it tells Redis's clients a fact about us.
    Fixed,
    /// By CONFIG SET only: another name, which Redis's clients know, for a setting that has its own.
    Alias,
}

pub struct Setting {
    pub name: &'static str,
    /// What stands for the value in `--help`.
    pub value_name: &'static str,
    pub help: &'static str,
    pub change: Change,
    /// Several values may be given.
    pub list: bool,
    pub set: fn(&mut Settings, &str) -> Result<(), BadValue>,
    pub get: fn(&Settings) -> String,
}

/// The setting called `name`, in any case, with `_` for `-` if one likes.
pub fn find(name: &str) -> Option<&'static Setting> {
    let same = |a: u8, b: u8| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-');
    SETTINGS.iter().find(|setting| {
        setting.name.len() == name.len() && name.bytes().zip(setting.name.bytes()).all(|(a, b)| same(a, b))
    })
}

const MIB: u64 = 1 << 20;
/// The largest count that Redis takes for these.
const INT_MAX: u64 = i32::MAX as u64;

const fn row(
    name: &'static str,
    value_name: &'static str,
    help: &'static str,
    change: Change,
    set: fn(&mut Settings, &str) -> Result<(), BadValue>,
    get: fn(&Settings) -> String,
) -> Setting {
    Setting { name, value_name, help, change, list: false, set, get }
}

const fn fixed(name: &'static str, get: fn(&Settings) -> String) -> Setting {
    row(name, "", "", Change::Fixed, |_, _| Err(BadValue("can't set immutable config".to_owned())), get)
}

use Change::{Alias, AtRuntime, AtStart};

#[rustfmt::skip]
pub static SETTINGS: &[Setting] = &[
    row("dir", "DIR", "Where the data lives [default: ./corering-data]", AtStart,
        |s, v| { s.dir = PathBuf::from(v); Ok(()) }, |s| s.dir.display().to_string()),
    Setting { list: true, ..row("bind", "ADDR", "Address to listen at; may be repeated [default: 127.0.0.1]", AtStart,
        |s, v| { s.bind.extend(v.split([' ', ',']).filter(|v| !v.is_empty()).map(str::to_owned)); Ok(()) },
        |s| s.bind.join(" ")) },
    row("port", "N", "TCP port; 0 takes a free one and says which [default: 6380]", AtStart,
        |s, v| { s.port = values::integer(v, 0, 65535)? as u16; Ok(()) }, |s| s.port.to_string()),
    row("port-file", "FILE", "Write the port there once ready", AtStart,
        |s, v| { s.port_file = values::optional_path(v); Ok(()) }, |s| values::print_optional_path(&s.port_file)),
    row("unixsocket", "PATH", "Listen at this Unix socket as well", AtStart,
        |s, v| { s.unixsocket = values::optional_path(v); Ok(()) }, |s| values::print_optional_path(&s.unixsocket)),
    row("unixsocketperm", "OCTAL", "Permissions of the Unix socket [default: 700]", AtStart,
        |s, v| { s.unixsocketperm = values::permission(v)?; Ok(()) }, |s| format!("{:o}", s.unixsocketperm)),
    row("tcp-backlog", "N", "Connections that may wait to be accepted [default: 511]", AtStart,
        |s, v| { s.tcp_backlog = values::integer(v, 1, INT_MAX)? as u32; Ok(()) }, |s| s.tcp_backlog.to_string()),
    row("shards", "N", "Shards, each with its own core and log [default: one per processor, or what the data has]", AtStart,
        |s, v| { s.shards = Some(values::integer(v, 1, 1024)? as u16); Ok(()) },
        |s| s.shards.map(|n| n.to_string()).unwrap_or_default()),
    row("durability", "LEVEL", "When a write is answered: sync, interval[:MS] or none [default: sync]", AtRuntime,
        |s, v| { s.durability = values::durability(v)?; Ok(()) }, |s| values::print_durability(s.durability)),
    row("memtable-bytes", "BYTES", "Memory per shard before it is written as a sorted table [default: 64mb]", AtStart,
        |s, v| { s.memtable_bytes = values::bytes(v, 64 << 10, 1 << 40)?; Ok(()) }, |s| s.memtable_bytes.to_string()),
    row("segment-bytes", "BYTES", "Length of a full-grown log segment [default: 64mb]", AtStart,
        |s, v| { s.segment_bytes = values::bytes(v, 64 << 10, 4 << 30)?; Ok(()) }, |s| s.segment_bytes.to_string()),
    row("history-bytes", "BYTES", "Log kept per shard for KEY.WATCH ... FROM, beyond what a restart needs [default: 0]", AtStart,
        |s, v| { s.history_bytes = values::bytes(v, 0, 1 << 40)?; Ok(()) }, |s| s.history_bytes.to_string()),
    row("inbox-len", "N", "Requests that may wait for one shard [default: 8192]", AtStart,
        |s, v| { s.inbox_len = values::integer(v, 2, 1 << 20)? as u32; Ok(()) }, |s| s.inbox_len.to_string()),
    row("pin-threads", "YES|NO", "Pin each shard to its processor, which no other program should use [default: no]", AtStart,
        |s, v| { s.pin_threads = values::yes_no(v)?; Ok(()) }, |s| values::print_yes_no(s.pin_threads)),
    row("log-level", "LEVEL", "error, warn, info, debug or trace [default: info]", AtRuntime,
        |s, v| { s.log_level = values::log_level(v)?; Ok(()) }, |s| values::print_log_level(s.log_level)),
    row("log-format", "FORMAT", "text, json (ECS field names), or auto: text on a terminal [default: auto]", AtStart,
        |s, v| { s.log_format = values::log_format(v)?; Ok(()) }, |s| values::print_log_format(s.log_format)),
    row("maxclients", "N", "Connections at once [default: 10000]", AtRuntime,
        |s, v| { s.maxclients = values::integer(v, 1, u64::from(u32::MAX))? as u32; Ok(()) }, |s| s.maxclients.to_string()),
    row("timeout", "SECONDS", "Disconnect a client that is silent for so long; 0 for never [default: 0]", AtRuntime,
        |s, v| { s.timeout = values::integer(v, 0, INT_MAX)? as u32; Ok(()) }, |s| s.timeout.to_string()),
    row("tcp-keepalive", "SECONDS", "Probe silent peers; 0 for never [default: 300]", AtStart,
        |s, v| { s.tcp_keepalive = values::integer(v, 0, INT_MAX)? as u32; Ok(()) }, |s| s.tcp_keepalive.to_string()),
    row("proto-max-bulk-len", "BYTES", "Longest string in a request [default: 512mb; no value is longer than 64mb]", AtRuntime,
        |s, v| { s.proto_max_bulk_len = values::bytes(v, MIB, i64::MAX as u64)?; Ok(()) }, |s| s.proto_max_bulk_len.to_string()),
    row("client-query-buffer-limit", "BYTES", "Longest request [default: 256mb]", AtRuntime,
        |s, v| { s.client_query_buffer_limit = values::bytes(v, MIB, i64::MAX as u64)?; Ok(()) },
        |s| s.client_query_buffer_limit.to_string()),
    row("client-output-buffer-limit", "LIMITS", "Replies that may wait for a client: normal|pubsub HARD SOFT SECONDS ... [default: normal 256mb 64mb 60 pubsub 32mb 8mb 60]", AtRuntime,
        |s, v| {
            let limits = values::output_limits(v, [s.client_output_buffer_limit, s.listener_output_limit])?;
            [s.client_output_buffer_limit, s.listener_output_limit] = limits;
            Ok(())
        },
        |s| values::print_output_limits([s.client_output_buffer_limit, s.listener_output_limit])),
    row("notify-keyspace-events", "CLASSES", "Events of keys that are published, as in Redis: K, E, g, $, x, A [default: none]", AtRuntime,
        |s, v| { s.notify_keyspace_events = values::event_classes(v)?; Ok(()) }, |s| s.notify_keyspace_events.to_string()),
    row("requirepass", "PASSWORD", "The password clients must give; better in the file or the environment than in a flag", AtRuntime,
        |s, v| { s.requirepass = v.to_owned(); Ok(()) }, |s| s.requirepass.clone()),
    row("redis-version", "VERSION", "The version of Redis that clients are told [default: 7.2.4]", AtStart,
        |s, v| { s.redis_version = values::word(v)?; Ok(()) }, |s| s.redis_version.clone()),
    row("server-name", "NAME", "Our own name in INFO [default: corering]", AtStart,
        |s, v| { s.server_name = values::word(v)?; Ok(()) }, |s| s.server_name.clone()),
    row("server-version", "VERSION", "Our own version in INFO [default: this program's]", AtStart,
        |s, v| { s.server_version = values::word(v)?; Ok(()) }, |s| s.server_version.clone()),
    row("shutdown-timeout", "SECONDS", "How long a stop waits for clients to take their replies [default: 10]", AtRuntime,
        |s, v| { s.shutdown_timeout = Duration::from_secs(values::integer(v, 0, INT_MAX)?); Ok(()) },
        |s| s.shutdown_timeout.as_secs().to_string()),

    row("appendfsync", "", "", Alias,
        |s, v| { s.durability = values::appendfsync(v)?; Ok(()) }, |s| values::print_appendfsync(s.durability)),
    row("loglevel", "", "", Alias,
        |s, v| { s.log_level = values::loglevel(v)?; Ok(()) }, |s| values::print_loglevel(s.log_level)),
    fixed("appendonly", |_| "yes".to_owned()),
    fixed("databases", |_| crate::command::DATABASES.to_string()),
    fixed("maxmemory", |_| "0".to_owned()),
    fixed("maxmemory-policy", |_| "noeviction".to_owned()),
    fixed("save", |_| String::new()),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_spelling() {
        for name in ["tcp-keepalive", "tcp_keepalive", "TCP_KEEPALIVE"] {
            assert_eq!(find(name).map(|setting| setting.name), Some("tcp-keepalive"));
        }
        assert!(find("tcp keepalive").is_none());
        assert!(find("").is_none());
    }

    #[test]
    fn what_each_setting_prints_it_also_reads() {
        for setting in SETTINGS.iter().filter(|setting| setting.change != Change::Fixed) {
            let mut settings = Settings::default();
            let printed = (setting.get)(&settings);
            if printed.is_empty() {
                continue;
            }
            if setting.list {
                settings.bind.clear();
            }
            (setting.set)(&mut settings, &printed).unwrap_or_else(|error| panic!("{}: {error}", setting.name));
            assert_eq!((setting.get)(&settings), printed, "{}", setting.name);
        }
    }

    #[test]
    fn names_are_different_and_each_flag_says_what_it_does() {
        for (i, setting) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[..i].iter().all(|other| other.name != setting.name), "{} twice", setting.name);
            let is_flag = matches!(setting.change, AtStart | AtRuntime);
            assert_eq!(is_flag, !setting.help.is_empty(), "{}", setting.name);
        }
    }
}
