//! From another server to ours, by what it has left and by asking it while it runs.

use super::clients::Clients;
use super::{deliver_maildir, deliver_mbox, done, mail, popa3ctl, twins};
use std::fs;
use system_tests::certificates::Authority;
use system_tests::rivals::{self, Rival};
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;
use system_tests::{poll, run};

const MAILDIR: &str = r#""maildir:%h/Maildir""#;

/// Both clients fetch from the old server; `import` is done, before or after that is stopped; then they fetch from ours.
fn nothing_comes_twice(
    site: &Site,
    old: Rival,
    messages: usize,
    import: impl FnOnce(Option<Rival>),
    deliver: impl FnOnce(),
) {
    let clients = Clients::new(site);
    assert_eq!(clients.fetch(), [messages; 2], "from the old server");
    assert_eq!(clients.fetch(), [0; 2], "from the old server, again");
    import(Some(old));
    let server = site.serve();
    assert_eq!(clients.fetch(), [0; 2], "from ours\n{}", server.log());
    deliver();
    assert_eq!(clients.fetch(), [1; 2], "new mail\n{}", server.log());
    assert_eq!(clients.fetch(), [0; 2], "from ours, again");
}

fn skipped() {
    run::skipped("an old server is missing; tests/run takes it apart");
}

#[test]
fn from_dovecots_maildir_by_the_list_it_has_left() {
    Setup::new()
        .set("maildrop", "location", MAILDIR)
        .as_root(|site| {
            let mail = [mail(), twins()].concat();
            deliver_maildir(&mail, 0);
            let machine = site.machine.expect("a machine");
            let Some(dovecot) = rivals::dovecot(machine, "maildir:~/Maildir", &Authority::new())
            else {
                return skipped();
            };
            let import = |old: Option<Rival>| {
                drop(old);
                let from = ["--from", "dovecot", "--uidl-format", "%08Xu%08Xv"];
                let run = |act| done(site, &[&["uidl", act, ALICE.name], &from[..]].concat());
                let said = run("import");
                assert!(said.contains("14 carried over"), "{said}");
                let said = run("verify");
                assert!(said.contains("14 are the same"), "{said}");
            };
            nothing_comes_twice(site, dovecot, mail.len(), import, || {
                deliver_maildir(&twins()[..1], 1000);
            });
        });
}

