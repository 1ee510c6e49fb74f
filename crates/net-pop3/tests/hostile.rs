//! Servers that mean harm, or have gone mad: each ends in an error, in bounded time and memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use net_pop3::blocking::{Builder, Pop3, Session};
use net_pop3::{Credentials, Error, ErrorKind, ProtocolError, Security, Transaction};
use scripted_server::{Server, serve};

/// Says `greeting`, then one of `replies` per line heard, then `flood` without end.
fn server(
    greeting: &'static [u8],
    replies: &'static [&'static [u8]],
    flood: &'static [u8],
) -> Server {
    serve(move |mut stream: TcpStream| {
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let _ = stream.write_all(greeting);
        for reply in replies {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap_or(0) == 0 || stream.write_all(reply).is_err() {
                return;
            }
        }
        let flood = flood.repeat(1 + 65_536 / flood.len().max(1));
        while !flood.is_empty() && stream.write_all(&flood).is_ok() {}
        if !replies.is_empty() && replies[replies.len() - 1].ends_with(b"wait") {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    })
}

fn builder(server: &Server) -> Builder {
    Pop3::builder()
        .host("127.0.0.1")
        .port(server.port())
        .security(Security::Plain)
}

fn enter(server: &Server) -> Result<Session<Transaction>, Error> {
    let mut session = builder(server).connect()?;
    session.user("mrose")?;
    Ok(session.pass("tanstaaf")?)
}

fn protocol(error: &Error) -> ProtocolError {
    match error.kind() {
        ErrorKind::Protocol(error) => *error,
        other => panic!("{other:?}"),
    }
}

const LOGIN: [&[u8]; 2] = [b"+OK\r\n", b"+OK\r\n"];

#[test]
fn an_endless_greeting() {
    let error = builder(&server(b"+OK ", &[], b"hello "))
        .connect()
        .unwrap_err();
    assert_eq!(protocol(&error), ProtocolError::LineTooLong);
}

#[test]
fn greetings_that_are_none() {
    for greeting in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"* OK IMAP4\r\n",
        b"220 smtp\r\n",
        b"\0\0\0\0\r\n",
        b"\r\n",
    ] {
        let error = builder(&server(greeting, &[], b"")).connect().unwrap_err();
        assert_eq!(protocol(&error), ProtocolError::NotAReply);
    }
    for greeting in [&b""[..], b"+O", b"+OK ready", b"+OK ready\r"] {
        let error = builder(&server(greeting, &[], b"")).connect().unwrap_err();
        assert_eq!(protocol(&error), ProtocolError::UnexpectedEnd);
    }
}

#[test]
fn an_endless_line() {
    static REPLIES: [&[u8]; 3] = [LOGIN[0], LOGIN[1], b"+OK "];
    let mut session = enter(&server(b"+OK\r\n", &REPLIES, b"x")).unwrap();
    assert_eq!(
        protocol(&session.stat().unwrap_err()),
        ProtocolError::LineTooLong
    );
}

#[test]
fn an_endless_line_in_a_listing() {
    static REPLIES: [&[u8]; 3] = [LOGIN[0], LOGIN[1], b"+OK\r\n1 "];
    let mut session = enter(&server(b"+OK\r\n", &REPLIES, b"1")).unwrap();
    assert_eq!(
        protocol(&session.list_all().unwrap_err()),
        ProtocolError::LineTooLong
    );
}

#[test]
fn ten_million_entries_of_a_listing() {
    static REPLIES: [&[u8]; 3] = [LOGIN[0], LOGIN[1], b"+OK\r\n"];
    let mut session = enter(&server(b"+OK\r\n", &REPLIES, b"1 1\r\n")).unwrap();
    assert_eq!(
        protocol(&session.list_all().unwrap_err()),
        ProtocolError::ListingTooLong
    );
}

#[test]
fn listings_that_make_no_sense() {
    for reply in [
        "+OK\r\n0 1\r\n.\r\n",
        "+OK\r\nx\r\n.\r\n",
        "+OK\r\n1\r\n.\r\n",
        "+OK\r\n1 \0\r\n.\r\n",
        "+OK\r\n-1 1\r\n.\r\n",
    ] {
        let replies: &'static [&'static [u8]] = vec![LOGIN[0], LOGIN[1], reply.as_bytes()].leak();
        let mut session = enter(&server(b"+OK\r\n", replies, b"")).unwrap();
        let error = session.list_all().unwrap_err();
        assert!(matches!(
            protocol(&error),
            ProtocolError::MalformedListing(_)
        ));
        assert_eq!(error.command(), Some("LIST"));
    }
}

#[test]
fn numbers_that_make_no_sense() {
    for reply in [
        "+OK\r\n",
        "+OK x y\r\n",
        "+OK 99999999999 1\r\n",
        "+OK 1\r\n",
    ] {
        let replies: &'static [&'static [u8]] = vec![LOGIN[0], LOGIN[1], reply.as_bytes()].leak();
        let mut session = enter(&server(b"+OK\r\n", replies, b"")).unwrap();
        assert!(matches!(
            protocol(&session.stat().unwrap_err()),
            ProtocolError::MalformedListing(_)
        ));
    }
}

