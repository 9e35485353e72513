//! Sessions that wait for each other in a circle.
//!
//! Guards: who is named waits in a circle that stood at one moment. The shards are looked at one after the other, so that
//! only waits seen in two looks in a row count: all of them stood between the two.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::table::{Edge, Ticket};
use crate::ids::{SessionId, ShardId};

/// A wait, wherever it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaitAt {
    pub shard: ShardId,
    pub name: Box<[u8]>,
    pub ticket: Ticket,
}

/// One wait to end, and the circle that it is part of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Victim {
    pub wait: WaitAt,
    pub cycle: Vec<SessionId>,
}

type Seen = HashSet<(WaitAt, SessionId)>;

/// What the look before this one saw.
#[derive(Default)]
pub struct Detector {
    before: Seen,
}

impl Detector {
    /// Look at all waits; names those to be ended, one for each circle: the one that came last.
    pub fn look(&mut self, edges: &[(WaitAt, Edge)]) -> Vec<Victim> {
        let now: Seen = edges.iter().map(|(wait, edge)| (wait.clone(), edge.blocker)).collect();
        let stable = |(wait, edge): &&(WaitAt, Edge)| self.before.contains(&(wait.clone(), edge.blocker));
        let mut standing: Vec<&(WaitAt, Edge)> = edges.iter().filter(stable).collect();
        let mut victims = Vec::new();
        while let Some(cycle) = find_cycle(&standing) {
            let on_cycle = |edge: &Edge| {
                let at = cycle.iter().position(|session| *session == edge.waiter);
                at.is_some_and(|at| cycle[(at + 1) % cycle.len()] == edge.blocker)
            };
            let last =
                standing.iter().filter(|(_, edge)| on_cycle(edge)).max_by_key(|(wait, edge)| (edge.since_ms, wait));
            let Some((wait, _)) = last else { break };
            let wait = wait.clone();
            standing.retain(|(other, _)| *other != wait);
            victims.push(Victim { wait, cycle });
        }
        self.before = now;
        victims
    }
}

/// Some circle, each waiting for the next, the last for the first.
fn find_cycle(edges: &[&(WaitAt, Edge)]) -> Option<Vec<SessionId>> {
    let mut waits_for: BTreeMap<SessionId, BTreeSet<SessionId>> = BTreeMap::new();
    for (_, edge) in edges {
        waits_for.entry(edge.waiter).or_default().insert(edge.blocker);
    }
    let mut done: HashSet<SessionId> = HashSet::new();
    for start in waits_for.keys() {
        // A path, and what is left to try from each of its ends.
        let mut path = vec![*start];
        let mut left: Vec<Vec<SessionId>> = vec![waits_for[start].iter().copied().collect()];
        while let Some(next) = left.last_mut() {
            match next.pop() {
                Some(session) => {
                    if let Some(at) = path.iter().position(|on_path| *on_path == session) {
                        return Some(path.split_off(at));
                    }
                    if !done.contains(&session)
                        && let Some(further) = waits_for.get(&session)
                    {
                        path.push(session);
                        left.push(further.iter().copied().collect());
                    }
                }
                None => {
                    left.pop();
                    done.extend(path.pop());
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(waiter: u64, blocker: u64, since_ms: u64) -> (WaitAt, Edge) {
        let ticket = Ticket(waiter * 100 + blocker);
        let edge = Edge { waiter: SessionId(waiter), since_ms, ticket, blocker: SessionId(blocker) };
        (WaitAt { shard: ShardId((waiter % 2) as u16), name: Box::from(*b"n"), ticket }, edge)
    }

    #[test]
    fn a_circle_seen_twice_loses_its_youngest_wait() {
        let edges = [wait(1, 2, 10), wait(2, 3, 30), wait(3, 1, 20), wait(4, 1, 50), wait(5, 6, 60)];
        let mut detector = Detector::default();
        assert_eq!(detector.look(&edges), [], "seen once");
        let victims = detector.look(&edges);
        assert_eq!(victims.len(), 1);
        assert_eq!(victims[0].wait, edges[1].0);
        let mut cycle = victims[0].cycle.clone();
        cycle.sort_unstable();
        assert_eq!(cycle, [SessionId(1), SessionId(2), SessionId(3)]);
    }

    #[test]
    fn waits_that_did_not_stand_together_are_no_circle() {
        let mut detector = Detector::default();
        detector.look(&[wait(1, 2, 10)]);
        assert_eq!(detector.look(&[wait(2, 1, 20)]), []);
        assert_eq!(detector.look(&[wait(1, 2, 30), wait(2, 1, 20)]), [], "one of them is new");
        assert_eq!(detector.look(&[wait(1, 2, 30), wait(2, 1, 20)]).len(), 1);
    }

    #[test]
    fn each_of_two_circles_loses_one() {
        let edges = [wait(1, 2, 1), wait(2, 1, 2), wait(3, 4, 3), wait(4, 3, 4), wait(1, 3, 5)];
        let mut detector = Detector::default();
        detector.look(&edges);
        let victims: Vec<_> = detector.look(&edges).into_iter().map(|victim| victim.wait.ticket).collect();
        assert_eq!(victims.len(), 2);
        assert!(victims.contains(&Ticket(201)) && victims.contains(&Ticket(403)));
    }
}
