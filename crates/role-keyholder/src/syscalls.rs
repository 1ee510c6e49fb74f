//! What the keyholder may ask of the kernel.

use confine::seccomp::{BASE, MESSAGES, PANIC, Policy};

/// Messages, and reading the files that come with them. Random numbers for signatures are in [`BASE`].
pub fn policy() -> Policy {
    Policy::new("keyholder", &[BASE, MESSAGES, PANIC])
}
