//! Runs a scenario once, keeps the disk and the model at every crash point, and recovers from each.
//!
//! A run with the same seed that died there would leave exactly that disk, so one run serves for all deaths in it. After
//! each death the check opens what is left and compares it with the model: what the world outside knew at that moment.
//! The check's own crash points are died at as well, and those of the recovery after that.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::deaths::{Death, Failure, REPLAY_VARIABLE, parse};
use crate::runtime::sim::rng::splitmix;
use crate::runtime::sim::{
    Counters, CrashKind, CrashPoint, Disk, DiskImage, Faults, OpKind, Phase, Rng, Sim, SimConfig,
};
use crate::runtime::{Executor, Host, LocalFuture};

/// What to run and how often to die.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name of the test, for the command that replays a failure.
    pub scenario: String,
    pub seed: u64,
    pub config: SimConfig,
    /// Strike during the scenario, not during the checks.
    pub faults: Faults,
    pub kinds: Vec<CrashKind>,
    /// Ways of damage tried for each death.
    pub damages: u64,
    /// Die at so many of the scenario's points, chosen by the seed; none for all.
    pub points_max: Option<usize>,
    /// Die so often during each recovery, and once in each recovery after that.
    pub recovery_deaths: usize,
}

impl Plan {
    /// Every point, both kinds, three ways of damage, two deaths in each recovery.
    pub fn new(scenario: &str, seed: u64) -> Plan {
        Plan {
            scenario: scenario.to_string(),
            seed,
            config: SimConfig::of_seed(seed),
            faults: Faults::default(),
            kinds: vec![CrashKind::Process, CrashKind::Machine],
            damages: 3,
            points_max: None,
            recovery_deaths: 2,
        }
    }
}

/// What a scenario, or a check, is given: a machine and the model.
pub struct Life<M> {
    pub sim: Sim,
    pub host: Arc<dyn Host>,
    /// For timers and transfers of the scenario itself.
    pub executor: Rc<dyn Executor>,
    /// What the world outside knows. Borrow it for a moment only: it is copied at every crash point.
    pub model: Rc<RefCell<M>>,
    /// How the life before this one ended; none in the first. A check notes in the model at once what that death may
    /// have taken: the next one may come before the check ends, and be of the milder kind.
    pub died_of: Option<CrashKind>,
}

/// How much was tried.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Crash points of the scenario.
    pub points: u64,
    /// Different disks recovered from, after one, two and three deaths.
    pub recoveries: [u64; 3],
    pub counters: Counters,
}

impl Summary {
    pub fn absorb(&mut self, other: &Summary) {
        self.points += other.points;
        for (mine, theirs) in self.recoveries.iter_mut().zip(other.recoveries) {
            *mine += theirs;
        }
        self.counters.absorb(&other.counters);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third] = self.recoveries;
        write!(
            f,
            "{} crash points; recovered {first} times, {second} after dying in that, {third} after dying again; ",
            self.points
        )?;
        write!(f, "{}", self.counters)
    }
}

/// A moment of a run in which it might have died.
struct Moment<M> {
    point: CrashPoint,
    phase: Phase,
    image: DiskImage,
    model: M,
}

/// Run `scenario`, then `check` on what each death leaves. A check must leave the model as the world outside then knows
/// it (what it read, a later recovery must show again).
pub fn enumerate<M, S, C>(plan: &Plan, model: M, scenario: S, check: C) -> Result<Summary, Box<Failure>>
where
    M: Clone + 'static,
    S: Fn(Life<M>) -> LocalFuture<'static, Result<(), String>>,
    C: Fn(Life<M>) -> LocalFuture<'static, Result<(), String>>,
{
    let asked = std::env::var(REPLAY_VARIABLE).ok();
    match asked {
        None => run(plan, None, model, scenario, check),
        Some(text) => replay(plan, &text, model, scenario, check),
    }
}

/// Run only the deaths of [`Failure::replay`], and print what happens to stderr. Does nothing for another seed.
pub fn replay<M, S, C>(plan: &Plan, text: &str, model: M, scenario: S, check: C) -> Result<Summary, Box<Failure>>
where
    M: Clone + 'static,
    S: Fn(Life<M>) -> LocalFuture<'static, Result<(), String>>,
    C: Fn(Life<M>) -> LocalFuture<'static, Result<(), String>>,
{
    let (seed, deaths) = parse(text).unwrap_or_else(|| panic!("{text} is not a replay"));
    if seed != plan.seed {
        return Ok(Summary::default());
    }
    let died = deaths.len();
    let summary = run(plan, Some(deaths), model, scenario, check)?;
    let reached = summary.recoveries.iter().filter(|n| **n > 0).count();
    assert_eq!(reached, died, "the scenario does not come to the places where {text} says that it dies");
    Ok(summary)
}

fn run<M, S, C>(plan: &Plan, only: Option<Vec<Death>>, model: M, scenario: S, check: C) -> Result<Summary, Box<Failure>>
where
    M: Clone + 'static,
    S: Fn(Life<M>) -> LocalFuture<'static, Result<(), String>>,
    C: Fn(Life<M>) -> LocalFuture<'static, Result<(), String>>,
{
    let mut run = Run { plan, check: &check, summary: Summary::default(), chain: Vec::new(), only };
    let moments = run.live(Disk::new(), model, None, true, &scenario)?;
    run.summary.points = moments.iter().filter(|m| m.phase == Phase::Before).count() as u64;
    let moments = run.sample(moments, plan.points_max.unwrap_or(usize::MAX), plan.seed);
    for moment in moments {
        for kind in &plan.kinds {
            run.die(&moment, *kind, plan.damages)?;
        }
    }
    Ok(run.summary)
}

