//! A shard's locks at work: what the table decides is logged, entered, and answered when it is durable.
//!
//! Guards: nobody hears of a grant that is not durable at its level; who is next in line is served as soon as the log has
//! room; nobody is served whose session has ended.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::core::{ShardCore, Stalled, Unwritten};
use super::line::Need;
use super::lock_counts::LockCounts;
use super::lock_request::{LockRequest, Released, Wait};
use super::waits::Waits;
use crate::canary::{Canary, planted};
use crate::error::{Error, Result};
use crate::format::block::Op;
use crate::format::hold::{HOLDS, StoredHold, hold_key};
use crate::format::record::OpRef;
use crate::ids::{CommitTs, Expiry, FencingToken, Kind, SessionId};
use crate::lock::line::WaiterId;
use crate::lock::look::Page;
use crate::lock::sessions::{LockLost, Sessions};
use crate::lock::table::{Ask, Decision, Due, LockId, LockTable, NewHold, Release, Wanted};
use crate::lock::{AskId, Grant, Guard, LOCK_NAME_MAX, LockError, Mode, WAITERS_MAX};
use crate::options::Durability;
use crate::pending::Completer;
use crate::wal::Room;

/// The largest record that one step on a lock logs.
const RECORD_MAX: usize = 256 + LOCK_NAME_MAX;
/// Holds and waits whose time is over, or whose session has ended, that one step removes, and waiters that it serves; others have
/// their turn in between.
const STEP_MAX: usize = 1024;

const NO_ROOM: Error = Error::Busy { queue: "log of the shard", limit: 1 };

/// Somebody in line.
pub struct Parked {
    reply: Completer<Grant>,
    level: Durability,
}

/// A shard's locks and what is left to do for them.
pub struct Locks {
    table: LockTable<Parked>,
    sessions: Arc<Sessions>,
    /// Names to look at again once the log has room.
    unserved: BTreeSet<Box<[u8]>>,
    /// Names to look at once grants are given at all.
    unopened: BTreeSet<Box<[u8]>>,
    /// Sessions whose end is not complete: it waits for room in the log, or for its turn.
    ending: VecDeque<SessionId>,
    /// Until then a lock may be held of which nothing is on disk: nobody is granted what it does not hold already.
    closed_until_ms: u64,
    waits: Waits,
    pub(super) counts: LockCounts,
    /// What was due could not be done while the shard waited for room.
    missed: bool,
    /// The key of the hold that is being logged; its memory is used again.
    key: Vec<u8>,
}

impl Locks {
    pub fn new(sessions: Arc<Sessions>, closed_until_ms: u64, hash_seed: u64) -> Locks {
        Locks {
            table: LockTable::new(hash_seed),
            sessions,
            unserved: BTreeSet::new(),
            unopened: BTreeSet::new(),
            ending: VecDeque::new(),
            closed_until_ms,
            waits: Waits::default(),
            counts: LockCounts::default(),
            missed: false,
            key: Vec::new(),
        }
    }

    /// A hold that was read back. Its lease begins anew; the hold of a session that is gone is ended first of all.
    pub fn restore(&mut self, name: &[u8], session: SessionId, hold: StoredHold, version: CommitTs, now_ms: u64) {
        if planted(Canary::ForgetHold) {
            return;
        }
        let token = hold.token.unwrap_or(FencingToken(version.0));
        let new = NewHold {
            session,
            mode: hold.mode,
            count: hold.count,
            token: Some(token),
            lease_ms: hold.lease_ms,
            since_unix_ms: hold.since_unix_ms,
        };
        let id = self.table.find_or_add(name);
        self.table.enter(id, new, token, now_ms);
        self.end_first(session);
    }

    pub fn next_due_ms(&self) -> Option<u64> {
        let ending = (!self.ending.is_empty()).then_some(0);
        let opening = (!self.unopened.is_empty()).then_some(self.closed_until_ms);
        [ending, opening, self.table.next_due_ms()].into_iter().flatten().min()
    }

