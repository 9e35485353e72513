//! Bytes only: what is on disk and how to read it back without believing it.
//!
//! Guards: no decoder here panics, indexes unchecked or allocates by a length it has not checked. Every layout has one
//! home: ruler, constants, compile-time checks, encode, decode and golden bytes in one file.
//! Does not: know files, tasks or time.

pub mod batch;
pub mod block;
pub mod bloom;
pub mod damage;
pub mod ephemeral;
pub mod fate;
pub mod footer;
pub mod frame;
pub mod hold;
pub mod le;
pub mod manifest;
pub mod mirror;
pub mod record;
pub mod segment;
pub mod superblock;
pub mod table_index;
