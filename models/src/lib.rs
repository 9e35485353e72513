//! The engine's hand-over between threads (the files themselves, which `sound.rs` lists) on loom, which runs every interleaving of a
//! small program, and every value that the memory model lets a load see.
//!
//! Guards: no wake-up is lost, no answer comes twice, what was written before a hand-over is seen after it; a request that a shard
//! took is executed or refused, once; a commit over several shards appears on all of them at once.
//! The same files stand here twice more, on locks and atomics with a mistake, which the programs must find.

#![deny(unsafe_code)]
// The point of the crate: the same files on other primitives.
#![allow(clippy::duplicate_mod)]

pub use corering_engine::{canary, error, ids};

pub mod sound;
pub mod unsound;

mod shim;
