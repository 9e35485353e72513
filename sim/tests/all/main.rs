//! What `make test` runs of the scenarios. (`canaries.rs` is a program of its own: it needs an engine that can be told to be wrong.)

mod crashes;
mod fence;
mod rot;
mod swarm;
