//! The locks of one shard: holds, and those who wait in line.
//!
//! Guards: modes are compatible among the running holds of a name; a line is served from its front; each hold and each waiter
//! has a deadline or lives by its session; nothing is left of a name that nobody holds or wants.
//! Does not: log. A decision is asked for, logged by the caller, and then entered; in between nobody else may ask.

use std::collections::{BTreeMap, HashMap};

use super::timers::Timers;
use super::{Guard, LockError, Mode, margin_ms};
use crate::ids::{FencingToken, SessionId};

/// A place in line; ascends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// What one session holds of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    pub session: SessionId,
    pub mode: Mode,
    pub count: u32,
    pub token: FencingToken,
    /// `None`: as long as the session.
    pub lease_ms: Option<u64>,
    /// When the lease ends; `u64::MAX` if only with the session.
    pub until_ms: u64,
    pub since_unix_ms: u64,
}

impl Hold {
    fn is_running(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }

    /// When somebody else may be served.
    fn gone_ms(&self) -> u64 {
        self.lease_ms.map_or(u64::MAX, |lease| self.until_ms.saturating_add(margin_ms(lease)))
    }
}

/// A hold to be logged and entered; it gets its token from the log unless it has one already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewHold {
    pub session: SessionId,
    pub mode: Mode,
    pub count: u32,
    pub token: Option<FencingToken>,
    pub lease_ms: Option<u64>,
    pub since_unix_ms: u64,
}

/// What somebody asks of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    pub session: SessionId,
    pub mode: Mode,
    pub lease_ms: Option<u64>,
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

pub struct Waiter<R> {
    pub ask: Ask,
    pub upgrade: bool,
    pub since_ms: u64,
    /// `u64::MAX`: as long as its session.
    pub until_ms: u64,
    pub reply: R,
}

struct Lock<R> {
    /// By session.
    holds: Vec<Hold>,
    /// How many of them are shared.
    shared: usize,
    /// Permits that they have taken together.
    units: u64,
    /// The one shared holder that waits to be alone.
    upgrade: Option<(Ticket, Waiter<R>)>,
    line: BTreeMap<Ticket, Waiter<R>>,
}

impl<R> Default for Lock<R> {
    fn default() -> Lock<R> {
        Lock { holds: Vec::new(), shared: 0, units: 0, upgrade: None, line: BTreeMap::new() }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Lease(Box<[u8]>, SessionId),
    Wait(Box<[u8]>, Ticket),
}

/// What a timer was for, if it still stands.
pub enum Due<R> {
    /// Holds of this name are past their margin; see [`LockTable::gone`].
    Name(Box<[u8]>),
    /// A waiter's time is up; it was taken out of the line. Who stood behind it may be served.
    TimedOut(Box<[u8]>, Waiter<R>),
}

/// One side of a lock's inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInfo {
    pub name: Vec<u8>,
    pub holds: Vec<Hold>,
    pub waiting: Vec<WaitInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitInfo {
    pub session: SessionId,
    pub mode: Mode,
    pub waited_ms: u64,
}

/// A waiter and one whom it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edge {
    pub waiter: SessionId,
    pub since_ms: u64,
    pub ticket: Ticket,
    pub blocker: SessionId,
}

/// What one session has to do with one name.
#[derive(Default)]
struct Part {
    holds: bool,
    waits: Vec<Ticket>,
}

pub struct LockTable<R> {
    locks: HashMap<Box<[u8]>, Lock<R>>,
    /// Names in which a session has a hold or waits.
    sessions: HashMap<SessionId, HashMap<Box<[u8]>, Part>>,
    timers: Timers<Timer>,
    next_ticket: u64,
    waiting: usize,
}

impl<R> Default for LockTable<R> {
    fn default() -> LockTable<R> {
        LockTable {
            locks: HashMap::new(),
            sessions: HashMap::new(),
            timers: Timers::default(),
            next_ticket: 0,
            waiting: 0,
        }
    }
}

impl<R> Lock<R> {
    fn of(&self, session: SessionId) -> Option<&Hold> {
        self.holds.binary_search_by_key(&session, |hold| hold.session).ok().map(|at| &self.holds[at])
    }

    fn of_mut(&mut self, session: SessionId) -> Option<&mut Hold> {
        self.holds.binary_search_by_key(&session, |hold| hold.session).ok().map(|at| &mut self.holds[at])
    }

