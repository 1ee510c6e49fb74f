//! What the token role and its helper may ask of the kernel.

use confine::seccomp::{
    Allow, ArgRule, BASE, Deny, MESSAGES, NAME_SERVICES, NAME_SPACES, PANIC, Policy,
};
use libc::{AF_INET, AF_INET6, CLONE_THREAD, CLONE_VM, PR_SET_NAME};

/// Threads of this process, which no child process is.
const THREADS: &[Allow] = &[
    Allow::when(
        libc::SYS_clone,
        &[ArgRule::bits(
            0,
            (CLONE_THREAD | CLONE_VM | NAME_SPACES) as u32,
            (CLONE_THREAD | CLONE_VM) as u32,
        )],
        "threads",
    ),
    Allow::any(libc::SYS_set_robust_list, "start of a thread"),
    Allow::any(
        libc::SYS_rseq,
        "start of a thread; glibc gives up where only the first could",
    ),
    Allow::any(libc::SYS_rt_sigprocmask, "start of a thread"),
    Allow::when(
        libc::SYS_rt_sigaction,
        &[ArgRule::is(0, SIGSETXID)],
        "start of the first thread",
    ),
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_SET_NAME)],
        "threads have names",
    ),
    Allow::any(libc::SYS_sched_getaffinity, "size of a thread's stack"),
];

/// The C library's own signal, for a change of identity in all threads.
const SIGSETXID: libc::c_int = 33;

/// What connecting takes besides [`NAME_SERVICES`].
const CONNECT: &[Allow] = &[
    Allow::when(
        libc::SYS_socket,
        &[ArgRule::is(0, AF_INET)],
        "name servers; the server",
    ),
    Allow::when(
        libc::SYS_socket,
        &[ArgRule::is(0, AF_INET6)],
        "name servers; the server",
    ),
    Allow::any(libc::SYS_sendmmsg, "resolver"),
    Allow::any(libc::SYS_ioctl, "resolver; blocking or not"),
];

/// The role itself.
pub fn token() -> Policy {
    Policy::new("token", &[BASE, MESSAGES, PANIC, THREADS])
}

/// Its helper. Name services are foreign code, which goes on without what it cannot have.
pub fn dialer() -> Policy {
    Policy::new(
        "token dialer",
        &[BASE, MESSAGES, PANIC, NAME_SERVICES, CONNECT],
    )
    .otherwise(Deny::Errno(libc::EPERM as u16))
}
