//! What roles do to a client's connection besides reading and writing.
//!
//! Listener, session and maildrop process run this. In inetd mode the descriptor may be a TCP
//! socket, a unix socket or a pipe: what does not apply to it is an answer here, not a failure.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvFlags, Shutdown, SocketAddrAny, SocketFlags, acceptfrom_with, getpeername, getsockname,
    sockopt,
};

/// The other end of a TCP connection; `None` for anything else. An IPv4 client of an IPv6 socket is
/// given as IPv4, as otherwise all of them would count as one /64.
pub fn peer_address(connection: BorrowedFd<'_>) -> Option<SocketAddr> {
    // The kernel answers an unnamed address (None) for some sockets and an error for what is no
    // socket.
    internet_address(getpeername(connection).ok()?)
}

/// Our end of a TCP connection, as [`peer_address`].
pub fn local_address(connection: BorrowedFd<'_>) -> Option<SocketAddr> {
    internet_address(getsockname(connection).ok())
}

fn internet_address(address: Option<SocketAddrAny>) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(address?).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// The next connection of a listening socket, non-blocking and closed on exec, and its other end
/// (`None` unless TCP). `Ok(None)`: none is waiting, or it went away before it was accepted.
///
/// # Errors
/// What concerns the listening socket and not that one connection: no descriptors left (`EMFILE`,
/// `ENFILE`), no memory.
pub fn accept(listening: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
    match retry_on_intr(|| acceptfrom_with(listening, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC))
    {
        Ok((connection, peer)) => Ok(Some((connection, internet_address(peer)))),
        // accept(2): errors pending on the new connection are to be treated like EAGAIN.
        Err(
            Errno::AGAIN
            | Errno::CONNABORTED
            | Errno::PERM
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT,
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Copies what has arrived without taking it; 0 is the end of file.
///
/// # Errors
/// `WouldBlock` when nothing has arrived on a non-blocking socket, `ENOTSOCK` for a pipe, else the
/// connection's error.
pub fn peek(connection: BorrowedFd<'_>, octets: &mut [u8]) -> io::Result<usize> {
    let (_, length) =
        retry_on_intr(|| rustix::net::recv(connection, &mut *octets, RecvFlags::PEEK))?;
    Ok(length)
}

/// Makes a connection that shows no life fail: unacknowledged octets, and unanswered probes of a
/// silent connection, after `timeout` at the latest (rounded to seconds, at least 4 s). Nothing is
/// done to what is not TCP.
///
/// # Errors
/// What setsockopt(2) says of a TCP socket.
pub fn notice_dead_peer(connection: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    /// Probes that may stay unanswered.
    const PROBES: u32 = 3;
    if !is_tcp(connection) {
        return Ok(());
    }
    let timeout = Duration::from_secs(timeout.as_secs().clamp(4, 24 * 60 * 60));
    // A quarter of silence, then three probes a quarter apart.
    let quarter = Duration::from_secs(timeout.as_secs().div_euclid(4).max(1));
    sockopt::set_socket_keepalive(connection, true)?;
    sockopt::set_tcp_keepidle(connection, quarter)?;
    sockopt::set_tcp_keepintvl(connection, quarter)?;
    sockopt::set_tcp_keepcnt(connection, PROBES)?;
    sockopt::set_tcp_user_timeout(
        connection,
        u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
    )?;
    Ok(())
}

/// Sends what is written at once instead of waiting for more. Nothing is done to what is not TCP.
///
/// # Errors
/// What setsockopt(2) says of a TCP socket.
pub fn set_no_delay(connection: BorrowedFd<'_>) -> io::Result<()> {
    if is_tcp(connection) {
        sockopt::set_tcp_nodelay(connection, true)?;
    }
    Ok(())
}

/// Whether this is a TCP socket.
pub fn is_tcp(connection: BorrowedFd<'_>) -> bool {
    sockopt::socket_protocol(connection)
        .is_ok_and(|protocol| protocol == Some(rustix::net::ipproto::TCP))
}

/// Makes reads and writes wait, or not wait. Of the open description: every duplicate, other
/// processes' too, changes.
///
/// # Errors
/// None known.
pub fn set_nonblocking(descriptor: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    let flags = fcntl_getfl(descriptor)?;
    let wanted = if nonblocking {
        flags | OFlags::NONBLOCK
    } else {
        flags.difference(OFlags::NONBLOCK)
    };
    if wanted != flags {
        fcntl_setfl(descriptor, wanted)?;
    }
    Ok(())
}

/// How long a blocking read and a blocking write wait at most before they fail with `WouldBlock`;
/// `None` is for ever.
///
/// # Errors
/// `ENOTSOCK` for what is no socket; a duration of zero.
pub fn set_timeouts(socket: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, timeout)?;
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, timeout)?;
    Ok(())
}

/// Waits until something can be read, or the other end is closed.
///
/// # Errors
/// `TimedOut` when the deadline has passed.
pub fn wait_readable(descriptor: impl AsFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(
            &mut [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            // What is left of the time is waited for.
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends our direction of a connection; the other can still be read to its end.
///
/// # Errors
/// `ENOTSOCK`, `ENOTCONN`.
pub fn shutdown_write(connection: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::shutdown(connection, Shutdown::Write)?)
}

/// Both ends of a stream between two processes, blocking, closed on exec: what
/// [`handover`](crate::handover) goes over.
///
/// # Errors
/// No descriptors left.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketType, socketpair};
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Octets waiting in the socket and not yet read.
///
/// # Errors
/// `ENOTTY` for what does not count them.
pub fn readable_octets(connection: impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(connection)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A connection as the listener gets it, and the client's end.
    fn connected(address: &str) -> (OwnedFd, Option<SocketAddr>, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let mut to = listener.local_addr().unwrap();
        if to.is_ipv6() {
            to.set_ip([127, 0, 0, 1].into());
        }
        let client = TcpStream::connect(to).unwrap();
        let (connection, peer) = accept(listener.as_fd()).unwrap().unwrap();
        (connection, peer, client)
    }

    #[test]
    fn both_ends_of_a_tcp_connection_are_known() {
        let (connection, peer, client) = connected("127.0.0.1:0");
        assert_eq!(peer, Some(client.local_addr().unwrap()));
        assert_eq!(peer_address(connection.as_fd()), peer);
        assert_eq!(
            local_address(connection.as_fd()),
            Some(client.peer_addr().unwrap())
        );
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_is_ipv4() {
        let (connection, peer, client) = connected("[::]:0");
        assert_eq!(peer, Some(client.local_addr().unwrap()));
        assert_eq!(peer_address(connection.as_fd()), peer);
    }

    #[test]
    fn what_is_not_tcp_has_no_address_and_takes_no_options() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        for descriptor in [stream.as_fd(), pipe.as_fd()] {
            assert_eq!(peer_address(descriptor), None);
            assert_eq!(local_address(descriptor), None);
            assert!(!is_tcp(descriptor));
            notice_dead_peer(descriptor, Duration::from_secs(60)).unwrap();
            set_no_delay(descriptor).unwrap();
        }
    }

    #[test]
    fn accepted_connections_do_not_block_and_nothing_waiting_is_none() {
        let (connection, _, mut client) = connected("127.0.0.1:0");
        let mut octets = [0; 8];
        let error = peek(connection.as_fd(), &mut octets).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        set_nonblocking(connection.as_fd(), false).unwrap();
        client.write_all(b"QUIT").unwrap();
        for _ in 0..2 {
            assert_eq!(peek(connection.as_fd(), &mut octets).unwrap(), 4);
        }
        assert_eq!(readable_octets(&connection).unwrap(), 4);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(accept(listener.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_dead_peer_is_noticed_within_the_time_given() {
        let (connection, _, _client) = connected("127.0.0.1:0");
        notice_dead_peer(connection.as_fd(), Duration::from_secs(60)).unwrap();
        assert!(sockopt::socket_keepalive(&connection).unwrap());
        let idle = sockopt::tcp_keepidle(&connection).unwrap();
        let probes = sockopt::tcp_keepintvl(&connection).unwrap()
            * sockopt::tcp_keepcnt(&connection).unwrap();
        assert_eq!(idle + probes, Duration::from_secs(60));
        assert_eq!(sockopt::tcp_user_timeout(&connection).unwrap(), 60_000);
    }

    #[test]
    fn a_read_ends_at_its_time_out() {
        let (stream, _other) = stream_pair().unwrap();
        set_timeouts(stream.as_fd(), Some(Duration::from_millis(10))).unwrap();
        let error = std::io::Read::read(&mut UnixStream::from(stream), &mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
