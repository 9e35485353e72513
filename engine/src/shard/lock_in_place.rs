//! Locks taken and let go in the calling thread, where nobody is in the way: no request, no line, no allocation.
//!
//! Guards: the same rules and records as by a request (`locking.rs`); what is not answered at once is left to that, untouched. Nobody is
//! overtaken: whoever stands in line for the name, or waits for an answer of the shard, comes first.

use super::core::ShardCore;
use super::line::Need;
use super::lock_request::Released;
use crate::ids::{FencingToken, SessionId};
use crate::lock::Grant;
use crate::lock::table::{Ask, Decision, Release};
use crate::options::Durability;
use crate::pending::Completer;

/// What became of an attempt.
pub enum InPlace<T> {
    Done(T),
    /// It was done, and is answered when it has outlived what it has to.
    Later,
    /// Nothing was done: ask by a request.
    Not,
}

impl ShardCore {
    /// Whether an answer could be given at once.
    fn is_idle_for_locks(&mut self) -> bool {
        self.refusal().is_none() && self.has_no_waiters() && self.has_room_for_lock()
    }

    /// Take a lock that is free, or is the session's own.
    pub fn acquire_in_place(
        &mut self,
        name: &[u8],
        ask: &Ask,
        level: Durability,
        later: impl FnOnce() -> Completer<Grant>,
    ) -> InPlace<Grant> {
        // Both looked at while the shard is held: the session's end comes to the shard behind its mark.
        let now_ms = self.now_ms();
        if !self.is_idle_for_locks() || !self.locks.sessions().is_live(ask.session, now_ms) {
            return InPlace::Not;
        }
        let due = self.locks.table().next_due_ms();
        let unix_ms = self.clock.wall_ms();
        let place = self.locks.table_mut().find_or_add(name);
        let hold = match self.locks.table().decide(place, ask, now_ms, unix_ms) {
            Ok(Decision::Grant(hold)) if self.locks.is_open(now_ms, &hold) => hold,
            Ok(_) | Err(_) => {
                self.locks.table_mut().settle(place);
                return InPlace::Not;
            }
        };
        let Ok((commit, need)) = self.log_hold(place, hold, level) else {
            self.locks.table_mut().settle(place);
            return InPlace::Not;
        };
        let token = hold.token.unwrap_or(FencingToken(commit.0));
        self.locks.table_mut().enter(place, hold, token, now_ms);
        self.locks.counts.grants += 1;
        if let Some(at) = self.locks.table().next_due_ms() {
            self.outbox.kick_locks |= due.is_none_or(|before| at < before);
        }
        let grant = Grant { token, count: hold.count };
        if need == Need::Nothing {
            self.show_now(commit);
            return InPlace::Done(grant);
        }
        let reply = later();
        self.wait(need, Some(commit), Box::new(move |done| reply.complete(done.map(|_| grant))));
        InPlace::Later
    }

    /// Let go of a lock, or of one of the times that it was taken, if nobody waits for it.
    pub fn release_in_place(
        &mut self,
        name: &[u8],
        session: SessionId,
        token: Option<FencingToken>,
        level: Durability,
        later: impl FnOnce() -> Completer<Released>,
    ) -> InPlace<Released> {
        if !self.is_idle_for_locks() {
            return InPlace::Not;
        }
        let now_ms = self.now_ms();
        let Some(place) = self.locks.table().find(name).filter(|place| !self.locks.table().is_wanted(*place)) else {
            return InPlace::Not;
        };
        let (logged, left) = match self.locks.table().decide_release(place, session, token, now_ms) {
            Ok(Release::Counted(hold)) => (self.log_hold(place, hold, level), Some(hold)),
            Ok(Release::Gone) => (self.log_removal(place, session, level), None),
            Ok(Release::Expired) | Err(_) => return InPlace::Not,
        };
        let Ok((commit, need)) = logged else { return InPlace::Not };
        let table = self.locks.table_mut();
        match left {
            Some(hold) => table.enter_mode(place, session, hold.mode, hold.count),
            None => {
                table.remove(place, session);
                table.settle(place);
            }
        }
        let released = Released { count: left.map_or(0, |hold| hold.count), expired: false };
        if need == Need::Nothing {
            self.show_now(commit);
            return InPlace::Done(released);
        }
        let reply = later();
        self.wait(need, Some(commit), Box::new(move |done| reply.complete(done.map(|_| released))));
        InPlace::Later
    }
}
