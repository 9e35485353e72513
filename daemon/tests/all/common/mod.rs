//! What the integration tests share: servers that are started and ended, and a client.

#![allow(dead_code)]

pub mod client;
pub mod redis;
pub mod server;

pub use client::Client;
#[allow(unused_imports)]
pub use server::{Guarded, Server};
