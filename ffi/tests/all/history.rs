//! Histories recorded by a C program through the C ABI, some calls waited for and some through a completion queue, while the
//! program is killed, started again and paused: they are what one register per key could have answered.
//!
//! `CORERING_TEST_HISTORY_ROUNDS` sets how many lives the program has (default 4 for each level).

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{compile, workplace};
use corering_proof::{linear, text};

fn rounds() -> u64 {
    std::env::var("CORERING_TEST_HISTORY_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "SIG{name} could not be sent");
}

/// What one life of the program told.
fn live(program: &Path, dir: &Path, level: &str, round: u64) -> String {
    let mut child = Command::new(program)
        .args([dir.as_os_str(), level.as_ref(), round.to_string().as_ref()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut out = child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut told = String::new();
        out.read_to_string(&mut told).map(|_| told)
    });
    std::thread::sleep(Duration::from_millis(150 + round * 97 % 250));
    signal(&child, "STOP");
    std::thread::sleep(Duration::from_millis(30));
    signal(&child, "CONT");
    std::thread::sleep(Duration::from_millis(20 + round * 53 % 100));
    assert!(child.try_wait().expect("it can be asked").is_none(), "the program ended by itself");
    child.kill().expect("SIGKILL");
    child.wait().expect("it has ended");
    reader.join().expect("the reader does not panic").expect("the program writes text")
}

fn record_and_check(level: &str) {
    let dir = workplace("history");
    let program = compile("c/tests/history.c", &[], dir.path());
    let data = dir.path().join("data");
    let mut history = Vec::new();
    for round in 0..rounds() {
        let told = live(&program, &data, level, round);
        let calls = text::parse(&told, 0).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(calls.len() > 10, "round {round}: only {} calls", calls.len());
        history.extend(calls);
    }
    let accepted = linear::check(history).unwrap_or_else(|refusal| panic!("{level}: {refusal}"));
    println!("{level}: {accepted:?}");
}

#[test]
fn what_a_c_program_sees_is_linearizable_at_sync() {
    record_and_check("sync");
}

#[test]
fn what_a_c_program_sees_is_linearizable_at_interval() {
    record_and_check("interval");
}

#[test]
fn what_a_c_program_sees_is_linearizable_at_none() {
    record_and_check("none");
}
