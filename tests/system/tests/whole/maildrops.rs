//! Where mail may be: spool, home directory, Maildir; and what is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use system_tests::corpus::{self, Message};
use system_tests::poll;
use system_tests::pop::Pop;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB, User};

fn own(path: &Path, user: User, mode: u32) {
    chown(path, Some(user.id), Some(user.id)).expect("an owner");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// A Maildir of `user` with `mail`: half of it new, half seen.
fn maildir(path: &Path, user: User, mail: &[Message]) {
    for directory in ["", "tmp", "new", "cur"] {
        let path = path.join(directory);
        fs::create_dir_all(&path).expect("a directory");
        own(&path, user, 0o700);
    }
    for (number, message) in mail.iter().enumerate() {
        let name = format!("17000000{number:02}.M{number}P1.example");
        let file = if number % 2 == 0 {
            format!("new/{name}")
        } else {
            format!("cur/{name}:2,S")
        };
        let file = path.join(file);
        fs::write(&file, &message.stored).expect("a message");
        own(&file, user, 0o600);
    }
}

fn shows(mut pop: Pop, mail: &[Message]) -> Pop {
    assert!(pop.ok("STAT").starts_with(&format!("{} ", mail.len())));
    for (number, message) in (1..).zip(mail) {
        assert_eq!(
            pop.ok(&format!("LIST {number}")),
            format!("{number} {}", message.sent.len())
        );
        let octets = pop.listing(&format!("RETR {number}"));
        assert!(octets == message.sent, "{}", message.name);
    }
    pop
}

fn files(path: &Path) -> usize {
    ["new", "cur"]
        .iter()
        .map(|name| fs::read_dir(path.join(name)).expect("a Maildir").count())
        .sum()
}

#[test]
fn a_mailbox_in_the_home_directory_is_served() {
    Setup::new()
        .set("maildrop", "location", r#""mbox:%h/Mailbox""#)
        .as_root(|site| {
            let mail = corpus::nasty();
            let path = Path::new("/home/alice/Mailbox");
            fs::write(path, corpus::mbox(&mail)).expect("a mailbox");
            own(path, ALICE, 0o600);
            let _server = site.serve();
            let mut pop = shows(site.login(ALICE), &mail);
            pop.ok("DELE 1");
            pop.ok("QUIT");
            assert!(fs::read(path).expect("the mailbox") == corpus::mbox(&mail[1..]));
        });
}

#[test]
fn a_maildir_is_served() {
    Setup::new()
        .set("maildrop", "location", r#""maildir:%h/Maildir""#)
        .as_root(|site| {
            let mail = corpus::nasty();
            let path = Path::new("/home/alice/Maildir");
            maildir(path, ALICE, &mail);
            let _server = site.serve();
            let mut pop = shows(site.login(ALICE), &mail);
            let ids = pop.list("UIDL");
            assert!(
                ids[0].ends_with(" 1700000000.M0P1.example"),
                "the base of the file name: {}",
                ids[0]
            );
            pop.ok("DELE 2");
            pop.ok("DELE 3");
            pop.ok("QUIT");
            assert_eq!(files(path), mail.len() - 2);
        });
}

#[test]
fn messages_are_themselves_in_whatever_order_they_are_asked_for() {
    for location in ["mbox:%h/Mailbox", "maildir:%h/Maildir"] {
        Setup::new()
            .set("maildrop", "location", &format!("{location:?}"))
            .as_root(|site| {
                let mail = corpus::nasty();
                let mailbox = Path::new("/home/alice/Mailbox");
                fs::write(mailbox, corpus::mbox(&mail)).expect("a mailbox");
                own(mailbox, ALICE, 0o600);
                maildir(Path::new("/home/alice/Maildir"), ALICE, &mail);
                let _server = site.serve();
                let mut pop = site.login(ALICE);
                let sent = |number: usize| mail[number - 1].sent.as_slice();
                // A client that takes some in order, and then does what it was not expected to do.
                for first in 1..mail.len() - 1 {
                    for then in [1, mail.len() - first, mail.len()] {
                        for number in [first, first + 1, then, first + 2] {
                            let octets = pop.listing(&format!("RETR {number}"));
                            assert!(octets == sent(number), "{first}, {then}: {number}");
                        }
                        let top = pop.listing(&format!("TOP {then} 0"));
                        assert!(sent(then).starts_with(&top), "{first}, {then}");
                    }
                }
                pop.ok("DELE 2");
                for number in [1, 3] {
                    let octets = pop.listing(&format!("RETR {number}"));
                    assert!(octets == sent(number), "{number}, without the second");
                }
                assert!(!pop.ask("RETR 2").ok);
                let last = mail.len();
                for number in [last - 1, last] {
                    let octets = pop.listing(&format!("RETR {number}"));
                    assert!(octets == sent(number), "{number} of {last}");
                }
                assert!(!pop.ask(&format!("RETR {}", last + 1)).ok);
            });
    }
}

#[test]
fn more_messages_of_a_maildir_are_removed_than_may_stay_open() {
    Setup::new()
        .set("maildrop", "location", r#""maildir:%h/Maildir""#)
        .as_root(|site| {
            let path = Path::new("/home/alice/Maildir");
            maildir(path, ALICE, &corpus::many(1_500));
            let server = site.serve();
            let mut pop = site.login(ALICE);
            let deletions: String = (2..=1_500).map(|n| format!("DELE {n}\r\n")).collect();
            pop.send(deletions.as_bytes());
            for number in 2..=1_500 {
                assert!(pop.reply().ok, "{number}");
            }
            pop.ok("QUIT");
            assert_eq!(files(path), 1);
            server.await_log("the end", |line| {
                line.contains("deleted=1499") && line.contains("left=1")
            });
            assert!(site.login(ALICE).ok("STAT").starts_with("1 "));
        });
}

#[test]
fn mail_that_arrives_during_a_session_is_kept_and_shown_in_the_next() {
    let small = corpus::many(4);
    let append = |site: &Site, message: &Message| {
        let mut octets = fs::read(site.mailbox(ALICE)).expect("the mailbox");
        octets.extend_from_slice(&corpus::mbox(std::slice::from_ref(message)));
        fs::write(site.mailbox(ALICE), octets).expect("the mailbox");
    };
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&small[..3]));
        let _server = site.serve();
        let mut pop = site.login(ALICE);
        append(site, &small[3]);
        assert!(pop.ok("STAT").starts_with("3 "));
        assert!(pop.listing("RETR 3") == small[2].sent);
        pop.ok("DELE 1");
        pop.ok("QUIT");
        pop.expect_closed();
        shows(site.login(ALICE), &small[1..]);
    });
}

