//! Who may log in, whose mail it is, and what is told to whom about a refusal.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, Instant};
use system_tests::corpus;
use system_tests::pop::{Pop, Reply};
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB, CAROL, DAVE};
use system_tests::{machine, poll, run};

fn quick(backend: &str) -> Setup {
    Setup::new()
        .set("auth", "backends", &format!(r#"["{backend}"]"#))
        .set("auth", "failure_delay", r#""1ms""#)
        .set("limits", "sessions_per_source", "1000")
}

fn attempt(site: &Site, name: &str, password: &str) -> Reply {
    let mut pop: Pop = site.connect();
    pop.ok(&format!("USER {name}"));
    pop.ask(&format!("PASS {password}"))
}

/// Who is refused whatever the password, and with it.
fn refuses_who_must_be_refused(site: &Site) {
    let wrong = attempt(site, ALICE.name, "wrong");
    assert_eq!((wrong.ok, wrong.code()), (false, Some("AUTH")));
    for (name, password) in [
        ("root", "root"),
        ("toor", "root"),
        ("empty", "x"),
        ("locked", ALICE.password),
        ("alice", "WONDERLAND"),
        ("alice", "wonderland "),
        ("Alice", ALICE.password),
        ("alicealice", ALICE.password),
        ("bob", ALICE.password),
        ("nobody-of-that-name", ALICE.password),
        ("../alice", ALICE.password),
    ] {
        let refused = attempt(site, name, password);
        assert_eq!(refused, wrong, "{name} with {password:?}");
    }
    // Without an argument PASS is no attempt at all, whoever is meant.
    assert!(
        !attempt(site, "empty", "").ok
            && attempt(site, "empty", "") == attempt(site, ALICE.name, "")
    );
    for user in [ALICE, BOB, CAROL, DAVE] {
        assert!(attempt(site, user.name, user.password).ok, "{}", user.name);
    }
}

#[test]
fn shadow_lets_in_whom_it_should() {
    quick("shadow").as_root(|site| {
        let _server = site.serve();
        refuses_who_must_be_refused(site);
    });
}

#[test]
fn pam_lets_in_whom_it_should() {
    quick("pam").as_root(|site| {
        let _server = site.serve();
        refuses_who_must_be_refused(site);
    });
}

#[test]
fn a_users_file_lets_in_whom_it_should() {
    quick("users-file").as_ordinary_user(|site| {
        let _server = site.serve();
        refuses_who_must_be_refused(site);
    });
}

#[test]
fn a_pam_service_that_denies_is_obeyed() {
    quick("pam").as_root(|site| {
        let pam = "auth required pam_unix.so nodelay\naccount required pam_deny.so\n";
        fs::write("/etc/pam.d/popa3d", pam).expect("a PAM service");
        let _server = site.serve();
        assert!(!attempt(site, ALICE.name, ALICE.password).ok);
    });
}

#[test]
fn a_pam_module_that_crashes_or_hangs_harms_nobody() {
    quick("pam")
        .set("limits", "login_timeout", r#""5s""#)
        .as_root(|site| {
            let script = site.directory.join("slow");
            fs::write(&script, "#!/bin/sh\nread user || true\nsleep 60\n").expect("a script");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
            // For Bob it hangs; for Carol the stack has a module that does not exist.
            let pam = format!(
                "auth [success=ignore default=1] pam_succeed_if.so quiet user = bob\n\
             auth required pam_exec.so quiet {}\n\
             auth required pam_unix.so nodelay\naccount required pam_unix.so\n",
                script.display()
            );
            fs::write("/etc/pam.d/popa3d", pam).expect("a PAM service");
            let _server = site.serve();
            let mut hanging = site.connect();
            hanging.ok(&format!("USER {}", BOB.name));
            hanging.send_line(&format!("PASS {}", BOB.password));
            let began = Instant::now();
            assert!(attempt(site, ALICE.name, ALICE.password).ok);
            assert!(
                began.elapsed() < Duration::from_secs(4),
                "{:?}",
                began.elapsed()
            );
        });
}

#[test]
fn backends_are_tried_in_order() {
    let setup = quick("users-file").set("auth", "backends", r#"["users-file", "shadow"]"#);
    setup
        .set("auth", "users_file", r#""/etc/popa3d/users""#)
        .as_root(|site| {
            fs::create_dir_all("/etc/popa3d").expect("a directory");
            // Alice has Bob's password here; whoever is not listed is asked for elsewhere.
            fs::write("/etc/popa3d/users", format!("alice:{}\n", BOB.hash))
                .expect("the users file");
            let auth = system_tests::users::SERVICE[1].1;
            chown("/etc/popa3d/users", Some(0), Some(auth)).expect("its owner");
            fs::set_permissions("/etc/popa3d/users", fs::Permissions::from_mode(0o640))
                .expect("its mode");
            let _server = site.serve();
            assert!(attempt(site, ALICE.name, BOB.password).ok);
            assert!(attempt(site, CAROL.name, CAROL.password).ok);
        });
}

#[test]
fn every_usual_hash_is_understood() {
    quick("shadow").as_root(|site| {
        let shadow = fs::read_to_string("/etc/shadow").expect("/etc/shadow");
        let _server = site.serve();
        // As Debian's libcrypt makes them; the password is always "word".
        for salt in [
            "$y$j75$saltsaltsaltsalt$",
            "$6$rounds=1000$salt$",
            "$5$rounds=1000$salt$",
            "$2b$04$abcdefghijklmnopqrstuu",
            "$1$salt$",
        ] {
            let mut perl = std::process::Command::new("/usr/bin/perl");
            perl.args(["-e", "print crypt('word', $ARGV[0])", salt]);
            let hash = run::to_end(&mut perl, b"").expect_success("crypt(3)");
            let hash = String::from_utf8(hash).expect("a hash");
            assert!(
                hash.starts_with(&salt[..3]),
                "libcrypt made {hash:?} of {salt:?}"
            );
            fs::write("/etc/shadow", shadow.replace(ALICE.hash, &hash)).expect("/etc/shadow");
            assert!(attempt(site, ALICE.name, "word").ok, "{salt}");
            assert!(!attempt(site, ALICE.name, "words").ok, "{salt}");
        }
    });
}

#[test]
fn nobody_reads_anothers_mail() {
    quick("shadow").as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(1)));
        site.deliver(BOB, &corpus::mbox(&corpus::many(2)));
        let server = site.serve();
        assert!(site.login(ALICE).ok("STAT").starts_with("1 "));
        // Bob's mailbox under Alice's name: by a link, and by being Bob's file.
        let mailbox = site.mailbox(ALICE);
        fs::remove_file(&mailbox).expect("the mailbox");
        std::os::unix::fs::symlink(site.mailbox(BOB), &mailbox).expect("a link");
        assert!(
            !attempt(site, ALICE.name, ALICE.password).ok,
            "a symbolic link"
        );
        fs::remove_file(&mailbox).expect("the link");
        fs::copy(site.mailbox(BOB), &mailbox).expect("a copy");
        chown(&mailbox, Some(BOB.id), Some(machine::mail_group())).expect("Bob's");
        fs::set_permissions(&mailbox, fs::Permissions::from_mode(0o666)).expect("for all");
        assert!(
            !attempt(site, ALICE.name, ALICE.password).ok,
            "another's file"
        );
        chown(&mailbox, Some(0), Some(0)).expect("root's");
        assert!(!attempt(site, ALICE.name, ALICE.password).ok, "root's file");
        fs::remove_file(&mailbox).expect("the copy");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &mailbox,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .expect("a fifo");
        chown(&mailbox, Some(ALICE.id), Some(ALICE.id)).expect("Alice's");
        assert!(!attempt(site, ALICE.name, ALICE.password).ok, "a fifo");
        fs::remove_file(&mailbox).expect("the fifo");
        fs::create_dir(&mailbox).expect("a directory");
        chown(&mailbox, Some(ALICE.id), Some(ALICE.id)).expect("Alice's");
        assert!(!attempt(site, ALICE.name, ALICE.password).ok, "a directory");
        server.await_log("a refusal", |line| {
            line.contains("alice") && line.contains("/var/mail/alice")
        });
    });
}

#[test]
fn passwords_and_unknown_names_are_not_logged() {
    quick("shadow").as_root(|site| {
        let server = site.serve();
        attempt(site, "hunter2-typed-as-name", "x");
        attempt(site, ALICE.name, "wrong-and-secret");
        site.login(ALICE).ok("QUIT");
        server.await_log("the login", |line| {
            line.starts_with("login:") && line.contains("alice")
        });
        let log = server.log();
        assert!(!log.contains("hunter2"), "{log}");
        assert!(
            !log.contains("secret") && !log.contains(ALICE.password),
            "{log}"
        );
        assert!(
            log.lines()
                .any(|line| line.contains("login failed") && line.contains("alice")),
            "{log}"
        );
    });
}

#[test]
fn unknown_users_cost_what_known_ones_cost() {
    // A hash that outweighs all else, and is yet often done before the processor is taken away: some milliseconds.
    quick("shadow").as_root(|site| {
        let mut perl = std::process::Command::new("/usr/bin/perl");
        perl.args(["-e", r"print crypt('slow', '$6$rounds=20000$salt$')"]);
        let hash = String::from_utf8(run::to_end(&mut perl, b"").expect_success("crypt(3)"))
            .expect("a hash");
        let mut shadow = fs::read_to_string("/etc/shadow").expect("/etc/shadow");
        for user in system_tests::users::PEOPLE {
            shadow = shadow.replace(user.hash, &hash);
        }
        fs::write("/etc/shadow", shadow).expect("/etc/shadow");
        let _server = site.serve();
        let names = ["alice", "nobody-of-that-name", "locked"];
        let mut least = [Duration::MAX; 3];
        // In turns, and the least of many: other work on this machine makes an attempt longer, never shorter.
        let mut measure = || {
            for (least, name) in least.iter_mut().zip(names) {
                let mut pop = site.connect();
                pop.ok(&format!("USER {name}"));
                let began = Instant::now();
                pop.err("PASS wrong");
                *least = began.elapsed().min(*least);
            }
            least
        };
        for _ in 0..20 {
            measure();
        }
        poll::until("attempts that cost the same, whoever is named", || {
            let [known, unknown, locked] = measure();
            assert!(
                known > Duration::from_millis(3),
                "the hash is not slow: {known:?}"
            );
            let longest = known.max(unknown).max(locked);
            let shortest = known.min(unknown).min(locked);
            (longest * 4 < shortest * 5).then_some(())
        });
    });
}

#[test]
fn apop_works_where_its_secrets_are_configured_and_then_only_apop() {
    quick("shadow").set("auth", "apop_secrets", r#""/etc/popa3d/apop""#).as_root(|site| {
        fs::create_dir_all("/etc/popa3d").expect("a directory");
        fs::write("/etc/popa3d/apop", "bob:shared secret\n").expect("the secrets");
        chown("/etc/popa3d/apop", Some(0), Some(system_tests::users::SERVICE[1].1)).expect("its owner");
        fs::set_permissions("/etc/popa3d/apop", fs::Permissions::from_mode(0o640)).expect("its mode");
        site.deliver(BOB, &corpus::mbox(&corpus::many(2)));
        let _server = site.serve();
        let apop = |secret: &str| {
            let script = "import poplib,sys\npop = poplib.POP3(sys.argv[1], int(sys.argv[2]), timeout=20)\n\
                          pop.apop('bob', sys.argv[3])\nassert pop.stat()[0] == 2\npop.quit()";
            let mut python = std::process::Command::new("/usr/bin/python3");
            let (host, port) = (site.address.ip().to_string(), site.address.port().to_string());
            run::to_end(python.args(["-c", script, &host, &port, secret]), b"")
        };
        apop("shared secret").expect_success("poplib");
        let refused = apop("another secret");
        assert!(!refused.status.success() && refused.errors.contains("[AUTH]"), "{}", refused.errors);
        // RFC 1939 section 13: one mailbox, one of the two ways.
        assert!(!attempt(site, BOB.name, BOB.password).ok);
        assert!(attempt(site, ALICE.name, ALICE.password).ok);
    });
}
