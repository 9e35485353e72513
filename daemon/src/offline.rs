//! `corering check` and `corering stat`: what can be told of a database that nobody has open.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use corering_engine::check::{self, CheckReport, OfflineStat};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::exit::{self, Failure};
use crate::live;

fn with_dir(command: Command) -> Command {
    command
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The directory of the database; nobody may have it open"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the result as JSON"))
}

pub fn check_command() -> Command {
    with_dir(
        Command::new("check")
            .about("Verify every byte of a closed database, and say what is wrong and where")
            .after_help("Nothing is written or repaired. Exit status 0: no damage; 2: damage, each place of it named."),
    )
}

pub fn stat_command() -> Command {
    let command = Command::new("stat")
        .about("Tell the size and state of a closed database, without reading its data, or what a running server does");
    live::with_flags(with_dir(command)).mut_arg("dir", |dir| dir.required(false).required_unless_present("live"))
}

fn dir(matches: &ArgMatches) -> PathBuf {
    // clap has seen to it that there is one.
    matches.get_one::<PathBuf>("dir").cloned().unwrap_or_default()
}

pub fn run_check(matches: &ArgMatches) -> Result<(), Failure> {
    let dir = dir(matches);
    let bar = progress();
    let result = check::check(&dir, &mut |progress| {
        bar.set_position(progress.bytes_read);
        bar.set_message(shown(&progress.path, &dir));
    });
    bar.finish_and_clear();
    let report = result?;
    if matches.get_flag("json") {
        println!("{}", check_json(&report))
    } else {
        println!("{report}")
    }
    match report.damages.len() {
        0 => Ok(()),
        n => Err(Failure::new(exit::DAMAGED, format!("{} is damaged in {n} places", dir.display()))),
    }
}

pub fn run_stat(matches: &ArgMatches) -> Result<(), Failure> {
    if matches.get_flag("live") {
        return live::run(matches);
    }
    let stat = check::stat(&dir(matches))?;
    if matches.get_flag("json") {
        println!("{}", stat_json(&stat))
    } else {
        println!("{stat}")
    }
    Ok(())
}

/// A path inside the database, for people.
fn shown(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    match ProgressStyle::with_template("{spinner} {binary_bytes} read, {binary_bytes_per_sec}: {wide_msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn check_json(report: &CheckReport) -> Value {
    let damages = report
        .damages
        .iter()
        .map(|damage| json!({ "file": damage.path.display().to_string(), "byte": damage.offset, "what": damage.what }));
    let notes = report.notes.iter().map(|note| json!({ "file": note.path.display().to_string(), "what": note.what }));
    let shards = report.shards.iter().map(|shard| {
        json!({
            "shard": shard.shard.0,
            "tables": shard.tables,
            "entries": shard.entries,
            "log_batches": shard.log_batches,
            "log_records": shard.log_records,
            "stage_records": shard.stage_records,
            "log_end": shard.log_end.0,
            "bytes_read": shard.bytes_read,
        })
    });
    json!({
        "clean": report.is_clean(),
        "damages": damages.collect::<Vec<_>>(),
        "notes": notes.collect::<Vec<_>>(),
        "shards": shards.collect::<Vec<_>>(),
    })
}

fn stat_json(stat: &OfflineStat) -> Value {
    let shards = stat.shards.iter().map(|shard| {
        json!({
            "shard": shard.shard.0,
            "runs": shard.runs,
            "tables": shard.tables,
            "table_bytes": shard.table_bytes,
            "entries": shard.entries,
            "keys": shard.keys,
            "tables_of_an_earlier_ring": shard.impure_tables,
            "max_commit": shard.max_commit.0,
            "replay_from": shard.replay_from.0,
            "segments": shard.segments,
            "first_lsn": shard.first_lsn.0,
            "last_segment_lsn": shard.last_segment_lsn.0,
            "log_file_bytes": shard.log_file_bytes,
        })
    });
    json!({
        "dir": stat.path.display().to_string(),
        "database": format!("{:016x}", stat.db_id),
        "life": stat.life.0,
        "ring_version": stat.ring_version,
        "virtual_nodes": stat.vnodes,
        "shards": shards.collect::<Vec<_>>(),
    })
}
