//! Sockets for the daemon, served by the ring of the shard's thread that uses them.
//!
//! Guards: dropping a future loses no byte that was received and reorders none that was sent; a descriptor is closed
//! only after the kernel has given back every operation on it.
//! Leaves to the caller: how long to wait, how much to keep, and what the bytes mean.
//!
//! [`Bound`] sockets are made on any thread, before or after the shards start; [`Net`], which every shard's executor
//! has, turns one into a [`Listener`] of its own thread, and its connections are [`Stream`]s.

mod bound;
mod listener;
mod stream;
mod turns;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{SockAddr, Socket, TcpKeepalive};

pub use bound::Bound;
pub use listener::Listener;
pub use stream::Stream;

use super::uring::Ring;

/// The sockets of one shard's thread.
#[derive(Clone)]
pub struct Net {
    ring: Ring,
}

impl Net {
    pub(crate) fn new(ring: Ring) -> Net {
        Net { ring }
    }

    /// Accept connections on this thread.
    pub fn listener(&self, bound: Bound) -> Listener {
        Listener::new(self.ring.clone(), bound)
    }
}

/// How connections over TCP behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpOptions {
    /// Send small answers at once.
    pub nodelay: bool,
    /// Ask a silent peer whether it is there after so much time; `None` never asks.
    pub keepalive: Option<Duration>,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
}

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        TcpOptions { nodelay: true, keepalive: Some(Duration::from_secs(300)), backlog: 1024 }
    }
}

impl TcpOptions {
    fn apply(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_nodelay(self.nodelay)?;
        if let Some(time) = self.keepalive {
            // A third of the time between the questions, as is usual, and at least the second that the kernel counts in.
            let every = (time / 3).max(Duration::from_secs(1));
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(every).with_retries(3))?;
        }
        Ok(())
    }
}

/// One end of a connection, as one would name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    Tcp(SocketAddr),
    /// A socket in the file system; a client's end has no name.
    Unix(Option<PathBuf>),
}

impl Address {
    fn of(address: &SockAddr) -> Address {
        match address.as_socket() {
            Some(address) => Address::Tcp(address),
            None => Address::Unix(address.as_pathname().map(Path::to_path_buf)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Address::Unix(None) => f.write_str("unix:"),
        }
    }
}
