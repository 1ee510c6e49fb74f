//! What the locker may ask of the kernel.

use confine::seccomp::{Allow, ArgRule, BASE, MESSAGES, PANIC, Policy};
use libc::{O_ACCMODE, O_CREAT, O_EXCL, O_PATH, O_TRUNC, O_WRONLY};

/// What a file is opened by, and what must be set of it: it is a new one, and written.
const WAYS: u32 = (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_PATH) as u32;
const NEW: u32 = (O_WRONLY | O_CREAT | O_EXCL) as u32;

/// Locks in the spool; Landlock says that it is the spool.
const LOCKS: &[Allow] = &[
    Allow::when(
        libc::SYS_openat,
        &[ArgRule::bits(2, WAYS, NEW)],
        "a lock is made; no file that is there is opened",
    ),
    Allow::any(libc::SYS_fstat, "which file is ours?"),
    Allow::any(
        libc::SYS_newfstatat,
        "is it still ours? how old is another's?",
    ),
    Allow::when(
        libc::SYS_unlinkat,
        &[ArgRule::is(2, 0)],
        "a lock is given up, or a forgotten one removed",
    ),
    Allow::any(libc::SYS_fchmod, "others may read a lock"),
    Allow::any(libc::SYS_utimensat, "a lock is still in use"),
    Allow::any(libc::SYS_geteuid, "which locks are ours?"),
];

/// Messages, and locks.
pub fn policy() -> Policy {
    Policy::new("locker", &[BASE, MESSAGES, PANIC, LOCKS])
}
