//! The locks of one shard: holds, and those who wait in line.
//!
//! Guards: modes are compatible among the running holds of a name; a line is served from its front; each hold and each waiter
//! has a deadline or lives by its session; nothing is left of a name that nobody holds or wants; no step's cost grows with how many
//! hold or wait, but by a logarithm.
//! Does not: log. A decision is asked for, logged by the caller, and then entered; in between nobody else may ask.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::hold::{Held, Holds};
pub use super::hold::{Hold, NewHold};
pub use super::line::Ticket;
use super::line::{Ends, Waiter, WaiterId, Waiters};
pub use super::names::LockId;
use super::names::Names;
use super::timers::Timers;
use super::{AskId, Guard, LockError, Mode};
use crate::canary::{Canary, planted};
use crate::ids::{FencingToken, SessionId};

/// What somebody asks of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    pub session: SessionId,
    pub mode: Mode,
    pub lease_ms: Option<u64>,
}

/// How somebody stands in line.
pub struct Wanted<R> {
    pub ask: Ask,
    /// `u64::MAX`: as long as its session.
    pub until_ms: u64,
    /// By what it can be taken back.
    pub id: Option<AskId>,
    pub reply: R,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    Grant(NewHold),
    /// Stand in line; an upgrade stands before the line.
    Wait,
}

/// What remains to be logged of a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    Counted(NewHold),
    Gone,
    /// Gone, but it had expired before.
    Expired,
}

#[derive(Default)]
pub(super) struct Lock {
    pub(super) holds: Holds,
    /// No hold is past its margin before.
    gone_ms: Option<u64>,
    /// The one shared holder that waits to be alone.
    pub(super) upgrade: Option<WaiterId>,
    pub(super) line: Ends,
    pub(super) waiting: usize,
}

impl Lock {
    fn is_idle(&self) -> bool {
        self.holds.is_empty() && self.waiting == 0
    }

    /// Whether the others leave room for this mode.
    fn admits(&self, ask: &Ask) -> bool {
        if planted(Canary::GrantBesideHolder) {
            return true;
        }
        let own = self.holds.of(ask.session).map(|held| held.hold.mode);
        let others = self.holds.len() - usize::from(own.is_some());
        match ask.mode {
            Mode::Exclusive => others == 0,
            Mode::Shared => others == self.holds.shared() - usize::from(own == Some(Mode::Shared)),
            Mode::Semaphore { permits, units } => {
                let semaphores = self.holds.first().is_none_or(|hold| matches!(hold.mode, Mode::Semaphore { .. }));
                semaphores && self.holds.units() + u64::from(units) <= u64::from(permits)
            }
        }
    }

    fn front(&self) -> Option<WaiterId> {
        let next = if planted(Canary::ServeOutOfTurn) { self.line.last } else { self.line.first };
        self.upgrade.or(next)
    }
}

impl Mode {
    /// Whether who holds `self` need not change to have `asked` as well.
    fn covers(self, asked: Mode) -> bool {
        self == asked || (self == Mode::Exclusive && asked == Mode::Shared)
    }
}

/// The hold of a session that has none.
fn first_taken(ask: &Ask, unix_ms: u64) -> NewHold {
    NewHold {
        session: ask.session,
        mode: ask.mode,
        count: 1,
        token: None,
        lease_ms: ask.lease_ms,
        since_unix_ms: unix_ms,
    }
}

/// What a session's hold becomes when it is taken again: counted up if its mode covers what is asked for, else in that mode and with a
/// new token. Nothing shortens a lease that was promised, also not over a restart, after which the logged one runs anew; one that ends
/// only with the session stays so.
fn taken_again(own: &Hold, ask: &Ask, since_unix_ms: u64) -> NewHold {
    let covers = own.mode.covers(ask.mode);
    NewHold {
        session: ask.session,
        mode: if covers { own.mode } else { ask.mode },
        count: own.count.saturating_add(1),
        token: covers.then_some(own.token),
        lease_ms: own.lease_ms.zip(ask.lease_ms).map(|(own, asked)| own.max(asked)),
        since_unix_ms,
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Lease { lock: LockId, session: SessionId, timer: u64 },
    Wait { waiter: WaiterId, ticket: Ticket },
}

/// What a timer was for, if it still stands.
pub enum Due<R> {
    /// Holds of this name are past their margin; see [`LockTable::gone`].
    Name(LockId),
    /// A waiter's time is up; it was taken out of the line. Who stood behind it may be served; [`LockTable::settle`] is due.
    TimedOut(LockId, Waiter<R>),
}

/// What one session has here. It is kept until the session ends, so that who comes again finds it.
#[derive(Default)]
struct Member {
    holds: Option<LockId>,
    waits: Ends,
}

/// That a session waits for a name, with however many requests.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// The ticket with which it began.
    pub(super) began: Ticket,
    pub(super) since_ms: u64,
    waits: u32,
}

