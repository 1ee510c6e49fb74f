//! Mail that sessions do not see: what is older than `maildrop.hide_older`, and with `maildrop.hide_acknowledged` what was
//! retrieved. All of it stays in the maildrop.

use crate::grace::{MAILDIR, popa3ctl, said, session, stored, with_each_of};
use app_passwords::Hash;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use system_tests::pop::Pop;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

const DAY: u64 = 24 * 60 * 60;

const PASSWORDS: [(&str, &str); 2] = [
    ("no-delete", "kept-6ytb-mzxw-6ytb-mzxw-6ytb"),
    ("read-only", "read-6ytb-mzxw-6ytb-mzxw-6ytb"),
];

/// As [`with_each_of`], with logins of Alice's that may do less.
pub(crate) fn with_each(setup: Setup, body: fn(&Site, &str, &mut Server)) {
    let path = "\"/etc/popa3d-app-passwords\"";
    let setup = setup
        .set("auth", "backends", "[\"shadow\"]")
        .set("auth", "app_passwords", path);
    with_each_of(&setup, body);
}

/// Logs in by the password that has the rights, if there is one.
pub(crate) fn login(site: &Site, rights: Option<&str>) -> Pop {
    let mut pop = site.connect();
    let of = |rights: &str| PASSWORDS.iter().find(|(name, _)| *name == rights);
    let password = match rights {
        Some(rights) => of(rights).expect("rights").1,
        None => ALICE.password,
    };
    pop.login(ALICE.name, password);
    pop
}

pub(crate) fn write_app_passwords(server: &mut Server) {
    let path = "/etc/popa3d-app-passwords";
    let line = |(rights, password): &(&str, &str)| {
        let hash = Hash::of(password.as_bytes(), &[7; 16]);
        format!("alice:{rights}:{hash}:{rights}\n")
    };
    let lines: String = PASSWORDS.iter().map(line).collect();
    fs::write(path, lines).expect("the file");
    fs::set_permissions(path, Permissions::from_mode(0o640)).expect("its mode");
    let status = Command::new("/usr/bin/chgrp")
        .args(["popa3d-auth", path])
        .status();
    assert!(status.expect("chgrp").success());
    server.reload();
}

fn quit(mut pop: Pop, commands: &[&str]) {
    for command in commands {
        match command.starts_with("RETR") || command.starts_with("TOP") {
            true => drop(pop.listing(command)),
            false => drop(pop.ok(command)),
        }
    }
    pop.ok("QUIT");
    pop.expect_closed();
}

fn expire(pop: &mut Pop) -> Vec<String> {
    let mut capabilities = pop.list("CAPA");
    capabilities.retain(|line| line.starts_with("EXPIRE"));
    capabilities
}

fn set_delivered(location: &str, number: usize, days_ago: u64) {
    let time = SystemTime::now() - Duration::from_secs(days_ago * DAY);
    if !location.contains("mbox") {
        let path = format!("{MAILDIR}/new/170000000{number}.M0P1.host");
        let file = File::options().append(true).open(path).expect("a message");
        return file.set_modified(time).expect("a time");
    }
    let seconds = time.duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let mailbox = stored(location);
    let text = String::from_utf8(mailbox).expect("text");
    let mut dated = String::new();
    let mut found = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("From ") {
            found += 1;
            if found == number + 1 {
                dated += &format!("From a@example.org {}\n", deliver::asctime(seconds));
                continue;
            }
        }
        dated += line;
    }
    fs::write("/var/mail/alice", dated).expect("a mailbox");
}

