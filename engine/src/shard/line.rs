//! Who waits for a shard's log, in the order of their records.
//!
//! Guards: who is answered is durable at the level it asked for, and so is everything before it; a commit over several shards passes
//! when all of its shards have it.
//! Does not: call replies; they are handed out with the [`super::core::Outbox`].

use std::sync::Arc;

use super::core::ShardCore;
use super::gate::Gate;
use super::request::Reply;
use super::stages::SAMPLED;
use super::view::ShardView;
use crate::canary::{Canary, planted};
use crate::error::Stage;
use crate::ids::{CommitTs, Lsn};
use crate::watch::feed::Feed;

/// What a waiter still needs of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    Nothing,
    Written(Lsn),
    Durable(Lsn),
}

pub(super) struct Waiter {
    need: Need,
    /// The commit that becomes visible with it.
    wrote: Option<CommitTs>,
    /// When it began to wait, if that is counted.
    since_ns: Option<u64>,
    answer: Answer,
}

/// What happens when a waiter's turn comes.
enum Answer {
    Reply(Reply),
    /// It has to wait for the other shards of its commit; `came` once it does.
    Gate {
        gate: Arc<Gate>,
        came: bool,
    },
}

impl ShardCore {
    /// Stand in line; whoever is in front and has what it needs is answered.
    pub(super) fn wait(&mut self, need: Need, wrote: Option<CommitTs>, reply: Reply) {
        let counted = matches!((need, wrote), (Need::Durable(_), Some(_))) && self.counters.writes % SAMPLED == 1;
        let since_ns = counted.then(|| self.clock.monotonic_ns());
        self.waiters.push_back(Waiter { need, wrote, since_ns, answer: Answer::Reply(reply) });
        self.release();
    }

    /// Be answered as soon as `commit` is visible here.
    pub(super) fn wait_behind(&mut self, commit: CommitTs, reply: Reply) {
        let stands = |waiter: &Waiter| waiter.wrote.is_some_and(|wrote| wrote <= commit);
        let at = if commit <= self.view.visible() { None } else { self.waiters.iter().rposition(stands) };
        match at {
            Some(at) => {
                let waiter = Waiter { need: Need::Nothing, wrote: None, since_ns: None, answer: Answer::Reply(reply) };
                self.waiters.insert(at + 1, waiter);
            }
            None => self.outbox.replies.push((reply, Ok(CommitTs::ZERO))),
        }
    }

    /// Stand in line with a commit of several shards. The caller holds them all, and calls [`ShardCore::pass_gates`] on each once all
    /// stand.
    pub(super) fn wait_at(&mut self, need: Need, wrote: Option<CommitTs>, gate: Arc<Gate>) {
        self.waiters.push_back(Waiter { need, wrote, since_ns: None, answer: Answer::Gate { gate, came: false } });
    }

    pub(super) fn pass_gates(&mut self) {
        self.release();
    }

    /// Another shard of a commit stopped before its part was durable: nobody knows what became of it, so that nothing behind it can
    /// be shown. The next opening decides.
    pub(super) fn gate_failed(&mut self, failed: &Arc<Gate>) {
        if failed.give_up_reads() {
            return self.release();
        }
        let stands = |waiter: &Waiter| matches!(&waiter.answer, Answer::Gate { gate, .. } if Arc::ptr_eq(gate, failed));
        if self.waiters.iter().any(stands) {
            self.poison(Stage::Sync, "another shard of the same commit stopped".to_owned());
        }
    }

