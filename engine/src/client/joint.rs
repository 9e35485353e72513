//! Steps over several shards: which shards they hold, and what happens when one of those has no room.

use std::sync::Arc;

use super::write::submit;
use super::{Client, WriteOptions};
use crate::error::{Error, Result};
use crate::ids::{CommitTs, ShardId};
use crate::lock::{Guard, check_name};
use crate::pending::{Completer, Helper, Pending, pending};
use crate::shard::joint::{Joint, JointProgram, Reads, shards_of};
use crate::shard::tx::check_sizes;
use crate::shard::{Request, ShardHandle, Tx};

/// Which keys a step over several shards uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keys<'a> {
    /// These.
    Of(&'a [&'a [u8]]),
    /// Any.
    All,
}

impl Client {
    /// Run `f` in one step with all its reads and writes, whatever shards its keys belong to; all it writes becomes visible at one
    /// moment, or nothing does. The answer comes when that is durable, and when all it read is. `f` may use the keys given and
    /// no others, must be quick, must not block, and may be called again if the log had no room for what it wrote.
    pub fn run_over<T: Send + 'static>(
        &self,
        keys: Keys<'_>,
        guards: Vec<Guard>,
        options: WriteOptions,
        f: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        self.run_over_commit(keys, guards, options, f, |value, _| value)
    }

    /// As [`Client::run_over`]; `finish` is given the commit too, zero if nothing was written.
    pub fn run_over_commit<T: Send + 'static, U: Send + 'static>(
        &self,
        keys: Keys<'_>,
        guards: Vec<Guard>,
        options: WriteOptions,
        f: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
        finish: impl FnOnce(T, CommitTs) -> U + Send + 'static,
    ) -> Pending<U> {
        match self.check_open().and_then(|()| self.places(keys)) {
            Ok(places) => self.run_at(places, guards, options, f, finish),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// As [`Client::run_over_commit`], with the shards of the keys, ascending.
    pub(super) fn run_at<T: Send + 'static, U: Send + 'static>(
        &self,
        places: Vec<ShardId>,
        guards: Vec<Guard>,
        options: WriteOptions,
        f: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
        finish: impl FnOnce(T, CommitTs) -> U + Send + 'static,
    ) -> Pending<U> {
        let guards = match self.check_session(options).and_then(|()| self.guards_at(guards)) {
            Ok(guards) => guards,
            Err(error) => return Pending::ready(Err(error)),
        };
        let (completer, mut answer) = self.joint_pending(&places, &guards);
        let program = Box::new(Steps { f, finish, value: None, completer });
        let level = self.level_of(options.durability);
        answer.comes_again = !self.attempt(Joint { places, guards, program, level, reads: Reads::Latest, ends: None });
        answer
    }

    /// The shards of `keys`, ascending.
    pub(super) fn places(&self, keys: Keys<'_>) -> Result<Vec<ShardId>> {
        match keys {
            Keys::All => Ok((0..self.shard_count()).map(ShardId).collect()),
            Keys::Of([]) => Err(Error::invalid("a step names no key")),
            Keys::Of(keys) => {
                keys.iter().try_for_each(|key| check_sizes(key, 0))?;
                let mut places: Vec<ShardId> = keys.iter().map(|key| self.shard_of(key)).collect();
                places.sort_unstable();
                places.dedup();
                Ok(places)
            }
        }
    }

    pub(super) fn guards_at(&self, guards: Vec<Guard>) -> Result<Vec<(ShardId, Guard)>> {
        guards.iter().try_for_each(|guard| check_name(&guard.name))?;
        Ok(guards.into_iter().map(|guard| (self.shard_of_lock(&guard.name), guard)).collect())
    }

    /// An answer that the calling thread may bring nearer by flushing what it waits for: also where it only looks at a guard, it stands behind
    /// what others have written there, and may be the only one that waits for that.
    pub(super) fn joint_pending<T>(
        &self,
        places: &[ShardId],
        guards: &[(ShardId, Guard)],
    ) -> (Completer<T>, Pending<T>) {
        let shards = shards_of(places, guards);
        let shards = shards.iter().map(|shard| Arc::clone(&self.shared.shards[shard.index()])).collect();
        pending(Some(Arc::new(Shards(shards)) as Arc<dyn Helper>))
    }

    /// Take the step's shards together, in their order, and execute it. No thread waits for a shard while it holds a higher one.
    /// False if it found no room and comes again.
    pub(super) fn attempt(&self, joint: Joint) -> bool {
        let held = joint.shards();
        let shards: Vec<&Arc<ShardHandle>> = held.iter().map(|shard| &self.shared.shards[shard.index()]).collect();
        let Err((joint, shard)) = joint.attempt(&shards) else { return true };
        // The shard waits for room; come back behind what it has taken before.
        let (completer, answer) = pending(None::<Arc<dyn Helper>>);
        submit(&self.shared.shards[shard.index()], Request::Fence { reply: completer });
        let client = self.clone();
        answer.on_ready(move |done| match done {
            Ok(()) => {
                client.attempt(joint);
                // Whoever waits for it has looked for something to flush before.
                held.iter().for_each(|shard| client.shared.shards[shard.index()].kick());
            }
            // It may be told with a shard held, so that none is taken here: keys that it kept are free for whoever asks from now on, and
            // for those who asked before when its time is over.
            Err(error) => joint.program.done(Err(error)),
        });
        false
    }
}

/// The shards that a commit waits for.
struct Shards(Vec<Arc<ShardHandle>>);

impl Helper for Shards {
    /// Of the logs that have to be written, this thread writes one; each other is written by its own core meanwhile.
    fn help(&self, ready: &dyn Fn() -> bool) {
        let mut wanting = self.0.iter().filter(|shard| shard.wants_flush());
        let Some(own) = wanting.next_back() else { return };
        wanting.for_each(|shard| shard.kick());
        own.help(ready);
    }

    fn kick(&self) {
        self.0.iter().for_each(|shard| shard.kick());
    }
}

/// A closure as the program of a step.
struct Steps<F, G, T, U> {
    f: F,
    finish: G,
    value: Option<T>,
    completer: Completer<U>,
}

impl<F, G, T, U> JointProgram for Steps<F, G, T, U>
where
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    G: FnOnce(T, CommitTs) -> U + Send + 'static,
    T: Send + 'static,
    U: Send + 'static,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        self.value = Some((self.f)(tx)?);
        Ok(())
    }

    fn done(self: Box<Self>, result: Result<CommitTs>) {
        let Steps { finish, value, completer, .. } = *self;
        completer.complete(result.map(|commit| finish(value.expect("it ran"), commit)));
    }
}
