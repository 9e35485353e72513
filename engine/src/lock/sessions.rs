//! Who may hold locks: sessions, each alive until a time that only its owner moves.
//!
//! Guards: a session that has ended or run out is never alive again; whoever names a session must know its secret.
//! Does not: store sessions or end their holds; whoever finds one due does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::losses::Losses;
use super::table::BySession;
use super::timers::Timers;
use super::{LockError, SessionKey, margin_ms};
use crate::error::Error;
use crate::event::Event;
use crate::ids::{FencingToken, SessionId};

/// The deadline of a session that was ended.
const ENDED: u64 = 0;
/// That of one which ends when its time is over, and does not live until then.
const LOST: u64 = 1;

struct Session {
    secret: u128,
    ttl_ms: u64,
    label: Vec<u8>,
    deadline_ms: AtomicU64,
    /// How often it stands in line, anywhere.
    waits: AtomicU32,
    losses: Losses,
}

/// A session, to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    pub id: SessionId,
    pub label: Vec<u8>,
    pub ttl_ms: u64,
    /// Until it runs out, if it is not kept alive.
    pub left_ms: u64,
}

/// A hold that ended without its session's asking: its lease ran out, or the session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockLost {
    pub name: Vec<u8>,
    pub session: SessionId,
    pub token: FencingToken,
}

type Listener = Box<dyn Fn(&LockLost) + Send + Sync>;

/// All sessions of an open engine.
#[derive(Default)]
pub struct Sessions {
    all: RwLock<BySession<Arc<Session>>>,
    /// How many stand in line, anywhere.
    waits: AtomicUsize,
    /// Somebody will look at the waits without being told.
    watched: AtomicBool,
    /// One for each session; moved on when it fires and the session was kept alive meanwhile.
    timers: Mutex<Timers<SessionId>>,
    /// Ended, but not yet everywhere.
    unfinished: Mutex<Vec<SessionId>>,
    /// There is something new to look after.
    pub stir: Event,
    /// Whom to tell of holds that were lost.
    listeners: RwLock<Vec<Listener>>,
}

impl Sessions {
    /// A session begins to live, for its whole time.
    pub fn add(&self, key: SessionKey, ttl_ms: u64, label: Vec<u8>, now_ms: u64) {
        self.insert(key, ttl_ms, label, now_ms, now_ms.saturating_add(ttl_ms));
    }

    /// One that may have been told of locks that are lost: what it held it holds for its whole time, and nobody uses it any more.
    pub fn add_lost(&self, key: SessionKey, ttl_ms: u64, label: Vec<u8>, now_ms: u64) {
        self.insert(key, ttl_ms, label, now_ms, LOST);
    }

    fn insert(&self, key: SessionKey, ttl_ms: u64, label: Vec<u8>, now_ms: u64, deadline_ms: u64) {
        let session = Session {
            secret: key.secret,
            ttl_ms,
            label,
            deadline_ms: AtomicU64::new(deadline_ms),
            waits: 0.into(),
            losses: Losses::default(),
        };
        let sessions = {
            let mut all = self.all.write();
            all.insert(key.id, Arc::new(session));
            all.len()
        };
        let mut timers = self.timers.lock();
        timers.add(now_ms.saturating_add(ttl_ms) + margin_ms(ttl_ms), key.id);
        timers.sweep(sessions, |id| self.contains(*id));
        drop(timers);
        self.stir.set();
    }

    pub fn is_live(&self, id: SessionId, now_ms: u64) -> bool {
        self.all.read().get(&id).is_some_and(|session| session.lives(now_ms))
    }

    pub fn contains(&self, id: SessionId) -> bool {
        self.all.read().contains_key(&id)
    }

    fn with<T>(&self, key: SessionKey, look: impl FnOnce(&Session) -> T) -> Result<T, LockError> {
        let all = self.all.read();
        let session = all.get(&key.id).ok_or(LockError::NoSession { id: key.id })?;
        if session.secret == key.secret { Ok(look(session)) } else { Err(LockError::WrongSecret { id: key.id }) }
    }

    /// The session lives and this is its secret; gives its time to live.
    pub fn check(&self, key: SessionKey, now_ms: u64) -> Result<u64, LockError> {
        let looked = |session: &Session| session.lives(now_ms).then_some(session.ttl_ms);
        self.with(key, looked)?.ok_or(LockError::NoSession { id: key.id })
    }

