//! The engine's own code under model checkers.

mod commit;
mod hand_over;
mod shard;
