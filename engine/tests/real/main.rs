//! The engine on this machine's disk, clock and threads, and its formats. One program, because linking the engine for each
//! module costs more than the tests; each test has a directory of its own, and none changes what the process has.

mod basics;
mod check;
#[path = "../support/course.rs"]
mod course;
mod disk;
mod disk_commits;
mod ephemeral;
mod formats;
mod hermitage;
mod history;
mod lock_races;
mod locks;
mod merged;
mod pending;
#[path = "../support/register.rs"]
mod register;
mod transactions;
mod txn_history;
mod watch;
mod watch_expiry;