    pub(super) fn table(&self) -> &LockTable<Parked> {
        &self.table
    }

    pub(super) fn table_mut(&mut self) -> &mut LockTable<Parked> {
        &mut self.table
    }

    /// Whether a new hold may be given at all.
    pub(super) fn is_open(&self, now_ms: u64, hold: &NewHold) -> bool {
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

    /// Holds of all names.
    pub fn held(&self) -> usize {
        self.table.held()
    }

    pub fn counts(&self) -> &LockCounts {
        &self.counts
    }

    /// How long those waited who wait no more.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }
}

impl ShardCore {
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// Execute a request; keep it for later if the log has no room for what it may log.
    pub(super) fn lock(&mut self, request: LockRequest) {
        let room = match &request {
            LockRequest::Info { .. } | LockRequest::List { .. } => Ok(()),
            LockRequest::Entangled { .. } | LockRequest::Blocked { .. } => Ok(()),
            LockRequest::Renew { .. } | LockRequest::GiveWay { .. } | LockRequest::Cancel { .. } => Ok(()),
            LockRequest::LeaveLines { .. } => Ok(()),
            LockRequest::Release { .. } | LockRequest::EndSession { .. } => self.check_room(RECORD_MAX, Room::Reserve),
            LockRequest::Acquire { .. } | LockRequest::Downgrade { .. } => self.check_room(RECORD_MAX, Room::Ordinary),
        };
        match room {
            Ok(()) => self.lock_now(request),
            Err(Unwritten::Later(_)) => self.stall(Stalled::Lock(request)),
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
                self.acquire(&name, ask, wait, id, Parked { reply, level })
            }
            LockRequest::Cancel { name, session, id, reply } => {
                let place = self.locks.table.find(&name);
                let place = place.and_then(|place| self.locks.table.asked(place, session, id).map(|at| (place, at)));
                if let Some((place, at)) = place {
                    // Its time was cut short by whoever asked.
                    self.locks.counts.cancelled += 1;
                    let parked = self.leave_line(at);
                    self.refuse_waiter(parked, LockError::TimedOut);
                    self.look_at(place);
                }
                self.answer(move || reply.complete(Ok(place.is_some())));
            }
            LockRequest::Release { name, session, token, level, reply } => {
                self.release_hold(&name, session, token, level, reply);
            }
            LockRequest::Downgrade { name, session, token, level, reply } => {
                self.downgrade(&name, session, token, Parked { reply, level });
            }
            LockRequest::Renew { name, session, token, reply } => {
                let now_ms = self.now_ms();
                let renewed = match (self.locks.sessions.is_live(session, now_ms), self.locks.table.find(&name)) {
                    (true, Some(place)) => self.locks.table.renew(place, session, token, now_ms),
                    (true, None) => Err(LockError::NotHeld),
                    (false, _) => Err(LockError::NoSession { id: session }),
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
                // Behind what was logged for it, durably: whoever hears of the end relies on it.
                let end = self.log.marks().appended();
                self.log.want_durable(end);
                self.wait(Need::Durable(end), None, Box::new(move |done| reply.complete(done.map(drop))));
            }
            LockRequest::LeaveLines { session, reply } => {
                self.leave_lines(session, &mut { STEP_MAX });
                self.answer(move || reply.complete(Ok(())));
            }
            LockRequest::GiveWay { part, cycle, reply } => {
                let mut name = None;
                // All its requests for the name, or none: each of them keeps the circle closed.
                while let Some(at) = self.locks.table.waiter_of(&part) {
                    let parked = self.leave_line(at);
                    self.refuse_waiter(parked, LockError::Deadlock { cycle: cycle.clone() });
                    name.get_or_insert_with(|| self.locks.table.name(part.lock).to_vec());
                }
                if name.is_some() {
                    self.locks.counts.deadlocks += 1;
                    self.look_at(part.lock);
                }
                self.answer(move || reply.complete(Ok(name)));
            }
            LockRequest::Info { name, shown_max, reply } => {
                let (now_ms, table) = (self.now_ms(), &self.locks.table);
                let info = table.find(&name).map(|place| table.info(place, now_ms, shown_max));
                self.answer(move || reply.complete(Ok(info)));
            }
            LockRequest::List { from, at_most, shown_max, matches, reply } => {
                let (now_ms, table) = (self.now_ms(), &self.locks.table);
                let Page { found, next } = table.matching(from, at_most, &*matches);
                let found = found.into_iter().map(|place| table.info(place, now_ms, shown_max)).collect();
                self.answer(move || reply.complete(Ok(Page { found, next })));
            }
            LockRequest::Entangled { from, reply } => {
                let waiting = self.locks.sessions.waiting();
                let page = self.locks.table.entangled(from, |session| waiting.contains(session));
                drop(waiting);
                self.answer(move || reply.complete(Ok(page)));
            }
            LockRequest::Blocked { entangled, reply } => {
                let blocked = self.locks.table.blocked(&entangled);
                self.answer(move || reply.complete(Ok(blocked)));
            }
        }
        let after = self.locks.next_due_ms();
        self.outbox.kick_locks |= after.is_some_and(|after| before.is_none_or(|before| after < before));
    }

