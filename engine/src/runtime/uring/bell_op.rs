//! The read that a ring always has on its thread's bell, so that another thread can end its sleep.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{opcode, squeue, types};

pub struct BellOp {
    bell: Arc<OwnedFd>,
    /// On the heap, because the kernel writes to it and the operation may move. What it holds is of no interest.
    count: Box<[u8; 8]>,
}

impl BellOp {
    pub fn new(bell: Arc<OwnedFd>) -> BellOp {
        BellOp { bell, count: Box::default() }
    }

    pub fn entry(&mut self) -> squeue::Entry {
        opcode::Read::new(types::Fd(self.bell.as_raw_fd()), self.count.as_mut_ptr(), 8).build()
    }

    pub fn completed(&self, answer: i32) {
        if answer < 0 && answer != -libc::EINTR && answer != -libc::ECANCELED {
            tracing::error!(code = -answer, "the bell of a shard's thread cannot be read");
        }
    }
}
