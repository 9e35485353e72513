//! Lists: the longest read of a key is the order of its versions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Work;
use crate::txn::cycles::Kind;
use crate::txn::graph::Edge;
use crate::txn::history::{Action, Outcome};

/// What one transaction saw of a list that others had made, before its own appends.
struct Seen {
    reader: usize,
    values: Vec<i64>,
}

pub fn infer(work: &mut Work<'_>) {
    let mut seen: BTreeMap<u64, Vec<Seen>> = BTreeMap::new();
    let mut longest: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    let mut reads: BTreeMap<u64, Vec<(usize, Vec<i64>)>> = BTreeMap::new();
    let answered: Vec<usize> = work.answered().into_iter().map(|(n, _)| n).collect();
    for reader in answered {
        for (key, values) in read_alone(work, reader) {
            seen.entry(key).or_default().push(Seen { reader, values });
        }
        for action in &work.history[reader].actions {
            if let Action::ReadList { key, values } = action {
                let order = longest.entry(*key).or_default();
                if values.len() > order.len() {
                    order.clone_from(values);
                }
                reads.entry(*key).or_default().push((reader, values.clone()));
            }
        }
    }
    for (key, reads) in reads {
        check_reads(work, key, &reads, &longest[&key]);
    }
    let unread = unread(work, &longest);
    for (key, order) in &longest {
        let beyond = unread.get(key).map_or(&[] as &[usize], Vec::as_slice);
        draw(work, *key, order, beyond, seen.get(key).map_or(&[] as &[Seen], Vec::as_slice));
    }
}

/// What the transaction read first of each key, without what it had appended itself; contradictions within it are reported.
fn read_alone(work: &mut Work<'_>, n: usize) -> Vec<(u64, Vec<i64>)> {
    struct Key {
        /// All that is known of the list, once it was read.
        known: Option<Vec<i64>>,
        own: Vec<i64>,
    }
    let mut keys: BTreeMap<u64, Key> = BTreeMap::new();
    let (mut first, mut wrong) = (Vec::new(), Vec::new());
    for action in &work.history[n].actions {
        let state = keys.entry(action.key()).or_insert_with(|| Key { known: None, own: Vec::new() });
        match action {
            Action::Append { value, .. } => {
                state.own.push(*value);
                state.known.iter_mut().for_each(|known| known.push(*value));
            }
            Action::ReadList { key, values } => {
                let fits = match &state.known {
                    Some(known) => known == values,
                    None => values.ends_with(&state.own),
                };
                if !fits {
                    wrong.push(format!("T{n} read {values:?} of key {key}, which it knew otherwise"));
                } else if state.known.is_none() {
                    first.push((*key, values[..values.len() - state.own.len()].to_vec()));
                }
                state.known = Some(values.clone());
            }
            Action::Write { .. } | Action::Read { .. } => {}
        }
    }
    wrong.into_iter().for_each(|why| work.report(Kind::Internal, vec![n], why));
    first
}

fn check_reads(work: &mut Work<'_>, key: u64, reads: &[(usize, Vec<i64>)], longest: &[i64]) {
    for (reader, values) in reads {
        if !longest.starts_with(values) {
            let why = format!("T{reader} read {values:?} of key {key}, and another {longest:?}");
            work.report(Kind::Incompatible, vec![*reader], why);
        }
        let distinct: BTreeSet<_> = values.iter().collect();
        if distinct.len() < values.len() {
            work.report(Kind::Duplicate, vec![*reader], format!("T{reader} read {values:?} of key {key}"));
        }
        for (at, value) in values.iter().enumerate() {
            work.writer_read(*reader, key, *value, at + 1 == values.len());
        }
    }
}

/// For each key, committed transactions with an append that no read shows: it comes after all that was read.
fn unread(work: &Work<'_>, longest: &BTreeMap<u64, Vec<i64>>) -> HashMap<u64, Vec<usize>> {
    let mut unread: HashMap<u64, Vec<usize>> = HashMap::new();
    let read: BTreeSet<(u64, i64)> =
        longest.iter().flat_map(|(key, order)| order.iter().map(|value| (*key, *value))).collect();
    for (n, txn) in work.history.iter().enumerate().filter(|(n, _)| work.committed[*n]) {
        for action in &txn.actions {
            if let Action::Append { key, value } = action
                && !read.contains(&(*key, *value))
            {
                unread.entry(*key).or_default().push(n);
            }
        }
    }
    unread
}

fn draw(work: &mut Work<'_>, key: u64, order: &[i64], beyond: &[usize], seen: &[Seen]) {
    let writer = |work: &Work<'_>, value: &i64| work.writers.get(&(key, *value)).copied();
    for pair in order.windows(2) {
        if let (Some(before), Some(after)) = (writer(work, &pair[0]), writer(work, &pair[1])) {
            work.graph.add(before, after, Edge::Ww);
        }
    }
    if let Some(last) = order.last().and_then(|value| writer(work, value)) {
        beyond.iter().for_each(|after| work.graph.add(last, *after, Edge::Ww));
    }
    let mut readers: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for Seen { reader, values } in seen.iter().filter(|seen| order.starts_with(&seen.values)) {
        readers.entry(values.len()).or_default().insert(*reader);
        if let Some(wrote) = values.last().and_then(|value| writer(work, value)) {
            work.graph.add(wrote, *reader, Edge::Wr);
        }
        match order.get(values.len()) {
            Some(next) => {
                if let Some(next) = writer(work, next) {
                    work.graph.add(*reader, next, Edge::Rw);
                }
            }
            None => beyond.iter().for_each(|next| work.graph.add(*reader, *next, Edge::Rw)),
        }
    }
    // An aborted one has no edges: what it wrote was reported when it was read.
    debug_assert!(beyond.iter().all(|n| work.history[*n].outcome != Outcome::Aborted));
    work.report_lost_updates(key, &readers);
}
