//! A session from greeting to QUIT, in each way the server can be started.

use system_tests::corpus;
use system_tests::pop::Pop;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, PEOPLE};
use system_tests::{inetd, poll};

fn whole_session(site: &Site, mut pop: Pop) {
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

#[test]
fn inetd_may_give_a_pair_of_pipes() {
    let session = |site: &Site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::nasty()));
        let mut session = inetd::start_on_pipes(site.command());
        assert!(session.pop.reply().ok);
        whole_session(site, session.pop);
        let status = poll::until("its end", || session.server.try_wait().expect("its state"));
        assert!(status.success(), "{status}");
    };
    Setup::new().as_root(session);
    Setup::new().as_ordinary_user(session);
}

#[test]
fn an_ordinary_user_serves_a_session_from_inetd() {
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::nasty()));
        let mut session = site.inetd();
        assert!(session.pop.reply().ok);
        whole_session(site, session.pop);
    });
}

#[test]
fn without_a_configuration_it_is_debians_popa3d() {
    Setup::new().as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::nasty()));
        let mut session = inetd::start(site.bare_command());
        assert!(session.pop.reply().ok);
        whole_session(site, session.pop);
        let mut daemon = site.bare_command();
        daemon.args(["-D", "-f"]);
        let server = Server::start(daemon, &site.directory);
        site.deliver(ALICE, &corpus::mbox(&corpus::nasty()));
        whole_session(site, site.connect());
        server.stop();
    });
}

#[test]
fn eight_sessions_are_served_at_once() {
    Setup::new().as_root(|site| {
        let mail = &[corpus::big()];
        let _server = site.serve();
        std::thread::scope(|scope| {
            for user in PEOPLE {
                site.deliver(user, &corpus::mbox(mail));
                for _ in 0..2 {
                    scope.spawn(move || {
                        // The second of a user waits until the first has gone.
                        let mut pop = poll::until("the maildrop", || {
                            let mut pop = site.connect();
                            pop.ok(&format!("USER {}", user.name));
                            pop.ask(&format!("PASS {}", user.password))
                                .ok
                                .then_some(pop)
                        });
                        assert!(pop.listing("RETR 1") == mail[0].sent);
                        pop.ok("QUIT");
                        pop.expect_closed();
                    });
                }
            }
        });
    });
}

#[test]
fn several_addresses_of_both_families_are_served() {
    let addresses = ["127.0.0.1:110", "127.0.0.2:1110", "[::1]:110"];
    Setup::new()
        .set("", "listen", &format!("{addresses:?}"))
        .as_root(|site| {
            site.deliver(ALICE, &corpus::mbox(&corpus::many(1)));
            let _server = site.serve();
            for address in addresses {
                let mut pop = Pop::connect(address.parse().expect("an address"));
                pop.login(ALICE.name, ALICE.password);
                assert!(pop.ok("STAT").starts_with("1 "));
                pop.ok("QUIT");
                pop.expect_closed();
            }
        });
}

#[test]
fn the_daemon_and_inetd_exclude_each_other_from_a_maildrop() {
    Setup::new().as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let _server = site.serve();
        let mut first = site.login(ALICE);
        let mut session = site.inetd();
        assert!(session.pop.reply().ok);
        session.pop.ok(&format!("USER {}", ALICE.name));
        let refused = session.pop.ask(&format!("PASS {}", ALICE.password));
        assert_eq!((refused.ok, refused.code()), (false, Some("IN-USE")));
        first.ok("QUIT");
    });
}
