//! The flags of `corering bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use corering_engine::Durability;

use super::plan::{Distribution, Limit, Plan, Target, Workload};
use crate::config::{self, Settings};
use crate::exit::Failure;

pub fn command() -> Command {
    let flag = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("bench")
        .about("Measure an engine in this process, or a server behind a socket")
        .arg(
            Arg::new("workloads")
                .value_name("WORKLOAD")
                .num_args(0..)
                .value_parser(Workload::ALL.map(Workload::name))
                .help("What to do [default: put get]"),
        )
        .arg(
            flag("socket", "ADDR", "Measure the server at HOST:PORT, or at the path of a Unix socket")
                .conflicts_with_all(["dir", "shards", "durability"]),
        )
        .arg(
            flag("dir", "DIR", "Open the engine here [default: a new directory, removed afterwards]")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            flag("shards", "N", "Shards of the engine [default: one per processor]")
                .value_parser(value_parser!(u16).range(1..=1024)),
        )
        .arg(flag("durability", "LEVEL", "sync, interval[:MS] or none [default: sync]"))
        .arg(
            flag("threads", "N", "Threads, each with its own connection [default: 1; over a socket 8]")
                .value_parser(value_parser!(u32).range(1..=4096)),
        )
        .arg(
            flag("pipeline", "N", "Operations under way in each thread")
                .value_parser(value_parser!(u32).range(1..=100_000))
                .default_value("1"),
        )
        .arg(
            flag("keys", "N", "Different keys")
                .value_parser(value_parser!(u64).range(1..=1_000_000_000_000))
                .default_value("1000000"),
        )
        .arg(
            flag("value-size", "BYTES", "Length of values")
                .value_parser(value_parser!(u32).range(0..=(64 << 20)))
                .default_value("100"),
        )
        .arg(
            flag("batch-size", "N", "Puts in a batch, keys in a scan")
                .value_parser(value_parser!(u32).range(1..=100_000))
                .default_value("100"),
        )
        .arg(flag("distribution", "NAME", "uniform, zipf, or zipf:EXPONENT").default_value("uniform"))
        .arg(flag("duration", "SECONDS", "How long each workload runs [default: 10]").value_parser(value_parser!(f64)))
        .arg(
            flag("ops", "N", "How many operations each workload does, instead of a duration")
                .value_parser(value_parser!(u64).range(1..))
                .conflicts_with("duration"),
        )
        .arg(
            flag("rate", "N", "Begin so many operations a second, whatever became of those before; latency counts from when each was due")
                .value_parser(value_parser!(f64)),
        )
        .arg(
            flag("disk", "DIR", "Measure the disk under this directory instead, and say which settings follow")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with_all(["workloads", "socket", "dir", "ops", "rate"]),
        )
        .arg(flag("seed", "N", "Begin of the random choices").value_parser(value_parser!(u64)).default_value("1"))
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the results as JSON"))
}

/// For each figure of a disk, unless a duration is given for all.
const DISK_FIGURE: Duration = Duration::from_secs(1);

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.get_one::<PathBuf>("disk") {
        Some(dir) => {
            let time = if matches.contains_id("duration") { duration(matches)? } else { DISK_FIGURE };
            super::disk::run(dir, time, matches.get_flag("json"))
        }
        None => super::run(&plan(matches)?),
    }
}

fn plan(matches: &ArgMatches) -> Result<Plan, Failure> {
    let target = match matches.get_one::<String>("socket") {
        Some(address) => Target::Socket { address: address.clone() },
        None => Target::InProcess {
            dir: matches.get_one("dir").cloned(),
            shards: matches.get_one("shards").copied(),
            durability: durability(matches)?,
        },
    };
    let threads = if matches!(target, Target::Socket { .. }) { 8 } else { 1 };
    let number = |name: &str| matches.get_one::<u32>(name).copied();
    Ok(Plan {
        workloads: workloads(matches),
        target,
        threads: number("threads").unwrap_or(threads),
        pipeline: number("pipeline").unwrap_or(1),
        keys: matches.get_one("keys").copied().unwrap_or(1_000_000),
        value_len: number("value-size").unwrap_or(100) as usize,
        batch_len: number("batch-size").unwrap_or(100),
        distribution: distribution(matches)?,
        limit: limit(matches)?,
        rate: rate(matches)?,
        seed: matches.get_one("seed").copied().unwrap_or(1),
        json: matches.get_flag("json"),
    })
}

