//! `format/manifest.rs`: a manifest that is accepted is the one that would be written, and its counts reserve nothing.

use corering_engine::format::damage::Damage;
use corering_engine::format::manifest::{Manifest, TableMeta};

use crate::{memory, seal};

type Decode = fn(&[u8]) -> Result<Manifest, Damage>;

/// Memory for each byte of the input: a table's fields take twice their bytes, a run six times, and a vector that grows
/// holds up to twice its content and the old one besides.
const FACTOR: usize = 32;
const RUNS_AT: usize = 48;

pub fn check(input: &[u8]) {
    agree(input, Manifest::decode);
}

/// Makes room for as many runs as the header promises.
pub fn planted(input: &[u8]) {
    agree(input, |bytes| {
        let count = bytes.get(RUNS_AT).copied().unwrap_or_default();
        let runs: Vec<Vec<TableMeta>> = Vec::with_capacity(usize::from(count) << 8);
        std::hint::black_box(&runs);
        Manifest::decode(bytes)
    });
}

fn agree(input: &[u8], decode: Decode) {
    read(input, decode);
    let mut bytes = input.to_vec();
    seal::put(&mut bytes, 0, &[1, 0, 0, 0, 0, 0]);
    read(&bytes, decode);
}

fn read(bytes: &[u8], decode: Decode) {
    let decoded = memory::at_most(FACTOR * bytes.len() + memory::TEXT, "a manifest", || decode(bytes));
    match decoded {
        Ok(manifest) => assert_eq!(manifest.encode().expect("it was no longer than allowed"), bytes),
        Err(damage) => assert!(damage.at <= bytes.len() as u64, "{damage:?} lies outside"),
    }
}