    /// Begin its time anew. A session that has run out stays so.
    pub fn keep_alive(&self, key: SessionKey, now_ms: u64) -> Result<(), LockError> {
        let moved = self.with(key, |session| {
            let longer =
                |deadline: u64| runs(deadline, now_ms).then(|| deadline.max(now_ms.saturating_add(session.ttl_ms)));
            session.deadline_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, longer)
        })?;
        moved.map(drop).map_err(|_| LockError::NoSession { id: key.id })
    }

    /// Whether this is the session's secret; it may have run out already.
    pub fn knows(&self, key: SessionKey) -> Result<(), LockError> {
        self.with(key, |_| ())
    }

    /// From now on it lives no more. False: it did not, or somebody else has ended it.
    pub fn begin_end(&self, id: SessionId) -> bool {
        let all = self.all.read();
        all.get(&id).is_some_and(|session| session.deadline_ms.swap(ENDED, Ordering::AcqRel) != ENDED)
    }

    /// Its end is complete everywhere.
    pub fn remove(&self, id: SessionId) {
        let removed = self.all.write().remove(&id);
        if let Some(session) = removed {
            session.losses.end(Error::Lock(LockError::NoSession { id }));
        }
    }

    /// The end of a session could not be completed; it is due again.
    pub fn end_later(&self, id: SessionId) {
        self.unfinished.lock().push(id);
        self.stir.set();
    }

    /// Sessions past their time and margin, which end now, and those whose end was not completed. Each is given once.
    pub fn take_due(&self, now_ms: u64) -> Vec<SessionId> {
        let mut due = std::mem::take(&mut *self.unfinished.lock());
        let mut timers = self.timers.lock();
        while let Some(id) = timers.pop_due(now_ms) {
            let Some(session) = self.all.read().get(&id).cloned() else { continue };
            match session.deadline_ms.load(Ordering::Acquire) {
                ENDED => {}
                deadline if deadline + margin_ms(session.ttl_ms) <= now_ms => {
                    if self.begin_end(id) {
                        due.push(id);
                    }
                }
                deadline => timers.add(deadline + margin_ms(session.ttl_ms), id),
            }
        }
        due
    }

    /// How many there are, those included that have run out and were not yet ended.
    pub fn count(&self) -> usize {
        self.all.read().len()
    }

    /// A session stands in line once more.
    pub fn begin_wait(&self, id: SessionId) {
        if let Some(session) = self.all.read().get(&id) {
            session.waits.fetch_add(1, Ordering::Relaxed);
        }
        self.waits.fetch_add(1, Ordering::SeqCst);
        if !self.watched.load(Ordering::SeqCst) {
            self.stir.set();
        }
    }

    /// It left a line.
    pub fn end_wait(&self, id: SessionId) {
        if let Some(session) = self.all.read().get(&id) {
            session.waits.fetch_sub(1, Ordering::Relaxed);
        }
        self.waits.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether anybody waits. While waits are watched, who begins to wait stirs nobody.
    pub fn watch_waits(&self, on: bool) -> bool {
        self.watched.store(on, Ordering::SeqCst);
        self.waits.load(Ordering::SeqCst) > 0
    }

    /// Which sessions wait, anywhere.
    pub fn waiting(&self) -> Waiting<'_> {
        Waiting { all: self.all.read() }
    }

    pub fn next_due_ms(&self) -> Option<u64> {
        self.timers.lock().next_ms()
    }

    pub fn listen(&self, listener: Listener) {
        self.listeners.write().push(listener);
    }

    pub fn tell_lost(&self, lost: &LockLost) {
        self.listeners.read().iter().for_each(|listener| listener(lost));
        if let Some(session) = self.get(lost.session) {
            session.losses.add(lost);
        }
    }

    /// Do something with what a session lost. It is there as long as the end of the session is not complete.
    pub fn with_losses<T>(&self, key: SessionKey, look: impl FnOnce(&Losses) -> T) -> Result<T, LockError> {
        self.knows(key)?;
        let session = self.get(key.id).ok_or(LockError::NoSession { id: key.id })?;
        // Without a lock of this table: it may wait, and it runs code of whoever asks.
        Ok(look(&session.losses))
    }

    /// The engine closes: nobody waits for a loss any more.
    pub fn close_losses(&self) {
        let all: Vec<Arc<Session>> = self.all.read().values().cloned().collect();
        all.iter().for_each(|session| session.losses.end(Error::Closed));
    }

    fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        self.all.read().get(&id).cloned()
    }

    /// All that live, by number.
    pub fn list(&self, now_ms: u64) -> Vec<SessionInfo> {
        let all = self.all.read();
        let mut list: Vec<SessionInfo> = all.iter().filter_map(|(id, session)| session.info(*id, now_ms)).collect();
        list.sort_unstable_by_key(|info| info.id);
        list
    }

    pub fn info(&self, id: SessionId, now_ms: u64) -> Option<SessionInfo> {
        self.all.read().get(&id).and_then(|session| session.info(id, now_ms))
    }
}