/// Numbers of sessions are drawn by chance: they need no more hashing than to spread small ones in tests.
#[derive(Default)]
pub struct SpreadHasher(u64);

impl Hasher for SpreadHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub type BySession<T> = HashMap<SessionId, T, BuildHasherDefault<SpreadHasher>>;

pub struct LockTable<R> {
    pub(super) names: Names<Lock>,
    members: BySession<Member>,
    pub(super) waiters: Waiters<R>,
    /// Who waits for what.
    pub(super) parts: BTreeMap<(SessionId, LockId), Part>,
    /// Names for which somebody waits.
    pub(super) contended: BTreeSet<LockId>,
    timers: Timers<Timer>,
    next_timer: u64,
    /// Timers that stand for something at most.
    timed: usize,
    held: usize,
}

impl<R> LockTable<R> {
    pub fn new(hash_seed: u64) -> LockTable<R> {
        LockTable {
            names: Names::new(hash_seed),
            members: BySession::default(),
            waiters: Waiters::default(),
            parts: BTreeMap::new(),
            contended: BTreeSet::new(),
            timers: Timers::default(),
            next_timer: 1,
            timed: 0,
            held: 0,
        }
    }

    // -- names

    pub fn find(&self, name: &[u8]) -> Option<LockId> {
        self.names.find(name)
    }

    /// The place of a name; [`LockTable::settle`] is due when the step ends.
    pub fn find_or_add(&mut self, name: &[u8]) -> LockId {
        self.names.find_or_add(name)
    }

    /// Forget a name that nobody holds or wants. True: it is gone.
    pub fn settle(&mut self, id: LockId) -> bool {
        let idle = self.names.lock(id).is_idle();
        if idle {
            self.names.remove(id);
        }
        idle
    }

    pub fn name(&self, id: LockId) -> &[u8] {
        self.names.name(id)
    }

    /// Whether somebody waits for it.
    pub fn is_wanted(&self, id: LockId) -> bool {
        self.names.lock(id).waiting > 0
    }

    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// Holds of all names.
    pub fn held(&self) -> usize {
        self.held
    }

    // -- deciding: nothing changes

    /// What would come of asking now.
    pub fn decide(&self, id: LockId, ask: &Ask, now_ms: u64, unix_ms: u64) -> Result<Decision, LockError> {
        let lock = self.names.lock(id);
        if lock.is_idle() {
            return Ok(Decision::Grant(first_taken(ask, unix_ms)));
        }
        if let Some(own) = lock.holds.of(ask.session).map(|held| held.hold) {
            if !own.is_running(now_ms) {
                return Err(LockError::Expired);
            }
            if own.mode.covers(ask.mode) {
                return Ok(Decision::Grant(taken_again(&own, ask, own.since_unix_ms)));
            }
            if own.mode != Mode::Shared || ask.mode != Mode::Exclusive {
                return Err(match own.mode {
                    Mode::Semaphore { permits, .. } => LockError::OtherPermits { permits },
                    Mode::Exclusive | Mode::Shared => LockError::Held,
                });
            }
            if lock.admits(ask) {
                return Ok(Decision::Grant(taken_again(&own, ask, unix_ms)));
            }
            return match lock.upgrade.map(|other| self.waiters.get(other).ask.session) {
                // Each keeps its share until it has the whole.
                Some(other) => Err(LockError::Deadlock { cycle: vec![ask.session, other] }),
                None => Ok(Decision::Wait),
            };
        }
        if let Some(permits) = self.other_permits(lock, ask.mode) {
            return Err(LockError::OtherPermits { permits });
        }
        let now = lock.waiting == 0 && lock.admits(ask);
        Ok(if now { Decision::Grant(first_taken(ask, unix_ms)) } else { Decision::Wait })
    }

    fn other_permits(&self, lock: &Lock, mode: Mode) -> Option<u32> {
        let Mode::Semaphore { permits: asked, .. } = mode else { return None };
        // Holders and the line's end agree with all others already.
        let last = self.waiters.last_of(&lock.line).map(|waiter| waiter.ask.mode);
        lock.holds.first().map(|hold| hold.mode).into_iter().chain(last).find_map(|mode| match mode {
            Mode::Semaphore { permits, .. } if permits != asked => Some(permits),
            _ => None,
        })
    }

