//! A shard's locks at work: what the table decides is logged, entered, and answered when it is durable.
//!
//! Guards: nobody hears of a grant that is not durable at its level; who is next in line is served as soon as the log has
//! room; nobody is served whose session has ended.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::core::{Need, ShardCore, Stalled, Unwritten};
use crate::error::{Error, Result};
use crate::format::block::Op;
use crate::format::hold::{HOLDS, StoredHold, hold_key};
use crate::format::record::OpRef;
use crate::ids::{CommitTs, Expiry, FencingToken, Kind, SessionId};
use crate::lock::sessions::{LockLost, Sessions};
use crate::lock::table::{Ask, Decision, Due, Edge, LockInfo, LockTable, NewHold, Release, Ticket};
use crate::lock::{AskId, Grant, Guard, LOCK_NAME_MAX, LockError, Mode, WAITERS_MAX};
use crate::options::Durability;
use crate::pending::Completer;
use crate::wal::Room;

/// The largest record that one step on a lock logs.
const RECORD_MAX: usize = 256 + LOCK_NAME_MAX;
/// Waiters named by an inspection.
const SHOWN_MAX: usize = 1000;

/// Somebody in line.
pub struct Parked {
    reply: Completer<Grant>,
    level: Durability,
    /// By what it can be taken back.
    id: Option<AskId>,
}

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
    /// Leave the line, being part of a circle.
    GiveWay {
        name: Box<[u8]>,
        ticket: Ticket,
        cycle: Vec<SessionId>,
        reply: Completer<()>,
    },
    Info {
        name: Box<[u8]>,
        reply: Completer<Option<LockInfo>>,
    },
    List {
        reply: Completer<Vec<LockInfo>>,
    },
    Edges {
        reply: Completer<Vec<(Box<[u8]>, Edge)>>,
    },
}

impl LockRequest {
    pub fn refuse(self, error: Error) {
        match self {
            LockRequest::Acquire { reply, .. } | LockRequest::Downgrade { reply, .. } => reply.complete(Err(error)),
            LockRequest::Release { reply, .. } => reply.complete(Err(error)),
            LockRequest::Cancel { reply, .. } => reply.complete(Err(error)),
            LockRequest::Renew { reply, .. } => reply.complete(Err(error)),
            LockRequest::EndSession { reply, .. } | LockRequest::GiveWay { reply, .. } => reply.complete(Err(error)),
            LockRequest::Info { reply, .. } => reply.complete(Err(error)),
            LockRequest::List { reply } => reply.complete(Err(error)),
            LockRequest::Edges { reply } => reply.complete(Err(error)),
        }
    }
}

/// A shard's locks and what is left to do for them.
pub struct Locks {
    table: LockTable<Parked>,
    sessions: Arc<Sessions>,
    /// Names to look at again once the log has room.
    unserved: BTreeSet<Box<[u8]>>,
    /// Sessions whose end waits for room in the log.
    ending: VecDeque<SessionId>,
    /// Until then a lock may be held of which nothing is on disk: nobody is granted what it does not hold already.
    closed_until_ms: u64,
}

impl Locks {
    pub fn new(sessions: Arc<Sessions>, closed_until_ms: u64) -> Locks {
        Locks {
            table: LockTable::default(),
            sessions,
            unserved: BTreeSet::new(),
            ending: VecDeque::new(),
            closed_until_ms,
        }
    }

    /// A hold that was read back. Its lease begins anew; the hold of a session that is gone is ended first of all.
    pub fn restore(&mut self, name: &[u8], session: SessionId, hold: StoredHold, version: CommitTs, now_ms: u64) {
        let token = hold.token.unwrap_or(FencingToken(version.0));
        let new = NewHold {
            session,
            mode: hold.mode,
            count: hold.count,
            token: Some(token),
            lease_ms: hold.lease_ms,
            since_unix_ms: hold.since_unix_ms,
        };
        self.table.enter(name, new, token, now_ms);
        self.end_first(session);
    }

