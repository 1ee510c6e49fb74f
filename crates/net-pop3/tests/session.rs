//! Sessions with a server that behaves: what is promised of them, by both drivers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_pop3::blocking::{Builder, Pop3, Session};
use net_pop3::{
    Credentials, ErrorKind, Limits, Mechanism, Phase, ProtocolError, Proxy, ResponseCode, Security,
    Timeouts, Transaction,
};
use scripted_server::{Mailbox, Server, serve};

fn plain(server: &Server) -> Builder {
    Pop3::builder()
        .host("127.0.0.1")
        .port(server.port())
        .security(Security::Plain)
}

fn right() -> Credentials {
    Credentials::password("mrose", "tanstaaf")
}

fn enter(server: &Server) -> Session<Transaction> {
    plain(server).connect().unwrap().login(&right()).unwrap()
}

#[test]
fn dropped_without_quit_nothing_is_deleted() {
    let mailbox = Mailbox::many(3, 50);
    let server = mailbox.start();
    let mut session = enter(&server);
    session.dele(1).unwrap();
    drop(session);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut session = enter(&server);
        session.dele_all([1, 2, 3]).unwrap();
        panic!("before QUIT");
    }));
    assert!(panicked.is_err());
    let mut session = enter(&server);
    assert_eq!(session.stat().unwrap().messages, 3);
    assert!(!mailbox.heard().iter().any(|line| line == "QUIT"));
    session.dele(1).unwrap();
    session.quit().unwrap();
    assert_eq!(mailbox.messages().len(), 2);
}

#[test]
fn quit_that_is_not_answered_is_no_success() {
    let mut mailbox = Mailbox::many(3, 50);
    mailbox.closes_at = Some("QUIT");
    let mut session = enter(&mailbox.start());
    session.dele(1).unwrap();
    let error = session.quit().unwrap_err();
    assert_eq!(error.command(), Some("QUIT"));
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Protocol(ProtocolError::UnexpectedEnd)
        ),
        "{error:?}"
    );
}

#[test]
fn messages_come_as_they_are_in_any_size_of_piece() {
    let mailbox = Mailbox::many(2, 200_000);
    let server = mailbox.start();
    let mut session = enter(&server);
    let expected = &mailbox.messages()[0].octets;
    for size in [1, 2, 3, 70, 4096, 1 << 20] {
        let mut message = session.retr(1).unwrap();
        let mut octets = Vec::new();
        let mut space = vec![0; size];
        // A tail is enough where it would take long.
        while octets.len() < if size < 70 { 5000 } else { usize::MAX } {
            match message.read(&mut space).unwrap() {
                0 => break,
                read => octets.extend_from_slice(&space[..read]),
            }
        }
        assert!(expected.starts_with(&octets));
        assert!(size < 70 || octets.len() == expected.len());
    }
    let mut message = session.retr(1).unwrap();
    message.read_exact(&mut [0; 10]).unwrap();
    let mut copied = Vec::new();
    assert_eq!(
        message.copy_to(&mut copied).unwrap(),
        expected.len() as u64 - 10
    );
    assert_eq!(copied, expected[10..]);
}

#[test]
fn lines_end_with_lf_where_that_is_asked_for() {
    let mailbox = Mailbox::sample();
    let server = mailbox.start();
    let mut session = plain(&server)
        .lf_line_ends()
        .connect()
        .unwrap()
        .login(&right())
        .unwrap();
    assert_eq!(
        session.retr(2).unwrap().to_vec().unwrap(),
        b"Subject: two\n\n..\n\xe4 \0\n"
    );
}