    /// Who is to be served next of those who wait, if it can be now: granted what it asks for, or refused.
    pub fn next_to_serve(
        &self,
        id: LockId,
        now_ms: u64,
        unix_ms: u64,
    ) -> Option<(WaiterId, Result<NewHold, LockError>)> {
        let lock = self.names.lock(id);
        let front = lock.front()?;
        let ask = self.waiters.get(front).ask;
        // A waiter whose session holds the lock by now counts up.
        let own = lock.holds.of(ask.session).map(|held| held.hold);
        if own.is_some_and(|own| !own.is_running(now_ms)) {
            return Some((front, Err(LockError::Expired)));
        }
        let admitted = own.is_some_and(|own| own.mode.covers(ask.mode)) || lock.admits(&ask);
        let hold = own.map_or_else(|| first_taken(&ask, unix_ms), |own| taken_again(&own, &ask, unix_ms));
        admitted.then_some((front, Ok(hold)))
    }

    /// What a release would leave.
    pub fn decide_release(
        &self,
        id: LockId,
        session: SessionId,
        token: Option<FencingToken>,
        now_ms: u64,
    ) -> Result<Release, LockError> {
        let own = self.own(id, session, token)?;
        if !own.is_running(now_ms) {
            return Ok(Release::Expired);
        }
        Ok(match own.count {
            0 | 1 => Release::Gone,
            count => Release::Counted(NewHold { count: count - 1, ..own.kept() }),
        })
    }

    /// An exclusive hold as a shared one, with its token.
    pub fn decide_downgrade(
        &self,
        id: LockId,
        session: SessionId,
        token: Option<FencingToken>,
        now_ms: u64,
    ) -> Result<NewHold, LockError> {
        let own = self.own(id, session, token)?;
        match own.mode {
            _ if !own.is_running(now_ms) => Err(LockError::Expired),
            Mode::Exclusive | Mode::Shared => Ok(NewHold { mode: Mode::Shared, ..own.kept() }),
            Mode::Semaphore { permits, .. } => Err(LockError::OtherPermits { permits }),
        }
    }

    fn own(&self, id: LockId, session: SessionId, token: Option<FencingToken>) -> Result<&Hold, LockError> {
        let own = &self.names.lock(id).holds.of(session).ok_or(LockError::NotHeld)?.hold;
        match token {
            Some(token) if token != own.token => Err(LockError::WrongToken { current: own.token }),
            Some(_) | None => Ok(own),
        }
    }

    /// Whether a guarded write may take effect now.
    pub fn check_guard(
        &self,
        guard: &Guard,
        now_ms: u64,
        is_live: impl Fn(SessionId) -> bool,
    ) -> Result<(), LockError> {
        let running =
            |hold: &&Hold| (hold.is_running(now_ms) || planted(Canary::GuardOutlivesLease)) && is_live(hold.session);
        let lock = self.find(&guard.name).map(|id| self.names.lock(id));
        if lock.and_then(|lock| lock.holds.with_token(guard.token)).filter(running).is_some() {
            return Ok(());
        }
        let current = lock.and_then(|lock| lock.holds.newest_first().find(running).map(|hold| hold.token));
        Err(LockError::Fenced { token: guard.token, current })
    }

    /// Sessions whose holds are past lease and margin.
    pub fn gone(&mut self, id: LockId, now_ms: u64) -> Vec<SessionId> {
        let lock = self.names.lock_mut(id);
        if lock.gone_ms.is_none_or(|at| at > now_ms) {
            return Vec::new();
        }
        let gone = lock.holds.iter().filter(|hold| hold.gone_ms() <= now_ms).map(|hold| hold.session).collect();
        // What cannot be removed now is looked at again.
        lock.gone_ms = lock.holds.iter().map(Hold::gone_ms).min().filter(|at| *at != u64::MAX);
        gone
    }

    // -- entering what was decided and logged

