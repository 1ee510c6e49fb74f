//! Recorded dialogues, played from memory in every way that a network can cut them.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::task::Waker;

use super::*;
use crate::batch::Batch;
use crate::blocking::Pop3;
use crate::builder::Security;
use crate::credentials::Credentials;
use crate::message::Cursor;

/// A server that speaks when it has been spoken to: its first reply is the greeting, each that follows answers a line. What it
/// says comes in pieces, and ends.
struct Recorded {
    replies: Vec<Vec<u8>>,
    /// Octets said so far.
    said: usize,
    /// Where pieces end.
    is_cut: Box<dyn Fn(usize) -> bool>,
    sent: Vec<u8>,
}

impl Recorded {
    /// All that may be said by now.
    fn due(&self) -> Vec<u8> {
        let lines = self.sent.iter().filter(|octet| **octet == b'\n').count();
        self.replies[..self.replies.len().min(lines + 1)].concat()
    }
}

impl Socket for Recorded {
    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        space: &mut [u8],
        _: Option<Instant>,
    ) -> Poll<io::Result<usize>> {
        let due = self.due();
        let ends = self.said + 1..due.len();
        let end = ends
            .into_iter()
            .find(|at| (self.is_cut)(*at))
            .unwrap_or(due.len());
        let piece = &due[self.said..end];
        space[..piece.len()].copy_from_slice(piece);
        self.said = end;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        octets: &[u8],
        _: Option<Instant>,
    ) -> Poll<io::Result<usize>> {
        self.sent.extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }
}

fn core(replies: Vec<Vec<u8>>, is_cut: impl Fn(usize) -> bool + 'static) -> Core<Recorded> {
    let socket = Recorded {
        replies,
        said: 0,
        is_cut: Box::new(is_cut),
        sent: Vec::new(),
    };
    let settings = Arc::new(Pop3::builder().settings);
    let peer = Peer {
        host: "localhost".to_owned(),
        port: 110,
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 110)),
    };
    Core::new(Channel::new(socket, u64::MAX), settings, peer, None)
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the socket is always ready"),
    }
}

/// A whole session, reply by reply.
const SESSION: [&[u8]; 15] = [
    b"+OK ready <1896.697170952@dbc.mtview.ca.us>\r\n",
    b"+OK\r\nTOP\r\nUIDL\r\nPIPELINING\r\nSASL LOGIN CRAM-MD5\r\n.\r\n",
    b"+ PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n",
    b"+OK logged in\r\n",
    b"+OK 3 320 octets\r\n",
    b"+OK\r\n1 120\r\n2 180\r\n3 20\r\n.\r\n",
    b"+OK\r\n1 a\r\n2 b\r\n3 c\r\n.\r\n",
    b"+OK\r\nPIPELINING\r\n.\r\n",
    b"+OK 120 octets\r\nSubject: one\r\n\r\n..\r\n...\r\nx\ry\nz\0\xff\r\n.\r\n",
    b"-ERR [SYS/TEMP] cannot read it\r\n",
    b"+OK\r\n.\r\n",
    b"+OK\r\nSubject: one\r\n\r\n.\r\n",
    b"+OK deleted\r\n",
    b"+OK 1\r\n",
    b"+OK bye\r\n",
];

fn session() -> Vec<Vec<u8>> {
    SESSION.iter().map(|reply| reply.to_vec()).collect()
}

