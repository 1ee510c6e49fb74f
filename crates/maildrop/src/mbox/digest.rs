//! popa3d's unique-id of a message: MD5 over chosen header lines as stored, half of the digest kept.
//!
//! Bit-exact with popa3d 1.0.3, so that a client which kept mail there downloads nothing again.

use md5::{Digest, Md5};
use memchr::memchr;

/// Octets of a line that decide whether it is hashed: the longest name looked for, `X-Delivery-ID:`.
const MAX_NAME: usize = 14;

/// The octets of a digest that become the unique-id, in the order in which they are written.
const CHOSEN: [usize; 8] = [3, 2, 1, 0, 7, 6, 5, 4];

/// Digests one message fed in pieces of any length.
pub(crate) struct HeaderDigest {
    md5: Md5,
    /// Whether a `Received:` line has been seen: later ones, and dates and message-ids, no longer count.
    received: bool,
    /// Whether the line before was hashed, which folded lines follow.
    hashed: bool,
    place: Place,
    /// The beginning of a line that came in pieces.
    name: [u8; MAX_NAME],
    name_length: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    InLine,
    Body,
}

impl HeaderDigest {
    pub(crate) fn new() -> Self {
        HeaderDigest {
            md5: Md5::new(),
            received: false,
            hashed: false,
            place: Place::LineStart,
            name: [0; MAX_NAME],
            name_length: 0,
        }
    }

    /// Takes the next octets of the message, its `From ` line not among them.
    pub(crate) fn feed(&mut self, mut octets: &[u8]) {
        while self.place != Place::Body && !octets.is_empty() {
            let length = memchr(b'\n', octets).map_or(octets.len(), |at| at.saturating_add(1));
            let (piece, rest) = octets.split_at_checked(length).unwrap_or((octets, &[]));
            self.feed_piece(piece);
            octets = rest;
        }
    }

    /// Whether the header is at its end, behind which nothing counts.
    pub(crate) fn has_all(&self) -> bool {
        self.place == Place::Body
    }

    /// Ends the message and returns the octets of its unique-id.
    pub(crate) fn finish(mut self) -> [u8; 8] {
        self.begin_line();
        let digest = self.md5.finalize();
        CHOSEN.map(|at| digest.get(at).copied().unwrap_or(0))
    }

    /// Takes a line, or what there is of one; at most the last octet is an LF.
    fn feed_piece(&mut self, piece: &[u8]) {
        let ends = piece.last() == Some(&b'\n');
        if self.place == Place::LineStart {
            if self.name_length == 0 && (ends || piece.len() >= MAX_NAME) {
                self.place = Place::InLine;
                self.decide(piece);
            } else {
                self.keep_name(piece, ends);
                return;
            }
        }
        if self.hashed && self.place == Place::InLine {
            self.md5.update(piece);
        }
        if ends && self.place == Place::InLine {
            self.place = Place::LineStart;
        }
    }

    /// Collects the beginning of a line until it is whole or long enough to decide on.
    fn keep_name(&mut self, piece: &[u8], ends: bool) {
        let room = MAX_NAME.saturating_sub(self.name_length);
        let (name, rest) = piece.split_at_checked(room).unwrap_or((piece, &[]));
        for (kept, octet) in self.name.iter_mut().skip(self.name_length).zip(name) {
            *kept = *octet;
        }
        self.name_length = self.name_length.saturating_add(name.len());
        if ends || self.name_length == MAX_NAME {
            self.begin_line();
        }
        if self.place == Place::InLine {
            if rest.is_empty() && ends {
                self.place = Place::LineStart;
            } else if !rest.is_empty() {
                self.feed_piece(rest);
            }
        }
    }

    /// Decides on the collected beginning of a line, if there is one.
    fn begin_line(&mut self) {
        let name = self.name;
        let name = name.get(..self.name_length).unwrap_or_default();
        if !name.is_empty() {
            self.name_length = 0;
            self.place = Place::InLine;
            self.decide(name);
            if self.hashed && self.place == Place::InLine {
                self.md5.update(name);
            }
        }
    }

