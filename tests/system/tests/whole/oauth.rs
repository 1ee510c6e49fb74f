//! Logins with access tokens: OAUTHBEARER and XOAUTH2, by hand, by real clients, and with a token role in trouble.

use net_pop3::blocking::Pop3;
use net_pop3::{Credentials, Security};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use system_tests::pop::Pop;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::tokens::{AUDIENCE, ISSUER, Issuer, claims, oauthbearer, xoauth2};
use system_tests::users::{ALICE, BOB};
use system_tests::{mpop, poll, run};

const MAIL: &[u8] = b"From a Thu Jan  1 00:00:00 1970\nSubject: one\n\nlooking-glass\n";

/// `\x01` in base64: how a client answers the challenge that tells it why.
const DONE: &str = "AQ==";

/// Where the server of the tests that issued the tokens would be.
const PORT: u16 = 4080;

/// What a client is told of a bad token, in base64.
const INVALID: &str = "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NoZW1lcyI6ImJlYXJlciJ9";

/// Key sets are looked for in `keys.json` of the site's directory, which has its place once there is a site.
fn setup() -> Setup {
    Setup::new()
        .set("limits", "login_attempts", "100")
        .set("auth", "failure_delay", "\"0s\"")
        .set("oauth", "issuer", &format!("\"{ISSUER}\""))
        .set("oauth", "audience", &format!("[\"{AUDIENCE}\"]"))
        .set("oauth", "user_claim", "\"preferred_username\"")
}

/// Runs `body` with a server whose users' tokens this issuer signs.
fn with_keys(site: &Site, body: impl FnOnce(&Site, &mut Server, &Issuer)) {
    let issuer = Issuer::new();
    let keys = issuer.publish(&site.directory);
    site.reconfigure(|setup| setup.set("oauth", "keys", &format!("{keys:?}")));
    site.deliver(ALICE, MAIL);
    body(site, &mut site.serve(), &issuer);
}

fn as_root(body: impl FnOnce(&Site, &mut Server, &Issuer) + Send) {
    setup().as_root(|site| with_keys(site, body));
}

fn as_ordinary_user(body: impl FnOnce(&Site, &mut Server, &Issuer) + Send) {
    setup().as_ordinary_user(|site| with_keys(site, body));
}

/// Refused, after the challenge that says why.
fn assert_refused(pop: &mut Pop, line: &str) {
    assert_eq!(pop.challenge(line), INVALID);
    let refused = pop.err(DONE);
    assert!(refused.starts_with("[AUTH] "), "{refused}");
}

fn log_in_by_token(site: &Site, token: &str) {
    let mut pop = site.connect();
    pop.ok(&format!("AUTH OAUTHBEARER {}", oauthbearer("", token)));
    assert!(pop.ok("STAT").starts_with("1 "));
    pop.ok("QUIT");
    pop.expect_closed();
}

#[test]
fn a_token_logs_in_by_both_mechanisms_in_both_forms_however_long_it_is() {
    let check = |site: &Site, server: &mut Server, issuer: &Issuer| {
        let capabilities = site.connect().list("CAPA");
        let sasl = capabilities.iter().find(|line| line.starts_with("SASL"));
        assert!(sasl.expect("SASL").contains(" OAUTHBEARER XOAUTH2 PLAIN"));
        for padding in [0, 500, 30_000] {
            let token = issuer.token(ALICE.name, padding);
            for (mechanism, message) in [
                ("OAUTHBEARER", oauthbearer("a=alice", &token)),
                ("XOAUTH2", xoauth2(ALICE.name, &token)),
            ] {
                let mut pop = site.connect();
                pop.ok(&format!("AUTH {mechanism} {message}"));
                assert!(pop.ok("STAT").starts_with("1 "));
                pop.ok("QUIT");
                pop.expect_closed();
                poll::until("the maildrop", || {
                    let mut pop = site.connect();
                    assert_eq!(pop.challenge(&format!("AUTH {mechanism}")), "");
                    let reply = pop.ask(&message);
                    assert!(reply.ok || reply.code() == Some("IN-USE"), "{reply:?}");
                    reply.ok.then_some(())
                });
                let method = format!("method={mechanism} ");
                server.await_log("the login", |line| {
                    line.starts_with("login: ") && line.contains(&method)
                });
            }
        }
        assert!(!server.log().contains("eyJ"), "a token in the log");
    };
    as_root(check);
    as_ordinary_user(check);
}