    fn acquire(&mut self, name: &[u8], ask: Ask, wait: Wait, id: Option<AskId>, parked: Parked) {
        let now_ms = self.now_ms();
        if !self.locks.sessions.is_live(ask.session, now_ms) {
            return self.refuse_waiter(parked, LockError::NoSession { id: ask.session });
        }
        let place = self.locks.table.find_or_add(name);
        self.serve_line(place);
        match self.locks.table.decide(place, &ask, now_ms, self.clock.wall_ms()) {
            // What came before it may have taken the room.
            Ok(Decision::Grant(hold))
                if self.locks.is_open(now_ms, &hold) && self.check_room(RECORD_MAX, Room::Ordinary).is_ok() =>
            {
                self.grant(place, hold, parked);
            }
            Ok(decision @ (Decision::Grant(_) | Decision::Wait)) if wait == Wait::No => {
                self.locks.counts.refused += 1;
                let left_ms = self.locks.closed_until_ms.saturating_sub(now_ms);
                match decision {
                    Decision::Wait => self.refuse_waiter(parked, LockError::Held),
                    Decision::Grant(hold) if self.locks.is_open(now_ms, &hold) => {
                        self.answer(move || parked.reply.complete(Err(NO_ROOM)));
                    }
                    Decision::Grant(_) => self.refuse_waiter(parked, LockError::NotYet { left_ms }),
                }
            }
            Ok(_) if self.locks.table.waiting() >= WAITERS_MAX => {
                let full = Error::Busy { queue: "line of waiters", limit: WAITERS_MAX as u64 };
                self.answer(move || parked.reply.complete(Err(full)));
            }
            Ok(_) => {
                let until_ms = match wait {
                    Wait::Ms(ms) => now_ms.saturating_add(ms),
                    Wait::AsLongAsTheSession | Wait::No => u64::MAX,
                };
                self.locks.table.stand_in_line(place, Wanted { ask, until_ms, id, reply: parked }, now_ms);
                self.locks.sessions.begin_wait(ask.session);
            }
            Err(refusal) => {
                self.locks.counts.deadlocks += u64::from(matches!(refusal, LockError::Deadlock { .. }));
                self.refuse_waiter(parked, refusal);
            }
        }
        self.look_at(place);
    }

