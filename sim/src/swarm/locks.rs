//! What the world outside knows of sessions and locks, and whether an answer agrees with it.
//!
//! Guards: the tokens of a name grow for ever; no two believe at once in holds that exclude each other; a session and a hold last as
//! long as their owner may count on them, over deaths too if they were durable; a token is worth nothing once somebody was told of a
//! later hold that excludes it.
//! Leaves out: the order in which a line is served.
//!
//! An owner counts from before it asked, in whole milliseconds as the engine does, so that it never believes for longer than it may.

use std::collections::{BTreeMap, BTreeSet};

use corering_engine::runtime::sim::CrashKind;
use corering_engine::{FencingToken, Hold, LockInfo, LockLost, Mode, SessionId, SessionKey};

/// The last is a semaphore, mostly.
pub const NAMES: [&[u8]; 4] = [b"lock:a", b"lock:b", b"{0}:lock", b"permits"];

/// A session, as its owner knows it.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub key: SessionKey,
    pub ttl_ms: u64,
    until_ms: u64,
    /// Of a client of this life.
    in_use: bool,
    /// A crash may have taken it, or locks that it was told of.
    doubtful: bool,
}

/// Somebody was told that it holds a lock.
#[derive(Clone, Copy, Debug)]
pub struct Belief {
    pub name: usize,
    pub session: SessionId,
    pub token: u64,
    pub mode: Mode,
    lease_ms: Option<u64>,
    /// `u64::MAX`: only with its session.
    until_ms: u64,
    /// It is on disk, and so long a lease with it.
    pub durable: bool,
    /// A crash may have taken it, since when its session was not heard of.
    doubtful: bool,
    /// A change was asked for and not answered: the token may be a later one.
    changing: bool,
}

impl Belief {
    pub fn new(
        name: usize,
        session: SessionId,
        token: u64,
        mode: Mode,
        lease_ms: Option<u64>,
        asked_ms: u64,
    ) -> Belief {
        let until_ms = lease_ms.map_or(u64::MAX, |lease| asked_ms + lease);
        Belief { name, session, token, mode, lease_ms, until_ms, durable: false, doubtful: false, changing: false }
    }

    fn is_same(&self, other: &Belief) -> bool {
        (self.name, self.session, self.token, self.until_ms) == (other.name, other.session, other.token, other.until_ms)
    }
}

/// A hold that somebody was told of, whoever has it now.
#[derive(Clone, Copy, Debug)]
struct Told {
    name: usize,
    token: u64,
    session: SessionId,
    granted: Mode,
    /// What it may have become by a downgrade.
    weakest: Mode,
}

#[derive(Clone, Default, Debug)]
pub struct Locks {
    sessions: BTreeMap<SessionId, Known>,
    /// Sessions whose end was answered.
    ended: BTreeSet<SessionId>,
    beliefs: Vec<Belief>,
    told: Vec<Told>,
    /// Requests of which their session did not hear what became.
    unheard: BTreeSet<(usize, SessionId)>,
    last_tokens: [u64; NAMES.len()],
    /// A lock was asked for below `sync`: a crash of the machine may cost sessions.
    unsynced: bool,
    /// The disk lost a write of a log in this life: what was told then may be gone after it.
    lied: bool,
}

/// Whether two sessions cannot hold a lock at once in these modes.
fn exclude(a: Mode, b: Mode) -> bool {
    match (a, b) {
        (Mode::Shared, Mode::Shared) => false,
        (Mode::Semaphore { permits, units }, Mode::Semaphore { units: more, .. }) => units + more > permits,
        _ => true,
    }
}

/// Whether all these can hold a lock at once.
fn are_compatible(modes: &[Mode]) -> bool {
    let taken: u32 = modes.iter().map(|mode| if let Mode::Semaphore { units, .. } = mode { *units } else { 0 }).sum();
    let pairs = modes.iter().enumerate().all(|(at, a)| modes[at + 1..].iter().all(|b| !exclude(*a, *b)));
    pairs && modes.iter().all(|mode| if let Mode::Semaphore { permits, .. } = mode { taken <= *permits } else { true })
}

impl Locks {
    // -- sessions

    pub fn made(&mut self, key: SessionKey, ttl_ms: u64, asked_ms: u64) {
        let known = Known { key, ttl_ms, until_ms: asked_ms + ttl_ms, in_use: true, doubtful: false };
        self.sessions.insert(key.id, known);
    }

    pub fn kept_alive(&mut self, id: SessionId, asked_ms: u64) {
        if let Some(known) = self.sessions.get_mut(&id) {
            known.until_ms = known.until_ms.max(asked_ms + known.ttl_ms);
            (known.in_use, known.doubtful) = (true, false);
        }
        // Had a crash taken what it was told of, it would not be known any more.
        self.beliefs.iter_mut().filter(|belief| belief.session == id).for_each(|belief| belief.doubtful = false);
    }

    /// Whether its owner cannot count on it any more.
    pub fn may_be_over(&self, id: SessionId, now_ms: u64) -> bool {
        self.sessions.get(&id).is_none_or(|known| known.doubtful || known.until_ms <= now_ms)
    }

