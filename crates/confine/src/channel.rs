//! Typed messages between two processes: one message a datagram, postcard-encoded, with the
//! descriptors it announces.
//!
//! Every role speaks through channels. The other end is not trusted: a datagram that is too long,
//! does not decode, leaves octets over or brings another number of descriptors than its message
//! says is an error of its own kind, and nothing of it survives. What to do then is the caller's
//! decision; at a privilege border, to end that channel.
//!
//! `SOCK_SEQPACKET` rather than `SOCK_STREAM`, so that no length has to be believed; rather than
//! `SOCK_DGRAM`, so that the other end's death is seen as the end of file.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair, sockopt,
};
use rustix::process::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroize;

use crate::packet::{self, Arrival, Descriptors, MAX_DESCRIPTORS};

/// The largest [`Message::MAX_OCTETS`] there may be: what the kernel takes in one datagram with its
/// default socket buffer (212,992 octets with its book-keeping), rounded down.
pub const MAX_DATAGRAM: usize = 128 * 1024;

/// What may travel over a channel.
pub trait Message: Serialize + DeserializeOwned {
    /// The longest encoding, in octets; nothing longer is sent or received. At most
    /// [`MAX_DATAGRAM`], and at least 1.
    const MAX_OCTETS: usize;

    /// How many descriptors must come with this message, at most [`MAX_DESCRIPTORS`].
    fn descriptors(&self) -> usize {
        0
    }
}

/// One end of a channel.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// What came out of a channel.
#[derive(Debug)]
pub enum Received<M> {
    /// A message and exactly as many descriptors as it says.
    Message(M, Descriptors),
    /// The other end is closed and everything sent before that has been received.
    Closed,
}

/// Who sent a message, as the kernel vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The process. It may have ended by now and the number may have been given away again.
    pub pid: Pid,
    /// Its real user.
    pub uid: u32,
    /// Its real group.
    pub gid: u32,
}

/// Why a message was not sent or not received. Whatever came with a refused message has been closed
/// and wiped.
#[derive(Debug)]
pub enum ChannelError {
    /// The descriptor is no `AF_UNIX` `SOCK_SEQPACKET` socket.
    NotAChannel,
    /// Sending: the other end is closed.
    Closed,
    /// There is nothing to receive, or no room to send, without waiting.
    WouldBlock,
    /// Sending: the message encodes to more than its `MAX_OCTETS`.
    TooLarge,
    /// Sending: the message encodes to nothing, which would look like the end of file, or does not
    /// encode.
    Unencodable,
    /// Receiving: the datagram is longer than the message type's `MAX_OCTETS`.
    Truncated,
    /// Receiving: more descriptors came than any message may carry, or than our table has room for.
    DescriptorsTruncated,
    /// Receiving: the octets are no message of this type.
    Undecodable,
    /// Receiving: octets are left over behind the message.
    LeftOver,
    /// Sending or receiving: not as many descriptors as the message says.
    WrongDescriptors {
        /// What the message says.
        expected: usize,
        /// What came with it.
        found: usize,
    },
    /// Receiving with credentials: the channel was not made by [`Channel::pair_with_credentials`].
    NoCredentials,
    /// Anything else the kernel has to say.
    Io(io::Error),
}

