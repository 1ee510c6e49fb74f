//! Tests of the TRANSACTION state's machine alone; `tests/` drives it against a client.

use super::*;
use crate::UniqueId;

/// A maildrop of which only the sizes matter; the message of n octets has the unique-id `id-n`.
struct Sizes(Vec<u64>);

impl Listing for Sizes {
    fn messages(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }

    fn octets(&self, number: MessageNumber) -> Octets {
        Octets(self.0[number.index()])
    }

    fn unique_id(&self, number: MessageNumber) -> Option<UniqueId> {
        UniqueId::new(format!("id-{}", self.0[number.index()]).as_bytes())
    }
}

struct Session {
    maildrop: Sizes,
    machine: Transaction,
}

fn session(sizes: &[u64]) -> Session {
    let maildrop = Sizes(sizes.to_vec());
    let machine = Transaction::new(&maildrop, Offer::default(), Limits::default(), false).unwrap();
    Session { maildrop, machine }
}

impl Session {
    /// The whole reply, with `…` for the octets of a message.
    fn reply(&mut self, line: &str) -> String {
        let mut out = Vec::new();
        match self
            .machine
            .line(Ok(line.as_bytes()), &self.maildrop, &mut out)
        {
            Action::Continue | Action::Marked { .. } => (),
            Action::Close => out.extend_from_slice(b"close"),
            Action::List(mut cursor) => {
                while !self.machine.write_listing(
                    &mut cursor,
                    &self.maildrop,
                    out.len() + 1,
                    &mut out,
                ) {}
            }
            Action::Retrieve { message } => {
                self.machine.retrieve(message, &self.maildrop, &mut out);
                out.extend_from_slice("…".as_bytes());
            }
            Action::Top { lines, .. } => {
                self.machine.top(&mut out);
                out.extend_from_slice(format!("…{}", lines.0).as_bytes());
            }
            Action::Quit => out.extend_from_slice(b"quit"),
        }
        String::from_utf8(out).unwrap()
    }

    fn is_error(&mut self, line: &str) -> bool {
        let reply = self.reply(line);
        reply.starts_with("-ERR ") && reply.ends_with("\r\n")
    }
}

#[test]
fn the_maildrop_is_listed() {
    let mut session = session(&[120, 200]);
    assert_eq!(session.reply("STAT"), "+OK 2 320\r\n");
    assert_eq!(
        session.reply("LIST"),
        "+OK 2 messages (320 octets)\r\n1 120\r\n2 200\r\n.\r\n"
    );
    assert_eq!(session.reply("LIST 2"), "+OK 2 200\r\n");
    assert_eq!(
        session.reply("UIDL"),
        "+OK\r\n1 id-120\r\n2 id-200\r\n.\r\n"
    );
    assert_eq!(session.reply("UIDL 2"), "+OK 2 id-200\r\n");
    assert_eq!(session.reply("RETR 1"), "+OK 120 octets\r\n…");
    assert_eq!(session.reply("TOP 1 5"), "+OK\r\n…5");
    assert_eq!(session.reply("NOOP"), "+OK\r\n");
}

#[test]
fn an_empty_maildrop_has_empty_listings() {
    let mut session = session(&[]);
    assert_eq!(session.reply("STAT"), "+OK 0 0\r\n");
    assert_eq!(session.reply("LIST"), "+OK 0 messages (0 octets)\r\n.\r\n");
    assert_eq!(session.reply("UIDL"), "+OK\r\n.\r\n");
    assert!(session.is_error("RETR 1"));
}

#[test]
fn rule_05_numbers_beyond_the_maildrop_are_refused() {
    let mut session = session(&[120, 200]);
    for number in [
        "0",
        "3",
        "4294967295",
        "4294967296",
        "4294967297",
        "18446744073709551617",
    ] {
        for command in ["LIST", "UIDL", "RETR", "DELE"] {
            assert!(
                session.is_error(&format!("{command} {number}")),
                "{command} {number}"
            );
        }
        assert!(session.is_error(&format!("TOP {number} 0")));
    }
    assert_eq!(session.reply("STAT"), "+OK 2 320\r\n");
}

