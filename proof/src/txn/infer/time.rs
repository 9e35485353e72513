//! Real time: who was answered before another was asked for comes before it.
//!
//! Only edges that no others imply: to each newcomer from those answered before it that nobody answered since has behind him.

use super::Work;
use crate::txn::graph::Edge;
use crate::txn::history::Outcome;

pub fn infer(work: &mut Work<'_>) {
    // Askings before answers of the same moment: those two are at once.
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (n, txn) in work.history.iter().enumerate() {
        if !work.committed[n] {
            continue;
        }
        events.push((txn.asked, false, n));
        if let Outcome::Committed { at } = txn.outcome {
            events.push((at, true, n));
        }
    }
    events.sort_unstable();
    let mut front: Vec<usize> = Vec::new();
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); work.history.len()];
    for (_, answered, n) in events {
        if answered {
            let implied = std::mem::take(&mut behind[n]);
            front.retain(|other| implied.binary_search(other).is_err());
            front.push(n);
        } else {
            front.iter().for_each(|before| work.graph.add(*before, n, Edge::Time));
            behind[n] = front.clone();
            behind[n].sort_unstable();
        }
    }
}
