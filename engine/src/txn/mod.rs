//! The order of commits, and views of it.

pub mod snapshots;
pub mod timestamps;