    pub fn has_ended(&self, id: SessionId) -> bool {
        self.ended.contains(&id)
    }

    pub fn known(&self, id: SessionId) -> Option<Known> {
        self.sessions.get(&id).copied()
    }

    /// Sessions of earlier lives, with which nobody goes on so far.
    pub fn free(&self) -> Vec<Known> {
        self.sessions.values().filter(|known| !known.in_use).copied().collect()
    }

    /// Its owner does not count on it any more, nor on what it holds.
    pub fn forget(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        self.beliefs.retain(|belief| belief.session != id);
    }

    pub fn end_answered(&mut self, id: SessionId) {
        self.ended.insert(id);
    }

    // -- holds

    pub fn last_token(&self, name: usize) -> u64 {
        self.last_tokens[name]
    }

    pub fn asks_below_sync(&mut self) {
        self.unsynced = true;
    }

    fn until_ms(&self, belief: &Belief) -> u64 {
        belief.until_ms.min(self.sessions.get(&belief.session).map_or(0, |known| known.until_ms))
    }

    fn find(&mut self, name: usize, session: SessionId) -> Option<&mut Belief> {
        self.beliefs.iter_mut().find(|belief| belief.name == name && belief.session == session)
    }

    /// All holds that these sessions were told of.
    pub fn of(&self, sessions: &[SessionKey]) -> Vec<Belief> {
        let own = |belief: &&Belief| sessions.iter().any(|session| session.id == belief.session);
        self.beliefs.iter().filter(own).copied().collect()
    }

    /// Whether it must be there, with the token that its owner was told.
    fn runs(&self, belief: &Belief, now_ms: u64) -> bool {
        !belief.changing
            && !belief.doubtful
            && now_ms < self.until_ms(belief)
            && !self.may_be_over(belief.session, now_ms)
    }

    pub fn must_hold(&self, name: usize, token: u64, now_ms: u64) -> bool {
        self.beliefs.iter().any(|b| b.name == name && b.token == token && self.runs(b, now_ms))
    }

    /// Whether the session must hold the lock, by whatever token.
    pub fn must_hold_any(&self, name: usize, session: SessionId, now_ms: u64) -> bool {
        self.beliefs.iter().any(|b| b.name == name && b.session == session && self.runs(b, now_ms))
    }

    /// Whether the session may hold the lock already: it was told so once, or never heard what became of a request.
    pub fn may_hold(&self, name: usize, session: SessionId) -> bool {
        let told = self.told.iter().any(|told| told.name == name && told.session == session);
        told || self.unheard.contains(&(name, session))
    }

    pub fn asks(&mut self, name: usize, session: SessionId) {
        self.unheard.insert((name, session));
    }

    pub fn heard(&mut self, name: usize, session: SessionId) {
        self.unheard.remove(&(name, session));
    }

    /// Whether the time of a hold that was let go is not over.
    pub fn could_run(&self, belief: &Belief, now_ms: u64) -> bool {
        self.runs(belief, now_ms)
    }

    pub fn changing(&mut self, name: usize, session: SessionId, on: bool) {
        if let Some(belief) = self.find(name, session) {
            belief.changing = on;
        }
    }

    /// `before`: the largest token that anybody had been told of when this grant was asked for.
    pub fn granted(&mut self, mut new: Belief, count: u32, before: u64, now_ms: u64) -> Result<(), String> {
        let own = self.beliefs.iter().position(|other| other.name == new.name && other.session == new.session);
        if count == 1 && own.is_some_and(|at| self.runs(&self.beliefs[at], now_ms)) {
            return Err(format!(
                "at {now_ms} a session that holds it was granted it anew: {new:?}, {:?}",
                self.beliefs
            ));
        }
        let own = own.map(|at| self.beliefs.swap_remove(at));
        let is_new = count == 1 || own.is_some_and(|own| own.token != new.token);
        if is_new && new.token <= before {
            return Err(format!("token {} was given after {before}: {new:?}", new.token));
        }
        if let Some(own) = own.filter(|_| count > 1) {
            // Taken again: the longer lease, the stronger mode.
            if own.token == new.token {
                new.durable |= own.durable && own.until_ms >= new.until_ms;
                if own.mode == Mode::Exclusive {
                    new.mode = Mode::Exclusive;
                }
            }
            new.until_ms = new.until_ms.max(own.until_ms);
            new.lease_ms = own.lease_ms.zip(new.lease_ms).map(|(own, asked)| own.max(asked));
        }
        self.last_tokens[new.name] = self.last_tokens[new.name].max(new.token);
        if !self.told.iter().any(|told| told.name == new.name && told.token == new.token) {
            let Belief { name, token, session, mode, .. } = new;
            self.told.push(Told { name, token, session, granted: mode, weakest: mode });
        }
        let others: Vec<Belief> = self
            .beliefs
            .iter()
            .filter(|other| other.name == new.name && self.until_ms(other) > now_ms)
            .copied()
            .collect();
        let modes: Vec<Mode> = others.iter().map(|other| other.mode).chain([new.mode]).collect();
        if self.until_ms(&new) > now_ms && !are_compatible(&modes) {
            return Err(format!("at {now_ms} {new:?} was granted while others believe in {others:?}"));
        }
        self.beliefs.push(new);
        Ok(())
    }

