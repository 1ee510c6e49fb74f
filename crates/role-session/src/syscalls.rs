//! What the session spawner and its sessions may ask of the kernel.

use confine::process::YIELDING;
use confine::seccomp::{Allow, ArgRule, BASE, CONFINE, FORK, MESSAGES, PANIC, Policy};

/// The spawner's own, and what a child needs until it has confined itself further.
pub fn spawner() -> Policy {
    const SPAWNER: &[Allow] = &[
        Allow::any(libc::SYS_dup, "copies of a lease"),
        Allow::when(
            libc::SYS_kill,
            &[ArgRule::is(1, libc::SIGKILL)],
            "a session whose place a newcomer takes",
        ),
        Allow::when(
            libc::SYS_setpriority,
            &[
                ArgRule::is(0, libc::PRIO_PROCESS as libc::c_int),
                ArgRule::is(1, 0),
                ArgRule::is(2, YIELDING),
            ],
            "a session that lets others go first",
        ),
    ];
    Policy::new(
        "session spawner",
        &[BASE, MESSAGES, PANIC, FORK, CONFINE, STAY, SPAWNER],
    )
}

/// Of a client's connection that stays with its session.
const STAY: &[Allow] = &[
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
    Allow::when(
        libc::SYS_seccomp,
        &[
            ArgRule::is(0, libc::SECCOMP_SET_MODE_FILTER as libc::c_int),
            ArgRule::is(1, 0),
        ],
        "give up what the relay does not need",
    ),
];

/// What goes between a client and a maildrop process.
const RELAY: &[Allow] = &[
    Allow::any(libc::SYS_ppoll, "waiting"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_poll, "waiting"),
    Allow::any(libc::SYS_shutdown, "the end of our half"),
    Allow::any(libc::SYS_sendmsg, "the last log record"),
];

/// A session's: octets from its client, messages to auth and the keyholder, and its end.
pub fn session() -> Policy {
    Policy::new("session", &[BASE, MESSAGES, PANIC, STAY])
}

/// A session's that has become a relay: it gets no more descriptors, and asks nobody.
pub fn relay() -> Policy {
    Policy::new("relay", &[BASE, PANIC, RELAY])
}
