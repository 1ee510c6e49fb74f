//! Handshakes that are none, and those of all kinds that are.

use super::{Openssl, setup, tls_address, with_server};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use system_tests::certificates::Kind;
use system_tests::corpus;
use system_tests::poll;
use system_tests::pop::Pop;
use system_tests::server::Server;
use system_tests::users::ALICE;

/// Waits until so many connections have been logged as lost.
fn await_lost(server: &Server, connections: usize) {
    poll::until("the last log line", || {
        let lost = server.log().matches("connection lost").count();
        assert!(lost <= connections, "{}", server.log());
        (lost == connections).then_some(())
    });
}

#[test]
fn both_versions_with_each_kind_of_key() {
    for kind in [Kind::Rsa, Kind::P256, Kind::P384] {
        with_server(setup(), kind, |site, server| {
            site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
            for version in ["-tls1_2", "-tls1_3"] {
                let mut at_once = Openssl::to(tls_address()).with(&[version]).greeted();
                at_once.pop.login(ALICE.name, ALICE.password);
                at_once.pop.ok("QUIT");
                at_once.pop.expect_closed();
                let mut stls = Openssl::by_stls(site.address).with(&[version]).connect();
                stls.pop.login(ALICE.name, ALICE.password);
                stls.pop.ok("QUIT");
                stls.pop.expect_closed();
            }
            let log = poll::until("the end of the last session", || {
                let log = server.log();
                (log.matches("session ended").count() == 4).then_some(log)
            });
            assert_eq!(log.matches("version=TLSv1_2").count(), 2, "{log}");
            assert_eq!(log.matches("version=TLSv1_3").count(), 2, "{log}");
            assert!(
                !log.contains("died") && !log.contains("connection lost"),
                "{log}"
            );
        });
    }
}

#[test]
fn older_versions_and_renegotiation_are_refused() {
    with_server(setup(), Kind::P256, |_, server| {
        let mut old = Openssl::to(tls_address())
            .with(&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"])
            .connect();
        old.pop.expect_closed();
        server.await_log("the refusal", |line| line.starts_with("connection lost"));
        // openssl's client asks for it at a line that is only an R.
        let mut renegotiating = Openssl::to(tls_address())
            .with(&["-tls1_2", "-no_ign_eof"])
            .greeted();
        renegotiating.pop.ok("CAPA");
        renegotiating.pop.lines();
        renegotiating.pop.send(b"R\n");
        renegotiating.pop.rest();
        server.await_log("a session's end", |line| line.contains("version=TLSv1_2"));
        assert!(!server.log().contains("died"), "{}", server.log());
    });
}

#[test]
fn junk_on_the_tls_port_ends_that_connection_and_is_logged() {
    with_server(setup(), Kind::P256, |_, server| {
        for junk in [
            b"CAPA\r\n".to_vec(),
            vec![b'x'; 100_000],
            vec![0x16; 100_000],
        ] {
            let mut client = TcpStream::connect(tls_address()).expect("a connection");
            client
                .set_read_timeout(Some(Duration::from_secs(20)))
                .expect("a time-out");
            let _closed = client.write_all(&junk);
            let mut answer = Vec::new();
            let _reset = client.read_to_end(&mut answer);
            // An alert at most.
            assert!(answer.len() <= 7, "{}", answer.escape_ascii());
        }
        server.await_log("the reason", |line| {
            line.contains("the client does not speak TLS")
        });
        await_lost(server, 3);
    });
}

#[test]
fn tls_on_the_plaintext_port_is_logged_as_that() {
    with_server(setup(), Kind::P256, |site, server| {
        let mut client = Openssl::to(site.address).connect();
        client.pop.expect_closed();
        server.await_log("the reason", |line| {
            line.contains("TLS on a plaintext port")
        });
    });
}

#[test]
fn nothing_that_follows_stls_in_the_clear_is_a_command() {
    with_server(setup(), Kind::P256, |site, server| {
        let input = b"STLS\r\nUSER mallory\r\nCAPA\r\n";
        for cut in 6..=input.len() {
            let mut client = TcpStream::connect(site.address).expect("a connection");
            client.set_nodelay(true).expect("an option");
            client
                .set_read_timeout(Some(Duration::from_secs(20)))
                .expect("a time-out");
            let (first, rest) = input.split_at(cut);
            let _closed = client
                .write_all(first)
                .and_then(|()| client.write_all(rest));
            let mut answer = Vec::new();
            let _reset = client.read_to_end(&mut answer);
            let text = String::from_utf8_lossy(&answer);
            // The greeting, and an answer to STLS.
            assert!(text.matches("+OK").count() <= 2, "{cut}: {text}");
            assert!(!text.contains("UIDL"), "{cut}: {text}");
        }
        await_lost(server, 1 + input.len() - 6);
    });
}

#[test]
fn a_silent_client_on_the_tls_port_is_dropped_in_time() {
    let setup = setup().set("limits", "login_timeout", "\"1s\"");
    with_server(setup, Kind::P256, |_, server| {
        let mut silent = Pop::dial(tls_address());
        silent.expect_closed();
        let mut half = Pop::dial(tls_address());
        half.send(b"\x16\x03\x01");
        // TLS says goodbye even so.
        assert!(half.rest().len() <= 7);
        server.await_log("the time-out", |line| line.contains("time-out"));
    });
}

#[test]
fn a_client_that_stalls_costs_bounded_memory() {
    with_server(setup(), Kind::P256, |site, server| {
        site.deliver(ALICE, &corpus::mbox(&[corpus::big()]));
        let mut client = Openssl::to(tls_address()).greeted();
        client.pop.login(ALICE.name, ALICE.password);
        let session = server.role("session");
        let before = session.resident_kib();
        // Twenty megabytes that are not read.
        client.pop.send_line("RETR 1");
        assert!(client.pop.arrived(Duration::from_secs(20)) > 0);
        let after = session.resident_kib();
        assert!(after < before + 1024, "{before} KiB, then {after} KiB");
        let message = client.pop.reply();
        assert!(message.ok);
        assert!(client.pop.lines().len() >= corpus::BIG_OCTETS);
        client.pop.ok("QUIT");
        client.pop.expect_closed();
        let last = session.resident_kib();
        assert!(last < before + 1024, "{before} KiB, then {last} KiB");
    });
}
