//! Every target over its corpus and a few thousand mutations of it; and each planted mistake found within the same budget.
//!
//! A failure prints the command that runs its one input again. `FUZZ_MUTATIONS` sets how many mutations (default 4000).

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;

use corering_fuzz::mutate::mutate;
use corering_fuzz::{TARGETS, Target};

const MUTATIONS: usize = 4_000;
const SEED: u64 = 0x636f_7265;

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}

/// The committed inputs, a line of hexadecimal digits each, and nothing at all.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name).with_extension("hex");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut inputs: Vec<Vec<u8>> = text.lines().map(from_hex).collect();
    assert!(inputs.len() > 1, "{} holds no corpus", path.display());
    inputs.push(Vec::new());
    inputs
}

/// The corpus, then mutations of it: the same ones each time.
fn inputs(name: &str) -> impl Iterator<Item = Vec<u8>> {
    let mutations = std::env::var("FUZZ_MUTATIONS").map_or(MUTATIONS, |n| n.parse().expect("a number of mutations"));
    let corpus = corpus(name);
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mutated: Vec<Vec<u8>> = (0..mutations)
        .map(|_| {
            let (seed, other) = (rng.usize(0..corpus.len()), rng.usize(0..corpus.len()));
            mutate(&mut rng, &corpus[seed], &corpus[other])
        })
        .collect();
    corpus.into_iter().chain(mutated)
}

/// Whether a check fails on the input; its panic is not shown.
fn fails(check: fn(&[u8]), input: &[u8]) -> bool {
    static QUIET: Once = Once::new();
    thread_local!(static HUSHED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |info| {
            if !HUSHED.get() {
                loud(info);
            }
        }));
    });
    HUSHED.set(true);
    let failed = catch_unwind(AssertUnwindSafe(|| check(input))).is_err();
    HUSHED.set(false);
    failed
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2).expect("whole bytes"), 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}

fn holds(name: &str) {
    let target = target(name);
    if let Ok(text) = std::env::var("FUZZ_REPLAY") {
        return (target.check)(&from_hex(&text));
    }
    for input in inputs(name) {
        if fails(target.check, &input) {
            eprintln!("again: FUZZ_REPLAY={} cargo test -p corering-fuzz --test corpus holds::{name}", hex(&input));
            (target.check)(&input);
        }
    }
}

fn finds_its_planted_mistake(name: &str) {
    let planted = target(name).planted;
    let tries = inputs(name).position(|input| fails(planted, &input));
    assert!(tries.is_some(), "the planted mistake of {name} was not found");
}

macro_rules! for_each_target {
    ($($name:ident),* $(,)?) => {
        mod holds {
            $(#[test] fn $name() { super::holds(stringify!($name)) })*
        }
        mod planted_mistake_is_found {
            $(#[test] fn $name() { super::finds_its_planted_mistake(stringify!($name)) })*
        }
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

for_each_target!(
    batch,
    block,
    bloom,
    ephemeral,
    footer,
    frame,
    glob,
    hold,
    index,
    long_double,
    manifest,
    mirror,
    number,
    record,
    reply,
    request,
    segment,
    stage,
    superblock,
);

#[test]
fn every_target_is_tested() {
    assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), TESTED);
}
