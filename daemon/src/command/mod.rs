//! What requests mean: the table of commands, and their handlers by family.
//!
//! A handler gets the whole request, with the command's name first (and the subcommand's second).

mod cell;
mod client;
mod config_command;
mod connection;
mod cursors;
pub mod dispatch;
mod docs;
mod errors;
mod expiry;
pub mod glob;
mod guard;
mod info;
mod keys;
mod locks;
pub mod long_double;
mod multi_key;
mod object;
mod options;
mod pubsub;
mod scan;
mod script;
mod server;
mod sessions;
mod spec;
mod strings;
pub mod table;
pub mod transaction;
mod tx;
mod watches;

pub use cell::{Answer, Cell};
pub use cursors::Cursors;
pub use errors::CommandError;
pub use scan::KeyCount;
pub use spec::{Command, Flags, Handler, Outcome};
pub use table::Entry;

/// Databases that SELECT knows; each is a keyspace of the engine.
pub const DATABASES: u16 = 16;