/// While it lives, no session is added or removed.
pub struct Waiting<'a> {
    all: RwLockReadGuard<'a, BySession<Arc<Session>>>,
}

impl Waiting<'_> {
    pub fn contains(&self, id: SessionId) -> bool {
        self.all.get(&id).is_some_and(|session| session.waits.load(Ordering::Relaxed) > 0)
    }
}

/// Whether a session of this deadline lives.
fn runs(deadline_ms: u64, now_ms: u64) -> bool {
    deadline_ms > LOST && now_ms < deadline_ms
}

impl Session {
    fn lives(&self, now_ms: u64) -> bool {
        runs(self.deadline_ms.load(Ordering::Acquire), now_ms)
    }

    fn info(&self, id: SessionId, now_ms: u64) -> Option<SessionInfo> {
        let left_ms = self.deadline_ms.load(Ordering::Acquire).saturating_sub(now_ms);
        self.lives(now_ms).then(|| SessionInfo { id, label: self.label.clone(), ttl_ms: self.ttl_ms, left_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_run_out_or_ended_lives_no_more() {
        let sessions = Sessions::default();
        let key = SessionKey { id: SessionId(1), secret: 7 };
        sessions.add(key, 1000, b"me".to_vec(), 100);
        assert_eq!(sessions.next_due_ms(), Some(1150));
        assert_eq!(sessions.check(SessionKey { secret: 8, ..key }, 100), Err(LockError::WrongSecret { id: key.id }));
        sessions.keep_alive(key, 1099).unwrap();
        assert!(sessions.take_due(1150).is_empty(), "it was kept alive");
        assert!(sessions.is_live(key.id, 2098) && !sessions.is_live(key.id, 2099));
        let gone = Err(LockError::NoSession { id: key.id });
        assert_eq!(sessions.keep_alive(key, 2099), gone);
        assert_eq!(sessions.check(key, 2098), Ok(1000));
        assert_eq!(sessions.check(key, 2099), Err(LockError::NoSession { id: key.id }));
        assert!(sessions.take_due(2148).is_empty(), "the margin");
        assert_eq!(sessions.take_due(2149), [key.id]);
        assert!(!sessions.begin_end(key.id), "it was ended");
        sessions.end_later(key.id);
        assert_eq!(sessions.take_due(0), [key.id]);
        assert_eq!(sessions.keep_alive(key, 0), gone);
        sessions.remove(key.id);
        assert!(!sessions.contains(key.id));
    }

    #[test]
    fn a_lost_session_stands_until_its_time_is_over_and_nobody_uses_it() {
        let sessions = Sessions::default();
        let key = SessionKey { id: SessionId(1), secret: 7 };
        sessions.add_lost(key, 1000, Vec::new(), 100);
        assert!(!sessions.is_live(key.id, 0), "also before the first millisecond of the clock");
        assert!(!sessions.is_live(key.id, 100) && sessions.contains(key.id));
        assert_eq!(sessions.keep_alive(key, 100), Err(LockError::NoSession { id: key.id }));
        assert_eq!(sessions.check(key, 100), Err(LockError::NoSession { id: key.id }));
        assert!(sessions.list(100).is_empty());
        assert!(sessions.take_due(1149).is_empty(), "its holds stand until nobody can believe in them");
        assert_eq!(sessions.take_due(1150), [key.id]);
        assert!(sessions.take_due(5000).is_empty());
    }
}
