//! Where and with what was measured.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

pub fn facts(data: &Path) -> Value {
    json!({
        "processor": field("/proc/cpuinfo", "model name"),
        "processors": std::thread::available_parallelism().map_or(0, |n| n.get()),
        "memory_mib": field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<u64>().map_or(0, |kb| kb >> 10),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "file_system": said("stat", &["-f", "-c", "%T", &existing(data).to_string_lossy()]),
        "commit": commit(),
        "date": said("date", &["-u", "+%F"]),
        "rustc": said("rustc", &["--version"]),
        "versions": versions(),
    })
}

fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or(String::new(), |(_, value)| value.trim().to_owned())
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn commit() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let git = |arguments: &[&str]| said("git", &[&["-C", root], arguments].concat());
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "engine", "ffi", "daemon"]);
    format!("{}{}", git(&["rev-parse", "--short=12", "HEAD"]), if changed.is_empty() { "" } else { "+changes" })
}

/// Of the peers: Debian's packages, and crates as Cargo.lock has them.
fn versions() -> Value {
    let package = |name: &str| said("dpkg-query", &["-W", "-f", "${Version}", name]);
    let lock = read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"));
    let krate = |name: &str| {
        let after = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map(|(_, after)| after);
        after.and_then(|after| after.split('"').next()).unwrap_or_default().to_owned()
    };
    json!({
        "rocksdb": package("librocksdb7.8"),
        "lmdb": package("liblmdb0"),
        "redis": package("redis-server"),
        "redb": krate("redb"),
        "fjall": krate("fjall"),
    })
}