#[test]
fn what_was_retrieved_is_hidden_after_quit_from_all_and_comes_back_by_unhide() {
    let setup = Setup::new().set("maildrop", "hide_acknowledged", "true");
    with_each(setup, |site, location, server| {
        write_app_passwords(server);
        let before = stored(location);
        let mut pop = login(site, None);
        let all: Vec<String> = pop.list("UIDL");
        let id = |number: usize| {
            let (_, id) = all[number - 1].split_once(' ').expect("an id");
            id.to_owned()
        };
        let ids = |numbers: &[usize]| -> Vec<String> { numbers.iter().map(|&n| id(n)).collect() };
        assert_eq!(all.len(), 5);
        // A client that is cut off has retrieved nothing, nor one that takes it back; and TOP is no RETR.
        pop.listing("RETR 1");
        drop(pop);
        server.await_log("the end", |line| line.contains("end=\"connection closed\""));
        quit(login(site, None), &["RETR 1", "RSET", "TOP 2 9999"]);
        // A login that may not delete takes nothing from the others' sight.
        quit(login(site, Some("no-delete")), &["RETR 1"]);
        quit(login(site, Some("read-only")), &["RETR 1"]);
        assert_eq!(session(site, &[]), ids(&[1, 2, 3, 4, 5]));

        quit(login(site, None), &["RETR 2", "RETR 4", "RETR 4"]);
        server.await_log("the end", |line| line.contains(" acknowledged=2 "));
        assert_eq!(stored(location), before);
        assert_eq!(session(site, &[]), ids(&[1, 3, 5]));
        for rights in PASSWORDS.map(|(rights, _)| rights) {
            let mut pop = login(site, Some(rights));
            assert!(pop.ok("STAT").starts_with("3 "));
            pop.err("RETR 4");
            quit(pop, &["RETR 3"]);
        }
        // What is deleted as well is removed.
        quit(login(site, None), &["RETR 1", "RETR 2", "DELE 2"]);
        let now = stored(location);
        assert!(now.len() < before.len());
        assert_eq!(session(site, &[]), ids(&[5]));

        let listed = said(popa3ctl(site, "unhide", &["--list"]));
        let mut hidden: Vec<_> = listed
            .lines()
            .map(|line| line.split(' ').next().expect("an id").to_owned())
            .collect();
        hidden.sort_by_key(|hidden| all.iter().position(|line| line.ends_with(hidden)));
        assert_eq!(hidden, ids(&[1, 2, 4]));
        let refused = popa3ctl(site, "unhide", &[&id(2), &id(3)]);
        assert_eq!(refused.status.code(), Some(1));
        said(popa3ctl(site, "unhide", &[&id(2)]));
        assert_eq!(session(site, &[]), ids(&[2, 5]));
        let text = said(popa3ctl(site, "unhide", &[]));
        assert_eq!(text, "alice: 2 messages shown again\n");
        assert_eq!(session(site, &["DELE 4"]), ids(&[1, 2, 4, 5]));
        assert_eq!(said(popa3ctl(site, "unhide", &["--list"])), "");
    });
}

#[test]
fn what_is_older_is_hidden_and_no_number_is_taken_for_another() {
    let setup = Setup::new().set("maildrop", "hide_older", "\"90d\"");
    with_each(setup, |site, location, server| {
        write_app_passwords(server);
        for (number, days_ago) in [(0, 89), (1, 91), (2, 400), (3, 0), (4, 92)] {
            set_delivered(location, number, days_ago);
        }
        let before = stored(location);
        for rights in [None, Some("no-delete"), Some("read-only")] {
            let mut pop = login(site, rights);
            let sizes = pop.list("LIST");
            assert_eq!(sizes.len(), 2, "{location} {rights:?}");
            let octets: usize = sizes
                .iter()
                .filter_map(|line| line.split_once(' ')?.1.parse::<usize>().ok())
                .sum();
            assert_eq!(pop.ok("STAT"), format!("2 {octets}"));
            assert_eq!(pop.list("UIDL").len(), 2);
            assert_eq!(
                pop.listing("RETR 2").len(),
                octets - pop.listing("RETR 1").len()
            );
            for command in ["RETR 3", "TOP 3 0", "LIST 3", "UIDL 3"] {
                pop.err(command);
            }
            assert_eq!(expire(&mut pop), ["EXPIRE 90"]);
            pop.ok("QUIT");
        }
        assert_eq!(stored(location), before);
        // The second in sight is the fourth there is.
        let ids = session(site, &["DELE 2"]);
        let kept = stored(location);
        site.reconfigure(|setup| setup.set("maildrop", "hide_older", "\"0s\""));
        server.reload();
        let all = session(site, &[]);
        assert_eq!((all.len(), stored(location) == kept), (4, true));
        assert!(all.contains(&ids[0]) && !all.contains(&ids[1]));
    });
}

