//! Results for people, or for programs.

use serde_json::json;

use super::measure::Measured;
use super::plan::{Plan, Target};

pub fn print(plan: &Plan, results: &[Measured]) {
    if plan.json {
        println!("{}", as_json(plan, results));
        return;
    }
    println!("{}", describe(plan));
    println!(
        "{:>6} {:>12} {:>14} {:>10} {:>10} {:>10} {:>10}",
        "", "operations", "per second", "p50", "p99", "p99.9", "max"
    );
    for measured in results {
        let at = |quantile| time(measured.latencies.value_at_quantile(quantile));
        println!(
            "{:>6} {:>12} {:>14.0} {:>10} {:>10} {:>10} {:>10}",
            measured.workload.name(),
            measured.operations,
            per_second(measured),
            at(0.5),
            at(0.99),
            at(0.999),
            time(measured.latencies.max()),
        );
        if let Some(paced) = &measured.paced {
            let late = |quantile| time(paced.late.value_at_quantile(quantile));
            println!(
                "       begun late by {} (p50), {} (p99), {} at most; {} refused because a queue was full",
                late(0.5),
                late(0.99),
                time(paced.late.max()),
                paced.refused
            );
        }
    }
}

fn per_second(measured: &Measured) -> f64 {
    measured.operations as f64 / measured.took.as_secs_f64().max(1e-9)
}

fn describe(plan: &Plan) -> String {
    let target = match &plan.target {
        Target::InProcess { durability, .. } => format!("in process, durability {durability}"),
        Target::Socket { address } => format!("over {address}"),
    };
    let load = match plan.rate {
        Some(rate) => format!("{} threads, {rate} operations a second, latency from when each was due", plan.threads),
        None => format!("{} threads, {} operations under way in each", plan.threads, plan.pipeline),
    };
    format!(
        "{target}; {load}; {} keys, values of {} bytes, {} in a batch or scan",
        plan.keys, plan.value_len, plan.batch_len
    )
}

/// Nanoseconds for people.
pub fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        10_000_000.. => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

fn as_json(plan: &Plan, results: &[Measured]) -> serde_json::Value {
    let rows: Vec<_> = results
        .iter()
        .map(|measured| {
            let at = |quantile| measured.latencies.value_at_quantile(quantile);
            json!({
                "workload": measured.workload.name(),
                "operations": measured.operations,
                "seconds": measured.took.as_secs_f64(),
                "per_second": per_second(measured),
                "latency_ns": {
                    "p50": at(0.5), "p99": at(0.99), "p99_9": at(0.999), "max": measured.latencies.max(),
                    "mean": measured.latencies.mean(),
                },
                "refused": measured.paced.as_ref().map(|paced| paced.refused),
                "late_ns": measured.paced.as_ref().map(|paced| json!({
                    "p50": paced.late.value_at_quantile(0.5),
                    "p99": paced.late.value_at_quantile(0.99),
                    "max": paced.late.max(),
                })),
            })
        })
        .collect();
    let (mode, address, durability) = match &plan.target {
        Target::InProcess { durability, .. } => ("in-process", None, Some(durability.to_string())),
        Target::Socket { address } => ("socket", Some(address.clone()), None),
    };
    json!({
        "mode": mode,
        "address": address,
        "durability": durability,
        "threads": plan.threads,
        "rate": plan.rate,
        "pipeline": plan.pipeline,
        "keys": plan.keys,
        "value_bytes": plan.value_len,
        "batch": plan.batch_len,
        "results": rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_people() {
        assert_eq!(time(950), "950 ns");
        assert_eq!(time(45_200), "45.2 us");
        assert_eq!(time(12_345_678), "12.3 ms");
    }
}
