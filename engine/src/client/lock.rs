//! Sessions, locks and guarded writes, as threads and tasks use them.

use std::sync::Arc;
use std::time::Duration;

use super::write::{submit, write_all};
use super::{Client, WriteOptions};
use crate::error::{Error, Result};
use crate::format::hold::{SESSIONS, StoredSession, place_of, session_key};
use crate::ids::{CommitTs, FencingToken, SessionId, ShardId};
use crate::lock::deadlock::WaitAt;
use crate::lock::sessions::{LockLost, SessionInfo};
use crate::lock::table::{Ask, Edge, LockInfo};
use crate::lock::{AskId, Grant, Guard, Mode, SessionKey, check_lease, check_mode, check_name};
use crate::options::Durability;
use crate::pending::{Completer, Helper, Pending, pending};
use crate::shard::{LockRequest, Released, Request, ShardHandle, Tx, Wait};
use crate::value::WriteBatch;

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
                return finish(&client, Err(error));
            }
            let everywhere =
                client.on_every_shard(|reply| Request::Lock(LockRequest::EndSession { session: id, reply }));
            everywhere.on_ready(move |ended| finish(&client, ended));
        });
        answer
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

    /// Who waits for whom, shard by shard.
    pub(crate) fn edges(&self) -> Pending<Vec<(WaitAt, Edge)>> {
        let lists = self.ask_every_shard(|reply| Request::Lock(LockRequest::Edges { reply }));
        let lists = self.shared.shards.iter().zip(lists).map(|(handle, edges)| {
            let shard = handle.view.id;
            edges.then(move |edges| {
                let place = |(name, edge): (Box<[u8]>, Edge)| (WaitAt { shard, name, ticket: edge.ticket }, edge);
                Ok(edges.into_iter().map(place).collect::<Vec<_>>())
            })
        });
        Pending::all(lists.collect()).then(|lists| Ok(lists.into_iter().flatten().collect()))
    }

    /// End a wait that is part of a circle.
    pub(crate) fn give_way(&self, wait: WaitAt, cycle: Vec<SessionId>) -> Pending<()> {
        let WaitAt { name, ticket, .. } = wait;
        self.ask_lock(&name, |name, reply| LockRequest::GiveWay { name, ticket, cycle, reply })
    }

    /// Have `listener` told of each hold that ends because its lease or its session has ended. It is called on shards' threads
    /// and must be quick.
    pub fn on_lock_lost(&self, listener: impl Fn(&LockLost) + Send + Sync + 'static) {
        self.shared.sessions.listen(Box::new(listener));
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
        let checked = self.check_lock(name, acquire.session).and_then(|()| check_mode(acquire.mode)).and(lease);
        let lease_ms = match checked {
            Ok(lease_ms) => lease_ms,
            Err(error) => return Pending::ready(Err(error)),
        };
        let ask = Ask { session: acquire.session.id, mode: acquire.mode, lease_ms };
        let (wait, level) = (acquire.wait, acquire.durability.unwrap_or(Durability::Sync));
        if level != Durability::Sync
            && let Err(error) = self
                .shared
                .sessions
                .longest_ms(ask.session, lease_ms)
                .map_or(Ok(()), |ms| self.shared.root.promise_unsynced(ms))
        {
            return Pending::ready(Err(error));
        }
        self.ask_lock(name, |name, reply| LockRequest::Acquire { name, ask, wait, level, id, reply })
    }

    pub fn release(&self, lock: LockHandle<'_>, durability: Option<Durability>) -> Pending<Released> {
        let (session, token, level) = (lock.session.id, lock.token, self.level_of(durability));
        match self.check_lock(lock.name, lock.session) {
            Ok(()) => {
                self.ask_lock(lock.name, |name, reply| LockRequest::Release { name, session, token, level, reply })
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// From exclusive to shared, without letting go.
    pub fn downgrade(&self, lock: LockHandle<'_>, durability: Option<Durability>) -> Pending<Grant> {
        let (session, token, level) = (lock.session.id, lock.token, self.level_of(durability));
        match self.check_lock(lock.name, lock.session) {
            Ok(()) => {
                self.ask_lock(lock.name, |name, reply| LockRequest::Downgrade { name, session, token, level, reply })
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// The lease begins anew.
    pub fn renew(&self, lock: LockHandle<'_>) -> Pending<FencingToken> {
        let (session, token) = (lock.session.id, lock.token);
        match self.check_lock(lock.name, lock.session) {
            Ok(()) => self.ask_lock(lock.name, |name, reply| LockRequest::Renew { name, session, token, reply }),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// Who holds a lock and who waits for it; `None` if nobody does.
    pub fn lock_info(&self, name: &[u8]) -> Pending<Option<LockInfo>> {
        match self.check_open().and_then(|()| check_name(name)) {
            Ok(()) => self.ask_lock(name, |name, reply| LockRequest::Info { name, reply }),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// All locks that are held or waited for, by name. The shards are looked at one after the other.
    pub fn locks(&self) -> Pending<Vec<LockInfo>> {
        let lists = self.ask_every_shard(|reply| Request::Lock(LockRequest::List { reply }));
        Pending::all(lists).then(|lists: Vec<Vec<LockInfo>>| {
            let mut all: Vec<LockInfo> = lists.into_iter().flatten().collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(all)
        })
    }

    /// The shard that keeps a lock; the one of its name's key, but for names with stray braces.
    pub fn shard_of_lock(&self, name: &[u8]) -> ShardId {
        self.shard_of(&place_of(name))
    }

    // -- guarded writes

    /// As [`Client::run`], but only if every guard's token holds its lock, with a running lease, at the moment at which the
    /// step takes effect.
    pub fn run_guarded<T: Send + 'static>(
        &self,
        key: &[u8],
        guards: Vec<Guard>,
        options: WriteOptions,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        self.run_commit_guarded(key, guards, options, f, |value, _| value)
    }

    /// As [`Client::run_guarded`]; `finish` is given the commit too.
    pub fn run_commit_guarded<T: Send + 'static, U: Send + 'static>(
        &self,
        key: &[u8],
        guards: Vec<Guard>,
        options: WriteOptions,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        finish: impl FnOnce(T, CommitTs) -> U + Send + 'static,
    ) -> Pending<U> {
        let checked = self.check_open().and_then(|()| guards.iter().try_for_each(|guard| check_name(&guard.name)));
        let checked = checked.and_then(|()| crate::shard::tx::check_sizes(key, 0));
        if let Err(error) = checked.and_then(|()| self.check_session(options)) {
            return Pending::ready(Err(error));
        }
        let (request, answer) = self.program(key, options, f, finish);
        self.attempt(Guarded { target: self.shard_of(key), guards, request });
        answer
    }

    /// As [`Client::write_batch`], if every guard holds. An empty batch has nothing to guard.
    pub fn write_batch_guarded(
        &self,
        batch: WriteBatch,
        guards: Vec<Guard>,
        options: WriteOptions,
    ) -> Pending<CommitTs> {
        let key = match (self.check_batch(&batch), batch.ops.first()) {
            (Err(error), _) => return Pending::ready(Err(error)),
            (Ok(_), None) => return Pending::ready(Ok(CommitTs::ZERO)),
            (Ok(_), Some(first)) => first.key().to_vec(),
        };
        let all = move |tx: &mut Tx<'_>| write_all(tx, &batch, options.owner());
        self.run_commit_guarded(&key, guards, options, all, |(), commit| commit)
    }

    /// Take the shards of the keys and of the guards together, in their order, and execute if all is well. No thread waits for a
    /// shard while it holds a higher one.
    fn attempt(&self, guarded: Guarded) {
        let Guarded { target, guards, request } = guarded;
        let mut places: Vec<ShardId> = guards.iter().map(|guard| self.shard_of_lock(&guard.name)).collect();
        places.push(target);
        places.sort_unstable();
        places.dedup();
        let shards: Vec<&Arc<ShardHandle>> = places.iter().map(|shard| &self.shared.shards[shard.index()]).collect();
        let place_in = |shard: ShardId| places.binary_search(&shard).expect("it was put in above");
        let left = ShardHandle::with_cores(&shards, |cores| {
            for guard in &guards {
                if let Err(error) = cores[place_in(self.shard_of_lock(&guard.name))].check_guard(guard) {
                    // Told once the shards are free.
                    return Some((request, Some(error)));
                }
            }
            cores[place_in(target)].execute_if_accepted(request).err().map(|request| (request, None))
        });
        match left {
            None => {}
            Some((request, Some(error))) => request.refuse(error),
            Some((request, None)) => {
                // The shard waits for room; come back behind what it has taken before.
                let (completer, answer) = pending(None::<Arc<dyn Helper>>);
                submit(&self.shared.shards[target.index()], Request::Fence { reply: completer });
                let client = self.clone();
                answer.on_ready(move |done| match done {
                    Ok(()) => client.attempt(Guarded { target, guards, request }),
                    Err(error) => request.refuse(error),
                });
            }
        }
    }

    // -- within

    fn check_lock(&self, name: &[u8], session: SessionKey) -> Result<()> {
        self.check_open()?;
        check_name(name)?;
        self.shared.sessions.check(session, self.now_ms()).map_err(Error::Lock)
    }

    pub(super) fn level_of(&self, durability: Option<Durability>) -> Durability {
        durability.unwrap_or(self.shared.durability)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.clock.monotonic_ms()
    }

    fn ask_lock<T>(&self, name: &[u8], make: impl FnOnce(Box<[u8]>, Completer<T>) -> LockRequest) -> Pending<T> {
        let handle = &self.shared.shards[self.shard_of_lock(name).index()];
        let (completer, answer) = pending(Some(Arc::clone(handle) as Arc<dyn Helper>));
        submit(handle, Request::Lock(make(name.into(), completer)));
        answer
    }
}

struct Guarded {
    target: ShardId,
    guards: Vec<Guard>,
    request: Request,
}
