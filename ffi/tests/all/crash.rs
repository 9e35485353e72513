//! Programs in C and C++ that are killed with SIGKILL while they write: all that was acknowledged is there afterwards, and
//! no batch is there in part. At every level of durability, a killed process loses nothing that was answered.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{compile, expect_success, workplace};

/// Kills and restarts on the same directory, for each level. `CORERING_TEST_CRASH_ROUNDS` makes it more.
fn rounds() -> u32 {
    std::env::var("CORERING_TEST_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Runs the writer for a while, kills it, and returns what it had acknowledged.
fn write_and_kill(program: &Path, dir: &Path, level: &str, round: u32) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(["write".as_ref(), dir.as_os_str(), level.as_ref(), format!("{round}").as_ref()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer can be started");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut acknowledged = Vec::new();
    // The first answer says that it is open; then it may live for a time that is different in each round.
    out.read_until(b'\n', &mut acknowledged).expect("the pipe can be read");
    let end = Instant::now() + Duration::from_millis(40 + u64::from(round) * 97 % 400);
    while Instant::now() < end && out.read_until(b'\n', &mut acknowledged).expect("the pipe can be read") > 0 {}
    assert!(child.try_wait().expect("it can be asked").is_none(), "the writer ended by itself");
    child.kill().expect("SIGKILL");
    child.wait().expect("it has ended");
    // What it had said before it died is still in the pipe.
    while out.read_until(b'\n', &mut acknowledged).expect("the pipe can be read") > 0 {}
    acknowledged
}

/// Starts the writer and kills it while it opens, recovers or has just begun to write; what it may have acknowledged is not asked for.
fn die_while_opening(program: &Path, dir: &Path, level: &str, round: u32) {
    let mut child = Command::new(program)
        .args(["write".as_ref(), dir.as_os_str(), level.as_ref(), format!("opening{round}").as_ref()])
        .stdout(Stdio::null())
        .spawn()
        .expect("the writer can be started");
    std::thread::sleep(Duration::from_millis(u64::from(round) * 7 % 40));
    assert!(child.try_wait().expect("it can be asked").is_none(), "the writer ended by itself");
    child.kill().expect("SIGKILL");
    child.wait().expect("it has ended");
}

fn check(program: &Path, dir: &Path, acknowledged: &[u8], what: &str) {
    let mut child = Command::new(program)
        .arg("check")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the checker can be started");
    let mut input = child.stdin.take().expect("it is piped");
    // A checker that ends early says why on its standard error.
    let _ = input.write_all(acknowledged);
    drop(input);
    expect_success(what, &child.wait_with_output().expect("the checker ends"));
}

fn kill_in_a_loop(source: &str, level: &str) {
    let dir = workplace("crash");
    let program = compile(source, &[], dir.path());
    let data = dir.path().join("data");
    let mut acknowledged = Vec::new();
    for round in 0..rounds() {
        let now = write_and_kill(&program, &data, level, round);
        assert!(now.iter().filter(|byte| **byte == b'\n').count() > 1, "round {round}: nothing was written");
        acknowledged.extend(now);
        // A line that the kill cut would swallow the next round's first.
        while acknowledged.last().is_some_and(|byte| *byte != b'\n') {
            acknowledged.pop();
        }
        die_while_opening(&program, &data, level, round);
        // Every second time the next writer itself recovers from the kill, without a clean close in between.
        if round % 2 == 1 || round + 1 == rounds() {
            check(&program, &data, &acknowledged, &format!("{source} at {level}, after round {round}"));
        }
    }
}

#[test]
fn c_loses_nothing_at_sync() {
    kill_in_a_loop("c/tests/crash.c", "sync");
}

#[test]
fn c_loses_nothing_at_interval() {
    kill_in_a_loop("c/tests/crash.c", "interval");
}

#[test]
fn c_loses_nothing_at_none() {
    kill_in_a_loop("c/tests/crash.c", "none");
}

#[test]
fn cpp_loses_nothing_at_sync() {
    kill_in_a_loop("cpp/tests/crash.cpp", "sync");
}

#[test]
fn cpp_loses_nothing_at_interval() {
    kill_in_a_loop("cpp/tests/crash.cpp", "interval");
}

#[test]
fn cpp_loses_nothing_at_none() {
    kill_in_a_loop("cpp/tests/crash.cpp", "none");
}
