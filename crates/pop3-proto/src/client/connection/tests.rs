//! Tests of the client's machine against what servers say, well-meaning and hostile ones.

use super::*;
use crate::client::Status;
use crate::{LineCount, MechanismName, ResponseCode};
use proptest::prelude::*;

/// The events of `input`, shown, received in pieces of `piece` octets; pieces of one message are joined.
fn events(
    connection: &mut Connection,
    input: &[u8],
    piece: usize,
) -> Result<Vec<String>, ProtocolError> {
    let mut events = Vec::new();
    let mut message: Option<Vec<u8>> = None;
    for mut piece in input.chunks(piece.max(1)) {
        while !piece.is_empty() {
            let (consumed, event) = connection.receive(piece)?;
            assert!(consumed > 0 || event.is_some(), "no progress");
            match event {
                Some(Event::Message(octets)) => {
                    message.get_or_insert_default().extend_from_slice(octets)
                }
                Some(event) => {
                    events.extend(
                        message
                            .take()
                            .map(|octets| format!("message {}", octets.escape_ascii())),
                    );
                    events.push(shown(&event));
                }
                None => assert_eq!(consumed, piece.len()),
            }
            piece = &piece[consumed..];
        }
    }
    events.extend(message.map(|octets| format!("message {}", octets.escape_ascii())));
    Ok(events)
}

fn shown(event: &Event<'_>) -> String {
    let text = |octets: &[u8]| octets.escape_ascii().to_string();
    match event {
        Event::Greeting {
            response,
            apop_timestamp,
        } => {
            format!(
                "greeting {:?} {:?}",
                response.status,
                apop_timestamp.map(text)
            )
        }
        Event::Response { keyword, response } => {
            format!(
                "{} {:?} {}",
                keyword.as_str(),
                response.status,
                text(response.text)
            )
        }
        Event::Challenge(base64) => format!("challenge {}", text(base64)),
        Event::ScanListing { number, octets } => format!("{} {}", number.value(), octets.0),
        Event::UniqueIdListing { number, unique_id } => {
            format!("{} {}", number.value(), text(unique_id))
        }
        Event::Capability(capability) => format!("{capability:?}"),
        Event::Line(line) => format!("line {}", text(line)),
        Event::Message(_) => unreachable!("joined by the caller"),
        Event::End(keyword) => format!("{} end", keyword.as_str()),
    }
}

fn connection() -> Connection {
    Connection::new(LineEnds::AsSent, Limits::default())
}

fn send(connection: &mut Connection, command: Command<'_>) -> Result<(), CommandError> {
    connection.send(&command, &mut Vec::new())
}

fn message(number: u32) -> MessageNumber {
    MessageNumber::new(number).unwrap()
}

/// A connection that has been greeted.
fn greeted() -> Connection {
    let mut connection = connection();
    events(&mut connection, b"+OK ready\r\n", 100).unwrap();
    connection
}

/// A connection that has logged in.
fn logged_in() -> Connection {
    let mut connection = greeted();
    send(&mut connection, Command::User { name: b"mrose" }).unwrap();
    send(
        &mut connection,
        Command::Pass {
            password: b"secret",
        },
    )
    .unwrap();
    events(&mut connection, b"+OK\r\n+OK\r\n", 100).unwrap();
    assert_eq!(connection.state(), State::Transaction);
    connection
}

#[test]
fn replies_are_told_apart_wherever_they_are_cut() {
    let input = b"+OK <1@h>\r\n+OK\r\n+OK in\r\n+OK 2 320\r\n+OK\r\n1 120\r\n2 200\r\n.\r\n-ERR no\r\n+OK\r\n1 a\r\n.\r\n\
        +OK\r\nx\r\n..\r\n.\r\n+OK\r\n.\r\n+OK\r\nTOP\r\n.\r\n+OK bye\r\n";
    let commands = [
        Command::User { name: b"mrose" },
        Command::Pass {
            password: b"secret",
        },
        Command::Stat,
        Command::List(None),
        Command::List(Some(message(3))),
        Command::Uidl(None),
        Command::Retr(message(1)),
        Command::Top {
            message: message(1),
            lines: LineCount(0),
        },
        Command::Capa,
        Command::Quit,
    ];
    for piece in 1..=input.len() {
        let mut connection = connection();
        let mut got = events(&mut connection, &input[..11], piece).unwrap();
        for command in &commands {
            send(&mut connection, *command).unwrap();
        }
        assert_eq!(connection.outstanding(), 10);
        got.extend(events(&mut connection, &input[11..], piece).unwrap());
        assert_eq!(
            got,
            [
                "greeting Ok Some(\"<1@h>\")",
                "USER Ok ",
                "PASS Ok in",
                "STAT Ok 2 320",
                "LIST Ok ",
                "1 120",
                "2 200",
                "LIST end",
                "LIST Err no",
                "UIDL Ok ",
                "1 a",
                "UIDL end",
                "RETR Ok ",
                "message x\\r\\n.\\r\\n",
                "RETR end",
                "TOP Ok ",
                "TOP end",
                "CAPA Ok ",
                "Top",
                "CAPA end",
                "QUIT Ok bye",
            ],
            "pieces of {piece}"
        );
        assert_eq!(
            (connection.state(), connection.outstanding()),
            (State::Closed, 0)
        );
        assert_eq!(connection.end_of_input(), Ok(()));
    }
}

