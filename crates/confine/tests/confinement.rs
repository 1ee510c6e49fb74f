//! What a confined process can still do: each test confines a child and lets it try.

#![allow(missing_docs)]

#[macro_use]
mod single_threaded;

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use confine::ConfineError;
use confine::channel::{Channel, Message, Received};
use confine::identity::{self, Capabilities, Identity};
use confine::process::{self, Signal};
use confine::sandbox::{self, Landlock, Limits, Sandbox};
use confine::seccomp::{Allow, BASE, CONFINE, Deny, FORK, IDENTITY, MESSAGES, PANIC, Policy};
use rustix::process::{WaitId, WaitIdOptions};
use single_threaded::attempts::{
    assert_denied, assert_done, assert_killed_by_filter, confined, strict, with_attempts,
};
use single_threaded::{Test, in_child, is_root, status_line};

fn main() -> ExitCode {
    single_threaded::run(TESTS)
}

const TESTS: &[Test] = tests![
    dropping_root_is_complete_and_irreversible,
    a_spawner_keeps_two_capabilities_and_its_child_none,
    without_privileges_dropping_only_verifies,
    dropping_is_refused_while_there_are_threads,
    calls_that_are_not_listed_kill,
    probes_are_answered_as_by_an_older_kernel,
    code_cannot_be_made_at_run_time,
    calls_of_another_architecture_kill,
    for_tests_what_is_not_listed_can_fail_instead,
    a_panic_ends_by_sigabrt,
    channels_work_in_the_strictest_sandbox,
    limits_dumps_and_umask_are_in_force,
    what_the_kernel_lacks_is_reported_or_refused,
    a_filter_that_cannot_be_added_to_another_is_an_error,
    a_filter_for_the_inside_of_another_is_not_enough_without_that,
    the_root_directory_is_changed,
    who_forks_waits_for_children_and_sends_nobody_a_signal,
    a_confined_spawner_confines_its_children_further,
];

fn somebody(id: u32, groups: &[u32]) -> Identity {
    Identity {
        uid: id.try_into().unwrap(),
        gid: (id + 1).try_into().unwrap(),
        groups: groups
            .iter()
            .map(|&group| group.try_into().unwrap())
            .collect(),
    }
}

fn capability_lines() -> [String; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(status_line)
}

const NO_CAPABILITY: &str = "0000000000000000";

fn dropping_root_is_complete_and_irreversible() {
    if !is_root("dropping_root_is_complete_and_irreversible") {
        return;
    }
    identity::drop_to(&somebody(64_000, &[64_009, 64_008])).unwrap();
    assert_eq!(status_line("Uid"), "64000 64000 64000 64000");
    assert_eq!(status_line("Gid"), "64001 64001 64001 64001");
    assert_eq!(status_line("Groups"), "64008 64009");
    assert_eq!(capability_lines(), [NO_CAPABILITY; 5]);
    assert_denied(File::open("/etc/shadow"));
    assert!(!identity::may_change());
    assert!(identity::drop_to(&somebody(64_002, &[])).is_err());
    assert!(identity::drop_to_keeping(&somebody(64_000, &[]), Capabilities::SETUID).is_err());
    assert_eq!(status_line("Uid"), "64000 64000 64000 64000");
}

fn a_spawner_keeps_two_capabilities_and_its_child_none() {
    if !is_root("a_spawner_keeps_two_capabilities_and_its_child_none") {
        return;
    }
    let kept = Capabilities::SETUID | Capabilities::SETGID;
    identity::drop_to_keeping(&somebody(64_000, &[]), kept).unwrap();
    let two = "00000000000000c0";
    assert_eq!(
        capability_lines(),
        [NO_CAPABILITY, two, two, NO_CAPABILITY, NO_CAPABILITY]
    );
    assert_denied(File::open("/etc/shadow"));

    for user in [somebody(64_002, &[64_005]), somebody(64_000, &[])] {
        assert_done(in_child(|| {
            identity::drop_to(&user).unwrap();
            assert_eq!(capability_lines(), [NO_CAPABILITY; 5]);
            assert!(identity::drop_to(&somebody(64_010, &[])).is_err());
            assert!(rustix::thread::set_thread_uid(rustix::process::Uid::ROOT).is_err());
            assert!(identity::drop_to_keeping(&user, Capabilities::SETUID).is_err());
        }));
    }
}

