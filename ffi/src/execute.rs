//! Many independent operations in one call, with one hop for each shard that they write to.

#![allow(unsafe_code)] // exports only; pointers are raw.rs's

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::db::{Db, corering_db};
use crate::engine::{Error, Pending, ShardId};
use crate::failure::Failure;
use crate::guard::guarded;
use crate::object::using;
use crate::op::{Answer, Op, corering_op, corering_result};
use crate::options::{self, corering_write_options};
use crate::raw::Outs;
use crate::status::corering_status::{self, *};
use crate::write::{self, Write};

/// Bytes of one hop. A record stays well below the engine's limit for it, and a shard is not kept for long.
const HOP_BYTES_MAX: usize = 8 << 20;

/// An operation and its place among those given.
type Placed = (usize, Op);

/// Runs `ops` and fills in an answer for each.
fn run(db: &Arc<Db>, ops: Vec<Placed>, write: &Write, answers: &mut [Option<Answer>]) {
    let mut reads = Vec::new();
    let mut hops: Vec<(Vec<usize>, Pending<Vec<Answer>>)> = Vec::new();
    for (_, group) in by_shard(db, ops) {
        if !write.is_guarded() && group.iter().all(|(_, op)| op.is_read()) {
            reads.extend(group);
            continue;
        }
        for hop in split(group) {
            hops.push(send(db, hop, write));
        }
    }
    // Reads of shards that get no write run here, while the writes are on their way to disk.
    for (place, op) in reads {
        let found = db.client.get(op.keyspace, &op.key);
        answers[place] = Some(found.map_or_else(|error| Answer::Failed(error.into()), Answer::Value));
    }
    for (places, pending) in hops {
        match pending.wait() {
            Ok(given) => places.into_iter().zip(given).for_each(|(place, answer)| answers[place] = Some(answer)),
            Err(error) => fail(&places, &error, answers),
        }
    }
}

/// Nothing of the hop was done, or nobody knows: that is every operation's answer.
fn fail(places: &[usize], error: &Error, answers: &mut [Option<Answer>]) {
    for place in places {
        answers[*place] = Some(Answer::Failed(error.clone().into()));
    }
}

fn by_shard(db: &Db, ops: Vec<Placed>) -> BTreeMap<u16, Vec<Placed>> {
    let mut groups: BTreeMap<u16, Vec<Placed>> = BTreeMap::new();
    for (place, op) in ops {
        let ShardId(shard) = db.client.shard_of(&op.key);
        groups.entry(shard).or_default().push((place, op));
    }
    groups
}

/// Cuts a shard's operations, in their order, into hops of bounded size.
fn split(group: Vec<Placed>) -> Vec<Vec<Placed>> {
    let mut hops = vec![Vec::new()];
    let mut bytes = 0;
    for placed in group {
        if bytes > 0 && bytes + placed.1.len() > HOP_BYTES_MAX {
            hops.push(Vec::new());
            bytes = 0;
        }
        bytes += placed.1.len();
        hops.last_mut().expect("there is one from the start").push(placed);
    }
    hops
}

fn send(db: &Db, hop: Vec<Placed>, write: &Write) -> (Vec<usize>, Pending<Vec<Answer>>) {
    let (places, ops): (Vec<usize>, Vec<Op>) = hop.into_iter().unzip();
    (places, write::start(db, ops, write.guards.clone(), write.options))
}

fn deliver(answers: Vec<Option<Answer>>, ops: &[corering_op], results: &Outs<'_, corering_result>) {
    for (place, answer) in answers.into_iter().enumerate() {
        let answer = answer.unwrap_or_else(|| Answer::Failed(Failure::Panic("an operation was left out".into())));
        results.set(place, answer.into_c(ops[place].user_data, ops[place].kind));
    }
}

/// Does many independent operations: one hop for each shard that they write to, one wait for all. Those of one shard
/// take effect in their order, and a get sees the writes before it. They are not atomic together: each has its own
/// outcome, and one that fails leaves the others alone. Of `options`, which may be null, it heeds the durability and the
/// guards, on which then each operation depends, also a get; the other settings are each operation's own.
///
/// Owns: the caller keeps the operations and what they lead to; it owns the values of the results, each to be freed
///   with `corering_value_free`.
/// Writes: `count` results, in the order of the operations; zeroes on failure.
/// Threads: any; blocks until all writes are as durable as asked for.
/// Status: OK if each operation has its own status in its result; INVALID_ARGUMENT; INVALID_HANDLE; CLOSED; FORKED:
///   then nothing was done.
/// Safety: `ops` has `count` operations, each with its bytes; `options` is null or begins with its size; `results`
///   has room for `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn corering_execute(
    db: *mut corering_db,
    ops: *const corering_op,
    count: usize,
    options: *const corering_write_options,
    results: *mut corering_result,
) -> corering_status {
    guarded!(|c| {
        let results = c.outs("results", results, count)?;
        let db = using::<Arc<Db>, _>(db)?;
        let given = c.array("ops", ops, count)?;
        let write = options::write(c, options, &db)?;
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(count);
        let mut good = Vec::with_capacity(count);
        for (place, op) in given.iter().enumerate() {
            match Op::from_c(c, op, &db) {
                Ok(op) => {
                    good.push((place, op));
                    answers.push(None);
                }
                Err(failure) => answers.push(Some(Answer::Failed(failure))),
            }
        }
        run(&db, good, &write, &mut answers);
        deliver(answers, given, &results);
        Ok(CORERING_OK)
    })
}
