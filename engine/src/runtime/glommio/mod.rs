//! A thread for each shard: pinned to its core, run by a glommio executor, with a ring of its own for I/O.
//!
//! Guards: a wake from any thread is seen soon, also by a busy core; a panic in a task ends that task alone; when the
//! thread ends, every task's future has been dropped on it and the kernel holds none of its memory.
//! Leaves to `uring/`: what is submitted and completed.
//!
//! glommio 0.9 divides the core between foreground and background by their shares, and does no more, because of what
//! it does wrong:
//! - it counts a task's references in 16 bits and queues one entry for each wake from another thread, so tasks are
//!   `async-task`'s, in two queues that two glommio tasks run (`tasks.rs`, `inbox.rs`, `drivers.rs`);
//! - it can go to sleep with tasks to run when its preemption timer fires at the wrong moment, and its sleep costs six
//!   system calls, so the thread sleeps in its own ring and cuts its own time slices (`drivers.rs`);
//! - it frees tasks without their headers and so leaks an eventfd for each executor (`leak.rs`).

mod aside;
mod check;
mod drivers;
mod executor;
mod inbox;
mod leak;
mod sleep;
mod tasks;
mod thread;
mod weight;

pub(crate) use thread::{ThreadPlan, start_thread};

// For `sleep.rs`, which stands on loom's in `corering-models`.
use crate::sync;
