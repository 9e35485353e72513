//! What the logs of a database say of each other: a commit over several shards that happened has its part on each of them.
//!
//! Guards: a log whose end was lost, though it was durable, is found out by the others' parts of the commits that stood there; nothing
//! is found that a crash may have left.

use std::collections::BTreeMap;

use crate::ids::{CommitTs, ShardId};

/// Of commits that one shard's log knows to have happened: up to which each shard must have come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Owed {
    settled: CommitTs,
    /// Parts of which it does not say so yet.
    waiting: Vec<(CommitTs, Vec<ShardId>)>,
    by: BTreeMap<ShardId, CommitTs>,
}

/// A shard that does not have what another knows it to have had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missing {
    pub shard: ShardId,
    pub reached: CommitTs,
    pub commit: CommitTs,
    /// Who has its own part.
    pub known_by: ShardId,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Missing { reached, commit, known_by, .. } = self;
        write!(
            f,
            "the log ends with commit {reached}, and shard {} knows that commit {commit} was durable here",
            known_by.0
        )
    }
}

impl Owed {
    /// Every commit up to here happened.
    pub fn settle(&mut self, commit: CommitTs) {
        self.settled = self.settled.max(commit);
        let settled = self.settled;
        let waiting = std::mem::take(&mut self.waiting);
        let (happened, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(at, _)| *at <= settled);
        self.waiting = waiting;
        happened.into_iter().for_each(|(commit, shards)| self.note(commit, shards));
    }

    /// The log has its part of a commit of these shards.
    pub fn part(&mut self, commit: CommitTs, shards: impl Iterator<Item = ShardId>) {
        if commit <= self.settled {
            self.note(commit, shards);
        } else {
            self.waiting.push((commit, shards.collect()));
        }
    }

    /// What stands in the log so far, from this commit on, never happened.
    pub fn void(&mut self, from: CommitTs) {
        self.waiting.retain(|(commit, _)| *commit < from);
    }

    fn note(&mut self, commit: CommitTs, shards: impl IntoIterator<Item = ShardId>) {
        for shard in shards {
            let by = self.by.entry(shard).or_default();
            *by = commit.max(*by);
        }
    }
}

/// The first shard that lacks something. Given of each: the last commit that it has, if that could be read, and what its log says.
pub fn find_missing(shards: &[(Option<CommitTs>, &Owed)]) -> Option<Missing> {
    shards.iter().zip(0..).find_map(|((_, owed), known_by)| {
        owed.by.iter().find_map(|(shard, commit)| {
            let reached = shards.get(shard.index())?.0?;
            let known_by = ShardId(known_by);
            (reached < *commit).then_some(Missing { shard: *shard, reached, commit: *commit, known_by })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(settled: u64, parts: &[(u64, &[u16])]) -> Owed {
        let mut owed = Owed::default();
        for (commit, shards) in parts {
            owed.part(CommitTs(*commit), shards.iter().map(|n| ShardId(*n)));
        }
        owed.settle(CommitTs(settled));
        owed
    }

    fn missing(shards: &[(u64, &Owed)]) -> Option<(u16, u64)> {
        let shards: Vec<_> = shards.iter().map(|(reached, owed)| (Some(CommitTs(*reached)), *owed)).collect();
        find_missing(&shards).map(|missing| (missing.shard.0, missing.commit.0))
    }

    #[test]
    fn a_shard_that_lost_its_part_of_what_happened_is_found() {
        let (first, second) = (parts(7, &[(5, &[0, 1]), (7, &[0, 1])]), parts(5, &[(5, &[0, 1])]));
        assert_eq!(missing(&[(7, &first), (5, &second)]), Some((1, 7)));
        assert_eq!(missing(&[(7, &first), (7, &second)]), None);
    }

    #[test]
    fn what_is_not_known_to_have_happened_is_not_owed() {
        let (first, second) = (parts(5, &[(5, &[0, 1]), (7, &[0, 1])]), parts(5, &[]));
        assert_eq!(missing(&[(7, &first), (5, &second)]), None);
    }

    #[test]
    fn what_was_declared_void_is_never_owed() {
        let mut first = parts(5, &[(5, &[0, 1]), (7, &[0, 1])]);
        first.void(CommitTs(6));
        first.settle(CommitTs(20));
        assert_eq!(missing(&[(20, &first), (5, &Owed::default())]), None);
    }

    #[test]
    fn of_a_shard_that_cannot_be_read_nothing_is_said() {
        let first = parts(7, &[(7, &[0, 1])]);
        assert_eq!(find_missing(&[(Some(CommitTs(7)), &first), (None, &Owed::default())]), None);
    }
}