    pub fn renewed(&mut self, name: usize, session: SessionId, asked_ms: u64) {
        if let Some(belief) = self.find(name, session)
            && let Some(lease_ms) = belief.lease_ms
        {
            belief.until_ms = belief.until_ms.max(asked_ms + lease_ms);
        }
    }

    /// A downgrade is asked for: from now on its owner counts on a share only.
    pub fn weakens(&mut self, name: usize, session: SessionId) {
        if let Some(belief) = self.find(name, session) {
            belief.mode = Mode::Shared;
        }
        let own = |told: &&mut Told| told.name == name && told.session == session;
        self.told.iter_mut().filter(own).for_each(|told| told.weakest = Mode::Shared);
    }

    /// A release is asked for: from now on its owner does not believe in it.
    pub fn let_go(&mut self, name: usize, session: SessionId) {
        self.beliefs.retain(|belief| belief.name != name || belief.session != session);
    }

    /// Tokens under which somebody may write, or once could, each with its session.
    pub fn writers(&self) -> Vec<(usize, u64)> {
        let alone = |told: &&Told| told.weakest == Mode::Exclusive;
        self.told.iter().filter(alone).map(|told| (told.name, told.token)).collect()
    }

    /// Whether somebody was told of a later hold that excludes the one of this token.
    pub fn is_stale(&self, name: usize, token: u64) -> bool {
        let Some(of) = self.told.iter().find(|told| told.name == name && told.token == token) else { return false };
        let after = self.told.iter().filter(|told| told.name == name && told.token > token);
        after.into_iter().any(|later| later.session == of.session || exclude(later.granted, of.weakest))
    }

    /// The engine says that a hold has ended by time.
    pub fn lost(&self, lost: &LockLost, now_ms: u64) -> Result<(), String> {
        let name = NAMES.iter().position(|name| *name == lost.name);
        match name.filter(|name| self.must_hold(*name, lost.token.0, now_ms)) {
            None => Ok(()),
            Some(_) => Err(format!("at {now_ms}: told to be lost while it runs: {lost:?}")),
        }
    }

    // -- lives

    /// The disk lost a write of a log.
    pub fn lied(&mut self) {
        self.lied = true;
    }

    pub fn ended(&mut self, death: Option<CrashKind>) {
        let lied = std::mem::take(&mut self.lied);
        if lied {
            self.beliefs.clear();
            // What they were told may have been before the lie, and stand.
            self.unheard.extend(self.told.drain(..).map(|told| (told.name, told.session)));
            self.ended.clear();
        }
        for known in self.sessions.values_mut() {
            known.in_use = false;
            known.doubtful |= lied || (self.unsynced && death == Some(CrashKind::Machine));
        }
        if death == Some(CrashKind::Machine) {
            self.beliefs.iter_mut().for_each(|belief| belief.doubtful |= !belief.durable);
        }
    }

    /// What was told when a call is made that promises durability of all before it.
    pub fn sync_begins(&self) -> Vec<Belief> {
        self.beliefs.clone()
    }

    pub fn synced(&mut self, told: Vec<Belief>) {
        for belief in &mut self.beliefs {
            belief.durable |= told.iter().any(|of| of.is_same(belief));
        }
    }

    /// A lock as an opening found it.
    pub fn found(&mut self, name: usize, info: Option<&LockInfo>, now_ms: u64) -> Result<(), String> {
        let holds = info.map_or(&[][..], |info| &info.holds[..]);
        for belief in self.beliefs.iter().filter(|b| b.name == name && !b.doubtful && self.until_ms(b) > now_ms) {
            let is_there = holds.iter().any(|h| h.session == belief.session && h.token >= FencingToken(belief.token));
            if !is_there {
                return Err(format!("at {now_ms} the hold {belief:?} is gone: {holds:?}"));
            }
        }
        if let Some(hold) = holds.iter().find(|hold| self.ended.contains(&hold.session)) {
            return Err(format!("{hold:?} is of a session whose end was answered"));
        }
        for belief in self.beliefs.iter_mut().filter(|belief| belief.name == name) {
            let is_same =
                |h: &&Hold| (h.session, h.token.0, h.lease_ms) == (belief.session, belief.token, belief.lease_ms);
            if holds.iter().any(|hold| is_same(&hold)) {
                (belief.durable, belief.doubtful) = (true, false);
            }
        }
        let modes: Vec<Mode> = holds.iter().map(|hold| hold.mode).collect();
        if are_compatible(&modes) { Ok(()) } else { Err(format!("holds exclude each other: {holds:?}")) }
    }

    /// Sessions that must live, whatever crash there was.
    pub fn must_live(&self, now_ms: u64) -> Vec<SessionId> {
        self.sessions.keys().copied().filter(|id| !self.may_be_over(*id, now_ms)).collect()
    }

    pub fn answered_ends(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.ended.iter().copied()
    }
}
