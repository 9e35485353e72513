//! The daemon as clients meet it. One program, because linking the engine for each module costs more than the tests; each test
//! starts servers of its own, on ports that the system chooses.

mod clients;
mod common;
mod compat;
mod crash;
mod disk;
mod history;
mod hostile;
mod lifecycle;
mod lock_races;
mod locks;
mod pubsub;
mod scripts;
mod transactions;
mod tx;
mod txn_history;
mod watch;
