//! One ring for each shard's thread, for its files and sockets.
//!
//! Guards: the kernel never holds memory that somebody else may free or touch: an operation owns its buffers from
//! submission to its last completion, whether or not anyone still waits for it, and the ring is drained before its
//! memory goes.
//! Leaves to `glommio/`: when the thread runs, submits and sleeps.

mod bell_op;
mod disk;
mod file_op;
mod net_op;
mod op;
mod ring;
mod timer_op;
mod way;

pub(crate) use bell_op::BellOp;
pub(crate) use disk::Disk;
pub use disk::DiskFacts;
pub(crate) use file_op::FileOp;
pub(crate) use net_op::NetOp;
pub(crate) use op::Op;
pub(crate) use ring::{Ring, Ticket, Wait};
pub(crate) use timer_op::TimerOp;
pub(crate) use way::{SpareTime, Ways};
