//! Measures all systems in turn, several times, and writes down what came.
//!
//! Guards: it ends. Each measurement is a process of its own with a limit of time; one that fails or hangs is reported, its system
//! skipped for the rest of the group, and the others go on. What was measured is on disk as soon as a group is done.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::results::{Results, Series};
use crate::store::Outcome;
use crate::work::{Group, Size, WORKLOADS, Workload};

pub struct Plan {
    pub size: Size,
    /// Names of workloads or groups; all that the size has if there are none.
    pub names: Vec<String>,
    /// Leave out workloads whose results of this size and commit are there.
    pub resume: bool,
    pub results: PathBuf,
    /// Where databases lie while they are measured.
    pub data: PathBuf,
    /// Rounds, instead of what the size says.
    pub rounds: Option<u32>,
}

/// What one system was found to do in one group: by workload and condition.
type Found = BTreeMap<(String, String), Series>;

pub fn run(plan: &Plan) -> Outcome<Vec<Results>> {
    let began = Instant::now();
    let machine = crate::machine::facts(&plan.data);
    let mut all = Vec::new();
    for group in Group::ALL {
        let wanted = wanted(plan, group, &machine);
        if wanted.is_empty() {
            continue;
        }
        let mut found = vec![Found::new(); group.systems().len()];
        let rounds = plan.rounds.unwrap_or(plan.size.rounds(group));
        measure(plan, group, &wanted, rounds, &mut found)?;
        for workload in wanted {
            let mut results = Results::new(workload, plan.size, &machine);
            for (system, found) in group.systems().iter().zip(&found) {
                for ((name, condition), series) in found {
                    if name == workload.name {
                        results.add(condition, system, series.clone());
                    }
                }
            }
            results.write(&plan.results)?;
            all.push(results);
        }
        eprintln!("peers: {} done after {:.0} s", group.name(), began.elapsed().as_secs_f64());
    }
    Ok(all)
}

fn wanted(plan: &Plan, group: Group, machine: &Value) -> Vec<&'static Workload> {
    let named = |workload: &Workload| plan.names.iter().any(|name| name == workload.name || name == group.name());
    let done = |workload: &Workload| {
        plan.resume && Results::read(&plan.results, workload.name).is_ok_and(|old| old.is_of(plan.size, machine))
    };
    let here = WORKLOADS.iter().filter(|workload| workload.group == group);
    here.filter(|workload| if plan.names.is_empty() { !plan.size.leaves_out(group) } else { named(workload) })
        .filter(|workload| !done(workload))
        .collect()
}

fn measure(plan: &Plan, group: Group, wanted: &[&Workload], rounds: u32, found: &mut [Found]) -> Outcome<()> {
    let systems = group.systems();
    let dir_of = |system: &str| plan.data.join(format!("{}-{system}", group.name()));
    let mut failed = vec![false; systems.len()];
    for round in 0..rounds {
        for turn in 0..systems.len() {
            // Each round begins with another one, so that no system is always the first after a pause.
            let place = (turn + round as usize) % systems.len();
            if failed[place] {
                continue;
            }
            let (system, dir) = (systems[place], dir_of(systems[place]));
            eprintln!("peers: {}, round {} of {rounds}: {system}", group.name(), round + 1);
            if matches!(group, Group::Durable | Group::NoWait | Group::Ycsb) {
                let _ = std::fs::remove_dir_all(&dir);
            }
            let outcome = one_process(plan, group, wanted, system, &dir, &mut found[place]);
            if let Err(why) = outcome {
                eprintln!("peers: {system} is skipped: {why}");
                failed[place] = true;
                for workload in wanted {
                    for condition in crate::child::Condition::ALL {
                        let key = (workload.name.to_owned(), condition.name().to_owned());
                        found[place].entry(key).or_default().fail(&why);
                    }
                }
            }
        }
    }
    for system in systems {
        let _ = std::fs::remove_dir_all(dir_of(system));
    }
    Ok(())
}

fn one_process(
    plan: &Plan,
    group: Group,
    wanted: &[&Workload],
    system: &str,
    dir: &Path,
    found: &mut Found,
) -> Outcome<()> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["child", group.name(), system, plan.size.name()]).arg(dir);
    command.args(wanted.iter().map(|workload| workload.name));
    let mut group_of_processes = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that servers and spinners end with it.
        .spawn_in_group()
        .map_err(|error| error.to_string())?;
    let out = group_of_processes.child.stdout.take().ok_or("no output")?;
    let complaints = group_of_processes.child.stderr.take().ok_or("no standard error")?;
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let complaining = std::thread::spawn(move || {
        BufReader::new(complaints).lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()).last()
    });
    let until = Instant::now() + plan.size.patience(group);
    let mut heard = false;
    let mut settings = String::new();
    let result = loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
                heard = true;
                match line["settings"].as_str() {
                    Some(told) => told.clone_into(&mut settings),
                    None => take(line, &settings, found),
                }
            }
            Err(RecvTimeoutError::Disconnected) => break Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                break Err(format!("stopped after {} s", plan.size.patience(group).as_secs()));
            }
        }
    };
    if result.is_err() {
        group_of_processes.kill();
    }
    let status = group_of_processes.child.wait().map_err(|error| error.to_string())?;
    // What it may have left.
    group_of_processes.kill();
    let _ = reader.join();
    let complaint = complaining.join().ok().flatten();
    for series in found.values_mut() {
        series.settle(&settings);
    }
    result?;
    if !status.success() || !heard {
        return Err(complaint.unwrap_or_else(|| format!("it ended: {status}")));
    }
    Ok(())
}

fn take(line: Value, settings: &str, found: &mut Found) {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let series = found.entry((text("workload"), text("condition"))).or_default();
    series.settle(settings);
    match line["failed"].as_str() {
        Some(why) => series.fail(why),
        None => series.push(&line),
    }
}

/// A child that leads a process group.
struct Grouped {
    child: std::process::Child,
}

trait SpawnInGroup {
    fn spawn_in_group(&mut self) -> std::io::Result<Grouped>;
}

impl SpawnInGroup for Command {
    fn spawn_in_group(&mut self) -> std::io::Result<Grouped> {
        use std::os::unix::process::CommandExt as _;
        Ok(Grouped { child: self.process_group(0).spawn()? })
    }
}

impl Grouped {
    fn kill(&mut self) {
        // The group may be gone; its number is not given out again while this program has not waited long.
        let _ =
            Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).stderr(Stdio::null()).status();
    }
}

/// About how long a run takes, for the impatient.
pub fn estimate(plan: &Plan) -> Duration {
    let times = plan.size.times();
    let groups = Group::ALL.into_iter().map(|group| {
        let workloads = wanted(plan, group, &Value::Null).len() as u32;
        if workloads == 0 {
            return Duration::ZERO;
        }
        let loading = match (group, plan.size) {
            (Group::Large, _) => 25.0,
            (Group::Small | Group::Cold, _) => 4.0,
            (Group::Ycsb | Group::Recovery, Size::Full) => 12.0,
            (Group::Python, _) => 4.0,
            _ => 1.0,
        };
        let each = (times.warm + times.count) * 2 * workloads + Duration::from_secs_f64(loading);
        each * group.systems().len() as u32 * plan.rounds.unwrap_or(plan.size.rounds(group))
    });
    groups.sum()
}
