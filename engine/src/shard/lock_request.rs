//! What a shard is asked to do with its locks.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::Error;
use crate::ids::{FencingToken, SessionId};
use crate::lock::deadlock::{Blocked, PartId};
use crate::lock::look::{LockInfo, Page};
use crate::lock::table::Ask;
use crate::lock::{AskId, Grant};
use crate::options::Durability;
use crate::pending::Completer;

/// Which names are meant.
pub type NameFilter = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// How long somebody waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    No,
    Ms(u64),
    AsLongAsTheSession,
}

/// What became of a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Released {
    /// How often the session still holds it.
    pub count: u32,
    /// The lease had run out before.
    pub expired: bool,
}

/// What a shard is asked to do with its locks.
pub enum LockRequest {
    Acquire {
        name: Box<[u8]>,
        ask: Ask,
        wait: Wait,
        level: Durability,
        id: Option<AskId>,
        reply: Completer<Grant>,
    },
    /// Leave the line, because whoever asked no longer wants it. Says whether it stood there.
    Cancel {
        name: Box<[u8]>,
        session: SessionId,
        id: AskId,
        reply: Completer<bool>,
    },
    Release {
        name: Box<[u8]>,
        session: SessionId,
        token: Option<FencingToken>,
        level: Durability,
        reply: Completer<Released>,
    },
    Downgrade {
        name: Box<[u8]>,
        session: SessionId,
        token: Option<FencingToken>,
        level: Durability,
        reply: Completer<Grant>,
    },
    Renew {
        name: Box<[u8]>,
        session: SessionId,
        token: Option<FencingToken>,
        reply: Completer<FencingToken>,
    },
    /// All holds and waits of a session end.
    EndSession {
        session: SessionId,
        reply: Completer<()>,
    },
    /// Waits of a session end, some at least.
    LeaveLines {
        session: SessionId,
        reply: Completer<()>,
    },
    /// Leave the line, being part of a circle. Tells for which name.
    GiveWay {
        part: PartId,
        cycle: Vec<SessionId>,
        reply: Completer<Option<Vec<u8>>>,
    },
    Info {
        name: Box<[u8]>,
        shown_max: usize,
        reply: Completer<Option<LockInfo>>,
    },
    /// Some of the names that match, from a place on.
    List {
        from: u32,
        at_most: usize,
        shown_max: usize,
        matches: NameFilter,
        reply: Completer<Page<LockInfo>>,
    },
    /// Sessions that may be part of a circle, from a place on.
    Entangled {
        from: u32,
        reply: Completer<Page<SessionId>>,
    },
    /// What such sessions wait for.
    Blocked {
        entangled: Arc<BTreeSet<SessionId>>,
        reply: Completer<Vec<Blocked>>,
    },
}

impl LockRequest {
    pub fn refuse(self, error: Error) {
        match self {
            LockRequest::Acquire { reply, .. } | LockRequest::Downgrade { reply, .. } => reply.complete(Err(error)),
            LockRequest::Release { reply, .. } => reply.complete(Err(error)),
            LockRequest::Cancel { reply, .. } => reply.complete(Err(error)),
            LockRequest::Renew { reply, .. } => reply.complete(Err(error)),
            LockRequest::EndSession { reply, .. } | LockRequest::LeaveLines { reply, .. } => reply.complete(Err(error)),
            LockRequest::GiveWay { reply, .. } => reply.complete(Err(error)),
            LockRequest::Info { reply, .. } => reply.complete(Err(error)),
            LockRequest::List { reply, .. } => reply.complete(Err(error)),
            LockRequest::Entangled { reply, .. } => reply.complete(Err(error)),
            LockRequest::Blocked { reply, .. } => reply.complete(Err(error)),
        }
    }
}