#[test]
fn commands_belong_to_states() {
    let mut connection = connection();
    assert_eq!(
        send(&mut connection, Command::Capa),
        Err(CommandError::WrongState)
    );
    let mut connection = greeted();
    for command in [
        Command::Stat,
        Command::List(None),
        Command::Rset,
        Command::Noop,
        Command::Retr(message(1)),
    ] {
        assert_eq!(
            send(&mut connection, command),
            Err(CommandError::WrongState)
        );
    }
    let mut connection = logged_in();
    for command in [
        Command::User { name: b"a" },
        Command::Pass { password: b"a" },
        Command::Stls,
    ] {
        assert_eq!(
            send(&mut connection, command),
            Err(CommandError::WrongState)
        );
    }
    assert_eq!(connection.outstanding(), 0);
}

#[test]
fn a_refused_login_leads_back_to_authorization() {
    let mut connection = greeted();
    for command in [
        Command::User { name: b"a" },
        Command::Pass { password: b"b" },
        Command::Stat,
    ] {
        send(&mut connection, command).unwrap();
    }
    let got = events(&mut connection, b"+OK\r\n-ERR [AUTH] no\r\n-ERR\r\n", 3).unwrap();
    assert_eq!(got, ["USER Ok ", "PASS Err no", "STAT Err "]);
    assert_eq!(connection.state(), State::Authorization);
    assert_eq!(send(&mut connection, Command::User { name: b"a" }), Ok(()));
}

#[test]
fn a_refused_listing_or_message_has_no_lines() {
    let mut connection = logged_in();
    for command in [
        Command::List(None),
        Command::Retr(message(1)),
        Command::Noop,
    ] {
        send(&mut connection, command).unwrap();
    }
    let got = events(&mut connection, b"-ERR\r\n-ERR\r\n+OK\r\n", 100).unwrap();
    assert_eq!(got, ["LIST Err ", "RETR Err ", "NOOP Ok "]);
}

#[test]
fn a_negative_greeting_closes() {
    let mut connection = connection();
    let (_, event) = connection
        .receive(b"-ERR [SYS/TEMP] full <1@h>\r\n")
        .unwrap();
    let Some(Event::Greeting {
        response,
        apop_timestamp,
    }) = event
    else {
        panic!("no greeting");
    };
    assert_eq!(
        (response.status, response.code, apop_timestamp),
        (Status::Err, Some(ResponseCode::SysTemp), None)
    );
    assert_eq!(connection.state(), State::Closed);
}

#[test]
fn rule_15_octets_behind_the_reply_to_stls_are_an_error_however_they_are_cut() {
    let input = b"+OK begin\r\n+OK injected\r\n";
    for piece in 1..=input.len() {
        let mut connection = greeted();
        send(&mut connection, Command::Stls).unwrap();
        assert_eq!(
            events(&mut connection, input, piece),
            Err(ProtocolError::PlaintextBehindStls),
            "pieces of {piece}"
        );
        assert_eq!(
            connection.receive(b"x"),
            Err(ProtocolError::PlaintextBehindStls)
        );
        assert_eq!(
            send(&mut connection, Command::Capa),
            Err(CommandError::WrongState)
        );
    }
}

#[test]
fn stls_is_sent_alone() {
    let mut connection = greeted();
    send(&mut connection, Command::Capa).unwrap();
    assert_eq!(
        send(&mut connection, Command::Stls),
        Err(CommandError::MustWait)
    );
    events(&mut connection, b"+OK\r\nTOP\r\n", 100).unwrap();
    assert_eq!(
        send(&mut connection, Command::Stls),
        Err(CommandError::MustWait)
    );
    events(&mut connection, b".\r\n", 100).unwrap();
    send(&mut connection, Command::Stls).unwrap();
    assert_eq!(
        send(&mut connection, Command::Capa),
        Err(CommandError::MustWait)
    );
    events(&mut connection, b"+OK\r\n", 100).unwrap();
    assert_eq!(connection.state(), State::StartingTls);
    assert_eq!(
        send(&mut connection, Command::Capa),
        Err(CommandError::WrongState)
    );
    connection.tls_started();
    assert_eq!(send(&mut connection, Command::Capa), Ok(()));
}

