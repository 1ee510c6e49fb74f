//! Who may log in how, and what CAPA says of it.

use super::{Openssl, setup, tls_address, with_server, with_users_server};
use system_tests::certificates::Kind;
use system_tests::corpus;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

fn set(site: &Site) {
    site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
}

/// The capabilities without what is always there.
fn capabilities(pop: &mut system_tests::pop::Pop) -> Vec<String> {
    let mut tags = pop.list("CAPA");
    tags.sort();
    tags
}

#[test]
fn both_states_list_the_same_but_stls() {
    with_server(setup(), Kind::P256, |site, _| {
        set(site);
        let mut clear = site.connect();
        let before = capabilities(&mut clear);
        assert!(before.contains(&"STLS".to_owned()));
        assert!(before.contains(&"USER".to_owned()), "on loopback");
        clear.login(ALICE.name, ALICE.password);
        let after = capabilities(&mut clear);
        assert_eq!(after, without_stls(&before));
        clear.ok("QUIT");

        let mut tls = Openssl::to(tls_address()).greeted();
        let before = capabilities(&mut tls.pop);
        assert_eq!(before, without_stls(&before));
        tls.pop.login(ALICE.name, ALICE.password);
        assert_eq!(capabilities(&mut tls.pop), before);
        tls.pop.ok("QUIT");
        tls.pop.expect_closed();
    });
}

fn without_stls(tags: &[String]) -> Vec<String> {
    tags.iter().filter(|tag| *tag != "STLS").cloned().collect()
}

#[test]
fn never_means_that_no_password_is_asked_for_in_the_clear() {
    let setup = setup().set("auth", "cleartext", "\"never\"");
    with_users_server(setup, |site, server| {
        set(site);
        let mut clear = site.connect();
        let tags = capabilities(&mut clear);
        assert!(tags.contains(&"STLS".to_owned()) && !tags.contains(&"USER".to_owned()));
        let right = clear.err(&format!("USER {}", ALICE.name));
        assert_eq!(clear.err("USER nobody-of-that-name"), right);
        assert_eq!(clear.err(&format!("PASS {}", ALICE.password)), right);
        assert!(!right.starts_with('['), "{right}");
        clear.err("APOP alice 0123456789abcdef0123456789abcdef");
        clear.ok("QUIT");
        assert!(!server.log().contains("login"), "{}", server.log());

        let mut tls = Openssl::by_stls(site.address).connect();
        tls.pop.login(ALICE.name, ALICE.password);
        assert!(tls.pop.ok("STAT").starts_with("2 "));
        tls.pop.ok("QUIT");
        tls.pop.expect_closed();
    });
}

#[test]
fn networks_may_be_excepted() {
    let setup = setup().set("auth", "cleartext", "\"never\"").set(
        "auth",
        "cleartext_networks",
        "[\"127.0.0.0/8\"]",
    );
    with_server(setup, Kind::P256, |site, _| {
        set(site);
        let mut clear = site.login(ALICE);
        clear.ok("QUIT");
    });
}

#[test]
fn without_tls_nothing_has_changed() {
    Setup::new().as_root(|site| {
        set(site);
        let server = site.serve();
        let mut clear = site.connect();
        let tags = capabilities(&mut clear);
        assert!(tags.contains(&"USER".to_owned()) && !tags.contains(&"STLS".to_owned()));
        clear.err("STLS");
        let keyholders = server.processes();
        assert!(
            keyholders
                .iter()
                .all(|process| process.title() != "popa3d: keyholder")
        );
    });
}

#[test]
fn a_session_from_inetd_has_stls() {
    setup().as_root(|site| {
        super::furnish(Kind::P256, 0);
        set(site);
        let mut session = site.inetd();
        assert!(session.pop.reply().ok);
        assert!(capabilities(&mut session.pop).contains(&"STLS".to_owned()));
        session.pop.login(ALICE.name, ALICE.password);
        assert!(session.pop.ok("STAT").starts_with("2 "));
        session.pop.ok("QUIT");
        assert!(session.end().success());
    });
}
