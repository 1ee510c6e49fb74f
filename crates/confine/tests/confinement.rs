//! What a confined process can still do: each test confines a child and lets it try.

#![allow(missing_docs)]

mod single_threaded;

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use confine::ConfineError;
use confine::channel::{Channel, Message, Received};
use confine::identity::{self, Capabilities, Identity};
use confine::process;
use confine::sandbox::{Landlock, Limits, Sandbox};
use confine::seccomp::{
    Allow, BASE, CONFINE, Deny, FORK, IDENTITY, MESSAGES, PANIC, Policy, Program,
};
use single_threaded::{Test, in_child, is_root, status_line};

fn main() -> ExitCode {
    single_threaded::run(TESTS)
}

const TESTS: &[Test] = &[
    (
        "dropping_root_is_complete_and_irreversible",
        dropping_root_is_complete_and_irreversible,
    ),
    (
        "a_spawner_keeps_two_capabilities_and_its_child_none",
        a_spawner_keeps_two_capabilities_and_its_child_none,
    ),
    (
        "without_privileges_dropping_only_verifies",
        without_privileges_dropping_only_verifies,
    ),
    (
        "dropping_is_refused_while_there_are_threads",
        dropping_is_refused_while_there_are_threads,
    ),
    (
        "calls_that_are_not_listed_kill",
        calls_that_are_not_listed_kill,
    ),
    (
        "probes_are_answered_as_by_an_older_kernel",
        probes_are_answered_as_by_an_older_kernel,
    ),
    (
        "code_cannot_be_made_at_run_time",
        code_cannot_be_made_at_run_time,
    ),
    (
        "calls_of_another_architecture_kill",
        calls_of_another_architecture_kill,
    ),
    (
        "for_tests_what_is_not_listed_can_fail_instead",
        for_tests_what_is_not_listed_can_fail_instead,
    ),
    ("a_panic_ends_by_sigabrt", a_panic_ends_by_sigabrt),
    (
        "channels_work_in_the_strictest_sandbox",
        channels_work_in_the_strictest_sandbox,
    ),
    (
        "landlock_nothing_denies_files_and_tcp",
        landlock_nothing_denies_files_and_tcp,
    ),
    (
        "landlock_denies_signals_to_processes_outside",
        landlock_denies_signals_to_processes_outside,
    ),
    (
        "landlock_read_allows_that_and_no_more",
        landlock_read_allows_that_and_no_more,
    ),
    (
        "landlock_maildir_moves_and_removes_but_never_writes",
        landlock_maildir_moves_and_removes_but_never_writes,
    ),
    (
        "landlock_mbox_is_written_and_nothing_beside_it",
        landlock_mbox_is_written_and_nothing_beside_it,
    ),
    (
        "landlock_all_files_still_denies_tcp_and_can_be_narrowed",
        landlock_all_files_still_denies_tcp_and_can_be_narrowed,
    ),
    (
        "limits_dumps_and_umask_are_in_force",
        limits_dumps_and_umask_are_in_force,
    ),
    (
        "the_root_directory_is_changed",
        the_root_directory_is_changed,
    ),
    (
        "a_confined_spawner_confines_its_children_further",
        a_confined_spawner_confines_its_children_further,
    ),
];

/// What the tests themselves call inside, to see it denied by something other than seccomp.
const ATTEMPTS: &[Allow] = &[
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
    Allow::any(libc::SYS_getcwd, "where are we?"),
];

fn strict() -> Program {
    Policy::new("test", &[BASE, PANIC]).compile().unwrap()
}

fn with_attempts() -> Program {
    Policy::new("test", &[BASE, PANIC, MESSAGES, FORK, CONFINE, ATTEMPTS])
        .compile()
        .unwrap()
}

/// Confines a child as strictly as can be and lets it do `attempt`.
fn confined(program: &Program, attempt: impl FnOnce()) -> ExitStatus {
    in_child(|| {
        Sandbox::new(program).enter().unwrap();
        attempt();
    })
}

fn assert_done(status: ExitStatus) {
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}

fn assert_killed_by_filter(status: ExitStatus) {
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
}

fn assert_denied<T>(result: io::Result<T>) {
    let error = result.err().expect("should have been denied");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
}

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
    // 64-bit code has no way to make 32-bit calls there. The filter itself is tested with the interpreter.
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

fn landlock_nothing_denies_files_and_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_done(confined(&with_attempts(), || {
        assert_denied(File::open("/etc/passwd"));
        assert_denied(fs::read_dir("/"));
        assert_denied(File::create("/tmp/confine-test-made-by-nobody"));
        assert_denied(TcpStream::connect(address));
        assert_denied(TcpListener::bind("127.0.0.1:0"));
    }));
}

fn landlock_denies_signals_to_processes_outside() {
    let parent = process::own_pid();
    assert_done(confined(&with_attempts(), || {
        assert_denied(process::kill(parent, process::Signal::CONT));
        process::kill(process::own_pid(), process::Signal::CONT).unwrap();
    }));
}