#[test]
fn a_message_without_its_final_dot() {
    for message in [
        &b"+OK\r\n"[..],
        b"+OK\r\nSubject: x\r\n",
        b"+OK\r\n.",
        b"+OK\r\n.\r",
        b"+OK\r\n.\n",
        b"+OK\r\n..\r\n",
    ] {
        let replies: &'static [&'static [u8]] = vec![LOGIN[0], LOGIN[1], message].leak();
        let mut session = enter(&server(b"+OK\r\n", replies, b"")).unwrap();
        let error = session.retr(1).unwrap().to_vec().unwrap_err();
        assert_eq!(protocol(&error), ProtocolError::UnexpectedEnd);
        assert!(matches!(
            session.quit().unwrap_err().kind(),
            ErrorKind::WrongState
        ));
    }
}

#[test]
fn a_success_that_nobody_asked_for() {
    static REPLIES: [&[u8]; 3] = [LOGIN[0], b"+OK\r\n+OK\r\n", b""];
    let mut session = enter(&server(b"+OK\r\n", &REPLIES, b"")).unwrap();
    assert_eq!(
        protocol(&session.stat().unwrap_err()),
        ProtocolError::Unsolicited
    );
}

#[test]
fn an_endless_message_is_read_in_constant_memory() {
    static REPLIES: [&[u8]; 3] = [LOGIN[0], LOGIN[1], b"+OK\r\n"];
    let mut session = enter(&server(b"+OK\r\n", &REPLIES, b"no line end and no end")).unwrap();
    let mut message = session.retr(1).unwrap();
    let read = std::io::copy(
        &mut Read::by_ref(&mut message).take(200 << 20),
        &mut std::io::sink(),
    );
    assert_eq!(read.unwrap(), 200 << 20);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    // The other tests of this file have their share: ten million entries are never kept.
    assert!(kib < 600 << 10, "{kib} KiB");
}

#[test]
fn a_scram_server_that_does_not_know_the_password() {
    // It says yes to whatever comes, without the proof.
    static REPLIES: [&[u8]; 2] = [b"+OK\r\nSASL SCRAM-SHA-256\r\n.\r\n", b"+OK logged in\r\n"];
    let session = builder(&server(b"+OK\r\n", &REPLIES, b""))
        .connect()
        .unwrap();
    let failed = session
        .login(&Credentials::password("mrose", "tanstaaf"))
        .unwrap_err();
    assert!(
        matches!(failed.error().kind(), ErrorKind::Sasl(_)),
        "{failed:?}"
    );
    assert!(failed.into_session().is_err());
}

#[test]
fn a_challenge_that_makes_no_sense_is_cancelled() {
    static REPLIES: [&[u8]; 3] = [
        b"+OK\r\nSASL CRAM-MD5\r\n.\r\n",
        b"+ not base64!\r\n",
        b"-ERR cancelled\r\n",
    ];
    let session = builder(&server(b"+OK\r\n", &REPLIES, b""))
        .connect()
        .unwrap();
    let failed = session
        .login(&Credentials::password("mrose", "tanstaaf"))
        .unwrap_err();
    assert!(
        matches!(failed.error().kind(), ErrorKind::Sasl(_)),
        "{failed:?}"
    );
}

#[test]
fn challenges_without_end() {
    static REPLIES: [&[u8]; 4] = [
        b"+OK\r\nSASL LOGIN\r\n.\r\n",
        b"+ VXNlcm5hbWU6\r\n",
        b"+ UGFzc3dvcmQ6\r\n",
        b"+ QWdhaW46\r\n",
    ];
    let started = Instant::now();
    let session = builder(&server(b"+OK\r\n", &REPLIES, b"+ QWdhaW46\r\n"))
        .connect()
        .unwrap();
    assert!(
        session
            .login(&Credentials::password("mrose", "tanstaaf"))
            .is_err()
    );
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_timestamp_that_is_none_is_not_answered() {
    for greeting in [&b"+OK <x>\r\n"[..], b"+OK <\x80@y>\r\n", b"+OK ready\r\n"] {
        let session = builder(&server(greeting, &[], b"")).connect().unwrap();
        let failed = session.apop("mrose", "tanstaaf").unwrap_err();
        assert!(
            matches!(failed.error().kind(), ErrorKind::NoMechanism),
            "{failed:?}"
        );
    }
}

#[test]
fn refusals_cannot_paint_the_terminal() {
    static REPLIES: [&[u8]; 1] = [b"-ERR \x1b[2J\x07\xff gone\r\n"];
    let error = builder(&server(b"+OK\r\n", &REPLIES, b""))
        .connect()
        .unwrap()
        .user("mrose")
        .unwrap_err();
    assert!(
        error.to_string().ends_with("\\x1b[2J\\x07\\xff gone"),
        "{error}"
    );
}
