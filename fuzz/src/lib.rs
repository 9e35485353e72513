//! Fuzz targets for every decoder that eats bytes of a disk or a peer.
//!
//! Guards: whatever the bytes, a decoder neither panics nor allocates more than they justify; what it accepts is what
//! its encoder writes; and bytes that come in pieces mean the same as the whole.
//! `make fuzz` runs the targets guided by coverage (`bin/fuzz.rs`), `tests/corpus.rs` runs the corpus and mutations of it
//! without. Each target has a planted twin: the same checks over a decoder with one mistake, which both must find.

#![deny(unsafe_code)]

mod input;
pub mod memory;
pub mod mutate;
mod seal;
mod targets;

pub use targets::TARGETS;

/// One decoder and its checks; a check that fails panics.
pub struct Target {
    pub name: &'static str,
    /// The checks over the real decoder.
    pub check: fn(&[u8]),
    /// The same over one that makes a mistake.
    pub planted: fn(&[u8]),
}

/// The target of this name, with `planted_` before it for its twin.
pub fn by_name(name: &str) -> Option<fn(&[u8])> {
    match name.strip_prefix("planted_") {
        Some(name) => TARGETS.iter().find(|target| target.name == name).map(|target| target.planted),
        None => TARGETS.iter().find(|target| target.name == name).map(|target| target.check),
    }
}
