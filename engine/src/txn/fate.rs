//! What became of commits over several shards whose parts a crash left, by the rule of docs/transactions.md.
//!
//! Guards: a commit is kept on all its shards or on none; what is kept of each shard is a prefix of its order; whatever was
//! visible to anybody before the crash is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::owed::{Missing, Owed, find_missing};
use crate::ids::{CommitTs, ShardId};

/// One shard's part of a commit, as it was found in its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub commit: CommitTs,
    /// All shards that must have one.
    pub shards: Vec<ShardId>,
    /// Those of other shards that it carries.
    pub carried: Vec<Carried>,
}

/// A shard's part of a commit, as another shard's log holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    pub shard: ShardId,
    /// The commit that came before it on that shard.
    pub before: CommitTs,
    /// What that shard's own log would hold.
    pub record: Vec<u8>,
}

/// What one shard does not know by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsettled {
    pub shard: ShardId,
    /// Of every commit of this shard up to here it is known that it happened; its part need not be in the log any more.
    pub settled: CommitTs,
    /// The last commit that its log or its tables hold, whatever becomes of it.
    pub last: CommitTs,
    /// Parts behind what is settled, in the order of the log.
    pub parts: Vec<Part>,
}

/// What becomes of the end of one shard's log.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    /// From this commit on it is void; none: all of it stands.
    pub void_from: Option<CommitTs>,
    /// Parts that it lost and others carry, in order: they come behind all it has.
    pub adopt: Vec<Vec<u8>>,
}

/// Logs that cannot all be what their shards wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contradiction {
    /// A log names a shard which does not exist, or tells otherwise of a commit than another.
    Differs { shard: ShardId, commit: CommitTs },
    /// What a shard lost takes along a commit of which another shard knows that it happened.
    Missing(Missing),
}

impl Contradiction {
    /// Whose log it is.
    pub fn shard(&self) -> ShardId {
        match self {
            Contradiction::Differs { shard, .. } | Contradiction::Missing(Missing { shard, .. }) => *shard,
        }
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contradiction::Differs { commit, .. } => {
                write!(f, "the log tells of commit {commit} otherwise than those of its other shards")
            }
            Contradiction::Missing(missing) => missing.fmt(f),
        }
    }
}

/// Commits over several shards that an opening had to decide about.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Decided {
    /// All their parts were there, or carried by one that was.
    pub stood: u64,
    /// They lacked a part, or stood behind one that did: they never happened.
    pub fell: u64,
}

impl Decided {
    pub fn of(shards: &[Unsettled], verdicts: &[Verdict]) -> Decided {
        let (mut stood, mut fell) = (BTreeSet::new(), BTreeSet::new());
        for (shard, verdict) in shards.iter().zip(verdicts) {
            for part in &shard.parts {
                let falls = verdict.void_from.is_some_and(|first| part.commit >= first);
                if falls { &mut fell } else { &mut stood }.insert(part.commit);
            }
        }
        Decided { stood: stood.len() as u64, fell: fell.len() as u64 }
    }
}

/// As [`decide`], if the logs agree on what happened: what each knows the others to have had is there. Given of each shard: the last
/// commit that it has, what its log says of the others, and its end; those that could be read.
pub fn agree(
    known: &[(Option<CommitTs>, &Owed)],
    unsettled: Option<&[Unsettled]>,
) -> Result<Vec<Verdict>, Contradiction> {
    match find_missing(known) {
        Some(missing) => Err(Contradiction::Missing(missing)),
        None => unsettled.map_or(Ok(Vec::new()), decide),
    }
}

