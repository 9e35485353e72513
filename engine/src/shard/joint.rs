//! One atomic step over several shards: reads, checks and writes, all at one moment (docs/transactions.md).
//!
//! Guards: it is executed with all its shards held, so that nothing comes between its reads and its writes; its parts are in all logs or
//! it did nothing; it becomes visible everywhere at once, and nothing that comes after it on any of its shards before it.
//! Does not: hold anything across I/O. What it waits for is waited for in each shard's line.
//!
//! A commit waits for as few flushes as it can: one shard's record carries the parts of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::core::{PartWay, ShardCore, Stalled, Unwritten, room_of};
use super::gate::Gate;
use super::handle::ShardHandle;
use super::line::Need;
use super::request::Reply;
use super::tx::{Behind, Tx, TxPart, TxWrite, ops};
use crate::error::Result;
use crate::format::ephemeral::{EPHEMERALS, placed_by};
use crate::format::record::{self, Joined};
use crate::ids::{CommitTs, Keyspace, ShardId};
use crate::lock::Guard;
use crate::options::Durability;
use crate::txn::TxNumber;
use crate::txn::timestamps::draw_over;
use crate::wal::Room;

/// A part of more bytes is cheaper to write once, in its own log, than twice.
const CARRIED_MAX: usize = 16 << 10;

/// What a step does.
pub trait JointProgram: Send {
    /// Reads and writes. Run again, from the start, if the log had no room for what it wrote.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()>;
    /// Called once: what it wrote is durable and visible, or what it read is; or nothing was done.
    fn done(self: Box<Self>, result: Result<CommitTs>);
}

/// See the module.
pub struct Joint {
    /// Whose keys the program may use, ascending.
    pub places: Vec<ShardId>,
    /// What must hold, and where its lock lies.
    pub guards: Vec<(ShardId, Guard)>,
    pub program: Box<dyn JointProgram>,
    /// Counts if one shard alone has something to write; a commit over several is always durable.
    pub level: Durability,
    /// The program rests on nothing that is not visible yet.
    pub reads: Reads,
    /// The transaction whose key locks end with it.
    pub ends: Option<TxNumber>,
}

/// What a program may have seen of shards to which it writes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// Their latest state, durable or not: it must not outlive what it saw.
    Latest,
    /// Only what is visible, or nothing.
    Visible,
}

type Writes = BTreeMap<(Keyspace, Vec<u8>), TxWrite>;

/// The shards of a step's keys and of its guards, ascending.
pub fn shards_of(places: &[ShardId], guards: &[(ShardId, Guard)]) -> Vec<ShardId> {
    let mut shards: Vec<ShardId> = guards.iter().map(|(shard, _)| *shard).collect();
    shards.extend(places);
    shards.sort_unstable();
    shards.dedup();
    shards
}

impl Joint {
    /// All shards that must be held, ascending.
    pub fn shards(&self) -> Vec<ShardId> {
        shards_of(&self.places, &self.guards)
    }

    /// Execute it. Gives it back with the shard that has no room for it now; asked for something that comes behind that, the shard
    /// answers when it may have.
    pub fn attempt(self, shards: &[&Arc<ShardHandle>]) -> std::result::Result<(), (Joint, ShardId)> {
        let mut refused = None;
        let outcome = ShardHandle::with_cores(shards, |cores| {
            let mut step = JointStep { shards, cores, joint: self };
            match step.execute() {
                Ok(()) => Ok(()),
                Err(Unwritten::Later(shard)) => Err((step.joint, shard)),
                Err(Unwritten::Never(error)) => {
                    step.end_transaction();
                    refused = Some((step.joint.program, error));
                    Ok(())
                }
            }
        });
        // Told once the shards are free.
        if let Some((program, error)) = refused {
            program.done(Err(error));
        }
        outcome
    }
}

/// A step that does nothing.
struct Spent;

impl JointProgram for Spent {
    fn run(&mut self, _: &mut Tx<'_>) -> Result<()> {
        Ok(())
    }

    fn done(self: Box<Self>, _: Result<CommitTs>) {}
}

struct JointStep<'a, 'c> {
    shards: &'a [&'a Arc<ShardHandle>],
    cores: &'a mut [&'c mut ShardCore],
    joint: Joint,
}

/// One shard's share of the writes.
struct Share {
    at: usize,
    writes: Writes,
    room: Room,
    len: usize,
    /// Another's record carries it.
    rides: bool,
}

/// The shares of a commit, and which of them carries others.
struct Plan {
    shares: Vec<Share>,
    /// Of all shares; none if there is one alone.
    named: Vec<ShardId>,
    /// Into `shares`.
    carrier: Option<usize>,
    carried: Vec<u8>,
}