#[test]
fn refused_stls_leaves_the_session_as_it_was() {
    let mut connection = greeted();
    send(&mut connection, Command::Stls).unwrap();
    assert_eq!(
        events(&mut connection, b"-ERR\r\n", 100).unwrap(),
        ["STLS Err "]
    );
    assert_eq!(connection.state(), State::Authorization);
}

#[test]
fn rule_19_a_sasl_exchange_is_driven_by_challenges() {
    let mechanism = MechanismName::new(b"PLAIN");
    let auth = Command::Auth {
        mechanism,
        initial_response: None,
    };
    let mut connection = greeted();
    let mut out = Vec::new();
    assert_eq!(
        connection.respond(b"AAAA", &mut out),
        Err(CommandError::WrongState)
    );
    connection.send(&auth, &mut out).unwrap();
    assert_eq!(
        send(&mut connection, Command::Capa),
        Err(CommandError::MustWait)
    );
    assert_eq!(
        events(&mut connection, b"+ \r\n", 1).unwrap(),
        ["challenge "]
    );
    assert_eq!(
        connection.respond(b"AA\r\nQUIT", &mut out),
        Err(CommandError::InvalidInput(InvalidInput::NotBase64))
    );
    connection.respond(b"AGEAYg==", &mut out).unwrap();
    assert_eq!(connection.cancel(&mut out), Err(CommandError::WrongState));
    assert_eq!(
        events(&mut connection, b"+OK in\r\n", 1).unwrap(),
        ["AUTH Ok in"]
    );
    assert_eq!(connection.state(), State::Transaction);
    assert_eq!(out, b"AUTH PLAIN\r\nAGEAYg==\r\n");

    let mut connection = greeted();
    out.clear();
    connection.send(&auth, &mut out).unwrap();
    events(&mut connection, b"+ AAAA\r\n", 1).unwrap();
    connection.cancel(&mut out).unwrap();
    assert_eq!(
        events(&mut connection, b"-ERR\r\n", 1).unwrap(),
        ["AUTH Err "]
    );
    assert_eq!(connection.state(), State::Authorization);
    assert_eq!(out, b"AUTH PLAIN\r\n*\r\n");
}

#[test]
fn a_bare_auth_lists_mechanisms_and_logs_nobody_in() {
    let mut connection = greeted();
    send(
        &mut connection,
        Command::Auth {
            mechanism: None,
            initial_response: None,
        },
    )
    .unwrap();
    let got = events(&mut connection, b"+OK\r\nPLAIN\r\n.\r\n", 1).unwrap();
    assert_eq!(got, ["AUTH Ok ", "line PLAIN", "AUTH end"]);
    assert_eq!(connection.state(), State::Authorization);
}

#[test]
fn a_dot_is_removed_from_the_lines_of_a_listing_too() {
    let mut connection = greeted();
    send(&mut connection, Command::Lang(None)).unwrap();
    let got = events(&mut connection, b"+OK\r\n..\r\n..x\r\n.\r\n", 1).unwrap();
    assert_eq!(got, ["LANG Ok ", "line .", "line .x", "LANG end"]);
}

#[test]
fn what_nobody_asked_for_is_an_error() {
    assert_eq!(
        events(&mut greeted(), b"+OK\r\n", 100),
        Err(ProtocolError::Unsolicited)
    );
    let mut connection = logged_in();
    send(&mut connection, Command::Noop).unwrap();
    assert_eq!(
        events(&mut connection, b"+OK\r\n+OK\r\n", 100),
        Err(ProtocolError::Unsolicited)
    );
    let mut connection = greeted();
    let mechanism = MechanismName::new(b"PLAIN");
    send(
        &mut connection,
        Command::Auth {
            mechanism,
            initial_response: None,
        },
    )
    .unwrap();
    assert_eq!(
        events(&mut connection, b"+ \r\n+ \r\n", 100),
        Err(ProtocolError::Unsolicited)
    );
}

#[test]
fn what_is_no_pop3_is_an_error() {
    assert_eq!(
        events(&mut connection(), b"220 smtp\r\n", 100),
        Err(ProtocolError::NotAReply)
    );
    let mut connection = greeted();
    send(&mut connection, Command::Capa).unwrap();
    assert_eq!(
        events(&mut connection, b"+ \r\n", 100),
        Err(ProtocolError::NotAReply)
    );
    let mut connection = logged_in();
    send(&mut connection, Command::List(None)).unwrap();
    assert_eq!(
        events(&mut connection, b"+OK\r\nx\r\n", 100),
        Err(ProtocolError::MalformedListing(Keyword::List))
    );
}

