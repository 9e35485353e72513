//! What was measured of one workload: every run of every system, as a file of JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::store::Outcome;
use crate::work::{Size, Workload, find, is_limit, is_ours};

/// The runs of one system under one condition.
#[derive(Clone, Debug, Default)]
pub struct Series {
    runs: Vec<Value>,
    failed: Option<String>,
    settings: String,
}

/// Middle and ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Series {
    pub fn push(&mut self, line: &Value) {
        let fields = ["per_second", "operations", "p50_ns", "p99_ns", "p999_ns", "max_ns", "cpu_us"];
        let kept = fields.iter().filter(|name| !line[**name].is_null());
        self.runs.push(Value::Object(kept.map(|name| ((*name).to_owned(), line[*name].clone())).collect()));
    }

    pub fn fail(&mut self, why: &str) {
        self.failed.get_or_insert_with(|| why.to_owned());
    }

    pub fn settle(&mut self, settings: &str) {
        if !settings.is_empty() {
            settings.clone_into(&mut self.settings);
        }
    }

    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// Why there is no result, or not from all runs.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn of(&self, field: &str) -> Option<Spread> {
        let mut values: Vec<f64> = self.runs.iter().filter_map(|run| run[field].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        Some(Spread { median, min, max })
    }

    fn to_json(&self) -> Value {
        json!({ "settings": self.settings, "runs": self.runs, "failed": self.failed })
    }

    fn from_json(json: &Value) -> Series {
        Series {
            runs: json["runs"].as_array().cloned().unwrap_or_default(),
            failed: json["failed"].as_str().map(str::to_owned),
            settings: json["settings"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

pub struct Results {
    pub workload: &'static Workload,
    pub size: Size,
    pub machine: Value,
    /// By condition, the systems in their order.
    conditions: BTreeMap<String, Vec<(String, Series)>>,
}

impl Results {
    pub fn new(workload: &'static Workload, size: Size, machine: &Value) -> Results {
        Results { workload, size, machine: machine.clone(), conditions: BTreeMap::new() }
    }

    pub fn add(&mut self, condition: &str, system: &str, series: Series) {
        self.conditions.entry(condition.to_owned()).or_default().push((system.to_owned(), series));
    }

    /// Free processors first.
    pub fn conditions(&self) -> impl Iterator<Item = (&str, &[(String, Series)])> {
        self.conditions.iter().rev().map(|(name, systems)| (name.as_str(), systems.as_slice()))
    }

    pub fn series(&self, condition: &str, system: &str) -> Option<&Series> {
        let systems = self.conditions.get(condition)?;
        systems.iter().find(|(name, series)| name == system && !series.is_empty()).map(|(_, series)| series)
    }

    fn best(&self, condition: &str, among: impl Fn(&str) -> bool) -> Option<(&str, &Series)> {
        let rate = |series: &Series| series.of("per_second").map_or(0.0, |rate| rate.median);
        let systems = self.conditions.get(condition)?.iter();
        let measured = systems.filter(|(name, series)| among(name) && !series.is_empty());
        measured.max_by(|(_, a), (_, b)| rate(a).total_cmp(&rate(b))).map(|(name, series)| (name.as_str(), series))
    }

    /// The peer with the highest rate.
    pub fn best_peer(&self, condition: &str) -> Option<(&str, &Series)> {
        self.best(condition, |name| !is_ours(name) && !is_limit(name))
    }

    /// The one of ours that the table quotes: the first of the group that was measured.
    pub fn ours(&self, condition: &str) -> Option<(&str, &Series)> {
        let systems = self.conditions.get(condition)?;
        let ours = systems.iter().find(|(name, series)| is_ours(name) && !series.is_empty());
        ours.map(|(name, series)| (name.as_str(), series))
    }

    pub fn limit(&self, condition: &str) -> Option<(&str, &Series)> {
        self.best(condition, is_limit)
    }

    /// Whether it was measured with this size and of what is there now.
    pub fn is_of(&self, size: Size, machine: &Value) -> bool {
        self.size == size && self.machine["commit"] == machine["commit"]
    }

    pub fn write(&self, dir: &Path) -> Outcome<()> {
        let conditions: Map<String, Value> = self
            .conditions
            .iter()
            .map(|(name, systems)| {
                // A list, for the order.
                let systems = systems.iter().map(|(system, series)| {
                    let mut json = series.to_json();
                    json["system"] = json!(system);
                    json
                });
                (name.clone(), Value::Array(systems.collect()))
            })
            .collect();
        let json = json!({
            "workload": self.workload.name,
            "what": self.workload.what,
            "unit": self.workload.unit,
            "size": self.size.name(),
            "machine": self.machine,
            "conditions": conditions,
        });
        let text = serde_json::to_string_pretty(&json).map_err(|error| error.to_string())?;
        std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        let write = |name: String, text: String| {
            std::fs::write(dir.join(&name), text).map_err(|error| format!("{name}: {error}"))
        };
        write(format!("{}.json", self.workload.name), text + "\n")?;
        write(format!("{}.svg", self.workload.name), crate::plot::draw(self))
    }

    pub fn read(dir: &Path, name: &str) -> Outcome<Results> {
        let text = std::fs::read_to_string(dir.join(format!("{name}.json"))).map_err(|error| error.to_string())?;
        let json: Value = serde_json::from_str(&text).map_err(|error| format!("{name}.json: {error}"))?;
        let workload = find(name).ok_or_else(|| format!("there is no workload {name}"))?;
        let size = json["size"].as_str().and_then(Size::parse).ok_or_else(|| format!("{name}.json has no size"))?;
        let mut results = Results::new(workload, size, &json["machine"]);
        for (condition, systems) in json["conditions"].as_object().into_iter().flatten() {
            for one in systems.as_array().into_iter().flatten() {
                results.add(condition, one["system"].as_str().unwrap_or_default(), Series::from_json(one));
            }
        }
        Ok(results)
    }

    /// All that are there, in the order of the workloads.
    pub fn read_all(dir: &Path) -> Outcome<Vec<Results>> {
        let there = crate::work::WORKLOADS.iter().filter(|it| dir.join(format!("{}.json", it.name)).exists());
        there.map(|workload| Results::read(dir, workload.name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rates: &[f64]) -> Series {
        let mut series = Series::default();
        rates.iter().for_each(|rate| series.push(&json!({ "per_second": rate, "p50_ns": 5 })));
        series
    }

    #[test]
    fn medians_and_ends() {
        assert_eq!(series(&[3.0, 1.0, 2.0]).of("per_second"), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(series(&[1.0, 2.0]).of("per_second").map(|it| it.median), Some(1.5));
        assert_eq!(series(&[]).of("per_second"), None);
        assert_eq!(series(&[1.0]).of("cpu_us"), None);
    }

    #[test]
    fn what_is_written_is_read_and_the_best_peer_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let workload = find("put_durable_1").expect("it is a workload");
        let mut results = Results::new(workload, Size::Tiny, &json!({ "commit": "abc" }));
        for (system, rates) in
            [("corering", &[50.0][..]), ("rocksdb", &[10.0, 30.0]), ("lmdb", &[5.0]), ("disk", &[99.0])]
        {
            results.add("free", system, series(rates));
        }
        results.write(dir.path()).expect("a writable directory");
        let read = Results::read(dir.path(), "put_durable_1").expect("it was written");
        assert_eq!(read.best_peer("free").map(|(name, _)| name), Some("rocksdb"));
        assert_eq!(read.ours("free").map(|(name, _)| name), Some("corering"));
        assert_eq!(read.limit("free").map(|(name, _)| name), Some("disk"));
        assert!(
            read.is_of(Size::Tiny, &json!({ "commit": "abc" })) && !read.is_of(Size::Full, &json!({ "commit": "abc" }))
        );
        assert!(read.best_peer("busy").is_none());
    }
}