impl Channel {
    /// Both ends of a new channel, blocking, closed on exec.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { socket: one }, Self { socket: other }))
    }

    /// Bounds the messages on their way from this end, in octets of the kernel's memory: about a kilobyte for a short one
    /// with its descriptors, and twice `octets` in all.
    ///
    /// # Errors
    /// None known.
    pub fn set_send_buffer(&self, octets: usize) -> io::Result<()> {
        Ok(sockopt::set_socket_send_buffer_size(&self.socket, octets)?)
    }

    /// A receiving end for [`receive_with_credentials`](Self::receive_with_credentials), and the
    /// end to send from, which any number of processes may hold.
    ///
    /// Asked of the kernel here and never later: of a datagram that was sent before, it does not
    /// know the sender.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn pair_with_credentials() -> io::Result<(Self, Self)> {
        let (receiver, sender) = Self::pair()?;
        sockopt::set_socket_passcred(&receiver.socket, true)?;
        Ok((receiver, sender))
    }

    /// Takes a descriptor that came from another process.
    ///
    /// # Errors
    /// [`ChannelError::NotAChannel`], and the descriptor is closed.
    pub fn from_fd(socket: OwnedFd) -> Result<Self, ChannelError> {
        let family = sockopt::socket_domain(&socket).map_err(|_| ChannelError::NotAChannel)?;
        let kind = sockopt::socket_type(&socket).map_err(|_| ChannelError::NotAChannel)?;
        if family != AddressFamily::UNIX || kind != SocketType::SEQPACKET {
            return Err(ChannelError::NotAChannel);
        }
        // See `pair_with_credentials`: not to be had for a socket somebody else made.
        sockopt::set_socket_passcred(&socket, false)?;
        Ok(Self { socket })
    }

    /// The socket, to hand it to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// Sends a message and duplicates of `descriptors`, and waits for room.
    ///
    /// # Errors
    /// [`ChannelError`]; nothing has been sent then.
    pub fn send<M: Message>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        self.send_flagged(message, descriptors, SendFlags::empty())
    }

    /// As [`send`](Self::send), but [`ChannelError::WouldBlock`] where that would wait.
    ///
    /// # Errors
    /// [`ChannelError`]; nothing has been sent then.
    pub fn try_send<M: Message>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        self.send_flagged(message, descriptors, SendFlags::DONTWAIT)
    }

    /// Receives the next message, waiting for it (unless the socket has been made non-blocking).
    ///
    /// # Errors
    /// [`ChannelError`]; the datagram is gone then.
    pub fn receive<M: Message>(&self) -> Result<Received<M>, ChannelError> {
        self.receive_flagged(RecvFlags::empty(), |message, _| Ok(message))
    }

    /// As [`receive`](Self::receive), but `None` where that would wait.
    ///
    /// # Errors
    /// [`ChannelError`]; the datagram is gone then.
    pub fn try_receive<M: Message>(&self) -> Result<Option<Received<M>>, ChannelError> {
        none_if_would_block(self.receive_flagged(RecvFlags::DONTWAIT, |message, _| Ok(message)))
    }

    /// Receives the next message and who sent it, waiting for it.
    ///
    /// # Errors
    /// [`ChannelError`]; the datagram is gone then.
    pub fn receive_with_credentials<M: Message>(
        &self,
    ) -> Result<Received<(M, Credentials)>, ChannelError> {
        self.receive_flagged(RecvFlags::empty(), with_credentials)
    }

    /// As [`receive_with_credentials`](Self::receive_with_credentials), but `None` where that would
    /// wait.
    ///
    /// # Errors
    /// [`ChannelError`]; the datagram is gone then.
    pub fn try_receive_with_credentials<M: Message>(
        &self,
    ) -> Result<Option<Received<(M, Credentials)>>, ChannelError> {
        none_if_would_block(self.receive_flagged(RecvFlags::DONTWAIT, with_credentials))
    }

    fn send_flagged<M: Message>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), ChannelError> {
        let expected = message.descriptors();
        if descriptors.len() != expected || expected > MAX_DESCRIPTORS {
            return Err(ChannelError::WrongDescriptors {
                expected,
                found: descriptors.len(),
            });
        }
        let mut scratch = Scratch::to_encode::<M>();
        let encoded = scratch.encode(message)?;
        match packet::send(self.socket.as_fd(), encoded, descriptors, flags) {
            Ok(_) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(ChannelError::Closed),
            Err(Errno::MSGSIZE) => Err(ChannelError::TooLarge),
            Err(error) => Err(error.into()),
        }
    }

    fn receive_flagged<M: Message, T>(
        &self,
        flags: RecvFlags,
        finish: impl FnOnce(M, &Arrival) -> Result<T, ChannelError>,
    ) -> Result<Received<T>, ChannelError> {
        let mut scratch = Scratch::to_receive::<M>();
        let socket = self.socket.as_fd();
        let mut received = packet::receive(socket, scratch.buffer(), flags);
        if matches!(received, Err(Errno::CONNRESET)) {
            // The other end was closed before it had read all of ours. The kernel tells that once, and ahead of what the
            // other end has sent before; that comes now, its last word among it.
            received = packet::receive(socket, scratch.buffer(), flags);
        }
        let arrival = match received {
            Err(Errno::CONNRESET) => return Ok(Received::Closed),
            Err(Errno::AGAIN) => {
                // Nothing has been written into it.
                scratch.used = 0;
                return Err(ChannelError::WouldBlock);
            }
            other => other?,
        };
        scratch.used = arrival.octets;
        if arrival.octets == 0 {
            return Ok(Received::Closed);
        }
        if arrival.octets_cut {
            return Err(ChannelError::Truncated);
        }
        if arrival.descriptors_cut {
            return Err(ChannelError::DescriptorsTruncated);
        }
        let (message, rest) = postcard::take_from_bytes::<M>(scratch.filled())
            .map_err(|_| ChannelError::Undecodable)?;
        if !rest.is_empty() {
            return Err(ChannelError::LeftOver);
        }
        let (expected, found) = (message.descriptors(), arrival.descriptor_count);
        if expected != found || found > MAX_DESCRIPTORS {
            return Err(ChannelError::WrongDescriptors { expected, found });
        }
        let finished = finish(message, &arrival)?;
        Ok(Received::Message(finished, arrival.descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn with_credentials<M>(message: M, arrival: &Arrival) -> Result<(M, Credentials), ChannelError> {
    let sender = arrival.sender.ok_or(ChannelError::NoCredentials)?;
    Ok((
        message,
        Credentials {
            pid: sender.pid,
            uid: sender.uid.as_raw(),
            gid: sender.gid.as_raw(),
        },
    ))
}

fn none_if_would_block<T>(received: Result<T, ChannelError>) -> Result<Option<T>, ChannelError> {
    match received {
        Ok(received) => Ok(Some(received)),
        Err(ChannelError::WouldBlock) => Ok(None),
        Err(error) => Err(error),
    }
}

thread_local! {
    /// One buffer for all channels, as long as the longest message type seen, all zeroes while
    /// nobody uses it: so a short message costs neither an allocation nor the clearing of
    /// `MAX_OCTETS`, and no password stays behind in it.
    static IDLE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The buffer while in use. Given back, wiped, on every way out.
struct Scratch {
    octets: Vec<u8>,
    /// The message type's `MAX_OCTETS`.
    limit: usize,
    /// How many octets at the front have to be wiped; the rest still is zero.
    used: usize,
}

impl Scratch {
    /// As long as a message of this type can be.
    fn to_receive<M: Message>() -> Self {
        let mut scratch = Self::to_encode::<M>();
        scratch.grow();
        scratch
    }

    /// As long as it is at hand: most messages are far shorter than their type allows.
    fn to_encode<M: Message>() -> Self {
        const {
            assert!(M::MAX_OCTETS >= 1 && M::MAX_OCTETS <= MAX_DATAGRAM);
        }
        // Empty when the thread is just ending or a message's own encoding uses a channel: then
        // with a buffer of its own.
        let octets = IDLE.try_with(Cell::take).unwrap_or_default();
        Self {
            octets,
            limit: M::MAX_OCTETS,
            used: M::MAX_OCTETS,
        }
    }

    fn grow(&mut self) {
        if self.octets.len() < self.limit {
            // Fresh memory is zero and costs nothing before it is used; growing would write all of it.
            self.octets = vec![0; self.limit];
        }
    }

    fn buffer(&mut self) -> &mut [u8] {
        let length = self.limit.min(self.octets.len());
        self.octets.get_mut(..length).unwrap_or_default()
    }

    fn filled(&self) -> &[u8] {
        self.octets.get(..self.used).unwrap_or_default()
    }

    fn encode<M: Message>(&mut self, message: &M) -> Result<&[u8], ChannelError> {
        let mut encoded = postcard::to_slice(message, self.buffer()).map(|encoded| encoded.len());
        if encoded == Err(postcard::Error::SerializeBufferFull) && self.octets.len() < self.limit {
            // The beginning of the message is in it.
            self.octets.zeroize();
            self.grow();
            encoded = postcard::to_slice(message, self.buffer()).map(|encoded| encoded.len());
        }
        let length = match encoded {
            Ok(length) => length,
            Err(postcard::Error::SerializeBufferFull) => return Err(ChannelError::TooLarge),
            Err(_) => return Err(ChannelError::Unencodable),
        };
        if length == 0 {
            return Err(ChannelError::Unencodable);
        }
        self.used = length;
        Ok(self.filled())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let used = self.used.min(self.octets.len());
        if let Some(used) = self.octets.get_mut(..used) {
            used.zeroize();
        }
        let octets = std::mem::take(&mut self.octets);
        // Not given back only when the thread is ending.
        let _ = IDLE.try_with(|idle| idle.set(octets));
    }
}

impl From<Errno> for ChannelError {
    fn from(error: Errno) -> Self {
        if error == Errno::AGAIN {
            Self::WouldBlock
        } else {
            Self::Io(error.into())
        }
    }
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            Self::WouldBlock
        } else {
            Self::Io(error)
        }
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAChannel => f.write_str("not a channel"),
            Self::Closed => f.write_str("channel closed by the other end"),
            Self::WouldBlock => f.write_str("channel would block"),
            Self::TooLarge => f.write_str("message too large to send"),
            Self::Unencodable => f.write_str("message cannot be encoded"),
            Self::Truncated => f.write_str("message longer than its kind allows"),
            Self::DescriptorsTruncated => f.write_str("more descriptors than can be received"),
            Self::Undecodable => f.write_str("message cannot be decoded"),
            Self::LeftOver => f.write_str("octets left over behind a message"),
            Self::WrongDescriptors { expected, found } => {
                write!(f, "message with {found} descriptors instead of {expected}")
            }
            Self::NoCredentials => f.write_str("message without its sender's credentials"),
            Self::Io(error) => write!(f, "channel: {error}"),
        }
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