#[test]
fn pipelined_or_one_by_one_the_result_is_the_same() {
    let mut results = Vec::new();
    for (capabilities, window) in [
        (vec!["PIPELINING"], 1 << 20),
        (vec!["PIPELINING"], 20_000),
        (vec!["PIPELINING"], 1),
        (vec!["PIPELINING"], 0),
        (vec!["UIDL"], 1 << 20),
        (vec![], 1 << 20),
    ] {
        let mut mailbox = Mailbox::many(400, 2000);
        mailbox.broken_message = Some(77);
        mailbox.capabilities = capabilities;
        let server = mailbox.start();
        let mut session = plain(&server)
            .window(window)
            .connect()
            .unwrap()
            .login(&right())
            .unwrap();
        let listing = session.listing().unwrap();
        let mut outcomes = Vec::new();
        let mut messages = session.retr_all(&listing);
        while let Some(message) = messages.next_message() {
            match message {
                Ok(message) => {
                    let number = message.number().value();
                    outcomes.push((number, message.to_vec().unwrap()));
                }
                Err(error) => outcomes.push((0, error.to_string().into_bytes())),
            }
        }
        let ids: Vec<String> = session
            .uidl_each([3, 900, 1])
            .unwrap()
            .into_iter()
            .map(|(number, id)| format!("{} {:?}", number.value(), id.ok()))
            .collect();
        let deleted = session.dele_all(listing.iter().take(399)).unwrap();
        assert!(deleted.iter().all(|(_, outcome)| outcome.is_ok()));
        session.quit().unwrap();
        assert_eq!(mailbox.messages().len(), 1);
        results.push((outcomes, ids));
    }
    assert_eq!(results[0].0.len(), 400);
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_batch_given_up_leaves_the_session_usable() {
    let mailbox = Mailbox::many(300, 5000);
    let server = mailbox.start();
    let mut session = enter(&server);
    let listing = session.listing().unwrap();
    let mut messages = session.retr_all(&listing);
    let mut first = messages.next_message().unwrap().unwrap();
    first.read_exact(&mut [0; 100]).unwrap();
    // What is not read of one is skipped before the next.
    let second = messages.next_message().unwrap().unwrap().to_vec().unwrap();
    assert_eq!(second, mailbox.messages()[1].octets);
    assert_eq!(session.stat().unwrap().messages, 300);
    let mut half = session.retr(3).unwrap();
    half.read_exact(&mut [0; 100]).unwrap();
    assert_eq!(session.uidl(4).unwrap().as_str(), "uid-4");
    session.quit().unwrap();
}

#[test]
fn message_numbers_begin_at_1() {
    let server = Mailbox::sample().start();
    let mut session = enter(&server);
    assert!(matches!(
        session.retr(0).unwrap_err().kind(),
        ErrorKind::InvalidInput(_)
    ));
    let error = session.retr(3).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused(_)) && !error.ends_session());
    session.noop().unwrap();
}

#[test]
fn arguments_cannot_become_commands() {
    let server = Mailbox::sample().start();
    for name in ["a\r\nDELE 1", "a\nb", "a\0b", ""] {
        let mut session = plain(&server).connect().unwrap();
        let error = session.user(name).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::InvalidInput(_)),
            "{error:?}"
        );
        session.user("mrose").unwrap();
        let failed = session.pass("x\r\nDELE 1").unwrap_err();
        assert!(matches!(failed.error().kind(), ErrorKind::InvalidInput(_)));
        failed.into_session().unwrap().user("mrose").unwrap();
    }
}

#[test]
fn servers_without_capa_uidl_or_top_work() {
    let mut mailbox = Mailbox::sample();
    mailbox.capabilities = vec![];
    mailbox.uidl = false;
    mailbox.top = false;
    let server = mailbox.start();
    let mut session = enter(&server);
    assert!(!session.capa().unwrap().capa);
    let listing = session.listing().unwrap();
    assert_eq!((listing.len(), &listing[0].unique_id), (2, &None));
    assert!(matches!(
        session.top(1, 0).unwrap_err().kind(),
        ErrorKind::Refused(_)
    ));
    assert_eq!(
        session.retr(1).unwrap().to_vec().unwrap(),
        mailbox.messages()[0].octets
    );
}

#[test]
fn every_way_to_log_in_works() {
    let mut mailbox = Mailbox::sample();
    mailbox.capabilities = vec!["SASL PLAIN XOAUTH2"];
    let server = mailbox.start();
    let connect = || plain(&server).connect().unwrap();
    connect().login(&right()).unwrap().quit().unwrap();
    connect()
        .auth(Mechanism::Plain, &right())
        .unwrap()
        .quit()
        .unwrap();
    connect().apop("mrose", "tanstaaf").unwrap().quit().unwrap();
    let token = Credentials::token("mrose", "token");
    connect().login(&token).unwrap().quit().unwrap();
    let mut session = connect();
    session.user("mrose").unwrap();
    session.pass("tanstaaf").unwrap().quit().unwrap();
    // In two lines, as Exchange wants it.
    let two_lines = plain(&server).initial_response(false).connect().unwrap();
    two_lines.login(&token).unwrap().quit().unwrap();
    let heard = mailbox.heard();
    assert!(heard.iter().any(|line| line == "AUTH XOAUTH2"));
    assert!(
        !heard.iter().any(|line| line == "PASS tanstaaf")
            || heard.iter().any(|line| line == "USER mrose")
    );
}