struct Run<'a, C> {
    plan: &'a Plan,
    check: &'a C,
    summary: Summary,
    /// The deaths so far, with their words.
    chain: Vec<(Death, String)>,
    /// Only this chain is to be replayed.
    only: Option<Vec<Death>>,
}

impl<C> Run<'_, C> {
    /// One life on `disk`: its crash points if it may die, or its failure.
    fn live<M: Clone + 'static>(
        &mut self,
        disk: Disk,
        model: M,
        died_of: Option<CrashKind>,
        may_die: bool,
        body: impl Fn(Life<M>) -> LocalFuture<'static, Result<(), String>>,
    ) -> Result<Vec<Moment<M>>, Box<Failure>> {
        let mut config = self.plan.config.clone();
        config.log |= self.only.is_some();
        let sim = Sim::with(self.plan.seed, config, disk);
        if died_of.is_none() {
            sim.set_faults(self.plan.faults.clone());
        }
        let model = Rc::new(RefCell::new(model));
        let moments: Rc<RefCell<Vec<Moment<M>>>> = Rc::default();
        if may_die {
            let (moments, model) = (Rc::clone(&moments), Rc::clone(&model));
            sim.watch_points(move |point, phase, image| {
                let model = model.try_borrow().expect("the model is not borrowed across an operation").clone();
                moments.borrow_mut().push(Moment { point: point.clone(), phase, image, model });
            });
        }
        let life = Life {
            sim: sim.clone(),
            host: sim.host(),
            executor: sim.executor("scenario"),
            model: Rc::clone(&model),
            died_of,
        };
        let ended = sim.block_on(body(life));
        self.summary.counters.absorb(&sim.counters());
        let ended = ended.map_err(|stop| stop.to_string()).and_then(|result| result);
        if may_die && ended.is_ok() {
            let point = CrashPoint {
                index: sim.crash_points(),
                kind: OpKind::End,
                path: Default::default(),
                offset: 0,
                len: 0,
            };
            let model = model.borrow().clone();
            moments.borrow_mut().push(Moment { point, phase: Phase::After, image: sim.image(), model });
        }
        sim.power_off();
        ended.map_err(|message| self.failure(message))?;
        Ok(std::mem::take(&mut *moments.borrow_mut()))
    }

    /// Recover from each different disk that dying there in that way may leave.
    fn die<M: Clone + 'static>(&mut self, moment: &Moment<M>, kind: CrashKind, damages: u64) -> Result<(), Box<Failure>>
    where
        C: Fn(Life<M>) -> LocalFuture<'static, Result<(), String>>,
    {
        let mut seen = BTreeSet::new();
        let depth = self.chain.len();
        for damage in 0..damages {
            let death = Death { point: moment.point.index, phase: moment.phase, kind, damage };
            if self.only.as_ref().is_some_and(|only| only.get(depth) != Some(&death)) {
                continue;
            }
            let damage_seed = splitmix(self.plan.seed ^ splitmix(moment.point.index ^ splitmix(damage)));
            let disk = moment.image.after_crash(kind, damage_seed);
            if !seen.insert(disk.fingerprint()) {
                continue;
            }
            let words = format!("died at {}, {:?}; crash of the {kind:?}, damage {damage}", moment.point, moment.phase);
            self.chain.push((death, words));
            self.recover(disk, moment.model.clone(), kind, damage_seed)?;
            self.chain.pop();
        }
        Ok(())
    }

    fn recover<M: Clone + 'static>(
        &mut self,
        disk: Disk,
        model: M,
        kind: CrashKind,
        damage_seed: u64,
    ) -> Result<(), Box<Failure>>
    where
        C: Fn(Life<M>) -> LocalFuture<'static, Result<(), String>>,
    {
        let depth = self.chain.len();
        self.summary.recoveries[depth - 1] += 1;
        let check = self.check;
        let deaths = match depth {
            1 => self.plan.recovery_deaths,
            2 => self.plan.recovery_deaths.min(1),
            _ => 0,
        };
        let moments = self.live(disk, model, Some(kind), deaths > 0, check)?;
        for moment in self.sample(moments, deaths, damage_seed) {
            let kind = *Rng::stream(damage_seed ^ moment.point.index, "kind").pick(&self.plan.kinds);
            self.die(&moment, kind, 1)?;
        }
        Ok(())
    }

    /// So many of the moments, in their order; all of them for a replay, which picks its own.
    fn sample<M>(&self, moments: Vec<Moment<M>>, max: usize, seed: u64) -> Vec<Moment<M>> {
        if self.only.is_some() || moments.len() <= max {
            return moments;
        }
        let mut rng = Rng::stream(seed, "sample");
        let mut chosen = BTreeSet::new();
        while chosen.len() < max {
            chosen.insert(rng.index(moments.len()));
        }
        moments.into_iter().enumerate().filter(|(i, _)| chosen.contains(i)).map(|(_, moment)| moment).collect()
    }

    fn failure(&self, message: String) -> Box<Failure> {
        Box::new(Failure {
            scenario: self.plan.scenario.clone(),
            seed: self.plan.seed,
            deaths: self.chain.iter().map(|(death, _)| *death).collect(),
            story: self.chain.iter().map(|(_, words)| words.clone()).collect(),
            message,
        })
    }
}
