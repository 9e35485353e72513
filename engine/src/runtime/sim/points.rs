//! The places where a run can die: every operation that changes what a disk holds has an index.
//!
//! A run with the same seed meets the same points in the same order, so a run that only counts is followed by others
//! that die at each: before the operation took effect, or after it did and before anybody learnt of it.

use std::fmt;
use std::path::PathBuf;

/// What an engine does to a disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OpKind {
    Open,
    Read,
    Map,
    Write,
    WriteDurable,
    Sync,
    SyncDir,
    Create,
    CreateDir,
    Rename,
    Remove,
    RemoveDir,
    Allocate,
    SetLen,
    /// Memory of a shared region changed since the last point; not an operation, but a state to die in.
    RegionStore,
    /// Not an operation either: a scenario came to its end, and may die there.
    End,
}

impl OpKind {
    /// Does the disk differ after it, so that dying there is a case of its own?
    pub fn is_point(self) -> bool {
        match self {
            OpKind::Open | OpKind::Read | OpKind::Map => false,
            OpKind::Write
            | OpKind::WriteDurable
            | OpKind::Sync
            | OpKind::SyncDir
            | OpKind::Create
            | OpKind::CreateDir
            | OpKind::Rename
            | OpKind::Remove
            | OpKind::RemoveDir
            | OpKind::Allocate
            | OpKind::SetLen
            | OpKind::RegionStore
            | OpKind::End => true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// The operation was asked for and has not taken effect (an asynchronous write is in flight: any part may have).
    Before,
    /// It has taken effect; whoever asked has not been told.
    After,
}

/// One place where a run can die.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrashPoint {
    /// Counted from 0 since the start of the current life.
    pub index: u64,
    pub kind: OpKind,
    pub path: PathBuf,
    pub offset: u64,
    pub len: u64,
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "point {}: {:?} {}", self.index, self.kind, self.path.display())?;
        if self.len > 0 {
            write!(f, " [{}..{}]", self.offset, self.offset + self.len)?;
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Points {
    next: u64,
    plan: Option<(u64, Phase)>,
    /// Somebody wants to be shown every point.
    pub watched: bool,
}

impl Points {
    pub fn count(&self) -> u64 {
        self.next
    }

    pub fn plan(&mut self, plan: Option<(u64, Phase)>) {
        self.plan = plan;
    }

    pub fn take_index(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub fn strikes(&self, index: u64, phase: Phase) -> bool {
        self.plan == Some((index, phase))
    }

    /// A new life counts from 0 and has no plan to die.
    pub fn restart(&mut self) {
        self.next = 0;
        self.plan = None;
    }
}
