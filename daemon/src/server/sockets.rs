//! The addresses that the settings name, bound once for each shard.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use corering_engine::runtime::net::{Address, Bound, TcpOptions};

use crate::config::Settings;
use crate::exit::{self, Failure};

pub struct Sockets {
    /// What each shard accepts from.
    pub shards: Vec<Vec<Bound>>,
    /// The TCP port, chosen by the kernel where the settings say 0.
    pub port: u16,
    /// All addresses, for people.
    pub addresses: Vec<String>,
}

impl Sockets {
    pub fn bind(settings: &Settings, shards: u16) -> Result<Sockets, Failure> {
        let mut sockets =
            Sockets { shards: (0..shards).map(|_| Vec::new()).collect(), port: settings.port, addresses: Vec::new() };
        let options = TcpOptions {
            nodelay: true,
            keepalive: (settings.tcp_keepalive > 0).then(|| Duration::from_secs(u64::from(settings.tcp_keepalive))),
            backlog: settings.tcp_backlog,
        };
        for name in &settings.bind {
            for ip in resolve(name)? {
                sockets.bind_tcp(SocketAddr::new(ip, sockets.port), options)?;
            }
        }
        if let Some(path) = &settings.unixsocket {
            let shown = path.display();
            let failed = |error| Failure::new(exit::IN_USE, format!("cannot listen at the socket {shown}: {error}"));
            let bound = Bound::unix(path, settings.unixsocketperm, settings.tcp_backlog).map_err(failed)?;
            for shard in &mut sockets.shards {
                shard.push(bound.try_clone().map_err(failed)?);
            }
            sockets.addresses.push(format!("unix:{shown}"));
        }
        if sockets.addresses.is_empty() {
            return Err(Failure::usage("there is no address to listen at: give bind or unixsocket"));
        }
        Ok(sockets)
    }

    fn bind_tcp(&mut self, address: SocketAddr, options: TcpOptions) -> Result<(), Failure> {
        let bound = Bound::tcp(address, self.shards.len(), options)
            .map_err(|error| Failure::new(exit::IN_USE, format!("cannot listen at {address}: {error}")))?;
        if let Some(Address::Tcp(chosen)) = bound.first().map(Bound::local_address) {
            self.port = chosen.port();
            self.addresses.push(chosen.to_string());
        }
        for (shard, bound) in self.shards.iter_mut().zip(bound) {
            shard.push(bound);
        }
        Ok(())
    }
}

/// The addresses that a name in `bind` stands for.
fn resolve(name: &str) -> Result<Vec<IpAddr>, Failure> {
    if name == "*" {
        return Ok(vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]);
    }
    if let Ok(ip) = name.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(vec![ip]);
    }
    let found = (name, 0).to_socket_addrs().map_err(|error| Failure::usage(format!("bind = {name:?}: {error}")))?;
    Ok(found.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_addresses() {
        assert_eq!(resolve("127.0.0.1").unwrap(), [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert_eq!(resolve("[::1]").unwrap(), [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert_eq!(resolve("*").unwrap().len(), 2);
        assert!(resolve("localhost").unwrap().iter().all(IpAddr::is_loopback));
        assert_eq!(resolve("no such name").unwrap_err().status, exit::USAGE);
    }

    #[test]
    fn each_shard_gets_a_socket_of_one_port() {
        let settings = Settings { port: 0, ..Settings::default() };
        let sockets = Sockets::bind(&settings, 3).unwrap();
        assert_eq!(sockets.shards.len(), 3);
        assert!(sockets.port > 0);
        for shard in &sockets.shards {
            let [bound] = shard.as_slice() else { panic!("one socket each") };
            assert_eq!(bound.local_address().to_string(), format!("127.0.0.1:{}", sockets.port));
        }
        let again = Sockets::bind(&Settings { port: sockets.port, ..settings }, 1).err().map(|failure| failure.status);
        assert_eq!(again, Some(exit::IN_USE));
    }

    #[test]
    fn no_address_is_an_error() {
        let settings = Settings { bind: Vec::new(), ..Settings::default() };
        assert_eq!(Sockets::bind(&settings, 1).err().map(|failure| failure.status), Some(exit::USAGE));
    }
}