impl Plan {
    /// What the record of a share says of the others.
    fn joined(&self, of: usize) -> Joined<'_> {
        Joined { shards: &self.named, carried: if self.carrier == Some(of) { &self.carried } else { &[] } }
    }
}

impl JointStep<'_, '_> {
    fn execute(&mut self) -> std::result::Result<(), Unwritten> {
        for core in self.cores.iter_mut() {
            if let Some(error) = core.refusal() {
                return Err(Unwritten::Never(error));
            }
            if !core.accepts() {
                return Err(Unwritten::Later(core.view.id));
            }
        }
        for (shard, guard) in &self.joint.guards {
            self.cores[self.place(*shard)].check_guard(guard).map_err(Unwritten::Never)?;
        }
        let (ran, writes, behind) = self.run();
        if writes.is_empty() {
            self.end_transaction();
            self.answer_in_line(ran, behind);
            return Ok(());
        }
        let shares = self.share(writes);
        let plan = self.plan(shares);
        self.check_room(&plan.shares)?;
        self.commit(plan);
        self.end_transaction();
        Ok(())
    }

    fn place(&self, shard: ShardId) -> usize {
        self.cores
            .binary_search_by_key(&shard, |core| core.view.id)
            .expect("the shards of a step are those that are held")
    }

    fn run(&mut self) -> (Result<()>, Writes, Option<Behind>) {
        let states: Vec<_> = self.cores.iter().map(|core| core.view.latest().0).collect();
        let parts: Vec<TxPart<'_>> = self.cores.iter().zip(&states).map(|(core, state)| core.tx_part(state)).collect();
        let mut tx = Tx::new(&parts, self.cores[0].tx_world());
        let ran = self.joint.program.run(&mut tx);
        let writes = if ran.is_ok() { std::mem::take(&mut tx.writes) } else { Writes::new() };
        (ran, writes, tx.behind)
    }

    fn end_transaction(&mut self) {
        if let Some(number) = self.joint.ends {
            self.cores.iter_mut().for_each(|core| core.end_key_locks(number));
        }
    }

    /// Nothing was written: the answer comes once all that may have been read is visible, or what is named of it.
    fn answer_in_line(&mut self, ran: Result<()>, behind: Option<Behind>) {
        let program = std::mem::replace(&mut self.joint.program, Box::new(Spent));
        let unseen = self.joint.reads == Reads::Latest && self.cores.iter().any(|core| core.has_unseen());
        if unseen && self.cores.len() > 1 {
            // What comes later on a shard where all is visible must not be seen before what was read here on another.
            let reply: Reply = Box::new(move |done| program.done(done.and(ran.map(|()| CommitTs::ZERO))));
            let shards = self.shards.iter().map(|shard| Arc::clone(shard)).collect();
            let gate = Arc::new(Gate::of_reads(shards, reply));
            self.cores.iter_mut().for_each(|core| core.wait_at(Need::Nothing, None, Arc::clone(&gate)));
            return self.cores.iter_mut().for_each(|core| core.pass_gates());
        }
        let left = Arc::new((AtomicUsize::new(self.cores.len()), Mutex::new((Some(program), ran))));
        for core in self.cores.iter_mut() {
            let left = Arc::clone(&left);
            let come: Reply = Box::new(move |done| {
                let (missing, state) = &*left;
                let mut state = state.lock();
                if let Err(error) = done {
                    state.1 = Err(error);
                }
                if missing.fetch_sub(1, Ordering::SeqCst) > 1 {
                    return;
                }
                let (program, ran) = (state.0.take(), std::mem::replace(&mut state.1, Ok(())));
                drop(state);
                if let Some(program) = program {
                    program.done(ran.map(|()| CommitTs::ZERO));
                }
            });
            match &behind {
                Some(behind) => core.wait_behind(behind.get(&core.view.id).copied().unwrap_or_default(), come),
                None => core.wait(Need::Nothing, None, come),
            }
        }
    }

    /// What each shard has to log.
    fn share(&self, writes: Writes) -> Vec<Share> {
        let mut of_shard: Vec<Writes> = self.cores.iter().map(|_| Writes::new()).collect();
        let ring = self.cores[0].ring();
        for (key, write) in writes {
            of_shard[self.place(ring.owner_of_key(placed_by(key.0, &key.1)))].insert(key, write);
        }
        for (core, writes) in self.cores.iter().zip(&mut of_shard) {
            // Ephemeral keys that are written without a word of whose they are now are nobody's.
            for entry in core.ephemerals().released_by(ops(writes)) {
                writes.insert((EPHEMERALS, entry), TxWrite::Delete);
            }
        }
        let rests_on = |at: usize| {
            self.joint.reads == Reads::Latest
                && self.joint.places.binary_search(&self.cores[at].view.id).is_ok()
                && self.cores[at].has_unseen()
        };
        of_shard
            .into_iter()
            .enumerate()
            .filter(|(at, writes)| !writes.is_empty() || rests_on(*at))
            .map(|(at, writes)| {
                let room = room_of(ops(&writes));
                Share { at, writes, room, len: 0, rides: false }
            })
            .collect()
    }