/// What the client makes of it.
async fn play(core: &mut Core<Recorded>) -> Result<Vec<String>, Error> {
    let mut events = Vec::new();
    core.greeting().await?;
    events.push(core.banner.clone());
    core.login(&Credentials::password("tim", "tanstaaftanstaaf"))
        .await?;
    events.push(format!("{:?}", core.stat().await?));
    events.push(format!("{:?}", core.listing().await?));
    let mut batch = Batch::new([1u32, 2, 3], None);
    while let Some(message) = core.next_message(&mut batch).await {
        match message {
            Ok(number) => {
                let octets = Cursor::default().read_all(core).await?;
                events.push(format!("{} {}", number.value(), octets.escape_ascii()));
            }
            Err(error) if error.ends_session() => return Err(error),
            Err(error) => events.push(error.to_string()),
        }
    }
    let first = Ok(Wanted {
        number: MessageNumber::FIRST,
        octets: None,
    });
    core.open_message(first, Some(0)).await?;
    let mut cursor = Cursor::default();
    let mut space = [0; 1];
    let mut header = Vec::new();
    loop {
        match poll_fn(|context| cursor.poll_read(core, context, &mut space)).await? {
            0 => break,
            octets => header.extend_from_slice(&space[..octets]),
        }
    }
    events.push(header.escape_ascii().to_string());
    core.dele(Ok(Wanted {
        number: MessageNumber::FIRST,
        octets: None,
    }))
    .await?;
    events.push(format!("{:?}", core.last().await?));
    core.quit().await?;
    events.push("quit".to_owned());
    Ok(events)
}

fn expected() -> Vec<String> {
    let mut core = core(session(), |_| false);
    let events = now(play(&mut core)).unwrap();
    assert_eq!(
        events[3..],
        [
            "1 Subject: one\\r\\n\\r\\n.\\r\\n..\\r\\nx\\ry\\nz\\x00\\xff\\r\\n",
            "RETR: the server refused: [SYS/TEMP] cannot read it",
            "3 ",
            "Subject: one\\r\\n\\r\\n",
            "Some(MessageNumber(1))",
            "quit"
        ]
    );
    events
}

#[test]
fn any_split_of_the_servers_octets_gives_the_same_events() {
    let expected = expected();
    for cut in 1..SESSION.concat().len() {
        let mut core = core(session(), move |at| at == cut);
        assert_eq!(now(play(&mut core)).unwrap(), expected, "cut at {cut}");
    }
    for piece in 1..50 {
        let mut core = core(session(), move |at| at % piece == 0);
        assert_eq!(now(play(&mut core)).unwrap(), expected, "by {piece}");
    }
}

#[test]
fn an_end_at_any_octet_is_an_error_and_no_wait() {
    for octets in 0..SESSION.concat().len() {
        let mut left = octets;
        let mut replies = session();
        for reply in &mut replies {
            reply.truncate(left);
            left -= reply.len();
        }
        let mut core = core(replies, |_| false);
        let error = now(play(&mut core)).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Protocol(ProtocolError::UnexpectedEnd)
            ),
            "{octets}: {error:?}"
        );
        assert!(error.is_temporary() && error.ends_session());
        // Nothing is sent any more, least of all QUIT.
        let error = now(core.quit()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WrongState));
    }
}

#[test]
fn what_nobody_asked_for_is_an_error() {
    // Between replies to commands sent ahead, it is the reply to one of them: nobody can tell.
    let sent_ahead = 8..10;
    for number in (0..SESSION.len() - 1).filter(|number| !sent_ahead.contains(number)) {
        let mut replies = session();
        replies[number].extend_from_slice(b"+OK injected\r\n");
        let mut core = core(replies, |_| false);
        let result = now(play(&mut core));
        let error = result.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Protocol(_)),
            "behind {number}: {error:?}"
        );
    }
}

#[test]
fn a_reply_in_the_wrong_form_is_an_error() {
    for reply in [
        "",
        "OK",
        "* OK IMAP",
        "220 smtp",
        "+",
        "+ Y2hhbGxlbmdl",
        "+O",
        "\0",
        "HTTP/1.1 400 Bad",
    ] {
        for number in 0..SESSION.len() {
            let mut replies = session();
            replies[number] = format!("{reply}\r\n").into_bytes();
            let mut core = core(replies, |_| false);
            // A challenge is in place where one is due.
            if (number == 2 || number == 3) && reply.starts_with('+') {
                continue;
            }
            let error = now(play(&mut core)).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Protocol(_)),
                "{reply} for {number}: {error:?}"
            );
        }
    }
}

