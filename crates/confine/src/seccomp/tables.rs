//! The tables that several roles share. A role's own stand in its crate.
//!
//! Written for x86_64 and aarch64; the calls that only the older of the two has stand in tables of
//! their own.

use libc::{
    AF_NETLINK, AF_UNIX, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, F_DUPFD_CLOEXEC, F_GETFD,
    F_GETFL, F_SETFD, F_SETFL, PR_CAP_AMBIENT, PR_CAPBSET_DROP, PR_CAPBSET_READ, PR_GET_DUMPABLE,
    PR_GET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_SET_NO_NEW_PRIVS,
    PROT_EXEC, SIGABRT, SIGBUS, SIGSEGV, SOL_SOCKET,
};

use super::{Allow, ArgRule};

/// What every Rust program does, whatever it is for: memory, its open descriptors, the clock, its
/// end.
pub const BASE: &[Allow] = &[
    Allow::any(libc::SYS_read, "octets from descriptors it holds"),
    Allow::any(libc::SYS_readv, "the same in several buffers"),
    Allow::any(libc::SYS_write, "octets to descriptors it holds"),
    Allow::any(libc::SYS_writev, "the same from several buffers"),
    Allow::any(libc::SYS_close, "descriptors it is done with"),
    Allow::when(
        libc::SYS_fcntl,
        &[ArgRule::is(1, F_GETFD)],
        "debug builds look before they close",
    ),
    Allow::when(libc::SYS_fcntl, &[ArgRule::is(1, F_SETFD)], "close on exec"),
    Allow::when(
        libc::SYS_fcntl,
        &[ArgRule::is(1, F_GETFL)],
        "is it blocking?",
    ),
    Allow::when(
        libc::SYS_fcntl,
        &[ArgRule::is(1, F_SETFL)],
        "make it blocking, or not",
    ),
    Allow::when(
        libc::SYS_fcntl,
        &[ArgRule::is(1, F_DUPFD_CLOEXEC)],
        "a second owner of a descriptor",
    ),
    Allow::any(libc::SYS_brk, "allocator"),
    Allow::when(
        libc::SYS_mmap,
        &[ArgRule::without(2, PROT_EXEC)],
        "allocator; never code",
    ),
    Allow::when(
        libc::SYS_mprotect,
        &[ArgRule::without(2, PROT_EXEC)],
        "allocator; never code",
    ),
    Allow::any(libc::SYS_mremap, "allocator: large buffers grow"),
    Allow::any(libc::SYS_munmap, "allocator"),
    Allow::any(libc::SYS_madvise, "allocator gives memory back"),
    Allow::any(libc::SYS_futex, "locks of the standard library"),
    Allow::any(libc::SYS_getrandom, "hash map seeds, challenges"),
    Allow::any(libc::SYS_clock_gettime, "time, where the vDSO cannot tell"),
    Allow::any(
        libc::SYS_sigaltstack,
        "the standard library frees the main thread's",
    ),
    Allow::any(libc::SYS_rt_sigreturn, "return from a signal handler"),
    Allow::any(
        libc::SYS_restart_syscall,
        "a wait goes on after SIGSTOP and SIGCONT",
    ),
    Allow::any(libc::SYS_getpid, "own number, for logs"),
    Allow::any(libc::SYS_exit, "end"),
    Allow::any(libc::SYS_exit_group, "end"),
];

/// What a Rust panic needs to say its line and abort, and the stack overflow handler to let the
/// second fault kill.
pub const PANIC: &[Allow] = &[
    Allow::any(libc::SYS_gettid, "abort(3) signals its own thread"),
    Allow::when(libc::SYS_tgkill, &[ArgRule::is(2, SIGABRT)], "abort(3)"),
    Allow::any(libc::SYS_rt_sigprocmask, "abort(3) unblocks SIGABRT"),
    Allow::when(
        libc::SYS_rt_sigaction,
        &[ArgRule::is(0, SIGABRT)],
        "abort(3), when the first signal did not kill",
    ),
    Allow::when(
        libc::SYS_rt_sigaction,
        &[ArgRule::is(0, SIGSEGV)],
        "stack overflow handler steps aside",
    ),
    Allow::when(
        libc::SYS_rt_sigaction,
        &[ArgRule::is(0, SIGBUS)],
        "stack overflow handler steps aside",
    ),
];

