//! Which connections have to do with which lock sessions.
//!
//! Guards: a session that is bound to a connection is ended when its grace is over, unless somebody kept it alive meanwhile;
//! who uses a session by RESP3 is told of the locks it loses.
//! Does not: keep bound sessions alive; the keeper of the connection's shard does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corering_engine::{AskId, LockLost, SessionId};
use parking_lot::Mutex;

use super::registry::ClientInfo;
use crate::resp::{Protocol, Reply};

#[derive(Default)]
pub struct Lockers {
    users: Mutex<HashMap<SessionId, Vec<Arc<ClientInfo>>>>,
    /// The connection that each bound session lives by: the last one that bound it.
    owners: Mutex<HashMap<SessionId, u64>>,
    /// Sessions whose connection has gone, each with the number of that event.
    orphans: Mutex<HashMap<SessionId, u64>>,
    last_number: AtomicU64,
}

impl Lockers {
    /// A number that was not given before.
    pub fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn next_ask(&self) -> AskId {
        AskId(self.next_number())
    }

    pub fn begin_use(&self, session: SessionId, client: &Arc<ClientInfo>) {
        self.users.lock().entry(session).or_default().push(Arc::clone(client));
    }

    pub fn end_use(&self, session: SessionId, client: &ClientInfo) {
        let mut users = self.users.lock();
        if let Some(clients) = users.get_mut(&session) {
            clients.retain(|other| other.id != client.id);
            if clients.is_empty() {
                users.remove(&session);
            }
        }
    }

    pub fn own(&self, session: SessionId, client: u64) {
        self.adopt(session);
        self.owners.lock().insert(session, client);
    }

    /// The connection ends; whether the session lived by it.
    pub fn disown(&self, session: SessionId, client: u64) -> bool {
        let mut owners = self.owners.lock();
        let is_owner = owners.get(&session) == Some(&client);
        if is_owner {
            owners.remove(&session);
        }
        is_owner
    }

    /// Its connection has gone.
    pub fn orphan(&self, session: SessionId) -> u64 {
        let number = self.next_number();
        self.orphans.lock().insert(session, number);
        number
    }

    /// Somebody keeps it alive again.
    pub fn adopt(&self, session: SessionId) {
        self.orphans.lock().remove(&session);
    }

    /// Whether nobody has adopted it since; it is an orphan no more.
    pub fn give_up(&self, session: SessionId, number: u64) -> bool {
        let mut orphans = self.orphans.lock();
        let is_same = orphans.get(&session) == Some(&number);
        if is_same {
            orphans.remove(&session);
        }
        is_same
    }

    pub fn tell_lost(&self, lost: &LockLost) {
        let users = self.users.lock();
        for client in users.get(&lost.session).into_iter().flatten() {
            if client.protocol() == Protocol::Resp3 {
                client.mailbox.put(push_lost(lost));
            }
        }
    }
}

fn push_lost(lost: &LockLost) -> Arc<[u8]> {
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&mut bytes, Protocol::Resp3);
    reply.push(3);
    reply.bulk(b"lock-lost");
    reply.bulk(&lost.name);
    reply.integer(i64::try_from(lost.token.0).unwrap_or(i64::MAX));
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_session_lives_by_the_last_connection_that_bound_it() {
        let lockers = Lockers::default();
        let id = SessionId(7);
        lockers.own(id, 1);
        lockers.own(id, 2);
        assert!(!lockers.disown(id, 1));
        assert!(lockers.disown(id, 2));
        assert!(!lockers.disown(id, 2));
    }

    #[test]
    fn an_orphan_is_given_up_once_and_only_if_nobody_took_it() {
        let lockers = Lockers::default();
        let id = SessionId(7);
        let first = lockers.orphan(id);
        lockers.adopt(id);
        assert!(!lockers.give_up(id, first));
        let second = lockers.orphan(id);
        assert!(!lockers.give_up(id, first), "that was another time");
        assert!(lockers.give_up(id, second));
        assert!(!lockers.give_up(id, second));
    }
}
