//! Messages that cannot be had, and connections that break.

use scripted_server::Mailbox;

use crate::site::{Site, code, files, said};

#[test]
fn one_bad_message_stops_nothing() {
    let mut mailbox = Mailbox::many(5, 100);
    mailbox.broken_message = Some(2);
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--delete"]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(
        said(&output).contains("message uid-2: RETR: the server refused: [SYS/TEMP]"),
        "{output:?}"
    );
    assert_eq!(site.delivered().len(), 4);
    let left = mailbox.messages();
    assert_eq!((left.len(), left[0].unique_id.as_str()), (1, "uid-2"));
}

#[test]
fn without_an_answer_to_quit_no_deletion_is_reported() {
    let mut mailbox = Mailbox::many(3, 100);
    mailbox.closes_at = Some("QUIT");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--delete"]);
    assert_eq!(code(&output), 3, "{output:?}");
    let said = said(&output);
    assert!(
        said.contains("QUIT was not answered") && !said.contains("deleted,"),
        "{said}"
    );
    assert_eq!((site.delivered().len(), mailbox.messages().len()), (3, 3));
}

#[test]
fn a_message_that_breaks_the_connection_stops_nothing() {
    let mut mailbox = Mailbox::many(5, 100);
    mailbox.closes_at = Some("RETR 2");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--delete"]);
    assert_eq!(code(&output), 1, "{output:?}");
    let said = said(&output);
    assert!(
        said.contains("message uid-2: the connection broke twice")
            && said.contains("5 messages, 5 new, 4 fetched, 1 failed, 4 deleted"),
        "{said}"
    );
    assert_eq!(site.delivered().len(), 4);
    let left = mailbox.messages();
    assert_eq!((left.len(), left[0].unique_id.as_str()), (1, "uid-2"));
}

#[test]
fn a_header_that_breaks_the_connection_stops_nothing() {
    let mut mailbox = Mailbox::many(4, 100);
    mailbox.closes_at = Some("TOP 1");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--filter", "subject:*message*"]);
    assert_eq!(
        (code(&output), site.delivered().len()),
        (1, 3),
        "{output:?}"
    );
}

#[test]
fn a_server_that_only_breaks_connections_is_left_in_peace() {
    let mut mailbox = Mailbox::many(50, 100);
    mailbox.closes_at = Some("RETR");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&[]);
    assert_eq!(
        (code(&output), site.delivered().len()),
        (3, 0),
        "{output:?}"
    );
    let heard = mailbox.heard();
    let logins = heard.iter().filter(|line| line.starts_with("AUTH"));
    assert_eq!(logins.count(), 8, "{heard:?}");
}

#[test]
fn a_connection_that_breaks_leaves_nothing_half_delivered() {
    let mut mailbox = Mailbox::many(5, 100);
    mailbox.closes_at = Some("RETR");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--delete"]);
    assert_eq!(code(&output), 3, "{output:?}");
    let there = site.delivered().len();
    assert!(files(&site.path("Mail/tmp")).is_empty());
    assert_eq!(mailbox.messages().len(), 5);
    mailbox.closes_at = None;
    let whole = Site {
        url: format!("pop3://mrose@127.0.0.1:{}", mailbox.start().port()),
        ..site
    };
    assert_eq!(code(&whole.fetch(&[])), 0);
    // Another port is another server, so all is fetched again.
    assert_eq!(whole.delivered().len(), there + 5);
}