#[test]
fn expire_tells_what_every_combination_of_policies_comes_to() {
    let setup = Setup::new().set("auth", "failure_delay", "\"1ms\"");
    with_each(setup, |site, location, server| {
        write_app_passwords(server);
        for (older, acknowledged, grace, expected) in [
            ("0s", "false", "0s", "EXPIRE NEVER"),
            ("0s", "false", "7d", "EXPIRE NEVER"),
            ("90d", "false", "0s", "EXPIRE 90"),
            ("47h", "false", "7d", "EXPIRE 1"),
            ("23h", "false", "0s", "EXPIRE 0"),
            ("0s", "true", "7d", "EXPIRE 0"),
            ("90d", "true", "7d", "EXPIRE 0"),
        ] {
            site.reconfigure(|setup| {
                setup
                    .set("maildrop", "location", location)
                    .set("maildrop", "hide_older", &format!("\"{older}\""))
                    .set("maildrop", "hide_acknowledged", acknowledged)
                    .set("maildrop", "delete_grace", &format!("\"{grace}\""))
            });
            server.reload();
            // The same before login and after it, whoever it is, so that none has to be told apart.
            assert_eq!(expire(&mut site.connect()), [expected]);
            for rights in [None, Some("no-delete"), Some("read-only")] {
                let mut pop = login(site, rights);
                assert_eq!(expire(&mut pop), [expected], "{rights:?}");
                pop.ok("QUIT");
                pop.expect_closed();
            }
        }
    });
}

#[test]
fn a_grace_and_a_horizon_hide_each_its_own_and_only_the_deleted_go() {
    let setup = Setup::new()
        .set("maildrop", "hide_acknowledged", "true")
        .set("maildrop", "hide_older", "\"90d\"")
        .set("maildrop", "delete_grace", "\"2s\"");
    with_each(setup, |site, location, _| {
        for (number, days_ago) in [(0, 1), (1, 91), (2, 1), (3, 1), (4, 1)] {
            set_delivered(location, number, days_ago);
        }
        let before = stored(location);
        quit(login(site, None), &["RETR 1", "RETR 2", "DELE 2"]);
        assert_eq!(stored(location), before);
        let left = session(site, &[]);
        assert_eq!(left.len(), 2);
        let now = system_tests::poll::until("the end of the grace", || {
            assert_eq!(session(site, &[]), left);
            let now = stored(location);
            (now != before).then_some(now)
        });
        // One of five, all of the same form.
        assert!(now.len() > before.len() * 3 / 4);
        said(popa3ctl(site, "unhide", &[]));
        assert_eq!(session(site, &[]).len(), 3);
    });
}

#[test]
fn a_damaged_list_of_what_was_retrieved_shows_mail_again_and_removes_none() {
    let setup = Setup::new().set("maildrop", "hide_acknowledged", "true");
    with_each(setup, |site, location, _| {
        let before = stored(location);
        quit(login(site, None), &["RETR 1", "RETR 5"]);
        assert_eq!(session(site, &[]).len(), 3);
        let mut lists = 0;
        for entry in fs::read_dir("/var/lib/popa3d/ids").expect("a directory") {
            let path = entry.expect("an entry").path();
            if path
                .extension()
                .is_some_and(|suffix| suffix == "acknowledged")
            {
                fs::write(path, "anything").expect("a file");
                lists += 1;
            }
        }
        assert_eq!(lists, 1);
        assert_eq!(session(site, &[]).len(), 5);
        assert_eq!(stored(location), before);
        quit(login(site, None), &["RETR 2"]);
        assert_eq!(session(site, &[]).len(), 4);
    });
}
