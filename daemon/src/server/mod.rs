//! The running server: how it starts, what it does while it runs, and how it stops.
//!
//! The shards' threads serve the connections (`shard`, `connection`, `session`); the main thread waits for a reason to
//! stop (`control`).

mod bell;
mod connection;
mod control;
mod events;
mod lockers;
mod mailbox;
mod notify;
mod output;
mod process;
mod pubsub;
mod registry;
mod room;
mod saves;
mod script_steps;
mod session;
mod shard;
mod shared;
mod signals;
mod sockets;
mod start;
mod stats;
mod steps;
mod transactions;
mod watches;

pub use control::{Control, Event};
pub use events::{Event as KeyEvent, EventClasses, KeyEvents};
pub use process::Process;
pub use pubsub::Kind as SubscriptionKind;
pub use registry::{ClientFlags, ClientInfo};
pub use saves::SaveStart;
pub use script_steps::{Attempt, Tried};
pub use session::{ReplyMode, Session};
pub use start::serve;
pub use steps::{Batch, Part, Told};
pub use transactions::{Interactive, OpenTransactions, Standing, Transactions};
pub use watches::number as watch_number;
