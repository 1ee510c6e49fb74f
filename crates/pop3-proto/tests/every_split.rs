//! The two halves against each other in memory, with what either receives cut at every octet.

mod common;

use common::{DIGEST, PASSWORD, PLAIN, Server, TIMESTAMP, USER, maildrop};
use pop3_proto::client::{Connection, Event, Limits, ProtocolError, State, Status};
use pop3_proto::command::Keyword;
use pop3_proto::multiline::LineEnds;
use pop3_proto::{Command, LineCount, MechanismName, MessageNumber, Octets};
use proptest::prelude::*;

/// What a client has learnt in a session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Learnt {
    timestamp: Vec<u8>,
    replies: Vec<(Keyword, Status)>,
    sizes: Vec<(u32, u64)>,
    unique_ids: Vec<(u32, Vec<u8>)>,
    capabilities: usize,
    messages: Vec<Vec<u8>>,
}

/// How a session's octets travel.
#[derive(Clone, Copy)]
struct Cut {
    to_server: usize,
    to_client: usize,
    /// All commands at once, as far as the protocol lets.
    pipelined: bool,
}

struct Session {
    server: Server,
    client: Connection,
    cut: Cut,
    to_server: Vec<u8>,
    learnt: Learnt,
}

impl Session {
    fn new(messages: &[&[u8]], line_ends: LineEnds, cut: Cut) -> Session {
        let mut session = Session {
            server: Server::new(maildrop(messages)),
            client: Connection::new(line_ends, Limits::default()),
            cut,
            to_server: Vec::new(),
            learnt: Learnt::default(),
        };
        session.exchange();
        session
    }

    fn send(&mut self, command: Command<'_>) {
        self.client.send(&command, &mut self.to_server).unwrap();
        if !self.cut.pipelined {
            self.exchange();
        }
    }

    /// Carries octets to and fro until neither has more to say.
    fn exchange(&mut self) {
        while !self.to_server.is_empty() || !self.server.out.is_empty() {
            for piece in std::mem::take(&mut self.to_server).chunks(self.cut.to_server) {
                self.server.receive(piece);
            }
            let replies = std::mem::take(&mut self.server.out);
            for piece in replies.chunks(self.cut.to_client) {
                self.receive(piece);
            }
        }
    }

    fn receive(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let mut challenged = false;
            let (consumed, event) = self.client.receive(piece).unwrap();
            let learnt = &mut self.learnt;
            match event {
                Some(Event::Greeting { apop_timestamp, .. }) => {
                    learnt.timestamp = apop_timestamp.unwrap().to_vec()
                }
                Some(Event::Response { keyword, response }) => {
                    learnt.replies.push((keyword, response.status));
                    if matches!(keyword, Keyword::Retr | Keyword::Top) && response.is_ok() {
                        learnt.messages.push(Vec::new());
                    }
                }
                Some(Event::Challenge(challenge)) => {
                    assert!(challenge.is_empty());
                    challenged = true;
                }
                Some(Event::ScanListing {
                    number,
                    octets: Octets(octets),
                }) => {
                    learnt.sizes.push((number.value(), octets));
                }
                Some(Event::UniqueIdListing { number, unique_id }) => {
                    learnt.unique_ids.push((number.value(), unique_id.to_vec()));
                }
                Some(Event::Capability(_)) => learnt.capabilities += 1,
                Some(Event::Message(octets)) => learnt
                    .messages
                    .last_mut()
                    .unwrap()
                    .extend_from_slice(octets),
                Some(Event::End(_)) | None => (),
                Some(event) => panic!("{event:?}"),
            }
            piece = &piece[consumed..];
            if challenged {
                self.client.respond(PLAIN, &mut self.to_server).unwrap();
            }
        }
    }
}

const MESSAGES: &[&[u8]] = &[
    b"Subject: dots\n\n.\n..\n.x\n",
    b"Subject: no end\r\n\r\nlast line",
    b"Subject: no body\n",
    b"",
    b"\n\0\xff\r\r\n.\r",
];

fn message(number: u32) -> MessageNumber {
    MessageNumber::new(number).unwrap()
}

/// One session with every command that reads.
fn whole_session(line_ends: LineEnds, cut: Cut) -> Learnt {
    let mut session = Session::new(MESSAGES, line_ends, cut);
    session.send(Command::Capa);
    session.send(Command::User { name: USER });
    session.send(Command::Pass { password: PASSWORD });
    session.send(Command::Stat);
    session.send(Command::List(None));
    session.send(Command::Uidl(None));
    for number in 1..=5 {
        session.send(Command::Retr(message(number)));
    }
    session.send(Command::Top {
        message: message(1),
        lines: LineCount(1),
    });
    session.send(Command::Dele(message(2)));
    session.send(Command::Retr(message(2)));
    session.send(Command::List(None));
    session.send(Command::Quit);
    session.exchange();
    assert_eq!(session.client.state(), State::Closed);
    assert_eq!(session.server.updated, Some(vec![2]));
    session.learnt
}

