//! The engine in the seeded simulation: swarms of mixes, enumerated crashes, rot. The program `corering-sim` runs ranges of seeds
//! of them, the tests of this crate a few hundred (docs/testing.md).

#![deny(unsafe_code)]

pub mod account;
pub mod crashes;
pub mod fence;
pub mod rot;
pub mod scenario;
mod support;
pub mod swarm;