#[test]
fn a_mailbox_that_another_program_changed_ends_the_session_without_update() {
    let small = corpus::many(3);
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&small));
        let _server = site.serve();
        let mut pop = site.login(ALICE);
        pop.ok("DELE 3");
        let changed = corpus::mbox(&small[1..]);
        fs::write(site.mailbox(ALICE), &changed).expect("the mailbox");
        pop.send_line("RETR 1");
        if pop.try_reply().is_some_and(|reply| reply.ok) {
            assert!(pop.try_lines().is_none(), "the final dot is withheld");
        }
        pop.expect_closed();
        assert!(fs::read(site.mailbox(ALICE)).expect("the mailbox") == changed);
    });
}

#[test]
fn a_user_without_a_mailbox_has_an_empty_maildrop() {
    Setup::new().as_ordinary_user(|site| {
        let _server = site.serve();
        let mut pop = site.login(BOB);
        assert_eq!(pop.ok("STAT"), "0 0");
        assert!(pop.list("LIST").is_empty() && pop.list("UIDL").is_empty());
        pop.err("RETR 1");
        pop.ok("QUIT");
        assert!(!site.mailbox(BOB).exists(), "and none is made");
    });
}

#[test]
fn a_file_that_is_no_mailbox_is_refused() {
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, b"This is not mail.\n");
        let server = site.serve();
        let mut pop = site.connect();
        pop.ok(&format!("USER {}", ALICE.name));
        let refused = pop.ask(&format!("PASS {}", ALICE.password));
        assert!(!refused.ok && refused.code() != Some("AUTH"), "{refused:?}");
        server.await_log("the reason", |line| line.contains("mail/alice"));
        assert_eq!(
            fs::read(site.mailbox(ALICE)).expect("the file"),
            b"This is not mail.\n"
        );
    });
}

#[test]
fn a_dotlock_of_another_program_is_respected_and_ours_is_held_only_for_a_moment() {
    let setup = Setup::new().set("maildrop", "dotlock", "true").set(
        "maildrop",
        "lock_timeout",
        r#""300ms""#,
    );
    setup.as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let _server = site.serve();
        let dotlock = site.mailbox(ALICE).with_extension("lock");
        let mut pop = site.login(ALICE);
        assert!(
            !dotlock.exists(),
            "delivery is not held up by a client that thinks"
        );
        pop.ok("QUIT");
        pop.expect_closed();
        assert!(!dotlock.exists());
        fs::write(&dotlock, std::process::id().to_string()).expect("a dotlock");
        let refused = poll::until("the refusal", || {
            let mut pop = site.connect();
            pop.ok(&format!("USER {}", ALICE.name));
            let reply = pop.ask(&format!("PASS {}", ALICE.password));
            (!reply.ok).then_some(reply)
        });
        assert_eq!(refused.code(), Some("IN-USE"));
        fs::remove_file(&dotlock).expect("the dotlock");
        poll::until("the maildrop", || {
            let mut pop = site.connect();
            pop.ok(&format!("USER {}", ALICE.name));
            pop.ask(&format!("PASS {}", ALICE.password))
                .ok
                .then_some(())
        });
    });
}