    pub fn next_due_ms(&self) -> Option<u64> {
        let ending = (!self.ending.is_empty()).then_some(0);
        let opening = (!self.unserved.is_empty() && self.closed_until_ms > 0).then_some(self.closed_until_ms);
        [ending, opening, self.table.next_due_ms()].into_iter().flatten().min()
    }

    /// Whether a new hold may be given at all.
    fn is_open(&self, now_ms: u64, hold: &NewHold) -> bool {
        hold.token.is_some() || now_ms >= self.closed_until_ms
    }

    /// What is left of a session that ended before this opening is ended first of all.
    pub fn end_first(&mut self, session: SessionId) {
        if !self.sessions.contains(session) && !self.ending.contains(&session) {
            self.ending.push_back(session);
        }
    }

    /// Sessions that have ended and have something left here.
    pub fn ending(&self) -> Vec<SessionId> {
        self.ending.iter().copied().collect()
    }

    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub fn waiting(&self) -> usize {
        self.table.waiting()
    }

    pub fn names(&self) -> usize {
        self.table.names()
    }
}

impl ShardCore {
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    fn now_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// Execute a request; keep it for later if the log has no room for what it may log.
    pub(super) fn lock(&mut self, request: LockRequest) {
        let room = match &request {
            LockRequest::Info { .. } | LockRequest::List { .. } | LockRequest::Edges { .. } => Ok(()),
            LockRequest::Renew { .. } | LockRequest::GiveWay { .. } | LockRequest::Cancel { .. } => Ok(()),
            LockRequest::Release { .. } | LockRequest::EndSession { .. } => self.check_room(RECORD_MAX, Room::Reserve),
            LockRequest::Acquire { .. } | LockRequest::Downgrade { .. } => self.check_room(RECORD_MAX, Room::Ordinary),
        };
        match room {
            Ok(()) => self.lock_now(request),
            Err(Unwritten::Later) => self.stall(Stalled::Lock(request)),
            Err(Unwritten::Never(error)) => {
                self.outbox.kick_background = true;
                self.answer(move || request.refuse(error));
            }
        }
    }

    fn lock_now(&mut self, request: LockRequest) {
        let before = self.locks.next_due_ms();
        match request {
            LockRequest::Acquire { name, ask, wait, level, id, reply } => {
                self.acquire(&name, ask, wait, Parked { reply, level, id })
            }
            LockRequest::Cancel { name, session, id, reply } => {
                let cancelled = self.locks.table.leave_where(&name, session, |parked| parked.id == Some(id));
                let was_in_line = cancelled.is_some();
                if let Some(waiter) = cancelled {
                    // Its time was cut short by whoever asked.
                    self.refuse_waiter(waiter.reply, LockError::TimedOut);
                    self.look_at(&name);
                }
                self.answer(move || reply.complete(Ok(was_in_line)));
            }
            LockRequest::Release { name, session, token, level, reply } => {
                self.release_hold(&name, session, token, level, reply);
            }
            LockRequest::Downgrade { name, session, token, level, reply } => {
                self.downgrade(&name, session, token, Parked { reply, level, id: None });
            }
            LockRequest::Renew { name, session, token, reply } => {
                let now_ms = self.now_ms();
                let renewed = match self.locks.sessions.is_live(session, now_ms) {
                    true => self.locks.table.renew(&name, session, token, now_ms),
                    false => Err(LockError::NoSession { id: session }),
                };
                self.answer(move || reply.complete(renewed.map_err(Error::Lock)));
            }
            LockRequest::EndSession { session, reply } => {
                if !self.locks.ending.contains(&session) {
                    self.locks.ending.push_back(session);
                }
                self.end_sessions();
                if self.locks.ending.contains(&session) {
                    // There is more of it than the log has room for now.
                    return self.stall(Stalled::Lock(LockRequest::EndSession { session, reply }));
                }
                // Behind what was logged for it.
                self.wait(Need::Nothing, None, Box::new(move |done| reply.complete(done.map(drop))));
            }
            LockRequest::GiveWay { name, ticket, cycle, reply } => {
                if let Some(waiter) = self.locks.table.leave_line(&name, ticket) {
                    self.refuse_waiter(waiter.reply, LockError::Deadlock { cycle });
                    self.look_at(&name);
                }
                self.answer(move || reply.complete(Ok(())));
            }
            LockRequest::Info { name, reply } => {
                let info = self.locks.table.info(&name, self.now_ms(), SHOWN_MAX);
                self.answer(move || reply.complete(Ok(info)));
            }
            LockRequest::List { reply } => {
                let (now_ms, table) = (self.now_ms(), &self.locks.table);
                let all = table.all_names();
                let list = all.iter().filter_map(|name| table.info(name, now_ms, SHOWN_MAX)).collect();
                self.answer(move || reply.complete(Ok(list)));
            }
            LockRequest::Edges { reply } => {
                let mut edges = Vec::new();
                self.locks.table.edges(&mut edges);
                self.answer(move || reply.complete(Ok(edges)));
            }
        }
        let after = self.locks.next_due_ms();
        self.outbox.kick_locks |= after.is_some_and(|after| before.is_none_or(|before| after < before));
    }