/// What [`channel`](crate::channel) and [`handover`](crate::handover) need, and waiting for several
/// descriptors. Makes no sockets and connects none.
pub const MESSAGES: &[Allow] = &[
    Allow::any(libc::SYS_sendmsg, "messages with descriptors"),
    Allow::any(libc::SYS_recvmsg, "messages with descriptors"),
    Allow::any(libc::SYS_sendto, "octets without SIGPIPE"),
    Allow::any(libc::SYS_recvfrom, "octets, and a look ahead at them"),
    Allow::any(libc::SYS_shutdown, "the end of our half"),
    Allow::when(
        libc::SYS_getsockopt,
        &[ArgRule::is(1, SOL_SOCKET)],
        "is a received descriptor a channel?",
    ),
    Allow::when(
        libc::SYS_setsockopt,
        &[ArgRule::is(1, SOL_SOCKET)],
        "no credentials from a received channel; time-outs",
    ),
    Allow::any(libc::SYS_ppoll, "waiting"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_poll, "waiting"),
    Allow::any(libc::SYS_epoll_create1, "waiting for many"),
    Allow::any(libc::SYS_epoll_ctl, "waiting for many"),
    Allow::any(libc::SYS_epoll_pwait, "waiting for many"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_epoll_wait, "waiting for many"),
];

/// What [`process::fork`](crate::process::fork), what children do at first and waiting for them
/// need: for spawners.
pub const FORK: &[Allow] = &[
    Allow::when(
        libc::SYS_clone,
        // The lowest eight bits are the signal at the child's end; no thread, no shared memory, no
        // name space.
        &[ArgRule::bits(
            0,
            !(CLONE_CHILD_CLEARTID as u32 | CLONE_CHILD_SETTID as u32 | 0xFF),
            0,
        )],
        "fork(3)",
    ),
    Allow::any(libc::SYS_set_robust_list, "fork(3) in the child"),
    Allow::any(libc::SYS_close_range, "what a child has no business with"),
    Allow::when(
        libc::SYS_socketpair,
        &[ArgRule::is(0, AF_UNIX)],
        "a child's own channels",
    ),
    Allow::any(libc::SYS_wait4, "children that ended"),
    Allow::any(libc::SYS_rt_sigprocmask, "fork(3) of some C libraries"),
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_SET_NAME)],
        "children have names",
    ),
];

/// None of three ids is root's: a spawner may become anybody else.
const NOT_ROOT: &[ArgRule] = &[
    ArgRule::is_not(0, 0),
    ArgRule::is_not(1, 0),
    ArgRule::is_not(2, 0),
];

/// What is asked in order to be refused, with `EPERM` and not by death: root must not be had again.
pub const REFUSED: &[Allow] = &[
    Allow::any(libc::SYS_setuid, "a drop of privileges is tried out"),
    Allow::any(libc::SYS_setgid, "a drop of privileges is tried out"),
];

/// What [`identity::drop_to`](crate::identity::drop_to) needs: for spawners whose children become
/// somebody else.
pub const IDENTITY: &[Allow] = &[
    Allow::any(libc::SYS_setgroups, "become a user"),
    Allow::when(libc::SYS_setresgid, NOT_ROOT, "become a user"),
    Allow::when(libc::SYS_setresuid, NOT_ROOT, "become a user"),
    Allow::any(libc::SYS_getgroups, "did it work?"),
    Allow::any(libc::SYS_getresgid, "did it work?"),
    Allow::any(libc::SYS_getresuid, "did it work?"),
    Allow::any(libc::SYS_capget, "what is held?"),
    Allow::any(libc::SYS_capset, "give up"),
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_CAP_AMBIENT)],
        "give up",
    ),
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_CAPBSET_READ)],
        "give up",
    ),
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_CAPBSET_DROP)],
        "give up",
    ),
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_SET_KEEPCAPS)],
        "give up",
    ),
];

