//! What the spawner and the maildrop processes may ask of the kernel.

use confine::seccomp::{Allow, ArgRule, BASE, CONFINE, FORK, IDENTITY, MESSAGES, PANIC, Policy};

/// What opening a maildrop and a session lock takes.
const OPEN: &[Allow] = &[
    Allow::any(
        libc::SYS_openat,
        "session lock, index, the base of a maildrop",
    ),
    Allow::any(libc::SYS_openat2, "a maildrop, without following links"),
    Allow::any(libc::SYS_fstat, "whose is it, and what?"),
    Allow::any(libc::SYS_newfstatat, "whose is it, and what?"),
];

/// What looking after journals takes.
const JOURNALS: &[Allow] = &[
    Allow::any(libc::SYS_renameat, "a journal set aside"),
    Allow::any(libc::SYS_renameat2, "a journal set aside"),
];

/// What locking takes.
const LOCK: &[Allow] = &[
    Allow::when(
        libc::SYS_fcntl,
        &[ArgRule::is(1, libc::F_OFD_SETLK)],
        "locks that belong to an open file",
    ),
    Allow::any(libc::SYS_flock, "flock(2) where that is configured"),
];

/// What serving a maildrop takes. Landlock says which files.
const MAILDROP: &[Allow] = &[
    Allow::any(libc::SYS_openat, "messages of a Maildir, a dotlock"),
    Allow::any(libc::SYS_fstat, "has another program changed it?"),
    Allow::any(libc::SYS_newfstatat, "is a lock file still ours?"),
    Allow::any(libc::SYS_statx, "when was the mailbox made?"),
    Allow::any(libc::SYS_lseek, "the beginning of a directory"),
    Allow::any(libc::SYS_getdents64, "messages of a Maildir"),
    Allow::any(libc::SYS_pread64, "octets of mail"),
    Allow::any(libc::SYS_pwrite64, "UPDATE of an mbox"),
    Allow::any(libc::SYS_ftruncate, "UPDATE of an mbox"),
    Allow::any(libc::SYS_fallocate, "space for a journal"),
    Allow::any(
        libc::SYS_fadvise64,
        "the disk begins to write before it is waited for",
    ),
    Allow::any(libc::SYS_fsync, "UPDATE is durable"),
    Allow::any(libc::SYS_fdatasync, "UPDATE is durable"),
    Allow::any(libc::SYS_unlinkat, "messages of a Maildir, a dotlock"),
    Allow::any(
        libc::SYS_fstatfs,
        "may a removed message be left to the kernel?",
    ),
    Allow::any(libc::SYS_fchmod, "others may read a dotlock"),
    Allow::any(libc::SYS_utimensat, "a dotlock is still in use"),
    Allow::when(
        libc::SYS_kill,
        &[ArgRule::is(1, 0)],
        "is the owner of a dotlock alive?",
    ),
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
    Allow::any(libc::SYS_rt_sigprocmask, "no signal during UPDATE"),
    Allow::any(libc::SYS_signalfd4, "no signal during UPDATE"),
];

/// The spawner's: fork, become somebody, and what a child needs until it has confined itself.
pub fn spawner() -> Policy {
    Policy::new(
        "spawner",
        &[
            BASE, MESSAGES, PANIC, FORK, IDENTITY, CONFINE, OPEN, JOURNALS, LOCK, MAILDROP,
        ],
    )
}

/// A maildrop process's.
pub fn maildrop() -> Policy {
    Policy::new("maildrop", &[BASE, MESSAGES, PANIC, LOCK, MAILDROP])
}