#[test]
fn after_a_failed_login_the_session_goes_on() {
    let mut mailbox = Mailbox::sample();
    mailbox.capabilities = vec!["SASL PLAIN"];
    let server = mailbox.start();
    let failed = plain(&server)
        .connect()
        .unwrap()
        .login(&Credentials::password("mrose", "no"))
        .unwrap_err();
    assert_eq!(failed.error().response_code(), Some(&ResponseCode::Auth));
    failed.into_session().unwrap().login(&right()).unwrap();
    assert_eq!(server.connections(), 1);
}

#[test]
fn capabilities_are_asked_for_once_and_again_after_login() {
    let mailbox = Mailbox::sample();
    let server = mailbox.start();
    let mut session = plain(&server).connect().unwrap();
    session.capa().unwrap();
    session.capa().unwrap();
    let mut session = session.login(&right()).unwrap();
    session.capa().unwrap();
    session.capa().unwrap();
    assert_eq!(
        mailbox
            .heard()
            .iter()
            .filter(|line| *line == "CAPA")
            .count(),
        2
    );
}

#[test]
fn hosts_are_tried_in_turn_and_the_last_error_is_told() {
    let server = Mailbox::sample().start();
    let busy = serve(|mut stream| {
        let _ = stream.write_all(b"-ERR [SYS/TEMP] come back later\r\n");
    });
    let here = format!("127.0.0.1:{}", server.port());
    let there = format!("127.0.0.1:{}", busy.port());
    let hosts = ["127.0.0.1:1", "no-such-host.invalid", &there, &here];
    let session = Pop3::builder()
        .hosts(hosts)
        .security(Security::Plain)
        .connect()
        .unwrap();
    assert_eq!(session.peer_addr(), server.address());
    let error = Pop3::builder()
        .hosts(hosts[..3].iter().copied())
        .security(Security::Plain)
        .connect()
        .unwrap_err();
    assert_eq!(
        (error.phase(), error.host()),
        (Phase::Greeting, Some(there.as_str()))
    );
    assert!(error.is_temporary());
    let error = Pop3::builder().connect().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Configuration(_)));
}

#[test]
fn the_local_port_can_be_chosen() {
    let ports = Arc::new(Mutex::new(Vec::new()));
    let seen = ports.clone();
    let server = serve(move |mut stream| {
        seen.lock()
            .unwrap()
            .push(stream.peer_addr().unwrap().port());
        let _ = stream.write_all(b"+OK\r\n");
    });
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    plain(&server).local_port(free).connect().unwrap();
    assert_eq!(*ports.lock().unwrap(), [free]);
}

#[test]
fn trace_and_progress_tell_what_happens_and_no_secret() {
    let mailbox = Mailbox::many(1, 300_000);
    let server = mailbox.start();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let octets = Arc::new(Mutex::new(0));
    let (line_hook, octets_hook) = (lines.clone(), octets.clone());
    let mut session = plain(&server)
        .trace(move |line| line_hook.lock().unwrap().push(line.to_string()))
        .progress(move |progress| *octets_hook.lock().unwrap() = progress.octets)
        .connect()
        .unwrap()
        .login(&right())
        .unwrap();
    let listing = session.listing().unwrap();
    let message = session.retr(&listing[0]).unwrap().to_vec().unwrap();
    assert_eq!(*octets.lock().unwrap(), message.len() as u64);
    session.quit().unwrap();
    let lines = lines.lock().unwrap().join("\n");
    for line in [
        "S: +OK ready",
        "C: AUTH PLAIN ****",
        "C: RETR 1",
        "C: QUIT",
        "S: +OK bye",
    ] {
        assert!(lines.contains(line), "{lines}");
    }
    assert!(!lines.contains("tanstaaf") && !lines.contains("AG1yb3Nl"));
}