    /// A hold that was logged with `token`. Its lease begins now.
    pub fn enter(&mut self, id: LockId, new: NewHold, token: FencingToken, now_ms: u64) {
        let hold = Hold {
            session: new.session,
            mode: new.mode,
            count: new.count,
            token,
            lease_ms: new.lease_ms,
            until_ms: new.lease_ms.map_or(u64::MAX, |lease| now_ms.saturating_add(lease)),
            since_unix_ms: new.since_unix_ms,
        };
        let own = self.names.lock(id).holds.of(new.session).copied();
        let mut held = match own {
            // Nothing shortens what was promised.
            Some(own) => Held { hold: Hold { until_ms: hold.until_ms.max(own.hold.until_ms), ..hold }, ..own },
            None => {
                self.held += 1;
                Held { hold, timer: 0, prev: None, next: self.link(id, new.session) }
            }
        };
        // A hold that had no end keeps none.
        if held.hold.gone_ms() != u64::MAX && held.timer == 0 {
            held.timer = self.next_timer;
            self.next_timer += 1;
            self.timed += 1;
            let timer = Timer::Lease { lock: id, session: new.session, timer: held.timer };
            self.add_timer(held.hold.gone_ms(), timer);
        }
        let lock = self.names.lock_mut(id);
        if held.timer != 0 {
            let gone_ms = held.hold.gone_ms();
            lock.gone_ms = Some(lock.gone_ms.map_or(gone_ms, |at| at.min(gone_ms)));
        }
        lock.holds.put(held);
    }

    /// Put a lock in front of those that a session holds; says which is next.
    fn link(&mut self, id: LockId, session: SessionId) -> Option<LockId> {
        let next = self.members.entry(session).or_default().holds.replace(id);
        if let Some(held) = next.and_then(|next| self.names.lock_mut(next).holds.of_mut(session)) {
            held.prev = Some(id);
        }
        next
    }

    /// The mode of a hold that was logged anew.
    pub fn enter_mode(&mut self, id: LockId, session: SessionId, mode: Mode, count: u32) {
        let lock = self.names.lock_mut(id);
        if let Some(own) = lock.holds.of(session).copied() {
            lock.holds.put(Held { hold: Hold { mode, count, ..own.hold }, ..own });
        }
    }

    /// A hold's removal was logged. [`LockTable::settle`] is due.
    pub fn remove(&mut self, id: LockId, session: SessionId) {
        let lock = self.names.lock_mut(id);
        let Some(held) = lock.holds.take(session) else { return };
        self.held -= 1;
        if lock.holds.is_empty() {
            lock.gone_ms = None;
        }
        self.timed -= usize::from(held.timer != 0);
        let Held { prev, next, .. } = held;
        match prev.and_then(|prev| self.names.lock_mut(prev).holds.of_mut(session)) {
            Some(before) => before.next = next,
            None => {
                if let Some(member) = self.members.get_mut(&session) {
                    member.holds = next;
                }
            }
        }
        if let Some(behind) = next.and_then(|next| self.names.lock_mut(next).holds.of_mut(session)) {
            behind.prev = prev;
        }
    }

    /// The lease begins anew. Not logged: after a restart it would run for its whole length anyway.
    pub fn renew(
        &mut self,
        id: LockId,
        session: SessionId,
        token: Option<FencingToken>,
        now_ms: u64,
    ) -> Result<FencingToken, LockError> {
        self.own(id, session, token)?;
        let own = &mut self.names.lock_mut(id).holds.of_mut(session).expect("found above").hold;
        if !own.is_running(now_ms) {
            return Err(LockError::Expired);
        }
        if let Some(lease) = own.lease_ms {
            own.until_ms = own.until_ms.max(now_ms.saturating_add(lease));
        }
        Ok(own.token)
    }

    // -- the line

    pub fn waiting(&self) -> usize {
        self.waiters.count()
    }

    /// Stand in line, as [`Decision::Wait`] said.
    pub fn stand_in_line(&mut self, id: LockId, wanted: Wanted<R>, now_ms: u64) {
        let Wanted { ask, until_ms, id: asked, reply } = wanted;
        let waiter = Waiter { ask, since_ms: now_ms, until_ms, id: asked, reply };
        let lock = self.names.lock_mut(id);
        // A second upgrade of the same session, while the first waits for room in the log, stands in line like any other.
        let upgrade = ask.mode == Mode::Exclusive && lock.holds.of(ask.session).is_some() && lock.upgrade.is_none();
        let member = self.members.entry(ask.session).or_default();
        let line = (!upgrade).then_some(&mut lock.line);
        let (at, ticket) = self.waiters.add(id, waiter, line, &mut member.waits);
        if upgrade {
            lock.upgrade = Some(at);
        }
        lock.waiting += 1;
        if lock.waiting == 1 {
            self.contended.insert(id);
        }
        let part = self.parts.entry((ask.session, id));
        part.or_insert(Part { began: ticket, since_ms: now_ms, waits: 0 }).waits += 1;
        if until_ms != u64::MAX {
            self.timed += 1;
            self.add_timer(until_ms, Timer::Wait { waiter: at, ticket });
        }
    }

