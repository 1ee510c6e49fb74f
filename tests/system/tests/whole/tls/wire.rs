//! What goes over the wire, octet by octet: handshakes in the smallest pieces, and nothing in the clear behind STLS.
//!
//! That a client takes nothing either that comes behind the reply to STLS is shown where the client is:
//! `octets_injected_behind_stls_are_an_error_before_any_credential` and its neighbour in `crates/net-pop3/tests/tls.rs`.

use super::{Openssl, setup, tls_address, with_server};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use system_tests::certificates::Kind;
use system_tests::corpus;
use system_tests::poll;
use system_tests::pop::Pop;
use system_tests::users::ALICE;

/// What TLS's records say they are (RFC 8446 section 5.1): change_cipher_spec, alert, handshake, application_data.
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=23;

/// Octets of an alert in the clear, its record's header among them.
const ALERT_OCTETS: usize = 7;

/// A wire to `server` for one client, which cuts what the client sends to single octets, a segment each. Ends with what the
/// server has sent.
fn one_octet_a_segment(server: SocketAddr) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its number");
    let wire = thread::spawn(move || {
        let (mut from_client, _) = listener.accept().expect("the client");
        let mut to_client = from_client.try_clone().expect("a descriptor");
        let mut to_server = TcpStream::connect(server).expect("the server");
        to_server.set_nodelay(true).expect("an option");
        let mut from_server = to_server.try_clone().expect("a descriptor");
        let down = thread::spawn(move || {
            let mut sent = Vec::new();
            let mut block = [0; 4096];
            while let Ok(octets @ 1..) = from_server.read(&mut block) {
                sent.extend_from_slice(&block[..octets]);
                let _closed = to_client.write_all(&block[..octets]);
            }
            let _closed = to_client.shutdown(Shutdown::Both);
            sent
        });
        let mut octet = [0];
        while let Ok(1) = from_client.read(&mut octet) {
            if to_server.write_all(&octet).is_err() {
                break;
            }
        }
        let _closed = to_server.shutdown(Shutdown::Write);
        down.join().expect("what the server sent")
    });
    (address, wire)
}

/// How many records `octets` are, to the last octet.
fn records(mut octets: &[u8]) -> usize {
    let mut count = 0;
    while let [kind, 3, 1..=4, high, low, rest @ ..] = octets {
        assert!(CONTENT_TYPES.contains(kind), "{}", octets.escape_ascii());
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        octets = rest.get(length..).expect("a whole record");
        count += 1;
    }
    assert!(octets.is_empty(), "in the clear: {}", octets.escape_ascii());
    count
}

/// What is behind so many lines.
fn behind_lines(octets: &[u8], lines: usize) -> &[u8] {
    let mut rest = octets;
    for _ in 0..lines {
        let end = rest.iter().position(|octet| *octet == b'\n');
        rest = &rest[end.expect("a line") + 1..];
    }
    rest
}

#[test]
fn a_handshake_in_pieces_of_one_octet_is_one() {
    with_server(setup(), Kind::P256, |site, server| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        for version in ["-tls1_2", "-tls1_3"] {
            // The greeting, and the reply to STLS.
            for (address, lines_in_the_clear) in [(tls_address(), 0), (site.address, 2)] {
                let (wire, sent) = one_octet_a_segment(address);
                let openssl = match lines_in_the_clear {
                    0 => Openssl::to(wire),
                    _ => Openssl::by_stls(wire),
                };
                let mut client = openssl.with(&[version]).connect();
                if lines_in_the_clear == 0 {
                    assert!(client.pop.reply().ok);
                }
                client.pop.login(ALICE.name, ALICE.password);
                assert!(client.pop.ok("STAT").starts_with("2 "));
                client.pop.ok("QUIT");
                client.pop.expect_closed();
                drop(client);
                let sent = sent.join().expect("the wire");
                // A handshake's, three replies', and TLS's end at least.
                let records = records(behind_lines(&sent, lines_in_the_clear));
                assert!(records >= 6, "{records} records");
            }
        }
        let log = server.log();
        assert!(!log.contains("connection lost"), "{log}");
    });
}

#[test]
fn behind_its_reply_to_stls_the_server_says_nothing_in_the_clear() {
    with_server(setup(), Kind::P256, |site, server| {
        // What a server that went on reading would answer; and a client that just stops.
        let behind = [
            &b""[..],
            b"CAPA\r\n",
            b"NOOP\r\nQUIT\r\n",
            b"USER alice\r\nPASS wonderland\r\nSTAT\r\n",
            b"\r\n",
        ];
        for behind in behind {
            for is_pipelined in [false, true] {
                let mut client = TcpStream::connect(site.address).expect("a connection");
                let deadline = Some(Duration::from_secs(20));
                client.set_read_timeout(deadline).expect("a time-out");
                let mut sent = Vec::new();
                let mut input = b"STLS\r\n".to_vec();
                if is_pipelined {
                    input.extend_from_slice(behind);
                    client.write_all(&input).expect("a server");
                } else {
                    client.write_all(&input).expect("a server");
                    let mut octet = [0];
                    while sent.iter().filter(|octet| **octet == b'\n').count() < 2 {
                        client.read_exact(&mut octet).expect("two lines");
                        sent.push(octet[0]);
                    }
                    let _closed = client.write_all(behind);
                }
                let _closed = client.shutdown(Shutdown::Write);
                let _reset = client.read_to_end(&mut sent);
                let text = sent.escape_ascii();
                // The greeting is always there. The reply is not, or a refusal, if what follows STLS has arrived already.
                let lines = sent
                    .split_inclusive(|octet| *octet == b'\n')
                    .take_while(|line| line.starts_with(b"+OK") || line.starts_with(b"-ERR"))
                    .count();
                assert!((1..=2).contains(&lines), "{text}");
                let rest = behind_lines(&sent, lines);
                assert!(rest.len() <= ALERT_OCTETS, "{text}");
                records(rest);
            }
        }
        assert!(!server.log().contains("login"), "{}", server.log());
    });
}

#[test]
fn a_plaintext_client_on_the_tls_port_is_ended_cleanly_and_logged() {
    with_server(setup(), Kind::P256, |_, server| {
        for (count, line) in ["CAPA", "USER alice", "AUTH PLAIN", "QUIT"]
            .iter()
            .enumerate()
        {
            let mut client = Pop::dial(tls_address());
            client.send_line(line);
            // An alert and the end: no octet of POP3 in the clear.
            let answer = client.rest();
            assert_eq!(records(&answer), 1, "{line}");
            assert_eq!(answer.len(), ALERT_OCTETS, "{line}");
            poll::until("a log line each", || {
                let log = server.log();
                let said = log.matches("the client does not speak TLS").count();
                (said == count + 1).then_some(())
            });
        }
        // Whoever speaks TLS is served as before.
        let mut next = Openssl::to(tls_address()).greeted();
        next.pop.ok("QUIT");
        next.pop.expect_closed();
        assert!(!server.log().contains("died"), "{}", server.log());
    });
}
