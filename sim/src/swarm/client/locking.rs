//! Sessions and locks, and writes under their tokens: each answer shown to what the world knows of them.

use std::time::Duration;

use corering_engine::{
    Acquire, AskId, Durability, Error, Expiry, FencingToken, Grant, Guard, Keyspace, Kind, LockError, LockHandle, Mode,
    NewSession, SessionId, SessionKey, TransactionOptions, Wait,
};

use super::Hands;
use crate::swarm::locks::{Belief, NAMES};
use crate::swarm::model::number_of;
use crate::swarm::world::Outcome;

/// Where the registers of the locks are.
const REGISTERS: Keyspace = Keyspace(3);
const TTLS_MS: [u64; 4] = [60, 500, 5_000, 60_000];
/// Who waits as long as its session lives, waits no longer than this.
const PATIENT_MS_MAX: u64 = 5_000;
const PERMITS: u32 = 3;

/// What became of a request about a session or a lock.
pub(super) enum Answer<T> {
    Done(T),
    Said(LockError),
    /// A fault or a limit came between; it may have been done.
    Unclear,
}

/// Beside the lock, or wherever its key falls.
fn register_of(name: usize) -> Vec<u8> {
    let lock = String::from_utf8_lossy(NAMES[name]);
    if name.is_multiple_of(2) { format!("{{{lock}}}register") } else { format!("register of {lock}") }.into_bytes()
}

impl Hands {
    pub(super) fn judge_lock<T>(&self, what: &str, result: Result<T, Error>) -> Result<Answer<T>, String> {
        match result {
            Err(Error::Lock(said)) => Ok(Answer::Said(said)),
            other => match self.world.judge(what, other)? {
                Outcome::Done(done) => Ok(Answer::Done(done)),
                Outcome::Refused | Outcome::Unknown => Ok(Answer::Unclear),
            },
        }
    }

    /// A refusal that is not to be explained.
    fn wrong<T>(&self, what: &str, said: &LockError) -> Result<T, String> {
        Err(format!("{what} at {}: {said}; {:?}", self.world.now_ms(), self.world.locks.borrow()))
    }

    /// The engine knows a session no more: its owner cannot have counted on it.
    pub(super) fn no_session(&mut self, what: &str, id: SessionId) -> Result<(), String> {
        if !self.world.locks.borrow().may_be_over(id, self.world.now_ms()) {
            return self.wrong(what, &LockError::NoSession { id });
        }
        self.give_up(id);
        Ok(())
    }

    fn give_up(&mut self, id: SessionId) {
        self.world.locks.borrow_mut().forget(id);
        self.sessions.retain(|session| session.id != id);
    }

    // -- sessions

    pub(super) async fn session_act(&mut self) -> Result<(), String> {
        if self.sessions.is_empty() || self.rng.one_in(5) {
            return self.new_session().await;
        }
        let session = *self.rng.pick(&self.sessions);
        if self.rng.one_in(5) { self.end_session(session).await } else { self.keep_alive(session) }
    }

    /// One of an earlier life, or a new one.
    async fn new_session(&mut self) -> Result<(), String> {
        let free = self.world.locks.borrow().free();
        if !free.is_empty() && self.rng.coin() {
            let earlier = self.rng.pick(&free).key;
            return self.keep_alive(earlier);
        }
        let ttl_ms = *self.rng.pick(&TTLS_MS);
        let asked_ms = self.world.now_ms();
        let made = self.client.create_session(NewSession { ttl: Duration::from_millis(ttl_ms), label: Vec::new() });
        let made = self.answer(made).await;
        if let Answer::Done(key) = self.judge_lock("create_session", made)? {
            self.world.locks.borrow_mut().made(key, ttl_ms, asked_ms);
            self.sessions.push(key);
        }
        Ok(())
    }

    fn keep_alive(&mut self, session: SessionKey) -> Result<(), String> {
        let asked_ms = self.world.now_ms();
        match self.judge_lock("keep_alive", self.client.keep_alive(session))? {
            Answer::Done(()) => {
                self.world.locks.borrow_mut().kept_alive(session.id, asked_ms);
                if !self.sessions.contains(&session) {
                    self.world.account.borrow_mut().act("session taken up after a death");
                    self.sessions.push(session);
                }
                Ok(())
            }
            Answer::Said(LockError::NoSession { id }) => self.no_session("keep_alive", id),
            Answer::Said(said) => self.wrong("keep_alive", &said),
            Answer::Unclear => Ok(()),
        }
    }

