//! What auth may ask of the kernel.
//!
//! With PAM, auth's table has to hold for PAM's modules, which run in its children and of which nobody knows what they will
//! need: they load libraries, ask daemons over sockets, fork helpers, start threads. A filter can only become narrower in a
//! child, so auth itself runs under the wide one then. What is in no table is refused with `EPERM` rather than by death: foreign code that tries
//! something it can do without goes on without it.
//!
//! Workers that never run PAM are narrowed further: name services remain, processes and programs do not.

use confine::seccomp::{
    Allow, ArgRule, BASE, Deny, FORK, MESSAGES, NAME_SERVICES, NAME_SPACES, PANIC, Policy,
};

/// Reading the stores and libcrypt, besides [`NAME_SERVICES`]. Files only as Landlock allows.
const STORES: &[Allow] = &[
    Allow::any(libc::SYS_getdents64, "directories of configuration"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_lstat, "older libraries"),
    Allow::any(libc::SYS_flock, "locks on databases"),
    Allow::any(libc::SYS_getgid, "libraries look who they are"),
    Allow::any(libc::SYS_getegid, "libraries look who they are"),
    Allow::any(libc::SYS_getppid, "sssd notices a fork"),
    Allow::any(libc::SYS_seccomp, "a worker narrows itself"),
];

/// What the event loop needs besides.
const LOOP: &[Allow] = &[
    Allow::any(libc::SYS_signalfd4, "workers that end"),
    Allow::when(
        libc::SYS_kill,
        &[ArgRule::is(1, libc::SIGKILL)],
        "workers that take too long, or are not wanted any more",
    ),
    Allow::any(libc::SYS_rt_sigaction, "workers get the defaults"),
];

/// What keeping derived verifiers needs besides. Workers do that: what they say of an attempt is believed anyway.
const VERIFIERS: &[Allow] = &[
    Allow::any(libc::SYS_fsync, "a new file of verifiers is whole"),
    Allow::any(
        libc::SYS_renameat,
        "a new file of verifiers takes the place of the old",
    ),
    Allow::any(
        libc::SYS_renameat2,
        "a new file of verifiers takes the place of the old",
    ),
    Allow::any(
        libc::SYS_unlinkat,
        "what a worker that was killed has left behind",
    ),
];

const NOTHING: &[Allow] = &[];

/// What PAM's modules need besides.
const PAM: &[Allow] = &[
    Allow::when(
        libc::SYS_clone,
        &[ArgRule::without(0, NAME_SPACES)],
        "helpers and threads",
    ),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_vfork, "helpers"),
    Allow::any(
        libc::SYS_execve,
        "helpers; without new privileges, so no set-user-id",
    ),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_arch_prctl, "start of a helper"),
    Allow::any(libc::SYS_set_tid_address, "start of a helper"),
    Allow::any(libc::SYS_pipe2, "talking to helpers"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_pipe, "talking to helpers"),
    Allow::any(libc::SYS_dup, "talking to helpers"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_dup2, "talking to helpers"),
    Allow::any(libc::SYS_dup3, "talking to helpers"),
    Allow::any(libc::SYS_rt_sigaction, "waiting for helpers"),
    Allow::any(libc::SYS_rt_sigprocmask, "waiting for helpers"),
    Allow::any(libc::SYS_waitid, "waiting for helpers"),
    Allow::any(libc::SYS_pidfd_open, "waiting for helpers"),
    Allow::any(libc::SYS_kill, "ending helpers"),
    Allow::any(libc::SYS_prlimit64, "helpers' limits"),
    Allow::any(
        libc::SYS_prctl,
        "modules that set capabilities; none can be had",
    ),
    Allow::any(libc::SYS_capget, "modules that set capabilities"),
    Allow::any(
        libc::SYS_capset,
        "modules that set capabilities; none can be had",
    ),
    Allow::any(
        libc::SYS_setresuid,
        "modules that lower themselves when root",
    ),
    Allow::any(
        libc::SYS_setresgid,
        "modules that lower themselves when root",
    ),
    Allow::any(
        libc::SYS_setgroups,
        "modules that lower themselves when root",
    ),
    Allow::any(libc::SYS_getresuid, "libraries look who they are"),
    Allow::any(libc::SYS_getresgid, "libraries look who they are"),
    Allow::any(libc::SYS_getgroups, "libraries look who they are"),
    Allow::any(libc::SYS_umask, "modules that write"),
    Allow::any(libc::SYS_ioctl, "is it a terminal?"),
    Allow::any(libc::SYS_sendmmsg, "resolver"),
    Allow::any(libc::SYS_pselect6, "waiting"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_select, "waiting"),
    Allow::any(libc::SYS_nanosleep, "waiting"),
    Allow::any(libc::SYS_sched_yield, "threads"),
    Allow::any(libc::SYS_sched_getaffinity, "threads"),
    Allow::any(libc::SYS_eventfd2, "threads"),
    Allow::any(libc::SYS_timerfd_create, "waiting"),
    Allow::any(libc::SYS_timerfd_settime, "waiting"),
    Allow::any(libc::SYS_getcwd, "helpers"),
    Allow::any(libc::SYS_chdir, "helpers"),
    Allow::any(libc::SYS_setsid, "helpers"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_getpgrp, "shells"),
    Allow::any(libc::SYS_getpgid, "shells"),
    Allow::any(libc::SYS_setpgid, "shells"),
];

/// Auth's, and its PAM workers' where it is to have any.
pub fn auth(pam: bool, derives: bool) -> Policy {
    let pam = if pam { PAM } else { NOTHING };
    let verifiers = if derives { VERIFIERS } else { NOTHING };
    Policy::new(
        "auth",
        &[
            BASE,
            MESSAGES,
            PANIC,
            FORK,
            NAME_SERVICES,
            STORES,
            LOOP,
            pam,
            verifiers,
        ],
    )
    .otherwise(REFUSE)
}

/// Workers that read stores and hash, keep verifiers where any are derived, and nothing else.
pub fn stores_worker(derives: bool) -> Policy {
    let verifiers = if derives { VERIFIERS } else { NOTHING };
    Policy::new(
        "auth worker",
        &[BASE, MESSAGES, PANIC, NAME_SERVICES, STORES, verifiers],
    )
    .otherwise(REFUSE)
}

const REFUSE: Deny = Deny::Errno(libc::EPERM as u16);
