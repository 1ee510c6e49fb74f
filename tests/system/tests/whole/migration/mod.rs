//! The server is changed, and no client fetches anything twice: from Dovecot, Courier and popa3d as Debian ships them to
//! ours, and from one format of maildrop to another.

mod clients;
mod convert;
mod faults;
mod import;
mod odd;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use system_tests::run::{self, Outcome};
use system_tests::site::Site;
use system_tests::users::ALICE;
use system_tests::{machine, program};

/// `popa3ctl`, as the administrator runs it at `site`.
fn popa3ctl(site: &Site, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(program::tool("popa3ctl"));
    let configuration = site.directory.join("popa3d.toml");
    command.args(arguments).arg("-c").arg(configuration);
    run::to_end(&mut command, format!("{}\n", ALICE.password).as_bytes())
}

/// The same, where it has to be done; returns what it said.
fn done(site: &Site, arguments: &[&str]) -> String {
    let said = popa3ctl(site, arguments).expect_success(&arguments.join(" "));
    String::from_utf8(said).expect("text")
}

fn message(id: &str, body: &str) -> String {
    format!(
        "From: somebody@example.org\nTo: alice@example.org\nSubject: {id}\nMessage-Id: <{id}@example.org>\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\n\n{body}"
    )
}

/// Ten messages that are all different, by their Message-Ids too.
fn mail() -> Vec<String> {
    let mut mail: Vec<String> = (0..8)
        .map(|number| {
            message(
                &format!("number-{number}"),
                &"A line.\n".repeat(number * 7 + 1),
            )
        })
        .collect();
    mail.push(message("dots-and-tails", ".\n..\n\n\n"));
    mail.push(message("no-line-end", "the last line"));
    mail
}

/// Two messages that nothing tells apart from one another, nor from the first of [`mail`]; and two of one header.
fn twins() -> Vec<String> {
    let first = mail().swap_remove(0);
    vec![
        first.clone(),
        first,
        message("one-header", "one body\n"),
        message("one-header", "another body, and longer\n"),
    ]
}

/// Delivers into Alice's Maildir, each message a second after the one before.
fn deliver_maildir(mail: &[String], first: usize) -> PathBuf {
    let maildir = Path::new("/home").join(ALICE.name).join("Maildir");
    let own = |path: &Path, mode| {
        chown(path, Some(ALICE.id), Some(ALICE.id)).expect("an owner");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    for directory in [
        maildir.clone(),
        maildir.join("new"),
        maildir.join("cur"),
        maildir.join("tmp"),
    ] {
        fs::create_dir_all(&directory).expect("a directory");
        own(&directory, 0o700);
    }
    for (message, number) in mail.iter().zip(first..) {
        let name = format!("{}.M{number}P1.host", 1_700_000_000 + number);
        let path = maildir.join("new").join(name);
        fs::write(&path, message).expect("a message");
        own(&path, 0o600);
    }
    maildir
}

/// Delivers into Alice's mailbox in the spool.
fn deliver_mbox(mail: &[String]) {
    let path = Path::new("/var/mail").join(ALICE.name);
    let mut mbox = fs::read(&path).unwrap_or_default();
    for message in mail {
        mbox.extend_from_slice(b"From somebody@example.org Mon Nov 23 12:00:00 2026\n");
        mbox.extend_from_slice(message.as_bytes());
        let end = if message.ends_with('\n') {
            "\n"
        } else {
            "\n\n"
        };
        mbox.extend_from_slice(end.as_bytes());
    }
    fs::write(&path, mbox).expect("a mailbox");
    chown(&path, Some(ALICE.id), Some(machine::mail_group())).expect("an owner");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).expect("a mode");
}
