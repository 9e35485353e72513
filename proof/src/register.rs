//! What one key does when calls come one after another: the specification.
//!
//! A value is an integer, so that the same key can be added to. `None` is an absent key.

use std::fmt;

/// What a conditional put asks of the present value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    Absent,
    Present,
    Equal(i64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Get,
    Put(i64),
    Delete,
    PutIf(Condition, i64),
    /// An absent key counts as zero.
    Incr(i64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ret {
    Value(Option<i64>),
    Done,
    /// Of a delete: whether there was something.
    Existed(bool),
    /// Of a conditional put: whether it was done.
    Taken(bool),
    /// Of an addition: the sum.
    Sum(i64),
}

/// The value of a key.
pub type State = Option<i64>;

impl Op {
    pub fn changes_nothing(self) -> bool {
        matches!(self, Op::Get)
    }

    /// The state after this, and the answer.
    pub fn apply(self, state: State) -> (State, Ret) {
        match self {
            Op::Get => (state, Ret::Value(state)),
            Op::Put(value) => (Some(value), Ret::Done),
            Op::Delete => (None, Ret::Existed(state.is_some())),
            Op::PutIf(condition, value) => {
                let holds = match condition {
                    Condition::Absent => state.is_none(),
                    Condition::Present => state.is_some(),
                    Condition::Equal(wanted) => state == Some(wanted),
                };
                (if holds { Some(value) } else { state }, Ret::Taken(holds))
            }
            Op::Incr(by) => {
                // Tests add small numbers to small numbers.
                let sum = state.unwrap_or(0).wrapping_add(by);
                (Some(sum), Ret::Sum(sum))
            }
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Get => f.write_str("get"),
            Op::Put(value) => write!(f, "put {value}"),
            Op::Delete => f.write_str("delete"),
            Op::PutIf(Condition::Absent, value) => write!(f, "put {value} if absent"),
            Op::PutIf(Condition::Present, value) => write!(f, "put {value} if present"),
            Op::PutIf(Condition::Equal(wanted), value) => write!(f, "put {value} if {wanted}"),
            Op::Incr(by) => write!(f, "add {by}"),
        }
    }
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ret::Value(None) => f.write_str("nothing"),
            Ret::Value(Some(value)) => write!(f, "{value}"),
            Ret::Done => f.write_str("done"),
            Ret::Existed(existed) => f.write_str(if *existed { "deleted" } else { "was not there" }),
            Ret::Taken(taken) => f.write_str(if *taken { "taken" } else { "refused" }),
            Ret::Sum(sum) => write!(f, "sum {sum}"),
        }
    }
}
