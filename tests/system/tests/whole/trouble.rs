//! Trouble with the maildrop under way: full disk, no permission, file gone. A clear error, and no mail lost.

use rustix::mount::{MountFlags, mount, mount_remount};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use system_tests::corpus;
use system_tests::poll;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

/// After the trouble: the daemon serves a whole session again.
fn lives_on(site: &Site) {
    site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
    let mut pop = poll::until("a session after the trouble", || {
        let mut pop = site.connect();
        pop.ok(&format!("USER {}", ALICE.name));
        pop.ask(&format!("PASS {}", ALICE.password))
            .ok
            .then_some(pop)
    });
    pop.ok("DELE 1");
    pop.ok("QUIT");
    assert!(
        fs::read(site.mailbox(ALICE)).expect("the mailbox") == corpus::mbox(&corpus::many(2)[1..])
    );
}

#[test]
fn on_a_full_disk_nothing_is_lost_and_quit_tells_the_truth() {
    Setup::new().as_root(|site| {
        let spool = c"size=1m,mode=2775";
        mount("tmpfs", "/var/mail", "tmpfs", MountFlags::empty(), spool).expect("a small disk");
        chown(
            "/var/mail",
            Some(0),
            Some(system_tests::machine::mail_group()),
        )
        .expect("the spool");
        let mail = corpus::many(1500);
        site.deliver(ALICE, &corpus::mbox(&mail));
        let _full = fs::write("/var/mail/filler", vec![0; 2 << 20]).expect_err("the disk is full");
        let _server = site.serve();
        let mut pop = site.login(ALICE);
        pop.ok("DELE 1");
        let told = pop.ask("QUIT");
        let left = fs::read(site.mailbox(ALICE)).expect("the mailbox");
        let wanted = if told.ok {
            corpus::mbox(&mail[1..])
        } else {
            corpus::mbox(&mail)
        };
        assert!(left == wanted, "told {told:?}, left {} octets", left.len());
        fs::remove_file("/var/mail/filler").expect("room");
        lives_on(site);
    });
}

#[test]
fn quit_is_refused_when_the_maildrop_cannot_be_changed() {
    Setup::new().as_root(|site| {
        mount(
            "tmpfs",
            "/var/mail",
            "tmpfs",
            MountFlags::empty(),
            c"mode=2777",
        )
        .expect("a disk");
        let mail = corpus::many(3);
        site.deliver(ALICE, &corpus::mbox(&mail));
        let server = site.serve();
        let mut pop = site.login(ALICE);
        pop.ok("DELE 1");
        let busy = mount_remount("/var/mail", MountFlags::RDONLY, c"");
        if busy.is_err() {
            // The session holds the mailbox open for writing, and so holds the disk writable: make it full instead.
            mount_remount("/var/mail", MountFlags::empty(), c"size=4k").expect("no room");
        }
        let told = pop.ask("QUIT");
        let left = fs::read(site.mailbox(ALICE)).expect("the mailbox");
        let wanted = if told.ok {
            corpus::mbox(&mail[1..])
        } else {
            corpus::mbox(&mail)
        };
        assert!(left == wanted, "told {told:?}");
        if !told.ok {
            server.await_log("the failure", |line| {
                line.contains("alice") && !line.starts_with("login")
            });
        }
        mount_remount("/var/mail", MountFlags::empty(), c"size=1m").expect("writable");
        lives_on(site);
    });
}

#[test]
fn an_unreadable_maildrop_is_a_temporary_or_permanent_fault_but_not_the_passwords() {
    Setup::new().as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(1)));
        fs::set_permissions(site.mailbox(ALICE), fs::Permissions::from_mode(0o000))
            .expect("its mode");
        let server = site.serve();
        let mut pop = site.connect();
        pop.ok(&format!("USER {}", ALICE.name));
        let refused = pop.ask(&format!("PASS {}", ALICE.password));
        assert!(!refused.ok);
        assert!(
            refused.code().is_some_and(|code| code.starts_with("SYS/")),
            "{refused:?}"
        );
        server.await_log("the reason", |line| line.contains("/var/mail/alice"));
        lives_on(site);
    });
}

#[test]
fn a_maildrop_that_vanishes_ends_the_session() {
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(3)));
        let _server = site.serve();
        let mut pop = site.login(ALICE);
        pop.ok("DELE 1");
        fs::remove_file(site.mailbox(ALICE)).expect("the mailbox");
        let told = {
            pop.send_line("QUIT");
            pop.try_reply()
        };
        assert!(
            told.is_none_or(|reply| !reply.ok),
            "QUIT cannot have been done"
        );
        assert!(
            !site.mailbox(ALICE).exists(),
            "nor is an empty mailbox made"
        );
        lives_on(site);
    });
}

#[test]
fn a_maildrop_that_shrinks_during_retr_ends_the_session_without_the_final_dot() {
    Setup::new().as_ordinary_user(|site| {
        let big = corpus::big();
        site.deliver(ALICE, &corpus::mbox(std::slice::from_ref(&big)));
        let _server = site.serve();
        let mut pop = site.login(ALICE);
        pop.send_line("RETR 1");
        assert!(pop.reply().ok);
        fs::File::options()
            .write(true)
            .open(site.mailbox(ALICE))
            .and_then(|file| file.set_len(1000))
            .expect("a short mailbox");
        assert!(
            pop.try_lines().is_none(),
            "a message cut off must not look whole"
        );
        lives_on(site);
    });
}

#[test]
fn a_lock_held_by_another_program_is_waited_for_and_then_in_use() {
    let setup = Setup::new().set("maildrop", "lock_timeout", r#""400ms""#);
    setup.as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(1)));
        let _server = site.serve();
        // fcntl(2) locks belong to processes, so another one has to hold it.
        let mut holder = std::process::Command::new("/usr/bin/python3")
            .args(["-c", "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f,fcntl.LOCK_EX); print('locked',flush=True); sys.stdin.read()"])
            .arg(site.mailbox(ALICE))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = [0; 7];
        std::io::Read::read_exact(holder.stdout.as_mut().expect("its output"), &mut line).expect("locked");
        let mut pop = site.connect();
        pop.ok(&format!("USER {}", ALICE.name));
        let refused = pop.ask(&format!("PASS {}", ALICE.password));
        assert_eq!((refused.ok, refused.code()), (false, Some("IN-USE")));
        drop(holder.stdin.take());
        holder.wait().expect("the holder's end");
        lives_on(site);
    });
}

#[test]
fn a_stopped_log_daemon_does_not_stop_the_mail() {
    Setup::new()
        .set("log", "target", r#""syslog""#)
        .as_root(|site| {
            // A /dev/log that nobody reads: a datagram socket holds a few lines, then writers would wait.
            fs::remove_file("/dev/log").expect("/dev/log");
            let _unread = std::os::unix::net::UnixDatagram::bind("/dev/log").expect("/dev/log");
            fs::set_permissions("/dev/log", fs::Permissions::from_mode(0o666)).expect("its mode");
            let server = site.serve();
            for _ in 0..20 {
                let mut pop = site.login(ALICE);
                pop.ok("QUIT");
                pop.expect_closed();
            }
            server.master().signal(Signal::TERM);
            server.stop();
        });
}
