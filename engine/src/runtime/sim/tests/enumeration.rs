//! A toy protocol over three files, died at everywhere: right, it passes; with any of its planted bugs, it is caught.
//!
//! A step moves one coin from file `a` to file `b` through a journal: journal durable, both files written and synced,
//! journal cleared. Recovery does the step of a journal that is whole again.

use super::harness::{Failure, Life, Plan, Summary, enumerate, replay};
use super::*;
use crate::runtime::{IoOp, LocalFuture};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bug {
    None,
    JournalNotSynced,
    ClearedBeforeSync,
    NamesNotSynced,
    AnsweredTooEarly,
    /// Only a death during recovery shows these two.
    RecoveryClearsFirst,
    RecoveryDoesNotSync,
    /// Only a failed sync shows this one.
    SyncIsRetried,
}

#[derive(Clone, Default, Debug)]
struct Model {
    ready: bool,
    tried: u64,
    answered: u64,
}

const RECORD: usize = 1024;

/// The number over and over, so that any torn record is seen to be one.
fn record(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(RECORD / 8)
}

/// None for a torn or missing record.
fn load(file: &Arc<dyn File>) -> Result<Option<u64>, String> {
    let mut bytes = [0; RECORD];
    let n = file.read_blocking(0, &mut bytes).map_err(|e| e.to_string())?;
    let first: [u8; 8] = bytes[..8].try_into().unwrap();
    Ok((n == RECORD && bytes.chunks(8).all(|word| word == first)).then_some(u64::from_le_bytes(first)))
}

struct Files {
    journal: Arc<dyn File>,
    accounts: [Arc<dyn File>; 2],
}

impl Files {
    fn open(fs: &Arc<dyn Fs>, mode: OpenMode) -> std::io::Result<Files> {
        let open = |name: &str| fs.open(Path::new(name), mode);
        Ok(Files { journal: open("journal")?, accounts: [open("a")?, open("b")?] })
    }

    async fn apply(&self, executor: &Rc<dyn Executor>, n: u64, sync: bool, retry: bool) -> std::io::Result<()> {
        let writes = self.accounts.each_ref().map(|file| {
            let mut bytes = crate::runtime::AlignedBuf::zeroed(RECORD);
            bytes[..RECORD].copy_from_slice(&record(n));
            executor.io(file, IoOp::Write { offset: 0, buf: IoBuf::heap(bytes, RECORD) })
        });
        for write in writes {
            write.await.result?;
        }
        for file in self.accounts.iter().filter(|_| sync) {
            if let Err(e) = executor.io(file, IoOp::SyncData).await.result {
                if !retry {
                    return Err(e);
                }
                executor.io(file, IoOp::SyncData).await.result?;
            }
        }
        Ok(())
    }
}

/// Stops at the first failure of the disk: then nothing more is answered.
async fn steps(life: Life<Model>, bug: Bug) -> std::io::Result<()> {
    let fs = life.host.fs();
    let files = Files::open(&fs, OpenMode::CreateNew)?;
    for file in [&files.journal, &files.accounts[0], &files.accounts[1]] {
        file.write_durable_blocking(0, &record(0))?;
    }
    if bug != Bug::NamesNotSynced {
        fs.sync_dir(Path::new(""))?;
    }
    life.model.borrow_mut().ready = true;
    for n in 1..=3 {
        life.model.borrow_mut().tried = n;
        if bug == Bug::AnsweredTooEarly {
            life.model.borrow_mut().answered = n;
        }
        match bug {
            Bug::JournalNotSynced => files.journal.write_blocking(0, &record(n))?,
            _ => files.journal.write_durable_blocking(0, &record(n))?,
        }
        let sync = bug != Bug::ClearedBeforeSync;
        files.apply(&life.executor, n, sync, bug == Bug::SyncIsRetried).await?;
        files.journal.write_durable_blocking(0, &record(0))?;
        life.model.borrow_mut().answered = n;
    }
    Ok(())
}

async fn recover(life: Life<Model>, bug: Bug) -> Result<(), String> {
    let Model { ready, tried, answered } = *life.model.borrow();
    let files = match Files::open(&life.host.fs(), OpenMode::ReadWrite) {
        Ok(files) => files,
        Err(_) if !ready => return Ok(()),
        Err(e) => return Err(format!("a file is gone: {e}")),
    };
    let text = |e: std::io::Error| e.to_string();
    if let Some(n) = load(&files.journal)?.filter(|n| *n > 0) {
        if bug == Bug::RecoveryClearsFirst {
            files.journal.write_durable_blocking(0, &record(0)).map_err(text)?;
        }
        files.apply(&life.executor, n, bug != Bug::RecoveryDoesNotSync, false).await.map_err(text)?;
        files.journal.write_durable_blocking(0, &record(0)).map_err(text)?;
    }
    let values = [load(&files.accounts[0])?, load(&files.accounts[1])?];
    if !ready {
        return Ok(());
    }
    match values {
        [Some(a), Some(b)] if a == b && (answered..=tried).contains(&a) => {
            life.model.borrow_mut().answered = a;
            Ok(())
        }
        other => Err(format!("found {other:?}; answered {answered}, tried {tried}")),
    }
}

