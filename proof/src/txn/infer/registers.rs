//! Registers: a version follows another where a transaction read the one and wrote the other, or where time says so; every
//! version follows the empty one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Order, Work, last_write};
use crate::txn::cycles::Kind;
use crate::txn::graph::Edge;
use crate::txn::history::{Action, Outcome};

/// A version of a register: what was written, or that nothing was yet.
type Version = Option<i64>;

#[derive(Default)]
struct Key {
    /// Who read a version that it had not written itself.
    readers: BTreeMap<Version, BTreeSet<usize>>,
    /// Committed last writes.
    written: BTreeMap<i64, usize>,
    /// A version that was there no later than this, because somebody who met it was answered then.
    answered: Vec<(u64, Version)>,
    /// A version that was the newest at some time after this, because somebody who was asked then met it.
    asked: Vec<(u64, Version)>,
}

pub fn infer(work: &mut Work<'_>, order: Order) {
    let mut keys: BTreeMap<u64, Key> = BTreeMap::new();
    for n in 0..work.history.len() {
        if work.committed[n] {
            gather(work, n, &mut keys);
        }
    }
    for (key, found) in &keys {
        let mut follows: BTreeSet<(Version, i64)> = found.written.keys().map(|value| (None, *value)).collect();
        for (version, readers) in &found.readers {
            let next = readers.iter().filter_map(|reader| last_write(&work.history[*reader], *key));
            follows.extend(next.map(|next| (*version, next)));
        }
        if order == Order::Strict {
            by_time(found, &mut follows);
        }
        draw(work, found, &follows);
        work.report_lost_updates(*key, &found.readers);
    }
}

fn gather(work: &mut Work<'_>, n: usize, keys: &mut BTreeMap<u64, Key>) {
    let txn = &work.history[n];
    let end = match txn.outcome {
        Outcome::Committed { at } => Some(at),
        Outcome::Aborted | Outcome::Unknown => None,
    };
    let mut known: BTreeMap<u64, Version> = BTreeMap::new();
    let mut met: Vec<(u64, Version)> = Vec::new();
    for action in &txn.actions {
        match *action {
            Action::Write { key, value } => {
                known.insert(key, Some(value));
            }
            Action::Read { key, value } if end.is_some() => match known.insert(key, value) {
                Some(before) if before != value => {
                    let why = format!("T{n} read {value:?} of key {key}, which it knew as {before:?}");
                    work.report(Kind::Internal, vec![n], why);
                }
                Some(_) => {}
                None => {
                    keys.entry(key).or_default().readers.entry(value).or_default().insert(n);
                    met.push((key, value));
                    if let Some(value) = value {
                        work.writer_read(n, key, value, true);
                    }
                }
            },
            Action::Read { .. } | Action::Append { .. } | Action::ReadList { .. } => {}
        }
    }
    for key in known.keys() {
        if let Some(value) = last_write(txn, *key) {
            keys.entry(*key).or_default().written.insert(value, n);
            met.push((*key, Some(value)));
        }
    }
    for (key, version) in met {
        let found = keys.entry(key).or_default();
        found.asked.push((txn.asked, version));
        found.answered.extend(end.map(|at| (at, version)));
    }
}

/// Whatever was met by somebody answered before another was asked is no newer than what the other met.
fn by_time(found: &Key, follows: &mut BTreeSet<(Version, i64)>) {
    for (asked, later) in &found.asked {
        let Some(later) = *later else { continue };
        let earlier = found.answered.iter().filter(|(at, version)| at < asked && *version != Some(later));
        follows.extend(earlier.map(|(_, version)| (*version, later)));
    }
}

fn draw(work: &mut Work<'_>, found: &Key, follows: &BTreeSet<(Version, i64)>) {
    for (before, after) in follows {
        let Some(after) = found.written.get(after) else { continue };
        if let Some(before) = before.and_then(|value| found.written.get(&value)) {
            work.graph.add(*before, *after, Edge::Ww);
        }
        for reader in found.readers.get(before).into_iter().flatten() {
            work.graph.add(*reader, *after, Edge::Rw);
        }
    }
    for (version, readers) in &found.readers {
        if let Some(writer) = version.and_then(|value| found.written.get(&value)) {
            readers.iter().for_each(|reader| work.graph.add(*writer, *reader, Edge::Wr));
        }
    }
}
