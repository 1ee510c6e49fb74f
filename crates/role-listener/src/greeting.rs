//! The first line a client gets.

use std::os::fd::AsFd;

use rustix::net::{SendFlags, Shutdown, send, shutdown};

/// Why a connection is refused, as the client is told. A short time later it may be welcome.
pub const TOO_MANY: &[u8] = b"-ERR [SYS/TEMP] Too many connections, try again later\r\n";

/// What a client from a network that may not connect is told.
pub const DENIED: &[u8] = b"-ERR [SYS/PERM] Not for you\r\n";

/// Greets a client; with `timestamp`, APOP is offered (RFC 1939 section 7), and without it nothing in the greeting may
/// look like one (`<…>`).
///
/// False: the client is gone. A new socket has room for the line.
pub fn greet(connection: impl AsFd, timestamp: Option<&str>) -> bool {
    match timestamp {
        None => say(connection, b"+OK POP3 server ready\r\n"),
        Some(timestamp) => say(
            connection,
            format!("+OK POP3 server ready {timestamp}\r\n").as_bytes(),
        ),
    }
}

/// Tells a client why it is not served. The connection is closed by dropping it.
pub fn refuse(connection: impl AsFd, reason: &[u8]) {
    if say(&connection, reason) {
        // Our half only: octets that the client has sent already would else turn the close into a reset, which can overtake
        // the reply.
        let _ = shutdown(connection, Shutdown::Write);
    }
}

fn say(connection: impl AsFd, line: &[u8]) -> bool {
    send(connection, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) == Ok(line.len())
}
