//! The ring of one thread: operations in slots, submissions in batches, completions handed to those who wait.
//!
//! Guards: a slot keeps its operation, and with it the buffers and the descriptor, until the kernel has answered
//! every entry submitted for it; dropping a ticket only says that nobody waits. The ring's end waits for them all.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{IoUring, opcode};
use slab::Slab;

use super::op::{Entries, Op, Part};
use crate::runtime::host::sys;

/// Entries that wait for one `io_uring_enter`; more wait behind them in memory.
const SUBMISSIONS: u32 = 256;
const COMPLETIONS: u32 = 4096;

/// The longest sleep in a `poll`.
const POLL_MS_MAX: u16 = 10;

/// Completions carry the slot in the low bits and the part of the operation above.
const PART_SHIFT: u32 = 56;

/// Whether a turn may sleep until something completes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    Sleep,
    No,
}

/// Where a thread sleeps until something completes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bed {
    /// In the call that hands over what was started.
    Enter,
    /// In a `poll` of the ring, one call more. valgrind runs one thread at a time and does not let another run while one is in
    /// `io_uring_enter` (3.19), which it takes for a call that does not block.
    Poll,
}

struct Slot {
    op: Op,
    /// Entries in the kernel, or on the way there.
    unanswered: u32,
    waker: Option<Waker>,
    state: SlotState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SlotState {
    InFlight,
    /// Its future was dropped.
    Abandoned,
    Complete,
}

struct State {
    io: IoUring,
    bed: Bed,
    slots: Slab<Slot>,
    /// Entries (alone, or a linked pair) for which the submission queue has had no room yet.
    backlog: VecDeque<Entries>,
    /// Entries that the kernel has not seen.
    unsubmitted: usize,
    /// Slots that a look at the completions ended; empty between looks.
    ended: Vec<usize>,
    /// Room for the wakers of one look; empty between looks.
    wakers: Vec<Waker>,
}

/// A handle to the ring of this thread.
#[derive(Clone)]
pub struct Ring {
    state: Rc<RefCell<State>>,
}

fn build(bed: Bed) -> io::Result<IoUring> {
    let plain = || IoUring::builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS);
    if bed == Bed::Poll {
        // A ring that puts its work off until it is entered does not end a poll of it.
        return plain();
    }
    // Completions then cost no interrupt of the running thread, only a look when it is ready for them.
    let best = IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_defer_taskrun()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS);
    match best {
        // A kernel before 6.1 does not know these flags.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => plain(),
        other => other,
    }
}

impl Ring {
    /// A ring for the calling thread.
    pub fn new() -> io::Result<Ring> {
        let bed = if sys::under_valgrind() { Bed::Poll } else { Bed::Enter };
        let io = build(bed)?;
        let state = State {
            io,
            bed,
            slots: Slab::new(),
            backlog: VecDeque::new(),
            unsubmitted: 0,
            ended: Vec::new(),
            wakers: Vec::new(),
        };
        Ok(Ring { state: Rc::new(RefCell::new(state)) })
    }

    /// Start an operation at once; it is handed to the kernel with the others of this turn.
    pub fn start(&self, op: Op) -> Ticket {
        let mut state = self.state.borrow_mut();
        let key = state.slots.insert(Slot { op, unanswered: 0, waker: None, state: SlotState::InFlight });
        state.push_slot(key);
        Ticket { ring: self.clone(), key: Some(key) }
    }

    /// Whether `turn` would find something to do.
    pub fn has_work(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.unsubmitted > 0 || state.has_answers()
    }

    /// Hand over what was started and take what has completed, with one system call, or none if there is nothing.
    pub fn turn(&self, wait: Wait) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let mut wakers = std::mem::take(&mut state.wakers);
        let done = state.enter(wait, &mut wakers);
        drop(state);
        // Outside the borrow: a waker may start the next operation.
        for waker in wakers.drain(..) {
            waker.wake();
        }
        self.state.borrow_mut().wakers = wakers;
        done
    }
}