    async fn end_session(&mut self, session: SessionKey) -> Result<(), String> {
        let may_be_over = self.world.locks.borrow().may_be_over(session.id, self.world.now_ms());
        self.give_up(session.id);
        let ended = self.client.end_session(session);
        let ended = self.answer(ended).await;
        match self.judge_lock("end_session", ended)? {
            Answer::Done(()) => {
                self.world.locks.borrow_mut().end_answered(session.id);
                Ok(())
            }
            Answer::Said(LockError::NoSession { .. }) if may_be_over => Ok(()),
            Answer::Said(LockError::NoSession { .. }) if self.world.locks.borrow().known(session.id).is_none() => {
                Ok(())
            }
            Answer::Said(said) => self.wrong("end_session", &said),
            Answer::Unclear => Ok(()),
        }
    }

    /// One to work with; none if there cannot be one now.
    pub(super) async fn a_session(&mut self) -> Result<Option<SessionKey>, String> {
        if self.sessions.is_empty() {
            self.new_session().await?;
        }
        Ok(if self.sessions.is_empty() { None } else { Some(*self.rng.pick(&self.sessions)) })
    }

    // -- locks

    pub(super) async fn lock_act(&mut self) -> Result<(), String> {
        for lost in self.world.take_lost() {
            self.world.locks.borrow().lost(&lost, self.world.now_ms())?;
        }
        let held = self.world.locks.borrow().of(&self.sessions);
        if held.is_empty() || self.rng.one_in(3) {
            return self.acquire().await;
        }
        let belief = *self.rng.pick(&held);
        match self.rng.below(4) {
            0 => self.renew(belief).await,
            1 => self.downgrade(belief).await,
            _ => self.release(belief).await,
        }
    }

    fn mode(&mut self, name: usize) -> Mode {
        let is_semaphore = name + 1 == NAMES.len();
        match (is_semaphore && !self.rng.one_in(8), self.rng.coin()) {
            (true, _) => Mode::Semaphore { permits: PERMITS, units: self.rng.between(1, u64::from(PERMITS)) as u32 },
            (false, true) => Mode::Exclusive,
            (false, false) => Mode::Shared,
        }
    }

    /// The level of a step on a lock: that of locks, or one of the seed's.
    fn lock_level(&mut self) -> Option<Durability> {
        if self.rng.coin() { None } else { Some(self.level()) }
    }

    async fn acquire(&mut self) -> Result<(), String> {
        let Some(session) = self.a_session().await? else { return Ok(()) };
        let Some(known) = self.world.locks.borrow().known(session.id) else { return Ok(()) };
        let name = self.rng.index(NAMES.len());
        let mode = self.mode(name);
        let lease_ms = *self.rng.pick(&[None, None, Some(20), Some(300), Some(3_000)]);
        let wait = match self.rng.below(4) {
            0 => Wait::Ms(*self.rng.pick(&[1, 40, 1_000])),
            1 if known.ttl_ms <= PATIENT_MS_MAX => Wait::AsLongAsTheSession,
            _ => Wait::No,
        };
        let durability = self.lock_level();
        let at_sync = durability.is_none_or(|level| level == Durability::Sync);
        let had;
        let (asked_ms, before) = {
            let mut locks = self.world.locks.borrow_mut();
            if !at_sync {
                locks.asks_below_sync();
            }
            locks.changing(name, session.id, true);
            had = locks.may_hold(name, session.id);
            locks.asks(name, session.id);
            (self.world.now_ms(), locks.last_token(name))
        };
        let lease = lease_ms.map(Duration::from_millis);
        let id = AskId(self.rng.next_u64());
        let waiting = self.client.acquire_as(id, NAMES[name], Acquire { session, mode, wait, lease, durability });
        let mut cancelled = false;
        if wait != Wait::No && self.rng.one_in(4) {
            let us = *self.rng.pick(&[1, 300, 30_000]);
            self.executor.sleep(Duration::from_micros(us)).await;
            let cancel = self.client.cancel(id, NAMES[name], session.id).await;
            cancelled = matches!(self.judge_lock("cancel", cancel)?, Answer::Done(true));
        }
        let result = self.answer(waiting).await;
        let answer = self.judge_lock("acquire", result)?;
        let now_ms = self.world.now_ms();
        if !matches!(answer, Answer::Unclear) {
            let mut locks = self.world.locks.borrow_mut();
            locks.changing(name, session.id, false);
            if !had {
                locks.heard(name, session.id);
            }
        }
        match answer {
            Answer::Done(_) if cancelled => Err("a wait that was cancelled was granted".to_owned()),
            Answer::Done(Grant { token, count }) => {
                self.world.account.borrow_mut().act("grant");
                let mut belief = Belief::new(name, session.id, token.0, mode, lease_ms, asked_ms);
                belief.durable = at_sync;
                self.world.locks.borrow_mut().granted(belief, count, before, now_ms)
            }
            Answer::Said(said) => {
                self.world.account.borrow_mut().refusal("lock");
                let may_be_said = match &said {
                    // In a mode that the session's own hold does not become.
                    LockError::Held => wait == Wait::No || had,
                    LockError::NotYet { .. } => wait == Wait::No,
                    LockError::TimedOut => {
                        cancelled || matches!(wait, Wait::Ms(ms) if now_ms.saturating_sub(asked_ms) >= ms)
                    }
                    LockError::Expired => !self.world.locks.borrow().must_hold_any(name, session.id, now_ms),
                    LockError::NoSession { id } => return self.no_session("acquire", *id),
                    LockError::Deadlock { .. } => wait != Wait::No || had,
                    LockError::OtherPermits { .. } => true,
                    _ => false,
                };
                if may_be_said { Ok(()) } else { self.wrong("acquire", &said) }
            }
            Answer::Unclear => Ok(()),
        }
    }

