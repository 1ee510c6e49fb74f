//! The load generator's POP3 client: it does as little as a client can, so that what is measured is the server. It
//! looks for the ends of replies and counts octets; that the octets are right is checked once, before the measuring.

use crate::Outcome;
use crate::accounts::PASSWORD;
use crate::transport::{Stream, Transport};
use memchr::memmem::Finder;
use rustix::net::sockopt::{Timeout, set_socket_timeout, set_tcp_nodelay};
use rustix::net::{AddressFamily, SocketType};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A server that says nothing for this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A reply that has not ended after this time has failed, whatever the server goes on saying.
const MAX_REPLY: Duration = Duration::from_secs(300);

/// Octets of a line; RFC 2449 allows 512.
const MAX_LINE: usize = 8 * 1024;

/// More than a socket buffers.
const BUFFER_OCTETS: usize = 256 * 1024;

/// The end of a multi-line reply, and the CRLF before it, which may be that of its first line.
const END: &[u8] = b"\r\n.\r\n";

static FIND_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END));

/// One connection.
pub struct Client {
    stream: Stream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// An address nobody has come from lately: servers count connections by source.
pub fn another_source() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let octet = |by: u32| (n / by % 250 + 1) as u8;
    Ipv4Addr::new(127, octet(250 * 250), octet(250), octet(1))
}

/// A connected socket, from `source`.
fn dial(source: Ipv4Addr, to: SocketAddrV4, patience: Duration) -> Outcome<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    for timeout in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, timeout, Some(patience))?;
    }
    rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    rustix::net::connect(&socket, &to)?;
    set_tcp_nodelay(&socket, true)?;
    Ok(OwnedFd::into(socket))
}

impl Client {
    /// Connects from an address of its own and reads the greeting.
    ///
    /// # Errors
    /// The server does not accept, or greets with an error.
    pub fn connect(transport: Transport) -> Outcome<Client> {
        Client::connect_from(another_source(), transport, PATIENCE)
    }

    /// As [`Client::connect`], from `source`, with a patience of the caller's.
    ///
    /// # Errors
    /// As there.
    pub fn connect_from(
        source: Ipv4Addr,
        transport: Transport,
        patience: Duration,
    ) -> Outcome<Client> {
        let socket = dial(source, transport.address(), patience)?;
        let mut client = Client {
            stream: transport.client(socket)?,
            buffer: vec![0; BUFFER_OCTETS].into_boxed_slice(),
            start: 0,
            end: 0,
        };
        client.reply()?;
        Ok(client)
    }

    /// Connects, and logs in.
    ///
    /// # Errors
    /// The server refuses.
    pub fn login(transport: Transport, user: &str) -> Outcome<Client> {
        let mut client = Client::connect(transport)?;
        client.authenticate(user)?;
        Ok(client)
    }

    /// USER and PASS.
    ///
    /// # Errors
    /// The server refuses.
    pub fn authenticate(&mut self, user: &str) -> Outcome<()> {
        self.ask(&format!("USER {user}"))?;
        self.ask(&format!("PASS {PASSWORD}"))
    }

    /// Sends octets.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send(&mut self, octets: &[u8]) -> Outcome<()> {
        Ok(self.stream.write_all(octets)?)
    }

    /// Sends a command and reads a one-line reply.
    ///
    /// # Errors
    /// The connection has ended, or the reply is `-ERR`.
    pub fn ask(&mut self, command: &str) -> Outcome<()> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.reply().map_err(|error| {
            format!("{}: {error}", command.split(' ').next().unwrap_or(command)).into()
        })
    }

    /// Sends a command and reads a multi-line reply; returns its octets.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn list(&mut self, command: &str) -> Outcome<u64> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.multiline()
    }

    /// The rest of a session, in which STAT, UIDL and LIST are asked for: what a program does that looks for new mail.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn poll(mut self) -> Outcome<()> {
        self.ask("STAT")?;
        self.list("UIDL")?;
        self.list("LIST")?;
        self.ask("QUIT")
    }

    /// Reads a one-line reply.
    ///
    /// # Errors
    /// The connection has ended, or the reply is `-ERR`.
    pub fn reply(&mut self) -> Outcome<()> {
        let end = self.line_end()?;
        let is_ok = self.buffer[self.start..end].starts_with(b"+OK");
        let line = self.buffer[self.start..end].escape_ascii().to_string();
        self.start = end + 2;
        if is_ok { Ok(()) } else { Err(line.into()) }
    }

    /// Reads a multi-line reply; returns the octets of all its lines.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub fn multiline(&mut self) -> Outcome<u64> {
        let mut octets = 0;
        self.multiline_into(|part| octets += part.len() as u64)?;
        Ok(octets)
    }

    /// Reads a multi-line reply and hands its octets, those behind the first line, to `take`, in parts.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub fn multiline_into(&mut self, mut take: impl FnMut(&[u8])) -> Outcome<()> {
        let end = Instant::now() + MAX_REPLY;
        let first = self.line_end()?;
        if !self.buffer[self.start..first].starts_with(b"+OK") {
            return self.reply();
        }
        // The CRLF of the first line may belong to the end already.
        self.start = first;
        let mut to_skip = 2;
        loop {
            let held = &self.buffer[self.start..self.end];
            let (taken, ended) = match FIND_END.find(held) {
                Some(at) => (at + END.len(), true),
                None => (held.len().saturating_sub(END.len() - 1), false),
            };
            if taken > 0 {
                let skipped = taken.min(to_skip);
                to_skip -= skipped;
                take(&held[skipped..taken]);
            }
            self.start += taken;
            if ended {
                return Ok(());
            }
            if Instant::now() > end {
                return Err("a reply without end".into());
            }
            self.fill()?;
        }
    }

    fn line_end(&mut self) -> Outcome<usize> {
        let mut looked = self.start;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[looked..self.end]) {
                let end = looked + at;
                return match end.checked_sub(1) {
                    Some(end) if end >= self.start && self.buffer[end] == b'\r' => Ok(end),
                    _ => Err("a line that does not end with CRLF".into()),
                };
            }
            let held = self.end - self.start;
            if held > MAX_LINE {
                return Err("a line without end".into());
            }
            self.fill()?;
            looked = self.start + held;
        }
    }

    /// Reads more behind what is held, which it may move to the front.
    fn fill(&mut self) -> Outcome<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match self.stream.read(&mut self.buffer[self.end..])? {
            0 => Err("the server closed the connection".into()),
            octets => {
                self.end += octets;
                Ok(())
            }
        }
    }

    /// Waits until the server closes.
    ///
    /// # Errors
    /// It sends something instead, or nothing happens.
    pub fn await_end(&mut self) -> Outcome<()> {
        match self.stream.read(&mut self.buffer) {
            Ok(0) => Ok(()),
            Ok(_) => Err("more after the reply to QUIT".into()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the buffer back, for one of very many that will not read much.
    pub fn small(mut self) -> Client {
        let held = self.buffer[self.start..self.end].to_vec();
        (self.start, self.end) = (0, held.len());
        self.buffer = held.into_boxed_slice();
        self
    }

    /// Whether the server has closed the connection or sent something; waits for neither.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn is_silent(&self) -> Outcome<bool> {
        let socket = self.stream.socket();
        socket.set_nonblocking(true)?;
        let peeked = socket.peek(&mut [0]);
        socket.set_nonblocking(false)?;
        Ok(matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock))
    }
}
