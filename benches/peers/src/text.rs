//! Figures for people, and the table.

use std::fmt::Write as _;

use crate::results::{Results, Series};

/// Nanoseconds.
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e4 => format!("{:.2} us", ns / 1e3),
        ns if ns < 1e6 => format!("{:.0} us", ns / 1e3),
        ns if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// Operations a second, three digits.
pub fn rate(rate: f64) -> String {
    match rate {
        rate if rate < 1e3 => format!("{rate:.0}"),
        rate if rate < 1e5 => format!("{:.1}k", rate / 1e3),
        rate if rate < 1e6 => format!("{:.0}k", rate / 1e3),
        rate if rate < 1e8 => format!("{:.2}M", rate / 1e6),
        rate if rate < 1e9 => format!("{:.0}M", rate / 1e6),
        rate => format!("{:.2}G", rate / 1e9),
    }
}

/// A line for each system, workload and condition.
pub fn table(all: &[Results]) -> String {
    let mut text = format!(
        "{:<22} {:<5} {:<16} {:>9} {:>19} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}\n",
        "workload", "procs", "system", "rate/s", "(runs: min–max)", "p50", "p99", "p99.9", "max", "cpu/op", "ours is"
    );
    for results in all {
        for (condition, systems) in results.conditions() {
            let ours = results.ours(condition).and_then(|(_, series)| Some(series.of("per_second")?.median));
            for (system, series) in systems {
                let line = line(series, ours);
                let _ = writeln!(text, "{:<22} {condition:<5} {system:<16} {line}", results.workload.name);
            }
        }
    }
    text
}

fn line(series: &Series, ours: Option<f64>) -> String {
    let Some(it) = series.of("per_second") else {
        return format!("failed: {}", series.failed().unwrap_or("not measured"));
    };
    let latency = |field| series.of(field).map_or(String::new(), |it| time(it.median));
    let mut line = format!(
        "{:>9} {:>19} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
        rate(it.median),
        format!("({}: {}–{})", series.len(), rate(it.min), rate(it.max)),
        latency("p50_ns"),
        latency("p99_ns"),
        latency("p999_ns"),
        latency("max_ns"),
        series.of("cpu_us").map_or(String::new(), |it| time(it.median * 1e3)),
        ours.map_or(String::new(), |ours| ratio(ours / it.median)),
    );
    if let Some(why) = series.failed() {
        let _ = write!(line, "  (once: {why})");
    }
    line
}

pub fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 10.0 => format!("{ratio:.2}x"),
        ratio => format!("{ratio:.0}x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        assert_eq!(
            (rate(999.0).as_str(), rate(14_200.0).as_str(), rate(1_234_000.0).as_str()),
            ("999", "14.2k", "1.23M")
        );
        assert_eq!(
            (time(950.0).as_str(), time(45_200.0).as_str(), time(4.2e6).as_str()),
            ("950 ns", "45 us", "4.2 ms")
        );
        assert_eq!((ratio(1.234), ratio(23.4)), ("1.23x".to_owned(), "23x".to_owned()));
    }
}