    fn handle(belief: &Belief, sessions: &[SessionKey]) -> Option<LockHandle<'static>> {
        let session = sessions.iter().find(|session| session.id == belief.session)?;
        let token = Some(FencingToken(belief.token));
        Some(LockHandle { name: NAMES[belief.name], session: *session, token })
    }

    /// What a step on a hold may be refused with: the hold cannot have been counted on.
    fn refused_hold(&mut self, what: &str, belief: Belief, ran: bool, said: LockError) -> Result<(), String> {
        match said {
            LockError::NoSession { id } => self.no_session(what, id),
            LockError::NotHeld | LockError::Expired | LockError::WrongToken { .. } if !ran => {
                self.world.locks.borrow_mut().let_go(belief.name, belief.session);
                Ok(())
            }
            LockError::OtherPermits { .. } if matches!(belief.mode, Mode::Semaphore { .. }) => Ok(()),
            said => self.wrong(what, &said),
        }
    }

    fn runs(&self, belief: &Belief) -> bool {
        self.world.locks.borrow().must_hold(belief.name, belief.token, self.world.now_ms())
    }

    async fn renew(&mut self, belief: Belief) -> Result<(), String> {
        let Some(lock) = Hands::handle(&belief, &self.sessions) else { return Ok(()) };
        let asked_ms = self.world.now_ms();
        let renewed = self.client.renew(lock);
        let renewed = self.answer(renewed).await;
        match self.judge_lock("renew", renewed)? {
            Answer::Done(token) if token.0 != belief.token => Err(format!("renewed as {token}: {belief:?}")),
            Answer::Done(_) => {
                self.world.locks.borrow_mut().renewed(belief.name, belief.session, asked_ms);
                Ok(())
            }
            Answer::Said(said) => self.refused_hold("renew", belief, self.runs(&belief), said),
            Answer::Unclear => Ok(()),
        }
    }

    async fn downgrade(&mut self, belief: Belief) -> Result<(), String> {
        let Some(lock) = Hands::handle(&belief, &self.sessions) else { return Ok(()) };
        if !matches!(belief.mode, Mode::Semaphore { .. }) {
            self.world.locks.borrow_mut().weakens(belief.name, belief.session);
        }
        let level = self.lock_level();
        let changed = self.client.downgrade(lock, level);
        let changed = self.answer(changed).await;
        match self.judge_lock("downgrade", changed)? {
            Answer::Done(grant) if grant.token.0 != belief.token => Err(format!("downgraded to {grant:?}: {belief:?}")),
            Answer::Done(_) | Answer::Unclear => Ok(()),
            Answer::Said(said) => self.refused_hold("downgrade", belief, self.runs(&belief), said),
        }
    }

    async fn release(&mut self, belief: Belief) -> Result<(), String> {
        let Some(lock) = Hands::handle(&belief, &self.sessions) else { return Ok(()) };
        let level = self.lock_level();
        let released = self.client.release(lock, level);
        // It was sent, and may be answered by now.
        let ran = self.runs(&belief);
        self.world.locks.borrow_mut().let_go(belief.name, belief.session);
        let released = self.answer(released).await;
        match self.judge_lock("release", released)? {
            Answer::Done(released) if released.expired && ran && self.could_run(&belief) => {
                Err(format!("released as expired while it ran: {belief:?}"))
            }
            Answer::Done(_) | Answer::Unclear => Ok(()),
            Answer::Said(said) => self.refused_hold("release", belief, ran && self.could_run(&belief), said),
        }
    }

    /// Whether its time is not over, whatever else became of it.
    fn could_run(&self, belief: &Belief) -> bool {
        self.world.locks.borrow().could_run(belief, self.world.now_ms())
    }

    // -- writes under tokens

    /// Writes a token to its lock's register, under its own guard.
    pub(super) async fn guarded(&mut self) -> Result<(), String> {
        let writers = self.world.locks.borrow().writers();
        if writers.is_empty() {
            return self.lock_act().await;
        }
        // The last is more often held than others.
        let (name, token) = if self.rng.coin() { writers[writers.len() - 1] } else { *self.rng.pick(&writers) };
        let is_stale = self.world.locks.borrow().is_stale(name, token);
        let level = self.level();
        self.world.registers.borrow_mut()[name].begin(token);
        let written = if self.rng.one_in(3) {
            self.write_in_transaction(name, token, level).await
        } else {
            self.write_in_step(name, token, level).await
        };
        match self.judge_lock("a guarded write", written)? {
            Answer::Done(_) if is_stale => {
                Err(format!("a write of {token} got in behind a later grant: {:?}", self.world.locks.borrow()))
            }
            Answer::Done(before) => {
                self.world.account.borrow_mut().act("write under a token");
                self.world.registers.borrow_mut()[name].answered(token, before, level == Durability::Sync)
            }
            Answer::Said(LockError::Fenced { .. }) => {
                self.world.account.borrow_mut().refusal("fenced");
                if self.world.locks.borrow().must_hold(name, token, self.world.now_ms()) {
                    return self
                        .wrong("a guarded write", &LockError::Fenced { token: FencingToken(token), current: None });
                }
                Ok(())
            }
            Answer::Said(said) => self.wrong("a guarded write", &said),
            Answer::Unclear => Ok(()),
        }
    }

    /// Gives the token that stood there before.
    async fn write_in_step(&mut self, name: usize, token: u64, level: Durability) -> Result<u64, Error> {
        let key = register_of(name);
        let own = key.clone();
        let guards = vec![Guard { name: NAMES[name].to_vec(), token: FencingToken(token) }];
        let write = self.client.run_guarded(&key, guards, self.options(level, Expiry::NEVER), move |tx| {
            let before = tx.get(REGISTERS, &own)?.map_or(0, |value| number_of(value.bytes));
            tx.put(REGISTERS, &own, &token.to_le_bytes(), Kind::BYTES, Expiry::NEVER)?;
            Ok(before)
        });
        self.answer(write).await
    }

    async fn write_in_transaction(&mut self, name: usize, token: u64, level: Durability) -> Result<u64, Error> {
        let options = TransactionOptions { durability: Some(level), ..TransactionOptions::default() };
        let mut tx = self.client.begin(options)?;
        let key = register_of(name);
        let before = tx.get(REGISTERS, &key)?.map_or(0, |value| number_of(&value.bytes));
        tx.put(REGISTERS, &key, &token.to_le_bytes())?;
        tx.guard(Guard { name: NAMES[name].to_vec(), token: FencingToken(token) })?;
        let commit = tx.commit();
        self.answer(commit).await.map(|_| before)
    }

    // -- openings

    /// Every session, hold and register is as the world has it.
    pub async fn verify_locks(&mut self) -> Result<(), String> {
        for (name, lock) in NAMES.iter().enumerate() {
            let info = self.client.lock_info(lock).await;
            if let Outcome::Done(info) = self.world.judge("lock_info", info)? {
                self.world.locks.borrow_mut().found(name, info.as_ref(), self.world.now_ms())?;
            }
            let found = self.client.get(REGISTERS, &register_of(name)).map_err(|e| e.to_string())?;
            let found = found.map_or(0, |value| number_of(&value.bytes));
            self.world.registers.borrow_mut()[name].recovered(found)?;
        }
        let locks = self.world.locks.borrow();
        if let Some(id) = locks.must_live(self.world.now_ms()).into_iter().find(|id| self.client.session(*id).is_none())
        {
            return Err(format!("session {id} is gone: {locks:?}"));
        }
        match locks.answered_ends().find(|id| self.client.session(*id).is_some()) {
            None => Ok(()),
            Some(id) => Err(format!("session {id} is there, and its end was answered")),
        }
    }
}
