//! Histories of clients, and whether a correct database could have given them.
//!
//! [`history`] records who asked for what, when, and what was answered; [`register`] says what one key does;
//! [`linear`] looks for an order of all calls of one key that explains every answer; [`txn`] does the same for transactions
//! by looking for cycles. [`load`] draws what the clients do, and [`text`] carries a history from another process.
//! [`disk`] makes small disks that fill up and fail.
//!
//! Guards: a history is refused only if no order of its calls explains it, and every anomaly of the catalogue in `tests/` is
//! refused. Only tests depend on this crate.

#![deny(unsafe_code)]

pub mod disk;
pub mod history;
pub mod linear;
pub mod load;
pub mod register;
pub mod text;
pub mod txn;

pub use history::{Call, Client, Clock, End, History, Monotonic, Ticks, Told};
pub use linear::check;
pub use register::{Condition, Op, Ret};