#[test]
fn a_session_is_the_same_however_its_octets_are_cut() {
    let whole = Cut {
        to_server: usize::MAX,
        to_client: usize::MAX,
        pipelined: false,
    };
    for line_ends in [LineEnds::AsSent, LineEnds::Lf] {
        let expected = whole_session(line_ends, whole);
        for octets in (1..=80).chain([150, 300]) {
            for pipelined in [false, true] {
                for cut in [
                    Cut {
                        to_server: octets,
                        to_client: usize::MAX,
                        pipelined,
                    },
                    Cut {
                        to_server: usize::MAX,
                        to_client: octets,
                        pipelined,
                    },
                    Cut {
                        to_server: octets,
                        to_client: octets,
                        pipelined,
                    },
                ] {
                    assert_eq!(
                        whole_session(line_ends, cut),
                        expected,
                        "{octets} {pipelined}"
                    );
                }
            }
        }
    }
}

#[test]
fn rule_07_list_tells_the_octets_of_retr() {
    let cut = Cut {
        to_server: usize::MAX,
        to_client: usize::MAX,
        pipelined: true,
    };
    let learnt = whole_session(LineEnds::AsSent, cut);
    let retrieved: Vec<(u32, u64)> = (1..)
        .zip(&learnt.messages[..5])
        .map(|(number, message)| (number, message.len() as u64))
        .collect();
    assert_eq!(learnt.sizes[..5], retrieved);
    assert_eq!(
        learnt.sizes[5..],
        [retrieved[0], retrieved[2], retrieved[3], retrieved[4]]
    );
    assert_eq!(
        learnt.messages[0],
        b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n"
    );
    assert_eq!(learnt.messages[5], b"Subject: dots\r\n\r\n.\r\n");
    assert_eq!(learnt.unique_ids.len(), 5);
    assert_eq!(learnt.capabilities, 9);
    assert!(learnt.replies.contains(&(Keyword::Retr, Status::Err)));
}

#[test]
fn rule_15_commands_pipelined_across_the_login_are_answered_in_order() {
    let commands = b"USER mrose\r\nPASS tan staaf\r\nSTAT\r\nDELE 1\r\nQUIT\r\n";
    for split in 0..=commands.len() {
        let mut server = Server::new(maildrop(&[b"1\n", b"2\n"]));
        server.out.clear();
        server.receive(&commands[..split]);
        server.receive(&commands[split..]);
        assert_eq!(
            String::from_utf8_lossy(&server.out),
            "+OK\r\n+OK 2 messages (10 octets)\r\n+OK 2 10\r\n+OK\r\n+OK\r\n",
            "{split}"
        );
        assert_eq!(server.updated, Some(vec![1]));
    }
}

#[test]
fn rule_15_commands_pipelined_across_stls_are_never_answered() {
    let commands = b"USER mrose\r\nSTLS\r\nPASS tan staaf\r\nSTAT\r\n";
    let stls_end = 18;
    for split in 0..=commands.len() {
        let mut server = Server::new(maildrop(&[]));
        server.out.clear();
        server.receive(&commands[..split]);
        server.receive(&commands[split..]);
        assert_eq!(
            server.out, b"+OK\r\n+OK begin TLS negotiation\r\n",
            "{split}"
        );
        assert_eq!(server.dropped, commands.len() - stls_end, "{split}");
        server.tls_started();
        server.out.clear();
        server.receive(b"PASS tan staaf\r\n");
        assert_eq!(server.out, b"-ERR USER first\r\n");
    }
}

#[test]
fn stls_is_followed_by_a_session_under_tls() {
    for octets in [1, 2, 3, usize::MAX] {
        let cut = Cut {
            to_server: octets,
            to_client: octets,
            pipelined: false,
        };
        let mut session = Session::new(MESSAGES, LineEnds::AsSent, cut);
        session.send(Command::Stls);
        assert_eq!(session.client.state(), State::StartingTls);
        session.client.tls_started();
        session.server.tls_started();
        session.send(Command::Auth {
            mechanism: MechanismName::new(b"PLAIN"),
            initial_response: None,
        });
        assert_eq!(session.client.state(), State::Transaction);
    }
}

#[test]
fn plaintext_behind_the_reply_to_stls_is_found_out() {
    let mut session = Session::new(
        &[],
        LineEnds::AsSent,
        Cut {
            to_server: 9,
            to_client: 9,
            pipelined: true,
        },
    );
    session.send(Command::Stls);
    session.server.receive(&session.to_server);
    session.server.out.extend_from_slice(b"+OK injected\r\n");
    let error = session.client.receive(&session.server.out).unwrap_err();
    assert_eq!(error, ProtocolError::PlaintextBehindStls);
}

