//! docs/performance.md: the table with its ratios, made of the results; the goals and the remarks beside it are written by hand in
//! `benches/peers/remarks.toml`.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::results::{Results, Series};
use crate::store::Outcome;
use crate::text::{rate, ratio, time};
use crate::work::WORKLOADS;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Remarks {
    /// Before the table.
    #[serde(default)]
    intro: String,
    /// Behind it.
    #[serde(default)]
    outro: String,
    #[serde(default)]
    workload: std::collections::BTreeMap<String, Remark>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Remark {
    #[serde(default)]
    goals: Vec<Goal>,
    /// What explains the result.
    #[serde(default)]
    text: String,
}

/// A figure to reach, from GOALS.md.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Goal {
    /// Our rate, in multiples of the best peer's, or of one peer's, possibly in another workload.
    Rate { at_least: f64, of: Option<String>, beside: Option<String> },
    /// Our median latency, in multiples of the machine's limit.
    P50OfLimit { at_most: f64 },
    /// Our rate, as a part of the machine's limit.
    RateOfLimit { at_least: f64 },
    /// With all processors busy.
    P999BusyUs { at_most: f64 },
    /// Bytes a second, in GB.
    GigabytesPerSecond { at_least: f64 },
}

impl Remarks {
    pub fn read(path: &Path) -> Outcome<Remarks> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let remarks: Remarks = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for name in remarks.workload.keys() {
            crate::work::find(name).ok_or_else(|| format!("{}: there is no workload {name}", path.display()))?;
        }
        Ok(remarks)
    }
}

/// Where a goal stands: what it says, what was measured, and whether that is enough.
struct Standing {
    says: String,
    is: String,
    met: bool,
}

impl Goal {
    fn standing(&self, here: &Results, all: &[Results]) -> Option<Standing> {
        let median = |series: &Series, field: &str| Some(series.of(field)?.median);
        let (_, ours) = here.ours("free")?;
        Some(match self {
            Goal::Rate { at_least, of, beside } => {
                let there = match beside {
                    Some(name) => all.iter().find(|results| results.workload.name == name)?,
                    None => here,
                };
                let (peer, series) = match of {
                    Some(name) => (name.as_str(), there.series("free", name)?),
                    None => there.best_peer("free")?,
                };
                let is = median(ours, "per_second")? / median(series, "per_second")?;
                let where_it_is = beside.as_ref().map_or(String::new(), |name| format!(" in {name}"));
                Standing { says: format!("{at_least} x {peer}{where_it_is}"), is: ratio(is), met: is >= *at_least }
            }
            Goal::P50OfLimit { at_most } => {
                let (limit, series) = here.limit("free")?;
                let is = median(ours, "p50_ns")? / median(series, "p50_ns")?;
                Standing { says: format!("p50 at most {at_most} of the {limit}'s"), is: ratio(is), met: is <= *at_most }
            }
            Goal::RateOfLimit { at_least } => {
                let (limit, series) = here.limit("free")?;
                let is = median(ours, "per_second")? / median(series, "per_second")?;
                Standing { says: format!("{at_least} of the {limit}'s rate"), is: ratio(is), met: is >= *at_least }
            }
            Goal::P999BusyUs { at_most } => {
                let (_, ours) = here.ours("busy")?;
                let is = median(ours, "p999_ns")? / 1e3;
                Standing {
                    says: format!("busy: p99.9 at most {}", time(at_most * 1e3)),
                    is: time(is * 1e3),
                    met: is <= *at_most,
                }
            }
            Goal::GigabytesPerSecond { at_least } => {
                let is = median(ours, "per_second")? / 1e9;
                Standing { says: format!("{at_least} GB/s"), is: format!("{is:.2} GB/s"), met: is >= *at_least }
            }
        })
    }
}

/// The page. It is the same for the same results and remarks.
pub fn page(all: &[Results], remarks: &Remarks) -> String {
    let mut page = String::new();
    let _ = writeln!(
        page,
        "# Performance beside peers\n\n<!-- Made by `make bench` from benches/results/*.json and benches/peers/remarks.toml; changes by hand are lost. -->\n\n{}",
        remarks.intro.trim()
    );
    machine(&mut page, all);
    overview(&mut page, all, remarks);
    goals(&mut page, all, remarks);
    for results in all {
        details(&mut page, results, remarks.workload.get(results.workload.name));
    }
    settings(&mut page, all);
    let _ = writeln!(page, "\n{}", remarks.outro.trim());
    page
}

fn machine(page: &mut String, all: &[Results]) {
    let Some(first) = all.first() else { return };
    let it = |name: &str| match &first.machine[name] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let _ = writeln!(
        page,
        "\n{} processors ({}), {} MiB, Linux {}, {}; {}.",
        it("processors"),
        it("processor"),
        it("memory_mib"),
        it("kernel"),
        it("file_system"),
        it("rustc")
    );
    let version = |name: &str| first.machine["versions"][name].as_str().unwrap_or("?");
    let _ = writeln!(
        page,
        "Peers: RocksDB {}, LMDB {}, redb {}, fjall {}, Redis {}.",
        version("rocksdb"),
        version("lmdb"),
        version("redb"),
        version("fjall"),
        version("redis")
    );
}

