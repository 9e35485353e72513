//! The engine's files on primitives with a mistake.

pub mod deaf;
pub mod forgetful;
pub mod hasty;
pub mod relaxed;
pub mod unheard;