    fn acquire(&mut self, name: &[u8], ask: Ask, wait: Wait, parked: Parked) {
        let now_ms = self.now_ms();
        if !self.locks.sessions.is_live(ask.session, now_ms) {
            return self.refuse_waiter(parked, LockError::NoSession { id: ask.session });
        }
        self.look_at(name);
        match self.locks.table.decide(name, &ask, now_ms, self.clock.wall_ms()) {
            // What came before it may have taken the room.
            Ok(Decision::Grant(hold))
                if self.locks.is_open(now_ms, &hold) && self.check_room(RECORD_MAX, Room::Ordinary).is_ok() =>
            {
                self.grant(name, hold, parked);
            }
            Ok(Decision::Grant(_) | Decision::Wait) if wait == Wait::No => self.refuse_waiter(parked, LockError::Held),
            Ok(_) if self.locks.table.waiting() >= WAITERS_MAX => {
                let full = Error::Busy { queue: "line of waiters", limit: WAITERS_MAX as u64 };
                self.answer(move || parked.reply.complete(Err(full)));
            }
            Ok(_) => {
                let until_ms = match wait {
                    Wait::Ms(ms) => now_ms.saturating_add(ms),
                    Wait::AsLongAsTheSession | Wait::No => u64::MAX,
                };
                self.locks.table.stand_in_line(name, ask, now_ms, until_ms, parked);
                if self.locks.table.waiting() == 1 {
                    self.locks.sessions.stir.set();
                }
                self.look_at(name);
            }
            Err(refusal) => self.refuse_waiter(parked, refusal),
        }
    }

    /// Log a hold and enter it; the log was found to have room.
    fn grant(&mut self, name: &[u8], hold: NewHold, parked: Parked) {
        let Parked { reply, level, .. } = parked;
        match self.log_hold(name, hold, level) {
            Ok((commit, need)) => {
                let token = hold.token.unwrap_or(FencingToken(commit.0));
                let now_ms = self.now_ms();
                self.locks.table.enter(name, hold, token, now_ms);
                let grant = Grant { token, count: hold.count };
                self.wait(need, Some(commit), Box::new(move |done| reply.complete(done.map(|_| grant))));
            }
            Err(why) => self.refuse_for(why, move |error| reply.complete(Err(error))),
        }
    }

    fn log_hold(
        &mut self,
        name: &[u8],
        hold: NewHold,
        level: Durability,
    ) -> std::result::Result<(CommitTs, Need), Unwritten> {
        let key = hold_key(name, hold.session);
        let value = StoredHold {
            mode: hold.mode,
            count: hold.count,
            token: hold.token,
            lease_ms: hold.lease_ms,
            since_unix_ms: hold.since_unix_ms,
        }
        .encode();
        let change = Op::Put { kind: Kind::BYTES, expiry: Expiry::NEVER, value: &value };
        self.write(std::iter::once(OpRef { keyspace: HOLDS, key: &key, change }), level)
    }