fn landlock_read_allows_that_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "octets").unwrap();
    let opened = File::open(directory.path()).unwrap();
    let program = with_attempts();
    let missing = directory.path().join("no-such-name");
    for rules in
        [|| -> fn(&File) -> Landlock<'_> { |opened| Landlock::nothing().read(opened.as_fd()) }]
    {
        assert_done(in_child(|| {
            let rules = rules()(&opened).read_named(&missing);
            Sandbox::new(&program).landlock(rules).enter().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "octets");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            assert_denied(File::options().write(true).open(&path));
            assert_denied(fs::remove_file(&path));
            assert_denied(File::create(directory.path().join("other")));
            assert_denied(File::open("/etc/passwd"));
        }));
    }
    assert_done(in_child(|| {
        let rules = Landlock::nothing().read_named(&path);
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "octets");
        assert_denied(fs::read_dir(directory.path()));
    }));
}

fn landlock_maildir_moves_and_removes_but_never_writes() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["new", "cur"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let (new, cur) = (
        directory.path().join("new/1"),
        directory.path().join("cur/1:2,"),
    );
    fs::write(&new, "mail").unwrap();
    let opened = File::open(directory.path()).unwrap();
    let program = with_attempts();
    assert_done(in_child(|| {
        let rules = Landlock::nothing().maildir(opened.as_fd());
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        fs::rename(&new, &cur).unwrap();
        assert_eq!(fs::read_to_string(&cur).unwrap(), "mail");
        assert_denied(File::options().write(true).open(&cur));
        fs::remove_file(&cur).unwrap();
        assert_denied(File::open("/etc/passwd"));
    }));
    assert!(!new.exists() && !cur.exists());
}

fn landlock_mbox_is_written_and_nothing_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mbox, other) = (
        directory.path().join("mbox"),
        directory.path().join("other"),
    );
    fs::write(&mbox, "mail").unwrap();
    fs::write(&other, "another's mail").unwrap();
    let opened = File::open(&mbox).unwrap();
    let spool = File::open(directory.path()).unwrap();
    let program = with_attempts();
    assert_done(in_child(|| {
        let rules = Landlock::nothing().write_file(opened.as_fd());
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        fs::write(&mbox, "").unwrap();
        assert_denied(File::open(&other));
        assert_denied(File::create_new(directory.path().join("mbox.lock")));
        assert_denied(fs::remove_file(&mbox));
    }));
    assert_done(in_child(|| {
        let rules = Landlock::nothing()
            .write_file(opened.as_fd())
            .lockfiles_in(spool.as_fd());
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        let dotlock = directory.path().join("mbox.lock");
        drop(File::create_new(&dotlock).unwrap());
        fs::remove_file(&dotlock).unwrap();
        assert_denied(fs::read_dir(directory.path()));
    }));
}

fn landlock_all_files_still_denies_tcp_and_can_be_narrowed() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("a")).unwrap();
    fs::create_dir(directory.path().join("b")).unwrap();
    fs::write(directory.path().join("a/1"), "").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let program = with_attempts();
    assert_done(in_child(|| {
        Sandbox::new(&program)
            .landlock(Landlock::all_files())
            .enter()
            .unwrap();
        drop(File::open("/etc/passwd").unwrap());
        fs::rename(directory.path().join("a/1"), directory.path().join("b/1")).unwrap();
        assert_denied(TcpStream::connect(address));
        assert_done(in_child(|| {
            Sandbox::new(&program).enter().unwrap();
            assert_denied(File::open("/etc/passwd"));
        }));
        let child = single_threaded::start_child(|| {
            let (one, _other) = Channel::pair().unwrap();
            let _ = one.receive::<Text>();
        });
        process::kill(child, process::Signal::KILL).unwrap();
        assert_eq!(process::wait(child).unwrap().signal(), Some(libc::SIGKILL));
    }));
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

fn the_root_directory_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("inside"), "").unwrap();
    let path = CString::new(directory.path().as_os_str().as_bytes()).unwrap();
    let program = with_attempts();
    let root = is_root("the_root_directory_is_changed (without root, that it is not)");
    assert_done(in_child(|| {
        Sandbox::new(&program)
            .root(&path)
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

/// The shape of both spawners: a confined parent whose filter lets its children become users and confine themselves.
fn a_confined_spawner_confines_its_children_further() {
    let root = is_root("a_confined_spawner_confines_its_children_further (with a change of users)");
    let spawner_program = Policy::new("spawner", &[BASE, PANIC, MESSAGES, FORK, IDENTITY, CONFINE])
        .compile()
        .unwrap();
    let child_program = Policy::new("child", &[BASE, PANIC, MESSAGES])
        .compile()
        .unwrap();
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
        assert_killed_by_filter(in_child(|| {
            Sandbox::new(&child_program)
                .identity(&user)
                .landlock_inherited()
                .enter()
                .unwrap();
            drop(process::fork());
        }));
    }));
}
