//! The owner of one core's log, memtable and tables: inbox, dispatch, life cycle, background work.

pub mod background;
pub mod core;
pub mod ephemeral;
pub mod handle;
mod internal;
pub mod keeper;
pub mod locking;
mod moving;
pub mod recover;
pub mod request;
pub mod service;
pub mod tx;
pub mod view;

pub use core::Counters;
pub use handle::ShardHandle;
pub use locking::{LockRequest, Released, Wait};
pub use request::Request;
pub use tx::Tx;
pub use view::ShardView;
