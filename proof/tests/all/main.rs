//! The judges of histories, against histories of which the answer is known.

mod linear;
mod txn;
