//! The listening sockets: bound here, or handed over by the service manager.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use confine::inherited;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// Sockets that a service manager may hand over.
const MAX_INHERITED: usize = 32;

/// The first one's number (sd_listen_fds(3)).
const FIRST_INHERITED: i32 = 3;

/// The port of POP3 over TLS (RFC 8314 section 3.2): an inherited socket there is meant for it.
const POP3S: u16 = 995;

/// What a service manager calls an inherited socket on any other port that is meant for TLS (`FileDescriptorName=`).
const TLS_NAME: &str = "tls";

/// A listening socket and where it listens.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub socket: OwnedFd,
    /// Its address, for the log.
    pub address: SocketAddr,
    /// TLS begins at once (RFC 8314).
    pub implicit_tls: bool,
}

/// Why there is no listening socket.
#[derive(Debug)]
pub struct ListenError {
    address: String,
    error: io::Error,
}

impl std::fmt::Display for ListenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)
    }
}

/// Binds every address, `true` for those where TLS begins at once. IPv6 sockets take IPv6 only, so that `0.0.0.0` and `[::]`
/// stand side by side.
///
/// # Errors
/// Names the first address that cannot be had.
pub fn bind_all(
    addresses: &[(SocketAddr, bool)],
    backlog: u32,
) -> Result<Vec<Listening>, ListenError> {
    let mut listening = Vec::new();
    for &(address, implicit_tls) in addresses {
        match bind_one(address, implicit_tls, backlog) {
            Ok(socket) => listening.push(socket),
            // A kernel without IPv6 still has its IPv4.
            Err(error)
                if address.is_ipv6()
                    && address.ip().is_unspecified()
                    && addresses.len() > 1
                    && error.raw_os_error()
                        == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {}
            Err(error) => {
                return Err(ListenError {
                    address: address.to_string(),
                    error,
                });
            }
        }
    }
    Ok(listening)
}

fn bind_one(address: SocketAddr, implicit_tls: bool, backlog: u32) -> io::Result<Listening> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let address = local_address(&socket)?;
    Ok(Listening {
        socket,
        address,
        implicit_tls,
    })
}

/// Takes over the sockets of systemd's socket activation, if there are any (sd_listen_fds(3)).
///
/// # Errors
/// A descriptor that is no listening TCP socket, or too many of them.
pub fn inherited() -> Result<Vec<Listening>, ListenError> {
    let fail = |error| ListenError {
        address: "an inherited socket".into(),
        error,
    };
    let mut listening = Vec::new();
    for (number, name) in (FIRST_INHERITED..).zip(announced().map_err(fail)?) {
        let socket = inherited::take(number).map_err(fail)?;
        let is_listening =
            sockopt::socket_acceptconn(&socket).map_err(|error| fail(error.into()))?;
        if !is_listening {
            return Err(fail(io::Error::other(
                "it does not listen (Accept=no is needed)",
            )));
        }
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| fail(error.into()))?;
        let address = local_address(&socket).map_err(fail)?;
        listening.push(Listening {
            socket,
            address,
            implicit_tls: name == TLS_NAME || address.port() == POP3S,
        });
    }
    Ok(listening)
}

/// The names of the sockets that a service manager has left open for this very process; their numbers follow each other.
fn announced() -> io::Result<Vec<String>> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID") != std::process::id().to_string() {
        return Ok(Vec::new());
    }
    let number = variable("LISTEN_FDS").parse().unwrap_or(0);
    if number > MAX_INHERITED {
        return Err(io::Error::other("too many of them"));
    }
    let names = variable("LISTEN_FDNAMES");
    let names = names.split(':').map(str::to_owned);
    Ok(names
        .chain(std::iter::repeat(String::new()))
        .take(number)
        .collect())
}

fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket)?)
        .map_err(|_| io::Error::other("not a TCP socket"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_address_in_use_is_named() {
        let first = bind_all(&[(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false)], 1).unwrap();
        let error = bind_all(&[(first[0].address, true)], 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&first[0].address.to_string()), "{error}");
    }

    #[test]
    fn both_families_share_a_port() {
        let Ok(v6) = bind_all(&[("[::]:0".parse().unwrap(), false)], 1) else {
            return;
        };
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6[0].address.port()));
        assert!(bind_all(&[(v4, false)], 1).is_ok());
    }
}
