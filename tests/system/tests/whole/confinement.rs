//! What the kernel says about each role while it serves: who it is, what it may do, what it can see.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use system_tests::corpus;
use system_tests::pop::Pop;
use system_tests::processes::{self, Process};
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::strace::Strace;
use system_tests::users::{ALICE, OPERATOR_ID, SERVICE};

/// A server, a session before its login and one behind it, so that every kind of process is there.
fn in_full_work(site: &Site, body: impl FnOnce(&Server)) {
    site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
    let server = site.serve();
    let mut waiting: Pop = site.connect();
    waiting.ok("USER bob");
    let mut pop = site.login(ALICE);
    pop.ok("STAT");
    body(&server);
}

/// Roles with the user that each must be: [listener, session spawner, session, auth, spawner, maildrop].
const ROLES: [(&str, u32); 6] = [
    ("listener", SERVICE[0].1),
    ("session spawner", SERVICE[0].1),
    ("session", SERVICE[0].1),
    ("auth", SERVICE[1].1),
    ("spawner", SERVICE[2].1),
    ("maildrop", ALICE.id),
];

/// Every process of every role, with the role's name and user.
fn everybody(server: &Server) -> Vec<(&'static str, u32, Process)> {
    let all = ROLES.into_iter().flat_map(|(role, user)| {
        // Awaits the first, so that none is left out because it is only just being started.
        server.role(role);
        server
            .roles(role)
            .into_iter()
            .map(move |process| (role, user, process))
    });
    all.collect()
}

fn status(process: Process, key: &str) -> String {
    process
        .status(key)
        .unwrap_or_else(|| panic!("{key} of {}", process.title()))
}

#[test]
fn each_role_is_its_own_user_four_times_over() {
    Setup::new().as_root(|site| {
        in_full_work(site, |server| {
            for (role, id, process) in everybody(server) {
                let four = [id.to_string().as_str(); 4].join(" ");
                assert_eq!(status(process, "Uid"), four, "{role}");
                assert_eq!(status(process, "Gid"), four, "{role}");
            }
            let groups = |role: &str| status(server.role(role), "Groups");
            assert!(
                groups("auth").split(' ').count() <= 2,
                "auth: {}",
                groups("auth")
            );
            assert_eq!(
                groups("maildrop").replace(&ALICE.id.to_string(), ""),
                "",
                "the user's own group alone"
            );
        });
    });
}

#[test]
fn no_role_keeps_a_capability_but_the_spawner_what_it_is_for() {
    const CAP_SETGID_AND_SETUID: u64 = 1 << 6 | 1 << 7;
    Setup::new().as_root(|site| {
        in_full_work(site, |server| {
            for (role, _, process) in everybody(server) {
                for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                    let held = u64::from_str_radix(&status(process, set), 16).expect("a set");
                    let allowed = if role == "spawner" {
                        CAP_SETGID_AND_SETUID
                    } else {
                        0
                    };
                    assert_eq!(held & !allowed, 0, "{set} of {role}: {held:x}");
                }
            }
        });
    });
}

#[test]
fn every_role_is_filtered_and_can_gain_nothing() {
    let check = |server: &Server| {
        for (role, _, process) in everybody(server) {
            assert_eq!(status(process, "NoNewPrivs"), "1", "{role}");
            assert_eq!(status(process, "Seccomp"), "2", "{role}");
            assert_eq!(status(process, "Threads"), "1", "{role}");
        }
    };
    Setup::new().as_root(|site| in_full_work(site, check));
    Setup::new().as_ordinary_user(|site| in_full_work(site, check));
}