#[test]
fn from_dovecots_mbox_while_it_runs_in_tls_by_a_master_user() {
    Setup::new().as_root(|site| {
        // Dovecot marks what has been read in the mailbox itself.
        let mail = [mail(), twins()].concat();
        deliver_mbox(&mail);
        let machine = site.machine.expect("a machine");
        let (authority, location) = (Authority::new(), "mbox:~/mail:INBOX=/var/mail/%u");
        let Some(dovecot) = rivals::dovecot(machine, location, &authority) else {
            return skipped();
        };
        let ca = authority.file().display().to_string();
        let import = |old: Option<Rival>| {
            let login = format!("%u*{}", rivals::MASTER);
            let from = [
                "--from",
                "pop3s://127.0.0.1",
                "--ca",
                &ca,
                "--login",
                &login,
            ];
            let arguments = |act| [&["uidl", act, ALICE.name], &from[..]].concat();
            // A client that came now would fetch everything again.
            let before = popa3ctl(site, &arguments("verify"));
            assert_eq!(before.status.code(), Some(1));
            let said = String::from_utf8(before.output).expect("text");
            assert!(said.contains("14 not"), "{said}");
            let tried = done(site, &[&arguments("import")[..], &["--dry-run"]].concat());
            assert!(tried.contains("14 would be carried over"), "{tried}");
            assert_eq!(popa3ctl(site, &arguments("verify")).status.code(), Some(1));
            done(site, &arguments("import"));
            let said = done(site, &[&arguments("verify")[..], &["--json"]].concat());
            assert!(said.contains(r#""ok":true"#), "{said}");
            drop(old);
        };
        nothing_comes_twice(site, dovecot, mail.len(), import, || {
            deliver_mbox(&twins()[..1]);
        });
    });
}

#[test]
fn from_couriers_maildir_by_the_list_it_has_left() {
    Setup::new()
        .set("maildrop", "location", MAILDIR)
        .as_root(|site| {
            let mail = [mail(), twins()].concat();
            deliver_maildir(&mail, 0);
            let Some(courier) = rivals::courier() else {
                return skipped();
            };
            let import = |old: Option<Rival>| {
                drop(old);
                let said = done(site, &["uidl", "import", ALICE.name, "--from", "courier"]);
                assert!(said.contains("14 carried over"), "{said}");
            };
            nothing_comes_twice(site, courier, mail.len(), import, || {
                deliver_maildir(&twins()[..1], 1000);
            });
        });
}

#[test]
fn from_couriers_maildir_while_it_runs_for_the_users_of_a_file() {
    Setup::new()
        .set("maildrop", "location", MAILDIR)
        .as_root(|site| {
            let mail = [mail(), twins()].concat();
            deliver_maildir(&mail, 0);
            let Some(courier) = rivals::courier() else {
                return skipped();
            };
            let users = site.directory.join("users");
            let import = |old: Option<Rival>| {
                let lines = format!(
                    "bob wrong\n{}  |echo {}\nnobody-here x\n",
                    ALICE.name, ALICE.password
                );
                fs::write(&users, lines).expect("a file");
                std::os::unix::fs::chown(&users, Some(0), Some(0)).expect("an owner");
                let users = users.display().to_string();
                let from = ["--from", "pop3://127.0.0.1", "--plain", "--users", &users];
                let run = |act| popa3ctl(site, &[&["uidl", act], &from[..]].concat());
                // Everybody can read it.
                assert_eq!(run("import").output, b"");
                let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                fs::set_permissions(&users, private).expect("a mode");
                let outcome = run("import");
                let said = String::from_utf8(outcome.output).expect("text");
                assert!(
                    said.contains("alice: 14 unique-ids there, 14 messages here, 14 carried over"),
                    "{said}"
                );
                assert!(
                    said.contains("bob: ") && said.contains("nobody-here: no such user"),
                    "{said}"
                );
                // One who fails does not stop the others, and is not forgotten.
                assert_eq!(outcome.status.code(), Some(1));
                assert!(
                    outcome.errors.contains("2 of 3 users"),
                    "{}",
                    outcome.errors
                );
                drop(old);
            };
            nothing_comes_twice(site, courier, mail.len(), import, || {
                deliver_maildir(&twins()[..1], 1000);
            });
        });
}

#[test]
fn from_popa3d_nothing_has_to_be_carried_over() {
    Setup::new().as_root(|site| {
        let mail = mail();
        deliver_mbox(&mail);
        let Some(popa3d) = rivals::popa3d() else {
            return skipped();
        };
        let import = |old: Option<Rival>| {
            let from = ["--from", "pop3://127.0.0.1", "--plain"];
            let said = done(site, &[&["uidl", "verify", ALICE.name], &from[..]].concat());
            assert!(
                said.contains("10 unique-ids there, 10 messages here, 10 are the same"),
                "{said}"
            );
            drop(old);
        };
        nothing_comes_twice(site, popa3d, mail.len(), import, || {
            deliver_mbox(&twins()[..1]);
        });
    });
}

#[test]
fn from_qpopper_by_the_header_fields_it_has_written() {
    Setup::new().as_root(|site| {
        let mail: Vec<String> = (1..)
            .zip(mail())
            .map(|(number, message)| match number {
                1 => message,
                _ => format!("X-UIDL: Qp!{number}\n{message}"),
            })
            .collect();
        deliver_mbox(&mail);
        let said = done(site, &["uidl", "import", ALICE.name, "--from", "x-uidl"]);
        assert!(said.contains("9 carried over"), "{said}");
        let server = site.serve();
        let ids = site.login(ALICE).list("UIDL");
        assert_eq!(ids[1..3], ["2 Qp!2", "3 Qp!3"], "{}", server.log());
    });
}

#[test]
fn from_qmail_only_names_that_begin_with_a_tilde_are_carried_over() {
    Setup::new()
        .set("maildrop", "location", MAILDIR)
        .as_root(|site| {
            let maildir = deliver_maildir(&mail()[..2], 0);
            let from = maildir.join("new/1700000001.M1P1.host");
            fs::rename(from, maildir.join("cur/~1.host:2,S")).expect("a message");
            let arguments = |act| ["uidl", act, ALICE.name, "--from", "qmail"];
            assert_eq!(popa3ctl(site, &arguments("verify")).status.code(), Some(1));
            done(site, &arguments("import"));
            done(site, &arguments("verify"));
            let _server = site.serve();
            let ids = site.login(ALICE).list("UIDL");
            assert_eq!(ids, ["1 ~1.host", "2 1700000000.M0P1.host"]);
        });
}

#[test]
fn the_log_counts_ids_that_vanished_and_ids_that_changed() {
    Setup::new().as_root(|site| {
        let mail = mail();
        deliver_mbox(&mail);
        let server = site.serve();
        let mut sessions = 0;
        let mut session = |expected: &str| {
            site.login(ALICE).ok("QUIT");
            sessions += 1;
            let lines = || {
                let log = server.log();
                let ends = log.lines().filter(|line| line.starts_with("session ended"));
                ends.map(str::to_owned).collect::<Vec<_>>()
            };
            let line = poll::until("the session's last line", || {
                lines().get(sessions - 1).cloned()
            });
            match expected {
                "" => assert!(!line.contains("ids_"), "{line}"),
                _ => assert!(line.contains(expected), "{line}"),
            }
        };
        // Nothing is known of a session before the first.
        session("");
        session("ids_gone=0 ids_changed=0");
        let path = "/var/mail/alice";
        fs::remove_file(path).expect("the mailbox");
        deliver_mbox(&mail[2..]);
        session("ids_gone=2 ids_changed=0");
        session("ids_gone=0 ids_changed=0");
        let file = site.directory.join("list");
        let list = done(site, &["uidl", "export", ALICE.name]);
        let own = list.lines().nth(1).and_then(|line| line.split(' ').next());
        let list = format!("popa3d-ids 1\n{} other\n", own.expect("an id"));
        fs::write(&file, list).expect("a file");
        let file = file.display().to_string();
        done(site, &["uidl", "import", ALICE.name, "--file", &file]);
        session("ids_gone=0 ids_changed=1");
    });
}