    /// Take somebody out of the line, wherever it stands. [`LockTable::settle`] is due.
    pub fn leave_line(&mut self, at: WaiterId) -> Waiter<R> {
        let id = self.waiters.lock_of(at);
        let session = self.waiters.get(at).ask.session;
        let lock = self.names.lock_mut(id);
        let line = if lock.upgrade == Some(at) {
            lock.upgrade = None;
            None
        } else {
            Some(&mut lock.line)
        };
        lock.waiting -= 1;
        if lock.waiting == 0 {
            self.contended.remove(&id);
        }
        let member = self.members.get_mut(&session).expect("who waits is known");
        let waiter = self.waiters.remove(at, line, &mut member.waits);
        self.timed -= usize::from(waiter.until_ms != u64::MAX);
        let part = self.parts.get_mut(&(session, id)).expect("who waits is known");
        part.waits -= 1;
        if part.waits == 0 {
            self.parts.remove(&(session, id));
        }
        waiter
    }

    /// Whose wait can be taken back by this name.
    pub fn asked(&self, id: LockId, session: SessionId, ask: AskId) -> Option<WaiterId> {
        self.waiters.asked(session, ask).filter(|at| self.waiters.lock_of(*at) == id)
    }

    /// One of those who wait for anything.
    pub fn any_waiter(&self) -> Option<(LockId, WaiterId)> {
        let id = *self.contended.first()?;
        self.names.lock(id).front().map(|at| (id, at))
    }

    // -- time and sessions

    fn add_timer(&mut self, at_ms: u64, timer: Timer) {
        self.timers.add(at_ms, timer);
        let (names, waiters) = (&self.names, &self.waiters);
        self.timers.sweep(self.timed, |timer| match timer {
            // One that is being entered is not there yet: it has the largest number.
            Timer::Lease { lock, session, timer } => {
                *timer + 1 == self.next_timer || timer_of(names, *lock, *session) == Some(*timer)
            }
            Timer::Wait { waiter, ticket } => waiters.stands(*waiter, *ticket),
        });
    }

    /// When [`LockTable::due`] has something, at the earliest.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.timers.next_ms()
    }

    /// One thing whose time has come.
    pub fn due(&mut self, now_ms: u64) -> Option<Due<R>> {
        while let Some(timer) = self.timers.pop_due(now_ms) {
            match timer {
                Timer::Lease { lock, session, timer } => {
                    if timer_of(&self.names, lock, session) != Some(timer) {
                        continue;
                    }
                    let held = self.names.lock_mut(lock).holds.of_mut(session).expect("it has a timer");
                    match held.hold.gone_ms() {
                        at if at <= now_ms => {
                            // Should it stay for now, it is looked at by name.
                            held.timer = 0;
                            self.timed -= 1;
                            return Some(Due::Name(lock));
                        }
                        u64::MAX => {
                            held.timer = 0;
                            self.timed -= 1;
                        }
                        // It was renewed meanwhile.
                        at => self.timers.add(at, Timer::Lease { lock, session, timer }),
                    }
                }
                Timer::Wait { waiter, ticket } => {
                    if self.waiters.stands(waiter, ticket) {
                        let lock = self.waiters.lock_of(waiter);
                        return Some(Due::TimedOut(lock, self.leave_line(waiter)));
                    }
                }
            }
        }
        None
    }

    /// One name that a session holds.
    pub fn held_by(&self, session: SessionId) -> Option<LockId> {
        self.members.get(&session)?.holds
    }

    /// One name for which a session waits, and its place there.
    pub fn waited_by(&self, session: SessionId) -> Option<(LockId, WaiterId)> {
        let first = self.members.get(&session)?.waits.first?;
        Some((self.waiters.lock_of(first), first))
    }

    /// A session that has ended, and has nothing here any more.
    pub fn forget_session(&mut self, session: SessionId) {
        if let Some(member) = self.members.remove(&session) {
            assert!(member.holds.is_none() && member.waits.first.is_none(), "a session that ended holds nothing");
        }
    }

    pub fn token_of(&self, id: LockId, session: SessionId) -> Option<FencingToken> {
        self.names.lock(id).holds.of(session).map(|held| held.hold.token)
    }
}

fn timer_of(names: &Names<Lock>, id: LockId, session: SessionId) -> Option<u64> {
    names.get(id)?.holds.of(session).map(|held| held.timer)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