/// What [`Sandbox::enter`](crate::sandbox::Sandbox::enter) needs besides: for spawners whose
/// children are confined more narrowly. A child with Landlock rules of its own needs `openat` too,
/// which is not here.
pub const CONFINE: &[Allow] = &[
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_SET_NO_NEW_PRIVS)],
        "confine",
    ),
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_GET_NO_NEW_PRIVS)],
        "did it work?",
    ),
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_SET_DUMPABLE)],
        "confine",
    ),
    Allow::when(
        libc::SYS_prctl,
        &[ArgRule::is(0, PR_GET_DUMPABLE)],
        "did it work?",
    ),
    Allow::any(libc::SYS_capget, "what is held?"),
    Allow::any(libc::SYS_umask, "confine"),
    Allow::any(libc::SYS_prlimit64, "confine"),
    Allow::any(libc::SYS_landlock_create_ruleset, "confine"),
    Allow::any(libc::SYS_landlock_add_rule, "confine"),
    Allow::any(libc::SYS_landlock_restrict_self, "confine"),
    Allow::any(libc::SYS_seccomp, "confine"),
];

/// What clone(2) and unshare(2) make name spaces by. No role has business in one of its own.
pub const NAME_SPACES: libc::c_int = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// What looking names up takes: the C library reads configuration, loads its name services and whatever else is a library, and
/// they ask daemons over Unix sockets. Files and network only as Landlock allows. It can map code, so it is for processes that
/// cannot do without.
pub const NAME_SERVICES: &[Allow] = &[
    Allow::any(libc::SYS_openat, "configuration, libraries"),
    Allow::any(libc::SYS_fstat, "C library's files"),
    Allow::any(libc::SYS_newfstatat, "has a file changed?"),
    Allow::any(libc::SYS_lseek, "C library's files"),
    Allow::any(libc::SYS_pread64, "dynamic loader"),
    Allow::any(libc::SYS_readlinkat, "dynamic loader"),
    Allow::any(libc::SYS_faccessat, "dynamic loader, name services"),
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
    Allow::any(libc::SYS_fcntl, "locks on databases; blocking or not"),
    Allow::when(
        libc::SYS_socket,
        &[ArgRule::is(0, AF_UNIX)],
        "nscd, sssd, nslcd, systemd-resolved, syslog",
    ),
    Allow::when(
        libc::SYS_socket,
        &[ArgRule::is(0, AF_NETLINK)],
        "addresses of the machine, audit",
    ),
    Allow::any(libc::SYS_connect, "the same daemons; TCP by Landlock"),
    Allow::any(libc::SYS_bind, "netlink"),
    Allow::any(
        libc::SYS_getsockname,
        "netlink; which address would be used?",
    ),
    Allow::any(libc::SYS_getpeername, "sssd looks at its server"),
    Allow::any(
        libc::SYS_getsockopt,
        "sssd looks at its server; has it connected?",
    ),
    Allow::any(libc::SYS_setsockopt, "time-outs"),
    Allow::any(libc::SYS_uname, "resolver, syslog"),
    Allow::any(libc::SYS_sysinfo, "qsort asks for the size of memory"),
    Allow::any(libc::SYS_geteuid, "libraries look who they are"),
    Allow::any(libc::SYS_getuid, "libraries look who they are"),
    Allow::any(libc::SYS_gettimeofday, "time, where the vDSO cannot tell"),
    Allow::any(libc::SYS_clock_nanosleep, "waiting for a daemon"),
];

/// What libraries try first and can do without. The answer is `ENOSYS`, as from a kernel that does
/// not have them yet, unless a role's table allows the call.
pub const PROBES: &[Allow] = &[
    Allow::any(
        libc::SYS_clone3,
        "glibc goes on with clone; a filter cannot see its flags",
    ),
    Allow::any(libc::SYS_rseq, "glibc does without"),
    Allow::any(libc::SYS_set_robust_list, "glibc does without"),
    Allow::any(
        libc::SYS_statx,
        "the standard library and rustix go on with newfstatat",
    ),
    Allow::any(libc::SYS_openat2, "callers go on with openat"),
    Allow::any(libc::SYS_faccessat2, "glibc goes on with faccessat"),
    Allow::any(libc::SYS_close_range, "callers close one by one"),
    Allow::any(libc::SYS_epoll_pwait2, "rustix goes on with epoll_pwait"),
    Allow::any(
        libc::SYS_copy_file_range,
        "std::io::copy goes on with read and write",
    ),
    Allow::any(
        libc::SYS_sendfile,
        "std::io::copy goes on with read and write",
    ),
    Allow::any(
        libc::SYS_splice,
        "std::io::copy goes on with read and write",
    ),
    Allow::any(
        libc::SYS_membarrier,
        "ring buffers and allocators do without",
    ),
];