fn workloads(matches: &ArgMatches) -> Vec<Workload> {
    let named: Vec<Workload> = matches
        .get_many::<String>("workloads")
        .into_iter()
        .flatten()
        .filter_map(|name| Workload::ALL.into_iter().find(|workload| workload.name() == name))
        .collect();
    if named.is_empty() { vec![Workload::Put, Workload::Get] } else { named }
}

fn durability(matches: &ArgMatches) -> Result<Durability, Failure> {
    let mut settings = Settings::default();
    if let (Some(text), Some(setting)) = (matches.get_one::<String>("durability"), config::find("durability")) {
        (setting.set)(&mut settings, text).map_err(|why| Failure::usage(format!("--durability {text}: {why}")))?;
    }
    Ok(settings.durability)
}

fn distribution(matches: &ArgMatches) -> Result<Distribution, Failure> {
    let text = matches.get_one::<String>("distribution").map_or("uniform", String::as_str);
    let zipf = |exponent: &str| match exponent.parse::<f64>() {
        Ok(exponent) if exponent.is_finite() && exponent > 0.0 => Some(Distribution::Zipf { exponent }),
        _ => None,
    };
    match text {
        "uniform" => Some(Distribution::Uniform),
        "zipf" => zipf("0.99"),
        _ => text.strip_prefix("zipf:").and_then(zipf),
    }
    .ok_or_else(|| Failure::usage(format!("--distribution {text}: give uniform, zipf or zipf:EXPONENT")))
}

fn limit(matches: &ArgMatches) -> Result<Limit, Failure> {
    if let Some(operations) = matches.get_one::<u64>("ops") {
        return Ok(Limit::Operations(*operations));
    }
    duration(matches).map(Limit::Time)
}

fn rate(matches: &ArgMatches) -> Result<Option<f64>, Failure> {
    match matches.get_one::<f64>("rate").copied() {
        None => Ok(None),
        Some(rate) if rate.is_finite() && (0.001..=1e8).contains(&rate) => Ok(Some(rate)),
        Some(rate) => {
            Err(Failure::usage(format!("--rate {rate}: give operations a second, at most a hundred million")))
        }
    }
}

fn duration(matches: &ArgMatches) -> Result<Duration, Failure> {
    let seconds = matches.get_one::<f64>("duration").copied().unwrap_or(10.0);
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(Failure::usage(format!("--duration {seconds}: give seconds, more than zero"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Plan, Failure> {
        let matches = command().try_get_matches_from(std::iter::once(&"bench").chain(args)).map_err(Failure::usage)?;
        plan(&matches)
    }

    #[test]
    fn defaults_and_flags() {
        let plan = parse(&[]).unwrap();
        assert_eq!(plan.workloads, [Workload::Put, Workload::Get]);
        assert_eq!((plan.threads, plan.limit), (1, Limit::Time(Duration::from_secs(10))));
        let plan =
            parse(&["scan", "incr", "--socket", "127.0.0.1:1", "--ops", "5", "--distribution", "zipf:1.2"]).unwrap();
        assert_eq!(plan.workloads, [Workload::Scan, Workload::Incr]);
        assert_eq!((plan.threads, plan.limit), (8, Limit::Operations(5)));
        assert_eq!(plan.distribution, Distribution::Zipf { exponent: 1.2 });
        assert_eq!((plan.rate, parse(&["--rate", "5000"]).unwrap().rate), (None, Some(5000.0)));
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [
            &["fly"][..],
            &["--threads", "0"],
            &["--duration", "0"],
            &["--duration", "-1"],
            &["--distribution", "zipf:x"],
            &["--durability", "maybe"],
            &["--ops", "1", "--duration", "1"],
            &["--socket", "x:1", "--dir", "d"],
            &["--rate", "0"],
            &["--rate", "-5"],
            &["--disk", "d", "put"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
