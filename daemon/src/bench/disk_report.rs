//! What was found out about a disk, and what follows from it.

use std::fmt::Write as _;

use corering_engine::runtime::DiskFacts;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::report::time;

pub struct Findings {
    pub facts: DiskFacts,
    /// The file system has direct I/O.
    pub direct: bool,
    pub figures: Vec<Figure>,
}

/// One kind of transfer, repeated.
pub struct Figure {
    pub name: String,
    pub bytes: u64,
    /// How many were under way at once.
    pub depth: u32,
    pub latencies: Histogram<u64>,
    pub per_second: f64,
}

impl Figure {
    fn at(&self, quantile: f64) -> u64 {
        self.latencies.value_at_quantile(quantile)
    }
}

impl Findings {
    pub fn find(&self, name: &str, bytes: u64, depth: u32) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name && figure.bytes == bytes && figure.depth == depth)
    }

    fn median(&self, name: &str, bytes: u64, depth: u32) -> f64 {
        self.find(name, bytes, depth).map_or(0.0, |figure| figure.at(0.5) as f64)
    }

    /// What a user should know or set; each with its reason.
    pub fn advice(&self) -> Vec<String> {
        let durable = self.median("durable_blocking", 4096, 1).max(1.0);
        let mut advice = vec![format!(
            "durable puts of one thread: {:.0} a second at the most, {} each; more come only from several under way at once",
            1e9 / durable,
            time(durable as u64)
        )];
        if !self.direct {
            advice.push("the file system has no direct I/O: the log goes through the page cache, and each sync costs more; use ext4 or xfs".to_owned());
        }
        if durable < 2_000.0 {
            advice.push(
                "a durable write takes less than 2 us: this is memory, not a disk; nothing on it outlives the machine"
                    .to_owned(),
            );
        }
        self.advise_device(&mut advice);
        self.advise_ways(&mut advice);
        self.advise_shards(&mut advice, durable);
        let reserved = self.median("durable_reserved", 4096, 1);
        let times = reserved / durable;
        if times > 1.2 {
            advice.push(format!("space that was only reserved costs {times:.1} times as much as space that was written before: the engine writes zeroes to its segments once and uses them again, so leave room for one more of them for each shard (--segment-bytes)"));
        }
        if durable > 1_000_000.0 {
            advice.push(format!(
                "a flush takes {}: where losing the last moments is allowed, --durability interval:{} answers at once",
                time(durable as u64),
                (durable / 1e6 * 10.0).round()
            ));
        }
        advice
    }

    fn advise_device(&self, advice: &mut Vec<String>) {
        let facts = &self.facts;
        match (facts.write_cache.as_deref(), facts.fua) {
            (Some("write through"), _) => advice.push("the disk has no volatile cache (or says so): a write is durable when it returns; the ring uses RWF_DSYNC".to_owned()),
            (_, Some(true)) => advice.push("the disk has FUA: one write is made durable without flushing its cache; the ring uses RWF_DSYNC".to_owned()),
            (None, _) => advice.push("the kernel tells nothing about the cache: it counts as volatile; the ring links a sync to each write".to_owned()),
            (Some(_), _) => advice.push("a volatile cache without FUA: each durable write flushes it; the ring links a sync to each write, since RWF_DSYNC there waits for timer ticks when all processors are busy".to_owned()),
        }
        if facts.rotational == Some(true) {
            advice.push("the kernel takes it for a disk that turns; if it does, use few shards, which each write a place of their own".to_owned());
        }
        let scheduler = facts.scheduler.as_deref().unwrap_or_default();
        if scheduler.contains("[bfq]") || scheduler.contains("[cfq]") {
            advice.push(format!("scheduler {scheduler}: on a fast disk 'none' or 'mq-deadline' is better (echo none > /sys/block/…/queue/scheduler)"));
        }
    }

    /// Which of the two ways of a durable write is faster here; the engine measures both by itself, and goes by what it finds.
    fn advise_ways(&self, advice: &mut Vec<String>) {
        let mut faster = Vec::new();
        for bytes in [4096, 16_384, 65_536, 262_144] {
            let (blocking, ring) = (self.median("durable_blocking", bytes, 1), self.median("durable_ring", bytes, 1));
            if blocking > 0.0 && ring > 0.0 {
                let way = if blocking <= ring { "a call that blocks" } else { "the ring" };
                let (less, more) = (blocking.min(ring) as u64, blocking.max(ring) as u64);
                faster.push(format!("{} KiB by {way} ({} against {})", bytes >> 10, time(less), time(more)));
            }
        }
        if !faster.is_empty() {
            advice.push(format!(
                "faster made durable: {}; the engine measures both ways while it runs and takes the better one, the ring for long batches sooner, because it leaves a core free",
                faster.join(", ")
            ));
        }
    }

    fn advise_shards(&self, advice: &mut Vec<String>, durable: f64) {
        let Some(two) = self.find("durable_two_files", 4096, 2) else { return };
        let gain = two.per_second * durable / 1e9;
        advice.push(if gain > 1.3 {
            format!("two logs at once make {gain:.1} times as many durable writes as one: one shard for each processor (the default) pays for durable writes too")
        } else {
            format!("two logs at once make only {gain:.1} times as many durable writes as one, each of {}: more shards pay for reads and for writes that do not wait, not for durable ones; --shards 1 gives a lone durable writer the best latency", time(two.at(0.5)))
        });
    }
}

