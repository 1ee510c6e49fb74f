//! Kill -9 of each role: the master starts it anew, sessions go on where they can, nothing hangs.

use std::fs;
use system_tests::corpus;
use system_tests::poll;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB};

fn kill(server: &Server, role: &str) {
    let process = server.role(role);
    process.kill();
    poll::until("its end", || (!process.is_running()).then_some(()));
}

/// The daemon serves a new session, sooner or later.
fn serves_again(site: &Site) {
    poll::until("a session after the kill", || {
        let mut pop = system_tests::pop::Pop::dial(site.address);
        if !pop.try_reply()?.ok || !pop.try_send(format!("USER {}\r\n", BOB.name).as_bytes()) {
            return None;
        }
        if !pop.try_reply()?.ok || !pop.try_send(format!("PASS {}\r\n", BOB.password).as_bytes()) {
            return None;
        }
        if !pop.try_reply()?.ok {
            return None;
        }
        pop.ok("QUIT");
        Some(())
    });
}

fn survives_the_kill_of(role: &str) {
    let setup = Setup::new().set("limits", "sessions_per_source", "10000");
    setup.as_root(|site| {
        let mail = corpus::many(3);
        site.deliver(ALICE, &corpus::mbox(&mail));
        let server = site.serve();
        let mut logged_in = site.login(ALICE);
        logged_in.ok("DELE 1");
        let old = server.role(role);
        kill(&server, role);
        serves_again(site);
        assert_ne!(server.role(role), old, "a new process");
        let name = format!("role={}", role.replace(' ', "-"));
        server.await_log("the role's end", |line| {
            line.starts_with("role ") && line.contains(&name)
        });
        logged_in.ok("NOOP");
        logged_in.ok("QUIT");
        assert!(fs::read(site.mailbox(ALICE)).expect("the mailbox") == corpus::mbox(&mail[1..]));
    });
}

#[test]
fn the_listener_may_be_killed() {
    survives_the_kill_of("listener");
}

#[test]
fn the_session_spawner_may_be_killed() {
    survives_the_kill_of("session spawner");
}

#[test]
fn auth_may_be_killed() {
    survives_the_kill_of("auth");
}

#[test]
fn the_spawner_may_be_killed() {
    survives_the_kill_of("spawner");
}

#[test]
fn a_role_that_fails_with_orders_unread_is_logged_with_its_reason() {
    Setup::new().as_root(|site| {
        let server = site.serve();
        fs::remove_dir_all("/var/lib/popa3d/journal").expect("the journals");
        kill(&server, "spawner");
        let (mut killed, mut failed) = (0, 0);
        poll::until("some starts that fail", || {
            let log = server.log();
            let of_spawner =
                |line: &&str| line.starts_with("role ") && line.contains("role=spawner");
            let lines: Vec<&str> = log.lines().filter(of_spawner).collect();
            let reason = "reason=\"/var/lib/popa3d/journal: No such file or directory";
            failed = lines.iter().filter(|line| line.contains(reason)).count();
            killed = lines.len() - failed;
            (failed >= 3).then_some(())
        });
        assert_eq!(killed, 1, "one end without a reason:\n{}", server.log());
    });
}

#[test]
fn a_killed_session_takes_only_its_client_with_it() {
    Setup::new().as_root(|site| {
        let server = site.serve();
        let mut other = site.login(BOB);
        let mut pop = site.connect();
        pop.ok("USER alice");
        kill(&server, "session");
        pop.expect_closed();
        other.ok("QUIT");
        serves_again(site);
    });
}

#[test]
fn a_killed_maildrop_process_frees_its_maildrop_and_updates_nothing() {
    Setup::new().as_root(|site| {
        let mail = corpus::many(3);
        site.deliver(ALICE, &corpus::mbox(&mail));
        let server = site.serve();
        let mut pop = site.login(ALICE);
        pop.ok("DELE 1");
        kill(&server, "maildrop");
        pop.expect_closed();
        let mut pop = poll::until("the maildrop to be free", || {
            let mut pop = site.connect();
            pop.ok("USER alice");
            pop.ask(&format!("PASS {}", ALICE.password))
                .ok
                .then_some(pop)
        });
        assert!(pop.ok("STAT").starts_with("3 "));
    });
}

#[test]
fn sessions_outlive_the_master() {
    Setup::new().as_root(|site| {
        let mail = corpus::many(3);
        site.deliver(ALICE, &corpus::mbox(&mail));
        let server = site.serve();
        let mut pop = site.login(ALICE);
        pop.ok("DELE 1");
        let master = server.master();
        master.kill();
        poll::until("the master's end", || (!master.is_running()).then_some(()));
        pop.ok("QUIT");
        pop.expect_closed();
        assert!(fs::read(site.mailbox(ALICE)).expect("the mailbox") == corpus::mbox(&mail[1..]));
        // What was confined to serve others has nobody to serve and ends.
        poll::until("the end of the roles", || {
            let left = system_tests::processes::of_this_machine();
            (!left
                .iter()
                .any(|process| process.title().starts_with("popa3d")))
            .then_some(())
        });
        // And another master can take the address at once.
        let _server = site.serve();
        site.login(BOB).ok("QUIT");
    });
}

#[test]
fn a_stopped_server_leaves_no_process_and_the_port_free() {
    Setup::new().as_root(|site| {
        for _ in 0..2 {
            let server = site.serve();
            site.login(BOB).ok("QUIT");
            assert_eq!(server.stop().code(), Some(0));
            poll::until("the last process", || {
                let left = system_tests::processes::of_this_machine();
                (!left
                    .iter()
                    .any(|process| process.title().starts_with("popa3d")))
                .then_some(())
            });
        }
    });
}

#[test]
fn many_sessions_leave_the_roles_as_they_were() {
    let setup = Setup::new().set("limits", "sessions_per_source", "10000");
    setup.as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(3)));
        let server = site.serve();
        let roles =
            ["listener", "session spawner", "auth", "spawner"].map(|name| server.role(name));
        let descriptors = || {
            roles.map(|role| {
                fs::read_dir(role.file("fd"))
                    .expect("its descriptors")
                    .count()
            })
        };
        let memory = || roles.map(|role| role.resident_kib());
        let sessions = |count| {
            for _ in 0..count {
                let mut pop = site.login(ALICE);
                pop.listing("RETR 1");
                pop.ok("QUIT");
                pop.expect_closed();
            }
        };
        let fresh = descriptors();
        // What is allocated once is allocated now.
        sessions(20);
        let at_work = || {
            let titles = server
                .processes()
                .into_iter()
                .map(|process| process.title());
            titles
                .filter(|title| title == "popa3d: session" || title.contains("maildro"))
                .count()
        };
        // Some milliseconds after a process's end its descriptors go, too. Auth keeps its first worker's.
        let have_gone = || {
            let mut pairs = roles.iter().zip(descriptors().into_iter().zip(fresh));
            pairs.all(|(role, (now, before))| role.title().ends_with("auth") || now <= before)
        };
        poll::until("the first sessions' end", || {
            (at_work() == 0 && have_gone()).then_some(())
        });
        let (open, held) = (descriptors(), memory());
        sessions(200);
        poll::until("the same processes and descriptors", || {
            (at_work() == 0 && descriptors() == open).then_some(())
        });
        for (before, now) in held.iter().zip(memory()) {
            assert!(now <= before + 512, "{held:?} KiB became {:?}", memory());
        }
    });
}
