//! Dotlocks in a spool that only the group mail may write to, as Debian's: made by the locker, respected by Debian's own
//! programs and respecting theirs.

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use system_tests::corpus;
use system_tests::machine::mail_group;
use system_tests::poll;
use system_tests::pop::Reply;
use system_tests::run;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, SERVICE};

const LOCK: &str = "/var/mail/alice.lock";

fn at_a_spool(lock_timeout: &str, body: impl FnOnce(&Site) + Send) {
    if !run::is_installed("dotlockfile") {
        return run::skipped("no dotlockfile");
    }
    let setup = Setup::new().set("maildrop", "dotlock", "true").set(
        "maildrop",
        "lock_timeout",
        lock_timeout,
    );
    setup.as_root(body);
}

/// Debian's tool for scripts: fails at once if the lock is another's.
fn dotlockfile(option: &str) -> bool {
    let mut command = Command::new("dotlockfile");
    command.args(["-r", "0", option, LOCK]);
    run::to_end(&mut command, b"").status.success()
}

/// The answer to PASS, when no session before this one is in the way.
fn pass(site: &Site) -> Reply {
    let mut pop = site.connect();
    pop.ok(&format!("USER {}", ALICE.name));
    pop.ask(&format!("PASS {}", ALICE.password))
}

fn await_login(site: &Site) {
    poll::until("a login", || pass(site).ok.then_some(()));
}

#[test]
fn a_lock_of_dotlockfile_is_in_use_until_it_is_given_up() {
    at_a_spool(r#""300ms""#, |site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let _server = site.serve();
        assert!(dotlockfile("-l"), "the lock is free");
        let refused = pass(site);
        assert_eq!(refused.code(), Some("IN-USE"), "{refused:?}");
        assert!(dotlockfile("-u"));
        await_login(site);
        assert!(!PathBuf::from(LOCK).exists());
    });
}

#[test]
fn the_locker_is_a_user_of_its_own_in_the_spools_group() {
    at_a_spool(r#""300ms""#, |site| {
        let server = site.serve();
        let locker = server.role("locker");
        let id = |name: &str| SERVICE.iter().find(|it| it.0 == name).map(|it| it.1);
        let (user, group) = (id("popa3d-lock").expect("its user"), mail_group());
        let four = |id: u32| format!("{id} {id} {id} {id}");
        assert_eq!(locker.status("Uid"), Some(four(user)));
        assert_eq!(locker.status("Gid"), Some(four(group)));
        assert_eq!(locker.status("Groups"), Some(group.to_string()));
        assert_eq!(locker.status("CapPrm"), Some("0".repeat(16)));
        assert_eq!(locker.status("NoNewPrivs").as_deref(), Some("1"));
        assert_eq!(locker.status("Seccomp").as_deref(), Some("2"));
    });
}

#[test]
fn without_dotlocks_there_is_no_locker() {
    Setup::new().as_root(|site| {
        let server = site.serve();
        server.role("spawner");
        assert_eq!(server.roles("locker"), []);
    });
}

/// Locks the way other programs do: the first lock, then waiting for the second while it is held.
fn either_order(site: &Site, round: usize) {
    let mailbox = File::options()
        .read(true)
        .append(true)
        .open(site.mailbox(ALICE))
        .expect("the mailbox");
    let dot = || poll::until("the dotlock", || dotlockfile("-l").then_some(()));
    let file = || fcntl_lock(&mailbox, FlockOperation::LockExclusive).expect("the fcntl lock");
    if round.is_multiple_of(2) {
        // As procmail.
        dot();
        file();
    } else {
        file();
        dot();
    }
    assert!(dotlockfile("-u"), "the dotlock is ours");
    fcntl_lock(&mailbox, FlockOperation::Unlock).expect("the fcntl lock");
}

#[test]
fn programs_that_lock_in_either_order_and_sessions_do_not_stop_each_other() {
    at_a_spool(r#""30s""#, |site| {
        let server = site.serve();
        for round in 0..6 {
            site.deliver(ALICE, &corpus::mbox(&corpus::many(3)));
            std::thread::scope(|scope| {
                scope.spawn(|| either_order(site, round));
                let mut pop = poll::until("a session", || {
                    let mut pop = site.connect();
                    pop.ok(&format!("USER {}", ALICE.name));
                    pop.ask(&format!("PASS {}", ALICE.password))
                        .ok
                        .then_some(pop)
                });
                pop.ok("DELE 2");
                pop.ok("QUIT");
            });
            let left = fs::read(site.mailbox(ALICE)).expect("the mailbox");
            let mail = corpus::many(3);
            let kept = [mail[0].clone(), mail[2].clone()];
            assert!(left == corpus::mbox(&kept), "round {round}");
        }
        drop(server);
    });
}

#[test]
fn a_killed_maildrop_process_leaves_the_dotlock_until_its_update_is_finished() {
    at_a_spool(r#""20s""#, |site| {
        let server = site.serve();
        // Some tens of megabytes are moved: long enough to be met in the midst of it, as a rule.
        let mail = corpus::many(60_000);
        poll::until("an update met in its midst", || {
            site.deliver(ALICE, &corpus::mbox(&mail));
            let mut pop = poll::until("a session", || {
                let mut pop = site.connect();
                pop.ok(&format!("USER {}", ALICE.name));
                pop.ask(&format!("PASS {}", ALICE.password))
                    .ok
                    .then_some(pop)
            });
            pop.ok("DELE 1");
            pop.send_line("QUIT");
            kill_in_update(&server).then_some(())
        });
        await_login(site);
        assert!(!PathBuf::from(LOCK).exists());
        let left = fs::read(site.mailbox(ALICE)).expect("the mailbox");
        assert!(
            left == corpus::mbox(&mail[1..]) || left == corpus::mbox(&mail),
            "{} octets are left",
            left.len()
        );
    });
}

/// Stops the maildrop process while it holds the dotlock, sees that the lock survives it, and that it goes in the end.
fn kill_in_update(server: &Server) -> bool {
    let Some(&process) = server.roles("maildrop").first() else {
        return false;
    };
    poll::until("the lock, or its end", || {
        (PathBuf::from(LOCK).exists() || !process.is_running()).then_some(())
    });
    process.signal(Signal::STOP);
    let Ok(lock) = fs::metadata(LOCK) else {
        process.kill();
        return false;
    };
    assert!(!dotlockfile("-l"), "Debian's programs respect it");
    process.kill();
    poll::until("its end", || (!process.is_running()).then_some(()));
    poll::until("the lock to be given up", || {
        let there = fs::metadata(LOCK).ok();
        there.is_none_or(|it| it.ino() != lock.ino()).then_some(())
    });
    true
}

#[test]
fn a_session_of_inetd_has_its_mailbox_locked_too() {
    at_a_spool(r#""300ms""#, |site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let log_in = || {
            let mut session = site.inetd();
            session.pop.reply();
            session.pop.ok(&format!("USER {}", ALICE.name));
            let answer = session.pop.ask(&format!("PASS {}", ALICE.password));
            (answer, session)
        };
        assert!(dotlockfile("-l"));
        let (refused, _) = log_in();
        assert_eq!(refused.code(), Some("IN-USE"), "{refused:?}");
        assert!(dotlockfile("-u"));
        let (answer, mut session) = log_in();
        assert!(answer.ok, "{answer:?}");
        session.pop.ok("DELE 1");
        session.pop.ok("QUIT");
        assert!(!PathBuf::from(LOCK).exists());
        let left = fs::read(site.mailbox(ALICE)).expect("the mailbox");
        assert!(left == corpus::mbox(&corpus::many(2)[1..]));
    });
}