#[test]
fn rule_06_deleted_messages_are_in_no_listing_and_no_reference_to_them_works() {
    let mut session = session(&[120, 200, 300]);
    assert_eq!(session.reply("DELE 2"), "+OK\r\n");
    assert_eq!(session.reply("STAT"), "+OK 2 420\r\n");
    assert_eq!(
        session.reply("LIST"),
        "+OK 2 messages (420 octets)\r\n1 120\r\n3 300\r\n.\r\n"
    );
    assert_eq!(
        session.reply("UIDL"),
        "+OK\r\n1 id-120\r\n3 id-300\r\n.\r\n"
    );
    for line in ["LIST 2", "UIDL 2", "RETR 2", "TOP 2 0", "DELE 2"] {
        assert_eq!(session.reply(line), "-ERR no such message\r\n");
    }
}

#[test]
fn rset_clears_all_marks_and_last() {
    let mut session = session(&[120, 200]);
    session.reply("DELE 1");
    session.reply("DELE 2");
    assert_eq!(session.reply("STAT"), "+OK 0 0\r\n");
    assert_eq!(session.reply("RSET"), "+OK 2 messages (320 octets)\r\n");
    assert_eq!(session.reply("STAT"), "+OK 2 320\r\n");
    assert_eq!(session.reply("LAST"), "+OK 0\r\n");
    assert_eq!(session.machine.deleted().count(), 0);
}

#[test]
fn last_is_the_highest_message_accessed_by_retr_or_dele() {
    let mut session = session(&[1, 2, 3, 4]);
    for (line, last) in [
        ("NOOP", 0),
        ("TOP 4 1", 0),
        ("LIST 4", 0),
        ("UIDL 4", 0),
        ("RETR 3", 3),
        ("RETR 1", 3),
        ("DELE 2", 3),
        ("RETR 2", 3),
        ("DELE 4", 4),
        ("RSET", 0),
    ] {
        session.reply(line);
        assert_eq!(session.reply("LAST"), format!("+OK {last}\r\n"), "{line}");
    }
}

#[test]
fn last_may_be_turned_off() {
    let mut session = session(&[1]);
    session.machine.limits.last = false;
    assert!(session.is_error("LAST"));
}

#[test]
fn a_message_that_cannot_be_read_does_not_count_as_accessed() {
    let mut session = session(&[1]);
    let mut out = Vec::new();
    let action = session
        .machine
        .line(Ok(b"RETR 1"), &session.maildrop, &mut out);
    assert_eq!(
        action,
        Action::Retrieve {
            message: MessageNumber::FIRST
        }
    );
    assert_eq!(session.machine.unreadable(&mut out), Action::Continue);
    assert_eq!(out, b"-ERR [SYS/TEMP] message cannot be read\r\n");
    assert_eq!(session.reply("LAST"), "+OK 0\r\n");
}

#[test]
fn rule_10_quit_is_answered_after_the_work() {
    let mut session = session(&[1, 2, 3]);
    session.reply("DELE 3");
    session.reply("DELE 1");
    assert_eq!(session.reply("QUIT"), "quit");
    let deleted: Vec<u32> = session
        .machine
        .deleted()
        .map(MessageNumber::value)
        .collect();
    assert_eq!(deleted, [1, 3]);
    assert_eq!(
        (
            session.machine.deleted_messages(),
            session.machine.octets_left()
        ),
        (2, Octets(2))
    );
    let mut out = Vec::new();
    farewell(Update::Done, &mut out);
    farewell(Update::Incomplete, &mut out);
    assert_eq!(
        out,
        b"+OK\r\n-ERR [SYS/TEMP] some deleted messages not removed\r\n"
    );
}

#[test]
fn rule_18_commands_of_the_authorization_state_are_refused() {
    let mut session = session(&[1]);
    for line in [
        "USER mrose",
        "PASS x",
        "APOP mrose c4c9334bac560ecc979e58001b3e22fb",
        "AUTH",
        "AUTH PLAIN",
        "STLS",
    ] {
        assert_eq!(session.reply(line), "-ERR logged in already\r\n", "{line}");
    }
}