/// What becomes of the ends of all logs.
///
/// A part stands if every shard it names has its own part standing, or had settled it, or can take it over from a part that stands and
/// carries it. A shard takes parts over in its order, behind all that its log holds, and only if nothing is missing between. What stands
/// behind a part that falls falls with it, and may take parts of other shards along; the search ends because each round takes
/// something away. Nothing that any shard had settled falls after an honest crash: then all before it was durable everywhere.
pub fn decide(shards: &[Unsettled]) -> Result<Vec<Verdict>, Contradiction> {
    let found: Vec<BTreeMap<CommitTs, &Part>> =
        shards.iter().map(|shard| shard.parts.iter().map(|part| (part.commit, part)).collect()).collect();
    for shard in shards {
        for part in &shard.parts {
            let agrees = |other: &ShardId| {
                let parts = found.get(other.index())?;
                parts.get(&part.commit).is_none_or(|other| other.shards == part.shards).then_some(())
            };
            let names = |other: &ShardId| part.shards.contains(other);
            let named = names(&shard.shard) && part.carried.iter().all(|carried| names(&carried.shard));
            if !named || part.shards.iter().any(|other| agrees(other).is_none()) {
                return Err(Contradiction::Differs { shard: shard.shard, commit: part.commit });
            }
        }
    }
    let mut void: Vec<Option<CommitTs>> = vec![None; shards.len()];
    loop {
        let adopted = adopted(shards, &void);
        let mut changed = false;
        for (at, shard) in shards.iter().enumerate() {
            let stands = |void: &[Option<CommitTs>], commit: CommitTs, on: &ShardId| {
                let i = on.index();
                commit <= shards[i].settled
                    || (found[i].contains_key(&commit) && void[i].is_none_or(|first| commit < first))
                    || adopted[i].contains_key(&commit)
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
            if let Some(missing) = find_known(shards, &found, &void) {
                return Err(Contradiction::Missing(missing));
            }
            let adopt = adopted.into_iter().map(|parts| parts.into_values().map(|part| part.record.clone()).collect());
            return Ok(void.into_iter().zip(adopt).map(|(void_from, adopt)| Verdict { void_from, adopt }).collect());
        }
    }
}

/// What was lost if something falls of which a shard knows that it happened.
fn find_known(shards: &[Unsettled], found: &[BTreeMap<CommitTs, &Part>], void: &[Option<CommitTs>]) -> Option<Missing> {
    let falls = |at: usize, commit: CommitTs| void[at].is_some_and(|first| first <= commit);
    let known = shards.iter().enumerate().find_map(|(at, shard)| {
        let mut fallen = shard.parts.iter().skip_while(|part| !falls(at, part.commit));
        fallen.find_map(|part| {
            let known_by = part.shards.iter().find(|on| part.commit <= shards[on.index()].settled)?;
            Some((at, *known_by))
        })
    });
    let (mut at, known_by) = known?;
    // The first that falls on a shard lacks a part, or rests on what fell on another before.
    loop {
        let commit = void[at].expect("something falls there");
        let others = || found[at][&commit].shards.iter().map(|on| on.index());
        let lacks = |on: &usize| !found[*on].contains_key(&commit) && commit > shards[*on].settled;
        let fell_before = |on: &usize| falls(*on, CommitTs(commit.0 - 1));
        let carried = |on: &usize| {
            let parts = found.iter().filter_map(|parts| parts.get(&commit));
            parts.flat_map(|part| &part.carried).any(|carried| carried.shard.index() == *on)
        };
        let lost = others().find(|on| lacks(on) && !carried(on) && !fell_before(on));
        // What others carry, they could not put behind a gap.
        let lost = lost.or_else(|| others().find(lacks).filter(|_| !others().any(|on| fell_before(&on))));
        if let Some(on) = lost {
            let Unsettled { shard, last, .. } = shards[on];
            return Some(Missing { shard, reached: last, commit, known_by });
        }
        at = others().find(fell_before).expect("else it would stand");
    }
}

/// What each shard can take over from parts that stand.
fn adopted<'a>(shards: &'a [Unsettled], void: &[Option<CommitTs>]) -> Vec<BTreeMap<CommitTs, &'a Carried>> {
    let mut offered: Vec<BTreeMap<CommitTs, &Carried>> = vec![BTreeMap::new(); shards.len()];
    for (shard, void) in shards.iter().zip(void) {
        for part in shard.parts.iter().take_while(|part| void.is_none_or(|first| part.commit < first)) {
            for carried in &part.carried {
                offered[carried.shard.index()].insert(part.commit, carried);
            }
        }
    }
    for ((shard, void), offered) in shards.iter().zip(void).zip(&mut offered) {
        // What comes behind something void would rest on it.
        let mut last = shard.last;
        let mut whole = void.is_none();
        offered.retain(|commit, carried| {
            if *commit <= shard.last {
                return false;
            }
            whole &= carried.before <= last;
            last = *commit;
            whole
        });
    }
    offered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(n: u16, settled: u64, parts: &[(u64, &[u16])]) -> Unsettled {
        let part = |(commit, shards): &(u64, &[u16])| Part {
            commit: CommitTs(*commit),
            shards: shards.iter().map(|n| ShardId(*n)).collect(),
            carried: Vec::new(),
        };
        let last = parts.last().map_or(settled, |(commit, _)| *commit).max(settled);
        Unsettled {
            shard: ShardId(n),
            settled: CommitTs(settled),
            last: CommitTs(last),
            parts: parts.iter().map(part).collect(),
        }
    }

    /// Have the part of `commit` carry that of another shard, on which `before` came before it.
    fn carrying(mut of: Unsettled, commit: u64, shard: u16, before: u64) -> Unsettled {
        let part = of.parts.iter_mut().find(|part| part.commit.0 == commit).unwrap();
        part.carried.push(Carried { shard: ShardId(shard), before: CommitTs(before), record: vec![commit as u8] });
        of
    }

    fn decided(shards: &[Unsettled]) -> Vec<Option<u64>> {
        decide(shards).unwrap().into_iter().map(|verdict| verdict.void_from.map(|commit| commit.0)).collect()
    }

    fn adopted(shards: &[Unsettled]) -> Vec<Vec<u8>> {
        decide(shards).unwrap().into_iter().map(|verdict| verdict.adopt.concat()).collect()
    }

    #[test]
    fn a_lost_part_that_another_carries_is_taken_over() {
        let shards = [carrying(shard(0, 0, &[(5, &[0, 1])]), 5, 1, 3), shard(1, 3, &[])];
        assert_eq!(decided(&shards), [None, None]);
        assert_eq!(adopted(&shards), [vec![], vec![5]]);
        // It is there already, or was settled.
        let there = [carrying(shard(0, 0, &[(5, &[0, 1])]), 5, 1, 3), shard(1, 3, &[(5, &[0, 1])])];
        assert_eq!(adopted(&there), [vec![], vec![]]);
        let settled = [carrying(shard(0, 0, &[(5, &[0, 1])]), 5, 1, 3), shard(1, 6, &[])];
        assert_eq!((decided(&settled), adopted(&settled)), (vec![None, None], vec![vec![], vec![]]));
    }

    #[test]
    fn nothing_is_taken_over_behind_a_gap() {
        // 4 came before 5 on shard 1 and is lost.
        let gap = [carrying(shard(0, 0, &[(5, &[0, 1])]), 5, 1, 4), shard(1, 3, &[])];
        assert_eq!((decided(&gap), adopted(&gap)), (vec![Some(5), None], vec![vec![], vec![]]));
        // Another shard carries 4, unless that falls.
        let first = |parts: &[(u64, &[u16])]| carrying(shard(2, 0, parts), 4, 1, 3);
        let whole = [gap[0].clone(), gap[1].clone(), first(&[(4, &[1, 2])])];
        assert_eq!((decided(&whole), adopted(&whole)), (vec![None; 3], vec![vec![], vec![4, 5], vec![]]));
        let falls = [gap[0].clone(), gap[1].clone(), first(&[(4, &[1, 2, 3])]), shard(3, 0, &[])];
        assert_eq!(decided(&falls), [Some(5), None, Some(4), None]);
        assert_eq!(adopted(&falls), vec![Vec::<u8>::new(); 4]);
    }

    #[test]
    fn nothing_is_taken_over_behind_what_is_void() {
        // 4 lacks a part on 2, so that the end of 1 is void, and 5 rests on it.
        let shards = [carrying(shard(0, 0, &[(5, &[0, 1])]), 5, 1, 4), shard(1, 0, &[(4, &[1, 2])]), shard(2, 0, &[])];
        assert_eq!((decided(&shards), adopted(&shards)), (vec![Some(5), Some(4), None], vec![vec![], vec![], vec![]]));
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

    /// The shard that lost something, the first commit that falls for it, and who knows of one that falls.
    fn missing(shards: &[Unsettled]) -> Option<(u16, u64, u16)> {
        match decide(shards) {
            Err(Contradiction::Missing(Missing { shard, commit, known_by, .. })) => {
                Some((shard.0, commit.0, known_by.0))
            }
            Err(differs) => panic!("{differs}"),
            Ok(_) => None,
        }
    }

    #[test]
    fn nothing_falls_that_another_shard_had_settled() {
        // 5 lacks a part on 1, so that 7 falls on 0, which 2 had settled.
        let parts: [(u64, &[u16]); 2] = [(5, &[0, 1]), (7, &[0, 2])];
        let lost = |settled| [shard(0, 0, &parts), shard(1, 0, &[]), shard(2, settled, &[])];
        assert_eq!(missing(&lost(7)), Some((1, 5, 2)));
        assert_eq!(missing(&lost(6)), None);
    }

    #[test]
    fn what_was_lost_is_named_at_the_root_of_what_falls() {
        // 3 lacks a part on 3; with it 5 falls on 1, 7 on 0, and 8, which 4 had settled.
        let shards = [
            shard(0, 0, &[(5, &[0, 1]), (7, &[0, 2]), (8, &[0, 4])]),
            shard(1, 0, &[(3, &[1, 3]), (5, &[0, 1])]),
            shard(2, 0, &[(7, &[0, 2])]),
            shard(3, 2, &[]),
            shard(4, 9, &[]),
        ];
        assert_eq!(missing(&shards), Some((3, 3, 4)));
    }

    #[test]
    fn a_part_that_rides_is_lost_by_whom_its_line_stops_at() {
        // 4, which nobody carries, came before the carried 5 on 1; 2 had settled 7.
        let behind_a_gap = carrying(shard(0, 0, &[(5, &[0, 1]), (7, &[0, 2])]), 5, 1, 4);
        assert_eq!(missing(&[behind_a_gap.clone(), shard(1, 3, &[]), shard(2, 8, &[])]), Some((1, 5, 2)));
        // Not it, but 3, which 4 lacks its part of, is why 1 cannot take over.
        let rests = shard(1, 3, &[(4, &[1, 3])]);
        assert_eq!(missing(&[behind_a_gap, rests, shard(2, 8, &[]), shard(3, 0, &[])]), Some((3, 4, 2)));
    }

    #[test]
    fn logs_that_contradict_each_other_are_refused() {
        let refused = |shards: &[Unsettled]| match decide(shards).unwrap_err() {
            Contradiction::Differs { commit, .. } => commit.0,
            Contradiction::Missing(missing) => panic!("{missing}"),
        };
        assert_eq!(refused(&[shard(0, 0, &[(5, &[0, 9])]), shard(1, 0, &[])]), 5);
        assert_eq!(refused(&[shard(0, 0, &[(5, &[1, 2])]), shard(1, 0, &[]), shard(2, 0, &[])]), 5);
        let differ = [shard(0, 0, &[(6, &[0, 1])]), shard(1, 0, &[(6, &[0, 1, 2])]), shard(2, 0, &[])];
        assert_eq!(refused(&differ), 6);
        let foreign = [carrying(shard(0, 0, &[(6, &[0, 1])]), 6, 2, 0), shard(1, 0, &[]), shard(2, 0, &[])];
        assert_eq!(refused(&foreign), 6);
    }
}
