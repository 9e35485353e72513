//! INFO: what the server knows about itself, in Redis's sections and fields.
//!
//! Guards: a field that we show is true; fields of Redis that would be made up are left out.

use std::fmt::Write as _;

use corering_engine::runtime::LocalFuture;
use corering_engine::shard::stages::Stage;
use corering_engine::{Durability, Keyspace};

use super::scan::{KeyCount, count_keys};
use super::spec::Outcome;
use super::{DATABASES, errors::CommandError};
use crate::resp::Request;
use crate::server::{Process, Session};

/// In the order in which they are shown.
const SECTIONS: &[&str] = &[
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "locks",
    "stages",
    "transactions",
    "replication",
    "cpu",
    "modules",
    "errorstats",
    "cluster",
    "keyspace",
];

pub fn info<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let wanted = wanted(request);
        let mut text = String::new();
        for section in SECTIONS.iter().filter(|section| wanted.contains(section)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let lines = match *section {
                "server" => server(session),
                "clients" => clients(session),
                "memory" => memory(),
                "persistence" => persistence(session),
                "stats" => stats(session),
                "locks" => locks(session),
                "stages" => stages(session),
                "transactions" => transactions(session),
                "replication" => replication(session),
                "cpu" => cpu(),
                "errorstats" => errorstats(session),
                "cluster" => "cluster_enabled:0\r\n".to_owned(),
                "keyspace" => keyspace(session).await?,
                _ => String::new(),
            };
            let mut title = (*section).to_owned();
            if let Some(first) = title.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            let title = if *section == "cpu" { "CPU".to_owned() } else { title };
            text.push_str(&format!("# {title}\r\n{lines}"));
        }
        session.reply().verbatim("txt", text.as_bytes());
        Ok(())
    })
}

fn wanted(request: Request<'_>) -> Vec<&'static str> {
    let named: Vec<Vec<u8>> = request.skip(1).iter().map(<[u8]>::to_ascii_lowercase).collect();
    let all = |name: &Vec<u8>| matches!(name.as_slice(), b"all" | b"everything" | b"default");
    let is_wanted = |section: &str| {
        named.is_empty() || named.iter().any(all) || named.iter().any(|name| name == section.as_bytes())
    };
    SECTIONS.iter().copied().filter(|section| is_wanted(section)).collect()
}

macro_rules! fields {
    ($($name:literal: $value:expr,)*) => {{
        let mut lines = String::new();
        $(let _ = write!(lines, "{}:{}\r\n", $name, $value);)*
        lines
    }};
}

fn server(session: &Session) -> String {
    let settings = session.settings();
    let uptime = session.monotonic_ms() / 1000;
    let identity = session.identity();
    fields! {
        "redis_version": settings.redis_version,
        "redis_mode": "standalone",
        "corering_name": settings.server_name,
        "corering_version": settings.server_version,
        "os": Process::os(),
        "arch_bits": usize::BITS,
        "multiplexing_api": "io_uring",
        "process_id": std::process::id(),
        "run_id": identity.run_id,
        "tcp_port": identity.port,
        "server_time_usec": session.wall_us(),
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime / 86_400,
        "shards": session.shard_count(),
        "executable": Process::executable(),
        "config_file": identity.config_file,
    }
}

fn clients(session: &Session) -> String {
    let clients = session.registry().all();
    let largest =
        |of: fn(&crate::server::ClientInfo) -> u64| clients.iter().map(|client| of(client)).max().unwrap_or(0);
    fields! {
        "connected_clients": clients.len(),
        "maxclients": session.settings().maxclients,
        "client_recent_max_input_buffer": largest(|client| client.input_bytes()),
        "client_recent_max_output_buffer": largest(|client| client.output_bytes()),
        "blocked_clients": session.blocked_clients(),
    }
}

/// `1.50M` and the like.
fn human(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit_name = units.get(unit).unwrap_or(&"");
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.2}{unit_name}") }
}

fn memory() -> String {
    let memory = Process::memory();
    fields! {
        "used_memory": memory.rss,
        "used_memory_human": human(memory.rss),
        "used_memory_rss": memory.rss,
        "used_memory_rss_human": human(memory.rss),
        "used_memory_peak": memory.peak_rss,
        "used_memory_peak_human": human(memory.peak_rss),
        "total_system_memory": memory.system,
        "total_system_memory_human": human(memory.system),
        "maxmemory": 0,
        "maxmemory_human": "0B",
        "maxmemory_policy": "noeviction",
    }
}

fn persistence(session: &Session) -> String {
    let saves = session.save_status();
    let durability = session.settings().durability;
    fields! {
        "loading": 0,
        "rdb_bgsave_in_progress": u8::from(saves.running),
        "rdb_last_save_time": saves.last_unix_s,
        "rdb_last_bgsave_status": if saves.last_failed { "err" } else { "ok" },
        "aof_enabled": 1,
        "aof_last_write_status": "ok",
        "durability": match durability {
            Durability::Sync => "sync".to_owned(),
            Durability::Interval(time) => format!("interval:{}", time.as_millis()),
            Durability::None => "none".to_owned(),
        },
    }
}

