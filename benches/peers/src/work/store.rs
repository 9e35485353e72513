//! The workloads of databases in this process.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Group, Size};
use crate::child::Reporter;
use crate::data::{Choice, Key, Numbers, VALUE_LEN, key, tagged_key, value};
use crate::measure::{Measured, run, run_async};
use crate::store::{Level, Opening, Outcome, Session, Store, System};

const MEMORY: u64 = 4 << 30;
/// Keys that are put again and again.
const PUT_KEYS: u64 = 1_000_000;
const BATCH: u64 = 100;
/// Different tags of batches: both shards of ours get some.
const TAGS: u64 = 1000;
const MANY: usize = 16;
const YCSB_VALUE_LEN: usize = 1000;
const YCSB_THREADS: u64 = 4;

/// Measure a group of a system, its database below `dir`.
pub fn measure(system: System, group: Group, size: Size, dir: &Path, reporter: &mut Reporter) -> Outcome<()> {
    let opening = |level, resident| Opening { level, memory: MEMORY, resident };
    match group {
        Group::Durable => {
            let store = system.open(dir, opening(Level::Durable, false))?;
            reporter.settings(store.settings());
            puts(&*store, Level::Durable, size, reporter)
        }
        Group::NoWait => {
            let store = system.open(dir, opening(Level::NoWait, false))?;
            reporter.settings(store.settings());
            puts(&*store, Level::NoWait, size, reporter)
        }
        Group::Small | Group::Large => {
            let store = loaded(system, group, size, dir, opening(Level::NoWait, true), VALUE_LEN)?;
            reporter.settings(store.settings());
            gets(&*store, group, size, reporter)
        }
        Group::Cold => cold(system, size, dir, reporter),
        Group::Ycsb => {
            let store = loaded(system, group, size, dir, opening(Level::NoWait, false), YCSB_VALUE_LEN)?;
            reporter.settings(store.settings());
            ycsb(&*store, size, reporter)
        }
        Group::Recovery | Group::Transactions | Group::Python | Group::Server => {
            Err("not a workload of stores".to_owned())
        }
    }
}

/// A database with all its keys: one left by a former run where the system can be opened again, else a new one.
fn loaded(
    system: System,
    group: Group,
    size: Size,
    dir: &Path,
    opening: Opening,
    value_len: usize,
) -> Outcome<Box<dyn Store>> {
    let mark = dir.join("loaded");
    let keep = system.reopens() && group != Group::Ycsb;
    if keep && mark.exists() {
        return system.open(dir, opening);
    }
    let _ = std::fs::remove_dir_all(dir);
    let store = system.open(dir, opening)?;
    store.load(size.keys(group), &value(value_len))?;
    if !keep {
        return Ok(store);
    }
    drop(store);
    std::fs::write(&mark, "").map_err(|error| error.to_string())?;
    system.open(dir, opening)
}

fn puts(store: &dyn Store, level: Level, size: Size, reporter: &mut Reporter) -> Outcome<()> {
    let bytes = value(VALUE_LEN);
    let threads: &[(&str, u64)] = match level {
        Level::Durable => &[("put_durable_1", 1), ("put_durable_8", 8), ("put_durable_64", 64)],
        Level::NoWait => &[("put_nowait_1", 1)],
    };
    for (name, threads) in threads {
        reporter.measure(name, || {
            run(*threads, size.times(), |thread| {
                let mut session = store.session()?;
                let mut numbers = Numbers::new(Choice::Uniform, PUT_KEYS, thread);
                let bytes = &bytes;
                Ok(move || session.put(&key(numbers.draw()), bytes, level).map(|()| 1))
            })
            .map(Some)
        });
    }
    if level == Level::Durable {
        reporter.measure("put_durable_async64", || {
            let mut numbers = Numbers::new(Choice::Uniform, PUT_KEYS, 0);
            run_async(store, 64, size.times(), || key(numbers.draw())).transpose()
        });
    }
    let name = match level {
        Level::Durable => "batch100_durable",
        Level::NoWait => "batch100_nowait",
    };
    reporter.measure(name, || {
        run(1, size.times(), |thread| {
            let mut session = store.session()?;
            let mut numbers = Numbers::new(Choice::Uniform, PUT_KEYS, thread);
            let mut keys: Vec<Key> = Vec::new();
            let bytes = &bytes;
            Ok(move || {
                let tag = numbers.below(TAGS);
                keys.clear();
                keys.extend((0..BATCH).map(|_| tagged_key(tag, numbers.draw())));
                session.batch(&keys, bytes, level).map(|()| BATCH)
            })
        })
        .map(Some)
    });
    Ok(())
}

fn gets(store: &dyn Store, group: Group, size: Size, reporter: &mut Reporter) -> Outcome<()> {
    let label = if group == Group::Small { "1m" } else { "10m" };
    let keys = size.keys(group);
    for (choice, choice_name) in [(Choice::Uniform, "uniform"), (Choice::Zipf, "zipf")] {
        for threads in [1, 4] {
            reporter.measure(&format!("get_{label}_{choice_name}_{threads}"), || {
                get_from(store, threads, keys, choice, size).map(Some)
            });
        }
    }
    reporter.measure(&format!("multi_get16_{label}"), || {
        run(1, size.times(), |thread| {
            let mut session = store.session()?;
            let mut numbers = Numbers::new(Choice::Uniform, keys, thread);
            Ok(move || {
                let wanted: [Key; MANY] = std::array::from_fn(|_| key(numbers.draw()));
                match session.multi_get(&wanted)? {
                    MANY => Ok(MANY as u64),
                    found => Err(format!("{found} of {MANY} keys found")),
                }
            })
        })
        .map(Some)
    });
    reporter.measure(&format!("scan_{label}"), || {
        run(1, size.times(), |_| {
            let mut session = store.session()?;
            Ok(move || match session.scan(&[], u64::MAX)? {
                rows if rows == keys => Ok(rows),
                rows => Err(format!("{rows} rows of {keys}")),
            })
        })
        .map(Some)
    });
    Ok(())
}