    /// Put in, replace or take out a session's hold.
    fn set(&mut self, session: SessionId, new: Option<Hold>) -> Option<Hold> {
        let at = self.holds.binary_search_by_key(&session, |hold| hold.session);
        let old = match (at, new) {
            (Ok(at), Some(new)) => Some(std::mem::replace(&mut self.holds[at], new)),
            (Ok(at), None) => Some(self.holds.remove(at)),
            (Err(at), Some(new)) => {
                self.holds.insert(at, new);
                None
            }
            (Err(_), None) => None,
        };
        for (hold, sign) in old.iter().map(|hold| (hold, false)).chain(new.iter().map(|hold| (hold, true))) {
            let (shared, units) = match hold.mode {
                Mode::Exclusive => (0, 0),
                Mode::Shared => (1, 0),
                Mode::Semaphore { units, .. } => (0, u64::from(units)),
            };
            if sign {
                (self.shared, self.units) = (self.shared + shared, self.units + units);
            } else {
                (self.shared, self.units) = (self.shared - shared, self.units - units);
            }
        }
        old
    }

    /// Whether the others leave room for this mode.
    fn admits(&self, ask: &Ask) -> bool {
        let own = self.of(ask.session);
        let others = self.holds.len() - usize::from(own.is_some());
        let own_mode = own.map(|own| own.mode);
        match ask.mode {
            Mode::Exclusive => others == 0,
            Mode::Shared => others == self.shared - usize::from(own_mode == Some(Mode::Shared)),
            Mode::Semaphore { permits, units } => {
                let semaphores = self.holds.first().is_none_or(|hold| matches!(hold.mode, Mode::Semaphore { .. }));
                semaphores && self.units + u64::from(units) <= u64::from(permits)
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.holds.is_empty() && self.line.is_empty() && self.upgrade.is_none()
    }

    fn other_permits(&self, mode: Mode) -> Option<u32> {
        let Mode::Semaphore { permits: asked, .. } = mode else { return None };
        // Holders and the line's end agree with all others already.
        let last = self.line.values().next_back().map(|waiter| waiter.ask.mode);
        self.holds.first().map(|hold| hold.mode).into_iter().chain(last).find_map(|mode| match mode {
            Mode::Semaphore { permits, .. } if permits != asked => Some(permits),
            _ => None,
        })
    }
}

impl Mode {
    /// Whether who holds `self` need not change to have `asked` as well.
    fn covers(self, asked: Mode) -> bool {
        self == asked || (self == Mode::Exclusive && asked == Mode::Shared)
    }
}

impl<R> LockTable<R> {
    // -- deciding: nothing changes

    /// What would come of asking now.
    pub fn decide(&self, name: &[u8], ask: &Ask, now_ms: u64, unix_ms: u64) -> Result<Decision, LockError> {
        let fresh = NewHold {
            session: ask.session,
            mode: ask.mode,
            count: 1,
            token: None,
            lease_ms: ask.lease_ms,
            since_unix_ms: unix_ms,
        };
        let Some(lock) = self.locks.get(name) else { return Ok(Decision::Grant(fresh)) };
        if let Some(own) = lock.of(ask.session) {
            if !own.is_running(now_ms) {
                return Err(LockError::Expired);
            }
            if own.mode.covers(ask.mode) {
                let again = NewHold {
                    mode: own.mode,
                    count: own.count.saturating_add(1),
                    token: Some(own.token),
                    lease_ms: own.lease_ms,
                    since_unix_ms: own.since_unix_ms,
                    ..fresh
                };
                return Ok(Decision::Grant(again));
            }
            if own.mode != Mode::Shared || ask.mode != Mode::Exclusive {
                return Err(match own.mode {
                    Mode::Semaphore { permits, .. } => LockError::OtherPermits { permits },
                    Mode::Exclusive | Mode::Shared => LockError::Held,
                });
            }
            if lock.admits(ask) {
                return Ok(Decision::Grant(NewHold { count: own.count.saturating_add(1), ..fresh }));
            }
            return match &lock.upgrade {
                // Each keeps its share until it has the whole.
                Some((_, other)) => Err(LockError::Deadlock { cycle: vec![ask.session, other.ask.session] }),
                None => Ok(Decision::Wait),
            };
        }
        if let Some(permits) = lock.other_permits(ask.mode) {
            return Err(LockError::OtherPermits { permits });
        }
        let first = lock.line.is_empty() && lock.upgrade.is_none();
        Ok(if first && lock.admits(ask) { Decision::Grant(fresh) } else { Decision::Wait })
    }

    /// Who is to be served next of those who wait for `name`, if it can be now.
    pub fn next_to_serve(&self, name: &[u8], unix_ms: u64) -> Option<(Ticket, NewHold)> {
        let lock = self.locks.get(name)?;
        let (ticket, waiter) = match &lock.upgrade {
            Some((ticket, waiter)) => (ticket, waiter),
            None => lock.line.first_key_value()?,
        };
        // A waiter whose session holds the lock by now counts up.
        let own = lock.of(waiter.ask.session);
        let admitted = own.is_some_and(|own| own.mode.covers(waiter.ask.mode)) || lock.admits(&waiter.ask);
        let hold = NewHold {
            session: waiter.ask.session,
            mode: own.filter(|own| own.mode.covers(waiter.ask.mode)).map_or(waiter.ask.mode, |own| own.mode),
            count: own.map_or(1, |own| own.count.saturating_add(1)),
            token: own.filter(|own| own.mode.covers(waiter.ask.mode)).map(|own| own.token),
            lease_ms: waiter.ask.lease_ms,
            since_unix_ms: unix_ms,
        };
        admitted.then_some((*ticket, hold))
    }

    /// What a release would leave.
    pub fn decide_release(
        &self,
        name: &[u8],
        session: SessionId,
        token: Option<FencingToken>,
        now_ms: u64,
    ) -> Result<Release, LockError> {
        let own = self.own(name, session, token)?;
        if !own.is_running(now_ms) {
            return Ok(Release::Expired);
        }
        Ok(match own.count {
            0 | 1 => Release::Gone,
            count => Release::Counted(NewHold { count: count - 1, ..kept(own) }),
        })
    }

    /// An exclusive hold as a shared one, with its token.
    pub fn decide_downgrade(
        &self,
        name: &[u8],
        session: SessionId,
        token: Option<FencingToken>,
        now_ms: u64,
    ) -> Result<NewHold, LockError> {
        let own = self.own(name, session, token)?;
        match own.mode {
            _ if !own.is_running(now_ms) => Err(LockError::Expired),
            Mode::Exclusive | Mode::Shared => Ok(NewHold { mode: Mode::Shared, ..kept(own) }),
            Mode::Semaphore { permits, .. } => Err(LockError::OtherPermits { permits }),
        }
    }

    fn own(&self, name: &[u8], session: SessionId, token: Option<FencingToken>) -> Result<&Hold, LockError> {
        let own = self.locks.get(name).and_then(|lock| lock.of(session)).ok_or(LockError::NotHeld)?;
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
        let running = |hold: &&Hold| hold.is_running(now_ms) && is_live(hold.session);
        let holds = self.locks.get(guard.name.as_slice()).map_or(&[][..], |lock| &lock.holds);
        if holds.iter().filter(running).any(|hold| hold.token == guard.token) {
            return Ok(());
        }
        let current = holds.iter().filter(running).map(|hold| hold.token).max();
        Err(LockError::Fenced { token: guard.token, current })
    }

    /// Sessions whose holds of `name` are past lease and margin.
    pub fn gone(&self, name: &[u8], now_ms: u64) -> Vec<SessionId> {
        let holds = self.locks.get(name).map_or(&[][..], |lock| &lock.holds);
        holds.iter().filter(|hold| hold.gone_ms() <= now_ms).map(|hold| hold.session).collect()
    }

    // -- entering what was decided and logged

    /// A hold that was logged with `token`. Its lease begins now.
    pub fn enter(&mut self, name: &[u8], new: NewHold, token: FencingToken, now_ms: u64) {
        let hold = Hold {
            session: new.session,
            mode: new.mode,
            count: new.count,
            token,
            lease_ms: new.lease_ms,
            until_ms: new.lease_ms.map_or(u64::MAX, |lease| now_ms.saturating_add(lease)),
            since_unix_ms: new.since_unix_ms,
        };
        let key: Box<[u8]> = name.into();
        let lock = self.locks.entry(key.clone()).or_default();
        let own = lock.of(new.session).copied();
        // Nothing shortens what was promised.
        let until_ms = own.map_or(hold.until_ms, |own| hold.until_ms.max(own.until_ms));
        lock.set(new.session, Some(Hold { until_ms, ..hold }));
        if hold.lease_ms.is_some() && own.is_none_or(|own| own.lease_ms.is_none()) {
            self.timers.add(hold.gone_ms(), Timer::Lease(key.clone(), new.session));
        }
        self.sessions.entry(new.session).or_default().entry(key).or_default().holds = true;
    }

    /// The mode of a hold that was logged anew.
    pub fn enter_mode(&mut self, name: &[u8], session: SessionId, mode: Mode, count: u32) {
        if let Some(lock) = self.locks.get_mut(name)
            && let Some(own) = lock.of(session).copied()
        {
            lock.set(session, Some(Hold { mode, count, ..own }));
        }
    }

    /// A hold's removal was logged.
    pub fn remove(&mut self, name: &[u8], session: SessionId) {
        if let Some(lock) = self.locks.get_mut(name) {
            lock.set(session, None);
        }
        self.forget(name, session, |part| part.holds = false);
    }

    /// The lease begins anew. Not logged: after a restart it would run for its whole length anyway.
    pub fn renew(
        &mut self,
        name: &[u8],
        session: SessionId,
        token: Option<FencingToken>,
        now_ms: u64,
    ) -> Result<FencingToken, LockError> {
        self.own(name, session, token)?;
        let own = self.locks.get_mut(name).and_then(|lock| lock.of_mut(session)).expect("found above");
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
        self.waiting
    }

    pub fn names(&self) -> usize {
        self.locks.len()
    }

    /// Stand in line, as [`Decision::Wait`] said.
    pub fn stand_in_line(&mut self, name: &[u8], ask: Ask, now_ms: u64, until_ms: u64, reply: R) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let key: Box<[u8]> = name.into();
        let lock = self.locks.entry(key.clone()).or_default();
        // A second upgrade of the same session, while the first waits for room in the log, stands in line like any other.
        let upgrade = ask.mode == Mode::Exclusive && lock.of(ask.session).is_some() && lock.upgrade.is_none();
        let waiter = Waiter { ask, upgrade, since_ms: now_ms, until_ms, reply };
        if upgrade {
            lock.upgrade = Some((ticket, waiter));
        } else {
            lock.line.insert(ticket, waiter);
        }
        if until_ms != u64::MAX {
            self.timers.add(until_ms, Timer::Wait(key.clone(), ticket));
        }
        self.sessions.entry(ask.session).or_default().entry(key).or_default().waits.push(ticket);
        self.waiting += 1;
        ticket
    }

    /// Take somebody out of the line, wherever it stands.
    pub fn leave_line(&mut self, name: &[u8], ticket: Ticket) -> Option<Waiter<R>> {
        let lock = self.locks.get_mut(name)?;
        let waiter = match lock.upgrade.take_if(|(own, _)| *own == ticket) {
            Some((_, waiter)) => waiter,
            None => lock.line.remove(&ticket)?,
        };
        self.waiting -= 1;
        self.forget(name, waiter.ask.session, |part| part.waits.retain(|own| *own != ticket));
        Some(waiter)
    }

    /// Take out of the line what a session waits for with such a reply.
    pub fn leave_where(&mut self, name: &[u8], session: SessionId, is_it: impl Fn(&R) -> bool) -> Option<Waiter<R>> {
        let waits = &self.sessions.get(&session)?.get(name)?.waits;
        let lock = self.locks.get(name)?;
        let waiter = |ticket: &Ticket| match &lock.upgrade {
            Some((own, waiter)) if own == ticket => Some(waiter),
            _ => lock.line.get(ticket),
        };
        let ticket = waits.iter().copied().find(|ticket| waiter(ticket).is_some_and(|waiter| is_it(&waiter.reply)))?;
        self.leave_line(name, ticket)
    }

    /// Take the first out of the line.
    pub fn take_first(&mut self, name: &[u8]) -> Option<Waiter<R>> {
        let lock = self.locks.get(name)?;
        let ticket = lock.upgrade.as_ref().map(|(ticket, _)| *ticket).or(lock.line.keys().next().copied())?;
        self.leave_line(name, ticket)
    }

    fn forget(&mut self, name: &[u8], session: SessionId, change: impl FnOnce(&mut Part)) {
        if let Some(parts) = self.sessions.get_mut(&session)
            && let Some(part) = parts.get_mut(name)
        {
            change(part);
            if !part.holds && part.waits.is_empty() {
                parts.remove(name);
            }
            if parts.is_empty() {
                self.sessions.remove(&session);
            }
        }
        if self.locks.get(name).is_some_and(Lock::is_idle) {
            self.locks.remove(name);
        }
    }

    // -- time and sessions

    /// When [`LockTable::due`] has something, at the earliest.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.timers.next_ms()
    }

