//! What sessions hold of one lock.
//!
//! Guards: a session has at most one hold; sums over the holds agree with them. One hold, the usual case, costs no allocation;
//! a hundred thousand are found, put in and taken out in logarithmic time.

use std::collections::BTreeMap;

use super::names::LockId;
use super::{Mode, margin_ms};
use crate::ids::{FencingToken, SessionId};

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
    pub fn is_running(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }

    /// When somebody else may be served.
    pub fn gone_ms(&self) -> u64 {
        self.lease_ms.map_or(u64::MAX, |lease| self.until_ms.saturating_add(margin_ms(lease)))
    }

    /// As it would be logged without a change.
    pub fn kept(&self) -> NewHold {
        NewHold {
            session: self.session,
            mode: self.mode,
            count: self.count,
            token: Some(self.token),
            lease_ms: self.lease_ms,
            since_unix_ms: self.since_unix_ms,
        }
    }

    fn units(&self) -> u64 {
        match self.mode {
            Mode::Semaphore { units, .. } => u64::from(units),
            Mode::Exclusive | Mode::Shared => 0,
        }
    }

    fn is_shared(&self) -> bool {
        self.mode == Mode::Shared
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

/// A hold in the table.
#[derive(Clone, Copy)]
pub struct Held {
    pub hold: Hold,
    /// The number of its timer; zero if it has none.
    pub timer: u64,
    /// Its neighbours among the locks that its session holds.
    pub prev: Option<LockId>,
    pub next: Option<LockId>,
}

#[derive(Default)]
pub struct Many {
    by_session: BTreeMap<SessionId, Held>,
    by_token: BTreeMap<FencingToken, SessionId>,
    shared: usize,
    units: u64,
}

/// All holds of one lock.
#[derive(Default)]
pub enum Holds {
    #[default]
    None,
    One(Held),
    Many(Box<Many>),
}

impl Holds {
    pub fn len(&self) -> usize {
        match self {
            Holds::None => 0,
            Holds::One(_) => 1,
            Holds::Many(many) => many.by_session.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Holds::None)
    }

    /// How many are shared.
    pub fn shared(&self) -> usize {
        match self {
            Holds::None => 0,
            Holds::One(held) => usize::from(held.hold.is_shared()),
            Holds::Many(many) => many.shared,
        }
    }

    /// Permits that they have taken together.
    pub fn units(&self) -> u64 {
        match self {
            Holds::None => 0,
            Holds::One(held) => held.hold.units(),
            Holds::Many(many) => many.units,
        }
    }

    pub fn of(&self, session: SessionId) -> Option<&Held> {
        match self {
            Holds::One(held) if held.hold.session == session => Some(held),
            Holds::None | Holds::One(_) => None,
            Holds::Many(many) => many.by_session.get(&session),
        }
    }

    /// For changes of anything but session, mode and token.
    pub fn of_mut(&mut self, session: SessionId) -> Option<&mut Held> {
        match self {
            Holds::One(held) if held.hold.session == session => Some(held),
            Holds::None | Holds::One(_) => None,
            Holds::Many(many) => many.by_session.get_mut(&session),
        }
    }

    pub fn first(&self) -> Option<&Hold> {
        match self {
            Holds::None => None,
            Holds::One(held) => Some(&held.hold),
            Holds::Many(many) => many.by_session.values().next().map(|held| &held.hold),
        }
    }

    /// In the order of their sessions.
    pub fn iter(&self) -> impl Iterator<Item = &Hold> + Clone {
        let (one, many) = match self {
            Holds::None => (None, None),
            Holds::One(held) => (Some(held), None),
            Holds::Many(many) => (None, Some(many.by_session.values())),
        };
        one.into_iter().chain(many.into_iter().flatten()).map(|held| &held.hold)
    }

    /// The hold with this token.
    pub fn with_token(&self, token: FencingToken) -> Option<&Hold> {
        match self {
            Holds::One(held) if held.hold.token == token => Some(&held.hold),
            Holds::None | Holds::One(_) => None,
            Holds::Many(many) => many.by_token.get(&token).and_then(|session| self.of(*session)).map(|held| &held.hold),
        }
    }

    /// From the largest token to the smallest.
    pub fn newest_first(&self) -> impl Iterator<Item = &Hold> {
        let (one, many) = match self {
            Holds::None => (None, None),
            Holds::One(held) => (Some(held), None),
            Holds::Many(many) => (None, Some(many.by_token.values().rev().map(|session| &many.by_session[session]))),
        };
        one.into_iter().chain(many.into_iter().flatten()).map(|held| &held.hold)
    }

    /// Put in or replace the hold of its session.
    pub fn put(&mut self, held: Held) {
        match self {
            Holds::None => *self = Holds::One(held),
            Holds::One(own) if own.hold.session == held.hold.session => *own = held,
            Holds::One(other) => {
                let mut many = Many::default();
                many.put(*other);
                many.put(held);
                *self = Holds::Many(Box::new(many));
            }
            Holds::Many(many) => many.put(held),
        }
    }

    pub fn take(&mut self, session: SessionId) -> Option<Held> {
        match self {
            Holds::One(held) if held.hold.session == session => {
                let held = *held;
                *self = Holds::None;
                Some(held)
            }
            Holds::None | Holds::One(_) => None,
            Holds::Many(many) => {
                let taken = many.take(session);
                match many.by_session.len() {
                    0 => *self = Holds::None,
                    1 => {
                        let last = many.by_session.pop_first().map(|(_, held)| held);
                        *self = last.map_or(Holds::None, Holds::One);
                    }
                    _ => {}
                }
                taken
            }
        }
    }
}

impl Many {
    fn put(&mut self, held: Held) {
        self.take(held.hold.session);
        self.shared += usize::from(held.hold.is_shared());
        self.units += held.hold.units();
        self.by_token.insert(held.hold.token, held.hold.session);
        self.by_session.insert(held.hold.session, held);
    }

    fn take(&mut self, session: SessionId) -> Option<Held> {
        let held = self.by_session.remove(&session)?;
        self.shared -= usize::from(held.hold.is_shared());
        self.units -= held.hold.units();
        self.by_token.remove(&held.hold.token);
        Some(held)
    }
}
