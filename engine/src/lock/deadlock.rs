//! Sessions that wait for each other in a circle.
//!
//! Guards: who is named waits in a circle that stood at one moment, and nobody outside it can end it. The shards are looked at one
//! after the other, so that only waits seen in two looks in a row count: all of them stood between the two.
//!
//! A session is stuck if one of its waits is, and a wait is stuck if those who stand in its way and are not stuck cannot make
//! enough room for it. So a semaphore's waiter is not stuck while a holder of enough permits runs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::line::Ticket;
use super::names::LockId;
use crate::ids::{SessionId, ShardId};

/// That a session waits for a lock of some shard, since a certain ticket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartId {
    pub session: SessionId,
    pub lock: LockId,
    pub began: Ticket,
}

/// A wait, and which of the entangled sessions stand in its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blocked {
    pub part: PartId,
    pub since_ms: u64,
    /// How much of the blockers' weight must go.
    pub needs: u64,
    pub blockers: Vec<(SessionId, u64)>,
}

/// A wait, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaitAt {
    pub shard: ShardId,
    pub part: PartId,
}

/// One wait to end, and the circle that it is part of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Victim {
    pub wait: WaitAt,
    pub cycle: Vec<SessionId>,
}

/// What the look before this one saw.
#[derive(Default)]
pub struct Detector {
    before: HashSet<(WaitAt, SessionId)>,
}

/// Who waits for whom among the stuck.
type Edges<'a> = BTreeMap<SessionId, BTreeMap<SessionId, &'a (ShardId, Blocked)>>;

impl Detector {
    /// Nobody is entangled.
    pub fn see_nothing(&mut self) {
        self.before.clear();
    }

    /// Whether the last look saw waits that may be part of a circle.
    pub fn has_suspects(&self) -> bool {
        !self.before.is_empty()
    }

    /// Look at the waits of all entangled sessions; names those to be ended, one for each circle: the one that came last.
    /// Circles that share a session are broken one after the other, in the looks to come.
    pub fn look(&mut self, blocked: &[(ShardId, Blocked)]) -> Vec<Victim> {
        let stuck = stuck(blocked);
        let place = |shard: &ShardId, wait: &Blocked| WaitAt { shard: *shard, part: wait.part };
        let mut edges = Edges::new();
        let mut now = HashSet::new();
        for each @ (shard, wait) in blocked.iter().filter(|(_, wait)| stuck.contains(&wait.part.session)) {
            let from = edges.entry(wait.part.session).or_default();
            for (blocker, _) in wait.blockers.iter().filter(|(blocker, _)| stuck.contains(blocker)) {
                let seen = (place(shard, wait), *blocker);
                if self.before.contains(&seen) {
                    // Of two waits for one session, the older one counts.
                    let edge = from.entry(*blocker).or_insert(each);
                    if wait.since_ms < edge.1.since_ms {
                        *edge = each;
                    }
                }
                now.insert(seen);
            }
        }
        self.before = now;
        let victims = circles(&edges).into_iter().filter_map(|cycle| {
            let waits = (0..cycle.len()).filter_map(|at| edges.get(&cycle[at])?.get(&cycle[(at + 1) % cycle.len()]));
            let (shard, last) = waits.max_by_key(|(shard, wait)| (wait.since_ms, place(shard, wait)))?;
            Some(Victim { wait: place(shard, last), cycle })
        });
        victims.collect()
    }
}

/// The sessions with a wait that no session outside them can end.
fn stuck(blocked: &[(ShardId, Blocked)]) -> BTreeSet<SessionId> {
    let mut waits: BTreeMap<SessionId, usize> = BTreeMap::new();
    let mut blocks: BTreeMap<SessionId, Vec<(usize, u64)>> = BTreeMap::new();
    for (at, (_, wait)) in blocked.iter().enumerate() {
        *waits.entry(wait.part.session).or_default() += 1;
        wait.blockers.iter().for_each(|(blocker, weight)| blocks.entry(*blocker).or_default().push((at, *weight)));
    }
    let mut needs: Vec<u64> = blocked.iter().map(|(_, wait)| wait.needs).collect();
    let mut free: Vec<SessionId> = blocks.keys().filter(|session| !waits.contains_key(session)).copied().collect();
    while let Some(session) = free.pop() {
        for (at, weight) in blocks.get(&session).into_iter().flatten() {
            let was_stuck = needs[*at] > 0;
            needs[*at] = needs[*at].saturating_sub(*weight);
            if was_stuck && needs[*at] == 0 {
                let waiter = blocked[*at].1.part.session;
                let left = waits.get_mut(&waiter).expect("counted above");
                *left -= 1;
                if *left == 0 {
                    waits.remove(&waiter);
                    free.push(waiter);
                }
            }
        }
    }
    waits.into_keys().collect()
}

