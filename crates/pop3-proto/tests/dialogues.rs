//! The example dialogues of the RFCs. What they leave to the server, the text behind a status, is ours.

mod common;

use common::{Maildrop, Server};
use pop3_proto::UniqueId;

/// Messages of exactly 120 and 200 octets on the wire, with the unique-ids of RFC 1939's example.
fn two_messages() -> Maildrop {
    let message = |octets: usize| {
        let mut message = b"From: a\n\n".to_vec();
        let end = b"\n".len() + 3;
        message.resize(octets - end, b'x');
        message.push(b'\n');
        message
    };
    Maildrop(vec![
        (
            UniqueId::new(b"whqtswO00WBw418f9t5JxYwZ").unwrap(),
            message(120),
        ),
        (UniqueId::new(b"QhdPYR:00WBw1Ph7x7").unwrap(), message(200)),
    ])
}

/// Plays the lines that begin with `C: ` and compares what comes with those that begin with `S: `. `S: <1>` stands for
/// the first message as it is on the wire.
fn play(maildrop: Maildrop, dialogue: &str) -> Server {
    let messages: Vec<String> = maildrop
        .0
        .iter()
        .map(|(_, message)| {
            String::from_utf8(message.clone())
                .unwrap()
                .replace('\n', "\r\n")
        })
        .collect();
    let mut server = Server::new(maildrop);
    let mut expected = String::new();
    for line in dialogue
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        match line.split_at(line.len().min(3)) {
            ("C: ", command) => {
                assert_eq!(
                    String::from_utf8_lossy(&server.out),
                    expected,
                    "before {command}"
                );
                server.out.clear();
                expected.clear();
                server.receive(format!("{command}\r\n").as_bytes());
            }
            ("S: ", "<1>") => expected.push_str(&messages[0]),
            ("S: ", "<2>") => expected.push_str(&messages[1]),
            ("S: ", reply) => expected.extend([reply, "\r\n"]),
            _ => panic!("{line} is said by neither"),
        }
    }
    assert_eq!(String::from_utf8_lossy(&server.out), expected);
    server
}

#[test]
fn rfc_1939_section_10_example_session() {
    let server = play(
        two_messages(),
        "S: +OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>
         C: APOP mrose c4c9334bac560ecc979e58001b3e22fb
         S: +OK 2 messages (320 octets)
         C: STAT
         S: +OK 2 320
         C: LIST
         S: +OK 2 messages (320 octets)
         S: 1 120
         S: 2 200
         S: .
         C: RETR 1
         S: +OK 120 octets
         S: <1>
         S: .
         C: DELE 1
         S: +OK
         C: RETR 2
         S: +OK 200 octets
         S: <2>
         S: .
         C: DELE 2
         S: +OK
         C: QUIT
         S: +OK",
    );
    assert!(server.is_closed());
    assert_eq!(server.updated, Some(vec![1, 2]));
}

#[test]
fn rfc_1939_section_5_examples() {
    play(
        two_messages(),
        "S: +OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>
         C: USER mrose
         S: +OK
         C: PASS tan staaf
         S: +OK 2 messages (320 octets)
         C: LIST 2
         S: +OK 2 200
         C: LIST 3
         S: -ERR no such message
         C: DELE 1
         S: +OK
         C: DELE 1
         S: -ERR no such message
         C: STAT
         S: +OK 1 200
         C: RSET
         S: +OK 2 messages (320 octets)
         C: NOOP
         S: +OK
         C: TOP 100 3
         S: -ERR no such message
         C: UIDL
         S: +OK
         S: 1 whqtswO00WBw418f9t5JxYwZ
         S: 2 QhdPYR:00WBw1Ph7x7
         S: .
         C: UIDL 2
         S: +OK 2 QhdPYR:00WBw1Ph7x7
         C: UIDL 3
         S: -ERR no such message",
    );
}

#[test]
fn rfc_1939_section_4_quit_before_login_is_no_update() {
    let server = play(
        two_messages(),
        "S: +OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>
         C: QUIT
         S: +OK",
    );
    assert!(server.is_closed());
    assert_eq!(server.updated, None);
}

#[test]
fn rfc_1460_section_5_example_of_last() {
    let mut server = Server::new(common::maildrop(&[b"1", b"2", b"3", b"4"]));
    server.receive(b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\nRETR 1\r\n");
    for (command, reply) in [
        ("LAST", "+OK 1\r\n"),
        ("RETR 3", "+OK 5 octets\r\n3\r\n\r\n.\r\n"),
        ("LAST", "+OK 3\r\n"),
        ("DELE 2", "+OK\r\n"),
        ("LAST", "+OK 3\r\n"),
        ("RSET", "+OK 4 messages (20 octets)\r\n"),
        ("LAST", "+OK 0\r\n"),
    ] {
        server.out.clear();
        server.receive(format!("{command}\r\n").as_bytes());
        assert_eq!(String::from_utf8_lossy(&server.out), reply, "{command}");
    }
}

#[test]
fn rfc_2449_section_5_capa() {
    play(
        two_messages(),
        "S: +OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>
         C: CAPA
         S: +OK capability list follows
         S: TOP
         S: UIDL
         S: RESP-CODES
         S: AUTH-RESP-CODE
         S: PIPELINING
         S: USER
         S: SASL PLAIN
         S: STLS
         S: LANG
         S: .",
    );
}

#[test]
fn rfc_2595_section_4_stls() {
    let mut server = play(
        two_messages(),
        "S: +OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>
         C: STLS
         S: +OK begin TLS negotiation",
    );
    assert!(server.is_in_handshake());
    server.tls_started();
    server.out.clear();
    server.receive(b"STLS\r\n");
    assert_eq!(server.out, b"-ERR TLS is active already\r\n");
}

#[test]
fn rfc_5034_section_6_auth_plain_with_and_without_initial_response() {
    play(
        two_messages(),
        "S: +OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>
         C: AUTH PLAIN AG1yb3NlAHRhbiBzdGFhZg==
         S: +OK 2 messages (320 octets)",
    );
    let mut server = Server::new(two_messages());
    server.out.clear();
    server.receive(b"AUTH PLAIN\r\n");
    assert_eq!(server.out, b"+ \r\n");
    server.receive(b"AG1yb3NlAHRhbiBzdGFhZg==\r\n");
    assert_eq!(server.out, b"+ \r\n+OK 2 messages (320 octets)\r\n");
}
