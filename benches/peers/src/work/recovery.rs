//! Opening a database whose process was killed with much in its log.
//!
//! The process that measures starts another one, which writes and kills itself, and then times the opening. Systems without a log
//! open at once; what they would have to do at such a time, they did with each write.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Group, Size};
use crate::child::Reporter;
use crate::data::{VALUE_LEN, key, value};
use crate::measure::{Measured, histogram};
use crate::store::{Level, Opening, Outcome, System};

fn opening() -> Opening {
    Opening { level: Level::NoWait, memory: 8 << 30, resident: true }
}

fn rows(size: Size) -> u64 {
    size.recovery_bytes() / (16 + VALUE_LEN as u64)
}

pub fn measure(system: System, size: Size, dir: &Path, reporter: &mut Reporter) -> Outcome<()> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut settings = String::new();
    reporter.measure("recovery", || {
        let _ = std::fs::remove_dir_all(dir);
        let writer = Command::new(&program)
            .args(["write-and-die", system.name(), size.name()])
            .arg(dir)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if std::os::unix::process::ExitStatusExt::signal(&writer.status) != Some(libc::SIGKILL) {
            return Err(format!("the writer ended: {} {}", writer.status, String::from_utf8_lossy(&writer.stderr)));
        }
        // The kernel's own writing is not to be timed.
        sync_all();
        let cpu = crate::measure::cpu_time();
        let began = Instant::now();
        let store = system.open(dir, opening())?;
        let took = began.elapsed();
        let cpu = crate::measure::cpu_time() - cpu;
        let mut session = store.session()?;
        for row in [0, rows(size) / 2, rows(size) - 1] {
            if session.get(&key(row))?.is_none() {
                return Err(format!("row {row} is lost"));
            }
        }
        drop(session);
        settings = store.settings();
        let bytes = size.recovery_bytes();
        let mut latencies = histogram();
        latencies.saturating_record(took.as_nanos() as u64);
        let cpu_us = Some(cpu.as_secs_f64() * 1e6 / bytes as f64);
        Ok(Some(Measured { per_second: bytes as f64 / took.as_secs_f64(), operations: bytes, latencies, cpu_us }))
    });
    reporter.settings(settings);
    Ok(())
}

/// Let the kernel write what it holds.
fn sync_all() {
    let _ = Command::new("sync").status();
}

/// What the writer does.
pub fn write_and_die(system: System, size: Size, dir: &Path) -> Outcome<()> {
    let store = system.open(dir, opening())?;
    let mut session = store.session()?;
    let bytes = value(VALUE_LEN);
    let mut keys = Vec::new();
    let all = rows(size);
    for first in (0..all).step_by(1000) {
        keys.clear();
        keys.extend((first..(first + 1000).min(all)).map(key));
        // The last one is durable, and all before it: redb keeps nothing else over a kill.
        let level = if first + 1000 >= all { Level::Durable } else { Level::NoWait };
        session.batch(&keys, &bytes, level)?;
    }
    let me = std::process::id().to_string();
    // As by an operator: no destructor runs.
    Command::new("kill").args(["-KILL", &me]).status().map_err(|error| error.to_string())?;
    std::thread::sleep(std::time::Duration::from_secs(5));
    Err(format!("still alive after a kill, in group {}", Group::Recovery.name()))
}
