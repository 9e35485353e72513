//! Transactions: which anomalies a history shows.
//!
//! After Adya ("Weak consistency", 1999) and Elle (Kingsbury and Alvaro, 2020): from what was read, [`infer`] finds which
//! transaction must come before which, and [`cycles`] the cycles among them, each of which is an anomaly with a name. With
//! real time among the orders, a history without any is strictly serializable as far as its reads can tell.
//! [`second_opinion`] asks another checker.
//!
//! Two kinds of object: lists that are appended to (a read tells the whole order of writes) and registers whose every
//! write has its own value (the order is known only where a transaction read before it wrote, or where time decides).

pub mod cycles;
mod graph;
pub mod history;
pub mod infer;
pub mod load;
pub mod second_opinion;

pub use cycles::{Anomaly, Kind};
pub use history::{Action, Outcome, Txn};

use infer::{Inferred, Order, infer};

/// Every anomaly that a strictly serializable database may not show; none for a good history. Cycles that need real time are
/// looked for only if there are no others.
pub fn check(history: &[Txn]) -> Vec<Anomaly> {
    let Inferred { graph, mut anomalies } = infer(history, Order::Logical);
    anomalies.extend(cycles::cycles(&graph, false));
    if anomalies.is_empty() {
        anomalies = cycles::cycles(&infer(history, Order::Strict).graph, true);
    }
    anomalies
}

/// As [`check`] without real time: what no serializable database may show.
pub fn check_serializable(history: &[Txn]) -> Vec<Anomaly> {
    let Inferred { graph, mut anomalies } = infer(history, Order::Logical);
    anomalies.extend(cycles::cycles(&graph, false));
    anomalies
}
