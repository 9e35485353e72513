//! `corering stat --live`: what a running server does, and where the time of its writes goes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::exit::{self, Failure};
use crate::locks_cli::{Connection, connect, with_address};

/// Adds its flags to those of `stat`.
pub fn with_flags(command: Command) -> Command {
    let flag = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).requires("live")
    };
    with_address(command)
        .arg(
            Arg::new("live")
                .long("live")
                .action(clap::ArgAction::SetTrue)
                .help("Ask a running server, again and again"),
        )
        .arg(flag("interval", "SECONDS", "Time between two looks").value_parser(value_parser!(f64)).default_value("1"))
        .arg(
            flag("looks", "N", "Look so many times [default: until interrupted]")
                .value_parser(value_parser!(u64).range(1..)),
        )
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let seconds = matches.get_one::<f64>("interval").copied().unwrap_or(1.0);
    let interval = Duration::try_from_secs_f64(seconds)
        .map_err(|_| Failure::usage(format!("--interval {seconds}: give seconds, more than zero")))?;
    let looks = matches.get_one::<u64>("looks").copied().unwrap_or(u64::MAX);
    let mut connection = connect(matches)?;
    let mut before: Option<Fields> = None;
    for look in 0..looks {
        if look > 0 {
            std::thread::sleep(interval);
        }
        let now = fields(&mut connection)?;
        let shown = if matches.get_flag("json") { as_json(&now) } else { as_text(&now, before.as_ref(), interval) };
        if std::io::stdout().write_all(shown.as_bytes()).is_err() {
            // Whoever reads this has enough of it.
            return Ok(());
        }
        before = Some(now);
    }
    Ok(())
}

/// INFO, by field.
type Fields = BTreeMap<String, String>;

fn fields(connection: &mut Connection) -> Result<Fields, Failure> {
    let reply = connection.call(&["INFO", "stats", "stages", "clients", "persistence", "transactions", "locks"])?;
    let text =
        reply.as_bytes().ok_or_else(|| Failure::new(exit::DISK, "INFO was answered with something else than text"))?;
    Ok(parse(&String::from_utf8_lossy(text)))
}

