//! Handing a connection to another process over a stream socketpair: one header with octets and
//! descriptors, after which the same socket goes on as a plain stream.
//!
//! The session sends what its client had pipelined behind PASS, and the client's socket (or
//! nothing, when it stays as a TLS relay); the maildrop process receives it. The receiver trusts
//! neither length nor number nor that anything comes at all, and never reads past the header, because
//! the octets behind it belong to the stream.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::channel::ChannelError;
use crate::packet::{self, Descriptors, MAX_DESCRIPTORS};
use crate::socket::wait_readable;

/// How many octets may be handed over: what a session buffers at most of a client that sends
/// commands ahead (RFC 2449 section 6.6).
pub const MAX_PIPELINED: usize = 64 * 1024;

/// A big-endian `u32`: how many octets follow.
const LENGTH_OCTETS: usize = 4;

/// Sends `octets` (at most [`MAX_PIPELINED`]) and duplicates of `descriptors` (at most
/// [`MAX_DESCRIPTORS`]).
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
    // At once: the receiver is woken for it.
    send_all(
        stream,
        &[&length.to_be_bytes(), octets].concat(),
        descriptors,
    )
}

/// Receives what [`send`] sent; all of it has to come before the deadline. Any number of
/// descriptors up to [`MAX_DESCRIPTORS`] is handed out; the caller knows how many it wants.
///
/// # Errors
/// [`ChannelError::Io`] with `TimedOut`, [`ChannelError::Closed`] when the stream ends within the header, [`ChannelError::Truncated`] for
/// a length above [`MAX_PIPELINED`], [`ChannelError::WrongDescriptors`] for descriptors behind the
/// length, and as for channels. The stream is of no use then.
pub fn receive(
    stream: BorrowedFd<'_>,
    deadline: Instant,
) -> Result<(Vec<u8>, Descriptors), ChannelError> {
    let mut length = [0; LENGTH_OCTETS];
    let descriptors = receive_all(stream, &mut length, deadline)?;
    let length =
        usize::try_from(u32::from_be_bytes(length)).map_err(|_| ChannelError::Truncated)?;
    if length > MAX_PIPELINED {
        return Err(ChannelError::Truncated);
    }
    let mut octets = vec![0; length];
    let strays = receive_all(stream, &mut octets, deadline)?;
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
///
/// It is waited only where nothing is there: usually the other end has sent it all by now.
fn receive_all(
    stream: BorrowedFd<'_>,
    octets: &mut [u8],
    deadline: Instant,
) -> Result<Descriptors, ChannelError> {
    let mut descriptors = Descriptors::default();
    let mut filled = 0;
    while let Some(rest) = octets.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let arrival = match packet::receive(stream, rest, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => {
                wait_readable(stream, deadline)?;
                continue;
            }
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    /// Late enough for what is there already.
    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn the_stream_goes_on_behind_the_header() {
        for length in [0, 1, 17, MAX_PIPELINED] {
            let (mut session, mut maildrop) = UnixStream::pair().unwrap();
            let octets = vec![b'x'; length];
            let file = File::open("/dev/null").unwrap();
            send(session.as_fd(), &octets, &[file.as_fd(), file.as_fd()]).unwrap();
            session.write_all(b"STAT\r\n").unwrap();
            let (received, descriptors) = receive(maildrop.as_fd(), soon()).unwrap();
            assert_eq!(received, octets);
            assert_eq!(descriptors.len(), 2);
            let mut command = [0; 6];
            maildrop.read_exact(&mut command).unwrap();
            assert_eq!(&command, b"STAT\r\n");
        }
    }

    #[test]
    fn a_header_in_single_octets_is_put_together() {
        let (mut session, maildrop) = UnixStream::pair().unwrap();
        for octet in [0, 0, 0, 3, b'a', b'b', b'c', b'd'] {
            session.write_all(&[octet]).unwrap();
        }
        let (octets, descriptors) = receive(maildrop.as_fd(), soon()).unwrap();
        assert_eq!(
            (octets.as_slice(), descriptors.len()),
            (b"abc".as_slice(), 0)
        );
    }

    #[test]
    fn a_stream_that_ends_within_the_header_is_closed() {
        let header = [0, 0, 0, 3, b'a', b'b'];
        for length in 0..=header.len() {
            let (mut session, maildrop) = UnixStream::pair().unwrap();
            session.write_all(&header[..length]).unwrap();
            drop(session);
            assert!(matches!(
                receive(maildrop.as_fd(), soon()),
                Err(ChannelError::Closed)
            ));
        }
    }

    #[test]
    fn a_header_that_stops_anywhere_is_given_up_at_the_deadline() {
        let header = [0, 0, 0, 3, b'a', b'b'];
        for length in 0..=header.len() {
            let (mut session, maildrop) = UnixStream::pair().unwrap();
            session.write_all(&header[..length]).unwrap();
            let began = Instant::now();
            let deadline = began + Duration::from_millis(20);
            let received = receive(maildrop.as_fd(), deadline);
            assert!(
                matches!(&received, Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::TimedOut),
                "{length}: {received:?}"
            );
            assert!(began.elapsed() >= Duration::from_millis(20));
        }
    }

    #[test]
    fn a_header_that_comes_late_is_waited_for() {
        let (mut session, maildrop) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || {
            for octet in [0, 0, 0, 2, b'a', b'b'] {
                session.write_all(&[octet]).unwrap();
                std::thread::yield_now();
            }
            session
        });
        let (octets, _) = receive(maildrop.as_fd(), soon()).unwrap();
        assert_eq!(octets, b"ab");
        drop(sender.join().unwrap());
    }

    #[test]
    fn too_great_a_length_is_refused_at_both_ends() {
        let (mut session, maildrop) = UnixStream::pair().unwrap();
        let too_long = vec![0; MAX_PIPELINED + 1];
        let sent = send(session.as_fd(), &too_long, &[]);
        assert!(matches!(sent, Err(ChannelError::TooLarge)));
        session.write_all(&[0, 1, 0, 1]).unwrap();
        assert!(matches!(
            receive(maildrop.as_fd(), soon()),
            Err(ChannelError::Truncated)
        ));
    }

    #[test]
    fn descriptors_behind_the_length_are_refused() {
        let file = File::open("/dev/null").unwrap();
        let (mut session, maildrop) = UnixStream::pair().unwrap();
        session.write_all(&[0, 0, 0, 1]).unwrap();
        packet::send(session.as_fd(), b"x", &[file.as_fd()], SendFlags::empty()).unwrap();
        let received = receive(maildrop.as_fd(), soon());
        assert!(matches!(
            received,
            Err(ChannelError::WrongDescriptors {
                expected: 0,
                found: 1
            })
        ));
    }
}
