//! Deleted means deleted: after QUIT no octet of a message that was deleted is in the mailbox, nor in anything that the server keeps
//! beside it (journals, indexes, unique-ids, locks).

use std::fs;
use std::path::{Path, PathBuf};
use system_tests::corpus::{self, Message};
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

/// What is in the deleted messages and nowhere else.
const SECRET: &str = "xyzzy-plugh-0451";

/// Every fourth message has it in header and body, over and over.
fn mail() -> Vec<Message> {
    (0..40)
        .map(|number| {
            let word = if number % 4 == 0 { SECRET } else { "nothing" };
            let body = format!("{word} {number}\n").repeat(200);
            Message::new(
                "deleted",
                format!(
                    "Subject: {word} {number}\nMessage-ID: <{number}.{word}@example.org>\n\n{body}"
                ),
            )
        })
        .collect()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        match entry.file_type().expect("its kind").is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// The files that have the secret in them.
fn files_with_secret(directory: &Path) -> Vec<PathBuf> {
    let has_it = |path: &PathBuf| {
        let octets = fs::read(path).expect("a file");
        octets
            .windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes())
    };
    files_below(directory).into_iter().filter(has_it).collect()
}

/// Deletes what has the secret in it: a session that reads it first, so that there is an index, and one that deletes.
fn delete(site: &Site) {
    let mut pop = site.login(ALICE);
    pop.ok("STAT");
    pop.ok("QUIT");
    pop.expect_closed();
    let mut pop = site.login(ALICE);
    let count = pop.list("LIST").len();
    let mut deleted = 0;
    for number in 1..=count {
        let octets = pop.listing(&format!("RETR {number}"));
        if octets
            .windows(SECRET.len())
            .any(|it| it == SECRET.as_bytes())
        {
            pop.ok(&format!("DELE {number}"));
            deleted += 1;
        }
    }
    assert_eq!((count, deleted), (40, 10));
    pop.ok("QUIT");
    pop.expect_closed();
}

/// What is kept beside the mail, and that something is: a test that looks into nothing would find nothing.
fn assert_forgotten(site: &Site, mail: &Path) {
    let state = Path::new("/var/lib/popa3d");
    assert!(files_below(state).len() >= 2, "{:?}", files_below(state));
    for directory in [state, mail] {
        let found = files_with_secret(directory);
        assert!(found.is_empty(), "{found:?}");
    }
    let mut pop = site.login(ALICE);
    assert_eq!(pop.list("LIST").len(), 30);
    pop.ok("QUIT");
    pop.expect_closed();
    assert!(files_with_secret(state).is_empty());
}

#[test]
fn nothing_of_a_message_deleted_from_an_mbox_is_left_in_mailbox_or_state() {
    Setup::new().as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&mail()));
        assert!(!files_with_secret(Path::new("/var/mail")).is_empty());
        let server = site.serve();
        delete(site);
        assert_forgotten(site, Path::new("/var/mail"));
        server.stop();
        assert!(files_with_secret(Path::new("/var/lib/popa3d")).is_empty());
    });
}

#[test]
fn nothing_of_a_message_deleted_from_a_maildir_is_left_in_mailbox_or_state() {
    let setup = Setup::new().set("maildrop", "location", r#""maildir:%h/Maildir""#);
    setup.as_root(|site| {
        let maildir = Path::new("/home/alice/Maildir");
        for name in ["", "tmp", "new", "cur"] {
            let directory = maildir.join(name);
            fs::create_dir(&directory).expect("a directory");
            std::os::unix::fs::chown(&directory, Some(ALICE.id), Some(ALICE.id)).expect("an owner");
        }
        for (number, message) in mail().iter().enumerate() {
            let path = maildir.join(format!("new/17000000{number:02}.M0P1.host"));
            fs::write(&path, &message.stored).expect("a message");
            std::os::unix::fs::chown(&path, Some(ALICE.id), Some(ALICE.id)).expect("an owner");
        }
        let server = site.serve();
        delete(site);
        assert_forgotten(site, maildir);
        server.stop();
    });
}
