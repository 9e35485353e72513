//! A graph of transactions with kinds of edges, its strongly connected parts, and shortest paths in it.

use std::collections::{HashMap, VecDeque};

/// Why one transaction comes before another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Edge {
    /// It wrote the version that the other's write followed.
    Ww,
    /// It wrote what the other read.
    Wr,
    /// It read the version that the other's write followed.
    Rw,
    /// It was answered before the other was asked for.
    Time,
}

/// A set of kinds of edges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edges(u8);

impl Edges {
    pub const NONE: Edges = Edges(0);

    pub const fn and(self, edge: Edge) -> Edges {
        Edges(self.0 | 1 << edge as u8)
    }

    pub const fn has(self, edge: Edge) -> bool {
        self.0 & 1 << edge as u8 != 0
    }

    fn meets(self, other: Edges) -> bool {
        self.0 & other.0 != 0
    }
}

#[derive(Default, Debug)]
pub struct Graph {
    from: Vec<HashMap<usize, Edges>>,
}

impl Graph {
    pub fn new(nodes: usize) -> Graph {
        Graph { from: vec![HashMap::new(); nodes] }
    }

    pub fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            let edges = self.from[from].entry(to).or_insert(Edges::NONE);
            *edges = edges.and(edge);
        }
    }

    pub fn edges(&self, from: usize, to: usize) -> Edges {
        self.from[from].get(&to).copied().unwrap_or(Edges::NONE)
    }

    /// Nodes behind an edge of one of the kinds, ascending.
    fn next(&self, from: usize, kinds: Edges) -> Vec<usize> {
        let mut next: Vec<usize> =
            self.from[from].iter().filter(|(_, edges)| edges.meets(kinds)).map(|(to, _)| *to).collect();
        next.sort_unstable();
        next
    }

    /// All edges of one kind whose two ends lie in `within`.
    pub fn edges_of(&self, edge: Edge, within: &[usize]) -> Vec<(usize, usize)> {
        let kind = Edges::NONE.and(edge);
        let inside = |to: &usize| within.binary_search(to).is_ok();
        within.iter().flat_map(|from| self.next(*from, kind).into_iter().filter(inside).map(|to| (*from, to))).collect()
    }

    /// The shortest way along edges of these kinds through `within`, both ends included.
    pub fn path(&self, from: usize, to: usize, kinds: Edges, within: &[usize]) -> Option<Vec<usize>> {
        let mut came: HashMap<usize, usize> = HashMap::from([(from, from)]);
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            if node == to {
                let mut path = vec![to];
                while *path.last().expect("it has one") != from {
                    path.push(came[path.last().expect("it has one")]);
                }
                path.reverse();
                return Some(path);
            }
            for next in self.next(node, kinds) {
                if within.binary_search(&next).is_ok() && !came.contains_key(&next) {
                    came.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// Parts of more than one node in which each reaches each by these kinds (Tarjan, without recursion). Each is ascending.
    pub fn knots(&self, kinds: Edges) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let n = self.from.len();
        let (mut index, mut low, mut on_stack) = (vec![UNSEEN; n], vec![0; n], vec![false; n]);
        let (mut stack, mut knots, mut counter) = (Vec::new(), Vec::new(), 0);
        for root in 0..n {
            if index[root] != UNSEEN {
                continue;
            }
            let mut work: Vec<(usize, Vec<usize>)> = Vec::new();
            let mut enter = Some(root);
            loop {
                if let Some(node) = enter.take() {
                    (index[node], low[node], on_stack[node]) = (counter, counter, true);
                    counter += 1;
                    stack.push(node);
                    work.push((node, self.next(node, kinds)));
                }
                let Some((node, left)) = work.last_mut() else { break };
                let node = *node;
                match left.pop() {
                    Some(next) if index[next] == UNSEEN => enter = Some(next),
                    Some(next) if on_stack[next] => low[node] = low[node].min(index[next]),
                    Some(_) => {}
                    None => {
                        work.pop();
                        if let Some((parent, _)) = work.last() {
                            low[*parent] = low[*parent].min(low[node]);
                        }
                        if low[node] == index[node] {
                            let at = stack.iter().rposition(|other| *other == node).expect("it was pushed");
                            let mut knot = stack.split_off(at);
                            knot.iter().for_each(|other| on_stack[*other] = false);
                            knot.sort_unstable();
                            if knot.len() > 1 {
                                knots.push(knot);
                            }
                        }
                    }
                }
            }
        }
        knots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knots_and_paths() {
        let mut graph = Graph::new(7);
        for (from, to) in [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3), (5, 5), (6, 0)] {
            graph.add(from, to, Edge::Ww);
        }
        graph.add(4, 0, Edge::Rw);
        let ww = Edges::NONE.and(Edge::Ww);
        let mut knots = graph.knots(ww);
        knots.sort();
        assert_eq!(knots, [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(graph.knots(ww.and(Edge::Rw)), [vec![0, 1, 2, 3, 4]]);
        assert_eq!(graph.path(6, 3, ww, &[0, 1, 2, 3, 6]), Some(vec![6, 0, 1, 2, 3]));
        assert_eq!(graph.path(4, 0, ww, &[0, 1, 2, 3, 4]), None);
        assert_eq!(graph.edges_of(Edge::Rw, &[0, 4]), [(4, 0)]);
    }
}