#[test]
fn rule_20_utf8_is_taken_after_login_too_where_it_is_offered() {
    let mut session = session(&[1]);
    assert!(session.is_error("UTF8"));
    assert!(session.is_error("LANG xx"));
    session.machine.offer.utf8 = true;
    assert_eq!(session.reply("UTF8"), "+OK UTF-8 mode\r\n");
    assert!(session.machine.utf8());
}

#[test]
fn capa_is_answered_after_login() {
    let capa = session(&[1]).reply("CAPA");
    assert!(
        capa.starts_with("+OK ") && capa.contains("\r\nUIDL\r\n") && capa.ends_with("\r\n.\r\n")
    );
}

#[test]
fn errors_change_nothing_and_too_many_end_the_session_without_update() {
    let mut session = session(&[120, 200]);
    session.reply("DELE 1");
    for error in [
        Err(LineError::TooLong),
        Err(LineError::Nul),
        Ok(&b"rubbish"[..]),
        Ok(b"STAT x"),
    ] {
        let mut out = Vec::new();
        let action = session.machine.line(error, &session.maildrop, &mut out);
        assert_eq!(action, Action::Continue);
        assert!(out.starts_with(b"-ERR "));
    }
    assert_eq!(session.reply("STAT"), "+OK 1 200\r\n");
    for _ in 4..Limits::default().errors {
        assert!(session.is_error("rubbish"));
    }
    assert_eq!(session.reply("rubbish"), "-ERR too many errors\r\nclose");
}

#[test]
fn without_the_right_to_delete_nothing_is_marked_and_no_number_of_refusals_ends_the_session() {
    let mut session = session(&[120, 200]);
    session.machine.limits.deletion = false;
    for _ in 0..Limits::default().errors + 1 {
        let refused = "-ERR this login may not delete messages\r\n";
        assert_eq!(session.reply("DELE 1"), refused);
        assert_eq!(session.reply("DELE 3"), refused);
    }
    assert_eq!(session.reply("STAT"), "+OK 2 320\r\n");
    assert_eq!(session.machine.deleted_messages(), 0);
    assert_eq!(session.reply("QUIT"), "quit");
}

#[test]
fn a_long_listing_is_written_piece_by_piece() {
    let maildrop = Sizes(vec![7; 1000]);
    let mut machine =
        Transaction::new(&maildrop, Offer::default(), Limits::default(), false).unwrap();
    let (mut out, mut listing) = (Vec::new(), Vec::new());
    let Action::List(mut cursor) = machine.line(Ok(b"LIST"), &maildrop, &mut out) else {
        panic!("LIST was refused");
    };
    loop {
        let done = machine.write_listing(&mut cursor, &maildrop, 100, &mut out);
        assert!(out.len() < 120);
        listing.append(&mut out);
        if done {
            break;
        }
    }
    assert_eq!(
        listing.iter().filter(|octet| **octet == b'\n').count(),
        1002
    );
    assert!(listing.ends_with(b"\r\n1000 7\r\n.\r\n"));
}

#[test]
fn rule_07_totals_neither_wrap_nor_saturate() {
    let sizes = |sizes: &[u64]| Sizes(sizes.to_vec());
    let new =
        |maildrop: &Sizes| Transaction::new(maildrop, Offer::default(), Limits::default(), false);
    assert_eq!(new(&sizes(&[u64::MAX, 1])).err(), Some(TooManyOctets));
    let five_gigabytes = session(&[5_000_000_000, 5_000_000_000]).reply("STAT");
    assert_eq!(five_gigabytes, "+OK 2 10000000000\r\n");
}

#[test]
fn what_was_retrieved_is_known_until_rset_and_top_is_none_of_it() {
    let mut session = session(&[120, 200, 300]);
    let retrieved = |session: &Session| {
        let is_retrieved = |number: &MessageNumber| session.machine.is_retrieved(*number);
        let found = numbers(3).filter(is_retrieved);
        found.map(MessageNumber::value).collect::<Vec<_>>()
    };
    session.reply("RETR 2");
    session.reply("TOP 1 10");
    session.reply("DELE 3");
    session.reply("RETR 3");
    assert_eq!(retrieved(&session), [2]);
    session.reply("RSET");
    assert_eq!(retrieved(&session), [0; 0]);
    session.reply("RETR 3");
    session.reply("RETR 3");
    assert_eq!(retrieved(&session), [3]);
}
