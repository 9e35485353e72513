//! Sessions and locks, as threads and tasks use them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::write::submit;
use super::{Client, WriteOptions};
use crate::error::{Error, Result};
use crate::format::hold::{SESSIONS, StoredSession, session_key, token_of_place};
use crate::ids::{FencingToken, SessionId, ShardId};
use crate::lock::deadlock::{Blocked, WaitAt};
use crate::lock::look::{LockInfo, Page};
use crate::lock::sessions::{LockLost, SessionInfo};
use crate::lock::table::Ask;
use crate::lock::{AskId, Grant, Mode, SessionKey, check_lease, check_mode, check_name, longest_ms};
use crate::options::Durability;
use crate::pending::{Completer, Helper, Pending, pending};
use crate::shard::{InPlace, LockRequest, NameFilter, Released, Request, ShardCore, ShardHandle, Wait};

/// Holders and waiters that [`Client::lock_info`] tells of.
const SHOWN_MAX: usize = 1000;
/// Sessions that run out together end so many at a time.
const ENDS_MAX: usize = 256;
/// Labels are for people.
const LABEL_MAX: usize = 256;

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// It ends when it was not kept alive for so long.
    pub ttl: Duration,
    /// Shown to people who look at locks.
    pub label: Vec<u8>,
}

/// A lock to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Acquire {
    pub session: SessionKey,
    pub mode: Mode,
    pub wait: Wait,
    /// `None`: as long as the session lives.
    pub lease: Option<Duration>,
    /// `None`: durable before it is answered, whatever the engine's level. Below that, a crash of the machine may lose the grant, and
    /// the next opening waits for as long as it could still run before it grants anything.
    pub durability: Option<Durability>,
}

/// A session's hold of a lock, to be released, renewed or changed.
#[derive(Clone, Copy, Debug)]
pub struct LockHandle<'a> {
    pub name: &'a [u8],
    pub session: SessionKey,
    /// `None`: whatever the session holds by this name.
    pub token: Option<FencingToken>,
}

/// Where a look at all locks goes on. It is shown and read back as a number; the first is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LockCursor(pub u64);

impl LockCursor {
    fn new(shard: usize, place: u32) -> LockCursor {
        LockCursor((shard as u64) << 32 | u64::from(place))
    }

    fn shard(self) -> usize {
        (self.0 >> 32) as usize
    }

    fn place(self) -> u32 {
        self.0 as u32
    }
}

/// What a look at all locks is for.
#[derive(Clone)]
pub struct LockFilter {
    /// Names for which this says yes. It is called on shards' threads and must be quick.
    pub matches: NameFilter,
    /// Locks in one answer.
    pub at_most: usize,
    /// Holders and waiters told of each.
    pub shown_max: usize,
}

impl Client {
    // -- sessions

    /// Answered when the session is durable, whatever the engine's level: locks of it outlive a restart, as it does.
    pub fn create_session(&self, new: NewSession) -> Pending<SessionKey> {
        let ttl_ms = match self.check_open().and_then(|()| check_lease("a session's time to live", new.ttl)) {
            Ok(ttl_ms) if new.label.len() <= LABEL_MAX => ttl_ms,
            Ok(_) => return Pending::ready(Err(Error::invalid(format!("a label has at most {LABEL_MAX} bytes")))),
            Err(error) => return Pending::ready(Err(error)),
        };
        let random = &self.shared.random;
        let secret = u128::from(random()) << 64 | u128::from(random());
        let mut id = SessionId(random());
        while self.shared.sessions.contains(id) {
            id = SessionId(random());
        }
        let key = SessionKey { id, secret };
        let stored = StoredSession { secret, ttl_ms, label: new.label.clone() }.encode();
        let options = WriteOptions { durability: Some(Durability::Sync), ..WriteOptions::default() };
        let written = self.put(SESSIONS, &session_key(key.id), &stored, options);
        let (client, label) = (self.clone(), new.label);
        written.then(move |_| {
            client.shared.sessions.add(key, ttl_ms, label, client.now_ms());
            Ok(key)
        })
    }

    /// Begin the session's time anew.
    pub fn keep_alive(&self, session: SessionKey) -> Result<()> {
        self.check_open()?;
        self.shared.sessions.keep_alive(session, self.now_ms()).map_err(Error::Lock)
    }

