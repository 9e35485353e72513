//! `peers`: Corering, its peers and the machine's limits, side by side. `make bench` runs it; docs/performance.md is what it found.

#![deny(unsafe_code)]

mod child;
mod data;
mod machine;
mod measure;
mod page;
mod plot;
mod python;
mod results;
mod run;
mod server;
mod spin;
mod store;
mod text;
mod tx;
mod work;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::results::Results;
use crate::store::{Outcome, System};
use crate::work::{Group, Size, WORKLOADS};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn command() -> Command {
    let path = |name: &'static str| Arg::new(name).required(true).value_parser(value_parser!(PathBuf));
    let word = |name: &'static str| Arg::new(name).required(true);
    let hidden = |name: &'static str| Command::new(name).hide(true);
    Command::new("peers")
        .about("Measures Corering, its peers and the machine's limits side by side")
        .subcommand_required(true)
        .subcommand(
            Command::new("run")
                .about("Measure, print the table, write the results, their drawings and the page")
                .arg(Arg::new("names").value_name("WORKLOAD|GROUP").num_args(0..).help("Only these [default: all of the size]"))
                .arg(Arg::new("size").long("size").default_value("quick").value_parser(["tiny", "quick", "full"]).help(
                    "quick takes some minutes, full more than an hour; tiny shows that it works",
                ))
                .arg(Arg::new("resume").long("resume").action(ArgAction::SetTrue).help("Leave out what has results of this commit and size"))
                .arg(Arg::new("rounds").long("rounds").value_parser(value_parser!(u32).range(1..=100)).help("Turns of each system"))
                .arg(Arg::new("results").long("results").value_parser(value_parser!(PathBuf)).help("Where results go [default: benches/results]"))
                .arg(Arg::new("page").long("page").value_parser(value_parser!(PathBuf)).help("The page [default: docs/performance.md]"))
                .arg(Arg::new("data").long("data").value_parser(value_parser!(PathBuf)).help(
                    "Where databases lie while they are measured; on a real disk [default: CORERING_BENCH_DIR, or beside the build]",
                )),
        )
        .subcommand(
            Command::new("page")
                .about("Make the page again from results that are there")
                .arg(Arg::new("results").long("results").value_parser(value_parser!(PathBuf)))
                .arg(Arg::new("page").long("page").value_parser(value_parser!(PathBuf))),
        )
        .subcommand(Command::new("list").about("The workloads"))
        .subcommand(
            hidden("child").args([word("group"), word("system"), word("size"), path("dir")]).arg(Arg::new("only").num_args(0..)),
        )
        .subcommand(hidden("spin").arg(word("parent")))
        .subcommand(hidden("write-and-die").args([word("system"), word("size"), path("dir")]))
}

fn main() {
    let matches = command().get_matches();
    let done = match matches.subcommand() {
        Some(("run", matches)) => measure(matches),
        Some(("page", matches)) => write_page(&results_dir(matches), &page_path(matches)),
        Some(("list", _)) => list(),
        Some(("child", matches)) => one_child(matches),
        Some(("spin", matches)) => {
            text(matches, "parent").parse().map(spin::spin).map_err(|_| "no process id".to_owned())
        }
        Some(("write-and-die", matches)) => System::parse(text(matches, "system"))
            .and_then(|system| work::recovery::write_and_die(system, size(matches)?, dir(matches))),
        _ => Err("no such command".to_owned()),
    };
    if let Err(why) = done {
        eprintln!("peers: {why}");
        std::process::exit(1);
    }
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

fn dir(matches: &ArgMatches) -> &Path {
    matches.get_one::<PathBuf>("dir").map_or(Path::new("."), PathBuf::as_path)
}

fn size(matches: &ArgMatches) -> Outcome<Size> {
    Size::parse(text(matches, "size")).ok_or_else(|| "there is no such size".to_owned())
}

fn results_dir(matches: &ArgMatches) -> PathBuf {
    matches.get_one("results").cloned().unwrap_or_else(|| Path::new(HERE).join("../results"))
}

fn page_path(matches: &ArgMatches) -> PathBuf {
    matches.get_one("page").cloned().unwrap_or_else(|| Path::new(HERE).join("../../docs/performance.md"))
}

/// Beside the build, which lies on a disk: target/release/peers gives target/bench-data.
fn data_dir(matches: &ArgMatches) -> Outcome<PathBuf> {
    let given = matches.get_one("data").cloned().or_else(|| std::env::var_os("CORERING_BENCH_DIR").map(PathBuf::from));
    let beside = || -> Outcome<PathBuf> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        Ok(program.ancestors().nth(2).unwrap_or(Path::new(".")).join("bench-data"))
    };
    let parent: PathBuf = given.map_or_else(beside, Ok)?;
    // Its own, so that two runs at once spoil only each other's figures.
    Ok(parent.join(format!("peers-{}", std::process::id())))
}

fn measure(matches: &ArgMatches) -> Outcome<()> {
    let names: Vec<String> = matches.get_many("names").into_iter().flatten().cloned().collect();
    for name in &names {
        if work::find(name).is_none() && !Group::ALL.iter().any(|group| group.name() == name) {
            return Err(format!("there is no workload or group {name}; peers list tells them"));
        }
    }
    let plan = run::Plan {
        size: size(matches)?,
        names,
        resume: matches.get_flag("resume"),
        results: results_dir(matches),
        data: data_dir(matches)?,
        rounds: matches.get_one("rounds").copied(),
    };
    eprintln!("peers: about {} minutes", run::estimate(&plan).as_secs().div_ceil(60));
    let done = run::run(&plan);
    let _ = std::fs::remove_dir_all(&plan.data);
    let measured = done?;
    print!("{}", text::table(&measured));
    write_page(&plan.results, &page_path(matches))
}

fn write_page(results: &Path, page: &Path) -> Outcome<()> {
    let all = Results::read_all(results)?;
    let remarks = page::Remarks::read(&Path::new(HERE).join("remarks.toml"))?;
    std::fs::write(page, page::page(&all, &remarks)).map_err(|error| format!("{}: {error}", page.display()))?;
    for name in page::missing(&all) {
        eprintln!("peers: no results of {name}");
    }
    Ok(())
}

fn list() -> Outcome<()> {
    for group in Group::ALL {
        println!("{}: {}", group.name(), group.systems().join(", "));
        for workload in WORKLOADS.iter().filter(|workload| workload.group == group) {
            println!("  {:<22} {}", workload.name, workload.what);
        }
    }
    Ok(())
}

fn one_child(matches: &ArgMatches) -> Outcome<()> {
    let name = text(matches, "group");
    let group = Group::ALL.into_iter().find(|group| group.name() == name).ok_or("there is no such group")?;
    child::run(child::Order {
        group,
        system: text(matches, "system").to_owned(),
        size: size(matches)?,
        dir: dir(matches).to_path_buf(),
        only: matches.get_many("only").into_iter().flatten().cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_page_is_what_the_results_and_remarks_make() {
        let all = Results::read_all(&Path::new(HERE).join("../results")).expect("results that can be read");
        let remarks = page::Remarks::read(&Path::new(HERE).join("remarks.toml")).expect("remarks that can be read");
        let page =
            std::fs::read_to_string(Path::new(HERE).join("../../docs/performance.md")).expect("the page is there");
        assert!(page == page::page(&all, &remarks), "make it again: cargo run -p corering-peers -- page");
    }
}