fn without_privileges_dropping_only_verifies() {
    if rustix::process::geteuid().is_root() {
        identity::drop_to(&somebody(64_000, &[64_003])).unwrap();
    }
    let own = Identity::own().unwrap();
    identity::drop_to(&own).unwrap();
    identity::drop_to(&Identity {
        groups: Vec::new(),
        ..own.clone()
    })
    .unwrap();
    assert!(matches!(
        identity::drop_to(&somebody(own.uid.as_raw() + 1, &[])),
        Err(ConfineError::NotInForce("user"))
    ));
    let other_group = Identity {
        gid: (own.gid.as_raw() + 1).try_into().unwrap(),
        ..own
    };
    assert!(matches!(
        identity::drop_to(&other_group),
        Err(ConfineError::NotInForce("group"))
    ));
}

fn dropping_is_refused_while_there_are_threads() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv());
    assert!(matches!(
        identity::drop_to(&somebody(64_000, &[])),
        Err(ConfineError::Threads)
    ));
    assert!(matches!(
        Sandbox::new(&strict()).enter(),
        Err(ConfineError::Threads)
    ));
    drop(stop);
    let _ = thread.join().unwrap();
}

fn calls_that_are_not_listed_kill() {
    let program = strict();
    assert_done(confined(&program, || ()));
    assert_killed_by_filter(confined(&program, || drop(File::open("/etc/passwd"))));
    assert_killed_by_filter(confined(&program, || {
        drop(TcpListener::bind("127.0.0.1:0"))
    }));
    assert_killed_by_filter(confined(&program, || drop(process::fork())));
    assert_killed_by_filter(confined(&program, || {
        let (_, stdin) = rustix::pipe::pipe().unwrap();
        drop(stdin);
    }));
    assert_killed_by_filter(confined(&program, || {
        drop(process::kill(process::own_pid(), process::Signal::TERM))
    }));
    // Listed, but with other arguments.
    assert_killed_by_filter(confined(&program, || {
        let _ = rustix::io::fcntl_setfd(io::stdin(), rustix::io::FdFlags::empty());
        let _ = rustix::fs::fcntl_get_seals(io::stdin());
    }));
}

fn probes_are_answered_as_by_an_older_kernel() {
    let program = strict();
    assert_done(confined(&program, || {
        use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
        use rustix::io::Errno;
        assert_eq!(
            openat2(CWD, "/", OFlags::PATH, Mode::empty(), ResolveFlags::empty()).err(),
            Some(Errno::NOSYS)
        );
        assert_eq!(
            statx(CWD, "/", AtFlags::empty(), StatxFlags::BASIC_STATS).err(),
            Some(Errno::NOSYS)
        );
    }));
}

fn code_cannot_be_made_at_run_time() {
    use libc::{MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE};
    let program = strict();
    let map = |protection| {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        // SAFETY: a new mapping, which nobody refers to.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        assert_ne!(page, MAP_FAILED);
        page
    };
    assert_done(confined(&program, || {
        map(PROT_READ | PROT_WRITE);
    }));
    assert_killed_by_filter(confined(&program, || {
        map(PROT_READ | PROT_EXEC);
    }));
    assert_killed_by_filter(confined(&program, || {
        let page = map(PROT_READ | PROT_WRITE);
        // SAFETY: as above.
        unsafe { libc::mprotect(page, 4096, PROT_READ | PROT_EXEC) };
    }));
}