    /// Log a hold and enter it; the log was found to have room.
    fn grant(&mut self, place: LockId, hold: NewHold, parked: Parked) {
        let Parked { reply, level } = parked;
        match self.log_hold(place, hold, level) {
            Ok((commit, need)) => {
                let token = hold.token.unwrap_or(FencingToken(commit.0));
                let now_ms = self.now_ms();
                self.locks.table.enter(place, hold, token, now_ms);
                self.locks.counts.grants += 1;
                let grant = Grant { token, count: hold.count };
                self.wait(need, Some(commit), Box::new(move |done| reply.complete(done.map(|_| grant))));
            }
            Err(why) => self.refuse_for(why, move |error| reply.complete(Err(error))),
        }
    }

    /// Take somebody out of the line.
    fn leave_line(&mut self, at: WaiterId) -> Parked {
        let waiter = self.locks.table.leave_line(at);
        self.left(waiter.ask.session, waiter.since_ms);
        waiter.reply
    }

    fn left(&mut self, session: SessionId, since_ms: u64) {
        self.locks.sessions.end_wait(session);
        let waited_ms = self.now_ms().saturating_sub(since_ms);
        self.locks.waits.note(waited_ms);
    }

    /// Whether a step on a lock could be logged now.
    pub(super) fn has_room_for_lock(&mut self) -> bool {
        self.check_room(RECORD_MAX, Room::Ordinary).is_ok()
    }

    pub(super) fn log_hold(
        &mut self,
        place: LockId,
        hold: NewHold,
        level: Durability,
    ) -> std::result::Result<(CommitTs, Need), Unwritten> {
        let value = StoredHold {
            mode: hold.mode,
            count: hold.count,
            token: hold.token,
            lease_ms: hold.lease_ms,
            since_unix_ms: hold.since_unix_ms,
        }
        .encode();
        let change = Op::Put { kind: Kind::BYTES, expiry: Expiry::NEVER, value: &value };
        self.log_change(place, hold.session, change, level)
    }

    pub(super) fn log_removal(
        &mut self,
        place: LockId,
        session: SessionId,
        level: Durability,
    ) -> std::result::Result<(CommitTs, Need), Unwritten> {
        self.log_change(place, session, Op::Delete, level)
    }

    fn log_change(
        &mut self,
        place: LockId,
        session: SessionId,
        change: Op<'_>,
        level: Durability,
    ) -> std::result::Result<(CommitTs, Need), Unwritten> {
        let mut key = std::mem::take(&mut self.locks.key);
        hold_key(self.locks.table.name(place), session, &mut key);
        let logged = self.write(std::iter::once(OpRef { keyspace: HOLDS, key: &key, change }), level);
        self.locks.key = key;
        logged
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
        let place = self.locks.table.find(name).ok_or(LockError::NotHeld);
        let decided =
            place.and_then(|place| Ok((place, self.locks.table.decide_release(place, session, token, now_ms)?)));
        let (place, logged, released) = match decided {
            Ok((place, Release::Counted(hold))) => {
                let logged = self.log_hold(place, hold, level);
                if logged.is_ok() {
                    self.locks.table.enter_mode(place, session, hold.mode, hold.count);
                }
                (place, logged, Released { count: hold.count, expired: false })
            }
            Ok((place, gone @ (Release::Gone | Release::Expired))) => {
                let logged = self.log_removal(place, session, level);
                if logged.is_ok() {
                    self.locks.table.remove(place, session);
                    self.locks.counts.expired += u64::from(gone == Release::Expired);
                }
                (place, logged, Released { count: 0, expired: gone == Release::Expired })
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
                self.look_at(place);
            }
            Err(why) => self.refuse_for(why, move |error| reply.complete(Err(error))),
        }
    }

