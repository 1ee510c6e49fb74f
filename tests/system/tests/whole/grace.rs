//! Deleted mail that is kept for a while (`maildrop.delete_grace`): out of sight after QUIT, still in the maildrop, shown again
//! by `popa3ctl undelete`, removed in its time.

use crate::horizon::{login, with_each as with_each_login, write_app_passwords};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use system_tests::corpus;
use system_tests::poll;
use system_tests::program;
use system_tests::run::{self, Outcome};
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

pub(crate) const MAILDIR: &str = "/home/alice/Maildir";

/// What the configuration says of the maildrop, besides how long it keeps deleted mail.
const LOCATIONS: [&str; 2] = [r#""mbox:/var/mail/%u""#, r#""maildir:%h/Maildir""#];

/// Each kind of maildrop with five messages in it, and a server that keeps deleted mail for so long.
fn with_each(grace: &str, body: fn(&Site, &str)) {
    with_each_of(
        &Setup::new().set("maildrop", "delete_grace", grace),
        |site, location, _| {
            body(site, location);
        },
    );
}

/// Each kind of maildrop with five messages in it, and a server.
pub(crate) fn with_each_of(setup: &Setup, body: impl Fn(&Site, &str, &mut Server) + Sync) {
    for location in LOCATIONS {
        let setup = setup.clone().set("maildrop", "location", location);
        setup.as_root(|site| {
            let mail = corpus::many(5);
            site.deliver(ALICE, &corpus::mbox(&mail));
            let own = |path: &Path| chown(path, Some(ALICE.id), Some(ALICE.id)).expect("an owner");
            for name in ["", "tmp", "new", "cur"] {
                let directory = Path::new(MAILDIR).join(name);
                fs::create_dir(&directory).expect("a directory");
                own(&directory);
            }
            for (number, message) in mail.iter().enumerate() {
                let path = format!("{MAILDIR}/new/170000000{number}.M0P1.host");
                fs::write(&path, &message.stored).expect("a message");
                own(path.as_ref());
            }
            let mut server = site.serve();
            body(site, location, &mut server);
            server.stop();
        });
    }
}

/// All octets of the maildrop.
pub(crate) fn stored(location: &str) -> Vec<u8> {
    if location.contains("mbox") {
        return fs::read("/var/mail/alice").expect("a mailbox");
    }
    let mut files: Vec<_> = ["new", "cur"]
        .iter()
        .flat_map(|folder| fs::read_dir(format!("{MAILDIR}/{folder}")).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| fs::read(path).expect("a message"))
        .collect()
}

/// A session that gives these commands and QUIT; returns the unique-ids that it saw.
pub(crate) fn session(site: &Site, commands: &[&str]) -> Vec<String> {
    let mut pop = site.login(ALICE);
    let ids = pop.list("UIDL");
    let ids = ids.iter().filter_map(|line| line.split_once(' '));
    let ids = ids.map(|(_, id)| id.to_owned()).collect();
    for command in commands {
        pop.ok(command);
    }
    pop.ok("QUIT");
    pop.expect_closed();
    ids
}

fn undelete(site: &Site, arguments: &[&str]) -> Outcome {
    popa3ctl(site, "undelete", arguments)
}

/// `popa3ctl` about Alice.
pub(crate) fn popa3ctl(site: &Site, name: &str, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(program::tool("popa3ctl"));
    command.args([name, ALICE.name]).args(arguments);
    command.arg("-c").arg(site.directory.join("popa3d.toml"));
    run::to_end(&mut command, b"")
}

pub(crate) fn said(outcome: Outcome) -> String {
    String::from_utf8(outcome.expect_success("undelete")).expect("text")
}

#[test]
fn deleted_mail_is_hidden_at_once_stays_in_the_maildrop_and_comes_back_by_undelete() {
    with_each(r#""7d""#, |site, location| {
        let before = stored(location);
        let all = session(site, &["DELE 2", "DELE 4"]);
        assert_eq!(all.len(), 5);
        assert_eq!(stored(location), before);
        let left = [&all[0], &all[2], &all[4]].map(String::clone);
        assert_eq!(session(site, &["DELE 3", "RSET"]), left);
        let listed = said(undelete(site, &["--list"]));
        let mut kept: Vec<_> = listed
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        kept.sort_by_key(|id| all.iter().position(|one| one == id));
        assert_eq!(kept, [&all[1], &all[3]]);
        assert_eq!(undelete(site, &[&all[1], &all[0]]).status.code(), Some(1));
        assert_eq!(session(site, &[]), left);
        let text = said(undelete(site, &[&all[3]]));
        assert_eq!(text, "alice: 1 messages shown again\n");
        let mut pop = site.login(ALICE);
        assert_eq!(pop.list("LIST").len(), 4);
        assert!(pop.list("CAPA").contains(&"EXPIRE NEVER".to_owned()));
        let fetched = pop.listing("RETR 3");
        let expected = &corpus::many(5)[3];
        let ends = |octets: &[u8]| octets.iter().filter(|&&octet| octet == b'\n').count();
        assert_eq!(ends(&fetched), ends(&expected.stored));
        // Whoever has the maildrop would write over it.
        assert_eq!(undelete(site, &[]).status.code(), Some(1));
        pop.ok("QUIT");
        pop.expect_closed();
        said(undelete(site, &[]));
        assert_eq!(session(site, &[]), all);
        assert_eq!(said(undelete(site, &["--list"])), "");
        assert_eq!(stored(location), before);
    });
}

