//! The program `corering`: a server that speaks Redis's protocol over the engine, and its tools.
//!
//! - `resp`: bytes to requests and replies to bytes; knows no engine.
//! - `command`: what each request means.
//! - `server`: the shards' listeners and connections, start and stop.
//! - `script`: scripts in Lua, in a box; knows no command.
//! - `config`, `cli`, `logging`, `exit`: settings, command line, log lines, statuses.
//! - `offline`: check and stat of a database that nobody has open.
//! - `live`: what a running server does.
//! - `locks_cli`: who holds and who waits in a running server.
//! - `bench`: loads for an engine in this process or a server behind a socket.

#![deny(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod command;
pub mod config;
pub mod exit;
pub mod live;
pub mod locks_cli;
pub mod logging;
pub mod offline;
pub mod resp;
pub mod script;
pub mod server;
