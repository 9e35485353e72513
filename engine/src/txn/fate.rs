//! What became of commits over several shards whose parts a crash left, by the rule of docs/transactions.md.
//!
//! Guards: a commit is kept on all its shards or on none; what is kept of each shard is a prefix of its order; whatever was
//! visible to anybody before the crash is kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{CommitTs, ShardId};

/// One shard's part of a commit, as it was found in its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub commit: CommitTs,
    /// All shards that must have one.
    pub shards: Vec<ShardId>,
}

/// What one shard does not know by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsettled {
    pub shard: ShardId,
    /// Of every commit of this shard up to here it is known that it happened; its part need not be in the log any more.
    pub settled: CommitTs,
    /// Parts behind that, in the order of the log.
    pub parts: Vec<Part>,
}

/// A log that names a shard which does not exist, or two that tell differently of one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contradiction {
    pub shard: ShardId,
    pub commit: CommitTs,
}

/// Commits over several shards that an opening had to decide about.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Decided {
    /// All their parts were there.
    pub stood: u64,
    /// They lacked a part, or stood behind one that did: they never happened.
    pub fell: u64,
}

impl Decided {
    pub fn of(shards: &[Unsettled], void: &[Option<CommitTs>]) -> Decided {
        let (mut stood, mut fell) = (BTreeSet::new(), BTreeSet::new());
        for (shard, void) in shards.iter().zip(void) {
            for part in &shard.parts {
                let falls = void.is_some_and(|first| part.commit >= first);
                if falls { &mut fell } else { &mut stood }.insert(part.commit);
            }
        }
        Decided { stood: stood.len() as u64, fell: fell.len() as u64 }
    }
}

/// From which commit on each shard's log is void; none: all of it stands.
///
/// A part stands if every shard it names has its own part standing, or had settled it. What stands behind a part that falls
/// falls with it, and may take parts of other shards along; the search ends because each round takes something away.
pub fn decide(shards: &[Unsettled]) -> Result<Vec<Option<CommitTs>>, Contradiction> {
    let found: Vec<BTreeMap<CommitTs, &Part>> =
        shards.iter().map(|shard| shard.parts.iter().map(|part| (part.commit, part)).collect()).collect();
    for shard in shards {
        for part in &shard.parts {
            let agrees = |other: &ShardId| {
                let parts = found.get(other.index())?;
                parts.get(&part.commit).is_none_or(|other| other.shards == part.shards).then_some(())
            };
            if !part.shards.contains(&shard.shard) || part.shards.iter().any(|other| agrees(other).is_none()) {
                return Err(Contradiction { shard: shard.shard, commit: part.commit });
            }
        }
    }
    let mut void: Vec<Option<CommitTs>> = vec![None; shards.len()];
    loop {
        let mut changed = false;
        for (at, shard) in shards.iter().enumerate() {
            let stands = |void: &[Option<CommitTs>], commit: CommitTs, on: &ShardId| {
                let i = on.index();
                commit <= shards[i].settled
                    || (found[i].contains_key(&commit) && void[i].is_none_or(|first| commit < first))
            };
            let first = shard
                .parts
                .iter()
                .take_while(|part| void[at].is_none_or(|first| part.commit < first))
                .find(|part| !part.shards.iter().all(|on| stands(&void, part.commit, on)));
            if let Some(part) = first {
                void[at] = Some(part.commit);
                changed = true;
            }
        }
        if !changed {
            return Ok(void);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(n: u16, settled: u64, parts: &[(u64, &[u16])]) -> Unsettled {
        let part = |(commit, shards): &(u64, &[u16])| Part {
            commit: CommitTs(*commit),
            shards: shards.iter().map(|n| ShardId(*n)).collect(),
        };
        Unsettled { shard: ShardId(n), settled: CommitTs(settled), parts: parts.iter().map(part).collect() }
    }

    fn decided(shards: &[Unsettled]) -> Vec<Option<u64>> {
        decide(shards).unwrap().into_iter().map(|first| first.map(|commit| commit.0)).collect()
    }

    #[test]
    fn a_commit_of_which_every_part_is_there_stands() {
        assert_eq!(decided(&[shard(0, 0, &[(5, &[0, 1])]), shard(1, 0, &[(5, &[0, 1])])]), [None, None]);
    }

    #[test]
    fn a_part_that_another_shard_settled_and_trimmed_stands() {
        assert_eq!(decided(&[shard(0, 0, &[(5, &[0, 1])]), shard(1, 5, &[])]), [None, None]);
        assert_eq!(decided(&[shard(0, 0, &[(5, &[0, 1])]), shard(1, 4, &[])]), [Some(5), None]);
    }

    #[test]
    fn what_falls_takes_along_what_stands_behind_it_anywhere() {
        // 5 lacks a part on 1, so that 7 falls on 0 and with it on 2, and 9 with that.
        let shards = [
            shard(0, 0, &[(4, &[0, 2]), (5, &[0, 1]), (7, &[0, 2])]),
            shard(1, 0, &[(9, &[1, 2])]),
            shard(2, 0, &[(4, &[0, 2]), (7, &[0, 2]), (9, &[1, 2])]),
        ];
        assert_eq!(decided(&shards), [Some(5), Some(9), Some(7)]);
        let counted = Decided::of(&shards, &decide(&shards).unwrap());
        assert_eq!(counted, Decided { stood: 1, fell: 3 });
    }

    #[test]
    fn logs_that_contradict_each_other_are_refused() {
        let refused = |shards: &[Unsettled]| decide(shards).unwrap_err().commit.0;
        assert_eq!(refused(&[shard(0, 0, &[(5, &[0, 9])]), shard(1, 0, &[])]), 5);
        assert_eq!(refused(&[shard(0, 0, &[(5, &[1, 2])]), shard(1, 0, &[]), shard(2, 0, &[])]), 5);
        let differ = [shard(0, 0, &[(6, &[0, 1])]), shard(1, 0, &[(6, &[0, 1, 2])]), shard(2, 0, &[])];
        assert_eq!(refused(&differ), 6);
    }
}
