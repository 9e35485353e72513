//! Names the cycles of a graph of transactions.
//!
//! | cycle of | name | what a user sees |
//! |---|---|---|
//! | ww | G0 | two transactions' writes interleaved |
//! | ww, wr | G1c | each of two saw the other's write |
//! | one rw | G-single | read skew, lost update, a read that is behind |
//! | several rw | G2 | write skew, long fork |
//!
//! With an edge of real time in it the cycle forbids only strict serializability, and says so.

use std::fmt;

use super::graph::{Edge, Edges, Graph};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A transaction's reads contradict its own earlier reads or writes.
    Internal,
    /// A value that nobody wrote.
    ThinAir,
    /// A list holds an element twice: something was applied twice.
    Duplicate,
    /// Two reads of a list of which neither continues the other.
    Incompatible,
    /// Two transactions read the same version and both wrote the next.
    LostUpdate,
    /// A read of what an aborted transaction wrote.
    G1a,
    /// A read of what a transaction wrote and then wrote over.
    G1b,
    G0,
    G1c,
    GSingle,
    G2,
}

/// One anomaly, with the transactions (their places in the history) that show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anomaly {
    pub kind: Kind,
    /// It is one only because of when calls were asked for and answered.
    pub real_time: bool,
    pub txns: Vec<usize>,
    pub why: String,
}

impl Anomaly {
    pub(super) fn direct(kind: Kind, txns: Vec<usize>, why: String) -> Anomaly {
        Anomaly { kind, real_time: false, txns, why }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = if self.real_time { " in real time" } else { "" };
        write!(f, "{:?}{time}: {}", self.kind, self.why)
    }
}

const WW: Edges = Edges::NONE.and(Edge::Ww);
const READS: Edges = WW.and(Edge::Wr);
const ALL: Edges = READS.and(Edge::Rw);
/// Closing edges tried for the shortest cycle of a knot.
const TRIES: usize = 200;

/// The cycles of a graph; with `real_time` also those that need its edges of time.
pub fn cycles(graph: &Graph, real_time: bool) -> Vec<Anomaly> {
    let with_time = |edges: Edges| if real_time { edges.and(Edge::Time) } else { edges };
    let mut found = Vec::new();
    let mut add = |kind, cycle: Option<Vec<usize>>| {
        let seen = cycle.is_some();
        found.extend(cycle.map(|txns| Anomaly { kind, real_time, why: shown(graph, &txns), txns }));
        seen
    };
    for knot in graph.knots(with_time(WW)) {
        add(Kind::G0, shortest(graph, &knot, Edge::Ww, with_time(WW)));
    }
    for knot in graph.knots(with_time(READS)) {
        add(Kind::G1c, shortest(graph, &knot, Edge::Wr, with_time(READS)));
    }
    for knot in graph.knots(with_time(ALL)) {
        if !add(Kind::GSingle, shortest(graph, &knot, Edge::Rw, with_time(READS))) {
            add(Kind::G2, shortest(graph, &knot, Edge::Rw, with_time(ALL)));
        }
    }
    found
}

/// The shortest cycle that one edge of the kind `closing` closes over a way of `kinds`.
fn shortest(graph: &Graph, knot: &[usize], closing: Edge, kinds: Edges) -> Option<Vec<usize>> {
    let edges = graph.edges_of(closing, knot);
    // All of them, if the first ones close nothing.
    let (first, rest) = edges.split_at(edges.len().min(TRIES));
    let closed = |(from, to): &(usize, usize)| graph.path(*to, *from, kinds, knot);
    first.iter().filter_map(closed).min_by_key(Vec::len).or_else(|| rest.iter().find_map(closed))
}

fn shown(graph: &Graph, cycle: &[usize]) -> String {
    let mut text = String::new();
    for (at, from) in cycle.iter().enumerate() {
        let edges = graph.edges(*from, cycle[(at + 1) % cycle.len()]);
        let names = [(Edge::Ww, "ww"), (Edge::Wr, "wr"), (Edge::Rw, "rw"), (Edge::Time, "time")];
        let why: Vec<&str> = names.iter().filter(|(edge, _)| edges.has(*edge)).map(|(_, name)| *name).collect();
        text.push_str(&format!("T{from} -{}-> ", why.join("+")));
    }
    text + &format!("T{}", cycle[0])
}
