//! What is logged, where, and in which shape.

use std::fs;
use std::os::unix::net::UnixDatagram;
use system_tests::corpus;
use system_tests::poll;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

fn a_session(site: &Site) {
    site.deliver(ALICE, &corpus::mbox(&corpus::many(3)));
    let mut pop = site.login(ALICE);
    pop.listing("RETR 1");
    pop.ok("DELE 1");
    pop.ok("QUIT");
    pop.expect_closed();
}

#[test]
fn a_session_is_two_lines_with_fixed_fields() {
    Setup::new().as_ordinary_user(|site| {
        let server = site.serve();
        a_session(site);
        let login = server.await_log("the login", |line| line.starts_with("login:"));
        assert!(
            login.contains("user=alice") && login.contains("peer=127.0.0.1"),
            "{login}"
        );
        let end = server.await_log("the end", |line| line.starts_with("session ended"));
        assert!(end.contains("user=alice"), "{end}");
        let lines = server
            .log()
            .lines()
            .filter(|line| line.contains("alice"))
            .count();
        assert_eq!(lines, 2, "{}", server.log());
    });
}

#[test]
fn lines_are_json_where_configured() {
    Setup::new()
        .set("log", "format", r#""json""#)
        .as_ordinary_user(|site| {
            let server = site.serve();
            a_session(site);
            server.await_log("the end", |line| {
                line.contains(r#""event":"session ended""#)
            });
            let mut python = std::process::Command::new("/usr/bin/python3");
            python.args([
                "-c",
                "import json,sys\nfor line in sys.stdin: assert 'event' in json.loads(line)",
            ]);
            system_tests::run::to_end(&mut python, server.log().as_bytes()).expect_success("json");
        });
}

#[test]
fn syslog_gets_facility_and_ident_of_the_original() {
    Setup::new()
        .set("log", "target", r#""syslog""#)
        .as_root(|site| {
            let _server = site.serve();
            a_session(site);
            let machine = site.machine.expect("a machine");
            let line = poll::until("the login", || {
                let log = machine.syslog();
                log.lines()
                    .find(|line| line.contains("login:"))
                    .map(str::to_owned)
            });
            // daemon is facility 3, info severity 6 (RFC 3164 section 4.1.1): 3 * 8 + 6.
            assert!(line.starts_with("<30>"), "{line}");
            assert!(
                line.contains("popa3d[") && line.contains("user=alice"),
                "{line}"
            );
        });
}

#[test]
fn journald_gets_fields_of_its_own() {
    Setup::new()
        .set("log", "target", r#""journald""#)
        .as_root(|site| {
            fs::create_dir_all("/run/systemd/journal").expect("a directory");
            let journal =
                UnixDatagram::bind("/run/systemd/journal/socket").expect("the journal's socket");
            fs::set_permissions(
                "/run/systemd/journal/socket",
                std::os::unix::fs::PermissionsExt::from_mode(0o666),
            )
            .expect("its mode");
            journal.set_nonblocking(true).expect("the journal's socket");
            let _server = site.serve();
            a_session(site);
            let mut entry = [0_u8; 8192];
            let text = poll::until("the login", || {
                let octets = journal.recv(&mut entry).ok()?;
                let text = String::from_utf8_lossy(&entry[..octets]).into_owned();
                text.contains("login").then_some(text)
            });
            assert!(
                text.contains("MESSAGE=") && text.contains("PRIORITY=6"),
                "{text}"
            );
            assert!(text.contains("SYSLOG_IDENTIFIER=popa3d"), "{text}");
        });
}

#[test]
fn what_clients_send_cannot_forge_a_line() {
    let setup = Setup::new().set("auth", "failure_delay", r#""1ms""#);
    setup.as_ordinary_user(|site| {
        let server = site.serve();
        for name in [
            "alice\x1b[2J",
            "alice\rlogin: user=bob",
            "%s%n%x",
            "alice\u{202e}",
            "\u{7f}",
        ] {
            let mut pop = site.connect();
            pop.ask(&format!("USER {name}"));
            pop.ask("PASS x");
        }
        a_session(site);
        server.await_log("the end", |line| line.starts_with("session ended"));
        let log = server.log();
        assert!(
            !log.contains('\x1b') && !log.contains('\r') && !log.contains('\u{202e}'),
            "{log:?}"
        );
        assert!(
            !log.lines().any(|line| line.starts_with("login: user=bob")),
            "{log}"
        );
    });
}

#[test]
fn a_failed_login_can_be_matched_by_fail2ban() {
    let setup = Setup::new().set("auth", "failure_delay", r#""1ms""#);
    setup.as_ordinary_user(|site| {
        let server = site.serve();
        let mut pop = site.connect();
        pop.ok("USER alice");
        pop.err("PASS wrong");
        let line = server.await_log("the failure", |line| line.starts_with("login failed"));
        assert!(line.contains("peer=127.0.0.1"), "{line}");
    });
}
