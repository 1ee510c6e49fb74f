//! Each role, taken over: made to do by ptrace what somebody would who runs code in it. All of it fails.

use system_tests::certificates::Authority;
use system_tests::corpus;
use system_tests::processes::Process;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;
use tracer::{Outcome, Tracee};

/// What is tried. `MASTER` stands for the master's process number, a path for where it is put.
struct Attack {
    name: &'static str,
    number: i64,
    path: &'static str,
    arguments: fn(path: u64, master: u64) -> [u64; 6],
    /// Roles of which it is the work.
    but: &'static [&'static str],
}

const HERE: u64 = libc::AT_FDCWD as u64;

const ATTACKS: [Attack; 17] = [
    Attack {
        name: "read a file of the system",
        number: libc::SYS_openat,
        path: "/etc/passwd",
        arguments: |path, _| [HERE, path, 0, 0, 0, 0],
        // Name services; and whatever a user may read it becomes.
        but: &["auth", "spawner", "dialer"],
    },
    Attack {
        name: "read the master's memory",
        number: libc::SYS_openat,
        path: "/proc/1/mem",
        arguments: |path, _| [HERE, path, 0, 0, 0, 0],
        but: &[],
    },
    Attack {
        name: "open another user's mail",
        number: libc::SYS_openat,
        path: "/var/mail/bob",
        arguments: |path, _| [HERE, path, libc::O_RDWR as u64, 0, 0, 0],
        but: &[],
    },
    Attack {
        name: "make a file",
        number: libc::SYS_openat,
        path: "/tmp/attack",
        arguments: |path, _| {
            [
                HERE,
                path,
                (libc::O_CREAT | libc::O_RDWR) as u64,
                0o600,
                0,
                0,
            ]
        },
        // As whom it is then, anybody on the machine may.
        but: &["spawner"],
    },
    Attack {
        name: "start a program",
        number: libc::SYS_execve,
        path: "/bin/sh",
        arguments: |path, _| [path, 0, 0, 0, 0, 0],
        // With PAM, auth's filter would let it: modules do, and in their process a filter can only become narrower.
        but: &[],
    },
    Attack {
        name: "make an internet socket",
        number: libc::SYS_socket,
        path: "",
        arguments: |_, _| [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0],
        // It is to connect to one port; Landlock says which.
        but: &["dialer"],
    },
    Attack {
        name: "trace the master",
        number: libc::SYS_ptrace,
        path: "",
        arguments: |_, master| [0x4206, master, 0, 0, 0, 0],
        but: &[],
    },
    Attack {
        name: "kill the master",
        number: libc::SYS_kill,
        path: "",
        arguments: |_, master| [master, libc::SIGKILL as u64, 0, 0, 0, 0],
        but: &[],
    },
    Attack {
        name: "become root by setuid",
        number: libc::SYS_setuid,
        path: "",
        arguments: |_, _| [0; 6],
        but: &[],
    },
    Attack {
        name: "become root by setresuid",
        number: libc::SYS_setresuid,
        path: "",
        arguments: |_, _| [0; 6],
        but: &[],
    },
    Attack {
        name: "take root's group",
        number: libc::SYS_setresgid,
        path: "",
        arguments: |_, _| [0; 6],
        but: &[],
    },
    Attack {
        name: "leave the root directory",
        number: libc::SYS_chroot,
        path: "/",
        arguments: |path, _| [path, 0, 0, 0, 0, 0],
        but: &[],
    },
    Attack {
        name: "mount",
        number: libc::SYS_mount,
        path: "/",
        arguments: |path, _| [path, path, 0, libc::MS_BIND, 0, 0],
        but: &[],
    },
    Attack {
        name: "enter a name space",
        number: libc::SYS_unshare,
        path: "",
        arguments: |_, _| [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0],
        but: &[],
    },
    Attack {
        name: "load a BPF program",
        number: libc::SYS_bpf,
        path: "",
        arguments: |path, _| [5, path, 8, 0, 0, 0],
        but: &[],
    },
    Attack {
        name: "go past the filter by io_uring",
        number: libc::SYS_io_uring_setup,
        path: "",
        arguments: |path, _| [1, path, 0, 0, 0, 0],
        but: &[],
    },
    Attack {
        name: "make code",
        number: libc::SYS_mmap,
        path: "",
        arguments: |_, _| {
            [
                0,
                4096,
                (libc::PROT_EXEC | libc::PROT_WRITE) as u64,
                (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64,
                u64::MAX,
                0,
            ]
        },
        // Loads libraries: PAM's modules, name services.
        but: &["auth", "dialer"],
    },
];

/// Each role with every attack, each time in a new server: most attacks are its end.
fn attack(site: &Site, role: &str) {
    site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
    for attack in &ATTACKS {
        if attack.but.contains(&role) {
            continue;
        }
        let server = site.serve();
        let mut waiting = site.connect();
        waiting.ok("USER bob");
        let mut serving = site.login(ALICE);
        serving.ok("NOOP");
        let outcome = try_out(&server, server.role(role), attack);
        assert!(
            matches!(outcome, Outcome::Refused(_) | Outcome::Killed(libc::SIGSYS)),
            "{role} was able to {}: {outcome:?}",
            attack.name
        );
        drop((waiting, serving));
        assert_eq!(site.connect().ok("QUIT"), "", "the server lives on");
    }
}

fn try_out(server: &Server, victim: Process, attack: &Attack) -> Outcome {
    let number = |process: Process| u32::try_from(process.0.as_raw_nonzero().get()).expect("a pid");
    let master = u64::from(number(server.master()));
    let mut tracee = Tracee::stop(number(victim)).expect("to stop it");
    let path = tracee
        .place(0, &[attack.path.as_bytes(), &[0; 16]].concat())
        .expect("to write to its stack");
    tracee
        .call(attack.number, (attack.arguments)(path, master))
        .expect("to make it try")
}

/// With OAuth, of which there is no server.
fn setup() -> Setup {
    Setup::new()
        .set("oauth", "issuer", "\"i\"")
        .set("oauth", "audience", "[\"a\"]")
        .set("oauth", "keys", "\"https://127.0.0.1:4433/keys\"")
        .set("oauth", "ca", "\"/etc/authorities.pem\"")
}

macro_rules! taken_over {
    ($($test:ident: $role:literal),+ $(,)?) => {$(
        #[test]
        fn $test() {
            setup().as_root(|site| {
                let authority = Authority::new();
                std::fs::copy(authority.file(), "/etc/authorities.pem").expect("authorities");
                attack(site, $role);
            });
        }
    )+};
}

taken_over!(
    a_listener_taken_over_can_do_nothing: "listener",
    a_session_spawner_taken_over_can_do_nothing: "session spawner",
    a_session_taken_over_can_do_nothing: "session",
    auth_taken_over_can_do_nothing: "auth",
    a_spawner_taken_over_does_not_become_root: "spawner",
    a_token_role_taken_over_can_do_nothing: "token",
    its_dialer_taken_over_can_connect_and_nothing_else: "dialer",
    a_maildrop_process_taken_over_has_its_mail_alone: "maildrop",
);
