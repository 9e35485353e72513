//! What a transaction did, as its client saw it.

/// One step of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// To a list. A value is appended to a key at most once in a history.
    Append {
        key: u64,
        value: i64,
    },
    ReadList {
        key: u64,
        values: Vec<i64>,
    },
    /// Of a register. A value is written to a key at most once in a history.
    Write {
        key: u64,
        value: i64,
    },
    Read {
        key: u64,
        value: Option<i64>,
    },
}

impl Action {
    pub fn key(&self) -> u64 {
        match *self {
            Action::Append { key, .. }
            | Action::ReadList { key, .. }
            | Action::Write { key, .. }
            | Action::Read { key, .. } => key,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Committed {
        at: u64,
    },
    /// Nothing of it may be seen by others. What it read itself is not held against the database.
    Aborted,
    /// It committed if somebody saw it; else it may have done either. What it read is not looked at.
    Unknown,
}

/// A transaction; a key is used as a list or as a register, not as both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Txn {
    pub client: u32,
    pub actions: Vec<Action>,
    pub asked: u64,
    pub outcome: Outcome,
}