#[test]
fn a_token_that_is_not_good_or_not_this_users_is_refused_in_the_form_of_rfc_7628() {
    as_root(|site, server, issuer| {
        let mut pop = site.connect();
        let expired = issuer.sign(&claims(ALICE.name, 1000, AUDIENCE, 0));
        let foreign = issuer.sign(&claims(ALICE.name, 4_000_000_000, "other", 0));
        let stranger = Issuer::new().token(ALICE.name, 0);
        for (token, reason) in [
            (expired.as_str(), "token has expired"),
            (&foreign, "token is for another audience"),
            (&stranger, "token has a wrong signature"),
            ("nonsense", "token is no signed JSON web token"),
            (&issuer.token("root", 0), "root or without a user"),
            (&issuer.token("nobody-here", 0), "unknown user"),
        ] {
            assert_refused(
                &mut pop,
                &format!("AUTH OAUTHBEARER {}", oauthbearer("", token)),
            );
            server.await_log(reason, |line| {
                line.starts_with("login failed: ") && line.contains(reason)
            });
        }
        let good = issuer.token(ALICE.name, 0);
        assert_refused(
            &mut pop,
            &format!("AUTH OAUTHBEARER {}", oauthbearer("a=bob", &good)),
        );
        assert_refused(&mut pop, &format!("AUTH XOAUTH2 {}", xoauth2("bob", &good)));
        // A message that is none, and an exchange that is given up.
        pop.err("AUTH OAUTHBEARER AAAA");
        pop.challenge("AUTH XOAUTH2");
        pop.err("*");
        // An empty token only asks what is needed.
        let asking = oauthbearer("", "");
        assert_refused(&mut pop, &format!("AUTH OAUTHBEARER {asking}"));
        pop.ok(&format!("AUTH XOAUTH2 {}", xoauth2(ALICE.name, &good)));
    });
}

#[test]
fn a_token_is_not_asked_for_where_a_password_would_not_be() {
    setup()
        .set("auth", "cleartext", "\"never\"")
        .as_root(|site| {
            with_keys(site, |site, _, issuer| {
                let mut pop = site.connect();
                assert!(!pop.list("CAPA").iter().any(|line| line.contains("OAUTH")));
                pop.err(&format!(
                    "AUTH OAUTHBEARER {}",
                    oauthbearer("", &issuer.token(ALICE.name, 0))
                ));
            });
        });
}

#[test]
fn our_own_client_logs_in_with_a_token() {
    as_ordinary_user(|site, _, issuer| {
        for padding in [0, 2000] {
            let credentials = Credentials::token(ALICE.name, issuer.token(ALICE.name, padding));
            let enter = || {
                let builder = Pop3::builder()
                    .host(site.address.ip().to_string())
                    .port(site.address.port())
                    .security(Security::Plain);
                builder
                    .connect()
                    .expect("a connection")
                    .login(&credentials)
                    .ok()
            };
            let mut session = poll::until("the maildrop", enter);
            assert_eq!(session.stat().expect("STAT").messages, 1);
            session.quit().expect("QUIT");
        }
        let credentials = Credentials::token(BOB.name, issuer.token(ALICE.name, 0));
        let builder = Pop3::builder()
            .host(site.address.ip().to_string())
            .port(site.address.port())
            .security(Security::Plain);
        let refused = builder.connect().expect("a connection").login(&credentials);
        assert!(refused.is_err());
    });
}

#[test]
fn curl_logs_in_with_a_token() {
    if !run::is_installed("curl") {
        return run::skipped("needs curl");
    }
    for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
        let only = format!("[\"{mechanism}\"]");
        setup().set("auth", "mechanisms", &only).as_root(|site| {
            with_keys(site, |site, server, issuer| {
                for padding in [0, 2000] {
                    let token = issuer.token(ALICE.name, padding);
                    let fetch = || {
                        let outcome = run::to_end(&mut curl(site, &token), b"");
                        outcome.status.success().then_some(outcome.output)
                    };
                    let mail = poll::until("the maildrop", fetch);
                    assert!(String::from_utf8_lossy(&mail).contains("looking-glass"));
                }
                let method = format!("method={mechanism} ");
                server.await_log("the logins", |line| line.contains(&method));
                // CURLE_LOGIN_DENIED.
                let refused = run::to_end(&mut curl(site, "nonsense"), b"");
                assert_eq!(refused.status.code(), Some(67));
            });
        });
    }
}

fn curl(site: &Site, token: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--user", ALICE.name])
        .args([
            "--oauth2-bearer",
            token,
            &format!("pop3://{}/1", site.address),
        ]);
    curl
}

#[test]
fn mpop_logs_in_with_a_token() {
    as_root(|site, server, issuer| {
        let token = issuer.token(ALICE.name, 0);
        for (mechanism, method) in [("oauthbearer", "OAUTHBEARER"), ("xoauth2", "XOAUTH2")] {
            let fetch = |token: &str| {
                let settings = format!(
                    "host {}\nport {}\ntls off\nauth {mechanism}\nuser {}\npassword {token}",
                    site.address.ip(),
                    site.address.port(),
                    ALICE.name,
                );
                run::to_end(&mut mpop::fetching(&site.directory, &settings), b"")
            };
            let mail = fetch(&token).expect_success("mpop");
            assert!(String::from_utf8_lossy(&mail).contains("looking-glass"));
            let method = format!("method={method} ");
            server.await_log("the login", |line| {
                line.starts_with("login: ") && line.contains(&method)
            });
            assert!(!fetch("nonsense").status.success());
        }
    });
}