    /// One thing whose time has come.
    pub fn due(&mut self, now_ms: u64) -> Option<Due<R>> {
        while let Some(timer) = self.timers.pop_due(now_ms) {
            match timer {
                Timer::Lease(name, session) => {
                    let gone_ms = self.locks.get(&name).and_then(|lock| lock.of(session)).map(Hold::gone_ms);
                    match gone_ms {
                        Some(at) if at <= now_ms => return Some(Due::Name(name)),
                        Some(u64::MAX) | None => {}
                        // It was renewed meanwhile.
                        Some(at) => self.timers.add(at, Timer::Lease(name, session)),
                    }
                }
                Timer::Wait(name, ticket) => {
                    if let Some(waiter) = self.leave_line(&name, ticket) {
                        return Some(Due::TimedOut(name, waiter));
                    }
                }
            }
        }
        None
    }

    /// The names in which a session has a hold or waits.
    pub fn names_of(&self, session: SessionId) -> Vec<Box<[u8]>> {
        let mut names: Vec<_> = self.sessions.get(&session).into_iter().flat_map(HashMap::keys).cloned().collect();
        // The order decides what is logged when.
        names.sort_unstable();
        names
    }

    pub fn holds(&self, name: &[u8], session: SessionId) -> bool {
        self.locks.get(name).is_some_and(|lock| lock.of(session).is_some())
    }