    fn log_removal(
        &mut self,
        name: &[u8],
        session: SessionId,
        level: Durability,
    ) -> std::result::Result<(CommitTs, Need), Unwritten> {
        let key = hold_key(name, session);
        self.write(std::iter::once(OpRef { keyspace: HOLDS, key: &key, change: Op::Delete }), level)
    }

    fn release_hold(
        &mut self,
        name: &[u8],
        session: SessionId,
        token: Option<FencingToken>,
        level: Durability,
        reply: Completer<Released>,
    ) {
        let now_ms = self.now_ms();
        let (logged, released) = match self.locks.table.decide_release(name, session, token, now_ms) {
            Ok(Release::Counted(hold)) => {
                let logged = self.log_hold(name, hold, level);
                if logged.is_ok() {
                    self.locks.table.enter_mode(name, session, hold.mode, hold.count);
                }
                (logged, Released { count: hold.count, expired: false })
            }
            Ok(gone @ (Release::Gone | Release::Expired)) => {
                let logged = self.log_removal(name, session, level);
                if logged.is_ok() {
                    self.locks.table.remove(name, session);
                }
                (logged, Released { count: 0, expired: gone == Release::Expired })
            }
            Err(refusal) => {
                return self.wait(
                    Need::Nothing,
                    None,
                    Box::new(move |done| reply.complete(done.and(Err(Error::Lock(refusal))))),
                );
            }
        };
        match logged {
            Ok((commit, need)) => {
                self.wait(need, Some(commit), Box::new(move |done| reply.complete(done.map(|_| released))));
                self.look_at(name);
            }
            Err(why) => self.refuse_for(why, move |error| reply.complete(Err(error))),
        }
    }

    fn downgrade(&mut self, name: &[u8], session: SessionId, token: Option<FencingToken>, parked: Parked) {
        let hold = match self.locks.table.decide_downgrade(name, session, token, self.now_ms()) {
            Ok(hold) => hold,
            Err(refusal) => return self.refuse_waiter(parked, refusal),
        };
        let Parked { reply, level, .. } = parked;
        match self.log_hold(name, hold, level) {
            Ok((commit, need)) => {
                self.locks.table.enter_mode(name, session, hold.mode, hold.count);
                let token = hold.token.expect("it is held");
                let grant = Grant { token, count: hold.count };
                self.wait(need, Some(commit), Box::new(move |done| reply.complete(done.map(|_| grant))));
                self.look_at(name);
            }
            Err(why) => self.refuse_for(why, move |error| reply.complete(Err(error))),
        }
    }

    fn refuse_waiter(&mut self, parked: Parked, refusal: LockError) {
        // In line with the others: what it was refused for may not be durable yet.
        self.wait(
            Need::Nothing,
            None,
            Box::new(move |done| parked.reply.complete(done.and(Err(Error::Lock(refusal))))),
        );
    }

    fn refuse_for(&mut self, why: Unwritten, tell: impl FnOnce(Error) + Send + 'static) {
        self.outbox.kick_background = true;
        let error = match why {
            Unwritten::Never(error) => error,
            Unwritten::Later => Error::Busy { queue: "log of the shard", limit: 1 },
        };
        self.answer(move || tell(error));
    }

    /// Answer once the shard's lock is free.
    fn answer(&mut self, tell: impl FnOnce() + Send + 'static) {
        self.outbox.replies.push((Box::new(move |_| tell()), Ok(CommitTs::ZERO)));
    }