impl State {
    fn kernel_has_work(&mut self) -> bool {
        let queue = self.io.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    fn has_answers(&mut self) -> bool {
        !self.io.completion().is_empty() || self.kernel_has_work()
    }

    /// Queue the entries of the slot's next submission.
    fn push_slot(&mut self, key: usize) {
        let slot = &mut self.slots[key];
        let (first, second) = slot.op.entries();
        let first = first.user_data(user_data(key, Part::Transfer));
        let second = second.map(|entry| entry.user_data(user_data(key, Part::Sync)));
        slot.unanswered = 1 + u32::from(second.is_some());
        self.unsubmitted += slot.unanswered as usize;
        self.backlog.push_back((first, second));
        self.fill_queue();
    }

    /// Move entries from the backlog into the submission queue, never one half of a linked pair.
    fn fill_queue(&mut self) {
        let mut queue = self.io.submission();
        while let Some((first, second)) = self.backlog.front() {
            let room = queue.capacity() - queue.len();
            if room < 1 + usize::from(second.is_some()) {
                break;
            }
            for entry in [Some(first), second.as_ref()].into_iter().flatten() {
                // SAFETY: the entry's pointers are into buffers owned by its slot, which is neither freed nor touched
                // before the entry has been answered.
                unsafe { queue.push(entry) }.expect("there is room, as was just checked");
            }
            self.backlog.pop_front();
        }
    }

    /// Nobody waits for the slot's operation any more. What may be dropped now is handed out.
    fn abandon(&mut self, key: usize) -> (Option<Slot>, Option<Waker>) {
        let slot = &mut self.slots[key];
        if slot.state == SlotState::Complete {
            return (self.slots.try_remove(key), None);
        }
        slot.state = SlotState::Abandoned;
        let waker = slot.waker.take();
        if slot.op.is_cancelled_when_abandoned() {
            let target = user_data(key, Part::Transfer);
            self.backlog.push_back((opcode::AsyncCancel::new(target).build().user_data(CANCEL), None));
            self.unsubmitted += 1;
            self.fill_queue();
        }
        (None, waker)
    }

    /// One system call, or none if there is nothing to hand over, to take or to wait for.
    fn enter(&mut self, wait: Wait, wakers: &mut Vec<Waker>) -> io::Result<()> {
        let wait_for = match (wait, self.bed) {
            // What is there already must be taken before the thread sleeps.
            (Wait::Sleep, Bed::Enter) if self.io.completion().is_empty() => 1,
            (Wait::Sleep, Bed::Poll) => {
                self.submit(0)?;
                if !self.has_answers() {
                    sys::wait_readable(self.as_fd(), POLL_MS_MAX)?;
                }
                0
            }
            _ => 0,
        };
        if wait_for > 0 || self.unsubmitted > 0 || self.kernel_has_work() {
            self.submit(wait_for)?;
        }
        self.take_answers(wakers);
        Ok(())
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring's descriptor is open as long as the ring is.
        unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }
    }

    /// One `io_uring_enter`, more only where the backlog is longer than the queue.
    fn submit(&mut self, wait_for: u32) -> io::Result<()> {
        loop {
            self.fill_queue();
            let count = self.io.submission().len();
            let wait_for = if self.backlog.is_empty() { wait_for } else { 0 };
            // SAFETY: no argument is passed; the entries submitted are valid as said in `fill_queue`.
            let entered =
                unsafe { self.io.submitter().enter::<libc::sigset_t>(count as u32, wait_for, ENTER_GETEVENTS, None) };
            if let Ok(taken) = entered {
                self.unsubmitted -= taken;
            }
            match entered {
                Ok(_) if self.backlog.is_empty() => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The kernel wants its completions taken, or is short of memory for now: the entries stay queued.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Give every completion to its slot; short transfers are queued again.
    fn take_answers(&mut self, wakers: &mut Vec<Waker>) {
        let mut ended = std::mem::take(&mut self.ended);
        for answer in self.io.completion() {
            if answer.user_data() == CANCEL {
                continue;
            }
            let (key, part) = split(answer.user_data());
            let Some(slot) = self.slots.get_mut(key) else {
                tracing::error!(key, "a completion for an operation that does not exist");
                continue;
            };
            slot.op.completed(part, answer.result());
            slot.unanswered -= 1;
            if slot.unanswered == 0 {
                ended.push(key);
            }
        }
        for key in ended.drain(..) {
            let slot = &mut self.slots[key];
            if slot.op.wants_more() && !(slot.state == SlotState::Abandoned && slot.op.is_cancelled_when_abandoned()) {
                self.push_slot(key);
            } else if slot.state == SlotState::Abandoned {
                self.slots.remove(key);
            } else {
                slot.state = SlotState::Complete;
                wakers.extend(slot.waker.take());
            }
        }
        self.ended = ended;
    }
}

impl Drop for State {
    /// The kernel must have given back everything before its buffers are freed.
    fn drop(&mut self) {
        while self.slots.iter().any(|(_, slot)| slot.state != SlotState::Complete) {
            if let Err(e) = self.enter(Wait::Sleep, &mut Vec::new()) {
                tracing::error!(error = %e, "cannot drain a ring; its buffers are leaked");
                std::mem::forget(std::mem::take(&mut self.slots));
            }
        }
    }
}

/// `IORING_ENTER_GETEVENTS`: also run what the kernel has put off until we are ready for it.
const ENTER_GETEVENTS: u32 = 1;

/// Marks the answer to a request to cancel, in which nobody is interested: the cancelled operation has its own.
const CANCEL: u64 = u64::MAX;

fn user_data(key: usize, part: Part) -> u64 {
    key as u64 | (part as u64) << PART_SHIFT
}

fn split(user_data: u64) -> (usize, Part) {
    let part = if user_data >> PART_SHIFT == Part::Sync as u64 { Part::Sync } else { Part::Transfer };
    ((user_data & ((1 << PART_SHIFT) - 1)) as usize, part)
}

/// The right to one operation's outcome. Dropped, the operation ends by itself and its outcome is dropped too.
pub struct Ticket {
    ring: Ring,
    /// None once the outcome was taken.
    key: Option<usize>,
}

impl Future for Ticket {
    type Output = Op;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Op> {
        let key = self.key.expect("a future is not polled again after it was ready");
        let mut state = self.ring.state.borrow_mut();
        let slot = &mut state.slots[key];
        if slot.state != SlotState::Complete {
            match &mut slot.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        let slot = state.slots.remove(key);
        drop(state);
        self.key = None;
        Poll::Ready(slot.op)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let unwanted = self.ring.state.borrow_mut().abandon(key);
        // Outside the borrow: to drop a waker may drop a task, and with it another ticket.
        drop(unwanted);
    }
}
