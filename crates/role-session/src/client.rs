//! The client's connection as a session sees it: octets in, replies out, within a time limit.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use confine::socket;
use pop3_proto::line::LineBuffer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};

/// A client on one socket or, under inetd, on two pipes.
#[derive(Debug)]
pub struct Client {
    input: OwnedFd,
    output: Option<OwnedFd>,
    deadline: Instant,
}

/// Why a client is not served any further. It gets no reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Gone {
    /// It closed the connection, or the network did.
    Closed,
    /// It took too long.
    TimedOut,
}

impl Client {
    /// A client that must have logged in by `deadline`; `output` only where it is not the same as `input`.
    pub fn new(input: OwnedFd, output: Option<OwnedFd>, deadline: Instant) -> Self {
        let client = Self {
            input,
            output,
            deadline,
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

    /// Receives at least one octet.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn receive(&self, lines: &mut LineBuffer) -> Result<(), Gone> {
        loop {
            match read(&self.input, &mut *lines.space()) {
                Ok(0) => return Err(Gone::Closed),
                Ok(octets) => {
                    lines.filled(octets);
                    return Ok(());
                }
                Err(Errno::AGAIN) => self.wait(self.input.as_fd(), PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone::Closed),
            }
        }
    }

    /// Sends all of `replies` and empties it.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send(&self, replies: &mut Vec<u8>) -> Result<(), Gone> {
        let output = self.output.as_ref().unwrap_or(&self.input);
        let mut rest = replies.as_slice();
        while !rest.is_empty() {
            match write(output, rest) {
                Ok(octets) => rest = rest.get(octets..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait(output.as_fd(), PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone::Closed),
            }
        }
        replies.clear();
        Ok(())
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

/// Waits until a message from `auth` can be received.
///
/// # Errors
/// The deadline has passed.
pub fn wait_for(descriptor: impl AsFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(
            &mut [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
