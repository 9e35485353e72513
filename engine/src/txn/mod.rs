//! The order of commits, and views of it.

pub mod error;
pub mod fate;
pub mod key_locks;
pub mod owed;
pub mod snapshots;
pub mod stats;
pub mod timestamps;
pub mod undecided;

pub use error::TxError;
pub use key_locks::{TxLife, TxNumber};
