//! A confined child, and what to make of its end.
#![allow(dead_code, missing_docs)]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use confine::sandbox::Sandbox;
use confine::seccomp::{Allow, BASE, CONFINE, FORK, MESSAGES, PANIC, Policy, Program};

use super::in_child;

/// What the tests themselves call inside, to see it denied by something other than seccomp.
pub const ATTEMPTS: &[Allow] = &[
    Allow::any(libc::SYS_openat, "to see Landlock deny it"),
    Allow::any(libc::SYS_newfstatat, "file length"),
    Allow::any(libc::SYS_fstat, "file length"),
    Allow::any(libc::SYS_lseek, "file position"),
    Allow::any(libc::SYS_getdents64, "directories"),
    Allow::any(libc::SYS_unlinkat, "remove"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_unlink, "remove"),
    #[cfg(target_arch = "x86_64")]
    Allow::any(libc::SYS_rename, "move"),
    Allow::any(libc::SYS_renameat, "move"),
    Allow::any(libc::SYS_renameat2, "move"),
    Allow::any(libc::SYS_ftruncate, "cut"),
    Allow::any(libc::SYS_socket, "to see Landlock deny what follows"),
    Allow::any(libc::SYS_connect, "to see Landlock deny it"),
    Allow::any(libc::SYS_bind, "to see Landlock deny it"),
    Allow::any(libc::SYS_setsockopt, "before bind"),
    Allow::any(libc::SYS_listen, "after bind"),
    Allow::any(libc::SYS_prlimit64, "look at limits"),
    Allow::any(libc::SYS_prctl, "look at dumpable"),
    Allow::any(libc::SYS_umask, "look at umask"),
    Allow::any(libc::SYS_kill, "to see Landlock deny it"),
    Allow::any(libc::SYS_pipe2, "something to wait for"),
    Allow::any(libc::SYS_getcwd, "where are we?"),
];

/// What every role has and nothing besides.
pub fn strict() -> Program {
    Policy::new("test", &[BASE, PANIC]).compile().unwrap()
}

/// A filter that lets through what is to be denied elsewhere.
pub fn with_attempts() -> Program {
    Policy::new("test", &[BASE, PANIC, MESSAGES, FORK, CONFINE, ATTEMPTS])
        .compile()
        .unwrap()
}

/// Confines a child as strictly as can be and lets it do `attempt`.
pub fn confined(program: &Program, attempt: impl FnOnce()) -> ExitStatus {
    in_child(|| {
        Sandbox::new(program).enter().unwrap();
        attempt();
    })
}

pub fn assert_done(status: ExitStatus) {
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}

pub fn assert_killed_by_filter(status: ExitStatus) {
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
}

pub fn assert_denied<T>(result: io::Result<T>) {
    let error = result.err().expect("should have been denied");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
}
