//! What the session spawner and its sessions may ask of the kernel.

use confine::seccomp::{Allow, BASE, CONFINE, FORK, MESSAGES, PANIC, Policy};

/// The spawner's own, and what a child needs until it has confined itself further.
pub fn spawner() -> Policy {
    const SPAWNER: &[Allow] = &[Allow::any(libc::SYS_dup, "copies of a lease")];
    Policy::new(
        "session spawner",
        &[BASE, MESSAGES, PANIC, FORK, CONFINE, SPAWNER],
    )
}

/// A session's: octets from its client, messages to auth, and its end.
pub fn session() -> Policy {
    Policy::new("session", &[BASE, MESSAGES, PANIC])
}
