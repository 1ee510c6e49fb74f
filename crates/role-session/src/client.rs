//! The client's connection as a session sees it: octets in, replies out, within a time limit, in the clear or by TLS.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use confine::socket;
use pop3_proto::line::LineBuffer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write, writev};
use rustls::ServerConnection;

/// What TLS's record of a handshake begins with (RFC 8446 section 5.1), and no command of POP3.
const HANDSHAKE_RECORD: u8 = 0x16;

/// At the end, octets that the client has sent and nobody wants are read for so long, and so many of them: unread, they
/// would turn the close into a reset, which can overtake what the client was told last.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER_OCTETS: usize = 256 * 1024;

/// A client on one socket or, under inetd, on two pipes.
pub struct Client {
    input: OwnedFd,
    output: Option<OwnedFd>,
    deadline: Instant,
    tls: Option<Box<ServerConnection>>,
    received: bool,
}

/// Why a client is not served any further. It gets no reply.
#[derive(Debug, PartialEq)]
pub enum Gone {
    /// It closed the connection, or the network did.
    Closed,
    /// The connection was closed without TLS's own end (RFC 8446 section 6.1): by the client, or by somebody between.
    Truncated,
    /// It took too long.
    TimedOut,
    /// It speaks TLS, and that is not what is spoken here.
    TlsUnexpected,
    /// It has sent octets behind STLS, before TLS began: put there by somebody who cannot read what follows, to be taken for
    /// what comes by TLS (RFC 2595 section 4).
    BehindStls,
    /// TLS failed, for this reason.
    Tls(rustls::Error),
    /// It has not gone: what was to serve it could not be confined, for this reason.
    NotConfined(String),
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gone::Closed => f.write_str("closed by the client"),
            Gone::Truncated => f.write_str("closed without TLS's close_notify"),
            Gone::TimedOut => f.write_str("time-out"),
            Gone::TlsUnexpected => f.write_str("TLS on a plaintext port (STLS was not given)"),
            Gone::BehindStls => f.write_str("octets behind STLS"),
            Gone::Tls(rustls::Error::InvalidMessage(
                rustls::InvalidMessage::InvalidContentType,
            )) => f.write_str("the client does not speak TLS"),
            Gone::Tls(error) => error.fmt(f),
            Gone::NotConfined(error) => write!(f, "relay not confined: {error}"),
        }
    }
}

/// A client that has logged in by TLS, for the relay.
pub struct Parts {
    /// TLS.
    pub tls: Box<ServerConnection>,
    /// Where its octets come from.
    pub input: OwnedFd,
    /// Where octets to it go to, if that is not the same.
    pub output: Option<OwnedFd>,
}

impl Client {
    /// A client that must have logged in by `deadline`; `output` only where it is not the same as `input`.
    pub fn new(input: OwnedFd, output: Option<OwnedFd>, deadline: Instant) -> Self {
        let client = Self {
            input,
            output,
            deadline,
            tls: None,
            received: false,
        };
        for descriptor in client.descriptors() {
            // What cannot be made non-blocking is only slower to time out.
            drop(socket::set_nonblocking(descriptor, true));
        }
        client
    }

