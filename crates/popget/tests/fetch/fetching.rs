//! What is fetched, what is left and what is deleted.

use std::fs;

use scripted_server::{Mailbox, Message};

use crate::site::{Site, code, files, said, with_lf};

#[test]
fn mail_is_fetched_once_and_left_on_the_server() {
    let mailbox = Mailbox::many(150, 3000);
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&[]);
    assert_eq!(code(&output), 0, "{output:?}");
    let mut expected: Vec<Vec<u8>> = mailbox
        .messages()
        .iter()
        .map(|m| with_lf(&m.octets))
        .collect();
    expected.sort();
    assert!(site.delivered() == expected);
    assert_eq!(mailbox.messages().len(), 150);
    assert!(files(&site.path("Mail/tmp")).is_empty());

    mailbox.deliver(Message {
        unique_id: "new".to_owned(),
        octets: b"Subject: new\r\n\r\n".to_vec(),
    });
    let output = site.fetch(&[]);
    assert!(
        said(&output).contains("151 messages, 1 new, 1 fetched"),
        "{output:?}"
    );
    assert_eq!(site.delivered().len(), 151);
}

#[test]
fn what_was_fetched_is_deleted_if_that_is_wanted() {
    let mailbox = Mailbox::many(10, 100);
    let site = Site::new(&mailbox.start());
    assert_eq!(code(&site.fetch(&[])), 0);
    let output = site.fetch(&["--delete", "--keep-newest", "3"]);
    assert!(said(&output).contains("0 fetched, 7 deleted"), "{output:?}");
    assert_eq!(mailbox.messages().len(), 3);
    let output = site.fetch(&["--delete-after", "1d"]);
    assert_eq!((code(&output), mailbox.messages().len()), (0, 3));
    let output = site.fetch(&["--delete"]);
    assert_eq!((code(&output), mailbox.messages().len()), (0, 0));
    assert_eq!(site.delivered().len(), 10);
}

#[test]
fn messages_that_share_an_id_are_all_fetched() {
    let twin = |text: &str| Message {
        unique_id: "same".to_owned(),
        octets: text.as_bytes().to_vec(),
    };
    let mailbox = Mailbox::new(vec![twin("Subject: a\r\n\r\n"), twin("Subject: b\r\n\r\n")]);
    let site = Site::new(&mailbox.start());
    assert_eq!(code(&site.fetch(&["--delete"])), 0);
    assert_eq!(site.delivered(), [b"Subject: a\n\n", b"Subject: b\n\n"]);
    assert!(mailbox.messages().is_empty());
}

#[test]
fn filters_look_at_size_and_header() {
    let mailbox = Mailbox::many(20, 100);
    mailbox.deliver(Message {
        unique_id: "big".to_owned(),
        octets: vec![b'x'; 5000],
    });
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--filter", "size<1k", "--filter", "subject:message 1*"]);
    assert!(
        said(&output).contains("21 new, 11 fetched, 10 not wanted"),
        "{output:?}"
    );
    // What was not wanted is still new.
    let output = site.fetch(&["--filter", "size>1k"]);
    assert!(said(&output).contains("10 new, 1 fetched"), "{output:?}");
}

#[test]
fn seen_now_fetches_nothing_and_a_dry_run_changes_nothing() {
    let mailbox = Mailbox::many(4, 100);
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--dry-run", "--delete"]);
    assert!(
        said(&output).contains("fetch 1 (") && said(&output).contains("delete what is fetched (4"),
        "{output:?}"
    );
    assert_eq!(mailbox.messages().len(), 4);
    assert!(!site.path("Mail").exists());
    assert_eq!(code(&site.popget("fetch", &["--seen-now"])), 0);
    let output = site.fetch(&[]);
    assert!(
        said(&output).contains("4 messages, 0 new, 0 fetched"),
        "{output:?}"
    );
}

#[test]
fn new_ids_for_old_mail_are_noticed() {
    let mailbox = Mailbox::many(20, 100);
    let site = Site::new(&mailbox.start());
    assert_eq!(code(&site.fetch(&[])), 0);
    let renamed = mailbox.messages().into_iter().map(|m| Message {
        unique_id: format!("x{}", m.unique_id),
        ..m
    });
    let other = Mailbox::new(renamed.collect());
    // The record is moved to the other server's name: ports differ here.
    let port = other.start().port();
    let state = site.path(".local/state/popget");
    let old = fs::read_dir(&state)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_none_or(|e| e != "lock"))
        .unwrap();
    fs::rename(old, state.join(format!("mrose@127.0.0.1%3A{port}"))).unwrap();
    let site = Site {
        url: format!("pop3://mrose@127.0.0.1:{port}"),
        ..site
    };
    let output = site.fetch(&[]);
    assert!(
        said(&output).contains("of 20 messages known, 20 are gone and 20 are new"),
        "{output:?}"
    );
}

#[test]
fn several_accounts_of_the_configuration_are_fetched_in_one_run() {
    let first = Mailbox::many(2, 100);
    let second = Mailbox::many(3, 100);
    let site = Site::new(&first.start());
    fs::create_dir_all(site.path(".config/popget")).unwrap();
    let text = format!(
        "[defaults]\nplain = true\npassword-command = \"echo tanstaaf\"\nmbox = \"~/mbox\"\n\
         [accounts.one]\nurl = \"pop3://mrose@127.0.0.1:{}\"\n[accounts.two]\nurl = \"pop3://mrose@127.0.0.1:{}\"\n\
         [accounts.wrong]\nurl = \"pop3://other@127.0.0.1:{}\"\n",
        first.start().port(),
        second.start().port(),
        second.start().port(),
    );
    fs::write(site.path(".config/popget/popget.toml"), text).unwrap();
    let output = site.command().args(["fetch", "--json"]).output().unwrap();
    assert_eq!(code(&output), 4, "{output:?}");
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert!(
        lines[0].contains("\"account\":\"one\"") && lines[0].contains("\"fetched\":2"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("\"account\":\"two\"") && lines[1].contains("\"fetched\":3"),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("\"account\":\"wrong\"") && lines[2].contains("[AUTH]"),
        "{lines:?}"
    );
    let mbox = fs::read_to_string(site.path("mbox")).unwrap();
    assert_eq!(mbox.matches("From popget-").count(), 5);
}
