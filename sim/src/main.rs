//! The program `corering-sim`: runs ranges of seeds through the simulation on all cores, and replays one.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command, value_parser};
use corering_engine::runtime::sim::harness::parse_seeds;
use corering_sim::scenario::{self, Scenario, find, pins_hold, run_range};
use indicatif::{ProgressBar, ProgressStyle};

/// Where no bar can be drawn, a line now and then.
const LINE_EVERY_S: u64 = 20;

fn main() -> ExitCode {
    let matches = command().get_matches();
    let done = match matches.subcommand() {
        Some(("run", args)) => run(args),
        Some(("replay", args)) => replay(args),
        _ => {
            list();
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let names = || value_parser!(String);
    Command::new("corering-sim")
        .about("The engine in the seeded simulation")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("Name the scenarios and what each of them shows"))
        .subcommand(
            Command::new("run")
                .about("Run a range of seeds on all cores")
                .arg(Arg::new("seeds").required(true).help("0..1000, or one seed"))
                .arg(
                    Arg::new("only")
                        .long("only")
                        .num_args(1)
                        .action(clap::ArgAction::Append)
                        .value_parser(names())
                        .help("Only this scenario, of all its seeds"),
                )
                .arg(
                    Arg::new("threads").long("threads").value_parser(value_parser!(usize)).help("Instead of all cores"),
                )
                .arg(
                    Arg::new("failures")
                        .long("failures")
                        .value_parser(value_parser!(usize))
                        .default_value("5")
                        .help("Stop after so many"),
                ),
        )
        .subcommand(
            Command::new("replay")
                .about("Run one failure again and print every event")
                .arg(Arg::new("scenario").required(true).value_parser(names()))
                .arg(
                    Arg::new("what")
                        .required(true)
                        .value_parser(names())
                        .help("A seed, or a seed and its deaths as a failure names them"),
                ),
        )
}

fn list() {
    for scenario in &scenario::ALL {
        println!("{:<18} {}", scenario.name, scenario.claim);
    }
}

fn named(name: &str) -> Result<&'static Scenario, String> {
    find(name).ok_or_else(|| format!("there is no scenario {name}; `corering-sim list` names them"))
}

fn run(args: &ArgMatches) -> Result<(), String> {
    let text = args.get_one::<String>("seeds").expect("it is required");
    let seeds = parse_seeds(text).ok_or_else(|| format!("{text} is neither a seed nor a range like 0..100"))?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.get_one::<usize>("threads").copied().unwrap_or_else(cores);
    let failures_max = *args.get_one::<usize>("failures").expect("it has a default");
    let only: Vec<&Scenario> = match args.get_many::<String>("only") {
        Some(names) => names.map(|name| named(name)).collect::<Result<_, _>>()?,
        None => scenario::all(),
    };
    let pinned = pins_hold();
    let began = Instant::now();
    let progress = Progress::new(seeds.end.saturating_sub(seeds.start), began);
    let (account, failures) =
        run_range(&only, seeds, threads, failures_max, |done, failed| progress.tell(done, failed));
    progress.bar.finish_and_clear();
    println!("{account}");
    println!("time          {:.1} s on {threads} threads", began.elapsed().as_secs_f64());
    println!("failures      {}", failures.len());
    for failure in &failures {
        println!("\n{}", failure.message);
    }
    if !failures.is_empty() {
        return Err(format!("\n{} seeds failed", failures.len()));
    }
    pinned
}

fn replay(args: &ArgMatches) -> Result<(), String> {
    let [scenario, what] = ["scenario", "what"].map(|arg| args.get_one::<String>(arg).expect("it is required"));
    let seed = what.split('/').next().unwrap_or_default();
    let seed = seed.parse().map_err(|e| format!("{what} does not begin with a seed: {e}"))?;
    let account = (named(scenario)?.run)(seed, Some(what))?;
    println!("{account}\nno failure");
    Ok(())
}

/// A bar on a terminal, lines elsewhere.
struct Progress {
    bar: ProgressBar,
    began: Instant,
    total: u64,
    next_line_s: AtomicU64,
}

impl Progress {
    fn new(total: u64, began: Instant) -> Progress {
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {msg} failed, {per_sec}, {eta} left");
        bar.set_style(style.expect("the template is right"));
        bar.set_message("0");
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, began, total, next_line_s: AtomicU64::new(LINE_EVERY_S) }
    }

    fn tell(&self, done: u64, failed: usize) {
        self.bar.set_position(done);
        self.bar.set_message(failed.to_string());
        let seconds = self.began.elapsed().as_secs();
        let next = self.next_line_s.load(Ordering::Relaxed);
        let is_due = seconds >= next
            && self
                .next_line_s
                .compare_exchange(next, seconds + LINE_EVERY_S, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if self.bar.is_hidden() && is_due {
            println!("{done} of {} seeds, {failed} failed, {seconds} s", self.total);
        }
    }
}
