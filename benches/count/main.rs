//! `count`: how many instructions each step of a put and a get takes, by valgrind's callgrind, which counts the same on every day.
//!
//! Guards: a step that takes over 5 % more than `benches/instructions.toml` says fails the check. The numbers belong to the compiler
//! that is named there: with another one they are shown and not judged.
//!
//! Usage: count [--update]

#![deny(unsafe_code)]

mod callgrind;
mod steps;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::Deserialize;

/// In parts of the expected count.
const TOLERANCE: f64 = 0.05;

#[derive(Deserialize)]
struct Expected {
    rustc: String,
    /// Instructions of one operation.
    steps: BTreeMap<String, f64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        // Under valgrind.
        ["steps"] => {
            steps::run();
            Ok(true)
        }
        [] => check(),
        ["--update"] => update().map(|()| true),
        _ => Err("usage: count [--update]".to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("count: {why}");
            ExitCode::FAILURE
        }
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

fn rustc() -> Result<String, String> {
    let program = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let said = Command::new(program).arg("--version").output().map_err(|error| format!("rustc: {error}"))?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// Instructions of one operation of each step, as they are now.
fn count() -> Result<Vec<(&'static str, f64)>, String> {
    if cfg!(debug_assertions) {
        return Err(
            "counts of a debug build say nothing: cargo run --release -p corering-benches --bin count".to_owned()
        );
    }
    let counted = callgrind::count(&["steps"], "count::steps", steps::STEPS.iter().map(|(name, _)| *name))?;
    let of = |(name, operations): &(&'static str, u64)| match counted.get(*name) {
        Some(instructions) => Ok((*name, *instructions as f64 / *operations as f64)),
        None => Err(format!("step {name} was not seen by valgrind")),
    };
    steps::STEPS.iter().map(of).collect()
}

fn update() -> Result<(), String> {
    let mut text = format!(
        "# Instructions of one operation, counted by callgrind. Made by: cargo run --release -p corering-benches --bin count -- --update\n\
         # A change that makes a step longer by more than 5 % fails `make test`; if it is worth it, update this and say why.\n\n\
         rustc = \"{}\"\n\n[steps]\n",
        rustc()?
    );
    for (name, instructions) in count()? {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name} = {instructions:.1}");
    }
    std::fs::write(path(), text).map_err(|error| format!("{}: {error}", path().display()))
}

/// Whether no step takes longer than it may.
fn check() -> Result<bool, String> {
    let text = std::fs::read_to_string(path()).map_err(|error| format!("{}: {error}", path().display()))?;
    let expected: Expected = toml::from_str(&text).map_err(|error| format!("{}: {error}", path().display()))?;
    let rustc = rustc()?;
    let judged = rustc == expected.rustc;
    let mut longer = Vec::new();
    println!("{:<28} {:>12} {:>12} {:>8}", "instructions", "expected", "counted", "change");
    for (name, counted) in count()? {
        let Some(before) = expected.steps.get(name).copied() else {
            return Err(format!("{} has no step {name}: run count --update", path().display()));
        };
        let change = counted / before - 1.0;
        println!("{name:<28} {before:>12.1} {counted:>12.1} {:>7.1}%", change * 100.0);
        if change > TOLERANCE {
            longer.push(name);
        }
    }
    if !judged {
        println!(
            "not judged: the expected counts are those of {}, this is {rustc}; update them with it",
            expected.rustc
        );
        return Ok(true);
    }
    if !longer.is_empty() {
        println!(
            "over 5 % longer: {}. If that is worth it: count --update, and say why in the commit",
            longer.join(", ")
        );
    }
    Ok(longer.is_empty())
}
