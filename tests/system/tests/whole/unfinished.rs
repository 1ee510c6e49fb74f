//! `popa3ctl` and an mbox whose update was interrupted: with the server killed, all of it, after each of the calls by which it
//! changes files. What reads the mailbox is refused until the server has put it in order; what adds to it loses nothing.

use crate::grace::{popa3ctl, said};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use system_tests::corpus::{self, Message};
use system_tests::program;
use system_tests::run::{self, Outcome};
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;
use tracer::faults::{self, Fault};

const MAILBOX: &str = "/var/mail/alice";

const MAILDIR: &str = "/home/alice/Maildir";

const REFUSAL: &str = "an update of the mailbox was interrupted";

fn mail() -> Vec<Message> {
    (1..=6)
        .map(|number| {
            let body = format!("body of {number}\n").repeat(40 * number);
            let text = format!("Message-ID: <{number}@example.org>\nSubject: {number}\n\n{body}");
            Message::new("mail", text)
        })
        .collect()
}

/// What is left of the mailbox.
fn left() -> Vec<Message> {
    let is_left = |(index, message)| (![0, 3].contains(&index)).then_some(message);
    mail().into_iter().enumerate().filter_map(is_left).collect()
}

/// Deletes two messages by a server that inetd has started.
fn delete(site: &Site, fault: Option<(usize, Fault)>) -> faults::Run {
    let (mut client, server) = UnixStream::pair().expect("two sockets");
    let login = format!("USER {}\r\nPASS {}\r\n", ALICE.name, ALICE.password);
    write!(client, "{login}DELE 1\r\nDELE 4\r\nQUIT\r\n").expect("room");
    let mut command = site.command();
    command.stdout(OwnedFd::from(server.try_clone().expect("a descriptor")));
    command.stdin(OwnedFd::from(server)).stderr(Stdio::null());
    let watched = ["/var/mail", "/var/lib/popa3d"].map(Path::new);
    let run = faults::run(&mut command, &watched, fault, false).expect("a traced server");
    drop(command);
    // A server that was killed may have left what its client sent unread.
    drop(client.read_to_end(&mut Vec::new()));
    run
}

/// A session that does nothing; returns the unique-ids.
fn look(site: &Site) -> Vec<String> {
    let mut session = site.inetd();
    session.pop.reply();
    session.pop.login(ALICE.name, ALICE.password);
    let ids = session.pop.list("UIDL");
    session.pop.ok("QUIT");
    assert!(session.end().success());
    let ids = ids.iter().filter_map(|line| line.split_once(' '));
    ids.map(|(_, id)| id.to_owned()).collect()
}

fn export(site: &Site) -> Outcome {
    let mut command = Command::new(program::tool("popa3ctl"));
    command.args(["uidl", "export", ALICE.name]);
    command.arg("-c").arg(site.directory.join("popa3d.toml"));
    run::to_end(&mut command, b"")
}

/// The unique-ids that an export tells, sorted.
fn exported(outcome: Outcome) -> Vec<String> {
    let ids = said(outcome);
    let ids = ids
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').nth(1));
    let mut ids: Vec<_> = ids.map(str::to_owned).collect();
    ids.sort();
    ids
}

fn deliver(site: &Site, message: &Message) {
    let mut command = Command::new(program::tool("popa3ctl"));
    command.args(["deliver", ALICE.name, "-c"]);
    command.arg(site.directory.join("popa3d.toml"));
    run::to_end(&mut command, &message.stored).expect_success("deliver");
}

/// Without the lines that tell when a message was delivered, and by whom.
fn without_from_lines(mailbox: &[u8]) -> Vec<u8> {
    let lines = mailbox.split_inclusive(|&octet| octet == b'\n');
    let lines: Vec<&[u8]> = lines.filter(|line| !line.starts_with(b"From ")).collect();
    lines.concat()
}

#[test]
fn what_reads_a_mailbox_is_refused_until_its_update_is_finished_and_what_adds_loses_nothing() {
    Setup::new().as_root(|site| {
        let (before, after) = (corpus::mbox(&mail()), corpus::mbox(&left()));
        site.deliver(ALICE, &before);
        let all = look(site);
        let late = Message::new("late", "Message-ID: <late@example.org>\n\nlate\n");
        let (mut refused, mut in_between) = (0, 0);
        // From where the server begins to open the maildrop.
        let calls = delete(site, None).calls;
        let is_journal = |call: &faults::Call| call.path.starts_with("/var/lib/popa3d/journal/");
        let first = calls.iter().position(is_journal).expect("a journal");
        for number in first + 1.. {
            site.deliver(ALICE, &before);
            let run = delete(site, Some((number, Fault::After)));
            let found = fs::read(MAILBOX).expect("a mailbox");
            let is_between = found != before && found != after;
            let point = format!("killed after call {number}");

            let outcome = export(site);
            if outcome.status.success() {
                assert!(!is_between, "{point}: {} octets", found.len());
                let ids = exported(outcome);
                let mut expected = match found == after {
                    true => [1, 2, 4, 5].map(|at: usize| all[at].clone()).to_vec(),
                    false => all.clone(),
                };
                expected.sort();
                assert_eq!(ids, expected, "{point}");
            } else {
                assert!(
                    outcome.errors.contains(REFUSAL),
                    "{point}: {}",
                    outcome.errors
                );
                refused += 1;
                in_between += u32::from(is_between);
                let converted = popa3ctl(site, "convert", &["--to", "maildir:%h/Maildir"]);
                assert!(
                    converted.errors.contains(REFUSAL),
                    "{point}: {}",
                    converted.errors
                );
                assert!(!Path::new(MAILDIR).exists());
            }
            // These read no mail.
            for name in ["undelete", "unhide"] {
                assert_eq!(said(popa3ctl(site, name, &["--list"])), "");
            }
            assert!(
                fs::read(MAILBOX).expect("a mailbox") == found,
                "{point}: changed"
            );

            deliver(site, &late);
            let mut ids = look(site);
            ids.sort();
            let finished = without_from_lines(&fs::read(MAILBOX).expect("a mailbox"));
            let expected = [mail(), left()].map(|mut messages| {
                messages.push(late.clone());
                without_from_lines(&corpus::mbox(&messages))
            });
            assert!(
                expected.contains(&finished),
                "{point}: {} octets",
                finished.len()
            );
            assert_eq!(exported(export(site)), ids, "{point}");
            if !run.hit {
                break;
            }
        }
        assert!(refused > 3 && in_between > 1, "{refused}, {in_between}");
    });
}
