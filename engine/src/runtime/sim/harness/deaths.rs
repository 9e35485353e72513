//! The deaths that led to a failure, as text that leads there again.
//!
//! `7/12b:m3/2a:p0` means: the scenario with seed 7 dies at point 12 before it took effect, the machine stops, damage 3;
//! the recovery after it dies at its point 2 after it took effect, the process is killed, damage 0.

use std::fmt;

use crate::runtime::sim::{CrashKind, Phase};

/// The environment variable that makes [`super::enumerate`] run one failure again, with a log of what happens.
pub const REPLAY_VARIABLE: &str = "SIM_REPLAY";

/// One death of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Death {
    pub point: u64,
    pub phase: Phase,
    pub kind: CrashKind,
    pub damage: u64,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Before => 'b',
            Phase::After => 'a',
        };
        let kind = match self.kind {
            CrashKind::Process => 'p',
            CrashKind::Machine => 'm',
        };
        write!(f, "{}{phase}:{kind}{}", self.point, self.damage)
    }
}

impl Death {
    fn parse(text: &str) -> Option<Death> {
        let (place, damage) = text.split_once(':')?;
        let (point, phase) = match (place.strip_suffix('b'), place.strip_suffix('a')) {
            (Some(point), _) => (point, Phase::Before),
            (None, Some(point)) => (point, Phase::After),
            (None, None) => return None,
        };
        let (damage, kind) = match (damage.strip_prefix('p'), damage.strip_prefix('m')) {
            (Some(damage), _) => (damage, CrashKind::Process),
            (None, Some(damage)) => (damage, CrashKind::Machine),
            (None, None) => return None,
        };
        Some(Death { point: point.parse().ok()?, phase, kind, damage: damage.parse().ok()? })
    }
}

/// A run that did not end as it must.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub scenario: String,
    pub seed: u64,
    /// How it got there; empty if the scenario itself failed.
    pub deaths: Vec<Death>,
    /// The same deaths in words.
    pub story: Vec<String>,
    pub message: String,
}

impl Failure {
    /// The value of [`REPLAY_VARIABLE`].
    pub fn replay(&self) -> String {
        let deaths: String = self.deaths.iter().map(|death| format!("/{death}")).collect();
        format!("{}{deaths}", self.seed)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, seed {}: {}", self.scenario, self.seed, self.message)?;
        for line in &self.story {
            writeln!(f, "  {line}")?;
        }
        write!(f, "replay: {REPLAY_VARIABLE}='{}' cargo test -p corering-engine {}", self.replay(), self.scenario)
    }
}

impl std::error::Error for Failure {}

/// A seed and a chain of deaths, as [`Failure::replay`] writes them.
pub(super) fn parse(text: &str) -> Option<(u64, Vec<Death>)> {
    let mut parts = text.split('/');
    let seed = parts.next()?.parse().ok()?;
    Some((seed, parts.map(Death::parse).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        let deaths = vec![
            Death { point: 12, phase: Phase::Before, kind: CrashKind::Machine, damage: 3 },
            Death { point: 2, phase: Phase::After, kind: CrashKind::Process, damage: 0 },
        ];
        let failure =
            Failure { scenario: "s".into(), seed: 7, deaths: deaths.clone(), story: vec![], message: "m".into() };
        assert_eq!(failure.replay(), "7/12b:m3/2a:p0");
        assert_eq!(parse(&failure.replay()), Some((7, deaths)));
        assert_eq!(parse("7"), Some((7, vec![])));
        for bad in ["", "x", "7/", "7/1:m1", "7/1b:1", "7/b:m1", "7/1b:m"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
