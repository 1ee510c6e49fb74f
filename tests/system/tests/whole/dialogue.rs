//! A session from greeting to QUIT, in each way the server can be started.

use system_tests::corpus;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

fn whole_session(site: &Site, mut pop: system_tests::pop::Pop) {
    let messages = corpus::nasty();
    pop.login(ALICE.name, ALICE.password);
    let total: usize = messages.iter().map(|message| message.sent.len()).sum();
    assert_eq!(pop.ok("STAT"), format!("{} {total}", messages.len()));
    for (number, message) in (1..).zip(&messages) {
        assert_eq!(
            pop.ok(&format!("LIST {number}")),
            format!("{number} {}", message.sent.len())
        );
        let retrieved = pop.listing(&format!("RETR {number}"));
        assert!(
            retrieved == message.sent,
            "{} came otherwise than it was sent",
            message.name
        );
    }
    pop.ok("DELE 1");
    pop.ok("QUIT");
    pop.expect_closed();
    let left = std::fs::read(site.mailbox(ALICE)).expect("the mailbox");
    assert!(
        left == corpus::mbox(&messages[1..]),
        "the mailbox after QUIT"
    );
}

#[test]
fn root_serves_a_session_as_a_daemon() {
    Setup::new().as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::nasty()));
        let server = site.serve();
        whole_session(site, site.connect());
        server.stop();
    });
}

#[test]
fn root_serves_a_session_from_inetd() {
    Setup::new().as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::nasty()));
        let mut session = site.inetd();
        assert!(session.pop.reply().ok);
        whole_session(site, session.pop);
    });
}

#[test]
fn an_ordinary_user_serves_a_session_as_a_daemon() {
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::nasty()));
        let server = site.serve();
        whole_session(site, site.connect());
        server.stop();
    });
}
