//! A small closed database on a disk that rots: every bit flipped, every two blocks exchanged.
//!
//! Guards: an opening gives the right answer to every look, also at locks, sessions, ephemeral keys and fates of transactions, or is
//! refused with the file and the byte; and where it is refused, the check names that file. Never a wrong value, a panic or a hang.

mod closed;

use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use corering_engine::Error;
use corering_engine::check::check_on;
use corering_engine::runtime::BLOCK;
use corering_engine::runtime::sim::{Disk, Rng, Sim, SimConfig};

use self::closed::{Closed, closed};
use crate::account::Account;
use crate::support::text;

/// One thing that a disk may do.
#[derive(Clone, Debug)]
enum Rot {
    Bit { path: String, byte: u64, bit: u8 },
    Swap { a: (String, u64), b: (String, u64) },
}

/// Whether a block holds anything but zeros.
fn is_written(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| *byte != 0)
}

/// Every bit of every file, in order. Of stretches that hold nothing but zeros, where nothing was ever written, only one in
/// 4099 bytes: they are read by nobody, and make up nearly all of a root record's room and of the segments.
fn bits(disk: &Disk) -> Vec<(String, u64)> {
    let mut places = Vec::new();
    for (path, _) in disk.files() {
        let bytes = disk.read(&path).unwrap_or_default();
        for (block, content) in bytes.chunks(64).enumerate() {
            let first = block as u64 * 64;
            let chosen: Vec<u64> = (first..first + content.len() as u64)
                .filter(|byte| is_written(content) || byte.is_multiple_of(4_099))
                .collect();
            places.extend(chosen.into_iter().map(|byte| (path.clone(), byte)));
        }
    }
    places
}

/// Every two different blocks of all files, of which at least one was written.
fn swaps(disk: &Disk) -> Vec<((String, u64), (String, u64))> {
    let (mut written, mut empty) = (Vec::new(), Vec::new());
    for (path, _) in disk.files() {
        let bytes = disk.read(&path).unwrap_or_default();
        let mut first_empty = true;
        for (block, content) in bytes.chunks_exact(BLOCK).enumerate() {
            let place = ((path.clone(), block as u64), content.to_vec());
            if is_written(content) {
                written.push(place);
            } else if std::mem::take(&mut first_empty) {
                // All blocks of zeros of a file are alike.
                empty.push(place);
            }
        }
    }
    let mut pairs = Vec::new();
    for (at, (place, content)) in written.iter().enumerate() {
        let others = written[at + 1..].iter().chain(&empty);
        pairs.extend(others.filter(|(_, other)| other != content).map(|(other, _)| (place.clone(), other.clone())));
    }
    pairs
}

/// Whether it was refused; an error if it was read wrong, or refused without the place.
fn suffer(closed: &Closed, rot: &Rot) -> Result<bool, String> {
    let mut disk = closed.disk.clone();
    let struck: Vec<String> = match rot {
        Rot::Bit { path, byte, bit } => {
            disk.flip_bit(path, *byte, *bit).map_err(text)?;
            vec![path.clone()]
        }
        Rot::Swap { a, b } => {
            disk.swap_blocks((Path::new(&a.0), a.1), (Path::new(&b.0), b.1)).map_err(text)?;
            vec![a.0.clone(), b.0.clone()]
        }
    };
    let config = SimConfig { step_budget: 100_000, ..SimConfig::of_seed(3) };
    let sim = Sim::with(3, config, disk);
    let checked = sim.block_on(check_on(sim.host(), &mut |_| ())).map_err(text)?;
    let read = sim.block_on(closed.look(sim.clone())).map_err(text)?;
    sim.power_off();
    // A log is one thing over its segments: damage of one may be told of by the next, or by their directory.
    let is_named = |said: &str| {
        struck.iter().any(|path| {
            let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
            said.contains(path) || (dir.ends_with("/wal") && said.contains(dir))
        })
    };
    match read {
        Ok(found) if found == closed.right => Ok(false),
        Ok(found) => Err(format!("something else was read: {found:?}")),
        Err(error @ (Error::Corrupt { .. } | Error::Incompatible { .. })) if is_named(&error.to_string()) => {
            let report = checked.map_err(|e| format!("refused with '{error}', and the check failed: {e}"))?;
            let named = report.damages.iter().any(|damage| is_named(&damage.path.display().to_string()));
            if named {
                Ok(true)
            } else {
                Err(format!("refused with '{error}', but the check names no such damage:\n{report}"))
            }
        }
        Err(error) => Err(format!("refused, but not by its name: {error}")),
    }
}

/// What a part of all rot did.
#[derive(Clone, Copy, Default, Debug)]
pub struct Suffered {
    pub tried: u64,
    pub refused: u64,
}

fn suffer_all(closed: &Closed, rots: impl Iterator<Item = Rot>) -> Result<Suffered, String> {
    let mut done = Suffered::default();
    for rot in rots {
        let refused = suffer(closed, &rot).map_err(|e| format!("{rot:?}: {e}"))?;
        done.tried += 1;
        done.refused += u64::from(refused);
    }
    Ok(done)
}

/// Pieces into which the whole is cut; a seed does one of them, so that as many seeds in a row do all.
pub const PIECES: u64 = 1_000;

/// The part of `0..len` that is a seed's: every so-many-th place.
fn share(seed: u64, len: usize) -> impl Iterator<Item = usize> {
    (usize::try_from(seed % PIECES).expect("it is small")..len).step_by(PIECES as usize)
}

thread_local! {
    /// Made once for all pieces that a thread does.
    static CLOSED: Rc<Closed> = Rc::new(closed().expect("a disk without faults"));
}

/// All bits of a seed's bytes.
pub fn flips(seed: u64, _replay: Option<&str>) -> Result<Account, String> {
    let closed = CLOSED.with(Rc::clone);
    let places = bits(&closed.disk);
    let all = share(seed, places.len()).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let rots = all.map(|(at, bit)| Rot::Bit { path: places[at].0.clone(), byte: places[at].1, bit });
    Ok(account("flipped bits", suffer_all(&closed, rots)?))
}

/// A seed's exchanges of blocks.
pub fn exchanges(seed: u64, _replay: Option<&str>) -> Result<Account, String> {
    let closed = CLOSED.with(Rc::clone);
    let pairs = swaps(&closed.disk);
    let rots = share(seed, pairs.len()).map(|at| Rot::Swap { a: pairs[at].0.clone(), b: pairs[at].1.clone() });
    Ok(account("exchanged blocks", suffer_all(&closed, rots)?))
}

fn account(what: &'static str, done: Suffered) -> Account {
    let mut account = Account::default();
    account.acts.insert(what, done.tried);
    account.acts.insert("rot that was refused", done.refused);
    account
}

/// A part of everything for a quick run: bits and exchanges drawn over all places.
pub fn sample(seeds: Range<u64>) -> Result<[Suffered; 2], String> {
    let closed = CLOSED.with(Rc::clone);
    let (places, pairs) = (bits(&closed.disk), swaps(&closed.disk));
    let mut rng = Rng::stream(seeds.start, "rot");
    let drawn: Vec<Rot> = seeds
        .clone()
        .map(|_| {
            let (path, byte) = rng.pick(&places).clone();
            Rot::Bit { path, byte, bit: rng.below(8) as u8 }
        })
        .collect();
    let exchanged: Vec<Rot> = seeds
        .map(|_| {
            let (a, b) = rng.pick(&pairs).clone();
            Rot::Swap { a, b }
        })
        .collect();
    Ok([suffer_all(&closed, drawn.into_iter())?, suffer_all(&closed, exchanged.into_iter())?])
}
