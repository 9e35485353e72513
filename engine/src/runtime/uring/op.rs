//! Anything the ring can carry out.

use super::bell_op::BellOp;
use super::file_op::FileOp;
use super::net_op::NetOp;
use super::timer_op::TimerOp;

/// An operation with the memory and the descriptor that the kernel uses for it.
pub enum Op {
    File(FileOp),
    Net(NetOp),
    Timer(TimerOp),
    Bell(BellOp),
}

/// Which entry of a submission a completion belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Transfer = 0,
    Sync = 1,
}

/// The entries to submit together: the second is linked to the first.
pub type Entries = (io_uring::squeue::Entry, Option<io_uring::squeue::Entry>);

impl Op {
    /// What to submit next. The entries' pointers are into memory that the operation owns, which must stay untouched
    /// until all of them have completed.
    pub fn entries(&mut self) -> Entries {
        match self {
            Op::File(op) => op.entries(),
            Op::Net(op) => (op.entry(), None),
            Op::Timer(op) => (op.entry(), None),
            Op::Bell(op) => (op.entry(), None),
        }
    }

    pub fn completed(&mut self, part: Part, answer: i32) {
        match self {
            Op::File(op) => op.completed(part, answer),
            Op::Net(op) => op.completed(answer),
            // That time has passed comes as an error, ETIME.
            Op::Timer(_) => {}
            Op::Bell(op) => op.completed(answer),
        }
    }

    /// All entries of a submission have completed: is there more to submit?
    pub fn wants_more(&mut self) -> bool {
        match self {
            Op::File(op) => op.wants_more(),
            Op::Net(op) => op.wants_more(),
            Op::Timer(_) => false,
            Op::Bell(_) => true,
        }
    }

    /// Whether to tell the kernel when nobody waits for it any more. A transfer with a file ends soon by itself.
    pub fn is_cancelled_when_abandoned(&self) -> bool {
        matches!(self, Op::Net(_) | Op::Timer(_) | Op::Bell(_))
    }
}
