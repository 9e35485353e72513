//! A point in time, waited for by the kernel.

use std::time::Duration;

use io_uring::{opcode, squeue, types};

pub struct TimerOp {
    /// On the heap, because the kernel reads it at the submission and the operation may move before that.
    time: Box<types::Timespec>,
}

impl TimerOp {
    pub fn new(time: Duration) -> TimerOp {
        TimerOp { time: Box::new(types::Timespec::from(time)) }
    }

    pub fn entry(&self) -> squeue::Entry {
        opcode::Timeout::new(&raw const *self.time).build()
    }
}
