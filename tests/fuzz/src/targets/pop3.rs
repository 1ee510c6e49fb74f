//! The protocol crate: lines, both state machines of the server half, and messages on the wire.

use pop3_proto::line::{LineBuffer, MAX_COMMAND};
use pop3_proto::multiline::{Counter, Decoder, Encoder, LineEnds};
use pop3_proto::reply::MAX_FIRST_LINE;
use pop3_proto::server::authorization::{self, Authorization, Denial};
use pop3_proto::server::transaction::{self, Transaction};
use pop3_proto::server::{Listing, Offer};
use pop3_proto::{Command, MechanismName, MessageNumber, Octets, UniqueId};

use super::{Target, literal};

/// A line is cut out and parsed the same however the octets come, and what is parsed keeps its bounds.
pub const COMMAND: Target = Target {
    name: "pop3-command",
    run: command,
    pieces: lines,
    max_octets: 4096,
};

/// Any client against the server: every reply has the form of one, and the deletion marks are those of a slow and obvious model.
pub const SERVER: Target = Target {
    name: "pop3-server",
    run: server,
    pieces: lines,
    max_octets: 4096,
};

/// A message goes over the wire, through any buffers, and comes back with as many octets as were announced.
pub const MULTILINE: Target = Target {
    name: "pop3-multiline",
    run: multiline,
    pieces: message,
    max_octets: 4096,
};

/// The first octet is the size of the pieces in which the rest comes.
fn command(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else {
        return;
    };
    let whole = taken(data, data.len().max(1));
    assert_eq!(taken(data, usize::from(size).max(1)), whole);
}

/// Every line, with what it was parsed as.
fn taken(data: &[u8], size: usize) -> Vec<String> {
    const MAX_USER: usize = 40;
    let mut lines = LineBuffer::new(MAX_COMMAND);
    let mut found = Vec::new();
    let mut take = |lines: &mut LineBuffer| {
        while let Some(line) = lines.next_line() {
            let Ok(line) = line else {
                found.push(format!("{line:?}"));
                continue;
            };
            assert!(line.len() < MAX_COMMAND && !line.contains(&b'\n') && !line.contains(&0));
            let command = Command::parse(line, MAX_USER);
            if let Ok(Command::User { name } | Command::Apop { name, .. }) = command {
                assert!(name.len() <= MAX_USER && !name.iter().any(u8::is_ascii_control));
            }
            found.push(format!("{} {command:?}", line.escape_ascii()));
        }
    };
    for mut piece in data.chunks(size) {
        while !piece.is_empty() {
            let pushed = lines.push(piece);
            assert!(pushed > 0, "no room although all lines are taken");
            piece = &piece[pushed..];
            take(&mut lines);
        }
    }
    found
}