#[test]
fn deleted_mail_is_removed_by_the_first_session_that_quits_after_its_time() {
    with_each(r#""2s""#, |site, location| {
        let before = stored(location);
        let all = session(site, &["DELE 1"]);
        assert_eq!(stored(location), before);
        let rest = poll::until("the end of the grace", || {
            assert_eq!(session(site, &[]), all[1..]);
            let now = stored(location);
            (now != before).then_some(now)
        });
        assert!(before.ends_with(&rest) && rest.len() > before.len() / 2);
    });
}

#[test]
fn a_session_that_is_cut_off_hides_nothing_and_a_lost_list_shows_mail_again() {
    with_each(r#""7d""#, |site, location| {
        let before = stored(location);
        let mut pop = site.login(ALICE);
        pop.ok("DELE 1");
        drop(pop);
        let all = poll::until("the end of the session before", || {
            let mut pop = site.connect();
            pop.ok(&format!("USER {}", ALICE.name));
            let reply = pop.ask(&format!("PASS {}", ALICE.password));
            (reply.code() != Some("IN-USE")).then(|| pop.list("UIDL").len())
        });
        assert_eq!(all, 5);
        let all = poll::until("a free maildrop", || {
            let outcome = undelete(site, &["--list"]);
            outcome.status.success().then(|| session(site, &["DELE 5"]))
        });
        assert_eq!(session(site, &[]), all[..4]);
        for entry in fs::read_dir("/var/lib/popa3d/ids").expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|suffix| suffix == "deleted") {
                fs::write(path, "anything").expect("a file");
            }
        }
        assert_eq!(session(site, &["DELE 1", "RSET"]), all);
        assert_eq!(stored(location), before);
    });
}

/// The list of what was deleted, if there is one.
fn list() -> Option<Vec<u8>> {
    let entries = fs::read_dir("/var/lib/popa3d/ids").expect("a directory");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let path = paths.find(|path| path.extension().is_some_and(|suffix| suffix == "deleted"))?;
    Some(fs::read(path).expect("a list"))
}

#[test]
fn a_login_that_may_not_delete_sees_what_is_left_and_changes_nothing_even_when_it_is_due() {
    let setup = Setup::new().set("maildrop", "delete_grace", r#""2s""#);
    with_each_login(setup, |site, location, server| {
        write_app_passwords(server);
        let before = stored(location);
        let rights = [Some("read-only"), Some("no-delete")];
        // The first makes no list, and neither hides anything.
        for rights in rights {
            let mut pop = login(site, rights);
            assert!(list().is_none() || rights == Some("no-delete"));
            assert_eq!(pop.err("DELE 1"), "this login may not delete messages");
            pop.ok("QUIT");
            pop.expect_closed();
        }
        let all = session(site, &["DELE 2", "DELE 5"]);
        let deleted = SystemTime::now();
        let left = [&all[0], &all[2], &all[3]];
        assert_eq!(all.len(), 5);
        let remembered = list();
        assert!(remembered.is_some());

        let look = |rights| {
            let mut pop = login(site, rights);
            assert!(pop.ok("STAT").starts_with("3 "), "{location}, {rights:?}");
            let ids = pop.list("UIDL");
            let ids = ids.iter().filter_map(|line| Some(line.split_once(' ')?.1));
            assert!(ids.eq(left), "{location}, {rights:?}");
            pop.err("RETR 4");
            pop.err("DELE 2");
            assert!(pop.list("CAPA").contains(&"EXPIRE NEVER".to_owned()));
            pop.ok("QUIT");
            pop.expect_closed();
            assert!(stored(location) == before, "{location}, {rights:?}");
            assert!(list() == remembered, "{location}, {rights:?}");
        };
        rights.into_iter().for_each(look);
        // A second more, since times are remembered in seconds.
        let end = deleted + Duration::from_secs(3);
        poll::until("the end of the grace", || {
            (SystemTime::now() > end).then_some(())
        });
        rights.into_iter().for_each(look);
        let ids = session(site, &[]);
        assert!(ids.iter().eq(left));
        server.await_log("the removal", |line| line.contains(" expired=2 "));
        assert!(stored(location).len() < before.len());
        assert!(session(site, &[]).iter().eq(left));
    });
}