    /// The descriptors, to give them to another process.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(&self.input)
            .chain(self.output.as_ref())
            .map(AsFd::as_fd)
    }

    /// Shakes hands. From here on everything goes by TLS.
    ///
    /// # Errors
    /// [`Gone`]; the client has been told by an alert, where TLS has one for it.
    pub fn start_tls(&mut self, connection: ServerConnection) -> Result<(), Gone> {
        self.tls = Some(Box::new(connection));
        loop {
            self.flush()?;
            match &self.tls {
                Some(tls) if tls.is_handshaking() => self.advance()?,
                _ => return Ok(()),
            }
        }
    }

    /// TLS, once it has begun.
    pub fn tls(&self) -> Option<&ServerConnection> {
        self.tls.as_deref()
    }

    /// Receives at least one octet.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn receive(&mut self, lines: &mut LineBuffer) -> Result<(), Gone> {
        loop {
            let space = lines.space();
            let octets = match &mut self.tls {
                Some(tls) => tls.reader().read(space),
                None => read(&self.input, &mut *space).map_err(io::Error::from),
            };
            match octets {
                Ok(0) => return Err(Gone::Closed),
                Ok(octets) => {
                    let first = !std::mem::replace(&mut self.received, true);
                    if first && self.tls.is_none() && space.first() == Some(&HANDSHAKE_RECORD) {
                        return Err(Gone::TlsUnexpected);
                    }
                    lines.filled(octets);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.advance()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Gone::Truncated);
                }
                Err(_) => return Err(Gone::Closed),
            }
        }
    }

    /// Listens to the client no more for this time. What it sends meanwhile waits in the kernel, and soon with the client.
    ///
    /// # Errors
    /// [`Gone`]: its time is over.
    pub fn pause(&self, pause: Duration) -> Result<(), Gone> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left.min(pause)).unwrap_or_default();
        // Interrupted, the pause is shorter.
        let _ = poll(&mut [], Some(&timeout));
        match left > pause {
            true => Ok(()),
            false => Err(Gone::TimedOut),
        }
    }

    /// Sends all of `replies` and empties it.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send(&mut self, replies: &mut Vec<u8>) -> Result<(), Gone> {
        let mut rest = replies.as_slice();
        while !rest.is_empty() {
            let octets = match &mut self.tls {
                Some(tls) => tls.writer().write(rest).map_err(|_| Gone::Closed)?,
                None => self.write(rest)?,
            };
            rest = rest.get(octets..).unwrap_or_default();
            self.flush()?;
        }
        replies.clear();
        Ok(())
    }

    /// Sends TLS's last word and closes our half. What the client has sent meanwhile is dropped.
    pub fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        // A client that has gone does not miss it.
        let _ = self.flush();
        let output = self.output.as_ref().unwrap_or(&self.input);
        if socket::shutdown_write(output.as_fd()).is_err() {
            return;
        }
        let now = Instant::now();
        self.deadline = now.checked_add(LINGER).unwrap_or(now);
        let mut octets = [0; 4096];
        let mut left = MAX_LINGER_OCTETS;
        while left > 0 {
            match read(&self.input, &mut octets) {
                Ok(0) => return,
                Ok(read) => left = left.saturating_sub(read),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if self.wait(self.input.as_fd(), PollFlags::IN).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// The client, taken apart for the relay; `None` if it does not speak TLS.
    pub fn into_parts(self) -> Option<Parts> {
        Some(Parts {
            tls: self.tls?,
            input: self.input,
            output: self.output,
        })
    }

    /// Sends what TLS has to send.
    fn flush(&mut self) -> Result<(), Gone> {
        while let Some(tls) = &mut self.tls
            && tls.wants_write()
        {
            let output = self.output.as_ref().unwrap_or(&self.input);
            match tls.write_tls(&mut Stream(output.as_fd())) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(output.as_fd(), PollFlags::OUT)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone::Closed),
            }
        }
        Ok(())
    }

    /// Waits for input, and with TLS takes it and looks what is in it.
    fn advance(&mut self) -> Result<(), Gone> {
        self.flush()?;
        let Some(tls) = &mut self.tls else {
            return self.wait(self.input.as_fd(), PollFlags::IN);
        };
        match tls.read_tls(&mut Stream(self.input.as_fd())) {
            Ok(0) if tls.is_handshaking() => return Err(Gone::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.wait(self.input.as_fd(), PollFlags::IN);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(_) => return Err(Gone::Closed),
        }
        match tls.process_new_packets() {
            Ok(_) => Ok(()),
            Err(error) => {
                // The alert.
                let _ = self.flush();
                Err(Gone::Tls(error))
            }
        }
    }

    fn write(&self, octets: &[u8]) -> Result<usize, Gone> {
        let output = self.output.as_ref().unwrap_or(&self.input);
        loop {
            match write(output, octets) {
                Ok(octets) => return Ok(octets),
                Err(Errno::AGAIN) => self.wait(output.as_fd(), PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone::Closed),
            }
        }
    }

    fn wait(&self, descriptor: BorrowedFd<'_>, event: PollFlags) -> Result<(), Gone> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(
            &mut [PollFd::from_borrowed_fd(descriptor, event)],
            Some(&timeout),
        ) {
            Ok(0) => Err(Gone::TimedOut),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(_) => Err(Gone::Closed),
        }
    }
}

/// A descriptor as TLS wants it. The space that it reads into is all of TLS's buffer behind what is not yet decrypted. What was
/// there before was decrypted in its place and may have been a password, and most of it would outlive the next record.
pub struct Stream<'a>(pub BorrowedFd<'a>);

impl Read for Stream<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        space.fill(0);
        Ok(read(self.0, space)?)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(write(self.0, octets)?)
    }

    fn write_vectored(&mut self, octets: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(writev(self.0, octets)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
