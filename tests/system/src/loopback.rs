//! Raises the loopback interface of a new network namespace, by the one netlink message that `ip link set lo up`
//! would send, so that the tests do not need iproute2.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink, recv, send};
use std::io;

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST_ACK: u16 = 0x0001 | 0x0004;
const NLMSG_ERROR: u16 = 2;
const LOOPBACK_INDEX: i32 = 1;
const IFF_UP: u32 = 1;

/// Raises `lo` in the network namespace of the calling thread.
///
/// # Errors
/// What the kernel answers; `EPERM` without `CAP_NET_ADMIN` there.
pub fn raise() -> io::Result<()> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::connect(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;

    // struct nlmsghdr, then struct ifinfomsg (rtnetlink(7)), all in the machine's own byte order.
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    send(&socket, &message, SendFlags::empty())?;

    let mut answer = [0_u8; 256];
    let (octets, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if octets < 20 || kind != NLMSG_ERROR {
        return Err(io::Error::other("no netlink answer"));
    }
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
