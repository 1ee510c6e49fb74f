//! Mail that has broken servers and clients: each message as an mbox stores it and as RFC 1939 wants it sent.

use crate::random::Random;

/// Octets of the one long line: more than any buffer a server would keep.
pub const LONG_LINE_OCTETS: usize = 1 << 20;

/// Octets of the big message, at least.
pub const BIG_OCTETS: usize = 20 << 20;

/// One message of a maildrop.
#[derive(Clone)]
pub struct Message {
    /// What is special about it.
    pub name: &'static str,
    /// Its octets in the mailbox, after the `From ` line.
    pub stored: Vec<u8>,
    /// Its octets as sent, CRLF ended, dots not doubled.
    pub sent: Vec<u8>,
}

impl Message {
    /// A message that is stored as it is; a missing last line end is supplied, as delivery agents do.
    pub fn new(name: &'static str, stored: impl Into<Vec<u8>>) -> Message {
        let mut stored = stored.into();
        if !stored.ends_with(b"\n") {
            stored.push(b'\n');
        }
        let sent = as_sent(&stored);
        Message { name, stored, sent }
    }
}

/// Everything but the message that is only big.
pub fn nasty() -> Vec<Message> {
    let head = |subject: &str| -> Vec<u8> {
        format!(
            "Received: from mx.example.org by mail.example.net with ESMTP id {subject};\n\
             \tMon, 1 Jan 2024 00:00:00 +0000\n\
             Date: Mon, 1 Jan 2024 00:00:00 +0000\n\
             From: Sender <sender@example.org>\n\
             To: alice@example.net\n\
             Message-ID: <{subject}@example.org>\n\
             Subject: {subject}\n\n"
        )
        .into_bytes()
    };
    let with = |name: &'static str, body: &[u8]| Message::new(name, [&head(name), body].concat());
    let mut long = vec![b'x'; LONG_LINE_OCTETS];
    long.extend_from_slice(b"\n.after the long line\n");
    vec![
        with("plain", b"Hello.\n\nTwo paragraphs, one of them short.\n"),
        with("dots-at-line-starts", b".\n..\n...\n.x\n x.\n.\n"),
        with(
            "lone-dot-first",
            b".\nand then text that must not be lost\n",
        ),
        with(
            "eight-bit",
            "Grüße aus Köln \u{2014} naïve café\n".as_bytes(),
        ),
        with("latin-1", b"Gr\xfc\xdfe \xff\xfe\x80\n"),
        with("nul-octets", b"before\0after\n\0\n\0\0.\n"),
        with(
            "from-quoting",
            b">From the start\n>>From deeper\n From spaced\nFrom unquoted after text\n",
        ),
        with("bare-cr", b"one\rtwo\r\r three\n"),
        with("controls", b"\x01\x07\x08\x0b\x0c\x1b[31m\x7f\n"),
        with("blank-lines", b"\n\n\n\nend\n"),
        with("long-line", &long),
        Message::new("header-only", head("header-only")),
        Message::new("no-header", "\nonly a body\n"),
        Message::new(
            "stored-with-crlf",
            "Message-ID: <crlf@example.org>\r\n\r\nline\r\n.dot\r\n\r\n",
        ),
    ]
}

/// More than twenty megabytes of ordinary lines, dots among them.
pub fn big() -> Message {
    let mut stored = b"Message-ID: <big@example.org>\nSubject: big\n\n".to_vec();
    let mut random = Random::new(20);
    while stored.len() < BIG_OCTETS {
        let line = random.bits();
        if line.is_multiple_of(17) {
            stored.push(b'.');
        }
        stored.extend_from_slice(
            format!("{line:016x} ")
                .repeat(1 + (line % 4) as usize)
                .as_bytes(),
        );
        stored.push(b'\n');
    }
    Message::new("big", stored)
}

/// `count` small messages that differ from each other.
pub fn many(count: usize) -> Vec<Message> {
    let message = |number| {
        let text =
            format!("Message-ID: <{number}@example.org>\nSubject: {number}\n\nbody of {number}\n");
        Message::new("small", text)
    };
    (1..=count).map(message).collect()
}

/// The mailbox that holds `messages`.
pub fn mbox(messages: &[Message]) -> Vec<u8> {
    let mut mbox = Vec::new();
    for message in messages {
        mbox.extend_from_slice(b"From sender@example.org Mon Jan  1 00:00:00 2024\n");
        mbox.extend_from_slice(&message.stored);
        mbox.push(b'\n');
    }
    mbox
}

/// Lines ended by CRLF, the last one too, and however they are stored (RFC 1939 section 3); any other CR is data.
fn as_sent(stored: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(stored.len() + stored.len() / 16);
    for line in stored.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        sent.extend_from_slice(line);
        sent.extend_from_slice(b"\r\n");
    }
    sent
}