    pub(super) fn release(&mut self) {
        let (written, durable) = (self.log.marks().written(), self.log.marks().durable());
        let (mut visible, mut moved) = (None, false);
        while let Some(front) = self.waiters.front_mut() {
            let served = match front.need {
                Need::Nothing => true,
                Need::Written(end) => end <= written,
                Need::Durable(end) => end <= durable || planted(Canary::AcknowledgeBeforeSync),
            };
            if !served {
                break;
            }
            if let Answer::Gate { gate, came } = &mut front.answer {
                if !std::mem::replace(came, true) {
                    if let Some(at) = visible.take() {
                        show(&mut self.feed, &self.view, at);
                    }
                    if front.wrote.is_some() {
                        self.view.stand_at(gate);
                    }
                    if gate.arrive() {
                        self.outbox.gates.opened.push(Arc::clone(gate));
                    }
                }
                if !gate.is_open() {
                    break;
                }
                if front.wrote.is_some() {
                    self.cover.passed(gate);
                }
            }
            let Waiter { wrote, since_ns, answer, .. } = self.waiters.pop_front().expect("seen above");
            if let Some(since_ns) = since_ns {
                self.stages.answered(since_ns, self.clock.monotonic_ns());
            }
            visible = wrote.or(visible);
            moved |= wrote.is_some();
            if let Answer::Reply(reply) = answer {
                self.outbox.replies.push((reply, Ok(wrote.unwrap_or(CommitTs::ZERO))));
            }
        }
        if let Some(at) = visible {
            show(&mut self.feed, &self.view, at);
        }
        if moved {
            self.settle();
            let oldest = self.waiters.iter().find_map(|waiter| waiter.wrote);
            self.view.in_flight.set_oldest(oldest.unwrap_or(CommitTs::MAX));
            self.stir_watches();
        }
    }

    /// The shard stopped: whoever waits is told.
    pub(super) fn refuse_waiters(&mut self) {
        let Some(error) = self.view.poisoned() else { return };
        for waiter in self.waiters.drain(..) {
            match waiter.answer {
                Answer::Reply(reply) => self.outbox.replies.push((reply, Err(error.clone()))),
                // Its part is durable here: what becomes of it, the others decide.
                Answer::Gate { came: true, .. } => {}
                Answer::Gate { gate, came: false } => self.outbox.gates.failed.push((gate, error.clone())),
            }
        }
        for (_, reply) in self.checkpoint_waiters.drain(..) {
            self.outbox.replies.push((reply, Err(error.clone())));
        }
        if let Some(stalled) = self.stalled.take() {
            self.refuse_stalled(stalled, error.clone());
        }
        self.refuse_line(&error);
        self.refuse_key_waits(&error);
        self.stir_watches();
    }

    /// Call `reply` once everything before `end` is durable, in line with all others.
    pub fn when_durable(&mut self, end: Lsn, reply: Reply) {
        match self.view.poisoned() {
            Some(error) => self.outbox.replies.push((reply, Err(error))),
            None => {
                self.log.want_durable(end);
                self.outbox.kick_flusher = true;
                self.wait(Need::Durable(end), None, reply);
            }
        }
    }

    /// Whether something was applied that readers do not see yet.
    pub(super) fn has_unseen(&self) -> bool {
        self.waiters.iter().any(|waiter| waiter.wrote.is_some())
    }

    pub(super) fn has_no_waiters(&self) -> bool {
        self.waiters.is_empty()
    }

    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// A commit becomes visible that waits for nothing, and for nobody before it.
    pub(super) fn show_now(&mut self, commit: CommitTs) {
        show(&mut self.feed, &self.view, commit);
        self.view.in_flight.set_oldest(CommitTs::MAX);
        self.log.settle(commit);
        self.stir_watches();
    }

    pub(super) fn settle(&mut self) {
        let settled = self.cover.settled(self.view.visible());
        self.log.settle(settled);
    }

    pub(super) fn stir_watches(&self) {
        if let Some(feed) = &self.feed {
            feed.stir();
        }
    }
}

/// Everything up to a commit is visible now, to readers and to watches.
fn show(feed: &mut Option<Box<Feed>>, view: &ShardView, at: CommitTs) {
    if let Some(feed) = feed {
        feed.show(at);
    }
    view.set_visible(at);
}