#[test]
fn a_token_role_that_is_killed_comes_back_and_other_logins_go_on() {
    as_root(|site, server, issuer| {
        site.deliver(BOB, MAIL);
        let token = issuer.token(ALICE.name, 0);
        log_in_by_token(site, &token);
        for _ in 0..3 {
            let killed = server.role("token");
            killed.kill();
            site.login(BOB).ok("STAT");
            poll::until("a login by token", || {
                let mut pop = site.connect();
                let reply = pop.ask(&format!("AUTH OAUTHBEARER {}", oauthbearer("", &token)));
                assert!(
                    reply.ok || matches!(reply.code(), Some("SYS/TEMP" | "IN-USE")),
                    "{reply:?}"
                );
                reply.ok.then_some(())
            });
            assert_ne!(server.role("token"), killed);
        }
    });
}

#[test]
fn newer_keys_count_from_a_reload_and_bad_ones_change_nothing() {
    as_root(|site, server, issuer| {
        let old = issuer.token(ALICE.name, 0);
        let keys = site.directory.join("keys.json");
        let reload_in_vain = |server: &mut Server, reason: &str| {
            server.reload();
            server.await_log(reason, |line| {
                line.starts_with("configuration kept: ") && line.contains(reason)
            });
            log_in_by_token(site, &old);
        };
        fs::write(&keys, "{}").expect("keys");
        reload_in_vain(server, "is no JWK set");
        issuer.publish(&site.directory);
        fs::set_permissions(&keys, Permissions::from_mode(0o666)).expect("a mode");
        reload_in_vain(server, "others than its owner");
        let checked = site.command().arg("-t").output().expect("the server");
        assert!(!checked.status.success());
        fs::remove_file(&keys).expect("no keys");
        reload_in_vain(server, "No such file");

        let newer = Issuer::new();
        newer.publish(&site.directory);
        server.reload();
        let token = newer.token(ALICE.name, 0);
        poll::until("the newer keys", || {
            let mut pop = site.connect();
            let line = format!("AUTH OAUTHBEARER {}", oauthbearer("", &token));
            pop.send_line(&line);
            let answer = pop.try_reply();
            answer.is_some_and(|reply| reply.ok).then_some(())
        });
        assert_refused(
            &mut site.connect(),
            &format!("AUTH OAUTHBEARER {}", oauthbearer("", &old)),
        );
    });
}

/// A server that answers each request with this JSON, or not at all; and the requests.
fn introspection(json: Option<&'static str>) -> Receiver<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).expect("a port");
    let (requests, received) = mpsc::channel();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 4096];
            let octets = stream.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..octets]).into_owned();
            if requests.send(text).is_err() {
                return;
            }
            if let Some(json) = json {
                let length = json.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
                );
                let _gone = stream.write_all((head + json).as_bytes());
            } else {
                open.push(stream);
            }
        }
    });
    received
}

fn asking(timeout: &str) -> Setup {
    let secret = "/etc/popa3d-oauth-secret";
    setup()
        .set(
            "oauth",
            "introspection",
            &format!("\"http://127.0.0.1:{PORT}/introspect\""),
        )
        .set("oauth", "client_id", "\"popa3d\"")
        .set("oauth", "client_secret", &format!("\"{secret}\""))
        .set("oauth", "timeout", &format!("\"{timeout}\""))
}

fn write_secret() {
    fs::write("/etc/popa3d-oauth-secret", "s3cret\n").expect("a secret");
    fs::set_permissions("/etc/popa3d-oauth-secret", Permissions::from_mode(0o600)).expect("a mode");
}

#[test]
fn an_issuer_that_is_asked_says_whose_token_it_is() {
    asking("10s").as_root(|site| {
        write_secret();
        site.deliver(ALICE, MAIL);
        let requests = introspection(Some(
            r#"{"active":true,"preferred_username":"alice","aud":"popa3d"}"#,
        ));
        let _server = site.serve();
        log_in_by_token(site, "opaque");
        let request = requests.recv().expect("a request");
        assert!(
            request.starts_with("POST /introspect HTTP/1.1\r\n"),
            "{request}"
        );
    });
}

#[test]
fn an_issuer_that_hangs_delays_nobody_who_has_a_password() {
    asking("3s").as_root(|site| {
        write_secret();
        site.deliver(ALICE, MAIL);
        let requests = introspection(None);
        let server = site.serve();
        let line = format!("AUTH OAUTHBEARER {}", oauthbearer("", "opaque"));
        let mut waiting: Vec<Pop> = (0..10).map(|_| site.connect()).collect();
        waiting.iter_mut().for_each(|pop| pop.send_line(&line));
        drop(requests.recv().expect("a request"));
        site.login(ALICE).ok("STAT");
        for pop in &mut waiting {
            let reply = pop.reply();
            assert_eq!(reply.code(), Some("SYS/TEMP"), "{}", server.log());
        }
    });
}
