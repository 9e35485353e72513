//! What clients asked for and what they were told, with the times between which each call took effect.
//!
//! Guards: a call's time of asking is read before the request can leave, its time of answer after the answer came; so the
//! call took effect between the two. A call that was never answered may take effect at any time after it was asked for,
//! even after the process that asked is gone, or never.
//!
//! Each client writes to a list of its own: recording takes no lock and orders nothing between threads, so that it hides no
//! fault of the order of memory in what it watches.

use std::cell::Cell;
use std::time::Instant;

/// How a call ended, as its client knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End<R> {
    Answered {
        at: u64,
        ret: R,
    },
    /// No answer, or one that leaves open whether it was done.
    Unknown,
}

/// What a client learned of its call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told<R> {
    Answer(R),
    /// Nothing was done, and nothing will be.
    Refused,
    /// It may have been done, now or later.
    Nothing,
}

/// One call of one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call<O, R> {
    pub client: u32,
    pub key: u64,
    pub op: O,
    pub asked: u64,
    pub end: End<R>,
}

/// The calls of all clients, in no particular order.
pub type History<O, R> = Vec<Call<O, R>>;

/// A source of times that never go back. Equal times count as at once: nothing is concluded from them.
pub trait Clock {
    fn now(&self) -> u64;
}

/// Nanoseconds of the machine's monotonic clock since a moment of one's own.
#[derive(Clone, Copy)]
pub struct Monotonic(Instant);

impl Monotonic {
    pub fn start() -> Monotonic {
        Monotonic(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).expect("a test ends within 500 years")
    }
}

/// Counts the readings: the exact order of events where all clients share one thread, as in a simulation.
#[derive(Default)]
pub struct Ticks(Cell<u64>);

impl Clock for Ticks {
    fn now(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

/// One client's list.
pub struct Client<C, O, R> {
    clock: C,
    number: u32,
    calls: Vec<Call<O, R>>,
    /// The last call has no end yet.
    open: bool,
}

impl<C: Clock, O, R> Client<C, O, R> {
    pub fn new(clock: C, number: u32) -> Client<C, O, R> {
        Client { clock, number, calls: Vec::new(), open: false }
    }

    /// To be called before the request can leave.
    pub fn ask(&mut self, key: u64, op: O) {
        assert!(!self.open, "a client has one call at a time");
        self.open = true;
        self.calls.push(Call { client: self.number, key, op, asked: self.clock.now(), end: End::Unknown });
    }

    fn end_last(&mut self) -> &mut Call<O, R> {
        assert!(std::mem::take(&mut self.open), "a call ends once");
        self.calls.last_mut().expect("it was asked")
    }

    /// To be called after the answer came.
    pub fn told(&mut self, told: Told<R>) {
        let at = self.clock.now();
        match told {
            Told::Answer(ret) => self.end_last().end = End::Answered { at, ret },
            Told::Refused => {
                self.end_last();
                self.calls.pop();
            }
            Told::Nothing => {
                self.end_last();
            }
        }
    }

    /// What was recorded; a call without an end counts as unknown.
    pub fn into_calls(self) -> Vec<Call<O, R>> {
        self.calls
    }

    pub fn calls(&self) -> &[Call<O, R>] {
        &self.calls
    }
}

impl<T: Clock + ?Sized> Clock for std::rc::Rc<T> {
    fn now(&self) -> u64 {
        (**self).now()
    }
}