#[test]
fn every_way_to_log_in_ends_in_the_transaction_state() {
    let cut = Cut {
        to_server: 1,
        to_client: 1,
        pipelined: false,
    };
    let mechanism = MechanismName::new(b"plain");
    for login in [
        Command::Apop {
            name: USER,
            digest: DIGEST,
        },
        Command::Auth {
            mechanism,
            initial_response: Some(PLAIN),
        },
        Command::Auth {
            mechanism,
            initial_response: None,
        },
    ] {
        let mut session = Session::new(MESSAGES, LineEnds::AsSent, cut);
        assert_eq!(session.learnt.timestamp, TIMESTAMP.as_bytes());
        session.send(login);
        assert_eq!(session.client.state(), State::Transaction);
    }
}

/// T-LINE: what is no command gives one `-ERR`, and changes nothing.
#[test]
fn every_bad_line_is_one_error_in_each_state() {
    let long = [b'A'; 100_000];
    let bad: [&[u8]; 12] = [
        b"",
        b" ",
        b"\0",
        b"STAT\0",
        b"STA\rT",
        b"STAT\r",
        b"\xff\xfe",
        b"QUIT now",
        b"DELE",
        b"DELE 4294967297",
        b"QUI",
        &long,
    ];
    for line in bad {
        for login in ["", "USER mrose\r\nPASS tan staaf\r\nDELE 1\r\n"] {
            for piece in [1, 7, 511, 512, 513, 4096] {
                let mut server = Server::new(maildrop(&[b"1\n", b"2\n"]));
                server.receive(login.as_bytes());
                server.out.clear();
                for piece in [line, b"\r\n"].concat().chunks(piece) {
                    server.receive(piece);
                }
                let reply = String::from_utf8(std::mem::take(&mut server.out)).unwrap();
                assert!(
                    reply.starts_with("-ERR ") && reply.matches("\r\n").count() == 1,
                    "{reply}"
                );
                assert!(!server.is_closed());
                if !login.is_empty() {
                    server.receive(b"STAT\r\n");
                    assert_eq!(server.out, b"+OK 1 5\r\n");
                }
            }
        }
    }
}

#[test]
fn ten_thousand_pipelined_commands_are_answered() {
    let mut server = Server::new(maildrop(&[b"1\n"]));
    server.receive(b"USER mrose\r\nPASS tan staaf\r\n");
    server.out.clear();
    server.receive(&b"NOOP\r\n".repeat(10_000));
    assert_eq!(server.out, b"+OK\r\n".repeat(10_000));
}

proptest! {
    #[test]
    fn any_client_is_answered_the_same_however_its_octets_are_cut(
        lines in prop::collection::vec(prop::sample::select(LINES), 0..40),
        piece in 1usize..30,
    ) {
        let input = lines.concat();
        let run = |piece: usize| {
            let mut server = Server::new(maildrop(MESSAGES));
            for piece in input.chunks(piece) {
                server.receive(piece);
            }
            let closed = server.is_closed();
            (String::from_utf8_lossy(&server.out).into_owned(), closed, server.updated, server.dropped)
        };
        prop_assert_eq!(run(piece), run(usize::MAX));
    }
}

const LINES: &[&[u8]] = &[
    b"USER mrose\r\n",
    b"PASS tan staaf\r\n",
    b"USER mrose\nPASS tan staaf\n",
    b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n",
    b"AUTH PLAIN\r\n",
    b"AG1yb3NlAHRhbiBzdGFhZg==\r\n",
    b"*\r\n",
    b"AUTH PLAIN =\r\n",
    b"CAPA\r\n",
    b"STLS\r\n",
    b"STAT\r\n",
    b"LIST\r\n",
    b"LIST 2\r\n",
    b"UIDL\r\n",
    b"RETR 1\r\n",
    b"RETR 9\r\n",
    b"TOP 1 1\r\n",
    b"DELE 3\r\n",
    b"RSET\r\n",
    b"LAST\r\n",
    b"QUIT\r\n",
    b"NUL\0\r\n",
    b"\r",
    b"\n",
    &[b'x'; 600],
];

#[test]
fn an_initial_response_as_long_as_a_token_comes_with_auth_in_any_pieces() {
    let long = |octets| {
        [
            b"AUTH PLAIN ",
            vec![b'A'; octets].as_slice(),
            b"\r\nQUIT\r\n",
        ]
        .concat()
    };
    for (input, first) in [
        (long(60_000), &b"-ERR [AUTH]"[..]),
        (long(80_000), b"-ERR line too long"),
    ] {
        for piece in [1, 11, 511, 512, 4096, input.len()] {
            let mut server = Server::new(maildrop(&[]));
            server.out.clear();
            input.chunks(piece).for_each(|piece| server.receive(piece));
            assert!(server.out.starts_with(first), "in pieces of {piece}");
            assert!(server.out.ends_with(b"\r\n+OK\r\n"), "in pieces of {piece}");
        }
    }
}
