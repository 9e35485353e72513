//! The whole engine in the seeded simulation. One program, because linking the engine ten times costs more than the tests;
//! the modules share nothing but `support`.

#[path = "../support/course.rs"]
mod course;
mod engine;
mod faults;
mod history;
mod lies;
mod lock_history;
mod locks;
#[path = "../support/register.rs"]
mod register;
mod reshard;
mod stall;
#[path = "../support/mod.rs"]
mod support;
mod txn;
mod txn_history;
mod wal;
mod warden;
mod watch;