    fn downgrade(&mut self, name: &[u8], session: SessionId, token: Option<FencingToken>, parked: Parked) {
        let now_ms = self.now_ms();
        let place = self.locks.table.find(name).ok_or(LockError::NotHeld);
        let decided =
            place.and_then(|place| Ok((place, self.locks.table.decide_downgrade(place, session, token, now_ms)?)));
        let (place, hold) = match decided {
            Ok(decided) => decided,
            Err(refusal) => return self.refuse_waiter(parked, refusal),
        };
        let Parked { reply, level } = parked;
        match self.log_hold(place, hold, level) {
            Ok((commit, need)) => {
                self.locks.table.enter_mode(place, session, hold.mode, hold.count);
                let token = hold.token.expect("it is held");
                let grant = Grant { token, count: hold.count };
                self.wait(need, Some(commit), Box::new(move |done| reply.complete(done.map(|_| grant))));
                self.look_at(place);
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
            Unwritten::Later(_) => NO_ROOM,
        };
        self.answer(move || tell(error));
    }

    /// Answer once the shard's lock is free.
    fn answer(&mut self, tell: impl FnOnce() + Send + 'static) {
        self.outbox.replies.push((Box::new(move |_| tell()), Ok(CommitTs::ZERO)));
    }

    /// Remove holds whose time is over, and serve the line as far as it goes. Ends a step on this name: true if nobody holds or
    /// wants it any more.
    fn look_at(&mut self, place: LockId) -> bool {
        self.serve_line(place);
        self.locks.table.settle(place)
    }

    fn serve_line(&mut self, place: LockId) {
        let now_ms = self.now_ms();
        for session in self.locks.table.gone(place, now_ms) {
            if !self.remove_hold(place, session) {
                return;
            }
            self.locks.counts.expired += 1;
        }
        let mut left = STEP_MAX;
        while let Some((at, served)) = self.locks.table.next_to_serve(place, now_ms, self.clock.wall_ms()) {
            if left == 0 {
                // Many may share it; others have their turn in between.
                self.locks.unserved.insert(self.locks.table.name(place).into());
                self.outbox.kick_locks = true;
                return;
            }
            left -= 1;
            let hold = match served {
                Ok(hold) => hold,
                Err(refusal) => {
                    let parked = self.leave_line(at);
                    self.refuse_waiter(parked, refusal);
                    continue;
                }
            };
            if !self.locks.is_open(now_ms, &hold) {
                self.locks.unopened.insert(self.locks.table.name(place).into());
                return;
            }
            let is_live = self.locks.sessions.is_live(hold.session, now_ms);
            let room = self.check_room(RECORD_MAX, Room::Ordinary);
            if is_live && matches!(room, Err(Unwritten::Later(_))) {
                self.look_again(place);
                return;
            }
            let parked = self.leave_line(at);
            match (is_live, room) {
                (false, _) => self.refuse_waiter(parked, LockError::NoSession { id: hold.session }),
                (true, Ok(())) => self.grant(place, hold, parked),
                (true, Err(why)) => {
                    let reply = parked.reply;
                    self.refuse_for(why, move |error| reply.complete(Err(error)));
                }
            }
        }
    }

    /// Nobody asked for it, so that nobody is told. False if the log has no room.
    fn remove_hold(&mut self, place: LockId, session: SessionId) -> bool {
        let logged = match self.check_room(RECORD_MAX, Room::Reserve) {
            Ok(()) => self.log_removal(place, session, Durability::None).ok(),
            Err(_) => None,
        };
        let Some((commit, need)) = logged else {
            self.look_again(place);
            return false;
        };
        self.wait(need, Some(commit), Box::new(drop));
        if let Some(token) = self.locks.table.token_of(place, session) {
            let name = self.locks.table.name(place).to_vec();
            let (sessions, lost) = (Arc::clone(&self.locks.sessions), LockLost { name, session, token });
            self.answer(move || sessions.tell_lost(&lost));
        }
        self.locks.table.remove(place, session);
        true
    }

    fn look_again(&mut self, place: LockId) {
        self.locks.unserved.insert(self.locks.table.name(place).into());
        self.outbox.kick_flusher = true;
        self.outbox.kick_background = true;
    }

    /// End so many waits of a session at most. True: none is left.
    fn leave_lines(&mut self, session: SessionId, left: &mut usize) -> bool {
        while let Some((place, at)) = self.locks.table.waited_by(session) {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            let parked = self.leave_line(at);
            self.refuse_waiter(parked, LockError::NoSession { id: session });
            self.look_at(place);
        }
        true
    }

    /// End what is left of sessions that ended, as much as one step may.
    fn end_sessions(&mut self) {
        let mut left = STEP_MAX;
        while let Some(session) = self.locks.ending.front().copied() {
            if !self.leave_lines(session, &mut left) || left == 0 {
                self.outbox.kick_locks = true;
                return;
            }
            while let Some(place) = self.locks.table.held_by(session) {
                if !self.remove_hold(place, session) {
                    return;
                }
                self.locks.counts.orphaned += 1;
                self.look_at(place);
                left -= 1;
                if left == 0 {
                    self.outbox.kick_locks = true;
                    return;
                }
            }
            if !self.remove_keys_of(session) {
                return;
            }
            self.locks.table.forget_session(session);
            self.locks.ending.pop_front();
        }
    }

    /// What waited for room in the log, as far as there is some, or for the time from which on grants are given.
    pub(super) fn serve_unserved(&mut self) {
        if !self.locks.unopened.is_empty() && self.now_ms() >= self.locks.closed_until_ms {
            let unopened = std::mem::take(&mut self.locks.unopened);
            self.locks.unserved.extend(unopened);
        }
        while let Some(name) = self.locks.unserved.pop_first() {
            let Some(place) = self.locks.table.find(&name) else { continue };
            self.look_at(place);
            if self.locks.unserved.contains(&name) {
                break;
            }
        }
        self.end_sessions();
    }

    /// There may be room by now for what was due when there was none.
    pub fn tick_missed(&mut self) {
        self.outbox.kick_locks |= std::mem::take(&mut self.locks.missed);
    }

    /// Do what is due by the time; says when to come again.
    pub fn tick_locks(&mut self) -> Option<u64> {
        if self.view.poisoned().is_some() {
            return None;
        }
        if !self.accepts() {
            // No deadline to come is earlier than those that have passed: nobody else would say when to come again.
            self.locks.missed = true;
            return None;
        }
        self.serve_unserved();
        let now_ms = self.now_ms();
        let mut left = STEP_MAX;
        while let Some(due) = self.locks.table.due(now_ms) {
            match due {
                Due::Name(place) => {
                    self.look_at(place);
                }
                Due::TimedOut(place, waiter) => {
                    self.locks.counts.timeouts += 1;
                    self.left(waiter.ask.session, waiter.since_ms);
                    self.refuse_waiter(waiter.reply, LockError::TimedOut);
                    self.look_at(place);
                }
            }
            left -= 1;
            if left == 0 {
                self.outbox.kick_locks = true;
                break;
            }
        }
        let keys = self.tick_key_locks(now_ms);
        [self.locks.next_due_ms(), keys].into_iter().flatten().filter(|at| *at > now_ms).min()
    }

    /// Whether a guarded write may take effect now; it is refused if not.
    pub fn check_guard(&mut self, guard: &Guard) -> Result<()> {
        let now_ms = self.now_ms();
        let is_live = |session| self.locks.sessions.is_live(session, now_ms);
        let checked = self.locks.table.check_guard(guard, now_ms, is_live);
        self.locks.counts.fenced += u64::from(checked.is_err());
        checked.map_err(Error::Lock)
    }

    /// Nobody in line is served any more.
    pub(super) fn refuse_line(&mut self, error: &Error) {
        while let Some((place, at)) = self.locks.table.any_waiter() {
            let (parked, error) = (self.leave_line(at), error.clone());
            self.answer(move || parked.reply.complete(Err(error)));
            self.locks.table.settle(place);
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
