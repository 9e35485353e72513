//! Those who wait: one store of all waiters of a shard, linked in the order of each line and of each session.
//!
//! Guards: standing in line, being served and leaving from anywhere cost the same however many wait.

use std::collections::HashMap;

use slab::Slab;

use super::AskId;
use super::names::LockId;
use super::table::Ask;
use crate::ids::SessionId;

/// Room for so many is kept when nobody waits.
const KEPT: usize = 1024;

/// A place in line; ascends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// Where a waiter is kept, until it leaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WaiterId(u32);

impl WaiterId {
    fn at(self) -> usize {
        self.0 as usize
    }
}

pub struct Waiter<R> {
    pub ask: Ask,
    pub since_ms: u64,
    /// `u64::MAX`: as long as its session.
    pub until_ms: u64,
    /// By what it can be taken back.
    pub id: Option<AskId>,
    pub reply: R,
}

/// The ends of a list.
#[derive(Clone, Copy, Default)]
pub struct Ends {
    pub first: Option<WaiterId>,
    pub last: Option<WaiterId>,
}

#[derive(Clone, Copy, Default)]
struct Links {
    prev: Option<WaiterId>,
    next: Option<WaiterId>,
}

struct Node<R> {
    waiter: Waiter<R>,
    ticket: Ticket,
    lock: LockId,
    in_line: Links,
    of_session: Links,
}

pub struct Waiters<R> {
    nodes: Slab<Node<R>>,
    asked: HashMap<(SessionId, AskId), WaiterId>,
    next_ticket: u64,
}

impl<R> Default for Waiters<R> {
    fn default() -> Waiters<R> {
        Waiters { nodes: Slab::new(), asked: HashMap::new(), next_ticket: 0 }
    }
}

/// Put `id` at the end of a list whose links are found by `links`.
fn push<R>(nodes: &mut Slab<Node<R>>, ends: &mut Ends, id: WaiterId, links: fn(&mut Node<R>) -> &mut Links) {
    *links(&mut nodes[id.at()]) = Links { prev: ends.last, next: None };
    match ends.last {
        Some(last) => links(&mut nodes[last.at()]).next = Some(id),
        None => ends.first = Some(id),
    }
    ends.last = Some(id);
}

fn unlink<R>(nodes: &mut Slab<Node<R>>, ends: &mut Ends, id: WaiterId, links: fn(&mut Node<R>) -> &mut Links) {
    let Links { prev, next } = *links(&mut nodes[id.at()]);
    match prev {
        Some(prev) => links(&mut nodes[prev.at()]).next = next,
        None => ends.first = next,
    }
    match next {
        Some(next) => links(&mut nodes[next.at()]).prev = prev,
        None => ends.last = prev,
    }
}

impl<R> Waiters<R> {
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Come in at the end of the session's list, and of the line if there is one to stand in.
    pub fn add(
        &mut self,
        lock: LockId,
        waiter: Waiter<R>,
        line: Option<&mut Ends>,
        session: &mut Ends,
    ) -> (WaiterId, Ticket) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let asked = waiter.id.map(|id| (waiter.ask.session, id));
        let (in_line, of_session) = (Links::default(), Links::default());
        let at = self.nodes.insert(Node { waiter, ticket, lock, in_line, of_session });
        let id = WaiterId(u32::try_from(at).expect("waiters are limited"));
        if let Some(line) = line {
            push(&mut self.nodes, line, id, |node| &mut node.in_line);
        }
        push(&mut self.nodes, session, id, |node| &mut node.of_session);
        if let Some(asked) = asked {
            self.asked.insert(asked, id);
        }
        (id, ticket)
    }

    /// Leave all lists. `line` as it was given when it came.
    pub fn remove(&mut self, id: WaiterId, line: Option<&mut Ends>, session: &mut Ends) -> Waiter<R> {
        if let Some(line) = line {
            unlink(&mut self.nodes, line, id, |node| &mut node.in_line);
        }
        unlink(&mut self.nodes, session, id, |node| &mut node.of_session);
        let waiter = self.nodes.remove(id.at()).waiter;
        if let Some(ask) = waiter.id {
            let key = (waiter.ask.session, ask);
            if self.asked.get(&key) == Some(&id) {
                self.asked.remove(&key);
            }
        }
        if self.nodes.is_empty() && self.nodes.capacity() > KEPT {
            self.nodes.shrink_to_fit();
            self.asked.shrink_to_fit();
        }
        waiter
    }

    pub fn get(&self, id: WaiterId) -> &Waiter<R> {
        &self.nodes[id.at()].waiter
    }

    pub fn lock_of(&self, id: WaiterId) -> LockId {
        self.nodes[id.at()].lock
    }

    pub fn ticket_of(&self, id: WaiterId) -> Ticket {
        self.nodes[id.at()].ticket
    }

    /// Whether it still waits.
    pub fn stands(&self, id: WaiterId, ticket: Ticket) -> bool {
        self.nodes.get(id.at()).is_some_and(|node| node.ticket == ticket)
    }

    /// Who asked by this name.
    pub fn asked(&self, session: SessionId, ask: AskId) -> Option<WaiterId> {
        self.asked.get(&(session, ask)).copied()
    }

    pub fn last_of(&self, ends: &Ends) -> Option<&Waiter<R>> {
        ends.last.map(|id| self.get(id))
    }

    pub fn line(&self, ends: &Ends) -> impl Iterator<Item = &Waiter<R>> {
        std::iter::successors(ends.first, |id| self.nodes[id.at()].in_line.next).map(|id| self.get(id))
    }

    pub fn next_of_session(&self, id: WaiterId) -> Option<WaiterId> {
        self.nodes[id.at()].of_session.next
    }
}
