//! Python programs over our binding, `lmdb` and `rocksdict`, in an environment that scripts/bench.sh makes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::child::Reporter;
use crate::measure::{Measured, histogram};
use crate::store::Outcome;
use crate::work::{Group, Size};

/// Names the environment's interpreter.
const VARIABLE: &str = "CORERING_BENCH_PYTHON";

pub fn measure(system: &str, size: Size, dir: &Path, reporter: &mut Reporter) -> Outcome<()> {
    let python = interpreter()?;
    let mut settings = None;
    for (name, what) in
        [("python_put_durable", "put_durable"), ("python_put_nowait", "put_nowait"), ("python_get", "get")]
    {
        reporter.measure(name, || {
            let _ = std::fs::remove_dir_all(dir);
            std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
            let told = program(&python, system, what, size, dir)?;
            settings = told["settings"].as_str().map(str::to_owned);
            measured(&told).map(Some)
        });
    }
    if let Some(settings) = settings {
        reporter.settings(settings);
    }
    Ok(())
}

fn interpreter() -> Outcome<PathBuf> {
    let given = std::env::var_os(VARIABLE).map(PathBuf::from);
    given
        .filter(|path| path.exists())
        .ok_or_else(|| format!("no Python environment ({VARIABLE}); scripts/bench.sh makes one"))
}

fn program(python: &Path, system: &str, what: &str, size: Size, dir: &Path) -> Outcome<Value> {
    let times = size.times();
    let done = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/bench.py"))
        .args([system, what])
        .arg(dir)
        .arg(size.keys(Group::Python).to_string())
        .args([times.warm.as_secs_f64().to_string(), times.count.as_secs_f64().to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&done.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|_| {
        let complaint = String::from_utf8_lossy(&done.stderr);
        format!("{}: {}", done.status, complaint.lines().last().unwrap_or("it says nothing"))
    })
}

fn measured(told: &Value) -> Outcome<Measured> {
    let number = |name: &str| told[name].as_f64().ok_or_else(|| format!("the program tells no {name}"));
    let mut latencies = histogram();
    for pair in told["latencies_ns"].as_array().ok_or("the program tells no latencies")? {
        let (ns, count) = (pair[0].as_u64().unwrap_or(0), pair[1].as_u64().unwrap_or(0));
        latencies.saturating_record_n(ns, count);
    }
    Ok(Measured {
        per_second: number("per_second")?,
        operations: number("operations")? as u64,
        latencies,
        cpu_us: Some(number("cpu_us")?),
    })
}
