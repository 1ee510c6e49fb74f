//! From one format of maildrop to the other and back.

use super::clients::Clients;
use super::{deliver_mbox, done, mail, popa3ctl, twins};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use system_tests::corpus;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

/// What a client sees of the maildrop: sizes, ids, messages.
fn view(site: &Site) -> (Vec<String>, Vec<String>, Vec<Vec<u8>>) {
    let mut pop = site.login(ALICE);
    let (sizes, ids) = (pop.list("LIST"), pop.list("UIDL"));
    let messages = (1..=sizes.len())
        .map(|number| pop.listing(&format!("RETR {number}")))
        .collect();
    pop.ok("QUIT");
    (sizes, ids, messages)
}

#[test]
fn a_maildrop_is_the_same_in_each_format_for_every_client() {
    Setup::new().as_root(|site| {
        deliver_mbox(&[mail(), twins()].concat());
        let server = site.serve();
        let clients = Clients::new(site);
        assert_eq!(clients.fetch(), [14; 2]);
        let before = view(site);
        let server = {
            drop(server);
            let said = done(site, &["convert", ALICE.name, "--to", "maildir:%h/Maildir"]);
            assert!(
                said.contains("14 messages are in /home/alice/Maildir"),
                "{said}"
            );
            site.reconfigure(|setup| setup.set("maildrop", "location", r#""maildir:%h/Maildir""#));
            site.serve()
        };
        assert_eq!(view(site), before);
        assert_eq!(clients.fetch(), [0; 2], "{}", server.log());
        drop(server);
        // Into the spool, where the mailbox still is.
        let back = [
            "convert",
            ALICE.name,
            "--to",
            "mbox:/var/mail/%u",
            "--remove-source",
        ];
        let refused = popa3ctl(site, &back);
        assert!(
            refused.errors.contains("something is there"),
            "{}",
            refused.errors
        );
        fs::remove_file("/var/mail/alice").expect("the old mailbox");
        done(site, &back);
        let left = ["new", "cur"].map(|name| {
            let path = Path::new("/home/alice/Maildir").join(name);
            fs::read_dir(path).expect("a Maildir").count()
        });
        assert_eq!(left, [0; 2], "messages left");
        site.reconfigure(|setup| setup.set("maildrop", "location", r#""mbox:/var/mail/%u""#));
        let server = site.serve();
        assert_eq!(view(site), before);
        assert_eq!(clients.fetch(), [0; 2], "{}", server.log());
    });
}

#[test]
fn mail_that_has_broken_other_servers_is_converted_octet_for_octet() {
    Setup::new().as_root(|site| {
        let nasty = corpus::nasty();
        site.deliver(ALICE, &corpus::mbox(&nasty));
        let server = site.serve();
        let before = view(site);
        assert_eq!(before.0.len(), nasty.len());
        // Sessions and a conversion keep each other off.
        let to = ["convert", ALICE.name, "--to", "maildir:%h/Maildir"];
        let pop = site.login(ALICE);
        let refused = popa3ctl(site, &to);
        let expected = "a session has the maildrop";
        assert!(refused.errors.contains(expected), "{}", refused.errors);
        drop(pop);
        drop(server);
        // What a conversion that was killed has left.
        let left = "/home/alice/Maildir.popa3ctl-new";
        fs::create_dir(left).expect("a directory");
        chown(left, Some(ALICE.id), Some(ALICE.id)).expect("an owner");
        done(site, &to);
        assert!(!Path::new(left).exists());
        site.reconfigure(|setup| setup.set("maildrop", "location", r#""maildir:%h/Maildir""#));
        let _server = site.serve();
        assert_eq!(view(site), before);
    });
}

#[test]
fn what_cannot_be_the_same_in_an_mbox_is_not_converted() {
    Setup::new()
        .set("maildrop", "location", r#""maildir:%h/Maildir""#)
        .as_root(|site| {
            let unfit = "Subject: x\n\nFrom here on it is another message.\n".to_owned();
            super::deliver_maildir(&[mail(), vec![unfit]].concat(), 0);
            let refused = popa3ctl(site, &["convert", ALICE.name, "--to", "mbox:%h/mbox"]);
            assert_eq!(refused.status.code(), Some(1));
            let expected = "message 11 would not be the same there";
            assert!(refused.errors.contains(expected), "{}", refused.errors);
            let names: Vec<_> = fs::read_dir("/home/alice")
                .expect("a home")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            assert_eq!(names, ["Maildir"]);
        });
}
