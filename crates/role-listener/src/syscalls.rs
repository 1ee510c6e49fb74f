//! What the listener may ask of the kernel.

use confine::seccomp::{Allow, ArgRule, BASE, MESSAGES, PANIC, Policy};

const LISTENER: &[Allow] = &[
    Allow::any(libc::SYS_accept4, "new connections"),
    Allow::any(libc::SYS_getsockname, "the address a client connected to"),
    Allow::any(
        libc::SYS_pipe2,
        "the lease of a connection that is handed on",
    ),
    Allow::when(
        libc::SYS_ioctl,
        &[ArgRule::is(1, libc::FIONREAD as libc::c_int)],
        "how many octets a client has sent",
    ),
];

/// The listener's allow list.
pub fn policy() -> Policy {
    Policy::new("listener", &[BASE, MESSAGES, PANIC, LISTENER])
}
