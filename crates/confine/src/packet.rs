//! Octets and descriptors in one system call: what [`channel`](crate::channel) and
//! [`handover`](crate::handover) share.
//!
//! Every role that sends or receives messages runs this. It counts what arrives and judges nothing.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{self, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, UCred, recvmsg, sendmsg,
};

/// How many descriptors one message may carry. The largest needs three (a client's socket and both
/// channels of its session); the kernel would take 253, each of them an entry in the receiver's
/// table.
pub const MAX_DESCRIPTORS: usize = 4;

/// The descriptors of one message in the order they were sent: owned, close-on-exec, closed when
/// dropped.
#[derive(Debug, Default)]
pub struct Descriptors {
    slots: [Option<OwnedFd>; MAX_DESCRIPTORS],
}

impl Descriptors {
    /// All of them, if they are exactly `N`; otherwise they are closed.
    pub fn into_array<const N: usize>(self) -> Option<[OwnedFd; N]> {
        self.collect::<Vec<_>>().try_into().ok()
    }

    /// Puts one more behind the others, or closes it when there is no room.
    fn push(&mut self, descriptor: OwnedFd) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(descriptor);
        }
    }
}

impl Iterator for Descriptors {
    type Item = OwnedFd;

    fn next(&mut self) -> Option<OwnedFd> {
        self.slots.iter_mut().find_map(Option::take)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.slots.iter().flatten().count();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Descriptors {}

/// What one recvmsg(2) brought.
pub(crate) struct Arrival {
    /// How many octets were put into the buffer.
    pub octets: usize,
    /// The datagram was longer than the buffer, and its end is gone.
    pub octets_cut: bool,
    /// The kernel dropped descriptors: more than there is room for, or our table is full.
    pub descriptors_cut: bool,
    /// Those that fitted.
    pub descriptors: Descriptors,
    /// How many there were, those closed for want of room included.
    pub descriptor_count: usize,
    /// Who sent it, where the socket was told to ask.
    pub sender: Option<UCred>,
}

/// sendmsg(2), without SIGPIPE.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    octets: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Errno::INVAL);
    }
    let flags = flags | SendFlags::NOSIGNAL;
    retry_on_intr(|| sendmsg(socket, &[IoSlice::new(octets)], &mut control, flags))
}

/// recvmsg(2).
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    octets: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Arrival> {
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received =
        retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(octets)], &mut control, flags))?;
    let mut arrival = Arrival {
        octets: received.bytes,
        octets_cut: received.flags.contains(ReturnFlags::TRUNC),
        descriptors_cut: received.flags.contains(ReturnFlags::CTRUNC),
        descriptors: Descriptors::default(),
        descriptor_count: 0,
        sender: None,
    };
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(descriptors) => {
                for descriptor in descriptors {
                    arrival.descriptor_count = arrival.descriptor_count.saturating_add(1);
                    arrival.descriptors.push(descriptor);
                }
            }
            RecvAncillaryMessage::ScmCredentials(sender) => arrival.sender = Some(sender),
            _ => {}
        }
    }
    Ok(arrival)
}
