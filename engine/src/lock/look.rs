//! Looking at a table: who holds and wants a name, all names page by page, and what a circle of waits is found by.

use std::collections::BTreeSet;

use super::Mode;
use super::deadlock::{Blocked, PartId};
use super::hold::Hold;
use super::line::WaiterId;
use super::names::LockId;
use super::table::LockTable;
use crate::ids::SessionId;

/// Contended names, or places of names, that one step looks at.
pub const PAGE: usize = 4096;

/// One lock, to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInfo {
    pub name: Vec<u8>,
    /// Of the holders and waiters, as many as were asked for.
    pub holds: Vec<Hold>,
    pub waiting: Vec<WaitInfo>,
    /// How many there are.
    pub holders: usize,
    pub waiters: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitInfo {
    pub session: SessionId,
    pub mode: Mode,
    pub waited_ms: u64,
}

/// Some of a shard's names, and where to go on.
pub struct Page<T> {
    pub found: Vec<T>,
    pub next: Option<u32>,
}

impl<R> LockTable<R> {
    pub fn info(&self, id: LockId, now_ms: u64, shown_max: usize) -> LockInfo {
        let lock = self.names.lock(id);
        let upgrade = lock.upgrade.map(|at| self.waiters.get(at));
        let waiting = upgrade
            .into_iter()
            .chain(self.waiters.line(&lock.line))
            .take(shown_max)
            .map(|waiter| WaitInfo {
                session: waiter.ask.session,
                mode: waiter.ask.mode,
                waited_ms: now_ms.saturating_sub(waiter.since_ms),
            })
            .collect();
        LockInfo {
            name: self.names.name(id).to_vec(),
            holds: lock.holds.iter().take(shown_max).copied().collect(),
            waiting,
            holders: lock.holds.len(),
            waiters: lock.waiting,
        }
    }

    /// Names that match, of a stretch of all places: `at_most` of them at once, looking at no more than a page.
    pub fn matching(&self, from: u32, at_most: usize, matches: &dyn Fn(&[u8]) -> bool) -> Page<LockId> {
        let (places, mut next) = self.names.page(from, PAGE);
        let mut found = Vec::new();
        for id in places {
            if found.len() == at_most {
                next = Some(id.0);
                break;
            }
            if matches(self.names.name(id)) {
                found.push(id);
            }
        }
        Page { found, next }
    }

    /// Of the holders of names for which others wait, those that wait themselves, somewhere: only they can be part of a circle.
    pub fn entangled(&self, from: u32, waits: impl Fn(SessionId) -> bool) -> Page<SessionId> {
        let (mut found, mut seen) = (BTreeSet::new(), 0);
        for id in self.contended.range(LockId(from)..) {
            if seen >= PAGE {
                return Page { found: found.into_iter().collect(), next: Some(id.0) };
            }
            let holds = &self.names.lock(*id).holds;
            seen += 1 + holds.len();
            found.extend(holds.iter().map(|hold| hold.session).filter(|session| waits(*session)));
        }
        Page { found: found.into_iter().collect(), next: None }
    }

    /// For what the entangled sessions wait here, and who of them stands in the way.
    ///
    /// Whoever stands in a line is kept from its lock by the lock's holders alone: those before it are served when they let go.
    pub fn blocked(&self, entangled: &BTreeSet<SessionId>) -> Vec<Blocked> {
        let mut blocked = Vec::new();
        for session in entangled {
            for ((_, id), part) in self.parts.range((*session, LockId(0))..=(*session, LockId(u32::MAX))) {
                let lock = self.names.lock(*id);
                let others = lock.holds.iter().filter(|hold| hold.session != *session);
                let front = lock.upgrade.or(lock.line.first).map(|at| self.waiters.get(at).ask.mode);
                // Of a semaphore some holders may be enough; of all else, each must go.
                let weigh = |hold: &Hold| match (front, hold.mode) {
                    (Some(Mode::Semaphore { .. }), Mode::Semaphore { units, .. }) => u64::from(units),
                    _ => 1,
                };
                let all: u64 = others.clone().map(weigh).sum();
                let needs = match front {
                    Some(Mode::Semaphore { permits, units })
                        if matches!(lock.holds.first().map(|hold| hold.mode), Some(Mode::Semaphore { .. })) =>
                    {
                        (lock.holds.units() + u64::from(units)).saturating_sub(u64::from(permits))
                    }
                    _ => all,
                };
                let blockers: Vec<(SessionId, u64)> = others
                    .filter(|hold| entangled.contains(&hold.session))
                    .map(|hold| (hold.session, weigh(hold)))
                    .collect();
                let free = all - blockers.iter().map(|(_, weight)| weight).sum::<u64>();
                if free < needs {
                    let part_id = PartId { session: *session, lock: *id, began: part.began };
                    blocked.push(Blocked { part: part_id, since_ms: part.since_ms, needs: needs - free, blockers });
                }
            }
        }
        blocked
    }

    /// One of the requests with which a session waits for a name, if it still does since then.
    pub fn waiter_of(&self, part: &PartId) -> Option<WaiterId> {
        self.parts.get(&(part.session, part.lock)).filter(|own| own.began == part.began)?;
        let lock = self.names.lock(part.lock);
        let is_it = |at: &WaiterId| self.waiters.get(*at).ask.session == part.session;
        lock.upgrade.filter(is_it).or_else(|| {
            let (_, first) = self.waited_by(part.session)?;
            std::iter::successors(Some(first), |at| self.waiters.next_of_session(*at))
                .find(|at| self.waiters.lock_of(*at) == part.lock)
        })
    }
}
