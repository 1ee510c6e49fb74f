//! Mailboxes of all shapes that delivery agents, mail programs and accidents leave behind, each made from a seed.

use system_tests::random::Random;

/// Header lines that the unique-id looks at, in every spelling, and some that only look like them.
const HASHED: [&[u8]; 22] = [
    b"Received: from a.example by b.example; Mon, 1 Jan 2024 00:00:00 +0000",
    b"Received: from c.example by d.example id 7",
    b"RECEIVED: upper case",
    b"received:no space",
    b"Received : space before the colon",
    b"Received",
    b"Received:",
    b"ReceivedX: no",
    b"Delivered-To: alice@example.net",
    b"delivered-to: alice@example.org",
    b"DELIVERED-TO:",
    b"Delivered-ToX: no",
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000",
    b"DATE: Tue, 2 Jan 2024 00:00:00 +0000",
    b"Dates: no",
    b"Message-ID: <1@example.org>",
    b"message-id: <2@example.org>",
    b"Message-Id:<3@example.org>",
    b"X-Delivery-ID: 4",
    b"X-delivery-id: 5",
    b"x-delivery-id: 6",
    b"X-Delivery-IDX: no",
];

/// Other header lines, and what is found where a header should be.
const OTHER: [&[u8]; 13] = [
    b"Subject: hello",
    b"From: Sender <sender@example.org>",
    b"To: alice@example.net",
    b"Status: RO",
    b"X-UID: 17",
    b"Content-Length: 3",
    b">From quoted header",
    b"From unquoted header",
    b"no colon at all",
    b": no name",
    b"Subject: nul \0 in it",
    b"Subject: 8-bit \xe4\xf6\xfc",
    b".Dot: first",
];

/// Second lines of folded header lines.
const FOLDS: [&[u8]; 5] = [
    b" folded",
    b"\tby a tab",
    b"  ",
    b" Received: not one",
    b"\t",
];

/// Body lines.
const BODY: [&[u8]; 19] = [
    b"An ordinary line of text.",
    b"another",
    b"",
    b"",
    b".",
    b"..",
    b".. .",
    b"From the beginning",
    b"From ",
    b"From",
    b"from lower case",
    b">From quoted",
    b" From spaced",
    b"Received: in the body",
    b"8-bit \xff\xfe\x80",
    b"nul \0\0 nul",
    b"bare \r CR",
    b"CR at the end\r",
    b"\0",
];

/// The mailbox named by `seed`.
pub fn mailbox(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let messages = match random.below(40) {
        0 => 0,
        1 => 100 + random.below(200),
        _ => 1 + random.below(8),
    };
    let line_end: &[u8] = if random.once_in(12) { b"\r\n" } else { b"\n" };
    let mut mailbox = Vec::new();
    if random.once_in(40) {
        mailbox.extend_from_slice(random.of(&[
            b"\n".as_slice(),
            b"garbage\n",
            b">From x\n",
            b"\0",
            b"From\n",
        ]));
    }
    let mut previous = Vec::new();
    for _ in 0..messages {
        // Resent and doubly delivered mail: the same header again, with another `From ` line.
        let message = if random.once_in(6) {
            previous
        } else {
            message(&mut random, line_end)
        };
        mailbox.extend_from_slice(random.of(&[
            b"From sender@example.org Mon Jan  1 00:00:00 2024".as_slice(),
            b"From MAILER-DAEMON",
            b"From  two  spaces",
            b"From \0",
        ]));
        mailbox.extend_from_slice(line_end);
        mailbox.extend_from_slice(&message);
        // The empty line that should precede the next message, sometimes forgotten or doubled.
        let empty_lines = if random.once_in(15) {
            random.below(4)
        } else {
            1
        };
        mailbox.extend_from_slice(&line_end.repeat(empty_lines));
        previous = message;
    }
    if random.once_in(4) {
        // A delivery that a full disk cut off, or a writer that ends no last line.
        let cut = if random.once_in(2) {
            1
        } else {
            1 + random.below(60)
        };
        mailbox.truncate(mailbox.len().saturating_sub(cut));
    }
    mailbox
}

/// Header, empty line, body; each of them may be missing.
fn message(random: &mut Random, line_end: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let end_line = |message: &mut Vec<u8>, random: &mut Random| {
        // Mail that came from a Windows program may have both kinds of line end.
        message.extend_from_slice(if random.once_in(60) {
            b"\r\n"
        } else {
            line_end
        });
    };
    let header_lines = if random.once_in(12) {
        0
    } else {
        1 + random.below(9)
    };
    for number in 0..header_lines {
        let line = match random.below(8) {
            // A fold before any header line belongs to nothing.
            0 if number == 0 || random.once_in(2) => random.of(&FOLDS),
            0..=4 => random.of(&HASHED),
            _ => random.of(&OTHER),
        };
        message.extend_from_slice(line);
        if random.once_in(50) {
            message.extend_from_slice(&b"long ".repeat(random.below(20_000)));
        }
        end_line(&mut message, random);
        while random.once_in(5) {
            message.extend_from_slice(random.of(&FOLDS));
            end_line(&mut message, random);
        }
    }
    if random.once_in(15) {
        return message;
    }
    end_line(&mut message, random);
    let body_lines = match random.below(10) {
        0 => 0,
        1 => random.below(400),
        _ => random.below(12),
    };
    for _ in 0..body_lines {
        message.extend_from_slice(random.of(&BODY));
        if random.once_in(100) {
            message.extend_from_slice(&b"x".repeat(random.below(100_000)));
        }
        end_line(&mut message, random);
    }
    message
}
