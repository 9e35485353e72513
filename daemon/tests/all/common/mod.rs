//! What the integration tests share: servers that are started and ended, and a client.

#![allow(dead_code)]

pub mod client;
pub mod redis;
pub mod server;

pub use client::Client;
#[allow(unused_imports)]
pub use server::{Guarded, Server};

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Run the program to its end.
pub fn corering(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corering")).args(args).output().unwrap()
}

/// Look again and again until it holds: what another process does comes a while after its cause.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