fn parse(text: &str) -> Fields {
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

const STAGES: [&str; 5] = ["hopped", "appended", "queued", "durable", "applied"];

/// The parts of a field such as `count=1,p50=2.5`.
fn parts(value: &str) -> BTreeMap<&str, &str> {
    value.split(',').filter_map(|part| part.split_once('=')).collect()
}

fn as_text(now: &Fields, before: Option<&Fields>, interval: Duration) -> String {
    let number =
        |fields: &Fields, name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    let rate = |name: &str| {
        let done = before.map_or(0, |before| number(now, name).saturating_sub(number(before, name)));
        done as f64 / interval.as_secs_f64()
    };
    let text = |name: &str| now.get(name).map_or("?", String::as_str);
    let mut shown = format!(
        "{:.0} commands/s, {:.0} kB/s in, {:.0} kB/s out; {} clients; durability {}\n",
        rate("total_commands_processed"),
        rate("total_net_input_bytes") / 1e3,
        rate("total_net_output_bytes") / 1e3,
        text("connected_clients"),
        text("durability"),
    );
    let _ = writeln!(shown, "{:>10} {:>12} {:>12} {:>12} {:>12} {:>12}", "us", "count", "p50", "p99", "p99.9", "max");
    for stage in STAGES {
        let parts = parts(text(&format!("stage_{stage}")).trim()).into_iter().collect::<BTreeMap<_, _>>();
        let part = |name: &str| parts.get(name).copied().unwrap_or("?");
        let _ = writeln!(
            shown,
            "{stage:>10} {:>12} {:>12} {:>12} {:>12} {:>12}",
            part("count"),
            part("p50"),
            part("p99"),
            part("p99.9"),
            part("max")
        );
    }
    shown.push_str(&transactions(now, &rate));
    shown.push_str(&locks(now, &rate));
    shown
}

/// What became of transactions; rates since the last look, the rest since the server's start.
fn transactions(now: &Fields, rate: &dyn Fn(&str) -> f64) -> String {
    let text = |name: &str| now.get(name).map_or("?", String::as_str);
    let aborted = ["changed", "kept", "wounded", "too_old"];
    let reasons: Vec<String> =
        aborted.iter().map(|why| format!("{} {}", text(&format!("transactions_aborted_{why}")), why)).collect();
    format!(
        "transactions: {:.0} commits/s, {:.0} EXEC/s; aborted {}, {} failed, {} rolled back, {} run again; {} waits for keys; \
         {} open, the oldest for {} ms; {} EXEC refused by WATCH\n",
        rate("transactions_committed"),
        rate("exec_committed"),
        reasons.join(", "),
        text("transactions_failed"),
        text("transactions_rolled_back"),
        text("transactions_retried"),
        text("transactions_waits"),
        text("transactions_open"),
        text("transactions_oldest_ms"),
        text("exec_refused_watched"),
    )
}

/// As of transactions, of locks.
fn locks(now: &Fields, rate: &dyn Fn(&str) -> f64) -> String {
    let text = |name: &str| now.get(name).map_or("?", String::as_str);
    format!(
        "locks: {:.0} grants/s, {} held, {} wait, {} sessions; waits p50 {} ms, p99 {} ms, max {} ms; {} refused, {} timed out, \
         {} cancelled, {} deadlocks; {} expired, {} lost with their session, {} writes fenced\n",
        rate("lock_grants"),
        text("lock_holds"),
        text("lock_waiters"),
        text("lock_sessions"),
        text("lock_wait_ms_p50"),
        text("lock_wait_ms_p99"),
        text("lock_wait_ms_max"),
        text("lock_refused"),
        text("lock_timeouts"),
        text("lock_cancelled"),
        text("lock_deadlocks"),
        text("lock_expiries"),
        text("lock_lost_with_session"),
        text("lock_fenced_writes"),
    )
}

/// A line of JSON for each look.
fn as_json(now: &Fields) -> String {
    let value = |(name, value): (&String, &String)| {
        let json = match value.parse::<f64>() {
            Ok(number) => serde_json::json!(number),
            Err(_) if value.contains('=') => {
                let parts = parts(value).into_iter();
                parts.map(|(name, part)| (name.to_owned(), serde_json::json!(part.parse::<f64>().ok()))).collect()
            }
            Err(_) => serde_json::json!(value),
        };
        (name.clone(), json)
    };
    format!("{}\n", serde_json::Value::Object(now.iter().map(value).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_and_shown() {
        let info = |commands: u64| {
            parse(&format!(
                "# Stats\r\ntotal_commands_processed:{commands}\r\ndurability:sync\r\n\
                 stage_durable:count=3,p50=31.500,p99=40.000,p99.9=41.000,max=42.000\r\n"
            ))
        };
        let text = as_text(&info(900), Some(&info(400)), Duration::from_secs(1));
        assert!(text.starts_with("500 commands/s") && text.contains("durability sync"), "{text}");
        let transactions =
            |commits: u64| parse(&format!("transactions_committed:{commits}\r\ntransactions_aborted_kept:7\r\n"));
        let text_of_transactions = as_text(&transactions(50), Some(&transactions(20)), Duration::from_secs(1));
        assert!(
            text_of_transactions.contains("transactions: 30 commits/s") && text_of_transactions.contains(" 7 kept"),
            "{text_of_transactions}"
        );
        let locks = |grants: u64| parse(&format!("lock_grants:{grants}\r\nlock_holds:4\r\nlock_fenced_writes:2\r\n"));
        let text_of_locks = as_text(&locks(9), Some(&locks(4)), Duration::from_secs(1));
        assert!(
            text_of_locks.contains("locks: 5 grants/s, 4 held") && text_of_locks.contains("2 writes fenced"),
            "{text_of_locks}"
        );
        let durable = text.lines().find(|line| line.trim_start().starts_with("durable")).expect("a line of it");
        assert_eq!(
            durable.split_whitespace().collect::<Vec<_>>(),
            ["durable", "3", "31.500", "40.000", "41.000", "42.000"]
        );
        let json: serde_json::Value = serde_json::from_str(&as_json(&info(7))).expect("JSON");
        assert_eq!(
            (json["total_commands_processed"].as_f64(), json["stage_durable"]["p50"].as_f64()),
            (Some(7.0), Some(31.5))
        );
    }
}