fn stats(session: &Session) -> String {
    let sum = session.stats().sum();
    let rates = session.stats().rates();
    fields! {
        "total_connections_received": sum.connections,
        "total_commands_processed": sum.commands,
        "instantaneous_ops_per_sec": rates.commands,
        "total_net_input_bytes": sum.input_bytes,
        "total_net_output_bytes": sum.output_bytes,
        "instantaneous_input_kbps": format!("{:.2}", rates.input_bytes as f64 / 1024.0),
        "instantaneous_output_kbps": format!("{:.2}", rates.output_bytes as f64 / 1024.0),
        "rejected_connections": sum.rejected,
        "evicted_keys": 0,
        "keyspace_hits": sum.hits,
        "keyspace_misses": sum.misses,
        "pubsub_channels": session.pubsub().counts().0,
        "pubsub_patterns": session.pubsub().counts().1,
        "total_error_replies": sum.errors,
        "total_reads_processed": sum.receives,
        "total_writes_processed": sum.sends,
    }
}

fn locks(session: &Session) -> String {
    let engine = session.engine_stats();
    let waits = engine.lock_waits();
    let counts = session.stats().lock_counts(&engine.lock_counts());
    fields! {
        "lock_sessions": session.client().session_count(),
        "lock_names": engine.sum(|shard| shard.locks),
        "lock_holds": engine.sum(|shard| shard.lock_holds),
        "lock_waiters": engine.sum(|shard| shard.lock_waiters),
        "lock_grants": counts.grants,
        "lock_refused": counts.refused,
        "lock_waits": waits.count,
        "lock_wait_ms_total": waits.sum_ms,
        "lock_wait_ms_max": waits.max_ms,
        "lock_wait_ms_p50": waits.within_ms(0.5),
        "lock_wait_ms_p99": waits.within_ms(0.99),
        "lock_timeouts": counts.timeouts,
        "lock_cancelled": counts.cancelled,
        "lock_deadlocks": counts.deadlocks,
        "lock_expiries": counts.expired,
        "lock_lost_with_session": counts.orphaned,
        "lock_fenced_writes": counts.fenced,
    }
}

/// Times of writes in microseconds, as Redis gives its percentiles; what each stage is, docs/perf.md says.
fn stages(session: &Session) -> String {
    let stages = session.engine_stats().stages();
    let mut lines = String::new();
    for stage in Stage::ALL {
        let times = stages.times(stage);
        let us = |ns: u64| ns as f64 / 1e3;
        let _ = write!(
            lines,
            "stage_{}:count={},p50={:.3},p99={:.3},p99.9={:.3},max={:.3}\r\n",
            stage.name(),
            times.count,
            us(times.p50_ns),
            us(times.p99_ns),
            us(times.p999_ns),
            us(times.max_ns)
        );
    }
    lines
}

fn transactions(session: &Session) -> String {
    let counts = session.engine_stats().transactions;
    fields! {
        "transactions_begun": counts.begun,
        "transactions_retried": counts.retried,
        "transactions_committed": counts.committed,
        "transactions_rolled_back": counts.rolled_back,
        "transactions_aborted_changed": counts.aborted_changed,
        "transactions_aborted_kept": counts.aborted_kept,
        "transactions_aborted_wounded": counts.aborted_wounded,
        "transactions_aborted_too_old": counts.aborted_too_old,
        "transactions_failed": counts.failed,
        "transactions_waits": counts.waits,
        "transactions_open": counts.open,
        "transactions_oldest_ms": counts.oldest_ms,
        "transactions_age_ms_total": counts.ages_ms,
        "transactions_age_ms_max": counts.age_ms_max,
        "recovered_commits_stood": counts.decided.stood,
        "recovered_commits_fell": counts.decided.fell,
        "exec_committed": session.stats().sum().exec_committed,
        "exec_refused_watched": session.stats().sum().exec_watched,
    }
}

fn replication(session: &Session) -> String {
    fields! {
        "role": "master",
        "connected_slaves": 0,
        "master_replid": session.identity().run_id,
        "master_repl_offset": 0,
    }
}

fn cpu() -> String {
    let times = Process::cpu_times();
    fields! {
        "used_cpu_sys": format!("{:.6}", times.system),
        "used_cpu_user": format!("{:.6}", times.user),
    }
}

fn errorstats(session: &Session) -> String {
    let mut lines = String::new();
    for (code, count) in session.stats().errors() {
        let _ = write!(lines, "errorstat_{code}:count={count}\r\n");
    }
    lines
}

async fn keyspace(session: &Session) -> Result<String, CommandError> {
    let counts = match session.key_counts().recent() {
        Some(counts) => counts,
        None => {
            let began = std::time::Instant::now();
            let mut counts = Vec::new();
            for database in 0..DATABASES {
                counts.push(count_keys(session, Keyspace(database)).await?);
            }
            session.key_counts().remember(counts, began.elapsed())
        }
    };
    let mut lines = String::new();
    for (database, KeyCount { keys, expiring, ttl_ms }) in counts.iter().enumerate() {
        if *keys > 0 {
            let average = ttl_ms.checked_div(*expiring).unwrap_or(0);
            let _ = write!(lines, "db{database}:keys={keys},expires={expiring},avg_ttl={average}\r\n");
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1023), "1023B");
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(25_276_514_304), "23.54G");
    }
}