pub fn as_text(findings: &Findings) -> String {
    let facts = &findings.facts;
    let or = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let mut text = format!(
        "device: cache {}, FUA {}, scheduler {}, {} requests; direct I/O: {}\n\n{:>18} {:>9} {:>6} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}\n",
        or(facts.write_cache.clone()),
        or(facts.fua.map(|fua| if fua { "yes" } else { "no" }.to_owned())),
        or(facts.scheduler.clone()),
        or(facts.nr_requests.map(|n| n.to_string())),
        if findings.direct { "yes" } else { "no" },
        "",
        "bytes",
        "depth",
        "per second",
        "MB/s",
        "p50",
        "p99",
        "p99.9",
        "max"
    );
    for figure in &findings.figures {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:>18} {:>9} {:>6} {:>12.0} {:>10.0} {:>10} {:>10} {:>10} {:>10}",
            figure.name,
            figure.bytes,
            figure.depth,
            figure.per_second,
            figure.per_second * figure.bytes as f64 / 1e6,
            time(figure.at(0.5)),
            time(figure.at(0.99)),
            time(figure.at(0.999)),
            time(figure.latencies.max())
        );
    }
    text.push('\n');
    for advice in findings.advice() {
        let _ = writeln!(text, "- {advice}");
    }
    text
}

pub fn as_json(findings: &Findings) -> Value {
    let facts = &findings.facts;
    let figures = findings.figures.iter().map(|figure| {
        json!({
            "name": figure.name,
            "bytes": figure.bytes,
            "depth": figure.depth,
            "per_second": figure.per_second,
            "p50_ns": figure.at(0.5),
            "p99_ns": figure.at(0.99),
            "p99_9_ns": figure.at(0.999),
            "max_ns": figure.latencies.max(),
        })
    });
    json!({
        "write_cache": facts.write_cache,
        "fua": facts.fua,
        "scheduler": facts.scheduler,
        "nr_requests": facts.nr_requests,
        "rotational": facts.rotational,
        "direct": findings.direct,
        "figures": figures.collect::<Vec<_>>(),
        "advice": findings.advice(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::measure::histogram;
    use super::*;

    fn findings(facts: DiskFacts, figures: &[(&str, u64, u32, u64)]) -> Findings {
        let figures = figures.iter().map(|&(name, bytes, depth, ns)| {
            let mut latencies = histogram();
            latencies.saturating_record(ns);
            Figure { name: name.to_owned(), bytes, depth, latencies, per_second: f64::from(depth) * 1e9 / ns as f64 }
        });
        Findings { facts, direct: true, figures: figures.collect() }
    }

    #[test]
    fn a_slow_flush_and_shared_logs_are_told() {
        let facts = DiskFacts { write_cache: Some("write back".to_owned()), fua: Some(false), ..DiskFacts::default() };
        let found =
            findings(facts, &[("durable_blocking", 4096, 1, 8_000_000), ("durable_two_files", 4096, 2, 16_000_000)]);
        let text = found.advice().join("\n");
        for part in ["125 a second", "without FUA", "interval:80", "only 1.0 times"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn memory_is_not_taken_for_a_disk_and_the_faster_way_is_told() {
        let facts = DiskFacts { fua: Some(true), ..DiskFacts::default() };
        let figures = [
            ("durable_blocking", 4096, 1, 900),
            ("durable_ring", 4096, 1, 500),
            ("durable_reserved", 4096, 1, 2000),
            ("durable_two_files", 4096, 2, 900),
        ];
        let text = findings(facts, &figures).advice().join("\n");
        for part in [
            "this is memory",
            "has FUA",
            "4 KiB by the ring (500 ns against 900 ns)",
            "only reserved costs 2.2",
            "make 2.0 times",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