    /// Whether a line that begins like this is hashed; sets `hashed`, or leaves the header.
    fn decide(&mut self, line: &[u8]) {
        self.hashed = match line.first() {
            Some(b'\n') => {
                self.place = Place::Body;
                false
            }
            Some(b' ' | b'\t') => self.hashed,
            Some(b'R' | b'r') if is_named(line, b"Received:") => {
                !std::mem::replace(&mut self.received, true)
            }
            Some(b'D' | b'd') if is_named(line, b"Delivered-To:") => true,
            Some(b'D' | b'd') if is_named(line, b"Date:") => !self.received,
            Some(b'M' | b'm') if is_named(line, b"Message-ID:") => !self.received,
            Some(b'X') => is_named(line, b"X-Delivery-ID:"),
            _ => false,
        };
    }
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(message: &[u8], piece: usize) -> String {
        let mut digest = HeaderDigest::new();
        message.chunks(piece).for_each(|piece| digest.feed(piece));
        digest
            .finish()
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect()
    }

    /// What Debian 12's popa3d 1.0.3 answered to UIDL for an mbox of one message, this one behind a `From x` line. Run as
    /// `popa3d` on a socket pair in a mount namespace of its own with a test user; the file's time was set back.
    const VECTORS: [(&[u8], &str); 15] = [
        (b"Subject: only\n\n", "d98c1dd404b2008f"),
        (b"Date: 1\n\n", "e3ada8857fe9ebcf"),
        (b"dAtE: 1\nMESSAGE-id: <2>\n\n", "c7bed553927bd068"),
        (b"Date: 1", "99d821728ed314d1"),
        (
            b"Received: a\n\tb\nReceived: c\n\td\nDate: 1\nMessage-Id: <2>\nDelivered-To: e\n\n",
            "8d8655e1c28c5b2a",
        ),
        (
            b"Date: 1\nReceived: a\nDelivered-To: x\nDelivered-To: y\n z\nSubject: s\n folded\n\nDate: body\n",
            "4be838f8e01b7739",
        ),
        (
            b"X-Delivery-ID: 1\nX-delivery-id: 2\nx-delivery-id: 3\nx-Delivery-ID: 4\n\n",
            "e1f3886ac4c82d91",
        ),
        (b" leading\nDate: 1\n\n", "e3ada8857fe9ebcf"),
        (b"Date : 1\nDate:\nDate\nXDate: 2\n\n", "d0a62a7517dc3cf2"),
        (b"Date: 1\r\n\r\nDate: 2\r\n\n", "fbe6ec116228a30e"),
        (b"Date: a\0b\n\xff\n\n", "960addaeb0508921"),
        (b"Received:\n\nReceived: b\n", "451d94ce57669300"),
        (b"Received:", "5be9d334624df47d"),
        (b"Message-ID: <x>\n\t\n \nDelivered-to:y\n\n", "388aacf01f0eef39"),
        (b"Date:\rReceived: a\n\n", "fec40b6d83af01fa"),
    ];

    #[test]
    fn unique_ids_are_those_of_popa3d_however_the_message_is_cut() {
        for (message, expected) in VECTORS {
            for piece in 1..=message.len() {
                let printable = message.escape_ascii();
                assert_eq!(
                    id(message, piece),
                    expected,
                    "{printable} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn a_line_of_any_length_is_hashed_whole() {
        let message = [b"Date: ".as_slice(), &[b'b'; 300_000], b"\n\n"].concat();
        for piece in [1, 7, 65_536, message.len()] {
            assert_eq!(id(&message, piece), "89a4bb5b6bb30c5a");
        }
    }

    #[test]
    fn nothing_behind_the_header_is_hashed() {
        assert_eq!(id(b"Date: 1\n\nDate: 2\n", 100), id(b"Date: 1\n\n", 100));
        assert_eq!(id(b"\nDate: 2\n", 100), id(b"", 1));
    }
}
