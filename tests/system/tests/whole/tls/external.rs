//! Logins by the certificate that the client has shown (SASL EXTERNAL).

use super::{Connected, Openssl, furnish, setup, tls_address};
use std::path::Path;
use std::process::Command;
use system_tests::certificates::{Authority, DIRECTORY, HOST, Kind, Pair};
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB};
use system_tests::{corpus, mpop, poll, run};

fn with_external() -> Setup {
    let authority = format!("\"{DIRECTORY}/authority.pem\"");
    setup()
        .set("tls", "client_ca", &authority)
        .set("auth", "external_user", "\"cn\"")
}

/// A server for whom the common names of certificates are users' names, and a mailbox of Alice's.
fn with_server(body: impl FnOnce(&Site, &mut Server, &Authority) + Send) {
    with_external().as_root(|site| {
        let (authority, _) = furnish(Kind::P256, 0);
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let mut server = site.serve();
        body(site, &mut server, &authority);
    });
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn showing(openssl: Openssl, pair: &Pair) -> Openssl {
    openssl.with(&["-cert", &text(&pair.certificate), "-key", &text(&pair.key)])
}

fn capability(connected: &mut Connected) -> Option<String> {
    let lines = connected.pop.list("CAPA");
    lines.into_iter().find(|line| line.starts_with("SASL"))
}

#[test]
fn curl_logs_in_by_a_certificate_of_each_kind() {
    with_server(|site, server, authority| {
        for kind in [Kind::P256, Kind::P384, Kind::Rsa] {
            let pair = authority.issue("alice", &[], kind, 90, 0);
            let curl = |url: &str, more: &[&str]| {
                let mut curl = Command::new("/usr/bin/curl");
                curl.args(["--silent", "--show-error", "--ssl-reqd", "--cacert"])
                    .arg(format!("{DIRECTORY}/authority.pem"))
                    .args(["--cert", &text(&pair.certificate)])
                    .args(["--key", &text(&pair.key)])
                    .args(["--login-options", "AUTH=EXTERNAL"])
                    .args(["--user", &format!("{}:", ALICE.name)])
                    .args(more)
                    .arg(url);
                run::to_end(&mut curl, b"")
            };
            let stls = format!("pop3://{HOST}:{}/", site.address.port());
            let at_once = format!("pop3s://{HOST}:{}/", tls_address().port());
            for url in [&stls, &at_once] {
                let listing = curl(url, &[]).expect_success("curl");
                assert!(listing.starts_with(b"1 "), "{}", listing.escape_ascii());
            }
            // What TLS 1.2 signs proves nothing to anybody else.
            assert!(!curl(&at_once, &["--tls-max", "1.2"]).status.success());
        }
        let line = server.await_log("a login", |line| line.contains("method=EXTERNAL"));
        assert!(line.contains("user=alice") && line.contains("backend=shadow"));
        poll::until("all logins", || {
            (server.log().matches("method=EXTERNAL").count() >= 6).then_some(())
        });
    });
}

#[test]
fn mpop_logs_in_by_its_certificate() {
    with_server(|site, server, authority| {
        let pair = authority.issue("alice", &[], Kind::P256, 90, 0);
        for (port, starttls) in [(site.address.port(), "on"), (tls_address().port(), "off")] {
            let settings = format!(
                "host {HOST}\nport {port}\ntls on\ntls_starttls {starttls}\n\
                 tls_trust_file {DIRECTORY}/authority.pem\ntls_cert_file {}\ntls_key_file {}\n\
                 auth external\nuser {}",
                text(&pair.certificate),
                text(&pair.key),
                ALICE.name,
            );
            let mut mpop = mpop::fetching(&site.directory, &settings);
            let mail = run::to_end(&mut mpop, b"").expect_success("mpop");
            assert!(!mail.is_empty());
        }
        server.await_log("both logins", |_| {
            server.log().matches("method=EXTERNAL").count() == 2
        });
    });
}

#[test]
fn external_is_offered_where_a_certificate_was_shown_by_tls_1_3_and_nowhere_else() {
    with_server(|site, _, authority| {
        let pair = authority.issue("alice", &[], Kind::P256, 90, 0);
        let plain = Some("SASL PLAIN LOGIN".to_owned());
        for mut without in [
            Openssl::to(tls_address()).greeted(),
            showing(Openssl::to(tls_address()).with(&["-tls1_2"]), &pair).greeted(),
        ] {
            assert_eq!(capability(&mut without), plain);
            without.pop.err("AUTH EXTERNAL =");
            without.pop.login(ALICE.name, ALICE.password);
            assert_eq!(capability(&mut without), plain);
            without.pop.ok("QUIT");
        }
        let mut clear = site.connect();
        assert!(clear.list("CAPA").contains(&"SASL PLAIN LOGIN".to_owned()));

        let external = Some("SASL EXTERNAL PLAIN LOGIN".to_owned());
        // The second has to begin its handshake again: the server does not know the group of its first key.
        let again = ["-groups", "P-521:P-384"];
        for openssl in [
            showing(Openssl::to(tls_address()), &pair),
            showing(Openssl::to(tls_address()).with(&again), &pair),
        ] {
            let mut with = openssl.greeted();
            assert_eq!(capability(&mut with), external);
            with.pop.challenge("AUTH EXTERNAL");
            with.pop.ok("");
            assert_eq!(capability(&mut with), external, "in both states");
            assert!(with.pop.ok("STAT").starts_with("2 "));
            with.pop.ok("QUIT");
        }
        let mut stls = showing(Openssl::by_stls(site.address), &pair).connect();
        // `alice`
        stls.pop.ok("AUTH EXTERNAL YWxpY2U=");
        stls.pop.ok("QUIT");
        // The password is another way, not a second proof.
        let mut with = showing(Openssl::to(tls_address()), &pair).greeted();
        with.pop.login(BOB.name, BOB.password);
        assert_eq!(capability(&mut with), external);
        with.pop.ok("QUIT");
    });
}

#[test]
fn a_certificate_is_no_ones_but_its_users_and_no_roots() {
    with_server(|_, server, authority| {
        let bobs = authority.issue("bob", &[], Kind::P256, 90, 0);
        let mut bob = showing(Openssl::to(tls_address()), &bobs).greeted();
        // `alice`, and then nobody but bob.
        let reply = bob.pop.ask("AUTH EXTERNAL YWxpY2U=");
        assert_eq!(reply.code(), Some("AUTH"));
        bob.pop.ok("AUTH EXTERNAL =");
        assert!(bob.pop.ok("STAT").starts_with("0 "));
        bob.pop.ok("QUIT");
        server.await_log("the refusal", |line| {
            line.starts_with("login failed") && line.contains("another user")
        });
        for name in ["root", "stranger"] {
            let pair = authority.issue(name, &[], Kind::P256, 90, 0);
            let mut refused = showing(Openssl::to(tls_address()), &pair).greeted();
            let reply = refused.pop.ask("AUTH EXTERNAL =");
            assert_eq!(reply.code(), Some("AUTH"), "{name}");
        }
    });
}

#[test]
fn a_certificate_whose_time_is_over_does_not_get_through_the_handshake() {
    with_server(|_, server, authority| {
        // To the second.
        let pair = authority.issue("alice", &[], Kind::P256, 0, 0);
        poll::until("its end", || {
            let mut ended = showing(Openssl::to(tls_address()), &pair).connect();
            ended.pop.try_reply().is_none().then_some(())
        });
        server.await_log("the refusal", |line| {
            line.starts_with("connection lost") && line.contains("certificate expired")
        });
    });
}

#[test]
fn after_a_reload_it_is_the_new_authorities_that_count() {
    with_server(|_, server, authority| {
        let old = authority.issue("alice", &[], Kind::P256, 90, 0);
        let mut begun = showing(Openssl::to(tls_address()), &old).greeted();
        // Another authority and another certificate of the server's, in the same files.
        let newer = Authority::new();
        newer.issue("mail", &[HOST], Kind::P384, 90, 0);
        server.reload();
        server.await_log("the new one", |line| line.contains("key=EcdsaP384"));
        let new = newer.issue("bob", &[], Kind::P256, 90, 0);
        poll::until("a login by the new one", || {
            let mut bob = showing(Openssl::to(tls_address()), &new).connect();
            let greeted = bob.pop.try_reply().is_some_and(|greeting| greeting.ok);
            (greeted && bob.pop.ask("AUTH EXTERNAL =").ok).then_some(())
        });
        let reply = begun.pop.ask("AUTH EXTERNAL =");
        assert_eq!(reply.code(), Some("AUTH"));
    });
}