#[test]
fn the_token_role_and_its_dialer_are_nobody_with_nothing() {
    let setup = Setup::new()
        .set("oauth", "issuer", "\"i\"")
        .set("oauth", "audience", "[\"a\"]")
        .set("oauth", "keys", "\"http://127.0.0.1:4080/\"")
        .set("oauth", "workers", "3");
    setup.as_root(|site| {
        in_full_work(site, |server| {
            let four = [SERVICE[4].1.to_string().as_str(); 4].join(" ");
            for (role, threads) in [("token", "4"), ("dialer", "1")] {
                let process = server.role(role);
                for (key, expected) in [
                    ("Uid", four.as_str()),
                    ("Gid", &four),
                    ("CapEff", "0000000000000000"),
                    ("CapPrm", "0000000000000000"),
                    ("NoNewPrivs", "1"),
                    ("Seccomp", "2"),
                    ("Threads", threads),
                ] {
                    assert_eq!(status(process, key), expected, "{key} of {role}");
                }
                assert_eq!(
                    status(process, "Groups"),
                    SERVICE[4].1.to_string(),
                    "{role}"
                );
            }
            let root = fs::read_link(server.role("token").file("root")).expect("its root");
            assert_eq!(root, Path::new("/var/empty"));
        });
    });
}

#[test]
fn network_roles_see_an_empty_directory_that_they_cannot_write() {
    Setup::new().as_root(|site| {
        in_full_work(site, |server| {
            for role in ["listener", "session spawner", "session"] {
                let process = server.role(role);
                let root = fs::read_link(process.file("root")).expect("its root");
                assert_eq!(root, Path::new("/var/empty"), "{role}");
                assert_eq!(
                    fs::read_link(process.file("cwd")).expect("its directory"),
                    root,
                    "{role}"
                );
            }
        });
    });
}

#[test]
fn other_processes_cannot_look_into_a_role() {
    Setup::new().as_root(|site| {
        in_full_work(site, |server| {
            for (role, _, process) in everybody(server) {
                // A process that may not be dumped or traced belongs to root under /proc.
                let owner = fs::metadata(process.file("mem")).expect("its memory");
                assert_eq!(
                    std::os::unix::fs::MetadataExt::uid(&owner),
                    0,
                    "{role} is dumpable"
                );
            }
        });
    });
}

#[test]
fn no_role_holds_a_descriptor_that_is_not_its_business() {
    Setup::new().as_root(|site| {
        in_full_work(site, |server| {
            for (role, _, process) in everybody(server) {
                for entry in fs::read_dir(process.file("fd"))
                    .expect("its descriptors")
                    .flatten()
                {
                    let Ok(target) = fs::read_link(entry.path()) else {
                        continue;
                    };
                    // Standard error is the log of this test.
                    if entry.file_name() == "2" && target.ends_with("log") {
                        continue;
                    }
                    let target = target.display().to_string();
                    let own = ["socket:", "pipe:", "anon_inode:", "/dev/null"]
                        .iter()
                        .any(|kind| target.starts_with(kind));
                    let mail = role == "maildrop"
                        && (target.starts_with("/var/mail") || target.contains("popa3d"));
                    let locks = role == "spawner" && target.starts_with("/var/lib/popa3d");
                    // Its files there are open; by the directories it could see whose others there are.
                    assert!(
                        !(role == "maildrop"
                            && target.starts_with("/var/lib/popa3d")
                            && fs::metadata(entry.path()).is_ok_and(|found| found.is_dir())),
                        "{role} holds {target}"
                    );
                    let secrets = role == "auth" && target.starts_with("/etc/");
                    assert!(own || mail || locks || secrets, "{role} holds {target}");
                }
            }
        });
    });
}

/// What a process has open besides standard input, output and error: the part before the colon of each, sorted.
fn kinds_of_descriptors(process: Process) -> Vec<String> {
    let descriptors = fs::read_dir(process.file("fd")).expect("its descriptors");
    let mut kinds: Vec<String> = descriptors
        .flatten()
        .filter(|entry| !["0", "1", "2"].contains(&&*entry.file_name().to_string_lossy()))
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|target| {
            target
                .to_string_lossy()
                .split(':')
                .next()
                .map(str::to_owned)
        })
        .map(Option::unwrap_or_default)
        .collect();
    kinds.sort();
    kinds
}

