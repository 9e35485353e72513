//! The waits for locks that a queue has under way, so that one of them can be ended by its tag.
//!
//! Guards: a wait is found from when its request was sent until its completion is there; a request to end it is sent behind its own.
//! Does not: complete anything. A wait that was ended is answered by the engine, as every other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use crate::engine::{AskId, Client, Error, SessionId};

struct Wait {
    name: Box<[u8]>,
    session: SessionId,
}

#[derive(Default)]
pub(crate) struct Waits {
    /// By tag and number. Completions take this: it is held for moments, and never while the engine is called.
    open: Mutex<BTreeMap<(u64, u64), Wait>>,
    /// Held shared while a request is sent, and alone to end one: nobody looks for a wait whose request is not with its shard yet.
    sending: RwLock<()>,
}

impl Waits {
    fn open(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Wait>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a wait and sends its request.
    pub(crate) fn send<T>(
        &self,
        user_data: u64,
        id: AskId,
        name: &[u8],
        session: SessionId,
        send: impl FnOnce() -> T,
    ) -> T {
        let _sending = self.sending.read().unwrap_or_else(PoisonError::into_inner);
        self.open().insert((user_data, id.0), Wait { name: name.into(), session });
        send()
    }

    /// It is answered.
    pub(crate) fn remove(&self, user_data: u64, id: AskId) {
        self.open().remove(&(user_data, id.0));
    }

    /// Asks for the end of all waits with this tag; false if there are none. What is refused may be asked for again.
    pub(crate) fn cancel(&self, client: &Client, user_data: u64) -> Result<bool, Error> {
        let _alone = self.sending.write().unwrap_or_else(PoisonError::into_inner);
        let of_tag = (user_data, 0)..=(user_data, u64::MAX);
        let found: Vec<_> =
            self.open().range(of_tag).map(|((_, id), wait)| (AskId(*id), wait.name.clone(), wait.session)).collect();
        for (id, name, session) in &found {
            let ended = client.cancel(*id, name, *session);
            // What is known at once is that the shard did not take the request, or has done it.
            if ended.is_ready() {
                ended.wait()?;
            }
        }
        Ok(!found.is_empty())
    }
}