fn overview(page: &mut String, all: &[Results], remarks: &Remarks) {
    let _ = writeln!(
        page,
        "\n## The table\n\nEach figure is the median of its runs. *Ours is*: our rate as a multiple of the best peer's.\n\n\
         | workload | processors | ours, per second | p50 | p99.9 | best peer, per second | ours is | the machine's limit | goals |\n|---|---|---|---|---|---|---|---|---|"
    );
    for results in all {
        for (condition, _) in results.conditions() {
            let Some((_, ours)) = results.ours(condition) else { continue };
            let median = |series: &Series, field| series.of(field).map_or(0.0, |it| it.median);
            let own_rate = median(ours, "per_second");
            let peer = results.best_peer(condition).map(|(name, series)| (name, median(series, "per_second")));
            let limit = results.limit(condition);
            let name = if condition == "free" {
                format!("[{}](#{})", results.workload.name, results.workload.name)
            } else {
                String::new()
            };
            let goal = if condition == "free" { met(results, all, remarks) } else { String::new() };
            let _ = writeln!(
                page,
                "| {name} | {condition} | {} | {} | {} | {} | {} | {} | {goal} |",
                rate(own_rate),
                time(median(ours, "p50_ns")),
                time(median(ours, "p999_ns")),
                peer.map_or("–".to_owned(), |(name, it)| format!("{name} {}", rate(it))),
                peer.map_or("–".to_owned(), |(_, it)| ratio(own_rate / it)),
                limit.map_or("–".to_owned(), |(name, it)| format!(
                    "{name} {}, {}",
                    rate(median(it, "per_second")),
                    time(median(it, "p50_ns"))
                )),
            );
        }
    }
}

/// Whether the goals of a workload are met.
fn met(results: &Results, all: &[Results], remarks: &Remarks) -> String {
    let goals = remarks.workload.get(results.workload.name).map_or(&[][..], |remark| &remark.goals);
    let standings: Vec<bool> = goals.iter().filter_map(|goal| goal.standing(results, all)).map(|it| it.met).collect();
    match standings.iter().filter(|met| **met).count() {
        _ if standings.is_empty() => String::new(),
        n if n == standings.len() => "met".to_owned(),
        0 => "not met".to_owned(),
        n => format!("{n} of {}", standings.len()),
    }
}

fn goals(page: &mut String, all: &[Results], remarks: &Remarks) {
    let _ = writeln!(page, "\n## Goals\n\n| workload | goal | is | |\n|---|---|---|---|");
    for results in all {
        let Some(remark) = remarks.workload.get(results.workload.name) else { continue };
        for standing in remark.goals.iter().filter_map(|goal| goal.standing(results, all)) {
            let met = if standing.met { "met" } else { "**not met**" };
            let _ = writeln!(page, "| {} | {} | {} | {met} |", results.workload.name, standing.says, standing.is);
        }
    }
}

fn details(page: &mut String, results: &Results, remark: Option<&Remark>) {
    let workload = results.workload;
    let _ = writeln!(
        page,
        "\n## {}\n\n{}. Size: {}, {}.\n\n![{}](../benches/results/{}.svg)\n",
        workload.name,
        workload.what,
        results.size.name(),
        results.machine["date"].as_str().unwrap_or_default(),
        workload.what,
        workload.name
    );
    let _ = writeln!(
        page,
        "| processors | system | {} per second (runs: least–most) | p50 | p99 | p99.9 | max | CPU each |\n|---|---|---|---|---|---|---|---|",
        workload.unit
    );
    for (condition, systems) in results.conditions() {
        for (system, series) in systems {
            let Some(it) = series.of("per_second") else {
                let why = series.failed().unwrap_or("not measured");
                let _ = writeln!(page, "| {condition} | {system} | failed: {why} | | | | | |");
                continue;
            };
            let latency = |field| series.of(field).map_or(String::new(), |it| time(it.median));
            let _ = writeln!(
                page,
                "| {condition} | {system} | {} ({}: {}–{}) | {} | {} | {} | {} | {} |",
                rate(it.median),
                series.len(),
                rate(it.min),
                rate(it.max),
                latency("p50_ns"),
                latency("p99_ns"),
                latency("p999_ns"),
                latency("max_ns"),
                series.of("cpu_us").map_or(String::new(), |it| time(it.median * 1e3)),
            );
        }
    }
    if let Some(remark) = remark.filter(|remark| !remark.text.trim().is_empty()) {
        let _ = writeln!(page, "\n{}", remark.text.trim());
    }
}

/// What each system was told, by group.
fn settings(page: &mut String, all: &[Results]) {
    let _ = writeln!(page, "\n## Settings\n\n| workloads | system | told |\n|---|---|---|");
    let mut seen = std::collections::BTreeSet::new();
    for results in all {
        for (system, series) in results.conditions().flat_map(|(_, systems)| systems) {
            let group = results.workload.group.name();
            if !series.settings().is_empty() && seen.insert((group, system.clone())) {
                let _ = writeln!(page, "| {group} | {system} | {} |", series.settings());
            }
        }
    }
}

/// The workloads of which there are no results.
pub fn missing(all: &[Results]) -> Vec<&'static str> {
    let there = |name: &str| all.iter().any(|results| results.workload.name == name);
    WORKLOADS.iter().map(|workload| workload.name).filter(|name| !there(name)).collect()
}
