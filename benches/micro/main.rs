//! `cargo bench -p corering-benches`: one group of criterion benchmarks for each step of a put and a get.
//!
//! The names of groups are stable, so that runs can be compared over time. Times of two machines, or of one machine on
//! two days, cannot: compare within one run, for instance `put/sync_1_thread` with `disk/durable_write_4k`.

#![deny(unsafe_code)]

mod disk;
mod format;
mod get;
mod put;
mod recovery;
mod ring;
mod scan;
mod txn;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// The whole takes a few minutes on two processors.
fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(700))
        .measurement_time(Duration::from_millis(2500))
        .sample_size(30)
        .without_plots()
}

criterion_group! {
    name = micro;
    config = short();
    targets = ring::benches, format::benches, disk::benches, put::benches, get::benches, scan::benches, txn::benches,
        recovery::benches
}
criterion_main!(micro);
