//! Handing a connection to another process over a stream socketpair: one header with octets and descriptors, after which
//! the same socket goes on as a plain stream.
//!
//! The session sends what its client had pipelined behind PASS, and the client's socket (or nothing, when it stays as a TLS
//! relay); the maildrop process receives it. The receiver trusts neither length nor number, and never reads past the header,
//! because the octets behind it belong to the stream.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::channel::ChannelError;
use crate::packet::{self, Descriptors, MAX_DESCRIPTORS};

/// How many octets may be handed over: what a session buffers at most of a client that sends commands ahead
/// (RFC 2449 section 6.6).
pub const MAX_PIPELINED: usize = 64 * 1024;

/// A big-endian `u32`: how many octets follow.
const LENGTH_OCTETS: usize = 4;

/// Sends `octets` (at most [`MAX_PIPELINED`]) and duplicates of `descriptors` (at most [`MAX_DESCRIPTORS`]).
///
/// # Errors
/// [`ChannelError`]. A part may have been sent: the stream is of no use then.
pub fn send(
    stream: BorrowedFd<'_>,
    octets: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), ChannelError> {
    if octets.len() > MAX_PIPELINED {
        return Err(ChannelError::TooLarge);
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(ChannelError::WrongDescriptors {
            expected: MAX_DESCRIPTORS,
            found: descriptors.len(),
        });
    }
    let length = u32::try_from(octets.len()).map_err(|_| ChannelError::TooLarge)?;
    send_all(stream, &length.to_be_bytes(), descriptors)?;
    send_all(stream, octets, &[])
}

/// Receives what [`send`] sent, waiting for it as the socket's time-outs say. Any number of descriptors up to
/// [`MAX_DESCRIPTORS`] is handed out; the caller knows how many it wants.
///
/// # Errors
/// [`ChannelError::Closed`] when the stream ends within the header, [`ChannelError::Truncated`] for a length above
/// [`MAX_PIPELINED`], [`ChannelError::WrongDescriptors`] for descriptors anywhere but at the first octet, and as for
/// channels. The stream is of no use then.
pub fn receive(stream: BorrowedFd<'_>) -> Result<(Vec<u8>, Descriptors), ChannelError> {
    let mut length = [0; LENGTH_OCTETS];
    let descriptors = receive_all(stream, &mut length)?;
    let length =
        usize::try_from(u32::from_be_bytes(length)).map_err(|_| ChannelError::Truncated)?;
    if length > MAX_PIPELINED {
        return Err(ChannelError::Truncated);
    }
    let mut octets = vec![0; length];
    let strays = receive_all(stream, &mut octets)?;
    if strays.len() != 0 {
        return Err(ChannelError::WrongDescriptors {
            expected: 0,
            found: strays.len(),
        });
    }
    Ok((octets, descriptors))
}

/// Sends all octets, the descriptors with the first.
fn send_all(
    stream: BorrowedFd<'_>,
    mut octets: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), ChannelError> {
    let mut descriptors = descriptors;
    while !octets.is_empty() {
        let sent = match packet::send(stream, octets, descriptors, SendFlags::empty()) {
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(ChannelError::Closed),
            other => other?,
        };
        octets = octets.get(sent..).unwrap_or_default();
        descriptors = &[];
    }
    Ok(())
}

/// Fills `octets` to the end and not an octet further; descriptors may come with the first only.
fn receive_all(stream: BorrowedFd<'_>, octets: &mut [u8]) -> Result<Descriptors, ChannelError> {
    let mut descriptors = Descriptors::default();
    let mut filled = 0;
    while let Some(rest) = octets.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let arrival = match packet::receive(stream, rest, RecvFlags::empty()) {
            Err(Errno::CONNRESET) => return Err(ChannelError::Closed),
            other => other?,
        };
        if arrival.octets == 0 {
            return Err(ChannelError::Closed);
        }
        if arrival.descriptors_cut {
            return Err(ChannelError::DescriptorsTruncated);
        }
        let allowed = if filled == 0 { MAX_DESCRIPTORS } else { 0 };
        if arrival.descriptor_count > allowed {
            return Err(ChannelError::WrongDescriptors {
                expected: allowed,
                found: arrival.descriptor_count,
            });
        }
        if filled == 0 {
            descriptors = arrival.descriptors;
        }
        filled = filled.saturating_add(arrival.octets);
    }
    Ok(descriptors)
}
