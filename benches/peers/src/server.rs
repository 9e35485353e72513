//! Servers, ours and redis-server, under redis-benchmark: rate, latency, and what a request costs the server.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::child::Reporter;
use crate::measure::{Measured, cpu_time_of, histogram};
use crate::store::Outcome;
use crate::work::Size;

const CONNECTIONS: &str = "50";
/// A server that does not answer so long after its start has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(system: &str, dir: &Path) -> Outcome<Server> {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        let port = free_port()?;
        let (program, arguments) = command(system)?;
        let mut command = Command::new(program);
        if !system.starts_with("redis") {
            command.arg("serve");
            // Ours, and no settings of the daemon, which refuses what it does not know.
            for name in ["CORERING_BENCH_DIR", "CORERING_BENCH_PYTHON"] {
                command.env_remove(name);
            }
        }
        let log = std::fs::File::create(dir.join("server.log")).map_err(|error| error.to_string())?;
        let child = command
            .args(["--port", &port.to_string(), "--dir"])
            .arg(dir)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{system}: {error}"))?;
        let mut server = Server { child, port };
        server.wait_until_it_answers(dir)?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self, dir: &Path) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > until {
                let log = std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it says nothing").to_owned();
                return Err(format!("the server does not answer: {last}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

fn command(system: &str) -> Outcome<(PathBuf, Vec<&'static str>)> {
    let ours = || {
        let here = std::env::current_exe().map_err(|error| error.to_string())?;
        let ours = here.with_file_name("corering");
        if ours.exists() { Ok(ours) } else { Err(format!("no {}: cargo build --release -p corering", ours.display())) }
    };
    let redis = || PathBuf::from("redis-server");
    Ok(match system {
        "corering-sync" => (ours()?, vec!["--durability", "sync"]),
        "corering-none" => (ours()?, vec!["--durability", "none"]),
        "redis-always" => (redis(), vec!["--save", "", "--appendonly", "yes", "--appendfsync", "always"]),
        "redis-everysec" => (redis(), vec!["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]),
        "redis-none" => (redis(), vec!["--save", "", "--appendonly", "no"]),
        _ => return Err(format!("there is no server {system}")),
    })
}

pub fn measure(system: &str, size: Size, dir: &Path, reporter: &mut Reporter) -> Outcome<()> {
    let (_, arguments) = command(system)?;
    reporter.settings(format!("{}; redis-benchmark -c {CONNECTIONS} -d 100", arguments.join(" ")));
    let server = Server::start(system, dir)?;
    let keys = size.keys(crate::work::Group::Python);
    // So that gets find something.
    benchmark(&server, "set", 16, keys, keys)?;
    for (name, test) in [("set", "set"), ("get", "get"), ("mset", "mset"), ("incr", "incr")] {
        for pipeline in [1, 16] {
            reporter.measure(&format!("server_{name}_p{pipeline}"), || {
                // Also warms up, and tells how many requests fill the time.
                let first = benchmark(&server, test, pipeline, keys, 4000)?;
                let count = (first.per_second * size.times().count.as_secs_f64()) as u64;
                benchmark(&server, test, pipeline, keys, count.max(1000)).map(Some)
            });
        }
    }
    Ok(())
}

fn benchmark(server: &Server, test: &str, pipeline: u32, keys: u64, requests: u64) -> Outcome<Measured> {
    let pid = server.child.id().to_string();
    let before = cpu_time_of(&pid).ok_or("the server is gone")?;
    let done = Command::new("redis-benchmark")
        .args(["-h", "127.0.0.1", "-c", CONNECTIONS, "-d", "100", "-t", test])
        .args(["-p", &server.port.to_string(), "-P", &pipeline.to_string()])
        .args(["-n", &requests.to_string(), "-r", &keys.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("redis-benchmark: {error}"))?;
    let cpu = cpu_time_of(&pid).ok_or("the server ended")? - before;
    let text = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() {
        return Err(format!("redis-benchmark: {} {}", done.status, String::from_utf8_lossy(&done.stderr).trim()));
    }
    let mut measured = parse(&text).ok_or("redis-benchmark prints something else than it used to")?;
    measured.cpu_us = Some(cpu.as_secs_f64() * 1e6 / measured.operations as f64);
    Ok(measured)
}

/// What redis-benchmark 7 prints without `-q`.
fn parse(text: &str) -> Option<Measured> {
    let number = |word: Option<&str>| word?.parse::<f64>().ok();
    let mut measured = Measured { per_second: 0.0, operations: 0, latencies: histogram(), cpu_us: None };
    let mut before = 0;
    let mut in_percentiles = false;
    for line in text.split(['\n', '\r']).map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with("Latency by percentile") {
            in_percentiles = true;
        } else if line.starts_with("Cumulative distribution") {
            in_percentiles = false;
        } else if let ["throughput", "summary:", rate, ..] = words[..] {
            measured.per_second = number(Some(rate))?;
        } else if in_percentiles && let [_, "<=", ms, _, "(cumulative", "count", count] = words[..] {
            // The distribution as a histogram: so many at most so long.
            let count: u64 = count.trim_end_matches(')').parse().ok()?;
            let ns = (number(Some(ms))? * 1e6) as u64;
            measured.latencies.saturating_record_n(ns, count.saturating_sub(before));
            before = before.max(count);
        }
    }
    measured.operations = before;
    (measured.per_second > 0.0 && before > 0).then_some(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_benchmark_prints_is_read() {
        let text = "====== SET ======\n  1000 requests completed in 0.01 seconds\n\nLatency by percentile distribution:\n\
            0.000% <= 0.103 milliseconds (cumulative count 10)\n50.000% <= 0.255 milliseconds (cumulative count 500)\n\
            99.902% <= 0.911 milliseconds (cumulative count 1000)\n100.000% <= 0.911 milliseconds (cumulative count 1000)\n\n\
            Cumulative distribution of latencies:\n0.100% <= 0.103 milliseconds (cumulative count 1)\n\nSummary:\n  \
            throughput summary: 90909.09 requests per second\n  latency summary (msec):\n";
        let measured = parse(text).expect("it has a summary");
        assert_eq!((measured.per_second as u64, measured.operations), (90909, 1000));
        let at = |quantile| measured.latencies.value_at_quantile(quantile) / 1000;
        assert_eq!((at(0.5), at(0.999), measured.latencies.max() / 1000), (255, 911, 911));
        assert!(parse("nothing of the kind").is_none());
    }
}