    pub fn token_of(&self, name: &[u8], session: SessionId) -> Option<FencingToken> {
        self.locks.get(name).and_then(|lock| lock.of(session)).map(|hold| hold.token)
    }

    /// Take all waits of a session out of the line of `name`.
    pub fn leave_all(&mut self, name: &[u8], session: SessionId) -> Vec<Waiter<R>> {
        let part = self.sessions.get(&session).and_then(|parts| parts.get(name));
        let tickets = part.map(|part| part.waits.clone()).unwrap_or_default();
        tickets.into_iter().filter_map(|ticket| self.leave_line(name, ticket)).collect()
    }

    // -- looking

    pub fn info(&self, name: &[u8], now_ms: u64, waiting_max: usize) -> Option<LockInfo> {
        let lock = self.locks.get(name)?;
        let waiters = lock.upgrade.iter().map(|(_, waiter)| waiter).chain(lock.line.values());
        let waiting = waiters
            .take(waiting_max)
            .map(|waiter| WaitInfo {
                session: waiter.ask.session,
                mode: waiter.ask.mode,
                waited_ms: now_ms.saturating_sub(waiter.since_ms),
            })
            .collect();
        Some(LockInfo { name: name.to_vec(), holds: lock.holds.clone(), waiting })
    }

    /// All names that are held or wanted, sorted.
    pub fn all_names(&self) -> Vec<Box<[u8]>> {
        let mut names: Vec<_> = self.locks.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Who waits for whom: each waiter for the holders that do not admit it and for the nearest before it in line that must
    /// have had its turn first.
    pub fn edges(&self, out: &mut Vec<(Box<[u8]>, Edge)>) {
        let mut names: Vec<&Box<[u8]>> = self
            .locks
            .iter()
            .filter(|(_, lock)| lock.upgrade.is_some() || !lock.line.is_empty())
            .map(|(n, _)| n)
            .collect();
        names.sort_unstable();
        for name in names {
            let lock = &self.locks[name];
            let waiters = lock.upgrade.iter().map(|(ticket, waiter)| (ticket, waiter)).chain(&lock.line);
            // The nearest before, and the nearest that is not shared.
            let (mut last, mut last_alone) = (None::<&Ask>, None::<&Ask>);
            for (ticket, waiter) in waiters {
                let ask = &waiter.ask;
                let mut edge = |blocker: SessionId| {
                    if blocker != ask.session {
                        let edge = Edge { waiter: ask.session, since_ms: waiter.since_ms, ticket: *ticket, blocker };
                        out.push((name.clone(), edge));
                    }
                };
                lock.holds.iter().filter(|hold| !agree(hold.mode, ask.mode)).for_each(|hold| edge(hold.session));
                let nearest = if ask.mode == Mode::Shared { last_alone } else { last };
                nearest.into_iter().for_each(|blocker| edge(blocker.session));
                last = Some(ask);
                if ask.mode != Mode::Shared {
                    last_alone = Some(ask);
                }
            }
        }
    }
}

/// Whether two holds of these modes never exclude each other.
fn agree(a: Mode, b: Mode) -> bool {
    a == Mode::Shared && b == Mode::Shared
}

/// A hold as it would be logged without a change.
fn kept(own: &Hold) -> NewHold {
    NewHold {
        session: own.session,
        mode: own.mode,
        count: own.count,
        token: Some(own.token),
        lease_ms: own.lease_ms,
        since_unix_ms: own.since_unix_ms,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
