//! What must hold at every step of a run, and is cheap to ask.
//!
//! Guards: the marks of each log stand in order and only move forward; what is visible never goes back.

use corering_engine::{Engine, ShardStats, Stats};

/// The numbers of the step before.
#[derive(Default)]
pub struct Marks {
    before: Option<Stats>,
}

impl Marks {
    pub fn look(&mut self, engine: &Engine) -> Result<(), String> {
        let now = engine.stats();
        for (at, shard) in now.shards.iter().enumerate() {
            let before = self.before.as_ref().and_then(|stats| stats.shards.get(at));
            if let Err(what) = in_order(shard).and_then(|()| before.map_or(Ok(()), |before| moved_on(before, shard))) {
                return Err(format!("{what}: {shard:?}, before: {before:?}"));
            }
        }
        self.before = Some(now);
        Ok(())
    }
}

fn in_order(shard: &ShardStats) -> Result<(), &'static str> {
    let marks = [shard.appended_lsn, shard.written_lsn, shard.durable_lsn, shard.applied_lsn, shard.trimmed_lsn];
    if marks.is_sorted_by(|a, b| a >= b) { Ok(()) } else { Err("the marks of the log are out of order") }
}

fn moved_on(before: &ShardStats, now: &ShardStats) -> Result<(), &'static str> {
    let marks =
        |s: &ShardStats| [s.appended_lsn, s.written_lsn, s.durable_lsn, s.applied_lsn, s.trimmed_lsn, s.visible.0];
    if marks(before).iter().zip(marks(now)).any(|(before, now)| now < *before) {
        return Err("a mark went back");
    }
    Ok(())
}