#[test]
fn waiting_has_an_end_in_every_phase() {
    let short = Duration::from_millis(100);
    let timeouts = Timeouts {
        connect: short,
        handshake: short,
        greeting: short,
        command: short,
        data: short,
        quit: short,
        total: None,
    };
    let silent_after = |text: &'static str| {
        serve(move |mut stream: TcpStream| {
            let _ = stream.write_all(text.as_bytes());
            let _ = stream.read_to_end(&mut Vec::new());
        })
    };
    let server = silent_after("");
    let error = plain(&server).timeouts(timeouts).connect().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TimedOut) && error.phase() == Phase::Greeting,
        "{error:?}"
    );
    let error = plain(&server)
        .security(Security::Tls)
        .timeouts(timeouts)
        .connect()
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TimedOut) && error.phase() == Phase::Tls,
        "{error:?}"
    );
    let server = silent_after("+OK\r\n");
    let mut session = plain(&server).timeouts(timeouts).connect().unwrap();
    let error = session.user("mrose").unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TimedOut) && error.phase() == Phase::Command,
        "{error:?}"
    );
    assert!(error.is_temporary() && error.ends_session());
    // A server that keeps sending, but never comes to the end of its line.
    let dribbling = serve(|mut stream: TcpStream| {
        let _ = stream.write_all(b"+OK\r\n+OK");
        while stream.write_all(b".").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let error = plain(&dribbling)
        .timeouts(timeouts)
        .connect()
        .unwrap()
        .user("mrose")
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Protocol(_)),
        "{error:?}"
    );
}

#[test]
fn limits_bound_what_a_server_sends() {
    let mailbox = Mailbox::many(10, 5000);
    let server = mailbox.start();
    let with = |limits| {
        plain(&server)
            .limits(limits)
            .connect()
            .unwrap()
            .login(&right())
            .unwrap()
    };
    let mut session = with(Limits {
        listing_entries: 9,
        ..Limits::default()
    });
    let error = session.listing().unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Protocol(ProtocolError::ListingTooLong)
        ),
        "{error:?}"
    );
    let mut session = with(Limits {
        message_octets: 4000,
        ..Limits::default()
    });
    let error = session.retr(1).unwrap().to_vec().unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Protocol(ProtocolError::MessageTooLong)
        ),
        "{error:?}"
    );
    let mut session = with(Limits {
        session_octets: 20_000,
        ..Limits::default()
    });
    let mut failed = None;
    for number in 1..=10 {
        if let Err(error) = session.retr(number).and_then(|message| message.to_vec()) {
            failed.get_or_insert(error);
        }
    }
    assert!(matches!(failed.unwrap().kind(), ErrorKind::TooManyOctets));
}

/// A proxy that answers by script, then is a POP3 server.
fn proxy(answers: &'static [(&'static [u8], &'static [u8])]) -> Server {
    serve(move |mut stream: TcpStream| {
        for (expected, answer) in answers {
            let mut said = vec![0; expected.len()];
            if stream.read_exact(&mut said).is_err() || said != *expected {
                return;
            }
            let _ = stream.write_all(answer);
        }
        let _ = stream.write_all(b"+OK behind a proxy\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

#[test]
fn proxies_are_asked_to_connect() {
    let through = |proxy: Proxy| {
        let builder = Pop3::builder()
            .host("pop.example.org")
            .security(Security::Plain)
            .proxy(proxy);
        builder.connect()
    };
    let socks = proxy(&[
        (b"\x05\x02\x00\x02", b"\x05\x02"),
        (b"\x01\x05mrose\x06secret", b"\x01\x00"),
        (
            b"\x05\x01\x00\x03\x0fpop.example.org\x00\x6e",
            b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00",
        ),
    ]);
    let asked = Proxy::socks5("127.0.0.1", socks.port()).login("mrose", "secret");
    assert_eq!(through(asked).unwrap().banner(), "behind a proxy");
    let open = proxy(&[
        (b"\x05\x01\x00", b"\x05\x00"),
        (
            b"\x05\x01\x00\x03\x0fpop.example.org\x00\x6e",
            b"\x05\x05\x00\x01",
        ),
    ]);
    let error = through(Proxy::socks5("127.0.0.1", open.port())).unwrap_err();
    assert!(
        error.to_string().contains("connection refused") && error.phase() == Phase::Proxy,
        "{error}"
    );
    let http = proxy(&[(
        b"CONNECT pop.example.org:110 HTTP/1.1\r\nHost: pop.example.org:110\r\n\r\n",
        b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n",
    )]);
    assert_eq!(
        through(Proxy::http("127.0.0.1", http.port()))
            .unwrap()
            .banner(),
        "behind a proxy"
    );
    let refusing = proxy(&[(
        b"CONNECT ",
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
    )]);
    let error = through(Proxy::http("127.0.0.1", refusing.port())).unwrap_err();
    assert!(error.to_string().contains("407"), "{error}");
}