#[test]
fn a_session_keeps_nothing_of_its_spawner_not_even_from_inetd() {
    // Its client, auth, the log.
    let own = ["socket", "socket", "socket"];
    Setup::new().as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(1)));
        let server = site.serve();
        let mut waiting = site.connect();
        waiting.ok("USER bob");
        assert_eq!(kinds_of_descriptors(server.role("session")), own);
        drop(waiting);

        let mut session = site.inetd();
        assert!(session.pop.reply().ok);
        let master = Process::numbered(session.server.id());
        let inetds = processes::tree(master)
            .into_iter()
            .find(|process| process.title() == "popa3d: session")
            .expect("the session that has greeted");
        // The lease besides.
        assert_eq!(kinds_of_descriptors(inetds), [&["pipe"], &own[..]].concat());
        session.pop.login(ALICE.name, ALICE.password);
        session.pop.ok("QUIT");
        assert!(session.end().success());
    });
}

#[test]
fn without_root_every_role_is_the_one_user_and_still_confined() {
    Setup::new().as_ordinary_user(|site| {
        in_full_work(site, |server| {
            let user = if site.machine.is_some() {
                OPERATOR_ID
            } else {
                rustix::process::getuid().as_raw()
            };
            for (role, _, process) in everybody(server) {
                assert_eq!(process.user(), Some(user), "{role}");
                assert_eq!(status(process, "CapEff"), "0000000000000000", "{role}");
            }
        });
    });
}

/// The numbers of file-opening, program-starting and identity-changing calls that a whole session made, by user, as
/// strace saw them: nothing is opened as root once a client is there.
#[test]
fn a_session_opens_nothing_as_root() {
    Setup::new().as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let server = site.serve();
        let trace = site.directory.join("trace");
        let calls = "trace=open,openat,openat2,execve,execveat,setuid,setresuid";
        let strace = Strace::attach(&server.processes(), &[calls], &trace);
        let mut pop = site.login(ALICE);
        pop.listing("RETR 1");
        pop.ok("DELE 1");
        pop.ok("QUIT");
        pop.expect_closed();
        drop(strace);
        let text = fs::read_to_string(&trace).expect("the trace");
        let master = server.master().0.as_raw_nonzero().to_string();
        let calls: BTreeSet<&str> = text
            .lines()
            .filter(|line| line.starts_with(&format!("{master} ")))
            .collect();
        let by_master: Vec<&&str> = calls
            .iter()
            .filter(|line| line.contains("open") || line.contains("exec"))
            .collect();
        assert!(by_master.is_empty(), "the master: {by_master:#?}");
        assert!(!text.contains("execve("), "a program was started:\n{text}");
        assert!(
            text.contains("/var/mail") || text.contains("alice"),
            "the trace shows the maildrop:\n{text}"
        );
    });
}

#[test]
fn a_password_stays_in_no_memory() {
    // What a session is told is looked for, and, to know that the search finds something, what it is sent.
    const PASSWORD: &str = "correct-horse-battery-staple";
    const MARK: &str = "a-name-that-a-waiting-session-keeps";
    // To look through memory takes a busy machine a while, for which the session has to wait.
    let setup = Setup::new().set("limits", "login_timeout", r#""10m""#);
    setup.as_root(|site| {
        let mut perl = std::process::Command::new("/usr/bin/perl");
        perl.args([
            "-e",
            r"print crypt($ARGV[0], '$6$rounds=1000$salt$')",
            PASSWORD,
        ]);
        let hash = system_tests::run::to_end(&mut perl, b"").expect_success("crypt(3)");
        let hash = String::from_utf8(hash).expect("a hash");
        let shadow = fs::read_to_string("/etc/shadow").expect("/etc/shadow");
        fs::write("/etc/shadow", shadow.replace(ALICE.hash, &hash)).expect("/etc/shadow");
        site.deliver(ALICE, &corpus::mbox(&corpus::many(1)));
        let server = site.serve();
        let mut waiting = site.connect();
        waiting.ok(&format!("USER {MARK}"));
        let mut pop = site.connect();
        pop.login(ALICE.name, PASSWORD);
        pop.ok("STAT");
        let mut is_mark_found = false;
        for process in server.processes() {
            let held = process.first_held(&[PASSWORD.as_bytes()]);
            assert_eq!(held, None, "{} holds the password", process.title());
            is_mark_found = is_mark_found || process.first_held(&[MARK.as_bytes()]).is_some();
        }
        assert!(is_mark_found, "the search finds nothing at all");
    });
}
