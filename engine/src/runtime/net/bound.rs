//! Sockets that are bound and listen, not yet served by any thread.
//!
//! Guards: a port or a socket file that somebody else serves is refused, although every core gets a socket of its
//! own on the same port; a socket file left behind by a dead process is replaced, a living one is not.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{Address, TcpOptions};

/// A listening socket; `Send`, to be handed to the thread that will serve it.
pub struct Bound {
    pub(super) socket: Socket,
    pub(super) address: Address,
    pub(super) tcp: Option<TcpOptions>,
    /// The socket's file goes when the last of its listeners does.
    pub(super) file: Option<Arc<SocketFile>>,
}

impl Bound {
    /// `count` sockets on one address, among which the kernel spreads the connections. Port 0 lets it choose one port
    /// for all. Refused when anything else listens there.
    pub fn tcp(address: SocketAddr, count: usize, options: TcpOptions) -> io::Result<Vec<Bound>> {
        // With SO_REUSEPORT a second server of the same user would share the port without a word.
        let alone = tcp_socket(address)?;
        alone.bind(&address.into())?;
        alone.listen(1)?;
        let address = match Address::of(&alone.local_addr()?) {
            Address::Tcp(chosen) => chosen,
            Address::Unix(_) => address,
        };
        drop(alone);
        (0..count).map(|_| Bound::tcp_shared(address, options)).collect()
    }

    fn tcp_shared(address: SocketAddr, options: TcpOptions) -> io::Result<Bound> {
        let socket = tcp_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog(options.backlog))?;
        Ok(Bound { socket, address: Address::Tcp(address), tcp: Some(options), file: None })
    }

    /// A socket at `path`, which only users with the rights of `mode` may connect to.
    pub fn unix(path: &Path, mode: u32, waiting: u32) -> io::Result<Bound> {
        remove_dead(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = Arc::new(SocketFile(std::path::absolute(path)?));
        // Before `listen`, so that nobody connects under the mode that the umask gave.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        socket.listen(backlog(waiting))?;
        Ok(Bound { socket, address: Address::Unix(Some(path.to_path_buf())), tcp: None, file: Some(file) })
    }

    /// The same socket for another thread; connections go to whichever accepts first.
    pub fn try_clone(&self) -> io::Result<Bound> {
        let socket = self.socket.try_clone()?;
        Ok(Bound { socket, address: self.address.clone(), tcp: self.tcp, file: self.file.clone() })
    }

    pub fn local_address(&self) -> &Address {
        &self.address
    }
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that [::] and 0.0.0.0 can be bound side by side, whatever the system's default is.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn backlog(waiting: u32) -> i32 {
    i32::try_from(waiting).unwrap_or(i32::MAX)
}

/// Remove the file of a socket on which nobody listens any more.
fn remove_dead(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(meta) if !meta.file_type().is_socket() => {
            let what = format!("{} exists and is not a socket", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        Ok(_) => {}
    }
    let caller = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Not to wait for a server whose queue is full: that one is alive.
    caller.set_nonblocking(true)?;
    match caller.connect(&SockAddr::unix(path)?) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        _ => {
            let what = format!("another process serves {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, what))
        }
    }
}

/// The name of a socket in the file system.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.0)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), error = %e, "cannot remove a socket's file");
        }
    }
}