#[cfg(target_arch = "x86_64")]
fn calls_of_another_architecture_kill() {
    let status = confined(&strict(), || {
        // SAFETY: the 32-bit getpid, which is 20 there and writev (allowed) here.
        unsafe { std::arch::asm!("int 0x80", inlateout("rax") 20 => _) };
    });
    // SIGSEGV from kernels that have no 32-bit calls at all.
    assert!(
        matches!(status.signal(), Some(libc::SIGSYS | libc::SIGSEGV)),
        "{status}"
    );
}

#[cfg(not(target_arch = "x86_64"))]
fn calls_of_another_architecture_kill() {
    // 64-bit code has no way to make 32-bit calls there. The filter itself is tested with the
    // interpreter.
}

fn for_tests_what_is_not_listed_can_fail_instead() {
    let program = Policy::new("test", &[BASE, PANIC])
        .otherwise(Deny::Errno(libc::EPERM as u16))
        .compile()
        .unwrap();
    assert_done(confined(&program, || {
        assert_denied(File::open("/etc/passwd"));
        assert_denied(TcpStream::connect("127.0.0.1:110"));
        assert_denied(process::fork());
        assert_denied(process::kill(process::own_pid(), process::Signal::KILL));
        assert_denied(std::env::current_dir());
    }));
}

fn a_panic_ends_by_sigabrt() {
    let status = confined(&strict(), || {
        std::panic::set_hook(Box::new(|_| eprintln!("(a panic that is part of a test)")));
        let _ = std::panic::catch_unwind(|| panic!("expected"));
        std::process::abort();
    });
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Text(String);

impl Message for Text {
    const MAX_OCTETS: usize = 100;

    fn descriptors(&self) -> usize {
        1
    }
}

fn channels_work_in_the_strictest_sandbox() {
    let program = Policy::new("test", &[BASE, PANIC, MESSAGES])
        .compile()
        .unwrap();
    let (ours, theirs) = Channel::pair().unwrap();
    let child = single_threaded::start_child(|| {
        Sandbox::new(&program).enter().unwrap();
        let Received::Message(Text(text), mut descriptors) = theirs.receive::<Text>().unwrap()
        else {
            panic!("closed");
        };
        let back = Channel::from_fd(descriptors.next().unwrap()).unwrap();
        back.send(&Text(text + " received"), &[theirs.as_fd()])
            .unwrap();
    });
    let (answers, theirs) = Channel::pair().unwrap();
    ours.send(&Text("sent".into()), &[theirs.as_fd()]).unwrap();
    let Received::Message(Text(text), _) = answers.receive::<Text>().unwrap() else {
        panic!("closed");
    };
    assert_eq!(text, "sent received");
    assert_done(process::wait(child).unwrap());
}

fn limits_dumps_and_umask_are_in_force() {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit, umask};
    let program = with_attempts();
    let limits = Limits {
        open_files: Some(3),
        processes: Some(0),
        file_octets: Some(4),
        memory_octets: Some(1 << 30),
    };
    let scratch = tempfile::tempfile().unwrap();
    assert_done(in_child(|| {
        // Writing beyond the limit is SIGXFSZ otherwise.
        // SAFETY: no function is installed.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        Sandbox::new(&program).limits(limits).enter().unwrap();
        for (resource, wanted) in [
            (Resource::Core, 0),
            (Resource::Nofile, 3),
            (Resource::Nproc, 0),
            (Resource::Fsize, 4),
            (Resource::As, 1 << 30),
        ] {
            let found = getrlimit(resource);
            assert_eq!(
                (found.current, found.maximum),
                (Some(wanted), Some(wanted)),
                "{resource:?}"
            );
        }
        assert!(Channel::pair().is_err(), "no descriptor left");
        let mut file = &scratch;
        assert_eq!(io::Write::write(&mut file, b"12345678").unwrap(), 4);
        assert!(io::Write::write(&mut file, b"5").is_err());
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(umask(rustix::fs::Mode::empty()).as_raw_mode(), 0o077);
    }));
}