#[test]
fn the_commands_are_sent_as_written_in_the_rfcs() {
    let mut core = core(session(), |_| false);
    now(play(&mut core)).unwrap();
    let sent = String::from_utf8(core.channel.into_socket().sent).unwrap();
    assert_eq!(
        sent.lines().collect::<Vec<_>>(),
        [
            "CAPA",
            "AUTH CRAM-MD5",
            "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw",
            "STAT",
            "LIST",
            "UIDL",
            "CAPA",
            "RETR 1",
            "RETR 2",
            "RETR 3",
            "TOP 1 0",
            "DELE 1",
            "LAST",
            "QUIT"
        ]
    );
}

#[test]
fn what_is_left_unread_is_read_away_before_the_next_command() {
    let mut core = core(session(), |_| false);
    now(async {
        core.greeting().await.unwrap();
        core.login(&Credentials::password("tim", "tanstaaftanstaaf"))
            .await
            .unwrap();
        core.stat().await.unwrap();
        core.listing().await.unwrap();
        let mut batch = Batch::new([1u32, 2, 3], None);
        // Three are asked for, one is looked at, none is read.
        core.next_message(&mut batch).await.unwrap().unwrap();
        drop(batch);
        let first = Ok(Wanted {
            number: MessageNumber::FIRST,
            octets: None,
        });
        core.open_message(first, Some(0)).await.unwrap();
        let header = Cursor::default().read_all(&mut core).await.unwrap();
        assert_eq!(header, b"Subject: one\r\n\r\n");
    });
}

#[test]
fn where_tls_could_have_been_taken_away_no_password_is_sent() {
    let replies = || {
        let capabilities = b"+OK\r\nSASL PLAIN LOGIN XOAUTH2\r\n.\r\n".to_vec();
        vec![
            SESSION[0].to_vec(),
            capabilities,
            b"+OK\r\n".to_vec(),
            b"+OK\r\n".to_vec(),
        ]
    };
    for (security, address, is_sent) in [
        (Security::StarttlsIfOffered, "192.0.2.1:110", false),
        (Security::StarttlsIfOffered, "127.0.0.1:110", true),
        (Security::Plain, "192.0.2.1:110", true),
    ] {
        for credentials in [
            Credentials::password("tim", "secret"),
            Credentials::token("tim", "secret"),
        ] {
            let mut core = core(replies(), |_| false);
            Arc::get_mut(&mut core.settings).unwrap().security = security;
            core.peer.address = address.parse().unwrap();
            now(core.greeting()).unwrap();
            let result = now(core.login(&credentials));
            let sent = String::from_utf8(core.channel.into_socket().sent).unwrap();
            assert_eq!(result.is_ok(), is_sent, "{security:?} {address} {sent}");
            assert_eq!(sent != "CAPA\r\n", is_sent, "{sent}");
            if let Err(error) = result {
                let kind = error.kind();
                assert!(matches!(
                    kind,
                    ErrorKind::WouldRevealCredentials | ErrorKind::NoMechanism
                ));
                assert!(!error.ends_session());
            }
        }
    }
}

#[test]
fn pass_and_auth_by_hand_are_held_back_likewise() {
    let mut core = core(session(), |_| false);
    Arc::get_mut(&mut core.settings).unwrap().security = Security::StarttlsIfOffered;
    core.peer.address = "192.0.2.1:110".parse().unwrap();
    now(core.greeting()).unwrap();
    for result in [
        now(core.pass(b"secret")),
        now(core.auth(
            sasl::Mechanism::Plain,
            &Credentials::password("tim", "secret"),
        )),
    ] {
        assert!(matches!(
            result.unwrap_err().kind(),
            ErrorKind::WouldRevealCredentials
        ));
    }
    assert!(core.channel.into_socket().sent.is_empty());
}
