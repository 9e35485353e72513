//! The owner of one core's log, memtable and tables: inbox, dispatch, life cycle, background work.

pub mod background;
pub mod core;
pub(crate) mod cover;
pub mod ephemeral;
mod gate;
pub mod handle;
mod inbox;
mod internal;
pub mod joint;
pub mod keeper;
mod line;
pub mod lock_counts;
mod lock_in_place;
mod lock_request;
pub mod locking;
mod mark;
mod memtables;
mod moving;
pub mod recover;
pub mod replay;
pub mod request;
pub mod service;
pub mod stages;
pub mod tx;
pub mod view;
pub mod waits;

pub use core::{Counters, ShardCore};
pub use handle::ShardHandle;
pub use lock_in_place::InPlace;
pub use lock_request::{LockRequest, NameFilter, Released, Wait};
pub use request::Request;
pub use stages::{StageTimes, Stages};
pub use tx::{Draft, Tx};
pub use view::ShardView;

// For the files that stand on loom's in `corering-models`.
use crate::{event, sync};