/// Circles that share no session, each session waiting for the next, the last for the first.
fn circles(edges: &Edges<'_>) -> Vec<Vec<SessionId>> {
    let mut circles = Vec::new();
    let mut done: HashSet<SessionId> = HashSet::new();
    let next_of = |session: &SessionId| edges.get(session).map(|next| next.keys().copied().collect::<Vec<_>>());
    for start in edges.keys() {
        if done.contains(start) {
            continue;
        }
        // A path with its places, and what is left to try from each of its ends.
        let (mut path, mut places) = (vec![*start], BTreeMap::from([(*start, 0)]));
        let mut left = vec![next_of(start).unwrap_or_default()];
        while let Some(next) = left.last_mut() {
            let step = next.pop();
            match step {
                Some(session) if done.contains(&session) => {}
                Some(session) => match (places.get(&session), next_of(&session)) {
                    (Some(at), _) => {
                        circles.push(path[*at..].to_vec());
                        done.extend(path.drain(..));
                        break;
                    }
                    (None, Some(further)) => {
                        places.insert(session, path.len());
                        path.push(session);
                        left.push(further);
                    }
                    (None, None) => {}
                },
                None => {
                    left.pop();
                    if let Some(session) = path.pop() {
                        places.remove(&session);
                        done.insert(session);
                    }
                }
            }
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(waiter: u64, blockers: &[u64], since_ms: u64) -> (ShardId, Blocked) {
        some_of(waiter, blockers, since_ms, blockers.len() as u64)
    }

    fn some_of(waiter: u64, blockers: &[u64], since_ms: u64, needs: u64) -> (ShardId, Blocked) {
        let lock = LockId((waiter * 100 + blockers[0]) as u32);
        let part = PartId { session: SessionId(waiter), lock, began: Ticket(waiter * 1000 + since_ms) };
        let blockers = blockers.iter().map(|blocker| (SessionId(*blocker), 1)).collect();
        (ShardId((waiter % 2) as u16), Blocked { part, since_ms, needs, blockers })
    }

    fn sessions(victims: &[Victim]) -> Vec<u64> {
        victims.iter().map(|victim| victim.wait.part.session.0).collect()
    }

    #[test]
    fn a_circle_seen_twice_loses_its_youngest_wait() {
        let waits = [wait(1, &[2], 10), wait(2, &[3], 30), wait(3, &[1], 20), wait(4, &[1], 50), wait(5, &[6], 60)];
        let mut detector = Detector::default();
        assert_eq!(detector.look(&waits), [], "seen once");
        let victims = detector.look(&waits);
        assert_eq!(sessions(&victims), [2]);
        let mut cycle = victims[0].cycle.clone();
        cycle.sort_unstable();
        assert_eq!(cycle, [SessionId(1), SessionId(2), SessionId(3)]);
    }

    #[test]
    fn waits_that_did_not_stand_together_are_no_circle() {
        let mut detector = Detector::default();
        detector.look(&[wait(1, &[2], 10)]);
        assert_eq!(detector.look(&[wait(2, &[1], 20)]), []);
        assert_eq!(detector.look(&[wait(1, &[2], 30), wait(2, &[1], 20)]), [], "one of them is new");
        assert_eq!(detector.look(&[wait(1, &[2], 30), wait(2, &[1], 20)]).len(), 1);
        detector.see_nothing();
        assert_eq!(detector.look(&[wait(1, &[2], 30), wait(2, &[1], 20)]), []);
    }

    #[test]
    fn each_of_two_circles_loses_one() {
        let waits = [wait(1, &[2], 1), wait(2, &[1], 2), wait(3, &[4], 3), wait(4, &[3], 4), wait(1, &[3], 5)];
        let mut detector = Detector::default();
        detector.look(&waits);
        let mut ended = sessions(&detector.look(&waits));
        // Should the first circle found share a session with the other, that one is left to the next look.
        let rest: Vec<_> = waits.iter().filter(|(_, w)| !ended.contains(&w.part.session.0)).cloned().collect();
        ended.extend(sessions(&detector.look(&rest)));
        ended.sort_unstable();
        assert_eq!(ended, [2, 4]);
    }

    #[test]
    fn a_semaphore_is_no_circle_while_a_holder_of_enough_runs() {
        // One of two holders is enough, and the other waits for nobody.
        let waits = [some_of(1, &[2, 3], 1, 1), wait(2, &[1], 2)];
        let mut detector = Detector::default();
        detector.look(&waits);
        assert_eq!(detector.look(&waits), []);
        let all = [some_of(1, &[2, 3], 1, 1), wait(2, &[1], 2), wait(3, &[1], 3)];
        detector.look(&all);
        assert_eq!(detector.look(&all).len(), 1);
    }

    #[test]
    fn a_hundred_thousand_in_a_row_or_in_a_ring_are_judged_at_once() {
        let row: Vec<_> = (1..100_000).map(|n| wait(n, &[n + 1], n)).collect();
        let mut detector = Detector::default();
        let began = std::time::Instant::now();
        detector.look(&row);
        assert_eq!(detector.look(&row), []);
        let ring: Vec<_> = row.iter().cloned().chain([wait(100_000, &[1], 0)]).collect();
        detector.look(&ring);
        let victims = detector.look(&ring);
        assert_eq!((sessions(&victims), victims[0].cycle.len()), (vec![99_999], 100_000));
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }
}