    /// End the session, all its holds and waits; answered when that is durable.
    pub fn end_session(&self, session: SessionKey) -> Pending<()> {
        match self.check_open().and_then(|()| self.shared.sessions.knows(session).map_err(Error::Lock)) {
            Ok(()) => self.kill_session(session.id),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// As [`Client::end_session`], by whoever may.
    pub fn kill_session(&self, id: SessionId) -> Pending<()> {
        if let Err(error) = self.check_open() {
            return Pending::ready(Err(error));
        }
        if !self.shared.sessions.begin_end(id) {
            return Pending::ready(Err(Error::Lock(crate::lock::LockError::NoSession { id })));
        }
        self.finish_session(id)
    }

    /// Carry through the end of a session, which lives no more. What cannot be done now is left to the warden.
    pub(crate) fn finish_session(&self, id: SessionId) -> Pending<()> {
        let client = self.clone();
        let erased = self.delete(SESSIONS, &session_key(id), WriteOptions::default());
        let (completer, answer) = pending(None);
        let finish = move |client: &Client, ended: Result<()>| {
            match &ended {
                Ok(()) => client.shared.sessions.remove(id),
                Err(_) => client.shared.sessions.end_later(id),
            }
            completer.complete(ended);
        };
        erased.on_ready(move |erased| {
            if let Err(error) = erased {
                // It would be there again after a restart, with its holds; but it waits no more.
                client.ask_every_shard(|reply| Request::Lock(LockRequest::LeaveLines { session: id, reply }));
                return finish(&client, Err(error));
            }
            let everywhere =
                client.on_every_shard(|reply| Request::Lock(LockRequest::EndSession { session: id, reply }));
            everywhere.on_ready(move |ended| finish(&client, ended));
        });
        answer
    }

    /// How many may end together: many cost as few flushes as one, and leave room in the inboxes for others.
    pub(crate) fn sessions_at_once(&self) -> usize {
        let inbox = self.shared.shards.first().map_or(0, |shard| shard.inbox_capacity());
        usize::try_from(inbox / 4).unwrap_or(ENDS_MAX).clamp(1, ENDS_MAX)
    }

    /// Sessions whose time is over, or whose end is not complete; they live no more.
    pub(crate) fn sessions_to_end(&self) -> Vec<SessionId> {
        self.shared.sessions.take_due(self.now_ms())
    }

    pub(crate) fn next_session_due_ms(&self) -> Option<u64> {
        self.shared.sessions.next_due_ms()
    }

    /// A session was made, or somebody begins to wait.
    pub(crate) async fn lock_stir(&self) {
        self.shared.sessions.stir.wait().await;
    }

    /// See [`crate::lock::sessions::Sessions::watch_waits`].
    pub(crate) fn watch_waits(&self, on: bool) -> bool {
        self.shared.sessions.watch_waits(on)
    }

    /// Sessions that may be part of a circle: they hold what others wait for, and wait themselves. A shard that cannot answer now is
    /// left out.
    pub(crate) async fn entangled(&self) -> Result<BTreeSet<SessionId>> {
        let mut found = BTreeSet::new();
        for handle in &self.shared.shards {
            let mut from = Some(0);
            while let Some(place) = from {
                let asked = ask_shard(handle, |reply| LockRequest::Entangled { from: place, reply });
                let Some(page) = unless_closed(asked.await)? else { break };
                found.extend(page.found);
                from = page.next;
            }
        }
        Ok(found)
    }

    /// What such sessions wait for, shard by shard. A shard that cannot answer now is left out: what waits there keeps nobody stuck.
    pub(crate) async fn blocked(&self, entangled: BTreeSet<SessionId>) -> Result<Vec<(ShardId, Blocked)>> {
        let entangled = Arc::new(entangled);
        let mut all = Vec::new();
        for handle in &self.shared.shards {
            let entangled = Arc::clone(&entangled);
            let asked = ask_shard(handle, |reply| LockRequest::Blocked { entangled, reply });
            let blocked = unless_closed(asked.await)?.unwrap_or_default();
            all.extend(blocked.into_iter().map(|blocked| (handle.view.id, blocked)));
        }
        Ok(all)
    }

    /// End a wait that is part of a circle. Tells for which name it was, if it still stood and could be ended.
    pub(crate) async fn give_way(&self, wait: WaitAt, cycle: Vec<SessionId>) -> Result<Option<Vec<u8>>> {
        let handle = &self.shared.shards[wait.shard.index()];
        let asked = ask_shard(handle, |reply| LockRequest::GiveWay { part: wait.part, cycle, reply });
        Ok(unless_closed(asked.await)?.flatten())
    }

    /// Have `listener` told of each hold that ends because its lease or its session has ended. It is called on shards' threads
    /// and must be quick.
    pub fn on_lock_lost(&self, listener: impl Fn(&LockLost) + Send + Sync + 'static) {
        self.shared.sessions.listen(Box::new(listener));
    }

    /// The next hold that the session lost, since the first call of this or of [`Client::on_loss_ready`]: its lease ran out, or the
    /// session ended. Waited for up to `at_most` in this thread, which must not be a shard's own; `None`: there was none in time.
    /// Once the session has ended, all its holds have, and the answer is [`crate::lock::LockError::NoSession`].
    pub fn take_loss(&self, session: SessionKey, at_most: Option<Duration>) -> Result<Option<LockLost>> {
        self.check_open()?;
        self.shared.sessions.with_losses(session, |losses| losses.take(at_most)).map_err(Error::Lock)?
    }

    /// Have `notify` called once, when [`Client::take_loss`] has something to say: now, if it is so already. One waits at a time: who
    /// asked before is dropped. It may be called on a shard's thread, must be quick, and calls nothing of the engine.
    pub fn on_loss_ready(&self, session: SessionKey, notify: impl FnOnce() + Send + 'static) -> Result<()> {
        self.check_open()?;
        self.shared.sessions.with_losses(session, |losses| losses.on_ready(Box::new(notify))).map_err(Error::Lock)
    }

    /// As [`Client::on_loss_ready`], for tasks.
    pub fn loss_ready(&self, session: SessionKey) -> Pending<()> {
        let (completer, answer) = pending(None);
        match self.on_loss_ready(session, move || completer.complete(Ok(()))) {
            Ok(()) => answer,
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.shared.sessions.count()
    }

    /// All sessions that live.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.sessions.list(self.now_ms())
    }

    pub fn session(&self, id: SessionId) -> Option<SessionInfo> {
        self.shared.sessions.info(id, self.now_ms())
    }

    // -- locks

    /// Answered when the lock is granted and that is durable, or when it is clear that it will not be.
    pub fn acquire(&self, name: &[u8], acquire: Acquire) -> Pending<Grant> {
        self.ask_for(name, acquire, None)
    }

    /// As [`Client::acquire`]; the wait can be ended by [`Client::cancel`].
    pub fn acquire_as(&self, id: AskId, name: &[u8], acquire: Acquire) -> Pending<Grant> {
        self.ask_for(name, acquire, Some(id))
    }

    /// End a wait: it is answered `TimedOut`. False if it did not wait, because it was answered or is about to be: who wants
    /// no trace of it looks at that answer, and releases what it granted.
    pub fn cancel(&self, id: AskId, name: &[u8], session: SessionId) -> Pending<bool> {
        match self.check_open().and_then(|()| check_name(name)) {
            Ok(()) => self.ask_lock(name, |name, reply| LockRequest::Cancel { name, session, id, reply }),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    fn ask_for(&self, name: &[u8], acquire: Acquire, id: Option<AskId>) -> Pending<Grant> {
        let lease = acquire.lease.map(|lease| check_lease("a lease", lease)).transpose();
        let checked = self.check_lock(name, acquire.session);
        let checked = checked.and_then(|ttl_ms| check_mode(acquire.mode).and(lease).map(|lease_ms| (ttl_ms, lease_ms)));
        let (ttl_ms, lease_ms) = match checked {
            Ok(checked) => checked,
            Err(error) => return Pending::ready(Err(error)),
        };
        let ask = Ask { session: acquire.session.id, mode: acquire.mode, lease_ms };
        let (wait, level) = (acquire.wait, acquire.durability.unwrap_or(Durability::Sync));
        let handle = self.handle_of_lock(name);
        if level != Durability::Sync {
            if let Err(error) = self.shared.root.promise_unsynced(longest_ms(ttl_ms, lease_ms)) {
                return Pending::ready(Err(error));
            }
            let in_place = self.in_place(handle, |core, later| core.acquire_in_place(name, &ask, level, later));
            if let Some(answer) = in_place {
                return answer;
            }
        }
        self.ask_lock(name, |name, reply| LockRequest::Acquire { name, ask, wait, level, id, reply })
    }

    pub fn release(&self, lock: LockHandle<'_>, durability: Option<Durability>) -> Pending<Released> {
        let (session, token, level) = (lock.session.id, lock.token, self.level_of(durability));
        if let Err(error) = self.check_lock(lock.name, lock.session) {
            return Pending::ready(Err(error));
        }
        if level != Durability::Sync {
            let handle = self.handle_of_lock(lock.name);
            let name = lock.name;
            let in_place =
                self.in_place(handle, |core, later| core.release_in_place(name, session, token, level, later));
            if let Some(answer) = in_place {
                return answer;
            }
        }
        self.ask_lock(lock.name, |name, reply| LockRequest::Release { name, session, token, level, reply })
    }

    /// From exclusive to shared, without letting go.
    pub fn downgrade(&self, lock: LockHandle<'_>, durability: Option<Durability>) -> Pending<Grant> {
        let (session, token, level) = (lock.session.id, lock.token, self.level_of(durability));
        match self.check_lock(lock.name, lock.session) {
            Ok(_) => {
                self.ask_lock(lock.name, |name, reply| LockRequest::Downgrade { name, session, token, level, reply })
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// The lease begins anew.
    pub fn renew(&self, lock: LockHandle<'_>) -> Pending<FencingToken> {
        let (session, token) = (lock.session.id, lock.token);
        match self.check_lock(lock.name, lock.session) {
            Ok(_) => self.ask_lock(lock.name, |name, reply| LockRequest::Renew { name, session, token, reply }),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// Who holds a lock and who waits for it, a thousand of each at most; `None` if nobody does.
    pub fn lock_info(&self, name: &[u8]) -> Pending<Option<LockInfo>> {
        self.lock_info_of(name, SHOWN_MAX)
    }

    /// As [`Client::lock_info`], with so many holders and waiters at most.
    pub fn lock_info_of(&self, name: &[u8], shown_max: usize) -> Pending<Option<LockInfo>> {
        match self.check_open().and_then(|()| check_name(name)) {
            Ok(()) => self.ask_lock(name, |name, reply| LockRequest::Info { name, shown_max, reply }),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// Some of the locks that are held or waited for, in no order, and where to go on; no more, then, if there is none. A lock
    /// that is there all the while is found exactly once. An answer may be empty and not the last.
    pub fn locks(&self, from: LockCursor, filter: LockFilter) -> Pending<(Vec<LockInfo>, Option<LockCursor>)> {
        let (shard, place) = (from.shard(), from.place());
        let handle = match (self.check_open(), self.shared.shards.get(shard)) {
            (Err(error), _) => return Pending::ready(Err(error)),
            (Ok(()), None) => return Pending::ready(Ok((Vec::new(), None))),
            (Ok(()), Some(handle)) => handle,
        };
        let LockFilter { matches, at_most, shown_max } = filter;
        let list = |reply| LockRequest::List { from: place, at_most, shown_max, matches, reply };
        let after = (shard + 1 < self.shared.shards.len()).then(|| LockCursor::new(shard + 1, 0));
        ask_shard(handle, list)
            .then(move |Page { found, next }| Ok((found, next.map(|place| LockCursor::new(shard, place)).or(after))))
    }

    /// The shard that keeps a lock; the one of its name's key, but for names with stray braces.
    pub fn shard_of_lock(&self, name: &[u8]) -> ShardId {
        self.shared.ring.owner(token_of_place(name))
    }

    // -- within

    /// The session's time to live.
    fn check_lock(&self, name: &[u8], session: SessionKey) -> Result<u64> {
        self.check_open()?;
        check_name(name)?;
        self.shared.sessions.check(session, self.now_ms()).map_err(Error::Lock)
    }

    fn handle_of_lock(&self, name: &[u8]) -> &Arc<ShardHandle> {
        &self.shared.shards[self.shard_of_lock(name).index()]
    }

    /// Try to have something done to a lock in this thread. `None`: nothing was done.
    fn in_place<T>(
        &self,
        handle: &Arc<ShardHandle>,
        step: impl FnOnce(&mut ShardCore, &mut dyn FnMut() -> Completer<T>) -> InPlace<T>,
    ) -> Option<Pending<T>> {
        let mut answer = None;
        let mut later = || {
            let (completer, pending) = pending(Some(Arc::clone(handle) as Arc<dyn Helper>));
            answer = Some(pending);
            completer
        };
        match handle.in_place(|core| step(core, &mut later))? {
            InPlace::Done(done) => Some(Pending::ready(Ok(done))),
            InPlace::Later => answer,
            InPlace::Not => None,
        }
    }

    pub(super) fn level_of(&self, durability: Option<Durability>) -> Durability {
        durability.unwrap_or(self.shared.durability)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.clock.monotonic_ms()
    }

    fn ask_lock<T>(&self, name: &[u8], make: impl FnOnce(Box<[u8]>, Completer<T>) -> LockRequest) -> Pending<T> {
        ask_shard(self.handle_of_lock(name), |reply| make(name.into(), reply))
    }
}

/// An answer; none from a shard that has no room now or has stopped. An error: the engine closes.
fn unless_closed<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::Closed) => Err(Error::Closed),
        Err(_) => Ok(None),
    }
}

fn ask_shard<T>(handle: &Arc<ShardHandle>, make: impl FnOnce(Completer<T>) -> LockRequest) -> Pending<T> {
    let (completer, answer) = pending(Some(Arc::clone(handle) as Arc<dyn Helper>));
    submit(handle, Request::Lock(make(completer)));
    answer
}
