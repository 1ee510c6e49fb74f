//! What the token role and its helper may ask of the kernel.

use confine::seccomp::{Allow, ArgRule, BASE, Deny, MESSAGES, PANIC, Policy};
use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, CLONE_THREAD, CLONE_VM, PR_SET_NAME};

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

const NAME_SPACES: libc::c_int = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// Resolving a name: the C library and its name services read configuration, load libraries and ask servers. Files only as
/// Landlock allows.
const NAMES: &[Allow] = &[
    Allow::any(libc::SYS_openat, "hosts, resolv.conf, libraries"),
    Allow::any(libc::SYS_fstat, "C library's files"),
    Allow::any(libc::SYS_newfstatat, "has a file changed?"),
    Allow::any(libc::SYS_lseek, "C library's files"),
    Allow::any(libc::SYS_pread64, "dynamic loader"),
    Allow::any(libc::SYS_readlinkat, "dynamic loader"),
    Allow::any(libc::SYS_faccessat, "dynamic loader"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_open, "older libraries"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_stat, "older libraries"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_access, "dynamic loader"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_readlink, "dynamic loader"),
    Allow::any(libc::SYS_mmap, "dynamic loader maps code"),
    Allow::any(
        libc::SYS_mprotect,
        "dynamic loader protects what it has relocated",
    ),
    Allow::when(
        libc::SYS_socket,
        &[ArgRule::is(0, AF_UNIX)],
        "nscd, systemd-resolved",
    ),
    Allow::when(
        libc::SYS_socket,
        &[ArgRule::is(0, AF_NETLINK)],
        "addresses of the machine",
    ),
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
    Allow::any(
        libc::SYS_connect,
        "name servers; the server, its port only by Landlock",
    ),
    Allow::any(libc::SYS_bind, "netlink"),
    Allow::any(
        libc::SYS_getsockname,
        "netlink; which address would be used?",
    ),
    Allow::any(libc::SYS_getpeername, "systemd-resolved"),
    Allow::any(libc::SYS_getsockopt, "has it connected?"),
    Allow::any(libc::SYS_setsockopt, "resolver; no delay"),
    Allow::any(libc::SYS_sendmmsg, "resolver"),
    Allow::any(libc::SYS_ioctl, "resolver; blocking or not"),
    Allow::any(libc::SYS_fcntl, "blocking or not"),
    Allow::any(libc::SYS_uname, "resolver"),
    Allow::any(libc::SYS_sysinfo, "qsort asks for the size of memory"),
    Allow::any(libc::SYS_geteuid, "libraries look who they are"),
    Allow::any(libc::SYS_getuid, "libraries look who they are"),
    Allow::any(libc::SYS_gettimeofday, "time, where the vDSO cannot tell"),
    Allow::any(libc::SYS_clock_nanosleep, "waiting for a daemon"),
];

/// The role itself.
pub fn token() -> Policy {
    Policy::new("token", &[BASE, MESSAGES, PANIC, THREADS])
}

/// Its helper. Name services are foreign code, which goes on without what it cannot have.
pub fn dialer() -> Policy {
    Policy::new("token dialer", &[BASE, MESSAGES, PANIC, NAMES])
        .otherwise(Deny::Errno(libc::EPERM as u16))
}