    /// Remove holds whose time is over, and serve the line as far as it goes.
    fn look_at(&mut self, name: &[u8]) {
        let now_ms = self.now_ms();
        for session in self.locks.table.gone(name, now_ms) {
            if !self.remove_hold(name, session) {
                return;
            }
        }
        while let Some((ticket, hold)) = self.locks.table.next_to_serve(name, self.clock.wall_ms()) {
            if !self.locks.is_open(now_ms, &hold) {
                self.locks.unserved.insert(name.into());
                return;
            }
            let is_live = self.locks.sessions.is_live(hold.session, now_ms);
            let room = self.check_room(RECORD_MAX, Room::Ordinary);
            if is_live && matches!(room, Err(Unwritten::Later)) {
                self.look_again(name);
                return;
            }
            let Some(waiter) = self.locks.table.leave_line(name, ticket) else { return };
            match (is_live, room) {
                (false, _) => self.refuse_waiter(waiter.reply, LockError::NoSession { id: hold.session }),
                (true, Ok(())) => self.grant(name, hold, waiter.reply),
                (true, Err(why)) => {
                    let reply = waiter.reply.reply;
                    self.refuse_for(why, move |error| reply.complete(Err(error)));
                }
            }
        }
    }

    /// Nobody asked for it, so that nobody is told. False if the log has no room.
    fn remove_hold(&mut self, name: &[u8], session: SessionId) -> bool {
        let logged = match self.check_room(RECORD_MAX, Room::Reserve) {
            Ok(()) => self.log_removal(name, session, Durability::None).ok(),
            Err(_) => None,
        };
        let Some((commit, need)) = logged else {
            self.look_again(name);
            return false;
        };
        self.wait(need, Some(commit), Box::new(drop));
        if let Some(token) = self.locks.table.token_of(name, session) {
            let (sessions, lost) = (Arc::clone(&self.locks.sessions), LockLost { name: name.to_vec(), session, token });
            self.answer(move || sessions.tell_lost(&lost));
        }
        self.locks.table.remove(name, session);
        true
    }

    fn look_again(&mut self, name: &[u8]) {
        self.locks.unserved.insert(name.into());
        self.outbox.kick_flusher = true;
        self.outbox.kick_background = true;
    }

    /// End what is left of sessions that ended.
    fn end_sessions(&mut self) {
        while let Some(session) = self.locks.ending.front().copied() {
            for name in self.locks.table.names_of(session) {
                for waiter in self.locks.table.leave_all(&name, session) {
                    self.refuse_waiter(waiter.reply, LockError::NoSession { id: session });
                }
                if self.locks.table.holds(&name, session) && !self.remove_hold(&name, session) {
                    return;
                }
                self.look_at(&name);
            }
            if !self.remove_keys_of(session) {
                return;
            }
            self.locks.ending.pop_front();
        }
    }

    /// What waited for room in the log.
    pub(super) fn serve_unserved(&mut self) {
        if self.locks.unserved.is_empty() && self.locks.ending.is_empty() {
            return;
        }
        for name in std::mem::take(&mut self.locks.unserved) {
            self.look_at(&name);
        }
        self.end_sessions();
    }

    /// Do what is due by the time; says when to come again.
    pub fn tick_locks(&mut self) -> Option<u64> {
        if self.view.poisoned().is_some() || !self.accepts() {
            return None;
        }
        self.serve_unserved();
        let now_ms = self.now_ms();
        while let Some(due) = self.locks.table.due(now_ms) {
            match due {
                Due::Name(name) => self.look_at(&name),
                Due::TimedOut(name, waiter) => {
                    self.refuse_waiter(waiter.reply, LockError::TimedOut);
                    self.look_at(&name);
                }
            }
        }
        self.locks.next_due_ms().filter(|at| *at > now_ms)
    }

    /// Whether a guarded write may take effect now.
    pub fn check_guard(&self, guard: &Guard) -> Result<()> {
        let now_ms = self.now_ms();
        let is_live = |session| self.locks.sessions.is_live(session, now_ms);
        self.locks.table.check_guard(guard, now_ms, is_live).map_err(Error::Lock)
    }

    /// Nobody in line is served any more.
    pub(super) fn refuse_line(&mut self, error: &Error) {
        for name in self.locks.table.all_names() {
            while let Some(waiter) = self.locks.table.take_first(&name) {
                let error = error.clone();
                self.answer(move || waiter.reply.reply.complete(Err(error)));
            }
        }
    }
}

impl Mode {
    /// How it is written for people and in commands.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
            Mode::Semaphore { .. } => "semaphore",
        }
    }
}