struct Maildrop(&'static [u64]);

const MAILDROP: Maildrop = Maildrop(&[120, 0, 200, u32::MAX as u64]);

impl Listing for Maildrop {
    fn messages(&self) -> u32 {
        self.0.len() as u32
    }

    fn octets(&self, number: MessageNumber) -> Octets {
        Octets(self.0.get(number.index()).copied().unwrap_or(0))
    }

    fn unique_id(&self, number: MessageNumber) -> Option<UniqueId> {
        UniqueId::new(format!("id{}", number.value()).as_bytes())
    }
}

fn offer() -> Offer {
    Offer {
        user: true,
        apop: true,
        stls: true,
        utf8: true,
        mechanisms: MechanismName::new(b"PLAIN").into_iter().collect(),
        ..Offer::default()
    }
}

/// The first octet chooses the state that the lines are for.
fn server(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let lines: Vec<&[u8]> = data.split(|&octet| octet == b'\n').collect();
    match choice & 1 {
        0 => authorize(&lines),
        _ => transact(&lines),
    }
}

fn authorize(lines: &[&[u8]]) {
    use authorization::Action;
    let limits = authorization::Limits::default();
    let mut machine = Authorization::new(offer(), limits, false);
    let mut attempts = 0;
    for line in lines {
        let mut out = Vec::new();
        let closing = match machine.line(Ok(line), &mut out) {
            Action::Continue | Action::SaslCancelled => {
                check_reply(&out);
                continue;
            }
            Action::Close => {
                assert!(out.is_empty() || is_first_line(&out));
                break;
            }
            Action::StartTls => {
                check_reply(&out);
                machine.tls_started(offer());
                continue;
            }
            Action::AttemptLogin { user, .. } => {
                assert!(!user.is_empty());
                attempts += 1;
                machine.denied(Denial::Credentials, &mut out)
            }
            Action::AttemptApop { .. } => {
                attempts += 1;
                machine.denied(Denial::Credentials, &mut out)
            }
            Action::AuthenticateSasl { .. } => {
                attempts += 1;
                machine.challenge(b"QQ==", &mut out);
                continue;
            }
            Action::SaslResponse(_) => machine.denied(Denial::Malformed, &mut out),
        };
        check_reply(&out);
        assert!(attempts <= limits.login_attempts);
        if closing == Action::Close {
            break;
        }
    }
}

fn transact(lines: &[&[u8]]) {
    use transaction::Action;
    let limits = transaction::Limits::default();
    let Ok(mut machine) = Transaction::new(&MAILDROP, offer(), limits, false) else {
        unreachable!("the sizes add up");
    };
    let mut deleted = [false; MAILDROP.0.len()];
    for line in lines {
        let mut out = Vec::new();
        let action = machine.line(Ok(line), &MAILDROP, &mut out);
        let accepted = out.starts_with(b"+OK");
        match action {
            Action::Continue | Action::Marked { .. } => check_reply(&out),
            Action::Close => break,
            Action::List(mut cursor) => {
                let done = machine.write_listing(&mut cursor, &MAILDROP, usize::MAX, &mut out);
                assert!(done && out.ends_with(b"\r\n.\r\n"));
            }
            Action::Retrieve { message } | Action::Top { message, .. } => {
                assert_eq!(deleted.get(message.index()), Some(&false));
            }
            Action::Quit => {
                let name = line.trim_ascii_end().to_ascii_uppercase();
                assert_eq!(name, b"QUIT");
                break;
            }
        }
        // The model: what DELE and RSET are, said once more and without the parser.
        let text = String::from_utf8_lossy(line).to_ascii_uppercase();
        if let Some(number) = text.strip_prefix("DELE ").filter(|_| accepted) {
            let number: usize = number.trim_end().parse().expect("a number");
            assert!(!std::mem::replace(&mut deleted[number - 1], true));
        } else if text.trim_end() == "RSET" && accepted {
            deleted.fill(false);
        }
        let marked: Vec<usize> = machine.deleted().map(MessageNumber::index).collect();
        let expected: Vec<usize> = (0..deleted.len()).filter(|&at| deleted[at]).collect();
        assert_eq!(marked, expected);
        let left = MAILDROP.0.iter().zip(deleted).filter(|(_, gone)| !gone);
        assert_eq!(
            machine.octets_left().0,
            left.map(|(octets, _)| octets).sum::<u64>()
        );
    }
}

/// One reply, whole, in a client's eyes.
fn check_reply(out: &[u8]) {
    let first = out.iter().position(|&octet| octet == b'\n');
    let (first, rest) = out.split_at(first.map_or(out.len(), |at| at + 1));
    assert!(is_first_line(first), "{}", out.escape_ascii());
    assert!(rest.is_empty() || rest.ends_with(b".\r\n"));
}

fn is_first_line(line: &[u8]) -> bool {
    let text = line.strip_suffix(b"\r\n").unwrap_or_default();
    let status = [&b"+OK"[..], b"-ERR", b"+ "];
    line.len() <= MAX_FIRST_LINE
        && status.iter().any(|status| text.starts_with(status))
        && !text.iter().any(u8::is_ascii_control)
}

/// The first octet chooses the sizes of pieces and buffers.
fn multiline(data: &[u8]) {
    let Some((&choice, stored)) = data.split_first() else {
        return;
    };
    let (piece, room) = (usize::from(choice & 15) + 1, usize::from(choice >> 4) + 1);
    let mut counter = Counter::new();
    let mut encoder = Encoder::retr();
    let mut wire = Vec::new();
    let mut buffer = vec![0; room];
    for mut piece in stored.chunks(piece) {
        counter.count(piece);
        while !piece.is_empty() {
            let progress = encoder.encode(piece, &mut buffer);
            wire.extend_from_slice(&buffer[..progress.produced]);
            piece = &piece[progress.consumed..];
        }
    }
    loop {
        let progress = encoder.finish(&mut buffer);
        wire.extend_from_slice(&buffer[..progress.produced]);
        if progress.done {
            break;
        }
    }
    let mut decoder = Decoder::new(LineEnds::AsSent, false);
    let mut received = Vec::new();
    let mut ended = false;
    for mut piece in wire.chunks(piece) {
        while !piece.is_empty() {
            assert!(!ended, "octets behind the end");
            let decoded = decoder.decode(piece);
            received.extend_from_slice(decoded.data);
            piece = &piece[decoded.consumed..];
            ended = decoded.end;
        }
    }
    assert!(ended);
    assert_eq!(received.len() as u64, counter.finish().0);
    assert_eq!(received, expected(stored));
}

/// Lines one by one.
fn expected(stored: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut in_header = true;
    for line in stored.split_inclusive(|&octet| octet == b'\n') {
        let text = match line.strip_suffix(b"\n") {
            Some(text) => text.strip_suffix(b"\r").unwrap_or(text),
            None => line,
        };
        wire.extend_from_slice(text);
        wire.extend_from_slice(b"\r\n");
        in_header &= !text.is_empty();
    }
    if in_header {
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

fn lines() -> Vec<Vec<u8>> {
    let mut pieces = literal(&[
        b"USER mrose",
        b"PASS tan staaf",
        b"APOP mrose c4c9334bac560ecc979e58001b3e22fb",
        b"AUTH",
        b"AUTH PLAIN",
        b"AUTH PLAIN =",
        b"AUTH PLAIN AG1yb3NlAHRhbiBzdGFhZg==",
        b"*",
        b"QQ==",
        b"STAT",
        b"LIST",
        b"LIST 1",
        b"RETR 2",
        b"DELE 1",
        b"DELE 3",
        b"DELE 4294967295",
        b"NOOP",
        b"RSET",
        b"TOP 1 0",
        b"TOP 4 18446744073709551615",
        b"UIDL",
        b"UIDL 2",
        b"LAST",
        b"CAPA",
        b"STLS",
        b"UTF8",
        b"LANG",
        b"LANG *",
        b"LANG i-default",
        b"QUIT",
        b"dele 2",
        b" ",
        b"\r",
        b"\0",
        "\u{e9}".as_bytes(),
        &[b'x'; 255],
        &[b'x'; 512],
    ]);
    // Most pieces are whole lines, else few are.
    let ended: Vec<Vec<u8>> = pieces
        .iter()
        .map(|piece| [piece, &b"\n"[..]].concat())
        .collect();
    pieces.extend(ended.iter().cloned());
    pieces.extend(ended);
    pieces.extend(literal(&[b"\r\n", b"\n"]));
    pieces
}

fn message() -> Vec<Vec<u8>> {
    literal(&[
        b"Subject: x\n",
        b"\n",
        b"\r\n",
        b"\r",
        b".",
        b"..",
        b".\n",
        b"\n.\n",
        b"\r\n.\r\n",
        b"a",
        b"text",
        b"\0",
        &[b'x'; 70],
    ])
}