fn run(seed: u64, bug: Bug) -> Result<Summary, Box<Failure>> {
    run_with(seed, bug, bug == Bug::SyncIsRetried, None)
}

fn run_with(seed: u64, bug: Bug, sync_fails: bool, deaths: Option<&str>) -> Result<Summary, Box<Failure>> {
    let mut plan = Plan::new("a_planted_bug_is_found", seed);
    if sync_fails {
        // Not the durable write of the set-up.
        plan.faults = Faults::new([FaultRule::new("a", Fault::SyncError, When::Nth(1 + seed % 3))]);
    }
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, Result<(), String>> {
        Box::pin(async move {
            match steps(life, bug).await {
                Err(e) if !sync_fails => Err(e.to_string()),
                Ok(()) | Err(_) => Ok(()),
            }
        })
    };
    let check = move |life: Life<Model>| -> LocalFuture<'static, Result<(), String>> { Box::pin(recover(life, bug)) };
    match deaths {
        None => enumerate(&plan, Model::default(), scenario, check),
        Some(deaths) => replay(&plan, deaths, Model::default(), scenario, check),
    }
}

#[test]
fn the_right_protocol_survives_every_death() {
    let mut total = Summary::default();
    for seed in 0..10 {
        let summary = run(seed, Bug::None).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(summary, run(seed, Bug::None).unwrap(), "seed {seed}");
        total.absorb(&summary);
    }
    assert!(total.recoveries[2] > 500, "{total}");
    for seed in 0..10 {
        let summary = run_with(seed, Bug::None, true, None).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(summary.counters.fault(Fault::SyncError), 1);
    }
}

#[test]
fn a_planted_bug_is_found() {
    let bugs = [
        Bug::JournalNotSynced,
        Bug::ClearedBeforeSync,
        Bug::NamesNotSynced,
        Bug::AnsweredTooEarly,
        Bug::RecoveryClearsFirst,
        Bug::RecoveryDoesNotSync,
        Bug::SyncIsRetried,
    ];
    for bug in bugs {
        let found = (0..10).find_map(|seed| run(seed, bug).err());
        let failure = found.unwrap_or_else(|| panic!("{bug:?} was not found in 10 seeds"));
        let again = run(failure.seed, bug).unwrap_err();
        assert_eq!(again, failure, "{bug:?}: the same seed fails in the same way");
        let replayed = run_with(failure.seed, bug, bug == Bug::SyncIsRetried, Some(&failure.replay())).unwrap_err();
        assert_eq!(replayed, failure, "{bug:?}: its deaths alone lead to the same failure");
        assert!(failure.to_string().contains("SIM_REPLAY="), "{failure}");
        if matches!(bug, Bug::RecoveryClearsFirst | Bug::RecoveryDoesNotSync) {
            assert!(failure.deaths.len() > 1, "{bug:?} needs a death during recovery: {failure}");
        }
    }
}

#[test]
fn a_scenario_that_fails_alive_is_reported_without_a_death() {
    let plan = Plan::new("x", 3);
    let stuck = |_: Life<()>| -> LocalFuture<'static, Result<(), String>> { Box::pin(std::future::pending()) };
    let failure = enumerate(&plan, (), stuck, stuck).unwrap_err();
    assert_eq!(failure.replay(), "3");
    assert!(failure.message.contains("deadlock"), "{failure}");
}

#[test]
fn seeds_are_run_on_threads_and_their_results_do_not_depend_on_them() {
    let run = |seed: u64| match seed {
        13 => Err("bad luck".to_string()),
        17 => panic!("worse luck"),
        _ => {
            let sim = Sim::new(seed);
            sim.run_for(1_000_000).map_err(|stop| stop.to_string())?;
            Ok(sim.trace_hash())
        }
    };
    let one = harness::run_seeds(0..40, 1, usize::MAX, run, |_, _| ());
    let told = parking_lot::Mutex::new(Vec::new());
    let three = harness::run_seeds(0..40, 3, usize::MAX, run, |done, _| told.lock().push(done));
    assert_eq!(one, three);
    let failed: Vec<_> = one.1.iter().map(|f| (f.seed, f.message.as_str())).collect();
    assert_eq!(failed, [(13, "bad luck"), (17, "worse luck")]);
    let mut told = told.into_inner();
    told.sort_unstable();
    assert_eq!(told, (1..=40).collect::<Vec<u64>>());
    let (_, first) = harness::run_seeds(0..40, 1, 1, run, |_, _| ());
    assert_eq!(first.len(), 1);
}
