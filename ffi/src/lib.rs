//! The C ABI of Corering: libcorering.so, libcorering.a and, by cbindgen, include/corering.h.
//!
//! Guards: whatever a C program passes (null, closed, foreign, forked handles; impossible lengths), it gets a status,
//! never a crash; no panic crosses. docs/c-abi.md has the conventions once for all functions.
//!
//! Does not: store or decide anything. Each exported function is the same few lines in one guard: outputs zeroed,
//! handles looked up, arguments converted, the engine called, outputs written. Pointers from C are touched in `raw.rs`
//! only, handles become objects in `registry.rs` only; `tests/all/source.rs` keeps it so.

#![deny(unsafe_code)]
// The safety of an exported function is stated for C's readers, under "Safety:" in its comment; tests/all/source.rs checks.
#![allow(clippy::missing_safety_doc)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a handle is a 64-bit number in the form of a pointer");

mod batch;
mod db;
mod error;
mod execute;
mod failure;
mod guard;
mod iterator;
mod kv;
mod lock;
mod object;
mod op;
mod options;
mod process;
mod queue;
mod range;
mod raw;
mod registry;
mod session;
mod snapshot;
mod stats;
mod status;
mod transaction;
mod transaction_keys;
mod value;
mod version;
mod waits;
mod watch;
mod write;

pub(crate) use corering_engine as engine;

pub use batch::*;
pub use db::*;
pub use error::*;
pub use execute::*;
pub use iterator::*;
pub use kv::*;
pub use lock::*;
pub use op::{
    corering_bytes, corering_condition, corering_condition_kind, corering_op, corering_op_kind, corering_result,
};
pub use options::*;
pub use queue::*;
pub use session::*;
pub use snapshot::*;
pub use stats::*;
pub use status::corering_status;
pub use transaction::*;
pub use transaction_keys::*;
pub use value::*;
pub use version::*;
pub use watch::*;