/// A kernel that has none of the calls not listed is played by a first filter.
fn what_the_kernel_lacks_is_reported_or_refused() {
    const OLD: &[Allow] = &[
        Allow::any(libc::SYS_prctl, "old enough"),
        Allow::any(libc::SYS_capget, "old enough"),
        Allow::any(libc::SYS_umask, "old enough"),
        Allow::any(libc::SYS_prlimit64, "old enough"),
    ];
    const SECCOMP: &[Allow] = &[Allow::any(libc::SYS_seccomp, "Linux 3.17")];
    const LANDLOCK: &[Allow] = &[
        Allow::any(libc::SYS_openat, "to try"),
        Allow::any(libc::SYS_landlock_create_ruleset, "Linux 5.13"),
        Allow::any(libc::SYS_landlock_restrict_self, "Linux 5.13"),
    ];
    let program = strict();
    let inner = Policy::new("inner", &[BASE, PANIC])
        .compile_inside(&Policy::new("outer", &[BASE, PANIC]))
        .unwrap();
    let lacking = |tables: &[&[Allow]], word: &str| {
        let kernel = Policy::new("kernel", tables).otherwise(Deny::Errno(libc::ENOSYS as u16));
        let kernel = kernel.compile().unwrap();
        for required in [false, true] {
            assert_done(in_child(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                kernel.install().unwrap();
                match Sandbox::new(&program).required(required).enter() {
                    Ok((_, report)) => {
                        assert!(!required);
                        assert_eq!(report.missing.len(), 1);
                        assert!(report.missing[0].contains(word), "{report:?}");
                        if word == "seccomp" {
                            sandbox::narrow(&program).unwrap();
                            sandbox::narrow(&inner).unwrap();
                        }
                    }
                    Err(ConfineError::Missing(missing)) => {
                        assert!(required);
                        assert!(missing[0].contains(word), "{missing:?}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }));
        }
    };
    lacking(&[BASE, PANIC, OLD, SECCOMP], "Landlock");
    lacking(&[BASE, PANIC, OLD, LANDLOCK], "seccomp");
}

/// Where one filter is in force, no answer to a second one is taken for that of a kernel without any.
fn a_filter_that_cannot_be_added_to_another_is_an_error() {
    const UP_TO_SECCOMP: &[Allow] = &[
        Allow::any(libc::SYS_prctl, "confine"),
        Allow::any(libc::SYS_capget, "confine"),
        Allow::any(libc::SYS_umask, "confine"),
        Allow::any(libc::SYS_prlimit64, "confine"),
    ];
    for number in [libc::ENOSYS, libc::EINVAL, libc::EPERM] {
        let outer = Policy::new("outer", &[BASE, PANIC, FORK, UP_TO_SECCOMP])
            .otherwise(Deny::Errno(number as u16));
        let inner = Policy::new("inner", &[BASE, PANIC])
            .compile_inside(&outer)
            .unwrap();
        assert_done(confined(&outer.compile().unwrap(), || {
            let refused = |result: Result<(), ConfineError>| {
                let Err(ConfineError::Call { step, error }) = result else {
                    panic!("{result:?}");
                };
                assert_eq!((step, error.raw_os_error()), ("seccomp", Some(number)));
            };
            refused(sandbox::narrow(&inner));
            assert_done(in_child(|| {
                refused(Sandbox::new(&inner).landlock_inherited().enter().map(drop));
            }));
        }));
    }
}

fn a_filter_for_the_inside_of_another_is_not_enough_without_that() {
    let outer = Policy::new("outer", &[BASE, PANIC]);
    let inner = outer.compile_inside(&outer).unwrap();
    assert_done(in_child(|| {
        let entered = Sandbox::new(&inner).enter();
        assert!(
            matches!(entered, Err(ConfineError::NotInForce(_))),
            "{entered:?}"
        );
    }));
}

fn the_root_directory_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("inside"), "").unwrap();
    let program = with_attempts();
    let root = is_root("the_root_directory_is_changed (without root, that it is not)");
    assert_done(in_child(|| {
        Sandbox::new(&program)
            .root(directory.path())
            .landlock(Landlock::all_files())
            .enter()
            .unwrap();
        let absent =
            |path| File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        assert_eq!(absent("/etc/passwd"), root);
        assert_eq!(absent("/inside"), !root);
        if root {
            assert_eq!(std::env::current_dir().unwrap().to_str(), Some("/"));
            assert!(absent("../../../../etc/passwd"));
        }
    }));
}

fn who_forks_waits_for_children_and_sends_nobody_a_signal() {
    let program = Policy::new("spawner", &[BASE, PANIC, MESSAGES, FORK, IDENTITY, CONFINE])
        .compile()
        .unwrap();
    assert_done(confined(&program, || assert_done(in_child(|| {}))));
    let forbidden: [fn(); 3] = [
        || drop(process::kill(process::own_pid(), Signal::KILL)),
        || drop(process::open_pidfd(process::own_pid())),
        || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let _ = rustix::process::waitid(WaitId::All, options);
        },
    ];
    for forbidden in forbidden {
        assert_killed_by_filter(confined(&program, forbidden));
    }
}

/// The shape of both spawners: a confined parent whose filter lets its children become users and
/// confine themselves.
fn a_confined_spawner_confines_its_children_further() {
    let root = is_root("a_confined_spawner_confines_its_children_further (with a change of users)");
    let spawner = Policy::new("spawner", &[BASE, PANIC, MESSAGES, FORK, IDENTITY, CONFINE]);
    let child = Policy::new("child", &[BASE, PANIC, MESSAGES]);
    let spawner_program = spawner.compile().unwrap();
    let child_program = child.compile_inside(&spawner).unwrap();
    assert!(child_program.instructions() < child.compile().unwrap().instructions());
    let own = Identity::own();
    let (spawner, user) = match &own {
        Some(own) => (own.clone(), own.clone()),
        None => (somebody(64_000, &[]), somebody(64_002, &[64_003])),
    };
    assert_done(in_child(|| {
        let kept = if root {
            Capabilities::SETUID | Capabilities::SETGID
        } else {
            Capabilities::empty()
        };
        Sandbox::new(&spawner_program)
            .identity_keeping(&spawner, kept)
            .enter()
            .unwrap();
        for _ in 0..3 {
            let (ours, theirs) = Channel::pair().unwrap();
            let child = single_threaded::start_child(|| {
                process::close_all_except(&[theirs.as_fd()]).unwrap();
                let limits = Limits {
                    processes: Some(0),
                    open_files: Some(16),
                    ..Limits::default()
                };
                let (_, report) = Sandbox::new(&child_program)
                    .identity(&user)
                    .landlock_inherited()
                    .limits(limits)
                    .enter()
                    .unwrap();
                theirs
                    .send(&Text(report.missing.join("; ")), &[theirs.as_fd()])
                    .unwrap();
                process::exit(0);
            });
            drop(theirs);
            let Ok(Received::Message(Text(missing), _)) = ours.receive::<Text>() else {
                panic!("the child did not get through");
            };
            assert_eq!(missing, "");
            assert_done(process::wait(child).unwrap());
        }
        // What the spawner may do and the child not, and what neither may.
        let forbidden: [fn(); 4] = [
            || drop(process::fork()),
            || {
                let _ = rustix::process::umask(rustix::fs::Mode::empty());
            },
            || {
                let _ = rustix::thread::set_no_new_privs(true);
            },
            || drop(TcpListener::bind("127.0.0.1:0")),
        ];
        for forbidden in forbidden {
            assert_killed_by_filter(in_child(|| {
                Sandbox::new(&child_program)
                    .identity(&user)
                    .landlock_inherited()
                    .enter()
                    .unwrap();
                forbidden();
            }));
        }
    }));
}