#[test]
fn a_hostile_server_cannot_fill_memory() {
    let limits = Limits {
        line_octets: 512,
        listing_lines: 3,
        message_octets: 10,
    };
    let limited = || {
        let mut connection = logged_in();
        connection.limits = limits;
        connection
    };
    let mut greeting = Connection::new(LineEnds::AsSent, limits);
    assert_eq!(
        events(&mut greeting, &[b'+'; 513], 7),
        Err(ProtocolError::LineTooLong)
    );
    let mut connection = limited();
    send(&mut connection, Command::Uidl(None)).unwrap();
    assert_eq!(
        events(&mut connection, b"+OK\r\n1 a\r\n2 b\r\n3 c\r\n4 d\r\n", 100),
        Err(ProtocolError::ListingTooLong)
    );
    let mut connection = limited();
    send(&mut connection, Command::Capa).unwrap();
    let endless = [&b"+OK\r\n"[..], &[b'A'; 600]].concat();
    assert_eq!(
        events(&mut connection, &endless, 100),
        Err(ProtocolError::LineTooLong)
    );
    let mut connection = limited();
    send(&mut connection, Command::Retr(message(1))).unwrap();
    assert_eq!(
        events(&mut connection, b"+OK\r\n12345678\r\n9", 4),
        Err(ProtocolError::MessageTooLong)
    );
}

#[test]
fn an_early_end_is_an_error() {
    assert_eq!(
        connection().end_of_input(),
        Err(ProtocolError::UnexpectedEnd)
    );
    assert_eq!(
        logged_in().end_of_input(),
        Err(ProtocolError::UnexpectedEnd)
    );
    let mut connection = logged_in();
    send(&mut connection, Command::Quit).unwrap();
    assert_eq!(connection.end_of_input(), Err(ProtocolError::UnexpectedEnd));
}

#[test]
fn nothing_is_sent_behind_quit() {
    let mut connection = logged_in();
    send(&mut connection, Command::Quit).unwrap();
    assert_eq!(
        send(&mut connection, Command::Noop),
        Err(CommandError::MustWait)
    );
    events(&mut connection, b"-ERR not removed\r\n", 100).unwrap();
    assert_eq!(connection.state(), State::Closed);
    assert_eq!(
        send(&mut connection, Command::Noop),
        Err(CommandError::WrongState)
    );
    assert_eq!(
        events(&mut connection, b"+OK\r\n", 100),
        Err(ProtocolError::Unsolicited)
    );
}

#[test]
fn a_refused_command_leaves_no_octets_and_no_reply_due() {
    let mut connection = greeted();
    let mut out = Vec::new();
    let user = Command::User { name: b"a\r\nQUIT" };
    assert_eq!(
        connection.send(&user, &mut out),
        Err(CommandError::InvalidInput(InvalidInput::LineBreak))
    );
    assert!(out.is_empty());
    assert_eq!(connection.outstanding(), 0);
}

#[test]
fn lines_that_end_with_a_lone_lf_are_understood() {
    let mut connection = connection();
    events(&mut connection, b"+OK\n", 100).unwrap();
    for command in [
        Command::User { name: b"a" },
        Command::Pass { password: b"b" },
        Command::List(None),
        Command::Retr(message(1)),
    ] {
        send(&mut connection, command).unwrap();
    }
    let got = events(
        &mut connection,
        b"+OK\n+OK\n+OK\n1 4\n.\n+OK\na\n..\n.\n",
        2,
    )
    .unwrap();
    assert_eq!(
        got[3..],
        [
            "1 4",
            "LIST end",
            "RETR Ok ",
            "message a\\n.\\n",
            "RETR end"
        ]
    );
}

/// What hostile replies are made of.
const PIECES: &[&[u8]] = &[
    b"+OK", b"-ERR", b"+ ", b"\r\n", b"\n", b".", b"1 2", b"\0", b"\xff x",
];

proptest! {
    #[test]
    fn any_server_gives_events_or_one_error_and_the_cuts_do_not_matter(
        input in prop::collection::vec(prop::sample::select(PIECES), 0..30),
        piece in 1usize..8,
    ) {
        let input = input.concat();
        let run = |piece| {
            let mut connection = greeted();
            let commands = [
                Command::Capa, Command::User { name: b"a" }, Command::Pass { password: b"b" }, Command::List(None),
                Command::Retr(message(1)), Command::Uidl(None), Command::Quit,
            ];
            for command in commands {
                connection.send(&command, &mut Vec::new()).unwrap();
            }
            let result = events(&mut connection, &input, piece);
            (result, connection.state(), connection.outstanding())
        };
        prop_assert_eq!(run(piece), run(usize::MAX));
    }
}