fn get_from(store: &dyn Store, threads: u64, keys: u64, choice: Choice, size: Size) -> Outcome<Measured> {
    run(threads, size.times(), |thread| {
        let mut session = store.session()?;
        let mut numbers = Numbers::new(choice, keys, thread);
        Ok(move || match session.get(&key(numbers.draw()))? {
            Some(_) => Ok(1),
            None => Err("a key that was loaded is not there".to_owned()),
        })
    })
}

fn cold(system: System, size: Size, dir: &Path, reporter: &mut Reporter) -> Outcome<()> {
    let opening = Opening { level: Level::NoWait, memory: 64 << 20, resident: false };
    drop(loaded(system, Group::Cold, size, dir, opening, VALUE_LEN)?);
    let keys = size.keys(Group::Cold);
    for (name, threads) in [("get_cold_1", 1), ("get_cold_4", 4)] {
        reporter.measure(name, || {
            forget(dir)?;
            let store = system.open(dir, opening)?;
            get_from(&*store, threads, keys, Choice::Uniform, size).map(Some)
        });
    }
    reporter.settings(system.open(dir, opening)?.settings());
    Ok(())
}

/// Have the kernel drop what it holds of the files below `dir`.
pub fn forget(dir: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(dir).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            super::limits::drop_pages(&path)?;
        }
    }
    Ok(())
}

fn ycsb(store: &dyn Store, size: Size, reporter: &mut Reporter) -> Outcome<()> {
    let rows = size.keys(Group::Ycsb);
    let next = AtomicU64::new(rows);
    for mix in Mix::ALL {
        let name = format!("ycsb_{}", mix.name);
        reporter.measure(&name, || {
            run(YCSB_THREADS, size.times(), |thread| {
                Ok(Client {
                    session: store.session()?,
                    numbers: Numbers::new(Choice::Zipf, rows, thread),
                    value: value(YCSB_VALUE_LEN),
                    mix,
                    next: &next,
                })
            })
            .map(Some)
        });
    }
    Ok(())
}

/// Parts of a hundred of each operation (Cooper et al., Benchmarking Cloud Serving Systems with YCSB, 2010, table 2); what
/// is left are reads.
#[derive(Clone, Copy)]
struct Mix {
    name: &'static str,
    update: u64,
    insert: u64,
    scan: u64,
    read_modify_write: u64,
    /// Reads prefer what was inserted last.
    latest: bool,
}

impl Mix {
    const READ: Mix = Mix { name: "c", update: 0, insert: 0, scan: 0, read_modify_write: 0, latest: false };
    const ALL: [Mix; 6] = [
        Mix { name: "a", update: 50, ..Mix::READ },
        Mix { name: "b", update: 5, ..Mix::READ },
        Mix::READ,
        Mix { name: "d", insert: 5, latest: true, ..Mix::READ },
        Mix { name: "e", insert: 5, scan: 95, ..Mix::READ },
        Mix { name: "f", read_modify_write: 50, ..Mix::READ },
    ];
}

struct Client<'a> {
    session: Box<dyn Session + 'a>,
    numbers: Numbers,
    value: Vec<u8>,
    mix: Mix,
    /// The number of the next row to be inserted.
    next: &'a AtomicU64,
}

impl Client<'_> {
    fn key(&mut self) -> Key {
        let drawn = self.numbers.draw();
        if !self.mix.latest {
            return key(drawn);
        }
        // The newest few thousand, the newer the likelier; the last ones may still be on their way.
        let magnitude = 1 + self.numbers.below(12);
        let back = self.numbers.below(1 << magnitude);
        key(self.next.load(Ordering::Relaxed).saturating_sub(1 + YCSB_THREADS + back))
    }
}

impl crate::measure::Worker for Client<'_> {
    fn step(&mut self) -> Outcome<u64> {
        let mut dice = self.numbers.below(100);
        let mut is = |part| {
            let hit = dice < part;
            dice = dice.wrapping_sub(part);
            hit
        };
        if is(self.mix.update) {
            let key = self.key();
            self.session.put(&key, &self.value, Level::NoWait)?;
        } else if is(self.mix.insert) {
            let key = key(self.next.fetch_add(1, Ordering::Relaxed));
            self.session.put(&key, &self.value, Level::NoWait)?;
        } else if is(self.mix.scan) {
            let (key, rows) = (self.key(), 1 + self.numbers.below(100));
            self.session.scan(&key, rows)?;
        } else if is(self.mix.read_modify_write) {
            let key = self.key();
            self.session.get(&key)?;
            self.session.put(&key, &self.value, Level::NoWait)?;
        } else {
            let key = self.key();
            self.session.get(&key)?;
        }
        Ok(1)
    }
}
