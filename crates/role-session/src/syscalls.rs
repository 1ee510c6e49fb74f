//! What the session spawner and its sessions may ask of the kernel.

use confine::seccomp::{Allow, ArgRule, BASE, CONFINE, FORK, MESSAGES, PANIC, Policy};

/// The spawner's own, and what a child needs until it has confined itself further.
pub fn spawner() -> Policy {
    const SPAWNER: &[Allow] = &[Allow::any(libc::SYS_dup, "copies of a lease")];
    Policy::new(
        "session spawner",
        &[BASE, MESSAGES, PANIC, FORK, CONFINE, RELAY, SPAWNER],
    )
}

/// Of a client's connection that stays with its session.
const RELAY: &[Allow] = &[
    Allow::when(
        libc::SYS_getsockopt,
        &[ArgRule::is(1, libc::IPPROTO_TCP)],
        "is it TCP?",
    ),
    Allow::when(
        libc::SYS_setsockopt,
        &[ArgRule::is(1, libc::IPPROTO_TCP)],
        "no delay, dead peers",
    ),
];

/// A session's: octets from its client, messages to auth and the keyholder, and its end.
pub fn session() -> Policy {
    Policy::new("session", &[BASE, MESSAGES, PANIC, RELAY])
}