    /// Choose which record carries what: all parts that may ride do, on the record of a shard that is durable soonest; of several, on that
    /// with which the fewest bytes are written twice.
    fn plan(&self, shares: Vec<Share>) -> Plan {
        let named: Vec<ShardId> = match shares.len() {
            1 => Vec::new(),
            _ => shares.iter().map(|share| self.cores[share.at].view.id).collect(),
        };
        let mut plan = Plan { shares, named, carrier: None, carried: Vec::new() };
        if !plan.named.is_empty() {
            let lens: Vec<usize> = plan.shares.iter().map(|share| record::carried_len(ops(&share.writes))).collect();
            let may_ride: Vec<bool> = plan
                .shares
                .iter()
                .zip(&lens)
                .map(|(share, len)| *len <= CARRIED_MAX && self.cores[share.at].may_ride())
                .collect();
            let flushes = |on: usize| may_ride.iter().enumerate().filter(|(of, rides)| *of == on || !**rides).count();
            let carrier = (0..lens.len())
                .min_by_key(|on| {
                    let is_busy = self.cores[plan.shares[*on].at].log.is_in_flight();
                    (flushes(*on), is_busy, std::cmp::Reverse(lens[*on]))
                })
                .filter(|on| flushes(*on) < lens.len());
            for of in (0..lens.len()).filter(|of| carrier.is_some_and(|on| *of != on) && may_ride[*of]) {
                let Share { at, writes, rides, .. } = &mut plan.shares[of];
                *rides = true;
                record::carry(&mut plan.carried, plan.named[of], self.cores[*at].last_commit(), ops(writes));
            }
            plan.carrier = carrier;
        }
        for of in 0..plan.shares.len() {
            plan.shares[of].len = record::encoded_len(plan.joined(of), ops(&plan.shares[of].writes));
        }
        if let Some(carrier) = plan.carrier
            && plan.shares.iter().any(|share| share.room == Room::Ordinary)
        {
            plan.shares[carrier].room = Room::Ordinary;
        }
        plan
    }

    fn check_room(&mut self, shares: &[Share]) -> std::result::Result<(), Unwritten> {
        for share in shares {
            let core = &mut self.cores[share.at];
            match core.check_room(share.len, share.room) {
                Ok(()) => {}
                Err(Unwritten::Later(shard)) => {
                    core.stall(Stalled::Room { len: share.len, room: share.room });
                    return Err(Unwritten::Later(shard));
                }
                Err(Unwritten::Never(error)) => {
                    core.outbox.kick_background = true;
                    return Err(Unwritten::Never(error));
                }
            }
        }
        Ok(())
    }

    /// Into the logs, into memory, and in line. There is room for all of it.
    fn commit(&mut self, plan: Plan) {
        let alone = plan.named.is_empty();
        let commit = {
            let announced: Vec<_> = plan.shares.iter().map(|share| &self.cores[share.at].view.in_flight).collect();
            draw_over(self.cores[0].timestamps(), &announced)
        };
        let program = std::mem::replace(&mut self.joint.program, Box::new(Spent));
        let reply: Reply = Box::new(move |done| program.done(done));
        if let [core] = &mut *self.cores {
            let share = &plan.shares[0];
            let way = PartWay::Own(self.joint.level);
            let need = core.write_part(commit, Joined::ALONE, ops(&share.writes), way, share.room, share.len);
            return core.wait(need, Some(commit), reply);
        }
        let shards = self.shards.iter().map(|shard| Arc::clone(shard)).collect();
        let carried = plan.shares.iter().filter(|share| share.rides);
        let carried = carried.map(|share| Arc::downgrade(self.shards[share.at])).collect();
        let gate = Arc::new(Gate::new(commit, shards, carried, reply));
        let mut needs: Vec<(Need, Option<CommitTs>)> = vec![(Need::Nothing, None); self.cores.len()];
        for (of, share) in plan.shares.iter().enumerate() {
            let way = match share.rides {
                true => PartWay::Rides(&gate),
                false => PartWay::Own(if alone { self.joint.level } else { Durability::Sync }),
            };
            let core = &mut self.cores[share.at];
            let need = core.write_part(commit, plan.joined(of), ops(&share.writes), way, share.room, share.len);
            needs[share.at] = (need, Some(commit));
        }
        for (core, (need, wrote)) in self.cores.iter_mut().zip(needs) {
            core.wait_at(need, wrote, Arc::clone(&gate));
        }
        self.cores.iter_mut().for_each(|core| core.pass_gates());
    }
}
